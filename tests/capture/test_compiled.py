"""Jacobians compiled into larger programs: differentiated again, in loops and branches, with inputs that go unread."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from tests import reference

from .oracle import assert_close, assert_same, unit

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts devices of a CPU")
X = unit(5)


def f(x):
    """Divisions and roots, each a kernel of its own to XLA, and read by all that follows."""
    a, b, c, d, e = x
    r = jnp.sqrt(a * b + c) / (d + e)
    s = jnp.where(r > a, jnp.exp(-r) / b, jnp.sin(r * e))
    return jnp.stack([r * s / c, s / r + a, jnp.maximum(r, s) * d, jnp.tanh(s) / e])


def test_nan_in_a_jacobian_as_outside_jit():
    for x in (np.full(5, np.nan), np.array([0.0, 1, 1, 1, -1]), np.array([np.inf, 1, 1, 1, 1])):
        got = jax.jit(bs.jacobian(f))(x)
        np.testing.assert_allclose(got, bs.jacobian(f)(x), rtol=1e-9)
        assert np.isnan(got).all() or not np.isnan(x).all()


@pytest.mark.parametrize("inner", [bs.jacobian, lambda f: jax.jit(bs.jacobian(f))], ids=["plain", "jitted"])
def test_it_is_differentiated_again(inner):
    want = reference.jacobian(jax.jacobian(f))(X)
    for outer in (jax.jacfwd, jax.jacrev, bs.jacobian):
        assert_same(jax.jit(outer(inner(f)))(X), want)
    assert_close(jax.jit(bs.hessian(lambda x: f(x).sum()))(X), reference.hessian(lambda x: f(x).sum())(X))
    assert_close(jax.grad(lambda x: inner(f)(x).sum())(X), reference.grad(lambda x: jax.jacobian(f)(x).sum())(X))
    assert_close(bs.grad(lambda x: inner(f)(x).sum())(X), reference.grad(lambda x: jax.jacobian(f)(x).sum())(X))
    moved = [jax.jvp(lambda x, y, J=J: J(f)(x * y), (X, X), (X, np.zeros(5)))[1] for J in (inner, jax.jacobian)]
    assert_close(*moved)


def test_inside_loops_and_conditions():
    def newton(J):
        def step(x, _):
            return x - 0.1 * (J(f)(x).T @ f(x)), J(f)(x)[0, 0]

        return lambda x: lax.scan(step, x, None, length=4)

    assert_same(jax.jit(newton(bs.jacobian))(X), jax.jit(newton(jax.jacobian))(X))
    ends = [
        lax.while_loop(lambda x: x.sum() < 20, lambda x, J=J: x + abs(J(f)(x)).sum(), X) for J in (bs.jacobian, jax.jacobian)
    ]
    assert_close(*ends)
    got, want = (
        jax.jit(lambda x, J=J: lax.cond(x[0] > 0, J(f), lambda x: jnp.zeros((4, 5)), x))(X)
        for J in (bs.jacobian, jax.jacobian)
    )
    assert_same(got, want)
    got, want = (jax.jit(lambda xs, J=J: lax.map(J(f), xs))(unit(3, 5)) for J in (bs.jacobian, jax.jacobian))
    assert_same(got, want)
    assert_same(jax.jit(jax.checkpoint(bs.jacobian(f)))(X), reference.jacobian(f)(X))


def test_trees_dtypes_and_what_is_constant():
    def g(p, k):
        return {"a": p["x"] * k / 3, "b": [p["y"] ** 2 / p["x"], 7.0]}

    p = {"x": jnp.float32(2.0), "y": jnp.float64(3.0), "n": 4}
    for fun, kwargs in ((g, {}), (lambda p, k: (g(p, k), {"aux": p["x"] / k, "one": 1}), {"has_aux": True})):
        got, want = (jax.jit(J(fun, allow_int=True, **kwargs))(p, 5) for J in (bs.jacobian, jax.jacrev))
        assert_same(got, want)
    assert_same(jax.jit(bs.jacobian(lambda x: jnp.ones(3)))(X), reference.jacobian(lambda x: jnp.ones(3))(X))
    for weak in (2.0, jnp.float32(2.0)):
        got, want = (transform(bs.jacobian(lambda x: jnp.sin(x) / x))(weak) for transform in (jax.jit, lambda J: J))
        assert (got.dtype, got.weak_type) == (want.dtype, want.weak_type)
    y = unit(5, seed=3)
    got, want = (jax.jit(lambda y, J=J: J(lambda x: f(x * y))(X))(y) for J in (bs.jacobian, jax.jacobian))
    assert_same(got, want)  # what is closed over is traced
    assert_same(
        jax.jit(bs.jacobian(lambda z: jnp.sin(z) / z, holomorphic=True))(1.0 + 2j),
        reference.jacobian(lambda z: jnp.sin(z) / z, holomorphic=True)(1.0 + 2j),
    )


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: 3.0 * x,
        lambda x, y: jnp.where(jnp.array(True), 3.0 * x, x * y),
        lambda x, y: jnp.concatenate([x * y, x])[2:],
        lambda x, y: x,
        lambda x, y: (x, x, y * 2),
        lambda x, y: x * (y.astype(int) * 0),
        lambda x, y: jnp.pad(x * y, (2, 2))[:2] + x,
        lambda x, y: jnp.clip(x * y, 2.0, 2.0) * x,
        lambda x, y: (x + 0, y.reshape(2, 1)),
    ],
)
@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_inputs_that_simplify_away(fun, argnums):
    args = unit(2), unit(2, seed=1)
    assert_same(jax.jit(bs.jacobian(fun, argnums))(*args), reference.jacobian(fun, argnums)(*args))


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_an_input_that_is_donated():
    x = jnp.asarray(unit(3))
    want = reference.jacobian(lambda x: jnp.sin(x) / x)(x)
    assert_same(jax.jit(bs.jacobian(lambda x: jnp.sin(x) / x), donate_argnums=0)(x), want)
    square = jnp.asarray(unit(1, 1))
    got = jax.jit(bs.jacobian(lambda x: (x / (x + 1))[0]), donate_argnums=0)(square)
    assert_close(got, 1 / (unit(1, 1)[None] + 1) ** 2)


def test_errors_are_those_of_a_call_outside_jit():
    with pytest.raises(TypeError, match="leaf 0 of the arguments has dtype int"):
        jax.jit(bs.jacobian(f))(np.arange(5))
    with pytest.raises(TypeError, match="returns dtype int32"):
        jax.jit(bs.jacobian(lambda x: x.astype(jnp.int32)))(X)
    with pytest.raises(ValueError, match="unknown order 'sideways'"):
        jax.jit(bs.jacobian(f, order="sideways"))(X)


@ON_CPU
def test_it_is_exported_for_other_platforms():
    exported = jax.export.export(jax.jit(bs.jacobian(f)), platforms=["cuda"])(jnp.asarray(X))
    assert exported.platforms == ("cuda",)
    both = jax.export.export(jax.jit(bs.jacobian(f)), platforms=["cpu", "cuda"])(jnp.asarray(X))
    assert_close(both.call(jnp.asarray(X)), reference.jacobian(f)(X))


@ON_CPU
def test_on_several_devices():
    """A partitioner splits what it can look into."""
    script = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    import backsolve as bs
    mesh = Mesh(np.array(jax.devices()), "i")
    f = lambda x: jnp.sin(x) / (x * x + jnp.roll(x, 1)) + jnp.cos(x[0])
    x = jax.device_put(jnp.linspace(0.1, 0.9, 8), NamedSharding(mesh, P("i")))
    program = jax.jit(bs.jacobian(f)).lower(x)
    np.testing.assert_allclose(program.compile()(x), jax.jacobian(f)(x), rtol=1e-5, atol=1e-6)
    column = lambda x: jax.jit(bs.jacobian(lambda y: y / (y * y + 1)))(x).sum(0)
    local = jax.shard_map(column, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
    np.testing.assert_allclose(jax.jit(local)(x), (1 - x**2) / (x**2 + 1) ** 2, rtol=1e-5)
    print(len(jax.devices()), "devices")
    """
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 devices" in done.stdout


