"""The edges of a captured program as sparse operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.spaces import is_complex
from backsolve.capture.columns_last import columns_together
from backsolve.capture.folding import known_value, known_zeros
from backsolve.capture.index_maps import index_operator
from backsolve.capture.inside import equation_pattern
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import Translated, joined_sparse
from backsolve.capture.row_blocks import by_row_blocks
from backsolve.capture.step_blocks import by_step_blocks
from backsolve.capture.walk import one_way
from backsolve.elimination.dependence import dependence
from backsolve.elimination.sparse_edges import Columns, accumulate_sparse
from backsolve.operators import Einsum, LinearOperator, Space, TupleSpace
from backsolve.operators.dispatch import operation
from backsolve.operators.einsum import Factor, Reciprocal
from backsolve.operators.moves import Component, flat_space
from backsolve.planning.plan import Plan, choose_order
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.operator import Sparse, as_sparse, join_sparse, mirror_sparse
from backsolve.sparse.pattern import Pattern, from_entries, run_starts
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import constant_of, explicit_mesh, is_spread, made_by

__all__ = ["sparse_edge", "sparse_jacobian", "sparse_pattern"]


@operation
def sparse_edge(op: LinearOperator, limit: int | None = None) -> Sparse | Pattern | None:
    """Return the operator of an edge as a `Sparse`, its `Pattern` where its numbers are had by applying it, else None.

    Beside what `as_sparse` serves, a primitive that only moves or adds entries (see `index_operator`) is.
    Raises `PatternTooLargeError` where the pattern would not fit into ``limit`` bytes (None: what is available).

    Example:
        >>> import jax.numpy as jnp
        >>> from backsolve import linearize
        >>> system = linearize(lambda x: x[::-1] * jnp.arange(3.0), jnp.ones(3))
        >>> [sparse_edge(edge).nnz for edge in system.M.entries.values()]
        [3]
    """
    matrix = as_sparse(op, limit, _from_equation)
    if matrix is not None:
        return matrix
    paired = isinstance(op, Translated) and not op.real_linear
    inner = op.inner if paired else op  # type: ignore[attr-defined]
    pattern = equation_pattern(inner, sparse_edge) if isinstance(inner, LinearEquation) else None
    return _pattern_of_pairs(pattern, inner) if paired and pattern is not None else pattern


@operation
def images(op: LinearOperator, columns: Columns, lifted: Callable[[Any], Any]) -> list[Any] | None:
    """The images of columns, all together, a part of the codomain each; None where each column is best had by itself."""
    if not isinstance(op, LinearEquation) or op.eqn.primitive.name != "scan":
        return None
    if explicit_mesh([*columns.values.sources, *(x for x in op.operands if x is not None)]) is not None:
        return None  # each array has its own layout
    spaces = op.domain.parts if isinstance(op.domain, TupleSpace) else (op.domain,)
    parts = columns.parts([space.size for space in spaces], lifted)
    blocks = by_step_blocks(op, parts, sparse_edge)
    return columns_together(op, parts) if blocks is None else blocks


def _pattern_of_pairs(pattern: Pattern, op: LinearOperator) -> Pattern:
    """The places of an operator between pairs of real numbers, in place of complex ones."""
    (rows, high), (cols, wide) = _numbers_of_pairs(op.codomain), _numbers_of_pairs(op.domain)
    at_rows, at_cols = [], []
    for down in range(2):
        for right in range(2):
            there = (high[pattern.rows] > down) & (wide[pattern.cols] > right)
            at_rows.append(rows[pattern.rows[there]] + down)
            at_cols.append(cols[pattern.cols[there]] + right)
    shape = int(high.sum()), int(wide.sum())
    return from_entries(np.concatenate(at_rows), np.concatenate(at_cols), shape)[0]


def _numbers_of_pairs(space: Space) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the pair of each entry begins, and how many numbers it has (a real one has one)."""
    parts = space.parts if isinstance(space, TupleSpace) else (space,)
    counts = np.concatenate([np.full(part.size, 1 + is_complex(part)) for part in parts])
    return np.cumsum(counts) - counts, counts


