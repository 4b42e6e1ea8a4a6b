"""Orders step by step: costs against elimination itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import Graph, I, bidiagonal, hadamard, left_mul, linearize
from backsolve.algebra.spaces import ArraySpace
from backsolve.show import page
from backsolve.show.model import picture_of
from backsolve.show.steps import degrees, runs, scalar_output

from .things import THINGS, captured, figure_1, random_graph


def counted(picture, order):
    """The Markowitz degrees by sets, one elimination after the other."""
    into = {i: set() for i in range(len(picture.vertices))}
    out = {i: set() for i in range(len(picture.vertices))}
    for e in picture.edges:
        into[e.head].add(e.tail)
        out[e.tail].add(e.head)
    just_named = {(e.tail, e.head) for e in picture.edges if picture.vertices[e.head].role == "output" and e.label in "I1"}
    found = []
    for v in order:
        found.append(sum(len(into[v]) for i in out[v] if (v, i) not in just_named))
        for i in out[v]:
            into[i] |= into[v]
            into[i].discard(v)
        for j in into[v]:
            out[j] |= out[v]
            out[j].discard(v)
    return tuple(found)


@pytest.mark.parametrize("name", THINGS)
def test_degrees(name):
    picture = picture_of(THINGS[name]())
    inner = list(picture.nodes.values())
    for order in (inner, inner[::-1], list(np.random.default_rng(0).permutation(inner))):
        assert degrees(picture, order) == counted(picture, order)


@pytest.mark.parametrize("name", ["figure 1", "scalar net", "random", "strictly lower", "diagonal minus", "of numbers"])
def test_between_numbers_multiplications_are_degrees(name):
    thing = linearize(several, 1.0, 2.0, 3.0, argnums=(0, 1, 2)) if name == "of numbers" else THINGS[name]()
    picture = picture_of(thing)
    given = list(picture.nodes)[1::2] + list(picture.nodes)[::2]
    found, _ = runs(picture, given)
    assert [run.name for run in found] == ["this order", *names(picture)]
    for run in found:
        assert sorted(run.order) == sorted(picture.nodes.values())
        assert run.costs == counted(picture, run.order), run.name


def names(picture):
    forward, back = "forward substitution", "back substitution"
    return [*((back, forward) if scalar_output(picture) else (forward, back)), "Markowitz order", "planned order"]


@pytest.mark.parametrize("name", ["matrix net", "captured", "skips", "attention"])
def test_multiplications_and_costs_are_those_of_plans(name):
    system = THINGS[name]()
    picture = picture_of(system)
    found, counting = runs(picture)
    assert [run.name for run in found] == names(picture)
    words = {"forward substitution": "forward", "back substitution": "reverse", "Markowitz order": "markowitz"}
    for run in found:
        plan = system.plan(words.get(run.name, "auto"))
        assert run.total == plan.multiplications, run.name
        assert run.cost == plan.cost
        assert run.method == plan.method
        steps = {picture.nodes[step.node]: step.multiplications for step in plan.steps}
        assert {v: n for v, n in zip(run.order, run.costs, strict=True) if v in steps} == steps
    assert sorted(counting.vertex.values()) == sorted(picture.nodes.values())


def test_graphs_and_matrices_of_operators_are_counted_by_their_structure():
    array = np.ones((5, 5))
    Wv = left_mul(array, "W").refine(ArraySpace((5, 1)), ArraySpace((5, 1)))
    D = hadamard(np.ones((5, 1)), "D")
    for edges, count in [
        ({("a", "b"): D, ("b", "c"): D}, 5),
        ({("a", "b"): Wv, ("b", "c"): D}, 25),
        ({("a", "b"): Wv, ("b", "c"): Wv}, 125),
        ({("a", "b"): array, ("b", "c"): np.ones((5, 2))}, 50),
    ]:
        for run in runs(picture_of(Graph(edges)))[0]:
            assert run.total == count
    chain = bidiagonal([I] * 3, [-D, -Wv])
    assert {run.total for run in runs(picture_of(chain))[0]} == {25}


def test_where_the_output_is_one_number_back_substitution_is_first():
    assert runs(picture_of(captured(1)))[0][0].name == "back substitution"
    assert runs(picture_of(figure_1()))[0][0].name == "back substitution"
    assert runs(picture_of(THINGS["attention"]()))[0][0].name == "forward substitution"
    assert runs(picture_of(captured(1)), "forward")[0][0].name == "forward substitution"


def test_the_papers_figure_saves_one_multiplication_backwards():
    found = {run.name: run.total for run in runs(picture_of(figure_1()))[0]}
    assert found == {"back substitution": 3, "forward substitution": 4, "Markowitz order": 3, "planned order": 3}


def test_an_order_given_comes_first():
    picture = picture_of(figure_1())
    found, _ = runs(picture, [4, 3], "mine")
    assert [run.name for run in found] == ["mine", *names(picture)]
    assert found[0].order == (3, 2)
    for word, name in [("reverse", "back substitution"), ("markowitz", "Markowitz order"), ("auto", "planned order")]:
        assert [run.name for run in runs(picture, word)[0]] == [name, *(n for n in names(picture) if n != name)]


def several(a, b, c):
    return jnp.sin(a * b) * c + a, jnp.cos(b) / c


def test_a_plan_brings_its_own_counts():
    system = linearize(several, 1.0, 2.0, 3.0, argnums=(0, 1, 2))
    plan = system.plan()
    found, _ = runs(picture_of(system), plan, "the plan")
    assert found[0].total == plan.multiplications
    assert {run.name: run.total for run in found[1:]} == {
        "forward substitution": plan.totals["forward"],
        "back substitution": plan.totals["reverse"],
        "Markowitz order": plan.totals["markowitz"],
    }
    assert all(sorted(run.order) == sorted(picture_of(system).nodes.values()) for run in found)
    with pytest.raises(ValueError, match=r"the plan was made for a system with"):
        runs(picture_of(captured(1)), plan)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([3], "misses 4; it must name each of the 2 nodes once"),
        ([3, 4, 3], "names 3 twice"),
        ([3, 4, 5], "names 5, which is none of the 2 nodes"),
        ("sideways", "unknown order 'sideways'; use 'forward', 'reverse', 'markowitz', 'auto', or a sequence"),
    ],
)
def test_orders_that_are_none(order, message):
    with pytest.raises(ValueError, match=message):
        runs(picture_of(figure_1()), order)


def test_a_large_graph_is_quick_and_what_is_not_counted_says_so():
    import time

    start = time.perf_counter()
    numbers, counting = runs(picture_of(random_graph(1_000, 2)))
    assert counting is not None
    assert numbers[0].costs == counted(picture_of(random_graph(1_000, 2)), numbers[0].order)
    tangle = picture_of(random_graph(600, 1, edges=60))
    numbers, counting = runs(tangle)
    assert counting is None
    assert [run.name for run in numbers] == names(tangle)[:2]
    assert numbers[0].costs == counted(tangle, numbers[0].order)
    arrays, _ = runs(picture_of(captured(300)))
    assert [run.costs for run in arrays] == [(), ()]
    assert time.perf_counter() - start < 30
    assert "Multiplications are not counted: there are more than 100,000 products" in page(captured(300))
