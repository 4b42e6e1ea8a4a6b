"""Small solves under vmap as operations on rows: the same numbers, no call of LAPACK, also where a matrix is singular."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.tracing import jaxpr as jx

POINTS = 6


def split(z, n):
    return z[: n * n].reshape(n, n), z[n * n :]


def solve(z, n):
    matrix, right = split(z, n)
    return jnp.linalg.solve(jnp.sin(matrix), jnp.cos(right))


def solve_matrix(z, n):
    matrix, right = split(z, n)
    return jnp.linalg.solve(matrix, jnp.stack([right, right**2], 1)).ravel()


def solve_transposed(z, n):
    matrix, right = split(z, n)
    return jnp.linalg.solve(matrix.T, right) * jnp.linalg.solve(matrix, right)


def inverse(z, n):
    matrix, right = split(z, n)
    return jnp.linalg.inv(matrix) @ right


def fixed_matrix(z, n):
    matrix = np.random.default_rng(3).normal(size=(n, n))
    return jnp.linalg.solve(jnp.asarray(matrix, z.dtype), jnp.sin(z[:n]) * z[n])


def stopped(z, n):
    matrix, right = split(z, n)
    return jnp.linalg.solve(jax.lax.stop_gradient(matrix), right) * z[0]


def implicit_steps(z, n):
    def rates(y):
        return jnp.sin(jnp.roll(y, 1)) * y - y**2

    start = y = z[:n]
    for _ in range(2):
        y = y - jnp.linalg.solve(jnp.eye(n, dtype=z.dtype) - 0.1 * jax.jacfwd(rates)(y), y - start - 0.1 * rates(y))
    return y


PROGRAMS = [solve, solve_matrix, solve_transposed, inverse, fixed_matrix, stopped, implicit_steps]


def points(n, dtype):
    return jnp.asarray(np.random.default_rng(n).normal(size=(POINTS, n * n + n)), dtype)


def by_jax(program, n, x):
    return np.asarray(jax.jit(jax.vmap(jax.jacfwd(lambda z: program(z, n))))(x.astype(jnp.float64)))


def agree(result, wanted, tolerance):
    scale = np.abs(wanted).max(tuple(range(1, wanted.ndim)), keepdims=True) + 1
    assert (np.abs(np.asarray(result) - wanted) < tolerance * scale).all()


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_jacobians_are_those_of_jax(program, n):
    with jax.enable_x64(True):
        x = points(n, jnp.float64)
        derivative = jax.vmap(bs.jacobian(lambda z: program(z, n)))
        wanted = by_jax(program, n, x)
        agree(derivative(x), wanted, 1e-9)
        agree(jax.jit(derivative)(x), wanted, 1e-9)


@pytest.mark.parametrize("order", ["forward", "reverse", "auto"])
@pytest.mark.parametrize("n", [1, 3])
def test_single_precision_in_every_order(n, order):
    with jax.enable_x64(True):
        x = points(n, jnp.float32)
        result = jax.jit(jax.vmap(bs.jacobian(lambda z: solve_transposed(z, n), order=order)))(x)
        assert result.dtype == jnp.float32
        agree(result, by_jax(solve_transposed, n, x), 3e-3)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 1)])
def test_what_all_points_share(axes):
    matrices = np.random.default_rng(0).normal(size=(3, 3, 3))
    rights = np.random.default_rng(1).normal(size=(3, 3))
    with jax.enable_x64(True):
        given = matrices if axes[0] == 0 else matrices[0], rights if axes[1] is not None else rights[0]
        ours = jax.jit(jax.vmap(bs.jacobian(jnp.linalg.solve, argnums=(0, 1)), axes))(*given)
        wanted = jax.vmap(jax.jacfwd(jnp.linalg.solve, argnums=(0, 1)), axes)(*given)
        for a, b in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_hessians_and_gradients_of_jacobians():
    def weighed(z):
        return jnp.sum(solve(z, 2) ** 2)

    with jax.enable_x64(True):
        x = points(2, jnp.float64)
        agree(jax.jit(jax.vmap(bs.hessian(weighed)))(x), np.asarray(jax.vmap(jax.hessian(weighed))(x)), 1e-9)
        for program in (solve, stopped):

            def size(x, jacobian, program=program):
                return jnp.sum(jnp.sin(jax.vmap(jacobian(lambda z: program(z, 2)))(x)))

            wanted = np.asarray(jax.grad(size)(x, jax.jacfwd))
            agree(jax.jit(jax.grad(lambda x: size(x, bs.jacobian)))(x), wanted, 1e-9)
            agree(jax.grad(jax.jit(lambda x: size(x, bs.jacobian)))(x), wanted, 1e-9)


@pytest.mark.parametrize("program", [solve, solve_transposed, implicit_steps], ids=lambda f: f.__name__)
def test_no_routine_is_called_for_a_small_matrix(program):
    def names(n):
        derivative = jax.vmap(bs.jacobian(lambda z: program(z, n)))
        closed = jax.jit(derivative).trace(points(n, jnp.float32)).jaxpr
        return {eqn.primitive.name for eqn in jx.every_equation(closed.jaxpr)}

    solving = {"lu", "triangular_solve", "custom_linear_solve"}
    assert not names(2) & solving
    assert not names(3) & solving
    assert names(5) & solving


SINGULAR = {
    "zero": np.zeros((3, 3)),
    "ones": np.ones((3, 3)),
    "a zero on the diagonal": np.diag([1.0, 0.0, 2.0]),
    "two rows alike": [[1, 2, 3], [2, 4, 6], [1, 0, 1]],
    "NaN": np.diag([1.0, np.nan, 1.0]),
    "infinite": np.diag([np.inf, 1.0, 1.0]),
}
PIVOTS = {
    "a permutation": [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    "a small pivot": [[1e-30, 1, 0], [1, 1, 0], [0, 0, 1]],
    "another permutation": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    "large first": [[1, 2, 3], [2, 1e8, 1], [1e8, 1, 1e8]],
}


@pytest.mark.parametrize("matrix", [*SINGULAR.values(), *PIVOTS.values()], ids=[*SINGULAR, *PIVOTS])
def test_not_finite_where_jax_is_not_and_pivots(matrix):
    with jax.enable_x64(True):
        x = jnp.asarray(np.r_[np.ravel(matrix), 1.0, 2.0, 3.0])[None]

        def weighed(z):
            return jnp.linalg.solve(*split(z, 3))

        wanted = np.asarray(jax.vmap(jax.jacfwd(weighed))(x))
        result = np.asarray(jax.jit(jax.vmap(bs.jacobian(weighed)))(x))
        assert (np.isfinite(result) == np.isfinite(wanted)).all()
        np.testing.assert_allclose(result[np.isfinite(result)], wanted[np.isfinite(wanted)], rtol=1e-9, atol=1e-9)
