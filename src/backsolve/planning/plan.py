"""Plans: which node to eliminate next, and what that costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from operator import itemgetter
from typing import Any

from backsolve.display import ShowablePlan, plural
from backsolve.elimination.borders import LinearizedGraph
from backsolve.elimination.graph import cheapest_first
from backsolve.planning.costs import CostGraph, Sharing, StructureTable
from backsolve.planning.progress import progress_line
from backsolve.planning.search import BitGraph, anneal, anneal_whole, eliminate_chains, greedy, minimum_fill

__all__ = ["ORDERS", "Choice", "Plan", "Step", "choose_order", "make_plan", "make_plans"]

ORDERS = ("auto", "forward", "reverse", "markowitz")
MOVES = 2, 500  # of the default search where a move takes some 20 µs: for each node, and at most
FEW, LARGE = 300, 2_000  # nodes; beyond the one no quadratic greedy rule, beyond the other no search
WORK, NEW = 10_000, 200  # of the default search elsewhere: products looked up, and worked out
EACH = 3  # entries that the start costs, for each product worked out: a search saves some per cent of them


SHOWN = 60  # steps; of a longer plan the first and the last half of these
LAST = 3  # steps that its repr has room for
NAME, SPACE = 30, 19  # columns


@dataclass(frozen=True)
class Step:
    """One node's elimination: its in-edges and out-edges, what it multiplies, what it fills in, the total so far."""

    node: int
    name: str
    ins: int
    outs: int
    space: str
    multiplications: int
    fill: int
    total: int


@dataclass(frozen=True)
class Choice:
    """An order of elimination, every node once, and the method: what of a `Plan` an accumulation reads."""

    order: tuple[int, ...]
    method: str


@dataclass(frozen=True, repr=False)
class Plan(ShowablePlan):
    """An order of elimination for systems of one structure, and what it costs.

    ``order`` names every node once.  ``method`` is "elimination", or "columns" or "rows" where plain substitution with an
    identity on the right is cheaper (what forward and reverse mode do).  ``multiplications`` counts every product of two
    scalar edge weights, weights ±1 included, as the literature on vertex elimination does (for arrays, of their entries that
    are not zero by structure, as if every product were multiplied out); ``cost`` is the real cost, factored as it stays,
    about the number of entries written, with multiples of the identity free.  ``totals`` has the multiplications of the
    forward, the reverse and the Markowitz order.  ``print(plan)`` shows each step, ``repr`` the last ones.
    """

    order: tuple[int, ...]
    method: str
    multiplications: int
    cost: float
    totals: dict[str, int] = field(hash=False)
    steps: tuple[Step, ...]
    signature: Any
    outline: Any = field(default=None, compare=False, repr=False)  # the system with shapes in place of arrays

    def check(self, network: LinearizedGraph) -> None:
        """Raise `ValueError` where the plan was made for another network."""
        here = network.signature()
        if here == self.signature:
            return
        (spaces, _), (others, _) = self.signature, here
        if len(spaces) != len(others):
            what = f"{len(spaces)} nodes and borders, this one has {len(others)}"
        else:
            differing = [k for k, (a, b) in enumerate(zip(spaces, others, strict=True)) if a != b]
            k = differing[0] if differing else None
            what = "other edges" if k is None else f"{network.label(k)} of {spaces[k]}, which here is {others[k]}"
        raise ValueError(
            f"the plan was made for a system with {what}; make one with backsolve.plan for inputs of these shapes."
        )

    def __str__(self) -> str:
        return _as_table(self, _rows(self.steps))

    def __repr__(self) -> str:
        rows = [_row(k, step) for k, step in enumerate(self.steps[-LAST:], max(len(self.steps) - LAST, 0) + 1)]
        return _as_table(self, [_left_out(len(self.steps) - LAST), *rows] if len(self.steps) > LAST else rows)


