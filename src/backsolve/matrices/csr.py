"""The compiled path: matrices of floating-point numbers as SciPy's compressed rows, solved by SciPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from backsolve.algebra.elements import SingularError
from backsolve.matrices.vector import BlockVector

__all__ = ["NumericMatrix", "all_float"]


def all_float(elements: Iterable[Any]) -> bool:
    """Whether all are floating-point numbers, real or complex (exact ints and Fractions are not)."""
    return all(isinstance(element, _COMPILED) for element in elements)


# What SciPy's solvers compute with; half and extended precision go the general way, which keeps them.
_COMPILED = (float, complex, np.float32, np.complex64)


class NumericMatrix:
    """A matrix of numbers in compressed sparse rows.  Immutable; what solving prepares is kept."""

    def __init__(self, csr: Any) -> None:
        self.csr = csr

    @classmethod
    def of(cls, A: Any) -> NumericMatrix:
        """From a SciPy sparse matrix or a dense 2-D array; duplicates are added, as SciPy does, stored zeros dropped."""
        from scipy.sparse import csr_array

        csr = csr_array(A)
        if not csr.has_canonical_format or not np.all(csr.data):
            csr = csr.copy()
            csr.sum_duplicates()
            csr.eliminate_zeros()
        return cls(csr)

    @classmethod
    def from_entries(cls, entries: Mapping[tuple[int, int], Any], shape: tuple[int, int]) -> NumericMatrix:
        """From numbers by (row, column)."""
        from scipy.sparse import coo_array

        places = np.array(list(entries), dtype=np.intp).reshape(-1, 2)
        data = np.array(list(entries.values())) if entries else np.zeros(0)
        return cls(coo_array((data, (places[:, 0], places[:, 1])), shape=shape).tocsr())

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return (int(self.csr.shape[0]), int(self.csr.shape[1]))

    @cached_property
    def has_diagonal(self) -> bool:
        """Whether a diagonal entry is stored and not zero (NaN counts)."""
        return bool(np.any(self.csr.diagonal() != 0))

    def entries(self) -> dict[tuple[int, int], Any]:
        """The numbers by (row, column), as Python's own."""
        coo = self.csr.tocoo()
        return dict(zip(zip(coo.row.tolist(), coo.col.tolist(), strict=True), coo.data.tolist(), strict=True))

    @cached_property
    def _transposed(self) -> NumericMatrix:
        return NumericMatrix(self.csr.T.tocsr())

    def transposed(self) -> NumericMatrix:
        """The transpose, made once."""
        return self._transposed

    def identity_minus(self) -> NumericMatrix:
        """I − self."""
        from scipy.sparse import eye_array

        return NumericMatrix((eye_array(self.shape[0], format="csr") - self.csr).tocsr())

    def times(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The product with a vector or a matrix of numbers."""
        if x.shape[0] != self.shape[1]:
            raise ValueError(f"a matrix of {self.shape[0]} × {self.shape[1]} cannot act on shape {x.shape}.")
        product: np.ndarray[Any, Any] = self.csr @ x
        return product

    @cached_property
    def _finite(self) -> bool:
        return bool(np.all(np.isfinite(self.csr.data)))

    @cached_property
    def triangle(self) -> bool | None:
        """True where all entries lie below the diagonal, False where all lie above, None for anything else."""
        csr = self.csr
        rows = np.repeat(np.arange(csr.shape[0], dtype=csr.indices.dtype), np.diff(csr.indptr))
        if np.all(csr.indices < rows):
            return True
        return False if np.all(csr.indices > rows) else None

    @cached_property
    def _negated(self) -> Any:
        """I − self as SciPy's triangular solver takes it without converting or changing it.

        That is by columns where it is lower triangular, by rows where it is upper: SciPy then solves with the lower
        triangle as it stands, and writes nothing into it but the ones of the diagonal, which are there.
        """
        from scipy.sparse import eye_array

        form = "csc" if self.triangle else "csr"
        A = (eye_array(self.shape[0], format=form) - self.csr.asformat(form)).asformat(form)
        if A.nnz <= np.iinfo(np.intc).max:  # what SuperLU counts with
            A.indices, A.indptr = A.indices.astype(np.intc, copy=False), A.indptr.astype(np.intc, copy=False)
        return A

    def substitute(self, diagonal: Sequence[Any] | None, b: Any, order: Callable[[], Sequence[int]]) -> Any:
        """The x with D x = N x + b for this N, or None where b is not a vector (or matrix) of floats, or
        where a number is not finite: SciPy would spread a NaN to rows that do not depend on it.

        ``order`` gives a topological order of the rows where they are not in one.
        """
        rhs, repack = _numeric_rhs(b)
        if rhs is None or not self._finite or not np.all(np.isfinite(rhs)):
            return None
        n = self.shape[0]
        if rhs.shape[0] != n:
            raise ValueError(f"solving with {n} × {n} takes a vector of {n} blocks, got one of {rhs.shape[0]}.")
        scale = None
        if diagonal is not None:
            scale = np.asarray(diagonal)
            if not np.all(np.isfinite(scale)):
                return None
            if np.any(scale == 0):
                raise SingularError(f"the matrix is singular: row {int(np.argmin(scale != 0))} has 0 on the diagonal.")
        if self.triangle is None:
            permutation = np.asarray(order())
            inner = NumericMatrix(self.csr[permutation][:, permutation])
            part = None if scale is None else scale[permutation]
            solved = inner._triangular(part, rhs[permutation])
            x = np.empty_like(solved)
            x[permutation] = solved
            return repack(x)
        return repack(self._triangular(scale, rhs))

    def _triangular(self, scale: Any, rhs: Any) -> Any:
        dtypes = [self.csr.dtype, rhs.dtype, *(() if scale is None else (scale.dtype,))]
        # SciPy computes in double precision; the result has the precision its operands have.
        return self._in_double(scale, rhs).astype(np.result_type(np.float32, *dtypes), copy=False)

    def _in_double(self, scale: Any, rhs: Any) -> Any:
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import spsolve_triangular

        if scale is None:
            return spsolve_triangular(self._negated, rhs, lower=bool(self.triangle), unit_diagonal=True, overwrite_A=True)
        A = (diags_array(scale, format="csc") - self.csr.tocsc()).tocsc()
        return spsolve_triangular(A, rhs, lower=bool(self.triangle))


def _numeric_rhs(b: Any) -> tuple[Any, Callable[[Any], Any]]:
    if isinstance(b, np.ndarray) and (b.dtype.char in "fdFD" or b.dtype.kind in "iub") and b.ndim in (1, 2):
        return b, lambda x: x
    if isinstance(b, (BlockVector, list, tuple)) and b and all_float(b):
        kind = type(b)
        return np.array(list(b)), lambda x: kind(x.tolist())
    return None, lambda x: x
