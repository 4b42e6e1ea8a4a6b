"""What the examples share: their command line, timing, and lines of print."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def command_line(run: Callable[..., Any], picture: str) -> None:
    """Run an example from the command line."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--small", action="store_true", help="a small problem, in seconds")
    parser.add_argument("-o", "--output", type=Path, default=Path(picture), help=f"the picture (default: {picture})")
    arguments = parser.parse_args()
    with watched(arguments.output.stem):
        run(small=arguments.small, output=arguments.output)
    print(f"The picture is {arguments.output}")


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Where a person watches, tell every half second how long it has been running."""
    if not sys.stderr.isatty():
        yield
        return
    done, start = threading.Event(), time.perf_counter()

    def tell() -> None:
        while not done.wait(0.5):
            print(f"\r{name}: running, {time.perf_counter() - start:.0f} s \r", end="", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def timed(solve: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the seconds it took."""
    start = time.perf_counter()
    result = solve()
    return result, time.perf_counter() - start


def compared(what: str, solvers: dict[str, Callable[[], Callable[[], Any]]]) -> dict[str, Any]:
    """Run one solver with different derivatives, the first ours; print how long each took, and return what they found.

    A solver is made first, which compiles its functions, and then called.
    """
    print(f"{what}:")
    found: dict[str, Any] = {}
    ours = None
    for name, make in solvers.items():
        solve, preparing = timed(make)
        found[name], seconds = timed(solve)
        gain = "" if ours is None else f", {seconds / ours:.1f} × the sparse one"
        ours = seconds if ours is None else ours
        print(f"  {name:<8}{seconds:8.2f} s, and {preparing:.2f} s to compile{gain}", flush=True)
    return found
