"""Gradients by one long vector of parameters, sliced for every layer: joined, not added up among zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from tests import reference

from .oracle import assert_same, normal

LAYERS, WIDTH = 24, 3
SIZE = WIDTH * WIDTH


def net(p):
    """Its weights in p, five numbers of which nothing reads."""
    z = jnp.ones(WIDTH)
    for k in range(LAYERS):
        z = jnp.tanh(p[SIZE * k : SIZE * (k + 1)].reshape(WIDTH, WIDTH) @ z)
    return jnp.sum(z)


def windows(p):
    """Pieces that overlap."""
    return sum(jnp.sum(jnp.sin(p[k : k + 4])) * (k + 1) for k in range(0, 60, 3))


def decayed(p):
    """Pieces, and the whole."""
    return net(p) + jnp.sum(p**2)


P = normal(LAYERS * SIZE + 5)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("f", [net, windows, decayed], ids=lambda f: f.__name__)
def test_equal_to_jax(f, transform):
    assert_same(transform(bs.grad(f))(P), reference.grad(f)(P))
    assert_same(
        transform(jax.vmap(bs.grad(f)))(np.stack([P, -P])), reference.compiled(jax.vmap(jax.grad(f)))(np.stack([P, -P]))
    )
    assert_same(transform(lambda p: bs.hvp(f, (p,), (p,)))(P), reference.jvp(jax.grad(f), (P,), (P,))[1])
    assert_same(
        transform(jax.grad(lambda p: jnp.sum(bs.grad(f)(p) ** 2)))(P),
        reference.grad(lambda p: jnp.sum(jax.grad(f)(p) ** 2))(P),
    )


def test_one_concatenation_for_all_the_layers():
    text = str(jax.make_jaxpr(bs.grad(net))(P))
    assert text.count("= concatenate[") == 1
    assert "= pad[" not in text
    assert str(jax.make_jaxpr(jax.grad(net))(P)).count("= pad[") == LAYERS
