"""One of several processes, which says "ok" where all is right.

`python -m tests.devices.one_of_several NUMBER PROCESSES DEVICES PORT`
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import backsolve as bs

from ..quick import compilation

N = 64


def stencil(u):
    """Each number with its neighbours around a circle."""
    return jnp.roll(u, 1) * u + jnp.sin(jnp.roll(u, -1))


def equations(u):
    """Of a diffusion with a reaction: its derivative is symmetric and positive definite."""
    return 3 * u - jnp.roll(u, 1) - jnp.roll(u, -1) + u**3 - 1


def tilted(u):
    """The same with a drift: no longer symmetric."""
    return equations(u) + (jnp.roll(u, -1) - jnp.roll(u, 1)) / 2


def net(p, x):
    """Of one example."""
    return jnp.tanh(x @ p["W"] + p["b"])


def loss(p, x):
    """Of examples that are spread."""
    return jnp.mean(jnp.sum(jax.vmap(net, (None, 0))(p, x) ** 2, axis=1))


def check(got, want, tolerance=1e-5):
    """That the parts that this process has are those of an array that is known whole."""
    for shard in got.addressable_shards:
        np.testing.assert_allclose(shard.data, np.asarray(want)[shard.index], rtol=tolerance, atol=tolerance)


def newton_step(F, solver):
    """One step of Newton's method with a Krylov method on a sparse Jacobian's products."""

    def step(u):
        S = bs.jacobian(F, format="sparse")(u)
        return u - solver(lambda v: S @ v, F(u), tol=1e-7)[0]

    return step


def gmres(A, b, tol):
    return jax.scipy.sparse.linalg.gmres(A, b, tol=tol, restart=12, maxiter=2)


def main(number: int, processes: int, devices: int, port: int) -> None:
    """Everything, compiled quickly, once JAX knows of the other processes."""
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, number)
    with compilation(quick=True):
        check_all(number, processes)
    print("ok")


def check_all(number: int, processes: int) -> None:
    """Sparse Jacobian, its product, Newton steps, a gradient and Jacobians of examples, each against one device's."""
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("i",)), PartitionSpec("i"))

    def put(full):
        return jax.make_array_from_callback(full.shape, spread, lambda index: full[index])

    full = np.arange(N, dtype=np.float32) / N
    x = put(full)
    J, expected = bs.jacobian(stencil, format="sparse")(x), np.asarray(jax.jacobian(stencil)(jnp.asarray(full)))
    rows, own = J.addressable_rows, J.to_scipy().toarray()
    np.testing.assert_array_equal(rows, np.arange(N // processes) + number * N // processes)
    np.testing.assert_allclose(own[rows], expected[rows], atol=1e-6)
    assert not np.delete(own, rows, axis=0).any()
    check(jax.jit(lambda J, x: J @ x)(J, x), expected @ full)
    check(jax.jit(lambda J, x: J.T @ x)(J, x), expected.T @ full)

    for F, solver in ((equations, jax.scipy.sparse.linalg.cg), (tilted, gmres)):
        dense = jnp.linalg.solve(jax.jacobian(F)(full), F(jnp.asarray(full)))
        check(jax.jit(newton_step(F, solver))(x), full - dense, 1e-4)

    rng = np.random.default_rng(0)
    p = {"W": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32), "b": jnp.array([0.3, -0.2])}
    examples = rng.normal(size=(N, 3)).astype(np.float32)
    data = put(examples)
    gradient, want = jax.jit(bs.grad(loss))(p, data), jax.grad(loss)(p, jnp.asarray(examples))
    jax.tree.map(check, gradient, want)
    each = jax.jit(jax.vmap(bs.jacobian(net, argnums=1), (None, 0)))(p, data)
    check(each, jax.vmap(jax.jacobian(net, argnums=1), (None, 0))(p, jnp.asarray(examples)))
    assert each.sharding.is_equivalent_to(spread, 3)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
