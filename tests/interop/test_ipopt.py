"""IPOPT's callbacks and solutions: published optima, CasADi's IPOPT, JAX's own dense derivatives, IPOPT's checker."""

import copy
import importlib.util
import math
import pickle

import casadi
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.interop import compiled, ipopt
from backsolve.interop.ipopt import Problem
from backsolve.tape import numbers
from tests import reference

RNG = np.random.default_rng(0)
QUIET = {"print_level": 0, "sb": "yes"}
without = pytest.mark.skipif(importlib.util.find_spec("cyipopt") is None, reason="has no wheels on PyPI")
LIBRARIES = ["ipyopt", pytest.param("cyipopt", marks=without)]


def hs071(**more):
    """Hock and Schittkowski, problem 71, as in IPOPT's own documentation."""
    return Problem(
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        lambda x: [jnp.prod(x), jnp.sum(x**2)],
        n=4,
        lb=1.0,
        ub=5.0,
        cl=[25.0, 40.0],
        cu=[np.inf, 40.0],
        **more,
    )


def collocation(unknowns):
    """Rocket with drag, by the trapezoidal rule: height, speed and thrust at each of unknowns / 3 knots."""
    knots = unknowns // 3
    h = 1.0 / (knots - 1)

    def rates(height, speed, thrust):
        return speed, thrust - 1.0 - 0.3 * speed * abs(speed) * np.e ** (-height)

    def effort(z):
        return (z[2::3] ** 2).sum() * h

    def defects(z):
        height, speed, thrust = z[0::3], z[1::3], z[2::3]
        a, b = rates(height, speed, thrust)
        return (
            height[1:] - height[:-1] - h / 2 * (a[1:] + a[:-1]),
            speed[1:] - speed[:-1] - h / 2 * (b[1:] + b[:-1]),
            (height[0], height[-1] - 1.0, speed[0], speed[-1]),
        )

    return effort, defects


def dense(problem, x, multipliers, factor, parameters=()):
    """J and the Hessian of the Lagrangian by JAX, in double precision."""
    with jax.enable_x64(True):

        def g(x):
            return jnp.concatenate([jnp.ravel(part) for part in jax.tree_util.tree_leaves(problem._g(x, *parameters))])

        J = reference.jacobian(g)(jnp.asarray(x))
        H = reference.hessian(lambda x: factor * problem._f(x, *parameters) + multipliers @ g(x))(jnp.asarray(x))
        return np.asarray(J), np.asarray(H)


def placed(structure, numbers, shape):
    out = np.zeros(shape)
    np.add.at(out, structure, numbers)
    return out


# ---- the callbacks ------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["NumPy", "XLA"])
def way(request, monkeypatch):
    """How callbacks are evaluated."""
    if request.param == "XLA":
        monkeypatch.setattr(numbers, "BITS", 0)  # so many numbers are too many
    return request.param


@pytest.mark.parametrize("double", [False, True])
def test_callbacks_are_jax_s_derivatives_in_double_precision(double, way):
    with jax.enable_x64(double):
        p = Problem(*collocation(30), n=30, ub=10.0)
        assert p._first.is_compiled == p._curvature.is_compiled == (way == "XLA")
        x, multipliers = RNG.standard_normal(30), RNG.standard_normal(p.m)
        J, H = dense(p, x, multipliers, 0.7)
        assert p.m == J.shape[0]
        with jax.enable_x64(True):
            assert abs(p.objective(x) - float(p._f(jnp.asarray(x)))) < 1e-14
            np.testing.assert_allclose(p.gradient(x), reference.grad(p._f)(jnp.asarray(x)), rtol=1e-14)
        np.testing.assert_allclose(placed(p.jacobianstructure(), p.jacobian(x), J.shape), J, rtol=1e-13, atol=1e-15)
        lower = placed(p.hessianstructure(), p.hessian(x, multipliers, 0.7), H.shape)
        np.testing.assert_allclose(lower, np.tril(H), rtol=1e-12, atol=1e-14)
        assert p.jacobianstructure()[0].size <= 6 * p.m


def test_structures_hold_for_every_point_and_weight():
    p = Problem(lambda x: x[0] ** 4, lambda x: x[1] * x[2] ** 2, n=3)
    assert list(zip(*map(list, p.hessianstructure()))) == [(0, 0), (2, 1), (2, 2)]
    np.testing.assert_array_equal(p.hessian(np.zeros(3), [0.0], 0.0), np.zeros(3))
    np.testing.assert_array_equal(p.hessian([1.0, 2, 3], [5.0], 2.0), [24.0, 30.0, 20.0])


