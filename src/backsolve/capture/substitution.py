"""Jacobians by substitution with an identity on the right: forward, column by column, or back, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.matrices.vector import BlockVector
from backsolve.operators import O
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import moved_by_numpy

__all__ = ["by_columns", "by_rows"]

Image = Callable[[BlockVector], list[Any]]  # of a vector of blocks, leaf by leaf


def by_columns(push: Image, into: Sequence[Any], out: Sequence[Any], chunk: int | None = None) -> list[list[Any]]:
    """The blocks of a Jacobian between leaves of these types: forward substitution for every entry of each input leaf."""
    columns = [_column(push, j, into, out, chunk) for j in range(len(into))]
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in out]


def by_rows(pull: Image, into: Sequence[Any], out: Sequence[Any], chunk: int | None = None) -> list[list[Any]]:
    """The same by back substitution for every entry of each output leaf."""
    return [_row(pull, i, into, out, chunk) for i in range(len(out))]


def _column(push: Image, j: int, into: Sequence[Any], out: Sequence[Any], chunk: int | None) -> list[Any]:
    """Column j, one array an output leaf."""
    aval = into[j]
    shapes = [(*a.shape, *aval.shape) for a in out]
    if not jx.carries_derivatives(aval):
        return [np.zeros(shape, jax.dtypes.float0) for shape in shapes]
    images = _of_basis(lambda t: push(_one_hot(len(into), j, t)), aval, chunk)
    blocks = [jnp.moveaxis(block, 0, -1) for block in images]
    return [jnp.reshape(block, shape).astype(aval.dtype) for block, shape in zip(blocks, shapes, strict=True)]


def _row(pull: Image, i: int, into: Sequence[Any], out: Sequence[Any], chunk: int | None) -> list[Any]:
    """Row i, one array an input leaf."""
    aval = out[i]
    moving = [jx.carries_derivatives(a) for a in into]

    def moved(g: Any) -> list[Any]:
        return [value for value, moves in zip(pull(_one_hot(len(out), i, g)), moving, strict=True) if moves]

    blocks = iter(_of_basis(moved, aval, chunk))
    shapes = [(*aval.shape, *a.shape) for a in into]
    return [
        jnp.reshape(next(blocks), shape) if moves else np.zeros(shape, jax.dtypes.float0)
        for shape, moves in zip(shapes, moving, strict=True)
    ]


def _one_hot(count: int, i: int, block: Any) -> BlockVector:
    return BlockVector(block if k == i else O for k in range(count))


def _of_basis(function: Callable[[Any], Any], aval: Any, chunk: int | None) -> Any:
    """The images of all unit vectors of this shape, along a first axis; so many at a time."""
    n = prod(aval.shape)
    if chunk is None or chunk >= n:
        shape = n, *aval.shape
        basis = moved_by_numpy(lambda: np.eye(n, dtype=aval.dtype).reshape(shape), size=n * n)
        return jax.vmap(function)(jnp.eye(n, dtype=aval.dtype).reshape(shape) if basis is None else basis)

    def image(k: Any) -> Any:
        return function((jnp.arange(n) == k).astype(aval.dtype).reshape(aval.shape))

    return jax.lax.map(image, jnp.arange(n), batch_size=chunk)
