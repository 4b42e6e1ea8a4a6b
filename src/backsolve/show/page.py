"""The page: one HTML file that opens offline, with its data, its style and its script inside."""

from __future__ import annotations

import json
import linecache
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from backsolve.show.folds import Item, folded
from backsolve.show.kinds import KINDS
from backsolve.show.layout import lay_out
from backsolve.show.model import Picture, picture_of
from backsolve.show.numbers import Grid
from backsolve.show.steps import FORWARD, MOST, REVERSE, Counting, Run, runs, scalar_output
from backsolve.show.symbols import telling
from backsolve.show.values import Values, operator_grids, vectors

__all__ = ["document", "embedded", "page", "read"]

SCRIPTS = (
    *("graph.js", "labels.js", "matrix.js", "data.js", "draw.js", "counting.js", "steps.js"),
    *("pointing.js", "thumb.js", "own.js", "page.js"),
)  # in this order
UNFOLDED = 1_500  # items that "unfold all" makes visible
STEPPED = 10_000  # vertices whose elimination is stepped through
LOOP_STEPS, LOOP_ENTRIES = 200, 10_000_000  # of loops that are drawn step by step too


def page(
    thing: Any,
    order: Any = None,
    *,
    title: str = "",
    names: Sequence[str] | None = None,
    order_name: str = "",
) -> str:
    """Return the page of a System, a Graph or an OperatorMatrix as HTML that needs nothing else.

    ``order`` is a Plan, "forward", "reverse", "auto" or "markowitz", or a sequence naming every node that can be eliminated
    once: what the page begins with.  Forward and back substitution, the Markowitz order and the plan's are there too, and
    a click on a node begins an order of one's own.  ``names`` are those of a System's sources.  Loops of a captured
    function are one edge each; where their steps are few, a button shows the same step by step.
    Raises `TypeError` for another object, `ValueError` for an incomplete order or more entries than can be drawn.

    Example:
        >>> from backsolve import Graph
        >>> "path weights" in page(Graph({("a", "b"): 2, ("b", "c"): 3}), title="Two edges")
        True
    """
    picture = picture_of(thing, title, names)
    steps = _step_by_step(thing) if order is None or isinstance(order, str) else None
    button = '<button id="loops" type="button">{}</button>'
    body = _body(picture, order, order_name, button.format("loops step by step") if steps else "")
    beside = ""
    if steps:
        other = picture_of(steps, title, names)
        note = "A loop is a node for each step here, as unfolded() has it, and counts are of that system."
        other = replace(other, notes=(*other.notes, note))
        beside = f'<template id="other">{_body(other, order, order_name, button.format("loops as one edge"))}</template>'
    script = "\n".join(["function start(ended, address) {", *map(read, SCRIPTS), "}", read("run.js")])
    return document(picture.title, body, script, beside=beside)


def document(title: str, body: str, script: str, *, kind: str = "", beside: str = "") -> str:
    """The whole HTML of a page: its head, its body, what lies hidden ``beside`` it, and its script."""
    return Template(read("document.html")).substitute(
        title=escape(title),
        style=read("page.css"),
        kind=kind,
        body=body,
        beside=beside,
        script="(() => {\n'use strict';\nconst tallest = () => (parent === window ? innerHeight : 800);\n"
        + script
        + read("framed.js")
        + "})();",
    )


def _step_by_step(thing: Any) -> Any:
    """A captured function's system with its loops taken apart; None where there are none, or too many steps to be drawn."""
    sizes = getattr(thing, "loop_sizes", ())
    if not sizes or sum(steps for steps, _ in sizes) > LOOP_STEPS or sum(n for _, n in sizes) > LOOP_ENTRIES:
        return None
    steps = thing.unfolded()
    return steps if steps.L.shape != thing.L.shape else None


def _body(picture: Picture, order: Any, order_name: str, loops: str) -> str:
    picture, items = folded(picture)
    lay_out(items, picture.edges)
    steps, counting = runs(picture, order, order_name) if len(picture.vertices) <= STEPPED else ([], None)
    steps = steps if picture.nodes else []  # what has no inner nodes has nothing to step through
    values = vectors(picture) if steps else Values({})
    data = _data(picture, items, steps, values)
    data["counting"] = _counting(counting)
    data["grids"] = {n: _grid(grid) for n, grid in operator_grids(picture).items()}
    data["scalar"] = scalar_output(picture)
    text = Template(read("page.html"))
    uncounted = f"Multiplications are not counted: there are more than {MOST:,} products of edges."
    notes = [*picture.notes, *_fold_notes(picture, items), values.note]
    notes += [uncounted] if steps and not steps[0].costs and steps[0].order else []
    notes = [note for note in (_point(picture), *notes) if note]
    return text.substitute(
        title=escape(picture.title),
        about=escape(picture.about),
        formula=escape(picture.formula),
        notes="".join(f'<p class="whole">{escape(note)}</p>' for note in notes),
        matrix=escape(heading(picture)),
        loops=loops,
        data=embedded(data),
    )


def heading(picture: Picture) -> str:
    """What the matrix beside the graph is."""
    if picture.ends:
        return "Block matrix [ M | I − L ] above [ 0 | S ]"
    if picture.diagonal:
        plain = all(label in ("I", "1") for label, _ in picture.diagonal.values())
        return "Block matrix I − L" if plain else "Block matrix D − N"
    return "Block matrix"


