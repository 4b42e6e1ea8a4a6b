"""The engine for concrete numbers: SciPy's SuperLU, with partial pivoting and iterative refinement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.engines.hosted import HostFactors
from backsolve.engines.layout import LONG, Columns, Layout, Stretched

__all__ = ["SuperLU"]

Array = np.ndarray[Any, Any]

PAIRED = 0.02  # share of places with a mirror image from which rows and columns may belong together
BAND = 20  # times the entries of the matrix inside a band: factored in it
FULL = 30  # times the entries of the matrix in its factors: worth trying another order
TRIED = 5_000_000  # entries of factors up to which another order is tried
GENTLE = 0.01  # a pivot on the diagonal is taken if it is so many times the largest of its column


class Order(NamedTuple):
    """The stretched matrix in an order of rows and columns, and how it is to be factored."""

    columns: Columns
    rows: Array
    cols: Array
    paired: bool  # pivots on the diagonal are preferred, so that rows and columns are ordered alike
    final: bool  # whether the order is fill-reducing already
    narrow: bool = False  # a band, whose columns are too short for SuperLU to take several at a time


class SuperLU(HostFactors):
    """P A Q = L U, with the order of a first factorization kept in the layout for later ones.

    Where rows and columns belong together (nodes with nodes, sources with outputs), pivots on the diagonal are preferred,
    which keeps the fill small; where such factors do not solve well, partial pivoting takes over.  Long rows are stretched.
    Raises `SingularError`, naming the unknown whose pivot is missing, and `PatternTooLargeError` where the factors do not
    fit into memory.
    Source: Demmel, Eisenstat, Gilbert, Li and Liu, *A supernodal approach to sparse partial pivoting*, 1999 (SuperLU); Li
    and Demmel, *SuperLU_DIST*, 2003 (few or no pivots, and refinement).
    """

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        super().__init__(layout, data)
        self._stretched = layout.remember("stretched", lambda: Stretched(layout.size, layout.columns))
        orders: list[Order] = layout.remember("order", list)
        self._factor(orders[0] if orders else _first_order(self._stretched))

    def _factor(self, order: Order) -> None:
        from scipy.sparse import csc_array
        from scipy.sparse.linalg import splu

        N = self._stretched.size
        numbers = self._stretched.numbers(self.matrix.data)[order.columns.order]
        A = csc_array((numbers, order.columns.indices, order.columns.indptr), shape=(N, N))
        spec = "NATURAL" if order.final else "MMD_AT_PLUS_A" if order.paired else "COLAMD"
        gentle: dict[str, Any] = {"diag_pivot_thresh": GENTLE, "options": {"SymmetricMode": True}} if order.paired else {}
        try:
            self._lu = splu(A, permc_spec=spec, panel_size=1 if order.narrow else None, **gentle)
        except RuntimeError as error:
            if "singular" not in str(error):
                raise
            if order.paired:
                self._with_all_pivots()
                return
            raise self._singular() from None
        except MemoryError:
            raise self._too_large(N, A.nnz) from None
        self._order = order
        orders: list[Order] = self.layout.remember("order", list)
        orders[:] = [order if order.final else _reordered(order, np.argsort(self._lu.perm_c))]
        worse = FULL * A.nnz < self._lu.nnz < TRIED  # beyond that a second order might fill the memory
        if order.paired and not order.final and worse and splu(A).nnz < self._lu.nnz / 2:
            self._with_all_pivots()

    def _with_all_pivots(self) -> None:
        """Factor again by partial pivoting, now and for later numbers."""
        order = _unordered(self._stretched, paired=False)
        self._factor(order)

    @property
    def nnz(self) -> int:
        """Number of entries of both factors."""
        return int(self._lu.nnz)

    def _more_careful(self) -> bool:
        """Partial pivoting, where pivots on the diagonal were preferred."""
        if not self._order.paired:
            return False
        self._with_all_pivots()
        return True

    def _substituted(self, b: Array, trans: str) -> Array:
        before, after = (self._order.rows, self._order.cols) if trans == "N" else (self._order.cols, self._order.rows)
        y = self._lu.solve(self._stretched.padded(b)[before], trans)
        x = np.empty_like(y)
        x[after] = y
        solution: Array = x[: b.shape[0]]
        return solution


def _unordered(matrix: Stretched, *, paired: bool) -> Order:
    here = np.arange(matrix.size)
    return Order(matrix.columns._replace(order=np.arange(matrix.columns.order.size)), here, here, paired, False)


def _first_order(matrix: Stretched) -> Order:
    """As the matrix comes, rows and columns paired if the pattern is symmetric enough."""
    indptr, row, _ = matrix.columns
    col = np.repeat(np.arange(matrix.size), np.diff(indptr))
    keys, mirrored = row * np.int64(matrix.size) + col, col * np.int64(matrix.size) + row
    share = np.isin(keys, mirrored, assume_unique=True).mean() if row.size else 0.0
    return _banded(matrix) or _unordered(matrix, paired=bool(share >= PAIRED))


def _banded(matrix: Stretched) -> Order | None:
    """The order of least bandwidth, where that keeps the factors small, as chains do; columns that are full come last.

    Source: Cuthill and McKee, *Reducing the bandwidth of sparse symmetric matrices*, 1969; George, 1971.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching, reverse_cuthill_mckee

    n, (indptr, row, _) = matrix.size, matrix.columns
    col = np.repeat(np.arange(n), np.diff(indptr))
    full = np.diff(indptr) > LONG * np.sqrt(n)
    mate = maximum_bipartite_matching(csr_array((np.ones(row.size), (row, col)), shape=(n, n)), perm_type="row")
    if mate.min(initial=0) < 0:
        return None
    paired = np.empty(n, np.int64)
    paired[mate] = np.arange(n)  # rows by their columns
    narrow = ~(full[col] | full[paired[row]])
    near = csr_array((np.ones(narrow.sum()), (paired[row[narrow]], col[narrow])), shape=(n, n))
    by = reverse_cuthill_mckee((near + near.T).tocsr(), symmetric_mode=True)
    by = np.concatenate([by[~full[by]], by[full[by]]])
    at = np.argsort(by)
    i, j = at[paired[row]], at[col]
    first = np.arange(n)
    np.minimum.at(first, np.maximum(i, j), np.minimum(i, j))
    if 2 * (np.arange(n) - first)[: n - full.sum()].sum() > BAND * row.size:
        return None
    here = Order(matrix.columns._replace(order=np.arange(row.size)), mate, np.arange(n), True, False)
    return _reordered(here._replace(columns=here.columns._replace(indices=paired[row])), by)._replace(
        paired=False, narrow=True
    )


def _reordered(order: Order, by: Array) -> Order:
    """The columns in this order, the rows too where they are paired."""
    indptr, row, source = order.columns
    inverse = np.argsort(by)
    col = inverse[np.repeat(np.arange(by.size), np.diff(indptr))]
    row = inverse[row] if order.paired else row
    sort = np.lexsort((row, col))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(col, minlength=by.size))))
    columns = Columns(indptr.astype(np.int32), row[sort].astype(np.int32), source[sort])
    return order._replace(
        columns=columns, rows=order.rows[by] if order.paired else order.rows, cols=order.cols[by], final=True
    )
