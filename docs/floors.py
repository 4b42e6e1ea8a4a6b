"""The package as a house: its folders on floors, drawn from the imports in its source.

A folder stands one floor above the highest folder that it imports, so that every import leads down.  An arrow that a longer
way implies is left out, as in a Hasse diagram.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from itertools import combinations, pairwise, permutations
from pathlib import Path
from random import Random

import backsolve

__all__ = ["House", "Room", "house", "picture"]

ROOT = Path(backsolve.__file__).parent
WIDTH, FLOOR, HEIGHT = 720, 70, 34  # of the picture (at least), from floor to floor, of a room
LANE, GAP, LEAST = 10, 26, 74  # of an arrow that passes a floor, between rooms, of the narrowest room
STARTS, SWEEPS = 12, 4  # of the search for an order in which few arrows cross
SCALE = 0.105  # width of a room for each of its lines

STYLE = """
.floors { width: 100%; height: auto; max-width: 920px; margin: 0 auto; display: block }
.floors { font: 13px sans-serif; color: var(--color-foreground-primary, #222) }
.floors rect { fill: var(--color-background-secondary, #f4f4f4); stroke: currentColor; stroke-width: 1 }
.floors text { fill: currentColor; text-anchor: middle }
.floors .lines { font-size: 10px; opacity: 0.75 }
.floors .number { font-size: 10px; opacity: 0.55; text-anchor: start }
.floors .ground { stroke: currentColor; opacity: 0.13 }
.floors .arrow { fill: none; stroke: currentColor; stroke-width: 1; opacity: 0.55 }
.floors marker path { fill: currentColor; opacity: 0.8 }
"""


@dataclass
class Room:
    """A folder of the package, or a file that stands beside the folders."""

    name: str
    files: int = 0
    lines: int = 0
    imports: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class House:
    """The rooms, floor by floor from the ground up."""

    floors: list[list[Room]]

    @property
    def rooms(self) -> dict[str, Room]:
        """All rooms by name."""
        return {room.name: room for floor in self.floors for room in floor}

    def below(self, name: str) -> set[str]:
        """All that a room imports, and what that imports, …"""
        return set().union(*({other} | self.below(other) for other in self.rooms[name].imports))

    def arrows(self) -> list[tuple[str, str]]:
        """(importing, imported), without those that a longer way implies."""
        found = []
        for room in self.rooms.values():
            implied = set().union(*(self.below(other) for other in room.imports))
            found += [(room.name, other) for other in sorted(room.imports - implied)]
        return found


def _imported(tree: ast.AST, public: Mapping[str, str]) -> Iterator[str]:
    """The rooms of the package that a file imports, also for a type checker alone; ``public`` says where a name lives."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "backsolve":
            names = [public.get(alias.name, f"backsolve.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("backsolve."))


@cache
def house() -> House:
    """Read the imports.  Raises `ValueError` where some run in a circle."""
    outside = ast.walk(ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")))
    public = {alias.name: node.module or "" for node in outside if isinstance(node, ast.ImportFrom) for alias in node.names}
    rooms: dict[str, Room] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if name.startswith("__"):
            continue  # hands names on
        text = path.read_text(encoding="utf-8")
        room = rooms.setdefault(name, Room(name))
        room.files += 1
        room.lines += len(text.splitlines())
        room.imports.update(_imported(ast.parse(text), public))
    for room in rooms.values():
        room.imports &= rooms.keys() - {room.name}  # public names of the package are no rooms
    floors: list[list[Room]] = []
    left = dict(rooms)
    while left:
        floor = [room for room in left.values() if not room.imports & left.keys()]
        if not floor:
            raise ValueError(f"the imports of {', '.join(left)} run in a circle.")
        floors.append(floor)
        left = {name: room for name, room in left.items() if room not in floor}
    return House(floors)


@dataclass(eq=False)
class Slot:
    """What takes up width on a floor: a room, or the lane of an arrow that passes it."""

    room: Room | None
    floor: int
    x: float = WIDTH / 2  # of its centre
    above: list[Slot] = field(default_factory=list)
    below: list[Slot] = field(default_factory=list)

    @property
    def width(self) -> float:
        """In pixels: as its lines, but never too narrow for the name."""
        return LANE if self.room is None else max(LEAST, SCALE * self.room.lines)


def _slots(house: House) -> list[list[Slot]]:
    """The slots of every floor, joined along the arrows."""
    floors = [[Slot(room, k) for room in floor] for k, floor in enumerate(house.floors)]
    of = {slot.room.name: slot for floor in floors for slot in floor if slot.room}
    for start, end in house.arrows():
        path = [of[start], *(Slot(None, k) for k in range(of[start].floor - 1, of[end].floor, -1)), of[end]]
        for upper, lower in pairwise(path):
            upper.below.append(lower)
            lower.above.append(upper)
        for lane in path[1:-1]:
            floors[lane.floor].append(lane)
    return floors


def _place(floor: list[Slot]) -> None:
    """Side by side, in the middle of the picture."""
    x = (WIDTH - sum(slot.width for slot in floor) - GAP * (len(floor) - 1)) / 2
    for slot in floor:
        slot.x = x + slot.width / 2
        x += slot.width + GAP


def _untidiness(floor: list[Slot]) -> float:
    """What the arrows from and to a floor placed like this cross, and go sideways."""
    _place(floor)
    up = [(slot.x, other.x) for slot in floor for other in slot.above]
    down = [(slot.x, other.x) for slot in floor for other in slot.below]
    crossings = sum((a - c) * (b - d) < 0 for side in (up, down) for (a, b), (c, d) in combinations(side, 2))
    return WIDTH**2 * crossings + sum((a - b) ** 2 for side in (up, down) for a, b in side)


def _laid_out(house: House) -> list[list[Slot]]:
    """The slots in the order whose arrows cross and go sideways least: each floor in its turn, from several beginnings."""
    draw = Random(0)
    found = []
    for _ in range(STARTS):
        floors = _slots(house)
        for floor in floors:
            draw.shuffle(floor)
            _place(floor)
        for _ in range(SWEEPS):
            for floor in floors:
                floor[:] = min(permutations(floor), key=lambda order: _untidiness(list(order)))
                _place(floor)
        found.append(floors)
    return min(found, key=lambda floors: sum(map(_untidiness, floors)))


def _port(slot: Slot, others: list[Slot], other: Slot) -> float:
    """Where an arrow meets a room: the arrows of one side spread over its middle, as their other ends lie."""
    place = sorted(others, key=lambda slot: slot.x).index(other) - (len(others) - 1) / 2
    return slot.x + place * min(24, slot.width / (len(others) + 1))


def _arrow(start: Slot, first: Slot, top: float) -> str:
    """The path of one arrow, through its lanes."""
    upper, lower, path = start, first, ""
    while True:
        y, end = top - upper.floor * FLOOR + HEIGHT, top - lower.floor * FLOOR
        x = _port(upper, upper.below, lower)
        to = _port(lower, lower.above, upper)
        path += f"{'L' if path else 'M'} {x:.1f} {y} C {x:.1f} {(y + end) / 2}, {to:.1f} {(y + end) / 2}, {to:.1f} {end} "
        if lower.room is not None:
            return f'<path class="arrow" d="{path.strip()}" marker-end="url(#floors-tip)"/>'
        upper, lower = lower, lower.below[0]


def picture() -> str:
    """The house as HTML: an SVG in the colours of the page, light or dark."""
    floors = _laid_out(house())
    top = 8 + (len(floors) - 1) * FLOOR
    height = top + HEIGHT + 8
    width = max(WIDTH, *(60 + sum(slot.width + GAP for slot in floor) for floor in floors))
    left = (WIDTH - width) / 2
    parts = [
        '<marker id="floors-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M 0 0.5 L 8 4 L 0 7.5 z"/></marker>'
    ]
    for k in range(len(floors)):
        y = top - k * FLOOR + HEIGHT
        parts.append(f'<line class="ground" x1="{left}" x2="{left + width}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="number" x="{left}" y="{y - 4}">{k}</text>')
    slots = [slot for floor in floors for slot in floor]
    parts += [_arrow(slot, first, top) for slot in slots if slot.room for first in slot.below]
    for slot in slots:
        if slot.room is None:
            continue
        room, y = slot.room, top - slot.floor * FLOOR
        imports = f"imports {', '.join(sorted(room.imports))}" if room.imports else "imports nothing of the package"
        parts.append(
            f"<g><title>{escape(room.name)} {imports}</title>"
            f'<rect x="{slot.x - slot.width / 2:.1f}" y="{y}" width="{slot.width:.1f}" height="{HEIGHT}" rx="3"/>'
            f'<text x="{slot.x:.1f}" y="{y + 15}">{escape(room.name)}</text>'
            f'<text class="lines" x="{slot.x:.1f}" y="{y + 28}">{room.lines:,} lines</text></g>'
        )
    return (
        f'<style>{STYLE}</style><svg class="floors" viewBox="{left} 0 {width} {height}" role="img" '
        f'aria-label="The folders of backsolve on {len(floors)} floors">{"".join(parts)}</svg>'
    )
