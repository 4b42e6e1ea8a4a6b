"""Primitives that pick and place entries: linear in their arrays, fixed in their indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from backsolve.capture.constants import known_value
from backsolve.capture.edges import diagonal, jointly, linear
from backsolve.operators import LinearOperator, Product
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice
from backsolve.tracing.jaxpr import Equation

__all__ = ["JOINT", "LINEAR", "concatenate", "gather", "pad", "select_n", "slice_", "split", "stack"]

# Operands in which a primitive is linear as it stands: applied by itself and transposed by JAX's rule.
LINEAR: dict[str, tuple[int, ...]] = {
    "dynamic_slice": (0,),
    "rev": (0,),
    "cumsum": (0,),
    "reduce_window_sum": (0,),
    "conv_general_dilated": (0, 1),
    "real": (0,),
    "imag": (0,),
    "reduce_precision": (0,),
}

# Linear in these operands taken together: the edge of one is the primitive with the others at zero.
JOINT: dict[str, tuple[int, ...] | None] = {"dynamic_update_slice": (0, 1), "complex": (0, 1)}


def slice_(eq: Equation, k: int) -> LinearOperator:
    """A box of entries; with strides, the primitive itself."""
    strides = eq.params["strides"]
    if strides is not None and any(step != 1 for step in strides):
        return linear(eq, k)
    return Slice(eq.in_shape(k), tuple(eq.params["start_indices"]), tuple(eq.params["limit_indices"]), eq.dtype)


def concatenate(eq: Equation, k: int) -> LinearOperator:
    """Each operand lies in a box of the result."""
    axis = eq.params["dimension"]
    start = sum(eq.in_shape(i)[axis] for i in range(k))
    return Slice.along(eq.shape, axis, start, start + eq.in_shape(k)[axis], eq.dtype).transpose()


def stack(eq: Equation, k: int) -> LinearOperator:
    """Each operand is one layer of the result."""
    axis = eq.params["axis"]
    layer = Slice.along(eq.shape, axis, k, k + 1, eq.dtype)
    thick = (*eq.shape[:axis], 1, *eq.shape[axis + 1 :])
    return Product((layer.transpose(), Reshape(thick, eq.in_shape(k), eq.dtype)))


def pad(eq: Equation, k: int) -> LinearOperator:
    """The array is moved; the padding value is repeated where the array does not lie."""
    if k == 0:
        widths = eq.params["padding_config"]
        if any(before < 0 or after < 0 or inner != 0 for before, after, inner in widths):
            return jointly(eq, 0)
        starts = tuple(before for before, _, _ in widths)
        stops = tuple(before + n for (before, _, _), n in zip(widths, eq.in_shape(0), strict=True))
        return Slice(eq.shape, starts, stops, eq.dtype).transpose()
    inside = lax.full(eq.in_shape(0), 0, eq.dtype)
    return diagonal(eq, 1, lax.pad(inside, eq.dtype.type(1), eq.params["padding_config"]))


def gather(eq: Equation, k: int) -> LinearOperator:
    """Entries out of range have no derivative, whatever value the primitive fills in."""
    return linear(eq, k, fill_value=0)


def select_n(eq: Equation, k: int) -> LinearOperator:
    """A mask: what is not selected is zero, even where it is NaN."""
    which = eq.inputs[0]
    known = known_value(which)
    if known is not None:  # the mask stays known, so that a sparse pattern may leave out what it hides
        mask: Any = np.broadcast_to(known == k - 1, eq.shape)
        return diagonal(eq, k, mask if mask.ndim else lax.full((), bool(mask)))
    mask = (which if k == 2 else lax.bitwise_not(which)) if which.dtype == bool else lax.eq(which, which.dtype.type(k - 1))
    if not which.shape and eq.shape:
        mask = lax.broadcast(mask, eq.shape)
    return diagonal(eq, k, mask)


def split(eq: Equation) -> list[LinearOperator]:
    """One slice for each part."""
    shape, axis = eq.in_shape(0), eq.params["axis"]
    edges: list[LinearOperator] = []
    start = 0
    for size in eq.params["sizes"]:
        edges.append(Slice.along(shape, axis, start, start + size, eq.in_dtype(0)))
        start += size
    return edges
