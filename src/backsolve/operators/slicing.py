"""A run of entries along one axis, and its transpose: the same entries among zeros."""

from __future__ import annotations

from typing import Any

from ..arrays import pad, take
from .base import LinearOperator
from .spaces import ArraySpace, Space

__all__ = ["Slice"]


class Slice(LinearOperator):
    """X ↦ X[…, start:stop, …] along ``axis``; transposed, X ↦ zeros of the long shape with X at start:stop."""

    __slots__ = ("axis", "dtype", "shape", "start", "stop", "transposed")

    def __init__(
        self, shape: tuple[int, ...], axis: int, start: int, stop: int, dtype: Any = None, transposed: bool = False
    ) -> None:
        self.shape = shape  # of the long side
        self.axis = axis
        self.start = start
        self.stop = stop
        self.dtype = dtype
        self.transposed = transposed

    @property
    def _short(self) -> Space:
        shape = (*self.shape[: self.axis], self.stop - self.start, *self.shape[self.axis + 1 :])
        return ArraySpace(shape, self.dtype)

    @property
    def domain(self) -> Space:
        return self._short if self.transposed else ArraySpace(self.shape, self.dtype)

    @property
    def codomain(self) -> Space:
        return ArraySpace(self.shape, self.dtype) if self.transposed else self._short

    def apply(self, x: Any) -> Any:
        if self.transposed:
            return pad(x, self.axis, self.start, self.shape[self.axis] - self.stop)
        return take(x, self.axis, self.start, self.stop)

    def transpose(self) -> LinearOperator:
        return Slice(self.shape, self.axis, self.start, self.stop, self.dtype, not self.transposed)

    def conj(self) -> LinearOperator:
        return self

    @property
    def label(self) -> str:
        return f"slice({self.start}:{self.stop}){'ᵀ' if self.transposed else ''}"
