"""Sparse Jacobians of arrays that are spread over devices: their numbers stay where their rows are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import multiply, reshape
from backsolve.algebra.spaces import ArraySpace
from backsolve.capture.reach import EdgeOf, Reach, sets_of
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.pattern import Pattern
from backsolve.sparse.spread import MANY, colours, equal_rows, width
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing import layouts

__all__ = ["by_row_blocks"]

_SELECTED = 16  # colours: with more, numbers are picked by index, not by a selection for each
_NONE = -1

Blocks = dict[tuple[int, int], SparseMatrix]


def by_row_blocks(system: System, patterns: Mapping[tuple[int, int], Pattern], edge: EdgeOf) -> Blocks:
    """Blocks of a Jacobian with these patterns, by products with a few vectors; those are missing that take too many.

    Columns of one input that no row of any output shares are worked out together, as one image of the system: that image
    lies where the outputs do, and has at each place the one number of that row.  Rows are as long as the longest, with
    zeros, so that they can be spread evenly.  Infinite and NaN stays what is so on one device, apart from edges that add up
    within one operation (matrix products, loops), where it may pass to what else the same row takes from there (see
    `backsolve.capture.reach`, which asks for each operator's ``edge``).
    Cost: the product with a vector, once for each colour; collectives are those of one product.
    """
    blocks: Blocks = {}
    for j, into in enumerate(system.M.col_spaces):
        assert isinstance(into, ArraySpace)
        filled = {i: equal_rows(pattern) for (i, k), pattern in patterns.items() if k == j}
        rows = {i: pattern for i, pattern in filled.items() if pattern is not None and (width(pattern) or MANY + 1) <= MANY}
        if rows and jx.carries_derivatives(into):
            blocks.update(_of_input(system, j, into, rows, edge))
    return blocks


def _of_input(system: System, j: int, into: ArraySpace, rows: Mapping[int, Pattern], edge: EdgeOf) -> Blocks:
    """The blocks of one input."""
    shape = tuple(into.shape or ())
    colour = colours(list(rows.values()), shape)
    if colour is None:
        return {}
    count = int(colour.max()) + 1

    def chosen() -> Any:
        ones = jnp.full((count, *shape), 1, into.dtype)
        numbers = np.arange(count, dtype=colour.dtype).reshape(-1, *[1] * len(shape))
        return jnp.where(jnp.asarray(colour.reshape(shape)) == numbers, ones, 0)

    mesh = layouts.mesh_of(jax.tree_util.tree_leaves(system.value))
    seeds = layouts.one_by_one(layouts.on_mesh(chosen, mesh), mesh)

    slots = {i: _slots(colour, pattern) for i, pattern in rows.items()}
    needed = {i: sets_of(table, count) for i, table in slots.items()}
    reach = Reach(system, j, colour, count, edge, needed)

    def images_of(seed: Any, masks: Any) -> list[Any]:
        images = reach.push(seed, masks)
        return [images[i] for i in rows]

    masks = layouts.on_mesh(reach.masks, mesh)
    blocks: Blocks = {}
    for (i, pattern), images in zip(rows.items(), jax.vmap(images_of)(seeds, masks), strict=True):
        m = pattern.shape[0]
        table = _chosen(reshape(layouts.one_by_one(images, mesh), (count, m)), slots[i])
        data = jnp.asarray(reshape(table, (pattern.nnz,)), into.dtype)
        out = system.sinks.row_spaces[i]
        assert isinstance(out, ArraySpace)
        blocks[i, j] = SparseMatrix(pattern, data, shape, tuple(out.shape or ()))
    return blocks


def _slots(colour: np.ndarray[Any, Any], pattern: Pattern) -> np.ndarray[Any, Any]:
    """The colour of each place of each row; `_NONE` where the row was only filled up."""
    slots = colour[pattern.cols]
    if pattern.filled is not None:
        slots[pattern.filled] = _NONE
    return slots.reshape(pattern.shape[0], -1)


def _chosen(images: Any, slots: np.ndarray[Any, Any]) -> Any:
    """Of each row, and for each of its places, the image that has its number; 0 where there is none."""
    if images.shape[0] > _SELECTED:
        index = jnp.asarray(np.maximum(slots, 0), np.int32)
        picked = jnp.take_along_axis(images.T, index, axis=1, mode="promise_in_bounds")
        return picked if (slots != _NONE).all() else multiply(slots != _NONE, picked)
    table: Any = None
    known = jnp.asarray(slots.astype(np.int8))
    known = jax.lax.optimization_barrier(known)  # type: ignore[no-untyped-call]  # else there is a mask for each colour
    for colour, image in enumerate(images):
        table = jnp.where(known == colour, image[:, None], 0 if table is None else table)
    return table
