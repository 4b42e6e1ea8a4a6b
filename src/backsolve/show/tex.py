"""The matrices in LaTeX, in the paper's notation."""

from __future__ import annotations

from typing import Any

from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.text import latex_body
from backsolve.system.system import System

__all__ = ["to_latex"]

_DOCUMENT = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{amsmath,amssymb}
\usepackage[paperwidth=1000mm,paperheight=500mm,margin=10mm]{geometry}
\pagestyle{empty}
\begin{document}
%s
\end{document}
"""


def to_latex(thing: Any, *, document: bool = False) -> str:
    r"""Return a System's, a Graph's or an OperatorMatrix's matrices as a LaTeX display, which needs amsmath.

    Large matrices leave out the middle, as their text does.
    Raises `TypeError` for anything else.

    Example:
        >>> from backsolve import Graph
        >>> print(to_latex(Graph({("a", "b"): 2})))
        \[
        \begin{aligned}
        I - L^{\mathsf{T}} &= \begin{bmatrix} I & -2 \\  & I \end{bmatrix} \\
        \text{path weights} &= S_0^{\mathsf{T}} \, (I - L^{\mathsf{T}})^{-1} \, S_1
        \end{aligned}
        \]
    """
    if isinstance(thing, System):
        M, L, S = thing.M, thing.L, thing.sinks
        lines = [
            r"\mathrm{d}x &= M \, \mathrm{d}p + L \, \mathrm{d}x, \qquad \mathrm{d}y = S \, \mathrm{d}x",
            rf"M &= {latex_body(M)}",
            rf"I - L &= {latex_body(L, identity_minus=True)}",
            rf"S &= {latex_body(S)}",
            r"\nabla J &= M^{\mathsf{T}} \bigl( (I - L^{\mathsf{T}}) \backslash S^{\mathsf{T}} g \bigr)",
        ]
    elif isinstance(thing, Graph):
        lines = [
            rf"I - L^{{\mathsf{{T}}}} &= {latex_body(thing.matrix(), identity_minus=True)}",
            r"\text{path weights} &= S_0^{\mathsf{T}} \, (I - L^{\mathsf{T}})^{-1} \, S_1",
        ]
    elif isinstance(thing, OperatorMatrix):
        lines = [latex_body(thing)]
    else:
        raise TypeError(f"to_latex takes a System, a Graph or an OperatorMatrix, got {type(thing).__name__}.")
    text = "\\[\n" + (lines[0] if len(lines) == 1 else _aligned(lines)) + "\n\\]"
    return _DOCUMENT % text if document else text


def _aligned(lines: list[str]) -> str:
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"
