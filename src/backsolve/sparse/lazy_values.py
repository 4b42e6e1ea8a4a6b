"""Lazy values of a sparse operator: static linear combinations of entries of arrays, evaluated when somebody needs them.

They have three forms: static numbers; one entry of an array times a number, at each place (a gather); sums of such terms.

Numbers known while planning cost nothing when values flow; moving entries around (slices, transposes, sums of patterns that
do not overlap) only changes static places.  What runs is one gather and the arithmetic proper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import conjugate, is_mask, is_number, multiply, reshape
from backsolve.sparse.materialize import assemble, common_dtype, concatenate, evaluate_by_kind, take
from backsolve.sparse.pattern import run_starts

__all__ = ["CONSTANT", "Combination", "LazyValues", "Monomials", "as_numbers", "joined", "multiplied", "sum_consts", "union"]


Index = np.ndarray[Any, Any]

CONSTANT = -1  # the place of a number that is no entry of a source
_GROUPS = 12  # pairs of arrays whose products are made by themselves; the rest is put together first
_SMALLEST = 32  # products of such a pair


@dataclass(frozen=True)
class Monomials:
    """v[k] = coef[k] · s[places[k]], coef[k] where places[k] is `CONSTANT`; s are all the vectors ``sources``.

    ``masks`` say of each source what is hidden in it, as those of `LazyValues`.
    """

    sources: Sequence[Any]
    places: Index
    coef: Index
    masks: Sequence[Any]

    @property
    def begins(self) -> Index:
        """Where each source begins in s, and where the last one ends."""
        return run_starts([x.shape[0] for x in self.sources])

    def numbers(self) -> Index:
        """The source of each entry; of a constant, the first."""
        if len(self.sources) == 1:
            return np.zeros(self.places.size, np.int64)
        return np.maximum(np.searchsorted(self.begins, self.places, side="right") - 1, 0)


def multiplied(a: Monomials, b: Monomials) -> Monomials:
    """Return the products number by number.  Cost: one multiplication for each pair of entries of a and b that meet."""
    coef = a.coef * b.coef
    moving_a, moving_b = a.places != CONSTANT, b.places != CONSTANT
    both = moving_a & moving_b
    index = np.full(coef.size, CONSTANT, np.int64)
    sources: list[Any] = []
    masks: list[Any] = []
    total = 0
    for own, alone in ((a, moving_a & ~moving_b), (b, moving_b & ~moving_a)):
        if alone.any():  # beside a constant nothing is multiplied
            index[alone] = own.places[alone] + total
            sources.extend(own.sources)
            masks.extend(own.masks)
            total += int(own.begins[-1])
    for at, one, other in _groups(a, b, np.flatnonzero(both)):
        place, array, mask = _products(one, other)
        index[at] = total + place
        sources.append(array)
        masks.append(mask)
        total += array.shape[0]
    return Monomials(sources, index, coef, masks)


Entries = tuple[Any, Any, Index]  # of an array with its mask, at these places


def _groups(a: Monomials, b: Monomials, at: Index) -> list[tuple[Index, Entries, Entries]]:
    """The entries by pairs of arrays: which ones, and for either side the array and the places in it."""
    if not at.size:
        return []
    ka, kb = a.numbers()[at], b.numbers()[at]
    keys = ka * len(b.sources) + kb
    counts = np.bincount(keys)
    large = [k for k in np.argsort(-counts, kind="stable")[:_GROUPS].tolist() if counts[k] >= _SMALLEST]
    groups = []
    rest = np.ones(at.size, bool)
    for k in large if len(large) < np.count_nonzero(counts) or len(large) > 1 else []:
        chosen = keys == k
        rest &= ~chosen
        i, j = divmod(k, len(b.sources))
        here = at[chosen]
        one = a.sources[i], a.masks[i], a.places[here] - a.begins[i]
        groups.append((here, one, (b.sources[j], b.masks[j], b.places[here] - b.begins[j])))
    if rest.any():
        here = at[rest]
        groups.append((here, _together(a, here, ka[rest]), _together(b, here, kb[rest])))
    return groups


def _together(v: Monomials, at: Index, numbers: Index) -> Entries:
    """One array that has these entries, with its mask, and their places in it."""
    first = int(numbers[0])
    if (numbers == first).all():
        return v.sources[first], v.masks[first], v.places[at] - v.begins[first]
    needed, places = np.unique(v.places[at], return_inverse=True)
    parts, masks = [], []
    hidden = any(mask is not None for mask in v.masks)
    for k, x in enumerate(common_dtype(v.sources, None)):
        own = needed[(needed >= v.begins[k]) & (needed < v.begins[k + 1])] - v.begins[k]
        if own.size:
            parts.append(take(x, own))
            masks.append(np.ones(own.size, bool) if v.masks[k] is None else take(v.masks[k], own))
    return concatenate(parts), concatenate(masks) if hidden else None, places


def _products(one: Entries, other: Entries) -> tuple[Index, Any, Any]:
    """The products of entries, each pair of places once, and where each is; with what either hides."""
    (x, mask_x, i), (y, mask_y, j) = one, other
    place = np.arange(i.size)
    if i.size > max(x.shape[0], y.shape[0]):
        keys, first, back = np.unique(i * np.int64(y.shape[0]) + j, return_index=True, return_inverse=True)
        if keys.size < i.size:
            i, j, place = i[first], j[first], back
    product = multiply(take(x, i), take(y, j))
    masks = [take(mask, at) for mask, at in ((mask_x, i), (mask_y, j)) if mask is not None]
    if not masks or is_mask(product):
        return place, product, product if masks else None
    if not (is_mask(x) or is_mask(y)):  # a mask has selected by being multiplied
        for mask in masks:
            product = multiply(mask, product)
    return place, product, reduce(multiply, masks)


class Combination:
    """The static part of `LazyValues`: v[k] = const[k] + Σ coef[t] · s[index[t]] over t = starts[k] … starts[k+1]−1.

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
        if not isinstance(other, Combination) or (self.count, self.sizes) != (other.count, other.sizes):
            return False
        return all(_same(getattr(self, name), getattr(other, name)) for name in ("index", "starts", "coef", "const"))

    def __hash__(self) -> int:
        return hash((self.count, self.sizes))


