"""The grid: no two things in one place, edges from left to right, lanes clear of boxes; folds are runs of lines."""

import re

import numpy as np
import pytest

from backsolve import Graph
from backsolve.show.folds import folded
from backsolve.show.layout import chain, lay_out
from backsolve.show.model import picture_of

from .things import THINGS, captured, random_graph

MANY = {**THINGS, "dense": lambda: random_graph(60, 1), "deep": lambda: captured(60)}


def laid_out(thing):
    picture, items = folded(picture_of(thing))
    lay_out(items, picture.edges)
    return picture, items


def cells(item):
    return {(c, r) for c in range(item.col, item.col + item.cols) for r in range(item.row, item.row + item.rows)}


@pytest.mark.parametrize("name", MANY)
def test_nothing_lies_on_anything(name):
    _, items = laid_out(MANY[name]())
    for group in items:
        taken = set()
        for child in group.children:
            here = cells(child)
            for lanes in (child.lanes_out, child.lanes_in):
                for layer, row in lanes.items():
                    first, count = group.layers[layer]
                    here |= {(c, row) for c in range(first, first + count)}
            assert not taken & here
            assert here <= cells(group)
            taken |= here


@pytest.mark.parametrize("name", MANY)
def test_edges_lead_to_the_right(name):
    picture, items = laid_out(MANY[name]())
    leaf = {item.vertex: item for item in items if item.vertex >= 0}
    for e in picture.edges:
        a, b = chain(leaf[e.tail])[::-1], chain(leaf[e.head])[::-1]
        k = next(k for k in range(len(a)) if a[k] is not b[k])
        assert a[k].col + a[k].cols <= b[k].col
        assert a[k].layer < b[k].layer


@pytest.mark.parametrize("name", ["figure 1", "matrix net", "random", "strictly lower"])
def test_sources_stand_at_the_left_and_sinks_at_the_right(name):
    picture, items = laid_out(THINGS[name]())
    column = {item.vertex: item.col for item in items}
    heads, tails = {e.head for e in picture.edges}, {e.tail for e in picture.edges}
    assert {column[v] for v in tails - heads} == {min(column.values())}
    assert {column[v] for v in heads - tails} == {max(column.values())}


def test_in_a_long_graph_a_source_stands_before_its_first_reader():
    edges = {(k, k + 1): 1 for k in range(20)}
    _, items = laid_out(Graph({**edges, ("late", 15): 1, ("late", 18): 1}))
    column = {item.label: item.col for item in items if item.vertex >= 0}
    assert column["late"] == column["14"]


def test_few_edges_cross():
    from backsolve.show import layout

    def crossings(thing):
        found = []
        with pytest.MonkeyPatch.context() as patch:
            measure = layout._measure
            patch.setattr(
                layout, "_measure", lambda g, layers: (found.append(layout._crossings(layers)), measure(g, layers))
            )
            laid_out(thing)
        return sum(found)

    assert all(crossings(thing()) == 0 for name, thing in THINGS.items() if name != "random")
    ladder = {(f"a{k}", f"a{k + 1}"): 1 for k in range(6)} | {(f"b{k}", f"b{k + 1}"): 1 for k in range(6)}
    assert crossings(Graph(ladder)) == 0
    tree = {(f"n{k}", f"n{(k - 1) // 2}"): 1 for k in range(1, 31)}
    assert crossings(Graph(tree)) == 0


def test_a_call_folds_and_small_things_do_not():
    _, items = laid_out(captured(2))
    groups = [item for item in items if item.children and item.parent is not None]
    assert [(g.label, g.place, g.stop - g.start) for g in groups] == [
        ("layer 1", "things.py", 6),
        ("layer 2", "things.py", 5),
    ]
    assert all(g.open for g in groups)


def test_many_calls_fold_into_stretches_and_little_is_visible_at_first():
    _, items = laid_out(captured(200))
    visible = [item for item in items[0].children if not item.open or not item.children]
    assert len(visible) < 60
    assert any(re.fullmatch(r"layer \d+ … \d+", item.label) for item in items)
    labels = [item.label for item in items]
    assert len(set(labels)) == len(labels)  # every group is told apart
    assert all(len(item.children) <= 80 for item in items)


def test_a_long_chain_and_a_wide_layer_are_laid_out_without_recursion():
    chain_of = Graph({(i, i + 1): 1 for i in range(5_000)})
    wide = Graph({(f"s{i}", "t"): 1 for i in range(2_000)})
    for thing in (chain_of, wide):
        picture, items = laid_out(thing)
        assert max(item.col + item.cols for item in items) <= 2 * len(picture.vertices)
        assert len(items[0].children) <= 80


def test_loops_on_one_line_fold():
    import jax.numpy as jnp

    from backsolve import linearize

    def f(x):
        for _ in range(200):
            x = jnp.sin(x)
        return x

    _, items = laid_out(linearize(f, np.float32(1.0)))
    assert [item.label for item in items[0].children if item.children]


def test_a_jitted_function_and_a_scan_fold():
    import jax
    import jax.numpy as jnp

    from backsolve import linearize

    @jax.jit
    def block(x, W):
        h = jnp.tanh(W @ x)
        return h + jnp.sin(x) * 2

    def cell(c, w):
        return jnp.tanh(c * w), c

    def f(x, W):
        for _ in range(2):
            x = block(x, W)
        c, ys = jax.lax.scan(cell, x, jnp.ones((4, 3)))
        return jnp.sum(c) + jnp.sum(ys)

    picture, items = laid_out(linearize(f, jnp.ones(3), jnp.ones((3, 3)), argnums=(0, 1)))
    groups = [item for item in items if item.children]
    names = [re.split(r"[. ]", item.label) for item in groups]
    assert sum("block" in name for name in names) == 4  # two calls, a line of three nodes in each
    scan = [{picture.vertices[v].text for v in range(g.start, g.stop)} for g in groups]
    assert {"scan"} in scan


def test_sources_fold_with_their_only_readers():
    picture, items = laid_out(captured(3))
    first = next(item for item in items if item.label == "layer 1")
    inside = {picture.vertices[v].name for v in range(first.start, first.stop)}
    assert inside == {"p0", "p1", "p6", "x0", "x1", "x2"}
