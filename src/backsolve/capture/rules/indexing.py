"""Primitives that pick and place entries: linear in their arrays, fixed in their indices."""

from __future__ import annotations

from jax import lax

from ...operators import LinearOperator
from ...operators.slicing import Slice
from ..edges import diagonal, jointly, linear
from ..jaxpr import Equation

__all__ = ["JOINT", "LINEAR", "gather", "pad", "select_n"]

# Operands in which a primitive is linear as it stands: applied by itself and transposed by JAX's rule.
LINEAR: dict[str, tuple[int, ...]] = {
    "slice": (0,),
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
JOINT: dict[str, tuple[int, ...] | None] = {"concatenate": None, "dynamic_update_slice": (0, 1), "complex": (0, 1)}


def pad(eq: Equation, k: int) -> LinearOperator:
    """The array is moved; the padding value is repeated where the array does not lie."""
    if k == 0:
        return jointly(eq, 0)
    inside = lax.full(eq.in_shape(0), 0, eq.dtype)
    return diagonal(eq, 1, lax.pad(inside, eq.dtype.type(1), eq.params["padding_config"]))


def gather(eq: Equation, k: int) -> LinearOperator:
    """Entries out of range have no derivative, whatever value the primitive fills in."""
    return linear(eq, k, fill_value=0)


def select_n(eq: Equation, k: int) -> LinearOperator:
    """A mask: what is not selected is zero, even where it is NaN."""
    which = eq.inputs[0]
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
        edges.append(Slice(shape, axis, start, start + size, eq.in_dtype(0)))
        start += size
    return edges
