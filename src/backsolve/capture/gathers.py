"""How JAX moves entries to static places: straight to `jax.lax`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from backsolve.sparse.materialize import register_kernels

__all__ = ["JaxKernels"]


class JaxKernels:
    """See `backsolve.sparse.materialize.Kernels`."""

    def gather(self, x: Any, index: np.ndarray[Any, Any]) -> Any:
        """One ``lax.gather`` that checks no bounds."""
        rest = tuple(range(1, x.ndim))
        steps = np.diff(index)
        return lax.gather(
            x,
            index.astype(np.int32 if x.shape[0] < 2**31 else np.int64)[:, None],
            lax.GatherDimensionNumbers(rest, (0,), (0,)),
            (1, *x.shape[1:]),
            unique_indices=bool((steps > 0).all()),
            indices_are_sorted=bool((steps >= 0).all()),
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )

    def box(self, x: Any, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> Any:
        """One ``lax.slice``."""
        rest = x.shape[len(starts) :]
        strides = None if all(step == 1 for step in steps) else (*steps, *(1,) * len(rest))
        return lax.slice(x, (*starts, *(0,) * len(rest)), (*stops, *rest), strides)

    def concatenate(self, parts: Sequence[Any]) -> Any:
        """One ``lax.concatenate``."""
        return lax.concatenate(parts, 0)

    def stack(self, parts: Sequence[Any]) -> Any:
        """One ``lax.concatenate`` along the second axis."""
        return lax.concatenate([lax.expand_dims(part, (1,)) for part in parts], 1)


register_kernels(jax.Array, JaxKernels())
