"""Gradients of plain JAX functions under `jax.jit`: `backsolve.grad` beside `jax.grad`, PyTorch and HIPS autograd."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import backsolve
from benchmarks.machine import cores
from benchmarks.models import others
from benchmarks.models.functions import MODELS, Model, scalar
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section

TITLE = "Gradients of JAX functions, jitted"
TOLERANCE = 1e-3  # float32, and sums of thousands of terms in different orders
AGAIN = "JAX again"
TRACED_LINES = 900  # of a scalar program that is only traced
TEXT = (
    "The gradient of a scalar function by all its parameters, in float32. backsolve and JAX start from the same plain JAX "
    "function, `jax.jit(backsolve.grad(f))` beside `jax.jit(jax.grad(f))`; PyTorch eager, `torch.compile` and HIPS "
    "autograd from the same formula in their own words. Flops and temporary bytes are XLA's own count of the compiled "
    'program. "JAX again" is the same `jax.grad` compiled a second time: how far it is from JAX is the noise of the run '
    'times, and the bound on their mean is that far from 1. "run" is the geometric mean against both. '
    "Tracing and compiling start from a function that JAX has not seen before; persistent caches are off. "
    f"XLA and PyTorch use {cores()} threads."
)
GRADIENTS: dict[str, Callable[..., Any]] = {"backsolve": backsolve.grad, "JAX": jax.grad}


def measure(runner: Runner) -> Section:
    """Flops and temporary bytes after XLA, run time, tracing and compiling, for every model."""
    flops, memory, run = Ratios("flops", {}, each=1.0), Ratios("temp bytes", {}, each=1.05), Ratios("run", {}, 1.1, 1.0)
    trace, build = Ratios("trace", {}, mean=0.8), Ratios("trace + compile", {}, mean=1.0)
    noise = Ratios("JAX / JAX again", {})
    rows: list[Row] = []
    absent: dict[str, list[str]] = {}
    for model in (make() for make in MODELS):
        if runner.only not in model.name:
            continue
        compiled = {key: _traced(model, key).lower().compile() for key in GRADIENTS}
        flops.values[model.name] = _ratio(*(float(c.cost_analysis()["flops"]) for c in compiled.values()))
        memory.values[model.name] = _ratio(*(c.memory_analysis().temp_size_in_bytes for c in compiled.values()))
        calls: dict[str, Contestant | None] = {key: _caller(call, model) for key, call in compiled.items()}
        calls[AGAIN] = _caller(_traced(model, "JAX").lower().compile(), model)
        peers, reasons = others.contestants(model, compile=not runner.quick)
        for peer, reason in reasons.items():
            absent.setdefault(f"{peer} is absent ({reason})", []).append(model.name)
        rows.append(runner.contest(model.name, calls | peers, tolerance=TOLERANCE))
        first, second = (rows[-1].ratios[key] or 0.0 for key in ("JAX", AGAIN))
        run.values[model.name] = math.sqrt(first * second)
        noise.values[model.name] = _ratio(second, first)
        trace.values[model.name] = _preparation(model, runner, compile=False)
        build.values[model.name] = _preparation(model, runner, compile=True)
    long = scalar(lines=TRACED_LINES)
    if runner.only in long.name:
        trace.values[long.name] = _preparation(long, runner, compile=False)
    if noise.values:
        run.mean = math.exp(sum(abs(math.log(r)) for r in noise.values.values()) / len(noise.values))
    ratios = [column for column in (flops, memory, run, noise, trace, build) if column.values]
    missing = [f"{why} for {', '.join(names)}." for why, names in absent.items()]
    return Section("gradients", TITLE, " ".join([TEXT, *missing]), rows, ratios=ratios)


def _traced(model: Model, key: str) -> Any:
    """The gradient, traced from a function that is new to JAX's caches."""

    def fresh(*arguments: Any) -> Any:
        return model.function(*arguments)

    return jax.jit(GRADIENTS[key](fresh)).trace(*model.arguments)


def _caller(compiled: Any, model: Model) -> Contestant:
    def call() -> list[Any]:
        return [np.asarray(part) for part in compiled(*model.arguments)]

    return call


def _preparation(model: Model, runner: Runner, *, compile: bool) -> float:
    """Seconds from a new function to its gradient's jaxpr, or to machine code, as ours / JAX's."""

    def prepare(key: str) -> Any:
        traced = _traced(model, key)
        return traced.lower().compile() if compile else traced

    what = f"{model.name}, {'trace and compile' if compile else 'trace'}"
    calls = {key: partial(prepare, key) for key in GRADIENTS}
    return runner.preparation(what, calls, 7 if compile else 15).ratios["JAX"] or 0.0


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs if theirs else 1.0 if ours == theirs else float("inf")
