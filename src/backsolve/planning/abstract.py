"""Arrays of which only shape and dtype exist: operators made of them compose and add as real ones do, and count the cost.

So a plan is made by the very code that carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from backsolve.algebra.arrays import Labels, counted, is_mask, register_adapter
from backsolve.algebra.elements import is_number
from backsolve.algebra.spaces import Space, TupleSpace
from backsolve.operators import Einsum, LinearOperator, Product, Scaling, Sum
from backsolve.operators.batch_axes import Pairs
from backsolve.operators.closed_form import is_opaque
from backsolve.operators.einsum import Factor

__all__ = ["Shadow", "Tally", "shadow_of"]

FUSED = 8  # products summed in a contraction cost an eighth of a product written to memory: measured on XLA's CPU


@dataclass
class Tally:
    """What the operations on shadows would cost: about the number of entries written, contractions at a discount."""

    cost: float = 0.0

    def taken(self) -> float:
        """The cost since it was last taken."""
        cost, self.cost = self.cost, 0.0
        return cost


class Shadow:
    """An array's shape and dtype; what is done to it is counted."""

    __slots__ = ("dtype", "shape", "tally")
    __array_ufunc__ = None  # NumPy arrays beside it leave + and * to it

    def __init__(self, shape: tuple[int, ...], dtype: Any, tally: Tally) -> None:
        self.shape = shape
        self.dtype = dtype
        self.tally = tally

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def made(self, shape: tuple[int, ...], dtype: Any = None) -> Shadow:
        """Another shadow, whose entries are written."""
        self.tally.cost += prod(shape)
        return Shadow(shape, self.dtype if dtype is None else dtype, self.tally)

    def __getitem__(self, place: Any) -> Any:
        raise TypeError("a shadow has no entries")

    def __add__(self, other: Any) -> Shadow:
        return self.made(np.broadcast_shapes(self.shape, getattr(other, "shape", ())))

    __radd__ = __mul__ = __rmul__ = __or__ = __add__

    def __array_namespace__(self) -> Any:
        """The few functions that the operators' closed forms call."""
        like = self
        return SimpleNamespace(
            bool=np.dtype(bool),
            int32=np.dtype(np.int32),
            eye=lambda n, dtype=None: Shadow((n, n), np.dtype(dtype or like.dtype), like.tally),
            zeros=lambda shape, dtype=None: Shadow(tuple(shape), np.dtype(dtype or like.dtype), like.tally),
            ones=lambda shape, dtype=None: Shadow(tuple(shape), np.dtype(dtype or like.dtype), like.tally),
            any=lambda x, axis: x.made(tuple(n for k, n in enumerate(x.shape) if k not in axis)),
            permute_dims=lambda x, axes: Shadow(tuple([x.shape[axis] for axis in axes]), x.dtype, x.tally),
            linalg=SimpleNamespace(diagonal=lambda x: x.made((*x.shape[:-2], min(x.shape[-2:])))),
        )


