"""What `scipy.sparse.linalg` asks of a matrix: its shape, its dtype, and products with flat vectors of NumPy's.

Whoever derives from `FlatProducts` is taken by `scipy.sparse.linalg.aslinearoperator`, and so by SciPy's solvers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from backsolve.algebra.arrays import promoted
from backsolve.algebra.elements import array_of_numbers
from backsolve.algebra.spaces import ArraySpace, Space, SpaceError, TupleSpace

__all__ = ["FlatProducts", "Known", "WhereShapesAgree", "dtype_of", "image_of"]

Array = np.ndarray[Any, Any]


class FlatProducts:
    """Products with vectors of NumPy's, in which the entries of all blocks lie one after the other, in row-major order.

    Entries of the domain are columns, those of the codomain are rows.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def flat_shape(self) -> tuple[int, int]:
        """Rows and columns in numbers.  Raises `SpaceError` while one is unknown."""

    @property
    def flat_dtype(self) -> Any:
        """The dtype of the products; where nothing says it, what comes of a vector of double precision."""
        return np.asarray(self._flat_product(np.zeros(self.flat_shape[1]), transposed=False)).dtype

    @abstractmethod
    def _flat_product(self, x: Array, *, transposed: bool) -> Any:
        """A x, or Aᵀ x, for a flat vector of the right length."""

    def matvec(self, x: Any) -> Array:
        """Return A x as a vector of NumPy's, for x of shape (n,) or (n, 1).  Raises `SpaceError` for another length."""
        return self._one(x, transposed=False)

    def rmatvec(self, x: Any) -> Array:
        """Return Aᴴ x, as `matvec`."""
        return np.conj(self._one(np.conj(_checked(x)), transposed=True))

    def matmat(self, X: Any) -> Array:
        """Return A X as a matrix of NumPy's, for X of shape (n, k).  Cost: one product a column."""
        return self._each(X, transposed=False)

    def rmatmat(self, X: Any) -> Array:
        """Return Aᴴ X, as `matmat`."""
        return np.conj(self._each(np.conj(_checked(X)), transposed=True))

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.linalg.LinearOperator` with these products."""
        from scipy.sparse.linalg import LinearOperator

        ways = (FlatProducts.matvec, FlatProducts.rmatvec, FlatProducts.matmat, FlatProducts.rmatmat)
        matvec, rmatvec, matmat, rmatmat = (partial(way, self) for way in ways)
        return LinearOperator(self.flat_shape, matvec, rmatvec, matmat=matmat, rmatmat=rmatmat, dtype=self.flat_dtype)

    def _one(self, x: Any, *, transposed: bool) -> Array:
        x, n = _checked(x), self.flat_shape[not transposed]
        if x.shape not in ((n,), (n, 1)):
            raise SpaceError(f"a product {self._of} takes vectors of shape ({n},), got {x.shape}.")
        y = _own(self._flat_product(x.reshape(n), transposed=transposed))
        y = y.copy() if np.may_share_memory(x, y) else y  # of the identity
        return y.reshape(-1, *x.shape[1:])

    def _each(self, X: Any, *, transposed: bool) -> Array:
        X, n = _checked(X), self.flat_shape[not transposed]
        if X.ndim != 2 or X.shape[0] != n:
            raise SpaceError(f"a product {self._of} takes matrices of shape ({n}, k), got {X.shape}.")
        return _own(self._flat_products(X, transposed=transposed))

    def _flat_products(self, x: Array, *, transposed: bool) -> Any:
        """The products with the columns of a matrix."""
        columns = [self._one(column, transposed=transposed) for column in x.T]
        return np.stack(columns, axis=1) if columns else np.zeros((self.flat_shape[transposed], 0), x.dtype)

    @property
    def _of(self) -> str:
        m, n = self.flat_shape
        return f"with a {type(self).__name__} of {m:,} × {n:,} numbers"


def _checked(x: Any) -> Array:
    return np.asarray(array_of_numbers(x, "a product with a linear operator"))


def _own(y: Any) -> Array:
    """An array of NumPy's that SciPy may write into."""
    array = np.asarray(y)
    return array if array.flags.writeable else array.copy()


class WhereShapesAgree:
    """A method of SciPy's protocol, which reads ``shape``, of a class where that is another one than the matrix's.

    It is there where the two agree.
    """

    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self.what = what  # the shape is or does

    def __get__(self, A: Any, owner: Any = None) -> Any:
        method = getattr(FlatProducts, self.name)
        if A is None:
            return method
        if A.flat_shape != A.shape:
            shape, (m, n) = " × ".join(map(str, A.shape)) or "none", A.flat_shape
            raise TypeError(
                f"the shape of a {type(A).__name__} {self.what}, here {shape}, where SciPy wants the {m:,} × {n:,} numbers "
                "of its matrix: pass A.to_scipy()."
            )
        return partial(method, A)


class Known:
    """An attribute of a class that is there where it is known, and that objects may have of their own."""

    def __init__(self, of: str) -> None:
        self.of = of

    def __get__(self, thing: Any, owner: Any = None) -> Any:
        if thing is None:
            return self
        try:
            return getattr(thing, self.of)
        except SpaceError as error:
            raise AttributeError(str(error)) from error


def dtype_of(*spaces: Space) -> Any:
    """The common dtype of all parts of these spaces that have one of numbers, as NumPy knows it; None where none has."""
    parts = [part for space in spaces for part in (space.parts if isinstance(space, TupleSpace) else (space,))]
    dtypes = [part.dtype for part in parts if isinstance(part, ArraySpace) and isinstance(part.dtype, np.dtype)]
    dtypes = [dtype for dtype in dtypes if dtype.itemsize]  # none as JAX's float0, of the tangents of integers
    return promoted(*dtypes) if dtypes else None


def image_of(x: Array, product: Callable[[Array], Any], *spaces: Space) -> Any:
    """The image of a vector under a linear product: where the spaces are real, that of a complex one part by part."""
    dtype = dtype_of(*spaces)
    if dtype is None or dtype.kind == "c" or not np.iscomplexobj(x):
        return product(x)
    return np.asarray(product(x.real)) + 1j * np.asarray(product(x.imag))
