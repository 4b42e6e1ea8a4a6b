"""Other kinds as `Sparse`, and what a sparse operator gives together with one of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import astype, is_mask, namespace
from backsolve.algebra.elements import is_number
from backsolve.algebra.spaces import ArraySpace, Space
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.dispatch import ADD, COMPOSE, Rule
from backsolve.operators.einsum import Einsum, Factor, _contract_all
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.operator import Sparse, add_sparse, compose_sparse
from backsolve.sparse.pattern import Pattern, diagonal, from_labels

__all__ = ["add_as_sparse", "as_sparse", "compose_as_sparse"]


def as_sparse(
    op: LinearOperator, limit: int | None = None, other: Callable[[LinearOperator], Sparse | None] | None = None
) -> Sparse | None:
    """Return the operator as a `Sparse`, or None where its kind is opaque, it acts on tuples, or a size is unknown.

    Identity, Scaling, Zero, Slice, Reshape, every Einsum, and products and sums of those are served.  Entries that are
    static (deltas, ones, slices) take no storage, those that are entries of a factor stay in it.  ``other`` is asked about
    a kind that is not among these.
    Raises `PatternTooLargeError` where the pattern would not fit into ``limit`` bytes (None: what is available).
    Cost: the number of places, while planning.

    Example:
        >>> import numpy as np
        >>> from backsolve import hadamard
        >>> as_sparse(hadamard(np.array([2.0, 3.0])))
        sparse(2×2, 2 non-zeros) : 2 → 2
    """
    if isinstance(op, Sparse):
        return op
    if isinstance(op, Product | Sum):
        parts = [as_sparse(part, limit, other) for part in (op.factors if isinstance(op, Product) else op.terms)]
        sparse_parts = [part for part in parts if part is not None]
        if len(sparse_parts) < len(parts):
            return None
        if isinstance(op, Sum):
            return reduce(add_sparse, sparse_parts)
        return reduce(lambda right, left: compose_sparse(left, right, limit), reversed(sparse_parts))
    converted = None if other is None else other(op)
    if converted is not None:
        return converted
    into, out = _known(op.domain), _known(op.codomain)
    if into is None or out is None:
        return None
    if isinstance(op, Einsum):
        return _from_einsum(op, into, out, limit)
    if isinstance(op, Identity | Scaling | Reshape):
        one = Sparse(diagonal(into.size), LazyValues.of(None, into.size), into, out)
        return one.scaled(op.c) if isinstance(op, Scaling) else one  # type: ignore[return-value]
    if isinstance(op, Zero):
        nowhere = np.zeros(0, np.int64)
        return Sparse(Pattern(nowhere, nowhere, (out.size, into.size)), LazyValues.of(0, 0), into, out)
    if isinstance(op, Slice):
        every = np.arange(prod(op.shape)).reshape(op.shape)
        picked = every[tuple(map(slice, *op.box))].reshape(-1)
        here = np.arange(picked.size)
        rows, cols = (picked, here) if op.transposed else (here, picked)
        return Sparse(Pattern(rows, cols, (out.size, into.size)), LazyValues.of(None, picked.size), into, out)
    return None


def _known(space: Space) -> ArraySpace | None:
    return space if isinstance(space, ArraySpace) and space.known else None


def _from_einsum(op: Einsum, into: ArraySpace, out: ArraySpace, limit: int | None) -> Sparse:
    sizes = {label: n for label, n in op.sizes.items() if n is not None}
    outer = {*op.out, *op.into}
    factors = _without_inner(list(op.factors), outer, sizes)
    pattern, index = from_labels(op.out, op.into, sizes, [f.labels for f in factors], limit)
    keep = _kept(factors, index, pattern.nnz)
    if keep is not None:
        pattern = Pattern(pattern.rows[keep], pattern.cols[keep], pattern.shape)
        index = [keep if places is None else places[keep] for places in index]
    values = LazyValues.of(op.coef if is_number(op.coef) else 1, pattern.nnz)
    for f, places in zip(factors, index, strict=True):
        if keep is None or not _is_static_mask(f):
            array = f.array
            if str(array.dtype).rpartition(".")[2].startswith(("int", "uint")):  # counts of masks: numbers among numbers
                array = astype(array, into.dtype or out.dtype or namespace(array).float64)
            values = values.times(LazyValues.of(array, f.size).take(places), into.dtype or out.dtype)
    return Sparse(pattern, values if is_number(op.coef) else values.scaled(op.coef), into, out)


def _is_static_mask(f: Factor) -> bool:
    return isinstance(f.array, np.ndarray) and is_mask(f.array)


def _kept(factors: list[Factor], index: list[Any], count: int) -> Any:
    """The places that no static factor makes zero; None where that is all of them."""
    keep: Any = None
    for f, places in zip(factors, index, strict=True):
        if isinstance(f.array, np.ndarray) and (_is_static_mask(f) or not f.array.all()):
            chosen = f.array.reshape(-1) != 0
            chosen = chosen if places is None else chosen[places]
            keep = chosen if keep is None else keep & chosen
    return None if keep is None else np.flatnonzero(keep)


def _without_inner(factors: list[Factor], outer: set[int], sizes: dict[int, int]) -> list[Factor]:
    """The factors with labels that neither side has summed out."""
    inner = [f for f in factors if not outer.issuperset(f.labels)]
    if not inner:
        return factors
    keep = tuple(dict.fromkeys(k for f in inner for k in f.labels if k in outer))
    first, *rest = inner
    array, labels = _contract_all(first.array, first.labels, tuple(rest), keep, sizes)
    return [f for f in factors if outer.issuperset(f.labels)] + [Factor(array, labels)]


def _cheap(op: LinearOperator) -> Sparse | None:
    """The operator as `Sparse` where that stores little more than the operator does, else None."""
    if isinstance(op, Einsum):
        if any(op.sizes[k] is None for k in (*op.out, *op.into)):
            return None
        places = prod(op.sizes[k] or 0 for k in {*op.out, *op.into})
        stored = sum(f.size for f in op.factors)
        if places > 2 * (stored + op.domain.size + op.codomain.size):
            return None
    return as_sparse(op)


def compose_as_sparse(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """Return a ∘ b where one is sparse and the other, as sparse, no larger than it is; else None."""
    left, right = _cheap(a), _cheap(b)
    return None if left is None or right is None else compose_sparse(left, right)


def add_as_sparse(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """Return a + b where one is sparse and the other, as sparse, no larger than it is; else None."""
    left, right = _cheap(a), _cheap(b)
    return None if left is None or right is None else add_sparse(left, right)


KINDS = Einsum, Slice, Reshape
_COMPOSE: dict[tuple[type, type], Rule] = {
    (Sparse, Sparse): compose_sparse,
    (Scaling, Sparse): lambda a, b: b.scaled(a.c),
    (Sparse, Scaling): lambda a, b: a.scaled(b.c),
    **{(Sparse, kind): compose_as_sparse for kind in KINDS},
    **{(kind, Sparse): compose_as_sparse for kind in KINDS},
}
_ADD: dict[tuple[type, type], Rule] = {
    (Sparse, Sparse): add_sparse,
    **{(Sparse, kind): add_as_sparse for kind in (Identity, Scaling, *KINDS)},
    **{(kind, Sparse): add_as_sparse for kind in (Identity, Scaling, *KINDS)},
}
COMPOSE |= _COMPOSE
ADD |= _ADD
