"""Orders of elimination step by step, and what each costs: counted as plans count."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from backsolve.algebra.arrays import is_array
from backsolve.algebra.spaces import ANY
from backsolve.elimination.borders import LinearizedGraph
from backsolve.elimination.paths import Graph
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import LinearOperator
from backsolve.operators.einsum import Einsum, Factor
from backsolve.planning.plan import Plan, make_plans
from backsolve.planning.search import BitGraph
from backsolve.planning.structures import Structures, structures_of
from backsolve.show.model import Picture
from backsolve.system.system import System

FORWARD, REVERSE = "forward substitution", "back substitution"
MARKOWITZ, PLANNED = "Markowitz order", "planned order"
WORDS = {"forward": FORWARD, "reverse": REVERSE, "markowitz": MARKOWITZ, "auto": PLANNED}

MOST = 100_000  # products of one order, beyond which nothing is planned

__all__ = ["FORWARD", "MARKOWITZ", "PLANNED", "REVERSE", "Counting", "Run", "degrees", "runs", "scalar_output"]


@dataclass(frozen=True)
class Run:
    """An order of elimination: its name, its vertices, the multiplications of each step (none: not counted), the real cost.

    ``method`` is "columns" or "rows" where the plan of this order finds plain substitution cheaper.
    """

    name: str
    order: tuple[int, ...]
    costs: tuple[int, ...] = ()
    cost: float | None = None
    method: str = "elimination"

    @property
    def total(self) -> int:
        """Multiplications of all steps."""
        return sum(self.costs)


class Counting(NamedTuple):
    """What orders of one's own are counted with: the structures, and the vertex of each node of their graph."""

    structures: Structures
    vertex: dict[int, int]


class _Network(NamedTuple):
    graph: LinearizedGraph
    vertex: dict[int, int]  # of each node
    dense: bool


def runs(picture: Picture, order: Any = None, name: str = "") -> tuple[list[Run], Counting | None]:
    """Back and forward substitution, the Markowitz order and the plan's, after the order given, if any; and the counting.

    ``order`` is a Plan, the name of one, or a sequence of nodes.  Where an output is one number back substitution is first.
    Multiplications are those of plans.  Where an order takes more than 100,000 products there are the substitutions alone,
    and the multiplications of numbers alone are counted.
    Raises `ValueError` where an order misses, repeats or invents a node, and for a plan of another system.
    """
    words = [REVERSE, FORWARD] if scalar_output(picture) else [FORWARD, REVERSE]
    words += [MARKOWITZ, PLANNED]
    given = _given(picture, order)
    if isinstance(given, str):
        words = [given, *(word for word in words if word != given)]
        given = None
    if isinstance(given, Plan):
        given.check(picture.subject.network())
        words.remove(PLANNED)
    network = _network(picture)
    if network is None:
        return _bare(picture, given, name or "this order", words), None
    orders = {word: name for word, name in WORDS.items() if name in words}
    node_of = {v: k for k, v in network.vertex.items()}
    first = [] if given is None or isinstance(given, Plan) else [[node_of[v] for v in given]]
    dense = _of_arrays(network, given) if isinstance(given, Plan) else network.dense
    plans = make_plans(network.graph, [*first, *orders], dense=dense)
    by_name = {word: _run(word, plan, network) for word, plan in zip(orders.values(), plans[len(first) :], strict=True)}
    walks = [by_name[word] for word in words]
    if isinstance(given, Plan):
        walks = [_run(name or "plan", given, network), *walks]
    elif given is not None:
        run = _run(name or "this order", plans[0], network)
        by_vertex = dict(zip(run.order, run.costs, strict=True))
        walks = [Run(run.name, tuple(given), tuple(by_vertex[v] for v in given), run.cost, run.method), *walks]
    chosen = [[v for v in plan.order if v not in network.graph.terminal] for plan in plans]
    return walks, Counting(structures_of(network.graph, chosen), network.vertex)


def _of_arrays(network: _Network, plan: Plan) -> bool:
    """Whether a plan's cost is that of a Jacobian written as arrays, so that others can be compared with it."""
    if plan.method != "elimination":
        return True
    costs = [make_plans(network.graph, [plan.order], dense=dense)[0].cost for dense in (False, True)]
    return abs(costs[1] - plan.cost) < abs(costs[0] - plan.cost)


def scalar_output(picture: Picture) -> bool:
    """Whether all that comes out is one number."""
    ends = [v for v in picture.vertices if v.role in ("output", "sink")]
    return len(ends) == 1 and ends[0].size == 1


def _given(picture: Picture, order: Any) -> Any:
    """The order as a Plan, the name of a run, or a list of vertices; None where there is none."""
    if order is None or (isinstance(order, Plan) and isinstance(picture.subject, System)):
        return order
    if isinstance(order, str) and order in WORDS:
        return WORDS[order]
    inner = len(picture.nodes)
    if isinstance(order, str) or not isinstance(getattr(order, "order", order), Iterable):
        names = ", ".join(map(repr, WORDS))
        raise ValueError(f"unknown order {order!r}; use {names}, or a sequence of nodes.")
    named = list(getattr(order, "order", order))
    unknown = [node for node in named if not isinstance(node, Hashable) or node not in picture.nodes]
    if unknown:
        raise ValueError(f"the order names {unknown[0]!r}, which is none of the {inner} nodes that can be eliminated.")
    if len(set(named)) < len(named):
        twice = next(node for node in named if named.count(node) > 1)
        raise ValueError(f"the order names {twice!r} twice.")
    missing = [node for node in picture.nodes if node not in set(named)]
    if missing:
        raise ValueError(f"the order misses {missing[0]!r}; it must name each of the {inner} nodes once.")
    return [picture.nodes[node] for node in named]


