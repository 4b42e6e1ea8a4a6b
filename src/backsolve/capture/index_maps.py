"""Equations that only move entries, as exact sparse operators: the primitive run once on the numbers of the entries.

Where an index is traced, the pattern holds every place that it may name, and the data, a mask, says which ones it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from jax import lax

from backsolve.algebra.spaces import ArraySpace
from backsolve.capture.folding import known_value, partly_known
from backsolve.operators.moves import padded
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, diagonal, from_entries, require_memory
from backsolve.tracing.jaxpr import Kind, carries_derivatives, record_of
from backsolve.tracing.windows import NOWHERE, Index, Window, entries_of, strides, window_of

__all__ = [
    "convolved",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "index_operator",
    "moved",
    "running_sum",
    "scatter",
    "window_sum",
    "windows",
]


LONGEST = 2**24  # places of a cumulative sum that are written down


def _candidates(window: Window, indices: Index, known: Index) -> tuple[Index, Index]:
    """For each place of the result the entry at a window's first position, and all moves of windows from there.

    ``known`` says in which coordinates the indices are; in the others they are 0, and windows move.
    """
    free = {axis for axis, there in zip(window.dims.start_index_map, known, strict=True) if not there}
    return window.entries(indices), _moves(window.shape, [r if axis in free else 0 for axis, r in enumerate(window.reach)])


def index_operator(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse | None:
    """Return the exact operator from operand k of an equation to its output where the primitive only moves or adds entries.

    ``operands`` holds the values of the operands, None for one that is a tangent.  Served is every primitive whose record
    has an index map, or says that it moves or joins entries.  A moved entry is a 1 that takes no storage.

    Indices that are known (also under ``jit``) give the exact pattern.  With traced ones the row (for a scatter the column)
    of an entry holds every place that the index may name, and its data is a mask, traced, of the one it does.  Coordinates
    of which all are known, such as the rows in turn, count as known beside others that are not.
    None for another primitive, for an operand that is an index, and where several traced or repeated places of an
    overwriting ``scatter`` may collide.
    Raises `PatternTooLargeError` where the places of a traced index would not fit into memory.
    Cost: one pass over the entries in NumPy, while tracing.
    """
    primitive = record_of(eqn.primitive.name)
    if not carries_derivatives(eqn.invars[k].aval):
        return None
    if primitive.index_map is not None:
        own: Sparse | None = primitive.index_map(eqn, k, operands)
        return own
    return moved(eqn, k, operands) if primitive.kind in (Kind.MOVES, Kind.JOINS) else None


# ---- operators from numbers of entries ---------------------------------------------------------------------------------
def _spaces(eqn: Any, k: int) -> tuple[ArraySpace, ArraySpace]:
    into, out = eqn.invars[k].aval, eqn.outvars[0].aval
    return ArraySpace(tuple(into.shape), into.dtype), ArraySpace(tuple(out.shape), out.dtype)


def _picking(eqn: Any, k: int, entries: Index) -> Sparse:
    """The operator whose result holds at each place the entry of operand k with this number."""
    into, out = _spaces(eqn, k)
    flat = entries.reshape(-1)
    rows = np.flatnonzero(flat >= 0)
    cols = flat if rows.size == flat.size else flat[rows]
    return Sparse(Pattern(rows, cols, (out.size, into.size)), LazyValues.of(None, rows.size), into, out)


def _placing(eqn: Any, k: int, places: Index, coef: int = 1) -> Sparse:
    """The operator that adds each entry of operand k at the place with this number."""
    into, out = _spaces(eqn, k)
    flat = places.reshape(-1)
    cols = np.flatnonzero(flat >= 0)
    pattern, _ = from_entries(flat[cols], cols, (out.size, into.size))
    return Sparse(pattern, LazyValues.of(coef, cols.size), into, out)


def _masked(eqn: Any, k: int, first: Index, moves: Index, entries: Any, *, placing: bool = False, coef: int = 1) -> Sparse:
    """The operator of a traced index: all of ``first + moves`` may be meant, the one that ``entries`` says is.

    None of them where ``first`` is nowhere.
    """
    into, out = _spaces(eqn, k)
    inside = np.flatnonzero(first.reshape(-1) >= 0)
    count = inside.size * moves.size
    require_memory(count, 40, f"{eqn.primitive.name} with a traced index, any of {moves.size:,} for each entry,")
    near = np.repeat(inside, moves.size)
    far = (first.reshape(-1)[inside, None] + moves).reshape(-1)
    rows, cols = (far, near) if placing else (near, far)
    pattern, groups = from_entries(rows, cols, (out.size, into.size))
    meant = LazyValues.of(entries, first.size).take(near).array()
    mask = LazyValues.of(lax.eq(meant, far.astype(meant.dtype)), count)
    values = mask.take(groups.order)
    return Sparse(pattern, values if coef == 1 else values.scaled(coef), into, out)


def _moves(shape: tuple[int, ...], reach: Sequence[int]) -> Index:
    """The moves of an entry's number when its place moves by 0 … reach along each axis."""
    require_memory(prod(r + 1 for r in reach), 8, "a traced index")
    total = np.zeros(1, np.int64)
    for r, stride in zip(reach, strides(shape), strict=True):
        total = (total[:, None] + np.arange(r + 1) * stride).reshape(-1)
    return total


