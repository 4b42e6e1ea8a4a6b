"""Elimination of nodes in any order: what is left between the others is the sum over all paths through them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backsolve.algebra.elements import add, multiply
from backsolve.matrices.matrix import OperatorMatrix

__all__ = ["eliminate"]


def eliminate(L: OperatorMatrix, order: Iterable[int]) -> OperatorMatrix:
    """Return L with the nodes of ``order`` eliminated, one after the other, and their rows and columns empty.

    Eliminating v adds, for every entry (i, v) and every entry (v, j), the product L[i, v] L[v, j] to entry (i, j)
    (fill-in where there was none).  Entries between the remaining nodes then are sums over all paths that lead through
    eliminated ones: every order gives the same.
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
    into: list[dict[int, Any]] = [dict(L.row(i)) for i in range(n)]
    out_of: list[set[int]] = [set() for _ in range(L.shape[1])]
    for i, j in L.entries:
        out_of[j].add(i)
    done: set[int] = set()
    for v in order:
        if not hasattr(v, "__index__") or not 0 <= v < n:
            raise ValueError(f"the order names node {v!r}, but the nodes are 0 to {n - 1}.")
        if v in done:
            raise ValueError(f"the order eliminates {L.name(v)} twice.")
        if v in into[v]:
            raise ValueError(f"{L.name(v)} has an entry with itself and cannot be eliminated.")
        done.add(v)
        for i in sorted(out_of[v]):
            left = into[i].pop(v)
            for j, right in into[v].items():
                try:
                    term = multiply(left, right)
                    into[i][j] = add(into[i][j], term) if j in into[i] else term
                except (TypeError, ValueError) as error:
                    error.add_note(f"This was on the way through {L.name(v)} to {L.name(i)}.")
                    raise
                out_of[j].add(i)
        for j in into[v]:
            out_of[j].discard(v)
        into[v] = {}
        out_of[v] = set()
    entries = {(i, j): element for i, columns in enumerate(into) for j, element in columns.items()}
    return OperatorMatrix(entries, L.shape, L.row_spaces, L.col_spaces, names=L.names)
