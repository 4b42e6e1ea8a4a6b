"""Sums of sparse operators' numbers, and several of them one after the other: what stays lazy on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backsolve.algebra.elements import is_number
from backsolve.sparse.lazy_values import Arrangement, Values, as_numbers, sum_consts

__all__ = ["joined", "union"]

Index = np.ndarray[Any, Any]

_SOURCES = 16  # a sum over more arrays is formed at once
_TERMS = 8  # as is one of more terms a number


def joined(parts: Sequence[Values]) -> Values:
    """The numbers of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    count = sum(part.plan.count for part in parts)
    const = _joined_numbers([(part.plan.const, part.plan.count) for part in parts])
    moving = [part for part in parts if part.sources]
    if not moving:
        return Values((), Arrangement(count, const=const))
    sources, sizes, offsets = _all_sources(moving)
    lengths = {id(part): _length(part) for part in parts}
    dtype = np.int32 if max(sum(lengths.values()), sum(sizes)) < 2**31 else np.int64
    index = [_moved_index(part, offsets, dtype) for part in moving]
    coef = _joined_numbers([(part.plan.coef, lengths[id(part)]) for part in moving])
    counts = [_counts(part) for part in parts]
    single = all(part.sources and part.plan.starts is None for part in parts)
    starts = None if single else np.concatenate(([0], np.cumsum(np.concatenate(counts)))).astype(dtype)
    return Values(sources, Arrangement(count, sizes, np.concatenate(index), starts, coef, const))


def union(a: Values, left: Index | None, b: Values, right: Index | None, count: int) -> Values:
    """The sum of a's numbers at the places ``left`` and b's at ``right`` (None: one at every place) of ``count``.

    Sums of many terms are formed on the way, so that long chains of additions stay linear.
    """
    if len(a.sources) + len(b.sources) > _SOURCES or _length(a) + _length(b) > _TERMS * count:
        a, b = a.settled(), b.settled()
    const = sum_consts([(a.plan.const, left), (b.plan.const, right)], count)
    if not a.sources and not b.sources:
        return Values((), Arrangement(count, const=const))
    if not a.sources or not b.sources:
        moved = a.spread(left, count) if a.sources else b.spread(right, count)
        plan = moved.plan
        return Values(moved.sources, Arrangement(count, plan.sizes, plan.index, plan.starts, plan.coef, const))
    sources, sizes, shift = _joined_sources(a, b)
    parts = ((a.plan, left), (b.plan, right))
    lengths = [_length(a), _length(b)]
    dtype = np.int32 if max(sum(lengths), sum(sizes)) < 2**31 else np.int64
    indices = [np.arange(n, dtype=dtype) if plan.index is None else plan.index for n, (plan, _) in zip(lengths, parts)]
    indices[1] = shift(indices[1])
    coefs = [plan.coef for plan, _ in parts]
    uniform = is_number(coefs[0]) and is_number(coefs[1]) and coefs[0] == coefs[1]
    single = a.plan.starts is None and b.plan.starts is None and sum(lengths) == count
    starts, places = (None, [left, right]) if single else _interleaved(parts, count, dtype)
    index = np.empty(sum(lengths), dtype)
    coef = coefs[0] if uniform else np.empty(sum(lengths), np.result_type(*map(np.asarray, coefs)))
    for k in range(2):
        at = slice(None) if places[k] is None else places[k]
        index[at] = indices[k]
        if not uniform:
            coef[at] = coefs[k]
    return Values(sources, Arrangement(count, sizes, index, starts, coef, const))


def _all_sources(parts: Sequence[Values]) -> tuple[list[Any], tuple[int, ...], dict[int, int]]:
    """The sources of all parts, each array once, their sizes, and by an array's id where its entries begin."""
    found = {id(x): (x, n) for part in parts for x, n in zip(part.sources, part.plan.sizes, strict=True)}
    sizes = tuple(n for _, n in found.values())
    begins = np.concatenate(([0], np.cumsum(sizes))).tolist()
    return [x for x, _ in found.values()], sizes, dict(zip(found, begins))


def _moved_index(part: Values, offsets: dict[int, int], dtype: Any) -> Index:
    """Where the terms of a part lie in the concatenation of all sources."""
    plan = part.plan
    index = np.arange(_length(part), dtype=dtype) if plan.index is None else plan.index.astype(dtype, copy=False)
    begins = np.concatenate(([0], np.cumsum(plan.sizes)))
    moves = np.array([offsets[id(x)] for x in part.sources]) - begins[:-1]
    far: Index = moves[:1] if (moves == moves[0]).all() else moves[np.searchsorted(begins[1:], index, side="right")]
    moved: Index = index + far.astype(dtype)
    return moved


def _counts(part: Values) -> Index:
    """How many terms each number has."""
    plan = part.plan
    if not part.sources:
        return np.zeros(plan.count, np.int64)
    return np.ones(plan.count, np.int64) if plan.starts is None else np.diff(plan.starts)


def _joined_numbers(parts: Sequence[tuple[Any, int]]) -> Any:
    """Static numbers one after the other: a number where all are the same one."""
    first = parts[0][0]
    if is_number(first) and all(is_number(c) and c == first for c, _ in parts):
        return first
    return np.concatenate([np.full(n, c) if is_number(c) else as_numbers(c) for c, n in parts])


def _length(values: Values) -> int:
    """Number of terms."""
    plan = values.plan
    if not values.sources:
        return 0
    return plan.count if plan.starts is None else int(plan.starts[-1])


def _interleaved(
    parts: Sequence[tuple[Arrangement, Index | None]], count: int, dtype: Any
) -> tuple[Index, list[Index | None]]:
    """Where the terms of each number begin, a's first and then b's, and where each term of a and of b goes."""
    counts = np.zeros((2, count), dtype)
    for own, (plan, places) in zip(counts, parts, strict=True):
        own[slice(None) if places is None else places] = 1 if plan.starts is None else np.diff(plan.starts)
    starts = np.zeros(count + 1, dtype)
    np.cumsum(counts[0] + counts[1], out=starts[1:])
    found: list[Index | None] = []
    for k, (plan, places) in enumerate(parts):
        begins = starts[:-1] if k == 0 else starts[:-1] + counts[0]
        begins = begins if places is None else begins[places]
        if plan.starts is not None:
            terms = np.diff(plan.starts)
            begins = np.repeat(begins - plan.starts[:-1], terms) + np.arange(int(plan.starts[-1]))
        found.append(begins)
    return starts, found


def _joined_sources(a: Values, b: Values) -> tuple[tuple[Any, ...], tuple[int, ...], Callable[[Index], Index]]:
    """The sources of both, each array once, and where b's entries are in their concatenation."""
    sources, sizes = list(a.sources), list(a.plan.sizes)
    offsets = []
    for x, n in zip(b.sources, b.plan.sizes, strict=True):
        k = next((i for i, y in enumerate(sources) if y is x), None)
        if k is None:
            k = len(sources)
            sources.append(x)
            sizes.append(n)
        offsets.append(sum(sizes[:k]))
    ends = np.cumsum(b.plan.sizes)
    moves = np.array(offsets) - ends + b.plan.sizes
    if (moves == moves[0]).all():
        return tuple(sources), tuple(sizes), lambda index: index + int(moves[0])
    return tuple(sources), tuple(sizes), lambda index: index + moves[np.searchsorted(ends, index, side="right")]
