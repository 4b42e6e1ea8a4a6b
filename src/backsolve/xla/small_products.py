"""Small products of matrices, under `vmap` as sums of outer products, and those with a shifted identity as the shift.

XLA's CPU compiler calls a routine for every product of a batch.  Written as one entrywise product and sum for each number
that is summed over, the batch is one loop, which is vectorised and fuses with what is around it: 10,000 products of 4 × 4
matrices in 0.08 ms for 4.7, of 6 × 6 in 0.5 for 5.0, of 8 × 8 in 0.7 for 1.3, of 3 × 3 as fast as before (float32, jaxlib
0.10.2, two cores).  One product by itself takes as long either way, and is left alone.

Slices that became matrices are shifted identities: without the products with them the Jacobian of a chain of reactions of
13 numbers, at 10,000 points, takes 0.3 of the time.

At the steps of a loop too: Jacobians at 1,000 points through ten steps of a recursion of 4 × 4 matrices, P ← A P Aᵀ + I,
take 0.16 of the time, through 20 of Sinkhorn's and of a power iteration with 5 × 5 matrices 0.24 and 0.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import scan_counts
from backsolve.xla.numbers import FULL

__all__ = ["as_sum", "is_small_product", "loop_by", "loop_of_small_products", "small_product"]

_SUMMED = 8  # numbers that are summed over
_WRITTEN = 64  # entries of the product
_SEARCHED = 4096  # entries of a constant


def is_small_product(eqn: Any) -> bool:
    """Whether an equation is a small product of two real arrays, over any axes, that `as_sum` makes a sum of."""
    if not _is_product(eqn):
        return False
    axes, _ = eqn.params["dimension_numbers"][0]
    summed: int = prod(eqn.invars[0].aval.shape[k] for k in axes)
    return 0 < summed <= _SUMMED * max(len(axes), 1) and prod(eqn.outvars[0].aval.shape) <= _WRITTEN


def _is_product(eqn: Any) -> bool:
    if eqn.primitive is not lax.dot_general_p or any(eqn.params["dimension_numbers"][1]):
        return False
    (v, w), (out,) = eqn.invars, eqn.outvars
    alike = (
        v.aval.dtype == w.aval.dtype == out.aval.dtype and out.aval.dtype in FULL
    )  # of half precision a routine sums in single precision
    return alike and eqn.params.get("out_sharding") is None


def small_product(eqn: Any, operands: Sequence[Any]) -> Any:
    """The value of an equation that is a small product of two real matrices, or None where it is something else.

    Rounding aside, the numbers are those of ``dot_general``; beside a shifted identity what is not finite stays where it is.
    """
    if not _is_product(eqn) or min(v.aval.ndim for v in eqn.invars) < 2:
        return None
    axes, _ = eqn.params["dimension_numbers"][0]
    moved = _shifted_product(eqn, operands) if len(axes) == 1 else None
    if moved is not None:
        return moved
    summed: int = prod(eqn.invars[0].aval.shape[k] for k in axes)
    small = 0 < summed <= _SUMMED and prod(eqn.outvars[0].aval.shape) <= _WRITTEN
    return as_sum(eqn, operands) if small else None


def loop_of_small_products(eqn: Any, operands: Sequence[Any]) -> list[Any] | None:
    """The values of an equation that is a `scan` with small products at its steps, of a batch; else None."""
    if eqn.primitive.name != "scan" or eqn.effects or not any(map(jx.is_batched, operands)):
        return None
    closed = eqn.params["jaxpr"]
    if not any(is_small_product(e) and min(v.aval.ndim for v in e.invars) > 1 for e in closed.jaxpr.eqns):
        return None
    given = [jx.as_array(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]

    def bound(e: Any, own: list[Any]) -> list[Any]:
        product = small_product(e, own)
        return jx.bind(e, own) if product is None else [product]

    return loop_by(bound, eqn, given, range(len(eqn.outvars)))


def loop_by(rule: Any, eqn: Any, operands: Sequence[Any], outputs: Sequence[int]) -> list[Any]:
    """Those of a `scan`'s values that are kept, all that it carries among them, its steps evaluated by a rule."""
    params, closed = eqn.params, eqn.params["jaxpr"]
    fixed, carried = scan_counts(params)

    def step(carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        results = jx.evaluated(closed, [*operands[:fixed], *carry, *xs], rule)
        out = [jx.as_array(results[k], closed.jaxpr.outvars[k].aval) for k in outputs]
        return out[:carried], out[carried:]

    begin, sliced = list(operands[fixed : fixed + carried]), list(operands[fixed + carried :])
    last, out = lax.scan(step, begin, sliced, params["length"], params["reverse"], params["unroll"])
    return [*last, *out]


def _shifted_product(eqn: Any, operands: Sequence[Any]) -> Any:
    """The product over one axis of each operand where one of them is a shifted identity; else None."""
    (k,), (m,) = eqn.params["dimension_numbers"][0]
    a, b = operands
    if (moved := _shifted(a, k, b, m)) is not None:
        return jnp.moveaxis(moved, k, -1)
    if (moved := _shifted(b, m, a, k)) is not None:
        return jnp.moveaxis(moved, m, 0)
    return None


def as_sum(eqn: Any, operands: Sequence[Any]) -> Any:
    """A product of arrays as the sum of one entrywise product for each number that is summed over."""
    axes = eqn.params["dimension_numbers"][0]
    shape = eqn.outvars[0].aval.shape
    free = [np.ndim(x) - len(summed) for x, summed in zip(operands, axes, strict=True)]
    rows: list[Any] = []  # of each operand, for each number that is summed over an array of the result's shape
    for x, summed, places in zip(operands, axes, (range(free[0]), range(free[0], len(shape))), strict=True):
        front = lax.transpose(x, (*summed, *(k for k in range(np.ndim(x)) if k not in summed)))
        count = prod(front.shape[: len(summed)])
        front = lax.reshape(front, (count, *front.shape[len(summed) :]))
        repeated = lax.broadcast_in_dim(front, (count, *shape), (0, *(k + 1 for k in places)))
        rows.append(lax.split(repeated, (1,) * count))
    return lax.reshape(reduce(lax.add, map(lax.mul, *rows)), shape)


def _shifted(x: Any, axis: int, matrix: Any, summed: int) -> Any:
    """The product over an axis of x with a shifted identity, on that axis; None where the matrix is another one."""
    known = isinstance(matrix, np.ndarray | jax.Array) and not jx.is_traced(matrix)
    if not known or matrix.ndim != 2 or matrix.size > _SEARCHED:
        return None
    entries = np.asarray(matrix) if summed == 0 else np.asarray(matrix).T
    rows, columns = np.nonzero(entries)
    if not rows.size or (entries[rows, columns] != 1).any():
        return None
    shift = int(columns[0] - rows[0])
    n, m = entries.shape
    whole = max(0, min(n, m - shift) - max(0, -shift))  # entries of this diagonal
    if rows.size != whole or (columns - rows != shift).any():
        return None
    width = [(shift, m - n - shift, 0) if k == axis else (0, 0, 0) for k in range(np.ndim(x))]
    return lax.pad(x, np.zeros((), x.dtype), width)
