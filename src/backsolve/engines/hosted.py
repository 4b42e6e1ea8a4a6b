"""What the engines for concrete numbers share: refinement, when factors are made with more care, and what an error names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from backsolve.algebra.memory import PatternTooLargeError
from backsolve.engines.base import SingularError, SingularMatrixError
from backsolve.engines.layout import Layout

__all__ = ["HostFactors"]

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
        self._sizes: tuple[Array, Array] | None = None  # Σⱼ |Aᵢⱼ| and Σᵢ |Aᵢⱼ|
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
        if self._sizes is None:
            size = abs(self.matrix)
            self._sizes = size.sum(axis=1), size.sum(axis=0)
        rows = self._sizes[trans == "T"].reshape(-1, *[1] * (b.ndim - 1))
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
        lu = splu(nudged)
        pivots = np.abs(lu.U.diagonal()) / np.maximum(abs(lu.U).max(axis=0).toarray().ravel(), 1e-300)
        worst = int(np.argmin(pivots))
        return SingularMatrixError(
            f"the Jacobian is singular to working precision: the pivot of {label(int(np.argsort(lu.perm_c)[worst]))} is "
            f"{pivots[worst]:.1e} times its column.",
            "remove the equation or unknown that others determine",
        )