class LazyValues:
    """A vector of ``count`` numbers: a `Combination` of the entries of some arrays.

    ``sources`` are arrays of any shape and library, their entries taken in row-major order; with none, all is static.
    ``masks`` say of each source which entries a selection has let through (None: nothing is known to be hidden).  The others
    are zeros already; the mask makes them stay zeros when they meet what is infinite or NaN.
    """

    __slots__ = ("masks", "plan", "sources")

    def __init__(self, sources: Sequence[Any], plan: Combination, masks: Sequence[Any] | None = None) -> None:
        self.sources = tuple(sources)
        self.plan = plan
        self.masks = (None,) * len(self.sources) if masks is None else tuple(masks)

    @classmethod
    def of(cls, data: Any, count: int) -> LazyValues:
        """The entries of an array, which has ``count`` of them, or one number (None: 1) that many times."""
        if data is None or is_number(data):
            return cls((), Combination(count, const=1 if data is None else data))
        if isinstance(data, (np.ndarray, np.generic)):
            return cls((), Combination(count, const=np.reshape(data, -1)))
        mask = reshape(data, (count,)) if is_mask(data) else None
        return cls((data,), Combination(count, (prod(data.shape),)), (mask,))

    def _planned(self, plan: Combination) -> LazyValues:
        """Another combination of the same entries."""
        return LazyValues(self.sources, plan, self.masks)

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
        return assemble(self._flat(dtype), plan.index, plan.starts, plan.coef, plan.const, plan.count)

    def _flat(self, dtype: Any) -> list[Any]:
        """The sources as vectors of one dtype."""
        plan, sources = self.plan, self.sources
        plain = self.is_gather and is_number(plan.coef) and plan.coef == 1
        if not plain or len(sources) > 1:  # a mask by itself stays one
            sources = tuple(common_dtype(sources, dtype))
        return [x if len(x.shape) == 1 else reshape(x, (n,)) for x, n in zip(sources, plan.sizes, strict=True)]

    def evaluated(self, dtype: Any = None) -> LazyValues:
        """The same numbers, every sum formed: each is a number, or an entry of a source times one."""
        plan = self.plan
        if self.is_evaluated:
            return self
        if not plan.count:
            return LazyValues((), Combination(0))
        arrays_by_kind, places = evaluate_by_kind(
            self._flat(dtype), plan.index, plan.starts, plan.coef, plan.const, plan.count
        )
        if places is None:
            return LazyValues(arrays_by_kind, Combination(plan.count, (plan.count,)))
        sizes = [1 if is_number(part) else part.shape[0] for part in arrays_by_kind]
        ends = np.cumsum(sizes)
        index, numbers = np.empty(ends[-1], np.int64), np.zeros(ends[-1])
        arrays = [part for part in arrays_by_kind if not is_number(part)]
        total = 0
        for part, size, end in zip(arrays_by_kind, sizes, ends, strict=True):
            if is_number(part):
                index[end - 1] = CONSTANT
                numbers = numbers.astype(complex) if isinstance(part, complex) else numbers
                numbers[end - 1] = part
            else:
                index[end - size : end] = np.arange(total, total + size)
                total += size
        numbers = np.where(index == CONSTANT, numbers, 1)
        return LazyValues._of_monomials(Monomials(arrays, index[places], numbers[places], [None] * len(arrays)))

    @property
    def is_evaluated(self) -> bool:
        """Whether each number is static, or an entry of a source times a static number."""
        plan = self.plan
        if not self.sources:
            return True
        if plan.starts is None:
            return is_number(plan.const) and bool(plan.const == 0)
        counts = np.diff(plan.starts)
        if counts.max(initial=0) > 1:
            return False
        return _is_zero(plan.const) or (not is_number(plan.const) and not plan.const[counts > 0].any())

    def _monomials(self) -> Monomials:
        """The numbers, settled, entry by entry."""
        plan = self.plan
        n = plan.count
        if not self.sources:
            return Monomials((), np.full(n, CONSTANT), np.broadcast_to(as_numbers(np.asarray(plan.const)), (n,)), ())
        length = n if plan.starts is None else int(plan.starts[-1])
        index = np.arange(length) if plan.index is None else plan.index.astype(np.int64, copy=False)
        coef = np.broadcast_to(np.asarray(plan.coef), (length,))
        sources = [x if len(x.shape) == 1 else reshape(x, (k,)) for x, k in zip(self.sources, plan.sizes, strict=True)]
        if plan.starts is None:
            return Monomials(sources, index, coef, self.masks)
        has = np.diff(plan.starts) > 0
        every = np.full(n, CONSTANT)
        every[has] = index
        numbers = np.zeros(n, np.result_type(coef, np.asarray(plan.const))) + plan.const
        numbers[has] = coef
        return Monomials(sources, every, numbers, self.masks)

    @classmethod
    def _of_monomials(cls, monomials: Monomials) -> LazyValues:
        sources, index, coef = monomials.sources, monomials.places, monomials.coef
        has = index != CONSTANT
        n, sizes = index.size, tuple(x.shape[0] for x in sources)
        if not has.any():
            return cls((), Combination(n, const=_uniform(coef)))
        if has.all():
            plain = sizes == (n,) and bool((index == np.arange(n)).all())
            plan = Combination(n, sizes, None if plain else index, None, _uniform(coef))
            return cls(sources, plan, monomials.masks)
        starts = run_starts(has)
        const = _uniform(np.where(has, 0, coef))
        return cls(sources, Combination(n, sizes, index[has], starts, _uniform(coef[has]), const), monomials.masks)

    def take(self, index: Index | None, dtype: Any = None) -> LazyValues:
        """The numbers at these places, a static choice.  Sums that would be done several times over are formed first.

        ``dtype`` serves where no array says it.
        """
        plan = self.plan
        if index is None:
            return self
        const = plan.const if is_number(plan.const) else plan.const[index]
        if not self.sources:
            return LazyValues((), Combination(index.size, const=const))
        if plan.starts is None:
            places = index if plan.index is None else plan.index[index]
            coef = plan.coef if is_number(plan.coef) else plan.coef[index]
            return self._planned(Combination(index.size, plan.sizes, places, None, coef, const))
        if index.size > plan.count and not self.is_evaluated:
            return self.evaluated(dtype).take(index)
        terms, starts = _ragged(plan.starts, index)
        coef = plan.coef if is_number(plan.coef) else plan.coef[terms]
        places = terms if plan.index is None else plan.index[terms]
        return self._planned(Combination(index.size, plan.sizes, places, starts, coef, const))

    def scaled(self, c: Any) -> LazyValues:
        """c times the numbers, for a number or an array without axes."""
        plan = self.plan
        if is_number(c):
            if not self.sources:
                return LazyValues((), Combination(plan.count, const=_static_product(plan.const, c)))
            new = Combination(plan.count, plan.sizes, plan.index, plan.starts, plan.coef * c, plan.const * c)
            return self._planned(new)
        if not self.sources:
            return LazyValues((c,), Combination(plan.count, (1,), np.zeros(plan.count, np.int64), None, plan.const))
        if self.is_gather and len(self.sources) == 1 and plan.sizes[0] <= plan.count:
            return LazyValues((multiply(c, self.sources[0]),), plan, self.masks)
        return LazyValues.of(multiply(c, self.array()), plan.count)

    def times(self, other: LazyValues, dtype: Any = None) -> LazyValues:
        """The products, number by number.  Static numbers become coefficients; a mask selects."""
        a, b = self.plan, other.plan
        if not self.sources and not other.sources:
            return LazyValues((), Combination(a.count, const=_static_product(a.const, b.const)))
        if not self.sources:
            return other._weighed(a.const)
        if not other.sources:
            return self._weighed(b.const)
        one, two = self.evaluated(dtype)._monomials(), other.evaluated(dtype)._monomials()
        return LazyValues._of_monomials(multiplied(one, two))

    def _weighed(self, weight: Any) -> LazyValues:
        plan = self.plan
        if is_number(weight):
            return self if weight == 1 and type(weight) is not complex else self.scaled(weight)
        if is_mask(weight):
            return self._selected(weight)
        each = weight if plan.starts is None else np.repeat(weight, np.diff(plan.starts))
        const = plan.const if _is_zero(plan.const) else plan.const * weight
        return self._planned(Combination(plan.count, plan.sizes, plan.index, plan.starts, plan.coef * each, const))

    def _selected(self, mask: Any) -> LazyValues:
        """The numbers that a mask lets through, zero for the others whatever they are."""
        return self.take(np.flatnonzero(mask)).spread(np.flatnonzero(mask), self.plan.count)

    def summed(self, starts: Index | None) -> LazyValues:
        """The sums of runs of numbers: starts[k] … starts[k+1]−1 give number k (None: one each)."""
        plan = self.plan
        if starts is None:
            return self
        count = starts.size - 1
        const = plan.const if _is_zero(plan.const) else _run_sums(plan.const, starts)
        if not self.sources:
            return LazyValues((), Combination(count, const=const))
        inner = starts if plan.starts is None else plan.starts[starts]
        return self._planned(Combination(count, plan.sizes, plan.index, inner, plan.coef, const))

    def spread(self, places: Index | None, count: int) -> LazyValues:
        """The numbers at these increasing places of a longer vector, zeros elsewhere."""
        plan = self.plan
        if places is None:
            return self
        const = sum_consts([(plan.const, places)], count)
        if not self.sources:
            return LazyValues((), Combination(count, const=const))
        counts = np.zeros(count, np.int64)
        counts[places] = 1 if plan.starts is None else np.diff(plan.starts)
        starts = run_starts(counts)
        return self._planned(Combination(count, plan.sizes, plan.index, starts, plan.coef, const))

    def mapped(self, function: Callable[[Any], Any]) -> LazyValues:
        """The numbers with a function that respects sums and products (conjugation) applied to sources and coefficients."""
        plan = self.plan
        new = Combination(plan.count, plan.sizes, plan.index, plan.starts, function(plan.coef), function(plan.const))
        return LazyValues([function(x) for x in self.sources], new, self.masks)

    def conj(self) -> LazyValues:
        """The complex conjugates."""
        return self.mapped(conjugate)


