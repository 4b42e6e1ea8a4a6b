"""The table of structures that an elimination meets, whatever its order: what two give, and how often they multiply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from backsolve.elimination.borders import LinearizedGraph
from backsolve.planning.costs import CostGraph, EdgeProduct, StructureTable

__all__ = ["Structures", "structures_of"]

ORDERS, TRIED, FOUND = 1_000, 100_000, 1_000  # tried at random at most: orders, products of edges; and products worked out


@dataclass(frozen=True)
class Structures:
    """The structure of each edge, ``into[i][j]`` of j → i, and what two of them give.

    ``products[a, b]`` is structure a ∘ structure b (None: no edge after all) and its multiplications, ``sums`` their sum,
    ``entries`` how many entries each has that are not zero, and the sizes of its domain and codomain.  What the orders
    given need is there; of a large network something that another meets may be missing.
    """

    into: dict[int, dict[int, int]]
    entries: list[tuple[int, int, int]] = field(default_factory=list)
    products: dict[tuple[int, int], EdgeProduct] = field(default_factory=dict)
    sums: dict[tuple[int, int], int | None] = field(default_factory=dict)


class _Recording(StructureTable):
    """A table that keeps what it was asked for in ``found``."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Structures({})

    def product(self, a: int, b: int) -> EdgeProduct:
        self.found.products[a, b] = product = super().product(a, b)
        return product

    def sum(self, a: int, b: int) -> EdgeProduct:
        total = super().sum(a, b)
        self.found.sums[a, b] = total.result
        return total


def structures_of(network: LinearizedGraph, orders: Iterable[Sequence[int]]) -> Structures:
    """What these orders of the inner nodes meet, and what others do, found by trying them at random.

    Cost: a fraction of a second, however large the network is.
    """
    table = _Recording()
    into = table.found.into
    into.update({i: {j: table.number(element) for j, element in row.items()} for i, row in network.into.items()})
    for order in orders:
        _meet(table, into, order, None)
    left, random = TRIED, Random(0)
    for _ in range(ORDERS):
        order = random.sample(network.inner, len(network.inner))
        left -= _meet(table, into, order, left)
        if left <= 0 or table.worked_out > FOUND:
            break
    table.found.entries.extend(table.sizes())
    return table.found


def _meet(table: _Recording, into: dict[int, dict[int, int]], order: Sequence[int], limit: int | None) -> int:
    """Eliminate in this order until there were so many products; how many there were."""
    work, products = CostGraph(table, into), 0
    for v in order:
        products += work.graph.markowitz_degree(v)
        if limit is not None and products > limit:
            break
        work.eliminate(v)
    return products
