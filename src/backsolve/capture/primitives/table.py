"""The one table of rules, put together from the families, and the way to add one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax import lax

from backsolve.capture.edges import diagonal, jointly, linear, multiple, quotient
from backsolve.capture.primitives import contraction, indexing, reduction, shape
from backsolve.capture.primitives.elementwise import BILINEAR, BINARY, LINEAR_UNARY, UNARY, ZERO, power_base
from backsolve.operators import LinearOperator
from backsolve.tracing.jaxpr import Equation, number_of

__all__ = ["FALLBACK", "RULES", "SPLITS", "Rule", "add_rule"]

FALLBACK: Any = object()  # what a rule returns where JAX's own linearization should serve

Edge = Callable[[Equation, int], LinearOperator | None]


@dataclass(frozen=True)
class Rule:
    """``edge(eq, k)`` is the operator from operand k to the output, None for zero.

    ``tangents`` names the operands in which the primitive is linear, so that the rule serves where their values are not
    known; None for all.
    """

    edge: Edge
    tangents: tuple[int, ...] | None = ()

    def serves(self, linear_operands: list[int]) -> bool:
        """Whether the rule holds with these operands being tangents."""
        return self.tangents is None or all(k in self.tangents for k in linear_operands)


def _unary(partial: Callable[[Any, Any], Any]) -> Rule:
    return Rule(lambda eq, k: diagonal(eq, k, partial(eq.inputs[0], eq.output)))


def _binary(name: str, partials: tuple[Callable[[Any, Any, Any], Any], ...]) -> Rule:
    def edge(eq: Equation, k: int) -> LinearOperator:
        return diagonal(eq, k, partials[k](eq.inputs[0], eq.inputs[1], eq.output))

    return Rule(edge, BILINEAR.get(name, ()))


def _product(eq: Equation, k: int) -> LinearOperator | None:
    """d(ab) = b da + a db.

    A square has one edge, 2a, whose 2 stays a number: as an array a + a would be one more reader of a, and XLA works out a
    cheap-looking a (a sine, say) again in every loop that reads it.
    """
    a, b = eq.eqn.invars
    if a is not b:
        return diagonal(eq, k, eq.inputs[1 - k])
    return diagonal(eq, k, (2, eq.inputs[k])) if k == 0 else None


def _integer_power(eq: Equation, k: int) -> LinearOperator:
    x, n = eq.inputs[0], eq.params["y"]
    return (
        multiple(eq, k, 0)
        if n == 0
        else diagonal(eq, k, lax.mul(x.dtype.type(n), x if n == 2 else lax.integer_pow(x, n - 1)))
    )


def _quotient(eq: Equation, k: int) -> LinearOperator:
    """d(a/b) = da/b − a/b² db, with 1/b worked out once."""
    b = eq.inputs[1]
    number = number_of(b)
    if number is not None and number != 0:
        return diagonal(eq, k, 1 / number)
    if not eq.active[1] and eq.in_shape(0) == eq.in_shape(1) == eq.shape:
        return quotient(eq, b)
    if "1/b" not in eq.shared:
        eq.shared["1/b"] = lax.div(b.dtype.type(1), b)
    r = eq.shared["1/b"]
    return diagonal(eq, k, r if k == 0 else (-1, eq.output, r))


def _power(eq: Equation, k: int) -> LinearOperator | None:
    if eq.active[1]:
        return FALLBACK  # type: ignore[no-any-return]
    return diagonal(eq, k, power_base(eq.inputs[0], eq.inputs[1], eq.output))


def _absolute(eq: Equation, k: int) -> LinearOperator | None:
    if eq.in_dtype(k).kind == "c":
        return FALLBACK  # type: ignore[no-any-return]
    x = eq.inputs[0]
    return diagonal(eq, k, lax.select(lax.ge(x, x.dtype.type(0)), lax.full_like(x, 1), lax.full_like(x, -1)))


RULES: dict[str, Rule] = {
    **{name: _unary(partial) for name, partial in UNARY.items()},
    **{name: _binary(name, partials) for name, partials in BINARY.items()},
    **{name: Rule(lambda eq, k, c=c: multiple(eq, k, c), None) for name, c in LINEAR_UNARY.items()},  # type: ignore[misc]
    **{name: Rule(lambda eq, k: None, None) for name in ZERO},
    **{name: Rule(linear, operands) for name, operands in indexing.LINEAR.items()},
    **{name: Rule(jointly, operands) for name, operands in indexing.JOINT.items()},
    "mul": Rule(_product, BILINEAR["mul"]),
    "div": Rule(_quotient, BILINEAR["div"]),
    "log": Rule(lambda eq, k: quotient(eq, eq.inputs[0])),
    "integer_pow": Rule(_integer_power),
    "pow": Rule(_power),
    "abs": Rule(_absolute),
    "dot_general": Rule(contraction.dot_general, (0, 1)),
    "reshape": Rule(shape.reshape, (0,)),
    "squeeze": Rule(shape.reshape, (0,)),
    "expand_dims": Rule(shape.reshape, (0,)),
    "transpose": Rule(shape.transpose, (0,)),
    "broadcast_in_dim": Rule(shape.broadcast_in_dim, (0,)),
    "convert_element_type": Rule(shape.convert, (0,)),
    "reduce_sum": Rule(reduction.reduce_sum, (0,)),
    "gather": Rule(indexing.gather, (0,)),
    "select_n": Rule(indexing.select_n, None),
    "pad": Rule(indexing.pad, (0, 1)),
    "slice": Rule(indexing.slice_, (0,)),
    "concatenate": Rule(indexing.concatenate, None),
    "stack": Rule(indexing.stack, None),
}

# Primitives with several outputs and one operand: one operator for each output.
SPLITS: dict[str, Callable[[Equation], list[LinearOperator]]] = {"split": indexing.split}

_PROTECTED = frozenset(RULES)


def add_rule(name: str, rule: Rule) -> None:
    """Add a rule for a primitive of the user's own.  Raises `ValueError` for a name that has one."""
    if name in RULES:
        owner = "backsolve itself" if name in _PROTECTED else "an earlier rule"
        raise ValueError(f"primitive {name!r} already has a rule, from {owner}; rules are not replaced silently.")
    RULES[name] = rule