def _as_table(plan: Plan, rows: list[str]) -> str:
    """The plan as text with these rows, at most 100 columns wide."""
    lines = [_summary(plan)]
    others = ", ".join(f"{name} {total:,}" for name, total in plan.totals.items())
    if others:
        lines.append(f"multiplications of other orders: {others}")
    if plan.method != "elimination":
        side = "columns, as forward mode does" if plan.method == "columns" else "rows, as reverse mode does"
        lines.append(f"plain substitution with an identity on the right is cheaper: by {side}; the elimination would be")
    if plan.steps:
        head = f"{'step':>5} {'node':>5}  {'name':<{NAME}} {'in × out':>9} {'space':>{SPACE}} {'mults':>9}"
        head += f" {'fill':>5} {'total':>10}"
        lines += [head, "─" * len(head), *rows]
    return "\n".join(lines)


def _summary(plan: Plan) -> str:
    return (
        f"Plan: {plural(len(plan.steps), 'node')} to eliminate, {plural(plan.multiplications, 'multiplication')}, "
        f"cost {plan.cost:,.0f} by {plan.method}"
    )


def _rows(steps: tuple[Step, ...]) -> list[str]:
    rows = [_row(k, step) for k, step in enumerate(steps, 1)]
    if len(rows) <= SHOWN:
        return rows
    half = SHOWN // 2
    return [*rows[:half], _left_out(len(rows) - SHOWN), *rows[-half:]]


def _left_out(count: int) -> str:
    return f"{'…':>5}  ({plural(count, 'step')} more)"


def _row(k: int, step: Step) -> str:
    name = _cut(step.name)
    space = step.space if len(step.space) <= SPACE else step.space[: SPACE - 1] + "…"
    degrees = f"{step.ins} × {step.outs}"
    return (
        f"{k:>5} {step.node:>5}  {name:<{NAME}} {degrees:>9} {space:>{SPACE}} {step.multiplications:>9,} "
        f"{step.fill:>5} {step.total:>10,}"
    )


def _cut(name: str) -> str:
    """A name in its column, the file without its folders."""
    primitive, bracket, place = name.partition(" (")
    if bracket:
        name = f"{primitive} ({place.replace(chr(92), '/').rpartition('/')[2]}"
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def make_plan(network: LinearizedGraph, order: Any = "auto", search: float | None = None, *, dense: bool = True) -> Plan:
    """The plan for a network: the order given, or the best one found.

    ``order`` is one of `ORDERS` or a sequence naming every node once; ``search`` is how many seconds to look for a better
    one with "auto" (without it, as long as a fixed small number of tries takes; beyond 2,000 nodes nothing is searched).
    ``dense`` says that the result will be written as arrays, which costs as well.
    Raises `ValueError` for an unknown name and for an order that misses, repeats or invents a node.
    """
    return make_plans(network, [order], search, dense=dense)[0]


def make_plans(
    network: LinearizedGraph, orders: Iterable[Any], search: float | None = None, *, dense: bool = True
) -> list[Plan]:
    """The plans for several orders of one network, each as `make_plan` makes it; what they share is worked out once."""
    given: Any = search
    if given is not None and (isinstance(given, bool) or not isinstance(given, Real) or not 0 <= float(given) < math.inf):
        raise ValueError(f"search is a time in seconds, zero or more, got {search!r}.")
    costs = _Costs(network, dense)
    chosen = [_chosen(costs, order, search) for order in orders]
    totals = {name: costs.multiplications(nodes) for name, nodes in costs.named().items()}
    return [_planned(costs, order, method, totals) for order, method in chosen]


def _planned(costs: _Costs, chosen: list[int], method: str, totals: dict[str, int]) -> Plan:
    network = costs.network
    cost = costs.cost(chosen) if method == "elimination" else costs.substitutions()[method]
    steps = tuple(costs.steps(chosen))
    total = steps[-1].total if steps else costs.multiplications(chosen)
    return Plan((*chosen, *sorted(network.terminal)), method, total, cost, dict(totals), steps, network.signature())


def choose_order(
    network: LinearizedGraph, order: Any = "auto", *, dense: bool = True, shared: Sharing | None = None
) -> Choice:
    """What an accumulation reads of the plan that `make_plan` makes; an order that needs no search is not priced.

    With ``shared`` it is carried out at every point of a batch; that says of an array whether the batch shares it.
    """
    chosen, method = _chosen(_Costs(network, dense, shared), order, None)
    return Choice((*chosen, *sorted(network.terminal)), method)


