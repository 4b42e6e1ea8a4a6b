"""Elimination on sparse operators: the Jacobian's non-zeros directly, each product of two edges' patterns made once.

An operator that nothing is known of but what it does to arrays stays one until it meets a neighbour: then the columns (or
the rows) of the neighbour that are not zero are pushed through it, and a dense block of that width is what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import map_columns, namespace, permute, reshape
from backsolve.algebra.elements import add
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace, require_memory
from backsolve.elimination.borders import Border, LinearizedGraph
from backsolve.elimination.graph import EliminationGraph, cheapest_first
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import LinearOperator
from backsolve.operators.closed_form import attempt, first_of, opaque_among
from backsolve.operators.dispatch import OPERATIONS
from backsolve.operators.moves import flat_space, flattened, unflattened
from backsolve.sparse.lazy_values import LazyValues, joined
from backsolve.sparse.materialize import common_dtype, concatenate
from backsolve.sparse.operator import Keep, Sparse, add_sparse, columns_of, compose_sparse, join_sparse, rows_of
from backsolve.sparse.pattern import Pattern, apart, dense, product, run_starts, transposed, union

__all__ = ["OpaqueEdge", "Recurrence", "SparseEdges", "accumulate_sparse", "height", "meetings", "pulled", "pushed", "width"]


class OpaqueEdge:
    """Σ terms between flat vectors, each known by its application alone, and where its ``pattern`` is known by that too.

    Columns (or rows) of the pattern that have no row (column) in common are then had by one application together
    (Curtis, Powell and Reid, 1974).
    """

    __slots__ = ("_matrix", "m", "n", "pattern", "terms")

    def __init__(self, *terms: LinearOperator, pattern: Pattern | None = None) -> None:
        self.terms = terms
        self.pattern = pattern
        self.n = terms[0].domain.size
        self.m = terms[0].codomain.size
        self._matrix: Sparse | None = None

    @staticmethod
    def sum_of(a: Sparse | OpaqueEdge, b: Sparse | OpaqueEdge) -> OpaqueEdge:
        """a + b."""
        terms = (term for op in (a, b) for term in (op.terms if isinstance(op, OpaqueEdge) else (op,)))
        known = a.pattern is not None and b.pattern is not None
        return OpaqueEdge(*terms, pattern=union(a.pattern, b.pattern).pattern if known else None)  # type: ignore[arg-type]

    @property
    def nnz(self) -> int:
        """How many entries the matrix has."""
        return self.m * self.n if self.pattern is None else self.pattern.nnz

    @property
    def work(self) -> float:
        """About how many operations one application takes."""
        return sum(term.work for term in self.terms)

    @property
    def spaces(self) -> tuple[ArraySpace, ArraySpace]:
        """Flat domain and codomain."""
        return flat_space(self.terms[0].domain), flat_space(self.terms[0].codomain)

    def image(self, columns: Columns) -> list[Any]:
        """The images of columns, as parts of n × k arrays one below the other."""
        return self._mapped(columns, self.terms)

    def preimage(self, rows: Columns) -> list[Any]:
        """The transpose's images."""
        return self._mapped(rows, [term.transpose() for term in self.terms])

    def _mapped(self, columns: Columns, terms: Sequence[LinearOperator]) -> list[Any]:
        lifted = opaque_among(self.terms).lifted
        together = [OPERATIONS["images"](term, columns, lifted) if "images" in OPERATIONS else None for term in terms]
        single = [term for term, done in zip(terms, together, strict=True) if done is None]

        def image(x: Any) -> Any:
            total: Any = None
            for term in single:
                y = flattened(term.apply(unflattened(x, term.domain)), term.codomain)
                total = y if total is None else add(total, y)
            return total

        images = [done for done in together if done is not None]
        if single:
            images.append([map_columns(image, columns.parts([columns.size], lifted)[0])])
        return images[0] if len(images) == 1 else [reduce(add, map(concatenate, images))]

    def require(self, entries: int) -> None:
        """Raise `PatternTooLargeError` where so many entries of a product with this edge would not fit into memory."""
        what = f"the matrix ({self.m} × {self.n}) of {opaque_among(self.terms).where}"
        require_memory(entries, UNKNOWN if self.pattern is None else KNOWN, what)

    def matrix(self) -> Sparse:
        """All of it, by sets of columns or of rows, whichever are fewer; made once."""
        if self._matrix is None:
            into, out = self.spaces
            self.require(self.nnz)
            pattern = dense(self.m, self.n) if self.pattern is None else self.pattern
            columns = _Sets.of(self.pattern, self.n)
            rows = _Sets.of(None if self.pattern is None else transposed(self.pattern)[0], self.m)

            def by_columns() -> Any:
                return columns.entries(self.image(columns.units(into.dtype)), pattern.rows, pattern.cols)

            def by_rows() -> Any:
                return rows.entries(self.preimage(rows.units(out.dtype)), pattern.cols, pattern.rows)

            first = columns.count <= rows.count
            values = first_of(by_columns, by_rows) if first else first_of(by_rows, by_columns)
            self._matrix = Sparse(pattern, values, into, out)
        return self._matrix


