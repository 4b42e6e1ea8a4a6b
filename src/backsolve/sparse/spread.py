"""Sparse matrices whose rows are spread over devices: as many places in each row, and products that shift, not gather.

The numbers of equally long rows, one row after the other, are spread as the rows are.  A product with a vector is a sum of
shifted vectors, one for each diagonal of the matrix (of the arrays that it acts on, if these have several axes): neighbours
exchange what lies at their borders, and nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice, product
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np

from backsolve.algebra.arrays import add, concat, multiply, reshape, take
from backsolve.sparse.pattern import Pattern, from_entries, transposed, with_filled

__all__ = [
    "MANY",
    "colours",
    "equal_rows",
    "main_diagonal",
    "pulled_shifted",
    "times_shifted",
    "transposed_shifted",
    "width",
]

Index = np.ndarray[Any, Any]

_FILL = 1.25  # rows are filled up where that makes at most so many times the places
_DIAGONALS = 4  # times the places of a row: with more, a product gathers
MANY = 256  # places of a row: of longer ones, numbers are worked out as on one device
_FORMS = 4_000  # linear forms that are tried
_STEEP = 32  # factors of a form
_GREEDY = 20_000  # columns, more are coloured by remainders alone


def width(pattern: Pattern) -> int | None:
    """How many places each row has, where all have as many."""
    m = pattern.shape[0]
    return pattern.remember("width", lambda: _width(pattern)) if m and pattern.nnz else None


def _width(pattern: Pattern) -> int | None:
    counts = np.diff(pattern.starts)
    return int(counts[0]) if counts.min() == counts.max() else None


def equal_rows(pattern: Pattern) -> Pattern | None:
    """The pattern with every row as long as the longest, by further places (of zeros); None where they would be many."""
    (m, n), nnz = pattern.shape, pattern.nnz
    if width(pattern) is not None or not m or not nnz:
        return pattern if nnz else None
    counts = np.diff(pattern.starts)
    w = int(counts.max())
    if m * w > _FILL * nnz:
        return None
    rows, cols = pattern.rows.astype(np.int64), pattern.cols.astype(np.int64)
    offsets, often = np.unique((cols - rows) % n, return_counts=True)
    usual = offsets[np.argsort(-often, kind="stable")]
    more_rows, more_cols = [], []
    for i in np.flatnonzero(counts < w):
        occupied = set(cols[pattern.starts[i] : pattern.starts[i + 1]].tolist())
        candidates = (c for c in chain(((i + usual) % n).tolist(), range(n)) if c not in occupied)
        for _ in range(w - counts[i]):
            col = next(candidates)
            while col in occupied:
                col = next(candidates)
            occupied.add(col)
            more_rows.append(i)
            more_cols.append(col)
    longer, groups = from_entries(np.append(rows, more_rows), np.append(cols, more_cols), (m, n))
    return with_filled(longer, np.arange(nnz, longer.nnz) if groups.order is None else np.flatnonzero(groups.order >= nnz))


def colours(patterns: Sequence[Pattern], shape: tuple[int, ...]) -> Index | None:
    """A colour for each column, from 0, such that no row of any pattern has one twice; None where none is found quickly.

    By the remainder of a linear form of a column's place in an array of this shape, else one column after the other.
    The patterns have as many columns, and each has rows of one length.  There are at most about four times as many colours
    as places in a row, so that what they take is not much more than what is asked for.
    """
    tables = [pattern.cols.reshape(pattern.shape[0], -1).astype(np.int64) for pattern in patterns]
    n, w = patterns[0].shape[1], max(table.shape[1] for table in tables)
    most = 4 * w + 8
    shape = shape or (1,)
    places = np.unravel_index(np.arange(n), shape)
    some = [table[:: max(1, len(table) // 512)] for table in tables]
    at_some = [[p[part] for p in places] for part in some]
    for count, form in islice(_forms(w, most, len(shape)), _FORMS):
        if all(_proper(_form(form, at) % count) for at in at_some):
            colour = _form(form, places) % count
            if all(_proper(colour[table]) for table in tables):
                return colour.astype(np.int16)
    if n > _GREEDY:
        return None
    colour = _greedy(tables, n)
    return colour.astype(np.int16) if colour.max() < most else None


def _forms(least: int, most: int, axes: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Numbers of colours, and factors of all places but the last; those of boxes first."""
    if axes > 3:
        return
    if axes < 2:
        yield from ((count, ()) for count in range(least, most + 1))
        return
    for count in range(least, most + 1):
        yield from ((count, form) for form in product(*[range(1, min(count, _STEEP))] * (axes - 1)))


