"""The graph and its matrix as one still picture, drawn with matplotlib: SVG, PNG or PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from .folds import Item, folded
from .kinds import KINDS
from .layout import chain, lay_out
from .model import Picture, picture_of

__all__ = ["draw"]

INK, FAINT, LINE, GROUP = "#1d2433", "#566072", "#d5dbe6", "#e3e7ef"
FILL = {"source": "#dff3e4", "node": "#ffffff", "sink": "#f6e3f0", "output": "#f6e3f0", "group": GROUP}
KIND = {
    "identity": "#9eadc0",
    "entrywise": "#a8c1ff",
    "product": "#ffa90e",
    "sum": "#a9d57e",
    "moves": "#f3ffca",
    "number": "#7084b9",
    "opaque": "#3e3b6b",
    "composed": "#da787a",
    "group": GROUP,
}
HALF, TITLE, FOOT, LANE, BOX, GAP = 25, 24, 10, 14, 40, 44
SCALE = 72 * 1.35  # units to an inch
LABELLED = 60
TEXT = 16


def _wide(text: str, size: float = 12) -> float:
    return 0.6 * size * len(text)


def _cut(text: str, room: float, size: float = 12) -> str:
    most = max(int(room / (0.6 * size)), 1)
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass
class Box:
    """A visible vertex or group, and where it is."""

    item: Item
    head: str
    under: str
    role: str
    width: float
    x: float = 0.0
    y: float = 0.0


def draw(thing: Any, *, title: str = "", names: Sequence[str] | None = None) -> Figure:
    """Return the figure of a System, a Graph or an OperatorMatrix: its graph beside its matrix, large ones folded."""
    picture, items = folded(picture_of(thing, title, names))
    lay_out(items, picture.edges)
    boxes = [_box(picture, item) for item in _visible(items[0])]
    rep = {v: box for box in boxes for v in range(box.item.start, box.item.stop)}
    figure = Figure(facecolor="white")
    graph = _Canvas(figure)
    width, height = _draw_graph(graph, picture, items, boxes, rep)
    matrix = _Canvas(figure)
    more, high = _draw_matrix(matrix, picture, rep)
    gap, top = 40.0, 46.0
    if width > 1.6 * more:  # the matrix below the graph
        total, tall = max(width, more), height + gap + high + top
        matrix.place(0, top + height + gap, more, high, total, tall)
    else:
        total, tall = width + gap + more, max(height, high) + top
        matrix.place(width + gap, top, more, high, total, tall)
    graph.place(0, top, width, height, total, tall)
    figure.set_size_inches(total / SCALE, tall / SCALE)
    left = 14 / total
    figure.text(left, 1 - 20 / tall, picture.title, size=9, weight="bold", color=INK, va="center", parse_math=False)
    figure.text(left, 1 - 38 / tall, picture.about, size=7, color=FAINT, va="center", parse_math=False)
    return figure


class _Canvas:
    """Axes in units of the page, y downwards."""

    def __init__(self, figure: Figure) -> None:
        self.axes: Axes = figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")

    def place(self, left: float, top: float, width: float, height: float, total: float, tall: float) -> None:
        """Puts what is drawn at this place of a figure of total × tall."""
        self.axes.set_position((left / total, 1 - (top + height) / tall, width / total, height / tall))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, edge: str = "none", rounded: float = 4
    ) -> None:
        style = f"round,pad=0,rounding_size={min(rounded, width / 2, height / 2)}"
        patch = FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor=edge, linewidth=0.7)
        self.axes.add_patch(patch)

    def text(self, x: float, y: float, text: str, size: float = 12, colour: str = INK, **options: Any) -> None:
        options = {"ha": "center", "va": "center", **options}
        self.axes.text(x, y, text, size=size * 72 / SCALE, color=colour, parse_math=False, **options)


def _visible(root: Item) -> Iterator[Item]:
    stack = [root]
    while stack:
        item = stack.pop()
        if item.children and item.open:
            stack.extend(reversed(item.children))
        else:
            yield item


def _box(picture: Picture, item: Item) -> Box:
    if item.vertex >= 0:
        v = picture.vertices[item.vertex]
        head, under, role = f"{v.name} {v.text}".strip(), v.space, v.role
    else:
        head, under, role = item.label, f"{item.stop - item.start} folded", "group"
    width = min(190.0, max(44.0, _wide(head) + 18, _wide(under, 10.5) + 18))
    return Box(item, _cut(head, width - 10), _cut(under, width - 8, 10.5), role, width)


# ---- the graph -----------------------------------------------------------------------------------------------------
def _lanes(a: Item, b: Item) -> list[tuple[int, int, int]]:
    """The lanes that an edge takes: first and last column, and row."""
    above = {id(item) for item in chain(a)}
    path: list[tuple[int, int, int]] = []

    def take(group: Item, layer: int, row: int | None) -> None:
        if row is not None:
            first, count = group.layers[layer]
            path.append((first, first + count - 1, row))

    into, head = [], b
    while head.parent is not None and id(head.parent) not in above:
        into.append(head)
        head = head.parent
    tail = a
    while tail.parent is not head.parent:
        assert tail.parent is not None
        for layer in range(tail.layer + 1, len(tail.parent.layers)):
            take(tail.parent, layer, tail.lanes_out.get(layer))
        tail = tail.parent
    assert head.parent is not None
    for layer in range(tail.layer + 1, head.layer):
        take(head.parent, layer, tail.lanes_out.get(layer))
    for item in reversed(into):
        assert item.parent is not None
        for layer in range(item.layer):
            take(item.parent, layer, item.lanes_in.get(layer))
    return path


def _draw_graph(
    canvas: _Canvas, picture: Picture, items: Sequence[Item], boxes: Sequence[Box], rep: dict[int, Box]
) -> tuple[float, float]:
    joined: dict[tuple[int, int], list[str]] = {}
    for e in picture.edges:
        a, b = rep[e.tail], rep[e.head]
        if a is not b:
            joined.setdefault((a.item.number, b.item.number), []).append(e.label)
    of = {box.item.number: box for box in boxes}
    labelled = len(joined) <= LABELLED
    arrows = [
        (of[a], of[b], labels[0] if len(labels) == 1 else f"{len(labels)} edges", _lanes(of[a].item, of[b].item))
        for (a, b), labels in joined.items()
    ]
    widths: dict[int, float] = {}
    gaps: dict[int, float] = {}
    rows: dict[int, float] = {}

    def grow(table: dict[int, float], key: int, size: float) -> None:
        table[key] = max(table.get(key, 0), size)

    column = {box.item.number: box.item.col + (box.item.cols - 1) // 2 for box in boxes}
    row = {box.item.number: box.item.row + box.item.rows // 2 - 1 for box in boxes}
    for box in boxes:
        n = box.item.number
        grow(widths, column[n], box.width)
        grow(gaps, column[n], GAP)
        grow(rows, row[n], HALF)
        grow(rows, row[n] + 1, HALF)
    groups = [item for item in items if item.children and item.open and item.parent is not None and _shown(item)]
    for group in groups:
        grow(rows, group.row, TITLE)
        grow(rows, group.row + group.rows - 1, FOOT)
    for a, _, label, lanes in arrows:
        if labelled:
            grow(gaps, column[a.item.number], min(_wide(label), 150) + 26)
        for _, _, lane in lanes:
            grow(rows, lane, LANE)
    left: dict[int, float] = {}
    right: dict[int, float] = {}
    x = 18.0
    for c in sorted(widths):
        left[c], right[c] = x, x + widths[c]
        x += widths[c] + gaps[c] + 8 * sum(1 for g in groups if g.col + g.cols - 1 == c)
    end = max(right.values(), default=40) + 24
    top: dict[int, float] = {}
    y = 8.0
    for r in sorted(rows):
        top[r] = y
        y += rows[r]
    for group in sorted(groups, key=lambda g: g.start - (g.stop - g.start) / 1e6):
        here = [c for c in widths if group.col <= c < group.col + group.cols]
        foot = group.row + group.rows - 1
        x0, x1 = left[min(here)] - 8, right[max(here)] + 8
        canvas.box(x0, top[group.row] + 2, x1 - x0, top[foot] + rows[foot] - 4 - top[group.row], "#eef1f6", LINE, 8)
        words = f"{group.label} · {group.place}" if group.place else group.label
        canvas.text(x0 + 6, top[group.row] + 13, _cut(words, x1 - x0 - 10, 10.5), 10.5, FAINT, ha="left")
    for box in boxes:
        n = box.item.number
        box.x, box.y = (left[column[n]] + right[column[n]]) / 2, top[row[n]] + HALF
    taken: dict[int, list[float]] = {}
    for a, b, label, lanes in arrows:
        points = [(a.x + a.width / 2, a.y)]
        for first, last, lane in lanes:
            here = [c for c in widths if first <= c <= last]
            if here:
                height = top[lane] + rows[lane] / 2
                points += [(left[min(here)], height), (right[max(here)], height)]
        points.append((b.x - b.width / 2, b.y))
        _arrow(canvas, points)
        if labelled and label:
            (x0, y0), (x1, y1) = points[:2]
            place = (y0 + y1) / 2 - (9 if y0 == y1 else 0)
            others = taken.setdefault(column[a.item.number], [])
            while any(abs(place - other) < 13 for other in others):
                place += 13
            others.append(place)
            halo = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}
            canvas.text((x0 + x1) / 2, place, _cut(label, 150), bbox=halo)
    for box in boxes:
        x0, y0 = box.x - box.width / 2, box.y - BOX / 2
        if box.role == "group":
            canvas.box(x0 + 4, y0 - 4, box.width, BOX, GROUP, FAINT, 6)
        canvas.box(x0, y0, box.width, BOX, FILL[box.role], FAINT, 14 if box.role == "source" else 6)
        canvas.text(box.x, box.y - (8 if box.under else 0), box.head, weight="bold")
        if box.under:
            canvas.text(box.x, box.y + 9, box.under, 10.5, FAINT)
    return end, y + 10


def _shown(item: Item) -> bool:
    return all(group.open for group in chain(item))


def _arrow(canvas: _Canvas, points: Sequence[tuple[float, float]]) -> None:
    path, codes = [points[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        reach = max(abs(x1 - x0) / 2, 12)
        path += [(x0 + reach, y0), (x1 - reach, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    canvas.axes.add_patch(PathPatch(Path(path, codes), facecolor="none", edgecolor=FAINT, linewidth=0.9))
    (x, y) = points[-1]
    tip = FancyArrowPatch(
        (x - 9, y), (x, y), arrowstyle="-|>", mutation_scale=6, color=FAINT, shrinkA=0, shrinkB=0, linewidth=0.5
    )
    canvas.axes.add_patch(tip)


# ---- the matrix ----------------------------------------------------------------------------------------------------
def _draw_matrix(canvas: _Canvas, picture: Picture, rep: dict[int, Box]) -> tuple[float, float]:
    rows = _lines(picture.rows, set(picture.cols), rep, first_inside=True)
    cols = _lines(picture.cols, set(picture.rows), rep, first_inside=False)
    row_at, col_at = ({v: k for k, (_, vertices) in enumerate(lines) for v in vertices} for lines in (rows, cols))
    cells: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for v, found in picture.diagonal.items():
        cells.setdefault((row_at[v], col_at[v]), []).append(found)
    for e in picture.edges:
        cells.setdefault((row_at[e.head], col_at[e.tail]), []).append((e.cell, e.kind))
    text = max(len(rows), len(cols)) <= TEXT
    widths = [30.0] * len(cols) if text else [max(420 / max(len(cols), 1), 3.0)] * len(cols)
    if text:
        for (_, c), here in cells.items():
            widths[c] = max(widths[c], min(_wide(here[0][0]) + 14, 150))
        widths = [max(w, min(_wide(box.head.split(" ")[0]) + 8, 110)) for w, (box, _) in zip(widths, cols)]
    high = 30.0 if text else min(widths[0], 22.0) if cols else 30.0
    widths = widths if text else [high] * len(cols)
    names = max((min(_wide(_name(box)), 110) for box, _ in rows), default=0) if high >= 11 else 0
    left, top = names + 16, 30.0 if high >= 11 else 16.0
    xs, ys = [left], [top]
    for w in widths:
        xs.append(xs[-1] + w)
    for _ in rows:
        ys.append(ys[-1] + high)
    canvas.box(left - 3, top - 3, xs[-1] - left + 6, ys[-1] - top + 6, "#ffffff", FAINT, 3)
    for (r, c), here in cells.items():
        label, kind = here[0] if len(here) == 1 else ("", "group")
        gap = 1.0 if high > 8 else 0.2
        width, height = widths[c] - 2 * gap, high - 2 * gap
        patch = Rectangle((xs[c] + gap, ys[r] + gap), width, height, facecolor=KIND[kind])
        patch.set_edgecolor(FAINT if kind == "group" else "none")
        patch.set_linewidth(0.4)
        canvas.axes.add_patch(patch)
        if text and label:
            colour = "#ffffff" if kind == "opaque" else INK
            canvas.text(xs[c] + widths[c] / 2, ys[r] + high / 2, _cut(label, widths[c] - 6), 12, colour)
    if high >= 11:
        for k, (box, _) in enumerate(rows):
            canvas.text(left - 8, ys[k] + high / 2, _cut(_name(box), 110), ha="right")
        for k, (box, _) in enumerate(cols):
            room = widths[k] if text else 20
            canvas.text(xs[k] + widths[k] / 2, top - 12, _cut(_name(box), max(room, 24)), 12 if text else 9)
    for lines, at in ((rows, ys), (cols, xs)):
        for k in range(1, len(lines)):
            if _block(lines, k, picture) != _block(lines, k - 1, picture):
                ends = ([left - 3, xs[-1] + 3], [at[k]] * 2) if lines is rows else ([at[k]] * 2, [top - 3, ys[-1] + 3])
                canvas.axes.plot(*ends, color=FAINT, linewidth=0.6)
    used = [kind for kind in KINDS if any(e.kind == kind for e in picture.edges)]
    y = ys[-1] + 22
    for kind in used:
        canvas.box(left, y - 6, 11, 11, KIND[kind], "none", 2)
        canvas.text(left + 18, y, KINDS[kind], 10.5, FAINT, ha="left")
        y += 17
    return max(xs[-1] + 20, left + 240), y + 8


def _name(box: Box) -> str:
    return box.head.split(" ")[0] if box.item.vertex >= 0 else box.head


def _block(lines: Sequence[tuple[Box, list[int]]], k: int, picture: Picture) -> bool:
    v = lines[k][1][0]
    return v in picture.diagonal


def _lines(
    vertices: Sequence[int], others: set[int], rep: dict[int, Box], *, first_inside: bool
) -> list[tuple[Box, list[int]]]:
    """The visible rows or columns with their vertices; those that are rows and columns stand together."""
    found: dict[tuple[bool, int], tuple[Box, list[int]]] = {}
    for v in vertices:
        key = ((v in others) != first_inside, rep[v].item.number)
        found.setdefault(key, (rep[v], []))[1].append(v)
    folded = any(box.item.children for box, _ in found.values())
    nodes = not first_inside  # whether the lines that are rows and columns come second

    def place(entry: tuple[tuple[bool, int], tuple[Box, list[int]]]) -> tuple[bool, int]:
        second, (box, _) = entry[0][0], entry[1]
        return second, box.item.start if folded and second == nodes else 0

    return [line for _, line in sorted(found.items(), key=place)]
