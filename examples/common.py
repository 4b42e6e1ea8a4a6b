"""What the examples share: their command line, timing, and lines of print."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def command_line(run: Callable[..., Any], picture: str) -> None:
    """Run an example from the command line."""
    parser = argparse.ArgumentParser(description=run.__doc__)
    parser.add_argument("--small", action="store_true", help="a small problem, in seconds")
    parser.add_argument("-o", "--output", type=Path, default=Path(picture), help=f"the picture (default: {picture})")
    arguments = parser.parse_args()
    run(small=arguments.small, output=arguments.output)


def timed(solve: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the seconds it took."""
    start = time.perf_counter()
    result = solve()
    return result, time.perf_counter() - start


def gains(what: str, seconds: dict[str, float]) -> None:
    """Print the times of one solver with different Jacobians, the first ours."""
    ours = next(iter(seconds.values()))
    print(f"{what}:")
    for name, time_ in seconds.items():
        print(f"  {name:<22}{time_:8.2f} s{'' if time_ == ours else f'   ({time_ / ours:.1f} × the sparse one)'}")
