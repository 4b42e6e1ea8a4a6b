"""What `solves` solves with: the Hessians of deep narrow nets, and the optimality conditions of a pole swung up.

Nothing here knows who solves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.models.sparse_models import cart_pole

Array = Any
WIDTH = 8
DURATION = 2.0
STATES = 4
END = (0.0, np.pi, 0.0, 0.0)  # upright, and at rest; the start is all zeros
RESTS = 0.1  # weight of the squared states, beside the squared force


# ---- nets -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Net:
    """The loss of a tanh net on one data point, its parameters, and a right-hand side shaped like them."""

    depth: int
    loss: Callable[[Any], Any]
    parameters: Any
    b: Any

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.depth * WIDTH * WIDTH


def net(depth: int, *, as_list: bool) -> Net:
    """A net 8 wide with orthogonal weights, so that a signal survives any depth; parameters in a list or in one vector."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, WIDTH))
    weights = [np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0] for _ in range(depth)]
    b = [rng.standard_normal((WIDTH, WIDTH)) for _ in range(depth)]

    def of_list(weights: Any) -> Any:
        z = x
        for W in weights:
            z = jnp.tanh(W @ z)
        return 0.5 * jnp.sum((z - y) ** 2)

    def of_vector(p: Any) -> Any:
        n = WIDTH * WIDTH
        return of_list([p[n * k : n * (k + 1)].reshape(WIDTH, WIDTH) for k in range(depth)])

    if as_list:
        return Net(depth, of_list, [jnp.asarray(W) for W in weights], [jnp.asarray(v) for v in b])
    return Net(depth, of_vector, *(jnp.concatenate([jnp.ravel(v) for v in part]) for part in (weights, b)))


# ---- optimal control --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Control:
    """The Lagrangian of a cart that swings up its pole, of one vector: states and force of each knot, then multipliers.

    Collocated by the trapezoidal rule.  ``point`` is near the straight line between the ends.
    """

    knots: int

    @property
    def unknowns(self) -> int:
        """Length of the vector."""
        return (2 * STATES + 1) * self.knots + STATES

    @property
    def point(self) -> Array:
        """A vector to start from."""
        rng = np.random.default_rng(0)
        line = np.linspace(0, 1, self.knots)[:, None] * np.array([*END, 0.0])
        multipliers = 0.01 * rng.standard_normal(STATES * (self.knots + 1))
        return np.concatenate([line.reshape(-1), multipliers])

    def lagrangian(self, x: Any) -> Any:
        """Cost plus multipliers times defects, as a JAX user writes it."""
        n = self.knots
        z, weights = x[: 5 * n].reshape(n, 5), x[5 * n :].reshape(n + 1, STATES)
        state, force = z[:, :STATES], z[:, STATES]
        h, rate = DURATION / (n - 1), jnp.stack(cart_pole(state, force), axis=1)
        wrong = state[1:] - state[:-1] - h / 2 * (rate[1:] + rate[:-1])
        cost = h * (jnp.sum(force**2) + RESTS * jnp.sum(state**2))
        ends = weights[-2] @ state[0] + weights[-1] @ (state[-1] - jnp.array(END))
        return cost + jnp.sum(weights[:-2] * wrong) + ends

    def of_casadi(self, ca: Any, x: Any) -> Any:
        """The same from CasADi's module and a column of its symbols."""
        n = self.knots
        z, weights = ca.reshape(x[: 5 * n], 5, n).T, ca.reshape(x[5 * n :], STATES, n + 1).T
        state, force = z[:, :STATES], z[:, STATES]
        h, rate = DURATION / (n - 1), ca.horzcat(*cart_pole(state, force, ca))
        wrong = state[1:, :] - state[:-1, :] - h / 2 * (rate[1:, :] + rate[:-1, :])
        cost = h * (ca.sumsqr(force) + RESTS * ca.sumsqr(state))
        ends = ca.dot(weights[n - 1, :], state[0, :]) + ca.dot(weights[n, :], state[n - 1, :] - ca.DM(END).T)
        return cost + ca.dot(weights[: n - 1, :], wrong) + ends
