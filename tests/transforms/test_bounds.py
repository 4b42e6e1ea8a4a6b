"""Bounds on the unknowns of Newton's methods, against SciPy, published optima, and dense projected steps."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import backsolve as bs
from backsolve import ConvergenceError, gauss_newton, minimize_newton, newton
from backsolve.transforms import newton as optimize
from backsolve.transforms.bounds import Box, least_in_box

from .. import reference
from ..engines.installed import GENERAL
from .test_newton import ROOTLESS, STEEP

pytestmark = pytest.mark.usefixtures("double_precision")

inf = np.inf
ENGINES = ["superlu", "blocks", *GENERAL]


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# ---- minima: Hock and Schittkowski, Test Examples for Nonlinear Programming Codes, 1981 --------------------------------
# Where the published start is outside of the bounds, another one; problem 2 has a second minimum at x₀ = −1.22.
A2 = np.sqrt(598 / 1200)
HS2 = 2 * A2 * np.cos(np.arccos(1 / (400 * A2**3)) / 3)
HOCK_SCHITTKOWSKI = {
    "1": (rosenbrock, [-2.0, 1.0], [-inf, -1.5], inf, [1, 1], 0.0),
    "2": (rosenbrock, [2.0, 1.5], [-inf, 1.5], inf, [HS2, 1.5], 0.0504261879),
    "3": (lambda x: x[1] + 1e-5 * (x[1] - x[0]) ** 2, [10.0, 1.0], [-inf, 0.0], inf, [0, 0], 0.0),
    "4": (lambda x: (x[0] + 1) ** 3 / 3 + x[1], [1.125, 0.125], [1.0, 0.0], inf, [1, 0], 8 / 3),
    "5": (
        lambda x: jnp.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1,
        [0.0, 0.0],
        [-1.5, -3.0],
        [4.0, 3.0],
        [0.5 - np.pi / 3, -0.5 - np.pi / 3],
        -np.sqrt(3) / 2 - np.pi / 3,
    ),
    "38": (
        lambda x: (
            100 * (x[1] - x[0] ** 2) ** 2
            + (1 - x[0]) ** 2
            + 90 * (x[3] - x[2] ** 2) ** 2
            + (1 - x[2]) ** 2
            + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2)
            + 19.8 * (x[1] - 1) * (x[3] - 1)
        ),
        [-3.0, -1.0, -3.0, -1.0],
        -10.0,
        10.0,
        [1, 1, 1, 1],
        0.0,
    ),
    "45": (lambda x: 2 - jnp.prod(x) / 120, [0.5, 1.0, 1.5, 2.0, 2.5], 0.0, [1.0, 2.0, 3.0, 4.0, 5.0], [1, 2, 3, 4, 5], 1.0),
    "110": (
        lambda x: jnp.sum(jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2) - jnp.prod(x) ** 0.2,
        [9.0] * 10,
        2.001,
        9.999,
        [9.350266] * 10,
        -45.77846971,
    ),
}


def bound(b):
    return jnp.array(b) if isinstance(b, list) else b


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
@pytest.mark.parametrize("name", HOCK_SCHITTKOWSKI)
def test_published_minima(name, formed, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", formed)
    f, x0, lower, upper, want, value = HOCK_SCHITTKOWSKI[name]
    found = minimize_newton(f, jnp.array(x0), lower=bound(lower), upper=bound(upper))
    assert found.converged
    np.testing.assert_allclose(found.value, value, atol=1e-8)
    np.testing.assert_allclose(found.x, want, atol=1e-5)
    assert (found.x >= jnp.array(lower)).all()
    assert (found.x <= jnp.array(upper)).all()


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
@pytest.mark.parametrize("upper", [0.5, 0.8, 1.0, 2.0])
def test_a_valley_that_a_bound_cuts(upper, formed, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", formed)
    x0 = np.full(6, -1.0)
    found = minimize_newton(rosenbrock, jnp.array(x0), lower=-1.5, upper=upper)
    theirs = scipy.optimize.minimize(
        rosenbrock,
        x0,
        jac=jax.grad(rosenbrock),
        bounds=[(-1.5, upper)] * 6,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    np.testing.assert_allclose(found.x, theirs.x, atol=1e-7)
    assert found.steps < 40


def grid(n):
    return np.add.outer(np.linspace(0, 1, n) ** 2, np.linspace(0, 1, n))


@pytest.mark.parametrize("n", [6, 20])
def test_an_obstacle_as_scipy(n):
    """The membrane above an obstacle: hundreds of unknowns come to their bounds at once (n = 20: not by eigenvalues)."""

    def energy(u):
        v = jnp.pad(u, 1)
        return jnp.sum((v[1:] - v[:-1]) ** 2) / 2 + jnp.sum((v[:, 1:] - v[:, :-1]) ** 2) / 2 + jnp.sum(u) * 8 / n**2

    obstacle = 0.3 - 2 * (grid(n) - 0.7) ** 2
    x0 = np.maximum(obstacle, 1.0)
    found = minimize_newton(energy, jnp.array(x0), lower=obstacle)
    theirs = scipy.optimize.minimize(
        lambda u: energy(u.reshape(n, n)),
        x0.ravel(),
        jac=lambda u: jax.grad(energy)(u.reshape(n, n)).ravel(),
        bounds=[(b, None) for b in obstacle.ravel()],
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 3000},
    )
    np.testing.assert_allclose(found.x.ravel(), theirs.x, atol=1e-6)
    assert 0 < (found.x == obstacle).sum() < n**2
    assert found.steps <= 6
    assert found.history["at bounds"][-1] == (found.x == obstacle).sum()


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
def test_minima_of_pytrees(formed, monkeypatch):
    """Leaves of several shapes: the Hessian of all of them, formed or by its products."""
    monkeypatch.setattr(optimize, "FORMED", formed)

    def f(p):
        return jnp.sum((p["W"] @ p["b"] - 1) ** 2) + 0.1 * jnp.sum(p["W"] ** 2) + jnp.sum(jnp.cosh(p["b"] - 2))

    p0 = {"W": jnp.ones((3, 2)), "b": jnp.ones(2)}
    for upper in (inf, 0.2, {"W": inf, "b": 1.5}):
        start = jax.tree_util.tree_map(lambda x: 0.1 * x, p0)
        found = minimize_newton(f, start, upper=upper).x
        flat, tree = jax.flatten_util.ravel_pytree(start)
        ends = np.full(8, upper) if not isinstance(upper, dict) else np.r_[np.full(6, inf), 1.5, 1.5]
        theirs = scipy.optimize.minimize(
            lambda x, tree=tree: f(tree(x)),
            flat,
            jac=lambda x, tree=tree: jax.flatten_util.ravel_pytree(jax.grad(f)(tree(x)))[0],
            bounds=[(None, end) for end in ends],
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(found)[0], theirs.x, atol=1e-6)


def test_saddle_points_repel_where_there_is_room():
    def f(x):
        return jnp.sum(x**4 / 4 - x**2 / 2)

    np.testing.assert_allclose(minimize_newton(f, jnp.zeros(2), lower=jnp.array([0.0, -3.0])).x[0], 1, rtol=1e-8)
    np.testing.assert_allclose(minimize_newton(f, jnp.zeros(1), lower=0.0, upper=0.5).x, 0.5)
    found = minimize_newton(lambda x: -jnp.sum(x**2), jnp.array([0.1, 0.0]), lower=-1.0, upper=jnp.array([2.0, 3.0]))
    assert found.converged  # at a corner
    assert abs(np.asarray(found.x)).min() >= 1


def test_a_bound_gives_a_minimum_to_what_has_none():
    for f, want in ((lambda x: x, -2.0), (lambda x: -(x**2) - 0.1 * x, 3.0), (lambda x: -jnp.exp(x), 3.0)):
        np.testing.assert_array_equal(minimize_newton(f, 1.0, lower=-2.0, upper=3.0).x, want)
    with pytest.raises(ConvergenceError, match=r"minimize_newton (has not converged in 100 steps|is stuck)"):
        minimize_newton(lambda x: x, 1.0, upper=2.0)


# ---- least squares -------------------------------------------------------------------------------------------------------
T = np.linspace(0, 1, 20)
Y = 2 * np.exp(-1.5 * T) + 0.1 * np.sin(20 * T)
BEALE = np.array([1.5, 2.25, 2.625])
KOWALIK = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
TIMES = 1 / np.array([0.25, 0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16])


def valley(p):
    return jnp.array([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def powell(x):
    return jnp.stack([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])


# Moré, Garbow and Hillstrom, Testing unconstrained optimization software, 1981, with bounds; and SciPy's own examples.
LEAST_SQUARES = {
    "valley, an upper bound": (valley, [-1.2, 1.0], -inf, [0.8, inf]),
    "valley, a lower bound": (valley, [2.0, 1.6], [-inf, 1.5], inf),
    "valley, far bounds": (valley, [-2.0, 1.0], [-50.0, 0.0], [0.5, 100.0]),
    "powell": (powell, [3.0, -1.0, 0.5, 1.0], [1.0, -inf, 0.1, -inf], inf),
    "beale": (lambda p: BEALE - p[0] * (1 - p[1] ** jnp.arange(1, 4)), [1.0, 0.2], 0.0, [2.5, 0.4]),
    "kowalik": (
        lambda p: KOWALIK - p[0] * (TIMES**2 + TIMES * p[1]) / (TIMES**2 + TIMES * p[2] + p[3]),
        [0.25, 0.39, 0.415, 0.39],
        [0.0, 0.2, 0.0, 0.15],
        0.42,
    ),
    "exponential": (lambda p: p[0] * jnp.exp(p[1] * T) - Y, [1.0, 0.0], [0.0, -1.2], [5.0, 1.0]),
    "inactive": (lambda p: p[0] * jnp.exp(p[1] * T) - Y, [1.0, 0.0], -100.0, 100.0),
}


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_least_squares_as_scipys_trf(name):
    r, x0, lower, upper = LEAST_SQUARES[name]
    found = gauss_newton(r, jnp.array(x0), lower=bound(lower), upper=bound(upper))
    ends = [np.broadcast_to(b, len(x0)).astype(float) for b in (lower, upper)]
    inside = np.clip(x0, ends[0] + 1e-9, ends[1] - 1e-9)
    jac = reference.jacobian(r)
    theirs = scipy.optimize.least_squares(r, inside, jac=jac, bounds=ends, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    np.testing.assert_allclose(0.5 * jnp.sum(found.value**2), theirs.cost, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-5, atol=1e-5)
    assert (found.x >= ends[0]).all()
    assert (found.x <= ends[1]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_nonnegative_least_squares(engine):
    """One step, however many unknowns come to zero: SciPy's nnls, lsq_linear."""
    rng = np.random.default_rng(1)
    A, b = rng.standard_normal((60, 40)), rng.standard_normal(60)
    found = gauss_newton(lambda x: A @ x - b, jnp.ones(40), lower=0.0, engine=engine)
    np.testing.assert_allclose(found.x, scipy.optimize.nnls(A, b)[0], atol=1e-8)
    assert found.steps <= 2
    found = gauss_newton(lambda x: A @ x - b, jnp.zeros(40), lower=-0.1, upper=0.05, engine=engine)
    np.testing.assert_allclose(found.x, scipy.optimize.lsq_linear(A, b, (-0.1, 0.05), tol=1e-14).x, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_minimize_between_bounds(engine, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", 0)
    found = minimize_newton(rosenbrock, jnp.zeros(6), upper=0.8, engine=engine)
    np.testing.assert_allclose(found.x[:2], minimize_newton(rosenbrock, jnp.zeros(6), upper=0.8).x[:2], atol=1e-8)


def test_a_deficient_rank_between_bounds():
    """diffrax#137, optimistix#204: a line of solutions of which a bound leaves a part."""
    found = gauss_newton(lambda p: jnp.stack([p[0] + p[1] - 1] * 3), jnp.array([0.5, 0.1]), lower=0.0, upper=0.6)
    np.testing.assert_allclose(found.x.sum(), 1, rtol=1e-8)
    found = gauss_newton(lambda p: jnp.stack([p[0] + p[1] - 3] * 3), jnp.array([0.5, 0.1]), lower=0.0, upper=1.0)
    np.testing.assert_array_equal(found.x, [1, 1])


# ---- roots ----------------------------------------------------------------------------------------------------------------
def circle(x):
    return jnp.array([x[0] ** 2 + x[1] ** 2 - 4, x[0] - x[1]])


@pytest.mark.parametrize("sign", [-1, 1])
def test_bounds_choose_the_root(sign):
    ends = {"lower": 0.0} if sign > 0 else {"upper": 0.0}
    for way in (newton, lambda F, x, **more: bs.root(F, x, **more)):
        found = way(circle, jnp.array([sign * 0.1, sign * 3.0]), **ends)
        np.testing.assert_allclose(getattr(found, "x", found), sign * np.sqrt(2), rtol=1e-9)
    theirs = scipy.optimize.least_squares(
        circle, [sign * 0.1, sign * 3.0], bounds=(0, inf) if sign > 0 else (-inf, 0), xtol=1e-15, gtol=1e-15, ftol=1e-15
    )
    np.testing.assert_allclose(theirs.x, sign * np.sqrt(2), rtol=1e-7)


def test_iterates_and_evaluations_stay_within():
    """What is not defined outside is never asked for (optimistix#205)."""
    seen = []

    def log(x):
        return jax.pure_callback(lambda x: seen.append(np.array(x)) or np.log(x), x, x, vmap_method="sequential")

    @jax.custom_jvp
    def logarithm(x):
        return log(x)

    logarithm.defjvp(lambda x, t: (logarithm(*x), t[0] / x[0]))
    for solve, r in (
        (newton, lambda x: jnp.array([logarithm(x[0]) + 1, x[1] - x[0]])),
        (gauss_newton, lambda x: jnp.array([logarithm(x[0]) + 1, x[1] - x[0], x[1] - 0.1])),
        (minimize_newton, lambda x: -logarithm(x[0]) + x[0] ** 2 + (x[1] + x[0]) ** 2),
    ):
        seen.clear()
        found = solve(r, jnp.array([3.0, 3.0]), lower=jnp.array([1e-3, 0.0]), upper=jnp.array([3.0, 3.0]))
        assert found.converged
        assert len(seen) > 5
        assert min(map(np.min, seen)) >= 1e-3
        assert max(map(np.max, seen)) <= 3


def test_a_root_at_a_bound():
    np.testing.assert_allclose(newton(lambda x: x**2 - 4, 1.0, upper=2.0).x, 2, rtol=1e-12)
    np.testing.assert_allclose(newton(lambda x: jnp.sqrt(x) - 1, 4.0, lower=1.0).x, 1, rtol=1e-12)
    np.testing.assert_array_equal(newton(lambda x: x, 1.0, lower=0.0).x, 0)
    assert newton(lambda x: x - 1, jnp.ones(2), upper=1.0).steps == 0


def test_a_minimum_of_the_residual_is_no_root():
    """As SciPy's least_squares it finds where the residual is least; what it says of it is that it is no root."""
    message = (
        r"newton has found no root: ½‖F‖² is .* max \|F\| is 1.000e\+00; 1 of 1 unknowns .* entry 0. .*wider bounds; gauss_n"
    )
    with pytest.raises(ConvergenceError, match=message) as caught:
        newton(lambda x: x - 2, 0.0, upper=1.0)
    assert caught.value.history["at bounds"][-1] == 1
    with pytest.raises(ConvergenceError, match=r"newton has found no root: .* Take another x0; gauss_newton"):
        newton(lambda x: x**2 + 1, 0.5, damping=1.0)
    np.testing.assert_array_equal(gauss_newton(lambda x: x - 2, 0.0, upper=1.0).x, 1)
    with pytest.raises(ConvergenceError, match="newton is stuck: F or its derivative is NaN or infinite here"):
        newton(jnp.log, -1.0, upper=1.0)
    with pytest.raises(ConvergenceError, match="newton has not converged in 2 steps"):
        newton(lambda x: jnp.exp(x) - 2, 9.0, lower=0.0, max_steps=2)
    with pytest.raises(ConvergenceError, match="newton has found no root"):
        newton(lambda x: x - 2, 1.0, upper=1.0)  # the start is where it is least


def test_multiple_roots_between_bounds():
    for F in (lambda x: (x - 1) ** 2, lambda x: x**2 - 2 * x + 1):
        np.testing.assert_allclose(newton(F, 3.0, lower=0.0).x, 1, atol=1e-7)
    np.testing.assert_allclose(newton(lambda x: x**2, 1.0, lower=0.0).x, 0, atol=1e-19)
    with pytest.raises(ConvergenceError, match="newton has found no root"):
        newton(lambda x: (x - 1) ** 2 + 1e-6, 3.0, lower=0.0)


def test_values_whose_squares_are_no_numbers():
    """Told, and not taken for a solution: r of 1e-200 has a gradient Jᵀr of 0, one of 1e200 is infinite."""
    for solve in (gauss_newton, lambda F, x: newton(F, x, damping=1.0)):
        with pytest.raises(ConvergenceError, match=r"cannot begin: the squares of its values are all 0. Multiply them"):
            solve(lambda x: 1e-200 * (x**2 - 2), 1.0)
        with pytest.raises(ConvergenceError, match="NaN or infinite"):
            solve(lambda x: 1e200 * (x**2 - 2), 1.0)


@pytest.mark.parametrize("more", [{"damping": 1e-2}, {"lower": -1e300, "upper": 1e300}], ids=["damped", "bounded"])
@pytest.mark.parametrize("name", [*ROOTLESS, *STEEP])
def test_what_has_no_root_gets_none(name, more):
    F, x0, *_ = (ROOTLESS | STEEP)[name]
    with pytest.raises((ConvergenceError, bs.SingularError)):
        newton(F, jnp.asarray(x0), **more)
    assert np.isnan(jax.jit(lambda z: bs.root(F, z, **more))(jnp.asarray(x0))).all()


def test_a_kink_is_told_from_a_minimum():
    message = r"newton (is stuck: no step makes ‖F‖ smaller, but F is not zero here|has found no root).*gauss_newton returns"
    with pytest.raises(ConvergenceError, match=message):
        newton(lambda x: abs(x - 1) + 1e-3, 3.0, lower=0.0)


@pytest.mark.parametrize("n", [5, 100])
def test_many_equations_between_bounds(n):
    """Broyden's tridiagonal function: Moré, Garbow and Hillstrom, problem 30."""

    def chain(x):
        v = jnp.pad(x, 1)
        return (3 - 2 * x) * x - v[:-2] - 2 * v[2:] + 1

    found = newton(chain, jnp.full(n, -0.9), lower=-1.0, upper=0.0)
    np.testing.assert_allclose(found.x, scipy.optimize.fsolve(chain, -np.ones(n), xtol=1e-12), rtol=1e-8)


# ---- damping --------------------------------------------------------------------------------------------------------------
def test_damping_is_that_of_the_first_step():
    x0 = jnp.array([0.3, -0.4, 0.2])
    A = np.random.default_rng(2).standard_normal((3, 3))

    def r(x):
        return jnp.tanh(A @ x) - 0.1

    def f(x):
        return jnp.sum(jnp.cosh(A @ x)) + jnp.sum(x)

    def first(solve, F):
        steps = []
        solve(F, x0, damping=0.7, callback=lambda x, _: steps.append(x) or len(steps) < 2)
        return steps[1] - x0

    J, value = reference.jacobian(r)(x0), r(x0)
    levenberg = -np.linalg.solve(J.T @ J + 0.7 * np.eye(3), J.T @ value)
    for solve in (newton, gauss_newton):
        np.testing.assert_allclose(first(solve, r), levenberg, rtol=1e-9)
    want = bs.inverse_hvp(f, (x0,), reference.grad(f)(x0), damping=0.7)
    np.testing.assert_allclose(first(minimize_newton, f), -want, rtol=1e-9)
    np.testing.assert_allclose(
        want, np.linalg.solve(reference.hessian(f)(x0) + 0.7 * np.eye(3), reference.grad(f)(x0)), rtol=1e-9
    )


@pytest.mark.parametrize("damping", [1e-6, 1.0, 1e4])
def test_damped_iterations_find_the_same(damping):
    np.testing.assert_allclose(newton(circle, jnp.array([0.1, 3.0]), damping=damping).x, np.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(gauss_newton(valley, jnp.array([-1.2, 1.0]), damping=damping).x, 1, rtol=1e-7)
    np.testing.assert_allclose(minimize_newton(rosenbrock, jnp.array([-1.2, 1.0]), damping=damping).x, 1, rtol=1e-6)


def test_damping_passes_where_the_derivative_is_singular():
    """scipy#14439 and the like: F' is singular at x0, and F has a root."""

    def F(x):
        return jnp.array([x[0] ** 2 - 1, x[0] + x[1] - 2])

    with pytest.raises(bs.SingularError, match=r"newton cannot go on after 0 steps: .* singular.* Take .*damping"):
        newton(F, jnp.zeros(2))
    np.testing.assert_allclose(newton(F, jnp.zeros(2), damping=0.1).x, 1, rtol=1e-9)
    np.testing.assert_allclose(bs.root(F, jnp.zeros(2), damping=0.1), 1, rtol=1e-9)


# ---- pytrees and precision ------------------------------------------------------------------------------------------------
def test_bounds_of_pytrees():
    def r(p):
        return {"a": p["u"] - jnp.array([3.0, -3.0]), "b": p["v"] + 2.0}

    x0 = {"u": jnp.zeros(2), "v": 0.0}
    for lower in (-1.0, {"u": -1.0, "v": -1}, {"u": np.array([-5.0, -1.0]), "v": -1.0}):
        found = gauss_newton(r, x0, lower=lower, upper={"u": jnp.array([2.0, inf]), "v": inf})
        np.testing.assert_allclose(found.x["u"], [2, -1])
        np.testing.assert_allclose(found.x["v"], -1)


@pytest.mark.parametrize("solve", [newton, gauss_newton, minimize_newton])
def test_an_unknown_is_fixed_by_equal_bounds(solve):
    ends = {"lower": jnp.array([0.5, -inf]), "upper": jnp.array([0.5, inf])}
    if solve is minimize_newton:
        found = solve(lambda x: (x[0] * x[1] - 1) ** 2 + x[0] ** 2, jnp.array([0.5, 0.0]), **ends)
    else:
        found = solve(lambda x: jnp.array([x[0] * x[1] - 1, 0 * x[1]]), jnp.array([0.5, 0.0]), **ends)
    np.testing.assert_allclose(found.x, [0.5, 2], rtol=1e-7)


@pytest.mark.parametrize("solve", [newton, gauss_newton, minimize_newton])
def test_bounds_that_no_one_meets_change_nothing(solve):
    F = rosenbrock if solve is minimize_newton else valley
    x0 = jnp.array([-1.2, 1.0])
    np.testing.assert_allclose(solve(F, x0, lower=-1e6, upper=1e6).x, solve(F, x0).x, rtol=1e-7)
    np.testing.assert_array_equal(solve(F, x0, lower=-inf, upper=jnp.full(2, inf)).x, solve(F, x0).x)


def test_a_list_bounds_one_array():
    for ends in ([0.8, 2.0], (0.8, 2.0), np.array([0.8, 2.0])):
        np.testing.assert_allclose(gauss_newton(valley, jnp.array([-1.2, 1.0]), upper=ends).x, [0.8, 0.64], rtol=1e-7)
    with pytest.raises(ValueError, match=r"upper, leaf 0: shape \(3,\) does not match \(2,\)"):
        newton(valley, jnp.ones(2), upper=[1.0, 2.0, 3.0])


def test_bounds_in_single_precision():
    """0.1 is not a number of single precision: the bound is the nearest one that is."""
    found = gauss_newton(lambda p: p - jnp.array([1.0, -1.0], jnp.float32), jnp.zeros(2, jnp.float32), upper=0.1, lower=-0.1)
    assert found.x.dtype == jnp.float32
    np.testing.assert_array_equal(found.x, np.array([0.1, -0.1], np.float32))
    found = minimize_newton(lambda x: jnp.sum(jnp.cosh(x - 2)), jnp.zeros(3, jnp.float32), upper=jnp.array([0.1, 1e300, 5]))
    np.testing.assert_allclose(found.x, [0.1, 2, 2], rtol=1e-5)


@pytest.mark.parametrize("solve", [newton, gauss_newton, minimize_newton])
def test_nothing_to_bound(solve):
    found = solve(lambda x: jnp.sum(x) if solve is minimize_newton else x, jnp.zeros(0), lower=0.0)
    assert found.steps == 0


# ---- what is refused ------------------------------------------------------------------------------------------------------
REFUSED = [
    ({"lower": 2.0, "upper": 1.0}, ValueError, r"at entry \[0\] of leaf 0 of x0, lower is 2.0, above upper, 1.0. Exchange"),
    (
        {"upper": jnp.array([3.0, 0.5])},
        ValueError,
        r"at entry \[1\] .* x0 is 1.0, outside its bounds -inf and 0.5. Take an x0",
    ),
    ({"lower": jnp.zeros(3)}, ValueError, r"lower, leaf 0: shape \(3,\) does not match \(2,\), that of x0's leaf"),
    ({"lower": {"a": 1.0}}, TypeError, r"lower must be a number or a pytree like x0, PyTreeDef\(\*\); got"),
    ({"upper": None}, TypeError, r"upper must be a number or a pytree like x0"),
    ({"upper": "1"}, TypeError, r"upper, leaf 0: expected real numbers, got '1'"),
    ({"upper": 1j}, TypeError, r"upper, leaf 0: expected real numbers, got 1j"),
    ({"upper": jnp.array([2.0, np.nan])}, ValueError, r"at entry \[1\] of leaf 0 of x0, upper is NaN; take infinity where"),
    ({"damping": -1.0}, ValueError, r"damping must be a number of at least 0, got -1.0"),
    ({"damping": np.nan}, ValueError, r"damping must be a number of at least 0, got nan"),
    ({"damping": jnp.ones(2)}, TypeError, r"damping must be a number of at least 0, got"),
    ({"damping": None}, TypeError, r"damping must be a number of at least 0, got None"),
]


@pytest.mark.parametrize("solve", [newton, gauss_newton, minimize_newton, bs.root])
@pytest.mark.parametrize(("more", "error", "message"), REFUSED)
def test_bounds_that_make_no_sense(solve, more, error, message):
    with pytest.raises(error, match=message):
        solve(rosenbrock if solve is minimize_newton else valley, jnp.ones(2), **more)


@pytest.mark.parametrize("solve", [newton, gauss_newton, minimize_newton])
def test_traced_bounds_are_for_root(solve):
    with pytest.raises(TypeError, match=r"lower and upper must be known numbers here, not traced ones; .* take root"):
        jax.jit(lambda u: solve(rosenbrock if solve is minimize_newton else valley, np.ones(2), upper=u).x)(2.0)


def test_a_scalar_outside_is_named_by_its_leaf():
    with pytest.raises(ValueError, match=r"at leaf 0 of x0, x0 is -3.0, outside its bounds 0.0 and inf"):
        newton(lambda p: p["a"] - 1, {"a": -3.0}, lower=0.0)


def test_equations_that_are_not_square():
    for more in ({"lower": 0.0}, {"damping": 1.0}):
        with pytest.raises(ValueError, match=r"the Jacobian has 1 rows and 2 columns.*gauss_newton"):
            newton(lambda x: x[:1] - 1, jnp.ones(2), **more)


# ---- steps and boxes ------------------------------------------------------------------------------------------------------
class Dense:
    def __init__(self, B, g):
        self.B, self.g, self.faces = B, g, 0

    def slope(self, d):
        return self.g + self.B @ d

    def face(self, free, d):
        self.faces += 1
        target = d.copy()
        if free.any():
            target[free] = np.linalg.solve(self.B[free][:, free], -(self.g + self.B @ np.where(free, 0, d))[free])
        return target


@pytest.mark.parametrize("seed", range(20))
def test_the_least_value_in_a_box(seed):
    """Complementarity of a random convex problem, badly conditioned; it tells the only solution."""
    rng = np.random.default_rng(seed)
    n = 12
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    q = Dense((Q * 10.0 ** rng.uniform(-3, 3, n)) @ Q.T, rng.standard_normal(n))
    low, high = -rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    low[rng.uniform(size=n) < 0.3] = 0
    high[rng.uniform(size=n) < 0.2] = inf
    d = least_in_box(q, q.g, low, high)
    slope = q.slope(d)
    assert (d >= low).all()
    assert (d <= high).all()
    between = (d > low) & (d < high)
    np.testing.assert_allclose(slope[between], 0, atol=1e-9)
    assert (slope[d == low] >= -1e-9).all()
    assert (slope[d == high] <= 1e-9).all()
    assert q.faces <= 20


def test_points_that_lead_out_are_turned_round():
    box = Box(np.array([0.0, -inf, 0.0, 1.0]), np.array([1.0, inf, 1e-3, 1.0]))
    x = np.array([0.9, 5.0, 0.4e-3, 1.0])
    steps = box.turned(x, np.array([[0.5, 9.0, 0.01, 0.1], [-0.5, -9.0, -0.01, -0.1], [0.05, 0.0, -0.3e-3, 0.0]]))
    np.testing.assert_allclose(steps, [[-0.5, 9, 0.6e-3, 0], [-0.5, -9, 0.6e-3, 0], [0.05, 0, -0.3e-3, 0]], atol=1e-15)
    there = box.moved(x, np.array([0.1, 1.0, -0.4e-3, 0.0]))
    np.testing.assert_array_equal(there, [1.0, 6.0, 0.0, 1.0])
