"""Matrices that are known while tracing: of boxes, other shapes, Kronecker deltas and NumPy's arrays, and their products."""

from __future__ import annotations

from math import isfinite, prod
from numbers import Real
from typing import Any

import numpy as np

from backsolve.algebra.spaces import ArraySpace
from backsolve.operators.base import Identity, LinearOperator, Scaling
from backsolve.operators.einsum import Einsum
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Reshape, Slice

__all__ = ["known_array"]


def known_array(op: LinearOperator) -> np.ndarray[Any, Any] | None:
    """The array of an operator, of shape codomain + domain, where all of it is known and finite; None elsewhere.

    Such matrices are nearly empty: one of shifts on a grid of n points has some n entries of n².  They are multiplied by
    SciPy's sparse products.
    Cost: that of writing down the zeros, where dense products of n × n matrices take n³.

    Example:
        >>> known_array(Product((Reshape((2,), (1, 2)), Slice((2, 2), (0, 0), (1, 2))))).reshape(2, 4)
        array([[1., 0., 0., 0.],
               [0., 1., 0., 0.]])
    """
    domain, codomain = op.domain, op.codomain
    if not isinstance(domain, ArraySpace) or not isinstance(codomain, ArraySpace):
        return None
    matrix = _matrix(op)
    if matrix is None:
        return None
    array = matrix.toarray().reshape((*(codomain.shape or ()), *(domain.shape or ())))
    return array.astype(codomain.dtype or float, copy=False)  # type: ignore[no-any-return]


def _matrix(op: LinearOperator) -> Any:
    """A SciPy matrix of rows in double precision; None where something is not known while tracing."""
    if isinstance(op, Product | Sum):
        parts = [_matrix(part) for part in (op.factors[::-1] if isinstance(op, Product) else op.terms)]
        total = parts[0]
        for part in parts[1:]:
            if total is None or part is None:
                return None
            total = part @ total if isinstance(op, Product) else total + part
        return total
    if not all(isinstance(space, ArraySpace) and space.known for space in (op.domain, op.codomain)):
        return None
    n = op.domain.size
    if isinstance(op, Identity | Reshape):
        return _ones(np.arange(n), np.arange(n), (n, n))
    if isinstance(op, Scaling):
        return float(op.c) * _ones(np.arange(n), np.arange(n), (n, n)) if _is_real(op.c) else None
    if isinstance(op, Slice):
        places = np.arange(prod(op.shape)).reshape(op.shape)[tuple(map(slice, op.starts, op.stops))].ravel()
        box = _ones(np.arange(places.size), places, (places.size, prod(op.shape)))
        return box.T.tocsr() if op.transposed else box
    return _of_einsum(op) if isinstance(op, Einsum) and _is_real(op.coef) else None


def _of_einsum(op: Einsum) -> Any:
    if op.factors:
        if any(type(f.array) is not np.ndarray or f.array.dtype.kind not in "bf" for f in op.factors):
            return None
        from scipy.sparse import csr_array

        array = np.asarray(op.todense(), float).reshape(op.codomain.size, op.domain.size)
        return csr_array(array) if np.isfinite(array).all() else None
    labels = list(dict.fromkeys((*op.out, *op.into)))
    shape = [op.sizes[label] or 0 for label in labels]
    entries = np.indices(shape, sparse=True) if shape else ()
    along = dict(zip(labels, entries, strict=True))

    def places(side: tuple[int, ...]) -> Any:
        at: Any = np.zeros((1,) * len(shape), int)
        for label in side:
            at = at * (op.sizes[label] or 0) + along[label]
        return np.broadcast_to(at, shape).ravel()

    return float(op.coef) * _ones(places(op.out), places(op.into), (op.codomain.size, op.domain.size))


def _is_real(c: Any) -> bool:
    return isinstance(c, Real) and isfinite(c)


def _ones(rows: Any, cols: Any, shape: tuple[int, int]) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows)), (rows, cols)), shape=shape)
