"""What operators can do that `base` does not know: ``@`` and ``+`` of two kinds, and what is taken of one.

The tables here are empty; those who know fill them when the package is imported.  `rules` composes and adds, `measures`
takes norms, and a kind of operator from another folder (`backsolve.sparse`) brings its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["ADD", "COMPOSE", "OPERATIONS", "Rule", "operation"]

Rule = Callable[[Any, Any], Any]  # two operators to one; None: no closed form after all
Function = TypeVar("Function", bound=Callable[..., Any])

COMPOSE: dict[tuple[type, type], Rule] = {}
ADD: dict[tuple[type, type], Rule] = {}
OPERATIONS: dict[str, Callable[..., Any]] = {}


def operation(function: Function) -> Function:
    """Enter a function of operators under its name; `LinearOperator`'s methods call it."""
    OPERATIONS[function.__name__] = function
    return function
