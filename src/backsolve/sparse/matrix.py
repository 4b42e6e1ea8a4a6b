"""A sparse Jacobian or Hessian as its reader wants it: rows, columns and numbers, and the way to other libraries."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import multiply, reshape
from backsolve.algebra.elements import array_of_numbers, describe, short
from backsolve.algebra.spaces import ArraySpace, SpaceError, as_sizes
from backsolve.sparse.lazy_values import Combination, LazyValues
from backsolve.sparse.materialize import combine, take
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, from_entries, transposed

__all__ = ["SparseMatrix", "braille"]

_LINES, _CHARACTERS = 18, 76  # of a picture, without its brackets


class SparseMatrix:
    """A matrix with ``data[k]`` at row ``rows[k]`` and column ``cols[k]``, and zeros elsewhere.

    ``rows`` and ``cols`` are static NumPy arrays, sorted row by row, no place twice; ``data`` is an array of any library,
    and may be traced: the matrix is a JAX pytree whose only leaf it is.  ``shape`` is that of the matrix, (entries of the
    output, entries of the input), both counted in row-major order; ``codomain`` and ``domain`` are their shapes.

    Example:
        >>> A = SparseMatrix.from_entries([0, 1, 1], [0, 0, 2], np.array([1.0, 2.0, 3.0]), (2, 3))
        >>> A
        SparseMatrix 2×3, 3 non-zeros (50%), float64
        ⎡⠃⠂⎤
        >>> A @ np.array([1.0, 1.0, 1.0]), A.T.todense().shape
        (array([1., 5.]), (3, 2))
    """

    __array_ufunc__ = None
    __slots__ = ("codomain", "data", "domain", "pattern")

    def __init__(self, pattern: Pattern, data: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> None:
        """Wrap a pattern and its data; `from_entries` and `from_operator` check."""
        if not isinstance(pattern, Pattern):
            raise TypeError(f"SparseMatrix wraps a Pattern, got {short(pattern)}; use SparseMatrix.from_entries.")
        self.pattern = pattern
        self.data = data
        self.domain = domain
        self.codomain = codomain

    @classmethod
    def from_entries(
        cls,
        rows: Any,
        cols: Any,
        data: Any,
        shape: tuple[int, int],
        domain: tuple[int, ...] | None = None,
        codomain: tuple[int, ...] | None = None,
    ) -> SparseMatrix:
        """Return the matrix of this shape with these entries, in any order; places given twice add up.

        Raises `SpaceError` where lengths differ, a place lies outside, or the shape is not that of codomain and domain,
        `TypeError` where data are no numbers or a shape is none.
        """
        if len(as_sizes(shape, "shape of a sparse matrix")) != 2:
            raise TypeError(f"the shape of a sparse matrix is that of rows and columns, such as (3, 4), got {shape!r}.")
        domain = (shape[1],) if domain is None else as_sizes(domain, "domain")
        codomain = (shape[0],) if codomain is None else as_sizes(codomain, "codomain")
        if (prod(codomain), prod(domain)) != tuple(shape):
            raise SpaceError(
                f"a matrix of shape {tuple(shape)} does not map {domain} to {codomain}: that takes "
                f"{(prod(codomain), prod(domain))}."
            )
        pattern, groups = from_entries(rows, cols, (shape[0], shape[1]))
        data = array_of_numbers(data, "from_entries")
        if tuple(data.shape) != (np.size(rows),):
            raise SpaceError(f"{np.size(rows)} places need data of shape ({np.size(rows)},), got {tuple(data.shape)}.")
        values = LazyValues.of(data, np.size(rows)).take(groups.order).summed(groups.starts)
        return cls(pattern, values.array(data.dtype), domain, codomain)

    @classmethod
    def from_operator(cls, op: Sparse) -> SparseMatrix:
        """Return the matrix of a sparse operator.  Raises `TypeError` for another kind; `as_sparse` makes one of it."""
        if not isinstance(op, Sparse):
            raise TypeError(f"from_operator takes a sparse operator, got {describe(op)}; operators.as_sparse makes one.")
        into, out = op.domain, op.codomain
        assert isinstance(into, ArraySpace)
        assert isinstance(out, ArraySpace)
        assert into.shape is not None
        assert out.shape is not None
        return cls(op.pattern, op.data, into.shape, out.shape)

    def as_operator(self) -> Sparse:
        """Return the operator with this matrix, from arrays of the domain's shape to arrays of the codomain's."""
        plan = Combination(self.nnz, (self.nnz,))
        return Sparse(self.pattern, LazyValues((self.data,), plan), ArraySpace(self.domain), ArraySpace(self.codomain))

    # ---- looking ----------------------------------------------------------------------------------------------------
    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """The row of each entry, increasing."""
        return self.pattern.rows

    @property
    def cols(self) -> np.ndarray[Any, Any]:
        """The column of each entry, increasing within a row."""
        return self.pattern.cols

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pattern.shape

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self.pattern.nnz

    @property
    def dtype(self) -> Any:
        """Dtype of the entries."""
        return self.data.dtype

    def __repr__(self) -> str:
        (m, n), nnz = self.shape, self.nnz
        share = f" ({100 * nnz / (m * n):.2g}%)" if m * n else ""
        kind, shape = str(getattr(self.data, "dtype", type(self.data).__name__)), np.shape(self.data)
        if shape not in ((), (nnz,)):  # of a batch of matrices
            kind += f"[{'×'.join(map(str, shape))}]"
        head = f"SparseMatrix {m}×{n}, {nnz} non-zero{'' if nnz == 1 else 's'}{share}, {kind}"
        return "\n".join([head, *braille(self.pattern)])

    # ---- arithmetic -------------------------------------------------------------------------------------------------
    @property
    def T(self) -> SparseMatrix:
        """The transpose.  Cost: one gather of the data."""
        pattern, order = transposed(self.pattern)
        return SparseMatrix(pattern, take(self.data, order), self.codomain, self.domain)

    def __matmul__(self, x: Any) -> Any:
        """Return the product with a vector of shape (n,) or a matrix of shape (n, k).

        Raises `SpaceError` where x has another length.  Cost: one multiplication and addition an entry (and column).
        """
        if not hasattr(x, "shape"):
            x = array_of_numbers(x, "a product with a sparse matrix")
        shape, n = tuple(x.shape), self.shape[1]
        if len(shape) not in (1, 2) or shape[0] != n:
            flat = f" Ravel it to ({n},) first." if prod(shape) == n else ""
            raise SpaceError(
                f"a sparse matrix of shape {self.shape} multiplies arrays of shape ({n},) or ({n}, k), got {shape}.{flat}"
            )
        picked = take(x, self.pattern.cols)
        data = self.data if len(shape) == 1 else reshape(self.data, (self.nnz, 1))
        starts = None if self.pattern.full_rows else self.pattern.starts
        return combine(multiply(data, picked), None, starts)

    # ---- to other forms ---------------------------------------------------------------------------------------------
    def todense(self) -> Any:
        """Return the array of shape ``codomain + domain`` (as `jax.jacobian` would).

        Cost: as large as it is.
        """
        return self.as_operator().todense()

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.csr_array` of its own arrays (of concrete data), with indices of 32 bits where they fit."""
        from scipy.sparse import csr_array

        starts, cols = self.pattern.compressed
        found = csr_array((_writable(self.data), cols.copy(), starts.copy()), shape=self.shape)
        found.has_sorted_indices = found.has_canonical_format = True
        return found

    def to_csc(self) -> Any:
        """Return a `scipy.sparse.csc_array`, as `to_scipy`.  Cost: one gather of the data."""
        return self.T.to_scipy().T

    def to_bcoo(self) -> Any:
        """Return a `jax.experimental.sparse.BCOO`."""
        import importlib

        sparse = importlib.import_module("jax.experimental.sparse")
        places = np.stack([self.rows, self.cols], axis=1)
        return sparse.BCOO((self.data, places), shape=self.shape, indices_sorted=True, unique_indices=True)


