"""Where pages and pictures go: into a notebook, a browser, a file."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.show.dot import to_dot
from backsolve.show.heatmap import entries_of, spy_page
from backsolve.show.page import page, read
from backsolve.show.tex import to_latex
from backsolve.system.system import System

__all__ = ["inline", "save", "show", "spy", "writable"]

INLINE = 20_000  # entries of what a notebook shows by itself
_HEIGHT = 780


def show(
    thing: Any, path: str | Path | None = None, *, order: Any = None, title: str = "", names: Sequence[str] | None = None
) -> Path | None:
    """Show a page inline in a notebook, or write it to ``path``, or to a temporary file that the browser opens.

    Returns the path of what was written.  Raises `FileNotFoundError` where the folder of ``path`` does not exist.
    """
    path = None if path is None else writable(path)
    html = page(thing, order, title=title, names=names)
    if path is None and _in_notebook():
        from IPython.display import display

        display(_Inline(_frame(html, title), f"the page of {repr(thing).splitlines()[0]}"))  # type: ignore[no-untyped-call]
        return None
    if path is not None:
        return _write(path, html)
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="backsolve-", delete=False, encoding="utf-8") as file:
        file.write(html)
    webbrowser.open(Path(file.name).as_uri())
    return Path(file.name)


def save(thing: Any, path: str | Path, *, order: Any = None, title: str = "", names: Sequence[str] | None = None) -> Path:
    """Write a page, a picture, DOT or LaTeX, as the ending of ``path`` says.

    Raises `ValueError` for another ending and for an order where nothing steps through it, `FileNotFoundError` where the
    folder of ``path`` does not exist.
    """
    path = writable(path)
    ending = path.suffix.lower()
    if ending in (".html", ".htm"):
        return _write(path, page(thing, order, title=title, names=names))
    if order is not None:
        raise ValueError(f"order is what a page steps through, but {path.name!r} is none; save it as .html.")
    if ending in (".dot", ".gv"):
        return _write(path, to_dot(thing) + "\n")
    if ending == ".tex":
        return _write(path, to_latex(thing, document=True))
    if ending in (".svg", ".png", ".pdf"):
        _need_matplotlib(f"save({path.name!r})")
        from backsolve.show.drawing import draw

        figure = draw(thing, title=title, names=names)
        figure.savefig(path, dpi=160)
        return path
    raise ValueError(f"cannot save as {path.name!r}: the ending must be .html, .svg, .png, .pdf, .dot or .tex.")


def spy(thing: Any, path: str | Path | None = None, *, of: str = "blocks", title: str = "") -> Any:
    """Return a matplotlib figure of where the entries of a matrix are; written to ``path`` if given, of .html as a page.

    Of a System it shows [M | I − L] above [0 | S], with ``of="jacobian"`` its Jacobian; of a Graph I − L.  The page, whose
    path is returned, has the values as a heat map and names rows and columns.  Cost: linear in the entries.
    """
    path = None if path is None else writable(path)
    if path is not None and path.suffix.lower() in (".html", ".htm"):
        return _write(path, spy_page(thing, of=of, title=title))
    _need_matplotlib("spy()")
    from backsolve.show.entries import figure_of

    figure = figure_of(entries_of(thing, of) if of != "blocks" else thing, title)
    if path is not None:
        figure.savefig(path, dpi=160)
    return figure


def inline(thing: Any, order: Any = None) -> str | None:
    """The page for a notebook, in a frame of its own; None for what is too large to be drawn unasked."""
    if isinstance(thing, System):
        entries = len(thing.M.entries) + len(thing.L.entries)
    else:
        A: OperatorMatrix = thing.matrix() if isinstance(thing, Graph) else thing
        entries = len(A.entries) if A.numeric is None else int(A.numeric.csr.nnz)
    return _frame(page(thing, order), "") if entries <= INLINE else None


def _frame(html: str, title: str) -> str:
    """The page in a frame that may run its own script and nothing else, and what makes the frame as tall as the page."""
    return (
        f'<iframe title="{escape(title or "backsolve")}" sandbox="allow-scripts" style="width: 100%; height: {_HEIGHT}px; '
        f'border: 0;" srcdoc="{escape(html, quote=True)}"></iframe>\n<script>\n{read("frames.js")}</script>'
    )


class _Inline:
    """HTML that a notebook shows, and what stands in its place where only text is shown."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def writable(path: str | Path) -> Path:
    """Return the path of a file to be written.  Raises `FileNotFoundError` where its folder does not exist.

    Folders are not made: a name that somebody mistyped should not leave one behind.
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"path is the name of a file, got {path!r}.")
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no folder {str(folder)!r}; make it first.")
    return Path(path)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _need_matplotlib(what: str) -> None:
    try:
        import matplotlib as matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{what} needs matplotlib: pip install 'backsolve[show]'", name="matplotlib") from error
