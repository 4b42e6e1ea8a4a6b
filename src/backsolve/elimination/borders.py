"""The graph an elimination works on: a system between its borders.

Sources and outputs stay, the nodes between are eliminated.  An output that is one node read by nobody else stands for
that node, which so needs no elimination.  A source that is only read in boxes of its entries, or an output that is only
put together from such boxes, is one border node for each box: what lies between is then as sparse as the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from operator import matmul
from typing import Any

from backsolve.algebra.elements import is_number, multiply
from backsolve.algebra.spaces import ANY, Space, unify
from backsolve.elimination.graph import EliminationGraph
from backsolve.elimination.scalar_edges import as_operator, as_single, single_dtype
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import topological_order
from backsolve.operators import Einsum, LinearOperator, Product
from backsolve.operators.closed_form import settled_product
from backsolve.operators.commute import parted
from backsolve.operators.einsum_rules import merged
from backsolve.operators.identity import Identity, Zero
from backsolve.operators.slices import Slice, disjoint
from backsolve.operators.tiled import Mosaic, Tile

__all__ = ["Border", "LinearizedGraph", "edge_product", "premultiplied"]


@dataclass(frozen=True)
class Border:
    """A source or an output, or one box of its entries: the slice that takes the box out of leaf ``leaf``."""

    leaf: int
    box: Slice | None
    space: Space


def premultiplied(element: Any) -> Any:
    """An edge weight as the elimination starts with it: its factors multiplied together once, not in every product."""
    return merged(element) if isinstance(element, Einsum) else element


def edge_product(left: Any, right: Any) -> Any:
    """The weight of a path of two edges: operators stay in closed form.  None where it is zero."""
    operators = isinstance(left, LinearOperator) and isinstance(right, LinearOperator)
    product = settled_product(left, right) if operators else multiply(left, right)
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
            boxes = _boxes([_last_slice(element) for element in column.values()])
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
                boxes = _boxes([_first_slice(edge) for edge in row.values()])
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
        dtype = single_dtype([self.spaces[k] for i, row in self.into.items() for k in (i, *row)])
        scalars = None if dtype is None else self._as_singles(dtype)
        if scalars is None:
            weights = {i: {j: premultiplied(element) for j, element in row.items()} for i, row in self.into.items()}
            graph = EliminationGraph(weights, edge_product)
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
                single = as_single(element, dtype)
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
        for (i, j), parts in tiles.items():
            entries[i, j] = Mosaic(columns[j], rows[i], tuple(parts))
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


def _boxes(slices: list[Slice | None]) -> dict[Any, Slice] | None:
    """The distinct boxes of some slices, by their corners; None where one is no slice or two overlap."""
    found: dict[Any, Slice] = {}
    for s in slices:
        if s is None:
            return None
        found.setdefault(s.box, s)
    boxes = sorted(found.values(), key=lambda box: box.starts)
    if all(len(box.starts) == 1 for box in boxes):  # pieces of a vector: each must end before the next one starts
        pairs = list(pairwise(boxes))
    else:
        pairs = [(p, q) for n, p in enumerate(boxes) for q in boxes[:n]]
    return found if boxes and all(disjoint(p, q) for p, q in pairs) else None


def _last_slice(element: Any) -> Slice | None:
    """The slice that an edge begins with, seen from its source."""
    if not isinstance(element, LinearOperator) or element.domain == ANY:
        return None
    trail = parted(element)
    last = (*trail.lead, *trail.trail)[-1:] if trail.middle is None else trail.trail[-1:]
    return last[0] if last and isinstance(last[0], Slice) and not last[0].transposed else None


def _first_slice(element: Any) -> Slice | None:
    """The slice whose transpose an edge ends with, seen from its source."""
    if not isinstance(element, LinearOperator) or element.domain == ANY:
        return None
    lead = parted(element).lead[:1]
    found = lead[0].transpose() if lead and isinstance(lead[0], Slice) and lead[0].transposed else None
    return found if isinstance(found, Slice) else None


def _without(element: Any, end: int) -> LinearOperator:
    """The edge without the slice at one end: its last factor (−1) or its first (0)."""
    factors = element.factors if isinstance(element, Product) else (element,)
    kept = factors[:-1] if end else factors[1:]
    if kept:
        return kept[0] if len(kept) == 1 else Product(kept)
    return Identity(element.codomain if end else element.domain)
