"""The graph in DOT, the language of Graphviz."""

from __future__ import annotations

from typing import Any

from backsolve.show.model import Vertex, picture_of

__all__ = ["to_dot"]

_STYLE = {
    "source": 'style="rounded,filled", fillcolor="#dff3e4"',
    "node": 'style="filled", fillcolor="#ffffff"',
    "sink": 'style="filled", fillcolor="#f6e3f0"',
    "output": 'style="filled", fillcolor="#f6e3f0"',
}


def to_dot(thing: Any) -> str:
    """Return the graph of a System, a Graph or an OperatorMatrix in DOT.

    Example:
        >>> from backsolve import Graph
        >>> print(to_dot(Graph({("a", "b"): 2})))
        digraph "Graph" {
          rankdir=LR;
          node [shape=box, fontname="DejaVu Sans", fontsize=10];
          edge [fontname="DejaVu Sans", fontsize=9];
          v0 [label="a", style="rounded,filled", fillcolor="#dff3e4"];
          v1 [label="b", style="filled", fillcolor="#f6e3f0"];
          v0 -> v1 [label="2"];
        }
    """
    picture = picture_of(thing)
    lines = [
        f"digraph {_quoted(picture.title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, fontname="DejaVu Sans", fontsize=10];',
        '  edge [fontname="DejaVu Sans", fontsize=9];',
        *(f"  v{i} [label={_label(v)}, {_STYLE[v.role]}];" for i, v in enumerate(picture.vertices)),
        *(f"  v{e.tail} -> v{e.head} [label={_quoted(e.label)}];" for e in picture.edges),
        "}",
    ]
    return "\n".join(lines)


def _label(v: Vertex) -> str:
    first = f"{v.name} {v.text}".strip()
    return _quoted(first, *([v.space] if v.space else []), *([v.place] if v.place else []))


def _quoted(*lines: str) -> str:
    r"""Lines of text as a DOT string: ``\n`` between them, quotes and backslashes of the text itself kept as they are."""
    parts = [" ".join(line.replace("\\", "\\\\").replace('"', '\\"').split()) for line in lines]
    return '"' + "\\n".join(parts) + '"'
