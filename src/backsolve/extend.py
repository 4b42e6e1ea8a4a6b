"""The only import a rule author needs.

A rule says, for one operand of one primitive, which operator its edge carries.  Entrywise primitives need only their
partial derivatives, linear ones only a word::

    extend.elementwise("my_sin", lambda x, y: jnp.cos(x))
    extend.linear("my_roll")
    extend.rule("my_matvec", lambda eq, k: extend.dense(eq, k, eq.inputs[0]))

`backsolve.testing.check_rule` tells when a rule is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import describe, short
from backsolve.algebra.spaces import unify
from backsolve.capture.opaque import linear as as_it_stands
from backsolve.capture.primitives import add_rule
from backsolve.capture.primitives.arithmetic import diagonal as diagonal
from backsolve.capture.primitives.arithmetic import multiple as multiple
from backsolve.operators import ArraySpace, Einsum, LinearOperator
from backsolve.operators.einsum import Factor
from backsolve.tracing.jaxpr import FALLBACK as FALLBACK
from backsolve.tracing.jaxpr import Equation as Equation
from backsolve.tracing.series import Primitive as Primitive

__all__ = ["FALLBACK", "Equation", "Primitive", "dense", "diagonal", "elementwise", "linear", "multiple", "rule"]


def _name(primitive: Any) -> str:
    name = primitive.name if isinstance(primitive, Primitive) else primitive
    if not isinstance(name, str) or not name:
        raise TypeError(f"a rule is given to a primitive of JAX or to its name, got {short(primitive)}.")
    return name


def elementwise(primitive: Any, *partials: Callable[..., Any]) -> None:
    """Give an entrywise primitive (or its name) its partial derivatives, one for each operand.

    Each is called with all operands and the result, ``partial(x, y)`` or ``partial(a, b, y)``, and returns an array of
    the result's shape or a number.  Raises `ValueError` where the primitive has a rule already.
    """
    if not partials or not all(map(callable, partials)):
        got = ", ".join(map(short, partials)) or "none"
        raise TypeError(f"elementwise takes a function for each operand, its partial derivative, got {got}.")

    def edge(eq: Equation, k: int) -> LinearOperator:
        if len(partials) != len(eq.inputs):
            raise ValueError(
                f"the rule of {eq.name} has {len(partials)} partial derivatives, but the primitive has "
                f"{len(eq.inputs)} operands; give one for each."
            )
        partial = partials[k](*eq.inputs, eq.output)
        for part in partial if isinstance(partial, tuple) else (partial,):
            if not (is_number(part) or _spreads(getattr(part, "shape", None), eq.shape)):
                raise ValueError(
                    f"the partial derivative of {eq.name} by operand {k} must be a number or an array of shape {eq.shape}, "
                    f"got {describe(part)}."
                )
        return diagonal(eq, k, partial)

    add_rule(_name(primitive), edge)


def _spreads(shape: Any, over: tuple[int, ...]) -> bool:
    """Whether an array of this shape is one number, or has for each axis of the other the same size or 1."""
    return shape == () or (shape is not None and len(shape) == len(over) and all(m in (1, n) for m, n in zip(shape, over)))


def linear(primitive: Any, operands: Sequence[int] = (0,)) -> None:
    """Say that a primitive is linear in these operands (all at once): its edge is the primitive itself.

    Its transpose is the one registered with JAX.  Raises `ValueError` where the primitive has a rule already.
    """
    if not isinstance(operands, tuple | list) or not operands or not all(isinstance(k, int) and k >= 0 for k in operands):
        raise TypeError(f"operands of linear are the numbers of some, such as (0, 1), got {short(operands)}.")
    add_rule(_name(primitive), as_it_stands, tuple(operands))


def rule(primitive: Any, edge: Callable[[Equation, int], LinearOperator | None]) -> None:
    """Give a primitive with one output a rule: ``edge(eq, k)`` is the operator from operand k to the output.

    None stands for zero, ``extend.FALLBACK`` for JAX's own linearization.
    Raises `ValueError` where the primitive has a rule already; using it raises `TypeError` where it returns something else,
    `SpaceError` where the operator does not fit the operand and the output.
    """
    if not callable(edge):
        raise TypeError(f"rule takes a function edge(eq, k), got {short(edge)}.")

    def checked(eq: Equation, k: int) -> LinearOperator | None:
        op = edge(eq, k)
        if op is None or op is FALLBACK:
            return op
        if not isinstance(op, LinearOperator):
            raise TypeError(
                f"the rule of {eq.name} returns {describe(op)} for operand {k}; it must return an operator "
                "(extend.diagonal, extend.dense, a LinearOperator of yours), None for zero, or extend.FALLBACK."
            )
        unify(op.domain, ArraySpace(eq.in_shape(k)), f"the domain of the rule of {eq.name} and its operand {k}")
        unify(op.codomain, ArraySpace(eq.shape), f"the codomain of the rule of {eq.name} for operand {k} and the output")
        return op

    add_rule(_name(primitive), checked)


def dense(eq: Equation, k: int, array: Any) -> LinearOperator:
    """The edge whose Jacobian is this array, of shape (shape of the output) + (shape of operand k)."""
    if not 0 <= k < len(eq.inputs):
        raise ValueError(f"{eq.name} has {len(eq.inputs)} operands, counted from 0; there is none with the number {k}.")
    out = tuple(range(len(eq.shape)))
    into = tuple(range(len(out), len(out) + len(eq.in_shape(k))))
    shape = getattr(array, "shape", None)
    if shape is None or tuple(shape) != (*eq.shape, *eq.in_shape(k)):
        raise ValueError(
            f"the Jacobian of {eq.name} by operand {k} must have shape {(*eq.shape, *eq.in_shape(k))}, "
            f"got {describe(array) if shape is None else tuple(shape)}."
        )
    sizes: dict[int, int | None] = dict(zip(out + into, array.shape, strict=True))
    return Einsum((Factor(array, out + into),), out, into, sizes, 1, (eq.in_dtype(k), eq.dtype))
