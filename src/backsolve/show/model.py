"""What every picture is drawn from: a System, a Graph or an OperatorMatrix as vertices, edges and their cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backsolve.algebra.elements import is_one, short
from backsolve.algebra.spaces import ANY, Space
from backsolve.display import file_of, plural
from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import CycleError, topological_order
from backsolve.operators import Identity, LinearOperator
from backsolve.show.kinds import kind_of, label_of, minus
from backsolve.show.numbers import number_of, told, written
from backsolve.show.symbols import Symbols, short_names
from backsolve.system.system import System

__all__ = ["Edge", "Picture", "Vertex", "picture_of", "renumbered", "spaces_of"]

ENTRIES = 200_000  # of a matrix that is drawn block by block
VALUES = 2_000  # edges whose numbers are read


@dataclass(frozen=True)
class Vertex:
    """A source, a node, a sink or an output: its name, what it computes, the space of its value and its line of code."""

    name: str
    role: str  # "source", "node", "sink" (a Graph's) or "output" (a System's)
    text: str = ""
    space: str = ""
    size: int = 1
    place: str = ""  # file:line:column
    function: str = ""
    path: str = ""  # of the file, for looking its lines up; no picture shows it
    at: str = ""  # of a source, its value


@dataclass(frozen=True)
class Edge:
    """An edge, the operator on it, and what stands in its cell of the matrix."""

    tail: int
    head: int
    label: str
    kind: str
    cell: str
    element: Any = field(default=None, compare=False, repr=False)
    value: float | None = None  # between two numbers
    symbol: str = ""  # of the local derivative


@dataclass(frozen=True)
class Picture:
    """Vertices, edges and the matrix with a row for each of ``rows`` and a column for each of ``cols``.

    Vertices are in a topological order, ``nodes`` maps what an order of elimination may name to the vertices, and
    ``diagonal`` holds label and kind of the diagonal's cells.
    """

    title: str
    about: str
    formula: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    diagonal: Mapping[int, tuple[str, str]]
    nodes: Mapping[Any, int]
    subject: Any = None
    notes: tuple[str, ...] = ()
    ends: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # a System's vertices, "source" and "output"
    origin: tuple[int, ...] = ()  # the number of each vertex in a Graph's ``nodes``


def picture_of(thing: Any, title: str = "", names: Sequence[str] | None = None) -> Picture:
    """The picture of a System, a Graph or an OperatorMatrix; ``names`` are those of a System's sources.

    Raises `TypeError` for anything else, `ValueError` where it is too large to be drawn block by block and for names of
    what is no System.
    """
    if not isinstance(title, str | None):
        raise TypeError(f"title must be text, got {title!r}.")
    if isinstance(thing, System):
        _refuse_too_many(len(thing.M.entries) + len(thing.L.entries), "this System")
        return _of_system(thing, title or "System", names)
    if names is not None:
        raise ValueError(f"names are those of the sources of a System, got them for a {type(thing).__name__}.")
    if isinstance(thing, Graph):
        _refuse_too_many(_count(thing.matrix()), "this Graph")
        return _of_graph(thing, title or "Graph")
    if isinstance(thing, OperatorMatrix):
        _refuse_too_many(_count(thing), "this OperatorMatrix")
        return _of_matrix(thing, title or "OperatorMatrix")
    raise TypeError(f"show takes a System, a Graph, an OperatorMatrix or a Plan, got {type(thing).__name__}.")


def _count(A: OperatorMatrix) -> int:
    return len(A.entries) if A.numeric is None else int(A.numeric.csr.nnz)


def _refuse_too_many(count: int, what: str) -> None:
    if count > ENTRIES:
        raise ValueError(
            f"{what} has {count:,} entries, more than the {ENTRIES:,} that are drawn block by block; "
            "use spy(), which draws millions as one image."
        )


# ---- a System ------------------------------------------------------------------------------------------------------
def _of_system(system: System, title: str, names: Sequence[str] | None) -> Picture:
    M, L, S = system.M, system.L, system.sinks
    n, p, q = L.shape[0], M.shape[1], S.shape[0]
    if names is not None and (not isinstance(names, list | tuple) or len(names) != p):
        got = len(names) if isinstance(names, list | tuple) else short(names)
        raise ValueError(f"names must hold one name for each of the {p} sources, got {got}.")
    into, inside, out = spaces_of(system)
    point = getattr(system, "point", None)
    if names is None and point is not None:
        names = list(point.names)
    at = [told(x) for x in point.values] if point is not None and point.values else [""] * p
    sources = [replace(_end("p", j, "source", into[j], names), at=at[j]) for j in range(p)]
    nodes = [_node(f"x{i}", L.name(i), inside[i]) for i in range(n)]
    outputs = [_end("y", k, "output", out[k], None) for k in range(q)]
    operations = getattr(L.names, "operation", None)
    letters = short_names(names) if names else [f"p{j}" for j in range(p)]
    symbols = None if operations is None else Symbols(operations, n, letters)
    known = len(M.entries) + len(L.entries) <= VALUES
    edges = [_edge(j, p + i, x, (symbols, i, -1 - j), known) for (i, j), x in M.entries.items()]
    edges += [_edge(p + j, p + i, x, (symbols, i, j), known, inner=True) for (i, j), x in L.entries.items()]
    edges += [_edge(p + j, p + n + k, x, (None, k, j), known) for (k, j), x in S.entries.items()]
    about = (
        f"{plural(p, 'source')}, {plural(n, 'node')}, {plural(q, 'output')}, "
        f"{plural(len(M.entries) + len(L.entries), 'edge')}"
    )
    inner = tuple(range(p, p + n))
    return _sorted(
        Picture(
            title,
            about,
            "dx = M dp + L dx,   dy = S dx",
            (*sources, *nodes, *outputs),
            tuple(edges),
            (*inner, *range(p + n, p + n + q)),
            (*range(p), *inner),
            dict.fromkeys(inner, ("I", "identity")),
            {i: p + i for i in range(n)},
            system,
            ends={"source": tuple(range(p)), "output": tuple(range(p + n, p + n + q))},
        )
    )


def _edge(
    tail: int, head: int, element: Any, derivative: tuple[Symbols | None, int, int], known: bool, *, inner: bool = False
) -> Edge:
    """An edge of a System: between numbers with its number, and where it is known with the derivative that it is."""
    label, kind, (symbols, node, by) = label_of(element), kind_of(element), derivative
    value = number_of(element) if known and isinstance(element, LinearOperator) else None
    symbol = (symbols and symbols.derivative(node, by)) or ""
    cell = label
    if value is not None:
        cell = written(value)
        label = f"{symbol} = {cell}" if symbol and not re.fullmatch(r"−?[\d.]+", symbol) else cell
        kind = kind if isinstance(element, Identity) else "number"
    elif symbol and kind == "entrywise":
        label = cell = f"({symbol})ᴴ"
    elif symbol and _MULTIPLE.fullmatch(label):
        label = cell = symbol if element.domain.size == 1 else f"{symbol if symbol.isalnum() else f'({symbol})'}·I"
    elif symbols and kind in ("product", "sum"):
        label = cell = symbols.factor(node, by, _ranks(element)) or label
    if value is None and isinstance(element, int | float) and not isinstance(element, bool):
        value = float(element)
    return Edge(tail, head, _signed(label), kind, _signed(minus(cell) if inner else cell), element, value, symbol)


_MULTIPLE = re.compile(r"(−|[\d.]+·)?c·I( ∘ c·I)*")  # of the identity, by numbers that are not known


def _signed(text: str) -> str:
    """A label whose negative numbers have a minus sign, as its other negatives do."""
    return re.sub(r"(^|= )-(?=\d)", r"\1−", text)


def _ranks(element: LinearOperator) -> tuple[int, int]:
    """The numbers of axes of domain and codomain."""
    first, second = (len(getattr(space, "shape", None) or ()) for space in (element.domain, element.codomain))
    return first, second


def spaces_of(system: System) -> tuple[list[Space], list[Space], list[Space]]:
    """The spaces of sources, nodes and outputs, each from all the matrices that know of it."""
    M, L, S = system.M, system.L, system.sinks
    nodes = [_known(parts) for parts in zip(M.row_spaces, L.row_spaces, L.col_spaces, S.col_spaces, strict=True)]
    outputs = list(S.row_spaces)
    for (k, j), element in S.entries.items():
        if outputs[k] == ANY and is_one(element):
            outputs[k] = nodes[j]
    return list(M.col_spaces), nodes, outputs


def _known(spaces: Sequence[Space]) -> Space:
    return next((space for space in spaces if space.known), spaces[0])


def _inner(tail: int, head: int, element: Any) -> Edge:
    label = label_of(element)
    value = None if isinstance(element, LinearOperator) else number_of(element)
    return Edge(tail, head, _signed(label), kind_of(element), minus(label), element, value)


def _end(letter: str, k: int, role: str, space: Space, names: Sequence[str] | None) -> Vertex:
    return Vertex(f"{letter}{k}", role, str(names[k]) if names else "", _space(space), _size(space))


_NAME = re.compile(
    r"(?P<text>\S.*?) \((?P<path>.*?):(?P<line>\d+)(?::(?P<column>\d+))?(?: \((?P<function>[^()]*(?:\(.*\))?)\))?\)$"
)


def _node(name: str, full: str, space: Space, role: str = "node") -> Vertex:
    """A vertex from a matrix's name of its row: ``tanh (/path/net.py:12:5 (layer))``, or any text."""
    match = _NAME.match(full)
    if match is None:
        text = "" if full == f"row {name[1:]}" else full
        return Vertex(name, role, text, _space(space), _size(space))
    path = match["path"]
    file = re.split(r"[/\\]", path)[-1]
    place = f"{file}:{match['line']}" + (f":{match['column']}" if match["column"] else "")
    return Vertex(name, role, match["text"], _space(space), _size(space), place, match["function"] or "", file_of(path))


