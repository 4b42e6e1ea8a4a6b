"""Search for orders: deterministic, never worse than its start, and costs as a set-based elimination counts them."""

import io
import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve.planning.progress import progress_line
from backsolve.planning.search import REACH, BitGraph, _Order, anneal, anneal_whole, eliminate_chains, greedy, minimum_fill

from ..chains import examples


class Sets:
    """The graph as sets of neighbours; eliminating v joins all its predecessors to all its successors."""

    def __init__(self, n, edges):
        self.into = {v: {a for a, b in edges if b == v} for v in range(n)}
        self.out_of = {v: {b for a, b in edges if a == v} for v in range(n)}

    def eliminate(self, v):
        ins, outs = self.into.pop(v), self.out_of.pop(v)
        for a in ins:
            self.out_of[a] = self.out_of[a] - {v} | outs
        for b in outs:
            self.into[b] = self.into[b] - {v} | ins
        return len(ins) * len(outs)


def total(n, edges, order):
    state = Sets(n, edges)
    return sum(state.eliminate(v) for v in order)


def bits(n, edges):
    into, out_of = [0] * n, [0] * n
    for a, b in edges:
        into[b] |= 1 << a
        out_of[a] |= 1 << b
    return BitGraph(into, out_of)


@st.composite
def graphs(draw, most=12):
    """Edges of a random DAG on nodes 0 … n−1; those without in-edges or out-edges are its borders."""
    n = draw(st.integers(2, most))
    pairs = list(itertools.combinations(range(n), 2))
    return n, draw(st.sets(st.sampled_from(pairs), max_size=3 * n))


def inner(n, edges):
    return [v for v in range(n) if any(b == v for _, b in edges) and any(a == v for a, _ in edges)]


@examples(150)
@given(graphs(), st.data())
def test_costs_are_those_of_sets_of_neighbours(graph, data):
    n, edges = graph
    order = data.draw(st.permutations(range(n)))
    state, sets = bits(n, edges), Sets(n, edges)
    assert state.total(order) == total(n, edges, order)
    for v in order:
        price = state.markowitz_cost(v)
        new = sum(a not in sets.into[b] for b in sets.out_of[v] for a in sets.into[v])
        assert state.fill(v)[:2] == (new, price)
        assert state.eliminate(v) == price == sets.eliminate(v)
        for w in sets.into:
            near = sets.into[w] | sets.out_of[w]
            assert state.neighbours(w) == sorted(near)
            assert state.into[w] == sum(1 << a for a in sets.into[w])
            assert state.out_of[w] == sum(1 << b for b in sets.out_of[w])


@examples(100)
@given(graphs(), st.data())
def test_what_a_step_costs_does_not_depend_on_the_order_before(graph, data):
    """The annealer works out only the window between a node's old place and its new one."""
    n, edges = graph
    nodes = data.draw(st.permutations(range(n)))
    before = nodes[: data.draw(st.integers(0, n - 1))]
    last = nodes[-1]
    one, other = bits(n, edges), bits(n, edges)
    for v in before:
        one.eliminate(v)
    for v in data.draw(st.permutations(before)):
        other.eliminate(v)
    for v in set(nodes) - set(before):
        assert (one.into[v], one.out_of[v]) == (other.into[v], other.out_of[v])
    assert one.eliminate(last) == other.eliminate(last)


