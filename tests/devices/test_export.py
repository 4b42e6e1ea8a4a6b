"""Exported programs: for accelerators that are not there, with nothing that only the CPU's compiler knows; of open sizes."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs


def vector(x):
    return jnp.sin(jnp.roll(x, 1) * x)


def looped(x):
    return jnp.sum(jax.lax.fori_loop(0, 4, lambda i, y: jnp.tanh(y) * x, x) ** 2)


PROGRAMS = {
    "gradient through a loop": bs.grad(looped),
    "Jacobian": bs.jacobian(vector),
    "sparse Jacobian": lambda x: bs.jacobian(vector, format="sparse")(x).data,
    "Hessian": bs.hessian(looped),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exported_to_accelerators(name):
    made = jax.export.export(jax.jit(PROGRAMS[name]), platforms=["cuda", "tpu"])(jax.ShapeDtypeStruct((64,), jnp.float32))
    assert made.platforms == ("cuda", "tpu")
    text = made.mlir_module()
    assert "custom_call" not in text
    assert "xla_cpu" not in text


W = jnp.linspace(-1.0, 1.0, 9, dtype=jnp.float32).reshape(3, 3)


def force(x):
    return jnp.stack([jnp.sin(x[0]) * x[1], x[2] ** 2, jnp.where(x[0] > 0, x[1], x[2]) * x.prod()])


def sparse(m):
    return (lambda x: bs.jacobian(force, format="sparse")(x).todense()) if m is bs else m.jacrev(force)


OF_OPEN_SIZE = {
    "Jacobians": lambda m: jax.vmap(m.jacobian(force)),
    "Hessians": lambda m: jax.vmap(m.hessian(looped)),
    "sparse Jacobians": lambda m: jax.vmap(sparse(m)),
    "gradients": lambda m: jax.vmap(m.grad(looped)),
    "a gradient of all": lambda m: m.grad(lambda x: jnp.sum(jnp.sin(x[1:] * x[:-1]) ** 2) / x.shape[0]),
    "a gradient of the weights": lambda m: lambda x: m.grad(lambda w: jnp.mean(jax.nn.relu(jnp.sin(x @ w)) ** 2))(W),
    "a gradient in many equations": lambda m: m.grad(lambda x: sum(jnp.sum(jnp.sin(k * x) * x[k % 3]) for k in range(70))),
}


@pytest.mark.parametrize("name", OF_OPEN_SIZE)
def test_exported_for_batches_of_any_size(name):
    made = jax.export.export(jax.jit(OF_OPEN_SIZE[name](bs)))(
        jax.ShapeDtypeStruct(jax.export.symbolic_shape("many, 3", constraints=["many >= 3"]), jnp.float32)
    )
    for many in (3, 40):
        x = jnp.asarray(np.random.default_rng(many).normal(size=(many, 3)), jnp.float32)
        np.testing.assert_allclose(made.call(x), OF_OPEN_SIZE[name](jax)(x), rtol=2e-4, atol=2e-4)
