"""Where the entries of a matrix are, as one image, however many there are."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from backsolve.show.heatmap import Entries
from backsolve.show.pattern import pattern
from backsolve.sparse.matrix import SparseMatrix

__all__ = ["figure_of"]

PIXELS = 800
_COLOURS = LinearSegmentedColormap.from_list("spy", ["#ffffff", "#9fd3f2", "#0072b2", "#00304d"])


def _place(number: float, _: Any = None, *, shape: tuple[int, ...]) -> str:
    """The index of an entry in an array of this shape, by its number in row-major order."""
    if not (0 <= number < np.prod(shape, dtype=int)):
        return ""
    return ",".join(str(int(k)) for k in np.unravel_index(int(number), shape))


class Spy(Figure):
    """A figure that a notebook shows, also where nobody has imported pyplot."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def figure_of(thing: Any, title: str = "") -> Figure:
    """The figure: a square for every entry, or for as many as share a pixel, darker for more."""
    rows, cols, (m, n) = (thing.rows, thing.cols, thing.shape) if isinstance(thing, Entries) else pattern(thing)
    high, wide = min(m, PIXELS), min(n, PIXELS)
    place = (rows * high // max(m, 1)) * wide + cols * wide // max(n, 1)
    counts = np.bincount(place, minlength=high * wide).reshape(high, wide).astype(float)
    full = (m / max(high, 1)) * (n / max(wide, 1))
    shade = np.where(counts > 0, 0.35 + 0.65 * np.log1p(counts) / np.log1p(max(full, counts.max(initial=1))), 0)
    figure = Spy(figsize=(5, 5 * min(max(m / max(n, 1), 0.3), 2)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shade, cmap=_COLOURS, vmin=0, vmax=1, interpolation="nearest", extent=(0, n, m, 0), aspect="auto")
    what = "" if isinstance(thing, SparseMatrix | Entries) else " blocks"
    head = f"{title}: " if title else ""
    axes.set_title(f"{head}{m:,} × {n:,}{what}, {len(rows):,} entries", fontsize=9)
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
