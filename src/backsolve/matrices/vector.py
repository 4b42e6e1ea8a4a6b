"""Block vectors, and right-hand sides of every kind as lists of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from backsolve.algebra import arrays
from backsolve.algebra.arrays import is_array, namespace
from backsolve.algebra.elements import add, describe, is_zero, left_divide, multiply, negate, short, subtract
from backsolve.operators import Einsum, O
from backsolve.operators.base import is_scalar
from backsolve.operators.moves import Slice, side_by_side

__all__ = ["BlockVector", "Bundle", "times_row", "unpack_vector"]

SHOWN, LONGEST = 16, 60  # blocks that are printed, and characters of one

PIECES = 9  # of one array: fewer are added up, each among zeros, which XLA does in one loop


class BlockVector(Sequence[Any]):
    """A column of blocks: arrays, numbers, symbols, whatever the matrix's elements act on; `backsolve.O` is a zero of
    any size.  A sequence of its blocks, with + − and scalar multiples block by block.  Immutable.
    """

    __slots__ = ("blocks", "products")
    __array_ufunc__ = None

    def __init__(self, blocks: Iterable[Any], products: SharedProducts | None = None) -> None:
        if not isinstance(blocks, Iterable):
            raise TypeError(f"a BlockVector holds a sequence of blocks, got {short(blocks)}.")
        self.blocks: tuple[Any, ...] = tuple(blocks)
        self.products = SharedProducts() if products is None else products

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> BlockVector: ...
    def __getitem__(self, index: int | slice) -> Any:
        return BlockVector(self.blocks[index]) if isinstance(index, slice) else self.blocks[index]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.blocks)

    def _with(self, other: Any, combine: Callable[[Any, Any], Any]) -> Any:
        if not isinstance(other, (BlockVector, list, tuple)):
            return NotImplemented
        if len(other) != len(self):
            raise ValueError(f"vectors of {len(self)} and {len(other)} blocks cannot be combined block by block.")
        return BlockVector(combine(p, q) for p, q in zip(self, other, strict=True))

    def __add__(self, other: Any) -> Any:
        return self._with(other, add)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, lambda p, q: add(q, p))

    def __sub__(self, other: Any) -> Any:
        return self._with(other, subtract)

    def __neg__(self) -> BlockVector:
        return BlockVector(negate(block) for block in self)

    def __mul__(self, c: Any) -> BlockVector:
        return BlockVector(block * c for block in self) if is_scalar(c) else NotImplemented

    def __truediv__(self, c: Any) -> BlockVector:
        return BlockVector(block / c for block in self) if is_scalar(c) else NotImplemented

    def __rmul__(self, c: Any) -> BlockVector:
        return BlockVector(block if is_zero(block) else multiply(c, block) for block in self)

    def __repr__(self) -> str:
        shown = [*map(_short, self.blocks[:SHOWN]), *(["…"] if len(self.blocks) > SHOWN else [])]
        total = f" of {len(self.blocks):,} blocks" if len(self.blocks) > SHOWN else ""
        return f"BlockVector([{', '.join(shown)}]){total}"


def _short(block: Any) -> str:
    if is_array(block) and block.ndim:
        return "×".join(map(str, block.shape)) + f" {block.dtype}"
    text = str(block)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


class SharedProducts:
    """Products of elements and the blocks of one vector, in which what several elements do first is done once.

    Δ ∘ g, say, when g meets (Wᵀ)ᴸ(Δ)ᴴ, (Xᵀ)ᴿ(Δ)ᴴ and (e)ᴿ(Δ)ᴴ.  A cache that lives and dies with its vector.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def multiply(self, element: Any, block: Any) -> Any:
        """element · block, as `backsolve.algebra.multiply` gives it."""
        if not (isinstance(block, np.ndarray) and isinstance(element, Einsum)):
            return multiply(element, block)
        product = element.at_once(block)
        if product is not None:
            return product
        k = element.first_entrywise()
        if k is None or not element.accepts(block):
            return multiply(element, block)
        factor = element.factors[k].array
        key = (id(factor), id(block))
        known = self._found.get(key)
        if known is None:  # the operands are kept beside the product, so that their ids stay theirs
            known = self._found[key] = (factor, block, arrays.multiply(block, factor))
        return element.apply_rest(k, known[2])


