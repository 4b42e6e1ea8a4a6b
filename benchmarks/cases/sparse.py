"""Sparse Jacobians and Hessians under `jax.jit`: `format="sparse"` beside asdex, sparsejac, CasADi, dense JAX, by hand."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from backsolve import SparseMatrix
from backsolve.algebra.spaces import available_memory
from benchmarks import limited
from benchmarks.machine import cores
from benchmarks.models import in_casadi
from benchmarks.models import sparse_models as models
from benchmarks.models.sparse_models import SparseModel
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section, Target
from benchmarks.sparse_contest import Empty, called, derivative, difference, fresh, jitted, preparation

TITLE = "Sparse Jacobians and Hessians, jitted"
TOLERANCE = 1e-9
DENSE = 5_000  # unknowns up to which the dense derivative is tried
COLOURED = 21_000  # unknowns up to which sparsejac is (it colours in Python)
PAIRS = 5_000_000  # of columns that share a row, up to which it is
SEED_COPIES = 5  # of asdex's seeds in memory while it compiles: 5.2 at 5,000 × 5,000, 5.0 at 16,500 × 16,500
MILLION = 1_000_000  # unknowns from which our memory is shown, beside what is written by hand alone
ARROW = "n = 1,500"  # unknowns at which arrows have a bound of their own
ARROWS = 5_000, 10_000, 20_000  # unknowns at which memory is limited
HAND = 1.5  # of the non-zeros written by hand
BYTES = 8.0  # of the non-zeros' own
MODELS: tuple[Callable[[], SparseModel], ...] = (
    partial(models.burgers, 10_000),
    partial(models.burgers, 512**2),
    partial(models.burgers, MILLION),
    partial(models.brusselator, 64),
    partial(models.brusselator, 256),
    partial(models.brusselator, 512),
    partial(models.arrow, 1_500),
    partial(models.arrow, 5_000),
    partial(models.arrow, 20_000),
    partial(models.arrow, MILLION),
    partial(models.pool, 1_500),
    partial(models.bundle, *models.OBSERVED),
    partial(models.collocation, 10_000),
    partial(models.mesh, 20_000),
    partial(models.power_flow, 30),
    partial(models.power_flow, 118),
    partial(models.circuit, 30),
    partial(models.rosenbrock, 20_000),
    partial(models.rosenbrock, MILLION),
    partial(models.separable, 20_000),
    partial(models.freudenstein_roth, 20_000),
    partial(models.minimal_surface, 100),
)
SMALL: tuple[Callable[[], SparseModel], ...] = (
    partial(models.burgers, 40),
    partial(models.arrow, 20),
    partial(models.pool, 10),
    partial(models.collocation, 6),
    partial(models.rosenbrock, 30),
)
TEXT = (
    "All non-zeros of the Jacobian of a function of one vector (of the Hessian for Rosenbrock, the partially "
    "separable sum, Freudenstein and Roth, and the minimal surface), in float64, everyone from the same plain JAX "
    "function; CasADi from the same formula in its own words. asdex detects and colours, sparsejac is handed our "
    "pattern and colours. By hand are the non-zeros as one would write them; empty is a jitted function that writes "
    "as many copies of one number, and so what no derivative under `jax.jit` can be faster than. Preparation is from "
    "a function that JAX has not seen before to machine code: trace, pattern, (colours,) compile. Bytes are the "
    f"result and the temporaries by XLA's own count. XLA uses {cores()} threads."
)
PEERS = ("asdex", "sparsejac", "CasADi", "CasADi C", "dense", "by hand", "empty")


def measure(runner: Runner) -> Section:
    """Run time, preparation and bytes for every model."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asdex warns where its colours do not pay, we where a matrix is dense
        return _measured(runner)


