"""Sparse Jacobians of arrays that are spread over devices: their numbers stay where their rows are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import add, multiply, reshape
from backsolve.algebra.spaces import ArraySpace
from backsolve.matrices.vector import BlockVector
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.pattern import Pattern
from backsolve.sparse.spread import MANY, colours, equal_rows, width
from backsolve.system.system import System

__all__ = ["by_row_blocks"]


def by_row_blocks(system: System, pattern: Pattern) -> SparseMatrix | None:
    """The Jacobian of one array by another, by products with a few vectors; None where it takes too many.

    Columns that no row shares are worked out together, as one image of the system: that image lies where the output does,
    and has at each place the one number of that row.  Rows are as long as the longest, with zeros, so that they can be
    spread evenly.  An infinite number makes others of its row NaN, as in the product.
    Cost: the product with a vector, once for each colour; collectives are those of one product.
    """
    (into,), (out,) = system.M.col_spaces, system.sinks.row_spaces
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    shape = tuple(into.shape or ())
    filled = equal_rows(pattern) if shape else None
    colour = None if filled is None else colours(filled, shape)
    if filled is None or colour is None or (count := int(colour.max()) + 1) > MANY:
        return None
    numbers = np.arange(count, dtype=np.int8).reshape(-1, *[1] * len(shape))
    seeds = jnp.asarray(colour.reshape(shape).astype(np.int8)) == numbers

    def image(seed: Any) -> Any:
        return system.push(BlockVector([seed.astype(into.dtype)]))[0]

    images = jax.vmap(image)(seeds)
    slots = colour[filled.cols].reshape(filled.shape[0], width(filled) or 1).astype(np.int8)
    table = jnp.stack([_chosen(images, slots[:, s]) for s in range(slots.shape[1])], axis=1)
    data = jnp.asarray(reshape(table, (filled.nnz,)), into.dtype)
    return SparseMatrix(filled, data, shape, tuple(out.shape or ()))


def _chosen(images: Any, slot: np.ndarray[Any, Any]) -> Any:
    """Of each row the image that has its number."""
    total: Any = None
    for colour in np.unique(slot).tolist():
        own = reshape(images[colour], (slot.size,))
        own = own if (slot == colour).all() else multiply(jnp.asarray(slot) == colour, own)
        total = own if total is None else add(total, own)
    return total
