"""Engines by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from backsolve.engines.base import Factors, NoFactors
from backsolve.engines.layout import Layout

__all__ = ["ENGINES", "FORMED", "TRACED", "factored", "require_package"]


def _superlu(layout: Layout, data: Sequence[Any]) -> Factors:
    from backsolve.engines.hosted import SuperLU

    return SuperLU(layout, data)


def _blocks(layout: Layout, data: Sequence[Any]) -> Factors:
    from backsolve.engines.blocks import block_factors

    return block_factors(layout, data)


def _suitesparse(name: str, layout: Layout, data: Sequence[Any]) -> Factors:
    from backsolve.engines import suitesparse

    factors: Factors = getattr(suitesparse, name)(layout, data)
    return factors


# What factors: from the static side of a matrix and the numbers of each of its blocks.
ENGINES: dict[str, Callable[[Layout, Sequence[Any]], Factors]] = {
    "superlu": _superlu,
    "blocks": _blocks,
    "umfpack": partial(_suitesparse, "UMFPACK"),
    "klu": partial(_suitesparse, "KLU"),
    "cholmod": partial(_suitesparse, "CHOLMOD"),
}
TRACED = frozenset({"blocks"})  # those that need no concrete numbers
FORMED = {"cholmod": 1_000_000}  # entries up to which a Jacobian is formed in any case: nothing else is symmetric


def require_package(engine: str) -> None:
    """Raise `ImportError` where what is behind this engine is not installed."""
    if engine in ("umfpack", "klu", "cholmod"):
        from backsolve.engines.suitesparse import package

        package(engine)


def factored(layout: Layout, data: Sequence[Any], engine: str) -> Factors:
    """Return the factors by the engine of this name.  Raises `ValueError` for an unknown name."""
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; use one of {', '.join(map(repr, ('auto', *ENGINES)))}.")
    return ENGINES[engine](layout, data) if layout.size else NoFactors()
