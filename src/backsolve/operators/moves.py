"""Operators that move entries and multiply none: slices and zero padding, reshapes, components of a tuple."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import asarray, astype, concat, counted, is_array, namespace, pad, promoted, reshape, take
from backsolve.algebra.elements import add, is_zero, multiply, negate
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace
from backsolve.operators.base import Identity, LinearOperator, Zero
from backsolve.operators.dispatch import operation
from backsolve.operators.flat import WhereShapesAgree, image_of
from backsolve.operators.lazy import Product

__all__ = [
    "Component",
    "Parts",
    "Reshape",
    "Slice",
    "boxes_apart",
    "flat_space",
    "flattened",
    "meet_slices",
    "move_key",
    "padded",
    "side_by_side",
    "split_ends",
    "unflattened",
]


Corner = tuple[int, ...]


class Slice(LinearOperator):
    """X ↦ X[start₀:stop₀, start₁:stop₁, …]; transposed, X ↦ zeros of the long shape with X in that box."""

    __slots__ = ("dtype", "shape", "starts", "stops", "transposed")

    matvec: Any = WhereShapesAgree("matvec", "is that of an array")
    rmatvec: Any = WhereShapesAgree("rmatvec", "is that of an array")
    matmat: Any = WhereShapesAgree("matmat", "is that of an array")
    rmatmat: Any = WhereShapesAgree("rmatmat", "is that of an array")

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

    def beside(self, more: tuple[int, ...]) -> Slice:
        """The same of arrays that have more axes behind."""
        starts, stops = (*self.starts, *(0 for _ in more)), (*self.stops, *more)
        return Slice((*self.shape, *more), starts, stops, self.dtype, self.transposed)

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


def boxes_apart(slices: Sequence[Slice | None]) -> dict[Any, Slice] | None:
    """The distinct boxes of some slices, by their corners; None where one is no slice or two overlap."""
    by_corners: dict[Any, Slice] = {}
    for s in slices:
        if s is None:
            return None
        by_corners.setdefault(s.box, s)
    boxes = sorted(by_corners.values(), key=lambda box: box.starts)
    if all(len(box.starts) == 1 for box in boxes):  # pieces of a vector: each must end before the next one starts
        pairs = list(pairwise(boxes))
    else:
        pairs = [(p, q) for n, p in enumerate(boxes) for q in boxes[:n]]
    return by_corners if boxes and all(disjoint(p, q) for p, q in pairs) else None


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


def padded(widths: Sequence[tuple[int, int, int]], x: Any, value: Any) -> Any:
    """A NumPy array with so many more entries before, behind and between its own along each axis; fewer where negative."""
    lows, highs, inners = np.transpose(np.reshape(widths, (-1, 3)))
    spread = np.array(x.shape, int) + np.maximum(np.array(x.shape, int) - 1, 0) * inners
    begin, end = np.maximum(lows, 0), np.maximum(lows, 0) + spread
    full = np.full(end + np.maximum(highs, 0), value, x.dtype)
    full[tuple(map(slice, begin, end, inners + 1))] = x
    return full[tuple(map(slice, np.maximum(-lows, 0), full.shape - np.maximum(-highs, 0)))]


class Reshape(LinearOperator):
    """X ↦ X with another shape of as many entries, in row-major order.  On vec(X) (row-major) its matrix is I."""

    __slots__ = ("dtype", "into", "out")

    def __init__(self, out: tuple[int, ...], into: tuple[int, ...], dtype: Any = None) -> None:
        self.out = out
        self.into = into
        self.dtype = dtype

    @property
    def domain(self) -> Space:
        return ArraySpace(self.into, self.dtype)

    @property
    def codomain(self) -> Space:
        return ArraySpace(self.out, self.dtype)

    def apply(self, x: Any) -> Any:
        return reshape(x, self.out)

    def transpose(self) -> LinearOperator:
        return Reshape(self.into, self.out, self.dtype)

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        return self.transpose()

    def todense(self) -> Any:
        return np.eye(prod(self.into), dtype=self.dtype or float).reshape((*self.out, *self.into))

    @property
    def label(self) -> str:
        return f"reshape({'×'.join(map(str, self.out)) or 'scalar'})"


_O = Zero()


class Parts(tuple[Any, ...]):
    """One element of a tuple of spaces; `backsolve.O` stands for a part that is zero."""

    __slots__ = ()

    def __add__(self, other: Any) -> Parts:
        return Parts(add(p, q) for p, q in zip(self, other, strict=True))

    def __mul__(self, c: Any) -> Parts:
        return Parts(p if is_zero(p) else multiply(p, c) for p in self)

    __rmul__ = __mul__

    def __neg__(self) -> Parts:
        return Parts(p if is_zero(p) else negate(p) for p in self)


class Component(LinearOperator):
    """(x₀, x₁, …) ↦ xᵢ: part ``index`` of a tuple; transposed, x ↦ (0, …, x, …, 0): x as that part."""

    __slots__ = ("codomain", "domain", "index", "space", "transposed")
    domain: Space
    codomain: Space

    def __init__(self, index: int, space: TupleSpace, transposed: bool = False) -> None:
        self.index = index
        self.space = space
        self.transposed = transposed
        part = space.parts[index]
        self.domain, self.codomain = (part, space) if transposed else (space, part)

    def apply(self, x: Any) -> Any:
        if self.transposed:
            return Parts(x if k == self.index else _O for k in range(len(self.space.parts)))
        return x[self.index]

    def transpose(self) -> LinearOperator:
        return Component(self.index, self.space, not self.transposed)

    def conj(self) -> LinearOperator:
        return self

    @property
    def label(self) -> str:
        return f"{'ι' if self.transposed else 'π'}{self.index}"


# ---- at the ends of a product ------------------------------------------------------------------------------------------
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


# ---- as one vector -----------------------------------------------------------------------------------------------------
def flat_space(space: Space) -> ArraySpace:
    """The vectors that hold an array, or the arrays of a tuple one after the other, in row-major order."""
    if isinstance(space, ArraySpace):
        return ArraySpace((space.size,), space.dtype)
    dtypes = {own.dtype for _, own in _leaves(_O, space) if own.dtype is not None and _holds_numbers(own)}
    return ArraySpace((space.size,), promoted(*dtypes) if len(dtypes) > 1 else next(iter(dtypes), None))


def flattened(x: Any, space: Space) -> Any:
    """Return an element of the space as one vector.

    Parts of a tuple that differ in dtype are promoted as their library does; absent ones, and those of a dtype without
    numbers (JAX's float0, the tangents of integers), are zeros.
    """
    if isinstance(space, ArraySpace) and not is_zero(x):
        x = asarray(x)
        return reshape(x, (prod(x.shape),))
    leaves = [(None if is_zero(leaf) or not _holds_numbers(own) else asarray(leaf), own) for leaf, own in _leaves(x, space)]
    xp = namespace(*(leaf for leaf, _ in leaves if leaf is not None))
    vectors = []
    for leaf, own in leaves:
        dtype = own.dtype if _holds_numbers(own) else bool  # which no other dtype is changed by
        leaf = xp.zeros((own.size,), dtype=dtype) if leaf is None else reshape(counted(leaf), (own.size,))
        vectors.append(leaf if dtype is None or leaf.dtype == dtype else astype(leaf, dtype))
    return concat(vectors, 0) if len(vectors) > 1 else vectors[0] if vectors else np.zeros(0)


def unflattened(x: Any, space: Space) -> Any:
    """Return the element of the space that `flattened` makes this vector of; real parts where the space is real."""
    if isinstance(space, TupleSpace):
        ends = accumulate(part.size for part in space.parts)
        return Parts(unflattened(x[end - part.size : end], part) for end, part in zip(ends, space.parts))
    if not _holds_numbers(space):
        return _O
    if space.dtype is not None and x.dtype != space.dtype:
        kinds = [getattr(dtype, "kind", "") for dtype in (x.dtype, space.dtype)]
        x = astype(namespace(x).real(x) if kinds[0] == "c" and kinds[1] != "c" else x, space.dtype)
    return x if space.shape == tuple(x.shape) else reshape(x, space.shape or ())


@operation
def flat_product(op: LinearOperator, x: Any) -> Any:
    """The image of a vector of NumPy's that has all entries of the domain one after the other, as such a vector.

    Raises `TypeError` of an operator that is linear over the reals alone, which has no complex matrix.
    """
    if op.real_linear:
        raise TypeError(
            f"{op!r} is linear over the reals alone, and has no matrix of complex numbers; apply it with op @ x."
        )
    return image_of(x, lambda part: flattened(op.apply(unflattened(op.lifted(part), op.domain)), op.codomain), op.domain)


def _leaves(x: Any, space: Space) -> Iterator[tuple[Any, ArraySpace]]:
    """The arrays of an element of a space, each with its own space."""
    if isinstance(space, ArraySpace):
        yield x, space
        return
    for part, own in zip([_O] * len(space.parts) if is_zero(x) else x, space.parts, strict=True):
        yield from _leaves(part, own)


def _holds_numbers(space: ArraySpace) -> bool:
    return getattr(space.dtype, "itemsize", 1) > 0
