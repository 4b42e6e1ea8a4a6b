"""Products of two vectors of moved entries: only pairs of entries that meet are multiplied, each pair once.

What stays lazy stays so: the products of each pair of arrays are an array of their own, coefficients are multiplied while
planning, and nothing is put in order before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backsolve.algebra.arrays import multiply
from backsolve.sparse.kernels import common_dtype, concatenate, take

__all__ = ["CONSTANT", "Singles", "multiplied"]

Index = np.ndarray[Any, Any]

CONSTANT = -1  # the place of a number that is no entry of a source
_GROUPS = 12  # pairs of arrays whose products are made by themselves; the rest is put together first
_SMALLEST = 32  # products of such a pair


@dataclass(frozen=True)
class Singles:
    """v[k] = coef[k] · s[places[k]], coef[k] where places[k] is `CONSTANT`; s are all the vectors ``sources``."""

    sources: Sequence[Any]
    places: Index
    coef: Index

    @property
    def begins(self) -> Index:
        """Where each source begins in s, and where the last one ends."""
        return np.concatenate(([0], np.cumsum([x.shape[0] for x in self.sources])))

    def numbers(self) -> Index:
        """The source of each entry; of a constant, the first."""
        if len(self.sources) == 1:
            return np.zeros(self.places.size, np.int64)
        return np.maximum(np.searchsorted(self.begins, self.places, side="right") - 1, 0)


def multiplied(a: Singles, b: Singles, dtype: Any = None) -> Singles:
    """Return the products number by number.  Cost: one multiplication for each pair of entries of a and b that meet."""
    coef = a.coef * b.coef
    moving_a, moving_b = a.places != CONSTANT, b.places != CONSTANT
    both = moving_a & moving_b
    index = np.full(coef.size, CONSTANT, np.int64)
    sources: list[Any] = []
    total = 0
    for own, alone in ((a, moving_a & ~moving_b), (b, moving_b & ~moving_a)):
        if alone.any():  # beside a constant nothing is multiplied
            index[alone] = own.places[alone] + total
            sources.extend(own.sources)
            total += int(own.begins[-1])
    for at, one, other in _groups(a, b, np.flatnonzero(both)):
        place, array = _products(*one, *other, dtype)
        index[at] = total + place
        sources.append(array)
        total += array.shape[0]
    return Singles(sources, index, coef)


def _groups(a: Singles, b: Singles, at: Index) -> list[tuple[Index, tuple[Any, Index], tuple[Any, Index]]]:
    """The entries by pairs of arrays: which ones, and for either side the array and the places in it."""
    if not at.size:
        return []
    ka, kb = a.numbers()[at], b.numbers()[at]
    keys = ka * len(b.sources) + kb
    counts = np.bincount(keys)
    large = [k for k in np.argsort(-counts, kind="stable")[:_GROUPS].tolist() if counts[k] >= _SMALLEST]
    found = []
    rest = np.ones(at.size, bool)
    for k in large if len(large) < np.count_nonzero(counts) or len(large) > 1 else []:
        chosen = keys == k
        rest &= ~chosen
        i, j = divmod(k, len(b.sources))
        here = at[chosen]
        one, other = (a.sources[i], a.places[here] - a.begins[i]), (b.sources[j], b.places[here] - b.begins[j])
        found.append((here, one, other))
    if rest.any():
        here = at[rest]
        found.append((here, _together(a, here, ka[rest]), _together(b, here, kb[rest])))
    return found


def _together(v: Singles, at: Index, numbers: Index) -> tuple[Any, Index]:
    """One array that has these entries, and their places in it."""
    first = int(numbers[0])
    if (numbers == first).all():
        return v.sources[first], v.places[at] - v.begins[first]
    needed, places = np.unique(v.places[at], return_inverse=True)
    parts = []
    for k, x in enumerate(common_dtype(v.sources, None)):
        own = needed[(needed >= v.begins[k]) & (needed < v.begins[k + 1])] - v.begins[k]
        if own.size:
            parts.append(take(x, own))
    return concatenate(parts), places


def _products(x: Any, i: Index, y: Any, j: Index, dtype: Any) -> tuple[Index, Any]:
    """The products x[i] · y[j], each pair of places once, and where each is."""
    place = np.arange(i.size)
    if i.size > max(x.shape[0], y.shape[0]):
        keys, first, back = np.unique(i * np.int64(y.shape[0]) + j, return_index=True, return_inverse=True)
        if keys.size < i.size:
            i, j, place = i[first], j[first], back
    return place, multiply(take(x, i), take(y, j))
