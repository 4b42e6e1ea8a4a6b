"""JAX's own derivative of one equation: its linearization, its products, which of its outputs depend on what."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax

from backsolve.algebra.elements import is_zero
from backsolve.tracing import series
from backsolve.tracing.jaxpr import Aval, Value, as_array, bind, carries_derivatives, every_equation, is_literal, zeros
from backsolve.tracing.layouts import settle
from backsolve.tracing.series import ad, layout_of

__all__ = [
    "dependent",
    "dependent_outputs",
    "has_own_rules",
    "linearize_equation",
    "linearized",
    "pull_cotangents",
    "push_tangents",
]


def linearize_equation(eqn: Any, inputs: Sequence[Value], active: Sequence[bool], wanted: Sequence[bool]) -> tuple[Any, ...]:
    """JAX's linearization of the wanted outputs of one equation in its active operands.

    Returns the wanted output values, which outputs depend on the active operands, and the linear jaxpr with its constants.
    """
    inputs = [as_array(x, v.aval) for x, v in zip(inputs, eqn.invars, strict=True)]
    moving = [x for x, a in zip(inputs, active, strict=True) if a]

    def one(*values: Any) -> Any:
        it = iter(values)
        operands = [next(it) if a else x for x, a in zip(inputs, active, strict=True)]
        return [value for value, w in zip(bind(eqn, operands), wanted, strict=True) if w]

    try:
        return linearized(one, moving)
    except NotImplementedError as error:
        if eqn.primitive in ad.primitive_jvps or "Differentiation rule" not in str(error):
            raise
        raise NotImplementedError(
            f"the derivative of primitive {eqn.primitive.name!r} is not implemented, neither here nor in JAX; give it "
            "a rule with backsolve.extend (elementwise, linear or rule)."
        ) from None


def linearized(fun: Callable[..., Any], point: Sequence[Value]) -> tuple[list[Value], list[bool], Any, Sequence[Value]]:
    """JAX's linearization of a function, which returns a list of arrays, at a point; see `linearize_equation`."""
    try:
        out, moves, closed = series.linearized(fun, point)
    except ValueError as error:
        if "known values" not in str(error):
            raise
        # A rule that computes value and tangent in one go: forward mode as it stands, which JAX cannot transpose.
        closed = jax.make_jaxpr(lambda *ts: jax.jvp(fun, tuple(point), ts)[1])(*point)
        value = fun(*point)
        return value, [True] * len(value), closed.jaxpr, closed.consts
    return out, moves, closed.jaxpr, closed.consts


def _cotangent(ct: Any, aval: Aval, symbolic: bool) -> Any:
    """A cotangent as a transpose rule takes it; of what has no derivatives (integers) it is always symbolic."""
    if not carries_derivatives(aval) or (symbolic and is_zero(ct)):
        return ad.Zero(series.ct_aval(aval))
    return zeros(aval) if is_zero(ct) else _in_layout(as_array(ct, aval), aval)


def _in_layout(x: Any, aval: Aval) -> Any:
    """An array where its variable of this type lies, and varying over the axes that it does."""
    layout = layout_of(aval)
    return series.varying_as(x if layout is None else settle(x, layout), aval)


# Primitives whose transposes look at which cotangents are zero (that of a scan, say, takes arrays only).
SYMBOLIC_ZEROS = frozenset(("custom_linear_solve", "custom_lin"))


def push_tangents(eqn: Any, operands: Sequence[Value], params: dict[str, Any], tangents: Sequence[Any]) -> list[Any]:
    """The images of tangents under a linear equation: of its moving operands, those that are None."""
    moving = iter(tangents)
    given = []
    for value, v in zip(operands, eqn.invars, strict=True):
        if value is None:
            t = next(moving)
            value = zeros(v.aval) if is_zero(t) else _in_layout(t, v.aval)
        given.append(value)
    given = [as_array(x, v.aval) for x, v in zip(given, eqn.invars, strict=True)]
    return series.bind_primitive(eqn.primitive, params, given)


