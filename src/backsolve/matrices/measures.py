"""Diagonal, trace and norms of a matrix of operators, as one matrix of numbers that is not formed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backsolve.algebra.arrays import concat, namespace, reshape
from backsolve.algebra.elements import add
from backsolve.algebra.spaces import ANY, SpaceError, TupleSpace
from backsolve.matrices.vector import BlockVector
from backsolve.operators import LinearOperator
from backsolve.operators.base import Zero
from backsolve.operators.closed_form import result_array

__all__ = ["Measured"]


class Measured:
    """Diagonal, trace, norm, and the array itself, of an OperatorMatrix whose elements are operators."""

    __slots__ = ()

    def todense(self: Any) -> Any:
        """Return the matrix as one 2-D array: every block flattened, row-major, to codomain × domain, and all side by side.

        Raises `SpaceError` while a size is unknown, `TypeError` for elements that are no operators.
        Cost: the entries of the array.

        Example:
            >>> import numpy as np
            >>> from backsolve import hadamard, matrix
            >>> matrix([[hadamard(np.array([2.0, 3.0]))]]).todense()
            array([[2., 0.],
                   [0., 3.]])
        """
        heights, widths = _sizes(self.row_spaces), _sizes(self.col_spaces)
        blocks = {place: reshape(result_array(op), (heights[place[0]], widths[place[1]])) for place, op in _operators(self)}
        if not blocks:
            raise SpaceError("a matrix without entries does not say in which array library its zeros are.")
        like = next(iter(blocks.values()))
        xp = namespace(like)
        rows = []
        for i, m in enumerate(heights):
            row = [blocks[i, j] if (i, j) in blocks else xp.zeros((m, n), dtype=like.dtype) for j, n in enumerate(widths)]
            rows.append(row[0] if len(row) == 1 else concat(row, 1))
        return rows[0] if len(rows) == 1 else concat(rows, 0)

    def diagonal(self: Any) -> BlockVector:
        """Return the diagonal of every diagonal block, as a vector with one block a leaf: of a Hessian, ∂²f/∂xᵢ².

        It comes from the operators' factors; nothing is formed.
        Raises `SpaceError` where rows and columns are not the same spaces.

        Example:
            >>> import numpy as np
            >>> from backsolve import hadamard, matrix
            >>> A = matrix([[hadamard(np.array([2.0, 3.0]))]])
            >>> (A @ A).diagonal()[0]
            array([4., 9.])
        """
        if self.shape[0] != self.shape[1]:
            raise SpaceError(f"only a square matrix has a diagonal, got {self.shape[0]} × {self.shape[1]} blocks.")
        operators = dict(_operators(self))
        return BlockVector(
            operators[i, i].diagonal() if (i, i) in operators else Zero(ANY, space)
            for i, space in enumerate(self.row_spaces)
        )

    def trace(self: Any) -> Any:
        """Return the sum of the diagonal, from the operators' factors."""
        return _total([op.trace() for (i, j), op in _operators(self) if i == j])

    def norm(self: Any) -> Any:
        """Return the Frobenius norm, from the operators' factors."""
        return _total([op.norm() ** 2 for _, op in _operators(self)]) ** 0.5


def _operators(A: Any) -> list[tuple[tuple[int, int], LinearOperator]]:
    for (i, j), element in A.entries.items():
        if not isinstance(element, LinearOperator):
            raise TypeError(
                f"element ({i}, {j}) is {type(element).__name__}, not an operator; write c * I for a number, "
                "left_mul(B) for an array."
            )
    return list(A.entries.items())


def _sizes(spaces: Sequence[Any]) -> list[int]:
    for space in spaces:
        if isinstance(space, TupleSpace) or not space.known:
            raise SpaceError(
                f"cannot form a matrix densely whose blocks lie in {space}: a size is unknown. That takes operators which "
                "know their sizes; of numbers and arrays take the entries."
            )
    return [space.size for space in spaces]


def _total(terms: list[Any]) -> Any:
    total: Any = 0.0
    for term in terms:
        total = add(total, term) if not isinstance(total, float) else term
    return total
