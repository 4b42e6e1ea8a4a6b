"""What a function calls the leaves of its arguments, and the arguments it was linearized at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax

__all__ = ["Point", "parameter_names", "source_names"]


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


class Point:
    """The arguments by which a function was linearized, leaf by leaf, and what it calls them: told when somebody asks."""

    def __init__(self, f: Callable[..., Any], primals: Sequence[Any], argnums: Sequence[int]) -> None:
        self._function = f
        self._count = len(primals)
        self._argnums = argnums
        self._arguments = [primals[i] for i in argnums]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The name of each leaf, as in ``params['dense']['kernel']``."""
        names = parameter_names(self._function, self._count)
        return source_names([names[i] for i in self._argnums], self._arguments)

    @cached_property
    def values(self) -> tuple[Any, ...]:
        """The leaves."""
        return tuple(jax.tree_util.tree_leaves(self._arguments))

    def outline(self) -> Point:
        """The names alone."""
        told = Point.__new__(Point)
        told.__dict__.update(names=self.names, values=())
        return told

    def __getstate__(self) -> dict[str, Any]:
        """Names and leaves alone: a function need not be one that can be pickled."""
        return {"names": self.names, "values": self.values}
