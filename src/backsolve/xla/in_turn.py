"""Under `vmap`, routines of linear algebra one after the other: two at a time may wait for each other for ever.

On a CPU, jaxlib gives the matrices of a batch to XLA's threads, and waits for them in the thread that calls.  Where as many
routines run at a time as there are threads, each waits in one of these for work that none is left to do: a program of six
solves of 3 × 3 that do not need each other, at 10,000 points, never ends on two cores (jaxlib 0.10.2, `jax.vmap` and
`jax.jit` alone; `jax.jacfwd` of three steps of Newton's method ends, as its solves need each other).  A batch keeps all
threads busy, so that nothing is lost by waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx

__all__ = ["inexact", "is_routine", "later"]

_ROUTINES = frozenset(
    ("cholesky", "cholesky_update", "eig", "eigh", "geqp3", "geqrf", "hessenberg", "householder_product", "lu", "ormqr",
     "qr", "schur", "svd", "symmetric_product", "triangular_solve", "tridiagonal", "tridiagonal_solve")
)  # fmt: skip


def is_routine(eqn: Any) -> bool:
    """Whether an equation is, or has in it, a routine of linear algebra."""
    waiting = [eqn]
    for at in waiting:  # it grows meanwhile
        if at.primitive.name in _ROUTINES:
            return True
        waiting.extend(jx.inner_equations(at.params))
    return False


def later(operands: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """The operands of an equation, which cannot be had before ``before`` are.

    Nothing is changed: they are zero where the bits of a number are, one of which has just been set.  XLA does not see that.
    """
    never: Any = None
    for x in before:
        number = lax.reshape(jnp.real(x), (x.size,))[0]
        bits = lax.bitcast_convert_type(number, f"int{8 * number.dtype.itemsize}")
        none = lax.eq(lax.bitwise_or(bits, np.ones((), bits.dtype)), np.zeros((), bits.dtype))
        never = none if never is None else lax.bitwise_or(never, none)

    def waiting(x: Any) -> Any:
        if never is None or not _is_inexact(x):
            return x
        x = jnp.asarray(x)
        return lax.select(lax.broadcast(never, x.shape), lax.broadcast(np.zeros((), x.dtype), x.shape), x)

    return list(map(waiting, operands))


def inexact(xs: Sequence[Any]) -> list[Any]:
    """Those arrays of floating-point or complex numbers that have any."""
    return [x for x in xs if _is_inexact(x) and jnp.size(x)]


def _is_inexact(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), np.inexact)
