"""Abstract evaluation of an elimination: what edge weights of given structures give, and what that costs.

Arrays here have a shape and a dtype and no entries.  Operators made of them compose and add by the very code that carries a
plan out, and count what it would cost; each pair of structures is worked out once, then looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import Labels, counted, is_mask, is_number, promoted, register_adapter
from backsolve.algebra.elements import add
from backsolve.algebra.spaces import Space, TupleSpace
from backsolve.elimination.borders import closed_weight, edge_product, premultiplied
from backsolve.elimination.graph import EliminationGraph
from backsolve.operators import Einsum, LinearMap, LinearOperator, Product, Sum
from backsolve.operators.base import Identity, Scaling
from backsolve.operators.batch_axes import Pairs
from backsolve.operators.closed_form import dense_array, is_opaque
from backsolve.operators.einsum import Factor, Reciprocal
from backsolve.operators.moves import Component, Reshape, move_key
from backsolve.sparse.materialize import register_kernels

__all__ = ["AbstractArray", "Cost", "CostGraph", "EdgeProduct", "Sharing", "StructureTable", "abstracted", "entries"]


FUSED = 8  # products summed in a contraction cost an eighth of a product written to memory: measured on XLA's CPU
# The same over a batch, in entries written and read again (0.2 to 0.5 ns): with weights that the batch shares 0.02 to 0.04
# ns a product, of two matrices at each point 0.04 to 0.13 ns, and 60 to 100 ns for the call.
SHARED, CALL = 16, 200
START = 1_000  # entries, in the time that an operation takes to start: a contraction, a routine, a loop's at each turn
POINTS = 32  # of a batch, at least, which starts those of a loop for all of them together
SMALL = 64, 8  # entries of a product, and numbers summed for each, of what is written as a loop itself (see `xla`)
LONG = 1024  # operators in one lazy product or sum: a node that doubles them ten times over is eliminated too late
Sharing = Callable[[Any], bool]  # whether a batch shares an array


@dataclass
class Cost:
    """What the operations on abstract arrays would cost: about the number of entries written, contractions at a discount.

    With ``shared``, at every point of a batch, whose loops keep to themselves what is worked out entry by entry: only what
    enters or leaves a contraction is written, and what the batch shares costs nothing.
    """

    total: float = 0.0
    shared: Sharing | None = None
    once: float = 0.0  # of it what many columns cost together

    def taken(self) -> float:
        """The cost since it was last taken."""
        total, self.total, self.once = self.total + self.once, 0.0, 0.0
        return total

    def launched(self, operations: float) -> None:
        """Count operations that are started, however many columns each is for."""
        self.once += operations * (START if self.shared is None else START / POINTS)

    def called(self) -> None:
        """Count a routine that is called, of a batch for each point."""
        self.once += START if self.shared is None else CALL

    def contracted(self, operands: Sequence[AbstractArray], size: int, products: int) -> bool:
        """Count one contraction with a result of so many entries; whether that is worked out where it is read."""
        if self.shared is None:
            self.total += size + products / FUSED
            self.called()
            return False
        moving = [x for x in operands if not x.shared]
        small = len(moving) == 2 and size <= SMALL[0] and products <= SMALL[1] * size
        if small:
            self.total += products / FUSED
        elif moving:
            self.total += size + sum(prod(x.shape) for x in moving if x.fused)
            self.total += products / SHARED if len(moving) < 2 else products / FUSED
            if len(moving) == 2:
                self.called()
        return small


class AbstractArray:
    """An array's shape and dtype; what is done to it is counted.

    Of a batch also whether the batch shares it, and whether it is worked out where it is read.
    """

    __slots__ = ("cost", "dtype", "fused", "shape", "shared")
    __array_ufunc__ = None  # NumPy arrays beside it leave + and * to it

    def __init__(self, shape: tuple[int, ...], dtype: Any, cost: Cost, *, shared: bool = False, fused: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype
        self.cost = cost
        self.shared = shared
        self.fused = fused

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def written(self, shape: tuple[int, ...], dtype: Any = None, other: Any = None) -> AbstractArray:
        """One made entry by entry of this and perhaps another, whose entries are written (over a batch: worked out)."""
        batched = self.cost.shared is not None
        shared = batched and self.shared and getattr(other, "shared", True)
        self.cost.total += 0 if shared else prod(shape) if not batched else prod(shape) / FUSED
        dtype = self.dtype if dtype is None else dtype
        return AbstractArray(shape, dtype, self.cost, shared=shared, fused=batched and not shared)

    def moved(self, shape: tuple[int, ...], dtype: Any = None) -> AbstractArray:
        """The same entries in another shape, or of another dtype."""
        return AbstractArray(shape, dtype or self.dtype, self.cost, shared=self.shared, fused=self.fused)

    def __getitem__(self, place: Any) -> Any:
        raise TypeError("an abstract array has no entries")

    def __add__(self, other: Any) -> AbstractArray:
        return self.written(np.broadcast_shapes(self.shape, getattr(other, "shape", ())), None, other)

    __radd__ = __mul__ = __rmul__ = __or__ = __add__

    def __array_namespace__(self) -> Any:
        """The few functions that the operators' closed forms call."""
        like = self

        def constant(shape: Any, dtype: Any = None) -> AbstractArray:
            return AbstractArray(tuple(shape), np.dtype(dtype or like.dtype), like.cost, shared=like.cost.shared is not None)

        return SimpleNamespace(
            bool=np.dtype(bool),
            int32=np.dtype(np.int32),
            zeros=constant,
            ones=constant,
            any=lambda x, axis: x.written(tuple(n for k, n in enumerate(x.shape) if k not in axis)),
            permute_dims=lambda x, axes: x.moved(tuple([x.shape[axis] for axis in axes])),
            linalg=SimpleNamespace(diagonal=lambda x: x.written((*x.shape[:-2], min(x.shape[-2:])))),
        )


