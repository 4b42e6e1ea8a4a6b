"""Search for an order of elimination: greedy, and annealing that moves one node at a time.

What eliminating a node costs depends on which nodes went before, not on their order.  So moving one node changes the
costs only between its old place and its new one, and there only those of its neighbours.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence

from backsolve.elimination.graph import cheapest_first

__all__ = ["BitGraph", "anneal", "anneal_whole", "eliminate_chains", "greedy", "minimum_fill"]


HOT, COLD = 0.1, 0.015  # first and last temperature, as shares of the mean cost of a step; found by trial
REACH = 30  # places by which one move takes a node at most
UNLIKELY = 6  # temperatures by which a change costs more and is not looked at: one in 400 would be made


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set, ascending."""
    numbers = []
    while mask:
        low = mask & -mask
        mask ^= low
        numbers.append(low.bit_length() - 1)
    return numbers


class BitGraph:
    """A graph whose every pair of in-edge and out-edge costs the same: neighbours as bits of an int."""

    __slots__ = ("into", "out_of")

    def __init__(self, into: list[int], out_of: list[int]) -> None:
        self.into = into
        self.out_of = out_of

    def copy(self) -> BitGraph:
        """An independent state."""
        return BitGraph(self.into[:], self.out_of[:])

    def total(self, order: Sequence[int]) -> int:
        """What eliminating nodes in this order costs."""
        state = self.copy()
        return sum(map(state.eliminate, order))

    def markowitz_cost(self, v: int) -> int:
        """In-edges times out-edges."""
        return self.into[v].bit_count() * self.out_of[v].bit_count()

    def neighbours(self, v: int) -> list[int]:
        """Predecessors and successors of v."""
        return bits(self.into[v] | self.out_of[v])

    def fill(self, v: int) -> tuple[int, float, int]:
        """How many edges eliminating v adds, then what it costs, then the highest number first: a better greedy rule."""
        ins, rest, new = self.into[v], self.out_of[v], 0
        while rest:
            low = rest & -rest
            rest ^= low
            new += (ins & ~self.into[low.bit_length() - 1]).bit_count()
        return new, self.markowitz_cost(v), -v

    def eliminate(self, v: int) -> int:
        """Join every predecessor of v to every successor."""
        into, out_of = self.into, self.out_of
        ins, outs = into[v], out_of[v]
        others = ~(1 << v)
        rest = ins
        while rest:
            low = rest & -rest
            rest ^= low
            j = low.bit_length() - 1
            out_of[j] = out_of[j] & others | outs
        rest = outs
        while rest:
            low = rest & -rest
            rest ^= low
            i = low.bit_length() - 1
            into[i] = into[i] & others | ins
        return ins.bit_count() * outs.bit_count()


def greedy(start: BitGraph, nodes: Sequence[int]) -> list[int]:
    """Markowitz: always the node that is cheapest to eliminate next, the lowest number among equals."""
    state = start.copy()
    order = []
    for v in cheapest_first(nodes, state.markowitz_cost, state.neighbours):
        state.eliminate(v)
        order.append(v)
    return order


def minimum_fill(state: BitGraph, nodes: Sequence[int]) -> list[int]:
    """Always the node that adds the fewest edges, the cheapest among those, the last of these: a good start for a search."""
    state = state.copy()
    left = sorted(nodes)
    fills = {v: state.fill(v) for v in left}
    order = []
    while left:
        v = min(left, key=fills.__getitem__)
        left.remove(v)
        ins, outs = state.into[v], state.out_of[v]
        state.eliminate(v)
        near = ins | outs
        for w in left:  # whose neighbours are others now, or have an edge between them that they had not
            if near >> w & 1 or (state.into[w] & ins and state.out_of[w] & outs):
                fills[w] = state.fill(w)
        order.append(v)
    return order


def eliminate_chains(state: BitGraph, nodes: Sequence[int]) -> tuple[BitGraph, list[int], list[int]]:
    """Eliminate, again and again, each node with one in-edge and one out-edge; the state then, those nodes, and the rest.

    That costs one product and never more neighbours for another node, so some best order begins so.
    """
    state = state.copy()
    left, gone = list(nodes), []
    more = True
    while more:
        more = False
        for v in left:
            if state.into[v].bit_count() == 1 == state.out_of[v].bit_count():
                state.eliminate(v)
                gone.append(v)
                more = True
        left = [v for v in left if v not in frozenset(gone)] if more else left
    return state, gone, left


