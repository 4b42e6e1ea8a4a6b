"""Static condensation: eliminate vertices that cause no fill-in before the bordered matrix is assembled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from backsolve.elimination.graph import cheapest_first
from backsolve.elimination.sparse_edges import Edge, SparseEdges, height, meetings, width
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import product, union

__all__ = ["condense", "condensed_fully"]

FEW_MORE = 1.25  # times as many entries are a fair price for a matrix of sources and outputs alone
DEAR = 64.0  # products for every entry taken away are no fair price for it,
DEAR_FROM = 4_000_000  # if they are so many: each is planned one by one
SLACK = 4.0  # times the limit is what a bound on the fill-in may say: much of what it counts coincides


def condense(work: SparseEdges) -> None:
    """Eliminate the vertices that leave no more entries than they take away, the most profitable first.

    Of two alike the one with fewer products goes first: a long sum is then halved and halved, not joined one by one.  Those
    stay whose elimination takes far more products than that saves, such as one between two large dense blocks.  How many
    entries there are is bounded first, then counted.
    """
    graph = work.graph
    for count in (fill_in, _counted):

        def cost(v: int, count: Callable[[SparseEdges, int], float] = count) -> tuple[float, int]:
            return count(work, v), graph.markowitz_degree(v)

        left = [v for v in work.network.inner if v in graph.into or graph.out_of.get(v)]
        for v in cheapest_first(left, cost, graph.neighbours, limit=(0, np.inf)):
            if not _is_dear(work, v):
                work.eliminate(v)


def _counted(work: SparseEdges, v: int) -> float:
    """How many entries more there are once v is eliminated, of its edges and of the identity in its place.

    Infinity where they are too many to be counted, or edges are opaque.
    """
    bound = fill_in(work, v)
    into, n = work.graph.into, work.spaces[v].size
    ins, outs = into.get(v, {}), {i: into[i][v] for i in work.graph.out_of.get(v, ())}
    removed = n + _size(ins.values()) + _size(outs.values())
    if bound <= 0:
        return bound
    if bound + removed > SLACK * removed or not all(isinstance(op, Sparse) for op in (*ins.values(), *outs.values())):
        return np.inf
    added = 0
    for i, left in outs.items():
        for j, right in ins.items():
            new = product(left.pattern, right.pattern).pattern
            there = [op for op in (into[i].get(j), *work.ends.get((i, j), ())) if op is not None]
            if any(op.pattern is None for op in there):
                continue  # it is full already
            known = reduce(lambda a, b: union(a, b.pattern).pattern, there[1:], there[0].pattern) if there else None
            added += new.nnz if known is None else union(known, new).pattern.nnz - known.nnz
    return float(added - removed)


def _is_dear(work: SparseEdges, v: int) -> bool:
    ins, outs = work.neighbouring(v)
    entries = _size(ins) + _size(outs) + work.spaces[v].size
    return entries**2 > DEAR_FROM and work.multiplications(v) > max(DEAR_FROM, DEAR * entries)


def condensed_fully(work: SparseEdges, limit: int) -> SparseEdges | None:
    """A copy with all vertices eliminated; None where on the way there are more entries than the limit, or rather more
    than now, and where some are to be kept.
    """
    if work.kept:
        return None
    graph = work.graph
    inner = [v for v in work.network.inner if v in graph.into or graph.out_of.get(v)]
    total = sum(map(_size, work.ends.values())) + sum(_size(row.values()) for row in graph.into.values())
    total += sum(work.spaces[v].size for v in inner)
    limit = max(limit, int(FEW_MORE * total))
    work = work.copy()
    graph = work.graph
    for v in cheapest_first(inner, lambda v: fill_in(work, v), graph.neighbours):
        if total + fill_in(work, v) > SLACK * limit:
            return None
        ins, outs = list(graph.into.get(v, ())), list(graph.out_of.get(v, ()))
        total -= _around(work, v, ins, outs) + work.spaces[v].size
        work.eliminate(v)
        total += _around(work, v, ins, outs)
        if total > limit:
            return None
    return work


def _around(work: SparseEdges, v: int, ins: Sequence[int], outs: Sequence[int]) -> int:
    """The entries of the edges that the elimination of v changes."""
    into = work.graph.into
    rows = sum(_size(into[i].values()) for i in (v, *outs) if i in into)
    return rows + sum(_size(work.ends.get((i, j), ())) for i in outs for j in ins)


def _size(edges: Iterable[Edge]) -> int:
    return sum(op.nnz for op in edges)


def fill_in(work: SparseEdges, v: int) -> float:
    """How many entries more there are, at most, once v is eliminated: of its edges and of the identity in its place."""
    (ins, outs), n = work.neighbouring(v), work.spaces[v].size
    if not ins or not outs:
        return -np.inf
    removed = n + sum(op.nnz for op in (*ins, *outs))
    known = [[op.pattern for op in side if isinstance(op, Sparse)] for side in (ins, outs)]
    if len(known[0]) == len(ins) and len(known[1]) == len(outs):
        for one, other in (known, known[::-1]):
            if all(p.is_diagonal for p in one):  # of long vectors nothing is counted
                return float(len(one) * sum(p.nnz for p in other) - removed)
        return meetings(_total(p.col_load for p in known[1]), _total(p.row_load for p in known[0]), n) - removed
    if len(known[0]) < len(ins) and len(known[1]) < len(outs):  # two dense blocks: as they are
        return np.inf
    return float(sum(map(height, outs)) * sum(map(width, ins)) - removed)


def _total(loads: Iterable[Any]) -> Any:
    total: Any = 0.0
    for load in loads:
        total = total + load
    return total