def _writable(data: Any) -> Any:
    """A copy of concrete numbers in NumPy, of a dtype that SciPy knows."""
    numbers = np.array(data)
    if numbers.dtype.kind in "bifuc" and numbers.dtype.itemsize != 2:
        return numbers
    return np.zeros(0) if not numbers.size else numbers.astype(np.float32)  # of half precision; of integers' derivatives


def braille(pattern: Pattern, lines: int = _LINES, characters: int = _CHARACTERS) -> list[str]:
    """Return a picture of a pattern, two by four places a character; larger patterns are scaled down to fit.

    A dot says that some place there is non-zero.
    """
    m, n = pattern.shape
    if not m or not n:
        return []
    shrink = max(m / (4 * lines), n / (2 * characters), 1.0)
    height, width = max(1, round(m / shrink)), max(1, round(n / shrink))
    dots = np.zeros((-(-height // 4) * 4, -(-width // 2) * 2), bool)
    dots[pattern.rows.astype(np.int64) * height // m, pattern.cols.astype(np.int64) * width // n] = True
    cells = dots.reshape(dots.shape[0] // 4, 4, dots.shape[1] // 2, 2)
    weights = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    codes = (cells * weights[None, :, None, :]).sum(axis=(1, 3)) + 0x2800
    text = ["".join(map(chr, row)) for row in codes.tolist()]
    if len(text) == 1:
        return [f"⎡{text[0]}⎤"]
    ends = [("⎡", "⎤"), *[("⎢", "⎥")] * (len(text) - 2), ("⎣", "⎦")]
    return [left + row + right for (left, right), row in zip(ends, text, strict=True)]
