"""Sums along axes (cumulative ones are linear as they stand)."""

from __future__ import annotations

from backsolve.capture.edges import linear
from backsolve.operators import Einsum, LinearOperator
from backsolve.tracing.jaxpr import Equation

__all__ = ["reduce_sum"]


def reduce_sum(eq: Equation, k: int) -> LinearOperator:
    """Labels only in the operand are summed."""
    if eq.params.get("out_sharding") is not None:
        return linear(eq, k)
    axes = eq.params["axes"]
    into = tuple(range(len(eq.in_shape(k))))
    out = tuple(axis for axis in into if axis not in axes)
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    return Einsum((), out, into, sizes, 1, (eq.dtype, eq.dtype))
