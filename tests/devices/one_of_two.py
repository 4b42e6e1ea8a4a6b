"""One of two processes with two virtual devices each: `python one_of_two.py NUMBER PORT` says "ok" where all is right."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import backsolve as bs

N = 64


def stencil(u):
    """Each number with its neighbours around a circle."""
    return jnp.roll(u, 1) * u + jnp.sin(jnp.roll(u, -1))


def loss(w, x):
    """Of examples that are spread."""
    return jnp.mean(jnp.tanh(x * w[0] + w[1]) ** 2)


def main(number: int, port: int) -> None:
    """Sparse Jacobian, its product and a gradient of spread data, each against the same on one device."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    full = np.arange(N, dtype=np.float32) / N
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("i",)), PartitionSpec("i"))
    x = jax.make_array_from_callback((N,), spread, lambda index: full[index])

    J, expected = bs.jacobian(stencil, format="sparse")(x), np.asarray(jax.jacobian(stencil)(jnp.asarray(full)))
    rows, own = J.addressable_rows, J.to_scipy().toarray()
    np.testing.assert_array_equal(rows, np.arange(N // 2) + number * N // 2)
    np.testing.assert_allclose(own[rows], expected[rows], atol=1e-6)
    assert not np.delete(own, rows, axis=0).any()

    y = jax.jit(lambda J, x: J @ x)(J, x)
    for shard in y.addressable_shards:
        np.testing.assert_allclose(shard.data, (expected @ full)[shard.index], atol=1e-5)

    w = jnp.array([0.3, -0.2])
    np.testing.assert_allclose(jax.jit(bs.grad(loss))(w, x), jax.grad(loss)(w, jnp.asarray(full)), rtol=1e-5)
    print("ok")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
