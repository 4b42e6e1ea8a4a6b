"""`python -m benchmarks.accelerator`: derivatives and solves on whatever `jax.devices()` gives, as a table.

Each program is compiled for the first device, in single precision, and timed beside JAX's own where JAX has one.  Its values
are checked against JAX's derivative (or a dense solve with it) in double precision on the CPU.  Whether a program calls the
host is read off its text: a callback is one, and so is a call whose results are SciPy's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import backsolve as bs

__all__ = ["PROGRAMS", "Outcome", "Program", "main", "measured", "table"]

Tree = Any


@dataclass(frozen=True)
class Program:
    """What is compiled: ours, JAX's own (None: there is none), what both must give, and at which arguments.

    ``oracle`` is called with the arguments in double precision, on the CPU; ``seen`` makes of a result what it gives.
    """

    kind: str
    name: str
    ours: Callable[..., Tree]
    theirs: Callable[..., Tree] | None
    oracle: Callable[..., Tree]
    arguments: Sequence[Tree]
    tolerance: float = 1e-4  # of the largest entry of a leaf
    compiled: bool = True  # False: a call that takes concrete numbers

    def seen(self, found: Tree) -> Tree:
        """A result in NumPy's arrays; of sparse matrices the dense ones."""
        return jax.tree.map(_dense, found, is_leaf=lambda x: hasattr(x, "toarray"))


@dataclass(frozen=True)
class Outcome:
    """What a program did: milliseconds of ours and of JAX's, seconds of compiling, the largest error, and whether it is on
    the host; or the error that it raised.
    """

    program: Program
    ours: float = np.nan
    theirs: float = np.nan
    compiling: float = np.nan
    error: float = np.nan
    on_host: bool = False
    raised: str = ""

    @property
    def right(self) -> bool:
        """Whether it ran, and gave what it must."""
        return not self.raised and self.error <= self.program.tolerance


def _dense(x: Any) -> Any:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


