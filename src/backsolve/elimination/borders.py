"""The linearized computational graph of a system, and the accumulation of its Jacobian from sources to outputs.

Sources and outputs stay, the nodes between are eliminated.  An output that is one node read by nobody else stands for
that node, which so needs no elimination.  A source that is only read in boxes of its entries, or an output that is only
put together from such boxes, is one border node for each box: what lies between is then as sparse as the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import matmul
from typing import Any

from backsolve.algebra import arrays
from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import multiply
from backsolve.algebra.spaces import ANY, ArraySpace, Space, unify
from backsolve.elimination.graph import EliminationGraph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import topological_order
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.closed_form import closed_form, compose_closed
from backsolve.operators.einsum import Einsum, Factor
from backsolve.operators.einsum_rules import contracted
from backsolve.operators.lazy import Product
from backsolve.operators.moves import Reshape, Slice, boxes_apart, split_ends
from backsolve.operators.tiled import Tile, tiled

__all__ = [
    "Border",
    "LinearizedGraph",
    "ScalarEdge",
    "as_operator",
    "as_scalar_edge",
    "closed_weight",
    "edge_product",
    "premultiplied",
    "scalar_dtype",
]


class ScalarEdge:
    """x ↦ coef · array · x where ``mask`` is true, 0 elsewhere.  Both are arrays without axes, or None (1, true)."""

    __slots__ = ("array", "coef", "mask")

    def __init__(self, coef: Any, array: Any, mask: Any = None) -> None:
        self.coef = coef
        self.array = array
        self.mask = mask

    def __matmul__(self, other: ScalarEdge) -> ScalarEdge:
        # What the mask hides may be infinite, and so may what it will be multiplied with: it stays a mask.
        return ScalarEdge(self.coef * other.coef, _both(self.array, other.array), _both(self.mask, other.mask))

    def plus(self, other: ScalarEdge, dtype: Any) -> ScalarEdge:
        """The sum, whose numbers have this dtype."""
        mask, one, two = self.mask, self, other
        if mask is not other.mask:
            mask = None if mask is None or other.mask is None else mask | other.mask
            one, two = self._numbers(dtype), other._numbers(dtype)
        a, b, c, d = one.array, two.array, one.coef, two.coef
        if a is None and b is None:
            return ScalarEdge(c + d, None, mask)
        if a is None or b is None:
            number, coef, array = (c, d, b) if a is None else (d, c, a)
            return ScalarEdge(1, arrays.add(_scaled(coef, array), number), mask)
        if c == d:
            return ScalarEdge(c, arrays.add(a, b), mask)
        if c == -d:
            return ScalarEdge(c, arrays.subtract(a, b), mask) if d < c else ScalarEdge(d, arrays.subtract(b, a), mask)
        return ScalarEdge(1, arrays.add(_scaled(c, a), _scaled(d, b)), mask)

    def _numbers(self, dtype: Any) -> ScalarEdge:
        """The same without a mask."""
        if self.mask is None:
            return self
        array = arrays.astype(self.mask, dtype) if self.array is None else arrays.multiply(self.mask, self.array)
        return ScalarEdge(self.coef, array)


def _both(a: Any, b: Any) -> Any:
    """The product of two arrays, of two masks; None stands for the one that changes nothing."""
    return b if a is None or (a is b and arrays.is_mask(a)) else a if b is None else arrays.multiply(a, b)


def _scaled(coef: Any, array: Any) -> Any:
    return array if coef == 1 else arrays.scale(coef, array)


def scalar_dtype(spaces: Iterable[Space]) -> Any:
    """The dtype of spaces of one number each, where all have the same; else None."""
    dtype = None
    for space in spaces:
        if not isinstance(space, ArraySpace) or not space.known or space.size != 1 or space.dtype is None:
            return None
        if dtype is None:
            dtype = space.dtype
        elif space.dtype != dtype:
            return None
    return dtype


def as_scalar_edge(op: Any, dtype: Any) -> ScalarEdge | None:
    """An operator between spaces of one number of this dtype as a `ScalarEdge`; None where it is something else.

    Named arrays stay operators, which print their names.
    """
    if isinstance(op, Einsum):
        if not isinstance(op.coef, (int, float)) or any(op.sizes[label] != 1 for label in (*op.out, *op.into)):
            return None
        edge = ScalarEdge(op.coef, None)
        for f in op.factors:
            if f.name or f.size != 1 or not (arrays.is_mask(f.array) or f.array.dtype == dtype):
                return None
            array = arrays.reshape(f.array, ()) if f.array.shape else f.array
            edge = edge @ (ScalarEdge(1, None, array) if arrays.is_mask(array) else ScalarEdge(1, array))
        return edge
    if isinstance(op, (Identity, Reshape)):
        return ScalarEdge(1, None)
    if isinstance(op, Scaling):
        return ScalarEdge(op.c, None) if isinstance(op.c, (int, float)) else None
    if isinstance(op, Product):
        parts = [as_scalar_edge(f, dtype) for f in op.factors]
        return None if None in parts else reduce(matmul, parts)
    return None


def as_operator(single: ScalarEdge, domain: Space, codomain: Space) -> LinearOperator:
    """The operator between these spaces of one number."""
    assert isinstance(domain, ArraySpace)
    assert isinstance(codomain, ArraySpace)
    out, into = codomain.shape or (), domain.shape or ()
    if single.array is None and single.mask is None:
        op = Identity(domain) if single.coef == 1 else Scaling(single.coef, domain)
        return op if out == into else Product((Reshape(out, into, domain.dtype), op))
    labels = tuple(range(len(out) + len(into)))
    ends, starts = labels[: len(out)], labels[len(out) :]
    factors = tuple([Factor(array, ()) for array in (single.array, single.mask) if array is not None])
    return Einsum(factors, ends, starts, dict.fromkeys(labels, 1), single.coef, (domain.dtype, codomain.dtype))


@dataclass(frozen=True)
class Border:
    """A source or an output, or one box of its entries: the slice that takes the box out of leaf ``leaf``."""

    leaf: int
    box: Slice | None
    space: Space


def premultiplied(element: Any) -> Any:
    """An edge weight as the elimination starts with it: its factors multiplied together once, not in every product."""
    return contracted(element) if isinstance(element, Einsum) else element


def closed_weight(element: Any) -> Any:
    """An edge weight as products are made of it: a lazy sum multiplied out, once for all of them."""
    return closed_form(element) if isinstance(element, LinearOperator) else element


def edge_product(left: Any, right: Any) -> Any:
    """The weight of a path of two edges: operators stay in closed form.  None where it is zero."""
    operators = isinstance(left, LinearOperator) and isinstance(right, LinearOperator)
    product = compose_closed(left, right) if operators else multiply(left, right)
    return None if isinstance(product, Zero) else product


class LinearizedGraph:
    """Nodes 0 … N−1 of a system, then its borders; ``into[i][j]`` is the element of the edge j → i."""

    def __init__(self, M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix) -> None:
        self.nodes = L.shape[0]
        self._order = topological_order(self.nodes, L.row, L.name)
        self.name = L.name
        self.spaces: list[Space] = list(L.row_spaces)
        self.into: dict[int, dict[int, Any]] = {i: dict(L.row(i)) for i in range(self.nodes)}
        self.sources: dict[int, Border] = {}
        self.outputs: dict[int, Border] = {}
        self.terminal: set[int] = set()  # nodes that are outputs, or their boxes' sum
        self._output_spaces = list(S.row_spaces)
        self._source_spaces = M.col_spaces
        for (i, v), element in S.entries.items():
            if isinstance(element, Identity):  # I of any space has that of its node
                self._output_spaces[i] = unify(self._output_spaces[i], L.row_spaces[v])
        self._add_sources(M)
        self._add_outputs(S)

    @property
    def inner(self) -> list[int]:
        """The nodes to eliminate, in topological order: their numbering where that is one."""
        return [v for v in self._order if v not in self.terminal]

    def _border(self, side: dict[int, Border], leaf: int, box: Slice | None, space: Space) -> int:
        k = self.nodes + len(self.sources) + len(self.outputs)
        side[k] = Border(leaf, box, space)
        self.spaces.append(space)
        return k

    def _add_sources(self, M: OperatorMatrix) -> None:
        columns: dict[int, dict[int, Any]] = {}
        for (i, j), element in M.entries.items():
            columns.setdefault(j, {})[i] = element
        for j, column in columns.items():
            boxes = boxes_apart([_last_slice(element) for element in column.values()])
            if boxes is None:
                k = self._border(self.sources, j, None, M.col_spaces[j])
                for i, element in column.items():
                    self.into[i][k] = element
                continue
            place = {key: self._border(self.sources, j, box, box.codomain) for key, box in boxes.items()}
            for i, element in column.items():
                box = _last_slice(element)
                assert box is not None
                self.into[i][place[box.box]] = _without(element, -1)

    def _add_outputs(self, S: OperatorMatrix) -> None:
        read = {j for row in self.into.values() for j in row}
        times = Counter(v for _, v in S.entries)
        terms = Counter(i for i, _ in S.entries)
        whole: dict[int, int] = {}  # the border of an output that is not in boxes
        for (i, v), element in S.entries.items():
            space = self._output_spaces[i]
            alone = times[v] == terms[i] == 1 and v not in read and _is_identity(element)
            row = {v: element}
            boxes = None
            if alone:
                self.terminal.add(v)
                row = self.into.pop(v)
                boxes = boxes_apart([_first_slice(edge) for edge in row.values()])
            if boxes is None:
                if i not in whole:
                    whole[i] = self._border(self.outputs, i, None, space)
                self.into.setdefault(whole[i], {}).update(row)
                continue
            place = {key: self._border(self.outputs, i, box, box.codomain) for key, box in boxes.items()}
            for j, edge in row.items():
                box = _first_slice(edge)
                assert box is not None
                self.into.setdefault(place[box.box], {})[j] = _without(edge, 0)

    # ---- eliminating ----------------------------------------------------------------------------------------------
    def accumulate(self, order: Iterable[int]) -> OperatorMatrix:
        """The Jacobian, from sources to outputs: what is left when the nodes between are eliminated in this order."""
        dtype = scalar_dtype([self.spaces[k] for i, row in self.into.items() for k in (i, *row)])
        scalars = None if dtype is None else self._as_singles(dtype)
        if scalars is None:
            weights = {i: {j: premultiplied(element) for j, element in row.items()} for i, row in self.into.items()}
            graph = EliminationGraph(weights, edge_product, closed=closed_weight)
        else:
            graph = EliminationGraph(scalars, matmul, lambda a, b: a.plus(b, dtype))
        for v in order:
            if v not in self.terminal:
                graph.eliminate(v)
        left = graph.edges()
        if scalars is not None:
            left = {(i, j): as_operator(single, self.spaces[j], self.spaces[i]) for (i, j), single in left.items()}
        return self._assembled(left)

    def _as_singles(self, dtype: Any) -> dict[int, dict[int, Any]] | None:
        """The edges as numbers; None where one is more than that."""
        into: dict[int, dict[int, Any]] = {}
        for i, row in self.into.items():
            into[i] = {}
            for j, element in row.items():
                single = as_scalar_edge(element, dtype)
                if single is None:
                    return None
                into[i][j] = single
        return into

    def _assembled(self, left: dict[tuple[int, int], Any]) -> OperatorMatrix:
        rows, columns = self._output_spaces, self._source_spaces
        tiles: dict[tuple[int, int], list[Tile]] = {}
        entries: dict[tuple[int, int], Any] = {}
        for (i, j), element in left.items():
            if i not in self.outputs or j not in self.sources:
                raise ValueError(f"the elimination left an edge between {self.label(j)} and {self.label(i)}.")
            end, start = self.outputs[i], self.sources[j]
            if end.box is None and start.box is None:
                entries[end.leaf, start.leaf] = element
            else:
                tiles.setdefault((end.leaf, start.leaf), []).append(Tile(end.box, start.box, element))
        entries |= {place: tiled(parts) for place, parts in tiles.items()}
        return OperatorMatrix(entries, (len(rows), len(columns)), rows, columns)

    def signature(self) -> Any:
        """What two networks share that one plan serves: their spaces and edges."""
        edges = tuple((i, *sorted(row)) for i, row in sorted(self.into.items()))
        return tuple(str(space) for space in self.spaces), edges

    def label(self, k: int) -> str:
        """A node or border as messages call it."""
        if k < self.nodes:
            return self.name(k)
        border = self.sources.get(k) or self.outputs[k]
        return f"{'source' if k in self.sources else 'output'} {border.leaf}"


def _is_identity(element: Any) -> bool:
    return isinstance(element, Identity) or (is_number(element) and bool(element == 1))


def _last_slice(element: Any) -> Slice | None:
    """The slice that an edge begins with, seen from its source."""
    if not isinstance(element, LinearOperator) or element.domain == ANY:
        return None
    trail = split_ends(element)
    last = (*trail.lead, *trail.trail)[-1:] if trail.middle is None else trail.trail[-1:]
    return last[0] if last and isinstance(last[0], Slice) and not last[0].transposed else None


def _first_slice(element: Any) -> Slice | None:
    """The slice whose transpose an edge ends with, seen from its source."""
    if not isinstance(element, LinearOperator) or element.domain == ANY:
        return None
    lead = split_ends(element).lead[:1]
    first = lead[0].transpose() if lead and isinstance(lead[0], Slice) and lead[0].transposed else None
    return first if isinstance(first, Slice) else None


def _without(element: Any, end: int) -> LinearOperator:
    """The edge without the slice at one end: its last factor (−1) or its first (0)."""
    factors = element.factors if isinstance(element, Product) else (element,)
    rest = factors[:-1] if end else factors[1:]
    if rest:
        return rest[0] if len(rest) == 1 else Product(rest)
    return Identity(element.codomain if end else element.domain)