def sum_consts(parts: Sequence[tuple[Any, Index | None]], count: int) -> Any:
    """The sum of static numbers at these places (None: everywhere) of ``count``: a number where all are the same."""
    parts = [(const if is_number(const) else as_numbers(const), places) for const, places in parts if not _is_zero(const)]
    if not parts:
        return 0
    total = np.zeros(count, np.result_type(*(const for const, _ in parts)))
    for const, places in parts:
        total[slice(None) if places is None else places] += const
    return total[0].item() if count and (total == total[0]).all() else total


def _ragged(starts: Index, groups: Index) -> tuple[Index, Index]:
    """The terms of these groups one after the other, and where each group then begins."""
    counts = np.diff(starts)[groups]
    new = run_starts(counts)
    return np.arange(new[-1]) + np.repeat(starts[groups] - new[:-1], counts), new


def _run_sums(const: Any, starts: Index) -> Any:
    counts = np.diff(starts)
    if is_number(const):
        return const * counts if counts.size and counts.min() < counts.max() else const * int(counts.max(initial=0))
    const = as_numbers(const)
    total = np.zeros(counts.size, const.dtype)
    some = counts > 0
    if some.any():
        total[some] = np.add.reduceat(const, starts[:-1][some])
    return total


def _static_product(a: Any, b: Any) -> Any:
    return a * b if is_number(a) or is_number(b) else multiply(a, b)


