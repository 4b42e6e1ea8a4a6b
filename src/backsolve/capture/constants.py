"""Integers and booleans that are known while tracing: the indices, sizes and masks of a program, worked out in NumPy.

Under ``jit`` JAX stages out even what depends on constants alone; here it is evaluated at once, so that the indices of a
gather are known and its pattern exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture.record import record_of
from backsolve.tracing.jaxpr import inner_jaxpr, is_traced

__all__ = ["fold", "known_value"]


def known_value(x: Any) -> np.ndarray[Any, Any] | None:
    """Return x as a NumPy array where it is known (a number, a NumPy or a concrete JAX array), None for a tracer or None."""
    if x is None or is_traced(x):
        return None
    return np.asarray(x)


def fold(eqn: Any, inputs: Sequence[Any]) -> list[jax.Array] | None:
    """Return the outputs of an equation, one for each, where all are integers or booleans that follow from known operands.

    So is a known mask as numbers.  They are concrete, also under ``jit``.

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
    masks = evaluate is not None and inputs and all(_kind(getattr(x, "dtype", None)) == "b" for x in inputs)
    if not masks and any(_kind(getattr(v.aval, "dtype", None)) not in "iub" for v in eqn.outvars):
        return None
    if any(_kind(getattr(x, "dtype", np.dtype(int))) not in "iubf" for x in inputs):
        return None
    values = [known_value(x) for x in inputs]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or any(_kind(v.dtype) not in "iubf" for v in known):
        return None
    body = inner_jaxpr(eqn)
    if body is not None:
        return _fold_body(*body, known)
    out = NotImplemented if evaluate is None else evaluate(eqn.params, *known)
    if out is NotImplemented:
        with jax.ensure_compile_time_eval():
            out = eqn.primitive.bind(*known, **eqn.primitive.get_bind_params(eqn.params))
    outputs = out if eqn.primitive.multiple_results else [out]
    return [np.asarray(y, v.aval.dtype) for y, v in zip(outputs, eqn.outvars, strict=True)]


def _kind(dtype: Any) -> str:
    """The kind of a dtype; a random key's has none."""
    return getattr(dtype, "kind", None) or "?"


def _fold_body(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        made = _folded(eqn, [read(v) for v in eqn.invars])
        if made is None:
            return None
        values.update(zip(eqn.outvars, made, strict=True))
    out = [known_value(read(v)) for v in jaxpr.outvars]
    known = [v for v in out if v is not None]
    return known if len(known) == len(out) else None
