"""What XLA would compute several times over, computed once.

On a CPU, XLA puts all elementwise work that leads to a loop into that loop, and so copies it into every loop that reads it.
The non-zeros of a Jacobian are written by many loops which share most of their work.  Here a traced program is copied with
repeated equations left out, and with a border behind each value whose copies would cost more than writing it down.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx

__all__ = ["computed_once"]

# What XLA copies into its readers: operations of an entry, with their cost in multiplications, and moves of entries.
_COPIED = {
    **dict.fromkeys(("add", "sub", "mul", "neg", "max", "min", "abs", "sign", "select_n", "convert_element_type"), 1.0),
    **dict.fromkeys(("add_any", "copy", "clamp", "floor", "ceil", "round", "is_finite", "square", "integer_pow"), 1.0),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"), 1.0),
    **dict.fromkeys(("sin", "cos", "tan"), 25.0),
}
_MOVES = frozenset(
    ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "slice", "transpose", "rev", "concatenate", "pad", "stack",
     "gather")
)  # fmt: skip
# What it computes in a loop of its own where there are several readers.
_KEPT = frozenset(
    ("div", "exp", "exp2", "log", "log1p", "expm1", "sqrt", "rsqrt", "cbrt", "tanh", "logistic", "pow", "atan2", "erf")
)
_SMALLEST = 1024  # entries of a value that may get a border
_LOOP = 3e4  # multiplications in the time that one more loop takes to start
_WRITTEN = 8.0  # multiplications in the time that one entry takes to be written and read


def computed_once(function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    """Return ``function(*arrays)``, under `jax.jit` on a CPU compiled so that values read by many loops are made by one.

    The numbers are the same.  Cost: one more walk over the equations, while tracing.
    """
    if jax.default_backend() != "cpu":
        return function(*arrays)
    jaxpr, consts, tree = jx.trace(function, arrays)
    equations, names = _without_repetition(jaxpr)
    outputs = [names.get(v, v) if not jx.is_literal(v) else v for v in jaxpr.outvars]
    bordered = _bordered(equations, outputs)
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arrays), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if jx.is_literal(atom) else values[atom]

    for eqn, operands in equations:
        for v, value in zip(eqn.outvars, jx.bind(eqn, [read(v) for v in operands]), strict=True):
            values[v] = _behind_border(value) if v in bordered else value
    return jx.unflatten(tree, [read(v) for v in outputs])


def _without_repetition(jaxpr: Any) -> tuple[list[tuple[Any, list[Any]]], dict[Any, Any]]:
    """The equations that are needed, with their operands, and which value stands for that of each one left out."""
    seen: dict[Any, Any] = {}
    names: dict[Any, Any] = {}
    kept = []
    for eqn, _ in jx.live_equations(jaxpr):
        operands = [v if jx.is_literal(v) else names.get(v, v) for v in eqn.invars]
        name = eqn.primitive.name
        if (name in _COPIED or name in _KEPT or name in _MOVES) and name != "gather":
            key = (name, *map(_identity, operands), *eqn.params.items())
            first = seen.setdefault(key, eqn.outvars[0])
            if first is not eqn.outvars[0]:
                names[eqn.outvars[0]] = first
                continue
        kept.append((eqn, operands))
    return kept, names


def _identity(atom: Any) -> Any:
    """What is equal for operands that are the same (0.0 and -0.0 are not)."""
    return (str(atom.aval), np.asarray(atom.val).tobytes()) if jx.is_literal(atom) else atom


def _bordered(equations: Sequence[tuple[Any, list[Any]]], outputs: Sequence[Any]) -> set[Any]:
    """The values that get a border, from the last to the first: those with many more entries computed than there are."""
    computed: dict[Any, float] = defaultdict(float)  # entries that the readers of a value would compute, each its own copy
    readers: Counter[Any] = Counter()
    for v in outputs:
        if not jx.is_literal(v):
            computed[v] += prod(v.aval.shape)
    chosen = set()
    for eqn, operands in reversed(equations):
        name = eqn.primitive.name
        moving = [v for v in operands if not jx.is_literal(v)]
        readers.update(moving)
        if name not in _COPIED and name not in _MOVES and name not in _KEPT:
            for v in moving:
                computed[v] += prod(v.aval.shape)
            continue
        (out,) = eqn.outvars
        size, entries = prod(out.aval.shape), computed[out]
        if name in _KEPT and readers[out] > 1:
            entries = size
        saved = _COPIED.get(name, 0.0) * (entries - size)
        if saved > _LOOP + _WRITTEN * size and size >= _SMALLEST and jnp.issubdtype(out.aval.dtype, jnp.floating):
            chosen.add(out)
            entries = size
        for v in moving:
            part = min(1.0, prod(v.aval.shape) / max(size, 1)) if name in ("concatenate", "pad", "stack") else 1.0
            computed[v] += part * entries
    return chosen


def _behind_border(y: Any) -> Any:
    """The same numbers, computed in a loop of their own: XLA copies no division into its readers' loops.

    The divisor is 1, which XLA does not know: whether a number equals itself, as a number, but at least 1.
    """
    itself = lax.convert_element_type(lax.eq(y, y), y.dtype)
    return lax.div(y, lax.max(itself, lax.full_like(y, 1)))
