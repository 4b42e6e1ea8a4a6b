"""Derivatives of loops: sparse Jacobians beside asdex and dense JAX, Newton steps through a rollout, gradients."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import backsolve
from backsolve.transforms.repeated import Repeated
from benchmarks.machine import cores
from benchmarks.models import loop_models as models
from benchmarks.models.sparse_models import SparseModel
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section, Target, optional
from benchmarks.sparse_contest import by_asdex, called, derivative, difference, fresh, jitted, preparation

TITLE = "Derivatives through loops"
TOLERANCE = 1e-9
DENSE = 5_000  # unknowns up to which the dense derivative is tried
MODELS: tuple[Callable[[], SparseModel], ...] = (
    partial(models.heat, 20_000, 10),
    partial(models.heat, 20_000, 100),
    partial(models.shooting, 2_000),
    partial(models.shooting, 20_000),
    partial(models.mapped, 100_000),
    partial(models.collocation, 2_000),
    partial(models.wave, 512, 3),
    partial(models.gru, 1_000),
    partial(models.kalman, 10_000),
)
SMALL: tuple[Callable[[], SparseModel], ...] = (
    partial(models.heat, 40, 3),
    partial(models.shooting, 5),
    partial(models.mapped, 9),
    partial(models.collocation, 5),
    partial(models.wave, 8, 2),
    partial(models.gru, 5, 3, 2),
    partial(models.kalman, 6),
)
STEPS = (300, 1_000, 3_000, 10_000)  # of the rollout
DENSE_STEPS = 300
TEXT = (
    "In float64, everyone from the same plain JAX function with a `lax.scan`, `fori_loop` or `map` inside. First all "
    "non-zeros of the Jacobian (for the filter, of the Hessian) under `jax.jit`; asdex detects and colours. Preparation is "
    "from a function that JAX has not seen before to machine code: trace, pattern, (colours,) compile. Then optimal control "
    "by the torques on a pendulum (two states, one torque), or the thrusts of a quadrotor (six states, two thrusts, "
    "Runge–Kutta), that a `scan` rolls out: a step of Newton's method is gradient, matrix, factors and solution at a new "
    "point, dense a jitted Hessian and `jnp.linalg.solve`. Of the pendulum a compiled gradient alone takes about a sixtieth "
    "of dense. Then gradients beside `jax.grad`: operations and temporary bytes "
    f"by XLA's own count, time, tracing. XLA uses {cores()} threads."
)


def measure(runner: Runner) -> Section:
    """Run time and preparation for every model, Newton steps against their number, gradients."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asdex warns where its colours do not pay, we where a matrix is dense
        run, build = Ratios("run / asdex's", {}, each=1.0, mean=0.5), Ratios("prepare / asdex's", {}, each=0.5)
        beside = Ratios("run / dense JAX's", {})
        rows: list[Row] = []
        chosen = [model for make in (SMALL if runner.quick else MODELS) if runner.only in (model := make()).name]
        for model in chosen:
            rows.append(_sparse(model, runner))
            for column, peer in ((run, "asdex"), (beside, "dense")):
                if (ratio := rows[-1].ratios[peer]) is not None:
                    column.values[model.name] = ratio
            if rows[-1].ratios["asdex"] is not None:
                build.values[model.name] = preparation(model, jnp.asarray(model.point), runner)
        for make, series in ((models.rollout, "Newton step"), (models.flight, "Newton step, quadrotor")):
            for steps in (4, 8) if runner.quick else STEPS:
                model = make(steps)
                if runner.only in model.name:
                    rows.append(_newton(model, steps, series, runner))
        columns = [run, beside, build, *_gradients(chosen, runner)]
    return Section("loops", TITLE, TEXT, rows, "step", ratios=[column for column in columns if column.values])


def _sparse(model: SparseModel, runner: Runner) -> Row:
    """The non-zeros, ours first."""
    x = jnp.asarray(model.point)
    calls: dict[str, Contestant | None] = {"backsolve": partial(called, jax.jit(derivative(model)), x)}
    calls["asdex"] = jitted(by_asdex(model, x), x) if optional("asdex") else None
    dense = jax.hessian if model.second else jax.jacrev if "GRU" in model.name else jax.jacfwd
    calls["dense"] = jitted(dense(model.function), x) if x.size <= DENSE else None
    return runner.contest(model.name, calls, tolerance=TOLERANCE, difference=difference)


def _newton(model: SparseModel, steps: int, series: str, runner: Runner) -> Row:
    """A step of Newton's method at the point."""
    x = model.point
    work = Repeated(backsolve.grad(model.function), x)

    def ours() -> Any:
        return work.inverse(work.x0).solve(work.value(work.x0))

    slope = jax.grad(model.function)
    both = jax.jit(lambda x: jnp.linalg.solve(jax.jacfwd(slope)(x), slope(x)))
    calls: dict[str, Contestant | None] = {"backsolve": ours}
    calls["dense"] = (lambda: np.asarray(both(x))) if steps <= DENSE_STEPS else None
    target = None if steps > DENSE_STEPS or runner.quick else Target(1 / 50, ("dense",))
    row = runner.contest(model.name, calls, tolerance=TOLERANCE, target=target)
    row.series, row.size = series, steps
    return row


# ---- gradients -------------------------------------------------------------------------------------------------------
def _gradients(chosen: list[SparseModel], runner: Runner) -> list[Ratios]:
    """What a gradient through the loops costs beside `jax.grad`'s: operations, bytes, time, tracing."""
    columns = Ratios("flops", {}, each=1.0), Ratios("bytes", {}, each=1.05), Ratios("gradient", {}), Ratios("trace", {})
    for model in chosen:
        x = jnp.asarray(model.point)

        def loss(x: Any, model: SparseModel = model) -> Any:
            return jnp.sum(model.function(x) ** 2)

        programs: list[Any] = [jax.jit(grad(loss)).lower(x).compile() for grad in (backsolve.grad, jax.grad)]
        flops = [max(float(program.cost_analysis()["flops"]), 1.0) for program in programs]
        held = [program.memory_analysis().temp_size_in_bytes + 1 for program in programs]
        calls: dict[str, Contestant | None] = {
            name: partial(called, program, x) for name, program in zip(("ours", "JAX's"), programs, strict=True)
        }
        row = runner.contest(model.name, calls, tolerance=TOLERANCE)
        values = flops[0] / flops[1], held[0] / held[1], row.ratios["JAX's"] or np.nan, _tracing(model, x, runner)
        for column, value in zip(columns, values, strict=True):
            column.values[model.name] = value
    return list(columns)


def _tracing(model: SparseModel, x: Any, runner: Runner) -> float:
    """Seconds to trace the gradient of a new function, as ours / JAX's: the median over some rounds."""
    ratios = []
    for _ in range(2 if runner.quick else 9):
        seconds = []
        for grad in (backsolve.grad, jax.grad):
            function = fresh(model)
            gradient = jax.jit(grad(lambda x, function=function: jnp.sum(function(x) ** 2)))
            start = time.perf_counter()
            gradient.lower(x)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)
