"""Loops taken apart where a derivative is solved with: right whatever the loop, and linear in its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture.solving import bordered_system

RNG = np.random.default_rng(3)
T, N = 12, 3
W = 0.4 * RNG.standard_normal((N, N))
X = RNG.standard_normal((T, N))
C0 = RNG.standard_normal(N)


def over(step, start=C0, **options):
    """All outputs of a scan over the rows of x."""
    return lambda x: lax.scan(step, start, x, **options)[1]


def dense_step(c, x):
    c = jnp.tanh(W @ c) + x
    return c, c * 2 + jnp.sin(x)


def with_counter(x):
    def body(t, carry):
        c, out = carry
        c = jnp.cos(c) * 0.3 + x[t] * (1.0 + t)
        return c, out.at[t].set(c)

    return lax.fori_loop(0, T, body, (C0, jnp.zeros_like(x)))[1]


def known_carry(x):
    """What is carried beside the tangents' own carry is known: a step that grows."""

    def step(carry, u):
        c, h = carry
        c = c * jnp.exp(-h) + u
        return (c, h * 1.1), c

    return lax.scan(step, (C0, 0.1), x)[1]


def several_leaves(x):
    def step(carry, u):
        a, b = carry
        a = jnp.sin(a) * 0.5 + jnp.tanh(b) * 0.1 + u
        b = 0.2 * b + jnp.sum(jnp.sin(a) ** 2)
        return (a, b), {"y": a + b, "z": u * jnp.cos(a)}

    out = lax.scan(step, (C0, 1.5), x)[1]
    return out["y"] + 0.3 * out["z"]


def constants_move(x):
    w = x[0] * 0.1

    def step(c, u):
        c = jnp.sin(c) * w + u
        return c, c

    return lax.scan(step, C0, x)[1]


def starts_from_x(x):
    def step(c, u):
        c = 0.5 * c + u * u
        return c, c + u

    return lax.scan(step, jnp.sum(x, axis=0), x)[1]


def loops_in_loops(x):
    def step(c, u):
        c = lax.fori_loop(0, 3, lambda i, c: 0.4 * jnp.roll(jnp.sin(c), 1) + u, c)
        return c, c + u

    return lax.scan(step, C0, x)[1]


def branches(x):
    def step(c, u):
        c = lax.cond(u[0] > 0, lambda c: jnp.sin(c) + u, lambda c: 0.3 * jnp.flip(c) + 2 * u, c)
        return c, c

    return lax.scan(step, C0, x)[1]


def batched(x):
    """T loops of N steps each, side by side."""

    def one(row):
        def step(c, u):
            c = jnp.sin(c) * 0.5 + u
            return c, c

        return lax.scan(step, 0.3, row)[1]

    return jax.vmap(one)(x.T).T


def checkpointed(x):
    @jax.checkpoint
    def step(c, u):
        c = jnp.tanh(W @ jnp.sin(c)) + u
        return c, c * jnp.cosh(u)

    return lax.scan(step, C0, x)[1]


def there_and_back(x):
    forward = over(dense_step)(x)
    return lax.scan(dense_step, C0, jnp.sin(forward), reverse=True)[1] + forward


def unrolled(x):
    return lax.scan(dense_step, C0, x, unroll=4)[1]


def two_at_once(x):
    return over(dense_step)(x) + over(lambda c, u: (0.9 * c + u, jnp.sin(c) * 0.2), C0)(x)


PROGRAMS = {
    "dense": over(dense_step),
    "reverse": over(dense_step, reverse=True),
    "diagonal": over(lambda c, u: (jnp.sin(c) + u, jnp.sin(c) + u)),
    "stencil": over(lambda c, u: (0.3 * (jnp.roll(c, 1) + c) + u, 0.3 * jnp.roll(c, 1) + u)),
    "counter": with_counter,
    "known carry": known_carry,
    "several leaves": several_leaves,
    "constants": constants_move,
    "start": starts_from_x,
    "loops in loops": loops_in_loops,
    "branches": branches,
    "batched": batched,
    "checkpoint": checkpointed,
    "there and back": there_and_back,
    "unrolled": unrolled,
    "two": two_at_once,
}


def dense(f, x):
    """The Jacobian as a matrix, by JAX."""
    n = x.size
    return np.asarray(jax.jacfwd(f)(x)).reshape(n, n)


