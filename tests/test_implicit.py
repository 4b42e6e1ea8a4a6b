"""root and fixed_point: values, derivatives in both modes against finite differences and jax.lax.custom_root, transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import ConvergenceError, fixed_point, root

RNG = np.random.default_rng(0)
W = 0.3 * RNG.standard_normal((4, 4))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def a0():
    return jnp.arange(4.0) / 3 - 0.4


def g(z, a):
    return jnp.tanh(W @ z + a)


def F(z, a):
    return z - g(z, a)


def by_fixed_point(a):
    return fixed_point(g, jnp.zeros(4), a)


def by_newton(a):
    return fixed_point(g, jnp.zeros(4), a, method="newton")


def by_root(a):
    return root(F, jnp.zeros(4), a)


def by_custom_root(a):
    """JAX's own, on an iteration of fixed length."""

    def solve(F, z0):
        return jax.lax.fori_loop(0, 200, lambda _, z: z - F(z), z0)

    def tangent_solve(linear, y):
        return jnp.linalg.solve(jax.jacobian(linear)(y), y)

    return jax.lax.custom_root(lambda z: F(z, a), jnp.zeros(4), solve, tangent_solve)


def scalar(s):
    return lambda a: jnp.sum(jnp.cos(s(a)))


MINE = [by_fixed_point, by_newton, by_root]
WAYS = {
    "value": lambda s: s(a0()),
    "jvp": lambda s: jax.jvp(s, (a0(),), (jnp.arange(4.0),))[1],
    "grad": lambda s: jax.grad(scalar(s))(a0()),
    "jit": lambda s: jax.jit(s)(a0()),
    "jit of jacrev": lambda s: jax.jit(jax.jacrev(s))(a0()),
    "vmap": lambda s: jax.jit(jax.vmap(s))(jnp.stack([a0(), 2 * a0()])),
    "hessian": lambda s: jax.jit(jax.hessian(scalar(s)))(a0()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mine", MINE)
def test_as_custom_root(mine, way):
    np.testing.assert_allclose(WAYS[way](mine), WAYS[way](by_custom_root), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("mine", MINE)
def test_derivatives_against_finite_differences(mine):
    a, h = a0(), 1e-5
    want = np.stack([(mine(a + h * e) - mine(a - h * e)) / (2 * h) for e in np.eye(4)], axis=1)
    np.testing.assert_allclose(jax.jacrev(mine)(a), want, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(jax.jacfwd(mine)(a), want, rtol=1e-5, atol=1e-8)


def test_what_the_function_closes_over_counts():
    def closed(a):
        return root(lambda z: F(z, a), jnp.zeros(4))

    a = a0()
    for f in (closed, jax.jit(closed)):
        np.testing.assert_allclose(f(a), by_root(a), rtol=1e-9)
        np.testing.assert_allclose(jax.jacrev(f)(a), jax.jacrev(by_root)(a), rtol=1e-9)
    batch = jnp.stack([a, 2 * a])
    np.testing.assert_allclose(jax.vmap(closed)(batch), jax.vmap(by_root)(batch), rtol=1e-9)


def test_the_start_has_no_derivative():
    np.testing.assert_array_equal(jax.grad(lambda z: jnp.sum(root(F, z, a0())))(jnp.zeros(4)), 0)


def test_backsolves_own_derivatives_pass_through():
    np.testing.assert_allclose(bs.grad(scalar(by_root))(a0()), jax.grad(scalar(by_root))(a0()), rtol=1e-9)


def test_trees_and_several_arguments():
    def G(z, p, s):
        return {"u": jnp.cos(p["w"] * z["v"]) * 0.5, "v": s * z["u"] ** 2 + 0.1}

    def solved(p, s):
        return fixed_point(G, {"u": jnp.zeros(2), "v": jnp.zeros(2)}, p, s)

    p, s = {"w": jnp.array([0.5, 1.0])}, 0.7
    z = solved(p, s)
    for name in "uv":
        np.testing.assert_allclose(G(z, p, s)[name], z[name], rtol=1e-9)
    by_s = jax.jacobian(solved, argnums=1)(p, s)
    h = 1e-5
    for name in "uv":
        want = (solved(p, s + h)[name] - solved(p, s - h)[name]) / (2 * h)
        np.testing.assert_allclose(by_s[name], want, rtol=1e-5, atol=1e-8)


def test_complex_fixed_points():
    def f(z, a):
        return jnp.exp(a * z) / 3

    z = fixed_point(f, 0.1 + 0.2j, 1j)
    np.testing.assert_allclose(f(z, 1j), z, rtol=1e-9)
    h = 1e-6
    want = (fixed_point(f, 0.1 + 0.2j, 1j + h, tol=1e-14) - fixed_point(f, 0.1 + 0.2j, 1j - h, tol=1e-14)) / (2 * h)
    np.testing.assert_allclose(jax.grad(lambda a: fixed_point(f, 0.1 + 0.2j, a), holomorphic=True)(1j), want, rtol=1e-5)


def test_an_iteration_that_does_not_converge():
    with pytest.raises(ConvergenceError, match="not converged in 5 steps: g does not contract") as caught:
        fixed_point(lambda z: 2 * z, jnp.ones(2), max_steps=5)
    assert caught.value.history["max |g(z) − z|"] == [1, 2, 4, 8, 16, 32]
    assert "3.200e+01" in str(caught.value)
    with pytest.raises(ConvergenceError, match="not converged in 9 steps"):
        fixed_point(lambda z: z**2, 2 * jnp.ones(2))
    with pytest.raises(ConvergenceError, match="newton is stuck"):
        root(lambda z: z**2 + 2, 1.0)
    np.testing.assert_allclose(fixed_point(lambda z: 2 * z - 1, jnp.ones(2) * 3, method="newton"), 1)


@pytest.mark.parametrize("method", ["iteration", "newton"])
def test_under_jit_it_is_nan(method):
    solve = jax.jit(lambda a: fixed_point(lambda z, a: z**2 + a, jnp.ones(2), a, max_steps=8, method=method))
    assert np.isnan(solve(3.0)).all()


def test_refusals():
    with pytest.raises(TypeError, match="z0 has dtype int"):
        root(lambda z: z**2 - 2.0, 1)
    with pytest.raises(TypeError, match="real and imaginary parts"):
        root(lambda z: z**2 + 2.0, 1 + 1j)
    with pytest.raises(ValueError, match=r"keep the shape of z: z0 has \(2,\), g\(z0\) has \(1,\)"):
        fixed_point(lambda z: z[:1], jnp.ones(2))
    with pytest.raises(ValueError, match="unknown method 'anderson'; use one of 'iteration', 'newton'"):
        fixed_point(lambda z: z, jnp.ones(2), method="anderson")
    with pytest.raises(ValueError, match="unknown engine 'lu'"):
        root(lambda z: z - 1, jnp.ones(2), engine="lu")
    with pytest.raises(ValueError, match="1 rows and 2 columns"):
        root(lambda z: z[:1] - 1, jnp.zeros(2))
    with pytest.raises(bs.SingularError, match="singular"):
        jax.grad(lambda a: fixed_point(lambda z, a: z + 0 * a, jnp.array(1.0), a))(1.0)
