"""`written`: the same numbers, in an array of their own that XLA's CPU compiler does not compute again in every loop.

The compiler copies cheap operations into every loop that reads them, and computes the result of one that it counts as
dear, a division, once.  So a number is divided by a 1 that XLA cannot tell from another number.
(`lax.optimization_barrier` does not serve: it is gone before loops are formed.  Tried with jaxlib 0.10.2.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx

__all__ = ["in_rows", "written"]


def _on_cpu(y: Any, *, smallest: int) -> Any:
    """y / clamp(1, y, 1), which is y: the divisor is 1, or NaN where y is, and no pass of XLA looks for that."""
    if y.size < smallest:
        return y
    one = np.ones((), y.dtype)
    return lax.div(y, lax.clamp(one, y, one))


_written = jx.identity_primitive("written", _on_cpu)


def written(x: Any, smallest: int = 1) -> Any:
    """Return x, real numbers; XLA writes it down where it has as many entries as `smallest`, with all axes of `vmap`."""
    return _written.bind(x, smallest=smallest)


_in_rows = jx.identity_primitive("in_rows", _on_cpu, jx.last_axis)


def in_rows(x: Any, smallest: int) -> Any:
    """Return x; under `vmap` XLA writes it down with the points along the last axis, where it has so many entries.

    What is read of each point one entry at a time, from points that lie one after the other, is no vector for the processor.
    """
    return _in_rows.bind(x, smallest=smallest)
