"""Forward substitution for coloured columns that keeps zeros: what no column of a colour reaches is zero, not NaN.

The image of several columns together has zeros where none of them arrives.  Times an infinite number these would be NaN, and
would hide the one number that such a row has, so they are masks: of each entry of each node it is known, as bits of a
number, which colours reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra import elements
from backsolve.algebra.arrays import is_mask, is_number, multiply
from backsolve.algebra.spaces import Space, TupleSpace
from backsolve.capture.folding import known_value
from backsolve.capture.opaque import LinearEquation
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import topological_order
from backsolve.matrices.vector import times_row
from backsolve.operators import Einsum, Identity, O, Scaling, Zero
from backsolve.operators.moves import Component, Parts, Reshape, Slice
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern
from backsolve.system.system import System
from backsolve.tracing.jaxpr import Kind, record_of

__all__ = ["EdgeOf", "Reach", "colour_sets", "sets_of"]

Sets = np.ndarray[Any, Any]  # words × entries: bit k % 32 of word k // 32 says whether colour k reaches the entry
EdgeOf = Callable[[Any], Sparse | Pattern | None]
Place = tuple[str, int, int]  # of an edge: which matrix, row and column

_WORD = 32


def colour_sets(colour: np.ndarray[Any, Any], count: int) -> Sets:
    """The sets of entries that have one colour each.

    Example:
        >>> colour_sets(np.array([0, 2, 1]), 3).tolist()
        [[1, 4, 2]]
    """
    return sets_of(colour.reshape(-1, 1), count)


def sets_of(table: np.ndarray[Any, Any], count: int) -> Sets:
    """The sets of the colours in each row of a table; negative ones are none.

    Example:
        >>> sets_of(np.array([[0, 2], [1, -1]]), 3).tolist()
        [[5, 2]]
    """
    sets = np.zeros((-(-count // _WORD), len(table)), np.uint32)
    for column in table.T:
        there = np.flatnonzero(column >= 0)
        own = column[there].astype(np.uint32)
        sets[own // _WORD, there] |= np.uint32(1) << own % _WORD
    return sets


class _Image(NamedTuple):
    """Of each entry, which colours reach it, and of which others it may be zero times infinity instead of zero."""

    reached: Sets
    spoilt: Sets


class _Edge(NamedTuple):
    place: Place
    op: Any
    space: Space  # of what it is applied to
    image: _Image  # and that


class Reach:
    """Which colours of an input's columns reach what, and forward substitution for all columns of each colour.

    ``edge`` gives the operator of an edge as a sparse one, its pattern, or None where all may depend on all; ``needed`` the
    sets of the entries of each output that will be read.
    What colours do not reach is left as it is while nothing else is there: a mask comes before what differs in reach is
    added up, and before what adds up itself.
    Cost: a few passes over the places of each edge while planning; at run time a selection for each mask.
    """

    def __init__(
        self, system: System, j: int, colour: np.ndarray[Any, Any], count: int, edge: EdgeOf, needed: Mapping[int, Sets]
    ) -> None:
        self.system = system
        self.j = j
        self.count = count
        self._edge = edge
        self._every = np.bitwise_or.reduce(colour_sets(np.arange(count), count), axis=1, keepdims=True)
        self._numbers: dict[Any, int] = {}  # of masks, by their sets and their shape
        self._sets: list[tuple[Sets, Space]] = []
        self._before: dict[Place, int] = {}  # the mask of what an edge is applied to
        self._behind: dict[Place, int] = {}  # and that of its image
        M, L, S = system.M, system.L, system.sinks
        self.order = topological_order(L.shape[0], L.row, L.name)
        start = colour_sets(colour, count)
        source = {j: _Image(start, np.zeros_like(start))}
        nodes: dict[int, _Image] = {}
        for i in self.order:
            edges = [_Edge(("M", i, k), op, M.col_spaces[k], source[k]) for k, op in M.row(i) if k in source]
            edges += [_Edge(("L", i, k), op, L.col_spaces[k], nodes[k]) for k, op in L.row(i) if k in nodes]
            if edges:
                nodes[i] = self._together(edges, L.row_spaces[i])
        for i in range(S.shape[0]):
            edges = [_Edge(("S", i, k), op, S.col_spaces[k], nodes[k]) for k, op in S.row(i) if k in nodes]
            if edges:
                self._together(edges, S.row_spaces[i], needed.get(i))

    def _together(self, edges: Sequence[_Edge], space: Space, needed: Sets | None = None) -> _Image:
        """The sum of the images of a row's edges; it is told here which masks they need."""
        own = [self._cleaned(e) if e.image.spoilt.any() and not _moves(e.op) else e.image for e in edges]
        terms = [self._through(e.op, image) for e, image in zip(edges, own, strict=True)]
        reached = np.bitwise_or.reduce([term.reached for term in terms])
        read = reached if needed is None else reached | needed
        spoilt = np.zeros_like(reached)
        for edge, term in zip(edges, terms, strict=True):
            if not (term.spoilt & read).any():
                spoilt |= term.spoilt
            elif isinstance(edge.op, Slice):  # its image may be joined with others before there is a mask
                self._cleaned(edge)
            else:
                self._behind[edge.place] = self._number(term.reached, space)
        return _Image(reached, spoilt)

    def _cleaned(self, edge: _Edge) -> _Image:
        """What an edge is applied to, behind a mask."""
        self._before[edge.place] = self._number(edge.image.reached, edge.space)
        return _Image(edge.image.reached, np.zeros_like(edge.image.spoilt))

    def _number(self, reached: Sets, space: Space) -> int:
        """The number of a mask."""
        key = reached.tobytes(), _shape_of(space)
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append((reached, space))
        return self._numbers[key]

    def _through(self, op: Any, image: _Image) -> _Image:
        """What is behind an edge."""
        reached = self._moved(op, image.reached)
        spoilt = ~reached & self._every if _multiplies(op) else self._moved(op, image.spoilt)
        return _Image(reached, spoilt & ~reached)

    def _moved(self, op: Any, sets: Sets) -> Sets:
        if not sets.any():
            return np.zeros((sets.shape[0], op.codomain.size if op.codomain.known else sets.shape[1]), np.uint32)
        if isinstance(op, Identity | Scaling | Reshape) or (isinstance(op, Einsum) and _is_diagonal(op)):
            return sets
        weight = self._edge(op)
        if weight is None:
            every = np.bitwise_or.reduce(sets, axis=1, keepdims=True)
            return np.repeat(every, op.codomain.size, axis=1)
        pattern = weight if isinstance(weight, Pattern) else weight.pattern
        met = sets[:, pattern.cols]
        if pattern.full_rows:
            return met
        after = np.zeros((sets.shape[0], pattern.shape[0]), np.uint32)
        rows = np.flatnonzero(np.diff(pattern.starts))
        if rows.size:
            after[:, rows] = np.bitwise_or.reduceat(met, pattern.starts[rows], axis=1)
        return after

    def masks(self) -> list[Any]:
        """The masks that `push` takes, each with the colours along a first axis."""
        return [self._mask(sets, space) for sets, space in self._sets]

    def _mask(self, sets: Sets, space: Space) -> Any:
        if isinstance(space, TupleSpace):
            ends = np.cumsum([part.size for part in space.parts])
            parts = zip(ends, space.parts, strict=True)
            return Parts(self._mask(sets[:, end - part.size : end], part) for end, part in parts)
        shape = space.shape or ()
        narrow: Any = np.uint8 if self.count <= 8 else np.uint16 if self.count <= 16 else np.uint32
        bits = jnp.asarray(sets.astype(narrow).reshape(-1, 1, *shape))
        bits = jax.lax.optimization_barrier(bits)  # type: ignore[no-untyped-call]  # else there is a mask for each colour
        each = narrow(1) << np.arange(min(self.count, _WORD), dtype=narrow)
        return (bits & each.reshape(-1, *[1] * len(shape)) != 0).reshape(-1, *shape)[: self.count]

    def push(self, seed: Any, masks: Sequence[Any]) -> list[Any]:
        """The images of a change of the input, one for each output: forward substitution, one colour of each mask."""
        M, L, S = self.system.M, self.system.L, self.system.sinks
        seeds = [seed if k == self.j else O for k in range(M.shape[1])]
        blocks: list[Any] = [O] * L.shape[0]
        for i in self.order:
            blocks[i] = self._sum("L", L, i, blocks, masks, self._sum("M", M, i, seeds, masks, O))
        return [self._sum("S", S, i, blocks, masks, O) for i in range(S.shape[0])]

    def _sum(self, name: str, A: OperatorMatrix, i: int, blocks: Sequence[Any], masks: Sequence[Any], total: Any) -> Any:
        """``total`` and the sum of the images of a row's edges; what is not reached is zero."""
        row = A.row(i)
        own = [self._hidden(self._before, (name, i, k), masks, blocks[k]) for k, _ in row]
        places = {(id(op), id(block)): (name, i, k) for (k, op), block in zip(row, own, strict=True)}

        def product(op: Any, block: Any) -> Any:
            return self._hidden(self._behind, places[id(op), id(block)], masks, elements.multiply(op, block))

        return times_row([(n, op) for n, (_, op) in enumerate(row)], own, product, total, A.layout(i))

    def _hidden(self, which: Mapping[Place, int], place: Place, masks: Sequence[Any], x: Any) -> Any:
        number = which.get(place)
        return x if number is None else _hide(masks[number], x)


