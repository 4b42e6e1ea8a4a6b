"""Operators that nothing is known of but what they do to arrays, among sparse ones: as narrow a dense block as will do."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import astype, map_columns, namespace, permute, reshape
from backsolve.algebra.elements import add, is_zero
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace
from backsolve.operators import LinearOperator, O, Product, Sum
from backsolve.operators.closed_form import attempt, first_of, is_opaque
from backsolve.operators.tuples import Parts
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.materialize import concatenate
from backsolve.sparse.operator import Keep, Sparse, compose_sparse
from backsolve.sparse.pattern import Pattern, dense

__all__ = ["Opaque", "flat_space", "pulled", "pushed"]


class Opaque:
    """Σ terms between flat vectors, each known by its application alone; ``nnz`` is what a full matrix has."""

    __slots__ = ("_matrix", "m", "n", "terms")

    def __init__(self, *terms: LinearOperator) -> None:
        self.terms = terms
        self.n = terms[0].domain.size
        self.m = terms[0].codomain.size
        self._matrix: Sparse | None = None

    @staticmethod
    def sum_of(a: Sparse | Opaque, b: Sparse | Opaque) -> Opaque:
        """a + b."""
        return Opaque(*(term for op in (a, b) for term in (op.terms if isinstance(op, Opaque) else (op,))))

    @property
    def work(self) -> float:
        """About how many operations one application takes."""
        return sum(term.work for term in self.terms)

    @property
    def spaces(self) -> tuple[ArraySpace, ArraySpace]:
        """Flat domain and codomain."""
        return flat_space(self.terms[0].domain), flat_space(self.terms[0].codomain)

    def image(self, columns: Any) -> Any:
        """The images of the columns of an n × k array."""
        return self._mapped(columns, self.terms)

    def preimage(self, rows: Any) -> Any:
        """The transpose's images of the columns of an m × k array."""
        return self._mapped(rows, [term.transpose() for term in self.terms])

    def _mapped(self, columns: Any, terms: Sequence[LinearOperator]) -> Any:
        if isinstance(columns, np.ndarray):
            columns = _opaque_in(self.terms).lifted(columns)

        def image(x: Any) -> Any:
            total: Any = None
            for term in terms:
                y = _raveled(term.apply(_split(x, term.domain)), term.codomain)
                total = y if total is None else add(total, y)
            return total

        return map_columns(image, columns)

    def matrix(self) -> Sparse:
        """All of it as one dense block, by columns or rows, whichever are fewer; made once."""
        if self._matrix is None:
            into, out = self.spaces
            pattern = dense(self.m, self.n)
            columns_first = self.n <= self.m

            def by_columns() -> Any:
                return self.image(np.eye(self.n, dtype=into.dtype))

            def by_rows() -> Any:
                return _turned(self.preimage(np.eye(self.m, dtype=out.dtype)))

            array = first_of(by_columns, by_rows) if columns_first else first_of(by_rows, by_columns)
            self._matrix = Sparse(pattern, LazyValues.of(reshape(array, (self.m * self.n,)), self.m * self.n), into, out)
        return self._matrix


def pushed(left: Opaque, right: Sparse | Opaque | None, keep: Keep | None = None) -> Sparse:
    """Return left ∘ right: the columns of right that are not zero, pushed through left.  None is the identity."""
    if right is None:
        return left.matrix().restricted(keep)
    if isinstance(right, Opaque):
        if min(right.n, left.n) <= left.m:
            return pushed(left, right.matrix(), keep)
        return pulled(left.matrix(), right, keep)
    cols = np.flatnonzero(right.pattern.col_counts)
    if left._matrix is None and cols.size <= min(left.m, left.n):
        narrow: Sparse | None = attempt(lambda: _pushed(left, right, cols))
        if narrow is not None:
            return narrow.restricted(keep)
    return compose_sparse(left.matrix(), right, keep=keep)


