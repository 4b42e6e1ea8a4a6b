"""Under vmap, products with what all points share as one product of matrices: right at every scale, and no array a point."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

POINTS, RECORDS, WEIGHTS = 12, 25, 5


def data(dtype, scale=1.0):
    rng = np.random.default_rng(0)
    return (scale * rng.normal(size=(RECORDS, WEIGHTS))).astype(dtype), (rng.uniform(size=RECORDS) > 0.5).astype(dtype)


def points(dtype, size=WEIGHTS):
    return jnp.asarray(np.random.default_rng(1).normal(size=(POINTS, size)), dtype)


def logistic(records, labels):
    def loss(w):
        margins = jnp.asarray(records) @ w
        return jnp.mean(jnp.logaddexp(0.0, margins) - labels * margins) + 0.1 * jnp.sum(w * w)

    return loss


def signed(records, labels):
    return lambda w: -2 * jnp.sum(jax.nn.log_sigmoid((2 * labels - 1) * (jnp.asarray(records) @ w)))


def hinged(records, labels):
    def loss(w):
        margins = jnp.asarray(records) @ w
        return jnp.sum(jnp.where(margins > 0, jnp.cosh(margins), labels))

    return loss


def elements(records, labels):
    """Strains of five elements, five each."""
    strains = jnp.asarray(records).reshape(5, 5, WEIGHTS)
    return lambda w: jnp.sum(jnp.exp(0.1 * strains @ w))


def turned(records, labels):
    return lambda w: jnp.sum(jnp.sin(w @ jnp.asarray(records).T) * labels)


LOSSES = [logistic, signed, hinged, elements, turned]


def agree(result, wanted, dtype):
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    assert result.dtype == dtype
    assert np.abs(np.asarray(result) - wanted).max() < tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_hessians_of_losses_on_fixed_data(loss, dtype):
    with jax.enable_x64(True):
        x, given = points(dtype), data(dtype)
        derivative = jax.vmap(bs.hessian(loss(*given)))
        wanted = np.asarray(jax.vmap(jax.hessian(loss(*(a.astype(np.float64) for a in given))))(x.astype(np.float64)))
        compiled = jax.jit(derivative).lower(x).compile()
        agree(compiled(x), wanted, dtype)
        agree(derivative(x), wanted, dtype)
        assert f"[{POINTS},{RECORDS},{WEIGHTS}]" not in compiled.as_text()


@pytest.mark.parametrize("order", ["forward", "reverse", "auto"])
@pytest.mark.parametrize("sizes", [(6, 32, 3), (5, 20, 20, 4)])
def test_jacobians_of_nets_with_fixed_weights(sizes, order):
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=(rows, columns)) for columns, rows in pairwise(sizes)]

    def net(x):
        for w in weights:
            x = jnp.tanh(jnp.asarray(w) @ x)
        return x

    with jax.enable_x64(True):
        x = points(np.float64, sizes[0])
        agree(jax.jit(jax.vmap(bs.jacobian(net, order=order)))(x), np.asarray(jax.vmap(jax.jacfwd(net))(x)), np.float64)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_products_out_of_range_are_left_as_they_are(scale):
    """The square of a record is too small or too large for single precision, times a number of the point it is not."""
    records, labels = data(np.float32, scale)
    loss = elements(records, labels)
    with jax.enable_x64(True):
        x = points(np.float32) / np.float32(scale)
        wanted = np.asarray(jax.vmap(jax.hessian(lambda w: loss(w) / np.float64(scale)))(x.astype(np.float64)))
        result = jax.jit(jax.vmap(bs.hessian(lambda w: loss(w) / np.float32(scale))))(x)
        agree(result, wanted, np.float32)


def test_records_that_are_not_finite():
    records, labels = data(np.float64)
    records[3, 2], records[7, 1] = np.inf, np.nan
    with jax.enable_x64(True):
        x = points(np.float64)
        for loss in LOSSES:
            found, wanted = (np.asarray(jax.jit(jax.vmap(t(loss(records, labels))))(x)) for t in (bs.hessian, jax.hessian))
            np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))


def test_data_as_arguments_and_gradients_of_hessians():
    with jax.enable_x64(True):
        x, given = points(np.float64), data(np.float64)

        def size(x, given, transform):
            return jnp.sum(jnp.sin(jax.vmap(transform(logistic(*given)))(x)))

        wanted = np.asarray(jax.grad(size)(x, given, jax.hessian))
        agree(jax.grad(jax.jit(lambda x: size(x, given, bs.hessian)))(x), wanted, np.float64)
        agree(jax.jit(jax.grad(lambda x, given: size(x, given, bs.hessian)))(x, given), wanted, np.float64)


def test_random_keys_beside_them():
    """Keys that are constants, repeated, and chosen between by numbers of each point."""
    records, _ = data(np.float64)
    keys = jax.random.split(jax.random.key(0), 6)

    def loss(w):
        rows = jnp.broadcast_to(jnp.where(w[0] > 0, keys[0], keys[1]), (3, 2))
        some = jnp.where((w[:3] > 0)[:, None], rows, keys.reshape(3, 2))
        drawn = jax.vmap(lambda key: jax.random.uniform(key, dtype=w.dtype))(some.ravel())
        return jnp.sum(jnp.cosh(jnp.asarray(records) @ w)) * jnp.sum(drawn) + drawn @ jnp.sin(jnp.resize(w, 6))

    with jax.enable_x64(True):
        x = points(np.float64)
        agree(jax.jit(jax.vmap(bs.hessian(loss)))(x), np.asarray(jax.vmap(jax.hessian(loss))(x)), np.float64)