def _chosen(costs: _Costs, order: Any, search: float | None) -> tuple[list[int], str]:
    """The order of the nodes that are to be eliminated, and the method."""
    if order not in ORDERS if isinstance(order, str) else not isinstance(order, Iterable):
        names = ", ".join(map(repr, ORDERS))
        raise ValueError(f"unknown order {order!r}; use one of {names}, a sequence of nodes, or a plan.")
    if not isinstance(order, str):
        return _checked(costs.network, order), "elimination"
    if order != "auto":
        return costs.named(order)[order], "elimination"
    best = _best(costs, costs.named(), search)
    prices = {"elimination": costs.cost(best), **costs.substitutions()}
    return best, min(prices, key=prices.__getitem__)  # elimination among equals


def _best(costs: _Costs, known: dict[str, list[int]], search: float | None) -> list[int]:
    """The cheapest of the known orders, improved by search from the best two."""
    priced: list[tuple[float, list[int]]] = []
    limit = math.inf
    for order in (*reversed(known.values()), *costs.greedy_starts()):  # Markowitz' order first: it is often the cheapest
        priced.append((costs.price(order, limit), order))
        if not search:  # which starts from the best two
            limit = min(limit, priced[-1][0])
    priced[: len(known)] = priced[len(known) - 1 :: -1]  # the first among equals is the first known
    priced.sort(key=itemgetter(0))
    least = [order for price, order in priced if price == priced[0][0]]
    if len(least) > 1:  # many cost nothing where products are kept as factors
        least.sort(key=costs.multiplications)
    ranked = [*least, *(order for _, order in priced[len(least) :])]
    first = ranked[0]
    if len(first) < 2 or search == 0 or len(first) > LARGE:
        return first
    progress = _progress(search)
    best_order = first
    best = priced[0][0]
    for seed, start in enumerate(ranked[:2] if search else ranked[:1]):
        share = None if search is None else search / 2
        new = costs.improved(start, share, seed, progress)
        price = costs.price(new)
        if price < best:
            best, best_order = price, new
    return best_order


def _progress(search: float | None) -> Callable[[float], None] | None:
    if search is None or search < 2:
        return None
    return progress_line("searching for an order of elimination")


def _checked(network: LinearizedGraph, order: Iterable[Any]) -> list[int]:
    nodes = list(order)
    seen: set[int] = set()
    for v in nodes:
        if not hasattr(v, "__index__") or not 0 <= v < network.nodes:
            there = f"the nodes are 0 to {network.nodes - 1}" if network.nodes else "there are none"
            raise ValueError(f"the order names node {v!r}, but {there}.")
        if v in seen:
            raise ValueError(f"the order eliminates {network.label(v)} twice.")
        seen.add(v)
    missing = sorted(set(network.inner) - seen)
    if missing:
        raise ValueError(
            f"the order misses {network.label(missing[0])}; it must name each of the {network.nodes} nodes once."
        )
    return [int(v) for v in nodes if v not in network.terminal]


