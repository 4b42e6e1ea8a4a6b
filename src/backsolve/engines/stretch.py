"""Long rows of a sparse matrix cut into chains of short ones, so that one of them does not fill the factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from backsolve.engines.layout import Columns

__all__ = ["Stretched"]

Index = np.ndarray[Any, Any]

CHUNK = 16  # entries of a piece
LONG = 10.0  # times √n entries: a long row


class Stretched:
    """An equivalent matrix without long rows, for all numbers of one pattern.

    a₁x₁ + … + a_kx_k = b becomes a₁x₁ − t₁ = 0, t₁ + a₂x₂ − t₂ = 0, …, t_{k−1} + a_kx_k = b with unknowns t behind the
    others.  The last piece stands for the row, so that both A x = b and Aᵀ y = g keep their numbering.
    ``size`` is its number of rows; ``columns`` its compressed columns, whose order refers to the numbers given (column by
    column) with 1 and −1 behind them.
    Source: Grcar, *Matrix stretching for linear equations*, 1990.
    """

    def __init__(self, n: int, columns: Columns) -> None:
        row = columns.indices.astype(np.int64)
        col = np.repeat(np.arange(n), np.diff(columns.indptr))
        counts = np.bincount(row, minlength=n)
        new_rows, rows, cols, ones = row.copy(), [row], [col], [np.arange(row.size)]
        links = 0
        by_row = np.argsort(row, kind="stable")
        starts = np.cumsum([0, *counts])
        for i in np.flatnonzero(counts > max(LONG * np.sqrt(n), 2 * CHUNK)).tolist():
            entries = by_row[starts[i] : starts[i + 1]]
            piece = np.arange(entries.size) // CHUNK
            last = int(piece[-1])
            first = n + links
            new_rows[entries] = np.where(piece == last, i, first + piece)
            own = np.arange(first, first + last)
            rows += [own, np.append(own[1:], i)]
            cols += [own, own]
            ones += [np.full(last, row.size + 1), np.full(last, row.size)]  # −1 where a link ends, 1 where it goes on
            links += last
        rows[0] = new_rows
        self.size = n + links
        at_row, at_col, source = np.concatenate(rows), np.concatenate(cols), np.concatenate(ones)
        order = np.lexsort((at_row, at_col))
        indptr = np.concatenate(([0], np.cumsum(np.bincount(at_col, minlength=self.size))))
        self.columns = Columns(indptr.astype(np.int32), at_row[order].astype(np.int32), source[order])

    def numbers(self, given: Any) -> Any:
        """The numbers of the stretched matrix, column by column."""
        return np.concatenate([given, [1, -1]])[self.columns.order]

    def padded(self, b: Any) -> Any:
        """A right-hand side with zeros for the links."""
        return np.concatenate([b, np.zeros((self.size - b.shape[0], *b.shape[1:]), b.dtype)])
