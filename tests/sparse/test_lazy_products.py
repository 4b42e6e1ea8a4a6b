"""Products of moved entries: right in every mixture of arrays and constants, each pair once, and lazy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backsolve.sparse.lazy_values import CONSTANT, LazyValues, Monomials, multiplied


def value(v):
    every = np.concatenate([*map(np.asarray, v.sources), [1.0]])
    return v.coef * every[v.places]  # CONSTANT is the last


@st.composite
def monomials(draw, n):
    sizes = draw(st.lists(st.integers(1, 50), max_size=3))
    total = sum(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    places = rng.integers(0, total, n) if total else np.full(n, CONSTANT)
    places[rng.uniform(size=n) < draw(st.sampled_from([0, 0.3, 1]))] = CONSTANT
    sources = [jnp.asarray(rng.standard_normal(size)) for size in sizes]
    return Monomials(sources, places, rng.standard_normal(n), [None] * len(sources))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 200))
def test_products(data, n):
    a, b = data.draw(monomials(n)), data.draw(monomials(n))
    np.testing.assert_allclose(value(multiplied(a, b)), value(a) * value(b), rtol=1e-5, atol=1e-5)


def test_each_pair_is_multiplied_once():
    x, y = jnp.arange(3.0), jnp.arange(2.0) + 1
    made = multiplied(
        Monomials([x], np.tile([0, 1, 2], 4), np.ones(12), [None]),
        Monomials([y], np.tile([0, 1], 6), np.arange(12.0), [None]),
    )
    assert [len(s) for s in made.sources] == [6]
    np.testing.assert_allclose(value(made), np.tile([0, 1, 2], 4) * np.tile([1, 2], 6) * np.arange(12.0))


def test_beside_constants_nothing_is_multiplied():
    x = jnp.arange(3.0)
    a = Monomials([x], np.array([0, 1, CONSTANT]), np.array([1.0, 2.0, 3.0]), [None])
    b = Monomials([], np.full(3, CONSTANT), np.array([4.0, 5.0, 6.0]), [])
    made = multiplied(a, b)
    assert made.sources[0] is x
    np.testing.assert_allclose(value(made), [0, 10, 18])


@pytest.mark.parametrize("n", [3, 300])
def test_of_values_with_sums_and_constants(n):
    """Boundaries and an interior, as stencils have: each kind stays by itself."""
    x = jnp.arange(float(n)) + 1
    edge = np.zeros(n)
    edge[0] = 7.0
    inside = LazyValues.of(x, n).take(np.arange(1, n)).spread(np.arange(1, n), n)
    a = LazyValues.of(x, n).times(LazyValues.of(edge, n))
    total = inside.times(LazyValues.of(x, n))
    np.testing.assert_allclose(a.array(), np.asarray(x) * edge)
    np.testing.assert_allclose(total.array(), np.where(np.arange(n) > 0, np.asarray(x) ** 2, 0))
