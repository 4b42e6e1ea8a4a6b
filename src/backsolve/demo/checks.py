"""The bounds that the demo holds itself to: accuracy, finite differences, JAX; and the time of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve.demo import byhand, net

Array = NDArray[Any]

# The central difference f′(0) ≈ Σ c·(f(m·h) − f(−m·h)) / h of sixth order, as m: c.
STENCIL = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}


@dataclass(frozen=True)
class Check:
    """One number and the bound it must keep. `at_least` bounds from below, otherwise the bound is from above."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the bound is kept; a NaN keeps none."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def number(self) -> str:
        """The value as it is printed."""
        return f"{self.value:.2%}" if self.at_least else f"{self.value:.1e}"

    @property
    def limit(self) -> str:
        """The bound as it is printed."""
        return f"≥ {self.bound:.0%}" if self.at_least else f"≤ {self.bound:.0e}".replace("e-0", "e-")

    def __str__(self) -> str:
        return f"{self.what:<64} {self.number:>8}   {self.limit:<8}  {'pass' if self.passed else 'FAIL'}"


def relative_error(values: Sequence[Array], reference: Sequence[Array]) -> float:
    """The largest, over the blocks, of ‖value − reference‖ / ‖reference‖."""
    errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(values, reference, strict=True)]
    return float(np.max(errors))  # unlike Python's max, a NaN wins


def finite_difference_error(
    parameters: Sequence[Array],
    gradient: Sequence[Array],
    loss: Callable[[Sequence[Array]], float],
    *,
    directions: int = 8,
    step: float = 1e-3,
    seed: int = 0,
) -> float:
    """‖differences − slopes‖ / ‖differences‖ over random directions, by a central stencil of sixth order.

    Each direction has independent normal entries, so that all parameters take part. Costs six losses a direction. With
    h = 1e-3 in float64 the truncation, O(h⁶), and the rounding, about 1e-16 / h, both stay far below 1e-7.
    """
    rng = np.random.default_rng(seed)
    differences, slopes = [], []
    for _ in range(directions):
        direction = [rng.standard_normal(p.shape) for p in parameters]

        def along(t: float, direction: list[Array] = direction) -> float:
            return loss([p + t * d for p, d in zip(parameters, direction)])

        differences.append(sum(c * (along(m * step) - along(-m * step)) for m, c in STENCIL.items()) / step)
        slopes.append(sum(float(np.vdot(g, d)) for g, d in zip(gradient, direction)))
    return float(np.linalg.norm(np.subtract(differences, slopes)) / np.linalg.norm(differences))


def gradient_checks(parameters: Sequence[Array], X: Array, Y: Array, where: str) -> list[Check]:
    """The formula's gradient at these parameters beside finite differences and `jax.grad`, both in float64."""
    _, gradient = net.loss_and_gradient(parameters, X, Y)
    differences = finite_difference_error(parameters, gradient, lambda p: net.forward(p, X, Y).loss)
    jax_error = relative_error(gradient, byhand.jax_gradient(parameters, X, Y))
    return [
        Check(f"gradient {where}, against central finite differences", differences, 1e-7),
        Check(f"gradient {where}, against jax.grad in float64", jax_error, 1e-12),
    ]


def seconds_per_step(parameters: Sequence[Array], X: Array, Y: Array, rounds: int = 101) -> tuple[float, float]:
    """Median seconds of one loss and gradient, by the formula and by hand, measured in turn after a warm-up."""
    samples: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 3):
        for times, compute in zip(samples, (net.loss_and_gradient, byhand.loss_and_gradient)):
            start = time.perf_counter()
            compute(parameters, X, Y)
            if i >= 3:
                times.append(time.perf_counter() - start)
    return median(samples[0]), median(samples[1])
