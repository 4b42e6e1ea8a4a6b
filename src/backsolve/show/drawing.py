"""The graph and its matrix as one still picture, drawn with matplotlib: SVG, PNG or PDF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from backsolve.show.folds import Item, folded
from backsolve.show.kinds import KINDS
from backsolve.show.layout import chain, lay_out
from backsolve.show.model import Picture, picture_of
from backsolve.show.routing import BOX, LABEL, Arrow, Box, Point, cut, place, place_labels, wide

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
SCALE = 72 * 1.35  # units to an inch
LABELLED = 60
TEXT = 16
ASPECT = 1.6  # of a picture, about
ROOM = 1_000  # width of the graph; what is much wider is broken into bands


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
    beside = width + gap + more, max(height, high) + top
    below = max(width, more), height + gap + high + top
    if abs(log(below[0] / below[1] / ASPECT)) < abs(log(beside[0] / beside[1] / ASPECT)):
        total, tall = below
        matrix.place(0, top + height + gap, more, high, total, tall)
    else:
        total, tall = beside
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
    width = min(190.0, max(44.0, wide(head) + 18, wide(under, 10.5) + 18))
    return Box(item, cut(head, width - 10), cut(under, width - 8, 10.5), role, width)


# ---- the graph -----------------------------------------------------------------------------------------------------
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
        Arrow(of[a], of[b], labels[0] if len(labels) == 1 else f"{len(labels)} edges") for (a, b), labels in joined.items()
    ]
    groups = [item for item in items if item.children and item.open and item.parent is not None and _shown(item)]
    width, height, hulls = place(boxes, arrows, groups, labelled=labelled, room=ROOM)
    for group, (x0, y0, x1, y1), first in sorted(hulls, key=lambda hull: len(chain(hull.group))):
        canvas.box(x0, y0, x1 - x0, y1 - y0, "#eef1f6", LINE, 8)
        words = f"{group.label} · {group.place}" if group.place else group.label
        canvas.text(x0 + 6, y0 + 11, cut(words if first else f"… {words}", x1 - x0 - 10, 10.5), 10.5, FAINT, ha="left")
    for arrow in arrows:
        _arrow(canvas, arrow.points)
    if labelled:
        place_labels(arrows, boxes, width)
    for arrow in arrows:
        if arrow.at is not None:
            halo = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
            canvas.text(*arrow.at, cut(arrow.label, LABEL), bbox=halo)
    for box in boxes:
        x0, y0 = box.x - box.width / 2, box.y - BOX / 2
        if box.role == "group":
            canvas.box(x0 + 4, y0 - 4, box.width, BOX, GROUP, FAINT, 6)
        canvas.box(x0, y0, box.width, BOX, FILL[box.role], FAINT, 14 if box.role == "source" else 6)
        canvas.text(box.x, box.y - (8 if box.under else 0), box.head, weight="bold")
        if box.under:
            canvas.text(box.x, box.y + 9, box.under, 10.5, FAINT)
    return width, height


def _shown(item: Item) -> bool:
    return all(group.open for group in chain(item))


def _arrow(canvas: _Canvas, points: Sequence[Point]) -> None:
    path, codes = [(points[0].x, points[0].y)], [Path.MOVETO]
    for (x0, y0, *_), (x1, y1, straight, _) in pairwise(points):
        if straight:
            path.append((x1, y1))
            codes.append(Path.LINETO)
            continue
        reach = max(abs(x1 - x0) / 2, 12)
        path += [(x0 + reach, y0), (x1 - reach, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
    canvas.axes.add_patch(PathPatch(Path(path, codes), facecolor="none", edgecolor=FAINT, linewidth=0.9))
    x, y, *_ = points[-1]
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
    for v, cell in picture.diagonal.items():
        cells.setdefault((row_at[v], col_at[v]), []).append(cell)
    for e in picture.edges:
        cells.setdefault((row_at[e.head], col_at[e.tail]), []).append((e.cell, e.kind))
    text = max(len(rows), len(cols)) <= TEXT
    widths = [30.0] * len(cols) if text else [max(420 / max(len(cols), 1), 3.0)] * len(cols)
    if text:
        for (_, c), here in cells.items():
            widths[c] = max(widths[c], min(wide(here[0][0]) + 14, 150))
        widths = [max(w, min(wide(box.head.split(" ")[0]) + 8, 110)) for w, (box, _) in zip(widths, cols)]
    high = 30.0 if text else min(widths[0], 22.0) if cols else 30.0
    widths = widths if text else [high] * len(cols)
    names = max((min(wide(_name(box)), 110) for box, _ in rows), default=0) if high >= 11 else 0
    tall = 30.0 if text else max((min(wide(_name(box)), 110) for box, _ in cols), default=0) + 14
    left, top = names + 16, tall if high >= 11 else 16.0
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
            canvas.text(xs[c] + widths[c] / 2, ys[r] + high / 2, cut(label, widths[c] - 6), 12, colour)
    if high >= 11:
        for k, (box, _) in enumerate(rows):
            canvas.text(left - 8, ys[k] + high / 2, cut(_name(box), 110), min(12, 0.83 * high), ha="right")
        for k, (box, _) in enumerate(cols):
            x = xs[k] + widths[k] / 2
            if text:
                canvas.text(x, top - 12, cut(_name(box), max(widths[k], 24)))
            else:
                canvas.text(x, top - 8, cut(_name(box), 110), min(12, 0.83 * high), rotation=90, va="bottom")
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
    members: dict[tuple[bool, int], tuple[Box, list[int]]] = {}
    for v in vertices:
        key = ((v in others) != first_inside, rep[v].item.number)
        members.setdefault(key, (rep[v], []))[1].append(v)
    folded = any(box.item.children for box, _ in members.values())
    nodes = not first_inside  # whether the lines that are rows and columns come second

    def place(entry: tuple[tuple[bool, int], tuple[Box, list[int]]]) -> tuple[bool, int]:
        second, (box, _) = entry[0][0], entry[1]
        return second, box.item.start if folded and second == nodes else 0

    return [line for _, line in sorted(members.items(), key=place)]
