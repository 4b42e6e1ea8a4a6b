"""An OperatorMatrix as text for a terminal and as LaTeX in the paper's notation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Protocol

from backsolve.algebra.arrays import is_array
from backsolve.algebra.elements import describe, is_one
from backsolve.operators import LinearOperator

__all__ = ["as_latex", "as_text", "element_text", "latex_body"]

_SHOWN = 8  # rows and columns printed before the middle is left out
_WIDTH = 80  # of a terminal
# Columns shown and the longest label, from the best to the narrowest.
_FITS = [
    *((8, 60), (8, 24), (8, 16), (6, 24), (6, 16), (4, 24), (8, 10), (6, 10), (4, 16), (4, 10), (3, 10), (2, 8)),
    *((1, 60), (1, 8)),
]


class Rows(Protocol):
    """What is printed of a matrix."""

    shape: tuple[int, int]

    def row(self, i: int) -> Iterable[tuple[int, Any]]:
        """The elements of a row with their columns."""


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


def _visible(n: int, shown: int = _SHOWN) -> list[int | None]:
    if n <= shown:
        return list(range(n))
    return [*range(shown // 2), None, *range(n - (shown - 1) // 2, n)]


def as_text(A: Rows, width: int = _WIDTH) -> str:
    """The matrix with its elements aligned in columns, in lines of at most ``width``.

    The middle of a large one is left out, and said to be; labels too long for the line are cut.
    """
    labels: dict[tuple[int, int], str] = {}
    for shown, longest in _FITS:
        lines = _lines(A, shown, longest, labels)
        if all(_width(line) <= width for line in lines):
            break
    return "\n".join(lines) or "[]"


def _lines(A: Rows, shown: int, longest: int, labels: dict[tuple[int, int], str]) -> list[str]:
    m, n = A.shape
    rows, cols = _visible(m), _visible(n, shown)
    cells = []
    for i in rows:
        elements = {} if i is None else dict(A.row(i))
        line = []
        for j in cols:
            if i is not None and j is not None and j in elements and (i, j) not in labels:
                labels[i, j] = element_text(elements[j])
            text = "⋮" if i is None else "⋯" if j is None else labels.get((i, j), "·")
            line.append(text if len(text) <= longest else text[: longest - 1] + "…")
        cells.append(line)
    widths = [max((_width(line[k]) for line in cells), default=0) for k in range(len(cols))]
    lines = []
    for p, line in enumerate(cells):
        body = "  ".join(_padded(text, width) for text, width in zip(line, widths, strict=True))
        left, right = ("[", "]") if len(cells) == 1 else ("⎡⎤" if p == 0 else "⎣⎦" if p == len(cells) - 1 else "⎢⎥")
        lines.append(f"{left} {body} {right}")
    return lines


def _padded(text: str, width: int) -> str:
    space = width - _width(text)
    if text[-1:].isdigit():
        return " " * space + text
    return " " * (space // 2) + text + " " * (space - space // 2)


def as_latex(A: Rows) -> str:
    r"""The matrix in LaTeX, operators in the paper's notation: ``(W)_{\mathrm{L}}``."""
    return f"${latex_body(A)}$"


def latex_body(A: Rows, *, identity_minus: bool = False) -> str:
    r"""A, or I − A for an A with an empty diagonal, as a ``bmatrix`` without the signs around mathematics."""
    m, n = A.shape
    rows, cols = _visible(m), _visible(n)
    lines = []
    for i in rows:
        elements = {} if i is None else dict(A.row(i))
        cells = []
        for j in cols:
            cell = r"\vdots" if i is None else r"\cdots" if j is None else _latex_cell(elements.get(j))
            if identity_minus and i is not None and j is not None:
                cell = "I" if i == j else _latex_minus(cell)
            cells.append(cell)
        lines.append(" & ".join(cells))
    return r"\begin{bmatrix} " + r" \\ ".join(lines) + r" \end{bmatrix}"


def _latex_minus(cell: str) -> str:
    if not cell:
        return cell
    if re.search(r"[+-]", cell[1:]) and "{" not in cell:
        return rf"-\left({cell}\right)"
    return cell[1:] if cell[0] == "-" else f"-{cell}"


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
    """A label as printed in a terminal, in LaTeX that every engine takes: what it has no sign for goes by its code."""
    text = re.sub(r" ([∘×·←→⊗+−]) ", r"\1", text)  # LaTeX has its own spaces around these
    out: list[str] = []
    script = False  # whether what stands before is a script, to which LaTeX takes no second of its kind
    for token in _TOKENS.findall(text):
        if token[0] in _SCRIPTS:
            runs = "".join(_SCRIPTS[c][1] for c in token)
            out.append(f"{'{}' if script else ''}{_SCRIPTS[token[0]][0]}{{{runs}}}")
            script = True
            continue
        script = False
        if len(token) > 1:
            out.append(rf"\mathrm{{{token}}}")
        elif token in _LATEX:
            out.append(_LATEX[token])
        elif token in _GREEK:
            out.append(rf"\{_GREEK[token]} ")
        else:
            out.append(token if " " <= token < "\x7f" else rf"\mathtt{{U{ord(token):04X}}}")
    return "".join(out)


_SCRIPTS = {c: ("_", rf"\mathrm{{{c_}}}") for c, c_ in zip("ᴸᴿᴴ", "LRH", strict=True)}
_SCRIPTS |= {"ᵀ": ("^", r"\mathsf{T}"), "•": ("^", r"\bullet"), "⁻": ("^", "-"), "\u0304": ("^", "*")}
_SCRIPTS |= {c: ("_", str(k)) for k, c in enumerate("₀₁₂₃₄₅₆₇₈₉")}
_SCRIPTS |= {c: ("^", str(k)) for k, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_UPPER = "".join(c for c, (where, _) in _SCRIPTS.items() if where == "^")
_LOWER = "".join(c for c, (where, _) in _SCRIPTS.items() if where == "_")
# Runs of scripts of one kind, words, and single characters.
_TOKENS = re.compile(rf"[{_UPPER}]+|[{_LOWER}]+|[A-Za-z]{{2,}}|.", re.DOTALL)
_GREEK_NAMES = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau
    upsilon phi chi psi omega"""
_GREEK = {chr(0x3B1 + k): name for k, name in enumerate(_GREEK_NAMES.split()) if name != "o"}
_GREEK |= {name_of.upper(): name.capitalize() for name_of, name in _GREEK.items() if name_of in "γδθλξπσυφψω"}
_LATEX = {
    "∘": r" \circ ",
    "×": r" \times ",
    "·": r" \cdot ",
    "−": "-",
    "←": r" \leftarrow ",
    "→": r" \rightarrow ",
    "⊗": r" \otimes ",
    "…": r"\ldots ",
    "‖": r"\|",
    "∞": r"\infty ",
    "_": r"\_",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\sim ",
    "^": r"\wedge ",
    "\\": r"\backslash ",
    "\n": " ",
    " ": r"\ ",
}
