"""Sums over paths: every way in, every pair of ends, every order; oracles are networkx and SymPy."""

import itertools
import math
import random

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import sympy

from backsolve import CycleError, Graph, O, hadamard, left_mul
from backsolve.algebra import AlgebraError, Boolean, Counting, LogSumExp, MaxTimes, MinPlus

ORDERS = ["auto", "reverse", "forward", "elimination", "elimination, shuffled"]


def random_dag(seed, n=9, p=0.4, weight=lambda r: r.randint(1, 9)):
    """A DAG whose names are no topological numbering."""
    r = random.Random(seed)
    names = [f"n{k}" for k in range(n)]
    r.shuffle(names)
    edges = {(u, v): weight(r) for u, v in itertools.combinations(names, 2) if r.random() < p}
    items = list(edges.items())
    r.shuffle(items)
    return dict(items)


def digraph(edges):
    D = nx.DiGraph()
    D.add_weighted_edges_from((u, v, w) for (u, v), w in edges.items())
    return D


def ends(D):
    return [v for v in D if not D.in_degree(v)], [v for v in D if not D.out_degree(v)]


def by_enumeration(D, u, v, zero=0, one=1):
    """The sum over all simple paths, product from left to right."""
    if u == v:
        return one
    total = zero
    for path in nx.all_simple_edge_paths(D, u, v):
        term = one
        for e in path:
            term = term * D.edges[e]["weight"]
        total = total + term
    return total


def spelled(order, graph, given=()):
    """A named order, or the inner nodes as a sequence."""
    if not order.startswith("elimination"):
        return order
    inner = [v for v in graph.nodes if v not in {*graph.sources, *graph.sinks, *given}]
    if order.endswith("shuffled"):
        random.Random(1).shuffle(inner)
    return inner


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ORDERS)
def test_all_four_forms_in_every_order(order, seed):
    edges = random_dag(seed)
    D, g = digraph(edges), Graph(edges)
    sources, sinks = ends(D)
    assert (set(g.sources), set(g.sinks)) == (set(sources), set(sinks))
    want = {(u, v): by_enumeration(D, u, v) for u in sources for v in sinks}
    how = spelled(order, g)
    assert g.path_weights(order=how) == want
    for v in sinks:
        assert g.path_weights(sink=v, order=how) == {u: want[u, v] for u in sources}
    for u in sources:
        assert g.path_weights(source=u, order=how) == {v: want[u, v] for v in sinks}
        assert g.path_weights(u, sinks[0], order=how) == want[u, sinks[0]]


@pytest.mark.parametrize("order", ORDERS)
def test_inner_nodes_as_ends(order):
    edges = random_dag(5)
    D, g = digraph(edges), Graph(edges)
    for u, v in itertools.permutations(g.nodes, 2):
        assert g.path_weights(u, v, order=spelled(order, g, (u, v))) == by_enumeration(D, u, v)
    assert all(g.path_weights(v, v, order=spelled(order, g, (v,))) == 1 for v in g.nodes)


@pytest.mark.parametrize("order", ORDERS)
def test_weights_that_do_not_commute(order):
    count = itertools.count()
    edges = random_dag(7, n=7, weight=lambda r: sympy.Symbol(f"w{next(count)}", commutative=False))
    D, g = digraph(edges), Graph(edges)
    for (u, v), weight in g.path_weights(order=spelled(order, g)).items():
        assert sympy.expand(weight) == sympy.expand(by_enumeration(D, u, v))


