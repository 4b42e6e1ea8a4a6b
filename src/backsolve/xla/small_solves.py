"""Solves with small matrices, under `vmap` as operations on their rows: elimination with the largest entry as pivot.

On a CPU, jaxlib calls LAPACK for every matrix of a batch, and each call is a border between loops.  Written as operations on
rows a solve is part of the loops around it, in a program that is taken apart into its numbers (see `numbers`).  Jacobians at
1,000 and at 10,000 points, in the time of before (float32, jaxlib 0.10.2, two cores): of a solve with 2 × 2 and with 3 × 3
matrices 0.2 to 0.4, of the accelerations of a double pendulum 0.13 and 0.06, of one and of three implicit steps of 3 × 3
0.04 to 0.2, of a filter's update 0.07 and 0.09; compiled in 0.5 to 1.3 of the time.  With 4 × 4 matrices compiling took
two to three times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import closed_jaxpr
from backsolve.xla.numbers import FULL

__all__ = ["with_small_solves"]

_LARGEST = 3  # rows of a matrix
_COLUMNS = 8  # of what is solved for


def with_small_solves(jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, Sequence[Any]] | None:
    """A program whose small solves by the factors of a matrix (`jax.numpy.linalg.solve`) are operations on rows.

    None where there is none.  Rounding aside the solutions are LAPACK's, where the matrix is regular and all is finite; else
    they are not all finite, as its are not, but another entry or sign may be.
    Cost: where there is such a solve, the program is traced again.
    """
    equation_of = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    solves = {id(eqn): layout for eqn in jaxpr.eqns if (layout := _layout(eqn, equation_of)) is not None}
    if not solves:
        return None

    def program(*arrays: Any) -> list[Any]:
        factors: dict[Any, _Factors] = {}

        def evaluate(eqn: Any, inputs: list[Any]) -> list[Any]:
            if id(eqn) not in solves:
                return jx.bind(eqn, inputs)
            matrix = eqn.invars[0]
            if matrix not in factors:
                factors[matrix] = _factors(inputs[0])
            return [_solution(factors[matrix], inputs[-1], *solves[id(eqn)])]

        return jx.evaluated(closed_jaxpr(jaxpr, consts), arrays, evaluate)

    return jx.trace(program, arrays)[:2]


def _layout(eqn: Any, equation_of: dict[Any, Any]) -> tuple[bool, int] | None:
    """Of a small solve by a matrix's factors: whether the matrix is transposed, and along which axis of the right-hand side.

    The matrix is the equation's first operand, the right-hand side its last.
    """
    if eqn.primitive.name != "custom_linear_solve" or len(eqn.outvars) != 1:
        return None
    lengths, product = eqn.params["const_lengths"], eqn.params["jaxprs"].matvec
    if lengths.matvec != 1 or jx.is_literal(matrix := eqn.invars[0]):
        return None
    factors = eqn.invars[lengths.matvec + lengths.vecmat :][: lengths.solve]
    source = equation_of.get(factors[0]) if factors and not jx.is_literal(factors[0]) else None
    if source is None or source.primitive is not lax.linalg.lu_p:
        return None
    factored = source.invars[0]
    while factored is not matrix and factored in equation_of and equation_of[factored].primitive.name == "stop_gradient":
        factored = equation_of[factored].invars[0]
    shape, right = matrix.aval.shape, eqn.invars[-1].aval
    if factored is not matrix or len(shape) != 2 or not 0 < shape[0] <= _LARGEST:
        return None
    if not matrix.aval.dtype == right.dtype == eqn.outvars[0].aval.dtype or right.dtype not in FULL:
        return None
    layout = _product_along(product.jaxpr)
    return layout if layout is not None and 0 < np.prod(right.shape) <= _COLUMNS * shape[0] else None


def _product_along(jaxpr: Any) -> tuple[bool, int] | None:
    """Of a product of a matrix, the first argument, along one axis of an array: whether it is transposed, and that axis."""
    matrix, array = jaxpr.invars
    order: list[tuple[bool, int]] = []  # of the product's axes: whether the matrix's, and which
    place: tuple[bool, int] | None = None
    at: Any = None
    for eqn in jaxpr.eqns:
        if eqn.primitive is lax.dot_general_p and at is None and list(eqn.invars) in ([matrix, array], [array, matrix]):
            summed, batch = eqn.params["dimension_numbers"]
            if any(batch) or len(summed[0]) != 1:
                return None
            for v, (k,) in zip(eqn.invars, summed, strict=True):
                order += [(v is matrix, n) for n in range(v.aval.ndim) if n != k]
            axes = dict(zip(eqn.invars, summed, strict=True))
            place = axes[matrix][0] == 0, axes[array][0]
        elif at is not None and eqn.invars[0] is at and eqn.primitive is lax.transpose_p:
            order = [order[k] for k in eqn.params["permutation"]]
        elif at is None or eqn.invars[0] is not at or eqn.primitive is not lax.reduce_sum_p or eqn.params["axes"]:
            return None
        at = eqn.outvars[0]
    if place is None or jaxpr.outvars[0] is not at:
        return None
    wanted = [(True, int(place[0])) if k == place[1] else (False, k) for k in range(len(order))]
    return place if order == wanted else None


@dataclass(frozen=True)
class _Factors:
    """A matrix taken apart by elimination: what was done with its rows, step by step, and what is left of them.

    A step swaps the row of the pivot with each below it where the condition holds, and subtracts a multiple of it from each.
    What is left of a row begins at the diagonal.
    """

    steps: Sequence[tuple[Sequence[Any], Sequence[Any]]]  # conditions and factors, for each row below
    left: Sequence[Any]


def _factors(matrix: Any) -> _Factors:
    """Elimination with the largest entry as pivot.  As LAPACK does, what is below a pivot that is zero is left alone."""
    rows = _apart(matrix)
    steps = []
    for k in range(len(rows)):
        below = range(k + 1, len(rows))
        larger = []
        for i in below:
            larger.append(lax.gt(lax.abs(_entry(rows[i], 0)), lax.abs(_entry(rows[k], 0))))
            _swap(rows, k, i, larger[-1])
        pivot = _entry(rows[k], 0)
        none = lax.eq(pivot, np.zeros((), pivot.dtype))
        factors = [lax.select(none, first, lax.div(first, pivot)) for first in (_entry(rows[i], 0) for i in below)]
        for i, factor in zip(below, factors, strict=True):
            rows[i] = lax.sub(_rest(rows[i]), _times(factor, _rest(rows[k])))
        steps.append((larger, factors))
    return _Factors(steps, rows)


def _solution(factors: _Factors, right: Any, transposed: bool, axis: int) -> Any:
    """The solution of a linear system with a matrix or its transpose, along one axis of the right-hand side."""
    x = _apart(jnp.moveaxis(right, axis, 0))
    left, size = factors.left, len(x)
    if not transposed:
        for k, (larger, multiples) in enumerate(factors.steps):
            for i, condition in enumerate(larger, k + 1):
                _swap(x, k, i, condition)
            for i, factor in enumerate(multiples, k + 1):
                x[i] = lax.sub(x[i], _times(factor, x[k]))
    for k in range(size) if transposed else reversed(range(size)):
        for j in range(k) if transposed else range(size - 1, k, -1):
            entry = _entry(left[j], k - j) if transposed else _entry(left[k], j - k)
            x[k] = lax.sub(x[k], _times(entry, x[j]))
        x[k] = lax.div(x[k], lax.broadcast(_entry(left[k], 0), x[k].shape))
    if transposed:
        for k, (larger, multiples) in reversed(list(enumerate(factors.steps))):
            for i, factor in enumerate(multiples, k + 1):
                x[k] = lax.sub(x[k], _times(factor, x[i]))
            for i, condition in reversed(list(enumerate(larger, k + 1))):
                _swap(x, k, i, condition)
    return jnp.moveaxis(jnp.stack(x), 0, axis)


def _apart(x: Any) -> list[Any]:
    """The rows of an array."""
    return [lax.index_in_dim(x, i, keepdims=False) for i in range(x.shape[0])]


def _entry(row: Any, k: int) -> Any:
    return lax.index_in_dim(row, k, keepdims=False)


def _rest(row: Any) -> Any:
    return lax.slice_in_dim(row, 1, None)


def _swap(rows: list[Any], k: int, i: int, condition: Any) -> None:
    """Two rows change places where a condition holds."""
    holds = lax.broadcast(condition, rows[k].shape)
    rows[k], rows[i] = lax.select(holds, rows[i], rows[k]), lax.select(holds, rows[k], rows[i])


def _times(factor: Any, row: Any) -> Any:
    return lax.mul(lax.broadcast(factor, row.shape), row)
