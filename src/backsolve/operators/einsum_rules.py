"""Two `Einsum`s made one: composition joins their factor lists, addition adds factor to factor.

Whether factors are multiplied together is decided by size: when the product is no larger than its operands together.
So Hadamards multiply and left multiplications multiply, and a Kronecker or rank-one operator is never blown up.  Slices
and reshapes beside an `Einsum` act on its labels, or pass to its other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, count
from math import prod
from typing import Any

from backsolve.algebra.arrays import (
    Labels,
    add,
    contract,
    eye,
    is_mask,
    multiply,
    namespace,
    place,
    reshape,
    scale,
    subtract,
    sum_axes,
    take,
)
from backsolve.algebra.spaces import SpaceError
from backsolve.operators.base import Identity, LinearOperator
from backsolve.operators.einsum import Einsum, Factor, contract_all, hidden_by
from backsolve.operators.lazy import Product
from backsolve.operators.moves import Reshape, Slice

__all__ = [
    "add_einsums",
    "compose_einsums",
    "contracted",
    "einsum_after_slice",
    "join_reshapes",
    "regroup_after",
    "regroup_before",
    "slice_after_einsum",
    "unified",
]


Sizes = dict[int, int | None]


def unified(pairs: Iterable[tuple[int, int]]) -> Callable[[int], int]:
    """The function from a label to the least of those that these pairs make one label with it."""
    less: dict[int, int] = {}

    def find(label: int) -> int:
        while label in less:
            label = less[label]
        return label

    for p, q in pairs:
        low, high = sorted((find(p), find(q)))
        if low != high:
            less[high] = low
    return find


def compose_einsums(a: Einsum, b: Einsum) -> Einsum | None:
    """Return a ∘ b: b's labels made fresh, a.into unified with b.out, the factors joined and merged.

    None where the result would sum an axis that has no factor and no known size.
    """
    if _is_diagonal(a) and _is_diagonal(b):
        return _compose_diagonals(a, b)
    shift = max((*a.sizes, -1)) + 1
    find = unified(zip(a.into, (k + shift for k in b.out), strict=True))
    own = {label: find(label) for label in a.sizes}
    inner = {label: find(label + shift) for label in b.sizes}
    sizes: Sizes = {}
    for root, n in (*zip(own.values(), a.sizes.values(), strict=True), *zip(inner.values(), b.sizes.values(), strict=True)):
        known = sizes.get(root)
        if known is not None and n is not None and known != n:
            raise SpaceError(f"cannot compose {a!r} with {b!r}: one axis has size {known} and {n}.")
        sizes[root] = n if known is None else known
    factors = [renamed(f, [own[k] for k in f.labels]) for f in a.factors]
    factors += [renamed(f, [inner[k] for k in f.labels]) for f in b.factors]
    out = tuple([own[k] for k in a.out])
    into = tuple([inner[k] for k in b.into])
    coef = a.coef * b.coef
    used = {*out, *into}.union(*(f.labels for f in factors))
    for label in set(sizes) - used:  # summed over nothing: a factor of the axis's size
        n = sizes.pop(label)
        if n is None:
            return None
        if label in {own[p] for p in a.into}:
            coef = coef * n
    merged = contract_pairs(factors, {*out, *into})
    axes = {*out, *into}.union(*(f.labels for f in merged))
    return Einsum(tuple(merged), out, into, {k: n for k, n in sizes.items() if k in axes}, coef, (b.dtypes[0], a.dtypes[1]))


def _is_diagonal(op: Einsum) -> bool:
    """Whether op multiplies entry by entry, by arrays of its own shape and by scalars."""
    out = op.out
    if out != op.into or len(set(out)) < len(out):
        return False
    return all(f.labels == out or not f.labels for f in op.factors) and None not in op.sizes.values()


def _compose_diagonals(a: Einsum, b: Einsum) -> Einsum:
    """a ∘ b of two that multiply entry by entry: one array, one scalar, and a mask of either kind.

    What a mask hides may be infinite, and so may what the product is multiplied with later: a mask stays one.
    """
    for p, q in zip(a.into, b.out, strict=True):
        if a.sizes[p] != b.sizes[q]:
            raise SpaceError(f"cannot compose {a!r} with {b!r}: one axis has size {a.sizes[p]} and {b.sizes[q]}.")
    out = a.out
    by_kind: dict[tuple[bool, bool], Factor] = {}
    for f in (*a.factors, *b.factors):
        key = is_mask(f.array), bool(f.labels)
        other = by_kind.get(key)
        by_kind[key] = Factor(f.array, out, f.name) if f.labels else f
        if other is not None and not (key[0] and other.array is f.array):  # a mask twice is that mask
            name = f"{other.name}∘{f.name}" if other.name and f.name else ""
            by_kind[key] = Factor(multiply(other.array, f.array), out if f.labels else (), name)
    sizes = {label: a.sizes[label] for label in out}
    factors = tuple(by_kind[key] for key in sorted(by_kind))  # numbers before masks
    return Einsum(factors, out, out, sizes, a.coef * b.coef, (b.dtypes[0], a.dtypes[1]))


def _add_diagonals(a: Einsum, b: Einsum) -> Einsum | None:
    """a + b of two that multiply entry by entry by one array or mask each, or both; None where one is something else."""
    if not (a.factors and b.factors and _is_diagonal(a) and _is_diagonal(b)):
        return None
    if len({bool(f.labels) for f in (*a.factors, *b.factors)}) > 1:
        return None
    if [a.sizes[k] for k in a.out] != [b.sizes[k] for k in b.out]:
        return None
    parts = [[[f for f in op.factors if is_mask(f.array) == masks] for masks in (False, True)] for op in (a, b)]
    if any(len(some) > 1 for part in parts for some in part):
        return None
    if any(masks for _, masks in parts):
        (f, m), (g, n) = ([some[0] if some else None for some in part] for part in parts)
        return _add_masked(a, b, f, g, m, n)
    (f,), (g,) = a.factors, b.factors
    coef: Any = 1
    if a.coef == b.coef:
        coef, total = a.coef, add(f.array, g.array)
    elif b.coef == -1 and a.coef == 1:
        total = subtract(f.array, g.array)
    elif a.coef == -1 and b.coef == 1:
        total = subtract(g.array, f.array)
    else:
        first, second = (op.factors[0].array if op.coef == 1 else scale(op.coef, op.factors[0].array) for op in (a, b))
        total = add(first, second)
    dtypes = (a.dtypes[0] or b.dtypes[0], a.dtypes[1] or b.dtypes[1])
    return Einsum((Factor(total, f.labels and a.out, _sum_name(a, b)),), a.out, a.out, a.sizes, coef, dtypes)


def _add_masked(a: Einsum, b: Einsum, f: Factor | None, g: Factor | None, m: Factor | None, n: Factor | None) -> Einsum:
    """a + b, entry by entry, of numbers f and g (None: 1) behind masks m and n (None: none): a mask where both have one."""
    labels = a.factors[0].labels and a.out
    dtypes = (a.dtypes[0] or b.dtypes[0], a.dtypes[1] or b.dtypes[1])
    masks = [] if m is None or n is None else [Factor(m.array if m.array is n.array else m.array | n.array, labels)]
    if m is None or n is None or m.array is not n.array:
        total = add(_selected(a.coef, f, m), _selected(b.coef, g, n))
    elif f is None and g is None:
        return Einsum(tuple(masks), a.out, a.out, a.sizes, a.coef + b.coef, dtypes)
    else:
        terms = [op.coef if x is None else _times(op.coef, x.array) for op, x in ((a, f), (b, g))]
        total = add(*(terms if f is not None else reversed(terms)))  # an array first
    return Einsum((Factor(total, labels), *masks), a.out, a.out, a.sizes, 1, dtypes)


def _selected(coef: Any, number: Factor | None, mask: Factor | None) -> Any:
    """coef times the numbers that a mask lets through, as an array."""
    if mask is None or number is None:
        return _times(coef, (number or mask).array)  # type: ignore[union-attr]
    return _times(coef, multiply(mask.array, number.array))


def _times(coef: Any, x: Any) -> Any:
    return x if coef == 1 else scale(coef, x)


def renamed(f: Factor, labels: list[int]) -> Factor:
    if len(set(labels)) == len(labels):
        return Factor(f.array, tuple(labels), f.name, f.given)
    array, names = f.array, list(labels)  # two axes became one: keep the diagonal
    xp = namespace(array)
    while len(set(names)) < len(names):
        i, j = next((i, j) for i, j in combinations(range(len(names)), 2) if names[i] == names[j])
        rest = [axis for axis in range(len(names)) if axis not in (i, j)]
        array = xp.linalg.diagonal(xp.permute_dims(array, (*rest, i, j)))
        names = [names[axis] for axis in rest] + [names[i]]
    return Factor(array, tuple(names))


def contract_pairs(factors: list[Factor], outer: set[int]) -> list[Factor]:
    """Multiply factors two by two, cheapest product first, while a product is no larger than its two operands.

    A mask whose axes all stay is multiplied with masks alone: it comes last of all, to hide what is infinite or NaN by then.
    Another is multiplied with derivatives, where there are any, and not with the program's own arrays, of which that would
    be a copy.
    """
    factors = _summed_alone(factors, outer)
    while True:
        best: tuple[tuple[bool, bool, int], int, int, Labels] | None = None
        for i, j in combinations(range(len(factors)), 2):
            f, g = factors[i], factors[j]
            others = outer.union(*(h.labels for k, h in enumerate(factors) if k not in (i, j)))
            keep = tuple(k for k in (*f.labels, *(k for k in g.labels if k not in f.labels)) if k in others)
            size = {
                **dict(zip(f.labels, f.array.shape, strict=True)),
                **dict(zip(g.labels, g.array.shape, strict=True)),
            }
            result = prod(size[k] for k in keep)
            summed = len(keep) < len(size)
            tidy = summed or set(keep) <= set(f.labels) or set(keep) <= set(g.labels)
            one_mask = is_mask(f.array) != is_mask(g.array)
            if one_mask and outer.issuperset((f if is_mask(f.array) else g).labels):
                continue
            rank = (one_mask, one_mask and (f.given or g.given), prod(size.values()))
            if tidy and result <= f.size + g.size and (best is None or rank < best[0]):
                best = (rank, i, j, keep)
        if best is None:
            return sorted(factors, key=lambda f: is_mask(f.array))
        _, i, j, keep = best
        f, g = factors[i], factors[j]
        if is_mask(f.array) != is_mask(g.array):
            factors = hidden_by(factors, *((f, g) if is_mask(f.array) else (g, f)), outer)
        array, labels = contract(f.array, f.labels, g.array, g.labels, keep)
        name = f"{f.name} {g.name}" if f.name and g.name and len(f.labels) == len(g.labels) == 2 else ""
        name = name if set(f.labels) != set(g.labels) else name.replace(" ", "∘")
        contraction = Factor(array, labels, name, f.given and g.given)
        factors = [h for k, h in enumerate(factors) if k not in (i, j)]
        factors.insert(i, contraction)


def _summed_alone(factors: list[Factor], outer: set[int]) -> list[Factor]:
    """The factors without the axes that neither another factor nor the operator has."""
    if all(outer.issuperset(f.labels) for f in factors):
        return factors
    summed = []
    for i, f in enumerate(factors):
        others = outer.union(*(g.labels for k, g in enumerate(factors) if k != i))
        alone = tuple(axis for axis, label in enumerate(f.labels) if label not in others)
        summed.append(Factor(sum_axes(f.array, alone), tuple(k for k in f.labels if k in others)) if alone else f)
    return summed


def contracted(op: Einsum) -> Einsum:
    """op with its factors multiplied together where that does not grow them: what every product with it would do again."""
    if len(op.factors) < 2:
        return op
    outer = {*op.out, *op.into}
    factors = tuple(contract_pairs(list(op.factors), outer))
    used = outer.union(*(f.labels for f in factors))
    return Einsum(factors, op.out, op.into, {k: n for k, n in op.sizes.items() if k in used}, op.coef, op.dtypes)


def add_einsums(a: Einsum, b: Einsum, *, grow: bool = False) -> Einsum | None:
    """Return a + b as one factor over the Kronecker deltas both have, or None where that would grow (unless it may)."""
    simple = _add_diagonals(a, b)
    if simple is not None:
        return simple
    ax, bx = _axes(a), _axes(b)
    shared = _meet(ax, bx)
    labels = tuple(shared)
    n = len(a.out)
    out, into = labels[:n], labels[n:]
    sizes: Sizes = {}
    for label, p, q in zip(labels, ax, bx, strict=True):
        one, other = a.sizes[p], b.sizes[q]
        sizes[label] = one if sizes.get(label) is None and one is not None else sizes.get(label, other)
        if sizes[label] is None:
            sizes[label] = other
    single_a, single_b = _cost(a, ax, labels, sizes), _cost(b, bx, labels, sizes)
    if single_a is None or single_b is None:
        return None
    covered = single_a | single_b
    if covered and not a.factors and not b.factors:  # no array says in which library and dtype to write the deltas
        return None
    size = prod(sizes[k] or 1 for k in covered)
    if not grow and size > max(sum(f.size for f in a.factors), 1) + max(sum(f.size for f in b.factors), 1):
        return None
    dtypes = (a.dtypes[0] or b.dtypes[0], a.dtypes[1] or b.dtypes[1])
    if not covered and not a.factors and not b.factors:
        return Einsum((), out, into, sizes, a.coef + b.coef, dtypes)
    order = tuple(k for k in dict.fromkeys(labels) if k in covered)
    first = _as_single(a, ax, labels, sizes, order, b)
    second = _as_single(b, bx, labels, sizes, order, a)
    total = add(first, second)
    masks = []
    if any(is_mask(f.array) for f in (*a.factors, *b.factors)):  # what it hides may be infinite
        masks = _either(_mask_of(a, ax, labels, sizes), _mask_of(b, bx, labels, sizes), sizes)
    return Einsum((Factor(total, order, _sum_name(a, b)), *masks), out, into, sizes, 1, dtypes)


def _mask_of(op: Einsum, axes: Labels, labels: Labels, sizes: Sizes) -> Factor | None:
    """Where an operator is not zero by its structure: its masks and the deltas it loses, as one; None for everywhere."""
    first, deltas = _lost(axes, labels)
    like = op.factors[0].array if op.factors else None
    parts = [Factor(f.array, tuple(first[k] for k in f.labels)) for f in op.factors if is_mask(f.array)
             if first.keys() >= set(f.labels)]  # fmt: skip
    if like is not None:
        parts += [Factor(eye(like, sizes[p], namespace(like).bool), (p, q)) for p, q in deltas]
    if len(parts) < 2:
        return parts[0] if parts else None
    keep = tuple(dict.fromkeys(k for f in parts for k in f.labels))
    return Factor(*contract_all(parts[0].array, parts[0].labels, parts[1:], keep, {}))


def _either(m: Factor | None, n: Factor | None, sizes: Sizes) -> list[Factor]:
    """The mask behind which one or the other is not zero, where that is not everywhere."""
    if m is None or n is None:
        return []
    if m.array is n.array and m.labels == n.labels:
        return [m]
    keep = tuple(dict.fromkeys(m.labels + n.labels))
    return [Factor(place(m.array, m.labels, keep, sizes) | place(n.array, n.labels, keep, sizes), keep)]


def _lost(axes: Labels, labels: Labels) -> tuple[dict[int, int], list[Labels]]:
    """The first shared label of each of an operator's, and the pairs of shared labels that are equal in it."""
    first: dict[int, int] = {}
    pairs: dict[Labels, None] = {}
    for axis, label in zip(axes, labels, strict=True):
        if first.setdefault(axis, label) != label:
            pairs[first[axis], label] = None
    return first, list(pairs)


