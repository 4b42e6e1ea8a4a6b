"""A program of numbers at many points as one kernel: one function for the compiler, and one to call.

Under `vmap`, XLA's CPU compiler makes a kernel of each loop over the points, which takes it 5 to 20 ms, in two languages one
after the other, and which at run time costs 0.2 to 1 µs to start, or to hand to another thread.  A call that is marked as
small it writes down as one function with these loops in it, in the second language at once.  It marks so itself what loops
over small arrays (`SmallWhileLoopHoistingPass`).  Jacobians of a camera, of an arm of six joints, of an option and of a flux
at 1,000 points: 0.28 to 0.30 of the time to compile, 0.43 to 0.47 of the time to run; at 10,000 points 0.67 to 0.81 (float32,
jaxlib 0.10.2, two cores).

In such a function nothing is handed to other threads, so it is not taken for many points.  Two things are no loops in it and
are refused by XLA: sums of products (`dot`), and a root that is itself divided among threads, which a tuple is not.
Tried with jaxlib 0.8.0, 0.8.3, 0.9.2, 0.10.2 and 0.12.0.1; a newer one gets the program as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import NEWEST, SERIES

__all__ = ["in_one_kernel"]

# Beyond, a row of float32 is more than a core's cache of the first level, and XLA divides most loops among threads.
_POINTS = 16_384
_MARKS = {"xla_cpu_small_call": "true", "inlineable": "false"}


def _marks(points: int) -> dict[str, str]:
    return _MARKS if SERIES[:2] <= NEWEST and 1 < points <= _POINTS else {}


_called = jx.call_primitive("one_kernel", _marks)


def in_one_kernel(function: Callable[..., Sequence[Any]], arrays: Sequence[Any]) -> list[Any]:
    """Return ``function(*arrays)``, a list of arrays, where it is called under `vmap`; it closes over no traced values.

    It must be of operations on entries, and of moves and joins of entries, alone.
    """
    return _called(function, arrays)
