"""The opaque kind: a pair of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backsolve.algebra.arrays import conjugate
from backsolve.algebra.spaces import Space, unify
from backsolve.operators.base import LinearOperator
from backsolve.operators.dispatch import operation

__all__ = ["LinearMap"]


class LinearMap(LinearOperator):
    """An operator known only by what it does: ``apply`` and the function of its transpose.

    ``check_operator`` in `backsolve.testing` tells whether the two belong together.
    """

    __slots__ = ("_apply", "_transpose_apply", "codomain", "domain", "name")
    domain: Space
    codomain: Space

    def __init__(
        self,
        apply: Callable[[Any], Any],
        transpose_apply: Callable[[Any], Any] | None,
        domain: Space,
        codomain: Space,
        name: str = "f",
    ) -> None:
        self._apply = apply
        self._transpose_apply = transpose_apply
        self.domain = domain
        self.codomain = codomain
        self.name = name

    def apply(self, x: Any) -> Any:
        return self._apply(x)

    def transpose(self) -> LinearOperator:
        if self._transpose_apply is None:
            raise TypeError(
                f"{self!r} was given no transpose; pass transpose_apply to linear_map to use it in a transposed product."
            )
        name = self.name[:-1] if self.name.endswith("ᵀ") else self.name + "ᵀ"
        return LinearMap(self._transpose_apply, self._apply, self.codomain, self.domain, name)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return LinearMap(
            self._apply,
            self._transpose_apply,
            unify(self.domain, domain, f"the domain of {self.name} and its place"),
            unify(self.codomain, codomain, f"the codomain of {self.name} and its place"),
            self.name,
        )

    @property
    def label(self) -> str:
        return self.name


@operation
def conjugated(op: LinearOperator) -> LinearOperator:
    """x ↦ conj(A conj(x)) for an A that does not say its conjugate."""

    def turned(op: LinearOperator) -> Any:
        return lambda x: _map_parts(conjugate, op.apply(_map_parts(conjugate, x)))

    return LinearMap(turned(op), turned(op.transpose()), op.domain, op.codomain, name=f"conj({op.label})")


def _map_parts(function: Any, x: Any) -> Any:
    return tuple(function(part) for part in x) if isinstance(x, tuple) else function(x)
