"""An equilibrium layer in a net for digits: its gradient by the implicit function theorem, beside the unrolled one.

The layer's output is the z with  z = tanh(A z + U x + c)  (Bai, Kolter and Koltun, 2019), found by `backsolve.fixed_point`:
whatever number of iterations that takes, the gradient is one linear solve at the end and keeps none of them.

It is the layer that is solved with here, not the training: for training nets by SGD an inverse Hessian is no win, and a
negative result is published (the reproduction report of a-rahimi/hessian, arXiv 2601.06096).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import backsolve
from backsolve.demo.train import load

try:
    from common import command_line, timed
    from gains import gains
except ImportError:  # imported as a module, by the tests
    from .common import command_line, timed
    from .gains import gains

WIDTH = 12
CONTRACTION = 0.7  # of the layer, at most: the iteration converges
UNROLLED = 60  # iterations that the other gradient goes through


def start() -> dict[str, Any]:
    """The parameters at first."""
    rng = np.random.default_rng(0)
    shapes = {"A": (WIDTH, WIDTH), "U": (WIDTH, 64), "c": (WIDTH,), "V": (10, WIDTH), "d": (10,)}
    return {key: jnp.asarray(0.2 * rng.standard_normal(shape)) for key, shape in shapes.items()}


def layer(z: Any, p: dict[str, Any], x: Any) -> Any:
    """One application of the layer, to the states of one picture."""
    A = CONTRACTION * p["A"] / jnp.maximum(CONTRACTION, jnp.linalg.norm(p["A"]))
    return jnp.tanh(A @ z + p["U"] @ x + p["c"])


def implicit(p: dict[str, Any], x: Any) -> Any:
    """The layer's equilibrium, with the derivative of the equation."""
    return backsolve.fixed_point(layer, jnp.zeros(WIDTH), p, x, tol=1e-10)


def unrolled(p: dict[str, Any], x: Any) -> Any:
    """The same by so many iterations, with the derivative through all of them."""
    return jax.lax.scan(lambda z, _: (layer(z, p, x), None), jnp.zeros(WIDTH), length=UNROLLED)[0]


def loss_with(equilibrium: Callable[..., Any]) -> Callable[..., Any]:
    """The mean cross-entropy of a batch."""

    def loss(p: dict[str, Any], X: Any, labels: Any) -> Any:
        scores = jax.vmap(lambda x: p["V"] @ equilibrium(p, x) + p["d"])(X)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=1))

    return loss


def run(*, small: bool = False, output: Path = Path("equilibrium.png")) -> dict[str, Any]:
    """Train the net, print time and memory beside the unrolled layer, and draw the loss and some equilibria."""
    batch, steps = (8, 20) if small else (64, 300)
    with jax.enable_x64(True):
        train, test = load()
        X, labels = jnp.asarray(train.X.T), jnp.asarray(train.labels)
        p = start()
        found, seconds, bytes_ = {}, {}, {}
        for name, equilibrium in (("implicit", implicit), ("unrolled", unrolled)):
            step = jax.jit(jax.value_and_grad(loss_with(equilibrium)))
            compiled = step.lower(p, X[:batch], labels[:batch]).compile()
            bytes_[name] = compiled.memory_analysis().temp_size_in_bytes
            found[name] = compiled(p, X[:batch], labels[:batch])
            call = lambda c=compiled: jax.block_until_ready(c(p, X[:batch], labels[:batch]))  # noqa: E731
            seconds[name] = min(timed(call)[1] for _ in range(5))
            if name == "implicit":
                ours = compiled
        gains(f"gradient of a batch of {batch}", seconds)
        print(f"  temporary bytes: {bytes_['implicit']:,} implicit, {bytes_['unrolled']:,} through {UNROLLED} iterations")
        pairs = zip(*(jax.tree_util.tree_leaves(found[name][1]) for name in found), strict=True)
        difference = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
        print(f"  largest difference of the gradients: {difference:.1e}")
        rng, curve = np.random.default_rng(0), []
        velocity = jax.tree_util.tree_map(jnp.zeros_like, p)
        for _ in range(steps):
            chosen = rng.choice(len(labels), batch, replace=False)
            value, g = ours(p, X[chosen], labels[chosen])
            velocity = jax.tree_util.tree_map(lambda v, g: 0.9 * v - 0.1 * g, velocity, g)
            p = jax.tree_util.tree_map(jnp.add, p, velocity)
            curve.append(float(value))
        z = jax.jit(jax.vmap(unrolled, (None, 0)))(p, jnp.asarray(test.X.T))
        p, z = jax.tree_util.tree_map(np.asarray, (p, z))
        right = float(np.mean(np.argmax(z @ p["V"].T + p["d"], axis=1) == test.labels))
    print(
        f"  {steps} steps: loss {curve[0]:.3f} → {np.mean(curve[-10:]):.3f}, {100 * right:.1f} % of the test pictures right"
    )
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, middle = figure.subplots(1, 2)
    left.semilogy(curve)
    left.set(xlabel="step", ylabel="loss", title=f"test: {100 * right:.1f} % right")
    _, _, axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    places = z @ axes[:2].T
    colours = middle.scatter(*places.T, c=test.labels, cmap="tab10", s=9, vmin=-0.5, vmax=9.5)
    figure.colorbar(colours, ax=middle, ticks=range(10), label="digit")
    middle.set(title="equilibria, two main directions", xticks=[], yticks=[])
    figure.savefig(output, dpi=130)
    return {"difference": difference, "curve": curve, "right": right, "bytes": bytes_}


if __name__ == "__main__":
    command_line(run, "equilibrium.png")
