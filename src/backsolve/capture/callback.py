"""Calls of the host from compiled code, whose numbers arrive as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["on_host"]


def on_host(function: Callable[..., Any], shape: tuple[int, ...], dtype: Any, *arrays: Any) -> Any:
    """What ``function`` makes of these arrays on the host, an array of this shape and dtype; in a batch, one by one.

    JAX calls from a thread of its own, where double precision may be off though the program has it (as with
    ``jax.enable_x64`` for a block of code): what has 64 bits passes as two words of 32.
    """
    dtypes = [jnp.result_type(x) for x in arrays]

    def called(*words: Any) -> Any:
        result = function(*(_numbers(np.asarray(x), was) for x, was in zip(words, dtypes, strict=True)))
        return _words_of(np.asarray(result, dtype).reshape(shape))

    result: Any = jax.eval_shape(_words, jax.ShapeDtypeStruct(shape, dtype))  # type: ignore[no-untyped-call]
    return _joined(jax.pure_callback(called, result, *map(_words, arrays), vmap_method="sequential"), dtype)


def _words(x: Any) -> Any:
    """An array as words of 32 bits, in further axes at the end, if it is wider than that."""
    if jnp.iscomplexobj(x) and x.dtype.itemsize > 8:
        x = jnp.stack([x.real, x.imag], axis=-1)
    return jax.lax.bitcast_convert_type(x, jnp.uint32) if x.dtype.itemsize == 8 and not jnp.iscomplexobj(x) else x


def _joined(x: Any, dtype: Any) -> Any:
    """The array of such words."""
    dtype = np.dtype(dtype)
    if dtype.itemsize < 8 or dtype == np.complex64:
        return x
    x = jax.lax.bitcast_convert_type(x, jnp.float64 if dtype.kind == "c" else dtype)
    return jax.lax.complex(x[..., 0], x[..., 1]) if dtype.kind == "c" else x


def _words_of(x: Any) -> Any:
    """On the host: as `_words`."""
    if x.dtype.itemsize < 8 or x.dtype == np.complex64:
        return x
    more = (2, 2) if x.dtype.kind == "c" else (2,)
    return np.ascontiguousarray(x).reshape(-1).view(np.uint32).reshape(*x.shape, *more)


def _numbers(x: Any, dtype: Any) -> Any:
    """On the host: as `_joined`."""
    dtype = np.dtype(dtype)
    if dtype.itemsize < 8 or dtype == np.complex64:
        return x
    shape = x.shape[: -2 if dtype.kind == "c" else -1]
    return np.ascontiguousarray(x).reshape(-1).view(dtype).reshape(shape)