def _from_equation(op: LinearOperator) -> Sparse | None:
    if isinstance(op, Component):
        return _part(op)
    if isinstance(op, Einsum) and not any(isinstance(f, Reciprocal) for f in op.factors):
        known = tuple([Factor(_known(f.array), f.labels, f.name) for f in op.factors])
        if all(f.array is g.array for f, g in zip(op.factors, known, strict=True)):
            return None
        return as_sparse(Einsum(known, op.out, op.into, op.sizes, op.coef, op.dtypes))
    if isinstance(op, Translated):
        return None if op.real_linear else _of_pairs(op)
    if not isinstance(op, LinearEquation):
        return None
    moving = [k for k, value in enumerate(op.operands) if value is None]
    parts: list[Any] = [index_operator(op.eqn, k, op.operands) for k in moving]
    if any(part is None for part in parts) or len(op.eqn.outvars) > 1:
        return None
    index_map = parts[0]
    if len(parts) > 1:  # the operands lie one after the other
        ends = flat_space(op.domain), flat_space(op.codomain)
        into, out = ends[::-1] if op.transposed else ends
        begins = run_starts([part.domain.size for part in parts])
        index_map = join_sparse([(part, None, np.arange(part.domain.size) + k) for part, k in zip(parts, begins)], into, out)
    return index_map.transpose() if op.transposed else index_map  # type: ignore[no-any-return]


def _of_pairs(op: Translated) -> Sparse | None:
    """Of an equation that moves complex numbers: each pair moves as they do."""
    one = _from_equation(op.inner)
    if one is None:
        return None
    into, out = flat_space(op.domain), flat_space(op.codomain)
    rows, cols = (np.concatenate([2 * at, 2 * at + 1]) for at in (one.rows, one.cols))
    pattern, groups = from_entries(rows, cols, (out.size, into.size))
    index = np.tile(np.arange(one.nnz), 2)
    return Sparse(pattern, one.values.take(index if groups.order is None else index[groups.order]), into, out)


def _known(array: Any) -> Any:
    """A factor that does not depend on the point (no tracer) as numbers known while planning."""
    value = known_value(array)
    return array if value is None or value.dtype.kind not in "biuf" else value


def _part(op: Component) -> Sparse:
    """One part of a tuple, between flat vectors."""
    into, out = flat_space(op.domain), flat_space(op.codomain)
    before = sum(part.size for part in op.space.parts[: op.index])
    own = np.arange(min(into.size, out.size))
    rows, cols = (own + before, own) if op.transposed else (own, own + before)
    return Sparse(Pattern(rows, cols, (out.size, into.size)), LazyValues.of(None, own.size), into, out)


def sparse_jacobian(system: System, order: Any = "auto", *, lower: bool = False) -> list[list[SparseMatrix]]:
    """Return dy/dp of a linearized function as sparse matrices, a list for each output leaf with one for each input leaf.

    ``order`` is that of `backsolve.jacobian`; "auto" eliminates the cheapest node first, by how many numbers meet there.
    With ``lower`` the matrix of all leaves together is a Hessian: only its lower triangle is worked out.
    """
    one_way("sparse", system.M, system.L)
    inputs, outputs = system.M.col_spaces, system.sinks.row_spaces
    nodes = None if isinstance(order, str) and order == "auto" else _nodes(order, system)
    whole = system.over_reals
    lower = lower and not any(map(is_complex, inputs))  # pairs of a complex Hessian are not symmetric
    edge = _edges(whole)
    blocks = accumulate_sparse(whole.M, whole.L, whole.sinks, edge, nodes, lower=lower)
    if whole is not system:
        blocks = {(i, j): joined_sparse(op, outputs[i], inputs[j]) for (i, j), op in blocks.items()}

    def block(i: int, j: int) -> Any:
        op = blocks.get((j, i) if lower and i < j else (i, j))
        if op is None or not lower or i > j:
            return op
        return mirror_sparse(op) if i == j else op.transpose()

    table = [[block(i, j) for j in range(len(inputs))] for i in range(len(outputs))]
    spread: dict[tuple[int, int], SparseMatrix] = {}
    if whole is system and any(is_spread(jx.type_of(x)) for x in jax.tree_util.tree_leaves(system.value)):
        places = [(i, j) for i, row in enumerate(table) for j, op in enumerate(row) if op is not None]
        spread = by_row_blocks(system, {(i, j): table[i][j].pattern for i, j in places}, edge)
    return [
        [spread[i, j] if (i, j) in spread else _matrix(op, out, into) for j, (op, into) in enumerate(zip(row, inputs))]
        for i, (row, out) in enumerate(zip(table, outputs))
    ]


