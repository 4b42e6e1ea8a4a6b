"""The numbers in elements, operators and arrays, as pictures have room for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backsolve.algebra.arrays import is_array, is_number
from backsolve.algebra.elements import is_zero
from backsolve.algebra.spaces import ArraySpace
from backsolve.elimination.borders import as_scalar_edge
from backsolve.operators import LinearOperator
from backsolve.operators.base import Identity, Scaling
from backsolve.operators.closed_form import dense_array
from backsolve.operators.einsum import Einsum, Factor
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Reshape, Slice
from backsolve.planning.costs import AbstractArray

__all__ = ["Grid", "grid_of", "number_of", "operator_grid", "told", "written"]

# What refuses to become numbers: a tracer, a tensor that records, an array that was given away, an operator of the user's.
UNKNOWN = (TypeError, ValueError, RuntimeError, ArithmeticError)
PLACES = 65_536  # of a matrix that is worked out to be drawn
SIDE = 16  # rows and columns of a small picture of an array


class Grid(NamedTuple):
    """An array as a small picture: its shape, rows and columns drawn, and their numbers row by row.

    Of an array that has more rows or columns, the number in each square that is largest in absolute value.
    """

    shape: tuple[int, ...]
    rows: int
    cols: int
    numbers: tuple[float, ...]


def grid_of(x: Any) -> Grid | None:
    """The picture of an array of real numbers, None of anything else."""
    if isinstance(x, LinearOperator | AbstractArray) or is_zero(x):
        return None
    try:
        array = np.asarray(x)
    except UNKNOWN:
        return None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        return None
    shape = array.shape
    if not array.size:
        return None
    if array.ndim == 0:
        return Grid((), 1, 1, (float(array),))
    flat: NDArray[np.float64] = array.astype(float).reshape(shape[0] if array.ndim > 1 else 1, -1)
    (m, n), (rows, cols) = flat.shape, (min(s, SIDE) for s in flat.shape)
    if (rows, cols) == (1, SIDE):  # a vector that is long, in lines
        rows, cols = min(-(-n // SIDE), SIDE), SIDE
        flat = np.concatenate([flat.ravel(), np.full(-n % SIDE, np.nan)]).reshape(-1, SIDE)
        m, n = flat.shape
    numbers = []
    for r in np.array_split(np.arange(m), rows):
        for c in np.array_split(np.arange(n), cols):
            square = flat[r[0] : r[-1] + 1, c[0] : c[-1] + 1].ravel()
            square = square[~np.isnan(square)] if square.size > 1 else square
            numbers.append(float(square[np.argmax(np.abs(square))]) if square.size else float("nan"))
    return Grid(shape, rows, cols, tuple(numbers))


def number_of(element: Any) -> float | None:
    """The number that an element between two numbers multiplies with; None of anything else, and where it is not known."""
    if isinstance(element, bool) or is_zero(element):
        return None
    if not isinstance(element, LinearOperator):
        return _real(element) if is_number(element) else None
    domain, codomain = element.domain, element.codomain
    if not isinstance(domain, ArraySpace) or not isinstance(codomain, ArraySpace):
        return None
    if not all(space.known and space.size == 1 for space in (domain, codomain)):
        return None
    if isinstance(element, Identity):
        return 1.0
    single = as_scalar_edge(element, domain.dtype)
    if single is not None:
        parts = [_real(x) for x in (single.coef, *(a for a in (single.array, single.mask) if a is not None))]
        return None if None in parts else float(np.prod([x for x in parts if x is not None]))
    if _abstract(element):
        return None
    try:
        return _real(element.apply(np.ones(domain.shape or (), domain.dtype or float)))
    except UNKNOWN:
        return None


def operator_grid(element: Any) -> Grid | None:
    """The matrix of a small operator, the array of a large one that has just one; None where there is neither."""
    if not isinstance(element, LinearOperator):
        return grid_of(element) if is_array(element) and element.ndim else None
    spaces = element.domain, element.codomain
    if not all(isinstance(space, ArraySpace) and space.known for space in spaces) or _abstract(element):
        return None
    m, n = element.codomain.size, element.domain.size
    if 0 < m * n <= PLACES:
        try:
            concrete = _in_numpy(element)
            return None if concrete is None else grid_of(np.reshape(dense_array(concrete), (m, n)))
        except UNKNOWN:
            return None
    factors = element.factors if isinstance(element, Einsum) else ()
    return grid_of(factors[0].array) if len(factors) == 1 else None


def _in_numpy(op: LinearOperator) -> LinearOperator | None:
    """The operator with its arrays in NumPy, where nothing else than this would be computed for its matrix."""
    if isinstance(op, Einsum):
        factors = tuple(Factor(np.asarray(f.array), f.labels) for f in op.factors)
        coef = op.coef if is_number(op.coef) else np.asarray(op.coef)
        return Einsum(factors, op.out, op.into, op.sizes, coef, op.dtypes)
    if isinstance(op, Product | Sum):
        parts = [_in_numpy(part) for part in (op.factors if isinstance(op, Product) else op.terms)]
        known = tuple(part for part in parts if part is not None)
        return None if len(known) < len(parts) else type(op)(known)
    return op if isinstance(op, Identity | Reshape | Slice) or (isinstance(op, Scaling) and is_number(op.c)) else None


def _abstract(element: Any) -> bool:
    parts = element.factors if isinstance(element, Product) else (element,)
    return any(isinstance(f.array, AbstractArray) for op in parts if isinstance(op, Einsum) for f in op.factors)


def _real(x: Any) -> float | None:
    if isinstance(x, AbstractArray) or type(x).__module__.partition(".")[0] == "sympy":
        return None
    try:
        number = np.asarray(x).reshape(())
        return None if number.dtype.kind == "c" else float(number)
    except UNKNOWN:
        return None


def written(x: float) -> str:
    """A number in four digits."""
    return f"{x:.4g}"


def told(x: Any) -> str:
    """The value of an argument: a number, a few of them, or its shape and norm."""
    try:
        array = np.asarray(x)
    except UNKNOWN:
        return "not known yet"
    if array.dtype.kind == "c" and not array.ndim:
        return str(array)
    if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
        return str(array) if array.size == 1 else f"{'×'.join(map(str, array.shape))} {array.dtype}"
    array = np.abs(array).astype(float) if array.dtype.kind == "c" else array.astype(float)
    if array.size == 1 and not array.ndim:
        return written(float(array))
    if array.ndim == 1 and array.size <= 6 and not np.iscomplexobj(x):
        return f"[{', '.join(written(float(v)) for v in array)}]"
    norm = float(np.linalg.norm(array.ravel())) if array.size else 0.0
    return f"{'×'.join(map(str, array.shape))}, norm {written(norm)}"
