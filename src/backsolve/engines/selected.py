"""Selected inversion: some entries of the inverse of a sparse matrix from its triangular factors, by their sparsity."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["selected_inverse"]

Array = np.ndarray[Any, Any]

WORK = 10  # times the products of so many substitutions: not worth it
LIVE = 50_000_000  # numbers in memory at a time
POOR = 1e-8  # of |1 − (A A⁻¹)ⱼⱼ|, from where the entries are not to be trusted


def selected_inverse(L: Any, U: Any, A: Any, rows: Array, cols: Array) -> Array | None:
    """Return (A⁻¹)[rows[k], cols[k]] for A = L U, L with ones on its diagonal, all of them `scipy.sparse` arrays.

    With Z = A⁻¹, D the diagonal of U and S the places below pivot j (in L or U, made symmetric and filled in),
    Z[S, j] = −Z[S, S] L[S, j],  Z[j, S] = −D⁻¹U[j, S] Z[S, S],  Z[j, j] = 1 / D[j] − D⁻¹U[j, S] Z[S, j],  from the last j
    to the first; Z[S, S] is part of what the next place in S, its parent, has handed on.
    None where that takes more than substitutions, or where the diagonal of A Z, of which all entries are at hand, is not 1.
    Cost: Σ |S|² products.
    Source: Takahashi, Fagan and Chin, *Formation of a sparse bus impedance matrix*, 1973; Erisman and Tinney, *On computing
    certain elements of the inverse of a sparse matrix*, 1975.
    """
    n = A.shape[0]
    below = _filled(n, [(M.tocoo().row, M.tocoo().col) for M in (L, U, A)] + [(rows, cols)])
    sizes = np.array([s.size for s in below], np.int64)
    if (sizes**2).sum() > WORK * max(rows.size, 1) * (L.nnz + U.nnz):
        return None
    lower, upper = _Lines(L.tocsc(), n), _Lines(U.tocsr(), n)
    of_row, of_col = _Lines(A.tocsr(), n), _Lines(A.tocsc(), n)
    pivots, diagonal = U.diagonal(), A.diagonal()
    parent = np.array([s[0] if s.size else -1 for s in below], np.int64)
    left = np.bincount(parent[parent >= 0], minlength=n)  # children that still want a block
    wanted = _by_pivot(rows, cols, n)
    inverse = np.zeros(rows.size, np.result_type(L.dtype, U.dtype))
    ones = np.zeros(n, inverse.dtype)  # the diagonal of A Z
    blocks: dict[int, Array] = {}
    live = 0
    for j in range(n - 1, -1, -1):
        S, p = below[j], int(parent[j])
        m = S.size
        Z = np.empty((m + 1, m + 1), inverse.dtype)
        u = upper.at(j, S) / pivots[j]
        if m:
            above = blocks[p]
            at = np.concatenate([[0], 1 + np.searchsorted(below[p], S[1:])])
            G = above[np.ix_(at, at)]
            Z[1:, 1:] = G
            Z[1:, 0] = -(G @ lower.at(j, S))
            Z[0, 1:] = -(u @ G)
            left[p] -= 1
            if not left[p]:
                live -= above.size
                del blocks[p]
        Z[0, 0] = 1 / pivots[j] - u @ Z[1:, 0]
        ones[j] += diagonal[j] * Z[0, 0] + of_row.at(j, S) @ Z[1:, 0]
        ones[S] += of_col.at(j, S) * Z[0, 1:]
        for k in wanted.get(j, ()):
            places = [0 if i == j else 1 + int(np.searchsorted(S, i)) for i in (rows[k], cols[k])]
            inverse[k] = Z[places[0], places[1]]
        if left[j]:
            blocks[j] = Z
            live += Z.size
            if live > LIVE:
                return None
    return inverse if np.abs(ones - 1).max(initial=0.0) <= POOR else None


def _filled(n: int, places: list[tuple[Array, Array]]) -> list[Array]:
    """Below each pivot, the places of the symmetric matrix with these places and what elimination fills in."""
    i = np.concatenate([np.maximum(r, c) for r, c in places]).astype(np.int64)
    j = np.concatenate([np.minimum(r, c) for r, c in places]).astype(np.int64)
    keys = np.unique(j[i > j] * np.int64(n) + i[i > j])
    own = np.split(keys % max(n, 1), np.searchsorted(keys, np.arange(1, n) * np.int64(n))) if n else []
    below: list[Array] = []
    children: list[list[Array]] = [[] for _ in range(n)]
    for column, S in enumerate(own):
        if children[column]:
            S = np.unique(np.concatenate([S, *(child[1:] for child in children[column])]))
            children[column] = []
        below.append(S)
        if S.size:
            children[int(S[0])].append(S)
    return below


class _Lines:
    """The columns (or rows) of a compressed matrix, read at places of one's own."""

    def __init__(self, M: Any, n: int) -> None:
        self.indptr, self.indices, self.data = M.indptr, M.indices, M.data
        self.line = np.zeros(n, M.dtype)

    def at(self, j: int, places: Array) -> Array:
        """The entries of line j at these places."""
        start, stop = self.indptr[j], self.indptr[j + 1]
        self.line[self.indices[start:stop]] = self.data[start:stop]
        entries: Array = self.line[places]
        self.line[self.indices[start:stop]] = 0
        return entries


def _by_pivot(rows: Array, cols: Array, n: int) -> dict[int, list[int]]:
    """The entries wanted, by the pivot with which they are found."""
    wanted: dict[int, list[int]] = {}
    for k, j in enumerate(np.minimum(rows, cols).tolist()):
        wanted.setdefault(j, []).append(k)
    return wanted
