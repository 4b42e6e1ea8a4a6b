"""Numbers that XLA works out once, however many parts of a program read them: sines and cosines of single numbers.

XLA's CPU compiler counts a real sine as cheap, like an addition, and works it out again in every loop that reads it: the
Jacobian of a robot arm with 7 joints, 14 sines and cosines, did 963 of them a point and took 13 times as long.  The result
of an operation that it counts as dear (a division) it writes once; so a held number is divided by a 1 that XLA cannot tell
from another number.  (`lax.optimization_barrier` does not serve: it is gone before loops are formed.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import ad, batching, mlir

from ..operators import Einsum, LinearOperator
from ..operators.einsum import Factor

__all__ = ["HELD", "held", "held_edge", "is_held"]

HELD = frozenset({"sin", "cos", "tan"})  # primitives that XLA counts as cheap and are not

_held: Any = Primitive("held")
_held.def_impl(lambda x: x)
_held.def_abstract_eval(lambda x: x)
batching.primitive_batchers[_held] = lambda args, axes: (_held.bind(args[0]), axes[0])
ad.primitive_jvps[_held] = lambda primals, tangents: (_held.bind(primals[0]), tangents[0])


def _on_cpu(context: Any, y: Any) -> list[Any]:
    """y / clamp(1, y, 1), which is y: the divisor is 1, or NaN where y is, and no pass of XLA looks for that."""
    (aval,) = context.avals_in
    one = mlir.ir_constant(np.ones((), aval.dtype))
    return [stablehlo.divide(y, stablehlo.clamp(one, y, one))]


mlir.register_lowering(_held, lambda context, y: [y])
mlir.register_lowering(_held, _on_cpu, platform="cpu")


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
