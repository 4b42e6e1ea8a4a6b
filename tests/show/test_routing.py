"""The still picture: boxes, labels and lines keep clear of each other, and everything is on the picture."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from backsolve import Graph
from backsolve.show import drawing, routing
from backsolve.show.routing import BOX, TALL, wide

from .things import THINGS, captured, random_graph

MANY = {
    **THINGS,
    "40": lambda: captured(13),
    "400": lambda: captured(133),
    "5,000": lambda: captured(1_666),
    "larger": lambda: random_graph(40),
    "wide": lambda: Graph({(f"s{i}", "t"): 1 for i in range(50)}),
}


@pytest.fixture(scope="module", params=MANY)
def drawn(request):
    """What was placed for a picture: boxes, arrows, labelled or not, width, height, hulls."""
    found = {}
    place = routing.place

    def noted(boxes, arrows, groups, **options):
        width, height, hulls = place(boxes, arrows, groups, **options)
        found.update(boxes=boxes, arrows=arrows, width=width, height=height, hulls=hulls, **options)
        return width, height, hulls

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "place", noted)
        drawing.draw(MANY[request.param]())
    return found


def outline(box):
    return (box.x - box.width / 2, box.y - BOX / 2, box.x + box.width / 2, box.y + BOX / 2)


def label(arrow):
    (x, y), half = arrow.at, min(wide(arrow.label), 150) / 2
    return (x - half, y - TALL, x + half, y + TALL)


def meet(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_boxes_and_labels_keep_clear_of_each_other(drawn):
    outlines = [outline(box) for box in drawn["boxes"]]
    labels = [label(arrow) for arrow in drawn["arrows"] if arrow.at is not None]
    assert not any(meet(a, b) for a, b in combinations(outlines + labels, 2))
    if drawn["labelled"]:
        assert all(arrow.at is not None for arrow in drawn["arrows"] if arrow.label)


def test_everything_is_on_the_picture(drawn):
    points = [(x, y) for arrow in drawn["arrows"] for x, y, *_ in arrow.points]
    corners = [outline(box) for box in drawn["boxes"]] + [hull.box for hull in drawn["hulls"]]
    points += [place for left, top, right, bottom in corners for place in ((left, top), (right, bottom))]
    x, y = np.array(points).T
    assert x.min() >= 0
    assert y.min() >= 0
    assert x.max() <= drawn["width"]
    assert y.max() <= drawn["height"]


def test_edges_lead_from_box_to_box_and_not_through_others(drawn):
    for arrow in drawn["arrows"]:
        start, end = arrow.points[0], arrow.points[-1]
        assert (start.x, start.y) == (arrow.tail.x + arrow.tail.width / 2, arrow.tail.y)
        assert (end.x, end.y) == (arrow.head.x - arrow.head.width / 2, arrow.head.y)
        others = [outline(box) for box in drawn["boxes"] if box not in (arrow.tail, arrow.head)]
        straight = [(p, q) for p, q in pairwise(arrow.points) if q.straight or p.y == q.y]
        for p, q in straight:
            line = (min(p.x, q.x), min(p.y, q.y) - 0.5, max(p.x, q.x), max(p.y, q.y) + 0.5)
            assert not any(meet(line, box) for box in others)


def test_what_is_long_runs_on_in_bands():
    found = {}
    place = routing.place

    def noted(*args, **options):
        found["size"] = place(*args, **options)[:2]
        return place(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "place", noted)
        drawing.draw(captured(20))
    assert found["size"][0] < 1.4 * drawing.ROOM
    assert found["size"][1] > 300
