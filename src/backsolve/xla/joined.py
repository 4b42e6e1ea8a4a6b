"""Arrays joined from numbers, under `vmap` one join of columns: the numbers are worked out in vectorised loops of their own.

XLA's CPU compiler makes one loop of a concatenation of up to eight arrays and of all that leads to them: of a matrix whose
rows are joins of numbers, a loop that branches at every entry, which is not vectorised.  A join of more arrays it only
copies.  So an array that is joined from numbers in several steps is joined from all of them at once.

Jacobians of functions of numbers, with the joins of rows for one join, in the time of before (float32, 10,000 points,
jaxlib 0.10.2, two cores): greeks of an option 0.29, an implicit step of a neuron 0.29, a Kepler orbit 0.7; of a car, one
row of which is known while tracing, 0.55.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from functools import reduce
from math import prod
from operator import or_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of, record_of
from backsolve.tracing.series import explicit_mesh

__all__ = ["JOINED", "is_one_loop", "join", "numbers_of"]

JOINED = 8  # arrays of a concatenation that become one loop; more of them are written first
_LARGEST = 1024  # numbers of an array
_PLACES = (Kind.MOVES, Kind.JOINS, Kind.PICKS)
_OPERATIONS = {Kind.SINE: 60.0, Kind.DEAR: 25.0}  # of the processor, about, for four bytes

Places = np.ndarray[Any, Any]  # of each entry of an array, which atom it is


_MOVES = ("broadcast_in_dim", "concatenate", "reshape", "squeeze", "stack", "transpose")


def numbers_of(live: Sequence[Any], outputs: Sequence[Any], constants: Mapping[Any, Any]) -> dict[Any, list[Any]]:
    """The outputs that are joined from more than `JOINED` numbers alone, each with these: variables and literals.

    Of ``constants``, by their variables, every entry is a literal: rows of known numbers stand beside others in many joins.
    """
    atoms: list[Any] = []
    places: dict[Any, Places] = {}

    def of_atom(atom: Any) -> Places:
        atoms.append(atom)
        return np.full(atom.aval.shape, len(atoms) - 1)

    def of_constant(value: Any) -> Places:
        x = np.asarray(value)
        number = {entry.tobytes(): jx.literal(entry) for entry in x.ravel()}  # 0.0 and -0.0 are two
        first = {key: len(atoms) + k for k, key in enumerate(number)}
        atoms.extend(number.values())
        return np.array([first[entry.tobytes()] for entry in x.ravel()], int).reshape(x.shape)

    def of(atom: Any) -> Places | None:
        if jx.is_literal(atom):
            return of_atom(atom) if prod(atom.aval.shape) == 1 else None
        if atom not in places and prod(getattr(atom.aval, "shape", (0,))) == 1:
            places[atom] = of_atom(atom)
        if atom not in places and atom in constants and _are_numbers(atom.aval):
            places[atom] = of_constant(constants[atom])
        return places.get(atom)

    for eqn in live:
        name = eqn.primitive.name
        move = record_of(name).evaluate if name in _MOVES else None
        if move is None or prod(eqn.outvars[0].aval.shape) > _LARGEST:
            continue
        operands = list(map(of, eqn.invars))
        if all(x is not None for x in operands):
            places[eqn.outvars[0]] = move(eqn.params, *operands)
    joined = {}
    for v in outputs:
        x = None if jx.is_literal(v) else places.get(v)
        if x is not None and x.size > JOINED and all(atoms[k].aval.dtype == v.aval.dtype for k in np.unique(x)):
            joined[v] = [atoms[k] for k in x.ravel()]
    return joined


def _are_numbers(aval: Any) -> bool:
    """Whether an array has floating-point numbers (keys of random numbers are none), and not too many."""
    return prod(aval.shape) <= _LARGEST and bool(jnp.issubdtype(aval.dtype, jnp.inexact))


_INLINED = 150.0  # operations of a branch, up to which the compiler works out each only once


def is_one_loop(equations: Sequence[tuple[Any, list[Any]]], numbers: Sequence[Any], border: Container[Any]) -> bool:
    """Whether up to `JOINED` numbers are best joined in the loop that works them out, which has a branch for each of them.

    A value that several branches need is a function in that loop, and one that several functions need is one too.  While
    they are short the compiler puts them in place and sees what is alike; of longer ones every call is made, and what they
    have in common is worked out as often as there are ways to it.  Ten kinds of steps and maps of two to five numbers: with
    up to 132 operations a branch they took from 0.06 to 1.3 of the time of JAX's forward mode; of longer ones a Runge–Kutta
    method with 183 took 5 times as long as in rows, a chain of exponentials with 376 ten times.  Behind a ``border`` nothing
    is worked out again.
    """
    readers: dict[Any, set[int]] = defaultdict(set)  # the functions that need a value
    operations = [0.0] * len(numbers)  # of each function, the branches first
    called: list[set[int]] = [set() for _ in numbers]
    for k, v in enumerate(numbers):
        if not jx.is_literal(v):
            readers[v].add(k)
    for eqn, operands in reversed(equations):
        needed = set().union(*(readers[v] for v in eqn.outvars))
        if not needed:
            continue
        moves = kind_of(eqn.primitive.name) in _PLACES
        if len(needed) > 1 and not moves:
            for k in needed:
                called[k].add(len(called))
            needed = {len(called)}
            called.append(set())
            operations.append(0.0)
        if eqn.outvars[0] not in border:
            for k in needed if not moves else ():
                operations[k] += _operations(eqn)
            for v in operands:
                if not jx.is_literal(v):
                    readers[v] |= needed
    within = [0] * len(called)  # of each function, the bits of those that it comes to
    for k in range(len(called) - 1, -1, -1):
        within[k] = reduce(or_, (within[j] for j in called[k]), 1 << k)
    branches = within[: len(numbers)]
    return all(sum(n for k, n in enumerate(operations) if branch >> k & 1) <= _INLINED for branch in branches)


def _operations(eqn: Any) -> float:
    """Those of the processor: an exponential of eight bytes takes twice as many as one of four."""
    several = _OPERATIONS.get(kind_of(eqn.primitive.name))
    return 1.0 if several is None else several * max(1.0, eqn.outvars[0].aval.dtype.itemsize / 4)


def join(numbers: Sequence[Any], aval: Any, one_loop: bool = True) -> Any:
    """The array of these numbers; of up to `JOINED` either in the loop that works them out, or from rows of their own."""
    if not numbers:
        return jx.zeros(aval)
    mesh = explicit_mesh(numbers)
    if mesh is None and len(numbers) > JOINED:
        return _joined([jnp.reshape(x, (1,)) for x in numbers], aval)
    if mesh is None:
        entries = [jnp.asarray(x, aval.dtype) for x in numbers]
        return _nested(entries, aval.shape) if one_loop else _selected(entries, aval.shape)
    with jax.sharding.use_abstract_mesh(mesh):  # of which `vmap` asks all numbers, also those that are known
        return _joined([jnp.reshape(x, (1,)) if jx.is_traced(x) else _constant(x) for x in numbers], aval)


def _joined(numbers: Sequence[Any], aval: Any) -> Any:
    return lax.concatenate([jnp.asarray(x, aval.dtype) for x in numbers], 0).reshape(aval.shape)


def _nested(entries: list[Any], shape: tuple[int, ...]) -> Any:
    """Axis by axis, with the points last: of a join that is turned at the very end XLA makes a loop that is vectorised."""
    for n in reversed(shape):
        entries = [jnp.stack(entries[i : i + n]) for i in range(0, len(entries), n)]
    return entries[0]


def _selected(entries: list[Any], shape: tuple[int, ...]) -> Any:
    """By one choice after the other: what is dear, or written, has a row of its own, since it is read repeatedly."""
    place = lax.iota(np.int32, len(entries))
    out = jnp.broadcast_to(entries[-1], place.shape)
    for k, entry in enumerate(entries[:-1]):
        out = jnp.where(place == k, entry, out)
    return out.reshape(shape)


def _constant(x: Any) -> Any:
    return lax.full((1,), np.asarray(x).item())
