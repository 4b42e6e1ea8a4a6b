"""Loops over small arrays are one function each: their numbers are JAX's wherever they stand, and the process lives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

import backsolve as bs
from backsolve.transforms.repeated import Repeated
from backsolve.xla import small_loops
from backsolve.xla.one_kernel import KNOWN, SERIES

known = pytest.mark.skipif(SERIES[:3] > KNOWN, reason="a release that it was not tried with")
pytestmark = [
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="a habit of XLA's on the CPU"),
    pytest.mark.usefixtures("as_users_compile"),
]
U = 0.3 * np.random.default_rng(0).normal(size=(40, 3))
W = np.random.default_rng(1).normal(size=(3, 3))


def rolled(step, **options):
    """The sum of what a loop carries last and puts down, as a function of what it reads at each step."""

    def loss(u):
        end, out = lax.scan(step, jnp.asarray([1.0, 0.5, -0.2], u.dtype), u, **options)
        return jnp.sum(end**2) + sum(map(jnp.sum, jax.tree.leaves(out)))

    return loss


def path(s, u):
    def rate(s):
        return jnp.stack([s[1], jnp.sin(s[2]) * u[0], jnp.cos(s[0]) + u[1] * s[2]])

    k = rate(s)
    s = s + 0.05 * (k + rate(s + 0.1 * k))
    return s, s @ s + 0.1 * u @ u


def counted(carry, u):
    n, s = carry
    s = jnp.where(n % 3 == 0, s * u, s + u) + 0.1 * s[n % 2]
    return (n + 1, s), (n > 4, s[1])


def counting(u):
    (_, s), (_, out) = lax.scan(counted, (0, jnp.ones(3)), u)
    return s @ s + jnp.sum(out)


LOSSES = {
    "path": rolled(path),
    "backwards": rolled(path, reverse=True),
    "several steps at a time": rolled(lambda s, u: (jnp.sin(s) * u, s[0]), unroll=3),
    "layer": rolled(lambda s, u: (jnp.tanh(W @ s + u), jnp.outer(s, u))),
    "calls and rules": rolled(lambda s, u: (jax.nn.silu(jax.jit(jnp.roll)(s, 1)) + u, jnp.max(s * u))),
    "what a step reads is fixed": lambda u: rolled(lambda s, v: (s * u[1] + jnp.sin(v), u[0] @ v))(u),
    "nothing is read": lambda u: lax.scan(lambda s, _: (jnp.sin(s) * u[0], s[1]), u[1], None, length=9)[1].sum(),
    "nothing is put down": lambda u: lax.scan(lambda s, v: (s * jnp.cos(v), None), u[0], u)[0].sum(),
    "nothing is carried": lambda u: lax.map(lambda v: jnp.sin(v) * v[0], u).sum(),
    "no steps": lambda u: rolled(path)(u[:0]) + u.sum(),
    "one step": lambda u: rolled(path)(u[:1]),
    "unread": lambda u: lax.scan(lambda s, v: (0 * s + v, (s, jnp.sin(v))), u[0], u)[1][1][3].sum(),
    "known": lambda u: rolled(path)(jnp.asarray(U)) * u.sum(),
    "one after the other": lambda u: rolled(path)(lax.scan(lambda s, v: (s + v, jnp.sin(s)), u[0], u)[1]),
    "counted": counting,
    "loops in loops": rolled(lambda s, u: (lax.fori_loop(0, 3, lambda _, s: s + 0.1 * jnp.sin(s) * u, s), u[0])),
    "routines": rolled(lambda s, u: (jnp.linalg.solve(W + 9 * jnp.eye(3), s) + u, s[0])),
    "choices": rolled(lambda s, u: (lax.cond(s[0] > 0, jnp.sin, lambda s: 2 * s, s) + u, s[0])),
    "a random key": rolled(lambda s, u: (s * jax.random.uniform(jax.random.key(3), (3,)) + u, s[0])),
}
DERIVATIVES = {
    "grad": lambda of, g: of.grad(g),
    "many": lambda of, g: jax.vmap(of.grad(lambda u: g(u) * u[0, 0])),
    "jit in vmap": lambda of, g: jax.vmap(jax.jit(of.grad(g))),
    "forward over it": lambda of, g: lambda u: jax.jvp(of.grad(g), (u,), (jnp.cos(u),)),
    "reverse over it": lambda of, g: jax.grad(lambda u: jnp.sum(of.grad(g)(u) ** 2)),
    "twice": lambda of, g: of.grad(lambda u: jnp.sum(of.grad(g)(u) ** 2)),
    "in a loop": lambda of, g: lambda u: lax.fori_loop(0, 2, lambda _, u: u - 0.01 * of.grad(g)(u), u),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_through_them(name):
    for derivative in ("grad", "forward over it"):
        ours, theirs = (jax.tree.leaves(jax.jit(DERIVATIVES[derivative](of, LOSSES[name]))(U)) for of in (bs, jax))
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("loss", ["path", "layer", "counted"])
def test_wherever_they_stand(name, loss):
    at = np.stack([U, 2 * U]) if name in ("many", "jit in vmap") else U
    ours, theirs = (jax.tree.leaves(jax.jit(DERIVATIVES[name](of, LOSSES[loss]))(at)) for of in (bs, jax))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_in_less_precision(dtype):
    u = jnp.asarray(U[:9], dtype)
    ours, theirs = (jax.jit(of.grad(rolled(path)))(u) for of in (bs, jax))
    assert ours.dtype == theirs.dtype
    rounding = 40 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=rounding, atol=rounding)


@known
@pytest.mark.parametrize("name", ["path", "backwards", "layer", "what a step reads is fixed"])
def test_each_is_one_function(name):
    text = jax.jit(bs.grad(LOSSES[name])).lower(U).compile().as_text()
    calls = [line for line in text.splitlines() if re.match(r" *%small_loop\S* = .* call\(.*xla_cpu_small_call", line)]
    assert len(calls) == text.count(" while(") == 2


@known
def test_not_where_arrays_are_large_or_there_is_more_than_loops(monkeypatch):
    def calls(loss):
        return "small_loop" in jax.jit(bs.grad(loss)).lower(U).as_text()

    assert calls(LOSSES["path"])
    assert not any(calls(LOSSES[name]) for name in ("loops in loops", "routines", "choices"))
    monkeypatch.setattr(small_loops, "_LARGEST", 2)
    assert not calls(rolled(path))


@pytest.mark.skipif(SERIES < (0, 10), reason="JAX itself could not transpose such a gradient")
@pytest.mark.parametrize("wrt", ["all", "some"])
def test_a_linear_gradient_is_transposed(wrt):
    def loss(u):
        end, out = lax.scan(lambda s, v: (W @ s + v, s), u[0], u)
        return end @ end + jnp.sum(out**2)

    def linear(of):
        gradient = jax.jit(of.grad(loss))
        return gradient if wrt == "all" else lambda u: jax.jit(lambda a, u: jnp.sum(a) * gradient(u))(U, u)

    assert "small_loop" in str(jax.make_jaxpr(linear(bs))(U))
    ours, theirs = (jax.linear_transpose(linear(of), U)(jnp.cos(U)) for of in (bs, jax))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10)


def test_what_is_exported_runs_anywhere():
    gradient = jax.jit(bs.grad(rolled(path)))
    shape = jax.ShapeDtypeStruct(U.shape, U.dtype)
    for platforms in (["cpu"], ["cpu", "tpu"]):
        program = export.export(gradient, platforms=platforms)(shape)
        np.testing.assert_allclose(program.call(U), jax.grad(rolled(path))(U), rtol=1e-12)


def test_newtons_steps_read_what_these_put_down_and_name_the_users_line():
    """The loops of a gradient are in the functions, and the matrix of its derivative is made of them nevertheless."""
    loss = rolled(path)
    work = Repeated(bs.grad(loss), U)
    np.testing.assert_allclose(work.value(work.x0), jax.grad(loss)(U).reshape(-1), rtol=1e-12)
    hessian = jax.hessian(loss)(U).reshape(120, 120)
    step = work.inverse(work.x0).solve(np.ones(120))
    np.testing.assert_allclose(step, np.linalg.solve(hessian, np.ones(120)), rtol=1e-7, atol=1e-9)
    labels = [part.label for part in work._matrix[False, False].layout.rows if part.pieces > 1]
    assert labels
    assert all("test_small_loops.py" in label for label in labels)
