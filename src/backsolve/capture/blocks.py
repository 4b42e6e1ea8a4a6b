"""Patterns of a program's blocks: which entries of its outputs depend on which of its inputs.

The program is linearized once, abstractly: nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import numpy as np
from scipy.sparse import csr_array

from backsolve.capture.folding import known_value, wholly_known
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.walk import Program, walk
from backsolve.elimination.dependence import dependence
from backsolve.elimination.sparse_edges import accumulate_sparse
from backsolve.operators import LinearOperator
from backsolve.operators.moves import flat_space
from backsolve.sparse.boolean import BYTES, MOST, require
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern, from_entries, run_starts
from backsolve.sparse.pattern import dense as dense_pattern
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent
from backsolve.tracing.series import struct

__all__ = ["PatternOf", "Places", "blocks_of", "moving_carry", "pattern_of", "placed", "places_matrix", "value_or_type"]

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
    patterns: list[Any] = []

    def look(*given: Any) -> tuple[()]:
        it = iter(given)
        values = [next(it) if a else x for x, a in zip(inputs, abstract, strict=True)]
        numbers = iter(range(len(moving)))
        program = Program(spaces, fold=True)
        _, nodes = walk(jaxpr, consts, values, program, [next(numbers) if x is None else None for x in inputs])
        M, L, S = program.matrices(nodes, out)
        pattern = dependence(M, L, S, edge)
        if pattern is None:
            pattern = {place: op.pattern for place, op in accumulate_sparse(M, L, S, lambda op: _of_ones(op, edge)).items()}
        patterns.append(pattern)
        return ()

    jax.eval_shape(look, *[x for x, a in zip(inputs, abstract, strict=True) if a])
    return placed(patterns[-1], _sizes(out), _sizes(spaces))


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


class Places:
    """Places of a matrix, gathered; refused where they become too many."""

    def __init__(self, shape: tuple[int, int], most: int = MOST) -> None:
        self.shape = shape
        self.most = most
        self.rows: list[Index] = [np.zeros(0, np.int64)]
        self.cols: list[Index] = [np.zeros(0, np.int64)]
        self.count = 0

    def add(self, rows: Index, cols: Index) -> None:
        """Places, of arrays that are broadcast to one shape."""
        shape = np.broadcast_shapes(rows.shape, cols.shape)
        self.count += prod(shape)
        require(self.count, BYTES, "the matrix of a loop", self.most)
        self.rows.append(np.broadcast_to(rows, shape).reshape(-1))
        self.cols.append(np.broadcast_to(cols, shape).reshape(-1))

    def pattern(self) -> Pattern:
        """All of them."""
        return from_entries(np.concatenate(self.rows), np.concatenate(self.cols), self.shape)[0]


# ---- what a body is given
def value_or_type(v: Any, x: Any = None) -> Any:
    """A value that is known, or that follows from what is, or the type alone."""
    if x is not None and known_value(x) is None:
        (x,) = wholly_known([x])
    return struct(v.aval) if x is None else jx.as_array(x, v.aval)


def moving_carry(op: LinearEquation, carried: int) -> tuple[list[bool], list[bool]]:
    """Of what a loop carries, its first outputs: what follows from operands that move, and what of that has derivatives."""
    follows = dependent(op.eqn, [x is None for x in op.operands])[:carried]
    return follows, [f and jx.carries_derivatives(v.aval) for f, v in zip(follows, op.eqn.outvars, strict=False)]
