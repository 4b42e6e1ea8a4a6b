"""Weighted directed acyclic graphs, and the sums over their paths."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from backsolve.algebra.elements import (
    SemiringScalar,
    add,
    describe,
    is_one,
    is_zero,
    multiply,
    one_like,
    refuse_non_elements,
    short,
)
from backsolve.display import Showable, plural
from backsolve.elimination.graph import eliminate
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import CycleError, all_float, substitute, topological_order
from backsolve.operators import I, O

__all__ = ["Graph"]

Node = Hashable


class Graph(Showable):
    """A directed acyclic graph with a weight on every edge.

    ``edges`` maps (u, v) to the weight of the edge u → v, the nodes any hashable names; or it is a sequence of such
    pairs, a NetworkX DiGraph (its ``weight`` attributes, 1 where absent), or a SciPy sparse matrix (entry (u, v) is the
    weight of u → v).  A path's product is that of its weights from source to sink, left to right, and never reordered;
    the empty path has weight one.

    Raises `CycleError` naming a cycle, `ValueError` for an edge given twice, `TypeError` for what is no edge,
    `AlgebraError` for a weight that cannot be multiplied.

    Example:
        >>> g = Graph({(1, 3): 2, (2, 3): 5, (3, 4): 3, (4, 5): 7})
        >>> g.path_weights(source=1, sink=5)
        42
        >>> g.path_weights(sink=5)
        {1: 42, 2: 105}
    """

    def __init__(self, edges: Any) -> None:
        if hasattr(edges, "tocsr"):
            self.nodes, self._matrix = _from_scipy(edges)
        else:
            # A DiGraph also has nodes without edges.
            alone = edges.nodes if hasattr(edges, "is_directed") else ()
            self.nodes, self._matrix = _from_edges(_edge_pairs(edges), alone)
        self._index: dict[Node, int] | None = None

    @cached_property
    def _compiled(self) -> bool:
        """Whether compiled code may walk the graph: it multiplies absent paths' zeros by every weight, so NaN and
        infinity, which would spread to ends they do not reach, go the general way.
        """
        numeric = self._matrix.numeric
        if numeric is not None:
            return bool(np.all(np.isfinite(numeric.csr.data)))
        weights = self._matrix.entries.values()
        return bool(weights) and all_float(weights) and bool(np.all(np.isfinite(np.array(list(weights)))))

    def __repr__(self) -> str:
        edges = len(self._matrix.entries) if self._matrix.numeric is None else self._matrix.numeric.csr.nnz
        ends = f"{plural(len(self.sources), 'source')}, {plural(len(self.sinks), 'sink')}"
        return f"Graph of {plural(len(self.nodes), 'node')} and {plural(edges, 'edge')}, {ends}"

    def matrix(self) -> OperatorMatrix:
        """Return Lᵀ: entry (u, v) is the weight of u → v, rows and columns in the order of ``nodes``, which is
        topological, so that Lᵀ is strictly upper triangular.
        """
        return self._matrix

    @cached_property
    def sources(self) -> tuple[Node, ...]:
        """The nodes no edge leads to."""
        return tuple(self.nodes[i] for i in self._source_places)

    @cached_property
    def sinks(self) -> tuple[Node, ...]:
        """The nodes no edge leads away from."""
        return tuple(self.nodes[i] for i in self._sink_places)

    @cached_property
    def _source_places(self) -> list[int]:
        places: list[int] = np.flatnonzero(self._degrees(1) == 0).tolist()
        return places

    @cached_property
    def _sink_places(self) -> list[int]:
        places: list[int] = np.flatnonzero(self._degrees(0) == 0).tolist()
        return places

    def _degrees(self, axis: int) -> np.ndarray[Any, Any]:
        """Number of entries by row (axis 0) or by column (axis 1) of Lᵀ."""
        numeric = self._matrix.numeric
        n = len(self.nodes)
        if numeric is not None:
            csr = numeric.csr
            return np.diff(csr.indptr) if axis == 0 else np.bincount(csr.indices, minlength=n)
        counts = np.zeros(n, dtype=int)
        for place in self._matrix.entries:
            counts[place[axis]] += 1
        return counts

    def _position(self, node: Node, word: str) -> int:
        if self._index is None:
            self._index = {name: i for i, name in enumerate(self.nodes)}
        try:
            return self._index[node]
        except (KeyError, TypeError):  # the latter where it is not hashable
            some = ", ".join(map(repr, self.nodes[:5])) + (", …" if len(self.nodes) > 5 else "")
            listed = f" is not among the graph's {len(self.nodes)} nodes: {some}." if some else ": the graph has no nodes."
            raise KeyError(f"{word} {node!r}{listed}") from None

    def path_weights(
        self, source: Node | None = None, sink: Node | None = None, *, order: str | Sequence[Node] = "auto"
    ) -> Any:
        """Return sums over all paths of the products of their edge weights:  S₀ᵀ (I − Lᵀ)⁻¹ S₁.

        With both ends given: the weight.  With ``sink``: a mapping over the sources; with ``source``: over the sinks;
        with neither: over (source, sink) pairs.  Ends that no path joins have weight 0 (`O` where the weights are no
        numbers).

        ``order`` is "reverse" (back substitution), "forward" (forward substitution), a sequence naming every node with
        edges to and from it that is no end (eliminated in that order), or "auto"; all give the same.
        Raises `KeyError` for an unknown node, `ValueError` for an unknown or incomplete order.
        Cost: one product and one sum an edge for each given end; for an elimination, in-degree × out-degree a node.
        """
        starts: Sequence[Node] = (source,) if source is not None else self.sources
        ends: Sequence[Node] = (sink,) if sink is not None else self.sinks
        rows = self._source_places if source is None else [self._position(source, "source")]
        cols = self._sink_places if sink is None else [self._position(sink, "sink")]
        by_row: Sequence[Sequence[Any]]  # the weights, a list for each start
        if not isinstance(order, str) and isinstance(order, Iterable):
            by_row = self._by_elimination(rows, cols, order)
        elif order == "forward" or (order == "auto" and len(rows) < len(cols)):
            by_row = [self._along(self._matrix.T, i, cols, flip=True) for i in rows]
        elif order in ("reverse", "auto"):
            by_col = [self._along(self._matrix, j, rows, flip=False) for j in cols]
            if sink is not None and source is None:
                return dict(zip(starts, by_col[0], strict=True))
            by_row = list(zip(*by_col, strict=True)) if by_col else [()] * len(rows)
        else:
            raise ValueError(f"unknown order {order!r}; use 'auto', 'forward', 'reverse' or a sequence of nodes.")
        if source is not None:
            return by_row[0][0] if sink is not None else dict(zip(ends, by_row[0], strict=True))
        if sink is not None:
            return {u: weights[0] for u, weights in zip(starts, by_row, strict=True)}
        return {(u, v): w for u, weights in zip(starts, by_row, strict=True) for v, w in zip(ends, weights, strict=True)}

    def _along(self, Lt: OperatorMatrix, end: int, others: Sequence[int], *, flip: bool) -> list[Any]:
        """One substitution with the unit vector of ``end`` on the right: x = Lᵀ x + e, or its mirror image.

        Returns x at the others.
        """
        n = len(self.nodes)
        if self._compiled:
            e = np.zeros(n)
            e[end] = 1.0
            values: list[Any] = substitute(Lt, e)[others].tolist()
            return values
        b: list[Any] = [O] * n
        b[end] = I
        x = substitute(_mirrored(self._matrix) if flip else Lt, [_Mirror(v) for v in b] if flip else b)
        return [self._number(x[i].value if flip else x[i]) for i in others]

    def _number(self, weight: Any) -> Any:
        """The universal one and zero in the weights' own algebra, where they have it."""
        if not (is_one(weight) or is_zero(weight)):
            return weight
        sample = next(iter(self._matrix.entries.values()), 1)
        if hasattr(sample, "codomain") or getattr(sample, "shape", None):
            return weight
        one = one_like(sample)
        zero = sample.zero() if isinstance(sample, SemiringScalar) else one - one
        return one if is_one(weight) else zero

    def _by_elimination(self, rows: list[int], cols: list[int], order: Iterable[Node]) -> list[list[Any]]:
        """Borders the graph with one new source for each start and one new sink for each end, then eliminates."""
        named = [self._position(node, "node") for node in order]
        ends = {*rows, *cols}
        inner = set(np.flatnonzero((self._degrees(0) > 0) & (self._degrees(1) > 0)).tolist())
        missing = sorted(inner - ends - set(named))
        extra = [i for i in named if i in ends]
        if missing or extra:
            word = "misses" if missing else "names the end"
            node = self.nodes[(missing or extra)[0]]
            raise ValueError(f"the order {word} {node!r}; it must name every node between the ends, once.")
        n = len(self.nodes)
        entries = dict(self._matrix.entries)
        entries |= {(n + k, i): I for k, i in enumerate(rows)}
        total = n + len(rows) + len(cols)
        entries |= {(j, n + len(rows) + k): I for k, j in enumerate(cols)}
        names = [repr(node) for node in self.nodes]
        bordered = OperatorMatrix(entries, (total, total), names=[*names, *["start"] * len(rows), *["end"] * len(cols)])
        left = eliminate(bordered, [*named, *sorted(ends)])
        first = n + len(rows)
        return [[self._number(left.entries.get((n + p, first + q), O)) for q in range(len(cols))] for p in range(len(rows))]


