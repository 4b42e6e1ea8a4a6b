"""Symbolic multifrontal factorisation: where every entry, row and column is, indices worked out once with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backsolve.engines.base import SingularError, parity
from backsolve.engines.block_order import Front, Pattern, depths
from backsolve.sparse.materialize import combine, concatenate

__all__ = ["CONSTANTS", "Batch", "Block", "IntArray", "Layout", "Move", "check_places", "check_rank"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]

# They stand before a batch's own entries: a front is 0 where nothing is, and links of stretched rows are 1 and −1.
CONSTANTS = np.array([0.0, 1.0, -1.0])
_PLACE = {0: 0, 1: 1, -1: 2}


@dataclass(frozen=True)
class Block:
    """The places of a block's entries: local row and column of each.  None occurs twice."""

    rows: IntArray
    cols: IntArray


@dataclass(frozen=True)
class Move:
    """Entries brought together for a batch: from its own ones, which come first, and from those of other batches.

    With ``starts`` entry k is the sum over index[starts[k]] … index[starts[k+1]−1].
    """

    sources: tuple[int, ...]
    index: IntArray
    starts: IntArray | None = None

    def __call__(self, own: Sequence[Any], others: Sequence[Any]) -> Any:
        """The entries, of parts that are flat: vectors of numbers, or matrices whose rows are moved."""
        x = concatenate([*own, *(others[g] for g in self.sources)])
        return combine(x, self.index, self.starts)


@dataclass(frozen=True)
class Batch:
    """Fronts of one depth and shape (rows, pivot columns, columns), and what moves in the sweeps over them.

    ``entries``, ``rows``, ``pivots`` are its own ranges of all entries, rows and columns in the order of the batches.
    """

    fronts: tuple[int, ...]
    shape: tuple[int, int, int]
    entries: tuple[int, int]
    rows: tuple[int, int]
    pivots: tuple[int, int]
    assembly: Move  # the fronts, from own entries and what remained of the children
    down: Move  # right-hand sides, from own ones and the children's rests
    back: Move | None  # the rest's unknowns, from the parent, or from where they are pivots
    updates: Move | None  # transposed: what the children subtract
    up: Move | None  # transposed: the rows that remained, from the parent


class _Addresses:
    """Scalars of all fronts, one batch after the other; a batch's own ones are −1, −2, ….

    ``start[f]`` is the address of the first of front f.
    """

    def __init__(self, groups: Sequence[Sequence[int]], sizes: Sequence[int]) -> None:
        order = np.array([f for group in groups for f in group], np.int64)
        each = np.array(sizes, np.int64)[order]
        self.start = np.empty(len(sizes), np.int64)
        self.start[order] = np.cumsum(each) - each
        self.bases = np.append(self.start[[group[0] for group in groups]], each.sum())

    def of(self, f: int, count: int) -> IntArray:
        """The first so many addresses of front f."""
        return np.arange(self.start[f], self.start[f] + count)

    def move(self, addresses: IntArray, own: int = 0, starts: IntArray | None = None) -> Move:
        """The move that brings these together, before which there are ``own`` own ones."""
        inner = addresses >= 0
        # An empty batch shares its base with the next: the last of them is meant.
        batch = np.searchsorted(self.bases[:-1], addresses[inner], side="right") - 1
        sources, which = np.unique(batch, return_inverse=True)
        sizes = np.diff(self.bases)[sources]
        index = -1 - addresses
        index[inner] = addresses[inner] - self.bases[batch] + (own + np.cumsum(sizes) - sizes)[which]
        return Move(tuple(sources.tolist()), index, starts)


