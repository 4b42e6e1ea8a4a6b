"""Products of matrices, under `vmap`, with the operands turned as XLA's CPU compiler has a quick routine for.

Where a batch multiplies two matrices of its own and the sum is over the last axis of the first operand, that is a routine;
over another axis it is a loop of scalars: 1,000 products of 8 × 32 by 32 × 4 matrices take 0.07 to 0.17 ms the one way, 0.6
to 0.7 the other, of 32 × 32 by 32 × 32 0.7 and 1.6 to 2.2 (float32, jaxlib 0.10.2, one core).  XLA folds a transposition
into the product again, so a border keeps it; what enters a product is in memory anyway.  Where the batch shares one matrix,
it is the second operand, so that the batch is rows of one large product: of six such products alone 0.3 to 0.9 of the time,
behind other loops 0.8 to 1.2, and the Hessian of a small net, at 10,000 points, 0.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing.series import BatchTracer

__all__ = ["turned"]


def turned(eqn: Any, operands: Sequence[Any]) -> Any:
    """The value of an equation that is a product of two matrices, of which `vmap` maps over one or both; else None.

    Rounding aside, the numbers are those of ``dot_general``.
    """
    if eqn.primitive is not lax.dot_general_p:
        return None
    summed, batch = eqn.params["dimension_numbers"]
    a, b = operands
    last = np.ndim(a) - 1, np.ndim(b) - 1
    if any(batch) or len(summed[0]) != 1 or 0 in last or eqn.params.get("out_sharding") is not None:
        return None
    precision = eqn.params["precision"]
    if precision is not None and type(precision) is not tuple:
        return None  # an algorithm, which tells the operands apart
    (k,), (m,) = summed
    own = isinstance(a, BatchTracer), isinstance(b, BatchTracer)  # whether `vmap` maps over it
    if not own[1]:
        return None  # as it should be, or nothing moves
    swapped = not own[0] or (k != last[0] and m == last[1])
    if swapped:
        a, b, k, m, last, own = b, a, m, k, last[::-1], own[::-1]
        precision = precision and precision[::-1]  # one for each operand
    if own[1]:
        a, k = lax.optimization_barrier(jnp.moveaxis(a, k, -1)), last[0]  # type: ignore[no-untyped-call]
    dtype = eqn.params["preferred_element_type"]
    y = lax.dot_general(a, b, (((k,), (m,)), ((), ())), precision=precision, preferred_element_type=dtype)
    return jnp.moveaxis(y, range(last[0]), range(-last[0], 0)) if swapped else y
