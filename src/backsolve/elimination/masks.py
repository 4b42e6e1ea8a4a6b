"""Masks beside what they hide: one edge for both, before a substitution multiplies with one after the other.

A mask makes zeros of what it hides, and a zero times an infinite derivative is NaN.  One edge that chooses last has none.
"""

from __future__ import annotations

from typing import Any

from backsolve.algebra.arrays import is_mask, is_number
from backsolve.algebra.spaces import unify
from backsolve.elimination.borders import closed_weight, edge_product
from backsolve.elimination.graph import EliminationGraph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators.base import Identity, Scaling
from backsolve.operators.einsum import Einsum

__all__ = ["masks_joined"]


def masks_joined(M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix) -> tuple[OperatorMatrix, ...]:
    """The matrices of a system without the nodes between a mask and other edges that multiply entry by entry.

    Those stay that would leave more edges than they take away.  Cost: a look at each edge, and a product for each of these.
    """
    if not any(_masks(element) for A in (M, L, S) for element in A.entries.values()):
        return M, L, S
    n, outputs = L.shape[0], S.shape[0]
    nodes = n + outputs  # an output is a node of its own here, so that what is left may lead there from a source
    into = {i: {**dict(L.row(i)), **{nodes + j: element for j, element in M.row(i)}} for i in range(n)}
    into |= {n + k: dict(S.row(k)) for k in range(outputs)}
    graph = EliminationGraph(into, edge_product, closed=closed_weight)
    waiting = list(range(n))
    while waiting:
        v = waiting.pop()
        if v < n and _hides(graph, v):
            waiting += graph.neighbours(v)
            graph.eliminate(v)
    left = graph.edges()
    spaces = [*L.row_spaces, *S.row_spaces]
    for (k, v), element in S.entries.items():
        if isinstance(element, Identity):  # I of any space has that of its node
            spaces[n + k] = unify(spaces[n + k], spaces[v])
    ends: dict[tuple[int, int], Any] = {(k, n + k): Identity(spaces[n + k]) for k in range(outputs)}
    return (
        OperatorMatrix(
            {(i, j - nodes): w for (i, j), w in left.items() if j >= nodes}, (nodes, M.shape[1]), spaces, M.col_spaces
        ),
        OperatorMatrix({(i, j): w for (i, j), w in left.items() if j < nodes}, (nodes, nodes), spaces, spaces),
        OperatorMatrix(ends, (outputs, nodes), spaces[n:], spaces),
    )


def _hides(graph: EliminationGraph, v: int) -> bool:
    """Whether a vertex stands between a mask and numbers, all entry by entry, and leaves no more edges than it has."""
    ins = graph.into.get(v, {})
    outs = [graph.into[i][v] for i in graph.out_of.get(v, ())]
    if not ins or not outs or min(len(ins), len(outs)) > 1:
        return False
    edges = [*ins.values(), *outs]
    return any(map(_masks, edges)) and all(map(_is_entrywise, edges))


def _masks(element: Any) -> bool:
    return isinstance(element, Einsum) and _is_entrywise(element) and any(is_mask(f.array) for f in element.factors)


def _is_entrywise(element: Any) -> bool:
    if isinstance(element, Einsum):
        return element.out == element.into and all(set(f.labels) <= set(element.into) for f in element.factors)
    return isinstance(element, Identity | Scaling) or is_number(element)