class Layout:
    """The moves of every batch, and where the right-hand sides and the unknowns are, for fronts of a pattern.

    ``entry_order`` is the order in which the blocks' entries are concatenated; ``row_order`` and ``col_order`` are b (its
    rows, or in a transposed solve its columns) in the order of the batches, ``size`` where a link of a stretched row has
    0; ``x_order`` and ``y_order`` say where the unknowns of all columns, or rows, are found.
    """

    def __init__(
        self,
        pattern: Pattern,
        fronts: Sequence[Front],
        blocks: Mapping[tuple[int, int], Block],
        row_starts: IntArray,
        col_starts: IntArray,
        size: int,
    ) -> None:
        self.pattern, self.fronts, self.blocks = pattern, fronts, blocks
        groups: dict[tuple[int, tuple[int, int, int]], list[int]] = {}
        for f, (depth, front) in enumerate(zip(depths(fronts), fronts, strict=True)):
            groups.setdefault((depth, front.shape), []).append(f)
        ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[1][0]))
        self.groups = [members for _, members in ordered]
        shapes = [front.shape for front in fronts]
        self.matrices = _Addresses(self.groups, [(r - n) * (c - n) for r, n, c in shapes])
        self.remaining = _Addresses(self.groups, [r - n for r, n, c in shapes])
        self.columns = _Addresses(self.groups, [c for _, _, c in shapes])
        self.rests = _Addresses(self.groups, [c - n for _, n, c in shapes])
        self.lines = _Addresses(self.groups, [r for r, _, _ in shapes])
        self.offsets = [_offsets((*front.pivots, *front.rest), pattern.col_sizes) for front in fronts]
        self.front_of = {j: f for f, front in enumerate(fronts) for j in front.pivots}
        self.first_row = [0] * len(fronts)  # of a front's remaining rows, in its parent
        for front in fronts:
            line = sum(pattern.row_sizes[i] for i in front.rows)
            for k in front.children:
                self.first_row[k] = line
                line += self._left(k)
        # Of a cut row (row, column) the block is now in another row; links have no block.
        self.block_at = {place: place for place in blocks}
        for i, j, row in pattern.moved:
            del self.block_at[i, j]
            self.block_at[row, j] = (i, j)
        self.link_at = {(i, j): sign for i, j, sign in pattern.links}
        self.entry_order: list[tuple[int, int]] = []
        self._starts = [
            np.concatenate([starts, size + np.cumsum([0, *sizes[len(starts) :]])[:-1]]).astype(np.int64)
            for starts, sizes in ((row_starts, pattern.row_sizes), (col_starts, pattern.col_sizes))
        ]  # links behind all others
        self._links = sum(pattern.col_sizes[len(col_starts) :])
        self._fill(row_starts, col_starts, size)

    def sign(self) -> int:
        """The sign with which the product of all pivots is the determinant, where that of every Q is 1.

        A front's pivots are in the first of its rows; the others go up.  Each link of a stretched row is a factor of −1.
        """
        sizes = self.pattern.row_sizes, self.pattern.col_sizes

        def places(side: int, numbers: Iterable[int]) -> list[IntArray]:
            return [np.arange(self._starts[side][i], self._starts[side][i] + sizes[side][i]) for i in numbers]

        left: dict[int, IntArray] = {}
        rows, cols = [], []
        for f in (f for group in self.groups for f in group):
            front = self.fronts[f]
            lines = np.concatenate([np.zeros(0, np.int64), *places(0, front.rows), *(left.pop(k) for k in front.children)])
            n = front.shape[1]
            rows.append(lines[:n])
            cols.append(np.concatenate(places(1, front.pivots)))
            left[f] = lines[n:]
        return parity(np.concatenate(rows)) * parity(np.concatenate(cols)) * (1 - 2 * (self._links % 2))

    def _fill(self, row_starts: IntArray, col_starts: IntArray, size: int) -> None:
        fronts, row_sizes, col_sizes = self.fronts, self.pattern.row_sizes, self.pattern.col_sizes
        after = [self._after(front) for front in fronts]
        goals = np.concatenate(after)
        by_goal = np.argsort(goals, kind="stable")
        sent = np.concatenate([self.rests.of(f, len(above)) for f, above in enumerate(after)])[by_goal]
        goals = goals[by_goal]
        self.batches: list[Batch] = []
        row_order: list[IntArray] = []
        col_order: list[IntArray] = []
        y_order: list[IntArray] = []
        entries = rows = pivots = 0
        for g, group in enumerate(self.groups):
            r, n, c = fronts[group[0]].shape
            own_rows = own_entries = 0
            matrices, lines = [], []
            for f in group:
                front = fronts[f]
                height = sum(row_sizes[i] for i in front.rows)
                matrix, used = self._matrix(front, own_entries)
                matrices.append(matrix)
                lines.append(-1 - own_rows - np.arange(height))
                lines += [self.remaining.of(k, self._left(k)) for k in front.children]
                own_entries += used
                own_rows += height
                row_order += [_range(row_starts, i, row_sizes[i], size) for i in front.rows]
                col_order += [_range(col_starts, j, col_sizes[j], size) for j in front.pivots]
                y_order.append(self.lines.of(f, height))
            low, high = np.searchsorted(goals, self.columns.bases[g : g + 2])
            starts = np.searchsorted(goals[low:high], np.arange(self.columns.bases[g], self.columns.bases[g + 1] + 1))
            own_pivots = n * len(group)
            self.batches.append(
                Batch(
                    tuple(group),
                    (r, n, c),
                    (entries, entries + own_entries),
                    (rows, rows + own_rows),
                    (pivots, pivots + own_pivots),
                    self.matrices.move(np.concatenate(matrices), len(CONSTANTS) + own_entries),
                    self.remaining.move(np.concatenate(lines), own_rows),
                    self.columns.move(np.concatenate([after[f] for f in group])) if c > n else None,
                    self.rests.move(sent[low:high], 0, starts) if high > low else None,
                    self.lines.move(np.concatenate([self._up(f) for f in group])) if r > n else None,
                )
            )
            entries, rows, pivots = entries + own_entries, rows + own_rows, pivots + own_pivots
        self.row_order, self.col_order = np.concatenate(row_order), np.concatenate(col_order)
        self.x_order = _inverse(self.col_order, np.arange(len(self.col_order)), size)
        self.y_order = _inverse(self.row_order, np.concatenate(y_order), size)

    def _matrix(self, front: Front, before: int) -> tuple[IntArray, int]:
        """Where the numbers of a front come from, in row-major order, and how many own entries it has.

        ``before`` are the own entries of its batch before.
        """
        r, _, c = front.shape
        places = np.full((r, c), -1, np.int64)  # CONSTANTS[0]
        offsets = _offsets((*front.pivots, *front.rest), self.pattern.col_sizes)
        line, used = 0, 0
        for i in front.rows:
            for j in self.pattern.rows[i]:
                if (i, j) in self.link_at:
                    diagonal = np.arange(self.pattern.row_sizes[i])
                    places[line + diagonal, offsets[j] + diagonal] = -1 - _PLACE[self.link_at[i, j]]
                    continue
                block = self.blocks[self.block_at[i, j]]
                count = len(block.rows)
                own = -1 - (len(CONSTANTS) + before + used) - np.arange(count)
                places[line + block.rows, offsets[j] + block.cols] = own
                self.entry_order.append(self.block_at[i, j])
                used += count
            line += self.pattern.row_sizes[i]
        for k in front.children:
            columns = self._columns(offsets, self.fronts[k].rest)
            line, height = self.first_row[k], self._left(k)
            places[line : line + height, columns] = self.matrices.of(k, height * len(columns)).reshape(height, -1)
        return places.reshape(-1), used

    def _left(self, f: int) -> int:
        """How many rows remain of a front."""
        r, n, _ = self.fronts[f].shape
        return r - n

    def _after(self, front: Front) -> IntArray:
        """Where the columns of a front's rest are further up: in its parent, or where they are pivots."""
        if front.parent >= 0:
            above: IntArray = self.columns.start[front.parent] + self._columns(self.offsets[front.parent], front.rest)
            return above
        owners = [self.front_of[j] for j in front.rest]
        parts = [
            self.columns.start[f] + self._columns(self.offsets[f], (j,)) for f, j in zip(owners, front.rest, strict=True)
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def _up(self, f: int) -> IntArray:
        """Where a front's remaining rows are in its parent."""
        start = self.lines.start[self.fronts[f].parent] + self.first_row[f]
        return np.arange(start, start + self._left(f))

    def _columns(self, offsets: Mapping[int, int], cols: Iterable[int]) -> IntArray:
        """The places of these block columns' scalars in a front that has the columns there."""
        sizes = self.pattern.col_sizes
        return np.concatenate([np.arange(offsets[j], offsets[j] + sizes[j]) for j in cols])


def _offsets(cols: Sequence[int], sizes: Sequence[int]) -> dict[int, int]:
    """Where each of these block columns begins, one after the other."""
    ends = np.cumsum([0, *(sizes[j] for j in cols)]).tolist()
    return dict(zip(cols, ends, strict=False))


def _range(starts: IntArray, k: int, count: int, size: int) -> IntArray:
    """The places of block k, ``size`` for each of its scalars where it is not one of the matrix."""
    return np.arange(starts[k], starts[k] + count) if k < len(starts) else np.full(count, size)


def _inverse(order: IntArray, places: IntArray, size: int) -> IntArray:
    """The x with x[order[k]] = places[k], for the orders below ``size``."""
    inverse = np.empty(size + 1, np.int64)
    inverse[order] = places
    return inverse[:size]


def check_places(
    row_sizes: Sequence[int], col_sizes: Sequence[int], blocks: Mapping[tuple[int, int], Block], order: Sequence[int] | None
) -> None:
    """Raise ValueError where the sizes, blocks and order do not describe a square matrix."""
    if sum(row_sizes) != sum(col_sizes) or not sum(row_sizes):
        raise ValueError(f"a square matrix is needed, not one of {sum(row_sizes)} × {sum(col_sizes)}.")
    for (i, j), block in blocks.items():
        if not (0 <= i < len(row_sizes) and 0 <= j < len(col_sizes)):
            raise ValueError(f"block {(i, j)} is outside {len(row_sizes)} × {len(col_sizes)} blocks.")
        for name, local, size in (("rows", block.rows, row_sizes[i]), ("columns", block.cols, col_sizes[j])):
            if local.size and (local.min() < 0 or local.max() >= size):
                raise ValueError(f"block {(i, j)} has {size} {name}, and entries at {local.min()} … {local.max()}.")
    if order is not None and sorted(order) != list(range(len(col_sizes))):
        raise ValueError(f"the order must name each of the {len(col_sizes)} block columns once.")


def check_rank(
    row_sizes: Sequence[int], col_sizes: Sequence[int], blocks: Mapping[tuple[int, int], Block], label: Callable[[int], str]
) -> None:
    """Raise SingularError where the columns cannot be given a row of their own each.

    Where they can, no front ever has fewer rows than pivots: in exact arithmetic and for almost all numbers the columns
    are independent, and QR keeps them so.  Cost: a maximum matching of the entries (Hopcroft and Karp).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    row_starts, col_starts = (np.cumsum([0, *sizes]) for sizes in (row_sizes, col_sizes))
    empty = np.zeros(0, np.int64)
    rows = np.concatenate([empty, *(row_starts[i] + block.rows for (i, _), block in blocks.items())])
    cols = np.concatenate([empty, *(col_starts[j] + block.cols for (_, j), block in blocks.items())])
    n = int(row_starts[-1])
    graph = csr_array((np.ones(len(rows), np.int8), (rows, cols)), shape=(n, n))
    row_of = maximum_bipartite_matching(graph, perm_type="row")
    alone = np.flatnonzero(row_of < 0)
    if alone.size:
        j = int(np.searchsorted(col_starts, alone[0], side="right")) - 1
        raise SingularError(
            f"the matrix is singular whatever its numbers are: {label(j)} and the columns that share its rows are more "
            f"unknowns than they have equations ({alone.size} too many in all)."
        )
