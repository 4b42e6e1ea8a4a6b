"""Numbers that XLA works out once, however many parts of a program read them: sines and cosines.

XLA's CPU compiler counts a real sine as cheap, like an addition, and works it out again in every loop that reads it: the
Jacobian of a robot arm with 7 joints, 14 sines and cosines, did 963 of them a point and took 13 times as long.  The result
of an operation that it counts as dear (a division) it writes once; so a held number is divided by a 1 that XLA cannot tell
from another number.  (`lax.optimization_barrier` does not serve: it is gone before loops are formed.)

Under `vmap` a Jacobian's single numbers are all held: there every one has many readers.  A gradient holds few, as each is
one more array in memory: those sines that would be worked out too often again together with the sines behind them (`Sines`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

from backsolve.operators import Einsum, LinearOperator
from backsolve.operators.einsum import Factor
from backsolve.tracing import jaxpr as jx

__all__ = ["HELD", "Sines", "held", "held_edge", "is_held"]

HELD = frozenset({"sin", "cos", "tan"})  # primitives that XLA counts as cheap and are not
_REPEATED = HELD | {  # what XLA works out again for every reader: these, and what is cheap
    *("add", "sub", "mul", "neg", "abs", "sign", "max", "min", "square", "integer_pow", "select_n", "clamp", "copy"),
    *("convert_element_type", "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "rev", "slice"),
}
_TOO_OFTEN = 40  # sines worked out again, from where an array is better written down


def _on_cpu(y: Any) -> Any:
    """y / clamp(1, y, 1), which is y: the divisor is 1, or NaN where y is, and no pass of XLA looks for that."""
    one = np.ones((), y.dtype)
    return lax.div(y, lax.clamp(one, y, one))


_held = jx.identity_primitive("held", _on_cpu)
_held_in_batches = jx.identity_primitive("held_in_batches", lambda y: _on_cpu(y) if y.shape else y)


def held(x: Any) -> Any:
    """Return x; where it is a single real number, of floating point, XLA writes it down rather than working it out again.

    It does so in a batch, of many such numbers: at one point another loop takes as long as the sine.
    """
    single = x.shape == () and np.issubdtype(x.dtype, np.floating)
    return _held_in_batches.bind(x) if single else x


def held_edge(op: LinearOperator) -> LinearOperator:
    """The edge of an entrywise operation with its derivative held."""
    if not isinstance(op, Einsum):
        return op
    factors = tuple(Factor(held(f.array), f.labels, f.name) for f in op.factors)
    return Einsum(factors, op.out, op.into, op.sizes, op.coef, op.dtypes)


class Sines:
    """How many sines working a value out again takes, its own and those behind it back to what is written down anyway.

    Each of the gradient's arrays is a loop of its own, which works out again what it shares with the others; readers are
    counted in the program itself, as its derivative is not yet known.
    """

    def __init__(self, arrays: int) -> None:
        self._others = arrays - 1
        self._behind: dict[int, tuple[Any, int]] = {}  # id → the value, kept so that its id stays its own, and the count

    def noted(self, name: str, inputs: Sequence[Any], value: Any, readers: Callable[[], int]) -> Any:
        """Return the value of an operation with this name, held where that saves too many sines."""
        if name not in _REPEATED or not jx.is_traced(value):
            return value
        sines = sum(self._behind[id(x)][1] for x in inputs if id(x) in self._behind)
        if name in HELD:
            sines += 1
            if np.issubdtype(value.dtype, np.floating) and sines * self._others * (readers() - 1) >= _TOO_OFTEN:
                return _held.bind(value)
        if sines:
            self._behind[id(value)] = value, sines
        return value


def is_held(eqn: Any) -> bool:
    """Whether an equation is `held` itself, in a Jacobian that is differentiated again."""
    return eqn.primitive in (_held, _held_in_batches)
