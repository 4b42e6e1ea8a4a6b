"""What two structures give when composed or added, and what that costs: worked out once on shadows, then looked up."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import is_mask
from backsolve.algebra.elements import add
from backsolve.algebra.spaces import TupleSpace
from backsolve.elimination.borders import edge_product, premultiplied
from backsolve.elimination.graph import EliminationGraph
from backsolve.operators import Einsum, LinearOperator, Sum
from backsolve.operators import Product as LazyProduct
from backsolve.operators.base import Identity, Scaling
from backsolve.operators.closed_form import dense_array, is_opaque
from backsolve.operators.commute import move_key
from backsolve.operators.quotient import Quotient
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice
from backsolve.planning.abstract import Shadow, Tally, shadow_of

__all__ = ["CostGraph", "Product", "StructureTable"]


class Product(NamedTuple):
    """The structure that a product or sum has (None: zero), its multiplications, and its cost."""

    result: int | None
    multiplications: int
    cost: float


class StructureTable:
    """Numbers for the structures of elements; equal structures have equal numbers."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._elements: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._products: dict[tuple[int, int], Product] = {}
        self._sums: dict[tuple[int, int], Product] = {}
        self._dense: dict[int, float] = {}

    @property
    def worked_out(self) -> int:
        """How many products and sums had to be worked out, at about a tenth of a millisecond each."""
        return len(self._products) + len(self._sums)

    def number(self, element: Any) -> int:
        """The structure of an element of a system."""
        known = isinstance(element, LinearOperator) and element.domain.known and element.codomain.known
        shadow = shadow_of(element, self._tally) if known else None  # of unknown size: every product counts as one
        return self._intern(premultiplied(shadow))

    def _intern(self, shadow: LinearOperator | None) -> int:
        key = _key(shadow)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._elements)
            self._elements.append(shadow)
        return found

    def product(self, a: int, b: int) -> Product:
        """Structure a ∘ structure b."""
        found = self._products.get((a, b))
        if found is None:
            found = self._products[a, b] = self._multiplied(self._elements[a], self._elements[b])
        return found

    def _multiplied(self, a: Any, b: Any) -> Product:
        if a is None or b is None:  # numbers, and whatever else has a product
            return Product(self._intern(None), 1, 1.0)
        self._tally.taken()
        product = edge_product(a, b)
        cost = self._tally.taken()
        if product is None:
            return Product(None, 0, cost)
        middle = max(min(a.domain.size, b.codomain.size), 1)
        return Product(self._intern(product), ceil(entries(a) * entries(b) / middle), cost)

    def sum(self, a: int, b: int) -> Product:
        """Structure a + structure b."""
        found = self._sums.get((a, b))
        if found is None:
            one, other = self._elements[a], self._elements[b]
            if one is None or other is None:
                found = Product(self._intern(None), 0, 1.0)
            else:
                self._tally.taken()
                total = add(one, other)
                found = Product(self._intern(total), 0, self._tally.taken())
            self._sums[a, b] = found
        return found

    def dense(self, a: int) -> float:
        """What it costs to write structure a as one array."""
        if a not in self._dense:
            element = self._elements[a]
            self._tally.taken()
            if element is not None and not isinstance(element.domain, TupleSpace):
                dense_array(element)
            self._dense[a] = self._tally.taken()
        return self._dense[a]

    def application(self, a: int) -> float:
        """What applying structure a to one element of its domain costs."""
        element = self._elements[a]
        if element is None:
            return 1.0
        self._tally.taken()
        shape, dtype = (), None
        if not isinstance(element.domain, TupleSpace):
            shape, dtype = element.domain.shape, element.domain.dtype
            element.apply(Shadow(shape, np.dtype(dtype or float), self._tally))
            return self._tally.taken()
        return float(element.domain.size)

    def uniform(self, a: int) -> int | None:
        """The size n of an element that maps n numbers to n numbers one by one (what such elements keep among them)."""
        element = self._elements[a]
        if element is None:
            return 1
        n = element.domain.size
        plain = isinstance(element, (Einsum, Identity, Scaling, Reshape))
        return n if plain and n == element.codomain.size == entries(element) else None


class CostGraph:
    """The elimination of a graph whose edge weights are structures, and what its last step cost."""

    def __init__(self, table: StructureTable, into: Mapping[int, Mapping[int, int]]) -> None:
        self.table = table
        self.graph = EliminationGraph(into, self._product, self._sum)
        self.multiplications = 0
        self.cost = 0.0

    def _product(self, a: int, b: int) -> int | None:
        product = self.table.product(a, b)
        self.cost += product.cost
        self.multiplications += product.multiplications
        return product.result

    def _sum(self, a: int, b: int) -> int | None:
        total = self.table.sum(a, b)
        self.cost += total.cost
        return total.result

    def markowitz_cost(self, v: int) -> int:
        """The multiplications that eliminating v takes."""
        into = self.graph.into
        ins = into.get(v, {}).values()
        return sum(self.table.product(into[i][v], s).multiplications for i in self.graph.out_of.get(v, ()) for s in ins)

    def eliminate(self, v: int) -> float:
        """Eliminate v; what it cost."""
        self.cost, self.multiplications = 0.0, 0
        self.graph.eliminate(v)
        return self.cost


def entries(op: LinearOperator) -> int:
    """How many entries of op's matrix are not zero by its structure."""
    if isinstance(op, Einsum):
        return prod(op.sizes[label] or 1 for label in {*op.out, *op.into})
    if isinstance(op, (LazyProduct, Sum)) or is_opaque(op):
        full = op.domain.size * op.codomain.size
        if isinstance(op, Sum):
            return min(full, sum(entries(term) for term in op.terms))
        if isinstance(op, LazyProduct):
            count = entries(op.factors[-1])
            for left, right in zip(op.factors[-2::-1], op.factors[:0:-1], strict=True):
                count = ceil(count * entries(left) / max(right.codomain.size, 1))
            return min(full, count)
        return full
    return min(op.domain.size, op.codomain.size)


def _key(op: LinearOperator | None) -> Any:
    if op is None:
        return None
    if isinstance(op, (LazyProduct, Sum)):
        return (type(op), *map(_key, op.factors if isinstance(op, LazyProduct) else op.terms))
    spaces = (op.domain, op.codomain)
    if isinstance(op, Einsum):
        number: dict[int, int] = {}
        labels = [tuple([number.setdefault(k, len(number)) for k in word]) for word in (op.out, op.into)]
        factors = sorted((is_mask(f.array), *[number.setdefault(k, len(number)) for k in f.labels]) for f in op.factors)
        inner = tuple([op.sizes[k] for k in number])
        unit = op.coef in (1, -1)
        return (isinstance(op, Quotient), *spaces, *labels, tuple(factors), inner, unit)
    if is_opaque(op):
        return (id(op), *spaces)
    extra = move_key(op) if not hasattr(op, "index") else op.index
    return (type(op), *spaces, extra, isinstance(op, Slice) and op.transposed)
