"""The numbers of a sparse operator: static linear combinations of entries of arrays, formed when somebody needs them.

Numbers known while planning cost nothing when values flow; moving entries around (slices, transposes, sums of patterns that
do not overlap) only changes static places.  What runs is one gather and the arithmetic proper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..algebra import is_number
from ..arrays import conjugate, is_mask, multiply, reshape
from .assembly import assemble
from .gathers import common_dtype

__all__ = ["Arrangement", "Values"]

Index = np.ndarray[Any, Any]

_SOURCES = 16  # a sum over more arrays is formed at once
_TERMS = 8  # as is one of more terms a number


class Arrangement:
    """The static part of `Values`: v[k] = const[k] + Σ coef[t] · s[index[t]] over t = starts[k] … starts[k+1]−1.

    s is the concatenation of the sources, ``sizes`` their numbers of entries.  ``index`` None: all of s in order;
    ``starts`` None: one term each.  ``coef`` and ``const`` are numbers or NumPy arrays.  Equal by content, so that it may
    be the static part of a pytree.
    """

    __slots__ = ("coef", "const", "count", "index", "sizes", "starts")

    def __init__(
        self,
        count: int,
        sizes: tuple[int, ...] = (),
        index: Index | None = None,
        starts: Index | None = None,
        coef: Any = 1,
        const: Any = 0,
    ) -> None:
        self.count = count
        self.sizes = sizes
        self.index = index
        self.starts = starts
        self.coef = coef
        self.const = const

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Arrangement) or (self.count, self.sizes) != (other.count, other.sizes):
            return False
        return all(_same(getattr(self, name), getattr(other, name)) for name in ("index", "starts", "coef", "const"))

    def __hash__(self) -> int:
        return hash((self.count, self.sizes))


class Values:
    """A vector of ``count`` numbers: an `Arrangement` of the entries of some arrays.

    ``sources`` are arrays of any shape and library, their entries taken in row-major order; with none, all is static.
    """

    __slots__ = ("plan", "sources")

    def __init__(self, sources: Sequence[Any], plan: Arrangement) -> None:
        self.sources = tuple(sources)
        self.plan = plan

    @classmethod
    def of(cls, data: Any, count: int) -> Values:
        """The entries of an array, which has ``count`` of them, or one number (None: 1) that many times."""
        if data is None or is_number(data):
            return cls((), Arrangement(count, const=1 if data is None else data))
        if isinstance(data, (np.ndarray, np.generic)):
            return cls((), Arrangement(count, const=np.reshape(data, -1)))
        return cls((data,), Arrangement(count, (prod(data.shape),)))

    @property
    def is_static(self) -> bool:
        """Whether the numbers are known while planning."""
        return not self.sources

    @property
    def is_gather(self) -> bool:
        """Whether each number is one entry of a source times a static number."""
        plan = self.plan
        return bool(self.sources) and plan.starts is None and is_number(plan.const) and bool(plan.const == 0)

    def array(self, dtype: Any = None) -> Any:
        """The numbers as one array.  ``dtype`` serves where no array says it (static numbers, masks)."""
        plan = self.plan
        if not self.sources:
            return _formed(plan.const, plan.count, dtype)
        sources = self.sources
        plain = self.is_gather and is_number(plan.coef) and plan.coef == 1
        if not plain or len(sources) > 1:  # a mask by itself stays one
            sources = tuple(common_dtype(sources, dtype))
        flat = [x if len(x.shape) == 1 else reshape(x, (n,)) for x, n in zip(sources, plan.sizes, strict=True)]
        return assemble(flat, plan.index, plan.starts, plan.coef, plan.const, plan.count)

    def settled(self, dtype: Any = None) -> Values:
        """The same numbers formed: one source, in order."""
        plan = self.plan
        if not self.sources or (self.is_gather and plan.index is None and _is_one(plan.coef)):
            return self
        return Values((self.array(dtype),), Arrangement(plan.count, (plan.count,)))

    def take(self, index: Index | None) -> Values:
        """The numbers at these places, a static choice.  Sums that would be done several times over are formed first."""
        plan = self.plan
        if index is None:
            return self
        const = plan.const if is_number(plan.const) else plan.const[index]
        if not self.sources:
            return Values((), Arrangement(index.size, const=const))
        if plan.starts is None:
            places = index if plan.index is None else plan.index[index]
            coef = plan.coef if is_number(plan.coef) else plan.coef[index]
            return Values(self.sources, Arrangement(index.size, plan.sizes, places, None, coef, const))
        if index.size > plan.count:
            return self.settled().take(index)
        terms, starts = _ragged(plan.starts, index)
        coef = plan.coef if is_number(plan.coef) else plan.coef[terms]
        places = terms if plan.index is None else plan.index[terms]
        return Values(self.sources, Arrangement(index.size, plan.sizes, places, starts, coef, const))

    def scaled(self, c: Any) -> Values:
        """c times the numbers, for a number or an array without axes."""
        plan = self.plan
        if is_number(c):
            if not self.sources:
                return Values((), Arrangement(plan.count, const=_static_product(plan.const, c)))
            new = Arrangement(plan.count, plan.sizes, plan.index, plan.starts, plan.coef * c, plan.const * c)
            return Values(self.sources, new)
        if not self.sources:
            return Values((c,), Arrangement(plan.count, (1,), np.zeros(plan.count, np.int64), None, plan.const))
        if self.is_gather and len(self.sources) == 1 and plan.sizes[0] <= plan.count:
            return Values((multiply(c, self.sources[0]),), plan)
        return Values.of(multiply(c, self.array()), plan.count)

    def times(self, other: Values, dtype: Any = None) -> Values:
        """The products, number by number.  Static numbers become coefficients; a mask selects."""
        a, b = self.plan, other.plan
        if not self.sources and not other.sources:
            return Values((), Arrangement(a.count, const=_static_product(a.const, b.const)))
        if not self.sources:
            return other._weighed(a.const)
        if not other.sources:
            return self._weighed(b.const)
        return Values.of(multiply(self.array(dtype), other.array(dtype)), a.count)

    def _weighed(self, weight: Any) -> Values:
        plan = self.plan
        if is_number(weight):
            return self if weight == 1 and type(weight) is not complex else self.scaled(weight)
        if is_mask(weight):
            return Values.of(multiply(weight, self.array()), plan.count)
        each = weight if plan.starts is None else np.repeat(weight, np.diff(plan.starts))
        new = Arrangement(plan.count, plan.sizes, plan.index, plan.starts, plan.coef * each, plan.const * weight)
        return Values(self.sources, new)

    def summed(self, starts: Index | None) -> Values:
        """The sums of runs of numbers: starts[k] … starts[k+1]−1 give number k (None: one each)."""
        plan = self.plan
        if starts is None:
            return self
        count = starts.size - 1
        const = plan.const if _is_zero(plan.const) else _run_sums(plan.const, starts)
        if not self.sources:
            return Values((), Arrangement(count, const=const))
        inner = starts if plan.starts is None else plan.starts[starts]
        return Values(self.sources, Arrangement(count, plan.sizes, plan.index, inner, plan.coef, const))

    def spread(self, places: Index | None, count: int) -> Values:
        """The numbers at these increasing places of a longer vector, zeros elsewhere."""
        plan = self.plan
        if places is None:
            return self
        const = _sum_consts([(plan.const, places)], count)
        if not self.sources:
            return Values((), Arrangement(count, const=const))
        counts = np.zeros(count, np.int64)
        counts[places] = 1 if plan.starts is None else np.diff(plan.starts)
        starts = np.concatenate(([0], np.cumsum(counts)))
        return Values(self.sources, Arrangement(count, plan.sizes, plan.index, starts, plan.coef, const))

    @classmethod
    def joined(cls, parts: Sequence[Values]) -> Values:
        """The numbers of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        count = sum(part.plan.count for part in parts)
        const = _joined_numbers([(part.plan.const, part.plan.count) for part in parts])
        moving = [part for part in parts if part.sources]
        if not moving:
            return cls((), Arrangement(count, const=const))
        sources, sizes, offsets = _all_sources(moving)
        lengths = {id(part): _length(part) for part in parts}
        dtype = np.int32 if max(sum(lengths.values()), sum(sizes)) < 2**31 else np.int64
        index = [_moved_index(part, offsets, dtype) for part in moving]
        coef = _joined_numbers([(part.plan.coef, lengths[id(part)]) for part in moving])
        counts = [_counts(part) for part in parts]
        single = all(part.sources and part.plan.starts is None for part in parts)
        starts = None if single else np.concatenate(([0], np.cumsum(np.concatenate(counts)))).astype(dtype)
        return cls(sources, Arrangement(count, sizes, np.concatenate(index), starts, coef, const))

    def mapped(self, function: Callable[[Any], Any]) -> Values:
        """The numbers with a function that respects sums and products (conjugation) applied to sources and coefficients."""
        plan = self.plan
        new = Arrangement(plan.count, plan.sizes, plan.index, plan.starts, function(plan.coef), function(plan.const))
        return Values([function(x) for x in self.sources], new)

    def conj(self) -> Values:
        """The complex conjugates."""
        return self.mapped(conjugate)


