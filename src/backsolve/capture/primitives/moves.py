"""Primitives that move entries: other shapes and axes, and boxes; and those that pick, place and join them.

They are linear in their arrays, fixed in their indices.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np
from jax import lax

from backsolve.capture import index_maps
from backsolve.capture.batch_axes import all_but, whole
from backsolve.capture.folding import known_value
from backsolve.capture.opaque import jointly, linear
from backsolve.capture.primitives.arithmetic import diagonal, multiple
from backsolve.operators import Einsum, LinearOperator, Product
from backsolve.operators.moves import Reshape, Slice, padded
from backsolve.sparse import pattern
from backsolve.sparse.pattern import Pattern
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import FALLBACK, Equation, Kind, Primitive, carries_derivatives
from backsolve.tracing.series import layout_of

__all__ = ["INDEXING", "SHAPE"]

AT_ONCE = 16  # arrays that are joined by one program: pieces of one size then share it


# ---- whole axes --------------------------------------------------------------------------------------------------------
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
    """Of floating-point numbers only to such: to integers XLA has a way of its own with those that are out of range."""
    return x.astype(params["new_dtype"]) if x.dtype.kind in "iub" or params["new_dtype"].kind == "f" else NotImplemented


def _each_to_itself(eqn: Any, k: int) -> Pattern:
    """Entries that stay where they are."""
    return pattern.diagonal(prod(eqn.invars[k].aval.shape))


def _every_axis(eq: Equation, k: int) -> dict[int, int]:
    return {a: a for a in range(len(eq.in_shape(k)))}


_PLACED = Primitive(pattern=_each_to_itself, axes=_every_axis)  # on another device, or in another layout there

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


# ---- boxes and indices ------------------------------------------------------------------------------------------------
def _slice(eq: Equation, k: int) -> LinearOperator:
    """A box of entries; with strides, the primitive itself."""
    strides = eq.params["strides"]
    if strides is not None and any(step != 1 for step in strides):
        return linear(eq, k)
    starts, stops = (tuple(map(int, eq.params[name])) for name in ("start_indices", "limit_indices"))  # NumPy's, they may be
    return Slice(eq.in_shape(k), starts, stops, eq.dtype)


def _concatenate(eq: Equation, k: int) -> LinearOperator:
    """Each operand lies in a box of the result."""
    axis = eq.params["dimension"]
    start = sum(eq.in_shape(i)[axis] for i in range(k))
    return Slice.along(eq.shape, axis, start, start + eq.in_shape(k)[axis], eq.dtype).transpose()


def _stack(eq: Equation, k: int) -> LinearOperator:
    """Each operand is one layer of the result."""
    axis = eq.params["axis"]
    layer = Slice.along(eq.shape, axis, k, k + 1, eq.dtype)
    thick = (*eq.shape[:axis], 1, *eq.shape[axis + 1 :])
    return Product((layer.transpose(), Reshape(thick, eq.in_shape(k), eq.dtype)))


def _pad(eq: Equation, k: int) -> LinearOperator:
    """The array is moved; the padding value is repeated where the array does not lie."""
    if k == 0:
        widths = eq.params["padding_config"]
        if any(before < 0 or after < 0 or inner != 0 for before, after, inner in widths):
            return jointly(eq, 0)
        starts = tuple(int(before) for before, _, _ in widths)
        stops = tuple(int(before) + n for (before, _, _), n in zip(widths, eq.in_shape(0), strict=True))
        return Slice(eq.shape, starts, stops, eq.dtype).transpose()
    inside = lax.full(eq.in_shape(0), 0, eq.dtype)
    return diagonal(eq, 1, lax.pad(inside, eq.dtype.type(1), eq.params["padding_config"]))


def _gather(eq: Equation, k: int) -> LinearOperator:
    """Entries out of range have no derivative, whatever value the primitive fills in."""
    return linear(eq, k, fill_value=0)


def _overwrite(eq: Equation, k: int) -> LinearOperator:
    """Known places, none of them twice: a mask of the array, the updates placed; else JAX's own, which sees to it."""
    operands = [None, eq.inputs[1], None]
    if known_value(eq.inputs[1]) is None or (placed := index_maps.scatter(eq.eqn, 0, operands)) is None:
        return FALLBACK  # type: ignore[no-any-return]
    if k == 2:
        return jointly(eq, k, unique_indices=True)
    stays = np.zeros(placed.domain.size, bool)
    stays[placed.rows] = True
    return diagonal(eq, k, stays.reshape(eq.shape) if eq.shape else lax.full((), bool(stays[0])))


def _added(eq: Equation, k: int) -> LinearOperator:
    """The array stays, the updates are added to it."""
    return multiple(eq, 0, 1) if k == 0 else jointly(eq, k)


def _select(eq: Equation, k: int) -> LinearOperator:
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


def _split(eq: Equation) -> list[LinearOperator]:
    """One slice for each part."""
    shape, axis = eq.in_shape(0), eq.params["axis"]
    edges: list[LinearOperator] = []
    start = 0
    for size in map(int, eq.params["sizes"]):
        edges.append(Slice.along(shape, axis, start, start + size, eq.in_dtype(0)))
        start += size
    return edges


def _unstack(eq: Equation) -> list[LinearOperator]:
    """One layer for each output, which has an axis less."""
    shape, axis, dtype = eq.in_shape(0), eq.params["axis"], eq.in_dtype(0)
    thick = (*shape[:axis], 1, *shape[axis + 1 :])
    layers = [Slice.along(shape, axis, n, n + 1, dtype) for n in range(shape[axis])]
    return [Product((Reshape(eq.shape, thick, dtype), layer)) for layer in layers]


