"""Integers and booleans that are known while tracing: the indices, sizes and masks of a program, worked out in NumPy.

Under ``jit`` JAX stages out even what depends on constants alone; here it is evaluated at once, so that the indices of a
gather are known and its pattern exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.tracing.jaxpr import is_traced

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
    masks = eqn.primitive.name == "convert_element_type" and _kind(getattr(inputs[0], "dtype", None)) == "b"
    if not masks and any(_kind(getattr(v.aval, "dtype", None)) not in "iub" for v in eqn.outvars):
        return None
    if any(_kind(getattr(x, "dtype", np.dtype(int))) not in "iubf" for x in inputs):
        return None
    values = [known_value(x) for x in inputs]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or any(_kind(v.dtype) not in "iubf" for v in known):
        return None
    body = eqn.params.get("jaxpr") if eqn.primitive.name in ("jit", "pjit", "closed_call") else None
    if body is not None:
        return _fold_body(body, known)
    rule = _RULES.get(eqn.primitive.name)
    made = rule(known, eqn.params) if rule is not None else NotImplemented
    if made is NotImplemented:
        with jax.ensure_compile_time_eval():
            out = eqn.primitive.bind(*known, **eqn.primitive.get_bind_params(eqn.params))
        made = out if eqn.primitive.multiple_results else [out]
    else:
        made = [made]
    return [np.asarray(y, v.aval.dtype) for y, v in zip(made, eqn.outvars, strict=True)]


def _kind(dtype: Any) -> str:
    """The kind of a dtype; a random key's has none."""
    return getattr(dtype, "kind", None) or "?"


def _fold_body(body: Any, inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    jaxpr = body.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*body.consts, *inputs), strict=True))

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


def _entrywise(function: Callable[..., Any]) -> Callable[[Sequence[Any], dict[str, Any]], Any]:
    return lambda xs, params: function(*xs)


def _divide(a: Any, b: Any) -> Any:
    """Integer division towards zero, as XLA's; NumPy leaves division by zero to itself."""
    if a.dtype.kind == "f" or not np.all(b):
        return NotImplemented
    return (np.abs(a) // np.abs(b)) * np.sign(a) * np.sign(b) if a.dtype.kind == "i" else a // b


def _remainder(a: Any, b: Any) -> Any:
    return np.fmod(a, b) if a.dtype.kind != "f" and np.all(b) else NotImplemented


def _select(which: Any, *cases: Any) -> Any:
    return np.choose(which.astype(np.int64), np.broadcast_arrays(*cases)) if len(cases) < 32 else NotImplemented


def _iota(xs: Sequence[Any], params: dict[str, Any]) -> Any:
    shape, axis = params["shape"], params["dimension"]
    if xs:
        return NotImplemented
    side = (-1,) + (1,) * (len(shape) - axis - 1)
    return np.broadcast_to(np.arange(shape[axis], dtype=params["dtype"]).reshape(side), shape)


def _broadcast(xs: Sequence[Any], params: dict[str, Any]) -> Any:
    wide = [1] * len(params["shape"])
    for n, axis in zip(xs[0].shape, params["broadcast_dimensions"], strict=True):
        wide[axis] = n
    return np.broadcast_to(xs[0].reshape(wide), params["shape"])


def _convert(xs: Sequence[Any], params: dict[str, Any]) -> Any:
    return xs[0].astype(params["new_dtype"]) if xs[0].dtype.kind in "iub" else NotImplemented


def _slice(xs: Sequence[Any], params: dict[str, Any]) -> Any:
    steps = params["strides"] or (1,) * xs[0].ndim
    return xs[0][tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


_ENTRYWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "sign": np.sign,
    "abs": np.abs,
    "max": np.maximum,
    "min": np.minimum,
    "div": _divide,
    "rem": _remainder,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "select_n": _select,
    "copy": np.asarray,
    "stop_gradient": np.asarray,
}

_RULES: dict[str, Callable[[Sequence[Any], dict[str, Any]], Any]] = {
    **{name: _entrywise(function) for name, function in _ENTRYWISE.items()},
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _convert,
    "reshape": lambda xs, p: xs[0].reshape(p["new_sizes"]) if p["dimensions"] is None else NotImplemented,
    "squeeze": lambda xs, p: np.squeeze(xs[0], tuple(p["dimensions"])),
    "expand_dims": lambda xs, p: np.expand_dims(xs[0], tuple(p["dimensions"])),
    "transpose": lambda xs, p: xs[0].transpose(p["permutation"]),
    "rev": lambda xs, p: np.flip(xs[0], tuple(p["dimensions"])),
    "slice": _slice,
    "concatenate": lambda xs, p: np.concatenate(xs, axis=p["dimension"]),
    "stack": lambda xs, p: np.stack(xs, axis=p["axis"]),
}