class ShadowAdapter:
    """See `backsolve.arrays.Adapter`."""

    def multiply(self, a: Any, b: Any) -> Any:
        """Entrywise product; a sign is free."""
        if not isinstance(a, Shadow) or not isinstance(b, Shadow):
            array = a if isinstance(a, Shadow) else b
            return Shadow(array.shape, array.dtype, array.tally)
        dtype = np.result_type(*(x.dtype for x in (a, b)))
        return a.made(np.broadcast_shapes(a.shape, b.shape), dtype)

    def add(self, a: Any, b: Any) -> Any:
        """Entrywise sum."""
        like = a if isinstance(a, Shadow) else b
        dtype = np.result_type(*(x.dtype for x in (a, b) if hasattr(x, "dtype")))
        return like.made(np.broadcast_shapes(*(getattr(x, "shape", ()) for x in (a, b))), dtype)

    def subtract(self, a: Any, b: Any) -> Any:
        """Entrywise difference."""
        return self.add(a, b)

    def divide(self, a: Any, b: Any) -> Any:
        """Entrywise quotient."""
        return self.add(a, b)

    def contract(self, a: Any, la: Labels, b: Any, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
        """Labelled product."""
        sizes = dict(zip(la, a.shape, strict=True)) | dict(zip(lb, b.shape, strict=True))
        out = tuple(label for label in dict.fromkeys(la + lb) if label in keep)
        tally = a.tally if isinstance(a, Shadow) else b.tally
        shape = tuple(sizes[label] for label in out)
        summed = len(out) < len(sizes)
        tally.cost += prod(shape) + (prod(sizes.values()) / FUSED if summed else 0)
        dtype = np.result_type(a.dtype, b.dtype)
        return Shadow(shape, np.dtype(np.int32) if summed and dtype.kind == "b" else dtype, tally), out

    def place(self, x: Any, labels: Labels, out: Labels, shape: tuple[int, ...]) -> Any:
        """Axes permuted and repeated."""
        return x.made(shape)

    def sum(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Sum over axes."""
        x.tally.cost += prod(x.shape)
        return Shadow(tuple(n for axis, n in enumerate(x.shape) if axis not in axes), counted(x).dtype, x.tally)

    def pad(self, x: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
        """Zeros around."""
        return x.made(tuple(map(sum, zip(before, x.shape, after, strict=True))))

    def take(self, x: Any, starts: tuple[int, ...], stops: tuple[int, ...]) -> Any:
        """A box."""
        return x.made(tuple(b - a for a, b in zip(starts, stops, strict=True)))

    def concat(self, arrays: Any, axis: int) -> Any:
        """One after the other."""
        like = next(x for x in arrays if isinstance(x, Shadow))
        shape = list(like.shape)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        return like.made(tuple(shape))

    def stack(self, arrays: Any) -> Any:
        """A new first axis."""
        like = next(x for x in arrays if isinstance(x, Shadow))
        return like.made((len(arrays), *like.shape))

    def map_columns(self, function: Any, x: Any) -> Any:
        """One image, as often as there are columns."""
        before = x.tally.cost
        image = function(Shadow(x.shape[:-1], x.dtype, x.tally))
        x.tally.cost += (x.tally.cost - before) * (x.shape[-1] - 1)
        return Shadow((*image.shape, x.shape[-1]), image.dtype, x.tally)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Another shape."""
        return Shadow(tuple(shape), x.dtype, x.tally)

    def astype(self, x: Any, dtype: Any) -> Any:
        """Another dtype."""
        return Shadow(x.shape, dtype, x.tally)


register_adapter(Shadow, ShadowAdapter())


class Opaque(LinearOperator):
    """The shadow of an opaque operator: its spaces, what one application costs, which axes it leaves side by side."""

    __slots__ = ("_aligned", "_work", "codomain", "domain", "name", "tally")
    domain: Space
    codomain: Space

    def __init__(
        self, domain: Space, codomain: Space, work: float, name: str, tally: Tally, aligned: dict[tuple[int, int], Pairs]
    ) -> None:
        self._aligned = aligned  # by part of the domain and part of the codomain
        self.domain = domain
        self.codomain = codomain
        self._work = work
        self.name = name
        self.tally = tally

    def aligned(self, into: int, out: int) -> Pairs:
        return self._aligned.get((into, out), frozenset())

    def lifted(self, x: Any) -> Any:
        return Shadow(tuple(x.shape), x.dtype, self.tally)

    def apply(self, x: Any) -> Any:
        self.tally.cost += self._work
        return self._image(self.codomain)

    def _image(self, space: Space) -> Any:
        if isinstance(space, TupleSpace):
            return tuple(map(self._image, space.parts))
        return Shadow(tuple(space.shape or ()), space.dtype, self.tally)

    def transpose(self) -> LinearOperator:
        aligned = {(out, into): frozenset((b, a) for a, b in pairs) for (into, out), pairs in self._aligned.items()}
        return Opaque(self.codomain, self.domain, self._work, self.name, self.tally, aligned)

    @property
    def label(self) -> str:
        return self.name


def _dtype(array: Any) -> Any:
    """The dtype as NumPy knows it; of another library's array whether it is a mask is all that matters here."""
    if isinstance(array.dtype, np.dtype):
        return array.dtype
    return np.dtype(bool if is_mask(array) else float)


def shadow_of(op: LinearOperator, tally: Tally) -> LinearOperator:
    """The operator with every array a shadow."""
    if isinstance(op, Einsum):
        factors = tuple(Factor(Shadow(tuple(f.array.shape), _dtype(f.array), tally), f.labels) for f in op.factors)
        return Einsum(factors, op.out, op.into, op.sizes, op.coef, op.dtypes)
    if isinstance(op, Product):
        return Product(tuple(shadow_of(f, tally) for f in op.factors))
    if isinstance(op, Sum):
        return Sum(tuple(shadow_of(t, tally) for t in op.terms))
    if isinstance(op, Scaling) and not is_number(op.c):
        return Scaling(Shadow((), op.c.dtype, tally), op.space)
    return Opaque(op.domain, op.codomain, op.work, op.label, tally, _alignment(op)) if is_opaque(op) else op


def _alignment(op: LinearOperator) -> dict[tuple[int, int], Pairs]:
    into, out = (len(space.parts) if isinstance(space, TupleSpace) else 1 for space in (op.domain, op.codomain))
    return {(k, o): pairs for k in range(into) for o in range(out) if (pairs := op.aligned(k, o))}