def union(a: Values, left: Index | None, b: Values, right: Index | None, count: int) -> Values:
    """The sum of a's numbers at the places ``left`` and b's at ``right`` (None: one at every place) of ``count``.

    Sums of many terms are formed on the way, so that long chains of additions stay linear.
    """
    if len(a.sources) + len(b.sources) > _SOURCES or _length(a) + _length(b) > _TERMS * count:
        a, b = a.settled(), b.settled()
    const = _sum_consts([(a.plan.const, left), (b.plan.const, right)], count)
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
    if (moves == moves[0]).all():
        return index + dtype(moves[0])
    return index + moves.astype(dtype)[np.searchsorted(begins[1:], index, side="right")]


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
    return np.concatenate([np.full(n, c) if is_number(c) else _as_numbers(c) for c, n in parts])


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


def _sum_consts(parts: Sequence[tuple[Any, Index | None]], count: int) -> Any:
    """The sum of static numbers at these places (None: everywhere) of ``count``: a number where all are the same."""
    parts = [(const if is_number(const) else _as_numbers(const), places) for const, places in parts if not _is_zero(const)]
    if not parts:
        return 0
    total = np.zeros(count, np.result_type(*(const for const, _ in parts)))
    for const, places in parts:
        total[slice(None) if places is None else places] += const
    return total[0].item() if count and (total == total[0]).all() else total


