"""The arrow's sparse Jacobian in a process of its own, whose memory is limited: who runs there, and what it takes.

`python -m benchmarks.limited PEER N BYTES` is that process; it sets its own limit and prints an `Outcome` as JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LIMIT = 8_000_000_000  # bytes of address space; an idle interpreter with JAX has mapped 1.5e9 of them
PATIENCE = 600.0  # seconds
OUT_OF_MEMORY = "out of memory"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """What became of it: the seconds from a new function to its first numbers, peak memory, and why there are none."""

    seconds: float
    peak: int | None = None  # bytes resident, interpreter and JAX among them; None where the process was killed
    failure: str = ""

    def __str__(self) -> str:
        if self.failure:
            return f"{self.failure} after {self.seconds:.1f} s"
        return f"{(self.peak or 0) / 1e9:.2f} GB, {self.seconds:.1f} s"


def limited(peer: str, n: int, limit: int = LIMIT) -> Outcome:
    """How the peer fares with the arrow of n unknowns."""
    command = [sys.executable, "-m", "benchmarks.limited", peer, str(n), str(limit)]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Outcome(PATIENCE, failure="not done")
    seconds = time.perf_counter() - start
    if done.returncode < 0:  # by a library that does not ask whether it was given what it allocates
        return Outcome(seconds, failure=f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        return Outcome(seconds, failure=done.stderr.strip().splitlines()[-1])
    return Outcome(**json.loads(done.stdout))


def table(sizes: Sequence[int], peers: Sequence[str] = ("backsolve", "asdex"), limit: int = LIMIT) -> str:
    """The outcomes as a table, with a sentence above."""
    head = (
        f"The arrow in {limit / 1e9:g} GB: each peer in a process of its own that is given no more address space (Linux's "
        "`RLIMIT_AS`), with its peak of resident memory, interpreter and JAX among it, and the time from a new function to "
        "its first Jacobian."
    )
    lines = [head, "", f"| | {' | '.join(peers)} |", f"|{' --- |' * (len(peers) + 1)}"]
    for n in sizes:
        outcomes = [str(limited(peer, n, limit)) for peer in peers]
        lines.append(f"| arrow, n = {n:,} | {' | '.join(outcomes)} |")
    return "\n".join(lines)


# ---- the process -----------------------------------------------------------------------------------------------------
def _outcome(peer: str, n: int) -> Outcome:
    import jax

    from benchmarks.models.sparse_models import arrow

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    model = arrow(n)
    x = jax.numpy.asarray(model.point)
    try:
        sparse = _sparse(peer)
    except ImportError:
        return Outcome(0.0, failure="not installed")
    failure = ""
    start = time.perf_counter()
    try:
        jax.jit(sparse(model.function, x))(x).data.block_until_ready()
    except MemoryError:
        failure = OUT_OF_MEMORY
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        failure = OUT_OF_MEMORY
    return Outcome(time.perf_counter() - start, _peak(), failure)


def _sparse(peer: str) -> Callable[[Any, Any], Any]:
    """The peer's sparse Jacobian of a function, at a point of the kind that it will see."""
    if peer == "backsolve":
        import backsolve

        return lambda function, x: backsolve.jacobian(function, format="sparse")
    import asdex

    return lambda function, x: asdex.jacobian(function, x)


def _peak() -> int:
    """Of this program; what getrusage says is no less than what its parent held."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(peer: str, n: str, limit: str) -> None:
    """Set the limit, try, and print what became of it."""
    import resource  # not everywhere

    resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    print(json.dumps(asdict(_outcome(peer, int(n)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
