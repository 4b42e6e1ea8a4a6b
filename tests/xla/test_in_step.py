"""Loops in step are one loop: with JAX's numbers, in an order that they can be evaluated in, and none that need not be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.tracing import jaxpr as jx
from backsolve.xla.in_step import in_step
from tests import reference

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="a habit of XLA's on the CPU")
X = np.random.default_rng(0).uniform(0.5, 1.0, (5, 3))


def cholesky(x):
    A = jnp.outer(x, x) + 3 * jnp.eye(3)

    def column(j, L):
        rest = A[:, j] - L @ L[j]
        return L.at[:, j].set(jnp.where(jnp.arange(3) < j, 0.0, rest / jnp.sqrt(rest[j])))

    return lax.fori_loop(0, 3, column, jnp.zeros((3, 3)))


def states(x, reverse=False):
    """What is put down at each step is a result too."""

    def step(c, t):
        c = jnp.sin(c) * x[0] + t * c[::-1]
        return c, c**2

    return lax.scan(step, x, jnp.arange(4.0), reverse=reverse)


def one_after_another(x):
    """The second reads what the first has put down, and what it carries in the end; the third has another length."""
    end, squares = states(x)
    other, sums = lax.scan(lambda c, y: (jnp.cos(c) * y, c.sum() + y @ x), end, squares)
    return lax.fori_loop(0, 7, lambda i, c: jnp.tanh(c) + sums[i % 4] * x, other)


def there_and_back(x):
    end, squares = states(x)
    return states(end, reverse=True)[0] * lax.scan(lambda c, y: (c * jnp.sin(y), None), x, squares, reverse=True)[0]


def inside_of_another(x):
    def step(i, c):
        return jnp.tanh(states(c)[0] + lax.fori_loop(0, 2, lambda j, d: x * jnp.sin(d), c))

    return lax.fori_loop(0, 3, step, x)


def tuples(x):
    """Numbers in place of arrays, as they come unpacked."""
    a, b, c = x

    def step(i, s):
        return s[0] + 0.1 * a * s[1], s[1] - 0.1 * b * jnp.sin(s[0]) + c * s[2], s[2] * s[0]

    return jnp.stack(lax.fori_loop(0, 5, step, (c, a, b)))


@pytest.mark.parametrize(
    "f", [cholesky, states, one_after_another, there_and_back, inside_of_another, tuples], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("order", ["auto", "forward", "reverse", "markowitz"])
def test_a_jacobian_through_loops_is_that_of_jax(f, order):
    J = bs.jacobian(f, order=order)
    expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X)
    for found in (jax.vmap(J)(X), jax.jit(jax.vmap(J))(X), jax.vmap(jax.jit(J))(X)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found, expected)
    for found in (J(X[0]), jax.jit(J)(X[0])):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-10, atol=1e-12), found, expected)


@pytest.mark.parametrize("f", [cholesky, one_after_another, there_and_back, tuples], ids=lambda f: f.__name__)
def test_a_hessian_through_loops_is_that_of_jax(f):
    def loss(x):
        return jnp.sum(f(x) ** 2)

    H = bs.hessian(loss)
    expected = reference.compiled(jax.vmap(jax.hessian(loss)))(X)
    np.testing.assert_allclose(jax.jit(jax.vmap(H))(X), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(jax.jit(H)(X[0]), expected[0], rtol=1e-9, atol=1e-10)
    (value, gradient, matrix) = jax.jit(bs.value_grad_and_hessian(loss))(X[0])
    np.testing.assert_allclose(matrix, expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(gradient, reference.grad(loss)(X[0]), rtol=1e-10)
    np.testing.assert_allclose(value, loss(X[0]), rtol=1e-12)


def loops(jaxpr):
    return sum(eqn.primitive.name == "scan" for eqn in jaxpr.eqns)


def test_columns_go_through_a_loop_beside_it():
    for J in (bs.jacobian(cholesky), bs.value_and_jacobian(cholesky)):
        assert loops(jax.make_jaxpr(jax.jit(J))(X[0]).eqns[0].params["jaxpr"].jaxpr) == 1


def in_one(f, *args):
    jaxpr, consts, _ = jx.trace(f, args)
    found, own = in_step(jaxpr, consts, args)
    for got, expected in zip(jx.eval_jaxpr(found, own, *args), jx.eval_jaxpr(jaxpr, consts, *args), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    return loops(found)


def running(x, y, scale=1.0):
    """A loop that puts something down, and its end."""
    return lax.scan(lambda c, v: (jnp.sin(c) + scale * v, c * v), x, y)


def test_what_is_between_two_loops_stays_in_order():
    def f(x, y):
        end, given = running(x, y)
        before, after = jnp.cos(y[0]), jnp.cos(end)  # of what the second needs, and of what the first leaves
        other, put_down = running(before, given)
        return [other, put_down, after, given]

    assert in_one(f, jnp.float64(0.3), jnp.arange(4.0)) == 1


def test_loops_are_apart_where_one_needs_the_end_of_the_other():
    def f(x, y):
        end, given = running(x, y)
        return list(running(end, given))

    def by_a_sum(x, y):
        _, given = running(x, y)
        return list(running(x, given, jnp.sum(given)))

    def moved(x, y):
        _, given = running(x, y)
        return list(running(x, given[::-1]))

    def both(x, y):
        _, given = running(x, y)
        return [lax.scan(lambda c, v: (jnp.sin(c) * v + given[0], None), x, given)[0]]  # sliced, and whole

    assert in_one(f, jnp.float64(0.3), jnp.arange(4.0)) == 2
    assert in_one(by_a_sum, jnp.float64(0.3), jnp.arange(4.0)) == 2
    assert in_one(moved, jnp.float64(0.3), jnp.arange(4.0)) == 2
    assert in_one(both, jnp.float64(0.3), jnp.arange(4.0)) == 2


def test_two_pairs_that_need_each_other_are_not_both_joined():
    def f(x, y):
        (end, given), (last, others) = running(x, y), running(2 * x, y)
        (a, first), (b, second) = running(last, given), running(end, others)
        return [a, first, b, second]

    assert in_one(f, jnp.float64(0.3), jnp.arange(4.0)) == 3


def test_several_loops_join_one():
    def f(x, y):
        given = running(x, y)[1]
        twice = running(x, given)[1]
        return [*running(x, twice), running(2 * x, given)[0], jnp.sum(given)]

    assert in_one(f, jnp.float64(0.3), jnp.arange(4.0)) == 1
    assert in_one(lambda x, y: [jnp.sin(running(x, y)[0])], jnp.float64(0.3), jnp.arange(4.0)) == 1