def _space(space: Space) -> str:
    return "" if space == ANY else str(space)


def _size(space: Space) -> int:
    return max(int(space.size), 1) if space.known else 1


# ---- a Graph -------------------------------------------------------------------------------------------------------
def _of_graph(graph: Graph, title: str) -> Picture:
    Lt = graph.matrix()
    starts, ends = set(graph.sources), set(graph.sinks)
    vertices = []
    for i, node in enumerate(graph.nodes):
        role = "source" if node in starts else "sink" if node in ends else "node"
        vertices.append(Vertex(_cut(str(node)), role, "", _space(Lt.row_spaces[i]), _size(Lt.row_spaces[i])))
    edges = tuple(_inner(i, j, x) for (i, j), x in Lt.entries.items())
    everything = tuple(range(len(vertices)))
    about = (
        f"{plural(len(vertices), 'node')}, {plural(len(edges), 'edge')}, "
        f"{plural(len(starts), 'source')}, {plural(len(ends), 'sink')}"
    )
    inner = {node: i for i, node in enumerate(graph.nodes) if vertices[i].role == "node"}
    return _sorted(
        Picture(
            title,
            about,
            "path weights = S₀ᵀ (I − Lᵀ)⁻¹ S₁",
            tuple(vertices),
            edges,
            everything,
            everything,
            dict.fromkeys(everything, ("1", "identity")),
            inner,
            graph,
            origin=everything,
        )
    )


