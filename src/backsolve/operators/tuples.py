"""Tuples of arrays as one space: how an operator with several inputs or outputs sits in a matrix.

An element of a `TupleSpace` is a `Parts`: a tuple that adds part by part and whose absent parts are zero.  `flattened` makes
one vector of it, the parts one after the other, each in row-major order, and `unflattened` the parts of the vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, astype, concat, counted, namespace, reshape
from backsolve.algebra.elements import add, is_zero, multiply, negate
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace
from backsolve.operators.base import LinearOperator, Zero

__all__ = ["Inject", "Parts", "Project", "flat_space", "flattened", "unflattened"]

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


class Inject(LinearOperator):
    """x ↦ (0, …, x, …, 0): x as part ``index`` of a tuple.  Its transpose is `Project`."""

    __slots__ = ("index", "space")

    def __init__(self, index: int, space: TupleSpace) -> None:
        self.index = index
        self.space = space

    @property
    def domain(self) -> Space:
        return self.space.parts[self.index]

    @property
    def codomain(self) -> Space:
        return self.space

    def apply(self, x: Any) -> Any:
        return Parts(x if k == self.index else _O for k in range(len(self.space.parts)))

    def transpose(self) -> LinearOperator:
        return Project(self.index, self.space)

    def conj(self) -> LinearOperator:
        return self

    @property
    def label(self) -> str:
        return f"ι{self.index}"


class Project(LinearOperator):
    """(x₀, x₁, …) ↦ xᵢ: part ``index`` of a tuple.  Its transpose is `Inject`."""

    __slots__ = ("index", "space")

    def __init__(self, index: int, space: TupleSpace) -> None:
        self.index = index
        self.space = space

    @property
    def domain(self) -> Space:
        return self.space

    @property
    def codomain(self) -> Space:
        return self.space.parts[self.index]

    def apply(self, x: Any) -> Any:
        return x[self.index]

    def transpose(self) -> LinearOperator:
        return Inject(self.index, self.space)

    def conj(self) -> LinearOperator:
        return self

    @property
    def label(self) -> str:
        return f"π{self.index}"


# ---- as one vector -----------------------------------------------------------------------------------------------------
def flat_space(space: Space) -> ArraySpace:
    """The vectors that hold an array, or the arrays of a tuple one after the other, in row-major order."""
    if isinstance(space, ArraySpace):
        return ArraySpace((space.size,), space.dtype)
    dtypes = {own.dtype for _, own in _leaves(_O, space) if own.dtype is not None and _holds_numbers(own)}
    return ArraySpace((space.size,), np.result_type(*dtypes) if len(dtypes) > 1 else next(iter(dtypes), None))


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


def _leaves(x: Any, space: Space) -> Iterator[tuple[Any, ArraySpace]]:
    """The arrays of an element of a space, each with its own space."""
    if isinstance(space, ArraySpace):
        yield x, space
        return
    for part, own in zip([_O] * len(space.parts) if is_zero(x) else x, space.parts, strict=True):
        yield from _leaves(part, own)


def _holds_numbers(space: ArraySpace) -> bool:
    return getattr(space.dtype, "itemsize", 1) > 0
