"""Sparse derivatives of one model by us and by asdex: what several cases share, run, preparation and comparison."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse

import backsolve
from benchmarks.models import in_casadi
from benchmarks.models.sparse_models import SparseModel
from benchmarks.runner import Contestant, Runner

PREPARING = 15.0  # seconds, after which no further round of preparations begins


class Empty(NamedTuple):
    """An answer that is none."""

    data: Any


def derivative(model: SparseModel) -> Callable[..., Any]:
    """A derivative that is new to JAX's caches."""
    make = backsolve.hessian if model.second else backsolve.jacobian
    return make(fresh(model), format="sparse")


def fresh(model: SparseModel) -> Callable[..., Any]:
    def fresh(x: Any) -> Any:
        return model.function(x)

    return fresh


def by_asdex(model: SparseModel, x: Any) -> Callable[..., Any]:
    import asdex

    made: Callable[..., Any] = (asdex.hessian if model.second else asdex.jacobian)(fresh(model), x)
    return made


def jitted(function: Callable[..., Any], x: Any) -> Contestant:
    return partial(called, jax.jit(function), x)


def called(compiled: Callable[..., Any], x: Any) -> Any:
    """The result, waited for by its numbers: `jax.block_until_ready` would first take it apart."""
    result = compiled(x)
    (result if isinstance(result, jax.Array) else result.data).block_until_ready()
    return result


# ---- what is measured beside run time -----------------------------------------------------------------------------------
def preparation(model: SparseModel, x: Any, runner: Runner) -> float:
    """Seconds from a new function to machine code, as ours / asdex's: the median over a few rounds."""
    begin = time.perf_counter()
    ratios: list[float] = []
    while len(ratios) < min(runner.rounds or 3, 3) and (not ratios or time.perf_counter() - begin < PREPARING):
        seconds = []
        for make in (derivative, partial(by_asdex, x=x)):
            start = time.perf_counter()
            jax.jit(make(model)).lower(x).compile()
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference beside the largest number; what is written by hand may be in any order."""
    if isinstance(theirs, Empty):
        return 0.0
    A = ours.to_scipy()
    if isinstance(theirs, jax.Array) and theirs.ndim == 1:
        return float(np.abs(np.sort(A.data) - np.sort(theirs)).max() / np.abs(A.data).max())
    if isinstance(theirs, in_casadi.Columns):
        theirs = theirs.to_scipy()
    elif hasattr(theirs, "indices") and hasattr(theirs, "nse"):
        theirs = scipy.sparse.csr_array((np.asarray(theirs.data), tuple(np.asarray(theirs.indices).T)), shape=A.shape)
    else:
        theirs = scipy.sparse.csr_array(theirs)
    return float(abs(A - theirs).max() / np.abs(A.data).max())
