"""root and fixed_point: values, derivatives in both modes against finite differences and jax.lax.custom_root, transforms."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import ConvergenceError, fixed_point, root

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)
W = 0.3 * RNG.standard_normal((4, 4))


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


@cache
def of_custom_root(way):
    """What JAX's own gives."""
    return np.asarray(WAYS[way](by_custom_root))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mine", MINE)
def test_as_custom_root(mine, way):
    np.testing.assert_allclose(WAYS[way](mine), of_custom_root(way), rtol=1e-8, atol=1e-9)


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


# ---- when Newton's method stops: the traced loop as the eager one ---------------------------------------------------------
def test_a_root_from_far_and_its_derivative():
    def solved(a):
        return root(lambda z, a: jnp.exp(z) - a, 30.0, a)

    for s in (solved, jax.jit(solved)):
        np.testing.assert_allclose(s(2.0), np.log(2), rtol=1e-12)
        np.testing.assert_allclose(jax.grad(s)(2.0), 0.5, rtol=1e-9)
        np.testing.assert_allclose(jax.vmap(s)(jnp.array([2.0, 5.0])), np.log([2, 5]), rtol=1e-9)


ROOTS = {
    "logarithm": (jnp.log, 3.0, 1.0, 1e-9),
    "tangent": (lambda z: jnp.tan(z) - 5, 0.1, np.arctan(5), 1e-9),
    "from 1e12": (lambda z: z - jnp.cos(z), 1e12, 0.7390851332151607, 1e-9),
    "small": (lambda z: z**2 - 1e-20, 1.0, 1e-10, 1e-17),
    "zero": (lambda z: z + z**2, 0.5, 0.0, 1e-15),
    "zero with rounding": (lambda z: jnp.sin(z + jnp.pi), 0.5, 0.0, 1e-15),
    "double": (lambda z: z**2 - 2 * z + 1, 2.0, 1.0, 1e-7),
    "double at zero": (lambda z: z**2, 1.0, 0.0, 1e-15),
    "huge": (lambda z: 1e300 * (z**2 - 2), 1.0, np.sqrt(2), 1e-9),
    "scales": (
        lambda z: jnp.array([1e12 * (z[0] / 3 - 1 / 9), 1e-8 * jnp.arctan(z[1] - 2)]),
        np.array([1.0, 5]),
        [1 / 3, 2],
        1e-9,
    ),
    "at the root": (lambda z: z**2 - 2, np.sqrt(2), np.sqrt(2), 1e-15),
    "single precision": (lambda z: 1e12 * (z**3 - 2), np.float32(30.0), 2 ** (1 / 3), 1e-6),
    "single precision, lost in large terms": (lambda z, a: (z + a) - a - 1.1, np.float32(0.5), 1.1, 1e-3),
    "nothing": (lambda z: z, np.zeros(0), np.zeros(0), 0),
}


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("way", [lambda s: s, jax.jit], ids=["eager", "jit"])
def test_roots(name, way):
    F, z0, want, close = ROOTS[name]
    args = [np.float32(1e3)] * (F.__code__.co_argcount - 1) if hasattr(F, "__code__") else []
    found = way(lambda z, *args: root(F, z, *args))(jnp.asarray(z0), *args)
    np.testing.assert_allclose(found, want, atol=close)


ROOTLESS = {
    "parabola": (lambda z: z**2 + 1, 0.5),
    "almost": (lambda z: (z - 1) ** 2 + 1e-12, 2.0),
    "pole": (jnp.tan, np.pi / 2),
    "by a pole": (lambda z: 1 / (z - 1), 1 + 1e-11),
    "levels off": (lambda z: jnp.exp(-z), 0.0),
    "beyond the domain": (jnp.log, -1.0),
    "one entry": (lambda z: jnp.array([1e12 * (z[0] - 1), 1e-8 * (z[1] ** 2 + 1)]), np.array([3.0, 0.5])),
    "single precision": (lambda z: z**2 + 1e-6, np.float32(0.5)),
}


@pytest.mark.parametrize("name", ROOTLESS)
def test_functions_without_a_root(name):
    F, z0 = ROOTLESS[name]
    with pytest.raises(ConvergenceError, match=r"newton (is stuck|has not converged in 100 steps)"):
        root(F, z0)
    assert np.isnan(jax.jit(lambda z: root(F, z))(jnp.asarray(z0))).all()


def test_a_fixed_point_by_newton_is_one():
    """z + 1/z has none, though z comes as near to it as one likes (in floating point, to it)."""
    with pytest.raises(ConvergenceError, match="newton has not converged in 20 steps"):
        fixed_point(lambda z: z + 1 / z, 1.0, method="newton", max_steps=20)
    assert np.isnan(jax.jit(lambda z: fixed_point(lambda z: z + 1 / z, z, method="newton", max_steps=20))(1.0))
    np.testing.assert_allclose(fixed_point(lambda z: 1e-12 * jnp.cos(z), 30.0, method="newton"), 1e-12, rtol=1e-9)


