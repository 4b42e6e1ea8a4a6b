"""A line that tells how far a long piece of work is, when a person is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["progress_line"]

WIDTH = 30


def progress_line(what: str) -> Callable[[float], None] | None:
    """A function that draws a bar for the share done, from 0 to 1, on a terminal; None where stderr is none."""
    if not sys.stderr.isatty():
        return None

    def draw(share: float) -> None:
        full = round(WIDTH * share)
        end = "\n" if share >= 1 else ""
        sys.stderr.write(f"\r{what} {'█' * full}{'░' * (WIDTH - full)} {share:4.0%}{end}")
        sys.stderr.flush()

    return draw
