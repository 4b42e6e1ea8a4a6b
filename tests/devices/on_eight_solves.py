"""Solutions lie where the unknowns do, concrete ones too, and are those of one device."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import backsolve as bs
from backsolve.xla import inline as inline_module

from ..quick import compilation

N = 64
x = jnp.linspace(0.1, 1.0, N)


@pytest.fixture(autouse=True)
def quickly():
    with compilation(quick=True):
        yield


@pytest.fixture
def spread():
    return NamedSharding(jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,)), P("d"))


def equations(u, a=0.0):
    return 4 * u + jnp.roll(u, 1) - jnp.roll(u, -1) + u**3 - a


def energy(u):
    return jnp.sum((u[1:] - u[:-1] ** 2) ** 2) + jnp.sum((1 - u) ** 2)


def check(got, want, where):
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
    assert got.sharding.is_equivalent_to(where, got.ndim)


@pytest.mark.parametrize("engine", ["auto", "gmres"])
def test_a_solve_ends_where_the_unknowns_lie(spread, engine):
    y, b = jax.device_put(x, spread), jax.device_put(jnp.cos(x), spread)
    want = np.linalg.solve(jax.jacobian(equations)(x), jnp.cos(x))

    def solved(y, b):
        return bs.linearize(equations, y).solve(b, engine=engine)

    check(solved(y, b), want, spread)
    check(jax.jit(solved)(y, b), want, spread)
    check(solved(y, jnp.cos(x)), want, spread)
    transposed = np.linalg.solve(jax.jacobian(equations)(x).T, jnp.cos(x))
    check(bs.linearize(equations, y).solve_transpose(b, engine=engine), transposed, spread)


def test_hessians_are_undone_where_the_parameters_lie(spread):
    y, b = jax.device_put(x, spread), jax.device_put(jnp.cos(x), spread)
    want = np.linalg.solve(jax.hessian(energy)(x) + 0.5 * np.eye(N), jnp.cos(x))
    check(bs.inverse_hvp(energy, (y,), b, damping=0.5), want, spread)
    check(jax.jit(lambda y, b: bs.inverse_hvp(energy, (y,), b, damping=0.5))(y, b), want, spread)
    two = {"w": y, "k": jnp.float32(2.0)}
    found = bs.inverse_hvp(lambda p: energy(p["w"]) + p["k"] ** 2, (two,), {"w": b, "k": jnp.float32(1.0)}, damping=0.5)
    check(found["w"], want, spread)
    np.testing.assert_allclose(found["k"], 0.4, rtol=1e-5)


def test_newton_ends_where_it_began(spread):
    y, a = jax.device_put(x, spread), jax.device_put(jnp.cos(x), spread)
    want = bs.newton(lambda u: equations(u, jnp.cos(x)), x, tol=1e-6).x
    check(bs.newton(lambda u: equations(u, a), y, tol=1e-6).x, want, spread)
    check(bs.root(equations, y, a, tol=1e-6), want, spread)
    check(bs.minimize_newton(energy, y, tol=1e-4).x, bs.minimize_newton(energy, x, tol=1e-4).x, spread)
    check(bs.gauss_newton(lambda u: equations(u, a), y, tol=1e-5).x, want, spread)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("in_context", [False, True])
def test_explicit_axes(jitted, in_context):
    """Elimination on whole arrays; where GMRES cannot work, another engine is named."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    X = jnp.cos(jnp.arange(64.0)).reshape(16, 4)

    def F(U):
        return 4 * U + jnp.roll(U, 1, 1) + U**3

    y, b = (jax.device_put(a, NamedSharding(mesh, P("d"))) for a in (X, jnp.sin(X)))
    want = np.linalg.solve(jax.jacobian(F)(X).reshape(64, 64), jnp.sin(X).reshape(64)).reshape(16, 4)
    with jax.set_mesh(mesh) if in_context else contextlib.nullcontext():
        for engine in ("auto", "bicgstab"):

            def solved(y, b, engine=engine):
                return bs.linearize(F, y).solve(b, engine=engine)

            check((jax.jit(solved) if jitted else solved)(y, b), want, y.sharding)
        with pytest.raises(TypeError, match="take engine='bicgstab'"):
            bs.linearize(F, y).solve(b, engine="gmres")


def test_a_function_runs_inline_where_a_mesh_is_set():
    """The program that calls it back is compiled once, and serves with a mesh of the caller's and without."""
    inline_module._program.cache_clear()
    f = jax.jit(lambda u: u @ u @ u)
    A = jnp.ones((300, 300))
    for mesh in (jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,)), None):
        with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
            assert float(inline_module.inline(lambda: f(A)[0, 0])) == 300**2
    assert inline_module.inline(lambda: f(A).is_ready())
