"""J⁻¹ of a system as something to apply: factored once, for many right-hand sides and for the transpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, pad
from backsolve.algebra.elements import describe, is_number, is_zero, short
from backsolve.algebra.spaces import ANY, ArraySpace, Space, unify
from backsolve.engines import factored
from backsolve.engines.base import Factors
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import LinearOperator
from backsolve.operators.base import Scaling
from backsolve.sparse.materialize import take
from backsolve.system.bordered import Bordered

__all__ = ["Inverse", "require_square", "with_operators"]

SCALAR = ArraySpace(())

Blocks = Sequence[Any] | None


class Inverse:
    """J⁻¹ between flat vectors: all sources, one leaf after the other, of all outputs.

    Made by `System.factored`.  ``layout`` is the static side of the bordered matrix, ``factors`` what the engine made.
    """

    def __init__(self, matrix: Bordered, engine: str) -> None:
        self.matrix = matrix
        self.engine = engine
        self.factors: Factors = factored(matrix.layout, matrix.data, engine)

    def __repr__(self) -> str:
        layout, residual = self.matrix.layout, self.residual
        told = "" if residual is None else f", last residual {residual:.1e}"
        return (
            f"Inverse of a Jacobian of {self.matrix.out.size:,} × {self.matrix.into.size:,}, by a bordered matrix of "
            f"{layout.size:,} unknowns with {layout.nnz:,} non-zeros ({self.engine}{told})"
        )

    @property
    def residual(self) -> float | None:
        """max |b − A x| / max |b| of the last solution, after refinement; None where the engine does not measure it."""
        residual: float | None = getattr(self.factors, "residual", None)
        return residual

    def solve(self, b: Any) -> Any:
        """The x with J x = b, for b of shape (n,) or (n, k)."""
        matrix = self.matrix
        return take(self.factors.solve(_placed(b, matrix.out, matrix.layout.size)), matrix.into)

    def solve_transpose(self, g: Any) -> Any:
        """The y with Jᵀ y = g, for g of shape (n,) or (n, k)."""
        matrix = self.matrix
        return take(self.factors.solve_transpose(_placed(g, matrix.into, matrix.layout.size)), matrix.out)


def require_square(outputs: int, sources: int, shapes: str = "") -> None:
    """Raise `ValueError` where a Jacobian is not square."""
    if outputs != sources:
        raise ValueError(
            f"the Jacobian has {outputs:,} rows and {sources:,} columns{shapes}; only a square one has an inverse. Choose "
            "argnums with as many entries as the output, or solve in the least-squares sense with gauss_newton."
        )


def _placed(b: Any, at: Any, size: int) -> Any:
    """A vector of this size that is b at these places and zero elsewhere.  Raises `ValueError` for a b of another length."""
    shape = getattr(b, "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[0] != at.size:
        got = short(b) if shape is None else tuple(shape)
        raise ValueError(f"the right-hand side must be an array of shape ({at.size},) or ({at.size}, k), got {got}.")
    index = np.full(size, at.size)
    index[at] = np.arange(at.size)
    return take(pad(b, (0,) * len(b.shape), (1, *(0 for _ in b.shape[1:]))), index)


# ---- of systems made by hand ------------------------------------------------------------------------------------------
def with_operators(
    M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix, *, sources: Blocks = None, outputs: Blocks = None
) -> tuple[OperatorMatrix, OperatorMatrix, OperatorMatrix]:
    """The matrices with operators in the place of numbers, and with every size that neighbours or these blocks tell.

    What nothing tells of is a number.
    """
    nodes: list[Space] = [ANY] * L.shape[0]
    sides: list[tuple[OperatorMatrix, list[Space], list[Space]]] = []
    ends = [_spaces(blocks, n) for blocks, n in ((sources, M.shape[1]), (outputs, S.shape[0]))]
    for A, rows, cols in ((M, nodes, ends[0]), (L, nodes, nodes), (S, ends[1], nodes)):
        for side, own in ((rows, A.row_spaces), (cols, A.col_spaces)):
            side[:] = [unify(a, b) for a, b in zip(side, own, strict=True)]
        sides.append((A, rows, cols))
    entries = [{place: _operator(place, element) for place, element in A.entries.items()} for A, _, _ in sides]
    for last in (False, True):
        while True:
            before = [list(side) for side in (nodes, *ends)]
            for ops, (_, rows, cols) in zip(entries, sides, strict=True):
                for (i, j), op in ops.items():
                    ops[i, j] = op = op.refine(cols[j], rows[i])
                    rows[i], cols[j] = unify(rows[i], op.codomain), unify(cols[j], op.domain)
            if before == [nodes, *ends]:
                break
        if not last:
            for side in (nodes, *ends):
                side[:] = [SCALAR if space == ANY else space for space in side]
    M, L, S = (OperatorMatrix(ops, A.shape, rows, cols, names=A.names) for ops, (A, rows, cols) in zip(entries, sides))
    return M, L, S


def _spaces(blocks: Blocks, n: int) -> list[Space]:
    if blocks is None:
        return [ANY] * n
    if len(blocks) != n:
        raise ValueError(f"the vector has {len(blocks)} blocks, but the matrix {n}.")
    return [ANY if is_zero(block) else ArraySpace(tuple(asarray(block).shape)) for block in blocks]


def _operator(place: tuple[int, int], element: Any) -> LinearOperator:
    if isinstance(element, LinearOperator):
        return element
    if not (is_number(element) and isinstance(element, int | float | complex | np.number)):
        raise TypeError(
            f"element {place} is {describe(element)}; a system is solved with operators or numbers as elements. "
            "For other elements form the Jacobian, system.jacobian(), and solve with that."
        )
    return Scaling(element, SCALAR)
