"""Opaque operators that leave axes side by side, in closed form: pushed through are the columns of one index there.

A cumulative sum of each row of a matrix has as many different columns as a row has entries.  Pushed through all rows at
once, they are the one factor of an `Einsum` whose diagonal over the rows is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import map_columns, reshape
from backsolve.operators.base import LinearOperator
from backsolve.operators.batch_axes import through
from backsolve.operators.einsum import Einsum, Factor

__all__ = ["in_turn", "probed"]


def probed(run: Sequence[LinearOperator], opaque: LinearOperator, most: int) -> Einsum | None:
    """The product of a run, in order of application and between spaces of one array, whose one opaque operator is given.

    None where no axes lie side by side, or where more than ``most`` columns (and as many rows) would be pushed through.
    """
    into: Any = run[0].domain
    out: Any = run[-1].codomain
    parts = {0: frozenset((a, a) for a in range(len(into.shape)))}
    for op in run:
        parts = through(op, parts)
    beside: dict[int, int] = {}  # axis of the domain → axis of the codomain
    for b, a in sorted(parts.get(0, ())):
        if a not in beside and b not in beside.values():
            beside[a] = b
    if not beside:
        return None
    columns = prod(n for a, n in enumerate(into.shape) if a not in beside)
    rows = prod(n for b, n in enumerate(out.shape) if b not in beside.values())
    if min(columns, rows) > most:
        return None
    if columns <= rows:
        return _by_columns(run, opaque, beside)
    back = [op.transpose() for op in reversed(run)]
    at = next(i for i, op in enumerate(run) if op is opaque)
    made = _by_columns(back, back[len(run) - 1 - at], {b: a for a, b in beside.items()})
    turned = made.transpose()
    assert isinstance(turned, Einsum)
    return turned


def _by_columns(run: Sequence[LinearOperator], opaque: LinearOperator, beside: dict[int, int]) -> Einsum:
    into: Any = run[0].domain
    out: Any = run[-1].codomain
    rest = [a for a in range(len(into.shape)) if a not in beside]
    sizes = [into.shape[a] for a in rest]
    width = prod(sizes)
    unit = np.eye(width, dtype=into.dtype or float)
    unit = unit.reshape([*(1 if a in beside else n for a, n in enumerate(into.shape)), width])
    columns = opaque.lifted(np.broadcast_to(unit, (*into.shape, width)))
    image = reshape(map_columns(in_turn(run), columns), (*out.shape, *sizes))
    ends = tuple(range(len(out.shape)))
    own = {a: len(ends) + i for i, a in enumerate(rest)}
    starts = tuple(own[a] if a in own else beside[a] for a in range(len(into.shape)))
    every = (*ends, *own.values())
    sizes_of: dict[int, int | None] = dict(zip(every, image.shape, strict=True))
    return Einsum((Factor(image, every),), ends, starts, sizes_of, 1, (into.dtype, out.dtype))


def in_turn(run: Sequence[LinearOperator]) -> Any:
    """The function that applies the operators of a run one after the other."""

    def image(x: Any) -> Any:
        for op in run:
            x = op.apply(x)
        return x

    return image