def _pushed(left: Opaque, right: Sparse, cols: Any) -> Sparse:
    into, out = right.domain, left.spaces[1]
    place = np.zeros(right.pattern.shape[1], np.int64)
    place[cols] = np.arange(cols.size)
    keys = right.rows * np.int64(cols.size) + place[right.cols]
    array = right.values.spread(keys, left.n * cols.size).array(right.dtype)
    image = left.image(reshape(array, (left.n, cols.size)))
    pattern = Pattern(np.repeat(np.arange(left.m), cols.size), np.tile(cols, left.m), (left.m, into.size))
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    return Sparse(pattern, LazyValues.of(reshape(image, (pattern.nnz,)), pattern.nnz), into, out)


def pulled(left: Sparse | Opaque, right: Opaque, keep: Keep | None = None) -> Sparse:
    """Return left ∘ right: the rows of left that are not zero, pulled back through right."""
    if isinstance(left, Opaque):
        return pushed(left, right, keep)
    rows = np.flatnonzero(left.pattern.row_counts)
    if right._matrix is None and rows.size <= min(right.m, right.n):
        narrow: Sparse | None = attempt(lambda: _pulled(left, right, rows))
        if narrow is not None:
            return narrow.restricted(keep)
    return compose_sparse(left, right.matrix(), keep=keep)


def _pulled(left: Sparse, right: Opaque, rows: Any) -> Sparse:
    into, out = right.spaces[0], left.codomain
    place = np.zeros(left.pattern.shape[0], np.int64)
    place[rows] = np.arange(rows.size)
    turned = left.transpose()
    assert isinstance(turned, Sparse)
    keys = turned.rows * np.int64(rows.size) + place[turned.cols]
    array = turned.values.spread(keys, right.m * rows.size).array(left.dtype)
    image = _turned(right.preimage(reshape(array, (right.m, rows.size))))
    pattern = Pattern(np.repeat(rows, right.n), np.tile(np.arange(right.n), rows.size), (out.size, right.n))
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    return Sparse(pattern, LazyValues.of(reshape(image, (pattern.nnz,)), pattern.nnz), into, out)


def _opaque_in(terms: Sequence[LinearOperator]) -> LinearOperator:
    """The first operator that nothing is known of, also inside products and sums."""
    waiting = list(terms[::-1])
    while waiting:
        op = waiting.pop()
        if is_opaque(op):
            return op
        if isinstance(op, Product | Sum):
            waiting.extend(op.factors if isinstance(op, Product) else op.terms)
    return terms[0]


def flat_space(space: Space) -> ArraySpace:
    """The vectors that hold an array, or the arrays of a tuple one after the other, in row-major order."""
    return ArraySpace((space.size,), _dtype(space))


def _dtype(space: Space) -> Any:
    if not isinstance(space, TupleSpace):
        return space.dtype
    dtypes = [d for d in map(_dtype, space.parts) if d is not None and _moves(d)]
    if not dtypes or len(set(dtypes)) == 1:
        return dtypes[0] if dtypes else None
    return np.result_type(*dtypes)


def _moves(dtype: Any) -> bool:
    """Whether arrays of this dtype carry numbers (JAX's float0, the tangents of integers, does not)."""
    return getattr(dtype, "itemsize", 1) > 0


def _split(x: Any, space: Space) -> Any:
    """A flat vector as an element of the space."""
    if isinstance(space, TupleSpace):
        ends = np.cumsum([part.size for part in space.parts]).tolist()
        return Parts(_split(x[end - part.size : end], part) for end, part in zip(ends, space.parts, strict=True))
    if not _moves(space.dtype):
        return O
    x = x if space.dtype is None or x.dtype == space.dtype else astype(x, space.dtype)
    return x if space.shape == tuple(x.shape) else reshape(x, space.shape or ())


def _raveled(y: Any, space: Space) -> Any:
    """An element of the space as a flat vector."""
    if not isinstance(space, TupleSpace):
        return reshape(y, (prod(y.shape),))
    parts = list(zip(y, space.parts, strict=True))
    like = next(part for part, _ in parts if not is_zero(part))
    dtype = _dtype(space)
    flat = []
    for part, own in parts:
        absent = is_zero(part) or (isinstance(own, ArraySpace) and not _moves(own.dtype))
        x = namespace(like).zeros((own.size,), dtype=dtype) if absent else _raveled(part, own)
        flat.append(x if dtype is None or x.dtype == dtype else astype(x, dtype))
    return concatenate(flat)


def _turned(x: Any) -> Any:
    return permute(namespace(x), x, (1, 0))