@dataclass(frozen=True)
class Columns:
    """k vectors of n numbers, zero but for some: row-major places in an n × k array, increasing, and the numbers there."""

    values: LazyValues
    places: Index
    shape: tuple[int, int]
    dtype: Any

    @property
    def size(self) -> int:
        """How many numbers a column has."""
        return self.shape[0]

    def parts(self, sizes: Sequence[int], lifted: Callable[[Any], Any]) -> list[Any]:
        """Their numbers as arrays of so many rows, one below the other, in the library that ``lifted`` gives NumPy's to."""
        width = self.shape[1]
        starts = run_starts(sizes)
        ends = np.searchsorted(self.places, starts * np.int64(width))
        every = np.arange(self.places.size)
        parts = []
        for size, start, a, b in zip(sizes, starts.tolist(), ends, ends[1:]):
            whole = (a, b) == (0, every.size)
            values = self.values if whole else self.values.take(every[a:b])
            array = values.spread(self.places[a:b] - start * width, size * width).array(self.dtype)
            parts.append(lifted(array) if isinstance(array, np.ndarray) else array)
        return [reshape(x, (size, width)) for x, size in zip(common_dtype(parts, self.dtype), sizes, strict=True)]


@dataclass(frozen=True)
class _Sets:
    """Sets of columns that share no row: the number of each column's set (-1: an empty column), and how many there are."""

    numbers: Index
    count: int

    @staticmethod
    def of(pattern: Pattern | None, n: int) -> _Sets:
        """Those of a pattern; of a full matrix each column by itself."""
        return _Sets(np.arange(n), n) if pattern is None else _Sets(*apart(pattern))

    def units(self, dtype: Any) -> Columns:
        """For each set the vector that is one at its columns."""
        there = np.flatnonzero(self.numbers >= 0)
        keys = there * np.int64(self.count) + self.numbers[there]
        one = np.ones((), dtype or float).item()  # which no dtype makes an integer of
        return Columns(LazyValues.of(one, there.size), keys, (self.numbers.size, self.count), dtype)

    def entries(self, images: Sequence[Any], rows: Index, cols: Index) -> LazyValues:
        """The entries at these rows and columns, from the image of each set."""
        parts = [LazyValues.of(x, x.shape[0] * self.count) for x in images]
        return joined(parts).take(rows * np.int64(self.count) + self.numbers[cols])


def pushed(left: OpaqueEdge, right: Sparse | OpaqueEdge | None, keep: Keep | None = None) -> Sparse:
    """Return left ∘ right: the columns of right that are not zero, pushed through left.  None is the identity."""
    if right is None:
        return left.matrix().restricted(keep)
    if isinstance(right, OpaqueEdge):
        if min(right.n, left.n) <= left.m:
            return pushed(left, right.matrix(), keep)
        return pulled(left.matrix(), right, keep)
    if left._matrix is None:
        pattern, columns = _met(left.pattern, right.pattern)
        if columns.count <= min(left.m, left.n):
            narrow: Sparse | None = attempt(lambda: _pushed(left, right, pattern, columns))
            if narrow is not None:
                return narrow.restricted(keep)
    return compose_sparse(left.matrix(), right, keep=keep)


def _met(left: Pattern | None, right: Pattern) -> tuple[Pattern | None, _Sets]:
    """The pattern of a product (None: all of the right one's columns) and the sets of its columns."""
    if left is not None:
        pattern = product(left, right).pattern
        return pattern, _Sets.of(pattern, right.shape[1])
    cols = np.flatnonzero(right.col_counts)
    numbers = np.full(right.shape[1], -1)
    numbers[cols] = np.arange(cols.size)
    return None, _Sets(numbers, cols.size)