def pull_cotangents(eqn: Any, operands: Sequence[Value], params: dict[str, Any], cotangents: Sequence[Any]) -> list[Any]:
    """The images of cotangents under the transpose of a linear equation, by JAX's own rule; one for each moving operand."""
    moving = [x is None for x in operands]
    avals = [v.aval for v, m in zip(eqn.invars, moving, strict=True) if m]
    if all(map(is_zero, cotangents)):
        return [zeros(aval) for aval in avals]
    cts: Any = [
        _cotangent(ct, v.aval, eqn.primitive.name in SYMBOLIC_ZEROS) for ct, v in zip(cotangents, eqn.outvars, strict=True)
    ]
    if not eqn.primitive.multiple_results:
        (cts,) = cts
    given = _as_given if eqn.primitive.name == "custom_lin" else as_array
    operands = [None if m else given(x, v.aval) for x, v, m in zip(operands, eqn.invars, moving, strict=True)]
    out = series.pulled(eqn, params, cts, operands, moving)
    return [
        zeros(aval) if ct is None or type(ct) is ad.Zero else as_array(ct, aval) for ct, aval in zip(out, avals, strict=True)
    ]


def _as_given(x: Any, aval: Aval) -> Any:
    """A residual as a rule of the user's own gets it from JAX: whole numbers and flags of Python's stay what they are."""
    return x if isinstance(x, bool | int) else as_array(x, aval)


def dependent(eqn: Any, active: Sequence[bool]) -> list[bool]:
    """Which outputs of an equation depend on active operands, as far as its parameters tell: else all do."""
    name, params, active = eqn.primitive.name, eqn.params, list(active)
    if not any(active):
        return [False] * len(eqn.outvars)
    if name == "cond":
        branches = [dependent_outputs(branch.jaxpr, active[1:]) for branch in params["branches"]]
        return [active[0] or any(each) for each in zip(*branches, strict=True)]
    if name == "scan":
        fixed, carried = series.scan_counts(params)
        return _dependent_loop(
            params["jaxpr"].jaxpr, active[:fixed], active[fixed : fixed + carried], active[fixed + carried :]
        )
    if name == "while":
        begin = params["cond_nconsts"]
        fixed = begin + params["body_nconsts"]
        moves = _dependent_loop(params["body_jaxpr"].jaxpr, active[begin:fixed], active[fixed:], [])
        turns = any(dependent_outputs(params["cond_jaxpr"].jaxpr, [*active[:begin], *moves]))
        return [turns or m for m in moves]
    body = params.get("jaxpr", params.get("call_jaxpr"))
    body = getattr(body, "jaxpr", body)
    if body is None or len(body.invars) != len(active):
        return [True] * len(eqn.outvars)
    return dependent_outputs(body, active)


def _dependent_loop(jaxpr: Any, fixed: list[bool], carry: list[bool], slices: list[bool]) -> list[bool]:
    while True:
        out = dependent_outputs(jaxpr, [*fixed, *carry, *slices])
        grown = [a or b for a, b in zip(carry, out, strict=False)]
        if grown == carry:
            return [*carry, *out[len(carry) :]]
        carry = grown


def dependent_outputs(jaxpr: Any, active: Sequence[bool]) -> list[bool]:
    """Which outputs of a jaxpr depend on active inputs."""
    moving = {v for v, a in zip(jaxpr.invars, active, strict=True) if a}
    for eqn in jaxpr.eqns:
        operands = [not is_literal(v) and v in moving for v in eqn.invars]
        moving.update(v for v, a in zip(eqn.outvars, dependent(eqn, operands), strict=True) if a)
    return [not is_literal(v) and v in moving for v in jaxpr.outvars]


_OF_JAX = os.path.dirname(jax.__file__) + os.sep


def has_own_rules(jaxpr: Any) -> bool:
    """Whether a program calls a function with a custom rule that is not one of JAX's own.

    What such a rule says need not be a derivative (an estimator that goes straight through a step, say), so that the
    Hessian need not be symmetric.
    """
    names = {"custom_jvp_call": "jvp_jaxpr_fun", "custom_vjp_call": "bwd"}
    rules = (eqn.params.get(names.get(eqn.primitive.name, "")) for eqn in every_equation(jaxpr))
    return any(rule is not None and not _is_of_jax(rule) for rule in rules)


def _is_of_jax(rule: Any) -> bool:
    """Whether a rule, as JAX has wrapped it, is written in JAX itself, and so what is handed to ``defjvps``."""
    waiting, seen = [rule], set()
    while waiting:
        function = waiting.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        if isinstance(function, series.linear_util.WrappedFun):
            waiting.append(function.f)
            continue
        code = getattr(function, "__code__", None)
        if code is None or not code.co_filename.startswith(_OF_JAX):
            return False
        for cell in function.__closure__ or ():
            held = cell.cell_contents
            if isinstance(held, tuple | list):
                waiting.extend(f for f in held if callable(f))
            elif hasattr(held, "__code__") or isinstance(held, series.linear_util.WrappedFun):
                waiting.append(held)
    return True
