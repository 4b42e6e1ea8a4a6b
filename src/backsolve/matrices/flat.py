"""A matrix of elements as one matrix of numbers for SciPy: products with flat vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, TupleSpace
from backsolve.matrices.vector import BlockVector
from backsolve.operators.flat import FlatProducts, WhereShapesAgree, dtype_of, image_of
from backsolve.operators.moves import flattened, unflattened

__all__ = ["FlatMatrix", "flat_spaces"]


class FlatMatrix(FlatProducts):
    """Products of an OperatorMatrix with flat vectors, all blocks one after the other.

    Its ``shape`` counts blocks.  Where these are numbers, SciPy takes the matrix as it is, else ``A.to_scipy()``.
    """

    __slots__ = ()

    shape: tuple[int, int]
    row_spaces: Sequence[Space]
    col_spaces: Sequence[Space]

    matvec: Any = WhereShapesAgree("matvec", "counts blocks")
    rmatvec: Any = WhereShapesAgree("rmatvec", "counts blocks")
    matmat: Any = WhereShapesAgree("matmat", "counts blocks")
    rmatmat: Any = WhereShapesAgree("rmatmat", "counts blocks")

    @property
    def flat_shape(self) -> tuple[int, int]:
        rows, cols = self._flat_spaces
        return rows.size, cols.size

    @property
    def flat_dtype(self: Any) -> Any:
        if self.numeric is not None:
            return self.numeric.csr.dtype
        known = dtype_of(*self._flat_spaces)
        return super().flat_dtype if known is None else known

    @property
    def _flat_spaces(self: Any) -> tuple[TupleSpace, TupleSpace]:
        numbers = self.numeric is not None or all(map(is_number, self.entries.values()))
        return flat_spaces(self.row_spaces, numbers=numbers), flat_spaces(self.col_spaces, numbers=numbers)

    def _flat_product(self: Any, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        A = self.T if transposed else self
        rows, cols = A._flat_spaces
        return image_of(x, lambda part: flattened((A @ BlockVector(unflattened(part, cols))).blocks, rows), cols)


def flat_spaces(spaces: Sequence[Space], *, numbers: bool) -> TupleSpace:
    """The spaces of the blocks of a vector: of arrays, what every array of the space has; with ``numbers`` one, of nothing.

    Raises `SpaceError` where a size is not known.
    """
    parts: list[Space] = []
    for k, space in enumerate(spaces):
        if space == ANY and numbers:
            space = ArraySpace(())
        elif isinstance(space, ArraySpace) and space.shape is not None and space.shape[-1:] == (...,):
            space = ArraySpace(space.shape[:-1], space.dtype)
        if not space.known:
            raise SpaceError(
                f"block {k} of the vector has the space {space}, of unknown size; give an element of its row or column "
                "a known one, with op.refine(domain, codomain)."
            )
        parts.append(space)
    return TupleSpace(tuple(parts))
