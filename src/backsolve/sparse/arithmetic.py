"""Sums, products and parts of sparse matrices: patterns once, numbers by gathers.

A matrix is a pattern and its data here, so that `matrix.SparseMatrix` can be written on top of it.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import add, is_mask, multiply, pad, reshape, subtract
from backsolve.algebra.elements import short
from backsolve.algebra.spaces import SpaceError
from backsolve.sparse.materialize import combine, take
from backsolve.sparse.pattern import Pattern, from_entries, intersection, product, union

__all__ = [
    "Part",
    "added",
    "chosen",
    "compressed",
    "multiplied",
    "of_other_library",
    "picked",
    "spread",
    "subtracted",
    "times_array",
    "times_entrywise",
]

Index = np.ndarray[Any, Any]
Part = tuple[Pattern, Any]  # and its numbers


def added(a: Part, b: Part) -> Part:
    """The sum.  Cost: a gather of either's data where the patterns differ, and one addition a place."""
    pattern, left, right = _together(a, b)
    return pattern, left | right if is_mask(left) and is_mask(right) else add(left, right)


def subtracted(a: Part, b: Part) -> Part:
    """The difference a − b, as `added`."""
    pattern, left, right = _together(a, b)
    return pattern, subtract(left, right)


def _together(a: Part, b: Part) -> tuple[Pattern, Any, Any]:
    """The union of the patterns, and the numbers of both at its places."""
    plan = union(a[0], b[0])
    return plan.pattern, spread(a[1], plan.left, plan.pattern.nnz), spread(b[1], plan.right, plan.pattern.nnz)


def multiplied(a: Part, b: Part) -> Part:
    """The matrix product.  Cost: one multiplication for each pair of entries that meet; they are found once."""
    plan = product(a[0], b[0])
    terms = multiply(take(a[1], plan.left), take(b[1], plan.right))
    data = combine(terms, None, plan.starts)
    return plan.pattern, data != 0 if is_mask(terms) and not is_mask(data) else data


def times_entrywise(a: Part, b: Part) -> Part:
    """The entrywise product, at the places that are in both patterns."""
    plan = intersection(a[0], b[0])
    return plan.pattern, multiply(take(a[1], plan.left), take(b[1], plan.right))


def times_array(pattern: Pattern, data: Any, x: Any) -> Any:
    """The product with a vector of shape (n,) or a matrix of shape (n, k).

    Raises `SpaceError` where x has another length.  Cost: one multiplication and addition an entry (and column).
    """
    shape, n = tuple(x.shape), pattern.shape[1]
    if len(shape) not in (1, 2) or shape[0] != n:
        flat = f" Ravel it to ({n},) first." if prod(shape) == n else ""
        raise SpaceError(
            f"a sparse matrix of shape {pattern.shape} multiplies arrays of shape ({n},) or ({n}, k), got {shape}.{flat}"
        )
    if _is_numpy(data) and _is_numpy(x):
        return compressed(pattern, data) @ x
    places = (pattern.nnz, 1) if len(shape) == 2 else (pattern.nnz,)
    terms = multiply(reshape(data, places), take(x, pattern.cols))
    if pattern.filled is not None:
        filled = np.zeros(pattern.nnz, bool)
        filled[pattern.filled] = True
        terms = multiply(multiply(filled.reshape(places), reshape(data, places) == 0) ^ True, terms)
    return combine(terms, None, None if pattern.full_rows else pattern.starts)


def _is_numpy(x: Any) -> bool:
    """Whether SciPy multiplies with it as we do: NumPy's numbers, no masks."""
    return type(x) is np.ndarray and x.dtype.kind in "iufc" and x.dtype.itemsize > 2


def compressed(pattern: Pattern, data: Any) -> Any:
    """A `scipy.sparse.csr_array` that shares its arrays with the pattern: to be read only."""
    from scipy.sparse import csr_array

    starts, cols = pattern.compressed
    return csr_array((data, cols, starts), shape=pattern.shape)


def picked(pattern: Pattern, x: Any) -> Any:
    """The entries of x at the places of the pattern: of a matrix, or of what is broadcast to one as NumPy does.

    Raises `SpaceError` where x has no such shape.
    """
    m, n = pattern.shape
    shape = (1,) * (2 - len(x.shape)) + tuple(x.shape)
    if len(shape) != 2 or shape[0] not in (1, m) or shape[1] not in (1, n):
        raise SpaceError(
            f"a sparse matrix of shape {pattern.shape} is multiplied entry by entry with a number or an array of shape "
            f"{(m, n)}, ({n},), (1, {n}) or ({m}, 1), got {tuple(x.shape)}; the matrix product is '@'."
        )
    index = (pattern.rows.astype(np.int64) if shape[0] > 1 else 0) * shape[1] + (pattern.cols if shape[1] > 1 else 0)
    return take(reshape(x, (prod(shape),)), np.broadcast_to(index, (pattern.nnz,)))


def spread(data: Any, places: Index | None, count: int) -> Any:
    """The vector with entry k at ``places[k]`` and zeros elsewhere; data itself where that is None."""
    if places is None:
        return data
    index = np.full(count, data.shape[0])
    index[places] = np.arange(data.shape[0])
    return take(pad(data, (0,), (1,)), index)


def chosen(key: Any, size: int, word: str) -> tuple[Index, bool]:
    """The rows (or columns) that an index names, and whether it is a single one.

    Raises `IndexError` where one lies outside, `TypeError` for what is no static index.
    """
    if isinstance(key, slice):
        return np.arange(size)[key], False
    try:
        index = np.asarray(key)
    except Exception as error:
        raise TypeError(_no_index(key, word)) from error
    if index.dtype == bool and index.shape == (size,):
        return np.flatnonzero(index), False
    index = index.astype(np.int64) if not index.size else index  # an empty list is one of floats
    if index.dtype.kind not in "iu" or index.ndim > 1:
        raise TypeError(_no_index(key, word))
    if index.size and not (index.min() >= -size and index.max() < size):
        worst = index.ravel()[(index.ravel() < -size) | (index.ravel() >= size)][0]
        raise IndexError(f"{word} {worst} lies outside a sparse matrix with {size} {word}s.")
    return np.atleast_1d(index % max(size, 1)), index.ndim == 0


def _no_index(key: Any, word: str) -> str:
    return (
        f"the {word}s of a sparse matrix are chosen by a whole number, a slice, or a list of either known while tracing, "
        f"got {short(key)}."
    )


def of_other_library(other: Any) -> Part | None:
    """The places and numbers of a matrix of `scipy.sparse`, None for anything else."""
    if not (hasattr(other, "tocoo") and hasattr(other, "nnz")):
        return None
    coo = other.tocoo()
    if len(coo.shape) != 2:
        raise SpaceError(
            f"a sparse matrix has two axes, got one of scipy.sparse of shape {tuple(coo.shape)}; take its toarray()."
        )
    pattern, groups = from_entries(coo.row, coo.col, tuple(coo.shape))
    numbers = coo.data if groups.order is None else coo.data[groups.order]
    return pattern, numbers if groups.starts is None else np.add.reduceat(numbers, groups.starts[:-1])
