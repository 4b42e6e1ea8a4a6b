"""Stretches: what a long program does between its loops and gathers, as one kernel where it would be dozens.

A border behind a value is a kernel of its own, 5 to 20 ms to compile (see `one_kernel`).  A stretch is of the equations that
can be evaluated at one time, before the next of those that are no loops over arrays.  One of many borders is compiled as one
function in half the time, and takes no longer to run: the sparse Jacobian of a bundle adjustment with 23 borders takes 0.64
of the time to be made and 0.74 to run, the sparse Hessian of a Kalman filter with 16 and 15 in two stretches 0.63 and 0.84.
With less than ten borders there is little to save, and what others read of a stretch is written down too: programs took 0.7
to 1.5 of the time to compile, and 0.9 to 1.9 to run (float64, jaxlib 0.10.2, two cores).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from backsolve.tracing import jaxpr as jx
from backsolve.xla.one_kernel import serves

__all__ = ["BORDERS", "Stretch", "stretches"]

BORDERS = 12  # of a stretch that is one kernel, at least
Step = tuple[Any, Sequence[Any]]  # an equation, and what it reads


@dataclass(frozen=True)
class Stretch:
    """Equations in their order; of those that are one kernel the values it reads, and those that others read of it."""

    equations: Sequence[Step]
    reads: Sequence[Any] = ()
    leaves: Sequence[Any] = ()


def stretches(equations: Sequence[Step], chosen: Mapping[Any, int], outputs: Sequence[Any]) -> list[Stretch]:
    """Equations in an order that they can be evaluated in, in stretches.

    ``chosen`` says which values get a border, with the number of entries from where they do.
    Cost: a look at each equation.
    """
    whole = [Stretch(equations)]
    if any(eqn.effects for eqn, _ in equations):  # effects keep their order
        return whole
    level: dict[Any, int] = {}  # how many equations that are in no kernel stand before a value, one behind the other
    kernels: dict[int, list[Step]] = defaultdict(list)
    others: dict[int, list[Step]] = defaultdict(list)  # behind the kernel of their level
    readers: dict[Any, set[int]] = defaultdict(set, {v: {-1} for v in _values(outputs)})  # a kernel's level, or -1
    for eqn, atoms in equations:
        sources = _values(atoms)
        at = max((level.get(v, 0) for v in sources), default=0)
        inside = serves([eqn], 1)
        (kernels if inside else others)[at].append((eqn, atoms))
        level.update((v, at if inside else at + 1) for v in eqn.outvars)
        for v in sources:
            readers[v].add(at if inside else -1)
    parts = []
    for at in sorted({*kernels, *others}):
        written = [v for eqn, _ in kernels[at] for v in eqn.outvars]
        reads: list[Any] = []
        leaves: list[Any] = []
        if sum(v in chosen and chosen[v] <= prod(v.aval.shape) for v in written) >= BORDERS:
            own = set(written)
            reads = list(dict.fromkeys(v for _, atoms in kernels[at] for v in _values(atoms) if v not in own))
            leaves = [v for v in written if readers[v] - {at}]
        parts += [Stretch(kernels[at], reads, leaves), Stretch(others[at])]
    return parts if any(stretch.leaves for stretch in parts) else whole


def _values(atoms: Sequence[Any]) -> list[Any]:
    return [v for v in atoms if not jx.is_literal(v)]
