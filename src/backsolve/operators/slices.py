"""A box of entries, and its transpose: the same entries among zeros."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import concat, is_array, namespace, pad, take
from backsolve.algebra.spaces import ArraySpace, Space
from backsolve.operators.base import Identity, LinearOperator, Zero

__all__ = ["Slice", "meet_slices", "side_by_side"]

Corner = tuple[int, ...]


class Slice(LinearOperator):
    """X ↦ X[start₀:stop₀, start₁:stop₁, …]; transposed, X ↦ zeros of the long shape with X in that box."""

    __slots__ = ("dtype", "shape", "starts", "stops", "transposed")

    def __init__(
        self, shape: tuple[int, ...], starts: Corner, stops: Corner, dtype: Any = None, transposed: bool = False
    ) -> None:
        self.shape = shape  # of the long side
        self.starts = starts
        self.stops = stops
        self.dtype = dtype
        self.transposed = transposed

    @classmethod
    def along(cls, shape: tuple[int, ...], axis: int, start: int, stop: int, dtype: Any = None) -> Slice:
        """The run start:stop along one axis."""
        starts, stops = [0] * len(shape), list(shape)
        starts[axis], stops[axis] = start, stop
        return cls(shape, tuple(starts), tuple(stops), dtype)

    @property
    def box(self) -> tuple[Corner, Corner]:
        """First corner of the box, and the corner after its last."""
        return self.starts, self.stops

    @property
    def _short(self) -> ArraySpace:
        return ArraySpace(tuple([b - a for a, b in zip(self.starts, self.stops, strict=True)]), self.dtype)

    @property
    def domain(self) -> Space:
        return self._short if self.transposed else ArraySpace(self.shape, self.dtype)

    @property
    def codomain(self) -> Space:
        return ArraySpace(self.shape, self.dtype) if self.transposed else self._short

    def apply(self, x: Any) -> Any:
        if self.transposed:
            after = tuple([n - b for n, b in zip(self.shape, self.stops, strict=True)])
            return pad(x, self.starts, after)
        return take(x, self.starts, self.stops)

    def transpose(self) -> LinearOperator:
        return Slice(self.shape, self.starts, self.stops, self.dtype, not self.transposed)

    def conj(self) -> LinearOperator:
        return self

    def todense(self) -> Any:
        n = prod(self.shape)
        eye = np.eye(n, dtype=self.dtype or float).reshape((*self.shape, *self.shape))
        box = tuple(map(slice, self.starts, self.stops))
        return eye[(slice(None),) * len(box) + box] if self.transposed else eye[box]

    @property
    def label(self) -> str:
        runs = [":" if (a, b) == (0, n) else f"{a}:{b}" for a, b, n in zip(self.starts, self.stops, self.shape, strict=True)]
        return f"slice({', '.join(runs)}){'ᵀ' if self.transposed else ''}"


def meet_slices(a: Slice, b: Slice) -> LinearOperator | None:
    """Return a ∘ b where that is a slice again: a box of a box, or the box a of what b has placed in its own."""
    if not a.transposed and not b.transposed:
        starts = tuple([p + q for p, q in zip(b.starts, a.starts, strict=True)])
        stops = tuple([p + q for p, q in zip(b.starts, a.stops, strict=True)])
        return Slice(b.shape, starts, stops, b.dtype)
    if a.transposed and b.transposed:
        inner = meet_slices(b.transpose(), a.transpose())  # type: ignore[arg-type]
        return inner.transpose() if inner is not None else None
    if a.transposed:
        return None
    if a.box == b.box:
        return Identity(b.domain)
    if disjoint(a, b):
        return Zero(b.domain, a.codomain)
    return None


def disjoint(a: Slice, b: Slice) -> bool:
    """Whether the boxes of two slices share no entry."""
    return any(max(p, r) >= min(q, s) for p, q, r, s in zip(a.starts, a.stops, b.starts, b.stops, strict=True))


def side_by_side(placed: Sequence[tuple[Slice, Any]]) -> Any:
    """Σ sliceᵀ x over pieces of one array that are runs along one axis without overlap, in one concatenation; else None.

    Cost: linear in the array, where a sum of padded pieces is that for every piece.
    """
    first, x = placed[0]
    axes = {k for piece, _ in placed for k, n in enumerate(piece.shape) if (piece.starts[k], piece.stops[k]) != (0, n)}
    if len(axes) != 1 or not all(_fits(piece, y) and y.dtype == x.dtype for piece, y in placed):
        return None
    (axis,) = axes
    ordered = sorted(placed, key=lambda pair: pair[0].starts[axis])
    ends = [(piece.starts[axis], piece.stops[axis]) for piece, _ in ordered]
    if any(stop > start for (_, stop), (start, _) in pairwise(ends)):
        return None
    parts: list[Any] = []
    reached = 0
    for (start, stop), (_, y) in zip(ends, ordered, strict=True):
        parts += [_gap(x, first.shape, axis, start - reached), y]
        reached = stop
    parts.append(_gap(x, first.shape, axis, first.shape[axis] - reached))
    return concat([part for part in parts if part is not None], axis)


def _fits(piece: Slice, y: Any) -> bool:
    return is_array(y) and y.shape == piece._short.shape and (piece.dtype is None or piece.dtype == y.dtype)


def _gap(x: Any, shape: tuple[int, ...], axis: int, length: int) -> Any:
    return namespace(x).zeros((*shape[:axis], length, *shape[axis + 1 :]), dtype=x.dtype) if length else None