@examples(150)
@given(graphs(), st.data())
def test_what_a_move_changes(graph, data):
    """Every place that is offered costs what an elimination in that order does; the others cost what their neighbours do."""
    n, edges = graph
    nodes = data.draw(st.permutations(range(n)))
    p = data.draw(st.integers(0, n - 1))
    walk = _Order(bits(n, edges), nodes)
    assert walk.costs == [Sets.eliminate(sets, v) for sets in [Sets(n, edges)] for v in nodes]

    def moved(q):
        order = nodes[:]
        order.insert(q, order.pop(p))
        return total(n, edges, order) - total(n, edges, nodes)

    for places, seen in ((range(p - 1, -1, -1), dict(walk.earlier(p))), (range(p + 1, n), dict(walk.later(p)))):
        assert set(seen) <= set(places)
        change = 0
        for q in places:
            change = seen.get(q, change)
            assert moved(q) == change
    q = data.draw(st.integers(0, n - 1))
    walk.move(p, q)
    order = nodes[:]
    order.insert(q, order.pop(p))
    again = _Order(bits(n, edges), order)
    assert (walk.nodes, walk.costs) == (order, again.costs)
    for k, (one, other) in enumerate(zip(walk.states, again.states, strict=True)):
        for v in order[k:]:  # those that are left
            assert (one.into[v], one.out_of[v]) == (other.into[v], other.out_of[v])


def test_a_move_reaches_so_far_and_no_farther():
    n = 2 * REACH + 3
    walk = _Order(bits(n, list(itertools.combinations(range(n), 2))), range(n))
    middle = REACH + 1
    assert [q for q, _ in walk.earlier(middle)] == list(range(middle - 1, 0, -1))
    assert [q for q, _ in walk.later(middle)] == list(range(middle + 1, 2 * REACH + 2))


@examples(40)
@given(graphs(), st.integers(0, 5), st.data())
def test_annealing_is_the_same_every_time_and_never_worse_than_its_start(graph, seed, data):
    n, edges = graph
    start = data.draw(st.permutations(inner(n, edges)))
    state = bits(n, edges)
    before = (list(state.into), list(state.out_of))
    cost, order = anneal(state, start, moves=300, seed=seed)
    assert (state.into, state.out_of) == before
    assert sorted(order) == sorted(start)
    assert cost == total(n, edges, order) <= total(n, edges, start)
    assert anneal(state, start, moves=300, seed=seed) == (cost, order)


@examples(30)
@given(graphs(), st.integers(0, 5), st.data())
def test_annealing_by_the_price_of_the_whole(graph, seed, data):
    n, edges = graph
    start = data.draw(st.permutations(inner(n, edges)))

    def price(order, limit=math.inf):
        found = total(n, edges, order)
        return found if found <= limit else limit + 1  # it may stop at the limit

    cost, order = anneal_whole(price, start, moves=150, seed=seed)
    assert sorted(order) == sorted(start)
    assert cost == total(n, edges, order) <= total(n, edges, start)
    assert anneal_whole(price, start, moves=150, seed=seed) == (cost, order)


@examples(60)
@given(graphs(most=10), st.integers(0, 3), st.booleans())
def test_orders_of_few_nodes_are_priced_once_and_the_search_goes_as_ever(graph, seed, stops):
    n, edges = graph
    start, asked = inner(n, edges)[:5], []

    def price(order, limit):
        asked.append((tuple(order), limit))
        found = total(n, edges, order)
        return (limit + found) / 2 if stops and found > limit else found  # beyond the limit it need not be exact

    remembered = anneal_whole(price, start, moves=200, seed=seed)
    again = [order for order, limit in asked if total(n, edges, order) <= limit]
    assert len(set(again)) == len(again)  # what is known is asked no more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backsolve.planning.search.SOON_SEEN", 0)
        assert anneal_whole(price, start, moves=200, seed=seed) == remembered


@examples(100)
@given(graphs(most=10))
def test_eliminate_chains_never_cost_the_optimum(graph):
    n, edges = graph
    nodes = inner(n, edges)[:6]
    best = min(total(n, edges, order) for order in itertools.permutations(nodes))
    state, gone, left = eliminate_chains(bits(n, edges), nodes)
    assert sorted(gone + left) == nodes
    assert best == min(total(n, edges, [*gone, *order]) for order in itertools.permutations(left))
    for v in left:
        assert not state.into[v].bit_count() == 1 == state.out_of[v].bit_count()
    assert len(gone) + state.total(left) == total(n, edges, [*gone, *left])