def _pushed(left: OpaqueEdge, right: Sparse, pattern: Pattern | None, columns: _Sets) -> Sparse:
    """The columns of right, those of a set together, pushed through left."""
    into, out = right.domain, left.spaces[1]
    left.require(left.m * columns.count if pattern is None else pattern.nnz)
    if pattern is None:
        cols = np.flatnonzero(columns.numbers >= 0)
        pattern = Pattern(np.repeat(np.arange(left.m), cols.size), np.tile(cols, left.m), (left.m, right.pattern.shape[1]))
    image = left.image(_gathered(right, columns, left.pattern, left.n))
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    return Sparse(pattern, columns.entries(image, pattern.rows, pattern.cols), into, out)


def _gathered(op: Sparse, columns: _Sets, reader: Pattern | None, n: int) -> Columns:
    """The sums of an operator's columns over each set, of the rows that somebody reads."""
    keys = op.rows * np.int64(columns.count) + columns.numbers[op.cols]
    values = op.values
    read = columns.numbers[op.cols] >= 0
    if reader is not None:
        read &= reader.col_counts[op.rows] > 0
    if not read.all():
        at = np.flatnonzero(read)
        keys, values = keys[at], values.take(at)
    if (np.diff(keys) < 0).any():
        order = np.argsort(keys)
        keys, values = keys[order], values.take(order)
    return Columns(values, keys, (n, columns.count), op.dtype)


def pulled(left: Sparse | OpaqueEdge, right: OpaqueEdge, keep: Keep | None = None) -> Sparse:
    """Return left ∘ right: the rows of left that are not zero, pulled back through right."""
    if isinstance(left, OpaqueEdge):
        return pushed(left, right, keep)
    if right._matrix is None:
        turned = left.transpose()
        reader = None if right.pattern is None else transposed(right.pattern)[0]
        pattern, rows = _met(reader, turned.pattern)
        if rows.count <= min(right.m, right.n):
            narrow: Sparse | None = attempt(lambda: _pulled(left, turned, right, reader, pattern, rows))
            if narrow is not None:
                return narrow.restricted(keep)
    return compose_sparse(left, right.matrix(), keep=keep)


def _pulled(
    left: Sparse, turned: Sparse, right: OpaqueEdge, reader: Pattern | None, pattern: Pattern | None, rows: _Sets
) -> Sparse:
    """The rows of left, those of a set together, pulled back through right; ``turned`` is the transpose of left."""
    into, out = right.spaces[0], left.codomain
    assert isinstance(into, ArraySpace)
    assert isinstance(out, ArraySpace)
    right.require(right.n * rows.count if pattern is None else pattern.nnz)
    image = right.preimage(_gathered(turned, rows, reader, right.m))
    if pattern is None:
        own = np.flatnonzero(rows.numbers >= 0)
        pattern = Pattern(np.repeat(own, right.n), np.tile(np.arange(right.n), own.size), (out.size, right.n))
        turned_back = LazyValues.of(reshape(_turned(concatenate(image)), (pattern.nnz,)), pattern.nnz)
        return Sparse(pattern, turned_back, into, out)
    there = transposed(pattern)[0]
    return Sparse(there, rows.entries(image, there.cols, there.rows), into, out)


def _turned(x: Any) -> Any:
    return permute(namespace(x), x, (1, 0))


@dataclass(frozen=True)
class Recurrence:
    """An edge with unknowns c of its own, which are kept:  y = direct · x + leaving · c,  c = own · c + entering · x.

    ``own`` is strictly triangular under some numbering of the unknowns, those of a loop: its ``steps`` one after the other,
    as many at each.  ``label`` names them.
    """

    own: Sparse
    entering: Sparse
    leaving: Sparse
    direct: Sparse
    steps: int
    label: str

    @property
    def nnz(self) -> int:
        """How many entries the parts have, those of the identity included."""
        return self.own.pattern.shape[0] + sum(op.nnz for op in (self.own, self.entering, self.leaving, self.direct))

    def transpose(self) -> Recurrence:
        """The transposed edge: what left enters."""
        own, entering, leaving, direct = (op.transpose() for op in (self.own, self.leaving, self.entering, self.direct))
        return Recurrence(own, entering, leaving, direct, self.steps, self.label)


