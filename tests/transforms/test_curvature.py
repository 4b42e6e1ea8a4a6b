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


ALL, SOME = np.ones(6, bool), np.array([True, False, True, True, False, True])
NO_BOUNDS = np.full(6, -np.inf), np.full(6, np.inf)


def descent(curvature, g, least, free):
    """The minimum of the model by the free unknowns, where the others stay."""
    model, damping = curvature.model(np.zeros(6), g, least, free)
    return model.face(free, np.zeros(6)), damping


@pytest.mark.parametrize("free", [ALL, SOME], ids=["all", "some"])
def test_without_damping_where_the_hessian_is_positive_definite(of, free):
    H, g = A + 12 * np.eye(6), RNG.standard_normal(6)
    d, damping = descent(of(H), g, 0.0, free)
    assert damping == 0
    np.testing.assert_allclose(d[free], np.linalg.solve(H[free][:, free], -g[free]), rtol=1e-8)
    np.testing.assert_array_equal(d[~free], 0)


@pytest.mark.parametrize("free", [ALL, SOME], ids=["all", "some"])
@pytest.mark.parametrize("shift", [-12.0, 0.0, 1.0])
def test_a_direction_of_descent_where_it_is_not(of, shift, free):
    H, g = A + shift * np.eye(6), RNG.standard_normal(6)
    low = np.linalg.eigvalsh(H[free][:, free])[0]
    assert low < 0
    d, damping = descent(of(H), g, 0.0, free)
    assert d @ g < 0
    assert damping > -low


def test_at_least_the_damping_asked_for(of):
    H, g = A + 12 * np.eye(6), RNG.standard_normal(6)
    d, damping = descent(of(H), g, 5.0, ALL)
    assert damping == 5
    np.testing.assert_allclose(d, np.linalg.solve(H + 5 * np.eye(6), -g), rtol=1e-8)


@pytest.mark.parametrize("free", [ALL, SOME], ids=["all", "some"])
def test_the_model_on_its_faces(of, free):
    """Its slope is that of a quadratic function whose minimum on a face it finds, for every face of the free unknowns."""
    H, g = A + 12 * np.eye(6), RNG.standard_normal(6)
    model, _ = of(H).model(np.zeros(6), g, 0.0, free)
    d = np.where(free, RNG.standard_normal(6), 0)
    np.testing.assert_allclose(model.slope(d)[free], (g + H @ d)[free], rtol=1e-10)
    face = free & np.array([True, True, False, True, True, False])
    there = model.face(face, d)
    np.testing.assert_array_equal(there[~face], d[~face])
    np.testing.assert_allclose((g + H @ there)[face], 0, atol=1e-9)


@pytest.mark.parametrize("free", [ALL, SOME], ids=["all", "some"])
def test_escape_along_the_lowest_curvature(of, free):
    values, vectors = np.linalg.eigh(A[free][:, free])
    d, low = of(A).escape(np.zeros(6), free, *NO_BOUNDS)
    np.testing.assert_allclose(low, values[0], rtol=0.05)
    np.testing.assert_array_equal(d[~free], 0)
    assert abs(d[free] @ vectors[:, 0]) > 0.9 * np.linalg.norm(d)
    assert d @ A @ d < 0


def test_no_escape_from_a_minimum(of):
    d, low = of(A + 12 * np.eye(6)).escape(np.zeros(6), ALL, *NO_BOUNDS)
    assert (d, low) == (None, 0.0)


def test_an_escape_leads_out_of_no_bound(of):
    d, _ = of(A).escape(np.zeros(6), ALL, np.zeros(6), np.full(6, np.inf))
    assert d is None or ((d >= 0).all() and d @ A @ d < 0)
    d, _ = of(-np.eye(6)).escape(np.zeros(6), ALL, np.zeros(6), np.full(6, np.inf))
    assert (d >= 0).all()
    assert d.any()
    d, _ = of(-np.eye(6)).escape(np.zeros(6), ALL, np.zeros(6), np.zeros(6))
    assert d is None
    d, _ = of(np.diag([-1.0, 1, 1, 1, 1, 1])).escape(np.zeros(6), ~ALL, np.zeros(6), np.zeros(6))
    assert d is None
