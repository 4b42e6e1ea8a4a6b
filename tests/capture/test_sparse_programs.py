"""Random sparse programs: moves, gathers, scatters, stencils and products of a vector, against JAX's dense derivatives."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import backsolve as bs

from .oracle import compiled, positive
from .test_sparse_jacobian import assert_same

N = 12  # entries of the argument


@pytest.fixture(autouse=True)
def _small_may_be_dense():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".* is dense: ")
        yield


def step(draw, name):
    """A function of two vectors of any lengths, of which it takes what it needs."""
    shift, seed, size = draw(st.integers(1, 5)), draw(st.integers(0, 99)), draw(st.integers(2, 2 * N))

    def fit(a, b):
        n = min(a.shape[0], b.shape[0])
        return a[:n], b[:n]

    return {
        "roll": lambda a, b: jnp.roll(a, shift),
        "stencil": lambda a, b: a[2:] - 2 * a[1:-1] + a[:-2] if a.shape[0] > 2 else a,
        "pad": lambda a, b: jnp.pad(a[shift:], (shift, 1)) if a.shape[0] > shift else a,
        "every other": lambda a, b: a[::2],
        "backwards": lambda a, b: a[::-1],
        "gather": lambda a, b: a[rng_of(seed).integers(0, a.shape[0], size)],
        "segment sum": lambda a, b: jax.ops.segment_sum(a, rng_of(seed).integers(0, size, a.shape[0]), size),
        "set": lambda a, b: a.at[rng_of(seed).permutation(a.shape[0])[:2]].set(b[:1]),
        "add at": lambda a, b: a.at[rng_of(seed).integers(0, a.shape[0], b.shape[0])].add(b),
        "concatenate": lambda a, b: jnp.concatenate([a, b])[: 3 * N],
        "product": lambda a, b: jnp.multiply(*fit(a, b)),
        "sine": lambda a, b: jnp.sin(a) + 0.5,
        "square": lambda a, b: a**2,
        "where": lambda a, b: jnp.where(rng_of(seed).integers(0, 2, a.shape[0]) == 1, a, 2 * a),
        "matrix": lambda a, b: jnp.asarray(mostly_zero(seed, size, a.shape[0])) @ a,
        "table": lambda a, b: (a[: a.shape[0] // 2 * 2].reshape(-1, 2).T * jnp.arange(1.0, 3.0)[:, None]).reshape(-1),
    }[name]


def rng_of(seed):
    return np.random.default_rng(seed)


def mostly_zero(seed, m, n):
    rng = rng_of(seed)
    return rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) < 0.2)


NAMES = ("roll", "stencil", "pad", "every other", "backwards", "gather", "segment sum", "set", "add at", "concatenate",
         "product", "sine", "square", "where", "matrix", "table")  # fmt: skip


@st.composite
def sparse_programs(draw):
    """Up to eight steps, each of two earlier vectors."""
    steps = [
        (step(draw, draw(st.sampled_from(NAMES))), draw(st.integers(0, 99)), draw(st.integers(0, 99)))
        for _ in range(draw(st.integers(1, 8)))
    ]

    def program(x):
        values = [x, jnp.cos(x)]
        for f, i, j in steps:
            values.append(f(values[-1 - i % min(3, len(values))], values[j % len(values)]))
        return values[-1]

    return program


def outside(true, A):
    """How many true non-zeros are not in the pattern."""
    found = np.zeros(A.shape, bool)
    found[A.rows, A.cols] = True
    return int((true & ~found).sum())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(sparse_programs())
def test_jacobians_and_their_patterns(program):
    J = compiled(jax.jacobian(program))
    A = compiled(bs.jacobian(program, format="sparse"))(positive(N))
    assert_same(A, J(positive(N)))
    true = np.zeros(A.shape, bool)
    for seed in range(20):
        true |= np.asarray(J(positive(N, seed=seed))) != 0
    assert outside(true, A) == 0


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(sparse_programs())
def test_hessians_of_sums_of_squares(program):
    def total(x):
        return jnp.sum(program(x) ** 2)

    H = compiled(bs.hessian(total, format="sparse"))(positive(N))
    assert_same(H, compiled(jax.hessian(total))(positive(N)))
    assert H.pattern == H.T.pattern
    np.testing.assert_array_equal(H.data, H.T.data)
