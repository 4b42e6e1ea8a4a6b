"""What a function calls its arguments, and their leaves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

__all__ = ["parameter_names", "source_names"]


def source_names(names: Sequence[str], arguments: Sequence[Any]) -> tuple[str, ...]:
    """The leaves of arguments of these names, as Python would get at them."""
    return tuple(
        name + jax.tree_util.keystr(path)
        for name, argument in zip(names, arguments, strict=True)
        for path, _ in jax.tree_util.tree_leaves_with_path(argument)
    )


def parameter_names(f: Callable[..., Any], count: int) -> list[str]:
    """What f calls its first arguments."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # it does not tell
        return [f"argument{i}" for i in range(count)]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "argument")
    return (names + [f"{rest}[{k}]" for k in range(count - len(names))])[:count]