def times_row(
    row: Iterable[tuple[int, Any]],
    blocks: Sequence[Any],
    multiply: Callable[[Any, Any], Any],
    total: Any = O,
    layout: Any = None,
) -> Any:
    """Return total + Σ element · blocks[j] over the (j, element) of one row of a matrix, added up from left to right.

    Only where many of them place pieces of one array side by side (a long vector of parameters, sliced), or where they are
    spread over devices (which would each hold all the zeros), are those joined first, and the rest added to them.  Every
    term is brought to the ``layout`` of the row's space where that has one: an element may leave open how its products lie
    on several devices, the sum does not.
    """
    terms = [(element, blocks[j]) for j, element in row if not is_zero(blocks[j])]
    if len(terms) > 1:
        pieces = [term for term in terms if isinstance(term[0], Slice) and term[0].transposed]
        many = len(pieces) >= PIECES or (len(pieces) > 1 and arrays.is_spread(pieces[0][1]))
        joined = side_by_side(pieces) if many else None
        if joined is not None:
            joined = joined if layout is None else arrays.settle(joined, layout)
            total = joined if total is O else add(total, joined)
            terms = [term for term in terms if not (isinstance(term[0], Slice) and term[0].transposed)]
    for element, block in terms:
        term = multiply(element, block)
        if layout is not None and is_array(term):
            term = arrays.settle(term, layout)
        total = term if total is O else add(total, term)
    return total


class Bundle:
    """One row of several right-hand sides: element by column.  Left factors act on every column."""

    __slots__ = ("columns",)
    __array_ufunc__ = None

    def __init__(self, columns: Mapping[int, Any]) -> None:
        self.columns = dict(columns)

    def __add__(self, other: Bundle) -> Bundle:
        total = dict(self.columns)
        for j, element in other.columns.items():
            total[j] = add(total[j], element) if j in total else element
        return Bundle(total)

    def left_multiplied_by(self, a: Any) -> Bundle:
        """The bundle of a x for every x."""
        return Bundle({j: multiply(a, element) for j, element in self.columns.items()})

    def left_divided_by(self, d: Any) -> Bundle:
        """The bundle of d⁻¹ x for every x."""
        return Bundle({j: left_divide(d, element) for j, element in self.columns.items()})


def unpack_vector(b: Any, n: int, what: str) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return b as a list of n blocks and the function that makes a result of b's own kind from a list of blocks.

    Raises `ValueError` where b has another length, `TypeError` where it is no sequence of blocks.
    """
    repack: Callable[[list[Any]], Any]
    if isinstance(b, BlockVector):
        products = b.products
        blocks, repack = list(b.blocks), lambda solved: BlockVector(solved, products)
    elif isinstance(b, (list, tuple)):
        blocks, repack = list(b), list if isinstance(b, list) else tuple
    elif is_array(b) and b.ndim >= 1:
        blocks, repack = list(b), _as_array_like(b)
    else:
        raise TypeError(f"{what} takes a vector of {n} blocks, got {describe(b)}; make one with backsolve.vector([...]).")
    if len(blocks) != n:
        raise ValueError(f"{what} takes a vector of {n} blocks, got one of {len(blocks)}.")
    return blocks, repack


def _as_array_like(b: Any) -> Callable[[list[Any]], Any]:
    def repack(blocks: list[Any]) -> Any:
        if isinstance(b, np.ndarray):
            if b.dtype == object:
                out = np.empty(len(blocks), dtype=object)
                out[:] = blocks
                return out
            return np.stack(blocks) if blocks else b
        return namespace(b).stack(blocks) if blocks else b

    return repack
