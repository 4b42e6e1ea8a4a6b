"""What operators can do that `base` does not know: ``@`` and ``+`` of two kinds, and what is taken of one.

The tables here are empty; those who know fill them when the package is imported.  `rules` composes and adds, `measures`
takes norms, and a kind of operator from another folder (`backsolve.sparse`) brings its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["ADD", "COMPOSE", "OPERATIONS", "Rule", "look_up", "operation"]

Rule = Callable[[Any, Any], Any]  # two operators to one; None: no closed form after all
Function = TypeVar("Function", bound=Callable[..., Any])

COMPOSE: dict[tuple[type, type], Rule] = {}
ADD: dict[tuple[type, type], Rule] = {}
OPERATIONS: dict[str, Callable[..., Any]] = {}


def operation(function: Function) -> Function:
    """Enter a function of operators under its name; `LinearOperator`'s methods call it."""
    OPERATIONS[function.__name__] = function
    return function


def look_up(table: dict[tuple[type, type], Rule], a: Any, b: Any) -> Any:
    """What the rule for the kinds of a and b gives, or the nearest kinds they derive from; None where there is no rule."""
    for kind_a in type(a).__mro__:
        for kind_b in type(b).__mro__:
            rule = table.get((kind_a, kind_b))
            if rule is not None:
                return rule(a, b)
    return None