class _Mirror:
    """An element of the opposite algebra: a · b is b a.  Forward substitution is back substitution on mirror images."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __add__(self, other: _Mirror) -> _Mirror:
        return _Mirror(add(self.value, other.value))

    def __mul__(self, other: _Mirror) -> _Mirror:
        return _Mirror(multiply(other.value, self.value))


def _mirrored(Lt: OperatorMatrix) -> OperatorMatrix:
    return OperatorMatrix({(j, i): _Mirror(w) for (i, j), w in Lt.entries.items()}, Lt.shape)


def _edge_pairs(edges: Any) -> Iterable[tuple[tuple[Node, Node], Any]]:
    if isinstance(edges, Mapping):
        return edges.items()
    if hasattr(edges, "edges") and hasattr(edges, "is_directed"):
        if not edges.is_directed() or edges.is_multigraph():
            raise TypeError(f"Graph takes a DiGraph, got a {type(edges).__name__}; direct and merge its edges first.")
        return [((u, v), data.get("weight", 1)) for u, v, data in edges.edges(data=True)]
    if isinstance(edges, str) or hasattr(edges, "shape") or not isinstance(edges, Iterable):
        raise TypeError(
            "Graph takes a mapping {(u, v): weight}, pairs ((u, v), weight), a NetworkX DiGraph or a SciPy sparse matrix "
            f"(of an array A: scipy.sparse.csr_array(A)), got {describe(edges)}."
        )
    return edges


def _from_edges(
    pairs: Iterable[tuple[tuple[Node, Node], Any]], alone: Iterable[Node] = ()
) -> tuple[Sequence[Node], OperatorMatrix]:
    index: dict[Node, int] = {}
    weights: dict[tuple[int, int], Any] = {}
    ends: Any
    for k, pair in enumerate(pairs):
        try:
            ends, weight = pair
            if isinstance(ends, str):  # whose letters are no nodes
                raise TypeError
            u, v = ends
            place = (index.setdefault(u, len(index)), index.setdefault(v, len(index)))
        except (TypeError, ValueError):
            raise TypeError(f"edge {k} is {short(pair)}, not ((u, v), weight) with hashable nodes u and v.") from None
        if place in weights:
            raise ValueError(f"the edge {u!r} → {v!r} is given twice; add the two weights first.")
        weights[place] = weight
    for node in alone:
        index.setdefault(node, len(index))
    names = list(index)
    refuse_non_elements(weights, lambda place: f"the weight of {names[place[0]]!r} → {names[place[1]]!r}")
    before: list[list[tuple[int, Any]]] = [[] for _ in names]
    for (u_i, v_i), weight in weights.items():
        before[v_i].append((u_i, weight))
    order = topological_order(len(names), before.__getitem__, lambda i: repr(names[i]))
    rank = [0] * len(names)
    for k, i in enumerate(order):
        rank[i] = k
    entries = {(rank[u], rank[v]): weight for (u, v), weight in weights.items()}
    nodes = tuple(names[i] for i in order)
    return nodes, OperatorMatrix(entries, (len(nodes), len(nodes)), names=[repr(node) for node in nodes])


def _from_scipy(sparse: Any) -> tuple[Sequence[Node], OperatorMatrix]:
    if sparse.shape[0] != sparse.shape[1]:
        raise ValueError(f"the matrix of a graph is square, got {sparse.shape[0]} × {sparse.shape[1]}.")
    M = OperatorMatrix.from_scipy(sparse)
    assert M.numeric is not None
    n = sparse.shape[0]
    if M.numeric.triangle is False or sparse.nnz == 0:
        return range(n), M
    if M.numeric.has_diagonal:
        loop = int(np.argmax(sparse.diagonal() != 0))
        raise CycleError(f"node {loop} has an edge to itself; a graph of paths has none.")
    after = M.numeric.transposed().csr
    starts, columns = after.indptr.tolist(), after.indices.tolist()
    order = np.asarray(
        topological_order(n, lambda i: [(j, None) for j in columns[starts[i] : starts[i + 1]]], lambda i: f"node {i}")
    )
    return tuple(order.tolist()), OperatorMatrix.from_scipy(M.numeric.csr[order][:, order])
