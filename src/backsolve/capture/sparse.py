"""The edges of a captured program as sparse operators."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture.constants import known_value
from backsolve.capture.index_maps import index_operator
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import Paired, joined_sparse
from backsolve.elimination.opaque_edges import flat_space
from backsolve.elimination.sparse_edges import eliminated_sparse
from backsolve.operators import Einsum, LinearOperator
from backsolve.operators.einsum import Factor
from backsolve.operators.over_reals import is_complex
from backsolve.operators.quotient import Quotient
from backsolve.operators.tuples import Inject, Project
from backsolve.planning.plan import Plan, make_plan
from backsolve.sparse.convert import as_sparse
from backsolve.sparse.lazy_values import Values
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.operator import Sparse, join_sparse, mirror_sparse
from backsolve.sparse.pattern import Pattern, from_entries
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx

__all__ = ["sparse_edge", "sparse_jacobian"]


def sparse_edge(op: LinearOperator, limit: int | None = None) -> Sparse | None:
    """Return the operator of an edge as a `Sparse`, or None where it is opaque, acts on tuples, or a size is unknown.

    Beside what `as_sparse` serves, a primitive that only moves or adds entries (see `index_operator`) is.
    Raises `PatternTooLargeError` where the pattern would not fit into ``limit`` bytes (None: what is available).

    Example:
        >>> import jax.numpy as jnp
        >>> from backsolve import linearize
        >>> system = linearize(lambda x: x[::-1] * jnp.arange(3.0), jnp.ones(3))
        >>> [sparse_edge(edge).nnz for edge in system.M.entries.values()]
        [3]
    """
    return as_sparse(op, limit, _from_equation)


def _from_equation(op: LinearOperator) -> Sparse | None:
    if isinstance(op, Inject | Project):
        return _part(op)
    if isinstance(op, Einsum) and not isinstance(op, Quotient):
        known = tuple([Factor(_known(f.array), f.labels, f.name) for f in op.factors])
        if all(f.array is g.array for f, g in zip(op.factors, known, strict=True)):
            return None
        return as_sparse(Einsum(known, op.out, op.into, op.sizes, op.coef, op.dtypes))
    if isinstance(op, Paired):
        return _of_pairs(op)
    if not isinstance(op, LinearEquation):
        return None
    moving = [k for k, value in enumerate(op.operands) if value is None]
    parts = [index_operator(op.eqn, k, op.operands) for k in moving]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts) or len(op.eqn.outvars) > 1:
        return None
    made = found[0]
    if len(found) > 1:  # the operands lie one after the other
        into, out = (
            flat_space(space) for space in ((op.codomain, op.domain) if op.transposed else (op.domain, op.codomain))
        )
        begins = np.concatenate(([0], np.cumsum([part.domain.size for part in found])))
        placed = [(part, None, np.arange(part.domain.size) + k) for part, k in zip(found, begins)]
        made = join_sparse(placed, into, out)
    return made.transpose() if op.transposed else made  # type: ignore[return-value]


def _of_pairs(op: Paired) -> Sparse | None:
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


def _part(op: Inject | Project) -> Sparse:
    """One part of a tuple, between flat vectors."""
    into, out = flat_space(op.domain), flat_space(op.codomain)
    before = sum(part.size for part in op.space.parts[: op.index])
    own = np.arange(min(into.size, out.size))
    rows, cols = (own + before, own) if isinstance(op, Inject) else (own, own + before)
    return Sparse(Pattern(rows, cols, (out.size, into.size)), Values.of(None, own.size), into, out)


def sparse_jacobian(system: System, order: Any = "auto", *, lower: bool = False) -> list[list[SparseMatrix]]:
    """Return dy/dp of a linearized function as sparse matrices, a list for each output leaf with one for each input leaf.

    ``order`` is that of `backsolve.jacobian`; "auto" eliminates the cheapest node first, by how many numbers meet there.
    With ``lower`` the matrix of all leaves together is a Hessian: only its lower triangle is worked out.
    """
    inputs, outputs = system.M.col_spaces, system.sinks.row_spaces
    nodes = None if isinstance(order, str) and order == "auto" else _nodes(order, system)
    whole = system.over_reals
    lower = lower and not any(map(is_complex, inputs))  # pairs of a complex Hessian are not symmetric
    found = eliminated_sparse(whole.M, whole.L, whole.sinks, sparse_edge, nodes, lower=lower)
    if whole is not system:
        for i, j in found:
            if is_complex(outputs[i]) or is_complex(inputs[j]):
                found[i, j] = joined_sparse(found[i, j], outputs[i], inputs[j])
    rows: list[list[SparseMatrix]] = []
    for i, out in enumerate(outputs):
        row = []
        for j, into in enumerate(inputs):
            if lower and i < j:
                op = found.get((j, i))
                row.append(_matrix(None if op is None else op.transpose(), out, into))
            elif lower and i == j:
                op = found.get((i, i))
                row.append(_matrix(None if op is None else mirror_sparse(op), out, into))
            else:
                row.append(_matrix(found.get((i, j)), out, into))
        rows.append(row)
    return rows


def _nodes(order: Any, system: System) -> Iterable[int]:
    plan = order if isinstance(order, Plan) else make_plan(system.network(), order, dense=False, explain=False)
    plan.check(system.network())
    return plan.order


def _matrix(op: Any, out: Any, into: Any) -> SparseMatrix:
    """The matrix of an operator (None: zero), its numbers of the input's dtype, as `jax.jacobian` has them."""
    shapes = tuple(into.shape), tuple(out.shape)
    if op is None or not jx.carries_derivatives(into):
        nowhere = np.zeros(0, np.int64)
        nothing = jnp.zeros(0, into.dtype) if jx.carries_derivatives(into) else np.zeros(0, jax.dtypes.float0)
        return SparseMatrix(Pattern(nowhere, nowhere, (prod(out.shape), prod(into.shape))), nothing, *shapes)
    return SparseMatrix(op.pattern, jnp.asarray(op.data, into.dtype), *shapes)
