"""Where the entries of a matrix are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.sparse.matrix import SparseMatrix
from backsolve.system.system import System

__all__ = ["pattern"]

Indices = NDArray[np.int64]


def pattern(thing: Any) -> tuple[Indices, Indices, tuple[int, int]]:
    """Rows and columns of the entries, and the shape.

    Example:
        >>> from backsolve import matrix
        >>> rows, cols, shape = pattern(matrix([[1, 0], [2, 3]]))
        >>> rows.tolist(), cols.tolist(), shape
        ([0, 1, 1], [0, 0, 1], (2, 2))
    """
    if isinstance(thing, System):
        (n, p), q = thing.M.shape, thing.sinks.shape[0]
        parts = [
            (*_places(thing.M), 0, 0),
            (*_places(thing.L), 0, p),
            (np.arange(n), np.arange(n), 0, p),
            (*_places(thing.sinks), n, p),
        ]
        rows = np.concatenate([r + down for r, _, down, _ in parts])
        cols = np.concatenate([c + right for _, c, _, right in parts])
        return rows, cols, (n + q, p + n)
    if isinstance(thing, Graph):
        heads, tails = _places(thing.matrix())[::-1]
        n = len(thing.nodes)
        ones = np.arange(n)
        return np.concatenate([heads, ones]), np.concatenate([tails, ones]), (n, n)
    if isinstance(thing, OperatorMatrix):
        return (*_places(thing), thing.shape)
    if isinstance(thing, SparseMatrix):
        return thing.rows.astype(np.int64), thing.cols.astype(np.int64), thing.shape
    raise TypeError(f"spy takes a System, a Graph, an OperatorMatrix or a SparseMatrix, got {type(thing).__name__}.")


def _places(A: OperatorMatrix) -> tuple[Indices, Indices]:
    if A.numeric is not None:
        coo = A.numeric.csr.tocoo()
        return coo.row.astype(np.int64), coo.col.astype(np.int64)
    places = np.array(list(A.entries), dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]
