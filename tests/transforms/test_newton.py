"""Newton's method for equations, minima and least squares: known roots, SciPy's results, and what is told when it fails."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import backsolve as bs
from backsolve import ConvergenceError, gauss_newton, minimize_newton, newton
from backsolve.transforms import newton as optimize
from backsolve.transforms.stopping import Stopping
from tests import reference

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)


# ---- what is no root --------------------------------------------------------------------------------------------------
STEEP = {
    "step": (lambda x: jnp.tanh((x - 1) * 1e6) + 1.01, 1 + 1e-7),
    "kink": (lambda x: jnp.sqrt((x - 1) ** 2 + 1e-12), 3.0),
    "bump": (lambda x: 1.01 - jnp.exp(-(((x - 1) * 1e6) ** 2)), 1 + 1e-7),
    "turn": (lambda x: jnp.arctan((x - 1) * 1e6) + 1.58, 1 + 1e-7),
}


@pytest.mark.parametrize("name", STEEP)
def test_what_is_steep_is_no_rounding(name):
    """A cubic leaves much of a kink, which is no more rounding than of a root."""
    F, start = STEEP[name]
    with pytest.raises((ConvergenceError, bs.SingularError)):
        newton(F, jnp.array([start]))
    traced = jax.jit(lambda x: bs.root(F, x))(jnp.array([start]))
    assert np.isnan(traced).all()


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
    with pytest.raises(
        ConvergenceError, match=r"newton is stuck: no step .*another x0, or a larger tol .*gauss_newton"
    ) as caught:
        newton(lambda x: x**2 + 1, jnp.array([0.5]))
    assert len(caught.value.history) > 1
    with pytest.raises(
        ConvergenceError, match=r"newton has not converged in 3 steps. Take another x0, or allow more max"
    ) as caught:
        newton(lambda x: x**3 - 2, jnp.array([1000.0]), max_steps=3)
    assert len(caught.value.history) == 4
    assert "9" in str(caught.value)
    with pytest.raises(ConvergenceError, match="newton is stuck: F is NaN or infinite here"):
        newton(jnp.log, jnp.array([-1.0]))


SINGULAR = [
    (lambda x: x**2 + 1, 0.0, "singular here, where entries are 0: 1 of 1 .* the first is source 0. .*another point"),
    (jnp.tanh, 20.0, "singular here, where entries are 0"),
    (
        lambda x: [x[0] - 1, x[0] ** 2],
        [1.0, 1.0],
        "for its pattern alone: 1 of .* source 1. .*leave out what changes nothing",
    ),
    (lambda x: jnp.stack([jnp.sum(x), 2 * jnp.sum(x) - 3]), np.ones(2), "to working precision: .* remove the equation"),
    (lambda x: jnp.ones(2), np.ones(2), "for its pattern alone: 2 of 2 .* source 0, entry 0"),
    (lambda x: jnp.floor(x) + 0.5, np.ones(2), "for its pattern alone: 2 of 2 .* source 0, entry 0"),
]


@pytest.mark.parametrize(("F", "x0", "message"), SINGULAR, ids=["zero", "flat", "unused", "dependent", "constant", "steps"])
def test_a_singular_derivative_is_told_by_what_makes_it_so(F, x0, message):
    with pytest.raises(bs.SingularError, match=f"^newton cannot go on after 0 steps: .*{message}") as caught:
        newton(F, x0)
    assert ("pattern alone" in str(caught.value)) == ("pattern alone" in message)
    assert "Take gauss_newton, which damps its steps, or damping > 0, or " in str(caught.value)


def test_a_derivative_that_is_not_finite():
    with pytest.raises(
        bs.SingularError, match=r"newton cannot go on after 0 steps: .* NaN or infinite.*source 0. Take another x0"
    ):
        newton(lambda x: jnp.sqrt(x) - 1, 0.0)


# ---- when to stop --------------------------------------------------------------------------------------------------------
# Each far from its root, or with entries or unknowns of very different size; the roots are known, or SciPy's.
POWELL = scipy.optimize.root(
    lambda x: [1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001], [1e-5, 9.0], tol=1e-14
).x
COSINE = scipy.optimize.brentq(lambda x: x - np.cos(x), 0, 1, xtol=1e-15)
MIXED = scipy.optimize.root(lambda x: [x[0] ** 2 - 2 + 0.1 * x[1], x[1] ** 2 * x[0] - 3], [1.0, 1.0], tol=1e-14).x
ROOTS = {
    "exponential, from far": (lambda x: jnp.exp(x) - 2, 30.0, np.log(2)),
    "logarithm, from far": (jnp.log, 1e6, 1.0),
    "logarithm, beyond whose domain a step leads": (jnp.log, 3.0, 1.0),
    "tangent": (lambda x: jnp.tan(x) - 5, 0.1, np.arctan(5)),
    "a power that levels off": (lambda x: x**-0.5 - 0.01, 1.0, 1e4),
    "a large F at a large start": (lambda x: x - jnp.cos(x), 1e12, COSINE),
    "a small root of a large start": (lambda x: x**2 - 1e-20, 1.0, 1e-10),
    "small units": (lambda x: (x / 1e-12) ** 2 - 2, 1.0, np.sqrt(2) * 1e-12),
    "a huge F": (lambda x: 1e300 * (x**2 - 2), 1.0, np.sqrt(2)),
    "a tiny F": (lambda x: 1e-300 * (x**2 - 2), 1.0, np.sqrt(2)),
    "badly scaled": (lambda x: jnp.array([1e4 * x[0] * x[1] - 1, jnp.sum(jnp.exp(-x)) - 1.0001]), [0.0, 1.0], POWELL),
    "rows of 1e12 and 1e-8": (
        lambda x: jnp.array([1e12 * (x[0] / 3 - 1 / 9), 1e-8 * jnp.arctan(x[1] - 2)]),
        [1.0, 5.0],
        [1 / 3, 2],
    ),
    "unknowns of 1e12 and 1e-8": (
        lambda x: jnp.array([(x[0] / 1e12) ** 2 - 2 + 1e7 * x[1], 1e4 * x[1] ** 2 * x[0] - 3]),
        [1e12, 1e-8],
        MIXED * [1e12, 1e-8],
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_roots_from_far_and_of_any_scale(name):
    F, x0, want = ROOTS[name]
    found = newton(F, jnp.asarray(x0))
    assert found.converged
    np.testing.assert_allclose(found.x, want, rtol=1e-9)


@pytest.mark.parametrize(
    ("F", "x0", "want"),
    [
        (jnp.sin, 0.5, 0.0),
        (lambda x: x + x**2, 0.5, 0.0),
        (lambda x: jnp.exp(x) - 1, 5.0, 0.0),
        (lambda x: jnp.sin(x + jnp.pi), 0.5, 0.0),  # whose rounding is larger than any root can be
        (lambda x: jnp.array([[2.0, 1], [1, 3]]) @ x, [1.0, 1.0], [0, 0]),
        (lambda x: jnp.array([jnp.sin(x[0]), x[1] ** 2 - 2]), [1.0, 1.0], [0, np.sqrt(2)]),
        (lambda x: jnp.array([jnp.exp(x[0]) - 2 + x[1], jnp.sin(x[1]) * jnp.cosh(x[0])]), [0.0, 1.0], [np.log(2), 0]),
        (lambda x: jnp.array([x[0], x[1] - jnp.cos(x[0]), x[2] - x[0] * x[1]]), [0.0, 0.0, 0.0], [0, 1, 0]),
    ],
)
def test_roots_at_zero(F, x0, want):
    found = newton(F, jnp.array(x0))
    np.testing.assert_allclose(found.x, want, rtol=1e-10, atol=1e-15)
    assert found.steps <= 12


def test_an_unknown_that_is_zero_up_to_the_rounding_of_the_others():
    """As in a chain whose first link is fixed at 0: its equation has no other scale than itself."""
    n = 30

    def F(x):
        return jnp.append(jnp.diff(x) - jnp.cos(x[1:]) / n, x[0])

    first = newton(F, jnp.ones(n + 1))
    again = newton(lambda x: F(x) - jnp.append(jnp.full(n, 1e-3), 0.0), first.x)  # from a 0 that is only rounding
    assert first.steps <= 6
    assert again.steps <= 6
    np.testing.assert_allclose([first.x[0], again.x[0]], 0, atol=1e-20)


@pytest.mark.parametrize(
    ("F", "x0", "close"),
    [
        (lambda x: (x - 1) ** 2, 2.0, 1e-7),
        (lambda x: x**2 - 2 * x + 1, 2.0, 1e-7),
        (lambda x: (x - 1) ** 3, 2.0, 1e-6),
        (lambda x: jnp.array([(x[0] - 1) ** 2 + x[1] - 1, (x[1] - 1) * (1 + x[0])]), [3.0, 4.0], 1e-4),
    ],
    ids=["square", "square with rounding", "cube", "system"],
)
def test_multiple_roots(F, x0, close):
    np.testing.assert_allclose(newton(F, jnp.array(x0)).x, 1, atol=close)


def test_multiple_roots_at_zero():
    """Nothing tells 0 from a small root, but that it is smaller than anything x has been."""
    np.testing.assert_allclose(newton(lambda x: x**2, 1.0).x, 0, atol=1e-19)
    with pytest.raises(ConvergenceError, match="not converged in 100 steps"):
        newton(lambda x: x**3, 1.0)
    np.testing.assert_allclose(newton(lambda x: x**3, 1.0, max_steps=200).x, 0, atol=1e-19)


ROOTLESS = {
    "parabola": (lambda x: x**2 + 1, 0.5, "stuck"),
    "parabola that almost has one": (lambda x: (x - 1) ** 2 + 1e-12, 2.0, "stuck"),
    "the same with rounding": (lambda x: x**2 - 2 * x + 1 + 1e-12, 2.0, "stuck"),
    "cosh": (jnp.cosh, 1.0, "stuck"),
    "oscillation": (lambda x: 2 + jnp.sin(x), 1.0, "stuck"),
    "oscillation as short as rounding": (lambda x: 2 + jnp.sin(1e12 * x), 1.0, "stuck"),
    "at a pole": (jnp.tan, np.pi / 2, "stuck"),
    "by a pole": (lambda x: 1 / (x - 1), 1 + 1e-11, "not converged in 100 steps"),
    "levels off": (lambda x: jnp.exp(-x), 0.0, "not converged in 100 steps"),
    "levels off slowly": (lambda x: 1 / x, 1.0, "not converged in 100 steps"),
    "one entry of a system": (lambda x: jnp.array([1e12 * (x[0] - 1), 1e-8 * (x[1] ** 2 + 1)]), [3.0, 0.5], "stuck"),
    "jump": (lambda x: jnp.where(x > 1, x, x - 2), 3.0, "stuck"),
}


@pytest.mark.parametrize("name", ROOTLESS)
def test_functions_without_a_root(name):
    F, x0, message = ROOTLESS[name]
    with pytest.raises(ConvergenceError, match=message):
        newton(F, jnp.asarray(x0))


def test_rounding_that_lets_f_fall_no_further():
    """Large terms that cancel: F is zero up to what is lost in them."""

    def F(x, size):
        lost = (x + 7.3) ** 3 - x**3 - 21.9 * x**2 - 159.87 * x - 389.017
        return size * lost + x**2 - 1.21

    np.testing.assert_allclose(newton(lambda x: F(x, 1e5), 2.0).x, 1.1, atol=1e-7)
    np.testing.assert_allclose(newton(lambda x: F(x, 1e10), 2.0, tol=1e-2).x, 1.1, rtol=1e-2)


def test_a_start_that_is_the_root():
    for F, x in [(lambda x: x**2 - 2, np.sqrt(2)), (lambda x: x**2, 0.0), (jnp.sin, np.pi), (jnp.cbrt, 0.0)]:
        found = newton(F, x)
        assert found.steps <= 1
        np.testing.assert_allclose(found.x, x, rtol=4e-16)


@pytest.mark.parametrize(
    ("F", "x0", "want"),
    [
        (lambda x: jnp.exp(x) - 2, 30.0, np.log(2)),
        (lambda x: 1e12 * (x**3 - 2), 1.5, 2 ** (1 / 3)),
        (lambda x: jnp.array([1e12 * (x[0] - 1), 1e-8 * (x[1] ** 2 - 2)]), [3.0, 1.0], [1, np.sqrt(2)]),
        (lambda x: x * 1.1 - 3 + 1e-3 * jnp.sin(1e2 * x), 0.5, None),
        (lambda u: 40_401 * (jnp.pad(u, 1)[2:] - 2 * u + jnp.pad(u, 1)[:-2]) + 3 * jnp.exp(u), np.zeros(200), None),
    ],
    ids=["far", "large", "scales", "wavy", "many operations"],
)
def test_single_precision(F, x0, want):
    found = newton(F, jnp.array(x0, jnp.float32))
    assert found.x.dtype == jnp.float32
    want = scipy.optimize.fsolve(F, np.asarray(found.x, float), xtol=1e-12) if want is None else want
    np.testing.assert_allclose(found.x, np.reshape(want, np.shape(found.x)), rtol=1e-5 if np.size(want) < 9 else 1e-2)


@pytest.mark.parametrize("solver", [newton, minimize_newton, gauss_newton])
def test_nothing_to_find(solver):
    found = solver(lambda x: jnp.sum(x) if solver is minimize_newton else x, jnp.zeros(0))
    assert found.steps == 0
    assert found.x.shape == (0,)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e25])
def test_whether_an_entry_vanishes_does_not_depend_on_its_size(size):
    def each(points):
        return size * np.stack([points[:, 0] ** 2 - 9, np.sin(points[:, 1] * 1e7)], axis=1)

    rule = Stopping(each, np.zeros(2), 2, 1e-10)
    x = np.array([3.0, 1e-7 * np.pi])
    for error, want in ((1e-11, True), (1e-9, False)):
        y = x * (1 + error)
        assert (rule.near(y, each(y[None])[0], rule.scale(y, x, np.zeros(2))) == want).all()
        assert not rule.noise(y, each(y[None])[0], x).any()


@pytest.mark.parametrize("solver", [newton, minimize_newton, gauss_newton])
@pytest.mark.parametrize(
    ("x0", "message"),
    [(1, r"leaf 0 of x0 has dtype int.*Convert it with .astype\(float\)"), ("1", "leaf 0 of x0 is '1'; the unknowns must")],
)
def test_unknowns_that_are_no_floating_point_numbers(solver, x0, message):
    with pytest.raises(TypeError, match=message):
        solver(lambda x: x**2, x0)


def test_functions_that_do_not_fit():
    with pytest.raises(ValueError, match=r"1 rows and 2 columns \(outputs \(1,\), unknowns \(2,\)\)"):
        newton(lambda x: x[:1] ** 2 - 1, jnp.array([2.0, 3.0]))
    with pytest.raises(TypeError, match=r"scalar output, but <lambda> returns shape \(2,\)"):
        minimize_newton(lambda x: x, jnp.ones(2))
    with pytest.raises(ValueError, match=r"4 rows and 2 columns .*gauss_newton"):
        newton(lambda p: p * (1 + 1j) - 1, jnp.ones(2))
    with pytest.raises(TypeError, match="complex"):
        minimize_newton(lambda p: p * p, 1 + 1j)


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
        f, x0, jac=reference.grad(f), hess=reference.hessian(f), method="trust-exact", options={"gtol": 1e-8}
    )
    assert float(found.value) <= float(theirs.fun) + 1e-3
    slope = reference.grad(f)
    assert float(jnp.abs(slope(found.x)).max()) <= 1e-8 * max(1, float(jnp.abs(slope(x0)).max()))
    assert np.linalg.eigvalsh(reference.hessian(f)(found.x))[0] > -1e-8


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
    with pytest.raises(ConvergenceError, match="minimize_newton is stuck: f or its gradient is NaN or infinite here"):
        minimize_newton(lambda x: jnp.sum(jnp.sqrt(x)), -jnp.ones(2))
    with pytest.raises(ConvergenceError, match="f or its gradient is NaN or infinite here"):
        minimize_newton(lambda x: jnp.sum(jnp.sqrt(x)), jnp.ones(2))  # the minimum is at the end of the domain
    with pytest.raises(bs.SingularError, match="the Hessian has entries that are NaN or infinite here; take another x0"):
        minimize_newton(lambda x: jnp.sum(jnp.abs(x) ** 1.5), jnp.zeros(2))


def test_a_constant_is_its_own_minimum():
    assert minimize_newton(lambda x: 3.0 + 0 * jnp.sum(x), jnp.ones(2)).steps == 0


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e10])
def test_minima_of_any_size_and_above_any_offset(size, offset):
    """f alone tells a minimum on an offset only up to the root of its rounding; gradients tell the rest."""
    found = minimize_newton(lambda x: size * (offset + jnp.sum((x - 1) ** 2 + (x - 1) ** 4)), 3 * jnp.ones(3))
    np.testing.assert_allclose(found.x, 1, rtol=1e-8)
    assert found.steps <= 9
    assert found.converged


@pytest.mark.parametrize(
    ("f", "x0", "want", "close"),
    [
        (lambda x: jnp.cosh(x - 2), 30.0, 2.0, 1e-8),
        (lambda x: jnp.exp(x) - 2 * x, 30.0, np.log(2), 1e-8),
        (lambda x: x - jnp.log(x), 5.0, 1.0, 1e-8),
        (lambda x: jnp.sum((x - 1) ** 4), [3.0, 2.0], [1, 1], 1e-4),
        (lambda x: jnp.sum(x**4), [1.0, 2.0], [0, 0], 1e-15),
        (lambda x: 1e3 + jnp.sum(x**2 + x**4), [3.0, 2.0], [0, 0], 1e-12),
        (lambda x: 1e6 * (x[0] - 1) ** 2 + 1e-2 * (x[1] ** 2 - 2) ** 2, [5.0, 5.0], [1, np.sqrt(2)], 1e-8),
        (lambda x: (x[0] / 1e-2 - 1) ** 2 + (x[1] / 1e2 - 1) ** 4 + (x[1] / 1e2 - 1) ** 2, [1e-1, 5e2], [1e-2, 1e2], 1e-8),
        (lambda x: jnp.sum((x - 1) ** 2), [1.0, 1.0], [1, 1], 0),
    ],
    ids=["cosh", "exponential", "logarithm", "flat", "flat at 0", "at 0 on an offset", "scales", "units", "at the minimum"],
)
def test_minima_that_are_known(f, x0, want, close):
    np.testing.assert_allclose(minimize_newton(f, jnp.array(x0)).x, want, atol=close, rtol=close)


@pytest.mark.parametrize(
    ("f", "x0"),
    [
        (lambda x: x, 1.0),
        (lambda x: -(x**2), 1.0),
        (lambda x: -jnp.exp(x), 1.0),
        (lambda x: jnp.exp(-x), 0.0),
        (lambda x: jnp.sum(x[:1] ** 2) - x[1], np.ones(2)),
    ],
    ids=["line", "cap", "exponential", "levels off", "trough"],
)
def test_functions_without_a_minimum(f, x0):
    with pytest.raises(ConvergenceError, match=r"minimize_newton (has not converged in 100 steps|is stuck)"):
        minimize_newton(f, jnp.asarray(x0))


def test_many_minima_of_a_hessian_that_is_not_formed(monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", 0)
    found = minimize_newton(lambda x: (jnp.sum(x) - 3) ** 2, jnp.arange(30.0))
    np.testing.assert_allclose(jnp.sum(found.x), 3, rtol=1e-8)
    assert float(jnp.abs(found.x).max()) < 50  # by no step along which f does not change


def test_a_minimum_in_single_precision():
    found = minimize_newton(lambda x: 1e3 + jnp.sum(jnp.cosh(x - 2)), jnp.ones(3, jnp.float32))
    np.testing.assert_allclose(found.x, 2, rtol=1e-5)


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
    theirs = scipy.optimize.least_squares(r, x0, jac=reference.jacobian(r), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    np.testing.assert_allclose(found.x, theirs.x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(0.5 * jnp.sum(found.value**2), theirs.cost, rtol=1e-6, atol=1e-12)


def test_a_jacobian_without_full_rank_is_damped():
    found = gauss_newton(lambda p: jnp.stack([p[0] + p[1] - 1] * 3), jnp.array([2.0, 0.5]))
    np.testing.assert_allclose(found.x, [1.25, -0.25], atol=1e-6)  # the nearest of many
    np.testing.assert_allclose(gauss_newton(lambda p: p[:1] ** 2 - 1, jnp.array([2.0, 0.5])).x, [1, 0.5])


def test_trees_and_failures_of_least_squares():
    found = gauss_newton(lambda p: {"a": p["u"] - 1, "b": p["v"] * p["u"] - 2, "c": 0 * p["v"]}, {"u": 3.0, "v": 0.5})
    np.testing.assert_allclose([found.x["u"], found.x["v"]], [1, 2], atol=1e-8)
    with pytest.raises(ConvergenceError, match="gauss_newton is stuck: r or its derivative is NaN or infinite here"):
        gauss_newton(lambda p: jnp.sqrt(p - 1), jnp.array([0.0, 3.0]))
    with pytest.raises(ConvergenceError, match="has not converged in 2 steps"):
        gauss_newton(lambda p: jnp.array([10 * (p[1] - p[0] ** 2), 1 - p[0]]), jnp.array([-1.2, 1.0]), max_steps=2)


def test_least_squares_from_far():
    found = gauss_newton(lambda p: jnp.exp(p * jnp.array([1.0, 2.0])) - jnp.exp(jnp.array([0.5, 1.0])), 12.0)
    np.testing.assert_allclose(found.x, 0.5, rtol=1e-8)
    assert found.converged


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("rest", [0.0, 1.0, 1e6])
def test_a_residual_that_stays_hides_nothing(size, rest):
    """min ½ ((p³ − 8)² + rest²): the cosine between residual and Jacobian is tiny long before p is near 2."""
    found = gauss_newton(lambda p: size * jnp.stack([p**3 - 8, rest + 0 * p]), 5.0)
    np.testing.assert_allclose(found.x, 2, rtol=1e-8)


@pytest.mark.parametrize(
    ("r", "x0", "want", "close"),
    [
        (lambda p: (p - 1) ** 2, 2.0, 1.0, 1e-4),
        (lambda p: p**2, 1.0, 0.0, 1e-15),
        (lambda p: p**2 + 1, 0.5, 0.0, 1e-12),
        (lambda p: p - jnp.array([1.0, 2.0]), [1.0, 2.0], [1, 2], 0),
        (lambda p: jnp.log(p), 5.0, 1.0, 1e-8),
    ],
    ids=["double", "double at 0", "large residual at 0", "at the minimum", "domain"],
)
def test_least_squares_that_are_known(r, x0, want, close):
    np.testing.assert_allclose(gauss_newton(r, jnp.array(x0)).x, want, atol=close)


def test_least_squares_of_unknowns_in_very_different_units():
    units = np.array([1e-9, 1e6])

    def r(p):
        u, v = p / units
        return jnp.stack([u - 1, v**2 - 2, 0.3 * u * v])

    want = scipy.optimize.least_squares(r, units, x_scale=units, xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    np.testing.assert_allclose(gauss_newton(r, jnp.array(units)).x, want, rtol=1e-6)


def test_least_squares_that_crawl_or_have_no_minimum():
    """Short steps, and a slope that hardly changes, are not taken for a solution."""
    with pytest.raises(ConvergenceError, match=r"gauss_newton has not converged in 100 steps. Take another x0"):
        gauss_newton(lambda p: jnp.stack([1e5 * (p[1] - p[0] ** 2), 1 - p[0]]), jnp.array([-5.0, 25.0]))
    with pytest.raises(ConvergenceError, match="not converged in 100 steps"):
        gauss_newton(lambda p: jnp.exp(-p), 0.0)


def test_least_squares_in_single_precision():
    def r(p):
        return p[0] * jnp.exp(p[1] * T.astype(np.float32)) - Y.astype(np.float32)

    found = gauss_newton(r, jnp.array([1.0, 0.0], jnp.float32))
    np.testing.assert_allclose(
        found.x, scipy.optimize.least_squares(lambda p: p[0] * np.exp(p[1] * T) - Y, [1, 0]).x, rtol=1e-4
    )


# ---- complex numbers: by their real and imaginary parts ------------------------------------------------------------------
def test_complex_roots():
    a = 1 + 2j
    for F, want in (
        (lambda z: z**2 - a, np.sqrt(a)),
        (lambda z: z - 0.5 * jnp.conj(z) - a, 2 + 4j / 3),
        (lambda z: jnp.stack([jnp.abs(z) ** 2 - 2, jnp.real(z) - 1]), 1 + 1j),
    ):
        seen = []
        found = newton(F, 2 + 1j, callback=lambda z, _, seen=seen: seen.append(z))
        assert found.x.dtype == jnp.complex128
        assert all(map(jnp.iscomplexobj, seen))
        np.testing.assert_allclose(found.x, want, rtol=1e-9)
        np.testing.assert_allclose(found.value, F(found.x), atol=1e-12)
    roots = newton(lambda z: {"z": z["z"] ** 3 - 1}, {"z": jnp.array([1.2, -0.4 + 0.9j, -0.4 - 0.9j])}).x["z"]
    np.testing.assert_allclose(roots, np.exp(2j * np.pi * np.arange(3) / 3), rtol=1e-9)
    single = newton(lambda z: z**2 - np.complex64(a), jnp.array(1 + 1j, jnp.complex64))
    assert single.x.dtype == jnp.complex64
    np.testing.assert_allclose(single.x, np.sqrt(a), rtol=1e-5)


def test_complex_residuals():
    """½ Σ |r|², of complex and of real unknowns: SciPy with real and imaginary parts, NumPy's lstsq."""
    rng = np.random.default_rng(3)
    A, b = (rng.standard_normal((*shape, 2)) @ [1, 1j] for shape in ((7, 3), (7,)))
    found = gauss_newton(lambda z: A @ z - b, jnp.zeros(3, complex))
    np.testing.assert_allclose(found.x, np.linalg.lstsq(A, b)[0], rtol=1e-8)
    np.testing.assert_allclose(found.history["½‖r‖²"][-1], 0.5 * np.linalg.norm(A @ np.asarray(found.x) - b) ** 2)
    found = gauss_newton(lambda z: {"fit": A @ z - b, "size": jnp.abs(z) - 1}, jnp.ones(3, complex))

    def parts(u):
        z = u[:3] + 1j * u[3:]
        return np.concatenate([(A @ z - b).real, (A @ z - b).imag, abs(z) - 1])

    theirs = scipy.optimize.least_squares(parts, np.r_[np.ones(3), np.zeros(3)], xtol=1e-14, ftol=1e-14, gtol=1e-14).x
    np.testing.assert_allclose(found.x, theirs[:3] + 1j * theirs[3:], rtol=1e-5)
    t = np.arange(6)
    found = gauss_newton(lambda p: p[0] * jnp.exp(1j * p[1] * t) - 2 * jnp.exp(0.3j * t), jnp.array([1.0, 0.2]), lower=0.0)
    np.testing.assert_allclose(found.x, [2, 0.3], rtol=1e-8)
    assert jnp.iscomplexobj(found.value)


@pytest.mark.parametrize("formed", [1_000_000, 0], ids=["formed", "not formed"])
def test_real_losses_of_complex_unknowns(formed, monkeypatch):
    monkeypatch.setattr(optimize, "FORMED", formed)

    def f(p):
        return jnp.sum(jnp.abs(p["z"] - (1 + 2j)) ** 2 + jnp.abs(p["z"]) ** 4) + jnp.real(p["z"][0] * p["c"]) + p["c"] ** 2

    found = minimize_newton(f, {"z": jnp.array([1j, 2.0]), "c": 0.5})

    def parts(u):
        return f({"z": u[:2] + 1j * u[2:4], "c": u[4]})

    theirs = scipy.optimize.minimize(parts, np.ones(5), jac=reference.grad(parts), options={"gtol": 1e-10})
    np.testing.assert_allclose(found.x["z"], theirs.x[:2] + 1j * theirs.x[2:4], rtol=1e-6)
    np.testing.assert_allclose(found.x["c"], theirs.x[4], rtol=1e-6)
    assert not jnp.iscomplexobj(found.x["c"])
