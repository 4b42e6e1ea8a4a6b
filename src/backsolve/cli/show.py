"""`backsolve show`: a function found by its name, linearized at random inputs, as a page or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from backsolve.cli.explain import ExplainError, Inputs, linearize_target, wide_enough
from backsolve.show.output import save, writable
from backsolve.system.system import System

__all__ = ["show_function"]


def show_function(
    target: str, shapes: Sequence[str], dtypes: Sequence[str], order: str | None = None, output: Path | None = None
) -> Path:
    """Write the page (or the picture, by the ending of ``output``) of MODULE:FUNCTION and return its path.

    Raises `ExplainError` for what cannot be found, called or ordered, `OSError` for what cannot be written.
    """
    with wide_enough(dtypes):
        name = target.rpartition(":")[2]
        path = Path(f"{name}.html") if output is None else writable(output)
        _, inputs, system = linearize_target(target, shapes, dtypes)
        return _save(system, inputs, name, order, path)


def _save(system: System, inputs: Inputs, name: str, order: str | None, path: Path) -> Path:
    parameters = [line.split(" ")[0] for line in inputs.lines if "(its default)" not in line]
    names = [
        parameters[i] + jax.tree_util.keystr(leaf)
        for i in inputs.argnums
        for leaf, _ in jax.tree_util.tree_leaves_with_path(inputs.arguments[i])
    ]
    try:
        return save(system, path, order=_order(order), title=name, names=names)
    except ValueError as error:
        raise ExplainError(str(error)) from None


def _order(text: str | None) -> Any:
    if text is None or text in ("forward", "reverse", "markowitz", "auto"):
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ExplainError(f"expected --order forward, reverse, markowitz, auto or numbers such as 2,0,1, got {text!r}.")
    return [int(part) for part in parts]
