"""Numbers that XLA works out once, however many parts of a program read them: sines and cosines of single numbers.

XLA's CPU compiler counts a real sine as cheap, like an addition, and works it out again in every loop that reads it: the
Jacobian of a robot arm with 7 joints, 14 sines and cosines, did 963 of them a point and took 13 times as long.  The result
of an operation that it counts as dear (a division) it writes once; so a held number is divided by a 1 that XLA cannot tell
from another number.  (`lax.optimization_barrier` does not serve: it is gone before loops are formed.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from ..operators import Einsum, LinearOperator
from ..operators.einsum import Factor
from . import jaxpr as jx

__all__ = ["HELD", "held", "held_edge", "is_held"]

HELD = frozenset({"sin", "cos", "tan"})  # primitives that XLA counts as cheap and are not


def _on_cpu(y: Any) -> Any:
    """y / clamp(1, y, 1), which is y: the divisor is 1, or NaN where y is, and no pass of XLA looks for that."""
    one = np.ones((), y.dtype)
    return lax.div(y, lax.clamp(one, y, one))


_held = jx.identity_primitive("held", _on_cpu)


def held(x: Any) -> Any:
    """Return x; where it is a single real number, of floating point, XLA writes it down rather than working it out again."""
    single = x.shape == () and np.issubdtype(x.dtype, np.floating)
    return _held.bind(x) if single else x


def held_edge(op: LinearOperator) -> LinearOperator:
    """The edge of an entrywise operation with its derivative held."""
    if not isinstance(op, Einsum):
        return op
    factors = tuple(Factor(held(f.array), f.labels, f.name) for f in op.factors)
    return Einsum(factors, op.out, op.into, op.sizes, op.coef, op.dtypes)


def is_held(eqn: Any) -> bool:
    """Whether an equation is `held` itself, in a Jacobian that is differentiated again."""
    return eqn.primitive is _held
