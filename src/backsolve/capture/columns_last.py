"""Several columns through a loop together, along the last axis of all its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from backsolve.capture.opaque import LinearEquation
from backsolve.operators import TupleSpace
from backsolve.operators.moves import Parts
from backsolve.xla.last_axis import evaluated_last, serves_last

__all__ = ["columns_last"]

FEW = 8  # columns, fewer are pushed along a first axis


def columns_last(op: LinearEquation, columns: Sequence[Any]) -> list[Any] | None:
    """The images of columns, the columns along the last axis of all arrays: of each part of an operand n × k numbers.

    None where they are few, and where something inside is done by JAX along a first axis alone.
    Cost: the equations are traced, and traced again with the columns.
    """
    width = columns[0].shape[1]
    if width < FEW:
        return None
    spaces: Any = op.domain.parts if isinstance(op.domain, TupleSpace) else (op.domain,)
    types: list[Any] = [jax.ShapeDtypeStruct(space.shape, space.dtype) for space in spaces]  # type: ignore[no-untyped-call]

    def applied(*parts: Any) -> list[Any]:
        image = op.apply(Parts(parts) if isinstance(op.domain, TupleSpace) else parts[0])
        return list(image) if isinstance(op.codomain, TupleSpace) else [image]

    closed = jax.make_jaxpr(applied)(*types)
    moving = [True] * len(types)
    if not serves_last(closed.jaxpr, moving):
        return None
    parts = [jnp.reshape(x, (*space.shape, width)).astype(space.dtype) for x, space in zip(columns, spaces, strict=True)]
    found, there = evaluated_last(closed.jaxpr, closed.consts, parts, moving, width)
    images = [x if m else jnp.broadcast_to(x[..., None], (*x.shape, width)) for x, m in zip(found, there, strict=True)]
    return [jnp.reshape(x, (-1, width)) for x in images]
