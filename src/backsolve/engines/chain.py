"""Factors of a long and narrow matrix, whose unknowns are a chain: neighbours are taken together, pair by pair.

With its unknowns cut into X₀ … X_B of w each, every row meets two neighbours Xₜ and Xₜ₊₁ at most, as the rows of a loop do
that is taken apart, of a discretized path, of any banded matrix.  Two stretches of w rows each, one between X_l and X_m, one
between X_m and X_r, are one stretch between X_l and X_r once a QR step has taken X_m out.  All stretches are taken together
two by two at the same time, then those that are left, and so on: of depth log₂ B, and compiled as that many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from backsolve.algebra.arrays import add, concat, conjugate, namespace, pad, reshape, solve_triangular, subtract
from backsolve.engines.base import SingularError, parity
from backsolve.engines.block_order import qr_flops
from backsolve.engines.fronts import cut, product
from backsolve.engines.layout import Layout, amid, ends_of_rows
from backsolve.sparse.materialize import common_dtype, concatenate, same_library
from backsolve.sparse.materialize import take as gather

__all__ = ["ChainFactors", "ChainPlan", "chain_of"]

Index = np.ndarray[Any, Any]

NARROW = 32  # unknowns of a neighbourhood, at most: each takes operations in the square of that
LONG = 64  # neighbourhoods, at least: fewer are one dense front, or a few kinds of them


@dataclass(frozen=True, eq=False)
class ChainPlan:
    """How a matrix is cut into a chain, worked out once.

    ``width`` is w; ``rows`` and ``cols`` are the numbers of the matrix's rows and columns in the order of the chain, those
    beyond its ``size`` being of an identity that fills up both ends; the first ``first`` rows, and as many of the last as
    make up w, meet X₀ and X_B alone.  ``entries`` says where the number of each place of the stretches comes from, and then
    those of the ends: 0 and 1 stand before the matrix's own.
    """

    layout: Layout
    width: int
    first: int
    rows: Index
    cols: Index
    entries: Index

    @property
    def size(self) -> int:
        """How many rows the matrix has."""
        return self.layout.size

    @property
    def stretches(self) -> int:
        """How many stretches there are."""
        return self.cols.size // self.width - 1

    @property
    def flops(self) -> float:
        """Operations of a factorization."""
        return self.stretches * qr_flops(2 * self.width, self.width, 3 * self.width)

    @property
    def nbytes(self) -> int:
        """Size of the factors in numbers of 8 bytes."""
        return 8 * 7 * self.width**2 * self.stretches

    @cached_property
    def ends_last(self) -> Index:
        """The rows in the order of the stretches, then those of the ends."""
        last = self.rows.size - (self.width - self.first)
        return np.concatenate([self.rows[self.first : last], self.rows[: self.first], self.rows[last:]])

    @cached_property
    def row_at(self) -> Index:
        """Where each row is among those of stretches and ends."""
        return np.argsort(self.ends_last)[: self.size]

    @cached_property
    def col_at(self) -> Index:
        """Where each column is in the chain."""
        return np.argsort(self.cols)[: self.size]

    @cached_property
    def sign(self) -> int:
        """The sign with which the product of all pivots is the determinant, where that of every Q is 1."""
        w, s = self.width, self.stretches
        rows, cols = self.ends_last.reshape(-1, w), self.cols.reshape(-1, w)
        lines, nodes = list(rows[:s]), list(cols)
        row_order: list[Index] = []
        col_order: list[Index] = []
        while len(lines) > 1:
            h = len(lines) // 2
            row_order += lines[0 : 2 * h : 2]  # a pair's rows: pivots first, then what is left
            col_order += nodes[1 : 2 * h : 2]
            lines = [*lines[1 : 2 * h : 2], *lines[2 * h :]]
            nodes = [*nodes[0 : 2 * h : 2], *nodes[2 * h :]]
        row_order += [*lines, rows[-1]]
        col_order += nodes
        return parity(np.concatenate(row_order)) * parity(np.concatenate(col_order))

    def factor(self, numbers: Any) -> ChainFactors:
        """The factors of the matrix with these numbers, column by column.

        Cost: ``flops`` operations; a QR, two products and some moves for each of log₂ B levels.
        Raises `SingularError`, naming an unknown, where a pivot of concrete numbers is 0.
        """
        w, s = self.width, self.stretches
        flat = gather(concatenate(common_dtype([same_library(CONSTANTS, numbers), numbers], None)), self.entries)
        places = 2 * w * w * s
        E = reshape(cut(flat, 0, 0, places), (s, w, 2 * w))
        ends = reshape(cut(flat, 0, places, flat.shape[0]), (1, w, 2 * w))
        nodes = np.arange(s + 1)
        arrays: list[Any] = []
        while (h := E.shape[0] // 2) > 0:
            one, other, rest = _pairs(E, h)
            left, middle, last = _pairs(nodes, h)
            Q, R = self._triangular(_taken(one, other, w), middle)
            T = product(conjugate(Q), (0, 2, 1), _others(one, other, w))
            arrays += [Q, R, cut(T, 1, 0, w)]
            E, nodes = _followed(cut(T, 1, w, 2 * w), rest), np.concatenate([left, last])
        arrays += self._triangular(concat([E, ends], 1), nodes)
        return ChainFactors(self, arrays)

    def _triangular(self, F: Any, nodes: Index) -> tuple[Any, Any]:
        """The unitary factor and the triangle of a stack of matrices, whose pivots are these nodes of the chain."""
        xp, (_, r, n) = namespace(F), F.shape
        Q, R = xp.linalg.qr(F, mode="complete" if r > n else "reduced")
        R = cut(R, 1, 0, n)
        if type(R) is np.ndarray:  # where numbers are known only when the program runs, they become infinite
            zero = np.argwhere(np.diagonal(R, axis1=1, axis2=2) == 0)
            if zero.size:
                batch, at = zero[0].tolist()
                node = nodes[batch] if n == self.width else nodes[at // self.width]
                column = int(self.cols[node * self.width + at % self.width])
                raise SingularError(f"the matrix is singular: a pivot of {self.layout.column_label(column)} is 0.")
        return Q, R


CONSTANTS = np.array([0.0, 1.0])


class ChainFactors:
    """A factored chain: of each level Q, the triangle R of the pivots and R's rest U; at last Q and R of both ends."""

    def __init__(self, plan: ChainPlan, arrays: Sequence[Any]) -> None:
        self.plan = plan
        self.arrays = list(arrays)

    def with_arrays(self, arrays: Sequence[Any]) -> ChainFactors:
        """The factors of another matrix of the same pattern."""
        return ChainFactors(self.plan, arrays)

    def solve(self, b: Any) -> Any:
        """The x with A x = b, b of shape (n,) or (n, k): y = Qᴴ b level by level, x = R⁻¹ (y − U x) back.

        Cost: two operations for each number of the factors and each right-hand side.
        """
        plan, w = self.plan, self.plan.width
        b, levels, (Q, R), finish = self._started(b, plan.ends_last)
        y, ends = cut(b, 0, 0, plan.stretches), cut(b, 0, plan.stretches, plan.stretches + 1)
        tops: list[Any] = []
        for Q_t, _, _ in levels:
            one, other, rest = _pairs(y, Q_t.shape[0])
            z = product(conjugate(Q_t), (0, 2, 1), concat([one, other], 1))
            tops.append(cut(z, 1, 0, w))
            y = _followed(cut(z, 1, w, 2 * w), rest)
        x = solve_triangular(R, product(conjugate(Q), (0, 2, 1), concat([y, ends], 1)))
        x = reshape(x, (2, w, x.shape[2]))
        for (_, R_t, U), top in zip(reversed(levels), reversed(tops), strict=True):
            h = top.shape[0]
            left, right, rest = cut(x, 0, 0, h), cut(x, 0, 1, h + 1), cut(x, 0, h, x.shape[0])
            middle = solve_triangular(R_t, subtract(top, product(U, (0, 1, 2), concat([left, right], 1))))
            x = _followed(_alternating(left, middle), rest)
        return finish(x, plan.col_at)

    def solve_transpose(self, g: Any) -> Any:
        """The y with Aᵀ y = g (no conjugate), g of shape (n,) or (n, k): z = R⁻ᵀ (g − Uᵀ z), y = conj(Q) z back.

        Cost: two operations for each number of the factors and each right-hand side.
        """
        plan, w = self.plan, self.plan.width
        g, levels, (Q, R), finish = self._started(g, plan.cols)
        tops: list[Any] = []
        for _, R_t, U in levels:
            h = R_t.shape[0]
            left, middle, rest = _pairs(g, h)
            z = solve_triangular(R_t, middle, transposed=True)
            tops.append(z)
            given = product(U, (0, 2, 1), z)  # of each to its neighbour on the left and to that on the right
            after, before = ((0, 0, 0), (rest.shape[0], 0, 0)), ((1, 0, 0), (rest.shape[0] - 1, 0, 0))
            carried = add(pad(cut(given, 1, 0, w), *after), pad(cut(given, 1, w, 2 * w), *before))
            g = subtract(concat([left, rest], 0), carried)
        z = solve_triangular(R, reshape(g, (1, 2 * w, g.shape[2])), transposed=True)
        rows = product(conjugate(Q), (0, 1, 2), z)
        y, ends = cut(rows, 1, 0, w), cut(rows, 1, w, 2 * w)
        for (Q_t, _, _), z in zip(reversed(levels), reversed(tops), strict=True):
            h = z.shape[0]
            lines = product(conjugate(Q_t), (0, 1, 2), concat([z, cut(y, 0, 0, h)], 1))
            rest = cut(y, 0, h, y.shape[0]) if y.shape[0] > h else None
            y = _followed(reshape(lines, (2 * h, w, lines.shape[2])), rest)
        return finish(concat([y, ends], 0), plan.row_at)

    def slogdet(self) -> tuple[Any, Any]:
        """The sign (of complex numbers, the phase) of the determinant, and the logarithm of its size."""
        sign: Any = self.plan.sign
        size: Any = 0.0
        levels, last = self._levels(self.arrays)
        for factor in (*(array for Q, R, _ in levels for array in (Q, R)), *last):
            signs, sizes = namespace(factor).linalg.slogdet(factor)
            sign, size = sign * namespace(signs).prod(signs), size + namespace(sizes).sum(sizes)
        return sign, size

    @staticmethod
    def _levels(arrays: Sequence[Any]) -> tuple[list[tuple[Any, Any, Any]], tuple[Any, Any]]:
        each = iter(arrays[:-2])
        return list(zip(each, each, each, strict=True)), (arrays[-2], arrays[-1])

    def _started(self, b: Any, order: Index) -> Any:
        """b as blocks in the order of the chain, the factors level by level, those of the ends, and how to come back."""
        n, w, shape = self.plan.size, self.plan.width, tuple(b.shape)
        if len(shape) not in (1, 2) or shape[0] != n:
            raise ValueError(f"a right-hand side of an {n} × {n} matrix has shape ({n},) or ({n}, k), not {shape}.")
        b, *arrays = common_dtype([b, *self.arrays], None)
        k = 1 if len(shape) == 1 else shape[1]
        b = pad(reshape(b, (n, k)), (0, 0), (order.size - n, 0))
        b = reshape(gather(b, order), (order.size // w, w, k))

        def finish(x: Any, places: Index) -> Any:
            return reshape(gather(reshape(x, (order.size, k)), places), shape)

        return b, *self._levels(arrays), finish


# ---- blocks along a first axis -------------------------------------------------------------------------------------------
def _pairs(x: Any, h: int) -> tuple[Any, Any, Any]:
    """The first and the second of each of h pairs, and what follows them (None: nothing)."""
    both = reshape(cut(x, 0, 0, 2 * h), (h, 2, *x.shape[1:]))
    first, second = (reshape(cut(both, 1, k, k + 1), (h, *x.shape[1:])) for k in range(2))
    return first, second, cut(x, 0, 2 * h, x.shape[0]) if x.shape[0] > 2 * h else None


def _alternating(first: Any, second: Any) -> Any:
    """The pairs, one after the other."""
    h, *shape = first.shape
    return reshape(concat([reshape(x, (h, 1, *shape)) for x in (first, second)], 1), (2 * h, *shape))


def _followed(x: Any, rest: Any) -> Any:
    return x if rest is None else concat([x, rest], 0)


def _taken(one: Any, other: Any, w: int) -> Any:
    """Of two stretches [A₁ B₁] and [A₂ B₂] the columns that they share: B₁ over A₂."""
    return concat([cut(one, 2, w, 2 * w), cut(other, 2, 0, w)], 1)


def _others(one: Any, other: Any, w: int) -> Any:
    """Of two stretches [A₁ B₁] and [A₂ B₂] the other columns: A₁ and 0 over 0 and B₂."""
    left, right = cut(one, 2, 0, w), cut(other, 2, w, 2 * w)
    return concat([pad(left, (0, 0, 0), (0, 0, w)), pad(right, (0, 0, w), (0, 0, 0))], 1)


# ---- the plan ------------------------------------------------------------------------------------------------------------
def chain_of(layout: Layout) -> ChainPlan | None:
    """The matrix as a long and narrow chain; None where it is none, or is singular whatever its numbers are.

    Cost: its graph is searched breadth first; a few passes over its rows.
    Source: Cuthill and McKee, *Reducing the bandwidth of sparse symmetric matrices* (1969); Wright, *Stable parallel
    algorithms for two-point boundary value problems* (1992).
    """
    return layout.remember("chain", lambda: _planned(layout))


def _planned(layout: Layout) -> ChainPlan | None:
    from scipy.sparse import block_array, csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching, reverse_cuthill_mckee

    n, (indptr, row, _) = layout.size, layout.columns
    if n < LONG:
        return None
    col = np.repeat(np.arange(n), np.diff(indptr))
    A = csr_array((np.ones(row.size, np.int8), (row, col)), shape=(n, n))
    turned = csr_array(A.T)
    if not (np.diff(A.indptr).all() and np.diff(turned.indptr).all()) or A.nnz > 2 * NARROW * n:
        return None
    both = reverse_cuthill_mckee(csr_array(block_array([[None, A], [turned, None]])), symmetric_mode=True)
    near = both[both >= n].astype(np.int64) - n
    orders = np.arange(n), near, amid(A, turned, near)[1]
    cuts = [parts for cols in orders if (parts := _cut(A, cols)) is not None]
    if not cuts:
        return None
    w, first, rows, cols = min(cuts, key=lambda each: each[0])
    if (maximum_bipartite_matching(A, perm_type="row") < 0).any():
        return None
    more = np.arange(n, rows.size)
    at_row, at_col = np.argsort(rows), np.argsort(cols)
    source = np.concatenate([2 + np.arange(row.size), np.ones(more.size, np.int64)])
    i, j = at_row[np.concatenate([row, more])], at_col[np.concatenate([col, more])]
    stretch = (i - first) // w
    count = rows.size // w - 1
    ends = (stretch < 0) | (stretch == count)
    line = np.where(ends, np.where(stretch < 0, i, first + i - (first + count * w)), (i - first) % w)
    column = np.where(ends, np.where(stretch < 0, j, j - (count - 1) * w), j - stretch * w)
    entries = np.zeros((count + 1) * w * 2 * w, np.int64)
    entries[(np.where(ends, count, stretch) * w + line) * 2 * w + column] = source
    return ChainPlan(layout, w, first, rows, cols, entries)


def _cut(A: Any, cols: Index) -> tuple[int, int, Index, Index] | None:
    """The least width by which a matrix with its columns in this order is a chain, how many rows meet its first
    neighbourhood alone, and its rows and columns in order, filled up; None where there is none that is narrow and leaves
    it long.
    """
    n = cols.size
    low, high = ends_of_rows(A, np.argsort(cols))
    span = int((high - low).max()) + 1
    for w in range(max((span + 1) // 2, 1), min(span, NARROW, n // LONG) + 1):
        for before in range(w):  # entries of the identity in front of the first column
            if ((high + before) // w > (low + before) // w + 1).any():
                continue
            size = -(-(n + before) // w) * w
            front, back = np.arange(before), np.arange(n + before, size)
            filled = [np.concatenate([front, part + before, back]) for part in (low, high)]
            rows = np.argsort(filled[0] + filled[1], kind="stable")
            down, up = (part[rows] // w for part in filled)
            number = np.arange(size)
            least, most = int((number - (down + 1) * w).max()) + 1, int((number - (up - 1) * w).min())
            if max(least, 0) <= min(most, w):
                more = np.arange(n, size)
                every = np.concatenate([more[:before], np.arange(n), more[before:]])
                return w, max(least, 0), every[rows], np.concatenate([more[:before], cols, more[before:]])
    return None