def _measured(runner: Runner) -> Section:
    run, hand = Ratios("run / asdex's", {}, each=1.0, mean=0.5), Ratios("run / by hand", {}, each=HAND)
    build, memory = Ratios("prepare / asdex's", {}, each=1.0), Ratios("bytes / non-zeros'", {}, each=BYTES)
    rows: list[Row] = []
    absent: dict[str, list[str]] = {}
    for model in (make() for make in (SMALL if runner.quick else MODELS)):
        if runner.only not in model.name:
            continue
        x = jax.numpy.asarray(model.point)
        ours = jax.jit(derivative(model))
        pattern = ours(x)
        peers, reasons = _peers(model, x, pattern)
        calls: dict[str, Contestant | None] = {"backsolve": partial(called, ours, x), **peers}
        target = Target(1 / 300 if model.name.endswith(ARROW) else 1.0, ("asdex",)) if peers["asdex"] is not None else None
        rows.append(runner.contest(model.name, calls, tolerance=TOLERANCE, difference=difference, target=target))
        for peer, reason in reasons.items():
            absent.setdefault(f"{peer} is absent ({reason})", []).append(model.name)
        if (ratio := rows[-1].ratios["asdex"]) is not None:
            if not model.name.startswith("arrow"):
                run.values[model.name] = ratio
            build.values[model.name] = preparation(model, x, runner)
        if (ratio := rows[-1].ratios["by hand"]) is not None:
            hand.values[model.name] = ratio
        analysis: Any = ours.lower(x).compile().memory_analysis()
        memory.values[model.name] = (analysis.output_size_in_bytes + analysis.temp_size_in_bytes) / (8 * max(pattern.nnz, 1))
    missing = [f"{why} for {', '.join(names)}." for why, names in absent.items()]
    ratios = [column for column in (run, hand, build, memory) if column.values]
    sizes = [n for n in ((20,) if runner.quick else ARROWS) if runner.only in f"arrow, n = {n:,}"]
    text = "\n\n".join([" ".join([TEXT, *missing]), *([limited.table(sizes)] if sizes and sys.platform == "linux" else [])])
    return Section("sparse", TITLE, text, rows, ratios=ratios)


# ---- the others ----------------------------------------------------------------------------------------------------------
def _peers(model: SparseModel, x: Any, pattern: Any) -> tuple[dict[str, Contestant | None], dict[str, str]]:
    """The other contestants, None where absent, and the reasons."""
    n = len(model.point)
    found: dict[str, Contestant | None] = dict.fromkeys(PEERS)
    found["empty"] = jitted(lambda x: Empty(jax.numpy.full(pattern.nnz, x[0])), x)
    if model.by_hand is not None:
        found["by hand"] = jitted(model.by_hand, x)
    if n >= MILLION:
        return found, {"Every other peer": "a million unknowns are for our memory"}
    reasons: dict[str, str] = {}
    for peer, make in {
        "asdex": partial(_asdex_if_it_fits, model, x),
        "sparsejac": partial(_sparsejac, model, pattern),
    }.items():
        try:
            made = make()
        except ImportError:
            made = "not installed"
        if isinstance(made, str):
            reasons[peer] = made
        else:
            found[peer] = jitted(made, x)
    theirs, why = in_casadi.contestants(model)
    found.update(theirs)
    reasons.update(why)
    if n <= DENSE:
        found["dense"] = jitted((jax.hessian if model.second else jax.jacfwd)(model.function), x)
    else:
        reasons["dense"] = f"more than {DENSE:,} unknowns"
    return found, reasons


def _asdex_if_it_fits(model: SparseModel, x: Any) -> Callable[..., Any] | str:
    """asdex's derivative, or why it is left out: its seeds, a float64 for each colour and unknown, are too many."""
    import asdex

    function = fresh(model)
    coloring = (asdex.hessian_coloring if model.second else asdex.jacobian_coloring)(function, x)
    needed, available = SEED_COPIES * 8 * coloring.num_colors * x.size, available_memory()
    if 2 * needed > available:
        return (
            f"{coloring.num_colors:,} colours of {x.size:,} unknowns: compiling holds {SEED_COPIES} copies of its seeds, "
            f"{needed / 1e9:.1f} GB, more than half of the {available / 1e9:.1f} GB available"
        )
    made: Callable[..., Any] = (asdex.hessian_from_coloring if model.second else asdex.jacobian_from_coloring)(
        function, coloring
    )
    return made


def _sparsejac(model: SparseModel, pattern: Any) -> Callable[..., Any] | str:
    """sparsejac's derivative, or why it is left out."""
    import sparsejac

    n = len(model.point)
    pairs = int((pattern.pattern.row_counts.astype(np.int64) ** 2).sum())
    if n > COLOURED:
        return f"more than {COLOURED:,} unknowns"
    if pairs > PAIRS:
        return f"more than {PAIRS:,} pairs of columns that share a row"
    function = jax.grad(model.function) if model.second else model.function
    ones = SparseMatrix(pattern.pattern, jax.numpy.ones(pattern.nnz), pattern.domain, pattern.codomain)
    made: Callable[..., Any] = sparsejac.jacfwd(function, ones.to_bcoo())  # of numbers, two columns may seem orthogonal
    return made
