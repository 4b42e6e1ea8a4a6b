"""Loops over complex numbers: taken apart where they are linear over the complex numbers, else whole, and right anyhow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture.solving import bordered_system

from .oracle import complex_normal, normal

T, N = 10, 3
B, C = complex_normal(N, 2), complex_normal(2, N, seed=1)
P = normal(N), normal(N), normal(T, 2)  # decay and frequency of each mode, and what comes in


def modes(decay, frequency):
    return jnp.exp(-jnp.exp(decay) + 1j * frequency)


def recurrent_unit(p):
    """A diagonal linear recurrence of complex modes, between real numbers (a linear recurrent unit)."""
    decay, frequency, x = p
    lam = modes(decay, frequency)
    h = lax.scan(lambda h, u: (lam * h + u,) * 2, jnp.zeros(N, complex), x @ B.T)[1]
    return jnp.sum(jnp.tanh((h @ C.T).real) ** 2)


def holomorphic_steps(p):
    decay, frequency, x = p
    W = jnp.outer(modes(decay, frequency), jnp.ones(N)) / N
    h = lax.scan(lambda h, u: (jnp.tanh(W @ h) + u,) * 2, jnp.zeros(N, complex), x @ B.T, reverse=True)[1]
    return jnp.sum(jnp.abs(h) ** 2)


def conjugating(p):
    decay, frequency, x = p
    lam = modes(decay, frequency)
    h = lax.scan(lambda h, u: (lam * jnp.conj(h) + u,) * 2, jnp.zeros(N, complex), x @ B.T)[1]
    return jnp.sum(jnp.abs(h) ** 2)


def absolute_values(p):
    decay, frequency, x = p
    lam = modes(decay, frequency)
    h = lax.scan(lambda h, u: (lam * h / (1 + jnp.abs(h)) + u,) * 2, jnp.zeros(N, complex), x @ B.T)[1]
    return jnp.sum(jnp.abs(h) ** 2)


def real_and_complex(p):
    decay, frequency, x = p
    lam = modes(decay, frequency)

    def step(carry, u):
        h, r = carry
        return (lam * h + u[0] * (1 + 1j) * r, jnp.sin(r) + u[1]), h

    return jnp.sum(jnp.abs(lax.scan(step, (jnp.ones(N, complex), 0.3), x)[1]) ** 2)


APART = {"recurrent unit": recurrent_unit, "holomorphic": holomorphic_steps}
WHOLE = {"conjugating": conjugating, "absolute values": absolute_values, "real and complex": real_and_complex}


@pytest.mark.parametrize("name", [*APART, *WHOLE])
@pytest.mark.parametrize("way", ["in_parallel", "unfolded"])
def test_derivatives(name, way):
    f = (APART | WHOLE)[name]
    nodes = []

    def ours(p, t):
        system = bs.linearize(f, p)
        other = getattr(system, way)()
        nodes.append((system.L.shape[0], other.L.shape[0]))
        return other.vjp(1.0), other.jvp(t), other.jacobian()

    t = jax.tree_util.tree_map(jnp.cos, P)
    gradient, change, J = jax.jit(ours)(P, t)
    expected = jax.jit(lambda p, t: (jax.grad(f)(p), jax.jvp(f, (p,), (t,))[1]))(P, t)
    for a, b in zip((*gradient, change, *J), (*expected[0], expected[1], *expected[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert (nodes[0][1] > nodes[0][0]) == (name in APART)


def test_a_complex_recurrence_has_a_pullback_without_a_loop():
    system = bs.linearize(recurrent_unit, P, loops="parallel")
    program = jax.jit(lambda system: system.vjp(1.0)).lower(system).compile()
    assert " while(" not in program.as_text()


@pytest.mark.parametrize("compiled", [False, True])
def test_solutions_through_a_holomorphic_loop(compiled):
    W = complex_normal(N, N, seed=2) / 4

    def f(z):
        return lax.scan(lambda h, u: (jnp.sin(W @ h) + u, jnp.sin(W @ h) + u), jnp.zeros(N, complex), z)[1]

    z, b = complex_normal(T, N, seed=3), complex_normal(T, N, seed=4)
    system = bs.linearize(f, z)
    assert [part.pieces for part in bordered_system(system).layout.cols if part.pieces > 1] == [T]
    J = np.asarray(jax.jit(jax.jacobian(f, holomorphic=True))(z))

    def both(z, b):
        system = bs.linearize(f, z)
        return system.solve(b), system.solve_transpose(b)

    x, y = (jax.jit(both) if compiled else both)(z, b)
    A = J.reshape(T * N, T * N)
    np.testing.assert_allclose(np.ravel(x), np.linalg.solve(A, np.ravel(b)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.ravel(y), np.linalg.solve(A.T, np.ravel(b)), rtol=1e-10, atol=1e-12)
    for given in ("array", "sparse"):
        ours = bs.jacobian(f, holomorphic=True, format=given)(z)
        np.testing.assert_allclose(ours if given == "array" else ours.todense(), J, rtol=1e-10, atol=1e-12)
