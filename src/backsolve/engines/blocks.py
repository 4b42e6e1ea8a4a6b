"""The engine for traced numbers: dense steps on small blocks, planned once, in the array library of the numbers.

Blocks of a program may be long vectors with sparse patterns.  They are split first: into the entries that meet the same
blocks, and where that leaves too much to do, into single entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import astype, namespace
from backsolve.algebra.spaces import require_memory
from backsolve.engines.base import parity
from backsolve.engines.chain import ChainFactors, chain_of
from backsolve.engines.fronts import Block, FrontFactors, FrontPlan
from backsolve.engines.layout import Layout, Part
from backsolve.sparse.materialize import take
from backsolve.sparse.pattern import run_starts

__all__ = ["Permuted", "block_factors", "factors_of"]

Index = np.ndarray[Any, Any]

CHEAP = 1e8  # operations of a factorization that need not be made fewer
SINGLE = 2048  # unknowns up to which it is tried to make every entry a block of its own


class Split(NamedTuple):
    """The plan of a matrix in smaller blocks, and where its blocks' numbers, rows and columns are among those given."""

    plan: FrontPlan
    entries: Index
    rows: Index
    cols: Index


def block_factors(layout: Layout, data: Sequence[Any]) -> Permuted | ChainFactors:
    """Return the factors of a matrix in sparse blocks.

    The plan is worked out once a layout.
    Raises `SingularError`, naming an unknown, where the pattern alone makes the matrix singular, and `PatternTooLargeError`
    (a `MemoryError`) where the factors would not fit into memory.
    Cost: see `FrontPlan.factor`, and `ChainPlan.factor` where the matrix is a chain.
    """
    chain = chain_of(layout)
    split = _split_of(layout) if chain is None else None
    plan: Any = chain if split is None else split.plan
    require_memory(plan.nbytes // 8, 8, f"the factors of a matrix of {layout.size:,} unknowns")
    numbers = layout.numbers(data)
    if numbers.dtype.itemsize < 4:  # no library factors half precision
        numbers = astype(numbers, namespace(numbers).float32)
    if split is None:
        return plan.factor(numbers)  # type: ignore[no-any-return]
    return Permuted(split, split.plan.factor_flat(take(numbers, split.entries)))


def factors_of(layout: Layout, arrays: Sequence[Any]) -> Permuted | ChainFactors:
    """The factors of a matrix of this layout again, of their ``arrays``."""
    chain = chain_of(layout)
    if chain is not None:
        return ChainFactors(chain, arrays)
    split = _split_of(layout)
    return Permuted(split, FrontFactors(split.plan, arrays))


class Permuted:
    """The factors of a matrix whose rows and columns were brought into another order."""

    def __init__(self, split: Split, factors: FrontFactors) -> None:
        self.split = split
        self.factors = factors

    def solve(self, b: Any) -> Any:
        """The x with A x = b."""
        return take(self.factors.solve(take(b, self.split.rows)), np.argsort(self.split.cols))

    def solve_transpose(self, b: Any) -> Any:
        """The x with Aᵀ x = b."""
        return take(self.factors.solve_transpose(take(b, self.split.cols)), np.argsort(self.split.rows))

    @property
    def arrays(self) -> list[Any]:
        """The arrays of the factors."""
        return self.factors.arrays

    def with_arrays(self, arrays: Sequence[Any]) -> Permuted:
        """The factors of another matrix of the same pattern."""
        return Permuted(self.split, FrontFactors(self.factors.plan, arrays))

    def slogdet(self) -> tuple[Any, Any]:
        """The sign (of complex numbers, the phase) of the determinant, and the logarithm of its size."""
        sign, size = self.factors.slogdet()
        return sign * parity(self.split.rows) * parity(self.split.cols), size


def _split_of(layout: Layout) -> Split:
    """The plan of a matrix of this layout, worked out once."""
    return layout.remember("split", lambda: _chosen(layout))


def _chosen(layout: Layout) -> Split:
    split = _split(layout, single=False)
    if split.plan.flops <= CHEAP or layout.size > SINGLE:
        return split
    other = _split(layout, single=True)
    return other if other.plan.flops < split.plan.flops / 2 else split


def _split(layout: Layout, *, single: bool) -> Split:
    n, (indptr, row, _) = layout.size, layout.columns
    col = np.repeat(np.arange(n), np.diff(indptr))
    if single:
        row_part = col_part = np.arange(n)
    else:
        row_part, col_part = map(_pieces, (layout.rows, layout.cols))
        col_part = _finer(col_part, col, row_part[row])
        row_part = _finer(row_part, row, col_part[col])
        col_part = _finer(col_part, col, row_part[row])
    rows, cols = np.argsort(row_part, kind="stable"), np.argsort(col_part, kind="stable")
    row_sizes, col_sizes = np.bincount(row_part), np.bincount(col_part)
    own_row, own_col = _number_in_part(rows, row_sizes)[row], _number_in_part(cols, col_sizes)[col]
    keys = row_part[row] * np.int64(col_sizes.size) + col_part[col]
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order], append=-1)) + 1
    blocks, where = {}, {}
    for entries in np.split(order, ends[:-1]) if order.size else []:
        place = divmod(int(keys[entries[0]]), col_sizes.size)
        blocks[place] = Block(own_row[entries], own_col[entries])
        where[place] = entries
    label = layout.column_label
    plan = FrontPlan(
        row_sizes.tolist(), col_sizes.tolist(), blocks, label=lambda j: label(int(cols[np.searchsorted(col_part[cols], j)]))
    )
    return Split(plan, np.concatenate([np.zeros(0, np.int64), *(where[p] for p in plan.entry_order)]), rows, cols)


def _pieces(parts: Sequence[Part]) -> Index:
    """The number of each entry's piece among those of all parts."""
    starts = run_starts([part.pieces for part in parts])
    return np.concatenate([np.zeros(0, np.int64), *(a + part.numbers() for a, part in zip(starts, parts, strict=False))])


def _finer(part: Index, at: Index, meets: Index) -> Index:
    """Split parts into the entries that meet the same other parts; ``at[k]`` meets ``meets[k]``."""
    if not at.size:
        return part
    pairs = np.unique(np.stack([at, meets]), axis=1)
    number, sets = np.zeros(part.size, np.int64), np.split(pairs[1], np.flatnonzero(np.diff(pairs[0])) + 1)
    known: dict[bytes, int] = {}
    for k, others in zip(np.unique(pairs[0]).tolist(), sets, strict=True):
        number[k] = known.setdefault(others.tobytes(), len(known) + 1)
    finer: Index = np.unique(part * np.int64(len(known) + 1) + number, return_inverse=True)[1]
    return finer


def _number_in_part(order: Index, sizes: Index) -> Index:
    """For each entry, how many of its part come before it."""
    number = np.empty(order.size, np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    number[order] = np.arange(order.size) - starts
    return number
