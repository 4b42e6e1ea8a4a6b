"""Newton's method for equations, minima and least squares: known roots, SciPy's results, and what is told when it fails."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import backsolve as bs
from backsolve import ConvergenceError, gauss_newton, minimize_newton, newton, optimize

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


# ---- equations -----------------------------------------------------------------------------------------------------------
def test_newton_stops_where_a_step_changes_no_digit():
    """Large terms that cancel: max |F| stays far above the tolerance."""
    found = newton(lambda x: 1e12 * (x**3 - 2.0), jnp.array([1.5, 1.2]), tol=1e-30)
    assert found.steps < 12
    np.testing.assert_allclose(found.x, 2 ** (1 / 3), rtol=1e-15)


def test_known_roots():
    np.testing.assert_allclose(newton(lambda x: x**2 - 2, 1.0).x, np.sqrt(2), rtol=1e-10)
    found = newton(
        lambda p: [p["a"] * p["b"] - 2, p["a"] - 2 * p["b"]], {"a": jnp.array([1.0, 2]), "b": jnp.array([1.0, 3])}
    )
    np.testing.assert_allclose(found.x["a"], 2, rtol=1e-12)
    np.testing.assert_allclose(found.x["b"], 1, rtol=1e-12)
    assert max(float(jnp.abs(leaf).max()) for leaf in found.value) < 1e-10


def test_a_boundary_value_problem_against_scipy():
    def F(u):
        padded = jnp.pad(u, 1)
        return padded[2:] - 2 * u + padded[:-2] + 0.005 * jnp.exp(u)

    found = newton(F, jnp.zeros(20))
    np.testing.assert_allclose(found.x, scipy.optimize.root(F, np.zeros(20), tol=1e-13).x, rtol=1e-7)


def test_convergence_is_quadratic():
    errors = newton(lambda x: jnp.exp(x) - 2, jnp.array([1.5]), tol=1e-14).history["max |F|"]
    tail = [e for e in errors if 1e-12 < e < 0.5]
    assert len(tail) >= 3
    assert all(after < 2 * before**2 for before, after in itertools.pairwise(tail))


def test_steps_are_shortened_where_the_whole_one_diverges():
    found = newton(jnp.arctan, jnp.array([3.0]))
    assert min(found.history["step length"][1:]) < 1
    assert found.history["step length"][-1] == 1
    np.testing.assert_allclose(found.x, 0, atol=1e-10)


def test_no_step_is_taken_at_a_root():
    assert newton(lambda x: x - 1, jnp.ones(3)).steps == 0


def test_single_precision_stops_at_what_it_can_reach():
    found = newton(lambda x: jnp.cos(x) - x, jnp.ones(1, jnp.float32))
    assert found.x.dtype == jnp.float32
    np.testing.assert_allclose(found.x, 0.73908513, rtol=1e-6)


def test_newton_that_fails_tells_how():
    with pytest.raises(ConvergenceError, match="newton is stuck: no step") as caught:
        newton(lambda x: x**2 + 1, jnp.array([0.5]))
    assert len(caught.value.history) > 1
    with pytest.raises(ConvergenceError, match=r"not converged in 3 steps to max \|F\| ≤ 1\.0e-01") as caught:
        newton(lambda x: x**3 - 2, jnp.array([1000.0]), max_steps=3)
    assert len(caught.value.history) == 4
    assert "9" in str(caught.value)
    with pytest.raises(ConvergenceError, match="stuck"):
        newton(jnp.log, jnp.array([-1.0]))
    with pytest.raises(bs.SingularError, match="source 0"):
        newton(lambda x: x**2 + 1, jnp.array([0.0]))


REFUSED = [(1, "leaf 0 of x0 has dtype int"), (1 + 1j, "leaf 0 of x0 has dtype complex128; .* real and imaginary parts")]


@pytest.mark.parametrize("solver", [newton, minimize_newton, gauss_newton])
@pytest.mark.parametrize(("x0", "message"), REFUSED)
def test_unknowns_that_are_not_real(solver, x0, message):
    with pytest.raises(TypeError, match=message):
        solver(lambda x: x**2, x0)


def test_functions_that_do_not_fit():
    with pytest.raises(ValueError, match=r"1 rows and 2 columns \(outputs \(1,\), unknowns \(2,\)\)"):
        newton(lambda x: x[:1] ** 2 - 1, jnp.array([2.0, 3.0]))
    with pytest.raises(TypeError, match=r"scalar output, but <lambda> returns shape \(2,\)"):
        minimize_newton(lambda x: x, jnp.ones(2))
    with pytest.raises(TypeError, match="complex values; return their real and imaginary parts"):
        gauss_newton(lambda p: p * (1 + 1j) - 1, jnp.ones(2))


# ---- minima --------------------------------------------------------------------------------------------------------------
def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def tanh_net(v):
    W, V = v[:6].reshape(3, 2), v[6:]
    return jnp.mean((jnp.tanh(INPUTS @ W.T) @ V - TARGETS) ** 2) + 1e-3 * jnp.sum(v**2)


INPUTS = RNG.standard_normal((15, 2))
TARGETS = np.sin(INPUTS[:, 0]) + INPUTS[:, 1] ** 2


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
@pytest.mark.parametrize(("f", "x0"), [(rosenbrock, -np.ones(8)), (tanh_net, RNG.standard_normal(9))], ids=["valley", "net"])
def test_minima_as_low_as_scipys(f, x0, formed, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", formed)
    found = minimize_newton(f, jnp.asarray(x0))
    theirs = scipy.optimize.minimize(
        f, x0, jac=jax.grad(f), hess=jax.hessian(f), method="trust-exact", options={"gtol": 1e-8}
    )
    assert float(found.value) <= float(theirs.fun) + 1e-3
    slope = jax.grad(f)
    assert float(jnp.abs(slope(found.x)).max()) <= 1e-8 * max(1, float(jnp.abs(slope(x0)).max()))
    assert np.linalg.eigvalsh(jax.hessian(f)(found.x))[0] > -1e-8


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
def test_saddle_points_repel(formed, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", formed)
    found = minimize_newton(lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 + jnp.sum(x[2:] ** 2), jnp.zeros(4))
    np.testing.assert_allclose(np.abs(found.x), [0, np.sqrt(0.5), 0, 0], atol=1e-7)
    np.testing.assert_allclose(minimize_newton(lambda x: jnp.sum(jnp.cos(x)), jnp.zeros(3)).value, -3)


def test_a_long_chain():
    found = minimize_newton(rosenbrock, jnp.full(300, 1.2), max_steps=300)
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_minimization_that_fails_tells_how():
    with pytest.raises(ConvergenceError, match="minimize_newton has not converged in 2 steps") as caught:
        minimize_newton(rosenbrock, -jnp.ones(10), max_steps=2)
    assert len(caught.value.history) == 3
    with pytest.raises(ConvergenceError, match="stuck"):
        minimize_newton(lambda x: jnp.sum(jnp.sqrt(x)), -jnp.ones(2))


def test_a_constant_is_its_own_minimum():
    assert minimize_newton(lambda x: 3.0 + 0 * jnp.sum(x), jnp.ones(2)).steps == 0


# ---- least squares -------------------------------------------------------------------------------------------------------
T = np.linspace(0, 1, 20)
Y = 2 * np.exp(-1.5 * T) + 0.1 * np.sin(20 * T)


@pytest.mark.parametrize(
    ("r", "x0"),
    [
        (lambda p: p[0] * jnp.exp(p[1] * T) - Y, [1.0, 0.0]),
        (lambda p: jnp.array([10 * (p[1] - p[0] ** 2), 1 - p[0]]), [-1.2, 1.0]),
        (lambda p: p[0] / (1 + jnp.exp(-p[1] * (T - p[2]))) - T**2, [1.0, 1.0, 0.0]),
        (lambda p: jnp.array([p[0] + 1, -2 * p[0] ** 2 + p[0] - 1]), [1.0]),
    ],
    ids=["exponential", "valley", "logistic", "large residual"],
)
def test_least_squares_as_scipy(r, x0):
    found = gauss_newton(r, jnp.array(x0))
    theirs = scipy.optimize.least_squares(r, x0, jac=jax.jacobian(r), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(0.5 * jnp.sum(found.value**2), theirs.cost, rtol=1e-6, atol=1e-12)


def test_a_jacobian_without_full_rank_is_damped():
    found = gauss_newton(lambda p: jnp.stack([p[0] + p[1] - 1] * 3), jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(found.x, [1.25, -0.25], atol=1e-6)  # the nearest of many
    np.testing.assert_allclose(gauss_newton(lambda p: p[:1] ** 2 - 1, jnp.array([2.0, 0.5])).x, [1, 0.5])


def test_trees_and_failures_of_least_squares():
    found = gauss_newton(lambda p: {"a": p["u"] - 1, "b": p["v"] * p["u"] - 2, "c": 0 * p["v"]}, {"u": 3.0, "v": 0.5})
    np.testing.assert_allclose([found.x["u"], found.x["v"]], [1, 2], atol=1e-8)
    with pytest.raises(ConvergenceError, match="not finite here"):
        gauss_newton(lambda p: jnp.sqrt(p - 1), jnp.array([0.0, 3.0]))
    with pytest.raises(ConvergenceError, match="has not converged in 2 steps"):
        gauss_newton(lambda p: jnp.array([10 * (p[1] - p[0] ** 2), 1 - p[0]]), jnp.array([-1.2, 1.0]), max_steps=2)
