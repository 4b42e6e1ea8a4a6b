"""`backsolve show`: a function found by its name, linearized at random inputs, as a page or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from ..capture import linearize
from ..explain import ExplainError, find_function, make_inputs
from .output import save

__all__ = ["show_function"]


def show_function(
    target: str, shapes: Sequence[str], dtypes: Sequence[str], order: str | None = None, output: Path | None = None
) -> Path:
    """Write the page (or the picture, by the ending of ``output``) of MODULE:FUNCTION and return its path.

    Raises `ExplainError` for what cannot be found, called, ordered or written.
    """
    function = find_function(target)
    inputs = make_inputs(function, shapes, dtypes)
    name = target.rpartition(":")[2]

    def called(*arguments: Any) -> Any:
        return function(*arguments, **inputs.keywords)

    try:
        system = linearize(called, *inputs.arguments, argnums=inputs.argnums)
    except Exception as error:  # whatever the user's function raises is told as its own
        taken = "\n  ".join(inputs.lines)
        raise ExplainError(
            f"{target} cannot be linearized with these inputs:\n  {taken}\n"
            f"{type(error).__name__}: {str(error).strip()}\nOther inputs: --shape NAME=3,4 --dtype NAME=int32"
        ) from error
    parameters = [line.split(" ")[0] for line in inputs.lines if "(its default)" not in line]
    names = [
        parameters[i] + jax.tree_util.keystr(path)
        for i in inputs.argnums
        for path, _ in jax.tree_util.tree_leaves_with_path(inputs.arguments[i])
    ]
    path = Path(f"{name}.html") if output is None else output
    try:
        return save(system, path, order=_order(order), title=name, names=names)
    except ValueError as error:
        raise ExplainError(str(error)) from error


def _order(text: str | None) -> Any:
    if text is None or text in ("forward", "reverse", "markowitz", "auto"):
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ExplainError(f"expected --order forward, reverse, markowitz, auto or numbers such as 2,0,1, got {text!r}.")
    return [int(part) for part in parts]
