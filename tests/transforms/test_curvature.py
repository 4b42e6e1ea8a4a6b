"""Directions of descent and of escape, from formed and from unformed Hessians, against eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.transforms import curvature
from backsolve.transforms.curvature import Curvature
from backsolve.transforms.repeated import Repeated

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)
B = RNG.standard_normal((6, 6))
A = B + B.T


@pytest.fixture(params=["eigenvalues", "inertia", "Lanczos"])
def of(request, monkeypatch):
    """Curvature of ½ xᵀ H x, by each of its three ways."""
    if request.param == "inertia":
        monkeypatch.setattr(curvature, "DENSE", 0)

    def make(H):
        def f(x):
            return 0.5 * x @ jnp.asarray(H) @ x

        work = Repeated(bs.grad(f), jnp.zeros(len(H)), formed=0 if request.param == "Lanczos" else 1000)
        made = Curvature(work, jax.jit(lambda x, v: bs.hvp(f, (x,), (v,))))
        if request.param == "Lanczos":
            monkeypatch.setattr(work, "symmetric", lambda x: None)
        return made

    return make


def test_without_damping_where_the_hessian_is_positive_definite(of):
    H, g = A + 12 * np.eye(6), RNG.standard_normal(6)
    d, damping = of(H).descent(np.zeros(6), g, 0.0)
    assert damping == 0
    np.testing.assert_allclose(d, np.linalg.solve(H, -g), rtol=1e-8)


@pytest.mark.parametrize("shift", [-12.0, 0.0, 1.0])
def test_a_direction_of_descent_where_it_is_not(of, shift):
    H, g = A + shift * np.eye(6), RNG.standard_normal(6)
    low = np.linalg.eigvalsh(H)[0]
    assert low < 0
    d, damping = of(H).descent(np.zeros(6), g, 0.0)
    assert d @ g < 0
    assert damping > -low


def test_at_least_the_damping_asked_for(of):
    H, g = A + 12 * np.eye(6), RNG.standard_normal(6)
    d, damping = of(H).descent(np.zeros(6), g, 5.0)
    assert damping == 5
    np.testing.assert_allclose(d, np.linalg.solve(H + 5 * np.eye(6), -g), rtol=1e-8)


def test_escape_along_the_lowest_curvature(of):
    values, vectors = np.linalg.eigh(A)
    d, low = of(A).escape(np.zeros(6))
    np.testing.assert_allclose(low, values[0], rtol=0.05)
    assert abs(d @ vectors[:, 0]) > 0.9 * np.linalg.norm(d)
    assert d @ A @ d < 0


def test_no_escape_from_a_minimum(of):
    d, low = of(A + 12 * np.eye(6)).escape(np.zeros(6))
    assert (d, low) == (None, 0.0)
