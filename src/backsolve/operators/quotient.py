"""Entrywise division: a Hadamard product that divides, and so costs one operation where 1/d and a product cost two."""

from __future__ import annotations

from typing import Any

from backsolve.algebra.arrays import conjugate, divide
from backsolve.algebra.elements import is_number
from backsolve.algebra.spaces import Space, unify
from backsolve.operators.base import LinearOperator
from backsolve.operators.einsum import Einsum, Factor

__all__ = ["Quotient"]


class Quotient(Einsum):
    """X ↦ coef · X / d, entry by entry.  To any other kind it is the `Einsum` with the one factor 1/d."""

    __slots__ = ("_reciprocal", "divisor")

    def __init__(
        self,
        divisor: Any,
        coef: Any = 1,
        dtypes: tuple[Any, Any] = (None, None),
        shape: tuple[int, ...] | None = None,
    ) -> None:
        shape = tuple(divisor.shape) if shape is None else shape
        labels = tuple(range(len(shape)))
        self.divisor = divisor
        self.coef = coef
        self.dtypes = dtypes
        self.out = self.into = labels
        self.sizes = dict(zip(labels, shape, strict=True))
        self._reciprocal: tuple[Factor, ...] | None = None

    @property
    def divided(self) -> tuple[int, ...]:
        """Shape of the arrays it divides."""
        return tuple(n for n in self.sizes.values() if n is not None)

    @property
    def factors(self) -> tuple[Factor, ...]:  # type: ignore[override]
        """The reciprocal, worked out when another kind asks for it."""
        if self._reciprocal is None:
            self._reciprocal = (Factor(divide(1, self.divisor), self.out),)
        return self._reciprocal

    def apply(self, x: Any) -> Any:
        return self._scaled(divide(x, self.divisor))

    def first_entrywise(self) -> int | None:
        return None

    def transpose(self) -> LinearOperator:
        return self

    def scaled(self, c: Any) -> LinearOperator:
        return Quotient(self.divisor, self.coef * c, self.dtypes, self.divided) if is_number(c) else super().scaled(c)

    def conj(self) -> LinearOperator:
        return Quotient(conjugate(self.divisor), conjugate(self.coef), self.dtypes)

    def inverse(self) -> LinearOperator:
        coef = self.coef if self.coef in (1, -1) else 1 / self.coef
        return Einsum((Factor(self.divisor, self.out),), self.out, self.into, self.sizes, coef, self.dtypes)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        unify(self.domain, domain, "the domain of an entrywise quotient and its place")
        unify(self.codomain, codomain, "the codomain of an entrywise quotient and its place")
        return self

    @property
    def label(self) -> str:
        return f"(1/{'×'.join(map(str, self.divided)) or 'c'})ᴴ"