class _Order:
    """An order of a graph's nodes, the state before each step and what the step costs, while nodes are moved about."""

    __slots__ = ("costs", "nodes", "states")

    def __init__(self, start: BitGraph, nodes: Sequence[int]) -> None:
        self.nodes = list(nodes)
        self.states: list[BitGraph] = []
        self.costs: list[int] = []
        state = start.copy()
        for v in nodes:
            self.states.append(state.copy())
            self.costs.append(state.eliminate(v))

    def earlier(self, p: int) -> Iterator[tuple[int, int]]:
        """Places before neighbours, from p down, where the node at p may go, and by how much the whole then costs more.

        With the node gone, a neighbour has the node's neighbours on the other side for it; nobody else's price changes.
        """
        nodes, states, costs = self.nodes, self.states, self.costs
        v = nodes[p]
        others, change = ~(1 << v), -costs[p]
        for i in range(p - 1, max(-1, p - 1 - REACH), -1):
            w, state = nodes[i], states[i]
            into, out_of = state.into, state.out_of
            ins, outs = into[v], out_of[v]
            if outs >> w & 1:
                change += ((into[w] | ins) & others).bit_count() * out_of[w].bit_count() - costs[i]
            elif ins >> w & 1:
                change += into[w].bit_count() * ((out_of[w] | outs) & others).bit_count() - costs[i]
            else:
                continue
            yield i, change + ins.bit_count() * outs.bit_count()

    def later(self, p: int) -> Iterator[tuple[int, int]]:
        """Places after neighbours, from p up, and by how much the whole then costs more."""
        nodes, costs = self.nodes, self.costs
        v, state = nodes[p], self.states[p].copy()
        into, out_of = state.into, state.out_of
        change, near = -costs[p], into[v] | out_of[v]
        for i in range(p + 1, min(len(nodes), p + 1 + REACH)):
            w = nodes[i]
            change += state.eliminate(w) - costs[i]
            if near >> w & 1:
                ins, outs = into[v], out_of[v]
                near = ins | outs
                yield i, change + ins.bit_count() * outs.bit_count()

    def move(self, p: int, q: int) -> None:
        """Take the node at place p to place q."""
        nodes, states, costs = self.nodes, self.states, self.costs
        nodes.insert(q, nodes.pop(p))
        state = states[min(p, q)].copy()
        for i in range(min(p, q), max(p, q) + 1):
            states[i] = state.copy()
            costs[i] = state.eliminate(nodes[i])


def anneal(
    start: BitGraph,
    order: Sequence[int],
    *,
    moves: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> tuple[int, list[int]]:
    """Move one node at a time: of a node's places past its neighbours, each the likelier the less the whole then costs.

    (A place is taken with a probability proportional to exp(−cost / temperature); the temperature falls.)  Returns the
    best order found and its cost.  Ends after ``moves``, or after ``seconds``.  With ``moves`` the result is the same
    every time.
    """
    rng = random.Random(seed)
    uniform, exponential, log = rng.random, rng.expovariate, math.log
    walk = _Order(start, order)
    n = len(walk.nodes)
    total = best = sum(walk.costs)
    best_order = walk.nodes[:]
    if n < 2:
        return best, best_order
    mean = max(total / n, 1e-9)
    hot, cold = HOT * mean, COLD * mean
    began = time.monotonic()
    done, heat = 0.0, hot
    count = 0
    while done < 1:
        if count % 16 == 0:
            done = count / moves if moves is not None else (time.monotonic() - began) / (seconds or 1e-9)
            heat = hot * (cold / hot) ** min(done, 1.0)
            if progress is not None and count % 1024 == 0:
                progress(min(done, 1.0))
        count += 1
        p = int(uniform() * n)
        chosen, least, difference = p, heat * log(exponential(1.0) + 1e-300), 0
        for q, change in walk.later(p) if uniform() < 0.5 else walk.earlier(p):
            if change < UNLIKELY * heat:
                chance = change + heat * log(exponential(1.0) + 1e-300)  # the least of these is one by such probabilities
                if chance < least:
                    chosen, least, difference = q, chance, change
        if chosen != p:
            walk.move(p, chosen)
            total += difference
            if total < best:
                best, best_order = total, walk.nodes[:]
    if progress is not None:
        progress(1.0)
    return best, best_order


SOON_SEEN = 7  # nodes whose 5,040 orders a search soon comes back to


def _remembering(price: Callable[[Sequence[int], float], float]) -> Callable[[Sequence[int], float], float]:
    """The same price of whole orders, asked once for each: again only where it stopped at a limit that is now higher."""
    known: dict[tuple[int, ...], tuple[float, float]] = {}

    def remembered(order: Sequence[int], limit: float) -> float:
        key = tuple(order)
        value = known.get(key)
        if value is None or value[1] < value[0] <= limit:  # beyond its limit it was a lower bound
            value = known[key] = price(order, limit), limit
        return value[0]

    return remembered


def anneal_whole(
    price: Callable[[Sequence[int], float], float],
    order: Sequence[int],
    *,
    moves: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    exhausted: Callable[[], bool] = lambda: False,
) -> tuple[float, list[int]]:
    """As `anneal`, for a price that only the whole order has; ``price(order, limit)`` may stop once it exceeds the limit.

    Where ``moves`` bounds the search, so does ``exhausted()``.
    """
    rng = random.Random(seed)
    order = list(order)
    n = len(order)
    if n <= SOON_SEEN:
        price = _remembering(price)
    total = best = price(order, math.inf)
    best_order = order[:]
    began = time.monotonic()
    count, done = 0, 0.0
    while n > 1:
        done = count / moves if moves is not None else (time.monotonic() - began) / (seconds or 1e-9)
        if done >= 1 or (moves is not None and exhausted()):
            break
        if progress is not None:
            progress(done)
        count += 1
        heat = 0.02 * best * (0.01**done)
        p, q = rng.randrange(n), rng.randrange(n)
        if p == q:
            continue
        tried = order[:]
        tried.insert(q, tried.pop(p))
        limit = total - heat * math.log(1.0 - rng.random())
        new = price(tried, limit)
        if new <= limit:
            total, order = new, tried
            if total < best:
                best, best_order = total, order[:]
    if progress is not None:
        progress(1.0)
    return best, best_order
