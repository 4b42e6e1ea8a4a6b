"""The demo's pictures, each drawn twice: for a light and for a dark page."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import NDArray

from backsolve import OperatorMatrix, System
from backsolve.demo.net import subscript
from backsolve.operators import Identity, Scaling

Array = NDArray[Any]


@dataclass(frozen=True)
class Theme:
    """The colours of one kind of page."""

    page: str
    ink: str
    faint: str
    empty: str
    identity: str
    edge: str
    input: str
    wrong: str
    digits: str


LIGHT = Theme("#ffffff", "#1d2433", "#5d6779", "#f1f3f7", "#d5dbe6", "#bcd8f7", "#c9ecd0", "#c62828", "gray_r")
DARK = Theme("#14181f", "#e8ebf1", "#9aa4b5", "#1c222c", "#39424f", "#1f4d7d", "#1e5a35", "#ff7b72", "gray")
Drawing = Callable[[Theme], Figure]


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG, on its own page colour."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor=figure.get_facecolor(), bbox_inches="tight", pad_inches=0.06)
    return buffer.getvalue()


def in_both_themes(draw: Drawing) -> tuple[bytes, bytes]:
    """A drawing as two PNGs, light and dark."""
    return png(draw(LIGHT)), png(draw(DARK))


def _axes(theme: Theme, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), facecolor=theme.page)
    axes = figure.add_axes((0, 0, 1, 1), facecolor=theme.page)
    return figure, axes


def matrix(
    cells: Mapping[tuple[int, int], str], rows: Sequence[str], columns: Sequence[str], *, width: float = 1.5
) -> Drawing:
    """A block matrix as a grid: a coloured cell with its operator where there is one, an empty cell for a zero block.

    `cells` maps (row, column) to the text of the operator, with ∘ where a line may break; `rows` and `columns` name
    what the blocks act between; `width` is that of a cell, in units of its height.
    """

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes(theme, 0.62 * (width * len(columns) + 0.7), 0.62 * (len(rows) + 0.4))
        axes.set_xlim(-0.7, len(columns) * width)
        axes.set_ylim(len(rows), -0.4)
        axes.axis("off")
        for i in range(len(rows)):
            for j in range(len(columns)):
                _cell(axes, theme, cells.get((i, j), ""), (j * width, i), width)
        for i, name in enumerate(rows):
            axes.text(-0.12, i + 0.5, name, ha="right", va="center", color=theme.faint, fontsize=9)
        for j, name in enumerate(columns):
            axes.text((j + 0.5) * width, -0.1, name, ha="center", va="bottom", color=theme.faint, fontsize=9)
        return figure

    return draw


def _cell(axes: Axes, theme: Theme, text: str, corner: tuple[float, float], width: float) -> None:
    colour = theme.empty
    if text:
        colour = theme.identity if text == "I" else theme.edge if "ᴸ" in text else theme.input
    gap = 0.04
    axes.add_patch(
        FancyBboxPatch(
            (corner[0] + gap, corner[1] + gap),
            width - 2 * gap,
            1 - 2 * gap,
            boxstyle="round,pad=0,rounding_size=0.08",
            linewidth=0,
            facecolor=colour,
        )
    )
    lines = text.replace(" ∘ ", " ∘\n").replace(": ", ":\n")
    longest = max(len(line) for line in lines.split("\n"))
    axes.text(
        corner[0] + width / 2,
        corner[1] + 0.5,
        lines,
        ha="center",
        va="center",
        color=theme.ink,
        fontsize=min(9.0, 56 * width / max(longest, 1)),
        linespacing=1.35,
    )


def labels(operators: OperatorMatrix) -> dict[tuple[int, int], str]:
    """The text of every stored block of a matrix of operators, by (row, column)."""
    return {place: operator.label for place, operator in operators.entries.items()}


def identity_minus_l(ImL: OperatorMatrix) -> Drawing:
    """The paper's I − L̃: identities on the diagonal, −(Δᵢ)ᴴ ∘ (Wᵢ)ᴸ below it."""
    names = [f"dX{subscript(i + 1)}" for i in range(ImL.shape[0])]
    return matrix(labels(ImL), names, names, width=1.8)


def inputs(M: OperatorMatrix) -> Drawing:
    """The paper's M: one row [(Δᵢ)ᴴ ∘ (Xᵢ₋₁)ᴿ   (Δᵢ)ᴴ ∘ (eᵀ)ᴿ] for each layer."""
    layers = range(1, M.shape[0] + 1)
    columns = [name for i in layers for name in (f"dW{subscript(i)}", f"db{subscript(i)}")]
    return matrix(labels(M), [f"dX{subscript(i)}" for i in layers], columns, width=1.15)


def pattern(system: System) -> Drawing:
    """I − L of a system as a grid of cells without text, its rows named by their operations."""
    n = system.L.shape[0]
    filled = {(i, i): "I" for i in range(n)}
    filled |= {place: "I" if isinstance(op, Identity | Scaling) else "ᴸ" for place, op in system.L.entries.items()}
    names = [system.L.name(i).partition(" ")[0] for i in range(n)]

    def draw(theme: Theme) -> Figure:
        figure, axes = _axes(theme, 0.24 * (n + 5.5), 0.24 * n)
        axes.set_xlim(-5.5, n)
        axes.set_ylim(n, 0)
        axes.axis("off")
        for i in range(n):
            axes.text(-0.3, i + 0.5, names[i], ha="right", va="center", color=theme.faint, fontsize=8)
            for j in range(n):
                text = filled.get((i, j), "")
                colour = theme.empty if not text else theme.identity if text == "I" else theme.edge
                axes.add_patch(Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, linewidth=0, facecolor=colour))
        return figure

    return draw


def loss_curve(losses: Sequence[float], window: int = 20) -> Drawing:
    """The loss of every step, and its mean over the last `window` steps, on a logarithmic scale."""
    window = min(window, len(losses))

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(6, 2.9), facecolor=theme.page)
        axes = figure.add_subplot(facecolor=theme.page)
        steps = np.arange(1, len(losses) + 1)
        axes.semilogy(steps, losses, color=theme.faint, linewidth=0.7, alpha=0.55, label="each minibatch")
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.semilogy(steps[window - 1 :], smooth, color="#3b82f6", linewidth=1.8, label=f"mean of {window} steps")
        axes.set_xlabel("step", color=theme.ink)
        axes.set_ylabel("cross-entropy", color=theme.ink)
        axes.tick_params(colors=theme.faint, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(theme.faint)
        axes.legend(frameon=False, labelcolor=theme.ink)
        return figure

    return draw


def digits(X: Array, labels: Array, predictions: Array, columns: int = 8) -> Drawing:
    """A grid of the pictures in X (64 × n), each with its prediction; a wrong one in red, with what it is."""

    def draw(theme: Theme) -> Figure:
        rows = -(-X.shape[1] // columns)
        figure = Figure(figsize=(0.75 * columns, 0.95 * rows), facecolor=theme.page)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, pixels, label, guess in zip(grid, X.T, labels, predictions):
            axes.imshow(pixels.reshape(8, 8), cmap=theme.digits, vmin=0, vmax=1)
            right = label == guess
            title = f"{guess}" if right else f"{guess}, is {label}"
            axes.set_title(title, fontsize=10, pad=3, color=theme.ink if right else theme.wrong)
            if not right:
                axes.axis("on")
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set(color=theme.wrong, linewidth=2)
        figure.subplots_adjust(wspace=0.25, hspace=0.42)
        return figure

    return draw
