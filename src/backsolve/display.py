"""The methods by which a System, a Graph and an OperatorMatrix let themselves be looked at; `backsolve.show` does it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["IMPORTS", "VIEWERS", "Showable", "ShowablePlan", "cell_of", "file_of", "plural", "viewer"]

VIEWERS: dict[str, Callable[..., Any]] = {}  # filled by backsolve.show when it is imported,
IMPORTS: list[Callable[[], Any]] = []  # which these do, when a viewer is first asked for


def viewer(name: str) -> Any:
    """The function of this name that lets things be looked at."""
    if name not in VIEWERS:
        for bring in IMPORTS:
            bring()
    return VIEWERS[name]


class Showable:
    """Pages, pictures, DOT and LaTeX.  What draws them is imported when it is first asked for."""

    __slots__ = ()

    def show(self, path: str | Path | None = None, *, order: Any = None, title: str = "", names: Any = None) -> Path | None:
        """Show the graph, the block matrix and its elimination, step by step.

        In a notebook without ``path`` the page appears inline, and None is returned; elsewhere it is written to ``path``,
        or to a temporary file which the browser opens, and the path is returned.  The page needs nothing else and opens
        offline.  ``order`` is what it begins with: a Plan, "forward", "reverse", "markowitz", "auto" or a sequence of nodes;
        the others are on the page too, and a click on a node begins an order of one's own.  ``names`` holds one name for
        each source of a System, by default those of the function's arguments.
        Raises `ValueError` for an order that is not one, or for more entries than can be drawn, `FileNotFoundError` where
        the folder of ``path`` does not exist.
        """
        written: Path | None = viewer("show")(self, path, order=order, title=title, names=names)
        return written

    def save(self, path: str | Path, *, order: Any = None, title: str = "", names: Any = None) -> Path:
        """Write the page (.html), the picture (.svg, .png, .pdf), the graph (.dot) or the formula (.tex), by the ending.

        Pictures need matplotlib.  Raises `ValueError` for another ending, `FileNotFoundError` where the folder of ``path``
        does not exist.
        """
        written: Path = viewer("save")(self, path, order=order, title=title, names=names)
        return written

    def spy(self, path: str | Path | None = None, *, of: str = "blocks", title: str = "") -> Any:
        """Return a matplotlib figure of where the entries are, for up to millions of them; written to ``path`` if given.

        With a ``path`` that ends in .html a page, whose path is returned: a heat map, rows and columns named where they are
        pointed at.  ``of="jacobian"`` shows the Jacobian of a linearized function in place of its block matrix (of a
        gradient, then, the Hessian), its blocks by the leaves of arguments and outputs.
        Raises `ValueError` for another ``of``.
        """
        return viewer("spy")(self, path, of=of, title=title)

    def to_dot(self) -> str:
        """Return the graph in DOT, the language of Graphviz."""
        text: str = viewer("to_dot")(self)
        return text

    def to_latex(self, *, document: bool = False) -> str:
        r"""Return the matrices in the paper's notation as a LaTeX display, ``\[ … \]``, which needs amsmath.

        With ``document`` a whole file, ready to be compiled.
        """
        text: str = viewer("to_latex")(self, document=document)
        return text

    def _repr_html_(self) -> str | None:
        html: str | None = viewer("inline")(self)
        return html


class ShowablePlan:
    """The same for a Plan, which keeps an outline of its system: shapes in place of arrays."""

    outline: Any

    def show(self, path: str | Path | None = None, *, title: str = "") -> Path | None:
        """Show the graph and its matrix, and the elimination step by step; see `System.show`.

        Raises `ValueError` for a plan that was made from a network alone.
        """
        if self.outline is None:
            raise ValueError("this plan keeps no system to show; make it with System.plan or backsolve.plan.")
        written: Path | None = viewer("show")(self.outline, path, order=self, title=title)
        return written

    def _repr_html_(self) -> str | None:
        return None if self.outline is None else viewer("inline")(self.outline, self)


def plural(n: int, word: str) -> str:
    """A number of things in words.

    Example:
        >>> plural(1, "node"), plural(2_000, "entry")
        ('1 node', '2,000 entries')
    """
    many = f"{word[:-1]}ies" if word[-1] == "y" else f"{word}s"
    return f"{n:,} {word if n == 1 else many}"


# ---- cells of notebooks ----------------------------------------------------------------------------------------------
def cell_of(path: str) -> str:
    """A file as its user calls it: of a notebook's cell ``In[3]``, any other by its path."""
    named = getattr(_compiler(), "format_code_name", None)
    entry = named(path) if named is not None else None
    return entry[1] if entry else path


def file_of(name: str) -> str:
    """The file that `cell_of` gave this name, whose lines `linecache` has."""
    cells = getattr(_compiler(), "_filename_map", {})  # IPython has no other way back
    return next((path for path, number in cells.items() if name == f"In[{number}]"), name)


def _compiler() -> Any:
    """What compiles the cells of this notebook, or None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "compile", None)
