"""Engines for concrete numbers: what they share (refinement, care, what an error names), and SciPy's SuperLU.

A matrix inside a narrow band, such as that of a loop taken apart, is LAPACK's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.spaces import PatternTooLargeError
from backsolve.engines.base import SingularError, SingularMatrixError, parity
from backsolve.engines.layout import LONG, Columns, Layout, Stretched, amid, compressed
from backsolve.engines.selected import selected_inverse
from backsolve.matrices.solve import for_superlu

__all__ = ["HostFactors", "SuperLU"]


Array = np.ndarray[Any, Any]

STEPS = 3  # of refinement, at most
ROUNDING = 4  # units of the last place that a residual may have of its terms
POOR = 1e-6  # a backward error that no regular matrix leaves behind


class HostFactors(ABC):
    """A matrix of concrete numbers, factored, whose solutions are refined until their residual is that of rounding.

    Where refinement does not help, the factors are made again with more care; where that does not either, the matrix is
    singular.  Numbers of less than double precision are factored in double precision.
    Raises `SingularError` where the matrix has entries that are not finite.
    """

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        from scipy.sparse import csc_array

        self.layout = layout
        self.residual: float | None = None  # of the last solution: max |b − A x| / max |b|
        n = layout.size
        numbers = np.asarray(layout.numbers([np.asarray(part) for part in data]))
        self.given_dtype = numbers.dtype
        numbers = numbers.astype(np.result_type(numbers.dtype, np.float64), copy=False)
        if not np.isfinite(numbers).all():
            raise SingularError(f"the matrix has entries that are NaN or infinite, in {self._where_not_finite(numbers)}.")
        self._sizes: dict[str, Array] = {}  # Σⱼ |Aᵢⱼ| ("N") and Σᵢ |Aᵢⱼ| ("T")
        self.matrix = csc_array((numbers, layout.columns.indices, layout.columns.indptr), shape=(n, n))

    @abstractmethod
    def _substituted(self, b: Array, trans: str) -> Array:
        """The solution by the factors as they are; b is real where the matrix is, and in double precision."""

    @abstractmethod
    def _more_careful(self) -> bool:
        """Factor again with more care; False where there is none left to take."""

    def solve(self, b: Any) -> Array:
        """The x with A x = b, refined.  Raises `SingularError` where no x serves."""
        return self._refined(b, self.matrix, "N")

    def solve_transpose(self, b: Any) -> Array:
        """The x with Aᵀ x = b, refined.  Raises `SingularError` where no x serves."""
        return self._refined(b, self.matrix.T, "T")

    def slogdet(self) -> tuple[Any, Any]:
        """The sign (of complex numbers, the phase) of the determinant, and the logarithm of its size.

        Cost: SciPy's SuperLU factors the matrix once, for engines whose factors tell no determinant.
        """
        from scipy.sparse.linalg import splu

        try:
            return _slogdet(splu(for_superlu(self.matrix)))
        except RuntimeError as error:
            if "singular" not in str(error):
                raise
            return self.matrix.dtype.type(0), -np.inf

    def _refined(self, b: Any, A: Any, trans: str) -> Array:
        b = np.asarray(b)
        b = b if b.dtype.kind in "fc" else b.astype(np.float64)
        x = self._solved(b, trans)
        if not np.isfinite(b).all():
            return x
        scale = float(np.abs(b).max(initial=0.0))
        left = b - A @ x
        error = float(np.abs(left).max(initial=0.0))
        for _ in range(STEPS):
            if self._is_rounding(left, x, b, trans):
                break
            better = x + self._solved(left, trans)
            left = b - A @ better
            now = float(np.abs(left).max(initial=0.0))
            if not now < 0.5 * error:
                break
            x, error = better, now
        if not error <= POOR * scale:
            if self._more_careful():
                return self._refined(b, A, trans)
            raise self._singular()
        self.residual = error / scale if scale else 0.0
        return x

    def _is_rounding(self, left: Array, x: Array, b: Array, trans: str) -> bool:
        """Whether each |b − A x|ᵢ is within a few units of the last place of ‖Aᵢ‖₁ ‖x‖ + |bᵢ|."""
        if trans not in self._sizes:
            A = self.matrix
            at = A.indices if trans == "N" else np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
            self._sizes[trans] = np.bincount(at, np.abs(A.data), A.shape[0])
        rows = self._sizes[trans].reshape(-1, *[1] * (b.ndim - 1))
        expected = rows * np.abs(x).max(axis=0, initial=0.0) + np.abs(b)
        return bool((np.abs(left) <= ROUNDING * np.finfo(b.dtype).eps * expected).all())

    def _solved(self, b: Array, trans: str) -> Array:
        b = b.astype(np.result_type(b.dtype, self.matrix.dtype), copy=False)
        if b.dtype.kind == "c" and self.matrix.dtype.kind != "c":
            return self._solved(b.real.copy(), trans) + 1j * self._solved(b.imag.copy(), trans)
        return self._substituted(b, trans)

    # ---- where it fails -----------------------------------------------------------------------------------------------
    def _too_large(self, unknowns: int, nnz: int) -> PatternTooLargeError:
        return PatternTooLargeError(
            f"the factors of a matrix of {unknowns:,} unknowns and {nnz:,} non-zeros ({12 * nnz:,} bytes "
            "before any fill-in) do not fit into memory; an iterative engine (engine='gmres') factors nothing."
        )

    def _where_not_finite(self, numbers: Array) -> str:
        bad = int(np.flatnonzero(~np.isfinite(numbers))[0])
        column = int(np.searchsorted(self.layout.columns.indptr, bad, "right")) - 1
        return f"the column of {self.layout.column_label(column)}"

    def _singular(self) -> SingularMatrixError:
        """Which unknown has no pivot: one that no equation is left for, by the pattern or by zeros, or the smallest one."""
        from scipy.sparse.csgraph import maximum_bipartite_matching
        from scipy.sparse.linalg import splu

        label, A = self.layout.column_label, self.matrix
        nonzero = A.copy()
        nonzero.eliminate_zeros()
        for matrix, where, remedy in (
            (A, "for its pattern alone", "leave out what changes nothing"),
            (nonzero, "here, where entries are 0", "start from another point, where they are not"),
        ):
            unmatched = np.flatnonzero(maximum_bipartite_matching(matrix.tocsr(), perm_type="row") < 0)
            if unmatched.size:
                return SingularMatrixError(
                    f"the Jacobian is singular {where}: {unmatched.size} of {A.shape[0]:,} unknowns have no equation of "
                    f"their own (what is known to be 0 is none), the first is {label(int(unmatched[0]))}.",
                    remedy,
                )
        size = np.abs(A.data).max(initial=0.0)
        nudged = A.copy()
        nudged.data = A.data + 1e-13 * size * np.random.default_rng(0).standard_normal(A.nnz)
        lu = splu(for_superlu(nudged))
        pivots = np.abs(lu.U.diagonal()) / np.maximum(abs(lu.U).max(axis=0).toarray().ravel(), 1e-300)
        worst = int(np.argmin(pivots))
        return SingularMatrixError(
            f"the Jacobian is singular to working precision: the pivot of {label(int(np.argsort(lu.perm_c)[worst]))} is "
            f"{pivots[worst]:.1e} times its column.",
            "remove the equation or unknown that others determine",
        )


PAIRED = 0.02  # share of places with a mirror image from which rows and columns may belong together
BAND = 20  # times the entries of the matrix inside a band: factored in it
DENSE = 4  # times the entries of the factors in a band of one width: LAPACK takes one in a quarter of SuperLU's time
FULL = 30  # times the entries of the matrix in its factors: worth trying another order
TRIED = 5_000_000  # entries of factors up to which another order is tried
GENTLE = 0.01  # a pivot on the diagonal is taken if it is so many times the largest of its column


class Band(NamedTuple):
    """How many diagonals of a matrix there are below and above its main one, and where LAPACK has each entry."""

    below: int
    above: int
    places: Array

    def factor(self, numbers: Array, n: int) -> BandFactors:
        """Factor.  Raises `RuntimeError` for a singular matrix, as SuperLU does."""
        from scipy.linalg import get_lapack_funcs

        diagonals = np.zeros((n, 2 * self.below + self.above + 1), numbers.dtype)
        diagonals.reshape(-1)[self.places] = numbers
        gbtrf, gbtrs = get_lapack_funcs(("gbtrf", "gbtrs"), (diagonals,))
        lu, swaps, info = gbtrf(diagonals.T, self.below, self.above, overwrite_ab=True)
        if info > 0:
            raise RuntimeError(f"singular: pivot {info} is 0")
        return BandFactors(self, lu, swaps, gbtrs)


class BandFactors:
    """P L U of a matrix inside a band, by LAPACK: ``lu`` as it stores them, row k swapped with row ``swaps[k]``."""

    def __init__(self, band: Band, lu: Array, swaps: Array, substituted: Callable[..., tuple[Array, int]]) -> None:
        self.band = band
        self.lu = lu
        self.swaps = swaps
        self.nnz = lu.size
        self._substituted = substituted

    def solve(self, b: Array, trans: str) -> Array:
        """The x with A x = b, or Aᵀ x = b where ``trans`` is "T"."""
        return self._substituted(self.lu, self.band.below, self.band.above, b, self.swaps, trans=int(trans == "T"))[0]

    def slogdet(self) -> tuple[Any, Any]:
        """The sign (of complex numbers, the phase) of the determinant, and the logarithm of its size."""
        pivots = self.lu[self.band.below + self.band.above]
        swapped = np.count_nonzero(self.swaps != np.arange(self.swaps.size))
        return np.prod(pivots / np.abs(pivots)) * (1 - 2 * (swapped % 2)), np.log(np.abs(pivots)).sum()


class Order(NamedTuple):
    """The stretched matrix in an order of rows and columns, and how it is to be factored."""

    columns: Columns
    rows: Array
    cols: Array
    paired: bool  # pivots on the diagonal are preferred, so that rows and columns are ordered alike
    final: bool  # whether the order is fill-reducing already
    narrow: bool = False  # inside a band, whose columns are too short for SuperLU to take several at a time
    band: Band | None = None  # where it is of about one width


class SuperLU(HostFactors):
    """P A Q = L U, with the order of a first factorization kept in the layout for later ones.

    Where rows and columns belong together (nodes with nodes, sources with outputs), pivots on the diagonal are preferred,
    which keeps the fill small; where such factors do not solve well, partial pivoting takes over.  Long rows are stretched.
    A matrix inside a band of about one width, as chains have, is factored by LAPACK, by partial pivoting too.
    Raises `SingularError`, naming the unknown whose pivot is missing, and `PatternTooLargeError` where the factors do not
    fit into memory.
    Source: Demmel, Eisenstat, Gilbert, Li and Liu, *A supernodal approach to sparse partial pivoting*, 1999 (SuperLU); Li
    and Demmel, *SuperLU_DIST*, 2003 (few or no pivots, and refinement).
    """

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        super().__init__(layout, data)
        self._stretched = layout.remember("stretched", lambda: Stretched(layout.size, layout.columns))
        if self._stretched.mates.min(initial=0) < 0:  # SuperLU may end the process on such a pattern
            raise self._singular()
        orders: list[Order] = layout.remember("order", list)
        self._factor(orders[0] if orders else _first_order(self._stretched))

    def _factor(self, order: Order) -> None:
        from scipy.sparse.linalg import splu

        N, A = self._stretched.size, None
        try:
            if order.band is None:
                A = self._ordered(order)
                self._lu = _by_superlu(A, order)
            else:
                self._lu = order.band.factor(self._numbers(order), N)
        except RuntimeError as error:
            if "singular" not in str(error) and "failed to factorize" not in str(error):  # what it says inside a supernode
                raise
            if order.paired:
                self._with_all_pivots()
                return
            raise self._singular() from None
        except MemoryError:
            raise self._too_large(N, order.columns.indices.size) from None
        self._order = order
        orders: list[Order] = self.layout.remember("order", list)
        if A is None:
            orders[:] = [order]
            return
        orders[:] = [order if order.final else _reordered(order, np.argsort(self._lu.perm_c))]
        worse = FULL * A.nnz < self._lu.nnz < TRIED  # beyond that a second order might fill the memory
        if order.paired and not order.final and worse and splu(for_superlu(A)).nnz < self._lu.nnz / 2:
            self._with_all_pivots()

    def _numbers(self, order: Order) -> Array:
        numbers: Array = self._stretched.numbers(self.matrix.data)[order.columns.order]
        return numbers

    def _ordered(self, order: Order) -> Any:
        """The stretched matrix in this order."""
        from scipy.sparse import csc_array

        N = self._stretched.size
        return csc_array((self._numbers(order), order.columns.indices, order.columns.indptr), shape=(N, N))

    def _with_all_pivots(self) -> None:
        """Factor again by partial pivoting, now and for later numbers."""
        order = _unordered(self._stretched, paired=False)
        self._factor(order)

    @property
    def nnz(self) -> int:
        """Number of entries of both factors."""
        return int(self._lu.nnz)

    def slogdet(self) -> tuple[Any, Any]:
        """As `HostFactors.slogdet`, from the factors.  Each link of a stretched row is a factor of −1."""
        sign, size = self._lu.slogdet() if isinstance(self._lu, BandFactors) else _slogdet(self._lu)
        links = self._stretched.size - self.layout.size
        return sign * parity(self._order.rows) * parity(self._order.cols) * (1 - 2 * (links % 2)), size

    def inverse_entries(self, rows: Array, cols: Array) -> Array | None:
        """(A⁻¹)[rows[k], cols[k]], from the factors; None where substitutions are the better way."""
        order, n, numbers = self._order, self._stretched.size, self._numbers(self._order)
        lu = self._lu if order.band is None else _by_superlu(self._ordered(order), order)
        col = np.repeat(np.arange(n), np.diff(order.columns.indptr))
        A = _csc(numbers, lu.perm_r[order.columns.indices], lu.perm_c[col], n)
        # Row k of the inverse belongs to column k of the matrix.
        at = lu.perm_c[np.argsort(order.cols)[rows]], lu.perm_r[np.argsort(order.rows)[cols]]
        return selected_inverse(lu.L, lu.U, A, *(places.astype(np.int64) for places in at))

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


def _by_superlu(A: Any, order: Order) -> Any:
    """SuperLU's factors of a matrix in this order."""
    from scipy.sparse.linalg import splu

    spec = "NATURAL" if order.final else "MMD_AT_PLUS_A" if order.paired else "COLAMD"
    gentle: dict[str, Any] = {"diag_pivot_thresh": GENTLE, "options": {"SymmetricMode": True}} if order.paired else {}
    return splu(for_superlu(A), permc_spec=spec, panel_size=1 if order.narrow else None, **gentle)


