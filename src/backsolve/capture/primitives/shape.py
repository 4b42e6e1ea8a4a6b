"""Primitives that move or repeat entries along whole axes."""

from __future__ import annotations

from backsolve.capture.edges import linear, multiple
from backsolve.operators import Einsum, LinearOperator
from backsolve.operators.reshape import Reshape
from backsolve.tracing.jaxpr import Equation, carries_derivatives

__all__ = ["broadcast_in_dim", "convert", "reshape", "transpose"]


def reshape(eq: Equation, k: int) -> LinearOperator:
    """``reshape``, ``squeeze`` and ``expand_dims``."""
    if (eq.name == "reshape" and eq.params["dimensions"] is not None) or eq.params.get("sharding") is not None:
        return linear(eq, k)
    return Reshape(eq.shape, eq.in_shape(k), eq.dtype)


def transpose(eq: Equation, k: int) -> LinearOperator:
    """Axes permuted: no factor, only labels."""
    permutation = eq.params["permutation"]
    into = tuple(range(len(permutation)))
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    return Einsum((), tuple(permutation), into, sizes, 1, (eq.dtype, eq.dtype))


def broadcast_in_dim(eq: Equation, k: int) -> LinearOperator:
    """Labels only in the output repeat; a stretched size-1 axis has a label of its own."""
    if k != 0 or eq.params.get("sharding") is not None:
        return linear(eq, k)
    shape, in_shape = eq.shape, eq.in_shape(0)
    out = tuple(range(len(shape)))
    sizes: dict[int, int | None] = dict(zip(out, shape, strict=True))
    into = []
    for axis, target in enumerate(eq.params["broadcast_dimensions"]):
        if in_shape[axis] == shape[target]:
            into.append(target)
        else:
            into.append(len(shape) + axis)
            sizes[len(shape) + axis] = 1
    return Einsum((), out, tuple(into), sizes, 1, (eq.dtype, eq.dtype))


def convert(eq: Equation, k: int) -> LinearOperator | None:
    """``convert_element_type`` between floating-point types; zero to an integer type."""
    if not carries_derivatives(eq.eqn.outvars[0].aval):
        return None
    if (eq.in_dtype(k).kind == "c") != (eq.dtype.kind == "c"):
        return linear(eq, k)
    return multiple(eq, k, 1)
