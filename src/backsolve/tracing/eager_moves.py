"""Moves of concrete arrays by few programs: JAX compiles one for each place that is static, and each number of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["MOVES", "concatenate", "moved", "pad", "slice_"]

MOVES: dict[str, Callable[..., Any]] = {}  # by name of the primitive; told from above, as `backsolve.tracing.kinds` is
AT_ONCE = 16  # arrays that are joined by one program: pieces of one size then share it


def moved(name: str, params: dict[str, Any], inputs: Sequence[Any]) -> list[Any] | None:
    """The outputs of an equation that takes a piece of an array, or places it among others; None for any other one.

    A net with its parameters in one vector has two for each layer, of 60 ms to compile and microseconds to run.
    """
    move = MOVES.get(name)
    out = None if move is None else move(params, *inputs)
    return None if out is None else [out]


def slice_(params: dict[str, Any], x: Any) -> Any:
    """A box of an array, by a program that serves for every corner; None with strides."""
    starts, strides = params["start_indices"], params["strides"]
    if strides is not None and any(stride != 1 for stride in strides):
        return None
    sizes = [end - start for start, end in zip(starts, params["limit_indices"], strict=True)]
    return jax.lax.dynamic_slice(x, starts, sizes)


def pad(params: dict[str, Any], x: Any, value: Any) -> Any:
    """An array placed in a larger one, by a program that serves for every place; None where it is cut or dilated."""
    config = params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in config):
        return None
    shape = [low + size + high for (low, high, _), size in zip(config, jnp.shape(x), strict=True)]
    return jax.lax.dynamic_update_slice(jax.lax.full(shape, value), x, [low for low, _, _ in config])


def concatenate(params: dict[str, Any], *parts: Any) -> Any:
    """Arrays joined, a few at once."""
    while len(parts) > AT_ONCE:
        parts = tuple(
            jax.lax.concatenate(parts[k : k + AT_ONCE], params["dimension"]) for k in range(0, len(parts), AT_ONCE)
        )
    return jax.lax.concatenate(parts, params["dimension"])
