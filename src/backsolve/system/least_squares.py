"""The Gauss-Newton step off the same matrix: the bordered system of JᵀJ, with neither J nor JᵀJ formed."""

from __future__ import annotations

from typing import Any

import numpy as np

from backsolve.engines.layout import Layout
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.materialize import take
from backsolve.sparse.pattern import Pattern, diagonal, transposed
from backsolve.system.bordered import Bordered

__all__ = ["least_squares"]


def least_squares(matrix: Bordered, damping: Any = None) -> Bordered:
    """Return the symmetric matrix whose solution for b at the outputs is the dp of least ‖J dp − b‖² + Σ damping dp².

    With B the bordered rows [I − L, −M; S, D], which need not be square, E and F the ones at outputs and at sources, it is

        [ damping F   Bᵀ ] [z]   [0]
        [     B       −E ] [y] = [b]

    ``damping`` is a number or one for each source, in the order in which ``matrix.into`` has them.

    Cost: the entries of B twice.
    Source: Björck, *Numerical Methods for Least Squares Problems*, 1996, section 1.1.4 (the augmented system).
    """
    given = matrix.layout
    below = len(given.cols)
    start = int(given.col_starts[-1])
    places: list[tuple[int, int]] = []
    patterns: list[Pattern] = []
    data: list[Any] = []
    for (i, j), pattern, numbers in zip(given.places, given.patterns, matrix.data, strict=True):
        mirrored, order = transposed(pattern)
        places += [(below + i, j), (j, below + i)]
        patterns += [pattern, mirrored]
        data += [numbers, take(numbers, order)]
    numbers_of = [part.dtype for part in data if part.dtype.kind not in "biu"]  # a mask's entries would make any damping 1
    dtype = numbers_of[0] if numbers_of else np.dtype(float) if data else None
    value: Any
    for side, starts, at, first, value in (
        (given.rows, given.row_starts, matrix.out, below, -1.0),
        (given.cols, given.col_starts, matrix.into, 0, damping),
    ):
        if value is None:
            continue
        for k, part in enumerate(side):
            if np.isin(starts[k], at):  # a border, of outputs or of sources, is one as a whole
                places.append((first + k, first + k))
                patterns.append(diagonal(part.size))
                if getattr(value, "ndim", 0):  # `at` has the places of a border one after the other
                    place = int(np.flatnonzero(at == starts[k])[0])
                    numbers = LazyValues.of(value[place : place + part.size], part.size)
                else:
                    numbers = LazyValues.of(None, part.size).scaled(value)
                data.append(numbers.array(dtype))
    names = (*given.cols, *(part._replace(label=f"the multiplier of {part.label}") for part in given.rows))
    layout = Layout(names, names, tuple(places), tuple(patterns))
    return Bordered(layout, start + matrix.out, matrix.into, tuple(data))
