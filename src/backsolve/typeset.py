"""An OperatorMatrix as text for a terminal and as LaTeX in the paper's notation."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from .algebra import describe, is_one
from .arrays import is_array
from .operators import LinearOperator

if TYPE_CHECKING:
    from .matrix import OperatorMatrix

__all__ = ["as_latex", "as_text", "element_text"]

_SHOWN = 8  # rows and columns printed before the middle is left out
_SCRIPTS = {"ᴸ": "L", "ᴿ": "R", "ᴴ": "H"}


def element_text(element: Any) -> str:
    """One element in a line: an operator by its label, a number as it prints, anything else by its type and shape."""
    if isinstance(element, LinearOperator):
        return element.label
    if isinstance(element, float):
        return f"{element:.6g}"
    if (is_array(element) and element.ndim) or hasattr(element, "matvec"):
        return "×".join(map(str, element.shape))
    text = str(element)
    return text if "\n" not in text and len(text) <= 40 else describe(element)


def _width(text: str) -> int:
    return sum(not unicodedata.combining(c) for c in text)


def _visible(n: int) -> list[int | None]:
    if n <= _SHOWN:
        return list(range(n))
    return [*range(_SHOWN // 2), None, *range(n - _SHOWN // 2 + 1, n)]


def as_text(A: OperatorMatrix) -> str:
    """The matrix with its elements aligned in columns; the middle of a large one is left out, and said to be."""
    m, n = A.shape
    rows, cols = _visible(m), _visible(n)
    cells = []
    for i in rows:
        elements = {} if i is None else dict(A.row(i))
        cells.append(["⋮" if i is None else "⋯" if j is None else _cell(elements.get(j)) for j in cols])
    widths = [max((_width(line[k]) for line in cells), default=0) for k in range(len(cols))]
    lines = []
    for p, line in enumerate(cells):
        body = "  ".join(_padded(text, width) for text, width in zip(line, widths, strict=True))
        left, right = ("[", "]") if len(cells) == 1 else ("⎡⎤" if p == 0 else "⎣⎦" if p == len(cells) - 1 else "⎢⎥")
        lines.append(f"{left} {body} {right}")
    return "\n".join(lines) or "[]"


def _cell(element: Any) -> str:
    return "·" if element is None else element_text(element)


def _padded(text: str, width: int) -> str:
    space = width - _width(text)
    if text[-1:].isdigit():
        return " " * space + text
    return " " * (space // 2) + text + " " * (space - space // 2)


def as_latex(A: OperatorMatrix) -> str:
    r"""The matrix in LaTeX, operators in the paper's notation: ``(W)_{\mathrm{L}}``."""
    m, n = A.shape
    rows, cols = _visible(m), _visible(n)
    lines = []
    for i in rows:
        elements = {} if i is None else dict(A.row(i))
        lines.append(
            " & ".join(r"\vdots" if i is None else r"\cdots" if j is None else _latex_cell(elements.get(j)) for j in cols)
        )
    return r"$\begin{bmatrix} " + r" \\ ".join(lines) + r" \end{bmatrix}$"


def _latex_cell(element: Any) -> str:
    if element is None:
        return ""
    if is_one(element):
        return "I"
    if hasattr(element, "free_symbols"):  # SymPy prints itself
        from sympy import latex

        return str(latex(element))
    return to_latex(element_text(element))


def to_latex(text: str) -> str:
    """A label as printed in a terminal, in LaTeX."""
    out = []
    for c in text:
        if c in _SCRIPTS:
            out.append(rf"_{{\mathrm{{{_SCRIPTS[c]}}}}}")
        elif c in _LATEX:
            out.append(_LATEX[c])
        elif "₀" <= c <= "₉":
            out.append(f"_{{{ord(c) - ord('₀')}}}")
        else:
            out.append(c)
    return "".join(out)


_LATEX = {
    "∘": r" \circ ",
    "×": r" \times ",
    "ᵀ": r"^{\mathsf{T}}",
    "•": r"^{\bullet}",
    "·": r" \cdot ",
    "−": "-",
    "Δ": r"\Delta ",
    "←": r" \leftarrow ",
    "⊗": r" \otimes ",
    "_": r"\_",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "{": r"\{",
    "}": r"\}",
    "⁻": "^{-",
    "¹": "1}",
    "̄": r"^{*}",
}
