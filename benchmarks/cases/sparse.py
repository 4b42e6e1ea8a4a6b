"""Sparse Jacobians and Hessians under `jax.jit`: `format="sparse"` beside asdex, sparsejac, CasADi, dense JAX, by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse

import backsolve
from benchmarks.machine import cores
from benchmarks.models import in_casadi
from benchmarks.models import sparse_models as models
from benchmarks.models.sparse_models import SparseModel
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section, Target

TITLE = "Sparse Jacobians and Hessians, jitted"
TOLERANCE = 1e-9
DENSE = 2_000  # unknowns up to which the dense derivative is tried
COLOURED = 21_000  # unknowns up to which sparsejac is (it colours in Python)
ARROW, TOO_LARGE = "arrow, n = 1,500", "arrow, n = 20,000"
HAND = 1.5  # of the non-zeros written by hand
MODELS: tuple[Callable[[], SparseModel], ...] = (
    partial(models.burgers, 10_000),
    partial(models.burgers, 512**2),
    partial(models.brusselator, 64),
    partial(models.brusselator, 256),
    partial(models.brusselator, 512),
    partial(models.arrow, 1_500),
    partial(models.arrow, 20_000),
    partial(models.bundle, *models.OBSERVED),
    partial(models.collocation, 10_000),
    partial(models.mesh, 20_000),
    partial(models.rosenbrock, 20_000),
    partial(models.separable, 20_000),
)
SMALL: tuple[Callable[[], SparseModel], ...] = (
    partial(models.burgers, 40), partial(models.arrow, 20), partial(models.mesh, 12), partial(models.rosenbrock, 30)
)  # fmt: skip
TEXT = (
    "All non-zeros of the Jacobian of a function of one vector (of the Hessian for Rosenbrock and the partially separable "
    "sum), in float64, everyone from the same plain JAX function; CasADi from the same formula in its own words. asdex "
    "detects and colours, sparsejac is handed our pattern and colours. Preparation is from a function that JAX has not "
    "seen before to machine code: trace, pattern, (colours,) compile. By hand are the non-zeros as one would write them. "
    f"XLA uses {cores()} threads."
)


def measure(runner: Runner) -> Section:
    """Run time, preparation and bytes for every model."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asdex warns where its colours do not pay, we where a matrix is dense
        return _measured(runner)


def _measured(runner: Runner) -> Section:
    run, hand = Ratios("run / asdex's", {}, each=1.0, mean=0.5), Ratios("run / by hand", {}, each=HAND)
    build, memory = Ratios("prepare / asdex's", {}, each=1.0), Ratios("bytes / result's", {}, each=8.0)
    rows: list[Row] = []
    absent: dict[str, list[str]] = {}
    for model in (make() for make in (SMALL if runner.quick else MODELS)):
        if runner.only not in model.name:
            continue
        x = jax.numpy.asarray(model.point)
        ours = jax.jit(_ours(model))
        pattern = ours(x)
        peers, reasons = _peers(model, x, pattern)
        calls: dict[str, Contestant | None] = {"backsolve": partial(_called, ours, x), **peers}
        target = Target(1 / 300 if model.name == ARROW else 1.0, ("asdex",)) if peers["asdex"] is not None else None
        rows.append(runner.contest(model.name, calls, tolerance=TOLERANCE, difference=_difference, target=target))
        for peer, reason in reasons.items():
            absent.setdefault(f"{peer} is absent ({reason})", []).append(model.name)
        if (ratio := rows[-1].ratios["asdex"]) is not None:
            if model.name != ARROW:
                run.values[model.name] = ratio
            build.values[model.name] = _preparation(model, x, runner)
        if (ratio := rows[-1].ratios["by hand"]) is not None:
            hand.values[model.name] = ratio
        analysis: Any = ours.lower(x).compile().memory_analysis()
        memory.values[model.name] = (analysis.output_size_in_bytes + analysis.temp_size_in_bytes) / (8 * max(pattern.nnz, 1))
    missing = [f"{why} for {', '.join(names)}." for why, names in absent.items()]
    ratios = [column for column in (run, hand, build, memory) if column.values]
    return Section("sparse", TITLE, " ".join([TEXT, *missing]), rows, ratios=ratios)