def _unstacked(params: dict[str, Any], x: Any) -> Any:
    layers = np.moveaxis(x, params["axis"], 0)
    return [layers[k, ...] for k in range(len(layers))]  # arrays, also where they have no axes


def _split_parts(params: dict[str, Any], x: Any) -> Any:
    return np.split(x, np.cumsum(params["sizes"])[:-1], params["axis"])


def _sliced(params: dict[str, Any], x: Any) -> Any:
    steps = params["strides"] or (1,) * x.ndim
    return x[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


def _selected(params: dict[str, Any], which: Any, *cases: Any) -> Any:
    out = cases[0]
    for number, case in enumerate(cases[1:], 1):
        out = np.where(which == number, case, out)
    return out


def _update_axes(eq: Equation, k: int) -> dict[int, int]:
    """Axes of which the box that is overwritten takes everything."""
    return whole(eq, 1) if k < 2 else {}


def _padded(params: dict[str, Any], x: Any, value: Any) -> Any:
    return padded(params["padding_config"], x, value)


def _padded_axes(eq: Equation, k: int) -> dict[int, int]:
    return {a: a for a, widths in enumerate(eq.params["padding_config"]) if k == 0 and not any(widths)}


def _gathered_axes(eq: Equation, k: int) -> dict[int, int]:
    """Axes that are taken whole, and those that go with an axis of the indices."""
    if k:
        return {}
    numbers, sizes, shape = eq.params["dimension_numbers"], eq.params["slice_sizes"], eq.in_shape(0)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    windows = zip([a for a in range(len(shape)) if a not in gone], sorted(numbers.offset_dims), strict=True)
    batches = [a for a in range(len(eq.shape)) if a not in numbers.offset_dims]  # the axes of the indices but their last
    along = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    return {a: b for a, b in windows if sizes[a] == shape[a]} | {a: batches[b] for a, b in along}


def _scaled_places(eqn: Any, k: int) -> Pattern | None:
    """Entries of the array, each multiplied in its place; of the updates nothing is said."""
    return _each_to_itself(eqn, k) if k == 0 else None


# ---- of concrete arrays, by few programs -------------------------------------------------------------------------------
def _slice_eagerly(params: dict[str, Any], x: Any) -> Any:
    """A box of an array, by a program that serves for every corner; None with strides, and where its type has a layout."""
    starts, strides = params["start_indices"], params["strides"]
    if (strides is not None and any(stride != 1 for stride in strides)) or layout_of(jx.type_of(x)) is not None:
        return None
    sizes = [end - start for start, end in zip(starts, params["limit_indices"], strict=True)]
    return lax.dynamic_slice(x, starts, sizes)


def _pad_eagerly(params: dict[str, Any], x: Any, value: Any) -> Any:
    """An array placed in a larger one, by a program that serves for every place; None where it is cut or dilated, and where
    its type has a layout.
    """
    config = params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in config) or layout_of(jx.type_of(x)) is not None:
        return None
    shape = [low + size + high for (low, high, _), size in zip(config, np.shape(x), strict=True)]
    return lax.dynamic_update_slice(lax.full(shape, value), x, [low for low, _, _ in config])


def _concatenate_eagerly(params: dict[str, Any], *parts: Any) -> Any:
    """Arrays joined, a few at once."""
    while len(parts) > AT_ONCE:
        parts = tuple(lax.concatenate(parts[k : k + AT_ONCE], params["dimension"]) for k in range(0, len(parts), AT_ONCE))
    return lax.concatenate(parts, params["dimension"])


INDEXING: dict[str, Primitive] = {
    "slice": Primitive(_slice, (0,), Kind.MOVES, _sliced, axes=whole, eager=_slice_eagerly),
    "rev": Primitive(linear, (0,), Kind.MOVES, lambda p, x: np.flip(x, p["dimensions"]), axes=all_but("dimensions")),
    "concatenate": Primitive(
        _concatenate, None, Kind.JOINS, lambda p, *xs: np.concatenate(xs, p["dimension"]), eager=_concatenate_eagerly
    ),
    "stack": Primitive(_stack, None, Kind.JOINS, lambda p, *xs: np.stack(xs, p["axis"])),
    "pad": Primitive(_pad, (0, 1), Kind.JOINS, _padded, axes=_padded_axes, eager=_pad_eagerly),
    "select_n": Primitive(_select, None, Kind.CHEAP, _selected, index_maps.moved),
    "split": Primitive(edges=_split, kind=Kind.MOVES, evaluate=_split_parts),
    "unstack": Primitive(edges=_unstack, kind=Kind.MOVES, evaluate=_unstacked),
    "dynamic_slice": Primitive(linear, (0,), index_map=index_maps.dynamic_slice, axes=whole),
    "dynamic_update_slice": Primitive(jointly, (0, 1), index_map=index_maps.dynamic_update_slice, axes=_update_axes),
    "gather": Primitive(_gather, (0,), Kind.PICKS, index_map=index_maps.gather, axes=_gathered_axes),
    "scatter": Primitive(_overwrite, (0, 2), index_map=index_maps.scatter),
    "scatter-mul": Primitive(pattern=_scaled_places),
    "scatter-add": Primitive(_added, (0, 2), index_map=partial(index_maps.scatter, coef=1)),
    "scatter-sub": Primitive(_added, (0, 2), index_map=partial(index_maps.scatter, coef=-1)),
}