def _run(name: str, plan: Plan, network: _Network) -> Run:
    by_node = {step.node: step.multiplications for step in plan.steps}
    order = [v for v in plan.order if v in by_node]
    order += [v for v in network.vertex if v not in by_node]  # outputs, which cost nothing
    vertices = tuple(network.vertex[v] for v in order)
    return Run(name, vertices, tuple(by_node.get(v, 0) for v in order), plan.cost, plan.method)


# ---- the graph that plans are made for -------------------------------------------------------------------------------
def _network(picture: Picture) -> _Network | None:
    """The graph of a picture, None where its elimination is too long."""
    inner = sorted(picture.nodes.values())
    if _long(picture, inner) or _long(picture, inner[::-1]):
        return None
    subject = picture.subject
    if isinstance(subject, System):
        return _Network(subject.network(), dict(picture.nodes), subject.default_format == "array")
    heads = {e.head for e in picture.edges}
    nodes = [*inner, *sorted(heads - set(inner))]  # and the sinks
    sources = sorted({e.tail for e in picture.edges} - set(nodes))
    row, column = {v: k for k, v in enumerate(nodes)}, {v: k for k, v in enumerate(sources)}
    turned = isinstance(subject, Graph)  # its weights are multiplied from the source to the sink, left to right
    M: dict[tuple[int, int], Any] = {}
    L: dict[tuple[int, int], Any] = {}
    for e in picture.edges:
        element = _operator(e.element, turned)
        if e.tail in column:
            M[row[e.head], column[e.tail]] = element
        else:
            L[row[e.head], row[e.tail]] = element
    n, p, q = len(nodes), len(sources), len(nodes) - len(inner)
    S = {(k, len(inner) + k): 1 for k in range(q)}
    graph = LinearizedGraph(
        OperatorMatrix(M, (n, p), [ANY] * n, [ANY] * p),
        OperatorMatrix(L, (n, n), [ANY] * n, [ANY] * n),
        OperatorMatrix(S, (q, n), [ANY] * q, [ANY] * n),
    )
    return _Network(graph, {k: v for v, k in row.items() if k < len(inner)}, dense=False)


def _long(picture: Picture, order: Sequence[int]) -> bool:
    graph, products = _bits(picture), 0
    for v in order:
        products += graph.markowitz_cost(v)
        if products > MOST:
            return True
        graph.eliminate(v)
    return False


def _operator(element: Any, turned: bool) -> Any:
    """The element as a map from the edge's tail to its head, where it is one: an array of two axes as an operator."""
    if is_array(element) and element.ndim == 2:
        m, n = element.shape
        element = Einsum((Factor(element, (0, 1)),), (0,), (1,), {0: m, 1: n})
    if not turned or not isinstance(element, LinearOperator):
        return element
    try:
        return element.transpose()
    except (TypeError, NotImplementedError):  # one way only
        return 1


# ---- where that is too much ------------------------------------------------------------------------------------------
def _bare(picture: Picture, given: Any, name: str, words: Sequence[str]) -> list[Run]:
    inner = tuple(sorted(picture.nodes.values()))
    if isinstance(given, Plan):
        given = [picture.nodes[v] for v in given.order]
    orders = {} if given is None else {name: tuple(given)}
    orders |= {word: inner if word == FORWARD else inner[::-1] for word in words if word in (FORWARD, REVERSE)}
    counted = all(v.size == 1 for v in picture.vertices)
    return [Run(word, order, degrees(picture, order) if counted else ()) for word, order in orders.items()]


def degrees(picture: Picture, order: Sequence[int]) -> tuple[int, ...]:
    """The Markowitz degree of every vertex at its turn: what eliminating it multiplies where all elements are numbers.

    What only names a node as an output costs nothing.
    """
    graph, free = _bits(picture), _naming(picture)
    counts = []
    for v in map(int, order):
        counts.append(graph.into[v].bit_count() * (graph.out_of[v] & ~free[v]).bit_count())
        graph.eliminate(v)
    return tuple(counts)


def _bits(picture: Picture) -> BitGraph:
    n = len(picture.vertices)
    into, out = [0] * n, [0] * n
    for e in picture.edges:
        into[e.head] |= 1 << e.tail
        out[e.tail] |= 1 << e.head
    return BitGraph(into, out)


def _naming(picture: Picture) -> list[int]:
    """For each vertex the outputs that are this vertex and nothing else."""
    into: dict[int, list[int]] = {}
    for n, e in enumerate(picture.edges):
        if picture.vertices[e.head].role == "output":
            into.setdefault(e.head, []).append(n)
    free = [0] * len(picture.vertices)
    for output, numbers in into.items():
        e = picture.edges[numbers[0]]
        if len(numbers) == 1 and e.label in ("I", "1", "1.0"):
            free[e.tail] |= 1 << output
    return free
