"""The one table of rules, put together from the families, and the way to add one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backsolve.capture.edges import diagonal, jointly, linear, multiple, quotient
from backsolve.capture.primitives import contraction, elementwise, indexing, reduction, shape
from backsolve.capture.primitives.elementwise import BILINEAR, BINARY, FALLBACK, LINEAR_UNARY, UNARY, ZERO
from backsolve.operators import LinearOperator
from backsolve.tracing.jaxpr import Equation

__all__ = ["FALLBACK", "RULES", "SPLITS", "Rule", "add_rule"]

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


RULES: dict[str, Rule] = {
    **{name: _unary(partial) for name, partial in UNARY.items()},
    **{name: _binary(name, partials) for name, partials in BINARY.items()},
    **{name: Rule(lambda eq, k, c=c: multiple(eq, k, c), None) for name, c in LINEAR_UNARY.items()},  # type: ignore[misc]
    **{name: Rule(lambda eq, k: None, None) for name in ZERO},
    **{name: Rule(linear, operands) for name, operands in indexing.LINEAR.items()},
    **{name: Rule(jointly, operands) for name, operands in indexing.JOINT.items()},
    "mul": Rule(elementwise.product, BILINEAR["mul"]),
    "div": Rule(elementwise.quotient_, BILINEAR["div"]),
    "log": Rule(lambda eq, k: quotient(eq, eq.inputs[0])),
    "integer_pow": Rule(elementwise.integer_power),
    "pow": Rule(elementwise.power),
    "abs": Rule(elementwise.absolute),
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
