"""A symmetric sparse matrix by pivots on its diagonal, whose signs tell how many eigenvalues are negative."""

from __future__ import annotations

from typing import Any

import numpy as np

from backsolve.matrices.solve import for_superlu

__all__ = ["SymmetricLU"]

SMALL = 1e-14  # a pivot relative to the largest entry that counts as none


class SymmetricLU:
    """A + shift · I = L U with pivots on the diagonal.

    By Sylvester's law of inertia A has as many negative eigenvalues as negative pivots; ``positive_definite`` says that all
    are positive (where a pivot off the diagonal was needed, they were not).
    Source: Davis, *Direct Methods for Sparse Linear Systems*, 2006, section 4.1.
    """

    def __init__(self, A: Any, shift: float = 0.0) -> None:
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        self._lu: Any = None
        self.positive_definite = False
        if shift:
            A = (A + shift * eye_array(A.shape[0])).tocsc()
        size = float(np.abs(A.data).max(initial=0.0))
        try:
            lu = splu(for_superlu(A), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        except RuntimeError as error:
            if "singular" not in str(error):
                raise
            return
        if np.array_equal(lu.perm_r, lu.perm_c):
            self._lu = lu
            self.positive_definite = bool((lu.U.diagonal() > SMALL * size).all())

    def solve(self, b: Any) -> Any:
        """The x with (A + shift · I) x = b, of a matrix that is positive definite."""
        return self._lu.solve(b)
