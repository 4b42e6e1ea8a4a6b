"""How an entry of the zoo of primitives is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A function whose jaxpr holds the primitive, and arguments for it; which modes JAX itself can do.

    ``adjoint`` is False where JAX's own two modes are not each other's transpose.
    """

    f: Callable[..., Any]
    args: tuple[Any, ...]
    vjp: bool = True
    jvp: bool = True
    rtol: float | None = None
    adjoint: bool = True


def case(f: Callable[..., Any], *args: Any, **options: Any) -> Case:
    """A case, with its arguments in line."""
    return Case(f, args, **options)