def _ragged(starts: Index, groups: Index) -> tuple[Index, Index]:
    """The terms of these groups one after the other, and where each group then begins."""
    counts = np.diff(starts)[groups]
    new = np.concatenate(([0], np.cumsum(counts)))
    return np.arange(new[-1]) + np.repeat(starts[groups] - new[:-1], counts), new


def _run_sums(const: Any, starts: Index) -> Any:
    counts = np.diff(starts)
    if is_number(const):
        return const * counts if counts.size and counts.min() < counts.max() else const * int(counts.max(initial=0))
    const = _as_numbers(const)
    total = np.zeros(counts.size, const.dtype)
    some = counts > 0
    if some.any():
        total[some] = np.add.reduceat(const, starts[:-1][some])
    return total


def _static_product(a: Any, b: Any) -> Any:
    return a * b if is_number(a) or is_number(b) else multiply(a, b)


def _as_numbers(x: Index) -> Index:
    return x.astype(np.int64) if is_mask(x) else x


def _formed(const: Any, count: int, dtype: Any) -> Index:
    """Static numbers as a NumPy array, of this dtype if they are not complex in a real one."""
    made = None if dtype is None else np.dtype(str(dtype).rpartition(".")[2])
    if is_number(const):
        made = np.dtype(float) if made is None else made
        return np.full(count, const, np.result_type(made, 1j) if isinstance(const, complex) else made)
    keep = made is None or made == const.dtype or (const.dtype.kind == "c" and made.kind != "c")
    return const if keep else const.astype(made)  # type: ignore[no-any-return]


def _is_zero(x: Any) -> bool:
    return is_number(x) and bool(x == 0)


def _is_one(x: Any) -> bool:
    return is_number(x) and bool(x == 1)


def _same(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return x.dtype == y.dtype and x.shape == y.shape and bool(np.array_equal(x, y))
    return type(x) is type(y) and bool(x == y)
