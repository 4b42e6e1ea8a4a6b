"""Operators, matrices, vectors and systems as JAX pytrees: arrays are leaves, structure is static."""

from __future__ import annotations

from typing import Any

import jax

from backsolve.capture import adapter as adapter  # registers how JAX does the arrays' operations
from backsolve.capture.linearized import Linearized
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import Paired, RealLinear
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.vector import BlockVector
from backsolve.operators import Einsum, Identity, Product, Scaling, Sum, Zero
from backsolve.operators.einsum import Factor
from backsolve.operators.quotient import Quotient
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice
from backsolve.operators.tiled import Tile, TiledOperator
from backsolve.operators.tuples import Inject, Parts, Project
from backsolve.planning.plan import Plan
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.operator import Sparse
from backsolve.system.system import System

__all__: list[str] = []


def _static(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, str)) or value is None


def _einsum_flatten(op: Einsum) -> tuple[Any, Any]:
    labels = tuple((f.labels, f.name) for f in op.factors)
    return [f.array for f in op.factors], (labels, op.out, op.into, tuple(op.sizes.items()), op.coef, op.dtypes)


def _einsum_unflatten(aux: Any, arrays: Any) -> Einsum:
    labels, out, into, sizes, coef, dtypes = aux
    factors = tuple(Factor(array, ls, name) for array, (ls, name) in zip(arrays, labels, strict=True))
    return Einsum(factors, out, into, dict(sizes), coef, dtypes)


def _matrix_flatten(A: OperatorMatrix) -> tuple[Any, Any]:
    places = tuple(A.entries)
    return [A.entries[place] for place in places], (places, A.shape, tuple(A.row_spaces), tuple(A.col_spaces))


def _matrix_unflatten(aux: Any, elements: Any) -> OperatorMatrix:
    places, shape, rows, cols = aux
    return OperatorMatrix(dict(zip(places, elements, strict=True)), shape, rows, cols)


def _scaling_flatten(op: Scaling) -> tuple[Any, Any]:
    return ((), (op.c, op.space)) if _static(op.c) else ((op.c,), (None, op.space))


def _mosaic_flatten(op: TiledOperator) -> tuple[Any, Any]:
    boxes = tuple(tuple(None if b is None else (b.shape, b.starts, b.stops, b.dtype) for b in tile[:2]) for tile in op.tiles)
    return [tile.element for tile in op.tiles], (op.domain, op.codomain, boxes)


def _mosaic_unflatten(aux: Any, elements: Any) -> TiledOperator:
    domain, codomain, boxes = aux
    slices = [[None if b is None else Slice(*b) for b in pair] for pair in boxes]
    tiles = tuple(Tile(out, into, element) for (out, into), element in zip(slices, elements, strict=True))
    return TiledOperator(domain, codomain, tiles)


class _Same:
    """Static data that is equal only to itself: a traced equation, its parameters."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _equation_flatten(op: LinearEquation) -> tuple[Any, Any]:
    return tuple(op.operands), (_Same(op.eqn), _Same(op.params), (op.domain, op.codomain), op.transposed)


def _equation_unflatten(aux: Any, operands: Any) -> LinearEquation:
    eqn, params, spaces, transposed = aux
    return LinearEquation(eqn.value, operands, params.value, spaces=spaces, transposed=transposed)


def _translated_unflatten(aux: Any, kids: Any) -> Any:
    kind, domain, codomain, conjugated = aux
    return kind(kids[0], domain, codomain, conjugated)


def _register() -> None:
    register = jax.tree_util.register_pytree_node
    register(Einsum, _einsum_flatten, _einsum_unflatten)
    register(OperatorMatrix, _matrix_flatten, _matrix_unflatten)
    register(
        Quotient,
        lambda op: ((op.divisor,), (op.coef, op.dtypes, op.shape)),
        lambda aux, kids: Quotient(kids[0], *aux),
    )
    register(LinearEquation, _equation_flatten, _equation_unflatten)
    for kind in (Paired, RealLinear):
        register(kind, lambda op: ((op.inner,), (type(op), op.domain, op.codomain, op.conjugated)), _translated_unflatten)
    register(Scaling, _scaling_flatten, lambda aux, kids: Scaling(kids[0] if kids else aux[0], aux[1]))
    register(Identity, lambda op: ((), op.space), lambda space, _: Identity(space))
    register(Zero, lambda op: ((), (op.domain, op.codomain)), lambda aux, _: Zero(*aux))
    register(
        Slice,
        lambda op: ((), (op.shape, op.starts, op.stops, op.dtype, op.transposed)),
        lambda aux, _: Slice(*aux),
    )
    register(
        Sparse,
        lambda op: (op.values.sources, (op.pattern, op.values.plan, op.domain, op.codomain)),
        lambda aux, kids: Sparse(aux[0], LazyValues(kids, aux[1]), *aux[2:]),
    )
    register(
        SparseMatrix,
        lambda A: ((A.data,), (A.pattern, A.domain, A.codomain)),
        lambda aux, kids: SparseMatrix(aux[0], kids[0], *aux[1:]),
    )
    register(Reshape, lambda op: ((), (op.out, op.into, op.dtype)), lambda aux, _: Reshape(*aux))
    register(Inject, lambda op: ((), (op.index, op.space)), lambda aux, _: Inject(*aux))
    register(Project, lambda op: ((), (op.index, op.space)), lambda aux, _: Project(*aux))
    register(TiledOperator, _mosaic_flatten, _mosaic_unflatten)
    register(Product, lambda op: (op.factors, None), lambda _, kids: Product(tuple(kids)))
    register(Sum, lambda op: (op.terms, None), lambda _, kids: Sum(tuple(kids)))
    register(BlockVector, lambda v: (v.blocks, None), lambda _, kids: BlockVector(kids))
    register(Parts, lambda p: (tuple(p), None), lambda _, kids: Parts(kids))
    register(Plan, lambda plan: ((), plan), lambda plan, _: plan)
    register(System, lambda s: ((s.M, s.L, s.sinks, s.value), None), lambda _, kids: System(*kids))
    register(
        Linearized,
        lambda s: ((s.M, s.L, s.sinks, s.value), (s.inputs, s.outputs)),
        lambda ends, kids: Linearized(*kids, inputs=ends[0], outputs=ends[1]),
    )


_register()