def test_a_constant_start_and_a_loop():
    """A Jacobian at a constant and again in a loop, as in a Newton iteration, once ended the process."""

    def newton(y, J):
        j = J(lambda x: x**2 - y)
        return lax.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 0.9, j(s[1] * 0.9)), (0, 1.0, j(1.0)))[2]

    assert_close(*(jax.jit(lambda y, J=J: newton(y, J))(5.0) for J in (bs.jacobian, jax.jacobian)))
    start = jnp.ones(3)
    jacobians = [
        jax.jit(lambda y, J=J: lax.fori_loop(0, 4, lambda i, A: A @ J(lambda x: jnp.sin(x) * y)(A[0]), J(jnp.sin)(start)))
        for J in (bs.jacobian, jax.jacobian)
    ]
    assert_close(*(run(unit(3)) for run in jacobians))


def divides(x):
    d, W = 2 + unit(4), jnp.arange(16.0).reshape(4, 4) / 8
    return W @ jnp.log(W @ (x / d) + 1)


def dense_jacobian(system, format):
    J = system.jacobian(format=format)
    return J if format == "array" else J.toarray() if format == "sparse" else J[0, 0].todense()


@pytest.mark.parametrize("format", ["array", "operator", "sparse"])
def test_a_system_serves_inside_jit_and_then_outside(format):
    """What an operator keeps, the reciprocal of a divisor, say, belongs to no trace that it outlives."""
    x = unit(4)
    system, expected = bs.linearize(divides, x), jax.jacobian(divides)(x)
    assert_close(jax.jit(lambda t: t * dense_jacobian(system, format))(2.0), 2 * expected)
    assert_close(jnp.asarray(dense_jacobian(system, format)), expected)


@pytest.mark.parametrize("around", ["jit", "vmap", "grad"])
@pytest.mark.parametrize("format", ["array", "operator", "sparse"])
def test_a_traced_system_serves_in_a_loop_and_then_outside(format, around):
    def through(x, jacobian):
        inside = lax.fori_loop(0, 2, lambda i, total: total + jacobian(), jnp.zeros((4, 4)))
        return inside + jnp.sin(jacobian())

    def ours(x):
        system = bs.linearize(divides, x)
        return through(x, lambda: dense_jacobian(system, format))

    def theirs(x):
        return through(x, lambda: jax.jacobian(divides)(x))

    transform = {"jit": jax.jit, "vmap": jax.vmap, "grad": lambda f: jax.jacfwd(lambda x: jnp.sum(f(x), axis=0))}[around]
    x = jnp.stack([unit(4), 2 * unit(4)]) if around == "vmap" else unit(4)
    assert_close(transform(ours)(x), transform(theirs)(x))
