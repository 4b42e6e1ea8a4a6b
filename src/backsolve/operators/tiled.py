"""Sums of operators between boxes of their spaces: how one is made of its tiles, and its array, with the pieces in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra import arrays
from backsolve.algebra.arrays import asarray, namespace, reshape, scale, stack, take
from backsolve.operators.base import Identity, LinearOperator
from backsolve.operators.einsum import Einsum, contract_all
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Slice, boxes_apart, side_by_side

__all__ = ["Tile", "tile_array", "tiled", "tiles_of", "tiles_on_one_side"]


CELLS = 1024  # entries of a matrix that is put together one by one
STACK = 8  # arrays in one stack: XLA's CPU compiler fuses the making of so many, and writes more of them one by one


class Tile(NamedTuple):
    """``element`` maps the box ``into`` of the domain to the box ``out`` of the codomain; None stands for all of it."""

    out: Slice | None
    into: Slice | None
    element: Any


def tiled(tiles: Sequence[Tile]) -> Any:
    """Return Σ outᵀ element into over tiles between the same two spaces."""
    return _total([_product(tile) for tile in tiles])


def _product(tile: Tile) -> Any:
    out, into, element = tile
    inner = element.factors if isinstance(element, Product) else (element,)
    ends = None if out is None else out.transpose(), *inner, into
    factors = tuple([f for f in ends if f is not None and not isinstance(f, Identity)])
    return Product(factors) if len(factors) > 1 else factors[0] if factors else element


def _total(terms: Sequence[Any]) -> Any:
    return Sum(tuple(terms)) if len(terms) > 1 else terms[0]


def tiles_of(op: LinearOperator) -> list[Tile]:
    """The tiles whose sum op is, in boxes of its sides on which all terms have one, equal to or apart from the others'."""
    tiles = [Tile(None, None, term) for term in (op.terms if isinstance(op, Sum) else (op,))]
    for left in (True, False):
        cut = tiles_on_one_side(tiles, left=left)
        if cut and boxes_apart([tile.out if left else tile.into for tile in cut]):
            tiles = cut
    return tiles if tiles[0][:2] != (None, None) else [Tile(None, None, op)]


def tiles_on_one_side(tiles: Sequence[Tile], *, left: bool) -> list[Tile]:
    """The tiles with the boxes that their elements end with, or begin with; none where one has no such box."""
    cut = []
    for out, into, element in tiles:
        factors = element.factors if isinstance(element, Product) else (element,)
        end, rest = (factors[0], factors[1:]) if left else (factors[-1], factors[:-1])
        if not isinstance(end, Slice) or end.transposed != left:
            return []
        box = end.transpose() if left else end
        assert isinstance(box, Slice)
        inner = Product(rest) if len(rest) > 1 else rest[0] if rest else Identity(box.codomain)
        cut.append(Tile(box, into, inner) if left else Tile(out, box, inner))
    return cut


# ---- as one array ------------------------------------------------------------------------------------------------------
def tile_array(tiles: Sequence[Tile], dense: Callable[[Any], Any]) -> Any:
    """The array of a sum of tiles, from those of their elements: boxes side by side are joined, others padded and added."""
    sums: dict[Any, list[Tile]] = {}
    for tile in tiles:
        sums.setdefault((_corner(tile.out), _corner(tile.into)), []).append(tile)
    cells = [Tile(same[0].out, same[0].into, _total([tile.element for tile in same])) for same in sums.values()]
    if _are_entries(cells):
        return _stacked(cells, dense)
    rank = len(cells[0].out.shape if cells[0].out is not None else cells[0].element.codomain.shape)
    rows: dict[Any, tuple[Slice | None, list[tuple[Slice | None, Any]]]] = {}
    for out, into, element in cells:
        rows.setdefault(_corner(out), (out, []))[1].append((into, dense(element)))
    return _placed([(out, _placed(row, rank)) for out, row in rows.values()], 0)


def _corner(box: Slice | None) -> Any:
    return None if box is None else box.box


def _placed(parts: list[tuple[Slice | None, Any]], first: int) -> Any:
    """Arrays put into their boxes of a space, whose axes are those from ``first`` on; zeros elsewhere."""
    pieces = []
    for box, array in parts:
        if box is None or (len(parts) == 1 and box.stops == box.shape and not any(box.starts)):
            return array
        before, after = array.shape[:first], array.shape[first + len(box.shape) :]
        starts = (*(0,) * first, *box.starts, *(0,) * len(after))
        pieces.append((Slice((*before, *box.shape, *after), starts, (*before, *box.stops, *after), None, True), array))
    joined = side_by_side(pieces)
    return reduce(arrays.add, (wide.apply(array) for wide, array in pieces)) if joined is None else joined


# ---- of single entries -------------------------------------------------------------------------------------------------
def _are_entries(tiles: Sequence[Tile]) -> bool:
    """Whether every tile is one entry of the matrix, and the matrix small enough to name each."""
    if any(box is None or box.codomain.size != 1 for tile in tiles for box in tile[:2]):
        return False
    return tiles[0].out.domain.size * tiles[0].into.domain.size <= CELLS  # type: ignore[union-attr]


def _stacked(tiles: Sequence[Tile], dense: Callable[[Any], Any]) -> Any:
    """The array of tiles of single entries: all of them, and zeros between, stacked."""
    cells = {(_number(out), _number(into)): _entry(element, dense) for out, into, element in tiles}
    like = next(iter(cells.values()))
    zero = namespace(like).zeros((), dtype=like.dtype)
    codomain, domain = tiles[0].out.domain, tiles[0].into.domain  # type: ignore[union-attr]
    rows = [_stacked_few([cells.get((i, j), zero) for j in range(domain.size)]) for i in range(codomain.size)]
    return reshape(_stacked_few(rows), (*codomain.shape, *domain.shape))  # type: ignore[union-attr, misc]


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


def _number(box: Slice | None) -> int:
    """The number of a box of one entry among the entries of its space, row-major."""
    return int(np.ravel_multi_index(box.starts, box.shape)) if box is not None and box.shape else 0


def _entry(element: Any, dense: Callable[[Any], Any]) -> Any:
    """The one entry of an operator between spaces of one entry, as an array without axes."""
    if not isinstance(element, Einsum) or not element.factors:
        return reshape(asarray(dense(element)), ())
    first, *rest = element.factors
    x, _ = contract_all(first.array, first.labels, rest, (), element.sizes)
    return x if element.coef == 1 else scale(element.coef, x)