def moved(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse | None:
    """The operator from operand k of a primitive that moves entries: it is evaluated on their numbers.

    Other operands with derivatives are nowhere in the result; those without have to be known.
    """
    evaluate = record_of(eqn.primitive.name).evaluate
    inputs: list[Any] = []
    for number, (v, x) in enumerate(zip(eqn.invars, operands, strict=True)):
        if number == k:
            inputs.append(entries_of(tuple(v.aval.shape)))
        else:
            inputs.append(np.broadcast_to(NOWHERE, v.aval.shape) if carries_derivatives(v.aval) else known_value(x))
    if evaluate is None or any(x is None for x in inputs):
        return None
    entries = evaluate(eqn.params, *inputs)
    return None if entries is NotImplemented else _picking(eqn, k, entries)


# ---- sums over windows -------------------------------------------------------------------------------------------------
def window_sum(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse:
    """Sums over windows: of a padded array, one box of entries for each place in a window."""
    into, out = _spaces(eqn, k)
    pattern = windows(eqn.params, into.shape or (), out.shape or ())
    return Sparse(pattern, LazyValues.of(None, pattern.nnz), into, out)


def windows(params: dict[str, Any], into: tuple[int, ...], out: tuple[int, ...]) -> Pattern:
    """Which entries of an array of shape ``into`` lie in the window of each entry of the result."""
    axes = len(into)
    params = {"base_dilation": (1,) * axes, "window_dilation": (1,) * axes} | params
    config = [(low, high, base - 1) for (low, high), base in zip(params["padding"], params["base_dilation"], strict=True)]
    entries = padded(config, entries_of(into), np.array(NOWHERE))
    steps, spread, whole = params["window_strides"], params["window_dilation"], tuple(map(slice, out))
    rows, cols = [], []
    for offset in product(*map(range, params["window_dimensions"])):
        box = tuple(slice(o * s, None, step) for o, s, step in zip(offset, spread, steps, strict=True))
        own = entries[box][whole].reshape(-1)
        rows.append(np.flatnonzero(own >= 0))
        cols.append(own[rows[-1]])
    return from_entries(np.concatenate(rows), np.concatenate(cols), (prod(out), prod(into)))[0]


def convolved(eqn: Any, k: int) -> Pattern | None:
    """Which entries of the array (operand 0) or of the kernel (operand 1) each entry of a convolution is made of.

    None where batches are grouped.
    """
    params, dims = eqn.params, eqn.params["dimension_numbers"]
    if params["batch_group_count"] != 1:
        return None
    shapes = [tuple(v.aval.shape) for v in (*eqn.invars, *eqn.outvars)]
    array, kernel, out = (
        entries_of(shape).transpose(spec) for shape, spec in zip(shapes, (dims.lhs_spec, dims.rhs_spec, dims.out_spec))
    )
    widths = zip(params["padding"], params["lhs_dilation"], strict=True)
    config = [(0, 0, 0), (0, 0, 0), *((low, high, dilation - 1) for (low, high), dilation in widths)]
    array = padded(config, array, np.array(NOWHERE))
    groups, (features, each) = params["feature_group_count"], kernel.shape[:2]
    own = np.arange(features)[:, None] // max(features // max(groups, 1), 1) * each + np.arange(each)
    rows, cols = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for offset in product(*map(range, kernel.shape[2:])):
        places = zip(offset, params["rhs_dilation"], params["window_strides"], out.shape[2:], strict=True)
        box = tuple(slice(o * spread, o * spread + step * (n - 1) + 1, step) for o, spread, step, n in places)
        read = array[:, own][(..., *box)]  # batch, feature, input feature of its group, place
        wide = np.broadcast_to(out[:, :, None], read.shape)
        inside = read >= 0
        rows.append(wide[inside])
        weights = kernel[(None, ..., *offset)].reshape(1, features, each, *(1,) * len(box))
        cols.append((read if k == 0 else np.broadcast_to(weights, read.shape))[inside])
    return from_entries(np.concatenate(rows), np.concatenate(cols), (prod(shapes[2]), prod(shapes[k])))[0]


def running_sum(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse | None:
    """A cumulative sum along one axis: a triangle of ones.  None where it is so long that nobody would want them all."""
    into, out = _spaces(eqn, k)
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    entries = np.moveaxis(entries_of(into.shape or ()), axis, -1)
    n = entries.shape[-1]
    if into.size * (n + 1) // 2 > LONGEST:
        return None
    i, j = np.triu_indices(n) if reverse else np.tril_indices(n)
    pattern, _ = from_entries(entries[..., i].reshape(-1), entries[..., j].reshape(-1), (out.size, into.size))
    return Sparse(pattern, LazyValues.of(None, pattern.nnz), into, out)


# ---- moves by indices ----------------------------------------------------------------------------------------------------
def _coordinates(indices: Any) -> tuple[Index, Index]:
    """Indices as far as they are known, and in which of their coordinates that is so of all; the others are 0."""
    part = partly_known(indices)
    if part is None:
        return np.zeros(indices.shape, np.int64), np.zeros(indices.shape[-1], bool)
    known = np.asarray(part.known.all(axis=tuple(range(part.known.ndim - 1))))
    return np.where(known, part.numbers.astype(np.int64), 0), known


def _known_start(start: Any) -> int | None:
    """One coordinate of a corner, if it is known."""
    part = partly_known(start)
    return int(part.numbers) if part is not None and part.known else None


def _box(shape: tuple[int, ...], sizes: tuple[int, ...], starts: Sequence[Any]) -> tuple[Index, Index, Any]:
    """The entries of a box if its corner is known as far as it is, the moves by what is not, and the traced entries."""
    values = [_known_start(start) for start in starts]
    reach = [n - s for n, s in zip(shape, sizes, strict=True)]
    corner = [0 if v is None else min(max(v, 0), r) for v, r in zip(values, reach, strict=True)]
    entries = entries_of(shape)[tuple(slice(c, c + s) for c, s in zip(corner, sizes, strict=True))]
    moves = _moves(shape, [r if v is None else 0 for v, r in zip(values, reach, strict=True)])
    if moves.size == 1:
        return entries, moves, None
    numbers = entries_of(shape).astype(np.int32)
    return entries, moves, lax.dynamic_slice(numbers, starts, sizes, allow_negative_indices=False)


def dynamic_slice(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse:
    """A box whose corner the operands name."""
    shape = tuple(eqn.invars[0].aval.shape)
    entries, moves, traced = _box(shape, tuple(eqn.params["slice_sizes"]), operands[1:])
    return _picking(eqn, k, entries) if traced is None else _masked(eqn, k, entries, moves, traced)


def dynamic_update_slice(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse:
    """An array with a box of it overwritten: operands are the array, the box, its corner."""
    shape, sizes = (tuple(v.aval.shape) for v in eqn.invars[:2])
    entries, moves, traced = _box(shape, sizes, operands[2:])
    if k == 1:
        return _placing(eqn, k, entries) if traced is None else _masked(eqn, k, entries, moves, traced, placing=True)
    if traced is None:
        return _picking(eqn, k, _without(shape, entries))
    stays = lax.dynamic_update_slice(np.ones(shape, bool), np.zeros(sizes, bool), operands[2:], allow_negative_indices=False)
    return _kept(eqn, k, stays)


def _without(shape: tuple[int, ...], overwritten: Index) -> Index:
    entries = np.arange(prod(shape))
    overwritten = overwritten.reshape(-1)
    entries[overwritten[overwritten >= 0]] = NOWHERE
    return entries


def _kept(eqn: Any, k: int, mask: Any) -> Sparse:
    into, out = _spaces(eqn, k)
    return Sparse(diagonal(into.size), LazyValues.of(mask, into.size), into, out)


def gather(eqn: Any, k: int, operands: Sequence[Any]) -> Sparse | None:
    """Windows of an array, at the places that indices name."""
    indices, window = operands[1], window_of(eqn)
    if window is None or indices is None:
        return None
    places, known = _coordinates(indices)
    if known.all():
        return _picking(eqn, k, window.entries(places))
    return _masked(eqn, k, *_candidates(window, places, known), window.traced_entries(indices))


def scatter(eqn: Any, k: int, operands: Sequence[Any], *, coef: int | None = None) -> Sparse | None:
    """An array with ``coef`` times the updates added at the places that indices name, or, without, overwritten there.

    Operands are the array, the indices, the updates.
    """
    params, indices, adds, window = eqn.params, operands[1], coef is not None, window_of(eqn)
    if window is None:
        return None
    shape = window.shape
    if k == 0 and adds:
        return _picking(eqn, k, entries_of(shape))
    if indices is None:
        return None
    starts, known = _coordinates(indices)
    if known.all():
        places = window.entries(starts)
        if not adds and np.unique(places[places >= 0]).size < (places >= 0).sum():
            return None  # which of two updates of one entry stays is the machine's choice
        return _picking(eqn, k, _without(shape, places)) if k == 0 else _placing(eqn, k, places, coef or 1)
    if not (adds or params["unique_indices"]):
        return None
    entries = window.traced_entries(indices)
    if k == 0:
        stays = lax.full((prod(shape),), True).at[entries.reshape(-1)].set(False, mode="drop", wrap_negative_indices=False)
        return _kept(eqn, k, stays)
    return _masked(eqn, k, *_candidates(window, starts, known), entries, placing=True, coef=coef or 1)
