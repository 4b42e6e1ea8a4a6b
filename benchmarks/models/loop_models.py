"""What `loops` differentiates: functions of one vector with a loop inside, as people write them with `jax.lax`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.models.sparse_models import SparseModel

Array = Any
STEP = 0.01


def heat(n: int, steps: int) -> SparseModel:
    """The heat equation on a ring with a weak source, explicit steps: each reaches one neighbour further."""

    def function(u: Array) -> Array:
        def step(u: Array, _: None) -> tuple[Array, None]:
            return u + 0.1 * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) + 0.01 * jnp.sin(u), None

        return lax.scan(step, u, None, length=steps)[0]

    return SparseModel(f"heat, {n:,} points, {steps} steps", function, _normal(n))


def _oscillators(s: Array) -> Array:
    return jnp.stack([s[1], jnp.sin(s[0]) + s[2], s[3], -s[2] * s[0]])


def _runge_kutta(s: Array, _: None) -> tuple[Array, None]:
    f = _oscillators
    k1 = f(s)
    k2 = f(s + STEP / 2 * k1)
    k3 = f(s + STEP / 2 * k2)
    k4 = f(s + STEP * k3)
    return s + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None


def shooting(segments: int) -> SparseModel:
    """Defects of multiple shooting: each segment of five Runge–Kutta steps ends where the next one starts."""

    def function(z: Array) -> Array:
        starts = z.reshape(segments, 4)
        ends = jax.vmap(lambda s: lax.scan(_runge_kutta, s, None, length=5)[0])(starts)
        return (ends[:-1] - starts[1:]).reshape(-1)

    return SparseModel(f"shooting, {segments:,} segments", function, _normal(4 * segments))


def collocation(segments: int) -> SparseModel:
    """Defects of a path whose dynamics are a `fori_loop` of five Euler steps."""

    def function(z: Array) -> Array:
        states = z.reshape(segments, 4)
        ends = jax.vmap(lambda s: lax.fori_loop(0, 5, lambda i, y: y + STEP * _oscillators(y), s))(states[:-1])
        return (states[1:] - ends).reshape(-1)

    return SparseModel(f"collocation, {segments:,} segments", function, _normal(4 * segments))


def mapped(n: int) -> SparseModel:
    """`lax.map` of a function of one number."""
    return SparseModel(f"map, {n:,} numbers", lambda x: lax.map(lambda v: jnp.sin(v) * v**2, x), _normal(n))


def wave(side: int, steps: int) -> SparseModel:
    """A nonlinear wave on a square with periodic ends, by leapfrog."""

    def function(x: Array) -> Array:
        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            u, before = carry
            around = jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1)
            return (2 * u - before + 0.1 * (around - 4 * u) - 0.01 * jnp.sin(u), u), None

        u = x.reshape(side, side)
        return lax.scan(step, (u, u), None, length=steps)[0][0].reshape(-1)

    return SparseModel(f"wave, {side}², {steps} steps", function, _normal(side * side))


def gru(steps: int, width: int = 16, inputs: int = 4) -> SparseModel:
    """The last state of a gated recurrent unit, by its inputs: a full matrix with few rows."""
    rng = np.random.default_rng(1)
    W, U = 0.3 * rng.standard_normal((3, width, width)), 0.3 * rng.standard_normal((3, inputs, width))

    def function(x: Array) -> Array:
        def step(h: Array, v: Array) -> tuple[Array, None]:
            update, reset = jax.nn.sigmoid(v @ U[0] + h @ W[0]), jax.nn.sigmoid(v @ U[1] + h @ W[1])
            return (1 - update) * jnp.tanh(v @ U[2] + reset * (h @ W[2])) + update * h, None

        return lax.scan(step, jnp.zeros(width, x.dtype), x.reshape(-1, inputs))[0]

    return SparseModel(f"GRU, {steps:,} steps, by inputs", function, _normal(steps * inputs))


def kalman(steps: int) -> SparseModel:
    """The log-likelihood of a Kalman filter in one dimension, by the logarithms of its noises and its decay."""
    seen = np.sin(0.01 * np.arange(float(steps)))

    def function(p: Array) -> Array:
        def step(carry: tuple[Array, Array], y: Array) -> tuple[tuple[Array, Array], Array]:
            mean, variance = p[2] * carry[0], p[2] ** 2 * carry[1] + jnp.exp(p[0])
            total = variance + jnp.exp(p[1])
            gain, error = variance / total, y - mean
            return (mean + gain * error, (1 - gain) * variance), (jnp.log(total) + error**2 / total) / 2

        zero, one = jnp.zeros((), p.dtype), jnp.ones((), p.dtype)
        return jnp.sum(lax.scan(step, (zero, one), jnp.asarray(seen, p.dtype))[1])

    return SparseModel(f"Kalman filter, {steps:,} steps, Hessian", function, np.array([-1.0, 0.0, 0.9]), second=True)


def rollout(steps: int) -> SparseModel:
    """The cost of torques on a damped pendulum that a `scan` rolls out: optimal control by single shooting."""

    def function(torques: Array) -> Array:
        def step(state: Array, torque: Array) -> tuple[Array, Array]:
            angle, speed = state
            state = jnp.stack([angle + 0.05 * speed, speed + 0.05 * (torque - jnp.sin(angle) - 0.4 * speed)])
            return state, state @ state + 0.01 * torque**2

        end, costs = lax.scan(step, jnp.array([1.0, 0.0], torques.dtype), torques)
        return jnp.sum(costs) + 10 * end @ end

    return SparseModel(f"optimal control, {steps:,} steps", function, 0.1 * _normal(steps), second=True)


def flight(steps: int) -> SparseModel:
    """The cost of the two thrusts of a planar quadrotor, from which a `scan` of Runge–Kutta steps rolls out its path."""

    def rate(state: Array, thrusts: Array) -> Array:
        both, tilt = thrusts[0] + thrusts[1], state[2]
        forces = [-both * jnp.sin(tilt), both * jnp.cos(tilt) - 1, thrusts[1] - thrusts[0]]
        return jnp.concatenate([state[3:], jnp.stack(forces)])

    def function(thrusts: Array) -> Array:
        def step(s: Array, u: Array) -> tuple[Array, Array]:
            k1 = rate(s, u)
            k2 = rate(s + STEP / 2 * k1, u)
            k3 = rate(s + STEP / 2 * k2, u)
            s = s + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + rate(s + STEP * k3, u))
            return s, s @ s + 0.01 * (u - 0.5) @ (u - 0.5)

        end, costs = lax.scan(step, jnp.full(6, 0.3, thrusts.dtype), thrusts.reshape(steps, 2))
        return jnp.sum(costs) + 10 * end @ end

    return SparseModel(f"quadrotor, {steps:,} steps", function, 0.5 + 0.1 * _normal(2 * steps), second=True)


def _normal(n: int) -> Array:
    return np.random.default_rng(0).standard_normal(n)
