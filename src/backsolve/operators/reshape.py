"""The same entries under another shape."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from backsolve.algebra.arrays import reshape
from backsolve.algebra.spaces import ArraySpace, Space
from backsolve.operators.base import LinearOperator

__all__ = ["Reshape"]


class Reshape(LinearOperator):
    """X ↦ X with another shape of as many entries, in row-major order.  On vec(X) (row-major) its matrix is I."""

    __slots__ = ("dtype", "into", "out")

    def __init__(self, out: tuple[int, ...], into: tuple[int, ...], dtype: Any = None) -> None:
        self.out = out
        self.into = into
        self.dtype = dtype

    @property
    def domain(self) -> Space:
        return ArraySpace(self.into, self.dtype)

    @property
    def codomain(self) -> Space:
        return ArraySpace(self.out, self.dtype)

    def apply(self, x: Any) -> Any:
        return reshape(x, self.out)

    def transpose(self) -> LinearOperator:
        return Reshape(self.into, self.out, self.dtype)

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        return self.transpose()

    def todense(self) -> Any:
        return np.eye(prod(self.into), dtype=self.dtype or float).reshape((*self.out, *self.into))

    @property
    def label(self) -> str:
        return f"reshape({'×'.join(map(str, self.out)) or 'scalar'})"