def _cut(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


# ---- an OperatorMatrix ---------------------------------------------------------------------------------------------
def _of_matrix(A: OperatorMatrix, title: str) -> Picture:
    about = f"{A.shape[0]:,} × {A.shape[1]:,} blocks, {plural(len(A.entries), 'entry')}"
    off = {place: x for place, x in A.entries.items() if place[0] != place[1]}
    on = {i: x for (i, j), x in A.entries.items() if i == j}
    square = A.shape[0] == A.shape[1] and all(a in (ANY, b) or b == ANY for a, b in zip(A.row_spaces, A.col_spaces))
    if not square or not off or (on and len(on) < A.shape[0]) or not _triangular(A, off):
        note = "not triangular under any numbering: drawn as the map from its columns to its rows" if square and off else ""
        return _as_map(A, title, about, note)
    n = A.shape[0]
    vertices = tuple(_node(f"x{i}", A.name(i), A.row_spaces[i]) for i in range(n))
    if on:  # A = D − N: the cells are A's own, the edges those of N
        edges = [Edge(j, i, minus(label_of(x)), kind_of(x), label_of(x), x) for (i, j), x in off.items()]
        diagonal = {i: (label_of(x), kind_of(x)) for i, x in on.items()}
    else:
        edges = [_inner(j, i, x) for (i, j), x in off.items()]
        diagonal = dict.fromkeys(range(n), ("I", "identity"))
    has_in, has_out = {e.head for e in edges}, {e.tail for e in edges}
    inner = {i: i for i in range(n) if i in has_in and i in has_out}
    everything = tuple(range(n))
    formula = "(I − L) x = b" if not on else "A x = b"
    return _sorted(Picture(title, about, formula, vertices, tuple(edges), everything, everything, diagonal, inner, A))


def _triangular(A: OperatorMatrix, off: Mapping[tuple[int, int], Any]) -> bool:
    into: list[list[tuple[int, Any]]] = [[] for _ in range(A.shape[0])]
    for i, j in off:
        into[i].append((j, None))
    try:
        topological_order(A.shape[0], into.__getitem__, A.name)
    except CycleError:
        return False
    return True


def _as_map(A: OperatorMatrix, title: str, about: str, note: str) -> Picture:
    m, n = A.shape
    columns = tuple(_end("p", j, "source", A.col_spaces[j], None) for j in range(n))
    rows = tuple(_node(f"y{i}", A.name(i), A.row_spaces[i], "output") for i in range(m))
    edges = tuple(Edge(j, n + i, label_of(x), kind_of(x), label_of(x), x) for (i, j), x in A.entries.items())
    notes = (note,) if note else ()
    return Picture(title, about, "y = A p", columns + rows, edges, tuple(range(n, n + m)), tuple(range(n)), {}, {}, A, notes)


# ---- numbering -----------------------------------------------------------------------------------------------------
def _sorted(picture: Picture) -> Picture:
    """The picture with its vertices in a topological order: their own where it is one."""
    n = len(picture.vertices)
    if all(e.tail < e.head for e in picture.edges):
        return picture
    into: list[list[tuple[int, Any]]] = [[] for _ in range(n)]
    for e in picture.edges:
        into[e.head].append((e.tail, None))
    order = topological_order(n, into.__getitem__, lambda i: picture.vertices[i].name)
    sorted_picture = renumbered(picture, order)
    rows = set(sorted_picture.rows)
    cols = [v for v in sorted_picture.cols if v not in rows] + sorted(v for v in sorted_picture.cols if v in rows)
    return replace(sorted_picture, rows=tuple(sorted(sorted_picture.rows)), cols=tuple(cols))


def renumbered(picture: Picture, order: Sequence[int]) -> Picture:
    """The picture whose vertex k is ``order[k]`` of this one."""
    rank = [0] * len(order)
    for k, i in enumerate(order):
        rank[i] = k

    def moved(vertices: Iterable[int]) -> tuple[int, ...]:
        return tuple(rank[v] for v in vertices)

    return Picture(
        picture.title,
        picture.about,
        picture.formula,
        tuple(picture.vertices[i] for i in order),
        tuple(replace(e, tail=rank[e.tail], head=rank[e.head]) for e in picture.edges),
        moved(picture.rows),
        moved(picture.cols),
        {rank[i]: cell for i, cell in picture.diagonal.items()},
        {node: rank[i] for node, i in picture.nodes.items()},
        picture.subject,
        picture.notes,
        {word: tuple(rank[v] for v in vertices) for word, vertices in picture.ends.items()},
        tuple(picture.origin[i] for i in order) if picture.origin else (),
    )