def as_numbers(x: Index) -> Index:
    """A mask as integers."""
    return x.astype(np.int64) if is_mask(x) else x


def _formed(const: Any, count: int, dtype: Any) -> Index:
    """Static numbers as a NumPy array, of this dtype if they are not complex in a real one."""
    kind = None if dtype is None else np.dtype(str(dtype).rpartition(".")[2])
    if is_number(const):
        kind = np.dtype(float) if kind is None else kind
        return np.full(count, const, np.result_type(kind, 1j) if isinstance(const, complex) else kind)
    keep = kind is None or kind == const.dtype or (const.dtype.kind == "c" and kind.kind != "c")
    return const if keep else const.astype(kind)  # type: ignore[no-any-return]


def _uniform(x: Any) -> Any:
    """A number where all of an array are the same one."""
    return x[0].item() if x.size and bool((x == x[0]).all()) else x


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


_SOURCES = 16  # a sum over more arrays is formed at once
_TERMS = 8  # as is one of more terms a number


def joined(parts: Sequence[LazyValues]) -> LazyValues:
    """The numbers of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    count = sum(part.plan.count for part in parts)
    const = _joined_numbers([(part.plan.const, part.plan.count) for part in parts])
    moving = [part for part in parts if part.sources]
    if not moving:
        return LazyValues((), Combination(count, const=const))
    sources, sizes, masks, offsets = _all_sources(moving)
    lengths = {id(part): _length(part) for part in parts}
    dtype = np.int32 if max(sum(lengths.values()), sum(sizes)) < 2**31 else np.int64
    index = [_moved_index(part, offsets, dtype) for part in moving]
    coef = _joined_numbers([(part.plan.coef, lengths[id(part)]) for part in moving])
    counts = [_counts(part) for part in parts]
    single = all(part.sources and part.plan.starts is None for part in parts)
    starts = None if single else run_starts(np.concatenate(counts)).astype(dtype)
    return LazyValues(sources, Combination(count, sizes, np.concatenate(index), starts, coef, const), masks)


def union(a: LazyValues, left: Index | None, b: LazyValues, right: Index | None, count: int) -> LazyValues:
    """The sum of a's numbers at the places ``left`` and b's at ``right`` (None: one at every place) of ``count``.

    Sums of many terms are formed on the way, so that long chains of additions stay linear.
    """
    if len(a.sources) + len(b.sources) > _SOURCES or _length(a) + _length(b) > _TERMS * count:
        a, b = a.evaluated(), b.evaluated()
    const = sum_consts([(a.plan.const, left), (b.plan.const, right)], count)
    if not a.sources and not b.sources:
        return LazyValues((), Combination(count, const=const))
    if not a.sources or not b.sources:
        moved = a.spread(left, count) if a.sources else b.spread(right, count)
        plan = moved.plan
        return moved._planned(Combination(count, plan.sizes, plan.index, plan.starts, plan.coef, const))
    sources, sizes, masks, offsets = _all_sources([a, b])
    parts = ((a.plan, left), (b.plan, right))
    lengths = [_length(a), _length(b)]
    dtype = np.int32 if max(sum(lengths), sum(sizes)) < 2**31 else np.int64
    indices = [_moved_index(part, offsets, dtype) for part in (a, b)]
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
    return LazyValues(sources, Combination(count, sizes, index, starts, coef, const), masks)


def _all_sources(parts: Sequence[LazyValues]) -> tuple[list[Any], tuple[int, ...], list[Any], dict[int, int]]:
    """The sources of all parts, each array once, their sizes and masks, and by an array's id where its entries begin."""
    every = [entry for part in parts for entry in zip(part.sources, part.plan.sizes, part.masks, strict=True)]
    sources, sizes, masks = zip(*{id(entry[0]): entry for entry in every}.values(), strict=True)
    begins = run_starts(sizes).tolist()
    return list(sources), sizes, list(masks), dict(zip(map(id, sources), begins))


