"""Vertex elimination on a linearized computational graph, whatever its edge weights are.

Eliminating a vertex v adds, for every edge i ← v and every edge v ← j, the product of their weights to the edge i ← j, or
puts it there (fill-in).  The edges between the other vertices then hold the sums over all paths through v, so that every
order of elimination ends with the same weights; orders differ in what they cost.
Source: Griewank and Walther, *Evaluating Derivatives*, chapter 9.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from backsolve.algebra.elements import add, multiply
from backsolve.matrices.matrix import OperatorMatrix

__all__ = ["EliminationGraph", "cheapest_first", "eliminate"]


class EliminationGraph:
    """A graph part-way through its elimination: ``into[i][j]`` is the weight of the edge j → i, ``out_of[j]`` are the i.

    ``product(left, right)`` is the weight of a path of two edges, the later edge first, None where there is no path after
    all; ``total(a, b)`` that of two parallel edges; ``closed(weight)`` a weight as products are made of it, which is worked
    out once for all of them.  ``fill_in`` counts the edges that joining has put where there was none.
    """

    __slots__ = ("closed", "fill_in", "into", "name", "out_of", "product", "total")

    def __init__(
        self,
        into: Mapping[int, Mapping[int, Any]],
        product: Callable[[Any, Any], Any] = multiply,
        total: Callable[[Any, Any], Any] = add,
        name: Callable[[int], str] | None = None,
        closed: Callable[[Any], Any] | None = None,
    ) -> None:
        self.product = product
        self.total = total
        self.closed = closed
        self.name = name  # of a vertex, for errors
        self.into: dict[int, dict[int, Any]] = {i: dict(row) for i, row in into.items()}
        self.out_of: dict[int, dict[int, None]] = {}
        self.fill_in = 0
        for i, row in self.into.items():
            for j in row:
                self.out_of.setdefault(j, {})[i] = None

    def copy(self) -> EliminationGraph:
        """Another graph in the same state."""
        return EliminationGraph(self.into, self.product, self.total, self.name, self.closed)

    def neighbours(self, v: int) -> list[int]:
        """Predecessors and successors of a vertex, each once."""
        return list(dict.fromkeys((*self.into.get(v, ()), *self.out_of.get(v, ()))))

    def markowitz_degree(self, v: int) -> int:
        """Edges in times edges out: how many products the elimination of v takes."""
        return len(self.into.get(v, ())) * len(self.out_of.get(v, ()))

    def remove(self, v: int) -> tuple[dict[int, Any], dict[int, Any]]:
        """Take a vertex out; return its edges in, by predecessor, and out, by successor."""
        into, out_of = self.into, self.out_of
        ins = into.pop(v, {})
        for j in ins:
            del out_of[j][v]
        return ins, {i: into[i].pop(v) for i in out_of.pop(v, ())}

    def join(self, i: int, j: int, weight: Any) -> None:
        """Add a weight to the edge j → i."""
        row = self.into[i]
        if j in row:
            row[j] = self.total(row[j], weight)
            return
        row[j] = weight
        self.out_of.setdefault(j, {})[i] = None
        self.fill_in += 1

    def eliminate(self, v: int) -> None:
        """Take a vertex out and join each of its predecessors to each of its successors.  Cost: its Markowitz degree."""
        ins, outs = self.remove(v)
        product, join, closed = self.product, self.join, self.closed
        if closed is not None and ins and outs:
            ins, outs = ({k: closed(weight) for k, weight in edges.items()} for edges in (ins, outs))
        for i, left in outs.items():
            try:
                for j, right in ins.items():
                    weight = product(left, right)
                    if weight is not None:
                        join(i, j, weight)
            except (TypeError, ValueError) as error:
                if self.name is not None:
                    error.add_note(f"This was on the way through {self.name(v)} to {self.name(i)}.")
                raise

    def edges(self) -> dict[tuple[int, int], Any]:
        """The weights that are left, by (head, tail)."""
        return {(i, j): weight for i, row in self.into.items() for j, weight in row.items()}


def cheapest_first(
    vertices: Iterable[int],
    cost: Callable[[int], Any],
    neighbours: Callable[[int], Iterable[int]],
    limit: Any = None,
) -> Iterator[int]:
    """Yield the vertices, each time the one that is cheapest to eliminate (Markowitz), the lowest number among equals.

    The caller eliminates between two of them.  Costs are worked out again for the neighbours of what was yielded, and
    when a vertex comes up.  Ends where the cheapest costs more than the limit.
    Source: Markowitz, *The elimination form of the inverse* (1957).
    """
    left = set(vertices)
    heap = [(cost(v), v) for v in left]
    heapq.heapify(heap)
    while heap and (limit is None or heap[0][0] <= limit):
        before, v = heapq.heappop(heap)
        if v not in left:
            continue
        now = cost(v)
        if now > before:
            heapq.heappush(heap, (now, v))
            continue
        left.remove(v)
        around = [w for w in neighbours(v) if w in left]
        yield v
        for w in around:
            heapq.heappush(heap, (cost(w), w))


def eliminate(L: OperatorMatrix, order: Iterable[int]) -> OperatorMatrix:
    """Return L with the nodes of ``order`` eliminated, one after the other, and their rows and columns empty.

    Eliminating v adds, for every entry (i, v) and every entry (v, j), the product L[i, v] L[v, j] to entry (i, j).
    Raises `ValueError` where an order repeats or invents a node, or a node has an entry with itself.
    Cost: for each node, its in-entries times its out-entries.

    Example:
        >>> L = OperatorMatrix.from_entries({(1, 0): 2.0, (2, 1): 3.0, (2, 0): 1.0}, (3, 3))
        >>> eliminate(L, [1]).entries
        {(2, 0): 7.0}
    """
    n = L.shape[0]
    if L.shape != (n, n):
        raise ValueError(f"nodes are eliminated from a square matrix, got {n} × {L.shape[1]} blocks.")
    graph = EliminationGraph({i: dict(L.row(i)) for i in range(n)}, name=L.name)
    eliminated: set[int] = set()
    for v in order:
        if not hasattr(v, "__index__") or not 0 <= v < n:
            raise ValueError(f"the order names node {v!r}, but the nodes are 0 to {n - 1}.")
        if v in eliminated:
            raise ValueError(f"the order eliminates {L.name(v)} twice.")
        if v in graph.into[v]:
            raise ValueError(f"{L.name(v)} has an entry with itself and cannot be eliminated.")
        eliminated.add(v)
        graph.eliminate(v)
    return OperatorMatrix(graph.edges(), L.shape, L.row_spaces, L.col_spaces, names=L.names)
