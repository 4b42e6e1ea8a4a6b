"""Constant folding: indices and masks that follow from constants are numbers, also while a program is traced."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture.record import record_of
from backsolve.tracing.jaxpr import inner_jaxpr, is_literal, is_traced, literal_value
from backsolve.tracing.series import bind_primitive

__all__ = ["MANY", "fold", "known_value"]

_EXACT = (np.dtype("float32"), np.dtype("float64"))  # whose sums and products NumPy rounds as XLA does
MANY = 2**18  # floating-point numbers that are written into a program as a constant


def known_value(x: Any) -> np.ndarray[Any, Any] | None:
    """Return x as a NumPy array where it is known (a number, a NumPy or a concrete JAX array), None for a tracer or None.

    None for a random key too, which is no array of numbers.
    """
    if x is None or is_traced(x) or _kind(getattr(x, "dtype", np.dtype(int))) == "?":
        return None
    return np.asarray(x)


def fold(eqn: Any, inputs: Sequence[Any]) -> list[jax.Array] | None:
    """Return the outputs of an equation, one for each, where all are integers or booleans that follow from known operands.

    So are a known mask as numbers, and a few numbers (`MANY`) that are moved, added or multiplied.  They are concrete, also
    under ``jit``.

    None where an operand is traced, an output is of another kind, or the equation has effects.  Common primitives are done
    in NumPy; others by JAX itself, which compiles each of them once.

    Example:
        >>> import jax.numpy as jnp
        >>> eqn = jax.make_jaxpr(lambda i: i + 5)(jnp.arange(3)).eqns[0]
        >>> fold(eqn, [np.arange(3), 5])
        [Array([5, 6, 7], dtype=int32)]
    """
    made = _folded(eqn, inputs)
    if made is None:
        return None
    with jax.ensure_compile_time_eval():
        return [jnp.asarray(y) for y in made]


def _folded(eqn: Any, inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    if eqn.effects:
        return None
    evaluate = record_of(eqn.primitive.name).evaluate
    floating = any(_kind(getattr(v.aval, "dtype", None)) not in "iub" for v in eqn.outvars)
    masks = bool(inputs) and all(_kind(getattr(x, "dtype", None)) == "b" for x in inputs)
    if floating and (evaluate is None or not (masks or all(map(_is_exact, eqn.outvars)))):
        return None
    if any(_kind(getattr(x, "dtype", np.dtype(int))) not in "iubf" for x in inputs):
        return None
    values = [known_value(x) for x in inputs]
    known = [np.asarray(x, v.aval.dtype) for x, v in zip(values, eqn.invars, strict=True) if x is not None]
    if len(known) < len(values) or any(_kind(v.dtype) not in "iubf" for v in known):
        return None
    body = inner_jaxpr(eqn)
    if body is not None:
        return _fold_body(*body, known)
    out = NotImplemented if evaluate is None else evaluate(eqn.params, *known)
    if out is NotImplemented and floating and not masks:
        return None
    if out is NotImplemented:
        with jax.ensure_compile_time_eval():
            outputs = bind_primitive(eqn.primitive, eqn.params, known)
    else:
        outputs = out if eqn.primitive.multiple_results else [out]
    return [np.asarray(y, v.aval.dtype) for y, v in zip(outputs, eqn.outvars, strict=True)]


def _is_exact(v: Any) -> bool:
    """Whether NumPy's numbers are XLA's, and few enough to stand in a program."""
    return getattr(v.aval, "dtype", None) in _EXACT and prod(v.aval.shape) <= MANY


def _kind(dtype: Any) -> str:
    """The kind of a dtype; a random key's has none."""
    return getattr(dtype, "kind", None) or "?"


def _fold_body(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return literal_value(atom) if is_literal(atom) else values[atom]

    for eqn in jaxpr.eqns:
        made = _folded(eqn, [read(v) for v in eqn.invars])
        if made is None:
            return None
        values.update(zip(eqn.outvars, made, strict=True))
    out = [known_value(read(v)) for v in jaxpr.outvars]
    known = [v for v in out if v is not None]
    return known if len(known) == len(out) else None