def test_at_one_point_all_is_worked_out_once(monkeypatch):
    """cyipopt's callers ask for the parts one after the other."""
    p = hs071()
    ran = []
    call = ipopt.Compiled.__call__
    monkeypatch.setattr(ipopt.Compiled, "__call__", lambda program, *given: ran.append(program) or call(program, *given))
    x = np.full(4, 2.0)
    assert p.objective(x) == 26
    np.testing.assert_array_equal(p.constraints(x), [16, 16])
    np.testing.assert_array_equal(p.gradient(x), [16, 4, 5, 12])
    np.testing.assert_array_equal(p.jacobian(x), [8, 8, 8, 8, 4, 4, 4, 4])
    assert len(ran) == 1
    x[0] = 0.0
    assert p.objective(x) == 2
    x[0] = -0.0  # another number, by its sign
    assert p.objective(x) == 2
    assert len(ran) == 3
    x[0] = np.nan
    assert np.isnan(p.objective(x))
    assert np.isnan(p.jacobian(x)).any()
    assert len(ran) == 4


def of_x(x, p):
    return jnp.sum((x - p) ** 2)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_problems_are_copied(way):
    p = Problem(of_x, of_x, n=2, lb=[None, 0.0], cu=9.0, parameters=np.array([1.0, 2.0]))
    p.hessian([0.0, 0.0], [1.0], 1.0)
    twin = way(p)
    assert (twin.n, twin.m, twin.lb.tolist(), twin.cu.tolist()) == (2, 1, [-np.inf, 0.0], [9.0])
    twin.parameters = np.array([3.0, 4.0])
    assert (p.objective([0.0, 0.0]), twin.objective([0.0, 0.0])) == (5.0, 25.0)
    np.testing.assert_array_equal(twin.hessian(np.zeros(2), lagrange=[1.0], obj_factor=2.0), [6.0, 6.0])
    np.testing.assert_allclose(twin.solve([0.0, 0.0], options=QUIET).x, [3.0, 4.0], atol=1e-6)


def test_results_are_the_caller_s_to_change():
    p = hs071()
    x = np.full(4, 2.0)
    first = p.constraints(x)
    first += 1
    x += 1  # IPOPT reuses its arrays
    np.testing.assert_allclose(p.constraints(np.full(4, 2.0)), [16.0, 16.0])
    np.testing.assert_allclose(p.constraints(x), [81.0, 36.0])


def test_the_hessian_alone_may_be_compiled():
    """Where only that has a function that NumPy has not."""

    @jax.custom_jvp
    def slope(x):
        return jnp.tanh(x)

    @jax.custom_jvp
    def hill(x):
        return jnp.cosh(x)

    slope.defjvp(lambda x, t: (slope(*x), jax.scipy.special.erf(*x) * t[0]))
    hill.defjvp(lambda x, t: (hill(*x), slope(*x) * t[0]))
    p = Problem(lambda x: jnp.sum(hill(x)), lambda x: x[0] * x[1], n=2, cl=0.5)
    assert (p._first.is_compiled, p._curvature.is_compiled) == (False, True)
    x = np.array([0.3, 0.8])
    np.testing.assert_allclose(p.gradient(x), np.tanh(x), rtol=1e-14)
    np.testing.assert_allclose(p.hessian(x, [2.0], 1.0), [math.erf(0.3), 2.0, math.erf(0.8)], rtol=1e-14)
    assert p.solve(x, options=QUIET).status in (0, 1, 2)


def test_a_custom_rule_that_is_no_derivative_keeps_its_own_hessian():
    @jax.custom_jvp
    def odd(x):
        return jnp.sum(x**2)

    @odd.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        return odd(x), (x * jnp.roll(x, 1)) @ t

    p = Problem(odd, n=3)
    with jax.enable_x64(True):
        H = reference.hessian(odd)(jnp.arange(3.0))
    np.testing.assert_allclose(placed(p.hessianstructure(), p.hessian(np.arange(3.0), [], 1.0), (3, 3)), np.tril(H))


# ---- published optima -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("library", LIBRARIES)
def test_hs071(library, way):
    """The optimum and the multipliers in IPOPT's documentation."""
    p = hs071()
    found = p.solve([1.0, 5.0, 5.0, 1.0], options=QUIET, library=library, tol=1e-9)
    assert found.converged
    assert found.objective == pytest.approx(17.0140173, abs=1e-7)
    np.testing.assert_allclose(found.x, [1.0, 4.74299964, 3.82114998, 1.37940829], atol=1e-7)
    np.testing.assert_allclose(found.multipliers, [-0.55229366, 0.16146857], atol=1e-6)
    J = placed(p.jacobianstructure(), p.jacobian(found.x), (2, 4))
    slope = p.gradient(found.x) + J.T @ found.multipliers - found.lower_multipliers + found.upper_multipliers
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    assert found.steps == found.history[-1].iteration == len(found.history) - 1
    assert str(found).startswith(f"IPOPT: solved, {found.steps} steps, objective 17.0140")


