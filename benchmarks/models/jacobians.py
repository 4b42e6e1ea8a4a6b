"""What `jacobians` differentiates: the two forms of a model. The functions are in published, scalar_models, batched_models.

Nothing here knows who takes the Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

Array = Any
Numbers = tuple[Array, ...]
SPREAD = 0.1


@dataclass(frozen=True)
class ScalarModel:
    """A function of numbers that returns a tuple of numbers, and a point at which it is well behaved."""

    name: str
    function: Callable[..., Numbers]
    point: tuple[float, ...]

    def points(self, count: int) -> tuple[Array, ...]:
        """Random points within 10 % of the point, in float32: one array for each argument."""
        rng = np.random.default_rng(0)
        factors = 1 + SPREAD * rng.uniform(-1, 1, (len(self.point), count))
        return tuple(jnp.asarray((x * row).astype(np.float32)) for x, row in zip(self.point, factors))

    def on_array(self, x: Array) -> Array:
        """The same function, of one array to one array."""
        return jnp.stack(self.function(*x))


@dataclass(frozen=True)
class TensorModel:
    """A function of arrays to an array, arguments to call it with, and the one by which it is differentiated."""

    name: str
    function: Callable[..., Array]
    arguments: tuple[Any, ...]
    argnum: int
