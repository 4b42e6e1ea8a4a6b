"""The bordered matrix itself: square, with J as its Schur complement, its size and factors linear in a program's depth."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import backsolve as bs
from backsolve.capture.solving import bordered_system
from backsolve.engines.hosted import SuperLU
from tests import reference

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)


def dense(matrix):
    layout = matrix.layout
    A = sp.csc_array((np.asarray(layout.numbers(matrix.data)), layout.columns.indices, layout.columns.indptr))
    return A.toarray()


def net(x):
    for W in WEIGHTS:
        x = x + 0.5 * jnp.tanh(W @ x)
    return x


WEIGHTS = RNG.standard_normal((3, 5, 5))


@pytest.mark.parametrize("damping", [None, 0.7])
@pytest.mark.parametrize("formed", [0, 1000])
def test_its_inverse_holds_that_of_the_jacobian(damping, formed):
    x = jnp.asarray(RNG.standard_normal(5))
    matrix = bordered_system(bs.linearize(net, x), damping, formed=formed)
    inverse = np.linalg.inv(dense(matrix))[np.ix_(matrix.into, matrix.out)]
    J = np.asarray(reference.jacobian(net)(x)) + (damping or 0) * np.eye(5)
    np.testing.assert_allclose(inverse, np.linalg.inv(J), rtol=1e-10, atol=1e-12)
    assert matrix.layout.size == 5 or not formed


def test_what_adds_no_entries_is_eliminated_before():
    """Elementwise chains, moves and sums leave the Jacobian alone."""

    def f(x):
        y = jnp.sin(x)[::-1] * 2 + jnp.exp(x)
        return jnp.concatenate([y[:50] ** 2, y[50:] * y[:50]])

    matrix = bordered_system(bs.linearize(f, jnp.asarray(RNG.standard_normal(100))))
    assert matrix.layout.size == 100
    assert matrix.layout.nnz <= 300


def test_entries_that_no_edge_touches_keep_it_square():
    matrix = bordered_system(bs.linearize(lambda x: jnp.concatenate([x[:1] ** 2, jnp.zeros(3)]), jnp.ones(4)), 2.0)
    assert dense(matrix).shape == (matrix.layout.size,) * 2
    assert sorted(matrix.out) == sorted(set(matrix.out))
    assert matrix.out.size == matrix.into.size == 4


def test_a_formed_jacobian_stays_sparse():
    matrix = bordered_system(bs.linearize(lambda x: jnp.diff(x**2, append=0.0), jnp.ones(1000)), formed=10_000)
    assert matrix.layout.size == 1000
    assert matrix.layout.nnz <= 2000


def test_labels_name_sources_and_nodes():
    matrix = bordered_system(bs.linearize(net, jnp.ones(5)))
    labels = [part.label for part in matrix.layout.cols]
    assert "source 0" in labels
    assert [part.label for part in matrix.layout.rows if part.label.startswith("output")] == ["output 0"]


def loss(depth):
    def f(weights):
        h = jnp.ones(4)
        for k in range(depth):
            h = jnp.tanh(weights[k] @ h + 0.1)
        return jnp.sum(h**2)

    return f


@pytest.mark.parametrize("flat", [False, True])
def test_entries_and_factors_grow_linearly_with_depth(flat):
    """Of an inverse-Hessian product of a net, its weights in a list or in one vector: at four times the depth."""
    found = []
    for depth in (16, 64):
        W = jnp.asarray(0.5 * RNG.standard_normal((depth, 4, 4)))
        f = loss(depth)
        g, x = (bs.grad(lambda v, d=depth, f=f: f(v.reshape(d, 4, 4))), W.ravel()) if flat else (bs.grad(f), list(W))
        matrix = bordered_system(bs.linearize(g, x), 0.1)
        factors = SuperLU(matrix.layout, matrix.data)
        found.append((matrix.layout.nnz, matrix.layout.size, factors.nnz))
        assert matrix.layout.nnz < (16 * depth) ** 2  # fewer than the Hessian has
    (few, small, low), (many, large, high) = found
    assert many <= 4.6 * few
    assert large <= 4.6 * small
    assert high <= 5.5 * low
