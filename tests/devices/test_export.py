"""Programs for accelerators that are not there: exported, with nothing that only the CPU's compiler knows."""

import jax
import jax.export
import jax.numpy as jnp
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
