"""Which vertices fold into one: runs of one source line, of one function's call, and stretches of what is still too long.

Every group is an interval of a topological order, so folding never makes a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backsolve.show.model import Picture, Vertex, renumbered

__all__ = ["Item", "folded"]

WIDE = 80  # children of one group, at most
OPEN = 40  # vertices and groups that are visible at first, about
STRETCH = " × "  # in the label of a stretch of groups of one name
SMALL = 3  # a run of fewer vertices is no group


@dataclass
class Item:
    """A vertex, or a group of consecutive vertices ``start`` … ``stop − 1`` with its children."""

    label: str
    start: int = 0
    stop: int = 0
    place: str = ""
    vertex: int = -1
    children: list[Item] = field(default_factory=list)
    parent: Item | None = None
    open: bool = False
    number: int = -1
    # where layout.py puts it, on a grid of columns and half rows
    col: int = 0
    cols: int = 1
    row: int = 0
    rows: int = 2
    lanes_out: dict[int, int] = field(default_factory=dict)  # layer → row of the lane its edges take there
    lanes_in: dict[int, int] = field(default_factory=dict)
    layer: int = 0
    layers: list[tuple[int, int]] = field(default_factory=list)  # of a group: first column and number of columns each


def folded(picture: Picture) -> tuple[Picture, list[Item]]:
    """The picture, renumbered so that every group is an interval, and its items: the root first, parents before children."""
    root = _tree(picture)
    order = [item.vertex for item in _walk(root) if item.vertex >= 0]
    picture = renumbered(picture, order)
    position = 0
    items = list(_walk(root))
    for number, item in enumerate(items):
        item.number = number
        item.start = position
        if item.vertex >= 0:
            item.vertex = position
            position += 1
    for item in reversed(items):
        item.stop = item.children[-1].stop if item.children else item.start + (item.vertex >= 0)
        for child in item.children:
            child.parent = item
    _open(root)
    _number(items)
    return picture, items


def _number(items: Sequence[Item]) -> None:
    """Tells groups of one name apart."""
    alike: dict[str, list[Item]] = {}
    for item in items:
        if item.children and item.parent is not None and STRETCH not in item.label:
            alike.setdefault(item.label, []).append(item)
    for label, groups in alike.items():
        if len(groups) > 1:
            for k, item in enumerate(groups, 1):
                item.label = f"{label} {k}"
    for item in reversed(items):  # inner ones first
        if STRETCH in item.label:
            first, last = item.children[0].label, item.children[-1].label
            name = first.rpartition(" ")[0]
            item.label = f"{first} … {last.removeprefix(f'{name} ')}"  # mlp 1 … 18


def _walk(root: Item) -> list[Item]:
    items, stack = [], [root]
    while stack:
        item = stack.pop()
        items.append(item)
        stack.extend(reversed(item.children))
    return items


def _open(root: Item) -> None:
    """Unfolds groups, the outer and the smaller ones first, while not too much is visible."""
    root.open = True
    visible, front = len(root.children), root.children
    while front:
        alike: dict[str, list[Item]] = {}  # groups of one name unfold together
        for item in front:
            if item.children:
                alike.setdefault(item.label, []).append(item)
        front = []
        for items in sorted(alike.values(), key=lambda items: sum(len(item.children) for item in items)):
            more = sum(len(item.children) - 1 for item in items)
            if visible + more > OPEN:
                continue
            visible += more
            for item in items:
                item.open = True
                front += item.children


def _tree(picture: Picture) -> Item:
    vertices = picture.vertices
    inner = [i for i, v in enumerate(vertices) if v.role in ("node", "sink")]
    leaves = [Item(vertices[i].name, vertex=i) for i in inner]
    loops = _runs(leaves, lambda item: _loop(vertices[item.vertex]), lambda item: vertices[item.vertex].text)
    for group in loops:
        if group.children:
            steps = sum(vertices[item.vertex].text.startswith("step ") for item in group.children)
            group.label = f"{group.label}, {steps} steps"
    lines = _runs(loops, lambda item: _line(vertices[_first(item)]), lambda item: _whole(vertices[_first(item)]))
    calls = _runs(lines, lambda item: _function(vertices[_first(item)]), lambda item: _line(vertices[_first(item)]))
    for group in calls:
        if group.children and group.children[0].children:
            v = vertices[_first(group)]
            group.label = _short(v.function) or group.label
    root = Item("all", children=calls)
    while len(root.children) == 1 and root.children[0].children and all(root.children[0] is not loop for loop in loops):
        # a group of everything folds nothing; a loop is a box of its own
        root.children = root.children[0].children
    _insert_ends(picture, root)
    stack = [root]
    while stack:
        item = stack.pop()
        _split(item, vertices)
        stack.extend(item.children)
    return root


def _short(function: str) -> str:
    """A function's name without the functions that it was defined in."""
    return function.rpartition("<locals>.")[2]


