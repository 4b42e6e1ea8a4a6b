"""The opaque kind: a pair of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from backsolve.algebra.arrays import conjugate
from backsolve.algebra.spaces import Space, unify
from backsolve.operators.base import LinearOperator
from backsolve.operators.dispatch import operation

__all__ = ["LinearMap"]


class LinearMap(LinearOperator):
    """An operator known only by what it does: ``apply`` and the function of its transpose.

    ``check_operator`` in `backsolve.testing` tells whether the two belong together.  What else may be told of it: ``work``,
    about how many scalar operations one application takes; ``batch_axes``, which axes lie side by side (see `aligned`), by
    part of the domain and part of the codomain; ``lift``, a function that makes an array of NumPy's one for ``apply``.
    """

    __slots__ = ("_apply", "_transpose_apply", "_work", "batch_axes", "codomain", "domain", "lift", "name")
    domain: Space
    codomain: Space

    def __init__(
        self,
        apply: Callable[[Any], Any],
        transpose_apply: Callable[[Any], Any] | None,
        domain: Space,
        codomain: Space,
        name: str = "f",
        *,
        work: float | None = None,
        batch_axes: Mapping[tuple[int, int], frozenset[tuple[int, int]]] | None = None,
        lift: Callable[[Any], Any] | None = None,
    ) -> None:
        self._apply = apply
        self._transpose_apply = transpose_apply
        self.domain = domain
        self.codomain = codomain
        self.name = name
        self._work = work
        self.batch_axes = batch_axes or {}
        self.lift = lift

    @property
    def functions(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any] | None]:
        """That of the map, and that of its transpose, where it was given one."""
        return self._apply, self._transpose_apply

    @property
    def told(self) -> dict[str, Any]:
        """What is told of it beside the functions and the spaces, as it was given."""
        return {"name": self.name, "work": self._work, "batch_axes": self.batch_axes, "lift": self.lift}

    def apply(self, x: Any) -> Any:
        return self._apply(x)

    def aligned(self, into: int, out: int) -> frozenset[tuple[int, int]]:
        return self.batch_axes.get((into, out), frozenset())

    @property
    def work(self) -> float:
        return super().work if self._work is None else self._work

    def lifted(self, x: Any) -> Any:
        return x if self.lift is None else self.lift(x)

    def transpose(self) -> LinearOperator:
        if self._transpose_apply is None:
            raise TypeError(
                f"{self!r} was given no transpose; pass transpose_apply to linear_map to use it in a transposed product."
            )
        turned = {(out, into): frozenset((b, a) for a, b in pairs) for (into, out), pairs in self.batch_axes.items()}
        name = self.name[:-1] if self.name.endswith("ᵀ") else self.name + "ᵀ"
        told = self.told | {"name": name, "batch_axes": turned}
        return LinearMap(self._transpose_apply, self._apply, self.codomain, self.domain, **told)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        domain = unify(self.domain, domain, f"the domain of {self.name} and its place")
        codomain = unify(self.codomain, codomain, f"the codomain of {self.name} and its place")
        if (domain, codomain) == (self.domain, self.codomain):
            return self
        return LinearMap(*self.functions, domain, codomain, **self.told)

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