Edge = Sparse | OpaqueEdge
EdgeOf = Callable[[LinearOperator], Sparse | Pattern | Recurrence | None]
Index = np.ndarray[Any, Any]

# Bytes for each entry of a matrix that is had by applying an edge: while planning, compiling and running, as measured with
# loops of thousands of numbers that close to all of them, eagerly and compiled; the places of a known pattern are there.
UNKNOWN, KNOWN = 100, 130
PULLED = 1.25  # of a row pulled back through an edge, beside a column pushed through it: it is transposed first, and pads
STATIC = 0.25  # of a product of two numbers: moving and scaling one by a number that is known while planning
CROWDED = 8  # terms of a block wait to be added until they are so many times the largest


def accumulate_sparse(
    M: OperatorMatrix,
    L: OperatorMatrix,
    S: OperatorMatrix,
    edge: Callable[[LinearOperator], Sparse | Pattern | None],
    order: Iterable[int] | None = None,
    *,
    lower: bool = False,
) -> dict[tuple[int, int], Sparse]:
    """Return the blocks (output, source) of S (I − L)⁻¹ M as sparse operators; a block without a path is absent.

    ``edge`` gives an edge as a sparse operator, its pattern where it is opaque but for that, None where it is wholly so.
    The inner nodes are eliminated in this order, or each time the one that takes fewest products of two numbers.
    With ``lower`` (a Hessian: source leaf k is output leaf k)
    only blocks and entries on or below the diagonal are worked out.
    Cost: one multiplication for each pair of traced numbers that meet.
    Source: Griewank and Walther, *Evaluating Derivatives*, chapter 9 (vertex elimination by Markowitz degree).
    """
    network = LinearizedGraph(M, L, S)
    work = SparseEdges(network, edge, lower)
    for v in work.cheapest_first() if order is None else order:
        if v not in network.terminal:
            work.eliminate(v)
    return work.blocks(S.row_spaces, M.col_spaces)


