"""Search for an order of elimination: greedy, and annealing that moves one node at a time.

What eliminating a node costs depends on which nodes went before, not on their order.  So moving one node changes the
costs only between its old place and its new one, and only that window is worked out again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

__all__ = ["Bits", "State", "anneal", "anneal_whole", "chains_first", "greedy", "least_fill"]


HOT, COLD = 0.3, 0.03  # first and last temperature, as shares of the mean cost of a step; found by trial


class State(Protocol):
    """A graph part-way through its elimination."""

    def copy(self) -> Any:
        """An independent state."""

    def step(self, v: int) -> float:
        """Eliminate v; what it cost."""

    def price(self, v: int) -> float:
        """What eliminating v would cost."""

    def neighbours(self, v: int) -> list[int]:
        """Predecessors and successors of v."""


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set, ascending."""
    found = []
    while mask:
        low = mask & -mask
        mask ^= low
        found.append(low.bit_length() - 1)
    return found


class Bits:
    """A graph whose every pair of in-edge and out-edge costs the same: neighbours as bits of an int."""

    __slots__ = ("into", "out_of")

    def __init__(self, into: list[int], out_of: list[int]) -> None:
        self.into = into
        self.out_of = out_of

    def copy(self) -> Bits:
        """An independent state."""
        return Bits(self.into[:], self.out_of[:])

    def total(self, order: Sequence[int]) -> int:
        """What eliminating nodes in this order costs."""
        state = self.copy()
        return sum(map(state.step, order))

    def price(self, v: int) -> int:
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
        return new, self.price(v), -v

    def step(self, v: int) -> int:
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


def greedy(state: Any, nodes: Sequence[int]) -> list[int]:
    """Markowitz: always the node that is cheapest to eliminate next, the lowest number among equals.

    Only the neighbours of an eliminated node change their price, so they alone are priced again.
    """
    state = state.copy()
    prices = {v: state.price(v) for v in nodes}
    queue = [(price, v) for v, price in prices.items()]
    heapify(queue)
    order = []
    while queue:
        price, v = heappop(queue)
        if prices.get(v) != price:
            continue
        near = state.neighbours(v)
        del prices[v]
        state.step(v)
        order.append(v)
        for w in near:
            if w in prices and prices[w] != (new := state.price(w)):
                prices[w] = new
                heappush(queue, (new, w))
    return order


def least_fill(state: Bits, nodes: Sequence[int]) -> list[int]:
    """Always the node that adds the fewest edges, the cheapest among those, the last of these: a good start for a search."""
    state = state.copy()
    left = sorted(nodes)
    fills = {v: state.fill(v) for v in left}
    order = []
    while left:
        v = min(left, key=fills.__getitem__)
        left.remove(v)
        ins, outs = state.into[v], state.out_of[v]
        state.step(v)
        near = ins | outs
        for w in left:  # whose neighbours are others now, or have an edge between them that they had not
            if near >> w & 1 or (state.into[w] & ins and state.out_of[w] & outs):
                fills[w] = state.fill(w)
        order.append(v)
    return order


def chains_first(state: Bits, nodes: Sequence[int]) -> tuple[Bits, list[int], list[int]]:
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
                state.step(v)
                gone.append(v)
                more = True
        left = [v for v in left if v not in frozenset(gone)] if more else left
    return state, gone, left


def anneal(
    start: State,
    order: Sequence[int],
    *,
    moves: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> tuple[float, list[int]]:
    """Move one node at a time, accepting what is cheaper and, less and less often, what is not; the best order found.

    Ends after ``moves``, or after ``seconds``.  With ``moves`` the result is the same every time.
    """
    rng = random.Random(seed)
    uniform, log = rng.random, math.log
    order = list(order)
    n = len(order)
    states, costs = _run(start, order)
    total = best = sum(costs)
    found = order[:]
    if n < 2:
        return best, found
    mean = max(total / n, 1e-9)
    hot, cold = HOT * mean, COLD * mean
    reach = max(2, min(30, n))
    began = time.monotonic()
    done, heat = 0.0, hot
    count = 0
    while done < 1:
        if count % 64 == 0:
            done = count / moves if moves is not None else (time.monotonic() - began) / (seconds or 1e-9)
            heat = hot * (cold / hot) ** min(done, 1.0)
            if progress is not None and count % 4096 == 0:
                progress(min(done, 1.0))
        count += 1
        p = int(uniform() * n)
        far = 1 + int(reach * uniform() ** 2)
        q = p + far if uniform() < 0.5 else p - far
        if not 0 <= q < n:
            continue
        low, high = (p, q) if p < q else (q, p)
        window = [*order[p + 1 : q + 1], order[p]] if p < q else [order[p], *order[q:p]]
        before = sum(costs[low : high + 1])
        limit = before - heat * log(1.0 - uniform())
        state = states[low].copy()
        spent, new_states, new_costs = 0.0, [], []
        for v in window:
            new_states.append(state.copy())
            cost = state.step(v)
            spent += cost
            if spent > limit:
                break
            new_costs.append(cost)
        else:
            total += spent - before
            order[low : high + 1] = window
            costs[low : high + 1] = new_costs
            states[low : high + 1] = new_states
            if total < best:
                best, found = total, order[:]
    if progress is not None:
        progress(1.0)
    return best, found


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
    total = best = price(order, math.inf)
    found = order[:]
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
                best, found = total, order[:]
    if progress is not None:
        progress(1.0)
    return best, found


def _run(start: State, order: Sequence[int]) -> tuple[list[Any], list[float]]:
    """The state before each step, and what each step costs."""
    state = start.copy()
    states, costs = [], []
    for v in order:
        states.append(state.copy())
        costs.append(state.step(v))
    return states, costs
