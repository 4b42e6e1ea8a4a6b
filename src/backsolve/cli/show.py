"""`backsolve show`: a function found by its name, linearized at random inputs, as a page or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backsolve.cli.explain import ExplainError, linearize_target, wide_enough
from backsolve.show.output import save, writable

__all__ = ["show_function"]


def show_function(
    target: str,
    shapes: Sequence[str],
    dtypes: Sequence[str],
    order: str | None = None,
    output: Path | None = None,
    args: str | None = None,
) -> Path:
    """Write the page (or the picture, by the ending of ``output``) of MODULE:FUNCTION and return its path.

    Raises `ExplainError` for what cannot be found, called or ordered, `OSError` for what cannot be written.
    """
    with wide_enough(dtypes, args):
        name = target.rpartition(":")[2]
        path = Path(f"{name}.html") if output is None else writable(output)
        call, system = linearize_target(target, shapes, dtypes, args)
        try:
            return save(system, path, order=_order(order), title=name, names=call.names)
        except ValueError as error:
            raise ExplainError(str(error)) from None


def _order(text: str | None) -> Any:
    if text is None or text in ("forward", "reverse", "markowitz", "auto"):
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ExplainError(f"expected --order forward, reverse, markowitz, auto or numbers such as 2,0,1, got {text!r}.")
    return [int(part) for part in parts]
