"""What a loop has put down at each of its steps, worked out again from what it carries: for many steps side by side.

A derivative reads dozens of arrays that the loop before it wrote entry by entry.  Where little is carried, that alone is
written, by a loop that does nothing else, and the rest is made of it where it is read, all steps at once.  Or tangents go
through a loop beside the loop that they belong to, which then writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from backsolve.capture.opaque import LinearEquation
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of
from backsolve.tracing.series import made_by, scan_counts
from backsolve.xla.written import written

__all__ = ["Recomputed", "beside_their_loops"]

CARRIED = 64  # numbers carried, at most
MANY = 32  # numbers that are put down for several columns: of fewer another kernel takes longer than to make them again
WHOLE = ("scan", "while", "pure_callback", "io_callback", "ffi_call")  # what is not done at all steps at once


class Recomputed:
    """Arrays of a slice for each step, as functions of a step's slices of fewer arrays, ``stacks``.

    Those that a ``scan`` of the program being traced has put out are made of its carry before each step and of what it is
    given there, which in turn may have been put out by another.  The others are taken as they are.
    """

    def __init__(self, arrays: Sequence[Any], length: int) -> None:
        self.length = length
        self.stacks: list[Any] = []
        self._loops: list[tuple[Any, list[int], list[Any]]] = []  # an equation, places of its carries, and of its slices
        self._numbers: dict[int, int] = {}  # of an equation among these
        self._places = [self._place(x) for x in arrays]

    def _place(self, x: Any) -> Any:
        """A number of a stack, or of a loop and its output."""
        source = made_by(x)
        if source is None or not self._is_short(source[0]):
            self.stacks.append(x)
            return len(self.stacks) - 1
        eqn, k = source
        if k < scan_counts(eqn.params)[1]:
            self.stacks.append(x)
            return len(self.stacks) - 1
        if id(eqn) not in self._numbers:
            consts, carried = scan_counts(eqn.params)
            slices = [self._place(x) for x in eqn.invars[consts + carried :]]
            carries = _carries(eqn, self._every(slices))
            begin = len(self.stacks)
            self.stacks += carries
            self._numbers[id(eqn)] = len(self._loops)
            self._loops.append((eqn, list(range(begin, begin + carried)), slices))
        return self._numbers[id(eqn)], k

    def _is_short(self, eqn: Any) -> bool:
        """Whether a loop carries little, and holds no others."""
        if eqn.primitive.name != "scan" or eqn.params["length"] != self.length or eqn.effects:
            return False
        consts, carried = scan_counts(eqn.params)
        if not 0 < sum(prod(v.aval.shape) for v in eqn.invars[consts : consts + carried]) <= CARRIED:
            return False
        return not any(e.primitive.name in WHOLE for e in jx.every_equation(eqn.params["jaxpr"].jaxpr))

    @property
    def spared(self) -> float:
        """How many numbers of these arrays are made again for each that is carried to this end; 0 where none are."""
        places = {place for place in self._places if not isinstance(place, int)}
        entries: float = sum(prod(self._loops[n][0].params["jaxpr"].jaxpr.outvars[k].aval.shape) for n, k in places)
        carried: int = sum(prod(self.stacks[c].shape[1:]) for _, carries, _ in self._loops for c in carries)
        return entries / max(carried, 1)

    def every(self) -> list[Any]:
        """The arrays, all steps side by side."""
        return self._every(self._places)

    def at(self, slices: Sequence[Any]) -> list[Any]:
        """The arrays' slices of one step, from those of the stacks."""
        return self._evaluated(self._places, slices)

    def _evaluated(self, places: Sequence[Any], slices: Sequence[Any]) -> list[Any]:
        results: list[list[Any]] = []

        def read(place: Any) -> Any:
            return slices[place] if isinstance(place, int) else results[place[0]][place[1]]

        for eqn, carries, given in self._loops:
            fixed = eqn.invars[: scan_counts(eqn.params)[0]]
            inputs = [*fixed, *(slices[c] for c in carries), *map(read, given)]
            results.append(jx.evaluated(eqn.params["jaxpr"], inputs))
        return list(map(read, places))

    def _every(self, places: Sequence[Any]) -> list[Any]:
        """What is at some places, all steps side by side."""
        if all(isinstance(place, int) for place in places):
            return [self.stacks[place] for place in places]
        return jax.vmap(lambda *xs: self._evaluated(places, xs))(*self.stacks)


