"""The numbers of a sparse operator evaluated: what is made alike is made together, then put in order by one gather.

A stencil has a few kinds of entries (a constant; the sum of one entry of this array and −2 times one of that) and many of
each.  Each kind is plain arithmetic on slices or gathers of its arrays, without masks and without copies of these arrays;
what is of no common kind (boundaries, corners) is summed in padded passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from backsolve.algebra.arrays import add, astype, is_number, multiply, namespace, pad, place, reshape, scale, sum_axes
from backsolve.sparse.pattern import run_starts

__all__ = [
    "assemble",
    "combine",
    "common_dtype",
    "concatenate",
    "evaluate_by_kind",
    "register_kernels",
    "same_library",
    "take",
    "weigh",
]


_PASSES = 8  # sums of more terms than this are done in several rounds
_RUNS = 4  # places in more runs than this are gathered
_COLUMNS = 12  # of an interleaving
_INTERLEAVED = 128  # places, fewer are gathered


class Kernels(Protocol):
    """An array library's own way to move entries."""

    def gather(self, x: Any, index: Index) -> Any:
        """``x[index]`` along the first axis; the index is in bounds."""

    def box(self, x: Any, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> Any:
        """``x[start:stop:step, …]`` along the first axes, for positive steps."""

    def concatenate(self, parts: Sequence[Any]) -> Any:
        """The parts one after the other along the first axis."""

    def stack(self, parts: Sequence[Any]) -> Any:
        """The parts, all of one shape, side by side along a new second axis."""


# Filled once per array library, when that library's kernels are imported; read-only afterwards.
_KERNELS: list[tuple[type, Kernels]] = []


def register_kernels(array_type: type, kernels: Kernels) -> None:
    """Use these kernels for arrays of this type."""
    _KERNELS.append((array_type, kernels))


def _kernels(x: Any) -> Kernels | None:
    return next((kernels for array_type, kernels in _KERNELS if isinstance(x, array_type)), None)


def concatenate(parts: Sequence[Any]) -> Any:
    """Return arrays of one dtype one after the other along the first axis."""
    if len(parts) == 1:
        return parts[0]
    kernels = next((k for k in map(_kernels, parts) if k is not None), None)
    return namespace(*parts).concat(list(parts)) if kernels is None else kernels.concatenate(parts)


def take(x: Any, index: Index | None) -> Any:
    """Return x[index] along the first axis: x itself, a slice, a broadcast, a few slices, slices in turn, or one gather.

    None means all of x.  Cost: one read of the index while planning, at most one gather when values flow.
    """
    if index is None or (run := _run(index)) == (0, 1, x.shape[0]):
        return x
    if type(x) is np.ndarray:
        return x[index]
    n = index.size
    if run is not None:
        return _strided(x, *run)
    repeat = int(np.argmax(index != index[0]))  # each entry so many times
    if repeat > 1 and n % repeat == 0:
        table = index.reshape(-1, repeat)
        if (table == table[:, :1]).all() and (run := _run(table[:, 0])) is not None:
            return _spread(_strided(x, *run), (0, 1), repeat)
    again = np.flatnonzero(index[1:] == index[0])[:1]  # all of them so many times
    if again.size and n % (period := int(again[0]) + 1) == 0:
        table = index.reshape(-1, period)
        if (table == table[0]).all() and (run := _run(table[0])) is not None:
            return _spread(_strided(x, *run), (1, 0), n // period)
    box = _box(index, x.shape[0])
    if box is not None:
        return _from_box(x, *box)
    rows = _interleaving(index)
    if rows is not None:
        return _interleaved(x, index, *rows)
    breaks = np.flatnonzero(np.diff(index) != 1) + 1
    if breaks.size < _RUNS and n > 16 * _RUNS:
        runs = np.split(index, breaks)
        return concatenate([_strided(x, int(run[0]), 1, run.size) for run in runs])
    kernels = _kernels(x)
    if kernels is not None:
        return kernels.gather(x, index)
    xp = namespace(x)
    return xp.take(x, _static(np.asarray(index, np.int64), x), axis=0)


def _run(index: Index) -> tuple[int, int, int] | None:
    """(start, step, length) where the places are start, start + step, … with a step of at least 0."""
    n = index.size
    if n < 2:
        return (int(index[0]) if n else 0), 1, n
    start, step = int(index[0]), int(index[1]) - int(index[0])
    if step < 0 or int(index[-1]) != start + step * (n - 1) or not (np.diff(index) == step).all():
        return None
    return start, step, n


def _box(index: Index, size: int) -> tuple[int, int, int, int, int] | None:
    """(start, step, length, rows, width) where the places are rows of a strided box of a table of this width."""
    n, step = index.size, int(index[1]) - int(index[0])
    if n < 64 or step < 1:
        return None
    length = int(np.argmax(np.diff(index[: n // 2 + 1]) != step)) + 1
    if length == 1 or n % length:
        return None
    start, width = int(index[0]), int(index[length]) - int(index[0])
    if width < 1 or size % width or start % width + step * (length - 1) >= width:
        return None
    table = index.reshape(-1, length)
    if not ((table[1:] - table[:-1] == width).all() and (np.diff(table[0]) == step).all()):
        return None
    return start, step, length, table.shape[0], width


def _from_box(x: Any, start: int, step: int, length: int, rows: int, width: int) -> Any:
    rest = tuple(x.shape[1:])
    table = reshape(x, (x.shape[0] // width, width, *rest))
    row, column = divmod(start, width)
    starts, stops = (row, column), (row + rows, column + step * (length - 1) + 1)
    kernels = _kernels(x)
    cut = (
        table[row : stops[0], column : stops[1] : step] if kernels is None else kernels.box(table, starts, stops, (1, step))
    )
    return reshape(cut, (rows * length, *rest))


def _interleaving(index: Index) -> tuple[int, int, int] | None:
    """(begin, end, columns) where the places from begin to end, half of all or more, are rows of runs taken in turn."""
    n, middle = index.size, index.size // 2
    if n < _INTERLEAVED:
        return None
    for columns in range(2, _COLUMNS + 1):
        rows = index[middle : middle + 4 * columns].reshape(4, columns).astype(np.int64)
        steps = rows[1] - rows[0]
        if (steps >= 0).all() and (np.diff(rows, axis=0) == steps).all():
            break
    else:
        return None
    if (np.diff(rows.reshape(-1)) == rows[0, 1] - rows[0, 0]).all():
        return None  # one run
    wrong = np.flatnonzero(index[columns:] - index[:-columns] != steps[(np.arange(n - columns) - middle) % columns])
    before = int(np.searchsorted(wrong, middle))
    begin = int(wrong[before - 1]) + 1 if before else 0
    end = int(wrong[before]) + columns if before < wrong.size else n
    end -= (end - begin) % columns
    return (begin, end, columns) if 2 * (end - begin) >= n else None


def _interleaved(x: Any, index: Index, begin: int, end: int, columns: int) -> Any:
    table = index[begin:end].reshape(-1, columns)
    count = table.shape[0]
    runs = [_strided(x, int(table[0, j]), int(table[1, j]) - int(table[0, j]), count) for j in range(columns)]
    kernels = _kernels(x)
    rows = namespace(x).stack(runs, axis=1) if kernels is None else kernels.stack(runs)
    parts = [take(x, index[:begin]), reshape(rows, (end - begin, *x.shape[1:])), take(x, index[end:])]
    return concatenate([part for part in parts if part.shape[0]])


def _strided(x: Any, start: int, step: int, n: int) -> Any:
    if (start, step, n) == (0, 1, x.shape[0]):
        return x
    kernels = _kernels(x)
    stop = start + step * (n - 1) + 1 if n else start
    if step == 0:
        one = _strided(x, start, 1, 1)
        return _spread(one, (1, 0), n)
    return x[start:stop:step] if kernels is None else kernels.box(x, (start,), (stop,), (step,))


def _spread(x: Any, order: tuple[int, int], times: int) -> Any:
    """Each entry ``times`` times (order (0, 1)), or the whole so often (order (1, 0))."""
    rest = tuple(range(2, x.ndim + 1))
    wide = place(x, (0, *rest), (*order, *rest), {1: times})
    return reshape(wide, (x.shape[0] * times, *x.shape[1:]))


def _static(array: Index, like: Any) -> Any:
    """A NumPy array as the library of ``like`` takes it."""
    if isinstance(like, (np.ndarray, np.generic)) or _kernels(like) is not None:
        return array
    return namespace(like).asarray(array, device=like.device)


def same_library(array: Index, like: Any) -> Any:
    """Static numbers in the library of ``like``, and in its dtype if they are not complex in a real one."""
    own = array.dtype.kind == "c" and "complex" not in str(like.dtype)
    return _static(array if own else array.astype(_numpy_dtype(like)), like)


def _along(array: Index, x: Any) -> Any:
    """An array of numbers, one for each entry of x along its first axis, to multiply x with."""
    if x.ndim > 1:
        array = np.broadcast_to(array.reshape(-1, *(1,) * (x.ndim - 1)), x.shape)
    return _static(array, x)


def weigh(x: Any, coef: Any) -> Any:
    """Return coef · x along the first axis, for a number or a NumPy array of them."""
    if not is_number(coef):
        if coef.size and (coef == coef[0]).all():
            coef = coef[0].item()
        else:
            complex_up = coef.dtype.kind == "c" and "complex" not in str(x.dtype)
            numbers = coef if complex_up else coef.astype(_numpy_dtype(x))
            return multiply(x, _along(numbers, x))
    if coef == 1:
        return x
    return scale(-1 if coef == -1 else coef, x)


def _numpy_dtype(x: Any) -> Any:
    return x.dtype if isinstance(x.dtype, np.dtype) else np.dtype(str(x.dtype).rpartition(".")[2])


def combine(x: Any, index: Index | None, starts: Index | None, coef: Any = 1) -> Any:
    """Return y[k] = Σ coef[t] · x[index[t]] over t = starts[k] … starts[k+1]−1, along the first axis.

    With starts None there is one term each; an empty sum is zero.  Sums are done as passes of elementwise additions: the
    first terms of all k, the second terms, and so on; long ones in rounds of at most 8 terms (so that rounding errors
    grow with the logarithm of their length only).
    Cost: one gather a term, and one a sum where they are of unlike lengths; else rounded up to a multiple of their number.
    """
    if starts is None:
        return weigh(take(x, index), coef)
    counts = np.diff(starts)
    most = int(counts.max(initial=0))
    if most == 0:
        return namespace(x).zeros((counts.size, *x.shape[1:]), dtype=x.dtype)
    if most > _PASSES and most == counts.min():
        terms = weigh(take(x, index), coef)
        return sum_axes(reshape(terms, (counts.size, most, *x.shape[1:])), (1,))
    if most > _PASSES:
        pieces = -(-counts // _PASSES)
        ends = run_starts(pieces)
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], pieces)
        rounds = np.append(np.repeat(starts[:-1], pieces) + _PASSES * within, starts[-1])
        return combine(combine(x, index, rounds, coef), None, ends)
    if most * counts.size > 2 * int(starts[-1] + counts.size):
        return _longest_first(x, index, starts, counts, coef)
    return _in_passes(x, index, starts, counts, coef)


def _longest_first(x: Any, index: Index | None, starts: Index, counts: Index, coef: Any) -> Any:
    """The sums in the order of their lengths, so that each pass is over those that have such a term, then put in order."""
    order = np.argsort(-counts, kind="stable")
    ends = run_starts(counts[order])
    chosen = np.arange(ends[-1]) + np.repeat(starts[order] - ends[:-1], counts[order])
    places = np.empty_like(order)
    places[order] = np.arange(order.size)
    index, coef = chosen if index is None else index[chosen], coef if is_number(coef) else coef[chosen]
    return take(_in_passes(x, index, ends, counts[order], coef), places)


def _in_passes(x: Any, index: Index | None, starts: Index, counts: Index, coef: Any) -> Any:
    """The first terms of all sums, and the second terms, and so on."""
    total = _nth_terms(x, index, starts, counts > 0, 0, coef)
    for k in range(1, int(counts.max())):
        total = add(total, _nth_terms(x, index, starts, counts > k, k, coef))
    return total


def _nth_terms(x: Any, index: Index | None, starts: Index, has: Index, k: int, coef: Any) -> Any:
    """The k-th term of every sum, zero where it has none."""
    n = has.size
    support = np.flatnonzero(has)
    first, last = int(support[0]), int(support[-1]) + 1
    block = last - first == support.size  # the sums that have one lie together: zeros around them
    places = starts[first:last] + k if block else np.minimum(starts[:-1] + k, starts[-1] - 1)
    term = weigh(take(x, places if index is None else index[places]), coef if is_number(coef) else coef[places])
    if not block:
        return multiply(_along(has, term), term)
    rest = (0,) * (term.ndim - 1)
    return term if support.size == n else pad(term, (first, *rest), (n - last, *rest))


def common_dtype(arrays: Sequence[Any], dtype: Any) -> list[Any]:
    """The arrays in one dtype, in which they can be added: masks as numbers, of dtype ``dtype`` where all are masks."""
    kinds = [str(a.dtype).rpartition(".")[2] for a in arrays]
    numbers = [a for a, kind in zip(arrays, kinds, strict=True) if kind != "bool"]
    if not numbers:
        xp = namespace(*arrays)
        target = dtype if dtype is not None else xp.asarray(1.0).dtype
    elif len(set(kinds)) == 1:
        return list(arrays)
    else:
        target = namespace(*numbers).result_type(*numbers)
    return [a if a.dtype == target else astype(a, target) for a in arrays]


Index = np.ndarray[Any, Any]

_TERMS = 32  # an entry with more terms is of no kind
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
    sources, index = _read(sources, index)
    if starts is None and is_number(coef) and is_number(const):
        return _plus(weigh(_taken(sources, index), coef), const)
    if count == 0:
        return take(sources[0], np.zeros(0, np.int64))
    ends = np.cumsum([x.shape[0] for x in sources])
    starts = np.arange(count + 1) if starts is None else starts
    terms = Terms(sources, ends, np.arange(starts[-1]) if index is None else index, starts, coef, const)
    by_kind = _by_kind(terms, count)
    if by_kind is None:
        return _plus(combine(concatenate(sources), index, starts, coef), const)
    parts, places = by_kind
    return take(concatenate([_array(part, sources[0]) for part in parts]), places)


def _read(sources: Sequence[Any], index: Index | None) -> tuple[Sequence[Any], Index | None]:
    """The sources of which some entry is read, and where the entries lie among these."""
    if index is None or len(sources) == 1:
        return sources, index
    sizes = [x.shape[0] for x in sources]
    numbers = np.searchsorted(np.cumsum(sizes), index, side="right")
    there = np.bincount(numbers, minlength=len(sources)) > 0
    if there.all() or not there.any():
        return sources, index
    moved = np.cumsum(np.where(there, 0, sizes))
    return [x for x, t in zip(sources, there, strict=True) if t], index - moved[numbers]


def _taken(sources: Sequence[Any], index: Index | None) -> Any:
    """Return s[index], s the sources one after the other: runs of one source each as slices of it, where that is all."""
    if index is None or len(sources) == 1:
        return take(concatenate(sources), index)
    ends = np.cumsum([x.shape[0] for x in sources])
    numbers = np.searchsorted(ends, index, side="right")
    breaks = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    if breaks.size < _RUNS * len(sources):
        runs = [(int(numbers[a]), part) for a, part in zip((0, *breaks.tolist()), np.split(index, breaks), strict=True)]
        if all(_run(part) is not None for _, part in runs):
            begins = ends - [x.shape[0] for x in sources]
            return concatenate([take(sources[k], part - begins[k]) for k, part in runs])
    return take(concatenate(sources), index)


def evaluate_by_kind(
    sources: Sequence[Any], index: Index | None, starts: Index | None, coef: Any, const: Any, count: int
) -> tuple[list[Any], Index | None]:
    """As `assemble`, each kind by itself: arrays and numbers, and where each y[k] lies in them, one after the other."""
    if starts is not None or not is_number(coef) or not is_number(const):
        ends = np.cumsum([x.shape[0] for x in sources])
        starts = np.arange(count + 1) if starts is None else starts
        terms = Terms(sources, ends, np.arange(starts[-1]) if index is None else index, starts, coef, const)
        by_kind = _by_kind(terms, count)
        if by_kind is not None:
            return by_kind
    return [assemble(sources, index, starts, coef, const, count)], None


def _by_kind(terms: Terms, count: int) -> tuple[list[Any], Index] | None:
    """The numbers of each kind (a number where it is a constant), and where each entry is; None where kinds do not help."""
    kinds = _kinds(terms)
    if kinds is None:
        return None
    arrays: list[Any] = []
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
        arrays.append(part)
        total += size
    return arrays, places


def _array(part: Any, like: Any) -> Any:
    return same_library(np.full(1, part), like) if is_number(part) else part


def _kinds(terms: Terms) -> Index | None:
    """A small number for each entry, equal for entries made alike, `_KINDS` for the rest; None where most are of no kind."""
    starts, sources = terms.starts, terms.sources
    counts = np.diff(starts)
    most = min(int(counts.max(initial=0)), _TERMS)
    weights, consts = _classify(terms.coef), _classify(terms.const)
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
            keys, largest = _classify(keys, rest=True), _LOOKED_AT
            unlike |= keys == _LOOKED_AT
        has = counts > k
        number = numbers if numbers.ndim == 0 else numbers[np.minimum(starts[:-1] + k, max(starts[-1] - 1, 0))]
        keys = keys * base + np.where(has, number, 0)
        largest *= base
    keys[unlike] = -1
    kinds = _classify(keys, rest=True)
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


def _classify(values: Any, rest: bool = False) -> Any:
    """A number below 64 for each value, equal for equal values, 0 for a plain number.

    With more different values than that None, or with ``rest`` the number 64 for those found last.
    """
    if is_number(values) or not values.size:
        return 0
    classes = np.full(values.shape, _LOOKED_AT, np.int64)
    left = np.arange(values.size)
    for k in range(_LOOKED_AT):
        same = values[left] == values[left[0]]
        classes[left[same]] = k
        left = left[~same]
        if not left.size:
            return classes
    return classes if rest else None


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
    starts = run_starts(counts)
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
