"""Products and sums of operators whose kinds have no closed form together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backsolve.algebra import elements as algebra
from backsolve.algebra.spaces import Space, unify
from backsolve.operators.base import LinearOperator

__all__ = ["Product", "Sum"]


SHOWN = 8  # terms that a sum is printed with


class Product(LinearOperator):
    """A₁ A₂ … Aₙ, applied from the right, one after the other.  Build it with ``@``, which simplifies."""

    __slots__ = ("factors",)

    def __init__(self, factors: tuple[LinearOperator, ...]) -> None:
        self.factors = factors

    @property
    def domain(self) -> Space:
        return self.factors[-1].domain

    @property
    def codomain(self) -> Space:
        return self.factors[0].codomain

    def apply(self, x: Any) -> Any:
        for factor in reversed(self.factors):
            x = factor.apply(x)
        return x

    def transpose(self) -> LinearOperator:
        return Product(tuple(factor.transpose() for factor in reversed(self.factors)))

    def conj(self) -> LinearOperator:
        return Product(tuple(factor.conj() for factor in self.factors))

    def inverse(self) -> LinearOperator:
        return Product(tuple(factor.inverse() for factor in reversed(self.factors)))

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        factors = list(self.factors)
        for i in reversed(range(len(factors))):
            factors[i] = factors[i].refine(domain, factors[i - 1].domain if i else codomain)
            domain = factors[i].codomain
        for i in range(len(factors)):
            factors[i] = factors[i].refine(factors[i].domain, codomain)
            codomain = factors[i].domain
        return Product(tuple(factors))

    @property
    def label(self) -> str:
        return " ∘ ".join(f"[{f.label}]" if isinstance(f, Sum) else f.label for f in self.factors)


class Sum(LinearOperator):
    """A₁ + A₂ + … + Aₙ.  Build it with ``+``, which simplifies."""

    __slots__ = ("codomain", "domain", "terms")
    domain: Space
    codomain: Space

    def __init__(self, terms: tuple[LinearOperator, ...]) -> None:
        domain, codomain = terms[0].domain, terms[0].codomain
        for term in terms[1:]:
            domain = unify(domain, term.domain, "the domains of the summands")
            codomain = unify(codomain, term.codomain, "the codomains of the summands")
        self.terms = terms
        self.domain = domain
        self.codomain = codomain

    def _map(self, function: Callable[[LinearOperator], LinearOperator]) -> LinearOperator:
        return Sum(tuple(function(term) for term in self.terms))

    def apply(self, x: Any) -> Any:
        first, *rest = self.terms
        total = first.apply(x)
        for term in rest:
            y = term.apply(x)
            total = type(y)(map(algebra.add, total, y)) if isinstance(y, tuple) else algebra.add(total, y)
        return total

    def transpose(self) -> LinearOperator:
        return self._map(lambda term: term.transpose())

    def conj(self) -> LinearOperator:
        return self._map(lambda term: term.conj())

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return self._map(lambda term: term.refine(domain, codomain))

    @property
    def label(self) -> str:
        if len(self.terms) > SHOWN:
            return f"{self.terms[0].label} + … ({len(self.terms):,} terms)"
        return " + ".join(term.label for term in self.terms).replace("+ −", "− ")