@pytest.mark.parametrize("order", ORDERS)
def test_operators_and_blocks_as_weights(order):
    """The weight of u → v acts on what stands right of it: path products are read from source to sink."""
    rng = np.random.default_rng(0)
    A, B, C, E = (rng.standard_normal(s) for s in [(2, 3), (3, 4), (2, 5), (5, 4)])
    edges = {("a", "b"): A, ("b", "d"): B, ("a", "c"): C, ("c", "d"): E}
    blocks = Graph(edges)
    np.testing.assert_allclose(blocks.path_weights("a", "d", order=spelled(order, blocks)), A @ B + C @ E, rtol=1e-12)
    operators = Graph({e: left_mul(w) for e, w in edges.items()})
    weight = operators.path_weights("a", "d", order=spelled(order, operators))
    np.testing.assert_allclose(weight @ np.eye(4), A @ B + C @ E, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("order", ORDERS)
def test_semirings_against_networkx(order, seed):
    edges = random_dag(seed, n=10)
    D = digraph(edges)
    sources, sinks = ends(D)

    def weights(kind):
        g = Graph({e: kind(w) for e, w in edges.items()})
        return {k: w.value for k, w in g.path_weights(order=spelled(order, g)).items()}

    shortest, counts = weights(MinPlus), weights(lambda w: Counting(1))
    reachable, likely = weights(lambda w: Boolean(True)), weights(lambda w: MaxTimes(w / 10))
    logs = weights(lambda w: LogSumExp(math.log(w)))
    for u, v in itertools.product(sources, sinks):
        paths = 1 if u == v else len(list(nx.all_simple_paths(D, u, v)))
        assert counts[u, v] == paths
        assert reachable[u, v] == nx.has_path(D, u, v)
        if paths:
            assert shortest[u, v] == nx.shortest_path_length(D, u, v, weight="weight")
            best = max(
                (math.prod(D.edges[e]["weight"] / 10 for e in p) for p in nx.all_simple_edge_paths(D, u, v)), default=1
            )
            assert likely[u, v] == pytest.approx(best)
            assert logs[u, v] == pytest.approx(math.log(by_enumeration(D, u, v)))
        else:
            assert (shortest[u, v], likely[u, v], logs[u, v]) == (math.inf, 0, -math.inf)


@pytest.mark.parametrize("order", ORDERS)
def test_every_input_gives_the_same(order):
    edges = random_dag(11, weight=lambda r: r.uniform(-1, 1))
    D = digraph(edges)
    names = list(D)
    sparse = nx.to_scipy_sparse_array(D, nodelist=names, format="coo")
    want = {k: by_enumeration(D, *k) for k in itertools.product(*ends(D))}
    for graph, name in (
        (Graph(edges), str),
        (Graph(list(edges.items())), str),
        (Graph(D), str),
        (Graph(sparse), names.__getitem__),
        (Graph(sparse.tocsc()), names.__getitem__),
    ):
        got = graph.path_weights(order=spelled(order, graph))
        assert {tuple(map(name, k)): pytest.approx(w, abs=1e-14) for k, w in got.items()} == want
        assert all(type(w) is float for w in got.values())
        again = graph.path_weights(order=spelled(order, graph))
        assert got == again  # to the last bit, whatever ran before


def test_matrix_is_strictly_upper_and_in_the_order_of_the_nodes():
    edges = random_dag(3)
    g = Graph(edges)
    names = list(g.nodes)
    Lt = g.matrix()
    assert all(i < j for i, j in Lt.entries)
    assert {(names[i], names[j]): w for (i, j), w in Lt.entries.items()} == edges
    assert g.nodes == Graph(edges).nodes
    sparse = scipy.sparse.csr_array(([2.0, 3.0], ([2, 0], [0, 1])), shape=(3, 3))  # 2 → 0 → 1
    assert Graph(sparse).nodes == (2, 0, 1)
    assert Graph(sparse).matrix().entries == {(0, 1): 2.0, (1, 2): 3.0}


def test_digraph_without_weights_counts_paths_and_keeps_lone_nodes():
    D = nx.DiGraph([(1, 2), (1, 3), (2, 4), (3, 4)])
    D.add_node("alone")
    g = Graph(D)
    assert g.path_weights(1, 4) == 2
    assert set(g.nodes) == {1, 2, 3, 4, "alone"}
    assert g.path_weights() == {(1, 4): 2, (1, "alone"): 0, ("alone", 4): 0, ("alone", "alone"): 1}


@pytest.mark.parametrize("order", ["auto", "reverse", "forward", ()])
def test_empty_and_disconnected_graphs(order):
    assert Graph({}).path_weights(order=order) == {}
    assert Graph(nx.DiGraph()).path_weights(order=order) == {}
    assert Graph(scipy.sparse.csr_array((0, 0))).path_weights(order=order) == {}
    assert Graph(scipy.sparse.csr_array((2, 2))).path_weights(order=order) == {
        (0, 0): 1, (0, 1): 0, (1, 0): 0, (1, 1): 1}  # fmt: skip
    two = Graph({(1, 2): 3, (4, 5): 7})
    assert two.path_weights(order=order) == {(1, 2): 3, (1, 5): 0, (4, 2): 0, (4, 5): 7}
    assert Graph({(1, 2): MinPlus(3), (4, 5): MinPlus(7)}).path_weights(1, 5, order=order) == MinPlus(math.inf)
    blocks = Graph({(1, 2): np.ones((2, 3)), (4, 5): np.ones((4, 4))})
    assert blocks.path_weights(1, 5, order=order) is O or isinstance(blocks.path_weights(1, 5, order=order), type(O))


@pytest.mark.parametrize("order", ["reverse", "forward", ()])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_reach_only_the_ends_they_lead_to(order, bad):
    edges = {(0, 1): bad, (2, 3): 2.0}
    sparse = scipy.sparse.coo_array(([bad, 2.0], ([0, 2], [1, 3])), shape=(4, 4))
    for g in (Graph(edges), Graph(sparse)):
        got = g.path_weights(order=order)
        np.testing.assert_array_equal([got[0, 1], got[0, 3], got[2, 1], got[2, 3]], [bad, 0, 0, 2])


def test_stored_zeros_of_a_sparse_matrix_are_no_edges():
    A = scipy.sparse.coo_array(([1.0, 0.0, 0.0], ([0, 1, 1], [1, 0, 1])), shape=(2, 2))
    assert Graph(A).path_weights() == {(0, 1): 1.0}
    assert A.nnz == 3


def test_duplicate_entries_of_a_sparse_matrix_are_added():
    A = scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    assert Graph(A).path_weights(0, 1) == 3.0


def test_large_sparse_graph_is_solved_by_compiled_code():
    n = 200_000
    A = scipy.sparse.diags_array([np.full(n - 1, 1.0), np.full(n - 2, 1e-3)], offsets=[1, 2]).tocsr()
    g = Graph(A)
    weight = g.path_weights(0, 100)
    x = np.zeros(101)
    x[0], x[1] = 1, 1
    for k in range(2, 101):
        x[k] = x[k - 1] + 1e-3 * x[k - 2]
    assert weight == pytest.approx(x[100], rel=1e-12)


def test_duplicate_edges_are_refused():
    with pytest.raises(ValueError, match=r"the edge 'u' → 'v' is given twice; add the two weights first"):
        Graph([(("u", "v"), 1), (("v", "w"), 1), (("u", "v"), 2)])
    D = nx.MultiDiGraph([(1, 2), (1, 2)])
    with pytest.raises(TypeError, match="takes a DiGraph, got a MultiDiGraph; direct and merge its edges first"):
        Graph(D)
    with pytest.raises(TypeError, match="takes a DiGraph, got a Graph"):
        Graph(nx.Graph([(1, 2)]))


def test_cycles_are_named():
    with pytest.raises(CycleError, match=r"'a' → 'b' → 'c' → 'a'|'b' → 'c' → 'a' → 'b'|'c' → 'a' → 'b' → 'c'"):
        Graph({("s", "a"): 1, ("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1, ("c", "t"): 1})
    with pytest.raises(CycleError, match=r"'a' → 'a'"):
        Graph({("a", "a"): 1})
    with pytest.raises(CycleError, match=r"node 1 → node 2 → node 1|node 2 → node 1 → node 2"):
        Graph(scipy.sparse.csr_array(([1.0, 1, 1], ([0, 1, 2], [1, 2, 1])), shape=(3, 3)))
    with pytest.raises(CycleError, match=r"node 1 has an edge to itself"):
        Graph(scipy.sparse.csr_array(([1.0, 1], ([0, 1], [1, 1])), shape=(3, 3)))


def test_unknown_nodes_and_bad_orders():
    g = Graph({("a", "b"): 1, ("b", "c"): 2, ("c", "d"): 3})
    with pytest.raises(KeyError, match=r"source 'z' is not among the graph's 4 nodes: 'a', 'b', 'c', 'd'"):
        g.path_weights(source="z")
    with pytest.raises(KeyError, match=r"sink 7 is not among"):
        g.path_weights(sink=7)
    with pytest.raises(ValueError, match=r"unknown order 'sideways'; use 'auto', 'forward', 'reverse' or a sequence"):
        g.path_weights(order="sideways")
    with pytest.raises(ValueError, match=r"the order misses 'c'; it must name every node between the ends, once"):
        g.path_weights(order=["b"])
    with pytest.raises(ValueError, match=r"the order names the end 'a'"):
        g.path_weights(order=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"eliminates 'b' twice"):
        g.path_weights(order=["b", "c", "b"])
    with pytest.raises(KeyError, match=r"node 'z' is not among"):
        g.path_weights(order=["b", "c", "z"])


def test_wrong_weights_and_shapes():
    with pytest.raises(ValueError, match=r"the matrix of a graph is square, got 2 × 3"):
        Graph(scipy.sparse.csr_array((2, 3)))
    with pytest.raises(AlgebraError, match=r"cannot multiply .*MinPlus and .*Counting"):
        Graph({(1, 2): MinPlus(1), (2, 3): Counting(1)}).path_weights()
    with pytest.raises(ValueError, match=r"cannot compose .*4 → 4 with .*3 → 3"):
        Graph({(1, 2): hadamard(np.ones(4)), (2, 3): hadamard(np.ones(3))}).path_weights()
