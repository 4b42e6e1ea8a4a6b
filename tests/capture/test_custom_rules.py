"""Derivatives that a program's author wrote: pulled where they cannot be pushed, with what JAX gives and takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero

import backsolve as bs
from tests import reference

from .oracle import assert_close, assert_everywhere, assert_same, normal

X = np.array([1.0, 2.0, 3.0])


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))

WEIGHTS = np.arange(3, dtype=np.float64)


@jax.custom_vjp
def weighted(x):
    return jnp.sum(x * WEIGHTS)


weighted.defvjp(lambda x: (weighted(x), None), lambda _, g: (g * WEIGHTS,))


@jax.custom_vjp
def halved(x):
    return x * 1.0


halved.defvjp(lambda x: (x * 1.0, None), lambda _, g: (0.5 * g,))  # its author's derivative, not that of x


@jax.custom_vjp
def both(x, y):
    return jnp.sin(x) * y, x + y


both.defvjp(
    lambda x, y: (both(x, y), (x, y)), lambda r, g: (jnp.cos(r[0]) * r[1] * g[0] + g[1], jnp.sin(r[0]) * g[0] + g[1])
)

COMPOSITIONS = {
    "by itself": sine,
    "behind a matrix": lambda x: sine(normal(2, 3) @ x),
    "before a matrix": lambda x: normal(2, 3) @ sine(x),
    "between": lambda x: jnp.exp(normal(4, 3) @ sine(normal(3, 3) @ x) * 0.1),
    "a scalar": lambda x: weighted(x) * x,
    "twice": lambda x: sine(sine(x)) + halved(x),
    "several outputs": lambda x: both(x, x[::-1])[0] * both(x, 2.0 * x)[1],
    "in a loop": lambda x: lax.scan(lambda c, a: (sine(c * a), c), x, jnp.arange(1.0, 3.0))[0],
    "in a branch": lambda x: lax.cond(x[0] > 0, sine, halved, x),
    "under vmap": lambda x: jax.vmap(sine)(x.reshape(3, 1)).reshape(3) * x,
    "masked": lambda x: jnp.where(x > 1.5, sine(jax.nn.relu(x - 1.2)), x),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_vector_functions_with_a_pullback_alone(name):
    f, x = COMPOSITIONS[name], jnp.asarray(X)
    assert_everywhere(bs.jacobian, f, (x,), reference.jacrev(f)(x))


def test_second_derivatives():
    x = jnp.asarray(X)

    def f(x):
        return jnp.sum(sine(x) ** 2 * halved(x))

    assert_everywhere(bs.hessian, f, (x,), reference.jacrev(jax.jacrev(f))(x))


def test_pushing_is_refused_as_by_jax():
    with pytest.raises(TypeError, match=r"can't apply forward-mode .* custom_vjp(.|\n)*backsolve: in forward mode through"):
        bs.jvp(sine, (jnp.asarray(X),), (jnp.asarray(X),))


def returning(make):
    """The sum of x, with a gradient of some kind of array."""

    @jax.custom_vjp
    def f(x):
        return jnp.sum(x)

    f.defvjp(lambda x: (jnp.sum(x), None), lambda _, g: (make(),))
    return f


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    "make",
    [lambda: WEIGHTS, lambda: WEIGHTS.astype(np.float64), lambda: jnp.asarray(WEIGHTS)],
    ids=["numpy", "float", "jax"],
)
def test_rules_that_return_other_arrays(make, way):
    f = returning(make)
    assert_close(way(bs.grad(f))(jnp.ones(3)), WEIGHTS)
    assert_same(way(bs.grad(f))(jnp.ones(3)), reference.grad(f)(jnp.ones(3)))


def test_rules_that_return_numbers():
    @jax.custom_vjp
    def f(x):
        return x * 2.0

    f.defvjp(lambda x: (x * 2.0, None), lambda _, g: (7.0,))
    for run in (bs.grad(f), jax.jit(bs.grad(f))):
        assert_close(run(3.0), 7.0)


@jax.custom_vjp
def timed(x, ts):
    return jnp.sin(x)


def timed_back(res, g):
    x, ts = res
    return lax.scan(lambda c, i: (c + 0 * ts[i], None), g, jnp.arange(2))[0] * jnp.cos(x), jnp.zeros_like(ts)


timed.defvjp(lambda x, ts: (timed(x, ts), (x, ts)), timed_back)


def test_residuals_are_arrays_of_jax():
    """A constant among them is indexed in a loop, which a NumPy array cannot be."""
    for constant in (jnp.array([0.0, 1.0]), np.array([0.0, 1.0])):
        for run in (bs.grad, lambda f: jax.jit(bs.grad(f))):
            assert_close(run(lambda x, ts=constant: timed(x, ts))(1.0), np.cos(1.0))
    assert_close(bs.jacobian(lambda x: timed(x, jnp.array([0.0, 1.0])) * x)(2.0), np.cos(2.0) * 2 + np.sin(2.0))


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_cotangents_of_auxiliary_outputs(way):
    A, v = jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])

    def solved(a, b):
        def solve(mv, r):
            return jnp.linalg.solve(a, r), {"steps": jnp.array(1.0)}

        return lax.custom_linear_solve(lambda x: a @ x, b, solve, solve, symmetric=True, has_aux=True)

    assert_close(way(bs.grad(lambda a: solved(a, v)[0].sum()))(A), reference.grad(lambda a: jnp.linalg.solve(a, v).sum())(A))
    assert_close(way(bs.jacobian(lambda b: solved(A, b)[0]))(v), np.linalg.inv(A))


def test_symbolic_zeros():
    seen = []

    @jax.custom_vjp
    def two(x, y):
        return jnp.sin(x), jnp.cos(y)

    def back(res, g):
        seen.append([isinstance(part, SymbolicZero) for part in g])
        x, y = res
        return (
            jnp.zeros_like(x) if isinstance(g[0], SymbolicZero) else jnp.cos(x) * g[0],
            jnp.zeros_like(y) if isinstance(g[1], SymbolicZero) else -jnp.sin(y) * g[1],
        )

    two.defvjp(lambda x, y: (two(x.value, y.value), (x.value, y.value)), back, symbolic_zeros=True)

    def f(x):
        return two(x, x * 2)[0] * x

    expected = reference.grad(f)(1.0)
    assert seen == [[False, True]]
    for run in (bs.grad(f), jax.jit(bs.grad(f)), bs.jacobian(f), bs.jacobian(f, order="forward")):
        assert_close(run(1.0), expected)
    assert [False, True] in seen[1:]
    assert [False, False] not in seen


def test_tangents_of_another_shape_are_refused():
    """A constant value under vmap, whose batch JAX drops: its gradient once had the shape of a scalar."""
    f = jax.custom_jvp(lambda x: jnp.zeros(x.shape, x.dtype))
    f.defjvp(lambda p, t: (f(p[0]), t[0]))
    for way in (lambda g: g, jax.jit):
        with pytest.raises(TypeError, match=r"custom_jvp_call .* its derivative has shape \(3,\), its value shape \(\)"):
            way(bs.grad(lambda x: jax.vmap(f)(x).sum()))(jnp.arange(3.0))


@jax.custom_vjp
def flagged(x, count):
    """Beside its values, what it counted and whether; in its residuals a flag and a number of Python's."""
    return jnp.sin(x), count + 1, x[0] > 0, jnp.cumsum(x)


def flagged_back(res, g):
    x, scaled, times = res
    assert scaled is True
    assert isinstance(times, int)
    return times * jnp.cos(x) * g[0] + jnp.cumsum(g[3][::-1])[::-1], None


flagged.defvjp(lambda x, count: (flagged(x, count), (x, True, 1)), flagged_back)


def test_flags_among_residuals_and_counts_among_values():
    """As those of equinox's loops, which diffrax is differentiated by."""
    x = jnp.asarray(X)

    def f(x):
        y, count, up, total = flagged(x, 2)
        return jnp.where(up, y * total, total) / count + y

    assert_everywhere(bs.jacobian, f, (x,), reference.jacrev(f)(x))
