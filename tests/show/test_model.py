"""Pictures hold what the System, Graph or OperatorMatrix holds: vertices, edges, cells, lines of code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import Graph, OperatorMatrix, linear_map, linearize, matrix
from backsolve.show.folds import folded
from backsolve.show.kinds import KINDS, kind_of, minus
from backsolve.show.model import picture_of

from .things import THINGS, captured, figure_1, matrix_net


def by_name(picture):
    return {v.name: v for v in picture.vertices}


@pytest.mark.parametrize("name", THINGS)
def test_edges_go_forward_and_folding_keeps_them(name):
    picture = picture_of(THINGS[name]())
    again, items = folded(picture)
    for p in (picture, again):
        assert all(e.tail < e.head for e in p.edges)
        assert all(e.kind in KINDS for e in p.edges)
    word = [{(p.vertices[e.tail].name, p.vertices[e.head].name, e.cell) for e in p.edges} for p in (picture, again)]
    assert word[0] == word[1]
    assert sorted(item.vertex for item in items if item.vertex >= 0) == list(range(len(picture.vertices)))
    for item in items:
        assert item.stop - item.start == sum(child.stop - child.start for child in item.children) + (item.vertex >= 0)


def test_a_system():
    system = matrix_net()
    picture = picture_of(system)
    names = [v.name for v in picture.vertices]
    edges = {(names[e.tail], names[e.head]): e.cell for e in picture.edges}
    assert edges == {
        ("p0", "x0"): "(Δ₁)ᴴ ∘ (X₀)ᴿ",
        ("p1", "x0"): "(Δ₁)ᴴ ∘ (eᵀ)ᴿ",
        ("p2", "x1"): "(Δ₂)ᴴ ∘ (X₁)ᴿ",
        ("p3", "x1"): "(Δ₂)ᴴ ∘ (eᵀ)ᴿ",
        ("x0", "x1"): "−(Δ₂)ᴴ ∘ (W₂)ᴸ",
        ("x1", "y0"): "I",
    }
    assert by_name(picture)["p0"].space == "4×3"
    assert picture.nodes == {0: names.index("x0"), 1: names.index("x1")}


def test_a_captured_system_names_operations_lines_and_functions():
    node = by_name(picture_of(captured(2)))["x2"]
    assert (node.text, node.function, node.size) == ("tanh", "layer", 3)
    assert node.place.startswith("things.py:")
    assert node.path.endswith("things.py")


def test_source_names_are_given_or_refused():
    assert by_name(picture_of(captured(1), names=["W", "b", "x"]))["p1"].text == "b"
    with pytest.raises(ValueError, match="one name for each of the 3 sources, got 1"):
        picture_of(captured(1), names=["W"])


def test_a_graph_tells_sources_and_sinks():
    roles = {v.name: v.role for v in picture_of(figure_1()).vertices}
    assert roles == {"1": "source", "2": "source", "3": "node", "4": "node", "5": "sink"}


def test_a_matrix_that_is_no_graph_is_drawn_as_a_map():
    cyclic = picture_of(THINGS["cyclic"]())
    assert "not triangular" in cyclic.notes[0]
    assert [v.role for v in cyclic.vertices] == ["source", "source", "output", "output"]
    rectangular = picture_of(THINGS["rectangular"]())
    assert rectangular.notes == ()
    assert len(rectangular.rows) == 1


def test_the_diagonal_of_a_matrix_is_its_own():
    picture = picture_of(THINGS["diagonal minus"]())
    assert list(picture.diagonal.values()) == [("2", "number"), ("4", "number")]
    assert [(e.label, e.cell) for e in picture.edges] == [("1", "-1")]


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match=r"show takes a System, a Graph, an OperatorMatrix or a Plan, got int"):
        picture_of(3)


def test_too_many_entries_are_refused_with_a_remedy():
    big = OperatorMatrix.from_scipy(np.ones((500, 500)))
    with pytest.raises(ValueError, match=r"250,000 entries, more than the 200,000 .* use spy\(\)"):
        picture_of(big)


def test_kinds_and_minus():
    assert kind_of(linear_map(np.sort, None, (3,), (3,))) == "opaque"
    assert [minus(text) for text in ("W", "−W", "-2", "a + b", "0")] == ["−W", "W", "2", "−[a + b]", "0"]


def test_kinds_of_captured_operators():
    import jax
    import jax.numpy as jnp

    from backsolve import linearize

    def f(x):
        moved = x[jnp.array([0, 2, 1])]
        return jnp.sort(moved)[0] + jnp.sum(jnp.concatenate([x, x])[2:]) + jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x[1])

    kinds = {
        kind_of(element)
        for A in (linearize(f, jnp.arange(3.0)).M, linearize(f, jnp.arange(3.0)).L)
        for element in A.entries.values()
    }
    assert "moves" in kinds
    assert kinds <= set(KINDS)


def test_nodes_without_edges_are_there():
    import networkx as nx

    lonely = nx.DiGraph([("a", "b")])
    lonely.add_node("c")
    assert {v.name for v in folded(picture_of(Graph(lonely)))[0].vertices} == {"a", "b", "c"}
    assert len(picture_of(matrix([[0]])).vertices) in (1, 2)


def test_functions_with_a_rule_of_their_own_are_called_by_their_names():
    @jax.custom_vjp
    def mine(x):
        return x * x

    mine.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))
    lambda_with_a_rule = jax.custom_jvp(lambda x: 2 * x)
    lambda_with_a_rule.defjvp(lambda x, t: (2 * x[0], 2 * t[0]))
    picture = picture_of(linearize(lambda x: lambda_with_a_rule(mine(jax.nn.relu(x))), jnp.ones(3)))
    assert [v.text for v in picture.vertices if v.role == "node"] == ["relu", "mine", "custom_jvp_call"]
