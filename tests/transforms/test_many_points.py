"""What is wrong at many points alone: loops in threads, 16-bit places, routines of the compiler's for large arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

pytestmark = pytest.mark.usefixtures("as_users_compile")
COUNT, AT_ONCE = 36_000, 1_000
W = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
FUNCTIONS = {
    "norm": lambda z: jnp.sin(jnp.sqrt(jnp.sum(z**2))) * z,
    "products": lambda z: jnp.tanh(W @ jnp.sin(z)) * jnp.sum((W @ z) ** 2),
    "softmax": lambda z: jax.nn.softmax(W @ z) * jnp.mean(z),
}


def in_double(derivative, X):
    """The same in float64, few points at a time."""
    with jax.enable_x64(True):
        of_some = jax.jit(jax.vmap(derivative))
        return np.concatenate([of_some(part) for part in np.split(X.astype(np.float64), COUNT // AT_ONCE)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_points_have_the_derivatives_of_few(name):
    function = FUNCTIONS[name]
    X = np.random.default_rng(0).uniform(0.2, 1.0, (COUNT, 3)).astype(np.float32)

    def total(z):
        return jnp.sum(function(z))

    J, H = in_double(jax.jacrev(function), X), in_double(jax.hessian(total), X)
    for order in ("auto", "forward", "reverse"):
        np.testing.assert_allclose(jax.jit(jax.vmap(bs.jacobian(function, order=order)))(X), J, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(bs.hessian(total)))(X), H, rtol=1e-3, atol=1e-3)
    sparse = jax.jit(bs.jacobian(jax.vmap(function), format="sparse"))(X)
    u = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
    np.testing.assert_allclose(sparse @ u.ravel(), np.einsum("nij,nj->ni", J, u).ravel(), rtol=1e-4, atol=2e-4)