def _csc(numbers: Array, rows: Array, cols: Array, n: int) -> Any:
    """A square matrix of these entries."""
    from scipy.sparse import coo_array

    return coo_array((numbers, (rows, cols)), shape=(n, n)).tocsc()


def _slogdet(lu: Any) -> tuple[Any, Any]:
    """Of P A Q = L U, with ones on the diagonal of L."""
    pivots = lu.U.diagonal()
    sign = np.prod(pivots / np.abs(pivots)) * parity(lu.perm_r.astype(np.int64)) * parity(lu.perm_c.astype(np.int64))
    return sign, np.log(np.abs(pivots)).sum()


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
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n, (indptr, row, _) = matrix.size, matrix.columns
    col = np.repeat(np.arange(n), np.diff(indptr))
    full = np.diff(indptr) > LONG * np.sqrt(n)
    mate = matrix.mates
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
    inside = (np.arange(n) - first)[: n - full.sum()].sum()
    if 2 * inside > BAND * row.size:
        return None
    here = Order(matrix.columns._replace(order=np.arange(row.size)), mate, np.arange(n), True, False)
    order = _reordered(here._replace(columns=here.columns._replace(indices=paired[row])), by)
    order = order._replace(paired=False, narrow=True)
    return order if full.any() else _in_one_band(matrix, by, int(3 * inside + n)) or order


