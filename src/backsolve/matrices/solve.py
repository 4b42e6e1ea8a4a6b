"""The backslash: substitution on a sparse triangular matrix whose elements may be anything with + and a product.

One primitive, `substitute(L, b)`: the x with x = L x + b.  `solve(A, b)` splits A = D − N and substitutes.  Elements
are multiplied from the left, rows are visited in topological order, and no product is ever reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from backsolve.algebra.elements import SingularError, describe, is_zero, left_divide
from backsolve.matrices.vector import BlockVector, times_row

__all__ = [
    "CycleError",
    "NumericMatrix",
    "RightHandSide",
    "Triangular",
    "all_float",
    "for_superlu",
    "solve",
    "substitute",
    "topological_order",
]


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
        """I − self; where self has a one on its diagonal there is nothing."""
        from scipy.sparse import coo_array, eye_array

        left = (eye_array(self.shape[0], format="csr") - self.csr).tocoo()
        stored = (left.row != left.col) | (left.data != 0)
        return NumericMatrix(coo_array((left.data[stored], (left.row[stored], left.col[stored])), shape=self.shape).tocsr())

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
        return for_superlu((eye_array(self.shape[0], format=form) - self.csr.asformat(form)).asformat(form))

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
        return spsolve_triangular(for_superlu(A), rhs, lower=bool(self.triangle))


def for_superlu(A: Any) -> Any:
    """A compressed matrix of SciPy's, with indices of the one type that SuperLU counts with, C's int, where they fit.

    SciPy 1.15.0 to 1.17.0 makes wider ones, which its own solvers refuse.
    """
    if A.nnz <= np.iinfo(np.intc).max:
        A.indices, A.indptr = A.indices.astype(np.intc, copy=False), A.indptr.astype(np.intc, copy=False)
    return A


def _numeric_rhs(b: Any) -> tuple[Any, Callable[[Any], Any]]:
    if isinstance(b, np.ndarray) and (b.dtype.char in "fdFD" or b.dtype.kind in "iub") and b.ndim in (1, 2):
        return b, lambda x: x
    if isinstance(b, (BlockVector, list, tuple)) and b and all_float(b):
        kind = type(b)
        return np.array(list(b)), lambda x: kind(x.tolist())
    return None, lambda x: x


class CycleError(ValueError):
    """No numbering makes the matrix triangular: following its entries leads back to the start."""


class Triangular(Protocol):
    """What a matrix must offer to be solved with."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""

    def row(self, i: int) -> Sequence[tuple[int, Any]]:
        """The entries of row i as pairs of column and element."""

    def splitting(self) -> tuple[Sequence[Any] | None, Triangular]:
        """D and N with A = D − N, D diagonal (None for the identity) and N with an empty diagonal."""

    def compiled(self, diagonal: Sequence[Any] | None, b: Any) -> Any:
        """The x with D x = N x + b from a compiled routine, or None where the elements need the general one."""

    def unpack(self, b: Any) -> RightHandSide:
        """b as a list of blocks, checked against the rows of this matrix."""

    def product(self, b: Any) -> Callable[[Any, Any], Any]:
        """How elements are multiplied with the blocks of b."""

    def layout(self, i: int) -> Any:
        """How the blocks of row i are spread over devices, None where their library says nothing of that."""

    def name(self, i: int) -> str:
        """Row i as an error message should call it."""


RightHandSide = tuple[list[Any], Callable[[list[Any]], Any]]  # the blocks, and how to make a result of solved ones


def substitute(L: Triangular, b: Any) -> Any:
    """Return the x with  x = L x + b,  that is (I − L)⁻¹ b = b + L b + L² b + …, for an L that is triangular with an
    empty diagonal under some numbering of its rows.

    Needs only + and a product of the elements, so it serves semirings too.  b is a vector of blocks, a sequence, an
    array, or a matrix of several right-hand sides; x comes back as the same.
    Raises `CycleError` (naming the rows) where L is not triangular, `ValueError` where b does not fit.
    Cost: one product and one sum for each entry of L.  Source: section 1 of the paper.

    Example:
        >>> from fractions import Fraction
        >>> import backsolve as bs
        >>> L = bs.matrix([[0, 0, 0], [Fraction(1, 2), 0, 0], [0, Fraction(1, 3), 0]])
        >>> print(*bs.substitute(L, [Fraction(1), Fraction(0), Fraction(0)]))
        1 1/2 1/6
    """
    _require_matrix(L, "substitute")
    return _solve(None, L, b)


