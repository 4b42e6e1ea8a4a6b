"""Loops over steps, in which everything is operations on small arrays, as one function for the compiler each.

XLA's CPU compiler starts a kernel at each step for each array that a step puts down, and for each group of operations: 50 ns
each, and 5 to 20 ms to compile.  As one function (`one_kernel`) the loop starts none.  XLA does so itself where all that a
loop has is small, what it puts down at all steps together too.  Gradients through 300 steps, in the time of before, and in
that to compile: Runge–Kutta for a quadrotor (28 arrays a step) 0.1 and 0.5, a gated unit of 3 numbers 0.13 and 0.5, tanh ·
sin of 8 numbers 0.25 and 0.9, of 64 numbers 0.8 and 0.6, of 1,024 0.96 and 0.6 (float64, jaxlib 0.10.2, one core).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import scan_counts, varying_axes
from backsolve.xla.numbers import is_array
from backsolve.xla.one_kernel import as_loops, marks, serves
from backsolve.xla.small_products import loop_by

__all__ = ["is_small_loop", "small_loop"]

_LARGEST = 2**12  # entries of an array at a step: of more, starting a kernel is little, and other threads may help


def is_small_loop(eqn: Any) -> bool:
    """Whether an equation is a `scan` of which everything at a step is operations on small arrays."""
    if eqn.primitive.name != "scan" or eqn.effects:
        return False
    jaxpr = eqn.params["jaxpr"].jaxpr
    atoms = (*jaxpr.invars, *jaxpr.constvars, *(v for e in jaxpr.eqns for v in e.outvars))
    return all(is_array(v) and prod(v.aval.shape) <= _LARGEST for v in atoms) and serves(jaxpr.eqns, 1)


def _marked(closed: Any) -> tuple[dict[str, str], Any]:
    """Marks, and what is called: operations on entries at each step; none where there are others, as a batch may have."""
    others = [eqn for eqn in closed.jaxpr.eqns if not is_small_loop(eqn)]
    attributes = marks(closed.jaxpr) if serves(others, 1) else {}
    if not attributes:
        return attributes, closed
    struct: Any = jax.ShapeDtypeStruct
    types = [struct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    return attributes, jax.make_jaxpr(lambda *args: jx.evaluated(closed, args, _bound))(*types)


def _bound(eqn: Any, operands: list[Any]) -> list[Any]:
    """The values of an equation inside, by operations on entries."""
    if eqn.primitive.name == "scan":
        return loop_by(_bound, eqn, operands, range(len(eqn.outvars)))
    array = as_loops(eqn, operands)
    return jx.bind(eqn, operands) if array is None else [array]


_called = jx.call_primitive("small_loop", _marked)


def small_loop(eqn: Any, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any] | None:
    """The values of an equation that `is_small_loop`, by one function, else None; those not wanted may be None.

    None inside a ``shard_map`` too, whose types say over which devices a value varies.
    """
    if not is_small_loop(eqn) or any(varying_axes(v.aval) for v in eqn.outvars):
        return None
    outputs = [k for k, w in enumerate(wanted) if w or k < scan_counts(eqn.params)[1]]
    arrays = [jx.as_array(x, v.aval) for x, v in zip(operands, eqn.invars, strict=True)]
    with jx.equation_context(eqn):  # errors name the user's line
        results = dict(zip(outputs, _called(lambda *arrays: loop_by(None, eqn, arrays, outputs), arrays), strict=True))
    return [results.get(k) for k in range(len(wanted))]