def read(name: str) -> str:
    """The text of a file that pages are made of."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def embedded(data: Any) -> str:
    """JSON that can stand inside a script element: no character of it ends one."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _point(picture: Picture) -> str:
    """Where the derivatives are taken."""
    numbered = sorted((int(v.name[1:]), v.text or v.name, v.at) for v in picture.vertices if v.at)
    told = [f"{name} of {at}" if "norm" in at else f"{name} = {at}" for _, name, at in numbered]
    more = f" and {len(told) - 6} more" if len(told) > 6 else ""
    return f"At {', '.join(told[:6])}{more}." if told else ""


def _fold_notes(picture: Picture, items: Sequence[Item]) -> list[str]:
    notes = []
    closed = [item for item in items if item.children and not item.open and (item.parent is None or item.parent.open)]
    if closed:
        hidden = sum(item.stop - item.start for item in closed)
        notes.append(
            f"{hidden:,} of {len(picture.vertices):,} vertices are folded into {len(closed):,} groups "
            "(calls, lines of code or stretches); a click unfolds one."
        )
    if picture.nodes and len(picture.vertices) > STEPPED:
        notes.append(f"Elimination is not stepped through beyond {STEPPED:,} vertices.")
    return notes


def _data(picture: Picture, items: Sequence[Item], walks: Sequence[Run], values: Values) -> dict[str, Any]:
    strings: dict[str, int] = {}

    def word(text: str) -> int:
        return strings.setdefault(text, len(strings))

    kinds = list(KINDS)
    number = {kind: k for k, kind in enumerate(kinds)}
    lines, source = _source(picture)
    line_of = {line: k for k, line in enumerate(lines)}
    counts = Counter(e.kind for e in picture.edges)
    sources = [v for v in picture.vertices if v.role == "source" and v.text]
    shown = dict(zip((v.name for v in sources), telling([v.text for v in sources]), strict=True))
    return {
        "vertices": [
            [v.name, v.role, word(v.text), word(v.space), line_of.get(_line(v.place), -1), word(shown.get(v.name, "")), v.at]
            for v in picture.vertices
        ],
        "edges": [[e.tail, e.head, word(e.label), number[e.kind], word(e.cell), _finite(e.value)] for e in picture.edges],
        "rows": picture.rows,
        "cols": picture.cols,
        "diagonal": [[v, word(label), number[kind]] for v, (label, kind) in picture.diagonal.items()],
        "items": [_item(item) for item in items],
        "runs": [_run(run, values) for run in walks],
        "kinds": [[kind, words, counts[kind]] for kind, words in KINDS.items()],
        "lines": lines,
        "source": source,
        "strings": list(strings),
        "most": UNFOLDED,
        "keys": [[v, node if picture.ends else k] for k, (node, v) in enumerate(picture.nodes.items())],
        "system": bool(picture.ends),
    }


def _finite(x: float | None) -> float | None:
    """A number as JSON has it."""
    return None if x is None or not math.isfinite(x) else float(f"{x:.9g}")


def _grid(grid: Grid) -> list[Any]:
    return ["×".join(map(str, grid.shape)), grid.rows, grid.cols, [_finite(x) for x in grid.numbers]]


def _counting(counting: Counting | None) -> dict[str, Any] | None:
    if counting is None:
        return None
    structures = counting.structures
    return {
        "nodes": list(counting.vertex.items()),
        "into": [[i, j, s] for i, row in structures.into.items() for j, s in row.items()],
        "products": [[a, b, _or_none(p.result), p.multiplications] for (a, b), p in structures.products.items()],
        "sums": [[a, b, _or_none(s)] for (a, b), s in structures.sums.items()],
        "entries": structures.entries,
    }


def _or_none(structure: int | None) -> int:
    return -1 if structure is None else structure


def _item(item: Item) -> list[Any]:
    return [
        item.label,
        item.place,
        -1 if item.parent is None else item.parent.number,
        item.vertex,
        item.start,
        item.stop,
        item.col,
        item.cols,
        item.row,
        item.rows,
        int(item.open),
        list(item.lanes_out.items()),
        list(item.lanes_in.items()),
        item.layer,
        item.layers,
    ]


def _run(run: Run, values: Values) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": run.name, "order": run.order, "costs": run.costs, "method": run.method}
    entry["cost"] = None if run.cost is None else float(f"{run.cost:.4g}")
    for direction, name, head in (("forward", FORWARD, "dx"), ("reverse", REVERSE, "x̄")):
        if run.name == name and direction in values.found:
            grids = {v: _grid(grid) for v, grid in values.grids[direction].items()}
            entry |= {"values": values.found[direction], "head": head, "grids": grids}
    return entry


def _line(place: str) -> str:
    return ":".join(place.split(":")[:2])


def _source(picture: Picture, read: Callable[[str], list[str]] = linecache.getlines) -> tuple[list[str], list[Any]]:
    """The lines of code that vertices come from, as file:line or In[3]:line, and what is printed of each file."""
    at: dict[str, tuple[str, int]] = {}
    for v in picture.vertices:
        if v.place and _line(v.place) not in at:
            at[_line(v.place)] = (v.path, int(v.place.split(":")[1]))
    lines = list(at)
    source = []
    for path in dict.fromkeys(path for path, _ in at.values()):
        text = read(path)
        mine = {no: k for k, (where, no) in enumerate(at.values()) if where == path}
        if not text:
            continue
        shown: list[Any] = []
        previous = None
        for no in sorted(mine):
            if previous is not None:
                between = range(previous + 1, no) if no - previous <= 6 else range(0)
                shown += [[k, text[k - 1].rstrip("\n"), -1] for k in between if k <= len(text)]
                if no - previous > 6:
                    shown.append(["⋮", "", -1])
            shown.append([no, text[no - 1].rstrip("\n") if no <= len(text) else "", mine[no]])
            previous = no
        source.append([next(line.split(":")[0] for line, (where, _) in at.items() if where == path), shown])
    return lines, source