class AbstractKernels:
    """See `backsolve.sparse.materialize.Kernels`."""

    def gather(self, x: Any, index: Any) -> Any:
        """Entries at these places."""
        return x.written((index.size, *x.shape[1:]))

    def box(self, x: Any, starts: Any, stops: Any, steps: Any) -> Any:
        """Those of a box."""
        sizes = [len(range(*bounds)) for bounds in zip(starts, stops, steps, strict=True)]
        return x.written((*sizes, *x.shape[len(sizes) :]))

    def concatenate(self, parts: Any) -> Any:
        """The parts one after the other."""
        like = next(part for part in parts if isinstance(part, AbstractArray))
        return like.written((sum(part.shape[0] for part in parts), *like.shape[1:]))

    def stack(self, parts: Any) -> Any:
        """The parts side by side."""
        like = next(part for part in parts if isinstance(part, AbstractArray))
        return like.written((like.shape[0], len(parts), *like.shape[1:]))


class AbstractAdapter:
    """See `backsolve.algebra.arrays.Adapter`."""

    def multiply(self, a: Any, b: Any) -> Any:
        """Entrywise product; a sign is free."""
        if not isinstance(a, AbstractArray) or not isinstance(b, AbstractArray):
            array = a if isinstance(a, AbstractArray) else b
            return array.moved(array.shape)
        dtype = promoted(*(x.dtype for x in (a, b)))
        return a.written(np.broadcast_shapes(a.shape, b.shape), dtype, b)

    def add(self, a: Any, b: Any) -> Any:
        """Entrywise sum."""
        like = a if isinstance(a, AbstractArray) else b
        dtype = promoted(*(x.dtype for x in (a, b) if hasattr(x, "dtype")))
        return like.written(np.broadcast_shapes(*(getattr(x, "shape", ()) for x in (a, b))), dtype, b if like is a else a)

    def subtract(self, a: Any, b: Any) -> Any:
        """Entrywise difference."""
        return self.add(a, b)

    def divide(self, a: Any, b: Any) -> Any:
        """Entrywise quotient."""
        return self.add(a, b)

    def contract(self, a: Any, la: Labels, b: Any, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
        """Labelled product."""
        sizes = dict(zip(la, a.shape, strict=True)) | dict(zip(lb, b.shape, strict=True))
        out = tuple(label for label in dict.fromkeys(la + lb) if label in keep)
        cost = a.cost if isinstance(a, AbstractArray) else b.cost
        shape = tuple(sizes[label] for label in out)
        dtype = promoted(a.dtype, b.dtype)
        if len(out) == len(sizes):
            like, other = (a, b) if isinstance(a, AbstractArray) else (b, a)
            return like.written(shape, dtype, other), out
        operands = [x for x in (a, b) if isinstance(x, AbstractArray)]
        fused = cost.contracted(operands, prod(shape), prod(sizes.values()))
        shared = all(x.shared for x in operands)
        dtype = np.dtype(np.int32) if dtype.kind == "b" else dtype
        return AbstractArray(shape, dtype, cost, shared=shared, fused=fused), out

    def place(self, x: Any, labels: Labels, out: Labels, shape: tuple[int, ...]) -> Any:
        """Axes permuted and repeated."""
        return x.written(shape)

    def sum(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Sum over axes."""
        x.cost.total += 0 if x.shared else prod(x.shape)
        return AbstractArray(
            tuple(n for axis, n in enumerate(x.shape) if axis not in axes), counted(x).dtype, x.cost, shared=x.shared
        )

    def eye(self, like: Any, n: Any, dtype: Any) -> Any:
        """An identity."""
        return AbstractArray((n, n), np.dtype(dtype), like.cost, shared=like.cost.shared is not None)

    def pad(self, x: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
        """Zeros around."""
        return x.written(tuple(map(sum, zip(before, x.shape, after, strict=True))))

    def take(self, x: Any, starts: tuple[int, ...], stops: tuple[int, ...]) -> Any:
        """A box; one of a mask is no work of its own."""
        shape = tuple(b - a for a, b in zip(starts, stops, strict=True))
        return x.moved(shape) if is_mask(x) else x.written(shape)

    def concat(self, arrays: Any, axis: int) -> Any:
        """One after the other."""
        like = next(x for x in arrays if isinstance(x, AbstractArray))
        shape = list(like.shape)
        shape[axis] = sum(x.shape[axis] for x in arrays)
        return like.written(tuple(shape))

    def stack(self, arrays: Any) -> Any:
        """A new first axis."""
        like = next(x for x in arrays if isinstance(x, AbstractArray))
        return like.written((len(arrays), *like.shape))

    def map_columns(self, function: Any, x: Any) -> Any:
        """One image, as often as there are columns."""
        before = x.cost.total
        image = function(AbstractArray(x.shape[:-1], x.dtype, x.cost))
        x.cost.total += (x.cost.total - before) * (x.shape[-1] - 1)
        return AbstractArray((*image.shape, x.shape[-1]), image.dtype, x.cost)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Another shape."""
        return x.moved(tuple(shape))

    def astype(self, x: Any, dtype: Any) -> Any:
        """Another dtype."""
        return x.moved(x.shape, dtype)

    def settle(self, x: Any, layout: Any) -> Any:
        """The same array."""
        return x


register_adapter(AbstractArray, AbstractAdapter())
register_kernels(AbstractArray, AbstractKernels())


def _abstract_opaque(op: LinearOperator, cost: Cost) -> LinearOperator:
    """An opaque operator between abstract arrays: its spaces, the cost of one application, its batch axes."""

    def image(space: Space) -> Any:
        if isinstance(space, TupleSpace):
            return tuple(map(image, space.parts))
        return AbstractArray(tuple(space.shape or ()), space.dtype, cost)

    def applied(codomain: Space, work: float) -> Any:
        def apply(x: Any) -> Any:
            cost.total += work
            if op.started:
                cost.launched(op.started)
            else:
                cost.called()
            return image(codomain)

        return apply

    return LinearMap(
        applied(op.codomain, op.work),
        applied(op.domain, op.work_back),
        op.domain,
        op.codomain,
        op.label,
        batch_axes=_alignment(op),
        lift=lambda x: AbstractArray(tuple(x.shape), x.dtype, cost),
    )


def _dtype(array: Any) -> Any:
    """The dtype as NumPy knows it; of another library's array whether it is a mask is all that matters here."""
    if isinstance(array.dtype, np.dtype):
        return array.dtype
    return np.dtype(bool if is_mask(array) else float)


def _abstract(f: Factor, cost: Cost) -> AbstractArray:
    array = f.divisor if isinstance(f, Reciprocal) else f.array  # of the same shape and dtype
    shared = cost.shared is not None and (f.given or cost.shared(array))
    return AbstractArray(tuple(array.shape), _dtype(array), cost, shared=shared)


def abstracted(op: LinearOperator, cost: Cost) -> LinearOperator:
    """The operator with every array abstract."""
    if isinstance(op, Einsum):
        factors = tuple(Factor(_abstract(f, cost), f.labels, "", f.given) for f in op.factors)
        return Einsum(factors, op.out, op.into, op.sizes, op.coef, op.dtypes)
    if isinstance(op, Product):
        return Product(tuple(abstracted(f, cost) for f in op.factors))
    if isinstance(op, Sum):
        return Sum(tuple(abstracted(t, cost) for t in op.terms))
    if isinstance(op, Scaling) and not is_number(op.c):
        return Scaling(AbstractArray((), op.c.dtype, cost), op.space)
    return _abstract_opaque(op, cost) if is_opaque(op) else op


def _alignment(op: LinearOperator) -> dict[tuple[int, int], Pairs]:
    into, out = (len(space.parts) if isinstance(space, TupleSpace) else 1 for space in (op.domain, op.codomain))
    return {(k, o): pairs for k in range(into) for o in range(out) if (pairs := op.aligned(k, o))}


class EdgeProduct(NamedTuple):
    """The structure that a product or sum has (None: zero), its multiplications, and its cost."""

    result: int | None
    multiplications: int
    cost: float


class StructureTable:
    """Numbers for the structures of elements; equal structures have equal numbers."""

    def __init__(self, shared: Sharing | None = None) -> None:
        self._cost = Cost(shared=shared)
        self._elements: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._products: dict[tuple[int, int], EdgeProduct] = {}
        self._sums: dict[tuple[int, int], EdgeProduct] = {}
        self._dense: dict[int, float] = {}
        self._closed_forms: dict[int, tuple[Any, float]] = {}
        self._entries: dict[int, int] = {}
        self._long: set[int] = set()

    @property
    def worked_out(self) -> int:
        """How many products and sums had to be worked out, at about a tenth of a millisecond each."""
        return len(self._products) + len(self._sums)

    def sizes(self) -> list[tuple[int, int, int]]:
        """For each structure its entries that are not zero, and the sizes of domain and codomain; of a number all are 1."""
        return [(1, 1, 1) if op is None else (entries(op), op.domain.size, op.codomain.size) for op in self._elements]

    def number(self, element: Any) -> int:
        """The structure of an element of a system."""
        known = isinstance(element, LinearOperator) and element.domain.known and element.codomain.known
        abstract = abstracted(element, self._cost) if known else None  # of unknown size: every product counts as one
        return self._intern(premultiplied(abstract))

    def _intern(self, abstract: LinearOperator | None) -> int:
        key = _key(abstract)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._elements)
            self._elements.append(abstract)
            if _is_long(abstract):
                self._long.add(number)
        return number

    def product(self, a: int, b: int) -> EdgeProduct:
        """Structure a ∘ structure b."""
        product = self._products.get((a, b))
        if product is None:
            product = self._products[a, b] = self._multiplied(a, b)
        return product

    def multiplications(self, a: int, b: int) -> int:
        """How many structure a ∘ structure b takes, by their entries alone where it was not worked out yet."""
        known = self._products.get((a, b))
        if known is not None:
            return known.multiplications
        one, other = self._elements[a], self._elements[b]
        if one is None or other is None:  # numbers, and whatever else has a product
            return 1
        if a in self._long or b in self._long:
            size: int = one.codomain.size * one.domain.size * other.domain.size
            return size
        middle: int = max(min(one.domain.size, other.codomain.size), 1)
        return ceil(self._count(a) * self._count(b) / middle)

    def _count(self, a: int) -> int:
        count = self._entries.get(a)
        if count is None:
            count = self._entries[a] = entries(self._elements[a])
        return count

    def _multiplied(self, a: int, b: int) -> EdgeProduct:
        one, other = self._elements[a], self._elements[b]
        if one is None or other is None:
            return EdgeProduct(self._intern(None), 1, 1.0)
        if a in self._long or b in self._long:
            return EdgeProduct(None, self.multiplications(a, b), inf)
        (left, first), (right, second) = self._closed(a), self._closed(b)
        self._cost.taken()
        product = edge_product(left, _another(right))
        cost = first + second + self._cost.taken()
        if product is None:
            return EdgeProduct(None, 0, cost)
        return EdgeProduct(self._intern(product), self.multiplications(a, b), cost)

    def _closed(self, a: int) -> tuple[Any, float]:
        """Structure a as products are made of it, and what that costs in every loop that reads it."""
        closed = self._closed_forms.get(a)
        if closed is None:
            self._cost.taken()
            element = closed_weight(self._elements[a])
            closed = self._closed_forms[a] = element, self._cost.taken()
        return closed

    def sum(self, a: int, b: int) -> EdgeProduct:
        """Structure a + structure b."""
        total_structure = self._sums.get((a, b))
        if total_structure is None:
            one, other = self._elements[a], self._elements[b]
            if one is None or other is None:
                total_structure = EdgeProduct(self._intern(None), 0, 1.0)
            elif a in self._long or b in self._long:
                total_structure = EdgeProduct(a, 0, inf)
            else:
                self._cost.taken()
                total = add(one, _another(other))
                total_structure = EdgeProduct(self._intern(total), 0, self._cost.taken())
            self._sums[a, b] = total_structure
        return total_structure

    def dense(self, a: int) -> float:
        """What it costs to write structure a as one array."""
        if a not in self._dense:
            element = self._elements[a]
            self._cost.taken()
            if element is not None and not isinstance(element.domain, TupleSpace):
                dense_array(element)
            self._dense[a] = self._cost.taken()
        return self._dense[a]

    def application(self, a: int, *, back: bool = False) -> tuple[float, float]:
        """What applying structure a, or its transpose, costs for each element of its domain, and once for all."""
        element = self._elements[a]
        if element is None:
            return 1.0, 0.0
        element = element.transpose() if back else element
        packed = isinstance(element.domain, TupleSpace)
        if packed and not is_opaque(element):
            return float(element.domain.size), 0.0
        self._cost.taken()
        fused = self._cost.shared is not None
        parts = [
            AbstractArray(space.shape or (), np.dtype(space.dtype or float), self._cost, fused=fused)
            for space in (element.domain.parts if packed else [element.domain])
        ]
        element.apply(tuple(parts) if packed else parts[0])
        once = self._cost.once
        return self._cost.taken() - once, once

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
        return sum(self.table.multiplications(into[i][v], s) for i in self.graph.out_of.get(v, ()) for s in ins)

    def eliminate(self, v: int) -> float:
        """Eliminate v; what it cost."""
        self.cost, self.multiplications = 0.0, 0
        self.graph.eliminate(v)
        return self.cost


def _is_long(op: LinearOperator | None) -> bool:
    """Whether a product or sum that is kept as such has so many parts in all that no order should lead there.

    Every edge that is multiplied with it has its parts again: the next nodes would have twice as many, and so on.
    """
    waiting = [] if op is None else [op]
    for at in waiting:  # it grows meanwhile
        waiting.extend(getattr(at, "factors", ()) if isinstance(at, Product) else getattr(at, "terms", ()))
        if len(waiting) > LONG:
            return True
    return False


def entries(op: LinearOperator) -> int:
    """How many entries of op's matrix are not zero by its structure."""
    if isinstance(op, Einsum):
        return prod(op.sizes[label] or 1 for label in {*op.out, *op.into})
    if isinstance(op, (Product, Sum)) or is_opaque(op):
        full = op.domain.size * op.codomain.size
        if isinstance(op, Sum):
            return min(full, sum(entries(term) for term in op.terms))
        if isinstance(op, Product):
            count = entries(op.factors[-1])
            for left, right in zip(op.factors[-2::-1], op.factors[:0:-1], strict=True):
                count = -(-count * entries(left) // max(right.codomain.size, 1))
                count = min(count, left.codomain.size * op.domain.size)
            return count
        return full
    return min(op.domain.size, op.codomain.size)


def _another(op: Any) -> Any:
    """One of the same structure with masks of its own: equal structures need not be the same mask."""
    if not isinstance(op, Einsum) or not any(is_mask(f.array) for f in op.factors):
        return op
    factors = [
        f._replace(array=f.array.moved(f.array.shape)) if isinstance(f.array, AbstractArray) else f for f in op.factors
    ]
    return Einsum(tuple(factors), op.out, op.into, op.sizes, op.coef, op.dtypes)


def _flags(f: Factor) -> tuple[bool, ...]:
    of_batch = (f.array.shared, f.array.fused) if isinstance(f.array, AbstractArray) else (True, False)
    return is_mask(f.array), f.given, *of_batch


def _key(op: LinearOperator | None) -> Any:
    if op is None:
        return None
    if isinstance(op, (Product, Sum)):
        return (type(op), *map(_key, op.factors if isinstance(op, Product) else op.terms))
    spaces = (op.domain, op.codomain)
    if isinstance(op, Einsum):
        number: dict[int, int] = {}
        labels = [tuple([number.setdefault(k, len(number)) for k in word]) for word in (op.out, op.into)]
        factors = sorted((*_flags(f), *[number.setdefault(k, len(number)) for k in f.labels]) for f in op.factors)
        inner = tuple([op.sizes[k] for k in number])
        unit = op.coef in (1, -1)
        return (*spaces, *labels, tuple(factors), inner, unit)
    if is_opaque(op):
        return (id(op), *spaces)
    return (type(op), *spaces, (op.index, op.transposed) if isinstance(op, Component) else move_key(op))