def _form(form: Sequence[int], places: Sequence[Index]) -> Index:
    return np.asarray(sum((a * p for a, p in zip((*form, 1), places, strict=True)), np.int64(0)))


def _proper(table: Index) -> bool:
    return bool((np.diff(np.sort(table, axis=1), axis=1) > 0).all())


def _greedy(tables: Sequence[Index], n: int) -> Index:
    cols = np.concatenate([table.reshape(-1) for table in tables])
    rows = np.concatenate([np.repeat(np.arange(len(t)), t.shape[1]) for t in tables])
    begins = np.cumsum([0, *(len(table) for table in tables)])
    rows = rows + np.repeat(begins[:-1], [table.size for table in tables])
    order = np.argsort(cols, kind="stable")
    starts, at = np.searchsorted(cols[order], np.arange(n + 1)), rows[order]
    colours = np.full(n, -1)
    for j in range(n):
        met: set[int] = set()
        for row in at[starts[j] : starts[j + 1]]:
            k = int(np.searchsorted(begins, row, side="right")) - 1
            met.update(colours[tables[k][row - begins[k]]].tolist())
        colour = 0
        while colour in met:
            colour += 1
        colours[j] = colour
    return colours


def times_shifted(pattern: Pattern, data: Any, x: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> Any:
    """The product with a vector, or several side by side, as a sum of shifted ones; None where there are many diagonals.

    What a diagonal does not hold in a row does not meet the vector, whose entry there may be infinite.
    """
    plan = _plan(pattern, domain, codomain)
    if plan is None:
        return None
    more = tuple(x.shape)[1:]
    whole = reshape(x, (*domain, *more))
    shifted: dict[tuple[int, ...], Any] = {}
    total: Any = None
    numbers = _numbers_of(plan, pattern, data, (*domain, *(1,) * len(more)))
    for diagonal in plan:
        term = diagonal.times(numbers[diagonal.offset], _shifted(whole, diagonal.offset, shifted))
        total = term if total is None else add(total, term)
    return reshape(total, (pattern.shape[0], *more))


def pulled_shifted(pattern: Pattern, data: Any, x: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> Any:
    """The product of the transpose with a vector, or several: each diagonal's is shifted back, equally far ones together.

    None as in `times_shifted`.
    """
    plan = _plan(pattern, domain, codomain)
    if plan is None:
        return None
    more = tuple(x.shape)[1:]
    whole = reshape(x, (*domain, *more))
    numbers = _numbers_of(plan, pattern, data, (*domain, *(1,) * len(more)))
    terms = {diagonal.offset: diagonal.times(numbers[diagonal.offset], whole) for diagonal in plan}
    for axis in reversed(range(len(domain))):
        together: dict[tuple[int, ...], Any] = {}
        for offset, term in terms.items():
            moved, before = _rolled(term, axis, -offset[axis] % domain[axis]), offset[:axis]
            together[before] = add(together[before], moved) if before in together else moved
        terms = together
    return reshape(terms[()], (pattern.shape[1], *more))


def main_diagonal(pattern: Pattern, data: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> Any:
    """The numbers of the main diagonal, each where its row is; None as in `times_shifted`, and where there is none."""
    plan = _plan(pattern, domain, codomain)
    return None if plan is None else _numbers_of(plan, pattern, data, (pattern.shape[0],)).get((0,) * len(domain))


def transposed_shifted(pattern: Pattern, data: Any, domain: tuple[int, ...], codomain: tuple[int, ...]) -> Any:
    """The numbers of the transpose, in its own order, by shifting each diagonal; None as in `times_shifted`.

    Diagonals that go as far along the first axis go together.
    """
    plan, mirrored = _plan(pattern, domain, codomain), transposed(pattern)[0]
    back = None if plan is None else _plan(mirrored, domain, codomain)
    if plan is None or back is None:
        return None
    numbers = _numbers_of(plan, pattern, data, domain)
    away = {diagonal.offset: tuple(-k % n for k, n in zip(diagonal.offset, domain, strict=True)) for diagonal in back}
    columns: list[Any] = [None] * cast(int, width(mirrored))
    for first in sorted({diagonal.offset[0] for diagonal in back}):
        group = [(diagonal.offset, diagonal.slots) for diagonal in back if diagonal.offset[0] == first]
        moved = _rolled(concat([reshape(numbers[away[offset]], (*domain, 1)) for offset, _ in group], len(domain)), 0, first)
        for k, (offset, slots) in enumerate(group):
            start, stop = (0,) * len(domain), tuple(domain)
            one = reshape(take(moved, (*start, k), (*stop, k + 1)), domain)
            one = reshape(_shifted(one, (0, *offset[1:]), {}), (pattern.shape[0],))
            for slot, mask in slots:
                part = one if mask is None else multiply(mask, one)
                columns[slot] = part if columns[slot] is None else add(columns[slot], part)
    return reshape(concat([reshape(x, (pattern.shape[0], 1)) for x in columns], 1), (pattern.nnz,))


class Diagonal(NamedTuple):
    """A diagonal of a matrix on arrays: how far its columns lie from their rows, and where its numbers are.

    ``slots`` are the places of rows where it stands, each with the rows that have it there; ``there`` are the rows that have
    it at all, ``filled`` those where only a zero was added (None: all of them, or none).
    """

    offset: tuple[int, ...]
    slots: list[tuple[int, Index | None]]
    there: Index | None
    filled: Index | None

    def times(self, numbers: Any, x: Any) -> Any:
        """The entrywise product, of what this diagonal holds alone."""
        term, shape = multiply(numbers, x), tuple(numbers.shape)
        if self.there is not None:
            term = multiply(reshape(self.there, shape), term)
        if self.filled is not None:
            term = multiply(multiply(reshape(self.filled, shape), numbers == 0) ^ True, term)
        return term


Plan = list[Diagonal]


def _plan(pattern: Pattern, domain: tuple[int, ...], codomain: tuple[int, ...]) -> Plan | None:
    w = width(pattern)
    if w is None or domain != codomain or not domain:
        return None
    return pattern.remember(f"diagonals of {domain}", partial(_diagonals, pattern, w, domain))


def _numbers_of(plan: Plan, pattern: Pattern, data: Any, shape: tuple[int, ...]) -> dict[tuple[int, ...], Any]:
    """The numbers of each diagonal, as an array of this shape, by its offset."""
    m = pattern.shape[0]
    table = reshape(data, (m, pattern.nnz // m))
    blocks = {}
    for diagonal in plan:
        numbers: Any = None
        for slot, mask in diagonal.slots:
            column = reshape(take(table, (0, slot), (m, slot + 1)), (m,))
            column = column if mask is None else multiply(mask, column)
            numbers = column if numbers is None else add(numbers, column)
        blocks[diagonal.offset] = reshape(numbers, shape)
    return blocks


def _diagonals(pattern: Pattern, w: int, shape: tuple[int, ...]) -> Plan | None:
    """Each offset of a column from its row as a diagonal; None where there are many."""
    m = prod(shape)
    at_rows = np.unravel_index(pattern.rows.astype(np.int64), shape)
    at_cols = np.unravel_index(pattern.cols.astype(np.int64), shape)
    offsets = tuple((c - r) % n for r, c, n in zip(at_rows, at_cols, shape, strict=True))
    keys = np.ravel_multi_index(offsets, shape).reshape(m, w)
    distinct = np.unique(keys)
    if distinct.size > _DIAGONALS * w:
        return None
    added = np.zeros(m * w, bool)
    added[[] if pattern.filled is None else pattern.filled] = True
    plan = []
    for key in distinct:
        there = keys == key
        slots = [(s, None if there[:, s].all() else there[:, s]) for s in np.flatnonzero(there.any(axis=0)).tolist()]
        rows, filled = there.any(axis=1), (there & added.reshape(m, w)).any(axis=1)
        offset = tuple(int(k) for k in np.unravel_index(int(key), shape))
        plan.append(Diagonal(offset, slots, None if rows.all() else rows, filled if filled.any() else None))
    return plan


def _shifted(x: Any, offset: Sequence[int], known: dict[tuple[int, ...], Any]) -> Any:
    """x[i + offset], cyclically; the first axes first, so that shifts along them are done once for all others."""
    for axis in range(len(offset)):
        done = (*offset[: axis + 1],)
        if done not in known:
            known[done] = _rolled(x, axis, offset[axis])
        x = known[done]
    return x


def _rolled(x: Any, axis: int, by: int) -> Any:
    if by == 0:
        return x
    shape = tuple(x.shape)
    start, stop = [0] * len(shape), list(shape)
    start[axis], stop[axis] = by, by
    return concat([take(x, tuple(start), shape), take(x, (0,) * len(shape), tuple(stop))], axis)
