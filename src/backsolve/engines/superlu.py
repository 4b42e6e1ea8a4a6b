"""The engine for concrete numbers: SciPy's SuperLU, with partial pivoting and iterative refinement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..operators.memory import PatternTooLargeError
from .base import SingularError
from .layout import Layout

__all__ = ["SuperLU"]

Array = np.ndarray[Any, Any]

STEPS = 3  # of refinement, at most
POOR = 1e-6  # a backward error that no regular matrix leaves behind


class SuperLU:
    """P A Q = L U, with the order Q of a first factorization kept in the layout for later ones.

    Numbers of less than double precision are factored in double precision.
    Raises `SingularError`, naming the unknown whose pivot is missing, and `PatternTooLargeError` where the factors do not
    fit into memory.
    Source: Demmel, Eisenstat, Gilbert, Li and Liu, *A supernodal approach to sparse partial pivoting*, 1999 (SuperLU).
    """

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        from scipy.sparse import csc_array

        self.layout = layout
        n = layout.size
        numbers = np.asarray(layout.numbers([np.asarray(part) for part in data]))
        numbers = numbers.astype(np.result_type(numbers.dtype, np.float64), copy=False)
        if not np.isfinite(numbers).all():
            raise SingularError(f"the matrix has entries that are NaN or infinite, in {self._where_not_finite(numbers)}.")
        self.matrix = csc_array((numbers, layout.columns.indices, layout.columns.indptr), shape=(n, n))
        order: list[Array] = layout.remember("fill-reducing order", list)
        self.order = order[0] if order else None
        self._lu = self._factored(self.matrix)
        if not order:  # this factorization chose one
            order.append(np.argsort(self._lu.perm_c))

    def _factored(self, A: Any) -> Any:
        from scipy.sparse.linalg import splu

        try:
            return splu(A) if self.order is None else splu(A[:, self.order], permc_spec="NATURAL")
        except RuntimeError as error:
            if "singular" not in str(error):
                raise
            raise SingularError(self._diagnosis()) from error
        except MemoryError as error:
            raise PatternTooLargeError(
                f"the factors of a matrix of {A.shape[0]:,} unknowns and {A.nnz:,} non-zeros ({12 * A.nnz:,} bytes "
                "before any fill-in) do not fit into memory; an iterative engine (engine='gmres') factors nothing."
            ) from error

    @property
    def nnz(self) -> int:
        """Number of entries of both factors."""
        return int(self._lu.nnz)

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
        for _ in range(STEPS):
            residual = b - A @ x
            error, scale = (float(np.abs(v).max(initial=0.0)) for v in (residual, b))
            if not error > 8 * np.finfo(b.dtype).eps * scale:
                return x
            better = x + self._solved(residual, trans)
            if not np.abs(b - A @ better).max() < 0.5 * error:
                break
            x = better
        if not np.abs(b - A @ x).max() <= POOR * scale:
            raise SingularError(self._diagnosis())
        return x

    def _solved(self, b: Array, trans: str) -> Array:
        b = b.astype(np.result_type(b.dtype, self.matrix.dtype), copy=False)
        if b.dtype.kind == "c" and self.matrix.dtype.kind != "c":
            return self._solved(b.real.copy(), trans) + 1j * self._solved(b.imag.copy(), trans)
        if self.order is None:
            return self._lu.solve(b, trans)  # type: ignore[no-any-return]
        if trans == "T":
            return self._lu.solve(b[self.order], trans)  # type: ignore[no-any-return]
        x = np.empty_like(b)
        x[self.order] = self._lu.solve(b)
        return x

    # ---- where it fails -----------------------------------------------------------------------------------------------
    def _where_not_finite(self, numbers: Array) -> str:
        bad = int(np.flatnonzero(~np.isfinite(numbers))[0])
        column = int(np.searchsorted(self.layout.columns.indptr, bad, "right")) - 1
        return f"the column of {self.layout.column_label(column)}"

    def _diagnosis(self) -> str:
        """Which unknown has no pivot: one no equation is left for, or the one whose pivot is the smallest."""
        from scipy.sparse.csgraph import maximum_bipartite_matching
        from scipy.sparse.linalg import splu

        label, A = self.layout.column_label, self.matrix
        nonzero = A.copy()
        nonzero.eliminate_zeros()
        unmatched = np.flatnonzero(maximum_bipartite_matching(nonzero.tocsr(), perm_type="row") < 0)
        if unmatched.size:
            return (
                f"the Jacobian is singular for its pattern alone: {unmatched.size} of {A.shape[0]:,} unknowns have no "
                f"equation of their own, the first is {label(int(unmatched[0]))}. "
                "Pass damping, or leave out what changes nothing."
            )
        size = np.abs(A.data).max(initial=0.0)
        nudged = A.copy()
        nudged.data = A.data + 1e-13 * size * np.random.default_rng(0).standard_normal(A.nnz)
        lu = splu(nudged)
        pivots = np.abs(lu.U.diagonal()) / np.maximum(abs(lu.U).max(axis=0).toarray().ravel(), 1e-300)
        worst = int(np.argmin(pivots))
        return (
            f"the Jacobian is singular to working precision: the pivot of {label(int(np.argsort(lu.perm_c)[worst]))} is "
            f"{pivots[worst]:.1e} times its column. Pass damping, or remove the equation or unknown that others determine."
        )
