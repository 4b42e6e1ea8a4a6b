"""The entries of a matrix as a page: blocks by leaf and layer, a heat map, rows and columns called by their names."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backsolve.display import plural
from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.show.page import document, embedded, read
from backsolve.show.pattern import pattern
from backsolve.show.symbols import short_names, telling
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.text import percent
from backsolve.system.system import System

__all__ = ["Entries", "entries_of", "spy_page"]

MOST = 200_000  # entries that a page holds one by one
SIDE = 600  # rows and columns of squares where there are more

Indices = NDArray[np.int64]


class Entries(NamedTuple):
    """Rows, columns and values (None: only where they are) of a matrix, names and shapes of the leaves of its axes."""

    rows: Indices
    cols: Indices
    values: Any
    row_leaves: Sequence[tuple[str, tuple[int, ...]]]
    col_leaves: Sequence[tuple[str, tuple[int, ...]]]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        m, n = (sum(int(np.prod(s, dtype=int)) for _, s in leaves) for leaves in (self.row_leaves, self.col_leaves))
        return m, n


def entries_of(thing: Any, of: str = "blocks") -> Entries:
    """The entries of a SparseMatrix; the blocks of a System, a Graph or an OperatorMatrix; with ``of="jacobian"`` the
    Jacobian of a linearized function, whose leaves are named as in the user's tree.

    Raises `ValueError` for another ``of``, and where there is no sparse Jacobian, `TypeError` for another thing.
    """
    if of not in ("blocks", "jacobian"):
        raise ValueError(f"spy shows of='blocks' or of='jacobian', got {of!r}.")
    if of == "jacobian":
        if not hasattr(thing, "leaf_names"):
            got = type(thing).__name__
            raise ValueError(f"of='jacobian' is for a linearized function, as backsolve.linearize returns it, got a {got}.")
        return _of_jacobian(thing)
    if isinstance(thing, SparseMatrix):
        values = None if thing.data.dtype == bool else thing.data
        leaves = [("output", tuple(thing.codomain))], [("input", tuple(thing.domain))]
        return Entries(thing.rows.astype(np.int64), thing.cols.astype(np.int64), values, *leaves)
    rows, cols, (m, n) = pattern(thing)
    if isinstance(thing, System):
        nodes = [(f"x{i} {_head(thing.L.name(i))}".strip(), ()) for i in range(thing.L.shape[0])]
        ends: list[tuple[str, tuple[int, ...]]] = [(f"y{k}", ()) for k in range(thing.sinks.shape[0])]
        point = getattr(thing, "point", None)
        names = [f"p{j}" for j in range(thing.M.shape[1])] if point is None else list(point.names)
        return Entries(rows, cols, None, [*nodes, *ends], [*((name, ()) for name in names), *nodes])
    if isinstance(thing, Graph):
        named: list[tuple[str, tuple[int, ...]]] = [(str(node), ()) for node in thing.nodes]
        return Entries(rows, cols, None, named, named)
    assert isinstance(thing, OperatorMatrix)
    return Entries(rows, cols, None, [("row", (m,))], [("column", (n,))])


def _head(name: str) -> str:
    return name.partition(" (")[0] if not name.startswith("row ") else ""


def _of_jacobian(system: Any) -> Entries:
    names, columns = system.leaf_names
    blocks = system.outputs.structure.flatten_up_to(system.jacobian(format="sparse"))
    blocks = [system.inputs.structure.flatten_up_to(row) for row in blocks]
    row_leaves = [(name, tuple(a.shape)) for name, a in zip(names, system.outputs.avals, strict=True)]
    col_leaves = [(name, tuple(a.shape)) for name, a in zip(columns, system.inputs.avals, strict=True)]
    sizes = [[int(np.prod(shape, dtype=int)) for _, shape in leaves] for leaves in (row_leaves, col_leaves)]
    down, right = ([0, *np.cumsum(side).tolist()] for side in sizes)
    rows, cols, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for i, line in enumerate(blocks):
        for j, block in enumerate(line):
            if isinstance(block, SparseMatrix):  # a leaf of integers has no derivatives
                rows.append(block.rows.astype(np.int64) + down[i])
                cols.append(block.cols.astype(np.int64) + right[j])
                values.append(np.asarray(block.data))
    return Entries(np.concatenate(rows), np.concatenate(cols), np.concatenate(values), row_leaves, col_leaves)


def spy_page(thing: Any, *, of: str = "blocks", title: str = "") -> str:
    """Return the page of the entries of a matrix as HTML that needs nothing else; ``of`` as in `entries_of`.

    Example:
        >>> from backsolve import matrix
        >>> "2 × 2, 3 entries (75%)" in spy_page(matrix([[1, 0], [2, 3]]))
        True
    """
    entries = entries_of(thing, of)
    m, n = entries.shape
    count = len(entries.rows)
    share = f" ({percent(count, m * n)})" if m * n else ""
    title = title or ("Jacobian" if of == "jacobian" else "System" if isinstance(thing, System) else type(thing).__name__)
    data, note = _data(entries)
    body = Template(read("heatmap.html")).substitute(
        title=escape(title),
        about=f"{m:,} × {n:,}, {plural(count, 'entry')}{share}",
        notes=f'<p class="whole">{escape(note)}</p>' if note else "",
        data=embedded(data),
    )
    return document(title, body, read("heatmap.js"), kind="spy")


def _data(entries: Entries) -> tuple[dict[str, Any], str]:
    m, n = entries.shape
    rows, cols = entries.rows, entries.cols
    values = None if entries.values is None else _numbers(entries.values)
    squares, counts, note = (1, 1), None, ""
    if len(rows) > MOST:
        squares = (-(-m // SIDE), -(-n // SIDE))
        key = (rows // squares[0]) * SIDE + cols // squares[1]
        size = None if values is None else np.nan_to_num(np.abs(values), nan=np.inf)
        order = np.argsort(key, kind="stable") if size is None else np.lexsort((-size, key))  # the largest first
        keys, first, counts = np.unique(key[order], return_index=True, return_counts=True)
        values = None if values is None else values[order][first]
        rows, cols = keys // SIDE * squares[0], keys % SIDE * squares[1]
        note = f"Each square stands for {squares[0]:,} × {squares[1]:,} places, and shows what is largest there."
    data = {
        "shape": [m, n],
        "squares": squares,
        "rows": _packed(rows.astype("<i4")),
        "cols": _packed(cols.astype("<i4")),
        "values": None if values is None else _packed(values.astype("<f8")),
        "counts": None if counts is None else counts.tolist(),
        "rowLeaves": _leaves(entries.row_leaves),
        "colLeaves": _leaves(entries.col_leaves),
    }
    return data, note


def _numbers(values: Any) -> NDArray[np.float64]:
    """The values as real numbers: of complex ones their absolute value."""
    array = np.asarray(values)
    return np.abs(array).astype(float) if array.dtype.kind == "c" else array.astype(float)


def _leaves(leaves: Sequence[tuple[str, tuple[int, ...]]]) -> list[list[Any]]:
    """Of each leaf its name, the end that tells it apart, its shape and the layer: the name without its last part."""
    names = [name for name, _ in leaves]
    short = short_names(names) if any(map(str.isprintable, names)) else names
    short = short if len(set(short)) == len(set(names)) else telling(names)
    layers = [re.sub(r"(\[[^\[\]]*\]|\.\w+)$|^[^\[\].]*$", "", name) for name in names]
    return [[name, s, shape, layer] for (name, shape), s, layer in zip(leaves, short, layers, strict=True)]


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