class SparseEdges:
    """A linearized graph part-way through its elimination, its edges sparse or opaque.

    Edges between borders, which are part of the result, are kept apart as the terms of a sum: ``ends[i, j]``.  Nodes with an
    edge to themselves (``kept``) are not among those to eliminate.
    """

    def __init__(self, network: LinearizedGraph, edge: EdgeOf, lower: bool = False) -> None:
        self.network = network
        self.lower = lower
        self.spaces = [flat_space(space) for space in network.spaces]
        self.places = {k: _places(border) for side in (network.sources, network.outputs) for k, border in side.items()}
        self.graph = EliminationGraph({i: {} for i in network.into}, total=_total)
        self.ends: dict[tuple[int, int], list[Sparse]] = {}
        self.kept: dict[int, Recurrence] = {}
        for i, row in network.into.items():
            for j, op in row.items():
                weight = edge(op)
                if isinstance(weight, Sparse):
                    self._join(i, j, weight.between(self.spaces[j], self.spaces[i]))
                elif isinstance(weight, Recurrence):
                    self._keep_apart(i, j, weight)
                else:
                    self._join(i, j, OpaqueEdge(op, pattern=weight))

    def _keep_apart(self, i: int, j: int, loop: Recurrence) -> None:
        """Put an edge with unknowns of its own as a node, with an edge to itself, and the three edges around it."""
        v = len(self.spaces)
        self.spaces.append(flat_space(loop.own.domain))
        self.kept[v] = loop
        self.graph.into[v] = {}
        self.graph.join(v, j, loop.entering)
        self._join(i, v, loop.leaving)
        if loop.direct.nnz:
            self._join(i, j, loop.direct.between(self.spaces[j], self.spaces[i]))

    def _join(self, i: int, j: int, term: Edge) -> None:
        if i not in self.network.outputs or j not in self.network.sources:
            self.graph.join(i, j, term)
            return
        keep = self._keep(i, j)
        terms = self.ends.setdefault((i, j), [])
        terms.append(pushed(term, None, keep) if isinstance(term, OpaqueEdge) else term.restricted(keep))
        if sum(t.nnz for t in terms) > CROWDED * max(t.nnz for t in terms):
            self.ends[i, j] = [join_sparse([(t, None, None) for t in terms], self.spaces[j], self.spaces[i])]

    def copy(self) -> SparseEdges:
        """Another one in the same state."""
        other = copy(self)
        other.graph = self.graph.copy()
        other.ends = {place: list(terms) for place, terms in self.ends.items()}
        return other

    # ---- order ------------------------------------------------------------------------------------------------------
    def cheapest_first(self) -> Iterator[int]:
        """The inner nodes, each time the one that takes fewest multiplications; the caller eliminates between two."""
        outputs, sources = (sum(self.spaces[k].size for k in side) for side in (self.network.outputs, self.network.sources))
        sign = -1 if outputs <= sources else 1  # of two alike the one nearer to the smaller side
        return cheapest_first(self.network.inner, lambda v: (self.multiplications(v), sign * v), self.graph.neighbours)

    def neighbouring(self, v: int) -> tuple[list[Edge], list[Edge]]:
        """The edges in and the edges out of a node."""
        into = self.graph.into
        return list(into.get(v, {}).values()), [into[i][v] for i in self.graph.out_of.get(v, ())]

    def multiplications(self, v: int) -> float:
        """How many products of two numbers it takes to eliminate v."""
        ins, outs = self.neighbouring(v)
        if not ins or not outs:
            return 0.0
        left, right = _Counts(), _Counts()
        for op in outs:
            if isinstance(op, Sparse):
                left.add(op, op.pattern.col_load)
        for op in ins:
            if isinstance(op, Sparse):
                right.add(op, op.pattern.row_load)
        n = self.spaces[v].size
        every = meetings(left.traced + left.static, right.traced + right.static, n)
        met = STATIC * every + (1 - STATIC) * meetings(left.traced, right.traced, n)
        through = sum(op.work for op in outs if isinstance(op, OpaqueEdge)) * sum(map(width, ins))
        back = sum(op.work for op in ins if isinstance(op, OpaqueEdge)) * sum(map(height, outs))
        return met + through + PULLED * back

    # ---- one step -----------------------------------------------------------------------------------------------------
    def eliminate(self, v: int) -> None:
        """Take v out: each pair of an in-edge and an out-edge becomes an edge past it, where that edge is wanted."""
        ins, outs = self.graph.remove(v)
        lefts = {i: _formed_once(op, len(ins)) for i, op in outs.items()}
        rights = {j: _formed_once(op, len(outs)) for j, op in ins.items()}
        wanted = {(i, j): None for i in lefts for j in rights if self._wanted(i, j)}
        together = _together(lefts, rights, wanted)
        for i, j in wanted:
            keep = self._keep(i, j)
            past = together[i, j].restricted(keep) if (i, j) in together else _product(lefts[i], rights[j], keep)
            if past.nnz:
                self._join(i, j, past)

    def _wanted(self, i: int, j: int) -> bool:
        if not self.lower or i not in self.network.outputs or j not in self.network.sources:
            return True
        return self.network.outputs[i].leaf >= self.network.sources[j].leaf

    def _keep(self, i: int, j: int) -> Keep | None:
        """Which places of an edge between borders are worked out; None where all are."""
        outputs, sources = self.network.outputs, self.network.sources
        if not self.lower or i not in outputs or j not in sources or outputs[i].leaf != sources[j].leaf:
            return None
        out, into = self.places[i], self.places[j]
        return lambda rows, cols: (rows if out is None else out[rows]) >= (cols if into is None else into[cols])

    # ---- the end ------------------------------------------------------------------------------------------------------
    def blocks(self, rows: Sequence[Space], columns: Sequence[Space]) -> dict[tuple[int, int], Sparse]:
        """What is left between the borders, as one operator for each pair of leaves."""
        placed_terms: dict[tuple[int, int], list[tuple[Sparse, Any, Any]]] = {}
        for (i, j), terms in self.ends.items():
            out, into = self.network.outputs[i], self.network.sources[j]
            placed = [(term, self.places[i], self.places[j]) for term in terms]
            placed_terms.setdefault((out.leaf, into.leaf), []).extend(placed)
        return {
            (i, j): join_sparse(parts, _array(columns[j]), _array(rows[i]))
            for (i, j), parts in placed_terms.items()
            if not self.lower or i >= j
        }