def _first(item: Item) -> int:
    while item.children:
        item = item.children[0]
    return item.vertex


def _loop(v: Vertex) -> str:
    """The loop that a node is a step or an output of, as `unfolded` names them."""
    kind, _, loop = v.text.partition(" of ")
    return f"{v.place} {loop}" if kind.split(" ")[0] in ("step", "output") and loop else ""


def _whole(v: Vertex) -> str:
    return f"{v.text} {v.place}" if v.place else ""


def _line(v: Vertex) -> str:
    return ":".join(v.place.split(":")[:2]) + f" {v.function}" if v.place else ""


def _function(v: Vertex) -> str:
    return f"{v.place.split(':')[0]} {v.function}" if v.function else ""


def _runs(items: Sequence[Item], key: Callable[[Item], str], start: Callable[[Item], str]) -> list[Item]:
    """Consecutive items of one key as groups; where one comes back to its start, the next begins."""
    out: list[Item] = []
    run: list[Item] = []

    def close() -> None:
        if sum(len(item.children) or 1 for item in run) < SMALL or len(run) == 1:
            out.extend(run)
        elif run:
            place, _, function = key(run[0]).partition(" ")
            out.append(Item(_short(function) or place, place=place, children=list(run)))
        run.clear()

    for item in items:
        back = bool(run) and start(item) == start(run[0]) != start(run[-1])
        if run and (not key(item) or key(item) != key(run[0]) or back):
            close()
        run.append(item)
    close()
    return out


def _insert_ends(picture: Picture, root: Item) -> None:
    """Puts every source into the smallest group that holds all its readers, before the first of them; outputs last."""
    parent: dict[int, list[Item]] = {}  # vertex → the groups around it, the root first, and itself
    stack: list[tuple[Item, list[Item]]] = [(root, [root])]
    while stack:
        item, path = stack.pop()
        if item.vertex >= 0:
            parent[item.vertex] = path
        stack.extend((child, [*path, child]) for child in item.children)
    readers: dict[int, list[int]] = {}
    for e in picture.edges:
        readers.setdefault(e.tail, []).append(e.head)
    before: dict[int, list[Item]] = {}  # id of a child → the sources right before it
    last: list[Item] = []
    first: list[Item] = []
    for i, v in enumerate(picture.vertices):
        if v.role == "output":
            last.append(Item(v.name, vertex=i))
        if v.role != "source":
            continue
        paths = [parent[head] for head in readers.get(i, []) if head in parent]
        if not paths:
            first.append(Item(v.name, vertex=i))
            continue
        depth = 0
        while all(len(path) > depth + 1 and path[depth] is paths[0][depth] for path in paths):
            depth += 1
        shared = paths[0][depth - 1]
        readers_here = {id(path[depth]) for path in paths}
        child = next(c for c in shared.children if id(c) in readers_here)
        before.setdefault(id(child), []).append(Item(v.name, vertex=i))
    for item in _walk(root):
        if item.children:
            item.children = [part for child in item.children for part in (*before.get(id(child), ()), child)]
    root.children = [*first, *root.children, *last]


def _split(item: Item, vertices: Sequence[Vertex]) -> None:
    """Breaks up a list of children that is too long into stretches of about equal length."""
    n = len(item.children)
    if n <= WIDE:
        return
    size = -(-n // max(min(60, -(-n // 20)), 2))
    parts = [item.children[k : k + size] for k in range(0, n, size)]
    item.children = [Item(_stretch(part, vertices), children=part) for part in parts]


def _stretch(part: Sequence[Item], vertices: Sequence[Vertex]) -> str:
    labels = {item.label for item in part}
    if len(labels) == 1 and part[0].children:
        return f"{len(part)}{STRETCH}{part[0].label}"
    last = part[-1]
    while last.children:
        last = last.children[-1]
    return f"{vertices[_first(part[0])].name} … {vertices[last.vertex].name}"
