"""Operators between spaces of one number, while there are many of them to multiply and add: a coefficient and an array.

An elimination in a program of single numbers makes a thousand products of them.  As operators each would be matched, label
by label, with the next; here they are what they are, numbers, and a sign or a static factor costs nothing until the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import matmul
from typing import Any

from backsolve.algebra.arrays import add, astype, is_mask, multiply, reshape, scale, subtract
from backsolve.algebra.spaces import ArraySpace, Space
from backsolve.operators.base import LinearOperator
from backsolve.operators.einsum import Einsum, Factor
from backsolve.operators.identity import Identity, Scaling
from backsolve.operators.lazy import Product
from backsolve.operators.reshape import Reshape

__all__ = ["Single", "as_operator", "as_single", "single_dtype"]


class Single:
    """x ↦ coef · array · x where ``mask`` is true, 0 elsewhere.  Both are arrays without axes, or None (1, true)."""

    __slots__ = ("array", "coef", "mask")

    def __init__(self, coef: Any, array: Any, mask: Any = None) -> None:
        self.coef = coef
        self.array = array
        self.mask = mask

    def __matmul__(self, other: Single) -> Single:
        # What the mask hides may be infinite, and so may what it will be multiplied with: it stays a mask.
        return Single(self.coef * other.coef, _both(self.array, other.array), _both(self.mask, other.mask))

    def plus(self, other: Single, dtype: Any) -> Single:
        """The sum, whose numbers have this dtype."""
        mask, one, two = self.mask, self, other
        if mask is not other.mask:
            mask = None if mask is None or other.mask is None else mask | other.mask
            one, two = self._numbers(dtype), other._numbers(dtype)
        a, b, c, d = one.array, two.array, one.coef, two.coef
        if a is None and b is None:
            return Single(c + d, None, mask)
        if a is None or b is None:
            number, coef, array = (c, d, b) if a is None else (d, c, a)
            return Single(1, add(_scaled(coef, array), number), mask)
        if c == d:
            return Single(c, add(a, b), mask)
        if c == -d:
            return Single(c, subtract(a, b), mask) if d < c else Single(d, subtract(b, a), mask)
        return Single(1, add(_scaled(c, a), _scaled(d, b)), mask)

    def _numbers(self, dtype: Any) -> Single:
        """The same without a mask."""
        if self.mask is None:
            return self
        array = astype(self.mask, dtype) if self.array is None else multiply(self.mask, self.array)
        return Single(self.coef, array)


def _both(a: Any, b: Any) -> Any:
    """The product of two arrays, of two masks; None stands for the one that changes nothing."""
    return b if a is None or (a is b and is_mask(a)) else a if b is None else multiply(a, b)


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
            array = reshape(f.array, ()) if f.array.shape else f.array
            made = made @ (Single(1, None, array) if is_mask(array) else Single(1, array))
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
    if single.array is None and single.mask is None:
        op = Identity(domain) if single.coef == 1 else Scaling(single.coef, domain)
        return op if out == into else Product((Reshape(out, into, domain.dtype), op))
    labels = tuple(range(len(out) + len(into)))
    ends, starts = labels[: len(out)], labels[len(out) :]
    factors = tuple([Factor(array, ()) for array in (single.array, single.mask) if array is not None])
    return Einsum(factors, ends, starts, dict.fromkeys(labels, 1), single.coef, (domain.dtype, codomain.dtype))
