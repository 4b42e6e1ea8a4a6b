"""The operators without storage: identity, zero, and multiples of the identity."""

from __future__ import annotations

from typing import Any

import numpy as np

from backsolve.algebra.arrays import conjugate, namespace, scale
from backsolve.algebra.elements import SingularError, is_number
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, TupleSpace, unify
from backsolve.operators.base import LinearOperator

__all__ = ["Identity", "Scaling", "Zero"]


class Identity(LinearOperator):
    """X ↦ X, on the space given or on any.  `backsolve.I` is the one of unknown size."""

    __slots__ = ("space",)
    universal_unit = "one"

    def __init__(self, space: Space = ANY) -> None:
        self.space = space

    @property
    def domain(self) -> Space:
        return self.space

    @property
    def codomain(self) -> Space:
        return self.space

    def apply(self, x: Any) -> Any:
        return x

    def transpose(self) -> LinearOperator:
        return self

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        return self

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Identity(_one_space(self, domain, codomain))

    def todense(self) -> Any:
        return _dense_multiple(self, 1)

    @property
    def label(self) -> str:
        return "I"


class Scaling(LinearOperator):
    """X ↦ c X for a number (or array without axes) c, on the space given or on any."""

    __slots__ = ("c", "space")
    universal_unit = "multiple"

    def __init__(self, c: Any, space: Space = ANY) -> None:
        self.c = c
        self.space = space

    @property
    def domain(self) -> Space:
        return self.space

    @property
    def codomain(self) -> Space:
        return self.space

    def apply(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(self.apply(part) for part in x)
        return scale(self.c, x)

    def transpose(self) -> LinearOperator:
        return self

    def conj(self) -> LinearOperator:
        return Scaling(conjugate(self.c), self.space)

    def inverse(self) -> LinearOperator:
        if is_number(self.c) and self.c == 0:
            raise SingularError("the scaling by 0 has no inverse.")
        return Scaling(self.c if self.c == -1 else 1 / self.c, self.space)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Scaling(self.c, _one_space(self, domain, codomain))

    def todense(self) -> Any:
        return _dense_multiple(self, self.c)

    @property
    def label(self) -> str:
        if isinstance(self.c, (int, float)):
            return "−I" if self.c == -1 else f"{self.c:g}·I"
        return f"{self.c}·I" if is_number(self.c) else "c·I"


class Zero(LinearOperator):
    """X ↦ 0, between the spaces given or any.  `backsolve.O` is the one of unknown sizes."""

    __slots__ = ("_codomain", "_domain")
    universal_unit = "zero"

    def __init__(self, domain: Space = ANY, codomain: Space = ANY) -> None:
        self._domain = domain
        self._codomain = codomain

    @property
    def domain(self) -> Space:
        return self._domain

    @property
    def codomain(self) -> Space:
        return self._codomain

    def apply(self, x: Any) -> Any:
        """Zeros of the codomain; of unknown size, the universal zero again."""
        while isinstance(x, tuple) and x:
            x = x[0]
        return _zeros(self.codomain, x) if self.codomain.known else Zero(ANY, self.codomain)

    def transpose(self) -> LinearOperator:
        return Zero(self.codomain, self.domain)

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        raise SingularError("the zero operator has no inverse.")

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Zero(
            unify(self.domain, domain, "the domain of O and its place"),
            unify(self.codomain, codomain, "the codomain of O and its place"),
        )

    def scaled(self, c: Any) -> LinearOperator:
        return self

    def todense(self) -> Any:
        m, n = _shape(self, self.codomain), _shape(self, self.domain)
        return np.zeros((*m, *n), dtype=_dtype(self.domain))

    @property
    def label(self) -> str:
        return "O"


def _zeros(space: Space, like: Any) -> Any:
    if isinstance(space, TupleSpace):
        return tuple(_zeros(part, like) for part in space.parts)
    dtype = space.dtype if space.dtype is not None else getattr(like, "dtype", None)
    return namespace(like).zeros(space.shape, dtype=dtype)


def _one_space(op: LinearOperator, domain: Space, codomain: Space) -> Space:
    here = unify(op.domain, domain, f"the domain of {op.label} and its place")
    return unify(here, codomain, f"the domain of {op.label} and its codomain", "It maps a space to itself.")


def _shape(op: LinearOperator, space: Space) -> tuple[int, ...]:
    if isinstance(space, TupleSpace) or not space.known or space.shape is None:
        raise SpaceError(
            f"cannot form {op.label} densely between {op.domain} and {op.codomain}: a size is unknown. "
            "Compose it or place it in a matrix where its neighbours fix the sizes, or use op.refine(domain, codomain)."
        )
    return tuple(n for n in space.shape if n is not None)


def _dtype(space: Space) -> Any:
    return space.dtype if isinstance(space, ArraySpace) and space.dtype is not None else float


def _dense_multiple(op: LinearOperator, c: Any) -> Any:
    shape = _shape(op, op.domain)
    n = int(np.prod(shape, dtype=int))
    return c * np.eye(n, dtype=_dtype(op.domain)).reshape((*shape, *shape))
