"""The kind whose matrix is mostly zero: a static pattern of places, and numbers there that may be traced.

Slices, pads, gathers, scatters, stencils and incidence matrices are of this kind.  Patterns are worked out while planning
(`pattern`), numbers when values flow (`lazy_values`).  Here too: other kinds as `Sparse`, and its rows for ``@`` and ``+``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, astype, is_array, is_mask, is_number, namespace, reshape
from backsolve.algebra.elements import describe
from backsolve.algebra.spaces import ArraySpace, Space, SpaceError, unify
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.dispatch import ADD, COMPOSE, Rule
from backsolve.operators.einsum import Einsum, Factor, contract_all
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Reshape, Slice
from backsolve.sparse.lazy_values import Combination, LazyValues, joined
from backsolve.sparse.lazy_values import union as union_of_values
from backsolve.sparse.materialize import combine
from backsolve.sparse.pattern import Pattern, diagonal, from_entries, from_labels, product, transposed, union

__all__ = [
    "Keep",
    "Sparse",
    "add_as_sparse",
    "add_sparse",
    "as_sparse",
    "columns_of",
    "compose_as_sparse",
    "compose_sparse",
    "join_sparse",
    "mirror_sparse",
    "rows_of",
    "sparse",
]

Keep = Callable[[Any, Any], Any]  # a mask of the places with these rows and columns


class Sparse(LinearOperator):
    """y[rows[k]] += data[k] · x[cols[k]] for every k, on row-major vectors of the codomain and the domain.

    ``pattern`` is static, ``values`` are the numbers at its places.  Both spaces are known.  Build one from rows, columns
    and data with `sparse`, from another operator with `backsolve.sparse.operator`.
    Cost of an application: one multiplication and one addition a place; none where the numbers are static ones.
    """

    __slots__ = ("codomain", "domain", "pattern", "values")
    domain: ArraySpace
    codomain: ArraySpace

    def __init__(self, pattern: Pattern, values: LazyValues, domain: ArraySpace, codomain: ArraySpace) -> None:
        self.pattern = pattern
        self.values = values
        self.domain = domain
        self.codomain = codomain

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """The row of each place, increasing."""
        return self.pattern.rows

    @property
    def cols(self) -> np.ndarray[Any, Any]:
        """The column of each place, increasing within a row."""
        return self.pattern.cols

    @property
    def nnz(self) -> int:
        """Number of places."""
        return self.pattern.nnz

    @property
    def data(self) -> Any:
        """The number at each place, as one array."""
        return self.values.array(self.dtype)

    @property
    def dtype(self) -> Any:
        """The dtype that the spaces fix, None where they fix none."""
        return self.domain.dtype if self.domain.dtype is not None else self.codomain.dtype

    def apply(self, x: Any) -> Any:
        pattern = self.pattern
        assert self.codomain.shape is not None
        plan, flat = self.values.plan, _raveled(x)
        starts = None if pattern.full_rows else pattern.starts
        if self.values.is_static:
            constant = plan.const if is_number(plan.const) or plan.const.dtype.kind != "b" else plan.const.astype(float)
            y = combine(flat, pattern.cols, starts, constant)
        else:
            image = LazyValues((flat,), Combination(pattern.shape[1], (pattern.shape[1],)))
            y = self.values.times(image.take(pattern.cols), self.dtype).array()
            y = combine(y, None, starts)
        y = _in_dtype(y, self.codomain.dtype)
        shape = self.codomain.shape
        return y if tuple(y.shape) == shape else reshape(y, shape)

    def transpose(self) -> Sparse:
        pattern, order = transposed(self.pattern)
        return Sparse(pattern, self.values.take(order), self.codomain, self.domain)

    def conj(self) -> LinearOperator:
        return Sparse(self.pattern, self.values.conj(), self.domain, self.codomain)

    def scaled(self, c: Any) -> Sparse:
        return Sparse(self.pattern, self.values.scaled(c), self.domain, self.codomain)

    def evaluated(self) -> Sparse:
        """The same operator with its numbers formed, once for all later uses."""
        return Sparse(self.pattern, self.values.evaluated(self.dtype), self.domain, self.codomain)

    def restricted(self, keep: Keep | None) -> Sparse:
        """The same operator with zeros outside the places (rows, columns) that ``keep`` says to keep."""
        if keep is None or (mask := keep(self.rows, self.cols)).all():
            return self
        pattern = Pattern(self.rows[mask], self.cols[mask], self.pattern.shape)
        return Sparse(pattern, self.values.take(np.flatnonzero(mask)), self.domain, self.codomain)

    def between(self, domain: Space, codomain: Space) -> Sparse:
        """The same matrix between other spaces of as many entries."""
        assert isinstance(domain, ArraySpace)
        assert isinstance(codomain, ArraySpace)
        return Sparse(self.pattern, self.values, domain, codomain)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        into = unify(self.domain, domain, f"the domain of {self.label} and its place")
        out = unify(self.codomain, codomain, f"the codomain of {self.label} and its place")
        return self if (into, out) == (self.domain, self.codomain) else self.between(into, out)

    def diagonal(self) -> Any:
        """Return the diagonal of the (square) matrix as one vector.

        Raises `SpaceError` where the matrix is not square.

        Example:
            >>> sparse([0, 1], [0, 0], [2.0, 3.0], (2,), (2,)).diagonal()
            array([2., 0.])
        """
        m, n = self.pattern.shape
        if m != n:
            raise SpaceError(f"{self!r} has a matrix of {m} × {n}; only a square one has a diagonal.")
        places = np.flatnonzero(self.rows == self.cols)
        return self.values.take(places).spread(self.rows[places], n).array(self.dtype)

    def todense(self) -> Any:
        m, n = self.pattern.shape
        flat = self.values.spread(self.pattern.keys, m * n).array(self.dtype)
        assert self.codomain.shape is not None
        assert self.domain.shape is not None
        return reshape(flat, (*self.codomain.shape, *self.domain.shape))

    @property
    def label(self) -> str:
        m, n = self.pattern.shape
        return f"sparse({m}×{n}, {self.nnz} non-zero{'' if self.nnz == 1 else 's'})"


def sparse(rows: Any, cols: Any, data: Any = None, domain: Any = None, codomain: Any = None) -> Sparse:
    """Return the operator with ``data[k]`` at row ``rows[k]`` and column ``cols[k]``; places given twice add up.

    Rows and columns number the entries of codomain and domain in row-major order; they are static integers, in any order.
    ``data`` is an array of any library with one number a place, one number for all, or None for ones.  ``domain`` and
    ``codomain`` are shapes or spaces.
    Raises `SpaceError` where rows, columns and data differ in length, a place lies outside the spaces, or a size is unknown.
    Cost: one sort while planning, none where the places are sorted.

    Example:
        >>> import numpy as np
        >>> difference = sparse([0, 0, 1, 1], [0, 1, 1, 2], np.array([-1.0, 1.0, -1.0, 1.0]), (3,), (2,))
        >>> difference
        sparse(2×3, 4 non-zeros) : 3 → 2
        >>> difference @ np.array([1.0, 4.0, 9.0])
        array([3., 5.])
    """
    into, out = _known_space(domain, "domain"), _known_space(codomain, "codomain")
    pattern, groups = from_entries(rows, cols, (out.size, into.size))
    given = int(np.size(rows))
    if data is not None and not is_number(data):
        data = asarray(data)
        if not (is_array(data) and tuple(data.shape) == (given,)):
            raise SpaceError(
                f"{given} places need data of shape ({given},), got {describe(data)}; a single number fills them all."
            )
    values = LazyValues.of(data, given).take(groups.order).summed(groups.starts)
    return Sparse(pattern, values, into, out)


def compose_sparse(a: Sparse, b: Sparse, limit: int | None = None, keep: Keep | None = None) -> Sparse:
    """Return a ∘ b, or the part of it at the places (rows, columns) that ``keep`` says to keep.

    Cost: one multiplication for each pair of places that meet, none where one factor's numbers are static and moved or
    scaled entries of the other's; the pairs are found by a sorted join while planning.
    """
    pa, pb = a.pattern, b.pattern
    if pa.is_diagonal and _is_one(a.values):
        return b.between(b.domain, a.codomain).restricted(keep)
    if pb.is_diagonal and _is_one(b.values):
        return a.between(b.domain, a.codomain).restricted(keep)
    if pa.is_diagonal:
        b = b.restricted(keep)
        pb = b.pattern
    elif pb.is_diagonal:
        a = a.restricted(keep)
        pa = a.pattern
    if pa.is_diagonal:
        pattern, values = pb, a.values.take(pb.rows, b.dtype).times(b.values, b.dtype)
    elif pb.is_diagonal:
        pattern, values = pa, a.values.times(b.values.take(pa.cols, a.dtype), a.dtype)
    else:
        plan = product(pa, pb, limit)
        plan = plan if keep is None else plan.restricted(keep(plan.pattern.rows, plan.pattern.cols))
        pattern = plan.pattern
        left, right = a.values.take(plan.left, a.dtype), b.values.take(plan.right, a.dtype)
        values = left.times(right, a.dtype).summed(plan.starts)
    return Sparse(pattern, values, b.domain, a.codomain)


def add_sparse(a: Sparse, b: Sparse) -> Sparse:
    """Return a + b: the union of the patterns.  Cost: one addition for each place of both, when the numbers are formed."""
    plan = union(a.pattern, b.pattern)
    values = union_of_values(a.values, plan.left, b.values, plan.right, plan.pattern.nnz)
    into = unify(a.domain, b.domain, "the domains of two sparse summands")
    out = unify(a.codomain, b.codomain, "the codomains of two sparse summands")
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    return Sparse(plan.pattern, values, into, out)


def join_sparse(parts: Sequence[tuple[Sparse, Any, Any]], domain: ArraySpace, codomain: ArraySpace) -> Sparse:
    """Return Σ of operators placed among these spaces: ``(op, rows, cols)`` says where op's rows and columns lie.

    None stands for their own places.  Cost: one sort of all places, one addition for each place that several share.
    """
    shape = (codomain.size, domain.size)
    if len(parts) == 1 and parts[0][1] is None and parts[0][2] is None:
        return parts[0][0].between(domain, codomain)
    rows = [op.rows if places is None else places[op.rows] for op, places, _ in parts]
    cols = [op.cols if places is None else places[op.cols] for op, _, places in parts]
    nowhere = np.zeros(0, np.int64)
    pattern, groups = from_entries(np.concatenate([nowhere, *rows]), np.concatenate([nowhere, *cols]), shape)
    values = joined([op.values for op, _, _ in parts]) if parts else LazyValues.of(0, 0)
    return Sparse(pattern, values.take(groups.order).summed(groups.starts), domain, codomain)


def columns_of(op: Sparse, start: int, into: ArraySpace) -> Sparse:
    """The operator on part of its columns, as many as this space has entries."""
    at = np.flatnonzero((op.cols >= start) & (op.cols < start + into.size))
    pattern = Pattern(op.rows[at], op.cols[at] - start, (op.pattern.shape[0], into.size))
    return Sparse(pattern, op.values.take(at), into, op.codomain)


def rows_of(op: Sparse, start: int, out: ArraySpace) -> Sparse:
    """Part of the operator's rows, as many as this space has entries."""
    at = slice(*op.pattern.starts[[start, start + out.size]])
    pattern = Pattern(op.rows[at] - start, op.cols[at], (out.size, op.pattern.shape[1]))
    return Sparse(pattern, op.values.take(np.arange(op.nnz)[at]), op.domain, out)