def _sum_name(a: Einsum, b: Einsum) -> str:
    if len(a.factors) == len(b.factors) == 1 and a.coef == b.coef == 1 and a.factors[0].name and b.factors[0].name:
        return f"{a.factors[0].name}+{b.factors[0].name}"
    return ""


def _axes(op: Einsum) -> Labels:
    return op.out + op.into


def _meet(x: Labels, y: Labels) -> list[int]:
    """Labels for the axes, equal exactly where they are equal in both: the deltas both operators have."""
    number: dict[tuple[int, int], int] = {}
    return [number.setdefault(pair, len(number)) for pair in zip(x, y, strict=True)]


def _cost(op: Einsum, axes: Labels, labels: Labels, sizes: Sizes) -> set[int] | None:
    """The shared labels that op's single factor would carry; None where a size it needs is unknown."""
    used = {k for f in op.factors for k in f.labels}
    covered: set[int] = set()
    for axis, label in zip(axes, labels, strict=True):
        split = len({k for p, k in zip(axes, labels, strict=True) if p == axis}) > 1
        if axis in used or split:
            covered.add(label)
            if sizes[label] is None:
                return None
    return covered


def _as_single(op: Einsum, axes: Labels, labels: Labels, sizes: Sizes, order: Labels, other: Einsum) -> Any:
    """op's factors multiplied out to one array over ``order``, with an identity for every delta that is lost."""
    like = next(f.array for f in (*op.factors, *other.factors))
    dtype = (
        namespace(like).bool if op.factors else like.dtype
    )  # beside a factor a delta selects, so that no NaN gets past it
    first, pairs = _lost(axes, labels)
    deltas = [Factor(eye(like, sizes[label], dtype), (p, label)) for p, label in pairs]
    fresh = max((*labels, 0)) + 1
    inner = {k: fresh + i for i, k in enumerate(sorted({k for f in op.factors for k in f.labels} - set(first)))}
    factors = [Factor(f.array, tuple(first.get(k, inner.get(k, k)) for k in f.labels)) for f in op.factors] + deltas
    if not factors:
        return op.coef
    x, order_now = contract_all(factors[0].array, factors[0].labels, factors[1:], order, sizes)
    x = place(x, order_now, order, sizes) if set(order_now) != set(order) or order_now != order else x
    return x if op.coef == 1 else scale(op.coef, x)


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
