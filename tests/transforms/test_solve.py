"""solve_jacobian and inverse_hvp: against the dense solution, concretely and under jit, vmap, grad and jvp."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

from .. import reference
from ..engines.installed import GENERAL, SUITESPARSE

pytestmark = pytest.mark.usefixtures("double_precision")

RNG = np.random.default_rng(0)
A = RNG.standard_normal((4, 4))
x, b = RNG.standard_normal((2, 4))


def F(x):
    return jnp.tanh(A @ x) + x**3 + x


def f(x):
    return jnp.sum(jnp.log(1 + jnp.exp(A @ x))) + jnp.sum(x**4) / 12 + jnp.sum(x**2)


def dense(x, b):
    return jnp.linalg.solve(reference.jacobian(F)(x), b)


def dense_hessian(x, b, damping):
    return jnp.linalg.solve(reference.hessian(f)(x) + damping * jnp.eye(4), b)


def close(a, b, rtol=1e-9):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.abs(b).max()))


WAYS = {
    "jit": lambda s: jax.jit(s)(x, b),
    "vmap": lambda s: jax.vmap(s)(jnp.stack([x, b, x - b]), jnp.stack([b, x, b])),
    "vmap of b": lambda s: jax.vmap(s, (None, 0))(x, jnp.stack([b, x, b])),
    "jacfwd": lambda s: jnp.stack(jax.jit(jax.jacfwd(s, (0, 1)))(x, b)),
    "jacrev": lambda s: jnp.stack(jax.jit(jax.jacrev(s, (0, 1)))(x, b)),
    "hessian": lambda s: jax.jit(jax.hessian(lambda x: jnp.sum(jnp.sin(s(x, b)))))(x),
}


@pytest.mark.parametrize("engine", ["blocks", "superlu", *GENERAL])
@pytest.mark.parametrize("way", WAYS)
def test_transforms(way, engine):
    solve = WAYS[way]
    close(solve(lambda x, b: bs.solve_jacobian(F, x, b, engine=engine)), solve(dense))


def test_iterations_under_transforms():
    for way in ("jit", "jacrev"):
        close(WAYS[way](lambda x, b: bs.solve_jacobian(F, x, b, engine="gmres")), WAYS[way](dense), 1e-7)


def test_the_derivative_against_finite_differences():
    def s(x, b):
        return jnp.sum(jnp.cos(bs.solve_jacobian(F, x, b)))

    by_x, by_b = jax.grad(s, (0, 1))(x, b)
    for k, e in enumerate(1e-5 * np.eye(4)):
        np.testing.assert_allclose(by_x[k], (s(x + e, b) - s(x - e, b)) / 2e-5, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(by_b[k], (s(x, b + e) - s(x, b - e)) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("engine", ["superlu", "blocks", "cg", *SUITESPARSE])
@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_inverse_hvp(engine, damping):
    close(bs.inverse_hvp(f, (x,), b, damping, engine=engine), dense_hessian(x, b, damping), 1e-8 if engine == "cg" else 1e-9)


def test_inverse_hvp_undoes_hvp():
    close(bs.hvp(f, (x,), (bs.inverse_hvp(f, (x,), jnp.asarray(b)),)), b)


def test_inverse_hvp_under_transforms():
    """By x, by b and by the damping."""

    def mine(x, b, damping):
        return bs.inverse_hvp(f, (x,), b, damping)

    close(
        jax.vmap(mine, (None, None, 0))(x, b, jnp.arange(3.0)),
        jax.vmap(dense_hessian, (None, None, 0))(x, b, jnp.arange(3.0)),
    )
    for way in (jax.jacfwd, jax.jacrev):
        for got, want in zip(*(jax.jit(way(g, (0, 1, 2)))(x, b, 0.3) for g in (mine, dense_hessian)), strict=True):
            close(got, want)


def test_inverse_hvp_of_several_primals():
    def g(x, y):
        return jnp.sum(x**2 * y["a"] ** 2) + jnp.sum(x**4) + jnp.sum(y["a"] ** 4) + y["b"] ** 2 * x[0] + y["b"] ** 2

    args = jnp.asarray(x), {"a": jnp.asarray(b), "b": jnp.asarray(3.0)}
    flat, unflat = jax.flatten_util.ravel_pytree(args)
    rhs = RNG.standard_normal(9)
    want = unflat(jnp.linalg.solve(reference.hessian(lambda v: g(*unflat(v)))(flat) + jnp.eye(9), rhs))
    for primals in (args, list(args)):
        got = bs.inverse_hvp(g, primals, unflat(jnp.asarray(rhs)), 1.0)
        assert jax.tree.structure(got) == jax.tree.structure(want)
        for p, q in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            close(p, q)


@pytest.mark.parametrize("flat", [False, True])
def test_parameters_of_a_net(flat):
    """As a list of matrices and as one vector."""
    W = 0.5 * RNG.standard_normal((3, 3, 3))

    def loss(Ws):
        h = jnp.ones(3)
        for k in range(3):
            h = jnp.tanh(Ws[k] @ h)
        return jnp.sum(h**2)

    v = jnp.asarray(W.ravel())
    rhs = jnp.asarray(RNG.standard_normal(27))
    want = jnp.linalg.solve(reference.hessian(lambda v: loss(v.reshape(3, 3, 3)))(v) + 0.3 * jnp.eye(27), rhs)
    if flat:
        got = bs.inverse_hvp(lambda v: loss(v.reshape(3, 3, 3)), (v,), rhs, 0.3)
    else:
        got = jnp.ravel(jnp.stack(bs.inverse_hvp(loss, (list(jnp.asarray(W)),), list(rhs.reshape(3, 3, 3)), 0.3)))
    close(got, want)


def test_a_singular_system_under_jit_is_nan_or_told():
    def s(x, engine):
        return bs.solve_jacobian(lambda x: jnp.ones((4, 4)) @ jnp.sin(x), x, b, engine=engine)

    assert (
        not np.isfinite(jax.jit(lambda x: s(x, "blocks"))(x)).all()
        or np.abs(jax.jit(lambda x: s(x, "blocks"))(x)).max() > 1e10
    )
    with pytest.raises(Exception, match=r"singular to working precision: the pivot of source 0"):
        jax.jit(lambda x: s(x, "superlu"))(x).block_until_ready()


def test_refusals():
    with pytest.raises(TypeError, match="primals of inverse_hvp must be a tuple or list"):
        bs.inverse_hvp(f, jnp.asarray(x), b)
    with pytest.raises(TypeError, match=r"scalar output, but F returns shape \(4,\)"):
        bs.inverse_hvp(F, (x,), b)
    with pytest.raises(bs.SingularError, match="4 of 4 unknowns have no equation"):
        bs.inverse_hvp(jnp.sum, (jnp.asarray(x),), b)
    close(bs.inverse_hvp(jnp.sum, (jnp.asarray(x),), b, 0.5), 2 * b)