class _Costs:
    """A network's structures, and the price of orders on them."""

    def __init__(self, network: LinearizedGraph, dense: bool, shared: Sharing | None = None) -> None:
        self.network = network
        self.dense = dense
        self.table = StructureTable(shared)
        self._counts: BitGraph | None = None

    @cached_property
    def into(self) -> dict[int, dict[int, int]]:
        """The structure of each edge."""
        return {i: {j: self.table.number(e) for j, e in row.items()} for i, row in self.network.into.items()}

    @cached_property
    def uniform(self) -> int | None:
        """What every product costs where they cost the same, and the nodes are few enough for bits of every pair."""
        sizes = {self.table.uniform(s) for row in self.into.values() for s in row.values()}
        return sizes.pop() if len(sizes) == 1 and len(self.network.inner) <= LARGE else None

    def named(self, *names: str) -> dict[str, list[int]]:
        """The orders that have names, or those of these names."""
        inner = self.network.inner
        rules = {"forward": lambda: inner, "reverse": lambda: inner[::-1], "markowitz": lambda: self.by_degree}
        return {name: rules[name]() for name in names or rules}

    @property
    def counts(self) -> BitGraph:
        """The bare graph."""
        if self._counts is None:
            self._counts = self._bits()
        return self._counts

    def _bits(self) -> BitGraph:
        n = len(self.network.spaces)
        into, out_of = [0] * n, [0] * n
        for i, row in self.into.items():
            for j in row:
                into[i] |= 1 << j
                out_of[j] |= 1 << i
        return BitGraph(into, out_of)

    @cached_property
    def by_degree(self) -> list[int]:
        """The order by Markowitz degree: in-edges times out-edges, each product weighted by its size."""
        if self.uniform is not None:
            return greedy(self.counts, self.network.inner)
        work = CostGraph(self.table, self.into)
        order = []
        for v in cheapest_first(self.network.inner, work.markowitz_cost, work.graph.neighbours):
            work.eliminate(v)
            order.append(v)
        return order

    def greedy_starts(self) -> list[list[int]]:
        """Further orders to start a search from, where the nodes are few enough to look at all of them at every step."""
        if len(self.network.inner) > FEW:
            return []
        return [minimum_fill(self.counts, self.network.inner)]

    def improved(self, order: list[int], seconds: float | None, seed: int, progress: Any) -> list[int]:
        """An order at most as costly, by annealing."""
        if self.uniform is not None:
            state, gone, left = eliminate_chains(self.counts, order)
            moves = min(MOVES[0] * len(left), MOVES[1]) if seconds is None else None
            return gone + anneal(state, left, moves=moves, seconds=seconds, seed=seed, progress=progress)[1]
        work = self.counts.total(order) + len(order)
        moves = max(20, WORK // work) if seconds is None else None
        enough = self.table.worked_out + min(NEW, self.price(order) / EACH)
        return anneal_whole(
            self.price,
            order,
            moves=moves,
            seconds=seconds,
            seed=seed,
            progress=progress,
            exhausted=lambda: self.table.worked_out > enough,
        )[1]

    def price(self, order: Sequence[int], limit: float = math.inf) -> float:
        """What a search makes small: multiplications where every one costs the same, else the real cost."""
        if self.uniform is not None:
            return self.counts.total(order) * self.uniform
        return self.cost(order, limit)

    def cost(self, order: Sequence[int], limit: float = math.inf) -> float:
        """The real cost, products with multiples of the identity free; it need not be exact beyond the limit."""
        work = CostGraph(self.table, self.into)
        total = 0.0
        for v in order:
            total += work.eliminate(v)
            if total > limit:
                return total
        if self.dense:
            for i in self.network.outputs:
                total += sum(map(self.table.dense, work.graph.into.get(i, {}).values()))
        return total

    def multiplications(self, order: Sequence[int]) -> int:
        """The multiplications of a whole order."""
        if self.uniform is not None:
            return int(self.price(order))
        work = CostGraph(self.table, self.into)
        total = 0
        for v in order:
            work.eliminate(v)
            total += work.multiplications
        return total

    def steps(self, order: Sequence[int]) -> list[Step]:
        """Each step of an order."""
        work = CostGraph(self.table, self.into)
        graph, steps, total = work.graph, [], 0
        for v in order:
            ins, outs, before = len(graph.into.get(v, ())), len(graph.out_of.get(v, ())), graph.fill_in
            work.eliminate(v)
            total += work.multiplications
            name, space = self.network.label(v), str(self.network.spaces[v])
            steps.append(Step(v, name, ins, outs, space, work.multiplications, graph.fill_in - before, total))
        return steps

    def substitutions(self) -> dict[str, float]:
        """What columns (forward) and rows (reverse) cost by substitution with an identity on the right."""
        if not self.dense:
            return {}
        edges = [(i, j, s) for i, row in self.into.items() for j, s in row.items()]
        prices = {}
        for name, back, side in (("columns", False, self.network.sources), ("rows", True, self.network.outputs)):
            each, once = (sum(part) for part in zip(*(self.table.application(s, back=back) for *_, s in edges), (0.0, 0.0)))
            ends = Counter(j if back else i for i, j, _ in edges)  # what several edges lead to is summed
            each += sum((count - 1) * self.network.spaces[k].size for k, count in ends.items())
            prices[name] = each * sum(self.network.spaces[k].size for k in side) + once
        return prices