def test_eliminate_chains_on_a_chain_and_its_branches():
    """0 → 1 → … → 9 goes entirely; a node with two sources stays until one of them has gone."""
    chain = [(i, i + 1) for i in range(9)]
    _, gone, left = eliminate_chains(bits(10, chain), range(1, 9))
    assert (sorted(gone), left) == (list(range(1, 9)), [])
    _, gone, left = eliminate_chains(bits(5, [(0, 2), (1, 2), (2, 3), (3, 4)]), [2, 3])
    assert (gone, left) == ([3], [2])


@examples(60)
@given(graphs())
def test_greedy_always_takes_the_cheapest_node(graph):
    n, edges = graph
    nodes = inner(n, edges)
    order = greedy(bits(n, edges), nodes[::-1])
    state, left = Sets(n, edges), set(nodes)
    for v in order:
        degree = {w: len(state.into[w]) * len(state.out_of[w]) for w in left}
        assert v == min(left, key=lambda w: (degree[w], w))
        state.eliminate(v)
        left.remove(v)
    assert not left


@examples(60)
@given(graphs())
def test_minimum_fill_always_adds_the_fewest_edges(graph):
    n, edges = graph
    nodes = inner(n, edges)
    state, left = Sets(n, edges), set(nodes)
    for v in minimum_fill(bits(n, edges), nodes):
        new = {w: sum(a not in state.into[b] for b in state.out_of[w] for a in state.into[w]) for w in left}
        assert v == min(left, key=lambda w: (new[w], len(state.into[w]) * len(state.out_of[w]), -w))
        state.eliminate(v)
        left.remove(v)
    assert not left


def test_minimum_fill():
    """Node 3 joins what is joined already and adds nothing; node 2 is as cheap but adds an edge."""
    edges = [(0, 2), (2, 4), (0, 3), (3, 5), (0, 5)]
    assert greedy(bits(6, edges), [2, 3]) == [2, 3]
    assert minimum_fill(bits(6, edges), [2, 3]) == [3, 2]


def test_annealing_finds_the_best_order_of_a_bottleneck():
    """Five sources, a node, five sinks, and chains beside: brute force over the inner nodes."""
    edges = [(s, 5) for s in range(5)] + [(5, 6), (6, 7), (5, 7)] + [(7, t) for t in range(8, 13)]
    best = min(total(13, edges, order) for order in itertools.permutations([5, 6, 7]))
    for start in itertools.permutations([5, 6, 7]):
        assert anneal(bits(13, edges), start, moves=500)[0] == best


@pytest.mark.parametrize("nodes", [[], [1]])
def test_nothing_to_move(nodes):
    state = bits(3, [(0, 1), (1, 2)])
    assert anneal(state, nodes, seconds=60.0) == (len(nodes), nodes)
    assert anneal_whole(lambda order, limit: len(order), nodes, seconds=60.0) == (len(nodes), nodes)


@pytest.mark.parametrize("search", ["anneal", "anneal_whole"])
def test_time_and_progress(search):
    n = 40
    edges = [(a, b) for a, b in itertools.combinations(range(n), 2) if (7 * a + 5 * b) % 4 == 0]
    state, nodes, shares = bits(n, edges), inner(n, edges), []
    began = time.monotonic()
    if search == "anneal":
        cost, order = anneal(state, nodes, seconds=0.3, progress=shares.append)
    else:
        cost, order = anneal_whole(lambda o, limit: total(n, edges, o), nodes, seconds=0.3, progress=shares.append)
    assert 0.3 <= time.monotonic() - began < 30  # the machine may have other work
    assert cost == total(n, edges, order) <= total(n, edges, nodes)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert shares[-1] == 1  # so that a bar ends its line


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert progress_line("searching") is None
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    draw = progress_line("searching")
    draw(0.0)
    draw(0.5)
    draw(1.0)
    first, *rest = screen.getvalue().split("\r")[1:]
    assert first == "searching " + "░" * 30 + "   0%"
    assert rest == ["searching " + "█" * 15 + "░" * 15 + "  50%", "searching " + "█" * 30 + " 100%\n"]
