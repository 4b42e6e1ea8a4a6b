"""Operands that are literals or NumPy values, axes of size zero, several precisions, zeros, JAX's sparse matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.sparse import BCOO, BCSR

import backsolve as bs
from tests import reference

from .oracle import FORMATS, ORDERS, assert_close, assert_everywhere

X = np.array([0.3, 0.7, 1.2])
N = np.array([[1.0, 2.0, 0.5], [0.0, 1.0, 2.0]])

LITERALS = {
    "dot with a number": lambda x: jnp.dot(2.0, x) + jnp.dot(x, 3.0),
    "dot of numbers": lambda x: lax.dot_general(x, np.float64(2.0), (((), ()), ((), ()))) * x[0],
    "matrix of NumPy": lambda x: N @ x + np.float64(2.0),
    "arctan2": lambda x: jnp.arctan2(x, 2.0) + jnp.arctan2(0.5, x),
    "powers": lambda x: x**2.5 + 2.0**x + x ** np.float64(3.0) + lax.pow(x, 2.0),
    "maxima": lambda x: lax.max(x, 0.5) + jnp.minimum(0.9, x) + jnp.clip(x, 0.4, 1.0),
    "remainder": lambda x: jnp.fmod(x, 0.5) + jnp.remainder(2.5, x),
    "select": lambda x: (
        jnp.where(np.array([True, False, True]), x, 1.0) + jnp.where(True, x, 0.0) * lax.select_n(1, x, x * x)
    ),
    "quotients": lambda x: 1.0 / x + x / np.float64(3.0) + x / 2,
    "slices at literals": lambda x: lax.dynamic_slice(x, (1,), (2,)) * lax.dynamic_index_in_dim(x, 2, keepdims=False),
    "updates at literals": lambda x: x.at[1].set(2.0).at[0].add(x[2]) * lax.dynamic_update_slice(x, np.ones(1), (2,)),
    "pads": lambda x: lax.pad(x, 1.0, [(1, 1, 1)]) * jnp.pad(x, (2, 2), constant_values=2.0),
    "gathers": lambda x: jnp.take(x, 1) * x[np.array([0, 2])] + jnp.take(x, 7, mode="fill", fill_value=0.0),
    "complex literals": lambda x: jnp.real((2 + 1j) * x * np.complex128(1j)),
    "convolution with NumPy": lambda x: jnp.convolve(x, np.array([1.0, -2.0, 1.0])),
    "einsum with a number": lambda x: jnp.einsum("i,->i", x, 2.0) * jnp.einsum(",->", x[0], 3.0),
    "clamped literals": lambda x: lax.clamp(0.4, x, 1.0) + lax.clamp(np.float64(0.0), x[1], 2.0),
    "loops over literals": lambda x: (
        lax.scan(lambda c, a: (c * a, c), 1.0, x)[1] + lax.cond(True, lambda a: a * 2.0, jnp.sin, x)
    ),
}

EMPTY = {
    "edge padding on one side": lambda x: jnp.pad(x, (0, 1), mode="edge"),
    "no rows": lambda x: jnp.concatenate([x[:0], 2.0 * x]) + x[:0].sum() + jnp.prod(x[1:1]),
    "no columns": lambda x: x.reshape(3, 1)[:, :0].sum(1) + jnp.outer(x, x[:0]).sum() + x,
    "empty product": lambda x: jnp.zeros((2, 0)) @ x[:0].reshape(0, 1) + x[:1],
    "empty split": lambda x: jnp.concatenate(jnp.split(x, [0, 2])) * jnp.stack([x])[0],
    "empty output": lambda x: jnp.diff(x[:1]),
    "empty masks": lambda x: jnp.where(x[:0] > 0, x[:0], 0.0).sum() + x**2,
    "empty loop": lambda x: lax.scan(lambda c, a: (c * a, c), x, x[:0])[0],
    "empty gather": lambda x: x[np.zeros(0, int)].sum() * x,
    "empty scatter": lambda x: x.at[np.zeros(0, int)].set(1.0) * x,
}

PRECISIONS = {
    "single inside": lambda x: jnp.sum(jnp.convolve(x.astype(np.float32), x.astype(np.float32)).astype(np.float64) ** 2),
    "half inside": lambda x: jnp.sum((x.astype(jnp.bfloat16) * 2).astype(np.float64) * x),
    "single matrix": lambda x: (jnp.asarray(N, np.float32) @ x.astype(np.float32)).astype(np.float64).sum() * x[0] ** 2,
    "cumulated": lambda x: jnp.sum(jnp.cumsum(x.astype(np.float32)).astype(np.float64) ** 2 * x),
    "sorted": lambda x: jnp.sum(jnp.sort(x.astype(np.float32)).astype(np.float64) * x * np.arange(3.0)),
    "masked": lambda x: jnp.sum(jax.nn.relu(x.astype(np.float32) - 0.5).astype(np.float64) ** 2 + jax.nn.relu(x)),
    "accumulated in double": lambda x: (
        lax.dot_general(
            x.astype(np.float32), jnp.asarray(N[0], np.float32), (((0,), (0,)), ((), ())), preferred_element_type=np.float64
        )
        ** 2
    ),
    "both ways": lambda x: jnp.sum(jnp.sin(x.astype(np.float32)).astype(np.float64).astype(np.float32) * x) ** 2,
    "in a loop": lambda x: lax.fori_loop(0, 2, lambda i, v: jnp.sin(v), x.astype(np.float32)).astype(np.float64).sum() ** 2,
}


@pytest.mark.parametrize("name", LITERALS)
def test_literals_and_numpy(name):
    f, x = LITERALS[name], jnp.asarray(X)
    assert_everywhere(bs.jacobian, f, (x,), reference.jacobian(f)(x))
    g = jnp.ones_like(f(x))
    assert_close(bs.vjp(f, x)[1](g)[0], jax.vjp(f, x)[1](g)[0])


@pytest.mark.parametrize("name", EMPTY)
def test_empty_axes(name):
    f, x = EMPTY[name], jnp.asarray(X)
    assert_everywhere(bs.jacobian, f, (x,), reference.jacobian(f)(x))
    assert_everywhere(bs.jacobian, lambda x: (f(x), 2 * x), (x,), (reference.jacobian(f)(x), 2 * jnp.eye(3)))


@pytest.mark.parametrize("name", PRECISIONS)
def test_several_precisions(name):
    f, x = PRECISIONS[name], jnp.asarray(X)
    loose = 0.02 if name == "half inside" else 1e-5
    assert_everywhere(bs.hessian, f, (x,), reference.hessian(f)(x), loose)
    assert_everywhere(bs.jacobian, lambda x: jnp.stack([f(x), f(2 * x)]), (x,), reference.jacobian(
        lambda x: jnp.stack([f(x), f(2 * x)]))(x), loose)  # fmt: skip


def test_diff_of_one_row_beside_another_output():
    f = lambda a: (jnp.diff(a, axis=0), 2 * a)  # noqa: E731
    assert_close(bs.jacobian(f)(jnp.ones((1, 2)))[1], 2 * np.eye(2).reshape(1, 2, 1, 2))


# ---- double precision off --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_tangents_while_double_precision_is_off(dtype):
    with jax.enable_x64(False):
        x, t = np.ones(3, dtype), np.ones(3, dtype)
        assert_close(bs.jvp(jnp.sin, (x,), (t,))[1], np.cos(1.0) * np.ones(3), 1e-3)
        assert_close(bs.vjp(jnp.sin, x)[1](t)[0], np.cos(1.0) * np.ones(3), 1e-3)
        assert_close(bs.hvp(lambda x: jnp.sum(x**3), (x,), (t,)), 6 * np.ones(3), 1e-3)
        if dtype == np.float16:
            with pytest.raises(TypeError, match="dtype float32 does not match the leaf's dtype float16; convert it"):
                bs.jvp(jnp.sin, (x,), (np.ones(3),))
    with pytest.raises(TypeError, match="dtype float32 does not match the leaf's dtype float64; convert it"):
        bs.jvp(jnp.sin, (np.ones(3),), (np.ones(3, np.float32),))


@pytest.mark.parametrize("argnums", [(0, 0), (1, 0, 1), (0, -2)])
@pytest.mark.parametrize(
    "derivative", [bs.grad, bs.jacobian, bs.hessian, bs.value_and_grad, lambda f, a: bs.jacobian(f, a, format="sparse")]
)
def test_the_same_argument_twice(derivative, argnums):
    with pytest.raises(ValueError, match=r"names argument [01] of <lambda> twice; name each one once"):
        derivative(lambda x, y: x**2 * y, argnums)(3.0, 2.0)


# ---- zeros -----------------------------------------------------------------------------------------------------------
def test_zero_operators_know_their_spaces():
    H = bs.hessian(lambda x: jnp.sum(jax.nn.relu(x)), format="operator")(jnp.asarray(X))[0, 0]
    assert_close(H.todense(), np.zeros((3, 3)))
    assert_close(H.diagonal(), np.zeros(3))
    assert H.trace() == H.norm() == 0
    assert_close(H.row_norms(), np.zeros(3))
    assert_close(H @ jnp.ones(3), np.zeros(3))
    J = bs.jacobian(lambda x: (x[:2], jnp.ones((2, 2))), format="operator")(jnp.asarray(X))
    assert J[1, 0].todense().shape == (2, 2, 3)
    assert J.T[0, 1].todense().shape == (3, 2, 2)
    assert_close(J[1, 0].norm(), 0.0)


# ---- JAX's own sparse matrices ---------------------------------------------------------------------------------------
PLACES = np.array([[0, 1], [2, 2], [1, 0]])
SPARSE = {
    "product": lambda x: BCOO((x**2, jnp.asarray(PLACES)), shape=(3, 3)) @ jnp.arange(1.0, 4.0),
    "vector": lambda x: BCOO((jnp.arange(1.0, 4.0), jnp.asarray(PLACES)), shape=(3, 3)) @ jnp.sin(x),
    "both": lambda x: BCOO((x**2, jnp.asarray(PLACES)), shape=(3, 3)) @ jnp.sin(x),
    "dense": lambda x: BCOO((x, jnp.asarray(PLACES)), shape=(3, 3)).todense() @ x,
    "transposed": lambda x: BCOO((x, jnp.asarray(PLACES)), shape=(3, 3)).T @ jnp.outer(x, x),
    "rows": lambda x: BCSR((x, np.array([1, 0, 2]), np.array([0, 1, 2, 3])), shape=(3, 3)) @ jnp.arange(1.0, 4.0),
}


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("form", FORMATS)
def test_bcoo_inside(name, form):
    f, x = SPARSE[name], jnp.asarray(X)
    expected = reference.jacrev(f)(x)
    for order in ORDERS:
        found = bs.jacobian(f, order=order, format=form)(x)
        got = found[0, 0].todense() if form == "operator" else found.todense() if form == "sparse" else found
        assert_close(jnp.reshape(jnp.asarray(got), expected.shape), expected)
    assert_close(bs.grad(lambda x: f(x).sum())(x), reference.grad(lambda x: f(x).sum())(x))


def test_solving_beside_a_diagonal_that_is_not_one():
    A = np.array([[2, 0, 0], [1, 3, 0], [0, 1, 4.0]])
    assert_close(np.linalg.solve(bs.bidiagonal([2.0, 3.0, 4.0], [1.0, 1.0]), np.ones(3)), np.linalg.solve(A, np.ones(3)))


def test_explicit_shardings(tmp_path):
    """Contractions over a sharded axis: JAX asks how the result is to be sharded."""
    import os
    import subprocess
    import sys
    import textwrap

    script = """
    import jax, jax.numpy as jnp, numpy as np, backsolve as bs
    from jax.sharding import NamedSharding, PartitionSpec as P
    mesh = jax.make_mesh((8,), ("b",))
    X = jax.device_put(np.linspace(-1, 1, 1024, dtype=np.float32).reshape(64, 16), NamedSharding(mesh, P("b")))
    W = jax.device_put(np.ones((16, 4), np.float32) / 9, NamedSharding(mesh, P()))
    loss = lambda W: jnp.sum(jnp.tanh(X @ W) ** 2)
    rows = lambda W: jnp.tanh(X @ W).sum(0)
    with jax.set_mesh(mesh):
        for way in (lambda f: f, jax.jit):
            np.testing.assert_allclose(way(bs.grad(loss))(W), jax.grad(loss)(W), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(way(bs.jacobian(rows))(W), jax.jacobian(rows)(W), rtol=1e-4, atol=1e-4)
    print("sharded")
    """
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.stdout == "sharded\n", run.stderr
