"""The numbers of a sparse operator formed: entries that are made alike are made together, then put in order by one gather.

A stencil has a few kinds of entries (a constant; the sum of one entry of this array and −2 times one of that) and many of
each.  Each kind is plain arithmetic on slices or gathers of its arrays, without masks and without copies of these arrays;
what is of no common kind (boundaries, corners) is summed in padded passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import add
from backsolve.algebra.elements import is_number
from backsolve.sparse.kernels import combine, concatenate, same_library, take, weigh

__all__ = ["assemble", "formed"]

Index = np.ndarray[Any, Any]

_TERMS = 8  # an entry with more terms is of no kind
_KINDS = 16  # kinds that are made by themselves
_LOOKED_AT = 64  # kinds that are told apart
_SMALLEST = 64  # entries of a kind; fewer are not worth its operations


class Terms(NamedTuple):
    """y[k] = const[k] + Σ coef[t] · s[picks[t]] over t = starts[k] … starts[k+1]−1, s the sources one after the other."""

    sources: Sequence[Any]
    ends: Index
    picks: Index
    starts: Index
    coef: Any
    const: Any


def assemble(sources: Sequence[Any], index: Index | None, starts: Index | None, coef: Any, const: Any, count: int) -> Any:
    """Return y[k] = const[k] + Σ coef[t] · s[index[t]] over t = starts[k] … starts[k+1]−1 as one array.

    ``sources`` are vectors of one dtype and library, s is their concatenation; index None is all of s, starts None one term
    each; coef and const are numbers or NumPy arrays.
    Cost: one gather a term and one an entry; no gather of the terms whose places are regular, none of the entries where all
    are of one kind.
    """
    if starts is None and is_number(coef) and is_number(const):
        return _plus(combine(concatenate(sources), index, None, coef), const)
    if count == 0:
        return take(sources[0], np.zeros(0, np.int64))
    ends = np.cumsum([x.shape[0] for x in sources])
    starts = np.arange(count + 1) if starts is None else starts
    terms = Terms(sources, ends, np.arange(starts[-1]) if index is None else index, starts, coef, const)
    made = _by_kind(terms, count)
    if made is None:
        return _plus(combine(concatenate(sources), index, starts, coef), const)
    parts, places = made
    return take(concatenate([_array(part, sources[0]) for part in parts]), places)


def formed(
    sources: Sequence[Any], index: Index | None, starts: Index | None, coef: Any, const: Any, count: int
) -> tuple[list[Any], Index | None]:
    """As `assemble`, each kind by itself: arrays and numbers, and where each y[k] lies in them, one after the other."""
    if starts is not None or not is_number(coef) or not is_number(const):
        ends = np.cumsum([x.shape[0] for x in sources])
        starts = np.arange(count + 1) if starts is None else starts
        terms = Terms(sources, ends, np.arange(starts[-1]) if index is None else index, starts, coef, const)
        made = _by_kind(terms, count)
        if made is not None:
            return made
    return [assemble(sources, index, starts, coef, const, count)], None


def _by_kind(terms: Terms, count: int) -> tuple[list[Any], Index] | None:
    """The numbers of each kind (a number where it is a constant), and where each entry is; None where kinds do not help."""
    kinds = _kinds(terms)
    if kinds is None:
        return None
    made: list[Any] = []
    places, total = np.empty(count, np.int64), 0
    for kind in range(kinds.max(initial=0) + 1):
        entries = np.flatnonzero(kinds == kind)
        if not entries.size:
            continue
        own: Index | None = None
        if kind == _KINDS:
            part = _rest(terms, entries)
        else:
            once, own = _distinct(terms, entries)
            part = _alike(terms, once)
        size = 1 if is_number(part) else part.shape[0]
        places[entries] = total + (0 if size == 1 else np.arange(entries.size) if own is None else own)
        made.append(part)
        total += size
    return made, places


def _array(part: Any, like: Any) -> Any:
    return same_library(np.full(1, part), like) if is_number(part) else part


def _kinds(terms: Terms) -> Index | None:
    """A small number for each entry, equal for entries made alike, `_KINDS` for the rest; None where most are of no kind."""
    starts, sources = terms.starts, terms.sources
    counts = np.diff(starts)
    most = min(int(counts.max(initial=0)), _TERMS)
    weights, consts = _told_apart(terms.coef), _told_apart(terms.const)
    if weights is None or consts is None:
        return None
    different = int(np.max(weights, initial=0)) + 1
    base = 1 + len(sources) * different
    numbers = np.searchsorted(terms.ends, terms.picks, side="right") if len(sources) > 1 else np.zeros((), np.int64)
    numbers = 1 + numbers * different + weights
    keys, largest = np.zeros(counts.size, np.int64) + consts, _LOOKED_AT
    unlike = counts > _TERMS
    for k in range(most):
        if largest * base >= 2**62:
            keys, largest = _told_apart(keys, rest=True), _LOOKED_AT
            unlike |= keys == _LOOKED_AT
        has = counts > k
        number = numbers if numbers.ndim == 0 else numbers[np.minimum(starts[:-1] + k, max(starts[-1] - 1, 0))]
        keys = keys * base + np.where(has, number, 0)
        largest *= base
    keys[unlike] = -1
    kinds = _told_apart(keys, rest=True)
    kinds = np.broadcast_to(kinds, keys.shape)
    sizes = np.bincount(kinds, minlength=_LOOKED_AT + 1)
    sizes[_LOOKED_AT] = 0
    if unlike.any():
        sizes[kinds[int(np.argmax(unlike))]] = 0
    large = [k for k in np.argsort(-sizes, kind="stable")[:_KINDS] if sizes[k] >= max(_SMALLEST, counts.size / 500)]
    if 2 * int(sizes[large].sum()) < counts.size:
        return None
    renamed = np.full(_LOOKED_AT + 1, _KINDS)
    renamed[large] = np.arange(len(large))
    chosen: Index = renamed[kinds]
    return chosen


def _told_apart(values: Any, rest: bool = False) -> Any:
    """A number below 64 for each value, equal for equal values, 0 for a plain number.

    With more different values than that None, or with ``rest`` the number 64 for those found last.
    """
    if is_number(values) or not values.size:
        return 0
    found = np.full(values.shape, _LOOKED_AT, np.int64)
    left = np.arange(values.size)
    for k in range(_LOOKED_AT):
        same = values[left] == values[left[0]]
        found[left[same]] = k
        left = left[~same]
        if not left.size:
            return found
    return found if rest else None


def _distinct(terms: Terms, entries: Index) -> tuple[Index, Index | None]:
    """One of each of those entries of a kind that are equal, and where each entry is among them (None: all differ)."""
    starts = terms.starts[entries]
    count = int(terms.starts[entries[0] + 1] - starts[0])
    sizes = np.diff(terms.ends, prepend=0)
    if count == 0 or entries.size <= sizes.max():  # where there are more than numbers to make them of
        return entries, None
    keys = terms.picks[starts].astype(np.int64)
    for k in range(1, count):
        if int(keys.max()) * int(terms.ends[-1]) >= 2**62:
            keys = np.unique(keys, return_inverse=True)[1]
        keys = keys * terms.ends[-1] + terms.picks[starts + k]
    _, first, own = np.unique(keys, return_index=True, return_inverse=True)
    return (entries, None) if first.size == entries.size else (entries[first], own)


def _alike(terms: Terms, entries: Index) -> Any:
    """The numbers of entries of one kind; a number where that is a constant."""
    first = int(entries[0])
    const = terms.const if is_number(terms.const) else terms.const[first].item()
    total: Any = None
    for k in range(int(terms.starts[first + 1] - terms.starts[first])):
        places = terms.starts[entries] + k
        index = terms.picks[places]
        number = int(np.searchsorted(terms.ends, index[0], side="right"))
        offset = int(terms.ends[number - 1]) if number else 0
        coef = terms.coef if is_number(terms.coef) else terms.coef[places[0]].item()
        term = weigh(take(terms.sources[number], index - offset), coef)
        total = term if total is None else add(total, term)
    return const if total is None else _plus(total, const)


def _rest(terms: Terms, entries: Index) -> Any:
    """The numbers of entries of no kind, from what they need of the sources."""
    counts = np.diff(terms.starts)[entries]
    starts = np.concatenate(([0], np.cumsum(counts)))
    chosen = np.arange(starts[-1]) + np.repeat(terms.starts[entries] - starts[:-1], counts)
    const = terms.const if is_number(terms.const) else terms.const[entries]
    if not chosen.size:
        return same_library(np.broadcast_to(const, counts.shape), terms.sources[0])
    needed, index = np.unique(terms.picks[chosen], return_inverse=True)
    parts = []
    for number, x in enumerate(terms.sources):
        offset = int(terms.ends[number - 1]) if number else 0
        own = needed[(needed >= offset) & (needed < terms.ends[number])] - offset
        if own.size:
            parts.append(take(x, own))
    coef = terms.coef if is_number(terms.coef) else terms.coef[chosen]
    return _plus(combine(concatenate(parts), index, starts, coef), const)


def _plus(x: Any, const: Any) -> Any:
    if is_number(const):
        return x if const == 0 else x + const
    return x + same_library(const, x)
