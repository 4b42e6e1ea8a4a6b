"""The table of primitives, one record each.  It is empty here: `backsolve.capture.primitives` fills it.

So those who read it (constant folding, index maps, batch axes) may lie below those whose operators stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern
from backsolve.tracing.jaxpr import Equation, Kind, carries_derivatives

__all__ = ["FALLBACK", "PRIMITIVES", "Edge", "Primitive", "each", "is_constant", "record_of", "unknown"]

FALLBACK: Any = object()  # what an edge function returns where JAX's own linearization should serve

Edge = Callable[[Equation, int], LinearOperator | None]
Evaluate = Callable[..., Any]


def unknown(eq: Equation, k: int) -> Any:
    """The edge function of a primitive that has none."""
    return FALLBACK


@dataclass(frozen=True)
class Primitive:
    """What is known of a primitive.

    ``edge(eq, k)`` is the operator from operand k to the output, None for zero; ``edges(eq)`` has one operator for each
    output of a primitive with one operand.  Without either JAX's own linearization serves.
    ``linear`` names the operands in which the primitive is linear, so that the edge serves where their values are not
    known; None for all.  With ``bilinear`` that is so of one of them at a time.
    ``kind`` says what it does with entries.
    ``evaluate(params, *operands)`` computes the output of NumPy arrays; NotImplemented where it does not know it.
    ``index_map(eqn, k, operands)`` is the exact sparse operator from operand k to the output, None where there is none;
    one that moves or joins entries needs none of its own, it is evaluated on their numbers.
    ``axes(eq, k)`` says where in the output the axes of operand k are along which each entry of the one depends on one
    entry of the other alone; of entrywise primitives, and where an edge by shapes alone tells, it is known without.
    ``eager(params, *operands)`` computes the output of concrete arrays by fewer programs than JAX would compile.
    ``pattern(eqn, k)`` has the places between operand k and the output that may be non-zero, of a primitive whose numbers
    are had by applying it.
    ``constant(eqn)`` is whether the output is piecewise constant, whatever the derivatives of the operands are.
    ``work(eqn)`` is how many multiplications each entry of the output takes, where that is more than a few.
    """

    edge: Edge = unknown
    linear: Container[int] | None = ()
    kind: Kind = Kind.OTHER
    evaluate: Evaluate | None = None
    index_map: Callable[[Any, int, Any], Sparse | None] | None = None
    axes: Callable[[Equation, int], dict[int, int]] | None = None
    edges: Callable[[Equation], list[LinearOperator]] | None = None
    eager: Callable[..., Any] | None = None
    work: Callable[[Any], float] | None = None
    pattern: Callable[[Any, int], Pattern | None] | None = None
    bilinear: bool = False
    constant: Callable[[Any], bool] | None = None

    def serves(self, eqn: Any, tangents: list[int]) -> bool:
        """Whether there is an edge function and it holds with these operands being tangents.

        Not where an index or a mask follows from a tangent, or two of them are multiplied: a pullback that is not linear may
        do that.
        """
        if self.edge is unknown or (self.bilinear and len(tangents) > 1):
            return False
        return all((self.linear is None or k in self.linear) and carries_derivatives(eqn.invars[k].aval) for k in tangents)


def each(function: Callable[..., Any]) -> Evaluate:
    """The evaluation of a primitive without parameters."""
    return lambda params, *operands: function(*operands)


PRIMITIVES: dict[str, Primitive] = {}  # by name
_NOTHING = Primitive()


def record_of(name: str) -> Primitive:
    """What is known of the primitive with this name, if only nothing."""
    return PRIMITIVES.get(name, _NOTHING)


def is_constant(eqn: Any) -> bool:
    """Whether the output of an equation is piecewise constant, whatever the derivatives of its operands are."""
    constant = record_of(eqn.primitive.name).constant
    return constant is not None and constant(eqn)
