"""Which nodes to eliminate before a matrix is assembled: those whose elimination leaves no more than it takes away."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from backsolve.elimination.opaque_edges import Opaque
from backsolve.elimination.sparse_edges import Elimination, meetings
from backsolve.sparse.operator import Sparse

__all__ = ["all_eliminated", "eliminate_without_fill"]

FEW_MORE = 1.25  # times as many entries are a fair price for a matrix of sources and outputs alone
DEAR = 64.0  # products for every entry taken away are no fair price for it,
DEAR_FROM = 4_000_000  # if they are so many: each is planned one by one
SLACK = 4.0  # times the limit is what a bound on the growth may say: much of what it counts coincides


def eliminate_without_fill(work: Elimination) -> None:
    """Eliminate the nodes that leave no more entries than they take away, the most profitable first.

    Those stay whose elimination takes far more products than that saves, such as one between two large dense blocks.
    """
    left = {v for v in work.network.inner if v in work.out_of}
    heap = [(*price(work, v), v) for v in left]
    heapq.heapify(heap)
    while heap and heap[0][0] <= 0:
        *before, v = heapq.heappop(heap)
        if v not in left:
            continue
        now = price(work, v)
        if now > tuple(before):
            heapq.heappush(heap, (*now, v))
            continue
        left.remove(v)
        if _is_dear(work, v):
            continue
        near = [k for k in (*work.into.get(v, ()), *work.out_of[v]) if k in left]
        work.eliminate(v)
        for k in dict.fromkeys(near):
            heapq.heappush(heap, (*price(work, k), k))


def _is_dear(work: Elimination, v: int) -> bool:
    ins, outs = work.into.get(v, {}), {i: work.into[i][v] for i in work.out_of[v]}
    entries = _size(ins.values()) + _size(outs.values()) + work.spaces[v].size
    if entries**2 <= DEAR_FROM:
        return False
    return work.products(v) > max(DEAR_FROM, DEAR * entries)


def price(work: Elimination, v: int) -> tuple[float, int]:
    """The growth, and of two alike the number of products: a long sum is then halved and halved, not joined one by one."""
    return growth(work, v), len(work.into.get(v, ())) * len(work.out_of[v])


def all_eliminated(work: Elimination, limit: int) -> Elimination | None:
    """A copy with all nodes eliminated; None where on the way more entries are left than that, or rather more than now."""
    left = {v for v in work.network.inner if v in work.into or work.out_of.get(v)}
    total = sum(map(_size, work.ends.values())) + sum(_size(row.values()) for row in work.into.values())
    total += sum(work.spaces[v].size for v in left)
    limit = max(limit, int(FEW_MORE * total))
    work = work.copy()
    heap = [(growth(work, v), v) for v in left]
    heapq.heapify(heap)
    while heap:
        before, v = heapq.heappop(heap)
        if v not in left:
            continue
        now = growth(work, v)
        if now > before:
            heapq.heappush(heap, (now, v))
            continue
        if total + now > SLACK * limit:
            return None
        ins, outs = list(work.into.get(v, ())), list(work.out_of.get(v, ()))
        total -= _around(work, v, ins, outs) + work.spaces[v].size
        work.eliminate(v)
        left.remove(v)
        total += _around(work, v, ins, outs)
        if total > limit:
            return None
        for k in dict.fromkeys(k for k in (*ins, *outs) if k in left):
            heapq.heappush(heap, (growth(work, k), k))
    return work


def _around(work: Elimination, v: int, ins: Sequence[int], outs: Sequence[int]) -> int:
    """The entries of the edges that the elimination of v changes."""
    rows = sum(_size(work.into[i].values()) for i in (v, *outs) if i in work.into)
    return rows + sum(_size(work.ends.get((i, j), ())) for i in outs for j in ins)


def _size(ops: Iterable[Sparse | Opaque]) -> int:
    return sum(op.m * op.n if isinstance(op, Opaque) else op.nnz for op in ops)


def growth(work: Elimination, v: int) -> float:
    """How many entries more there are, at most, once v is eliminated: of its edges and of the identity in its place."""
    ins, outs, n = list(work.into.get(v, {}).values()), [work.into[i][v] for i in work.out_of[v]], work.spaces[v].size
    if not ins or not outs:
        return -np.inf
    taken = n + sum(op.m * op.n if isinstance(op, Opaque) else op.nnz for op in (*ins, *outs))
    known = [[op.pattern for op in side if isinstance(op, Sparse)] for side in (ins, outs)]
    if len(known[0]) == len(ins) and len(known[1]) == len(outs):
        for one, other in (known, known[::-1]):
            if all(p.is_diagonal for p in one):  # of long vectors nothing is counted
                return float(len(one) * sum(p.nnz for p in other) - taken)
        return meetings(_total(p.col_load for p in known[1]), _total(p.row_load for p in known[0]), n) - taken
    if len(known[0]) < len(ins) and len(known[1]) < len(outs):  # two dense blocks: as they are
        return np.inf
    heights = sum(op.m if isinstance(op, Opaque) else np.count_nonzero(op.pattern.row_counts) for op in outs)
    widths = sum(op.n if isinstance(op, Opaque) else np.count_nonzero(op.pattern.col_counts) for op in ins)
    return float(heights * widths - taken)


def _total(loads: Iterable[Any]) -> Any:
    total: Any = 0.0
    for load in loads:
        total = total + load
    return total
