"""Orders step by step: costs against elimination itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import linearize
from backsolve.show.model import picture_of
from backsolve.show.steps import costs, runs

from .things import THINGS, captured, figure_1, random_graph


def counted(picture, order):
    """The same counts by sets, one elimination after the other."""
    into = {i: set() for i in range(len(picture.vertices))}
    out = {i: set() for i in range(len(picture.vertices))}
    for e in picture.edges:
        into[e.head].add(e.tail)
        out[e.tail].add(e.head)
    size = [v.size for v in picture.vertices]
    just_named = {(e.tail, e.head) for e in picture.edges if picture.vertices[e.head].role == "output" and e.label in "I1"}
    found = []
    for v in order:
        found.append(sum(size[i] * size[v] * size[j] for i in out[v] if (v, i) not in just_named for j in into[v]))
        for i in out[v]:
            into[i] |= into[v]
            into[i].discard(v)
        for j in into[v]:
            out[j] |= out[v]
            out[j].discard(v)
    return tuple(found)


@pytest.mark.parametrize("name", THINGS)
def test_costs(name):
    picture = picture_of(THINGS[name]())
    inner = list(picture.nodes.values())
    for order in (inner, inner[::-1], list(np.random.default_rng(0).permutation(inner))):
        assert costs(picture, order) == counted(picture, order)


def test_the_papers_figure_saves_one_multiplication_backwards():
    forward, reverse = runs(picture_of(figure_1()))
    assert (forward.total, reverse.total) == (4, 3)


def test_sizes_count():
    forward, reverse = runs(picture_of(captured(1)))
    assert reverse.total < forward.total


def test_an_order_given_comes_first():
    picture = picture_of(figure_1())
    found = runs(picture, [4, 3], "mine")
    assert [run.name for run in found] == ["mine", "forward substitution", "back substitution"]
    assert found[0].order == (3, 2)
    assert [run.name for run in runs(picture, "reverse")] == ["back substitution", "forward substitution"]


def several(a, b, c):
    return jnp.sin(a * b) * c + a, jnp.cos(b) / c


def test_a_plan_brings_its_own_counts():
    system = linearize(several, 1.0, 2.0, 3.0, argnums=(0, 1, 2))
    plan = system.plan()
    found = runs(picture_of(system), plan, "the plan")
    assert found[0].total == plan.multiplications
    assert {run.name: run.total for run in found[1:]} == {
        "forward substitution": plan.totals["forward"],
        "back substitution": plan.totals["reverse"],
        "Markowitz order": plan.totals["markowitz"],
    }
    assert all(sorted(run.order) == sorted(picture_of(system).nodes.values()) for run in found)
    assert [run.name for run in runs(picture_of(system), "markowitz")].count("Markowitz order") == 1


def test_between_scalars_counts_are_those_of_plans():
    system = linearize(several, 1.0, 2.0, 3.0, argnums=(0, 1, 2))
    plan = system.plan()
    forward, reverse = runs(picture_of(system))
    assert (forward.total, reverse.total) == (plan.totals["forward"], plan.totals["reverse"])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([3], "misses 4; it must name each of the 2 nodes once"),
        ([3, 4, 3], "names 3 twice"),
        ([3, 4, 5], "names 5, which is none of the 2 nodes"),
        ("sideways", "unknown order 'sideways'; use 'forward', 'reverse', of a System also 'auto' or 'markowitz'"),
    ],
)
def test_orders_that_are_none(order, message):
    with pytest.raises(ValueError, match=message):
        runs(picture_of(figure_1()), order)


def test_costs_of_a_large_graph_are_quick():
    import time

    start = time.perf_counter()
    runs(picture_of(random_graph(1_000, 2)))
    assert time.perf_counter() - start < 30
