"""Where the entries of a matrix are, as one image, however many there are."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.sparse.matrix import SparseMatrix
from backsolve.system.system import System

__all__ = ["figure_of", "pattern"]

PIXELS = 800
_COLOURS = LinearSegmentedColormap.from_list("spy", ["#ffffff", "#9fd3f2", "#0072b2", "#00304d"])
Indices = NDArray[np.int64]


def pattern(thing: Any) -> tuple[Indices, Indices, tuple[int, int]]:
    """Rows and columns of the entries, and the shape.

    Example:
        >>> from backsolve import matrix
        >>> rows, cols, shape = pattern(matrix([[1, 0], [2, 3]]))
        >>> rows.tolist(), cols.tolist(), shape
        ([0, 1, 1], [0, 0, 1], (2, 2))
    """
    if isinstance(thing, System):
        (n, p), q = thing.M.shape, thing.sinks.shape[0]
        parts = [
            (*_places(thing.M), 0, 0),
            (*_places(thing.L), 0, p),
            (np.arange(n), np.arange(n), 0, p),
            (*_places(thing.sinks), n, p),
        ]
        rows = np.concatenate([r + down for r, _, down, _ in parts])
        cols = np.concatenate([c + right for _, c, _, right in parts])
        return rows, cols, (n + q, p + n)
    if isinstance(thing, Graph):
        heads, tails = _places(thing.matrix())[::-1]
        n = len(thing.nodes)
        ones = np.arange(n)
        return np.concatenate([heads, ones]), np.concatenate([tails, ones]), (n, n)
    if isinstance(thing, OperatorMatrix):
        return (*_places(thing), thing.shape)
    if isinstance(thing, SparseMatrix):
        return thing.rows.astype(np.int64), thing.cols.astype(np.int64), thing.shape
    raise TypeError(f"spy takes a System, a Graph, an OperatorMatrix or a SparseMatrix, got {type(thing).__name__}.")


def _place(number: float, _: Any = None, *, shape: tuple[int, ...]) -> str:
    """The index of an entry in an array of this shape, by its number in row-major order."""
    if not (0 <= number < np.prod(shape, dtype=int)):
        return ""
    return ",".join(str(int(k)) for k in np.unravel_index(int(number), shape))


def _places(A: OperatorMatrix) -> tuple[Indices, Indices]:
    if A.numeric is not None:
        coo = A.numeric.csr.tocoo()
        return coo.row.astype(np.int64), coo.col.astype(np.int64)
    places = np.array(list(A.entries), dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def figure_of(thing: Any) -> Figure:
    """The figure: a square for every entry, or for as many as share a pixel, darker for more."""
    rows, cols, (m, n) = pattern(thing)
    high, wide = min(m, PIXELS), min(n, PIXELS)
    place = (rows * high // max(m, 1)) * wide + cols * wide // max(n, 1)
    counts = np.bincount(place, minlength=high * wide).reshape(high, wide).astype(float)
    full = (m / max(high, 1)) * (n / max(wide, 1))
    shade = np.where(counts > 0, 0.35 + 0.65 * np.log1p(counts) / np.log1p(max(full, counts.max(initial=1))), 0)
    figure = Figure(figsize=(5, 5 * min(max(m / max(n, 1), 0.3), 2)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shade, cmap=_COLOURS, vmin=0, vmax=1, interpolation="nearest", extent=(0, n, m, 0), aspect="auto")
    what = "" if isinstance(thing, SparseMatrix) else " blocks"
    axes.set_title(f"{m:,} × {n:,}{what}, {len(rows):,} entries", fontsize=9)
    axes.tick_params(labelsize=8)
    if isinstance(thing, SparseMatrix):
        for axis, label, word, shape in (
            (axes.yaxis, axes.set_ylabel, "output", thing.codomain),
            (axes.xaxis, axes.set_xlabel, "input", thing.domain),
        ):
            axis.set_major_locator(MaxNLocator(5 if len(shape) > 1 else "auto", integer=True))
            axis.set_major_formatter(FuncFormatter(partial(_place, shape=shape)))
            label(
                f"{word}[{', '.join('ijklmnpqrstuvw'[: len(shape)])}] of {'×'.join(map(str, shape)) or 'one number'}",
                fontsize=8,
            )
    return figure
