"""Jacobians and Hessians in the form people write: one array in, one array out, `jit(jacobian(f))` and under `vmap`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import numpy as np

import backsolve
from benchmarks.machine import cores
from benchmarks.models.form_models import TUNING, FormModel
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section
from benchmarks.sparse_contest import called

TITLE = "One array in, one array out"
TOLERANCE = 2e-3  # float32, and another order of multiplications
POINTS = (1, 1_000, 100_000)
FEW = (1, 3)
ROUNDS = 15
TEXT = (
    "`jax.jit(jacobian(f))(x)` at one point and `jax.jit(jax.vmap(jacobian(f)))(X)` over many, for f from one vector to one "
    "vector (for Hessians to a number), in float32, everyone from the same plain JAX function. Plans may be tuned by it: "
    "it tells how things go, not how they go elsewhere. Ratios are ours / the better of jacfwd and jacrev (for Hessians: "
    "`jax.hessian`). Tracing and compiling start from a function that JAX has not seen before. "
    f"XLA uses {cores()} threads."
)
Transform = Callable[..., Any]
JACOBIANS: dict[str, Transform] = {"backsolve": backsolve.jacobian, "jacfwd": jax.jacfwd, "jacrev": jax.jacrev}
HESSIANS: dict[str, Transform] = {"backsolve": backsolve.hessian, "jax.hessian": jax.hessian}


def measure(runner: Runner) -> Section:
    """Run time for every function and number of points; tracing and compiling for one of them."""
    jacobians, hessians = Ratios("Jacobians", {}), Ratios("Hessians", {})
    build = Ratios("trace + compile", {})
    rows: list[Row] = []
    for model in (TUNING[0], TUNING[-2]) if runner.quick else TUNING:
        if runner.only not in model.name:
            continue
        transforms = HESSIANS if model.second else JACOBIANS
        for count in FEW if runner.quick else POINTS:
            name = f"{model.name}, {'one point' if count == 1 else f'{count:,} points'}"
            x = model.points(count)[0] if count == 1 else model.points(count)
            calls: dict[str, Contestant | None] = {
                key: partial(called, _jitted(model, transform, count), x) for key, transform in transforms.items()
            }
            row = runner.contest(name, calls, tolerance=TOLERANCE, rounds=ROUNDS, difference=_difference)
            rows.append(row)
            (hessians if model.second else jacobians).values[name] = _beside_better(row)
            build.values[name] = _preparation(model, transforms, count, x, runner)
    return Section("forms", TITLE, TEXT, rows, ratios=[c for c in (jacobians, hessians, build) if c.values])


def _jitted(model: FormModel, transform: Transform, count: int) -> Any:
    """The derivative of a function that is new to JAX's caches, not yet traced."""

    def fresh(x: Any) -> Any:
        return model.function(x)

    derivative = transform(fresh)
    return jax.jit(derivative if count == 1 else jax.vmap(derivative))


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference beside the largest number."""
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max())


def _beside_better(row: Row) -> float:
    ours, *others = (seconds for seconds in row.seconds.values() if seconds is not None)
    return ours / min(others)


def _preparation(model: FormModel, transforms: dict[str, Transform], count: int, x: Any, runner: Runner) -> float:
    """Seconds from a new function to machine code, as ours / the better of JAX's: the median over some rounds."""
    ratios = []
    for _ in range(1 if runner.quick else 3):
        seconds = []
        for transform in transforms.values():
            start = time.perf_counter()
            _jitted(model, transform, count).lower(x).compile()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / min(seconds[1:]))
    return median(ratios)
