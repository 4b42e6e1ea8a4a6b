"""What `newton`, `minimize_newton` and `gauss_newton` take besides: engines, callbacks; their solutions as pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import backsolve as bs
from backsolve import gauss_newton, minimize_newton, newton
from backsolve.engines import ENGINES

from ..engines.installed import GENERAL

pytestmark = pytest.mark.usefixtures("double_precision")

NAMES = ["auto", "superlu", "blocks", *GENERAL]
TIMES = np.linspace(0.0, 2.0, 9)


def chain(x):
    """Broyden's tridiagonal function: Moré, Garbow and Hillstrom, problem 30."""
    v = jnp.pad(x, 1)
    return (3 - 2 * x) * x - v[:-2] - 2 * v[2:] + 1


def energy(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def decay(p):
    return p[0] * jnp.exp(-p[1] * TIMES) + p[2] - (2.0 * jnp.exp(-1.3 * TIMES) + 0.5)


METHODS = {
    "newton": (newton, chain, -np.ones(12)),
    "minimize_newton": (minimize_newton, energy, np.zeros(6)),
    "gauss_newton": (gauss_newton, decay, np.array([1.0, 1.0, 0.0])),
}
SOLUTIONS = {
    "newton": lambda: scipy.optimize.fsolve(lambda x: np.asarray(chain(x)), -np.ones(12), xtol=1e-12),
    "minimize_newton": lambda: np.ones(6),
    "gauss_newton": lambda: np.array([2.0, 1.3, 0.5]),
}


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_every_engine_finds_the_same(method, engine):
    solve, F, x0 = METHODS[method]
    found = solve(F, x0, engine=engine)
    assert found.converged
    np.testing.assert_allclose(found.x, SOLUTIONS[method](), rtol=1e-7, atol=1e-9)


def by_fixed_point(F, z0, *args, **more):
    return bs.fixed_point(lambda z, *args: z - F(z, *args), z0, *args, method="newton", **more)


@pytest.mark.parametrize(("find", "more"), [(bs.root, {}), (bs.root, {"lower": 0.0}), (by_fixed_point, {})])
def test_the_engine_of_a_root_takes_its_steps(find, more, monkeypatch):
    """Concrete ones, called back from compiled code, and those of the derivative."""
    factored = []
    monkeypatch.setitem(ENGINES, "counted", lambda *matrix: factored.append(None) or ENGINES["superlu"](*matrix))

    def F(z, p):
        return z**3 - p * jnp.roll(z, 1)

    start, p = jnp.array([1.5, 2.0]), jnp.array([2.0, 3.0])
    want = newton(lambda z: F(z, p), start).x
    np.testing.assert_allclose(find(F, start, p, engine="counted", **more), want, rtol=1e-9)
    assert (steps := len(factored)) > 2
    if not more:  # by blocks, where it is bounded and traced
        np.testing.assert_allclose(jax.jit(lambda p: find(F, start, p, engine="counted"))(p), want, rtol=1e-9)
        assert len(factored) > steps + 2
    jax.grad(lambda p: find(F, start, p, engine="counted", **more).sum())(p)
    assert len(factored) > 2 * steps
    np.testing.assert_allclose(find(F, start, p, engine="gmres", **more), want, rtol=1e-9)  # for derivatives only


@pytest.mark.parametrize("method", METHODS)
def test_engines_that_factor_nothing_are_refused(method):
    solve, F, x0 = METHODS[method]
    for engine in ("gmres", "lapack"):
        with pytest.raises(
            ValueError, match=f"unknown engine '{engine}'; Newton's steps need one that factors: .* 'blocks'"
        ):
            solve(F, x0, engine=engine)
    with pytest.raises(ValueError, match="unknown engine 'cholmod'; Newton's steps need"):
        gauss_newton(decay, jnp.ones(3), engine="cholmod")


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_sees_every_step(method):
    solve, F, x0 = METHODS[method]
    seen = []
    found = solve(F, x0, callback=lambda x, history: seen.append((x, len(history))))
    assert [rows for _, rows in seen] == list(range(1, found.steps + 2))
    np.testing.assert_array_equal(seen[0][0], x0)
    np.testing.assert_array_equal(seen[-1][0], found.x)


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_ends_the_iteration(method):
    solve, F, x0 = METHODS[method]
    found = solve(F, x0, callback=lambda x, history: len(history) < 3)
    assert not found.converged
    assert found.steps == 2
    np.testing.assert_allclose(found.value, F(found.x), rtol=1e-12)


def test_a_callback_gets_the_pytree_of_the_unknowns():
    keys = []
    newton(lambda p: {"b": p["a"] ** 2 - 2.0}, {"a": 1.0}, callback=lambda p, _: keys.append(set(p)))
    assert keys
    assert all(key == {"a"} for key in keys)


def test_a_solution_is_a_pytree():
    found = newton(lambda p: {"b": p["a"] ** 2 - 2.0}, {"a": jnp.array([1.0, 2.0])})
    leaves, tree = jax.tree_util.tree_flatten(found)
    assert len(leaves) == 2
    again = jax.tree_util.tree_unflatten(tree, leaves)
    assert again.history is found.history
    assert again.converged
    doubled = jax.jit(lambda s: jax.tree_util.tree_map(lambda x: 2 * x, s))(found)
    np.testing.assert_allclose(doubled.x["a"], 2 * np.sqrt(2), rtol=1e-11)
    assert doubled.steps == found.steps


def test_equations_of_deficient_rank_in_the_least_squares_sense():
    """Consistent or not: a line of solutions, and a line of points nearest to solving both (NumPy's lstsq)."""
    A = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    for b in (np.array([2.0, 4.0, 1.0]), np.array([2.0, 5.0, 1.0])):
        found = gauss_newton(lambda x, b=b: A @ x - b, jnp.zeros(3))
        nearest = np.linalg.lstsq(A, b)[0]
        np.testing.assert_allclose(A @ np.asarray(found.x), A @ nearest, atol=1e-7)
        np.testing.assert_allclose(found.x, nearest, atol=1e-6)  # from 0 on, the shortest of them


def test_a_singular_root_of_moré_garbow_and_hillstrom():
    """Powell's singular function: the Jacobian at its root has rank 2 of 4."""

    def powell(x):
        return jnp.stack([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])

    found = gauss_newton(powell, jnp.array([3.0, -1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found.x, 0, atol=1e-3)
    assert float(jnp.linalg.norm(found.value)) < 1e-6


FOUND = {
    "newton": lambda F, x: newton(F, x).x,
    "gauss_newton": lambda F, x: gauss_newton(F, x).x,
    "minimize_newton": lambda F, x: minimize_newton(lambda x: jnp.sum(F(x) ** 2), x).x,
    "between bounds": lambda F, x: newton(F, x0=x, lower=-2.0, upper=np.full(4, 2.0)).x,
    "root": lambda F, x: bs.root(F=F, z0=x),
    "a damped root": lambda F, x: bs.root(F, x, damping=1e-3),
    "fixed_point": lambda F, x: bs.fixed_point(lambda x: x - F(x) / x.dtype.type(4), x),
    "by_fixed_point": by_fixed_point,
}


@pytest.mark.parametrize("name", FOUND)
def test_solvers_where_jax_promotes_nothing(name):
    """Unknowns in single precision beside a solver's own numbers in double; the function still promotes nothing."""
    x, find = jnp.full(4, 0.5, jnp.float32), FOUND[name]
    a = jnp.linspace(0.5, 1.5, 4, dtype=jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        found = [find(lambda x: x**3 + x - a, x)]
        if "root" in name or "fixed" in name:
            found += [jax.jit(lambda x: find(lambda x: x**3 + x - a, x))(x)]
            slope = jax.jit(jax.jacrev(lambda a: find(lambda x: x**3 + x - a, x)))(a)
            np.testing.assert_allclose(slope, np.diag(1 / (3 * found[0] ** 2 + 1)), rtol=1e-4, atol=1e-7)
        with pytest.raises(ValueError, match="strict"):
            find(lambda x: x**3 + x - a.astype(float), x)
    for got in found:
        assert got.dtype == jnp.float32
        roots = [np.real(z[abs(z.imag) < 1e-9][0]) for z in (np.roots([1, 0, 1, -float(c)]) for c in a)]
        np.testing.assert_allclose(got, roots, rtol=1e-5)
