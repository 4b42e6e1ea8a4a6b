"""The augmented matrix of least squares against numpy.linalg.lstsq."""

from dataclasses import replace

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.capture.solving import bordered_system
from backsolve.system.bordered import Inverse
from backsolve.system.least_squares import least_squares
from tests import reference

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)
A = RNG.standard_normal((9, 4))


def residual(p):
    return {"fit": jnp.sin(A @ p["a"]) * p["b"][0], "prior": p["a"] * p["b"][1]}


POINT = {"a": RNG.standard_normal(4), "b": RNG.standard_normal(2)}
WIDE = (lambda x: jnp.array([x[0] * x[1], x[2] ** 2]), np.array([1.0, 2.0, 3.0, 4.0]))
MASKED = (lambda x: [jnp.where(x > 0, x, 0.0), x * x[::-1]], POINT["a"])  # under jit the first numbers are a mask
PROBLEMS = {
    "tall": (residual, POINT),
    "square": (lambda x: x**2 + x[::-1], POINT["a"]),
    "wide": WIDE,
    "masked": MASKED,
    "masks alone": (lambda x: jnp.where(x > 0, x, 0.0), np.ones(3)),
}


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("damping", [None, 0.3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_least_solution(name, damping, way):
    f, point = PROBLEMS[name]
    if name == "wide" and damping is None:
        pytest.skip("many solutions")
    x = jax.tree.map(jnp.asarray, point)
    flat, unflat = jax.flatten_util.ravel_pytree(x)
    J = np.asarray(reference.jacobian(lambda v: jax.flatten_util.ravel_pytree(f(unflat(v)))[0])(flat))
    made = []

    def numbers(x):
        made.append(least_squares(bordered_system(bs.linearize(f, x), square=False), damping))
        return made[0].data

    data = tuple(map(np.asarray, way(numbers)(x)))
    matrix = replace(made[0], data=data)
    b = RNG.standard_normal(J.shape[0])
    got = Inverse(matrix, "superlu").solve(b)
    n = J.shape[1]
    stacked = np.vstack([J, np.sqrt(damping or 0) * np.eye(n)])
    want = np.linalg.lstsq(stacked, np.concatenate([b, np.zeros(n)]), rcond=None)[0]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def test_the_matrix_is_symmetric():
    matrix = least_squares(bordered_system(bs.linearize(residual, jax.tree.map(jnp.asarray, POINT)), square=False), 0.5)
    K = np.zeros((matrix.layout.size,) * 2)
    layout = matrix.layout
    K[layout.columns.indices, np.repeat(np.arange(layout.size), np.diff(layout.columns.indptr))] = layout.numbers(
        matrix.data
    )
    np.testing.assert_array_equal(K, K.T)


def test_without_full_rank_it_is_singular():
    matrix = least_squares(bordered_system(bs.linearize(lambda x: jnp.ones((5, 3)) @ x, jnp.ones(3)), square=False))
    with pytest.raises(bs.SingularError, match="singular"):
        Inverse(matrix, "superlu").solve(np.arange(5.0))
