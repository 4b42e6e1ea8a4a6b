"""Which outputs depend on which sources: forward substitution with boolean matrices, no numbers.

A node's rows are the sums of its edges' patterns times the rows of the nodes before.  Where no node depends on much, as in a
program of many scalars, that takes fewer products than an elimination, which chooses its order for the numbers' sake.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import topological_order
from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, from_entries, run_starts

__all__ = ["dependence"]

MANY = 2**23  # pairs of places that meet, beyond which fewer may in an elimination


def dependence(
    M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix, edge: Callable[[LinearOperator], Sparse | Pattern | None]
) -> dict[tuple[int, int], Pattern] | None:
    """The places of the blocks (output, source) of S (I − L)⁻¹ M; a block without a path is absent.

    ``edge`` gives an edge as a sparse operator, its pattern, or None where all may depend on all.
    None where more than `MANY` pairs of places meet.
    Cost: a product of boolean matrices for each edge.
    """
    starts = run_starts([space.size for space in M.col_spaces])
    sources = [_placed(int(start), space.size, int(starts[-1])) for start, space in zip(starts, M.col_spaces)]
    patterns: dict[int, csr_array] = {}

    def pattern(op: LinearOperator) -> csr_array | None:
        if id(op) not in patterns:
            weight = edge(op)
            weight = weight.pattern if isinstance(weight, Sparse) else weight
            patterns[id(op)] = None if weight is None else _boolean(weight)
        return patterns[id(op)]

    left = MANY

    def row(terms: list[tuple[LinearOperator, csr_array]]) -> csr_array | None:
        """The sum of products; None where too many pairs meet."""
        nonlocal left
        factors = [(pattern(op), op, rows) for op, rows in terms]
        left -= sum(_work(*factor) for factor in factors)
        return _sum([_times(*factor) for factor in factors]) if left >= 0 else None

    nodes: dict[int, csr_array] = {}
    for i in topological_order(L.shape[0], L.row, L.name):
        terms = [(op, sources[k]) for k, op in M.row(i)] + [(op, nodes[k]) for k, op in L.row(i) if k in nodes]
        if terms:
            nodes[i] = row(terms)
            if nodes[i] is None:
                return None
    blocks: dict[tuple[int, int], Pattern] = {}
    for i in range(S.shape[0]):
        terms = [(op, nodes[k]) for k, op in S.row(i) if k in nodes]
        if not terms:
            continue
        total = row(terms)
        if total is None:
            return None
        entries = total.tocoo()
        for j, space in enumerate(M.col_spaces):
            own = (entries.col >= starts[j]) & (entries.col < starts[j + 1])
            if own.any():
                shape = S.row_spaces[i].size, space.size
                blocks[i, j] = from_entries(entries.row[own], entries.col[own] - int(starts[j]), shape)[0]
    return blocks


def _placed(start: int, size: int, total: int) -> csr_array:
    """A source's rows: each of its entries depends on itself."""
    return csr_array((np.ones(size, bool), np.arange(start, start + size), np.arange(size + 1)), shape=(size, total))


def _boolean(pattern: Pattern) -> csr_array:
    starts, cols = pattern.compressed
    return csr_array((np.ones(pattern.nnz, bool), cols, starts), shape=pattern.shape)


def _work(A: csr_array | None, op: LinearOperator, rows: csr_array) -> int:
    """How many pairs of places meet in a product."""
    if A is None:
        return int(op.codomain.size * rows.nnz)
    return rows.nnz if A.shape == (1, 1) else int(np.diff(rows.indptr)[A.indices].sum())


def _times(A: csr_array | None, op: LinearOperator, rows: csr_array) -> csr_array:
    if A is not None:
        one = A.shape == (1, 1) and A.nnz == 1
        return rows if one else A @ rows
    cols, m = np.unique(rows.indices), op.codomain.size
    return csr_array(
        (np.ones(m * cols.size, bool), np.tile(cols, m), cols.size * np.arange(m + 1)), shape=(m, rows.shape[1])
    )


def _sum(terms: list[csr_array]) -> csr_array:
    total = terms[0]
    for term in terms[1:]:
        if term is not total:
            total = total + term
    return total
