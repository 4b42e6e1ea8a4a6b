"""Tuples of arrays as one space: how an operator with several inputs or outputs sits in a matrix.

An element of a `TupleSpace` is a `Parts`: a tuple that adds part by part and whose absent parts are zero.
"""

from __future__ import annotations

from typing import Any

from backsolve.algebra.elements import add, is_zero, multiply, negate
from backsolve.algebra.spaces import Space, TupleSpace
from backsolve.operators.base import LinearOperator, Zero

__all__ = ["Inject", "Parts", "Project"]

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
