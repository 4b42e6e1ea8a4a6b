"""The only import a rule author needs.

A rule says, for one operand of one primitive, which operator its edge carries.  Entrywise primitives need only their
partial derivatives, linear ones only a word:

    extend.elementwise("my_sin", lambda x, y: jnp.cos(x))
    extend.linear("my_roll")
    extend.rule("my_matvec", lambda eq, k: extend.dense(eq, k, eq.inputs[0]))

`backsolve.testing.check_rule` tells when a rule is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .capture.edges import diagonal as diagonal
from .capture.edges import linear as as_it_stands
from .capture.edges import multiple as multiple
from .capture.jaxpr import Equation as Equation
from .capture.jaxpr import Primitive as Primitive
from .capture.rules.table import FALLBACK as FALLBACK
from .capture.rules.table import Rule, add_rule
from .operators import Einsum, LinearOperator
from .operators.einsum import Factor

__all__ = ["FALLBACK", "Equation", "Primitive", "dense", "diagonal", "elementwise", "linear", "multiple", "rule"]


def _name(primitive: Any) -> str:
    return primitive if isinstance(primitive, str) else str(primitive.name)


def elementwise(primitive: Any, *partials: Callable[..., Any]) -> None:
    """Give an entrywise primitive (or its name) its partial derivatives, one for each operand.

    Each is called with all operands and the result, ``partial(x, y)`` or ``partial(a, b, y)``, and returns an array of
    the result's shape or a number.  Raises `ValueError` where the primitive has a rule already.
    """

    def edge(eq: Equation, k: int) -> LinearOperator:
        if len(partials) != len(eq.inputs):
            raise ValueError(
                f"the rule of {eq.name} has {len(partials)} partial derivatives, but the primitive has "
                f"{len(eq.inputs)} operands; give one for each."
            )
        return diagonal(eq, k, partials[k](*eq.inputs, eq.output))

    add_rule(_name(primitive), Rule(edge))


def linear(primitive: Any, operands: Sequence[int] = (0,)) -> None:
    """Say that a primitive is linear in these operands (all at once): its edge is the primitive itself.

    Its transpose is the one registered with JAX.  Raises `ValueError` where the primitive has a rule already.
    """
    add_rule(_name(primitive), Rule(as_it_stands, tuple(operands)))


def rule(primitive: Any, edge: Callable[[Equation, int], LinearOperator | None]) -> None:
    """Give a primitive with one output a rule: ``edge(eq, k)`` is the operator from operand k to the output.

    None stands for zero, ``extend.FALLBACK`` for JAX's own linearization.
    Raises `ValueError` where the primitive has a rule already.
    """
    add_rule(_name(primitive), Rule(edge))


def dense(eq: Equation, k: int, array: Any) -> LinearOperator:
    """The edge whose Jacobian is this array, of shape (shape of the output) + (shape of operand k)."""
    out = tuple(range(len(eq.shape)))
    into = tuple(range(len(out), len(out) + len(eq.in_shape(k))))
    if tuple(array.shape) != (*eq.shape, *eq.in_shape(k)):
        raise ValueError(
            f"the Jacobian of {eq.name} by operand {k} must have shape {(*eq.shape, *eq.in_shape(k))}, "
            f"got {tuple(array.shape)}."
        )
    sizes: dict[int, int | None] = dict(zip(out + into, array.shape, strict=True))
    return Einsum((Factor(array, out + into),), out, into, sizes, 1, (eq.in_dtype(k), eq.dtype))
