"""Random products of slices, reshapes and einsums for hypothesis, each beside its dense array, which NumPy alone makes."""

from __future__ import annotations

import os
from math import prod
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from backsolve.operators import Einsum, einsum
from backsolve.operators.moves import Reshape, Slice

NIGHTLY = os.environ.get("BACKSOLVE_NIGHTLY") == "1"
MOST = 24  # entries of a space


def examples(count: int) -> settings:
    """So many examples, ten times as many at night."""
    count *= 10 if NIGHTLY else 1
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)


class Pair(NamedTuple):
    """An operator and its array over codomain + domain."""

    op: Any
    dense: np.ndarray


def after(a: np.ndarray, b: np.ndarray, middle: int) -> np.ndarray:
    """The dense array of a product, whose middle space has that many axes."""
    return np.tensordot(a, b, axes=middle)


def sizes_up_to(most: int) -> st.SearchStrategy[int]:
    return st.integers(1, max(1, min(4, most)))


@st.composite
def shapes(draw: Any, most: int = MOST) -> tuple[int, ...]:
    found: list[int] = []
    for _ in range(draw(st.integers(0, 3))):
        found.append(draw(sizes_up_to(most // prod(found))))
    return tuple(found)


def dense_slice(shape: tuple[int, ...], starts: Any, stops: Any) -> np.ndarray:
    eye = np.eye(prod(shape)).reshape((*shape, *shape))
    return eye[tuple(slice(a, b) for a, b in zip(starts, stops))]


def turned(dense: np.ndarray, rank: int) -> np.ndarray:
    """The dense array of the transpose of an operator whose codomain has this rank."""
    return np.moveaxis(dense, range(rank), range(dense.ndim - rank, dense.ndim))


@st.composite
def boxes(draw: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Corners of a box of at least one entry."""
    starts, stops = [], []
    for n in shape:
        a = draw(st.integers(0, n - 1))
        starts.append(a)
        stops.append(draw(st.integers(a + 1, n)))
    return tuple(starts), tuple(stops)


@st.composite
def slices(draw: Any, shape: tuple[int, ...]) -> Pair:
    starts, stops = draw(boxes(shape))
    return Pair(Slice(shape, starts, stops), dense_slice(shape, starts, stops))


@st.composite
def pads(draw: Any, shape: tuple[int, ...]) -> Pair:
    room = max(1, 2 * MOST // max(prod(shape), 1))
    before, after = [], []
    for _ in shape:
        extra = draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) if room > 2 else (0, 0)
        room //= 2
        before.append(extra[0])
        after.append(extra[1])
    long = tuple(n + a + b for n, a, b in zip(shape, before, after))
    starts, stops = tuple(before), tuple(a + n for a, n in zip(before, shape))
    return Pair(Slice(long, starts, stops, transposed=True), turned(dense_slice(long, starts, stops), len(shape)))


@st.composite
def factorings(draw: Any, size: int) -> tuple[int, ...]:
    """A shape of as many entries, axes of size 1 among its axes."""
    axes: list[int] = []
    while size > 1:
        n = draw(st.sampled_from([d for d in range(2, size + 1) if size % d == 0]))
        axes.append(n)
        size //= n
    for _ in range(draw(st.integers(0, 2))):
        axes.insert(draw(st.integers(0, len(axes))), 1)
    return tuple(axes)


@st.composite
def reshapes(draw: Any, shape: tuple[int, ...]) -> Pair:
    out = draw(factorings(prod(shape)))
    return Pair(Reshape(out, shape), np.eye(prod(shape)).reshape((*out, *shape)))


@st.composite
def einsums(draw: Any, into: tuple[int, ...], out: tuple[int, ...] | None = None) -> Pair:
    """Labels may repeat (diagonals), be only in out (broadcast), only in into (sums), only in factors (inner)."""
    sizes: list[int] = []

    def label_of(n: int, chance: int) -> int:
        same = [k for k, m in enumerate(sizes) if m == n]
        if same and draw(st.integers(0, 9)) < chance:
            return draw(st.sampled_from(same))
        sizes.append(n)
        return len(sizes) - 1

    into_labels = [label_of(n, 2) for n in into]
    if out is None:
        out_labels: list[int] = []
        for _ in range(draw(st.integers(0, 3))):
            room = MOST // prod(sizes[k] for k in out_labels)
            fits = [k for k in range(len(sizes)) if sizes[k] <= room]
            if fits and draw(st.integers(0, 3)):
                out_labels.append(draw(st.sampled_from(fits)))
            else:
                sizes.append(draw(sizes_up_to(room)))
                out_labels.append(len(sizes) - 1)
    else:
        out_labels = [label_of(n, 7) for n in out]
    if draw(st.integers(0, 2)) == 0:
        sizes.append(draw(st.integers(1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    factors = []
    for _ in range(draw(st.integers(0, 3))):
        labels = draw(st.lists(st.sampled_from(range(len(sizes))), unique=True, max_size=3)) if sizes else []
        if prod(sizes[k] for k in labels) <= 64:
            factors.append((rng.standard_normal([sizes[k] for k in labels]), labels))
    coef = draw(st.sampled_from([1, 1, -1, 2.5]))
    used = {*out_labels, *into_labels}.union(*(labels for _, labels in factors))
    op = einsum(out_labels, into_labels, *factors, sizes={k: sizes[k] for k in used}, coef=coef)
    return Pair(op, coef * dense_einsum(out_labels, into_labels, factors, sizes))


def dense_einsum(out: Any, into: Any, factors: Any, sizes: Any) -> np.ndarray:
    """Every axis has a label of its own, tied to its operator's label by an identity matrix; NumPy sums the rest."""
    fresh = len(sizes)
    operands: list[Any] = []
    ends = list(range(fresh, fresh + len(out) + len(into)))
    for end, label in zip(ends, [*out, *into]):
        operands += [np.eye(sizes[label]), [end, label]]
    for array, labels in factors:
        operands += [array, list(labels)]
    return np.asarray(np.einsum(*operands, ends, optimize="greedy")) if operands else np.ones(())


def moves(shape: tuple[int, ...]) -> st.SearchStrategy[Pair]:
    return st.one_of(slices(shape), pads(shape), reshapes(shape))


def operators(shape: tuple[int, ...]) -> st.SearchStrategy[Pair]:
    """Any one operator on this space."""
    return st.one_of(einsums(shape), moves(shape), einsums(shape))


@st.composite
def chains(draw: Any, least: int = 1, most: int = 5, domain: Any = None) -> list[Pair]:
    """Operators to be composed, the first to be applied last."""
    shape = draw(shapes()) if domain is None else domain
    found: list[Pair] = []
    for _ in range(draw(st.integers(least, most))):
        pair = draw(operators(shape) if prod(shape) <= 2 * MOST else st.one_of(slices(shape), einsums(shape)))
        found.insert(0, pair)
        shape = pair.op.codomain.shape
    return found


def multiplied(draw: Any, pairs: list[Pair], compose: Any) -> Any:
    """The product of operators, parenthesised at random."""
    ops = [pair.op for pair in pairs]
    while len(ops) > 1:
        k = draw(st.integers(0, len(ops) - 2))
        ops[k : k + 2] = [compose(ops[k], ops[k + 1])]
    return ops[0]


def dense_product(pairs: list[Pair]) -> np.ndarray:
    made = pairs[-1].dense
    for pair in pairs[-2::-1]:
        made = after(pair.dense, made, len(pair.op.domain.shape))
    return made


def same(op: Any, want: np.ndarray) -> None:
    """Spaces and dense array of an operator."""
    assert (*op.codomain.shape, *op.domain.shape) == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(op.todense(), want, rtol=1e-10, atol=1e-10 * scale)


def stored(op: Any) -> int:
    """Numbers that an operator keeps."""
    parts = getattr(op, "factors", getattr(op, "terms", ()))
    if isinstance(op, Einsum):
        return sum(f.size for f in parts)
    return sum(map(stored, parts))
