"""Numbers formed by kinds of entries, against sums in NumPy."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.sparse.lazy_values import Combination, LazyValues
from backsolve.sparse.materialize import assemble, combine
from backsolve.sparse.pattern import run_starts


def reference(sources, index, starts, coef, const, count):
    s = np.concatenate([np.asarray(x, float) for x in sources])
    index = np.arange(s.size) if index is None else index
    starts = np.arange(count + 1) if starts is None else starts
    terms = coef * s[index]
    return np.array([terms[a:b].sum() for a, b in pairwise(starts)]) + const


def stencil(n, rng):
    """A tridiagonal sum over three sources: interior entries of three kinds, and ends of others."""
    starts, index, coef, const = [0], [], [], []
    for i in range(n):
        for j in (i - 1, i, i + 1):
            if 0 <= j < n:
                terms = [(j, -1.0)] if j != i else [(n + i, 2.0), (2 * n + i, 1.0), (i, 1.0)][: 3 if 0 < i < n - 1 else 2]
                index += [k for k, _ in terms]
                coef += [c for _, c in terms]
                const.append(0.5 if j == i else 0.0)
                starts.append(len(index))
    return [n, n, n], np.array(index), np.array(starts), np.array(coef), np.array(const)


def ragged(n, rng, longest, coefs, consts=0.0):
    counts = rng.integers(0, longest + 1, n)
    starts = np.concatenate(([0], np.cumsum(counts)))
    index = rng.integers(0, 3 * n, starts[-1])
    return [n, 2 * n], index, starts, rng.choice(coefs, starts[-1]) if len(coefs) > 1 else coefs[0], consts


RNG = np.random.default_rng(0)
CASES = {
    "stencil": stencil(300, RNG),
    "stencil without constants": (*stencil(300, RNG)[:4], 0),
    "one source as it is": ([400], None, None, 1, 0),
    "one source, weighted": ([400], None, None, RNG.standard_normal(400), 0),
    "one source, two weights": ([400], None, None, np.where(np.arange(400) % 3 == 0, 2.0, -1.0), 1.5),
    "short sums": ragged(300, RNG, 2, [1]),
    "short sums of few weights": ragged(300, RNG, 3, [1.0, -1.0]),
    "sums of any length": ragged(300, RNG, 20, [1.0, 2.0]),
    "many weights": ragged(300, RNG, 2, list(RNG.standard_normal(200))),
    "many constants": ragged(300, RNG, 2, [1], RNG.standard_normal(300)),
    "few constants": ragged(300, RNG, 1, [1], RNG.choice([0.0, 3.0], 300)),
    "constants alone": ([2], np.zeros(0, int), np.zeros(301, int), 1, RNG.choice([0.0, 3.0], 300)),
    "no entries": ([2], np.zeros(0, int), np.zeros(1, int), 1.0, np.zeros(0)),
    "three kinds and a heavy row": (
        [1000], np.r_[0:900, 0:1000], np.r_[0:901, 1900], np.r_[np.ones(450), -np.ones(450), np.ones(1000)], 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", CASES)
def test_assembled_numbers_are_the_sums(name, compiled):
    sizes, index, starts, coef, const = CASES[name]
    count = (sizes[0] if index is None else index.size) if starts is None else starts.size - 1
    sources = [jnp.asarray(np.random.default_rng(k).standard_normal(n), jnp.float32) for k, n in enumerate(sizes)]
    f = lambda *xs: assemble(xs, index, starts, coef, const, count)  # noqa: E731
    got = (jax.jit(f) if compiled else f)(*sources)
    assert (got.shape, got.dtype) == ((count,), jnp.float32)
    np.testing.assert_allclose(got, reference(sources, index, starts, coef, const, count), atol=3e-5, rtol=1e-4)


def test_a_stencil_is_arithmetic_on_slices_and_one_gather():
    sizes, index, starts, coef, const = CASES["stencil"]
    sources = [jnp.ones(n) for n in sizes]
    made = jax.make_jaxpr(lambda *xs: assemble(xs, index, starts, coef, const, starts.size - 1))(*sources)
    names = [eqn.primitive.name for eqn in made.eqns]
    assert names.count("gather") <= 3  # the last, and two for the ends
    assert "select_n" not in names
    assert len(names) < 40


def test_a_missing_number_stays_with_the_entries_that_use_it():
    sizes, index, starts, coef, const = CASES["stencil"]
    sources = [jnp.ones(n).at[7].set(jnp.nan) for n in sizes]
    got = np.asarray(assemble(sources, index, starts, coef, const, starts.size - 1))
    want = reference(sources, index, starts, coef, const, starts.size - 1)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, jax.jit(lambda x: x)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("width", [(), (3,)])
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("longest", [3, 8, 30])
def test_sums_of_unlike_lengths(make, weighted, width, indexed, longest):
    rng = np.random.default_rng(longest)
    counts = rng.integers(0, 2, 200)
    counts[rng.permutation(200)[:6]] = longest, longest, longest - 1, 2, 2, 1
    starts = run_starts(counts)
    index = rng.integers(0, 50, starts[-1]) if indexed else None
    coef = rng.integers(-3, 4, starts[-1]).astype(float) if weighted else -1
    x = rng.integers(-9, 10, (50 if indexed else starts[-1], *width)).astype(np.float32)
    terms = (x if index is None else x[index]) * np.broadcast_to(coef, starts[-1]).reshape(-1, *(1 for _ in width))
    expected = np.array([terms[a:b].sum(0) for a, b in pairwise(starts)])
    np.testing.assert_array_equal(combine(make(x), index, starts, coef), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: combine(x, index, starts, coef))(x), expected)


def test_sums_of_unlike_lengths_take_a_term_each():
    """One row of eight among a thousand of one: not eight passes over all."""
    starts = run_starts(np.where(np.arange(1000) == 500, 8, 1))
    jaxpr = jax.make_jaxpr(lambda x: combine(x, None, starts))(np.zeros(1007))
    moved = sum(eqn.outvars[0].aval.size for eqn in jaxpr.eqns if eqn.primitive.name in ("gather", "slice", "jit"))
    assert moved < 2100, jaxpr


def test_runs_of_several_sources_are_slices_of_these_alone():
    """Nothing is joined first, and sources of which no entry is asked for are not read."""
    sources = [np.arange(6.0), 10 + np.arange(5.0), 20 + np.arange(7.0)]
    index = np.concatenate([np.arange(11, 18), np.arange(0, 6, 2)])
    values = LazyValues(sources, Combination(index.size, (6, 5, 7), index))
    expected = np.concatenate(sources)[index]
    np.testing.assert_array_equal(values.array(), expected)

    def f(*xs):
        return LazyValues(xs, values.plan).array()

    np.testing.assert_array_equal(jax.jit(f)(*sources), expected)
    made = jax.make_jaxpr(f)(*sources)
    (joined,) = [eqn for eqn in made.eqns if eqn.primitive.name == "concatenate"]
    assert [v.aval.shape for v in joined.invars] == [(7,), (3,)]
    assert not any(made.jaxpr.invars[1] in eqn.invars for eqn in made.eqns)
    shuffled = np.random.default_rng(0).permutation(18)
    both = LazyValues(sources, Combination(18, (6, 5, 7), shuffled, None, -2.0)).array()
    np.testing.assert_array_equal(both, -2 * np.concatenate(sources)[shuffled])
