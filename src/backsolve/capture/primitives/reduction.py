"""Sums along axes (cumulative ones are linear as they stand)."""

from __future__ import annotations

from backsolve.capture import index_maps
from backsolve.capture.batch_axes import all_but
from backsolve.capture.edges import linear
from backsolve.capture.record import Primitive
from backsolve.operators import Einsum, LinearOperator
from backsolve.tracing.jaxpr import Equation
from backsolve.tracing.kinds import Kind

__all__ = ["REDUCTION"]


def _reduce_sum(eq: Equation, k: int) -> LinearOperator:
    """Labels only in the operand are summed."""
    if eq.params.get("out_sharding") is not None:
        return linear(eq, k)
    axes = eq.params["axes"]
    into = tuple(range(len(eq.in_shape(k))))
    out = tuple(axis for axis in into if axis not in axes)
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    return Einsum((), out, into, sizes, 1, (eq.dtype, eq.dtype))


REDUCTION: dict[str, Primitive] = {
    "reduce_sum": Primitive(_reduce_sum, (0,), Kind.REDUCES),
    "reduce_window_sum": Primitive(linear, (0,), index_map=index_maps.window_sum),
    "cumsum": Primitive(linear, (0,), axes=all_but("axis")),
}
