"""Jacobians and Hessians in the form people write: one array in, one array out, `jit(jacobian(f))` and under `vmap`."""

from __future__ import annotations

import math
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
from benchmarks.runner import Contestant, DisagreementError, Ratios, Row, Runner, Section
from benchmarks.sparse_contest import called

TITLE = "One array in, one array out"
TOLERANCE = 2e-3  # float32, and another order of multiplications
POINTS = (1, 1_000, 10_000, 100_000)
MANY = POINTS[1:3]  # what the means are over
FEW = (1, 3)
ROUNDS, FEWER = 9, 3  # fewer at the most points, where a result has hundreds of megabytes
AT_ONCE = 1_000  # points of which the answer in float64 is worked out together
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
NOISE = 1 / 0.95
BOUNDS: dict[str, tuple[float, float | None]] = {  # on each, and on the mean
    "telling, Jacobians": (NOISE, 0.5),
    "telling, Hessians": (NOISE, 0.5),
    "telling, one point": (NOISE, 1.0),
    "telling, 100,000 points": (NOISE, None),
    "telling, Jacobians, float64": (NOISE, 0.5),
    "telling, Hessians, float64": (NOISE, 0.5),
    "telling, trace + compile": (1.2, 0.8),
}
TEXT = (
    "`jax.jit(jacobian(f))(x)` at one point and `jax.jit(jax.vmap(jacobian(f)))(X)` over many, for f from one vector to one "
    "vector (for Hessians to a number), everyone from the same plain JAX function. The first set of functions may be looked "
    "at while plans are tuned, in float32; the second, whose rows begin with *telling*, is only measured, in float64 and at "
    "100,000 points too. Ratios are ours / the better of jacfwd and jacrev (for Hessians: `jax.hessian`); the means are "
    "over 1,000 and 10,000 points. The floor is f itself and an array as large as the result. Each answer is compared with "
    f"jacrev's in float64, {AT_ONCE:,} points at a time: who is off by {TOLERANCE} of the largest entry, and twice as far "
    "as another, is not timed. Tracing and compiling start from a function that JAX has not seen before. XLA uses "
    f"{cores()} threads."
)
Transform = Callable[..., Any]
JACOBIANS: dict[str, Transform] = {"backsolve": backsolve.jacobian, "jacfwd": jax.jacfwd, "jacrev": jax.jacrev}
HESSIANS: dict[str, Transform] = {"backsolve": backsolve.hessian, "jax.hessian": jax.hessian}


def measure(runner: Runner) -> Section:
    """Run time for every function and number of points; tracing and compiling for 1,000."""
    ratios: dict[str, Ratios] = {}
    rows: list[Row] = []
    wrong: dict[str, list[str]] = {}

    def tell(kind: str, name: str, value: float) -> None:
        ratios.setdefault(kind, Ratios(kind, {}, *BOUNDS.get(kind, ()))).values[name] = value

    quick = (TUNING[0], TUNING[-2], TELLING[0], TELLING[-1])
    for model in quick if runner.quick else (*TUNING, *TELLING):
        if runner.only not in model.name:
            continue
        told = "telling, " if model in TELLING else ""
        transforms = HESSIANS if model.second else JACOBIANS
        for count, dtype in _sizes(runner.quick, bool(told)):
            if count > model.most:
                continue
            name = told.replace(",", ":") + model.name + (", float64" if dtype == DOUBLE else "")
            name += ", one point" if count == 1 else f", {count:,} points"
            x = model.points(count).astype(dtype)
            x = x[0] if count == 1 else x
            with jax.enable_x64(dtype == DOUBLE):
                calls: dict[str, Contestant | None] = {
                    key: partial(called, _jitted(model, transform, count), x) for key, transform in transforms.items()
                }
                for key, why in _wrong(name, model, x, calls).items():
                    wrong.setdefault(why, []).append(name)
                    calls[key] = None
                calls["floor"] = partial(_waited_for, _floor(model, count), x)
                rounds = FEWER if count == POINTS[-1] else ROUNDS
                row = runner.contest(name, calls, tolerance=math.inf, rounds=rounds, difference=_difference)
            rows.append(row)
            kind = "Hessians" if model.second else "Jacobians"
            if count not in (*MANY, FEW[1]):
                kind = "one point" if count == 1 else "100,000 points"
            tell(told + kind + (", float64" if dtype == DOUBLE else ""), name, _beside_better(row))
            if count in (MANY[0], FEW[1]) and dtype == SINGLE:
                tell(told + "trace + compile", name, _preparation(model, transforms, count, x, runner))
    missing = [f"{why}: {', '.join(names)}." for why, names in wrong.items()]
    return Section("forms", TITLE, " ".join([TEXT, *missing]), rows, ratios=list(ratios.values()))


def _sizes(quick: bool, told: bool) -> list[tuple[int, np.dtype[Any]]]:
    """The numbers of points, with the dtype."""
    if quick:
        return [(count, SINGLE) for count in FEW]
    counts = [(count, SINGLE) for count in (POINTS if told else POINTS[:-1])]
    return counts + [(count, DOUBLE) for count in MANY if told]


def _wrong(name: str, model: FormModel, x: Any, calls: dict[str, Contestant | None]) -> dict[str, str]:
    """Of the contestants whose answers are not those in float64, what to say.

    Raises DisagreementError where that is ours.
    """
    derivative = jax.jacfwd(jax.jacrev(model.function)) if model.second else jax.jacrev(model.function)
    points = np.asarray(x, DOUBLE).reshape(-1, model.size)
    with jax.enable_x64(True):
        batch = jax.jit(jax.vmap(derivative))
        right = np.concatenate([np.asarray(batch(points[k : k + AT_ONCE])) for k in range(0, len(points), AT_ONCE)])
    off = {key: _difference(call(), right if x.ndim > 1 else right[0]) for key, call in calls.items() if call}
    limit = max(TOLERANCE, 2 * min(off.values()))
    found = {key: f"The answer of {key} is off by {o:.2g}" for key, o in off.items() if not o <= limit}  # a NaN is wrong
    if next(iter(calls)) in found:
        raise DisagreementError(f"{name}: {found[next(iter(calls))]}")
    return found


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
