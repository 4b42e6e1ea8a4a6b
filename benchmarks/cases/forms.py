"""Jacobians and Hessians in the form people write: one array in, one array out, `jit(jacobian(f))` and under `vmap`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import backsolve
from benchmarks.machine import cores
from benchmarks.models.form_models import TUNING, FormModel
from benchmarks.models.form_telling import TELLING
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section
from benchmarks.sparse_contest import called

TITLE = "One array in, one array out"
TOLERANCE = 2e-3  # float32, and another order of multiplications
POINTS = (1, 1_000, 10_000, 100_000)
MANY = POINTS[1:3]  # what the means are over
FEW = (1, 3)
ROUNDS, FEWER = 9, 3  # fewer at the most points, where a result has hundreds of megabytes
TEXT = (
    "`jax.jit(jacobian(f))(x)` at one point and `jax.jit(jax.vmap(jacobian(f)))(X)` over many, for f from one vector to one "
    "vector (for Hessians to a number), in float32, everyone from the same plain JAX function. The first set of functions "
    "may be looked at while plans are tuned; the second, whose rows begin with *telling*, is only measured, and at 100,000 "
    "points too. Ratios are "
    "ours / the better of jacfwd and jacrev (for Hessians: `jax.hessian`); the means are over 1,000 and 10,000 points. The "
    "floor is f itself and an array as large as the result. Tracing and compiling start from a function that JAX has not "
    f"seen before. XLA uses {cores()} threads."
)
Transform = Callable[..., Any]
JACOBIANS: dict[str, Transform] = {"backsolve": backsolve.jacobian, "jacfwd": jax.jacfwd, "jacrev": jax.jacrev}
HESSIANS: dict[str, Transform] = {"backsolve": backsolve.hessian, "jax.hessian": jax.hessian}


def measure(runner: Runner) -> Section:
    """Run time for every function and number of points; tracing and compiling for 1,000."""
    kinds = ("Jacobians", "Hessians", "one point", "100,000 points", "trace + compile")
    ratios = {(told, kind): Ratios(f"telling, {kind}" if told else kind, {}) for told in (False, True) for kind in kinds}
    rows: list[Row] = []
    quick = (TUNING[0], TUNING[-2], TELLING[0], TELLING[-1])
    for model in quick if runner.quick else (*TUNING, *TELLING):
        told = model in TELLING
        if runner.only not in model.name:
            continue
        transforms = HESSIANS if model.second else JACOBIANS
        counts = FEW if runner.quick else POINTS if told else POINTS[:-1]
        for count in [count for count in counts if count <= model.most]:
            name = f"{'telling: ' if told else ''}{model.name}, {'one point' if count == 1 else f'{count:,} points'}"
            x = model.points(count)[0] if count == 1 else model.points(count)
            calls: dict[str, Contestant | None] = {
                key: partial(called, _jitted(model, transform, count), x) for key, transform in transforms.items()
            }
            calls["floor"] = partial(_waited_for, _floor(model, count), x)
            rounds = FEWER if count == POINTS[-1] else ROUNDS
            row = runner.contest(name, calls, tolerance=TOLERANCE, rounds=rounds, difference=_difference)
            rows.append(row)
            kind = "Hessians" if model.second else "Jacobians"
            if count not in (*MANY, FEW[1]):
                kind = "one point" if count == 1 else "100,000 points"
            ratios[told, kind].values[name] = _beside_better(row)
            if count in (MANY[0], FEW[1]):
                ratios[told, "trace + compile"].values[name] = _preparation(model, transforms, count, x, runner)
    return Section("forms", TITLE, TEXT, rows, ratios=[c for c in ratios.values() if c.values])


def _jitted(model: FormModel, transform: Transform, count: int) -> Any:
    """The derivative of a function that is new to JAX's caches, not yet traced."""

    def fresh(x: Any) -> Any:
        return model.function(x)

    derivative = transform(fresh)
    return jax.jit(derivative if count == 1 else jax.vmap(derivative))


def _floor(model: FormModel, count: int) -> Any:
    """What no derivative can be quicker than: the function, and as many numbers written as the derivative has."""
    out = jax.eval_shape(model.function, model.points(1)[0])
    shape = (model.size if model.second else out.shape[0], model.size)

    def both(x: Any) -> Any:
        return model.function(x), jnp.broadcast_to(x, shape) + 1

    return jax.jit(both if count == 1 else jax.vmap(both))


def _waited_for(compiled: Callable[..., Any], x: Any) -> None:
    for result in compiled(x):
        result.block_until_ready()


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference beside the largest number; the floor has no answer."""
    if theirs is None:
        return 0.0
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max())


def _beside_better(row: Row) -> float:
    seconds = {key: t for key, t in row.seconds.items() if t is not None and key != "floor"}
    return seconds.pop("backsolve") / min(seconds.values())


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
