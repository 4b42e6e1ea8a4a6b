"""One picture for a page: the solution, the pattern of the matrix that it was found with, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt

__all__ = ["beside", "seconds"]


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """The least of some times, after a first call that compiles."""
    import jax

    jax.block_until_ready(call())
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return min(taken)


def beside(draw: Callable[[Any], None], pattern: Any, times: Mapping[str, float], name: str = "Jacobian") -> None:
    """Draw the solution above, below it the pattern (a SparseMatrix) and the times in seconds, ours first."""
    figure = plt.figure(figsize=(6.4, 5.4), layout="constrained")
    parts = figure.subplot_mosaic([["solution", "solution"], ["pattern", "time"]], height_ratios=(1.1, 1))
    draw(parts["solution"])
    rows, columns = pattern.shape
    ax = parts["pattern"]
    size = max(0.8, 150 / max(rows, columns))
    ax.plot(pattern.cols, pattern.rows, "s", markersize=size, markeredgewidth=0, color="#1d4ed8")
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[], aspect=columns / rows)
    share = pattern.nnz / (rows * columns)
    ax.set_title(f"{name}: {rows:,} × {columns:,}\n{pattern.nnz:,} entries, {100 * share:.2g} %", fontsize=10)
    ax = parts["time"]
    bars = ax.barh(list(times), list(times.values()), color=["#1d4ed8"] + ["#94a3b8"] * (len(times) - 1), height=0.55)
    ax.bar_label(bars, [_text(taken) for taken in times.values()], padding=3)
    ax.set_xscale("log")
    ax.set_xlim(min(times.values()) / 3, max(times.values()) * 12)
    ax.set_ylim(len(times) - 0.5, -0.5)
    ax.set_xticks([])
    ax.minorticks_off()
    ax.set_title("time, log scale", fontsize=10)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    plt.show()


def _text(taken: float) -> str:
    return f"{taken:.2g} s" if taken >= 1 else f"{1e3 * taken:.3g} ms" if taken >= 1e-3 else f"{1e6 * taken:.3g} µs"