def _moved_index(part: LazyValues, offsets: dict[int, int], dtype: Any) -> Index:
    """Where the terms of a part lie in the concatenation of all sources."""
    plan = part.plan
    index = np.arange(_length(part), dtype=dtype) if plan.index is None else plan.index.astype(dtype, copy=False)
    begins = run_starts(plan.sizes)
    moves = np.array([offsets[id(x)] for x in part.sources]) - begins[:-1]
    far: Index = moves[:1] if (moves == moves[0]).all() else moves[np.searchsorted(begins[1:], index, side="right")]
    moved: Index = index + far.astype(dtype)
    return moved


def _counts(part: LazyValues) -> Index:
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


def _length(values: LazyValues) -> int:
    """Number of terms."""
    plan = values.plan
    if not values.sources:
        return 0
    return plan.count if plan.starts is None else int(plan.starts[-1])


def _interleaved(
    parts: Sequence[tuple[Combination, Index | None]], count: int, dtype: Any
) -> tuple[Index, list[Index | None]]:
    """Where the terms of each number begin, a's first and then b's, and where each term of a and of b goes."""
    counts = np.zeros((2, count), dtype)
    for own, (plan, places) in zip(counts, parts, strict=True):
        own[slice(None) if places is None else places] = 1 if plan.starts is None else np.diff(plan.starts)
    starts = np.zeros(count + 1, dtype)
    np.cumsum(counts[0] + counts[1], out=starts[1:])
    indices: list[Index | None] = []
    for k, (plan, places) in enumerate(parts):
        begins = starts[:-1] if k == 0 else starts[:-1] + counts[0]
        begins = begins if places is None else begins[places]
        if plan.starts is not None:
            terms = np.diff(plan.starts)
            begins = np.repeat(begins - plan.starts[:-1], terms) + np.arange(int(plan.starts[-1]))
        indices.append(begins)
    return starts, indices