def mirror_sparse(a: Sparse) -> Sparse:
    """Return the symmetric operator whose lower triangle is a: a + aᵀ, the diagonal once.

    Cost: the numbers of a, formed once, and one gather.
    """
    pattern, index = a.pattern.remember("mirrored", lambda: _mirrored(a.pattern))
    return Sparse(pattern, a.values.evaluated(a.dtype).take(index), a.domain, a.codomain)


def _mirrored(a: Pattern) -> tuple[Pattern, Any]:
    below = np.flatnonzero(a.rows != a.cols)
    rows, cols = np.concatenate([a.rows, a.cols[below]]), np.concatenate([a.cols, a.rows[below]])
    pattern, groups = from_entries(rows, cols, a.shape)
    index = np.concatenate([np.arange(a.nnz), below])
    return pattern, index if groups.order is None else index[groups.order]


def _is_one(values: LazyValues) -> bool:
    return values.is_static and is_number(values.plan.const) and bool(values.plan.const == 1)


def _raveled(x: Any) -> Any:
    return x if len(x.shape) == 1 else reshape(x, (prod(x.shape),))


def _in_dtype(y: Any, dtype: Any) -> Any:
    return y if dtype is None or y.dtype == dtype else astype(y, dtype)


def _known_space(given: Any, word: str) -> ArraySpace:
    shape = given.shape if isinstance(given, ArraySpace) else given
    if isinstance(shape, int):
        shape = (shape,)
    space = given if isinstance(given, ArraySpace) else None
    if not (isinstance(shape, Sequence) and all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape)):
        raise SpaceError(f"a sparse operator needs the shape of its {word}, a tuple of sizes; got {given!r}.")
    return space if space is not None else ArraySpace(tuple(int(n) for n in shape))


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
    if isinstance(op, Zero) or (isinstance(op, Scaling | Einsum) and _is_nothing(op)):
        nowhere = np.zeros(0, np.int64)
        return Sparse(Pattern(nowhere, nowhere, (out.size, into.size)), LazyValues.of(0, 0), into, out)
    if isinstance(op, Einsum):
        return _from_einsum(op, into, out, limit)
    if isinstance(op, Identity | Scaling | Reshape):
        one = Sparse(diagonal(into.size), LazyValues.of(None, into.size), into, out)
        return one.scaled(op.c) if isinstance(op, Scaling) else one
    if isinstance(op, Slice):
        every = np.arange(prod(op.shape)).reshape(op.shape)
        picked = every[tuple(map(slice, *op.box))].reshape(-1)
        here = np.arange(picked.size)
        rows, cols = (picked, here) if op.transposed else (here, picked)
        return Sparse(Pattern(rows, cols, (out.size, into.size)), LazyValues.of(None, picked.size), into, out)
    return None


def _is_nothing(op: Scaling | Einsum) -> bool:
    """Whether its number is zero."""
    number = op.c if isinstance(op, Scaling) else op.coef
    return is_number(number) and bool(number == 0)


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
    array, labels = contract_all(first.array, first.labels, tuple(rest), keep, sizes)
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
