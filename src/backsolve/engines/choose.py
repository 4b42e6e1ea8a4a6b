"""Engines by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .base import Factors
from .layout import Layout

__all__ = ["ENGINES", "factored"]


def _superlu(layout: Layout, data: Sequence[Any]) -> Factors:
    from .superlu import SuperLU

    return SuperLU(layout, data)


def _blocks(layout: Layout, data: Sequence[Any]) -> Factors:
    from .blocks import block_factors

    return block_factors(layout, data)


# What factors: from the static side of a matrix and the numbers of each of its blocks.
ENGINES: dict[str, Callable[[Layout, Sequence[Any]], Factors]] = {"superlu": _superlu, "blocks": _blocks}


def factored(layout: Layout, data: Sequence[Any], engine: str) -> Factors:
    """Return the factors by the engine of this name.  Raises `ValueError` for an unknown name."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; use one of {', '.join(map(repr, ('auto', *ENGINES)))}.")
    return ENGINES[engine](layout, data)