def test_a_multiple_root_has_no_derivative():
    with pytest.raises(
        bs.SingularError, match=r"^the solution has no derivative, since the equation does not fix it: .* singular"
    ):
        jax.grad(lambda a: root(lambda z, a: (z - a) ** 2, 2.0, a))(2.0)


# ---- complex unknowns: by their real and imaginary parts ---------------------------------------------------------------
COMPLEX = {
    "holomorphic": (lambda z, a: z**2 - a, lambda a: np.sqrt(a)),
    "conjugate": (lambda z, a: z - 0.5 * jnp.conj(z) - a, lambda a: 2 * a.real + 2j * a.imag / 3),
    "in parts": (lambda z, a: [jnp.real(z) - a.real, jnp.imag(z) * 2 - a.imag], lambda a: a.real + 0.5j * a.imag),
    "of both kinds": (lambda z, a: jnp.abs(z) * z - a, lambda a: a / np.sqrt(abs(a))),
}


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("more", [{}, {"damping": 1.0}, {"lower": -np.inf}], ids=["plain", "damped", "infinite bounds"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_roots_and_their_derivatives(name, more, way):
    F, known = COMPLEX[name]

    def solved(u):
        return root(F, 1 + 1j, u[0] + 1j * u[1], **more)

    u, h = np.array([1.0, 2.0]), 1e-6
    z = way(solved)(u)
    assert jnp.iscomplexobj(z)
    np.testing.assert_allclose(z, known(1 + 2j), rtol=1e-9)

    def parts(u):
        return jnp.stack([jnp.real(solved(u)), jnp.imag(solved(u))])

    want = [(known(1 + h + 2j) - known(1 - h + 2j)) / (2 * h), (known(1 + (2 + h) * 1j) - known(1 + (2 - h) * 1j)) / (2 * h)]
    for jacobian in (jax.jacfwd, jax.jacrev):
        J = way(jacobian(parts))(u)
        np.testing.assert_allclose(J[0] + 1j * J[1], want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_holomorphic_derivative_is_complex(way):
    solved = way(lambda a: root(lambda z, a: jnp.exp(z) - a, 0j, a))
    np.testing.assert_allclose(jax.grad(solved, holomorphic=True)(1 + 2j), 1 / (1 + 2j), rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(solved)(jnp.array([1 + 2j, 2.0])), np.log([1 + 2j, 2]), rtol=1e-9)


def test_what_no_complex_number_solves():
    """|z|² is real, so that its Jacobian is singular; under jit the result is NaN."""
    with pytest.raises(bs.SingularError, match="newton cannot go on after 0 steps"):
        root(lambda z: z * jnp.conj(z) - (1 + 2j), 1 + 1j)
    assert np.isnan(jax.jit(lambda z: root(lambda z: z * jnp.conj(z) - (1 + 2j), z))(1 + 1j))
    with pytest.raises(ConvergenceError, match="no root"):
        root(lambda z: z * jnp.conj(z) - (1 + 2j), 1 + 1j, damping=1.0)


def test_complex_and_real_unknowns_side_by_side():
    def F(z, a):
        return {"a": z["a"] * z["b"] - a, "b": z["b"] - 2.0}

    z0 = {"a": 1j, "b": 1.0}
    for way in (lambda f: f, jax.jit):
        z = way(lambda a: root(F, z0, a, lower={"a": -np.inf, "b": 0.0}))(3 + 2j)
        np.testing.assert_allclose([z["a"], z["b"]], [1.5 + 1j, 2], rtol=1e-9)
        assert not jnp.iscomplexobj(z["b"])
    with pytest.raises(TypeError, match="lower bounds leaf 0 of x0, which is complex, and complex numbers have no order"):
        root(F, z0, 2.0, lower=0.0)
    np.testing.assert_allclose(fixed_point(lambda z: 0.5 * jnp.conj(z) + 1 + 1j, 0j, method="newton"), 2 + 2j / 3, rtol=1e-9)


# ---- bounds -------------------------------------------------------------------------------------------------------------
def equations(z, a):
    return jnp.array([z[0] ** 2 - a, z[1] * z[0] + a**2 - 3])


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_derivatives_between_bounds(sign, way):
    """Bounds choose the root; its derivative is that of the equations, by finite differences and by jax.jacobian."""

    def solved(a):
        ends = {"upper": jnp.array([0.0, np.inf])} if sign < 0 else {"lower": jnp.array([0.0, -np.inf])}
        return root(equations, jnp.array([sign * 0.1, 1.0]), a, **ends)

    a, h = 4.0, 1e-5
    z = way(solved)(a)
    np.testing.assert_allclose(z, [sign * 2, (3 - a**2) / (sign * 2)], rtol=1e-9)
    differences = (solved(a + h) - solved(a - h)) / (2 * h)
    known = jax.jacobian(lambda a: jnp.array([a**0.5, (3 - a**2) / a**0.5]) * sign)(a)
    for jacobian in (jax.jacfwd, jax.jacrev):
        J = way(jacobian(solved))(a)
        np.testing.assert_allclose(J, differences, rtol=1e-6)
        np.testing.assert_allclose(J, known, rtol=1e-9)
    many = jnp.array([2.0, 4.0, 9.0])
    np.testing.assert_allclose(jax.vmap(way(solved))(many)[:, 0], sign * np.sqrt(many), rtol=1e-9)


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_derivative_at_a_bound_is_one_of_the_side_with_a_root(way):
    def solved(a):
        return root(lambda z, a: jnp.array([z[0] - a, z[1] - jnp.cos(a) - z[0]]), jnp.ones(2), a, lower=0.0)

    h = 1e-6
    np.testing.assert_allclose(way(solved)(0.0), [0, 1], atol=1e-12)
    np.testing.assert_allclose(way(jax.jacobian(solved))(0.0), (solved(h) - solved(0.0)) / h, atol=1e-5)
    with pytest.raises(ConvergenceError, match=r"newton has found no root: .*at their bounds"):
        solved(-h)
    assert np.isnan(jax.jit(solved)(-h)).all()


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_root_that_a_bound_alone_fixes_has_no_derivative(way):
    """z₀² = 0 and z₀ ≥ 0: what a bound does is no part of the equations."""

    def solved(a):
        return root(lambda z, a: jnp.array([z[0] ** 2, z[1] - a]), jnp.array([0.0, 1.0]), a, lower=0.0)

    np.testing.assert_allclose(way(solved)(2.0), [0, 2], atol=1e-12)
    if way is jax.jit:  # nothing can be raised; what the equations fix is right
        np.testing.assert_allclose(way(jax.jacobian(solved))(2.0)[1], 1, rtol=1e-9)
    else:
        with pytest.raises(bs.SingularError, match="the solution has no derivative, since the equation does not fix it"):
            jax.jacobian(solved)(2.0)


def chain(z):
    """Broyden's tridiagonal function: Moré, Garbow and Hillstrom, problem 30."""
    v = jnp.pad(z, 1)
    return (3 - 2 * z) * z - v[:-2] - 2 * v[2:] + 1


TRACED = {
    "chain": (chain, np.full(20, -0.9), {"lower": -1.0, "upper": 0.0}),
    "chain from its bounds": (chain, np.full(20, -1.0), {"lower": -1.0, "upper": np.zeros(20)}),
    "circle": (lambda z: jnp.array([z @ z - 4, z[0] - z[1]]), np.array([0.1, 3.0]), {"lower": 0.0}),
    "singular start": (lambda z: jnp.array([z[0] ** 2 - 1, z[0] + z[1] - 2]), np.zeros(2), {"damping": 0.1}),
    "exponential from far": (lambda z: jnp.exp(z) - 2, np.array(5.0), {"damping": 1.0, "upper": 9.0}),
    "at the root": (lambda z: z - 1, np.ones(3), {"upper": 1.0}),
    "single precision": (lambda z: jnp.cos(z) - z, np.ones(1, np.float32), {"lower": 0.1, "damping": 0.1}),
}


@pytest.mark.parametrize("name", TRACED)
def test_damped_and_bounded_roots_traced_as_eager(name):
    F, z0, more = TRACED[name]
    eager, traced = (way(lambda z: root(F, z, **more))(jnp.asarray(z0)) for way in (lambda f: f, jax.jit))
    assert traced.dtype == jnp.asarray(z0).dtype
    np.testing.assert_allclose(traced, eager, rtol=1e-5 if z0.dtype == np.float32 else 1e-8)
    np.testing.assert_allclose(F(traced), 0, atol=1e-6 if z0.dtype == np.float32 else 1e-9)
    assert (traced >= more.get("lower", -np.inf)).all()
    assert (traced <= more.get("upper", np.inf)).all()


@pytest.mark.parametrize(
    ("z0", "more"), [(0.0, {"upper": 1.0}), (5.0, {"upper": 4.0}), (0.0, {"lower": 3.0, "upper": -3.0})]
)
def test_under_jit_no_root_between_bounds_is_nan(z0, more):
    assert np.isnan(jax.jit(lambda z: root(lambda z: z - 2, z, **{k: jnp.array(v) for k, v in more.items()}))(z0))
