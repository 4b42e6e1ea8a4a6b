"""ADBench's published objectives and derivatives (tests/data/adbench/README.md names their source)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp, multigammaln

import backsolve as bs

from .oracle import compiled

DATA = Path(__file__).parents[1] / "data" / "adbench"


def assert_published(got, expected):
    """ADBench's own tolerance: |x − y| / max(1, |x| + |y|) < 1e-8."""
    x, y = np.ravel(got), np.ravel(expected)
    assert x.shape == y.shape
    assert np.all(np.abs(x - y) / np.maximum(1, np.abs(x) + np.abs(y)) < 1e-8)


def published(name):
    return json.loads((DATA / f"{name}.reference.json").read_text())


def numbers(name):
    return np.array((DATA / f"{name}.txt").read_text().split(), dtype=float)


# ---- Gaussian mixture with a Wishart prior -------------------------------------------------------------------------------
def read_gmm():
    values = numbers("gmm_test")
    d, K, n = values[:3].astype(int)
    sizes = [(K,), (K, d), (K, d + d * (d - 1) // 2), (n, d), (2,)]
    ends = np.cumsum([3, *(int(np.prod(s)) for s in sizes)])
    assert ends[-1] == len(values)
    return [values[a:b].reshape(s) for a, b, s in zip(ends[:-1], ends[1:], sizes, strict=True)]


def gmm(alphas, means, icf, x, wishart):
    n, d = x.shape
    K = len(alphas)
    gamma, m = wishart
    log_diagonal, lower = icf[:, :d], icf[:, d:]
    columns, rows = np.triu_indices(d, 1)  # the strict lower triangle, column by column
    Q = jnp.zeros((K, d, d)).at[:, rows, columns].set(lower)
    Q = Q + jnp.exp(log_diagonal)[:, :, None] * jnp.eye(d)
    z = jnp.einsum("kij,nkj->nki", Q, x[:, None, :] - means)
    q_sum = jnp.sum(log_diagonal, axis=1)
    likelihood = jnp.sum(logsumexp(alphas + q_sum - 0.5 * jnp.sum(z**2, axis=-1), axis=1)) - n * logsumexp(alphas)
    freedom = d + m + 1
    penalty = 0.5 * gamma**2 * (jnp.sum(jnp.exp(log_diagonal) ** 2) + jnp.sum(lower**2)) - m * jnp.sum(q_sum)
    constant = freedom * d * jnp.log(gamma / jnp.sqrt(2)) - multigammaln(0.5 * freedom, d)
    return likelihood - n * d * 0.5 * np.log(2 * np.pi) + penalty - K * constant


def test_gmm_objective_and_gradient():
    value, gradient = compiled(bs.value_and_grad(gmm, argnums=(0, 1, 2)))(*read_gmm())
    expected = published("gmm_test")
    assert_published(value, expected["objective"])
    assert_published(np.concatenate([np.ravel(g) for g in gradient]), expected["jacobian"])


# ---- Bundle adjustment ---------------------------------------------------------------------------------------------------
def read_ba():
    values = numbers("ba_test")
    cameras, points, observations = values[:3].astype(int)
    camera, point, weight, feature = np.split(values[3:], [11, 14, 15])
    seen = np.arange(observations)
    return (
        np.tile(camera, (cameras, 1))[seen % cameras],
        np.tile(point, (points, 1))[seen % points],
        np.tile(weight, observations),
        feature,
    )


def rotated(rotation, v):
    """Rodrigues' formula."""
    angle = jnp.sqrt(jnp.sum(rotation**2))
    axis = rotation / angle
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return v * cos + jnp.cross(axis, v) * sin + axis * (jnp.dot(axis, v) * (1 - cos))


def projected(camera, point):
    rotation, centre, focal, principal, (k1, k2) = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9:11]
    seen = rotated(rotation, point - centre)
    flat = seen[:2] / seen[2]
    r2 = jnp.sum(flat**2)
    return flat * (1 + k1 * r2 + k2 * r2**2) * focal + principal


def reprojection(camera, point, weight, feature):
    return weight * (projected(camera, point) - feature)


def weight_residual(weight):
    return 1 - weight**2


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_ba_residuals_and_jacobian(order):
    cameras, points, weights, feature = read_ba()
    expected = published("ba_test")
    camera, point, weight = cameras[0], points[0], weights[0]
    assert_published(compiled(reprojection)(camera, point, weight, feature), expected["reproj_err"])
    assert_published(weight_residual(weight), expected["w_err"])
    by_camera, by_point, by_weight = bs.jacobian(reprojection, argnums=(0, 1, 2), order=order)(
        camera, point, weight, feature
    )
    rows = np.concatenate([by_camera, by_point, by_weight[:, None]], axis=1)
    n = len(weights)
    by_residual = bs.grad(weight_residual)(weight)
    assert_published(np.concatenate([np.tile(np.ravel(rows), n), np.tile(by_residual, n)]), expected["jacobian"])


def test_ba_by_vmap():
    cameras, points, weights, feature = read_ba()
    jacobian = compiled(jax.vmap(bs.jacobian(reprojection, argnums=(0, 1, 2)), in_axes=(0, 0, 0, None)))
    by_camera, by_point, by_weight = jacobian(cameras, points, weights, feature)
    rows = np.concatenate([by_camera, by_point, by_weight[..., None]], axis=2)
    by_residual = jax.vmap(bs.grad(weight_residual))(jnp.asarray(weights))
    assert_published(np.concatenate([np.ravel(rows), by_residual]), published("ba_test")["jacobian"])