def parts(system):
    """How many loops a bordered matrix has taken apart."""
    return [part.pieces for part in bordered_system(system).layout.cols if part.pieces > 1]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_solutions_through_loops(name, compiled):
    f = PROGRAMS[name]
    b = RNG.standard_normal((T, N))
    J = dense(f, X)
    assert np.linalg.cond(J) < 1e8

    def both(x, b):
        system = bs.linearize(f, x)
        return system.solve(b), system.solve_transpose(b)

    solution, transposed = (jax.jit(both) if compiled else both)(X, b)
    np.testing.assert_allclose(np.ravel(solution), np.linalg.solve(J, np.ravel(b)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.ravel(transposed), np.linalg.solve(J.T, np.ravel(b)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"counter", "batched"}))
def test_loops_are_taken_apart(name):
    assert T in parts(bs.linearize(PROGRAMS[name], X))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("compiled", [False, True])
def test_inverse_hessians_through_loops(name, compiled):
    f = PROGRAMS[name]

    def loss(x):
        return jnp.sum(f(x) ** 2) + jnp.sum(jnp.cosh(x))

    def product(x, v):
        return bs.inverse_hvp(loss, (x,), v, damping=1.0)

    v = RNG.standard_normal((T, N))
    H = np.asarray(jax.hessian(loss)(X)).reshape(X.size, X.size) + np.eye(X.size)
    u = (jax.jit(product) if compiled else product)(X, v)
    np.testing.assert_allclose(np.ravel(u), np.linalg.solve(H, np.ravel(v)), rtol=1e-7, atol=1e-9)


def rollout(u):
    """The cost of a pendulum's path under torques."""

    def step(state, torque):
        angle, speed = state
        state = jnp.stack([angle + 0.05 * speed, speed + 0.05 * (torque - jnp.sin(angle) - 0.4 * speed)])
        return state, state @ state + 0.01 * torque**2

    end, costs = lax.scan(step, jnp.array([1.0, 0.0]), u)
    return jnp.sum(costs) + 10 * end @ end


def test_optimal_control_is_linear_in_its_steps():
    entries = {}
    for steps in (100, 200, 10_000):
        u = jnp.asarray(0.1 * RNG.standard_normal(steps))
        matrix = bordered_system(bs.linearize(bs.grad(rollout), u))
        entries[steps] = matrix.layout.nnz
    assert entries[200] - entries[100] == (entries[10_000] - entries[200]) / 98
    u, v = jnp.asarray(0.1 * RNG.standard_normal(10_000)), jnp.asarray(RNG.standard_normal(10_000))
    x = bs.inverse_hvp(rollout, (u,), v)
    np.testing.assert_allclose(jax.jvp(jax.grad(rollout), (u,), (x,))[1], v, atol=1e-10)


def test_newton_through_a_loop():
    """All states of an implicit scheme as unknowns of a loop that checks them."""

    def residual(x):
        def step(before, now):
            return now, now - before - 0.1 * (jnp.sin(now) + 1)

        return lax.scan(step, jnp.zeros(2), x)[1]

    solution = bs.root(residual, jnp.zeros((50, 2)))
    before = np.zeros(2)
    for now in np.asarray(solution):
        np.testing.assert_allclose(now, before + 0.1 * (np.sin(now) + 1), atol=1e-12)
        before = now


def test_the_carry_is_named_by_loop_and_step():
    """Unknowns of a loop are named by its place in the source, the step and the entry: for errors of singular matrices."""

    def f(x):
        return lax.scan(lambda c, u: (jnp.where(jnp.arange(N) > 0, c + u, 0.0), c + jnp.flip(u)), C0, x)[1]

    layout = bordered_system(bs.linearize(f, X)).layout
    labels = [layout.column_label(k) for k in range(layout.size)]
    (label,) = (each for each in labels if each.endswith("at step 4, entry 2 of 3"))
    assert label.startswith("the carry of scan (")
    assert "test_recurrence.py" in label
    with pytest.raises(bs.SingularError, match=r"for its pattern alone: 12 of 72 unknowns"):
        bs.solve_jacobian(lambda x: f(x) * jnp.arange(N), X, X)


def test_what_is_smaller_whole_stays_whole():
    """The last carry of a small state has a small matrix of its own."""

    def last(x):
        return lax.fori_loop(0, 100, lambda i, c: jnp.tanh(W @ c) + 0.1, x)

    assert parts(bs.linearize(last, C0)) == []