def sparse_pattern(system: System) -> list[list[SparseMatrix]]:
    """The patterns of `sparse_jacobian` as matrices of booleans.

    Cost: as of `dependence` where no node depends on much, and there are no complex numbers; else an elimination.
    """
    one_way("sparse", system.M, system.L)
    whole = system.over_reals
    blocks = dependence(system.M, system.L, system.sinks, _edges(whole)) if whole is system else None
    if blocks is None:
        rows = sparse_jacobian(system)
        return [[SparseMatrix(A.pattern, np.ones(A.nnz, bool), A.domain, A.codomain) for A in row] for row in rows]

    def block(i: int, out: Any, j: int, into: Any) -> SparseMatrix:
        nowhere = np.zeros(0, np.int64)
        pattern = blocks.get((i, j), Pattern(nowhere, nowhere, (out.size, into.size)))
        return SparseMatrix(pattern, np.ones(pattern.nnz, bool), tuple(into.shape), tuple(out.shape))

    inputs = list(enumerate(system.M.col_spaces))
    return [[block(i, out, j, into) for j, into in inputs] for i, out in enumerate(system.sinks.row_spaces)]


def _edges(system: System) -> Callable[[LinearOperator], Sparse | Pattern | None]:
    """`sparse_edge`, each operator looked at once, without what is known to be zero in the factors of a system's edges."""
    known: dict[int, tuple[Any, Any]] = {}  # by an operator's id, the operator and what is known of it
    einsums = [op for A in (system.M, system.L) for op in A.entries.values() if isinstance(op, Einsum)]
    arrays = list({id(f.array): f.array for op in einsums for f in op.factors}.values())
    pairs = zip(arrays, known_zeros(arrays), strict=True) if _may_be_masked(arrays) else ()
    zeros = {id(x): zero for x, zero in pairs if zero is not None}

    def edge(op: LinearOperator) -> Sparse | Pattern | None:
        if id(op) not in known:
            known[id(op)] = op, sparse_edge(_without_zeros(op, zeros) if zeros and isinstance(op, Einsum) else op)
        return known[id(op)][1]  # type: ignore[no-any-return]

    return edge


def _may_be_masked(arrays: Iterable[Any]) -> bool:
    """Whether something selects numbers among the equations that made these, or a constant array has infinite ones."""
    waiting = [x for x in arrays if jx.is_traced(x)]
    seen = set(map(id, waiting))
    for at in waiting:  # it grows meanwhile
        source = made_by(at)
        if source is None:
            constant = known_value(constant_of(at))
            if constant is not None and constant.dtype.kind == "f" and constant.ndim and np.isinf(constant).any():
                return True
            continue
        if any(eqn.primitive.name == "select_n" for eqn in (source[0], *jx.inner_equations(source[0].params))):
            return True
        new = [v for v in source[0].invars if id(v) not in seen]
        seen.update(map(id, new))
        waiting.extend(new)
    return False


def _without_zeros(op: Einsum, zeros: Mapping[int, np.ndarray[Any, Any]]) -> Einsum:
    """The same with a mask beside each factor of which some entries are known to be zero."""
    masks = [Factor(~zeros[id(f.array)], f.labels, f.name) for f in op.factors if id(f.array) in zeros]
    return Einsum((*op.factors, *masks), op.out, op.into, op.sizes, op.coef, op.dtypes) if masks else op


def _nodes(order: Any, system: System) -> Iterable[int]:
    network = system.network()
    if isinstance(order, Plan):
        order.check(network)
        return order.order
    return choose_order(network, order, dense=False).order


def _matrix(op: Any, out: Any, into: Any) -> SparseMatrix:
    """The matrix of an operator (None: zero), its numbers of the input's dtype, as `jax.jacobian` has them."""
    shapes = tuple(into.shape), tuple(out.shape)
    if op is None or not jx.carries_derivatives(into):
        nowhere = np.zeros(0, np.int64)
        nothing = jnp.zeros(0, into.dtype) if jx.carries_derivatives(into) else np.zeros(0, jax.dtypes.float0)
        return SparseMatrix(Pattern(nowhere, nowhere, (prod(out.shape), prod(into.shape))), nothing, *shapes)
    return SparseMatrix(op.pattern, jnp.asarray(op.data, into.dtype), *shapes)
