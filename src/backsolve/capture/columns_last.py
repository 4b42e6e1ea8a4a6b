"""Several columns through a loop together: along the last axis of its arrays, and beside the loop that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from backsolve.capture.opaque import LinearEquation
from backsolve.capture.recomputed import beside_their_loops
from backsolve.operators import TupleSpace
from backsolve.operators.moves import Parts
from backsolve.xla.last_axis import evaluated_last, serves_last

__all__ = ["columns_together"]

FEW = 8  # columns, fewer are pushed along a first axis


def columns_together(op: LinearEquation, columns: Sequence[Any]) -> list[Any] | None:
    """The images of columns: of each part of an operand n × k numbers.

    Many go along the last axis of all arrays, where nothing inside is done by JAX along a first axis alone.  None where that
    is so, or they are few, and no loop has put down what this one reads.
    Cost: the equations are traced, and traced again with the columns.
    """
    width = columns[0].shape[1]
    beside = beside_their_loops(op) if width > 1 else None
    spaces: Any = op.domain.parts if isinstance(op.domain, TupleSpace) else (op.domain,)

    def applied(*parts: Any) -> list[Any]:
        if beside is not None:
            return beside(*parts)
        image = op.apply(Parts(parts) if isinstance(op.domain, TupleSpace) else parts[0])
        return list(image) if isinstance(op.codomain, TupleSpace) else [image]

    images = _last(applied, spaces, columns, width) if width >= FEW else None
    if images is not None or beside is None:
        return images
    rows = [jnp.reshape(jnp.moveaxis(x, -1, 0), (width, *s.shape)) for x, s in zip(columns, spaces, strict=True)]
    every = jax.vmap(applied)(*rows)
    return [jnp.moveaxis(jnp.reshape(x, (width, -1)), 0, -1) for x in every]


def _last(applied: Any, spaces: Any, columns: Sequence[Any], width: int) -> list[Any] | None:
    """The images with the columns along the last axis of all arrays; None where that is not possible."""
    types: list[Any] = [jax.ShapeDtypeStruct(space.shape, space.dtype) for space in spaces]  # type: ignore[no-untyped-call]
    closed = jax.make_jaxpr(applied)(*types)
    moving = [True] * len(types)
    if not serves_last(closed.jaxpr, moving):
        return None
    parts = [jnp.reshape(x, (*space.shape, width)).astype(space.dtype) for x, space in zip(columns, spaces, strict=True)]
    outputs, there = evaluated_last(closed.jaxpr, closed.consts, parts, moving, width)
    images = [x if m else jnp.broadcast_to(x[..., None], (*x.shape, width)) for x, m in zip(outputs, there, strict=True)]
    return [jnp.reshape(x, (-1, width)) for x in images]
