"""Arrays joined from numbers, under vmap: the same numbers, and no loop that branches at every entry."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from benchmarks.models.form_models import neuron, option
from tests import reference

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere joins are left to XLA")
RNG = np.random.default_rng(7)


def with_constants(x):
    """Zeros, ones and numbers of the argument itself among the entries."""
    return jnp.stack([x[0], 2.0 * x[1] * x[2], jnp.sin(x[2]), jnp.ones(()), x[0] / x[1]])


def turned(x):
    """Joined, turned and joined again."""
    a, b, c, d = x
    rows = jnp.stack([jnp.stack([a * b, c]), jnp.stack([jnp.exp(c), d * a]), jnp.stack([d / b, a])]).T
    return jnp.concatenate([rows.reshape(-1), jnp.array([a - b])])


def repeated(x):
    """The same number at several places, some of it by way of others."""
    p = x[0] * jnp.tanh(x[1])
    return jnp.array([p, p, p * x[2], p + 1.0])


def of_vectors(x):
    """Not of numbers alone: rows of vectors among them."""
    return jnp.concatenate([x[:3] * x[3], jnp.array([x[0] * x[1], jnp.sin(x[2])])])


def with_a_known_row(x):
    """As a rate whose last entry is one of the state: that row of the Jacobian is known while tracing."""
    a, b, c, d = x
    return jnp.stack([a * jnp.sin(b), jnp.exp(c) / a, b * jnp.cos(a) * d, d])


def with_none(x):
    """No numbers at all, beside some."""
    return x[:0] * x[0], jnp.sin(x) * x[0]


FUNCTIONS = {
    "none": (with_none, 3),
    "an option": (option, 5),
    "a neuron": (neuron, 5),
    "constants": (with_constants, 3),
    "a known row": (with_a_known_row, 4),
    "turned": (turned, 4),
    "repeated": (repeated, 3),
    "vectors": (of_vectors, 4),
    "two leaves": (lambda x: {"a": x[0] * x[1], "b": jnp.array([x[2] ** 2, x[1], x[0] / x[3], x[3] * x[2]])}, 4),
}


def numbers_equal(got, expected, rtol=1e-11):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_numbers(name):
    f, n = FUNCTIONS[name]
    with jax.enable_x64(True):
        X = RNG.uniform(0.5, 1.5, (6, n))
        expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X)
        J = jax.vmap(bs.jacobian(f))
        numbers_equal(jax.jit(J)(X), expected)
        numbers_equal(J(X), expected)
        numbers_equal(
            jax.jit(jax.vmap(J))(X.reshape(2, 3, n)), jax.tree.map(lambda y: y.reshape(2, 3, *y.shape[1:]), expected)
        )
        numbers_equal(jax.jit(bs.jacobian(f))(X[0]), jax.tree.map(lambda y: y[0], expected))


@pytest.mark.parametrize("name", ["an option", "turned", "constants"])
def test_derivatives_of_them(name):
    f, n = FUNCTIONS[name]
    with jax.enable_x64(True):
        X = RNG.uniform(0.5, 1.5, (3, n))

        def loss(jacobian, X):
            return jnp.sum(jnp.sin(jax.vmap(jacobian(f))(X)) ** 2)

        ours, theirs = (jax.jit(jax.grad(loss, 1), static_argnums=0)(J, X) for J in (bs.jacobian, jax.jacfwd))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_constants_that_are_no_floating_point_numbers():
    """Keys, integers and masks that the function holds, taken apart and joined."""
    keys, index, mask = jax.random.split(jax.random.key(0), 4), jnp.arange(6), jnp.arange(4) > 1

    def f(x):
        more = jax.lax.concatenate([keys.reshape(2, 2)[1], keys[:1]], 0)
        n = jax.random.normal(more[2], (3,)) * index.reshape(2, 3)[1]
        numbers = jnp.stack([x[0] * jnp.sin(x[1]), x[1] * n[0], x[2] ** 2 * n[2], x[0] * x[2]])
        return jnp.where(mask.reshape(2, 2).reshape(4), numbers, x[1] * numbers)

    X = RNG.uniform(0.5, 1.5, (5, 3))
    expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X)
    J = jax.vmap(bs.jacobian(f))
    numbers_equal(jax.jit(J)(X), expected)
    numbers_equal(J(X), expected)


def test_nan_and_infinity_stay_where_they_are():
    X = jnp.array([[0.0, 1.0, 2.0], [jnp.inf, 1.0, 2.0], [1.0, jnp.nan, 1.0], [0.5, 0.5, 0.5]])
    one_by_one = [bs.jacobian(with_constants)(x) for x in X]
    np.testing.assert_array_equal(jax.jit(jax.vmap(bs.jacobian(with_constants)))(X), jnp.stack(one_by_one))


@ON_CPU
@pytest.mark.parametrize("name", ["an option", "a neuron", "a known row"])
def test_no_loop_branches_at_every_entry(name):
    f, n = FUNCTIONS[name]
    X = jnp.asarray(RNG.uniform(0.5, 1.5, (1000, n)), jnp.float32)
    loops = re.split(r"\n\n", jax.jit(jax.vmap(bs.jacobian(f))).lower(X).compile().as_text())
    assert any("fused_computation" in loop for loop in loops)
    assert not [loop for loop in loops if "fused_computation" in loop.split("(")[0] and "concatenate(" in loop]