@pytest.mark.parametrize("library", LIBRARIES)
def test_rosenbrock_in_a_disk(library):
    """MathWorks' published example: the minimum of Rosenbrock's function on the unit disk."""
    p = Problem(lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, lambda x: x @ x, n=2, cu=1.0)
    found = p.solve([0.0, 0.0], options=QUIET, library=library)
    assert found.converged
    np.testing.assert_allclose(found.x, [0.7864, 0.6177], atol=5e-5)
    assert found.objective == pytest.approx(0.0457, abs=5e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_constraints_and_by_quasi_newton(library):
    def f(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    p = Problem(f, n=20)
    assert p.m == 0
    assert p.jacobianstructure()[0].size == 0
    np.testing.assert_allclose(p.solve(np.zeros(20), options=QUIET, library=library).x, 1, atol=1e-7)
    slow = p.solve(np.zeros(20), options=QUIET, library=library, hessian_approximation="limited-memory")
    np.testing.assert_allclose(slow.x, 1, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_feasibility_is_asked_for(library):
    p = Problem(lambda x: 0, lambda x: jnp.stack([x[0] ** 2 + x[1] ** 2 - 2.0, x[0] - x[1]]), n=2)
    found = p.solve([3.0, 1.0], options=QUIET, library=library)
    assert found.converged
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-7)


@pytest.mark.parametrize("library", LIBRARIES)
def test_ipopt_s_own_checker_finds_no_error(library, capfd):
    p = Problem(*collocation(30), n=30)
    options = {"derivative_test": "second-order", "max_iter": 0, "sb": "yes"}
    p.solve(RNG.standard_normal(30) * 0.5 + 1.0, options=options, library=library)
    text = capfd.readouterr().out
    assert "No errors detected by derivative checker." in text, text
    assert "Number of Iterations" in text


def in_casadi(unknowns):
    z = casadi.SX.sym("z", unknowns)
    knots = unknowns // 3
    h = 1.0 / (knots - 1)
    height, speed, thrust = z[0::3], z[1::3], z[2::3]
    push = thrust - 1.0 - 0.3 * speed * casadi.fabs(speed) * casadi.exp(-height)
    wrong = casadi.vertcat(
        height[1:] - height[:-1] - h / 2 * (speed[1:] + speed[:-1]),
        speed[1:] - speed[:-1] - h / 2 * (push[1:] + push[:-1]),
        casadi.vertcat(height[0], height[-1] - 1.0, speed[0], speed[-1]),
    )
    quiet = {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False}
    solver = casadi.nlpsol("solver", "ipopt", {"x": z, "f": casadi.sumsqr(thrust) * h, "g": wrong}, quiet)
    return float(solver(x0=0.5, lbg=0, ubg=0, ubx=np.tile([np.inf, np.inf, 9.0], knots))["f"])


@pytest.mark.parametrize("unknowns", [300, 3000])
def test_collocation_ends_where_casadi_s_ipopt_does(unknowns):
    p = Problem(*collocation(unknowns), n=unknowns, ub=np.tile([np.inf, np.inf, 9.0], unknowns // 3))
    found = p.solve(np.full(unknowns, 0.5), options=QUIET, library="ipyopt")
    assert found.converged
    assert found.objective == pytest.approx(in_casadi(unknowns), rel=1e-8)


def test_optimised_programs_take_over_between_two_evaluations(monkeypatch, as_users_compile):
    """The same evaluations have the same results, bit by bit; the other programs' last bits are others."""
    monkeypatch.setattr(numbers, "BITS", 0)
    monkeypatch.setattr(compiled, "evaluations_before_optimizing", lambda jaxpr: 1)
    found = [Problem(*collocation(30), n=30).solve(np.full(30, 0.5), options=QUIET) for _ in range(2)]
    assert found[0].steps > 2
    np.testing.assert_array_equal(found[0].x, found[1].x)
    monkeypatch.undo()
    first = Problem(*collocation(30), n=30).solve(np.full(30, 0.5), options=QUIET)
    np.testing.assert_allclose(found[0].x, first.x, rtol=1e-9, atol=1e-12)


# ---- parameters, warm starts, callbacks -----------------------------------------------------------------------------------
def test_parameters_change_without_compiling_anew():
    traced = []

    def f(x, p):
        traced.append(None)
        return jnp.sum((x - p["goal"]) ** 2)

    p = Problem(f, lambda x, p: p["weight"] * x[0], n=2, cu=1.0, parameters={"goal": np.array([3.0, 4.0]), "weight": 1})
    first = p.solve([0.0, 0.0], options=QUIET)
    np.testing.assert_allclose(first.x, [1, 4], atol=1e-6)
    count = len(traced)
    second = p.solve(first.x, options=QUIET, parameters={"goal": np.array([3.0, 5.0]), "weight": 2}, start=first)
    np.testing.assert_allclose(second.x, [0.5, 5], atol=1e-6)
    assert p.objective([3.0, 5.0]) == 0
    p.parameters = {"goal": np.array([3, 4]), "weight": 2}
    assert p.objective([3.0, 5.0]) == 1
    assert len(traced) == count


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_warm_start_takes_fewer_steps(library):
    p = hs071()
    first = p.solve([1.0, 5.0, 5.0, 1.0], options=QUIET, library=library)
    again = p.solve(first.x, options=QUIET, library=library, start=first, mu_init=1e-8)
    assert again.steps < first.steps
    np.testing.assert_allclose(again.x, first.x, atol=1e-6)
    assert first.multipliers.sum() == pytest.approx(-0.39082509)  # IPOPT writes into what it is given


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_callback_sees_each_step_and_stops(library):
    seen = []

    def callback(iterate):
        seen.append(iterate)
        return iterate.iteration < 3

    found = hs071().solve([1.0, 5.0, 5.0, 1.0], callback=callback, options=QUIET, library=library)
    assert [iterate.iteration for iterate in seen] == [0, 1, 2, 3]
    assert not found.converged
    assert found.status == ipopt.STOPPED
    assert found.message == "stopped by the callback"
    assert found.history == tuple(seen)


@pytest.mark.parametrize("double", [True, False])
def test_a_callback_has_the_precision_of_the_caller(double):
    seen = []
    with jax.enable_x64(double):
        hs071().solve([1.0, 5.0, 5.0, 1.0], callback=lambda _: seen.append(jnp.ones(1).dtype), options=QUIET)
        assert jnp.ones(1).dtype == (jnp.float64 if double else jnp.float32)
    assert set(seen) == {jnp.dtype(jnp.float64 if double else jnp.float32)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("where", "number"), [("_at", 1), ("_at", 2), ("_at", 3), ("_at", 4), ("_at", 7), ("_curved", 1), ("callback", 1)]
)
def test_errors_and_interruptions_come_out(library, where, number, monkeypatch):
    p = hs071()
    calls = []
    call = getattr(p, where, None)  # what all callbacks at a point come from

    def interrupted(*given):
        calls.append(None)
        if len(calls) == number:
            raise KeyboardInterrupt(where)
        return call(*given)

    if where != "callback":
        monkeypatch.setattr(p, where, interrupted)
    with pytest.raises(KeyboardInterrupt, match=where):
        p.solve([1.0, 5, 5, 1], callback=interrupted if where == "callback" else None, options=QUIET, library=library)
    assert len(calls) == number


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_does_not_converge_is_told(library):
    found = hs071().solve([1.0, 5.0, 5.0, 1.0], options=QUIET, library=library, max_iter=2)
    assert not found.converged
    assert "max_iter" in found.message
    nowhere = Problem(lambda x: x @ x, lambda x: [x[0], x[0]], n=2, cl=[0.0, 2.0], cu=[1.0, 3.0])
    found = nowhere.solve([0.5, 0.5], options=QUIET, library=library)
    assert not found.converged
    assert "infeasibility" in found.message
    broken = Problem(lambda x: jnp.sum(jnp.log(x)), n=2)
    found = broken.solve([-1.0, 1.0], options=QUIET, library=library)
    assert not found.converged
    assert "NaN" in found.message


@pytest.mark.skipif(importlib.util.find_spec("cyipopt") is None, reason="has no wheels on PyPI")
def test_cyipopt_takes_it_as_it_is():
    import cyipopt

    p = hs071()
    solver = cyipopt.Problem(n=p.n, m=p.m, problem_obj=p, lb=p.lb, ub=p.ub, cl=p.cl, cu=p.cu)
    solver.add_option("print_level", 0)
    x, told = solver.solve(np.array([1.0, 5.0, 5.0, 1.0]))
    assert told["status"] == 0
    np.testing.assert_allclose(x, [1.0, 4.74299964, 3.82114998, 1.37940829], atol=1e-6)


# ---- wrong input ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Problem(3.0, n=2), "f must be a function of JAX arrays, got 3.0"),
        (lambda: Problem(jnp.sum, 1, n=2), "g must be a function of JAX arrays, got 1"),
        (lambda: Problem(jnp.sum, n=2.5), "n must be the number of unknowns, a whole number of 1 or more, got 2.5"),
        (lambda: Problem(jnp.sum, n=0), "n must be the number of unknowns"),
        (lambda: Problem(lambda x: x, n=2), r"the objective must be a scalar, but f returns shape \(2,\); reduce it"),
        (lambda: Problem(lambda x: jnp.sum(x) * 1j, n=2), "f has complex values"),
        (lambda: Problem(jnp.sum, lambda x: 1j * x, n=2), "g has complex values"),
        (lambda: Problem(jnp.sum, n=2, cl=1.0), "cl and cu are bounds of the constraints, but there is no g"),
        (
            lambda: Problem(jnp.sum, n=2, lb=[1.0, 2, 3]),
            r"lb must be a number or of shape \(2,\), for the 2 unknowns, got \(3,\)",
        ),
        (
            lambda: Problem(jnp.sum, jnp.sum, n=2, cu=[1.0, 2]),
            r"cu must be a number or of shape \(1,\), for the 1 entries of g",
        ),
        (lambda: Problem(jnp.sum, n=2, ub=np.nan), "ub has entries that are NaN"),
        (
            lambda: Problem(jnp.sum, n=2, lb=[0, 3], ub=[1, 2]),
            "no number is between the bounds of entry 1: lb is 3.0, ub is 2.0",
        ),
        (lambda: Problem(jnp.sum, n=2, lb=np.inf), "no number is between the bounds of entry 0"),
        (lambda: hs071().objective([1j, 2, 3, 4]), "x must be real numbers, got .* of dtype complex128"),
        (lambda: Problem(jnp.sum, n=2, lb="low"), "lb must be real numbers"),
        (lambda: hs071().objective([1.0, 2.0]), r"x must have shape \(4,\), got \(2,\)"),
        (lambda: hs071().hessian(np.ones(4), [1.0], 1.0), r"the multipliers must have shape \(2,\), got \(1,\)"),
        (lambda: hs071().solve([1.0]), r"x0 must have shape \(4,\), got \(1,\)"),
        (lambda: hs071().solve([np.nan] * 4), "x0 must be finite"),
        (lambda: hs071().solve([2.0] * 4, parameters=1.0), "made without parameters"),
        (lambda: hs071().solve([2.0] * 4, library="snopt"), "unknown library 'snopt'; use one of 'cyipopt', 'ipyopt'"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_wrong_parameters():
    p = Problem(lambda x, p: jnp.sum(x) * p["a"][0], n=2, parameters={"a": np.ones(2, int)})
    with pytest.raises(ValueError, match=r"leaf 0 of the parameters has shape \(2,\), got \(3,\). Make another Problem"):
        p.parameters = {"a": np.ones(3, int)}
    with pytest.raises(ValueError, match="parameters have the structure"):
        p.parameters = {"b": np.ones(2, int)}
    with pytest.raises(TypeError, match="leaf 0 of the parameters has dtype int64, got float64"):
        p.parameters = {"a": np.ones(2)}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("option", [{"nonsense": 1}, {"tol": "small"}, {"print_level": 0.5}])
def test_options_that_ipopt_refuses(library, option, capfd):
    (name,) = option
    with pytest.raises(ValueError, match=f"IPOPT refuses the option {name}="):
        hs071().solve([1.0, 5.0, 5.0, 1.0], options=option, library=library)
    assert capfd.readouterr()


@pytest.mark.parametrize("library", LIBRARIES)
def test_options_of_every_kind(library):
    options = {**QUIET, "tol": 1, "max_iter": np.int64(50), "jac_c_constant": False}
    assert hs071().solve([1.0, 5.0, 5.0, 1.0], options=options, library=library).converged


def test_without_either_library(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'backsolve\[ipopt\]'"):
        hs071().solve([1.0, 5.0, 5.0, 1.0])


@pytest.mark.parametrize("start", [3, "a", np.ones(2), {}], ids=str)
def test_a_start_that_is_no_result(start):
    p = Problem(lambda x: jnp.sum(x**2), n=2)
    with pytest.raises(TypeError, match=r"start must be the Result of a similar problem, got "):
        p.solve(np.ones(2), options=QUIET, start=start)
