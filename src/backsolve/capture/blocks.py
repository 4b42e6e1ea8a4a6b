"""Patterns of a program's blocks: which entries of its outputs depend on which of its inputs.

The program is linearized once, abstractly: nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from scipy.sparse import csr_array

from backsolve.capture.walk import Program, walk
from backsolve.elimination.sparse_edges import accumulate_sparse
from backsolve.operators import LinearOperator
from backsolve.operators.moves import flat_space
from backsolve.sparse.boolean import MOST
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, from_entries, run_starts
from backsolve.sparse.pattern import dense as dense_pattern
from backsolve.tracing import jaxpr as jx

__all__ = ["PatternOf", "blocks_of", "pattern_of", "placed", "places_matrix"]

Index = np.ndarray[Any, Any]
PatternOf = Callable[[LinearOperator], Sparse | Pattern | None]


def blocks_of(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], edge: PatternOf) -> csr_array:
    """Which entries of a jaxpr's outputs depend on which of its inputs that are None; of the others the value is given, or
    the type alone.
    """
    moving = [k for k, x in enumerate(inputs) if x is None]
    abstract = [isinstance(x, jax.ShapeDtypeStruct) for x in inputs]
    spaces = [jx.space_of_aval(jaxpr.invars[k].aval) for k in moving]
    out = [jx.space_of_aval(v.aval) for v in jaxpr.outvars]
    jacobians: list[Any] = []

    def look(*given: Any) -> tuple[()]:
        it = iter(given)
        values = [next(it) if a else x for x, a in zip(inputs, abstract, strict=True)]
        numbers = iter(range(len(moving)))
        program = Program(spaces, fold=True)
        _, nodes = walk(jaxpr, consts, values, program, [next(numbers) if x is None else None for x in inputs])
        M, L, S = program.matrices(nodes, out)
        jacobians.append(accumulate_sparse(M, L, S, lambda op: _of_ones(op, edge)))
        return ()

    jax.eval_shape(look, *[x for x, a in zip(inputs, abstract, strict=True) if a])
    return placed({place: op.pattern for place, op in jacobians[-1].items()}, _sizes(out), _sizes(spaces))


def _of_ones(op: LinearOperator, edge: PatternOf) -> Sparse:
    """An edge with ones for its numbers: of the inside only the places matter."""
    known = edge(op)
    into, out = flat_space(op.domain), flat_space(op.codomain)
    if known is None:
        known = dense_pattern(out.size, into.size, MOST)
    pattern = known.pattern if isinstance(known, Sparse) else known
    return Sparse(pattern, LazyValues.of(None, pattern.nnz), into, out)


def _sizes(spaces: Sequence[Any]) -> list[int]:
    return [space.size for space in spaces]


def placed(patterns: dict[tuple[int, int], Pattern], rows: Sequence[int], cols: Sequence[int]) -> csr_array:
    """Patterns of pairs of leaves as one boolean matrix."""
    below, before = run_starts(rows), run_starts(cols)
    nowhere = np.zeros(0, np.int64)
    i = np.concatenate([nowhere, *(p.rows + below[a] for (a, _), p in patterns.items())])
    j = np.concatenate([nowhere, *(p.cols + before[b] for (_, b), p in patterns.items())])
    return places_matrix(i, j, (int(below[-1]), int(before[-1])))


def places_matrix(rows: Index, cols: Index, shape: tuple[int, int]) -> csr_array:
    """The boolean matrix with these places, of which some may come more than once."""
    A = csr_array((np.ones(rows.size, bool), (rows, cols)), shape=shape)
    A.sum_duplicates()
    return A


def pattern_of(A: csr_array) -> Pattern:
    """The places of a boolean matrix."""
    entries = A.tocoo()
    return from_entries(entries.row, entries.col, A.shape)[0]
