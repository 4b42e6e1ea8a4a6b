"""An operator put together from operators between boxes of its domain and boxes of its codomain."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from .. import algebra
from ..arrays import concat, namespace
from .base import LinearOperator
from .settle import dense_array
from .slicing import Slice
from .spaces import ArraySpace, Space

__all__ = ["Mosaic", "Tile"]


class Tile(NamedTuple):
    """``element`` maps the box ``into`` of the domain to the box ``out`` of the codomain; None stands for all of it."""

    out: Slice | None
    into: Slice | None
    element: Any


class Mosaic(LinearOperator):
    """X ↦ Σ outᵀ element into X over the tiles; boxes on one side are equal or disjoint."""

    __slots__ = ("_codomain", "_domain", "tiles")

    def __init__(self, domain: Space, codomain: Space, tiles: tuple[Tile, ...]) -> None:
        self._domain = domain
        self._codomain = codomain
        self.tiles = tiles

    @property
    def domain(self) -> Space:
        return self._domain

    @property
    def codomain(self) -> Space:
        return self._codomain

    def apply(self, x: Any) -> Any:
        total: Any = None
        for out, into, element in self.tiles:
            y = element.apply(x if into is None else into.apply(x))
            y = y if out is None else out.transpose().apply(y)
            total = y if total is None else algebra.add(total, y)
        return total

    def transpose(self) -> LinearOperator:
        tiles = tuple(Tile(into, out, element.transpose()) for out, into, element in self.tiles)
        return Mosaic(self._codomain, self._domain, tiles)

    def conj(self) -> LinearOperator:
        tiles = tuple(Tile(out, into, element.conj()) for out, into, element in self.tiles)
        return Mosaic(self._domain, self._codomain, tiles)

    def todense(self) -> Any:
        domain, codomain = self._domain, self._codomain
        assert isinstance(domain, ArraySpace)
        assert isinstance(codomain, ArraySpace)
        rank = len(codomain.shape or ())
        blocks: dict[Any, dict[Any, Any]] = {}
        for out, into, element in self.tiles:
            row = blocks.setdefault(_corner(out), {})
            dense = dense_array(element)
            row[_corner(into)] = (into, algebra.add(row[_corner(into)][1], dense)) if _corner(into) in row else (into, dense)
        outs = {_corner(tile.out): tile.out for tile in self.tiles}
        rows = [(outs[key], _joined(list(row.values()), domain, rank)) for key, row in blocks.items()]
        return _joined(rows, codomain, 0)

    @property
    def label(self) -> str:
        return f"mosaic of {len(self.tiles)}"


def _corner(box: Slice | None) -> Any:
    return None if box is None else box.box


def _joined(parts: list[tuple[Slice | None, Any]], space: ArraySpace, first: int) -> Any:
    """Arrays put into their boxes of a space, whose axes are those from ``first`` on; zeros elsewhere."""
    if parts[0][0] is None:
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