def _carries(eqn: Any, slices: Sequence[Any]) -> list[Any]:
    """What a loop carries before each step."""
    params = eqn.params
    consts, carried = scan_counts(params)
    fixed, start = eqn.invars[:consts], eqn.invars[consts : consts + carried]

    def step(carry: Sequence[Any], xs: Sequence[Any]) -> tuple[list[Any], Sequence[Any]]:
        return jx.evaluated(params["jaxpr"], [*fixed, *carry, *xs])[:carried], carry

    first = [jnp.asarray(x) for x in start]
    _, before = lax.scan(step, first, list(slices), length=params["length"], reverse=params["reverse"])
    return list(before)


def beside_their_loops(op: LinearEquation) -> Callable[..., list[Any]] | None:
    """The function of a linear ``scan`` in one loop with those that have put down what it reads at each step.

    None where none has, or only loops in the other direction, whose first step is its last.
    """
    params, operands = op.eqn.params, op.operands
    if op.transposed or op.eqn.primitive.name != "scan":
        return None
    consts, carried = scan_counts(params)
    sources = {k: made_by(x) for k, x in enumerate(operands) if k >= consts + carried and x is not None}
    in_loops = {k: source for k, source in sources.items() if source is not None and _in_step(*source, params)}
    loops = list({id(eqn): eqn for eqn, _ in in_loops.values()}.values())
    if not loops:
        return None

    dear = {id(eqn): _by_sines(eqn.params["jaxpr"].jaxpr) for eqn in loops}

    def once(k: int, x: Any) -> Any:
        """The same numbers, not worked out again for each column."""
        eqn, output = in_loops[k]
        return written(x, MANY) if dear[id(eqn)][output] and jnp.issubdtype(x.dtype, jnp.floating) else x

    def applied(*moving: Any) -> list[Any]:
        it = iter(moving)
        given = [jx.as_array(next(it) if x is None else x, v.aval) for x, v in zip(operands, op.eqn.invars, strict=True)]
        counts = [scan_counts(eqn.params) for eqn in loops]
        values = [[jx.as_array(x, jx.type_of(x)) for x in eqn.invars] for eqn in loops]
        starts = [xs[n : n + m] for xs, (n, m) in zip(values, counts, strict=True)]
        read = [xs[n + m :] for xs, (n, m) in zip(values, counts, strict=True)]
        own = {k: x for k, x in enumerate(given) if k >= consts + carried and k not in in_loops}

        def step(carry: Any, xs: Any) -> Any:
            (tangents, states), (own, slices) = carry, xs
            out = {}
            for eqn, fixed, (n, _), state, several in zip(loops, values, counts, states, slices, strict=True):
                out[id(eqn)] = jx.evaluated(eqn.params["jaxpr"], [*fixed[:n], *state, *several])
            numbers = range(consts + carried, len(given))
            put_down = [own[k] if k in own else once(k, out[id(in_loops[k][0])][in_loops[k][1]]) for k in numbers]
            image = jx.evaluated(params["jaxpr"], [*given[:consts], *tangents, *put_down])
            after = [out[id(eqn)][:m] for eqn, (_, m) in zip(loops, counts, strict=True)]
            return (image[:carried], after), image[carried:]

        first = given[consts : consts + carried], starts
        (last, _), stacked = lax.scan(step, first, (own, read), length=params["length"], reverse=params["reverse"])
        return [*last, *stacked]

    return applied


def _by_sines(jaxpr: Any) -> list[bool]:
    """Which outputs take sines, or what is as dear."""
    dear: set[Any] = set()
    for eqn in jaxpr.eqns:
        if _is_sine(eqn) or any(v in dear for v in eqn.invars if not jx.is_literal(v)):
            dear.update(eqn.outvars)
    return [not jx.is_literal(v) and v in dear for v in jaxpr.outvars]


def _is_sine(eqn: Any) -> bool:
    return kind_of(eqn.primitive.name) is Kind.SINE or any(map(_is_sine, jx.inner_equations(eqn.params)))


def _in_step(eqn: Any, output: int, params: Any) -> bool:
    """Whether a loop makes an output step by step as a loop with these parameters goes on."""
    name, own = eqn.primitive.name, eqn.params
    if name != "scan" or eqn.effects or (own["length"], own["reverse"]) != (params["length"], params["reverse"]):
        return False
    return bool(output >= scan_counts(own)[1])
