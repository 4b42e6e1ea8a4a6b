"""The examples, small: SciPy's solvers end alike with a sparse Jacobian, a dense one and none, and a picture is drawn."""

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg

import backsolve as bs
from examples import brusselator, bundle_adjustment, cavity, collocation

pytestmark = pytest.mark.usefixtures("as_users_compile")


def assert_picture(path):
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_brusselator(tmp_path, capsys):
    found = brusselator.run(small=True, output=tmp_path / "b.png")
    sparse, dense, none = (found["small"][kind].y[:, -1] for kind in ("sparse", "dense", "none"))
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)
    np.testing.assert_allclose(sparse, none, rtol=1e-2)
    assert found["large"].success
    assert "× the sparse one" in capsys.readouterr().out
    assert_picture(tmp_path / "b.png")


def test_bundle_adjustment(tmp_path, capsys):
    found = bundle_adjustment.run(small=True, output=tmp_path / "a.png")
    sparse, dense, none = (found["small"][kind].cost for kind in ("sparse", "dense", "none"))
    assert sparse == pytest.approx(dense, rel=1e-2)  # stopped after a few steps of an inexact solver
    assert sparse == pytest.approx(none, rel=0.1)
    assert np.mean(found["large"].fun ** 2) < 0.1 * np.mean(found["before"] ** 2)
    assert "4 cameras, 30 points, 240 observations" in capsys.readouterr().out
    assert_picture(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0")  # SciPy's own, of its quasi-Newton updates
def test_collocation(tmp_path, capsys):
    found = collocation.run(small=True, output=tmp_path / "c.png")
    sparse, dense = (found["small"][kind] for kind in ("sparse", "dense"))
    assert sparse.fun == pytest.approx(dense.fun, rel=1e-3)
    assert sparse.constr_violation < 1e-6
    assert "12 knots, 60 unknowns" in capsys.readouterr().out
    assert_picture(tmp_path / "c.png")


def test_cavity(tmp_path, capsys):
    found = cavity.run(small=True, output=tmp_path / "d.png")
    for flows in (found["small"], found["middle"]):
        sparse, dense, none = (flows[kind].x for kind in ("sparse", "dense", "none"))
        np.testing.assert_allclose(sparse, dense, atol=1e-9)
        np.testing.assert_allclose(sparse, none, atol=1e-6)  # whose imbalance is not yet nothing
    sparse, none = (found["large"][kind] for kind in ("sparse", "none"))
    assert sparse.success
    assert 3 * sparse.nit < none.nit
    assert found["small"]["sparse"].nfev < found["small"]["none"].nfev
    assert "krylov, 20² = 400 unknowns, preconditioner" in capsys.readouterr().out
    assert_picture(tmp_path / "d.png")


def test_root_with_a_sparse_jacobian():
    """`scipy.optimize.root` takes dense Jacobians only; Newton's method with the sparse one is three lines."""

    def f(x):
        return x**3 + x - jax.numpy.roll(x, 1) - 1.0

    with jax.enable_x64(True):
        J = jax.jit(bs.jacobian(f, format="sparse"))
        x = np.ones(50)
        for _ in range(8):
            x = x - scipy.sparse.linalg.spsolve(J(x).to_scipy().tocsc(), np.asarray(f(x)))
        found = scipy.optimize.root(lambda x: np.asarray(f(x)), np.ones(50), jac=lambda x: np.asarray(J(x).todense()))
    np.testing.assert_allclose(x, found.x, rtol=1e-9)
