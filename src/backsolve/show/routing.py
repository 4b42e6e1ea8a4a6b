"""Coordinates of a still picture of the graph: boxes in bands, edges in their lanes, labels where there is room.

The page does the same in graph.js and labels.js, anew whenever a group is folded or unfolded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from backsolve.show.folds import Item
from backsolve.show.layout import chain

__all__ = ["BOX", "Arrow", "Box", "Hull", "cut", "place", "place_labels", "wide"]

HALF, TITLE, FOOT, LANE, BOX, GAP = 25, 24, 10, 14, 40, 44
LABEL, TALL = 150, 7  # the widest label, and half the height of one


def wide(text: str, size: float = 12) -> float:
    """About the width of a text."""
    return 0.6 * size * len(text)


def cut(text: str, room: float, size: float = 12) -> str:
    """The text, or as much of it as there is room for."""
    most = max(int(room / (0.6 * size)), 1)
    return text if len(text) <= most else text[: most - 1] + "…"


class Point(NamedTuple):
    """A point of an edge; a straight line or a curve leads to it, and a track runs between two bands."""

    x: float
    y: float
    straight: bool = False
    track: bool = False


@dataclass(eq=False)
class Box:
    """A visible vertex or group, and where it is."""

    item: Item
    head: str
    under: str
    role: str
    width: float
    x: float = 0.0
    y: float = 0.0

    @property
    def column(self) -> int:
        """Its column of the grid."""
        return self.item.col + (self.item.cols - 1) // 2

    @property
    def row(self) -> int:
        """The first of its two half rows."""
        return self.item.row + self.item.rows // 2 - 1


@dataclass(eq=False)
class Arrow:
    """An edge between two boxes, its points, and the middle of its label."""

    tail: Box
    head: Box
    label: str
    points: list[Point] = field(default_factory=list)
    at: tuple[float, float] | None = None


class Hull(NamedTuple):
    """The part of an unfolded group in one band: left, top, right, bottom; the first part bears the title."""

    group: Item
    box: tuple[float, float, float, float]
    first: bool


def _lanes(a: Item, b: Item) -> list[tuple[range, int]]:
    """The lanes that an edge takes: their columns, and the row."""
    above = {id(item) for item in chain(a)}
    path: list[tuple[range, int]] = []

    def take(group: Item, layer: int, row: int | None) -> None:
        if row is not None:
            first, count = group.layers[layer]
            path.append((range(first, first + count), row))

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


class _Grid:
    """Columns, broken into bands where they are much wider than the room, and the rows of each band."""

    def __init__(
        self, boxes: Sequence[Box], arrows: Sequence[Arrow], groups: Sequence[Item], labelled: bool, room: float
    ) -> None:
        widths: dict[int, float] = {}
        for box in boxes:
            widths[box.column] = max(widths.get(box.column, 0), box.width)
        self.columns = sorted(widths)
        gaps = dict.fromkeys(self.columns, float(GAP))
        before = {c: previous for previous, c in pairwise(self.columns)}
        for arrow in arrows if labelled else ():
            c = before[arrow.head.column]
            gaps[c] = max(gaps[c], min(wide(arrow.label), LABEL) + 26)
        self.left: dict[int, float] = {}
        self.right: dict[int, float] = {}
        self.band: dict[int, int] = {}
        insides = [self.inside(group) for group in groups]
        starts = {c: 8 * sum(1 for here in insides if here[0] == c) for c in self.columns}
        stops = {c: 8 * sum(1 for here in insides if here[-1] == c) for c in self.columns}
        total = sum(starts[c] + stops[c] + widths[c] + gaps[c] for c in self.columns)
        lines = ceil(total / room) if total > 1.4 * room else 1
        x = margin = 30.0 if lines > 1 else 14.0
        band, self.end = 0, 40.0
        for c in self.columns:
            if lines > 1 and x > margin and x + starts[c] + widths[c] > total / lines + margin + 40:
                band, x = band + 1, margin
            self.left[c] = x + starts[c]
            x = self.right[c] = self.left[c] + widths[c]
            self.band[c] = band
            self.end = max(self.end, x + (34 if lines > 1 else 8) + stops[c])
            x += stops[c] + gaps[c]
        self.count = band + 1
        self.rows: list[dict[int, float]] = [{} for _ in range(self.count)]
        for box in boxes:
            for r in (box.row, box.row + 1):
                self.grow(self.band[box.column], r, HALF)
        for group, here in zip(groups, insides):
            for k in {self.band[c] for c in here}:
                self.grow(k, group.row, TITLE)
                self.grow(k, group.row + group.rows - 1, FOOT)
        self.stops = [self._stops(arrow) for arrow in arrows]
        self.tops: list[dict[int, float]] = []
        self.bottoms: list[float] = []

    def inside(self, group: Item) -> list[int]:
        """The visible columns of a group."""
        return [c for c in self.columns if group.col <= c < group.col + group.cols]

    def grow(self, band: int, row: int, height: float) -> None:
        """Makes a row at least this high."""
        self.rows[band][row] = max(self.rows[band].get(row, 0), height)

    def _stops(self, arrow: Arrow) -> list[tuple[int, int, int, int]]:
        """The lanes of an edge where something is visible: band, first and last column, row."""
        stops = []
        for columns, row in _lanes(arrow.tail.item, arrow.head.item):
            here = [c for c in self.columns if c in columns]
            for k in sorted({self.band[c] for c in here}):
                mine = [c for c in here if self.band[c] == k]
                self.grow(k, row, LANE)
                stops.append((k, mine[0], mine[-1], row))
        return stops

    def stack(self, gutters: Sequence[float]) -> float:
        """Sets the bands one below the other, with gutters between them; returns where they end."""
        y = 8.0
        for k, rows in enumerate(self.rows):
            top = {}
            for r in sorted(rows):
                top[r] = y
                y += rows[r]
            self.tops.append(top)
            self.bottoms.append(y)
            y += gutters[k] if k + 1 < self.count else 0
        return y


def place(
    boxes: Sequence[Box], arrows: Sequence[Arrow], groups: Sequence[Item], *, labelled: bool, room: float
) -> tuple[float, float, list[Hull]]:
    """Sets the places of the boxes and the points of the arrows; returns width, height and the hulls of the groups."""
    grid = _Grid(boxes, arrows, groups, labelled, room)
    # Below each band the tracks of what leaves it: an edge on its own where it has a label, those of one lane together
    # where not.
    tracks: list[dict[tuple[str, int], list[int]]] = [{} for _ in range(grid.count)]
    for n, arrow in enumerate(arrows):
        band = grid.band[arrow.tail.column]
        for following in [*(stop[0] for stop in grid.stops[n]), grid.band[arrow.head.column]]:
            if following > band:
                rows = [stop[3] for stop in grid.stops[n] if stop[0] == band]
                key = ("edge", n) if labelled else ("lane", rows[-1]) if rows else ("box", arrow.tail.item.number)
                tracks[band].setdefault(key, []).append(n)
                band = following
    step = 17 if labelled else 5
    bottom = grid.stack([14 + step * len(track) for track in tracks])
    for box in boxes:
        box.x = (grid.left[box.column] + grid.right[box.column]) / 2
        box.y = grid.tops[grid.band[box.column]][box.row] + HALF
    track_of: dict[tuple[int, int], tuple[float, float]] = {}  # (arrow, band) → how far from the margins, and height
    for k, track in enumerate(tracks):

        def leaves(numbers: list[int], band: int = k) -> float:
            heights = [grid.tops[band][stop[3]] for n in numbers for stop in grid.stops[n] if stop[0] == band]
            return max(heights or [arrows[n].tail.y for n in numbers])

        for t, numbers in enumerate(sorted(track.values(), key=leaves, reverse=True)):
            for n in numbers:
                track_of[n, k] = t * min(4.0, 18 / len(track)), grid.bottoms[k] + 7 + step * (t + 0.5)
    for n, arrow in enumerate(arrows):
        arrow.points = list(_points(arrow, n, grid, track_of))
    hulls = []
    for group in groups:
        here, pad = grid.inside(group), max(14 - 2 * len(chain(group)), 4)
        foot = group.row + group.rows - 1
        for k in sorted({grid.band[c] for c in here}):
            mine = [c for c in here if grid.band[c] == k]
            low = grid.tops[k][foot] + grid.rows[k][foot] - 2
            x0, x1 = grid.left[mine[0]] - pad, grid.right[mine[-1]] + pad
            hulls.append(Hull(group, (x0, grid.tops[k][group.row] + 2, x1, low), k == grid.band[here[0]]))
    return grid.end + 14, bottom + 10, hulls


def _points(arrow: Arrow, n: int, grid: _Grid, track_of: dict[tuple[int, int], tuple[float, float]]) -> Iterator[Point]:
    last = Point(arrow.tail.x + arrow.tail.width / 2, arrow.tail.y)
    yield last
    band = grid.band[arrow.tail.column]

    def crossed(y: float) -> Iterator[Point]:
        apart, height = track_of[n, band]
        yield Point(grid.end - 24 + apart, last.y, True)
        yield Point(grid.end - 24 + apart, height, True)
        yield Point(6 + apart, height, True, True)
        yield Point(6 + apart, y, True)

    for k, first, final, row in grid.stops[n]:
        y = grid.tops[k][row] + grid.rows[k][row] / 2
        if k > band:
            yield from crossed(y)
            band = k
        yield Point(grid.left[first], y)
        last = Point(grid.right[final], y)
        yield last
    if grid.band[arrow.head.column] > band:
        yield from crossed(arrow.head.y)
    yield Point(arrow.head.x - arrow.head.width / 2, arrow.head.y)


# ---- labels --------------------------------------------------------------------------------------------------------
Places = list[tuple[float, float]]


def place_labels(arrows: Sequence[Arrow], boxes: Sequence[Box], width: float) -> None:
    """Sets the middle of each label: on its own line, clear of boxes and labels, and of other lines where there is room."""
    occupied = [(b.x - b.width / 2 - 1, b.y - BOX / 2 - 5, b.x + b.width / 2 + 5, b.y + BOX / 2 + 1) for b in boxes]
    traces = [list(_traces(arrow.points)) for arrow in arrows]
    lines: dict[int, list[tuple[float, float, int]]] = {}
    for n, trace in enumerate(traces):
        for x, y in (point for stretch in trace for point in stretch):
            lines.setdefault(floor(y / 16), []).append((x, y, n))
    for n in sorted(range(len(arrows)), key=lambda n: sum(map(len, traces[n]))):  # those with the least choice first
        arrow = arrows[n]
        half = min(wide(arrow.label), LABEL) / 2 + 2
        least = float("inf")
        for x, y, price in _candidates(arrow.points, traces[n]) if arrow.label else ():
            left, top, right, bottom = x - half, y - TALL, x + half, y + TALL
            if price >= least or left < 2 or right > width - 2 or top < 2:
                continue
            if any(left < r and right > l and top < b and bottom > t for l, t, r, b in occupied):
                continue
            for row in range(floor(top / 16), floor(bottom / 16) + 1):
                here = lines.get(row, ())
                price += sum(0.4 if m == n else 3 for p, q, m in here if left < p < right and top < q < bottom)
            if price < least:
                least, arrow.at = price, (x, y)
        if arrow.at is not None:
            x, y = arrow.at
            occupied.append((x - half, y - TALL, x + half, y + TALL))


def _traces(points: Sequence[Point]) -> Iterator[Places]:
    """Points along each stretch, about 8 units apart."""
    for (x0, y0, *_), (x1, y1, straight, _) in pairwise(points):
        count = max(2, ceil((abs(x1 - x0) + abs(y1 - y0)) / 8))
        reach = max(abs(x1 - x0) / 2, 12)
        trace = []
        for i in range(count + 1):
            t = i / count
            u = 1 - t
            bend = u**3 * x0 + 3 * u * u * t * (x0 + reach) + 3 * u * t * t * (x1 - reach) + t**3 * x1
            rise = t if straight else 3 * u * t * t + t**3
            trace.append((u * x0 + t * x1 if straight else bend, y0 + rise * (y1 - y0)))
        yield trace


def _candidates(points: Sequence[Point], traces: Sequence[Places]) -> Iterator[tuple[float, float, float]]:
    """Where a label may stand, each with a price: near the middle of the last stretch, of the first, or of one between."""
    for k, trace in enumerate(traces):
        (x0, y0), (x1, y1) = trace[0], trace[-1]
        if x0 == x1:
            continue
        base = 0 if points[k + 1].track else 1 if k == len(traces) - 1 else 2 if k == 0 else 8
        for i, (x, y) in enumerate(trace):
            price = base + 6 * abs(i / (len(trace) - 1) - 0.5)
            offsets = ((-9, 0), (10, 2)) if y0 == y1 else ((0, 0), (-9, 3), (9, 3))
            for by, more in offsets:
                yield x, y + by, price + more
