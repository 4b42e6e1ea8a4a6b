"""Block operators: a sum of operators between boxes of the domain and boxes of the codomain."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra import elements as algebra
from backsolve.algebra.arrays import asarray, concat, namespace, reshape, scale, stack, take
from backsolve.algebra.spaces import ArraySpace, Space
from backsolve.operators.base import LinearOperator
from backsolve.operators.closed_form import dense_array
from backsolve.operators.einsum import Einsum, contract_all
from backsolve.operators.moves import Slice

__all__ = ["Tile", "TiledOperator"]


CELLS = 1024  # entries of a matrix that is put together one by one
STACK = 8  # arrays in one stack: XLA's CPU compiler fuses the making of so many, and writes more of them one by one


class Tile(NamedTuple):
    """``element`` maps the box ``into`` of the domain to the box ``out`` of the codomain; None stands for all of it."""

    out: Slice | None
    into: Slice | None
    element: Any


class TiledOperator(LinearOperator):
    """X ↦ Σ outᵀ element into X over the tiles; boxes on one side are equal or disjoint."""

    __slots__ = ("codomain", "domain", "tiles")
    domain: Space
    codomain: Space

    def __init__(self, domain: Space, codomain: Space, tiles: tuple[Tile, ...]) -> None:
        self.domain = domain
        self.codomain = codomain
        self.tiles = tiles

    def apply(self, x: Any) -> Any:
        total: Any = None
        for out, into, element in self.tiles:
            y = element.apply(x if into is None else into.apply(x))
            y = y if out is None else out.transpose().apply(y)
            total = y if total is None else algebra.add(total, y)
        return total

    def transpose(self) -> LinearOperator:
        tiles = tuple(Tile(into, out, element.transpose()) for out, into, element in self.tiles)
        return TiledOperator(self.codomain, self.domain, tiles)

    def conj(self) -> LinearOperator:
        tiles = tuple(Tile(out, into, element.conj()) for out, into, element in self.tiles)
        return TiledOperator(self.domain, self.codomain, tiles)

    def todense(self) -> Any:
        domain, codomain = self.domain, self.codomain
        assert isinstance(domain, ArraySpace)
        assert isinstance(codomain, ArraySpace)
        if self._of_cells():
            return self._stacked(codomain, domain)
        rank = len(codomain.shape or ())
        blocks: dict[Any, dict[Any, Any]] = {}
        for out, into, element in self.tiles:
            row = blocks.setdefault(_corner(out), {})
            dense = dense_array(element)
            row[_corner(into)] = (into, algebra.add(row[_corner(into)][1], dense)) if _corner(into) in row else (into, dense)
        outs = {_corner(tile.out): tile.out for tile in self.tiles}
        rows = [(outs[key], _joined(list(row.values()), domain, rank)) for key, row in blocks.items()]
        return _joined(rows, codomain, 0)

    def _of_cells(self) -> bool:
        """Whether every tile is one entry of the matrix, and the matrix small enough to name each."""
        few = self.domain.size * self.codomain.size <= CELLS
        return few and all(b is not None and b.codomain.size == 1 for tile in self.tiles for b in tile[:2])

    def _stacked(self, codomain: ArraySpace, domain: ArraySpace) -> Any:
        """The array of a mosaic of single entries: all of them, and zeros between, stacked."""
        cells: dict[tuple[int, int], Any] = {}
        for out, into, element in self.tiles:
            assert out is not None
            assert into is not None
            place = _number(out), _number(into)
            cell = _cell(element)
            cells[place] = algebra.add(cells[place], cell) if place in cells else cell
        like = next(iter(cells.values()))
        zero = namespace(like).zeros((), dtype=like.dtype)
        columns = range(domain.size)
        rows = [_stacked_few([cells.get((i, j), zero) for j in columns]) for i in range(codomain.size)]
        return reshape(_stacked_few(rows), (*(codomain.shape or ()), *(domain.shape or ())))

    @property
    def label(self) -> str:
        return f"mosaic of {len(self.tiles)}"


def _stacked_few(arrays: list[Any]) -> Any:
    """Arrays along a new first axis, few in one stack: stacks of stacks, the last filled up with zeros that are cut off."""
    n, first = len(arrays), arrays[0]
    if n <= STACK:
        return stack(arrays)
    groups = -(-n // STACK)
    size = -(-n // groups)
    zeros = namespace(first).zeros(first.shape, dtype=first.dtype)
    arrays = arrays + [zeros] * (groups * size - n)
    blocks = _stacked_few([stack(arrays[k : k + size]) for k in range(0, len(arrays), size)])
    blocks = reshape(blocks, (len(arrays), *first.shape))
    return blocks if n == len(arrays) else take(blocks, (0,) * len(blocks.shape), (n, *first.shape))


def _number(box: Slice) -> int:
    """The number of a box of one entry among the entries of its space, row-major."""
    return int(np.ravel_multi_index(box.starts, box.shape)) if box.shape else 0


def _cell(element: Any) -> Any:
    """The one entry of an operator between spaces of one entry, as an array without axes."""
    if not isinstance(element, Einsum) or not element.factors:
        return reshape(asarray(dense_array(element)), ())
    first, *rest = element.factors
    x, _ = contract_all(first.array, first.labels, rest, (), element.sizes)
    return x if element.coef == 1 else scale(element.coef, x)


def _corner(box: Slice | None) -> Any:
    return None if box is None else box.box


def _joined(parts: list[tuple[Slice | None, Any]], space: ArraySpace, first: int) -> Any:
    """Arrays put into their boxes of a space, whose axes are those from ``first`` on; zeros elsewhere."""
    if parts[0][0] is None or space.shape == ():
        return parts[0][1]
    axis = _line([box for box, _ in parts if box is not None], space)
    if axis is None:
        return _padded(parts, space, first)
    runs = [(box.starts[axis], box.stops[axis], array) for box, array in parts if box is not None]
    runs.sort(key=lambda run: run[:2])
    n = (space.shape or ())[axis]
    like = runs[0][2]
    pieces: list[Any] = []
    for (_, before, _), (start, _, array) in pairwise([(0, 0, None), *runs, (n, n, None)]):
        if start > before:
            shape = list(like.shape)
            shape[first + axis] = start - before
            pieces.append(namespace(like).zeros(tuple(shape), dtype=like.dtype))
        if array is not None:
            pieces.append(array)
    return pieces[0] if len(pieces) == 1 else concat(pieces, first + axis)


def _line(boxes: list[Slice], space: ArraySpace) -> int | None:
    """The one axis along which the boxes lie, whole along every other; None where there is no such axis."""
    shape = tuple(space.shape or ())
    cut = {axis for box in boxes for axis, n in enumerate(shape) if (box.starts[axis], box.stops[axis]) != (0, n)}
    return next(iter(cut), 0) if len(cut) <= 1 else None


def _padded(parts: list[tuple[Slice | None, Any]], space: ArraySpace, first: int) -> Any:
    """Boxes anywhere: each among zeros, and all added up."""
    shape = tuple(space.shape or ())
    total: Any = None
    for box, array in parts:
        assert box is not None
        before, after = array.shape[:first], array.shape[first + len(shape) :]
        wide = Slice(
            (*before, *shape, *after),
            (*(0,) * first, *box.starts, *(0,) * len(after)),
            (*before, *box.stops, *after),
            array.dtype,
        )
        placed = wide.transpose().apply(array)
        total = placed if total is None else algebra.add(total, placed)
    return total
