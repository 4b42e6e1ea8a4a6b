"""JAX's internals behind one door: the same answers on every series, a warning and an error where there is none."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.tracing import series
from tests import reference
from tests.series import NEWEST, OLDEST, SERIES

pytestmark = pytest.mark.usefixtures("double_precision")


def run(code):
    """The code in a process of its own, where nothing is imported yet; what it prints."""
    return subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False)


def test_this_series_is_a_tested_one():
    assert OLDEST <= SERIES[:2] <= NEWEST
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        series.check_series(SERIES)


def test_a_newer_jax_warns_once_and_works():
    faked = "import jax; jax.version.__version_info__ = (0, 99, 1)\nimport backsolve as bs\n"
    program = "f = lambda x: x**3\nprint(bs.grad(f)(2.0), bs.jacobian(f)(3.0), bs.hessian(f)(1.0))"
    done = run(faked + program)
    assert done.stdout.split() == ["12.0", "27.0", "6.0"], done.stderr
    assert done.stderr.count("JAX 0.99.1 is newer than what backsolve was tested with") == 1
    assert 'pip install "jax>=0.8,<0.13"' in done.stderr


def test_an_older_jax_is_refused():
    with pytest.raises(
        ImportError, match=r'needs JAX 0\.8 to 0\.\d+, and this is JAX 0\.7\.2; install .* pip install "jax>=0\.8'
    ):
        series.check_series((0, 7, 2))


def test_a_missing_internal_is_one_clear_error():
    with pytest.raises(
        ImportError, match=r"uses jax\._src\.core:gone or jax\._src\.gone:x of JAX's internals, which JAX .* install"
    ):
        series.internal("jax._src.core:gone", "jax._src.gone:x")
    done = run("import jax, jax._src.core as core; del core.eval_trace\nimport backsolve as bs; bs.grad")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: backsolve uses jax._src.core:eval_trace of JAX's internals"), done.stderr
    assert jax.__version__.startswith(".".join(map(str, SERIES[:2])))


def test_the_first_of_several_places_is_taken():
    assert series.internal("jax._src.gone:x", "jax.numpy:tanh", "jax.numpy:sin") is jnp.tanh


def test_linearized():
    """Outputs, which of them move, and their tangents, as `jax.jvp` has them."""
    x, t = jnp.array([0.3, 0.7]), jnp.array([1.0, -2.0])

    def f(x):
        return [jnp.sin(x) * x, jnp.ones(3), jnp.sum(x)]

    out, moves, closed = series.linearized(f, [x])
    assert moves == [True, False, True]
    for a, b in zip(out, f(x), strict=True):
        np.testing.assert_allclose(a, b)
    tangents = series.eval_jaxpr(closed.jaxpr, closed.consts, t)
    expected = jax.jvp(f, (x,), (t,))[1]
    np.testing.assert_allclose(tangents[0], expected[0])
    np.testing.assert_allclose(tangents[1], expected[2])


def test_scan_counts():
    def f(a, c, d, x):
        return jax.lax.scan(lambda carry, x: ((carry[0] * a + x, carry[1]), x), (c, d), x)

    eqn = next(e for e in jax.make_jaxpr(f)(2.0, 1.0, 3, jnp.ones(4)).eqns if e.primitive.name == "scan")
    stays, carried = series.scan_counts(eqn.params)
    assert len(eqn.invars) - stays - carried == 1
    assert 1 <= carried <= 2
    assert stays >= 1


def sheared(a, x0, xs):
    """A loop whose operands lie mixed: what stays, what moves, and what is sliced."""

    @jax.custom_vjp
    def loop(x0, xs):
        return jnp.sum(x0) * jnp.sum(xs)

    def forward(x0, xs):
        return loop(x0, xs), (x0, xs)

    def backward(kept, g):
        x0, xs = kept
        fixed = jnp.sin(x0)
        end, steps = jax.lax.scan(lambda c, x: (c * 0.5 + g * x[0] * fixed, g * x[1] + c), g * x0, (xs, xs * a))
        return end, jnp.cumsum(steps[::-1]) * 0.1

    loop.defvjp(forward, backward)
    return loop(x0, xs) ** 2


def test_a_loop_in_a_pullback_is_transposed():
    """Of its operands those that move need not come in the order that JAX's own rules give them."""
    a, x0, xs = jnp.float64(0.7), jnp.float64(0.4), jnp.array([0.2, 0.5, -0.3])
    expected = reference.grad(sheared, (1, 2))(a, x0, xs)
    for way in (lambda f: f, jax.jit):
        for order in ("auto", "forward", "reverse"):
            found = way(bs.jacobian(sheared, (1, 2), order=order))(a, x0, xs)
            for m, n in zip(found, expected, strict=True):
                np.testing.assert_allclose(m, n, rtol=1e-12)


def reaction_diffusion(y):
    """Two fields on a ring, coupled with each other at each place; only the first one diffuses."""
    u, v = y
    return jnp.stack([jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1) + u * v, v - u])


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_taking_an_array_to_pieces_keeps_the_pattern(way):
    """`u, v = y` is an equation of its own since JAX 0.11: 120 entries of 1,600, on every series."""
    y = jnp.linspace(0.1, 2.0, 40).reshape(2, 20)
    assert bs.sparsity(reaction_diffusion, y).nnz == 6 * 20
    J = way(lambda y: bs.jacobian(reaction_diffusion, format="sparse")(y).todense())(y)
    np.testing.assert_allclose(np.reshape(J, (2, 20, 2, 20)), reference.jacobian(reaction_diffusion)(y), rtol=1e-12)


def test_pieces_of_a_loop_and_of_a_batch_keep_the_pattern():
    def steps(y):
        def step(state, _):
            a, b, c = state
            return jnp.stack([a * b, b, c + 0.1 * jnp.sin(c)]), None

        return jax.lax.scan(step, y, None, length=3)[0]

    y = jnp.arange(1.0, 16.0).reshape(3, 5)
    assert bs.sparsity(steps, y).nnz == 4 * 5
    x = jnp.arange(1.0, 13.0).reshape(6, 2)
    assert bs.sparsity(jax.vmap(lambda p: jnp.hypot(*p)), x).nnz == 12


def test_equations_of_a_higher_kind_are_compiled():
    """`searchsorted` is one since JAX 0.12, alone and inside of a loop or a branch."""
    knots, x = jnp.linspace(0.0, 1.0, 5), jnp.array([0.1, 0.6, 0.9])

    def spline(x):
        k = jnp.clip(jnp.searchsorted(knots, x) - 1, 0, 3)
        return (x - knots[k]) ** 2 * jnp.arange(1.0, 5.0)[k]

    def both(x):
        return jax.lax.cond(x[0] > 0, spline, lambda x: -x, x) + jax.lax.map(spline, x[:, None])[:, 0]

    expected = reference.jacobian(both)(x)
    for way in (lambda f: f, jax.jit):
        np.testing.assert_allclose(way(bs.jacobian(both))(x), expected, rtol=1e-12)
        np.testing.assert_allclose(way(lambda x: bs.jacobian(both, format="sparse")(x).todense())(x), expected, rtol=1e-12)
        np.testing.assert_allclose(way(bs.grad(lambda x: both(x).sum()))(x), expected.sum(0), rtol=1e-12)