def solve(A: Triangular, b: Any) -> Any:
    """Return A⁻¹ b for a matrix that is triangular under some numbering of its rows: forward or back substitution.

    The diagonal is divided by with what its elements offer: nothing for the identity, exact fractions for ints, a
    linear solve for blocks, ``inverse()`` otherwise.  ``np.linalg.solve(A, b)`` arrives here.
    Raises `CycleError` (naming the rows) where A is not triangular, `SingularError` (naming the row) where a diagonal
    element is missing or cannot be divided by, `ValueError` where b does not fit.
    Cost: one product and one sum for each entry of A, one division a row.

    Example:
        >>> import backsolve as bs
        >>> bs.solve(bs.matrix([[2, 0], [3, 4]]), [2, 11])
        [1, 2]
    """
    _require_matrix(A, "solve")
    diagonal, N = A.splitting()
    return _solve(diagonal, N, b)


def _require_matrix(A: Any, function: str) -> None:
    if not hasattr(A, "splitting"):
        sparse = " SciPy solves with it: scipy.sparse.linalg.spsolve(A.to_csc(), b)." if hasattr(A, "to_csc") else ""
        raise TypeError(f"{function} takes a matrix such as backsolve.matrix([[...]]) makes, got {describe(A)}.{sparse}")


def _solve(diagonal: Sequence[Any] | None, N: Triangular, b: Any) -> Any:
    rows, columns = N.shape
    if rows != columns:
        raise ValueError(f"only a square matrix can be solved with, got {rows} × {columns} blocks.")
    if diagonal is not None:
        for i, d in enumerate(diagonal):
            if is_zero(d):
                raise SingularError(f"the matrix is singular: {N.name(i)} has nothing on the diagonal.")
    x = N.compiled(diagonal, b)
    if x is not None:
        return x
    blocks, repack = N.unpack(b)
    multiply = N.product(b)
    for i in topological_order(rows, N.row, N.name):
        try:
            total = times_row(N.row(i), blocks, multiply, blocks[i], N.layout(i))
        except (TypeError, ValueError) as error:
            error.add_note(f"This was in {N.name(i)}.")
            raise
        if diagonal is not None:
            try:
                total = left_divide(diagonal[i], total)
            except SingularError as error:
                told = SingularError(f"{N.name(i)}, diagonal element {describe(diagonal[i])}: {error}")
                raise told from error.__cause__
        blocks[i] = total
    return repack(blocks)


def topological_order(
    n: int, row: Callable[[int], Iterable[tuple[int, Any]]], name: Callable[[int], str] = "row {}".format
) -> Sequence[int]:
    """Return an order of 0 … n−1 in which i comes after every j that ``row(i)`` names.

    The order as it stands, forwards or backwards, is kept where it serves; otherwise rows become ready first come,
    first served.  Raises `CycleError` naming one cycle.  Cost: linear in the number of entries; nothing recurses.
    """
    lower = upper = True
    for i in range(n):
        for j, _ in row(i):
            lower = lower and j < i
            upper = upper and j > i
        if not (lower or upper):
            break
    if lower:
        return range(n)
    if upper:
        return range(n - 1, -1, -1)
    waiting = [0] * n
    users: list[list[int]] = [[] for _ in range(n)]
    for i in range(n):
        for j, _ in row(i):
            waiting[i] += 1
            users[j].append(i)
    order = [i for i in range(n) if not waiting[i]]
    for j in order:  # grows while it is read
        for i in users[j]:
            waiting[i] -= 1
            if not waiting[i]:
                order.append(i)
    if len(order) < n:
        raise CycleError(_describe_cycle(waiting, row, name))
    return order


def _describe_cycle(waiting: list[int], row: Callable[[int], Iterable[tuple[int, Any]]], name: Callable[[int], str]) -> str:
    """Walk back among the rows that never became ready until one repeats."""
    at = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    while at not in seen:
        seen[at] = len(seen)
        at = next(j for j, _ in row(at) if waiting[j])
    cycle = [i for i, place in seen.items() if place >= seen[at]][::-1]
    start = cycle.index(min(cycle))
    cycle = cycle[start:] + cycle[:start]
    shown = [name(i) for i in [*cycle[:12], *([] if len(cycle) > 12 else cycle[:1])]]
    more = f" → … ({len(cycle)} in all)" if len(cycle) > 12 else ""
    return (
        f"no numbering makes the matrix triangular, a cycle stops it: {' → '.join(shown)}{more}. "
        "Substitution needs a directed acyclic graph; remove an entry of the cycle."
    )