def _shape_of(space: Space) -> Any:
    return tuple(map(_shape_of, space.parts)) if isinstance(space, TupleSpace) else space.shape


def _hide(mask: Any, x: Any) -> Any:
    if isinstance(mask, Parts):
        return Parts(part if elements.is_zero(part) else _hide(own, part) for own, part in zip(mask, x, strict=True))
    return multiply(mask, x)


def _is_diagonal(op: Einsum) -> bool:
    """Whether each entry of the image depends on the same one of x, by numbers of which none is known."""
    return op.out == op.into and len(set(op.out)) == len(op.out) and all(known_value(f.array) is None for f in op.factors)


def _moves(op: Any) -> bool:
    """Whether each entry of the image is made of one entry of x alone, or of none."""
    if isinstance(op, Einsum):
        return _is_diagonal(op)
    if isinstance(op, LinearEquation):
        return record_of(op.eqn.primitive.name).kind in (Kind.MOVES, Kind.JOINS)
    return isinstance(op, Identity | Scaling | Zero | Slice | Reshape | Component)


def _multiplies(op: Any) -> bool:
    """Whether an infinite number of the operator may meet a zero."""
    if isinstance(op, Identity | Zero | Slice | Reshape | Component):
        return False
    if isinstance(op, Scaling):
        return not (is_number(op.c) and isfinite(abs(op.c)))
    if isinstance(op, Einsum):
        return not (is_number(op.coef) and isfinite(abs(op.coef)) and all(map(_is_harmless, op.factors)))
    if isinstance(op, LinearEquation):
        return record_of(op.eqn.primitive.name).kind not in (Kind.MOVES, Kind.JOINS)
    return True


def _is_harmless(factor: Any) -> bool:
    """Whether an array is a mask, or numbers that are known, finite and not zero (by which what is infinite becomes NaN)."""
    if is_mask(factor.array):
        return True
    known = known_value(factor.array)
    return known is not None and bool((np.isfinite(known) & (known != 0)).all())
