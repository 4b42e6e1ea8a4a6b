"""Primitives that move or repeat entries along whole axes, or change their type."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from backsolve.capture.opaque import linear
from backsolve.capture.primitives.arithmetic import multiple
from backsolve.capture.record import Primitive
from backsolve.operators import Einsum, LinearOperator
from backsolve.operators.moves import Reshape
from backsolve.sparse.pattern import Pattern, diagonal
from backsolve.tracing.jaxpr import Equation, carries_derivatives
from backsolve.tracing.kinds import Kind

__all__ = ["SHAPE", "each_to_itself"]


def _reshape(eq: Equation, k: int) -> LinearOperator:
    """``reshape``, ``squeeze`` and ``expand_dims``."""
    if (eq.name == "reshape" and eq.params["dimensions"] is not None) or eq.params.get("sharding") is not None:
        return linear(eq, k)
    return Reshape(eq.shape, eq.in_shape(k), eq.dtype)


def _transpose(eq: Equation, k: int) -> LinearOperator:
    """Axes permuted: no factor, only labels."""
    permutation = eq.params["permutation"]
    into = tuple(range(len(permutation)))
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    return Einsum((), tuple(permutation), into, sizes, 1, (eq.dtype, eq.dtype))


def _broadcast(eq: Equation, k: int) -> LinearOperator:
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


def _convert(eq: Equation, k: int) -> LinearOperator | None:
    """``convert_element_type`` between floating-point types; zero to an integer type."""
    if not carries_derivatives(eq.eqn.outvars[0].aval):
        return None
    if (eq.in_dtype(k).kind == "c") != (eq.dtype.kind == "c"):
        return linear(eq, k)
    return multiple(eq, k, 1)


def _iota(params: dict[str, Any], *sizes: Any) -> Any:
    shape, axis = params["shape"], params["dimension"]
    if sizes:
        return NotImplemented
    side = (-1,) + (1,) * (len(shape) - axis - 1)
    return np.broadcast_to(np.arange(shape[axis], dtype=params["dtype"]).reshape(side), shape)


def _repeated(params: dict[str, Any], x: Any) -> Any:
    wide = [1] * len(params["shape"])
    for n, axis in zip(x.shape, params["broadcast_dimensions"], strict=True):
        wide[axis] = n
    return np.broadcast_to(x.reshape(wide), params["shape"])


def _reshaped(params: dict[str, Any], x: Any) -> Any:
    order = params["dimensions"]  # in which the axes are read
    return (x if order is None else x.transpose(order)).reshape(params["new_sizes"])


def _converted(params: dict[str, Any], x: Any) -> Any:
    return x.astype(params["new_dtype"]) if x.dtype.kind in "iub" else NotImplemented


def each_to_itself(eqn: Any, k: int) -> Pattern:
    """Entries that stay where they are."""
    return diagonal(prod(eqn.invars[k].aval.shape))


def _every_axis(eq: Equation, k: int) -> dict[int, int]:
    return {a: a for a in range(len(eq.in_shape(k)))}


_PLACED = Primitive(pattern=each_to_itself, axes=_every_axis)  # on another device, or in another layout there

SHAPE: dict[str, Primitive] = {
    "device_put": _PLACED,
    "sharding_constraint": _PLACED,
    "layout_constraint": _PLACED,
    "reshape": Primitive(_reshape, (0,), Kind.MOVES, _reshaped),
    "squeeze": Primitive(_reshape, (0,), Kind.MOVES, lambda p, x: np.squeeze(x, tuple(p["dimensions"]))),
    "expand_dims": Primitive(_reshape, (0,), Kind.MOVES, lambda p, x: np.expand_dims(x, tuple(p["dimensions"]))),
    "transpose": Primitive(_transpose, (0,), Kind.MOVES, lambda p, x: x.transpose(p["permutation"])),
    "broadcast_in_dim": Primitive(_broadcast, (0,), Kind.MOVES, _repeated),
    "convert_element_type": Primitive(_convert, (0,), Kind.CHEAP, _converted),
    "iota": Primitive(evaluate=_iota),
    "tile": Primitive(linear, (0,), Kind.MOVES, lambda p, x: np.tile(x, p["reps"])),
}
