"""Slices and reshapes beside an `Einsum`: they act on its labels, or pass through to its other side.

In a product slices travel to the right and transposed slices to the left, until they meet one another.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

from backsolve.algebra.arrays import reshape, take
from backsolve.operators.base import Identity, LinearOperator
from backsolve.operators.einsum import Einsum, Factor
from backsolve.operators.einsum_rules import compose_einsums
from backsolve.operators.lazy import Product
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice

__all__ = [
    "einsum_after_slice",
    "join_reshapes",
    "move_key",
    "regroup_after",
    "regroup_before",
    "slice_after_einsum",
    "split_ends",
]


class Ends(NamedTuple):
    """A product as the slices and reshapes it begins with, one operator (None: the identity), and those it ends with."""

    lead: tuple[LinearOperator, ...]
    middle: LinearOperator | None
    trail: tuple[LinearOperator, ...]

    @property
    def keys(self) -> tuple[Any, Any]:
        """What two of them must share to be added between their ends."""
        return tuple(map(move_key, self.lead)), tuple(map(move_key, self.trail))


def split_ends(op: LinearOperator) -> Ends:
    """The parts of an operator between its slices and reshapes."""
    factors = op.factors if isinstance(op, Product) else (op,)
    start, stop = 0, len(factors)
    while start < stop and move_key(factors[start]) is not None:
        start += 1
    while stop > start and move_key(factors[stop - 1]) is not None:
        stop -= 1
    middle = factors[start:stop]
    return Ends(factors[:start], None if not middle else middle[0] if len(middle) == 1 else Product(middle), factors[stop:])


def move_key(op: LinearOperator) -> Any:
    """What two slices, or two reshapes, are equal by; None for any other operator."""
    if isinstance(op, Slice):
        return (op.shape, op.starts, op.stops, op.transposed)
    return (op.out, op.into) if isinstance(op, Reshape) else None


def slice_after_einsum(a: Slice, b: Einsum) -> LinearOperator | None:
    """Return a ∘ b for a slice a: the factors of b sliced, and a slice on the right for each Kronecker delta it cuts."""
    if a.transposed or len(set(b.out)) < len(b.out) or len(set(b.into)) < len(b.into):
        return None
    runs = {
        label: (start, stop)
        for label, start, stop in zip(b.out, a.starts, a.stops, strict=True)
        if (start, stop) != (0, b.sizes[label])
    }
    factors = tuple(_sliced(f, runs) for f in b.factors)
    sizes = b.sizes | {label: stop - start for label, (start, stop) in runs.items()}
    inner = Einsum(factors, b.out, b.into, sizes, b.coef, b.dtypes)
    cut = [label for label in b.into if label in runs]
    if not cut:
        return inner
    shape = _known(b, b.into)
    box = [runs.get(label, (0, n)) for label, n in zip(b.into, shape, strict=True)]
    starts, stops = zip(*box, strict=True)
    return Product((inner, Slice(shape, starts, stops, b.dtypes[0])))


def einsum_after_slice(a: Einsum, b: Slice) -> LinearOperator | None:
    """Return a ∘ b for a transposed slice b: the transpose of `slice_after_einsum`."""
    if not b.transposed:
        return None
    moved = slice_after_einsum(b.transpose(), a.transpose())  # type: ignore[arg-type]
    return None if moved is None else moved.transpose()


def _sliced(f: Factor, runs: dict[int, tuple[int, int]]) -> Factor:
    if not any(label in runs for label in f.labels):
        return f
    box = [runs.get(label, (0, n)) for label, n in zip(f.labels, f.array.shape, strict=True)]
    starts, stops = zip(*box, strict=True)
    return Factor(take(f.array, starts, stops), f.labels)


def _known(op: Einsum, labels: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([op.sizes[label] or 0 for label in labels])


def join_reshapes(a: Reshape, b: Reshape) -> LinearOperator:
    """Return a ∘ b: one reshape, or the identity."""
    return Identity(b.domain) if a.out == b.into else Reshape(a.out, b.into, b.dtype)


def regroup_before(a: Einsum, b: Reshape) -> LinearOperator | None:
    """Return a ∘ b: each axis that b makes out of several is that many labels in a; None where b splits an axis."""
    coarse, fine = _long(b.out), _long(b.into)
    groups = _groups(coarse, fine)
    if groups is None:
        return None
    a = _plain(a, _units(b.out, coarse, b.dtype))
    if coarse == fine:
        return _plain(a, _units(fine, b.into, b.dtype))
    if len(set(a.into)) < len(a.into):
        return None
    split = _split(a, a.into, groups, fine)
    if split is None or fine == b.into:
        return split
    units = _units(fine, b.into, b.dtype)
    if isinstance(split, Product):
        left, inner = split.factors
        return Product((left, _plain(inner, units)))
    return _plain(split, units)


def regroup_after(a: Reshape, b: Einsum) -> LinearOperator | None:
    """Return a ∘ b for a reshape that splits axes: the transpose of `regroup_before`."""
    moved = regroup_before(b.transpose(), a.transpose())  # type: ignore[arg-type]
    return None if moved is None else moved.transpose()


def _plain(a: LinearOperator, b: Einsum) -> Einsum:
    """a ∘ b of two whose sizes are all known."""
    if not isinstance(a, Einsum):
        raise TypeError(f"expected an Einsum, got {a!r}")
    composed = a if b.out == b.into else compose_einsums(a, b)
    if composed is None:
        raise TypeError(f"{a!r} and {b!r} have no closed product")
    return composed


def _split(a: Einsum, merged: tuple[int, ...], groups: list[list[int]], fine: tuple[int, ...]) -> LinearOperator | None:
    """a with each label of ``merged`` (its ``into``) replaced by one label for every fine axis of its group."""
    fresh = max((*a.sizes, -1)) + 1
    pieces: dict[int, list[int]] = {}
    sizes = dict(a.sizes)
    for label, group in zip(merged, groups, strict=True):
        if len(group) == 1 and fine[group[0]] == sizes[label]:
            pieces[label] = [label]
            continue
        pieces[label] = list(range(fresh, fresh + len(group)))
        fresh += len(group)
        sizes |= {new: fine[axis] for new, axis in zip(pieces[label], group, strict=True)}
        del sizes[label]
    factors = []
    for f in a.factors:
        labels = tuple(new for label in f.labels for new in pieces.get(label, [label]))
        if labels != f.labels:
            known = dict(zip(f.labels, f.array.shape, strict=True)) | sizes
            f = Factor(reshape(f.array, tuple(known[label] or 0 for label in labels)), labels)
        factors.append(f)
    into = tuple(new for label in a.into for new in pieces[label])
    out = tuple(new for label in a.out for new in pieces.get(label, [label]))
    inner = Einsum(tuple(factors), out, into, sizes, a.coef, a.dtypes)
    if out == a.out:
        return inner
    if len(set(a.out)) < len(a.out):
        return None
    here, there = _known(a, a.out), tuple([sizes[label] or 0 for label in out])
    return Product((Reshape(here, there, a.dtypes[1]), inner))


def _groups(coarse: tuple[int, ...], fine: tuple[int, ...]) -> list[list[int]] | None:
    """For each coarse axis the run of fine axes that it merges; None where one is no such run.  No axis has size 1."""
    if 0 in coarse or 0 in fine:
        return None
    groups: list[list[int]] = []
    axis = 0
    for n in coarse:
        start, size = axis, 1
        while size < n and axis < len(fine):
            size *= fine[axis]
            axis += 1
        if size != n:
            return None
        groups.append(list(range(start, axis)))
    return groups if axis == len(fine) else None


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([n for n in shape if n != 1])


def _units(out: tuple[int, ...], into: tuple[int, ...], dtype: Any) -> Einsum:
    """The reshape between two shapes that differ in axes of size 1 alone, as an `Einsum` without factors."""
    fresh = count(len(_long(out)))
    labels: list[tuple[int, ...]] = []
    sizes: dict[int, int | None] = {}
    for shape in (out, into):
        long = count()
        labels.append(tuple([next(fresh) if n == 1 else next(long) for n in shape]))
        sizes |= dict(zip(labels[-1], shape, strict=True))
    return Einsum((), labels[0], labels[1], sizes, 1, (dtype, dtype))