# ---- the programs: functions as people write them -------------------------------------------------------------------------
def _random(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray[Any, Any]:
    return scale * np.random.default_rng(seed).normal(size=shape)


def _net(p: Tree, x: Any) -> Any:
    for W, b in p["hidden"]:
        x = jax.nn.gelu(x @ W + b)
    return x @ p["out"]


def _net_loss(p: Tree, x: Any, y: Any) -> Any:
    return jnp.mean((_net(p, x) - y) ** 2)


def _parameters(width: int, depth: int) -> Tree:
    hidden = [(_random(k, width, width, scale=width**-0.5), _random(k + 50, width, scale=0.1)) for k in range(depth)]
    return {"hidden": hidden, "out": _random(99, width, 4, scale=width**-0.5)}


def _rollout(u: Any, W: Any) -> Any:
    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h = jnp.tanh(h @ W + x)
        return h, h

    return jnp.mean(jax.lax.scan(step, jnp.zeros_like(u[0]), u)[1] ** 2)


def _arm(q: Any) -> Any:
    """Where the hand of an arm of three links is, and how it is turned."""
    a, b, c = q
    x = jnp.cos(a) * (jnp.cos(b) + 0.7 * jnp.cos(b + c))
    y = jnp.sin(a) * (jnp.cos(b) + 0.7 * jnp.cos(b + c))
    return jnp.stack([x, y, jnp.sin(b) + 0.7 * jnp.sin(b + c), a + b + c])


def _reaction(u: Any) -> Any:
    around = sum(jnp.roll(u, k, axis) for k in (1, -1) for axis in (0, 1))
    return around - 4 * u + u - u**3


def _rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _logistic(w: Any, X: Any, y: Any) -> Any:
    return jnp.mean(jnp.log1p(jnp.exp(-y * (X @ w)))) + 0.05 * w @ w


def _balance(u: Any) -> Any:
    return 4 * u - jnp.roll(u, 1) - 0.5 * jnp.roll(u, -1) + u**3


def _energy(u: Any) -> Any:
    return jnp.sum((u[1:] - u[:-1]) ** 2) + jnp.sum(u**2) + jnp.sum(u**4)


def _solve(engine: str) -> Callable[..., Any]:
    return lambda u, b: bs.linearize(_balance, u).solve(b, engine=engine)


def _product(u: Any, v: Any) -> Any:
    return (bs.jacobian(_reaction, format="sparse")(u) @ v.reshape(-1)).reshape(u.shape)


def _pulled_in_parallel(x: Any) -> Any:
    system = bs.linearize(lambda x: jax.lax.fori_loop(0, 256, lambda i, c: jnp.sin(c) * x, x), x)
    return system.in_parallel().vjp(jnp.ones_like(x))


def _pulled(x: Any) -> Any:
    return jax.vjp(lambda x: jax.lax.fori_loop(0, 256, lambda i, c: jnp.sin(c) * x, x), x)[1](jnp.ones_like(x))[0]


def PROGRAMS(*, small: bool) -> Iterator[Program]:
    """All programs; small ones to try the script, not the machine."""

    def size(large: int, little: int) -> int:
        return little if small else large

    p, width = _parameters(size(1024, 8), size(6, 2)), size(1024, 8)
    batch = [_random(1, size(4096, 16), width), _random(2, size(4096, 16), 4)]
    gradient = partial(Program, "gradient")
    yield gradient("net, 6 layers", bs.grad(_net_loss), jax.grad(_net_loss), jax.grad(_net_loss), [p, *batch])
    steps, wide = size(512, 8), size(256, 4)
    loop = [_random(3, steps, wide), _random(4, wide, wide, scale=0.5 * wide**-0.5)]
    yield gradient("net over time (scan)", bs.grad(_rollout, 1), jax.grad(_rollout, 1), jax.grad(_rollout, 1), loop)

    points = [_random(5, size(100_000, 16), 3)]
    ours, theirs = (jax.vmap(d.jacobian(_arm)) for d in (bs, jax))
    yield Program("Jacobian", "arm, vmap over points", ours, theirs, theirs, points)
    examples = [p, batch[0][: size(256, 4)]]
    ours, theirs = (jax.vmap(d.jacobian(_net, argnums=1), (None, 0)) for d in (bs, jax))
    yield Program("Jacobian", "net by inputs, vmap over examples", ours, theirs, theirs, examples)
    data = [_random(6, size(256, 6)), _random(7, size(8192, 32), size(256, 6)), np.sign(_random(8, size(8192, 32)))]
    yield Program("Hessian", "logistic loss", bs.hessian(_logistic), jax.hessian(_logistic), jax.hessian(_logistic), data)

    plane, n = [_random(9, size(1024, 6), size(1024, 8)), _random(10, size(1024, 6), size(1024, 8))], size(1_000_000, 24)
    along: Callable[..., Any] = lambda u, v: jax.jvp(_reaction, (u,), (v,))[1]  # noqa: E731
    yield Program("sparse", "Jacobian of a stencil, times a vector", _product, along, along, plane)
    line = [_random(11, size(2048, 24))]
    yield Program(
        "sparse", "Hessian of a chain", bs.hessian(_rosenbrock, format="sparse"), None, jax.hessian(_rosenbrock), line
    )
    tridiagonal = bs.jacobian(_balance, format="scipy")
    yield Program("sparse", "Jacobian as SciPy's", tridiagonal, None, jax.jacobian(_balance), line, compiled=False)

    yield Program("loop", "pullback, 256 steps", bs.grad(lambda x: jnp.sum(_looped(x))), _pulled, _pulled, [_random(12, n)])
    yield Program("loop", "the same, in parallel", _pulled_in_parallel, _pulled, _pulled, [_random(12, n)])

    m = size(512, 12)
    system = [_random(13, m), _random(14, m)]
    dense: Callable[..., Any] = lambda u, b: jnp.linalg.solve(jax.jacobian(_balance)(u), b)  # noqa: E731
    solve = partial(Program, "solve", oracle=dense, arguments=system, tolerance=1e-3)
    for engine in ("blocks", "gmres", "superlu"):
        yield solve(f"engine={engine!r}", _solve(engine), dense)
    yield solve("concrete numbers", _solve("auto"), None, compiled=False)
    newton: Callable[..., Any] = lambda u, b: bs.inverse_hvp(_energy, (u,), b)  # noqa: E731
    by_cg: Callable[..., Any] = lambda u, b: bs.inverse_hvp(_energy, (u,), b, engine="cg")  # noqa: E731
    hessian: Callable[..., Any] = lambda u, b: jnp.linalg.solve(jax.hessian(_energy)(u), b)  # noqa: E731
    yield Program("solve", "inverse_hvp", newton, hessian, hessian, system, 1e-3)
    yield Program("solve", "inverse_hvp, engine='cg'", by_cg, hessian, hessian, system, 1e-3)


def _looped(x: Any) -> Any:
    return jax.lax.fori_loop(0, 256, lambda i, c: jnp.sin(c) * x, x)


# ---- measuring ------------------------------------------------------------------------------------------------------------
def measured(program: Program, device: Any, rounds: int) -> Outcome:
    """What the program does on this device."""
    arguments = jax.tree.map(lambda x: jax.device_put(np.asarray(x, np.float32), device), program.arguments)
    try:
        with jax.default_matmul_precision("highest"):
            return _measured(program, arguments, rounds)
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:  # of whatever compiler is there: told in the table
        return Outcome(program, raised=f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")


def _measured(program: Program, arguments: Sequence[Tree], rounds: int) -> Outcome:
    ours, seconds, on_host = program.ours, np.nan, True
    if program.compiled:
        start = time.perf_counter()
        lowered = jax.jit(program.ours).lower(*arguments)
        ours = lowered.compile()
        seconds, on_host = time.perf_counter() - start, "callback" in lowered.as_text()
    found = program.seen(ours(*arguments))
    both = zip(jax.tree.leaves(found), jax.tree.leaves(_expected(program)), strict=True)
    error = max(_difference(x, y) for x, y in both)
    theirs = np.nan if program.theirs is None else _best(jax.jit(program.theirs), arguments, rounds)
    return Outcome(program, _best(ours, arguments, rounds), theirs, seconds, error, on_host)


def _expected(program: Program) -> Tree:
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        single = jax.tree.map(lambda x: jnp.asarray(np.float32(x), jnp.float64), program.arguments)
        return jax.tree.map(np.asarray, jax.jit(program.oracle)(*single))


def _difference(x: Any, y: Any) -> float:
    gap = np.abs(np.asarray(x, float).reshape(y.shape) - y).max(initial=0.0)
    return float("inf") if np.isnan(gap) else float(gap / max(np.abs(y).max(initial=0.0), 1e-30))


def _best(call: Callable[..., Any], arguments: Sequence[Tree], rounds: int) -> float:
    """Milliseconds of the fastest of so many calls, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        jax.block_until_ready(call(*arguments))  # type: ignore[no-untyped-call]
        times.append(1e3 * (time.perf_counter() - start))
    return min(times[1:])


# ---- telling --------------------------------------------------------------------------------------------------------------
def table(outcomes: Sequence[Outcome], device: Any) -> str:
    """The table in Markdown."""
    head = [
        f"`{device.platform}`: {device.device_kind}, {len(jax.devices())} of them; JAX {jax.__version__}, "
        f"backsolve {bs.__version__}; float32. Errors are relative to the largest entry of float64 on the CPU.",
        "",
        "| | program | ours, ms | JAX, ms | compiling, s | error | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_line, outcomes)])


def _line(outcome: Outcome) -> str:
    program = outcome.program
    if outcome.raised:
        return f"| {program.kind} | {program.name} | raises {outcome.raised.replace('|', '/')} | | | | |"
    numbers = [_number(x) for x in (outcome.ours, outcome.theirs, outcome.compiling)]
    error = f"{outcome.error:.1e}" + ("" if outcome.right else " **wrong**")
    where = "calls the host" if outcome.on_host else "on the device"
    return f"| {program.kind} | {program.name} | {' | '.join(numbers)} | {error} | {where} |"


def _number(x: float) -> str:
    return "–" if np.isnan(x) else f"{x:.3g}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0, or 1 where a program raised or gave wrong values."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes: tries the programs, measures nothing")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="calls of which the fastest counts (default 10)")
    parser.add_argument("-o", "--output", type=Path, help="a file for the table")
    arguments = parser.parse_args(argv)
    device = jax.devices()[0]
    outcomes = [measured(program, device, arguments.rounds) for program in PROGRAMS(small=arguments.small)]
    text = table(outcomes, device)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 0 if all(outcome.right for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