def width(op: Edge) -> int:
    """How many columns of an edge are not zero."""
    return op.n if isinstance(op, OpaqueEdge) else int(np.count_nonzero(op.pattern.col_counts))


def height(op: Edge) -> int:
    """How many rows of an edge are not zero."""
    return op.m if isinstance(op, OpaqueEdge) else int(np.count_nonzero(op.pattern.row_counts))


class _Counts:
    """How many numbers meet each entry of a node from one side, traced and static ones; a number where all have as many."""

    def __init__(self) -> None:
        self.traced: Any = 0.0
        self.static: Any = 0.0

    def add(self, op: Edge, counts: Any) -> None:
        if isinstance(op, OpaqueEdge) or not op.values.is_static:
            self.traced = self.traced + counts
        elif not op.pattern.is_diagonal:
            self.static = self.static + counts
        else:
            self.static = self.static + 1e-3  # of two free eliminations the one with fewer edges first


def meetings(a: Any, b: Any, n: int) -> float:
    """Σ a b over the n entries of a node."""
    if isinstance(a, float):
        return a * (n * b if isinstance(b, float) else float(b.sum()))
    return b * float(a.sum()) if isinstance(b, float) else float((a * b).sum())  # not BLAS, whose threads cost more


def _together(
    lefts: dict[int, Edge], rights: dict[int, Edge], wanted: Container[tuple[int, int]]
) -> dict[tuple[int, int], Sparse]:
    """The products with an opaque edge that meets several sparse ones: those are pushed (or pulled) through it together."""
    products: dict[tuple[int, int], Sparse] = {}
    for i, left in lefts.items():
        met = {j: op for j, op in rights.items() if isinstance(op, Sparse) and (i, j) in wanted}
        if isinstance(left, OpaqueEdge) and len(met) > 1:
            starts = run_starts([op.domain.size for op in met.values()])[:-1].tolist()
            parts = [(op, None, np.arange(op.domain.size) + a) for a, op in zip(starts, met.values(), strict=True)]
            whole = pushed(left, join_sparse(parts, _as_one([op.domain for op in met.values()]), left.spaces[0]))
            products |= {(i, j): columns_of(whole, a, op.domain) for a, (j, op) in zip(starts, met.items(), strict=True)}
    for j, right in rights.items():
        met = {i: op for i, op in lefts.items() if isinstance(op, Sparse) and (i, j) in wanted}
        if isinstance(right, OpaqueEdge) and len(met) > 1:
            starts = run_starts([op.codomain.size for op in met.values()])[:-1].tolist()
            stacked = [(op, np.arange(op.codomain.size) + a, None) for a, op in zip(starts, met.values(), strict=True)]
            whole = pulled(join_sparse(stacked, right.spaces[1], _as_one([op.codomain for op in met.values()])), right)
            products |= {(i, j): rows_of(whole, a, op.codomain) for a, (i, op) in zip(starts, met.items(), strict=True)}
    return products


def _as_one(spaces: Sequence[Space]) -> ArraySpace:
    return flat_space(TupleSpace(tuple(spaces)))


def _product(left: Edge, right: Edge, keep: Keep | None) -> Sparse:
    if isinstance(left, Sparse) and isinstance(right, Sparse):
        return compose_sparse(left, right, keep=keep)
    if isinstance(right, OpaqueEdge):
        return pulled(left, right, keep)
    return pushed(left, right, keep)  # type: ignore[arg-type]


def _total(a: Edge, b: Edge) -> Edge:
    if isinstance(a, OpaqueEdge) or isinstance(b, OpaqueEdge):
        return OpaqueEdge.sum_of(a, b)
    return add_sparse(a, b)


def _formed_once(op: Edge, uses: int) -> Edge:
    """The same operator, its numbers formed if several products would form them."""
    if isinstance(op, OpaqueEdge) or uses < 2 or op.values.is_evaluated:
        return op
    return op.evaluated()


def _places(border: Border) -> Index | None:
    """The numbers of a box's entries in its leaf; None where that is all of it."""
    box = border.box
    if box is None:
        return None
    return np.arange(prod(box.shape)).reshape(box.shape)[tuple(map(slice, *box.box))].reshape(-1)


def _array(space: Space) -> ArraySpace:
    assert isinstance(space, ArraySpace)
    return space