def _in_one_band(matrix: Stretched, cols: Array, entries: int) -> Order | None:
    """An order of rows and columns inside a band; None where that is much more than the entries of its factors."""
    from scipy.sparse import csr_array

    n, (indptr, row, _) = matrix.size, matrix.columns
    col = np.repeat(np.arange(n), np.diff(indptr))
    A = csr_array((np.ones(row.size, np.int8), (row, col)), shape=(n, n))
    rows, cols = amid(A, csr_array(A.T), cols)
    columns = compressed(np.argsort(rows)[row], np.argsort(cols)[col], n, np.arange(row.size))
    col = np.repeat(np.arange(n), np.diff(columns.indptr))
    under = columns.indices - col
    below, above = int(under.max(initial=0)), int(-under.min(initial=0))
    height = 2 * below + above + 1
    if height * n > DENSE * entries:
        return None
    band = Band(below, above, col * height + below + above + under)
    return Order(columns, rows, cols, paired=False, final=True, narrow=True, band=band)


def _reordered(order: Order, by: Array) -> Order:
    """The columns in this order, the rows too where they are paired."""
    indptr, row, source = order.columns
    inverse = np.argsort(by)
    col = inverse[np.repeat(np.arange(by.size), np.diff(indptr))]
    row = inverse[row] if order.paired else row
    return order._replace(
        columns=compressed(row, col, by.size, source),
        rows=order.rows[by] if order.paired else order.rows,
        cols=order.cols[by],
        final=True,
    )
