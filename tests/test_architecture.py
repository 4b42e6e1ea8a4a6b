"""docs/architecture.md: what its picture and tables are made of is there, so that the page is true of this source."""

import operator
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import backsolve
from backsolve.operators.dispatch import ADD, COMPOSE
from docs import floors, kinds, ways

ROOT = Path(backsolve.__file__).parent


def test_every_folder_has_a_room_above_all_that_it_imports():
    house = floors.house()
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders <= house.rooms.keys()
    floor = {room.name: k for k, rooms in enumerate(house.floors) for room in rooms}
    for name, room in house.rooms.items():
        assert floor[name] == max((floor[other] + 1 for other in room.imports), default=0)


def test_arrows_and_what_they_imply_are_the_imports():
    house = floors.house()
    below = {name: {end for start, end in house.arrows() if start == name} for name in house.rooms}
    for floor in house.floors:
        for room in floor:
            below[room.name] |= set().union(*(below[end] for end in below[room.name]))
            assert room.imports <= below[room.name] == house.below(room.name)


def test_the_picture_holds_every_room_and_arrow_inside_its_frame():
    svg = ET.fromstring(re.search(r"<svg.*</svg>", floors.picture(), re.DOTALL)[0])
    left, top, width, height = map(float, svg.get("viewBox").split())
    boxes = [[float(rect.get(k)) for k in ("x", "y", "width", "height")] for rect in svg.iter("rect")]
    assert len(boxes) == len(floors.house().rooms)
    assert all(left <= x and x + w <= left + width and top <= y and y + h <= top + height for x, y, w, h in boxes)
    assert sum(path.get("class") == "arrow" for path in svg.iter("path")) == len(floors.house().arrows())


# How many files a reader of one call has to open, at most.
MOST = {"gradient": 16, "dense Jacobian": 22, "sparse Jacobian": 28, "inverse-Hessian product": 36}


@pytest.mark.parametrize("name", ways.WAYS)
def test_a_call_enters_the_stations_that_the_page_names_and_few_others(name):
    files, steps = ways.entered(name)
    assert len(files) <= MOST[name]
    assert len(set(files)) == len(files) <= steps + 1
    assert all((ROOT / file).exists() for file in files)
    assert f"In all {len(files)} files" in ways.way(name)


@pytest.mark.parametrize(("operation", "table"), [(operator.matmul, COMPOSE), (operator.add, ADD)])
def test_the_tables_of_kinds_try_every_pair(operation, table):
    found = kinds.results(operation, table)
    named = {kind for pair in table for kind in pair}
    assert {(a, b) for a in named for b in named} <= found.keys()
    assert any("Product" in names or "Sum" in names for names in found.values())
    assert kinds.table(operation).count("<td>") == len(found)


def test_every_kind_says_what_it_is():
    assert all(kind.__doc__ for kind in kinds.all_kinds())
