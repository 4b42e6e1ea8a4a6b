"""The kind whose matrix is mostly zero: a static pattern of places, and numbers there that may be traced.

Slices, pads, gathers, scatters, stencils and incidence matrices are of this kind.  Patterns are worked out while planning
(`patterns`), numbers when values flow (`values`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, astype, is_array, reshape
from backsolve.algebra.elements import describe, is_number
from backsolve.algebra.spaces import ArraySpace, Space, SpaceError, unify
from backsolve.operators.base import LinearOperator
from backsolve.sparse.lazy_values import Combination, LazyValues, joined
from backsolve.sparse.lazy_values import union as union_of_values
from backsolve.sparse.materialize import combine
from backsolve.sparse.pattern import Pattern, from_entries, product, transposed, union

__all__ = ["Keep", "Sparse", "add_sparse", "compose_sparse", "join_sparse", "mirror_sparse", "sparse"]


Keep = Callable[[Any, Any], Any]  # a mask of the places with these rows and columns


class Sparse(LinearOperator):
    """y[rows[k]] += data[k] · x[cols[k]] for every k, on row-major vectors of the codomain and the domain.

    ``pattern`` is static, ``values`` are the numbers at its places.  Both spaces are known.  Build one from rows, columns
    and data with `sparse`, from another operator with `backsolve.sparse.convert`.
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

    def transpose(self) -> LinearOperator:
        pattern, order = transposed(self.pattern)
        return Sparse(pattern, self.values.take(order), self.codomain, self.domain)

    def conj(self) -> LinearOperator:
        return Sparse(self.pattern, self.values.conj(), self.domain, self.codomain)

    def scaled(self, c: Any) -> LinearOperator:
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
        pattern, values = pb, a.values.take(pb.rows).times(b.values, b.dtype)
    elif pb.is_diagonal:
        pattern, values = pa, a.values.times(b.values.take(pa.cols), a.dtype)
    else:
        plan = product(pa, pb, limit)
        plan = plan if keep is None else plan.restricted(keep(plan.pattern.rows, plan.pattern.cols))
        pattern = plan.pattern
        values = a.values.take(plan.left).times(b.values.take(plan.right), a.dtype).summed(plan.starts)
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