def _ours(model: SparseModel) -> Callable[..., Any]:
    """A derivative that is new to JAX's caches."""
    derivative = backsolve.hessian if model.second else backsolve.jacobian
    return derivative(_fresh(model), format="sparse")


def _fresh(model: SparseModel) -> Callable[..., Any]:
    def fresh(x: Any) -> Any:
        return model.function(x)

    return fresh


def _peers(model: SparseModel, x: Any, pattern: Any) -> tuple[dict[str, Contestant | None], dict[str, str]]:
    """The other contestants, None where absent, and the reasons."""
    n = len(model.point)
    reasons: dict[str, str] = {}
    found: dict[str, Contestant | None] = dict.fromkeys(("asdex", "sparsejac", "CasADi", "CasADi C", "dense", "by hand"))
    if model.name == TOO_LARGE:
        reasons["asdex"] = reasons["sparsejac"] = "out of memory"
    else:
        try:
            found["asdex"] = _jitted(_asdex(model, x), x)
        except ImportError:
            reasons["asdex"] = "not installed"
        if n > COLOURED:
            reasons["sparsejac"] = f"more than {COLOURED:,} unknowns"
        else:
            try:
                found["sparsejac"] = _jitted(_sparsejac(model, pattern), x)
            except ImportError:
                reasons["sparsejac"] = "not installed"
    theirs, why = in_casadi.contestants(model)
    found.update(theirs)
    reasons.update(why)
    if n <= DENSE:
        found["dense"] = _jitted((jax.hessian if model.second else jax.jacfwd)(model.function), x)
    else:
        reasons["dense"] = f"more than {DENSE:,} unknowns"
    if model.by_hand is not None:
        found["by hand"] = _jitted(model.by_hand, x)
    return found, reasons


def _jitted(function: Callable[..., Any], x: Any) -> Contestant:
    compiled = jax.jit(function)
    return partial(_called, compiled, x)


def _called(compiled: Callable[..., Any], x: Any) -> Any:
    return _done(compiled(x))


def _done(result: Any) -> Any:
    return jax.block_until_ready(result)  # type: ignore[no-untyped-call]


def _asdex(model: SparseModel, x: Any) -> Callable[..., Any]:
    import asdex

    made: Callable[..., Any] = (asdex.hessian if model.second else asdex.jacobian)(_fresh(model), x)
    return made


def _sparsejac(model: SparseModel, pattern: Any) -> Callable[..., Any]:
    import sparsejac

    function = jax.grad(model.function) if model.second else model.function
    made: Callable[..., Any] = sparsejac.jacfwd(function, pattern.to_bcoo())
    return made


def _preparation(model: SparseModel, x: Any, runner: Runner) -> float:
    """Seconds from a new function to machine code, as ours / asdex's."""
    makers = {"backsolve": lambda: _ours(model), "asdex": lambda: _asdex(model, x)}
    row = runner.contest(
        f"{model.name}, prepare",
        {key: lambda make=make: jax.jit(make()).lower(x).compile() for key, make in makers.items()},  # type: ignore[misc]
        tolerance=0.0,
        rounds=3,
        difference=lambda ours, theirs: 0.0,  # the answers were compared when they were run
    )
    return row.ratios["asdex"] or 0.0


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference beside the largest number; what is written by hand may be in any order."""
    A = ours.to_scipy()
    if isinstance(theirs, jax.Array) and theirs.ndim == 1:
        return float(np.abs(np.sort(A.data) - np.sort(theirs)).max() / np.abs(A.data).max())
    if hasattr(theirs, "indices") and hasattr(theirs, "nse"):
        theirs = scipy.sparse.csr_array((np.asarray(theirs.data), tuple(np.asarray(theirs.indices).T)), shape=A.shape)
    else:
        theirs = scipy.sparse.csr_array(theirs)
    return float(abs(A - theirs).max() / np.abs(A.data).max())
