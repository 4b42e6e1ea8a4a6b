"""Batch axes of an operator: along them, an entry of the image depends on those at the same index of the argument alone.

Such axes are worth knowing of operators of which nothing else is known; those with a structure say it by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from backsolve.algebra.spaces import TupleSpace
from backsolve.operators.base import Identity, LinearOperator, Scaling
from backsolve.operators.einsum import Einsum
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Component, Reshape, Slice

__all__ = ["Pairs", "joined", "propagate", "regrouped"]

Pairs = frozenset[tuple[int, int]]  # (axis of a value, axis of what it depends on)
Shape = tuple[int, ...]


def propagate(op: LinearOperator, parts: dict[int, Pairs]) -> dict[int, Pairs]:
    """What lies side by side with the argument in each part of the image, from the parts of the domain that depend on it."""
    if isinstance(op, Product):
        for f in reversed(op.factors):
            parts = propagate(f, parts)
        return parts
    if isinstance(op, Sum):
        return joined([propagate(term, parts) for term in op.terms])
    if isinstance(op, Component):
        if op.transposed:
            return {op.index: parts[0]} if parts else {}
        return {0: parts[op.index]} if op.index in parts else {}
    if isinstance(op, (Identity, Scaling)):
        return parts
    outputs = len(op.codomain.parts) if isinstance(op.codomain, TupleSpace) else 1
    return joined([{o: _moved(pairs, _kept(op, k, o)) for o in range(outputs)} for k, pairs in parts.items()])


def _kept(op: LinearOperator, into: int, out: int) -> Pairs:
    """Axes of a part of the codomain and of a part of the domain that an operator leaves side by side."""
    if isinstance(op, Einsum):
        return frozenset((b, a) for b, label in enumerate(op.out) for a, other in enumerate(op.into) if label == other)
    if isinstance(op, Slice):
        whole = enumerate(zip(op.starts, op.stops, op.shape, strict=True))
        return frozenset((axis, axis) for axis, (start, stop, n) in whole if (start, stop) == (0, n))
    if isinstance(op, Reshape):
        return frozenset((b, a) for a, b in regrouped(op.into, op.out).items())
    return op.aligned(into, out)


def _moved(pairs: Pairs, through: Pairs) -> Pairs:
    return frozenset((c, a) for b, a in pairs for c, other in through if other == b)


def regrouped(shape: Shape, out: Shape) -> dict[int, int]:
    """Where the axes are that a reshape leaves whole: as much before them, as long."""
    places = {(prod(out[:b]), n): b for b, n in enumerate(out) if n > 1}
    return {a: places[key] for a, n in enumerate(shape) if (key := (prod(shape[:a]), n)) in places}


def joined(terms: Iterable[dict[int, Pairs]]) -> dict[int, Pairs]:
    """Of what depends on several: side by side where all are."""
    total: dict[int, Pairs] = {}
    for term in terms:
        for part, pairs in term.items():
            total[part] = total[part] & pairs if part in total else pairs
    return total
