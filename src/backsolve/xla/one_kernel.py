"""A program of loops as one kernel: one function for the compiler, and one to call.

XLA's CPU compiler makes a kernel of each loop: 5 to 20 ms to compile, by way of two languages, and 0.2 to 1 µs to start or
to hand to another thread.  A call that is marked as small it writes down as one function of all its loops, in the second
language at once; it marks loops over small arrays so itself (`SmallWhileLoopHoistingPass`).  In the time of before, at 1,000
and at 10,000 points: Jacobians of a camera, of an arm of six joints, of an option and of a flux 0.42 to 0.47 and 0.67 to
0.80, and 0.28 to 0.30 of the time to compile (float32, jaxlib 0.10.2, two cores).

Such a function runs in one thread, so it is for arrays of limited size.  What is no loop in it is refused by XLA or ends the
process: sums and products of matrices are written as operations on entries; see `tracing.series.lowered_call` for its
arguments and results.  Tried with jaxlib 0.8.0, 0.8.3, 0.9.2, 0.10.2 and 0.12.0.1; a newer one gets the program as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of, record_of
from backsolve.tracing.series import MUL_PARAMS, SERIES
from backsolve.xla.numbers import FOLDED, HALF, is_array
from backsolve.xla.small_products import as_sum, is_small_product, small_product

__all__ = ["KNOWN", "as_loops", "in_one_kernel", "marks", "serves"]

_ROW, _ARRAY = 2**15, 2**17  # numbers over all points: of what XLA has rows over the points for, and of other arrays
_LARGEST = 2**21  # of any array, the results and batches that come later among them
_MARKS = {"xla_cpu_small_call": "true", "inlineable": "false"}
KNOWN = (0, 12, 0)  # the newest release of JAX that it was tried with


def marks(jaxpr: Any) -> dict[str, str]:
    """What says to the compiler that a program is one function; nothing where it is to be compiled as it is."""
    atoms = (*jaxpr.invars, *jaxpr.constvars, *(v for eqn in jaxpr.eqns for v in eqn.outvars))
    sizes = [prod(v.aval.shape) for v in atoms] if jaxpr.outvars else [0]
    return _MARKS if SERIES[:3] <= KNOWN and min(sizes) and max(sizes) <= _LARGEST else {}


_ENTRYWISE = (Kind.CHEAP, Kind.SINE, Kind.DEAR)
_MOVES = (Kind.MOVES, Kind.JOINS)
_SUMMED = 16  # entries that are summed one after the other


def serves(live: Sequence[Any], points: int) -> bool:
    """Whether a program is to be one kernel at so many points: of so much work that other threads do not pay, all in loops.

    These are operations on entries, moves of them, small sums and products.
    """
    largest = max((prod(v.aval.shape) for eqn in live for v in eqn.outvars if hasattr(v.aval, "shape")), default=1)
    if points * largest > (_ROW if largest == 1 else _ARRAY):
        return False
    return all(not eqn.effects and _are_loops(eqn) and all(map(is_array, (*eqn.invars, *eqn.outvars))) for eqn in live)


def _are_loops(eqn: Any) -> bool:
    body = jx.inner_jaxpr(eqn, custom=True)
    if body is not None:  # XLA puts it in the place of its call
        return all(not inner.effects and _is_loop(inner) for inner in body[0].eqns)
    return _is_loop(eqn) or is_small_product(eqn) or _is_small_sum(eqn)


def _is_loop(eqn: Any) -> bool:
    name = eqn.primitive.name
    kind = kind_of(name)
    return record_of(name).evaluate is not None if kind in _MOVES else kind in _ENTRYWISE or name == "iota"


def _is_small_sum(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name not in FOLDED or eqn.outvars[0].aval.dtype in HALF:
        return False
    count: int = prod(eqn.invars[0].aval.shape[k] for k in eqn.params["axes"])
    return 0 < count <= _SUMMED


def as_loops(eqn: Any, operands: Sequence[Any]) -> Any:
    """The value of an equation of such a program that XLA would make no loop of, by operations on entries; else None."""
    if is_small_product(eqn):
        moved = small_product(eqn, operands)
        return as_sum(eqn, operands) if moved is None else moved
    if not _is_small_sum(eqn):
        return None
    axes, (x,) = eqn.params["axes"], operands
    front = jnp.moveaxis(x, axes, range(len(axes)))
    rows = jnp.reshape(front, (-1, *front.shape[len(axes) :])) if len(axes) != 1 else front
    operation = FOLDED[eqn.primitive.name]
    bound = partial(operation.bind, **(MUL_PARAMS if operation is lax.mul_p else {}))
    return reduce(bound, [lax.index_in_dim(rows, k, 0, keepdims=False) for k in range(rows.shape[0])])


_called = jx.call_primitive("one_kernel", lambda closed: (marks(closed.jaxpr), closed))


def in_one_kernel(function: Callable[..., Sequence[Any]], arrays: Sequence[Any]) -> list[Any]:
    """Return ``function(*arrays)``, a list of arrays; it closes over no traced values.

    It must be of equations that `serves` says yes to, those that `as_loops` has a value for by that.
    """
    return _called(function, arrays)
