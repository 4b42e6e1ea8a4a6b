"""The inverse of a block bidiagonal matrix: a linear recurrence, all of its steps by an associative scan."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.algebra.spaces import ArraySpace
from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse

__all__ = ["BidiagonalInverse"]


class BidiagonalInverse(LinearOperator):
    """b ↦ the c with  cₜ = Aₜ cₜ₋₁ + bₜ  (``backwards``: cₜ = Aₜ cₜ₊₁ + bₜ), for T vectors of n numbers in a row.

    ``blocks`` holds A, of shape (T, n, n), or (T, n) where each is diagonal; the first block to act is not read.
    Cost: of depth 2 log₂ T; about 2 T products of blocks with each other, which for dense ones are n times those of a loop.
    Source: Blelloch, *Prefix Sums and Their Applications* (1990).
    """

    __slots__ = ("backwards", "blocks", "space")

    def __init__(self, blocks: Any, backwards: bool, space: ArraySpace) -> None:
        self.blocks = blocks
        self.backwards = backwards
        self.space = space

    @classmethod
    def of(cls, own: Sparse, steps: int) -> BidiagonalInverse:
        """(I − own)⁻¹, of an operator with blocks one step below (or above) the diagonal."""
        space = own.domain
        n = own.pattern.shape[0] // steps
        rows, cols = own.rows.astype(np.int64), own.cols % n
        if (rows % n == cols).all():
            values, shape = own.values.spread(rows, steps * n), (steps, n)
        else:
            values, shape = own.values.spread(rows * n + cols, steps * n * n), (steps, n, n)  # type: ignore[assignment]
        blocks = jnp.reshape(jnp.asarray(values.array(own.dtype)), shape)
        return cls(blocks, bool((own.rows < own.cols).any()), space)

    @property
    def domain(self) -> ArraySpace:
        return self.space

    @property
    def codomain(self) -> ArraySpace:
        return self.space

    def apply(self, x: Any) -> Any:
        b = jnp.reshape(x, self.blocks.shape[:2])
        _, c = lax.associative_scan(_joined, (self.blocks, b), reverse=self.backwards)
        return jnp.reshape(c, (-1,))

    def transpose(self) -> LinearOperator:
        blocks = jnp.roll(self.blocks, 1 if self.backwards else -1, axis=0)
        blocks = jnp.swapaxes(blocks, 1, 2) if blocks.ndim == 3 else blocks
        return BidiagonalInverse(blocks, not self.backwards, self.space)

    @property
    def work(self) -> float:
        return 4.0 * float(np.prod(self.blocks.shape)) * (self.blocks.shape[-1] if self.blocks.ndim == 3 else 1)

    def lifted(self, x: Any) -> Any:
        return jnp.asarray(x)

    @property
    def label(self) -> str:
        return "(I − A)⁻¹"


def _joined(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two stretches of a recurrence as one: c ↦ A₂ (A₁ c + b₁) + b₂."""
    (A1, b1), (A2, b2) = first, second
    if A1.ndim == b1.ndim:
        return A2 * A1, A2 * b1 + b2
    return A2 @ A1, jnp.einsum("...ij,...j->...i", A2, b1) + b2
