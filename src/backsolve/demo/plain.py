"""Part two: the same net as a plain JAX function, trained under `jax.jit` with `backsolve.grad`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import backsolve
from backsolve.demo.train import Digits

Array = NDArray[Any]
State = tuple[list[Any], list[Any], list[Any]]  # parameters, and Adam's mean and square
Step = Callable[[State, Any, Any, Any], tuple[State, Any]]


def forward(parameters: Sequence[Any], X: Any) -> Any:
    """The net on the columns of X: tanh after every layer but the last."""
    last = len(parameters) - 2
    for i in range(0, len(parameters), 2):
        X = parameters[i] @ X + parameters[i + 1]
        X = jnp.tanh(X) if i < last else X
    return X


def loss(parameters: Sequence[Any], X: Any, Y: Any) -> Any:
    """The mean softmax cross-entropy against the one-hot columns of Y."""
    logs = jax.nn.log_softmax(forward(parameters, X), axis=0)
    return -jnp.mean(jnp.sum(Y * logs, axis=0))


def adam_step(value_and_grad: Callable[..., Any], rate: float = 3e-3) -> Step:
    """One step of Adam, jitted, its gradient by `backsolve.value_and_grad` or JAX's; gives the new state and the loss."""
    both = value_and_grad(loss)

    @jax.jit
    def step(state: State, t: Any, X: Any, Y: Any) -> tuple[State, Any]:
        parameters, mean, square = state
        value, gradient = both(parameters, X, Y)
        mean = [m + 0.1 * (g - m) for m, g in zip(mean, gradient)]
        square = [s + 0.001 * (g * g - s) for s, g in zip(square, gradient)]
        scale, shrink = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        moved = [p - rate * scale * m / (jnp.sqrt(shrink * s) + 1e-8) for p, m, s in zip(parameters, mean, square)]
        return (moved, mean, square), value

    return step


def initial_state(parameters: Sequence[Array]) -> State:
    """Adam's state at these parameters, in float32."""
    start = [jnp.asarray(p, jnp.float32) for p in parameters]
    return start, [jnp.zeros_like(p) for p in start], [jnp.zeros_like(p) for p in start]


def train(
    parameters: Sequence[Array], digits: Digits, *, steps: int, batch: int, seed: int = 0
) -> tuple[list[Array], list[float]]:
    """Adam on the minibatches of part one, in float32. Returns the new parameters and the loss of every step."""
    from tqdm import trange

    state, step = initial_state(parameters), adam_step(backsolve.value_and_grad)
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    bar = trange(1, steps + 1, desc="training, jitted", unit="step", disable=None)
    for t in bar:
        X, Y = arrays(digits.take(rng.choice(digits.labels.size, batch, replace=False)))
        state, value = step(state, jnp.float32(t), X, Y)
        losses.append(float(value))
        bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    return [np.asarray(p) for p in state[0]], losses


def predict(parameters: Sequence[Array], digits: Digits) -> Array:
    """The class of the largest output, for each picture."""
    return np.asarray(forward([jnp.asarray(p) for p in parameters], arrays(digits)[0]).argmax(axis=0))


def gradients(parameters: Sequence[Array], X: Array, Y: Array) -> tuple[list[Array], list[Array]]:
    """`backsolve.grad` and `jax.grad` of the loss, in float64, jitted."""
    with jax.enable_x64(True):
        values = [jnp.asarray(p, jnp.float64) for p in parameters]
        ours, theirs = (jax.jit(grad(loss))(values, X, Y) for grad in (backsolve.grad, jax.grad))
        return [np.asarray(g) for g in ours], [np.asarray(g) for g in theirs]


def seconds_per_step(parameters: Sequence[Array], digits: Digits, rounds: int = 201) -> tuple[float, float]:
    """Median seconds of one training step, by `backsolve.grad` and by `jax.grad`, measured in turn after a warm-up."""
    state, (X, Y), t = initial_state(parameters), arrays(digits), jnp.float32(1)
    steps = [adam_step(both) for both in (backsolve.value_and_grad, jax.value_and_grad)]
    samples: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 3):
        order = (0, 1) if i % 2 else (1, 0)
        for k in order:
            start = time.perf_counter()
            steps[k](state, t, X, Y)[1].block_until_ready()
            if i >= 3:
                samples[k].append(time.perf_counter() - start)
    return median(samples[0]), median(samples[1])


def arrays(digits: Digits) -> tuple[Any, Any]:
    """The pictures and their one-hot labels as JAX arrays in float32."""
    return jnp.asarray(digits.X, jnp.float32), jnp.asarray(digits.Y, jnp.float32)
