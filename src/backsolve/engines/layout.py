"""A square matrix in sparse blocks as compressed columns, long rows stretched: analysed once, for every set of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from backsolve.sparse.materialize import common_dtype, concatenate, take
from backsolve.sparse.pattern import Pattern, run_starts

__all__ = ["Columns", "Layout", "Part", "Stretched", "amid", "compressed", "ends_of_rows"]


Index = np.ndarray[Any, Any]
T = TypeVar("T")


class Part(NamedTuple):
    """A block row or a block column: what stands there, how many entries it has, and into how many equal pieces they fall
    (the steps of a loop).
    """

    label: str
    size: int
    pieces: int = 1

    def numbers(self) -> Index:
        """The number of each entry's piece."""
        return np.arange(self.size) // max(self.size // self.pieces, 1)


class Columns(NamedTuple):
    """The places column by column (CSC), and from which of the blocks' numbers, one block after the other, each comes."""

    indptr: Index
    indices: Index
    order: Index


def compressed(row: Index, col: Index, n: int, source: Index | None = None) -> Columns:
    """Places of n columns, column by column; ``source`` says where the number of each comes from (None: in turn)."""
    order = np.lexsort((row, col))
    indptr = run_starts(np.bincount(col, minlength=n)).astype(np.int32)
    return Columns(indptr, row[order].astype(np.int32), order if source is None else source[order])


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the blocks of a square matrix lie and may be non-zero.

    ``places[n]`` and ``patterns[n]`` are the block row and block column, and the pattern, of block n; ``mates[k]`` is the
    column that belongs to row k (None: column k).  Equal only to itself; what engines work out about it is kept in it.
    """

    rows: tuple[Part, ...]
    cols: tuple[Part, ...]
    places: tuple[tuple[int, int], ...]
    patterns: tuple[Pattern, ...]
    mates: Index | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what engines worked out about it."""
        return Layout, (self.rows, self.cols, self.places, self.patterns, self.mates)

    def __deepcopy__(self, memo: Any) -> Layout:
        return self

    @property
    def size(self) -> int:
        """Number of rows, and of columns."""
        return int(self.row_starts[-1])

    @property
    def nnz(self) -> int:
        """Number of places."""
        return sum(pattern.nnz for pattern in self.patterns)

    @property
    def row_starts(self) -> Index:
        """The number of each block row's first row, and at last that of all."""
        return self.remember("row starts", lambda: run_starts([part.size for part in self.rows]))

    @property
    def col_starts(self) -> Index:
        """The number of each block column's first column, and at last that of all."""
        return self.remember("column starts", lambda: run_starts([part.size for part in self.cols]))

    def remember(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make`` returned the first time this key was asked for."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]  # type: ignore[no-any-return]

    @property
    def columns(self) -> Columns:
        """The compressed columns, worked out once."""
        return self.remember("columns", self._columns)

    def _columns(self) -> Columns:
        nothing = np.zeros(0, np.int64)
        rows = [p.rows + self.row_starts[i] for (i, _), p in zip(self.places, self.patterns, strict=True)]
        cols = [p.cols + self.col_starts[j] for (_, j), p in zip(self.places, self.patterns, strict=True)]
        row, col = np.concatenate([nothing, *rows]), np.concatenate([nothing, *cols])
        return compressed(row, col, self.size)

    def numbers(self, data: Sequence[Any]) -> Any:
        """The blocks' numbers as one vector, column by column."""
        parts = [part for part in data if part.shape[0]]
        if not parts:
            return np.zeros(0)
        return take(concatenate(common_dtype(parts, None)), self.columns.order)

    def column_label(self, k: int) -> str:
        """What stands at column k."""
        return _label(self.cols, self.col_starts, k)

    def row_label(self, k: int) -> str:
        """What stands at row k."""
        return _label(self.rows, self.row_starts, k)


def _label(parts: Sequence[Part], starts: Index, k: int) -> str:
    part = int(np.searchsorted(starts, k, "right")) - 1
    label, size, pieces = parts[part]
    at, each = k - int(starts[part]), size // max(pieces, 1)
    entry = "" if each == 1 else f", entry {at % each} of {each}"
    return f"{label}{entry}" if pieces == 1 else f"{label} at step {at // each}{entry}"


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
        starts = run_starts(counts)
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
        self.columns = compressed(at_row, at_col, self.size, source)

    @cached_property
    def mates(self) -> Any:
        """For each row a column of its own with an entry there, -1 where none is left: the matrix is singular then."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        n, (indptr, row, _) = self.size, self.columns
        col = np.repeat(np.arange(n), np.diff(indptr))
        return maximum_bipartite_matching(csr_array((np.ones(row.size), (row, col)), shape=(n, n)), perm_type="row")

    def numbers(self, given: Any) -> Any:
        """The numbers of the stretched matrix, column by column."""
        return np.concatenate([given, [1, -1]])[self.columns.order]

    def padded(self, b: Any) -> Any:
        """A right-hand side with zeros for the links."""
        return np.concatenate([b, np.zeros((self.size - b.shape[0], *b.shape[1:]), b.dtype)])


# ---- orders of a narrow matrix ----------------------------------------------------------------------------------------
SWEEPS = 8  # of moving rows and columns amid those that they meet


def amid(A: Any, turned: Any, cols: Index) -> tuple[Index, Index]:
    """Orders of rows and of columns in which each lies amid the first and the last that it meets, of both.

    ``A`` is a SciPy matrix of compressed rows without an empty row or column, ``turned`` its transpose, ``cols`` the order
    of the columns to begin with.  What meets little is moved to where its neighbours are, which narrows a band.
    """
    at = np.argsort(cols)
    rows = at
    for _ in range(SWEEPS):
        rows = _ranks(A, at)
        at = _ranks(turned, rows)
    return np.argsort(rows), np.argsort(at)


def _ranks(A: Any, at: Index) -> Index:
    low, high = ends_of_rows(A, at)
    return np.argsort(np.argsort(low + high, kind="stable"))


def ends_of_rows(A: Any, at: Index) -> tuple[Index, Index]:
    """The first and the last place of the columns that each row meets; column k is at ``at[k]``."""
    places = at[A.indices]
    return np.minimum.reduceat(places, A.indptr[:-1]), np.maximum.reduceat(places, A.indptr[:-1])
