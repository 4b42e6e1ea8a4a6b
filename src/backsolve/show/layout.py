"""Where things are drawn: layers by longest paths, their order by barycentres and swaps, on a grid of columns and half rows.

Every group is laid out by itself, its children as boxes, so that folding and unfolding moves nothing around: columns and
rows in which nothing is visible just have no width.  Edges that pass a layer take a lane of their own there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backsolve.show.folds import Item
from backsolve.show.model import Edge

__all__ = ["chain", "lay_out"]

SWEEPS = 12
SHORT = 8  # layers of a group whose sources all stand at the left, and sinks at the right


@dataclass(eq=False)
class Slot:
    """What takes up room in a layer: a child of the group, or a lane that edges of a child take through the layer."""

    item: Item
    layer: int
    kind: str  # "item", "out" or "in"
    height: int
    near: tuple[list[Slot], list[Slot]]  # the slots that it is joined to, in the layers before and after
    y: float = 0.0

    @property
    def middle(self) -> float:
        """The half row of its centre."""
        return self.y + self.height / 2


def chain(item: Item) -> list[Item]:
    """The item and the groups around it, inside first."""
    ancestors = [item]
    while ancestors[-1].parent is not None:
        ancestors.append(ancestors[-1].parent)
    return ancestors


def lay_out(items: Sequence[Item], edges: Iterable[Edge]) -> None:
    """Sets column, row and extent of every item, relative to the whole, and the lanes of its edges."""
    leaf = {item.vertex: item for item in items if item.vertex >= 0}
    above = {item.vertex: chain(item)[::-1] for item in leaf.values()}  # the root first
    inside: dict[int, dict[tuple[int, int], None]] = {item.number: {} for item in items}
    leaves: set[int] = set()  # items with an edge that leaves their group, and with one that enters it
    enters: set[int] = set()
    starts, ends = set(leaf), set(leaf)  # vertices that nothing leads to, and that lead nowhere
    for e in edges:
        starts.discard(e.head)
        ends.discard(e.tail)
        tails, heads = above[e.tail], above[e.head]
        k = 0
        while tails[k] is heads[k]:
            k += 1
        inside[tails[k - 1].number][tails[k].number, heads[k].number] = None
        leaves.update(item.number for item in tails[k + 1 :])
        enters.update(item.number for item in heads[k + 1 :])
    for item in reversed(items):
        if item.children:
            _one(item, inside[item.number], (starts, ends), leaves, enters)
    for item in items:
        for child in item.children:
            child.col += item.col
            child.row += item.row
            child.lanes_out = {layer: row + item.row for layer, row in child.lanes_out.items()}
            child.lanes_in = {layer: row + item.row for layer, row in child.lanes_in.items()}
        item.layers = [(first + item.col, count) for first, count in item.layers]


def _one(
    group: Item, edges: Iterable[tuple[int, int]], ends: tuple[set[int], set[int]], leaves: set[int], enters: set[int]
) -> None:
    """Places the children of one group relative to its upper left corner."""
    children = group.children
    before: dict[int, list[int]] = {c.number: [] for c in children}
    after: dict[int, list[int]] = {c.number: [] for c in children}
    for a, b in edges:
        after[a].append(b)
        before[b].append(a)
    layer = {c.number: 0 for c in children}
    for c in children:  # a topological order
        layer[c.number] = max((layer[a] + 1 for a in before[c.number]), default=0)
    depth = max(layer.values()) + 1
    short = depth <= SHORT
    for c in reversed(children):
        if short and c.vertex in ends[1] and before[c.number]:
            layer[c.number] = depth - 1
        elif not before[c.number] and after[c.number] and not (short and c.vertex in ends[0]):
            layer[c.number] = min(layer[b] for b in after[c.number]) - 1  # next to its first reader
    slots: dict[int, Slot] = {}
    layers: list[list[Slot]] = [[] for _ in range(depth)]
    for c in children:
        c.layer = layer[c.number]
        slots[c.number] = Slot(c, c.layer, "item", c.rows, ([], []))
        layers[c.layer].append(slots[c.number])
    lanes: dict[tuple[int, int], Slot] = {}  # (item, layer) → the lane of what leaves it
    for c in children:
        here = layer[c.number]
        last = depth - 1 if c.number in leaves else max((layer[b] - 1 for b in after[c.number]), default=here)
        previous = slots[c.number]
        for k in range(here + 1, last + 1):
            previous = _lane(c, k, "out", previous, layers)
            lanes[c.number, k] = previous
        if c.number in enters:
            following = slots[c.number]
            for k in range(here - 1, -1, -1):
                lane = Slot(c, k, "in", 1, ([], []))
                layers[k].append(lane)
                _join(lane, following)
                following = lane
    for c in children:
        for b in after[c.number]:
            k = layer[b]
            _join(lanes.get((c.number, k - 1), slots[c.number]), slots[b])
    _arrange(layers)
    _measure(group, layers)


def _lane(item: Item, k: int, kind: str, previous: Slot, layers: list[list[Slot]]) -> Slot:
    lane = Slot(item, k, kind, 1, ([], []))
    layers[k].append(lane)
    _join(previous, lane)
    return lane


def _join(a: Slot, b: Slot) -> None:
    a.near[1].append(b)
    b.near[0].append(a)


def _arrange(layers: list[list[Slot]]) -> None:
    """Orders every layer by the barycentres of its neighbours, then settles heights in whole half rows."""
    best, least = [list(line) for line in layers], _crossings(layers)
    for line in layers:
        _number(line)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for line in layers if forward else reversed(layers):
            side = 0 if forward else 1
            line.sort(key=lambda slot: _mean([s.y for s in slot.near[side]], slot.y))
            _number(line)
        while sweep >= SWEEPS // 2 and max(map(_swapped, layers)):
            pass  # ends: every round has fewer crossings than the one before
        crossings = _crossings(layers)
        if crossings < least:
            best, least = [list(line) for line in layers], crossings
        if not least:
            break
    for line, best_line in zip(layers, best):
        line[:] = best_line
    for line in layers:
        total = sum(slot.height for slot in line)
        corner = -total / 2.0
        for slot in line:
            slot.y = corner
            corner += slot.height
    for sweep in range(SWEEPS):
        for line in layers if sweep % 2 == 0 else reversed(layers):
            sides = (0, 1) if sweep >= SWEEPS - 2 else (sweep % 2,)
            _settle(line, [_wish(slot, sides) for slot in line])
    for line in layers:
        bound = float("-inf")
        for slot in line:
            slot.y = max(float(round(slot.y)), bound)
            bound = slot.y + slot.height
    top = min(slot.y for line in layers for slot in line)
    for line in layers:
        for slot in line:
            slot.y -= top


def _number(line: Sequence[Slot]) -> None:
    for k, slot in enumerate(line):
        slot.y = k / max(len(line) - 1, 1)


def _swapped(line: list[Slot]) -> int:
    """Swaps neighbours in a layer wherever that takes crossings away; returns how many swaps."""
    count = 0
    for k in range(len(line) - 1):
        a, b = line[k], line[k + 1]
        gain = 0
        for side in (0, 1):
            above, below = [s.y for s in a.near[side]], [s.y for s in b.near[side]]
            gain += sum((p > q) - (p < q) for p in above for q in below)
        if gain > 0:
            line[k], line[k + 1] = b, a
            a.y, b.y = b.y, a.y
            count += 1
    return count


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _wish(slot: Slot, sides: tuple[int, ...]) -> float:
    near = [s.middle for side in sides for s in slot.near[side]] or [s.middle for side in (0, 1) for s in slot.near[side]]
    return _mean(near, slot.middle) - slot.height / 2


def _settle(line: Sequence[Slot], wishes: Sequence[float]) -> None:
    """The heights nearest to the wishes, in the squared sense, that keep the order and the room of each (pooling)."""
    offset, blocks = 0.0, []  # of (sum of wishes less offsets, count)
    for slot, wish in zip(line, wishes):
        blocks.append((wish - offset, 1))
        offset += slot.height
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = (blocks[-1][0] + total, blocks[-1][1] + count)
    values = [total / count for total, count in blocks for _ in range(count)]
    offset = 0.0
    for slot, value in zip(line, values):
        slot.y = value + offset
        offset += slot.height


def _crossings(layers: Sequence[Sequence[Slot]]) -> int:
    total = 0
    for line in layers[:-1]:
        ends: list[int] = []
        place = {id(slot): k for k, slot in enumerate(layers[line[0].layer + 1])} if line else {}
        for slot in line:
            here = sorted(place[id(s)] for s in slot.near[1])
            total += sum(sum(1 for e in ends if e > h) for h in here)
            ends += here
    return total


def _measure(group: Item, layers: Sequence[Sequence[Slot]]) -> None:
    """Columns of the layers, places of the children in them, and the extent of the group."""
    first, group.layers = 0, []
    height = 0
    for line in layers:
        cols = max((slot.item.cols for slot in line if slot.kind == "item"), default=1)
        group.layers.append((first, cols))
        for slot in line:
            row = round(slot.y) + 1  # below the group's title
            height = max(height, row + slot.height)
            if slot.kind == "item":
                slot.item.col = first + (cols - slot.item.cols) // 2
                slot.item.row = row
            elif slot.kind == "out":
                slot.item.lanes_out[slot.layer] = row
            else:
                slot.item.lanes_in[slot.layer] = row
        first += cols
    group.cols = first
    group.rows = height + 1
