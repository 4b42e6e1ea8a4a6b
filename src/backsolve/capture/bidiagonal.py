"""The inverse of a block bidiagonal matrix: a linear recurrence, all of its steps by an associative scan."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from backsolve.algebra.spaces import PatternTooLargeError, available_memory
from backsolve.operators import LinearMap
from backsolve.sparse.operator import Sparse

__all__ = ["bidiagonal_inverse"]

HELD = 4  # times the blocks are held while they are multiplied pairwise: those of all lengths, and both halves of a length


def bidiagonal_inverse(own: Sparse, steps: int, loop: str) -> LinearMap:
    """(I − own)⁻¹, for an ``own`` of so many blocks A, each a step below the diagonal, or each a step above.

    That is b ↦ the c with  cₜ = Aₜ cₜ₋₁ + bₜ  (or cₜ = Aₜ cₜ₊₁ + bₜ), for vectors of n numbers in a row.  Where every block
    is diagonal, diagonals are what is kept.  Messages call the loop ``loop``.
    Raises `PatternTooLargeError` where the blocks do not fit into memory.
    Cost: of depth 2 log₂ T; about 2 T products of blocks with each other, which for dense ones are n times those of a loop.
    Source: Blelloch, *Prefix Sums and Their Applications* (1990).
    """
    space = own.domain
    n = own.pattern.shape[0] // steps
    rows, cols = own.rows.astype(np.int64), own.cols % n
    if (rows % n == cols).all():
        values = own.values.spread(rows, steps * n)
        blocks = jnp.reshape(jnp.asarray(values.array(own.dtype)), (steps, n))
    else:
        _require_room(steps, n, own.dtype, loop)
        values = own.values.spread(rows * n + cols, steps * n * n)
        blocks = jnp.reshape(jnp.asarray(values.array(own.dtype)), (steps, n, n))
    work = 4.0 * float(np.prod(blocks.shape)) * (n if blocks.ndim == 3 else 1)
    backwards = bool((own.rows < own.cols).any())
    ways = (_backwards, _backwards_transposed) if backwards else (_forwards, _forwards_transposed)
    apply, transpose_apply = (Partial(way, blocks) for way in ways)  # type: ignore[no-untyped-call]  # pytrees of the blocks
    return LinearMap(apply, transpose_apply, space, space, "(I − A)⁻¹", work=work, lift=jnp.asarray)


def _require_room(steps: int, n: int, dtype: Any, loop: str) -> None:
    needed, limit = HELD * steps * n * n * np.dtype(dtype).itemsize, available_memory()
    if needed > limit:
        raise PatternTooLargeError(
            f"{loop}: its {steps:,} steps side by side are as many blocks of {n:,} × {n:,} numbers and need {needed:,} "
            f"bytes, but {limit:,} are available. Take loops='sequential', which multiplies with vectors alone."
        )


def _forwards(blocks: Any, x: Any) -> Any:
    return _scanned(blocks, x, backwards=False)


def _backwards(blocks: Any, x: Any) -> Any:
    return _scanned(blocks, x, backwards=True)


def _forwards_transposed(blocks: Any, x: Any) -> Any:
    return _backwards(_transposed(blocks, -1), x)


def _backwards_transposed(blocks: Any, x: Any) -> Any:
    return _forwards(_transposed(blocks, 1), x)


def _transposed(blocks: Any, steps: int) -> Any:
    """The blocks of the transpose, each where its own step begins."""
    blocks = jnp.roll(blocks, steps, axis=0)
    return jnp.swapaxes(blocks, 1, 2) if blocks.ndim == 3 else blocks


def _scanned(blocks: Any, x: Any, *, backwards: bool) -> Any:
    """The solution for blocks of shape (T, n, n), or (T, n) where each is diagonal; the first to act is not read."""
    b = jnp.reshape(x, blocks.shape[:2])
    _, c = lax.associative_scan(_joined, (blocks, b), reverse=backwards)
    return jnp.reshape(c, (-1,))


def _joined(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two stretches of a recurrence as one: c ↦ A₂ (A₁ c + b₁) + b₂."""
    (A1, b1), (A2, b2) = first, second
    if A1.ndim == b1.ndim:
        return A2 * A1, A2 * b1 + b2
    return A2 @ A1, jnp.einsum("...ij,...j->...i", A2, b1) + b2
