"""Matrices and vectors from blocks: `matrix`, `diagonal`, `bidiagonal`, `row`, `column`, `vector`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import describe, is_one, is_zero, short
from backsolve.algebra.spaces import SpaceError
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.vector import BlockVector

__all__ = ["bidiagonal", "column", "diagonal", "matrix", "row", "vector"]


def matrix(rows: Sequence[Sequence[Any]]) -> OperatorMatrix:
    """Return the matrix with these rows of elements; an OperatorMatrix among them is flattened, as ``np.block`` does.

    Zeros (`O`, the number 0) are not stored; beside a flattened matrix `I` and `O` grow to its size.
    Raises `SpaceError` where rows differ in length or elements do not fit together, `AlgebraError` for what is no element.

    Example:
        >>> import numpy as np
        >>> from backsolve import I, O, hadamard
        >>> A = matrix([[I, O], [hadamard(np.ones(3)), I]])
        >>> A.shape, len(A.entries)
        ((2, 2), 3)
    """
    rows = [_listed(r, f"row {i} of matrix") for i, r in enumerate(_listed(rows, "matrix", "rows"))]
    width = len(rows[0]) if rows else 0
    for i, r in enumerate(rows):
        if len(r) != width:
            raise SpaceError(f"row {i} has {len(r)} elements and row 0 has {width}; pad with O.")
    places = {(i, j): element for i, r in enumerate(rows) for j, element in enumerate(r)}
    return _assemble(places, (len(rows), width))


def diagonal(blocks: Iterable[Any]) -> OperatorMatrix:
    """Return the matrix with these elements on its diagonal; an OperatorMatrix among them is flattened.

    So a diagonal of N rows of two operators, as in the paper's M, is N × 2N.

    Example:
        >>> diagonal([row([2.0, 3.0]), row([4.0, 5.0])]).shape
        (2, 4)
    """
    blocks = _listed(blocks, "diagonal")
    return _assemble({(i, i): block for i, block in enumerate(blocks)}, (len(blocks), len(blocks)))


def bidiagonal(diag: Iterable[Any], sub: Iterable[Any]) -> OperatorMatrix:
    """Return the lower bidiagonal matrix with ``diag`` (N elements) on and ``sub`` (N − 1) right below the diagonal.

    Raises `ValueError` where the numbers of elements do not fit.

    Example:
        >>> print(bidiagonal([1, 1, 1], [-2, -3]))
        ⎡  1   ·  · ⎤
        ⎢ -2   1  · ⎥
        ⎣  ·  -3  1 ⎦
    """
    on, below = _listed(diag, "the diagonal of bidiagonal"), _listed(sub, "the line below the diagonal of bidiagonal")
    if len(below) != max(len(on) - 1, 0):
        raise ValueError(
            f"a bidiagonal matrix with {len(on)} elements on the diagonal has {max(len(on) - 1, 0)} below it, "
            f"got {len(below)}."
        )
    places = {(i, i): element for i, element in enumerate(on)}
    places |= {(i + 1, i): element for i, element in enumerate(below)}
    return _assemble(places, (len(on), len(on)))


def row(blocks: Iterable[Any]) -> OperatorMatrix:
    """Return the matrix of one row.

    Example:
        >>> row([1, 2, 3]).shape
        (1, 3)
    """
    return matrix([_listed(blocks, "row")])


def column(blocks: Iterable[Any]) -> OperatorMatrix:
    """Return the matrix of one column.

    Example:
        >>> column([1, 2, 3]).shape
        (3, 1)
    """
    return matrix([[block] for block in _listed(blocks, "column")])


def vector(blocks: Iterable[Any]) -> BlockVector:
    """Return the vector of these blocks; `O` stands for a zero of any size, a BlockVector among them is flattened.

    Example:
        >>> from backsolve import O
        >>> vector([O, 2.0]) + vector([1.0, 1.0])
        BlockVector([1.0, 3.0])
    """
    out: list[Any] = []
    for k, block in enumerate(_listed(blocks, "vector", "blocks")):
        if isinstance(block, OperatorMatrix):
            raise TypeError("a vector holds blocks, not matrices; use column([...]) for a matrix of one column.")
        if block is None:
            raise TypeError(f"block {k} of the vector is None; a zero of any size is written O.")
        out.extend(block if isinstance(block, BlockVector) else (block,))
    return BlockVector(out)


def _listed(given: Any, what: str, of: str = "elements") -> list[Any]:
    if isinstance(given, str | bytes | Mapping | Set) or not isinstance(given, Iterable):
        raise TypeError(f"{what} takes a list of {of}, got {short(given)}.")
    if getattr(given, "ndim", 1) == 0:
        raise TypeError(f"{what} takes a list of {of}, got an array without axes.")
    return list(given)


def _assemble(places: dict[tuple[int, int], Any], shape: tuple[int, int]) -> OperatorMatrix:
    """Lay elements out in bands as high and wide as the matrices among them."""
    for place, element in places.items():
        if isinstance(element, BlockVector):
            raise TypeError(f"element {place} is a vector of blocks; a matrix of one column is column([...]).")
    if not any(isinstance(element, OperatorMatrix) for element in places.values()):
        return OperatorMatrix.from_entries(places, shape)
    heights: list[int | None] = [None] * shape[0]
    widths: list[int | None] = [None] * shape[1]
    for (i, j), element in places.items():
        if is_zero(element) or is_one(element) or (is_number(element) and element == 0):
            continue
        h, w = element.shape if isinstance(element, OperatorMatrix) else (1, 1)
        for band, k, n, word in ((heights, i, h, "row"), (widths, j, w, "column")):
            if band[k] not in (None, n):
                raise SpaceError(
                    f"element ({i}, {j}), {describe(element)}, takes {n} block {word}s where another of its {word} "
                    f"takes {band[k]}."
                )
            band[k] = n
    tops, lefts = _offsets(heights), _offsets(widths)
    flat: dict[tuple[int, int], Any] = {}
    for (i, j), element in places.items():
        h, w = heights[i] or 1, widths[j] or 1
        if isinstance(element, OperatorMatrix):
            for (p, q), inner in element.entries.items():
                flat[tops[i] + p, lefts[j] + q] = inner
        elif is_one(element):
            if h != w:
                raise SpaceError(f"element ({i}, {j}) is I where its neighbours make a block of {h} × {w}.")
            flat |= {(tops[i] + p, lefts[j] + p): element for p in range(h)}
        elif not is_zero(element) and not (is_number(element) and element == 0):
            flat[tops[i], lefts[j]] = element
    return OperatorMatrix.from_entries(flat, (tops[-1], lefts[-1]))


def _offsets(sizes: list[int | None]) -> list[int]:
    out = [0]
    for n in sizes:
        out.append(out[-1] + (n or 1))
    return out
