"""The graphs of the published functions: counts of multiplications, by a counter that shares nothing with the library."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Literal

import backsolve as bs
from benchmarks.models.published import PUBLISHED
from tests import reference

# Lohoff & Neftci (2024), table of results: forward, reverse, greedy Markowitz.
COUNTS = {
    "Roe flux, 1-D": (620, 364, 407),
    "robot arm, 6 joints": (397, 301, 288),
    "heart dipole": (240, 172, 194),
    "propane combustion": (151, 90, 111),
}


def edges_of(jaxpr, names, edges):
    """Add an edge for every (differentiable input, equation); return the vertices of the outputs. Inner jits are inlined."""
    for equation in jaxpr.eqns:
        sources = [names.get(v) if not isinstance(v, Literal) else None for v in equation.invars]
        inner = equation.params.get("jaxpr")
        if inner is not None:
            inside = {v: name for v, name in zip(inner.jaxpr.invars, sources) if name is not None}
            names.update(zip(equation.outvars, edges_of(inner.jaxpr, inside, edges)))
        elif any(name is not None for name in sources):
            (out,) = equation.outvars
            names[out] = len(edges)
            edges.append({name for name in sources if name is not None})
    return [names[v] for v in jaxpr.outvars]


def graph(function, arguments):
    """The predecessors of every vertex, inputs first, and the vertices of the outputs, which no other vertex reads."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    predecessors = [set() for _ in jaxpr.invars]
    outputs = edges_of(jaxpr, {v: i for i, v in enumerate(jaxpr.invars)}, predecessors)
    assert not set(outputs) & set().union(*predecessors)
    return predecessors, outputs


def multiplications(predecessors, outputs, order):
    """Eliminate all but inputs and outputs: in-degree × out-degree each, whatever the weights are."""
    into = [set(names) for names in predecessors]
    out = [{w for w, names in enumerate(into) if v in names} for v in range(len(into))]
    left = [v for v in range(len(into)) if into[v] and v not in outputs]
    total = 0
    while left:
        if order == "markowitz":  # of equal products the earliest equation
            v = min(left, key=lambda v: len(into[v]) * len(out[v]))
        else:
            v = left[0 if order == "forward" else -1]
        left.remove(v)
        total += len(into[v]) * len(out[v])
        for u in into[v]:
            out[u] = (out[u] | out[v]) - {v}
        for w in out[v]:
            into[w] = (into[w] | into[v]) - {v}
    return total


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_counts_are_the_published_ones(model):
    found = graph(model.function, model.point)
    assert tuple(multiplications(*found, order) for order in ("forward", "reverse", "markowitz")) == COUNTS[model.name]


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_both_forms_agree_and_derivatives_are_finite(model):
    point = np.array(model.point, np.float32)
    assert np.array_equal(model.on_array(jnp.asarray(point)), np.stack(model.function(*jnp.asarray(point))))
    assert np.isfinite(reference.jacfwd(model.on_array)(point)).all()


def test_the_counter_on_a_repeated_operand_a_constant_and_an_inner_jit():
    # Vertices: a·a (one edge), 3·(a·a), the inner product with b, and the output sin.
    found = graph(lambda a, b: jnp.sin(jax.jit(lambda u: u * b)(3.0 * (a * a))), (1.0, 2.0))
    assert found == ([set(), set(), {0}, {2}, {3, 1}, {4}], [5])
    assert multiplications(*found, "forward") == 1 + 1 + 2
    assert multiplications(*found, "reverse") == 2 + 1 + 1


# ---- the library's own plans ----------------------------------------------------------------------------------------------
BEST = {"Roe flux, 1-D": 320, "robot arm, 6 joints": 231, "heart dipole": 148, "propane combustion": 88}  # published, learnt


def planned(model, **options):
    return bs.plan(model.function, *model.point, argnums=tuple(range(len(model.point))), **options)


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_plans_count_as_published_and_are_at_most_the_best(model):
    """Planned in well under a second of the processor's time; the bound is for a machine that has other work."""
    planned(model, order="forward")  # traced once before
    began = time.process_time()
    plan = planned(model)
    assert time.process_time() - began < 5
    assert plan.method == "elimination"
    assert tuple(plan.totals[order] for order in ("forward", "reverse", "markowitz")) == COUNTS[model.name]
    assert plan.multiplications <= BEST[model.name]
    predecessors, outputs = graph(model.function, model.point)
    assert recounted(plan, predecessors, outputs) == plan.multiplications


def recounted(plan, predecessors, outputs):
    """The same order on the graph of the independent counter: its vertices are the arguments, then nodes as they come."""
    into = [set(names) for names in predecessors]
    arguments = sum(not names for names in into)
    out = [{w for w, names in enumerate(into) if v in names} for v in range(len(into))]
    total = 0
    for v in (arguments + node for node in plan.order):
        if v in outputs:
            continue
        total += len(into[v]) * len(out[v])
        for u in into[v]:
            out[u] = (out[u] | out[v]) - {v}
        for w in out[v]:
            into[w] = (into[w] | into[v]) - {v}
    return total


@pytest.mark.parametrize("model", PUBLISHED[:2], ids=lambda model: model.name)
def test_a_search_is_strictly_better_than_the_best_published(model):
    assert planned(model, search=3).multiplications < BEST[model.name]


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_their_jacobians_in_every_order(model):
    argnums = tuple(range(len(model.point)))
    with jax.enable_x64(True):
        point = [jnp.asarray(v, float) for v in model.point]
        want = np.array(jax.jit(jax.jacfwd(model.function, argnums))(*point))
        for order in ("auto", "markowitz"):
            got = jax.jit(bs.jacobian(model.function, argnums, order=order))(*point)
            np.testing.assert_allclose(np.array(got), want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
