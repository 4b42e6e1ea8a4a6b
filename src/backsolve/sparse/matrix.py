"""`SparseMatrix`: a sparse Jacobian or Hessian as rows, columns and numbers, and the way to other libraries."""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import (
    add,
    astype,
    conjugate,
    counted,
    is_array,
    is_mask,
    is_number,
    is_spread,
    multiply,
    namespace,
    reshape,
    subtract,
    sum_axes,
)
from backsolve.algebra.elements import array_of_numbers, describe, short
from backsolve.algebra.spaces import ArraySpace, SpaceError, as_sizes
from backsolve.display import viewer
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero, is_scalar
from backsolve.operators.flat import FlatProducts
from backsolve.sparse import arithmetic
from backsolve.sparse.lazy_values import Combination, LazyValues
from backsolve.sparse.materialize import same_library, take
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, diagonal, from_entries, rows_chosen, selected, transposed
from backsolve.sparse.spread import main_diagonal, pulled_shifted, times_shifted, transposed_shifted
from backsolve.sparse.text import braille, percent

__all__ = ["SparseMatrix"]


class SparseMatrix(FlatProducts):
    """A matrix with ``data[k]`` at row ``rows[k]`` and column ``cols[k]``, and zeros elsewhere.

    ``rows`` and ``cols`` are static NumPy arrays, sorted row by row, no place twice; ``data`` is an array of any library,
    and may be traced: the matrix is a JAX pytree whose only leaf it is.  ``shape`` is that of the matrix, (entries of the
    output, entries of the input), both counted in row-major order; ``codomain`` and ``domain`` are their shapes.

    ``+``, ``-``, ``*``, ``/`` and ``@`` take numbers, arrays, other sparse matrices and multiples of `backsolve.I`, from
    either side, as NumPy and SciPy do: ``*`` is entry by entry, ``A + c * I`` a shift, and what is added to an array is
    one.  SciPy's matrices do too, on either side of ``+``, ``-`` and ``@``, and on the right of ``*``.  ``abs(A)`` is entry
    by entry; ``A == B`` says whether they are one object.  Patterns of results are worked out once for each pair of
    patterns, whatever the numbers.  ``A[rows]`` and ``A[rows, columns]`` take numbers, slices and lists that are known while
    tracing; a single row is a vector.

    Example:
        >>> A = SparseMatrix.from_entries([0, 1, 1], [0, 0, 2], np.array([1.0, 2.0, 3.0]), (2, 3))
        >>> A
        SparseMatrix 2×3, 3 non-zeros (50%), float64
        ⎡⠃⠂⎤
        >>> A @ np.array([1.0, 1.0, 1.0]), A.T.todense().shape
        (array([1., 5.]), (3, 2))
        >>> (A @ A.T - 2 * A[:, :2]).todense()
        array([[-1.,  2.],
               [-2., 13.]])
    """

    __array_ufunc__ = None
    __slots__ = ("_mirror", "codomain", "data", "domain", "pattern")

    def __init__(self, pattern: Pattern, data: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> None:
        """Wrap a pattern and its data; `from_entries` and `from_operator` check."""
        if not isinstance(pattern, Pattern):
            raise TypeError(f"SparseMatrix wraps a Pattern, got {short(pattern)}; use SparseMatrix.from_entries.")
        self.pattern = pattern
        self.data = data
        self.domain = domain
        self.codomain = codomain
        self._mirror: SparseMatrix | None = None  # of which this is the transpose, where products with that are cheaper

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

    @property
    def ndim(self) -> int:
        """Number of axes, which is 2."""
        return 2

    def __repr__(self) -> str:
        (m, n), nnz = self.shape, self.nnz
        share = f" ({percent(nnz, m * n)})" if m * n else ""
        kind, shape = str(getattr(self.data, "dtype", type(self.data).__name__)), np.shape(self.data)
        if shape not in ((), (nnz,)):  # of a batch of matrices
            kind += f"[{'×'.join(map(str, shape))}]"
        head = f"SparseMatrix {m}×{n}, {nnz} non-zero{'' if nnz == 1 else 's'}{share}, {kind}"
        return "\n".join([head, *braille(self.pattern)])

    def __str__(self) -> str:
        return f"{self!r}\n(A.to_scipy() makes a csr_array of it, A.to_csc() a csc_array)"  # SciPy refuses it by this text

    def spy(self, path: Any = None, *, title: str = "") -> Any:
        """Return a matplotlib figure of where the entries are, for up to millions of them; written to ``path`` if given.

        Rows and columns are told by their places in output and input, where these have several axes.  With a ``path`` that
        ends in .html a page, whose path is returned: a heat map, with the places and numbers of what is pointed at.
        """
        return viewer("spy")(self, path, title=title)

    # ---- parts ------------------------------------------------------------------------------------------------------
    @property
    def T(self) -> SparseMatrix:
        """The transpose.

        Cost: one gather of the data; of a few diagonals over several devices, shifts of them.
        """
        if self._mirror is not None:
            return self._mirror
        (pattern, order), numbers = transposed(self.pattern), self._numbers("the transpose")
        shifted = transposed_shifted(self.pattern, numbers, self.domain, self.codomain) if is_spread(numbers) else None
        matrix = SparseMatrix(pattern, take(numbers, order) if shifted is None else shifted, self.codomain, self.domain)
        if shifted is not None:
            matrix._mirror = self
        return matrix

    @property
    def H(self) -> SparseMatrix:
        """The conjugate transpose."""
        return self.T.conj()

    def conj(self) -> SparseMatrix:
        """Return the matrix of the complex conjugates."""
        return self._with(conjugate(self.data))

    def diagonal(self, k: int = 0) -> Any:
        """Return the k-th diagonal as a vector, that of the entries (i, i + k); as `numpy.diagonal`.

        Example:
            >>> SparseMatrix.from_entries([0, 1], [0, 0], np.array([2.0, 3.0]), (2, 2)).diagonal()
            array([2., 0.])
        """
        numbers = self._numbers("the diagonal")
        own = main_diagonal(self.pattern, numbers, self.domain, self.codomain) if not k and is_spread(numbers) else None
        if own is not None:
            return own
        (m, n), places = self.shape, self._on_the_diagonal(k)
        size = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
        return arithmetic.spread(take(numbers, places), self.rows[places] + min(k, 0), size)

    def trace(self) -> Any:
        """Return the sum of the diagonal."""
        numbers = self._numbers("the trace")
        return sum_axes(self.diagonal() if is_spread(numbers) else take(numbers, self._on_the_diagonal(0)), (0,))

    def sum(self, axis: int | None = None, dtype: Any = None, out: None = None) -> Any:
        """Return the sum of all entries; with ``axis`` 0 or −2 of each column, with 1 or −1 of each row, as a vector.

        ``dtype`` is what the numbers are made before, as NumPy's; `numpy.sum` arrives here.
        Raises `ValueError` for another axis, `TypeError` for an array to write into.

        Example:
            >>> A = SparseMatrix.from_entries([0, 1, 1], [0, 0, 1], np.array([1.0, 2.0, 3.0]), (2, 2))
            >>> float(A.sum()), A.sum(axis=0), A.sum(axis=1)
            (6.0, array([3., 3.]), array([1., 5.]))
        """
        if out is not None:
            raise TypeError("the sum of a sparse matrix is a new array and cannot be written into out=; assign it instead.")
        if dtype is not None:
            return self.astype(dtype).sum(axis)
        if axis is None:
            return sum_axes(self._numbers("the sum"), (0,))
        if axis not in (0, 1, -1, -2):
            raise ValueError(f"a sparse matrix has the axes 0 and 1, got axis={axis!r}.")
        whole = self.astype(sum_axes(self._numbers("the sum")[:0], (0,)).dtype)  # sums of whole numbers are long ones
        return (whole if axis in (1, -1) else whole.T) @ same_library(np.ones(self.shape[axis]), whole.data)

    def norm(self) -> Any:
        """Return the Frobenius norm (Σ |a|²)^½."""
        numbers = self._numbers("the norm")
        if not namespace(numbers).isdtype(numbers.dtype, ("real floating", "complex floating")):
            numbers = 1.0 * numbers  # squares of whole numbers overflow
        return sum_axes(abs(numbers) ** 2, (0,)) ** 0.5

    def lower(self, k: int = 0) -> SparseMatrix:
        """Return the lower triangle, up to the k-th diagonal; as `numpy.tril`."""
        return self._kept("lower", k, lambda: self.cols - self.rows.astype(np.int64) <= k)

    def upper(self, k: int = 0) -> SparseMatrix:
        """Return the upper triangle, from the k-th diagonal on; as `numpy.triu`."""
        return self._kept("upper", k, lambda: self.cols - self.rows.astype(np.int64) >= k)

    def __getitem__(self, key: Any) -> Any:
        rows, cols = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(rows, tuple) or rows is None or rows is ... or cols is None or cols is ...:
            raise TypeError(f"a part of a sparse matrix is A[rows] or A[rows, columns], got A[{short(key)}].")
        (m, n), every = self.shape, slice(None)
        i, one_row = arithmetic.chosen(rows, m, "row")
        j, one_column = arithmetic.chosen(cols, n, "column")
        if not (isinstance(rows, slice) or one_row or isinstance(cols, slice) or one_column):
            raise IndexError(
                "lists of rows and of columns together name single entries in NumPy; write A[rows][:, columns]."
            )
        part = self
        if not (isinstance(rows, slice) and rows == every):
            part = part._of_rows(i, (rows.start, rows.stop, rows.step) if isinstance(rows, slice) else None)
        if not (isinstance(cols, slice) and cols == every):
            part = part.T._of_rows(j, (cols.start, cols.stop, cols.step) if isinstance(cols, slice) else None).T
        if one_row or one_column:
            flat = part._flat()
            return flat[0] if one_row and one_column else flat
        return part

    def _of_rows(self, rows: Any, key: Any) -> SparseMatrix:
        if key is None:
            pattern, places = rows_chosen(self.pattern, rows)
        else:
            pattern, places = self.pattern.remember_with("rows", key, lambda: rows_chosen(self.pattern, rows))
        return SparseMatrix(pattern, take(self._numbers("a part"), places), self.domain, (rows.size,))

    def _kept(self, kind: str, k: int, mask: Any) -> SparseMatrix:
        def make() -> tuple[Pattern, Any]:
            places = np.flatnonzero(mask())
            return selected(self.pattern, places), places

        pattern, places = self.pattern.remember_with(kind, k, make)
        return SparseMatrix(pattern, take(self._numbers("a triangle"), places), self.domain, self.codomain)

    def _on_the_diagonal(self, k: int) -> Any:
        return self.pattern.remember_with("diagonal", k, lambda: np.flatnonzero(self.cols - self.rows.astype(np.int64) == k))

    def _numbers(self, what: str) -> Any:
        """The data of one matrix.  Raises `SpaceError` of a batch of them."""
        if len(np.shape(self.data)) != 1:
            raise SpaceError(
                f"{what} is that of one sparse matrix, but the data have shape {tuple(np.shape(self.data))}, of a batch; "
                "take each matrix by itself, jax.vmap(lambda A: …)(A)."
            )
        return self.data

    def _with(self, data: Any) -> SparseMatrix:
        return SparseMatrix(self.pattern, data, self.domain, self.codomain)

    # ---- arithmetic -------------------------------------------------------------------------------------------------
    def __matmul__(self, x: Any) -> Any:
        """Return the product with a vector of shape (n,), a matrix of shape (n, k), a sparse matrix or an operator.

        Raises `SpaceError` where x has another length.
        Cost: one multiplication and addition for each pair of entries that meet.
        """
        if isinstance(x, Identity | Scaling):
            self._fits(x, self.shape[1])
            return self if isinstance(x, Identity) else self * x.c
        if isinstance(x, LinearOperator):
            return self.as_operator() @ x
        if hasattr(x, "block_rows") or hasattr(x, "blocks"):
            return NotImplemented
        other = self._as_operand(x)
        if other is not None:
            pattern, data = arithmetic.multiplied(self._beside(x, "a product"), other[:2])
            return SparseMatrix(pattern, data, other[2], self.codomain)
        if hasattr(type(x), "_matmat"):  # SciPy's operators
            raise _lazy("product", x)
        x = x if is_array(x) else array_of_numbers(x, "a product with a sparse matrix")
        if len(x.shape) in (1, 2) and x.shape[0] == self.shape[1] and (is_spread(self.data) or is_spread(x)):
            A, shift = (self, times_shifted) if self._mirror is None else (self._mirror, pulled_shifted)
            shifted = shift(A.pattern, A._numbers("a product"), x, A.domain, A.codomain)
            if shifted is not None:
                return shifted
        return arithmetic.times_array(self.pattern, self._numbers("a product"), x)

    def __rmatmul__(self, x: Any) -> Any:
        if isinstance(x, Identity | Scaling):
            self._fits(x, self.shape[0])
            return self if isinstance(x, Identity) else self * x.c
        if isinstance(x, LinearOperator):
            return x @ self.as_operator()
        other = self._as_operand(x)
        if other is not None:
            pattern, data = arithmetic.multiplied(other[:2], (self.pattern, self._numbers("a product")))
            return SparseMatrix(pattern, data, self.domain, other[3])
        x = x if is_array(x) else array_of_numbers(x, "a product with a sparse matrix")
        shape, m = tuple(x.shape), self.shape[0]
        if len(shape) not in (1, 2) or shape[-1] != m:
            raise SpaceError(
                f"an array of shape ({m},) or (k, {m}) multiplies a sparse matrix of shape {self.shape} from the left, got "
                f"{shape}."
            )
        if len(shape) == 1 and (is_spread(self.data) or is_spread(x)):
            shifted = pulled_shifted(self.pattern, self._numbers("a product"), x, self.domain, self.codomain)
            if shifted is not None:
                return shifted
        return self.T @ x if len(shape) == 1 else (self.T @ x.T).T

    def __add__(self, other: Any) -> Any:
        if is_number(other) and other == 0:
            return self  # so that the builtin sum works
        if isinstance(other, Zero):
            return self
        if isinstance(other, Identity | Scaling):
            return self._shifted(other)
        if isinstance(other, LinearOperator):
            total = self.as_operator() + other
            return SparseMatrix.from_operator(total) if isinstance(total, Sparse) else total
        operand = self._as_operand(other)
        if operand is not None:
            pattern, data = arithmetic.added(self._beside(other, "a sum"), operand[:2])
            return SparseMatrix(pattern, data, self.domain, self.codomain)
        if hasattr(type(other), "_matmat"):
            raise _lazy("sum", other)
        if is_array(other) and tuple(other.shape) == self.shape:
            return add(self._flat(self.shape), other)
        if is_array(other) or is_number(other):
            raise TypeError(
                f"cannot add {describe(other)} to a sparse matrix of shape {self.shape}: it would fill every place. Write "
                f"A + c * backsolve.I for a multiple of the identity, or add it to A.toarray(), an array of that shape."
            )
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        operand = self._as_operand(other)
        if operand is not None:
            pattern, data = arithmetic.subtracted(self._beside(other, "a difference"), operand[:2])
            return SparseMatrix(pattern, data, self.domain, self.codomain)
        if is_array(other) and tuple(other.shape) == self.shape:
            return subtract(self._flat(self.shape), other)
        if isinstance(other, LinearOperator) or is_array(other) or is_number(other) or hasattr(type(other), "_matmat"):
            return self + (-other)
        return NotImplemented

    def __rsub__(self, other: Any) -> Any:
        operand = self._as_operand(other)
        if operand is not None:
            pattern, data = arithmetic.subtracted(operand[:2], self._beside(other, "a difference"))
            return SparseMatrix(pattern, data, self.domain, self.codomain)
        if is_array(other) and tuple(other.shape) == self.shape:
            return subtract(other, self._flat(self.shape))
        return (-self if is_number(other) else -1.0 * self) + other  # whole numbers without a sign have no negative

    def __neg__(self) -> SparseMatrix:
        return self._with(-counted(self.data))

    def __pos__(self) -> SparseMatrix:
        return self

    def __abs__(self) -> SparseMatrix:
        """Return the matrix of absolute values."""
        return self if is_mask(self.data) else self._with(abs(self.data))

    def __mul__(self, other: Any) -> Any:
        """Return the product entry by entry, with a number, an array that NumPy would broadcast, or a sparse matrix."""
        if is_scalar(other):
            return self._with(self.data * other)
        if isinstance(other, LinearOperator):
            raise TypeError(f"'*' multiplies a sparse matrix entry by entry; write '@' for its product with {other!r}.")
        operand = self._as_operand(other)
        if operand is not None:
            pattern, data = arithmetic.times_entrywise(self._beside(other, "a product"), operand[:2])
            return SparseMatrix(pattern, data, self.domain, self.codomain)
        if not is_array(other) and not isinstance(other, list | tuple):
            return NotImplemented
        other = array_of_numbers(other, "a product with a sparse matrix")
        return self._with(multiply(self._numbers("a product"), arithmetic.picked(self.pattern, other)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        """Return the quotient by a number, or entry by entry by an array that NumPy would broadcast."""
        if is_scalar(other):
            return self._with(self.data / other)
        if self._as_operand(other) is not None:
            raise TypeError("a quotient by a sparse matrix divides by its zeros; take A.toarray() / B.toarray().")
        if not is_array(other) and not isinstance(other, list | tuple):
            return NotImplemented
        other = array_of_numbers(other, "a quotient of a sparse matrix")
        return self._with(self._numbers("a quotient") / arithmetic.picked(self.pattern, other))

    def _as_operand(self, other: Any) -> tuple[Pattern, Any, tuple[int, ...], tuple[int, ...]] | None:
        """Pattern, numbers, domain and codomain of another sparse matrix, ours or SciPy's; else None."""
        if isinstance(other, SparseMatrix):
            return other.pattern, other._numbers("an operand"), other.domain, other.codomain
        part = arithmetic.of_other_library(other)
        return None if part is None else (*part, (part[0].shape[1],), (part[0].shape[0],))

    def _beside(self, other: Any, what: str) -> tuple[Pattern, Any]:
        """Own pattern and numbers, to go with another matrix: beside one of SciPy's, which comes once, no plan is kept."""
        pattern = self.pattern if isinstance(other, SparseMatrix) else Pattern(self.rows, self.cols, self.shape)
        return pattern, self._numbers(what)

    def _fits(self, op: Identity | Scaling, size: int) -> None:
        if op.space.known and op.space.size != size:
            raise SpaceError(f"{op!r} does not fit a sparse matrix of shape {self.shape}.")

    def _shifted(self, op: Identity | Scaling) -> SparseMatrix:
        m, n = self.shape
        if m != n:
            raise SpaceError(f"a multiple of the identity is added to a square matrix, not to one of shape {self.shape}.")
        self._fits(op, n)
        ones = self.pattern.remember("identity", lambda: diagonal(n))
        numbers = same_library(np.ones(n), self.data)
        part = ones, numbers if isinstance(op, Identity) else numbers * op.c
        pattern, data = arithmetic.added((self.pattern, self._numbers("a sum")), part)
        return self._with(data) if pattern is self.pattern else SparseMatrix(pattern, data, self.domain, self.codomain)

    # ---- to other forms ---------------------------------------------------------------------------------------------
    def todense(self) -> Any:
        """Return the array of shape ``codomain + domain`` (as `jax.jacobian` would).

        Cost: as large as it is.
        """
        return reshape(self._flat(), (*self.codomain, *self.domain))

    @property
    def flat_shape(self) -> tuple[int, int]:
        return self.shape

    @property
    def flat_dtype(self) -> Any:
        return self.dtype

    def _flat_product(self, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        A = arithmetic.compressed(self.pattern, np.asarray(self._numbers("a product")))
        return A.T @ x if transposed else A @ x

    _flat_products = _flat_product

    def toarray(self) -> Any:
        """Return the array of shape ``shape``, as SciPy's matrices do."""
        return self._flat(self.shape)

    def _flat(self, shape: tuple[int, ...] | None = None) -> Any:
        m, n = self.shape
        flat = arithmetic.spread(self._numbers("the array"), self.pattern.keys, m * n)
        return flat if shape is None else reshape(flat, shape)

    def astype(self, dtype: Any) -> SparseMatrix:
        """Return the same matrix with numbers of another dtype."""
        return self._with(astype(self.data, dtype))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Refuse to become an array unasked, as large as it may be.

        The product of SciPy's matrices takes anything for an array, and leaves it to us where that is a single object.
        """
        if _in_scipy_s_product(sys._getframe(1)):
            boxed = np.empty((), object)
            boxed[()] = self
            return boxed
        m, n = self.shape
        raise TypeError(
            f"a SparseMatrix of shape {self.shape} is no NumPy array: A.to_scipy() is SciPy's csr_array (A.to_csc() its "
            f"csc_array) for scipy.sparse, A.toarray() the array of all its {m * n:,} numbers, A.todense() the same in the "
            "shape of the derivative."
        )

    @property
    def addressable_rows(self) -> np.ndarray[Any, Any]:
        """The rows of which this process holds numbers, all of them where no others take part."""
        return np.unique(self.rows[self._addressable[0]]) if self._is_shared else np.arange(self.shape[0])

    @property
    def _is_shared(self) -> bool:
        return not getattr(self.data, "is_fully_addressable", True)

    @property
    def _addressable(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Which entries this process holds, and their numbers."""
        shards = {shard.index[0].indices(self.nnz)[:2]: shard.data for shard in self.data.addressable_shards}
        places = [np.arange(*ends) for ends in sorted(shards)]
        return np.concatenate(places), np.concatenate([np.asarray(shards[ends]) for ends in sorted(shards)])

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.csr_array` of its own arrays (of concrete data), with indices of 32 bits where they fit.

        Where several processes share the numbers, each has its own rows in it (`addressable_rows`), the others empty.
        """
        from scipy.sparse import csr_array

        if self._is_shared:
            places, numbers = self._addressable
            return csr_array((_writable(numbers), (self.rows[places], self.cols[places])), shape=self.shape)
        starts, cols = self.pattern.compressed
        csr = csr_array((_writable(self._numbers("SciPy's form")), cols.copy(), starts.copy()), shape=self.shape)
        csr.has_sorted_indices = csr.has_canonical_format = True
        return csr

    def to_csc(self) -> Any:
        """Return a `scipy.sparse.csc_array`, as `to_scipy`.  Cost: one gather of the data."""
        return self.T.to_scipy().T

    def to_bcoo(self) -> Any:
        """Return a `jax.experimental.sparse.BCOO`."""
        import importlib

        sparse = importlib.import_module("jax.experimental.sparse")
        places = np.stack([self.rows, self.cols], axis=1)
        return sparse.BCOO((self.data, places), shape=self.shape, indices_sorted=True, unique_indices=True)


def _in_scipy_s_product(frame: Any) -> bool:
    """Whether SciPy asks for the right operand of its ``@``; its older matrices ask in the same way for that of ``*``."""
    if not frame.f_globals.get("__name__", "").startswith("scipy.sparse"):
        return False
    while frame is not None and frame.f_code.co_name == "_matmul_dispatch":
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "__matmul__"


def _writable(data: Any) -> Any:
    """A copy of concrete numbers in NumPy, of a dtype that SciPy knows."""
    numbers = np.array(data)
    if numbers.dtype.kind in "bifuc" and numbers.dtype.itemsize != 2:
        return numbers
    return np.zeros(0) if not numbers.size else numbers.astype(np.float32)  # of half precision; of integers' derivatives


def _lazy(what: str, x: Any) -> TypeError:
    """The error for a SciPy operator, which has no numbers to take."""
    return TypeError(
        f"a {what} of a sparse matrix and {describe(x)} has no numbers to form: with "
        "scipy.sparse.linalg.aslinearoperator(A) in place of the sparse matrix A it is an operator too."
    )
