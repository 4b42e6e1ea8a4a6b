"""The inverse of a derivative is another border of the same matrix: the square system whose solution is J⁻¹ b.

With dx = M dp + L dx and dy = S dx, J dp = b is

    [ I − L   −M ] [dx]   [0]
    [   S      0 ] [dp] = [b]

sparse as the program is, with nothing formed.  Nodes whose elimination adds no entry (index moving, elementwise chains,
sums) are eliminated before, on the level of operators; what is left are blocks with static patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backsolve.algebra.spaces import Space
from backsolve.elimination.borders import Border, LinearizedGraph
from backsolve.elimination.condense import condense, condensed_fully
from backsolve.elimination.sparse_edges import Opaque, SparseEdges
from backsolve.engines.layout import Layout, Part
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse, sparse

__all__ = ["Bordered", "bordered"]

Index = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bordered:
    """A square matrix in sparse blocks, and where right-hand sides enter it and solutions leave it.

    Entry k of all outputs, one leaf after the other, is row ``out[k]``; entry k of all sources is column ``into[k]``.
    ``data`` are the numbers of each block of the layout.
    """

    layout: Layout
    out: Index
    into: Index
    data: tuple[Any, ...]


def bordered(
    M: OperatorMatrix,
    L: OperatorMatrix,
    S: OperatorMatrix,
    edge: Callable[[LinearOperator], Sparse | None],
    *,
    damping: Any = None,
    formed: int = 0,
) -> Bordered:
    """Return the matrix whose solution, for b at the outputs and zeros elsewhere, is dp with J dp (+ damping · dp) = b.

    ``edge`` gives an edge as a sparse operator, None where it is opaque: it becomes the smallest dense block.  Outputs and
    sources must have as many entries; with ``damping`` leaf k of one answers leaf k of the other.  All nodes are
    eliminated where that leaves about as few entries, or at most ``formed``: then the matrix is J itself.
    Cost: one walk over the edges, and the products of those eliminated.
    """
    work = SparseEdges(LinearizedGraph(M, L, S), edge)
    condense(work)
    work = condensed_fully(work, formed) or work
    network, spaces = work.network, work.spaces
    nodes = [v for v in network.inner if v in work.graph.into]
    inner = [Part(network.label(v), spaces[v].size) for v in nodes]
    outputs, out = _border(inner, work, network.outputs, S.row_spaces, "output")
    sources, into = _border(inner, work, network.sources, M.col_spaces, "source")
    rows, cols = ((*inner, *side.values()) for side in (outputs, sources))
    row_of, col_of = ({k: n for n, k in enumerate((*nodes, *side))} for side in (outputs, sources))

    entries: dict[tuple[int, int], Sparse] = {}
    for v in nodes:
        at = np.arange(spaces[v].size)
        entries[row_of[v], col_of[v]] = _ones(at, at, Part("", at.size), Part("", at.size))
    for i, row in work.graph.into.items():
        for j, element in row.items():
            op = element.matrix() if isinstance(element, Opaque) else element
            signed = op if i in outputs else op.scaled(-1)
            assert isinstance(signed, Sparse)
            entries[row_of[i], col_of[j]] = signed
    for (i, j), terms in work.ends.items():
        entries[row_of[i], col_of[j]] = sum(terms[1:], terms[0])
    if damping is not None:
        _damp(entries, (rows, cols), (out, into), damping)
    blocks = {place: op for place, op in entries.items() if op.nnz}
    mates = None
    if out.size == into.size and (out != into).any():
        mates = np.arange(sum(part.size for part in inner) + out.size)
        mates[out] = into
    layout = Layout(rows, cols, tuple(blocks), tuple(op.pattern for op in blocks.values()), mates)
    return Bordered(layout, out, into, tuple(op.data for op in blocks.values()))


def _border(
    inner: Sequence[Part], work: SparseEdges, side: Mapping[int, Border], leaves: Sequence[Space], word: str
) -> tuple[dict[Any, Part], Index]:
    """The parts of one border by their nodes, and the number of each entry of its leaves.

    Entries that no edge touches are a part of their own, so that the matrix is square where the Jacobian is.
    """
    parts: dict[Any, Part] = {}
    index = [np.full(space.size, -1) for space in leaves]
    start = sum(part.size for part in inner)

    def place(key: Any, leaf: int, at: Index) -> None:
        nonlocal start
        parts[key] = Part(f"{word} {leaf}", at.size)
        index[leaf][at] = np.arange(start, start + at.size)
        start += at.size

    for k, border in side.items():
        places = work.places[k]
        place(k, border.leaf, np.arange(work.spaces[k].size) if places is None else places)
    for leaf, numbers in enumerate(index):
        if numbers.size and numbers.min() < 0:
            place(("rest", leaf), leaf, np.flatnonzero(numbers < 0))
    return parts, np.concatenate([np.zeros(0, int), *index])


def _damp(entries: dict[tuple[int, int], Sparse], parts: Any, at: tuple[Index, Index], damping: Any) -> None:
    """Add damping · dp to the outputs, entry by entry."""
    starts = [np.cumsum([0, *(part.size for part in side)]) for side in parts]
    block = [np.searchsorted(s, k, "right") - 1 for s, k in zip(starts, at, strict=True)]
    for p, q in np.unique(np.stack(block), axis=1).T.tolist():
        met = (block[0] == p) & (block[1] == q)
        term = _ones(at[0][met] - starts[0][p], at[1][met] - starts[1][q], parts[0][p], parts[1][q]).scaled(damping)
        entries[p, q] = entries[p, q] + term if (p, q) in entries else term  # type: ignore[assignment]


def _ones(rows: Index, cols: Index, out: Part, into: Part) -> Sparse:
    """Ones at these places of a block."""
    return sparse(rows, cols, None, (into.size,), (out.size,))
