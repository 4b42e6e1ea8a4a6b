"""Operators between spaces of one number, while there are many of them to multiply and add: a coefficient and an array.

An elimination in a program of single numbers makes a thousand products of them.  As operators each would be matched, label
by label, with the next; here they are what they are, numbers, and a sign or a static factor costs nothing until the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import matmul
from typing import Any

from ..arrays import add, astype, is_mask, multiply, reshape, scale, subtract
from .base import LinearOperator
from .einsum import Einsum, Factor
from .lazy import Product
from .reshape import Reshape
from .spaces import ArraySpace, Space
from .trivial import Identity, Scaling

__all__ = ["Single", "as_operator", "as_single", "single_dtype"]


class Single:
    """x ↦ coef · array · x.  ``array`` has no axes; None stands for 1, a mask selects.  ``coef`` is a number."""

    __slots__ = ("array", "coef")

    def __init__(self, coef: Any, array: Any) -> None:
        self.coef = coef
        self.array = array

    def __matmul__(self, other: Single) -> Single:
        a, b, coef = self.array, other.array, self.coef * other.coef
        if a is None or b is None:
            return Single(coef, b if a is None else a)
        if is_mask(a) and not is_mask(b):  # a selection last: what it hides may be inf
            a, b = b, a
        return Single(coef, multiply(a, b))

    def plus(self, other: Single, dtype: Any) -> Single:
        """The sum, whose numbers have this dtype."""
        a, b, c, d = _number(self.array, dtype), _number(other.array, dtype), self.coef, other.coef
        if a is None and b is None:
            return Single(c + d, None)
        if a is None or b is None:
            number, coef, array = (c, d, b) if a is None else (d, c, a)
            return Single(1, add(_scaled(coef, array), number))
        if c == d:
            return Single(c, add(a, b))
        if c == -d:
            return Single(c, subtract(a, b)) if d < c else Single(d, subtract(b, a))
        return Single(1, add(_scaled(c, a), _scaled(d, b)))


def _number(array: Any, dtype: Any) -> Any:
    """The array as numbers: added up, selections are."""
    return array if array is None or not is_mask(array) else astype(array, dtype)


def _scaled(coef: Any, array: Any) -> Any:
    return array if coef == 1 else scale(coef, array)


def single_dtype(spaces: Iterable[Space]) -> Any:
    """The dtype of spaces of one number each, where all have the same; else None."""
    found = None
    for space in spaces:
        if not isinstance(space, ArraySpace) or not space.known or space.size != 1 or space.dtype is None:
            return None
        if found is None:
            found = space.dtype
        elif space.dtype != found:
            return None
    return found


def as_single(op: Any, dtype: Any) -> Single | None:
    """An operator between spaces of one number of this dtype as a `Single`; None where it is something else.

    Named arrays stay operators, which print their names.
    """
    if isinstance(op, Einsum):
        if not isinstance(op.coef, (int, float)) or any(op.sizes[label] != 1 for label in (*op.out, *op.into)):
            return None
        made = Single(op.coef, None)
        for f in op.factors:
            if f.name or f.size != 1 or not (is_mask(f.array) or f.array.dtype == dtype):
                return None
            made = made @ Single(1, reshape(f.array, ()) if f.array.shape else f.array)
        return made
    if isinstance(op, (Identity, Reshape)):
        return Single(1, None)
    if isinstance(op, Scaling):
        return Single(op.c, None) if isinstance(op.c, (int, float)) else None
    if isinstance(op, Product):
        parts = [as_single(f, dtype) for f in op.factors]
        return None if None in parts else reduce(matmul, parts)
    return None


def as_operator(single: Single, domain: Space, codomain: Space) -> LinearOperator:
    """The operator between these spaces of one number."""
    assert isinstance(domain, ArraySpace)
    assert isinstance(codomain, ArraySpace)
    out, into = codomain.shape or (), domain.shape or ()
    if single.array is None:
        op = Identity(domain) if single.coef == 1 else Scaling(single.coef, domain)
        return op if out == into else Product((Reshape(out, into, domain.dtype), op))
    labels = tuple(range(len(out) + len(into)))
    ends, starts = labels[: len(out)], labels[len(out) :]
    factors = (Factor(single.array, ()),)
    return Einsum(factors, ends, starts, dict.fromkeys(labels, 1), single.coef, (domain.dtype, codomain.dtype))
