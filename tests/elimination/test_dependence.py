"""Patterns without numbers: those of the Jacobian's non-zeros, of programs of arrays, loops and scalars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture import blocks, sparse
from backsolve.elimination import dependence

N = 6


def scalars(x):
    """A program of numbers, each of a few before it."""
    rng = np.random.default_rng(1)
    values = [x[k] for k in range(N)]
    for _ in range(60):
        a, b = (values[-int(k)] for k in rng.integers(1, N + 1, 2))
        values.append([a * b, a + b, jnp.sin(a)][int(rng.integers(3))])
    return jnp.stack(values[::9])


PROGRAMS = {
    "scalars": scalars,
    "stencil": lambda x: jnp.roll(x, 1) * x + jnp.pad(x[1:] ** 2, (0, 1)),
    "matrix": lambda x: jnp.triu(jnp.ones((N, N))) @ jnp.sin(x),
    "loop": lambda x: lax.scan(lambda c, v: (c * v, c + v), 1.0, x)[1],
    "opaque": lambda x: jnp.linalg.solve(jnp.diag(x + 2), x[::-1])[:3],
    "several": lambda x: {"a": x[:2] * x[2], "b": jnp.sum(x), "c": jnp.ones(3), "d": x[4:]},
    "steps": lambda x: (jnp.round(x), x.astype(int) * 1.0, x),
    "complex": lambda x: jnp.abs(jnp.exp(1j * x) * x[::-1]),
}


def places(found):
    leaves = jax.tree_util.tree_leaves(found, is_leaf=lambda A: isinstance(A, bs.SparseMatrix))
    return [(A.shape, A.domain, A.codomain, A.pattern.rows.tolist(), A.pattern.cols.tolist()) for A in leaves]


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_pattern_is_that_of_the_jacobian(name, monkeypatch):
    f, x = PROGRAMS[name], jnp.linspace(0.5, 1.5, N)
    expected = places(bs.jacobian(f, format="sparse")(x))
    pattern = bs.sparsity(f, x)
    assert places(pattern) == expected
    leaves = jax.tree_util.tree_leaves(pattern, is_leaf=lambda A: isinstance(A, bs.SparseMatrix))
    assert all(A.data.dtype == bool and A.data.all() for A in leaves)
    monkeypatch.setattr(dependence, "MANY", 0)
    assert places(bs.sparsity(f, x)) == expected


def test_scalars_are_not_eliminated(monkeypatch):
    """A product an edge: an elimination of 4,000 numbers takes a minute."""

    def none(*_args, **_options):
        raise AssertionError

    monkeypatch.setattr(sparse, "accumulate_sparse", none)
    monkeypatch.setattr(blocks, "accumulate_sparse", none)
    x = jnp.linspace(0.5, 1.5, N)
    expected = np.asarray(jax.jacobian(scalars)(x)) != 0
    np.testing.assert_array_equal(bs.sparsity(scalars, x).toarray(), expected)
