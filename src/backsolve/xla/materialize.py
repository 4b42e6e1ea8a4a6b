"""Materialization: what XLA would compute once more in every loop that reads it is computed once and written down.

XLA's CPU compiler makes one loop of all elementwise work that leads to an array, and copies cheap operations into every
loop that reads them (`CpuInstructionFusion`; the sine of a real number is among them).  A derivative has many arrays that
share their work.  Here a traced program is copied with a border (`written`) behind each value whose copies would take
longer than writing and reading it.  The numbers are the same.

Times are counted in multiplications of one entry, 0.1 ns.  Tried with jax and jaxlib 0.10.2, on two cores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of
from backsolve.tracing.series import scan_counts
from backsolve.xla.in_step import in_step
from backsolve.xla.in_turn import inexact, is_routine, later
from backsolve.xla.joined import JOINED, is_one_loop, join, numbers_of
from backsolve.xla.numbers import in_numbers, is_small, numbers_left
from backsolve.xla.one_kernel import as_loops, in_one_kernel, serves
from backsolve.xla.shared import SharedFactors, shared_operands
from backsolve.xla.small_loops import is_small_loop, small_loop
from backsolve.xla.small_products import loop_of_small_products, small_product
from backsolve.xla.small_solves import with_small_solves
from backsolve.xla.stretches import BORDERS, Stretch, stretches
from backsolve.xla.turned import turned
from backsolve.xla.written import in_rows, written

__all__ = ["GRADIENT", "JACOBIAN", "SPARSE", "Policy", "concerns", "materialized"]

_MOVES = (Kind.MOVES, Kind.JOINS, Kind.PICKS)
_SINE = 25.0  # 1.6 ns an entry in float32, 7 in float64
_WRITTEN = 8.0  # to write an entry and read it again: 0.4 ns in float32, 0.6 to 1.6 in float64
_ROW = 30.0  # to make a row of a value in one of several loops over 100 points: its start, for the most part
_ROW_IN_ONE = 16.0  # the same in one kernel of all loops
_ROWS = 24  # such rows at most, elsewhere, that save fewer copies than compile in the 5 ms that a loop takes
_FEW = 32  # points, of which loops of their own take longer than what they save
_COPIED = 100.0  # operations of copies: these compile in that time
_LOOP = 3000.0  # to start one more loop: 0.1 to 0.6 µs


@dataclass(frozen=True)
class Policy:
    """Which values may be written down, and how many more entries than are in memory anyway, as a part of these."""

    arithmetic: bool = False  # sums and products too, not only sines
    merged: bool = (
        False  # whether repeated equations are left out, as of programs of numbers; XLA does so too, a plan counts them
    )
    numbers: bool = False  # sines of numbers, which `vmap` makes arrays of, and under it all that arrays hold; one kernel
    room: float = inf


# Rows of a Jacobian of numbers, under `vmap`.  A robot arm of 7 joints at 1,000 points: 14 sines a point for 915, of two
# links 24 for 384; of a car on two axles, whose sines are in arrays of two, 0.35 of the time.  Of sums and products of
# numbers the same rule made programs 0.55 to 1.7 times as long: they stay where they are.  Those of arrays are written,
# under `vmap`, where that saves more than a loop's start even at one point: 0.4 of the time of a Runge–Kutta step of 40
# variables by forward substitution, 0.6 of a Hessian of five atoms, 0.7 to 1.2 of nine others.
JACOBIAN = Policy(numbers=True)
# A gradient is taken where memory is short: it may take a twentieth more, which goes to what saves most; of what is written
# about two thirds live at the same time.  Six random programs of 150 to 300 lines on thousands of points, with a twentieth
# in place of a thirty-second: 0.83 to 0.99 of the sines, tanh, …, 0.94 of the time.  (With all the room in the world one of
# them took 0.44 of the time, and 1.7 times the memory.)
GRADIENT = Policy(room=1 / 32)
# A sparse Jacobian reads shared values at many places, each of which is a copy of all that leads to the value.  Bundle
# adjustment, 32,000 observations: 0.41 of the time; trajectory by collocation, separable Hessian: 0.3 and 0.4.
# Of those that would save by themselves it takes what saves beside the others: half as many or fewer in long programs, a
# Hessian by Freudenstein and Roth in 0.55 of the time, bundle adjustment 0.8 to 0.85, four others 0.9 to 1.1.
SPARSE = Policy(arithmetic=True, merged=True)


def concerns(jaxpr: Any, policy: Policy) -> bool:
    """Whether a derivative of this program can hold anything that the policy writes down, or be one kernel."""
    if not jx.is_sized(jaxpr):
        return False
    if policy.arithmetic or (policy.numbers and jx.is_batched_here()):  # small products of matrices there
        return True
    batched = policy.numbers or jx.is_batching()  # else a number is one number, and another loop takes longer
    equations: list[Any] = []
    jaxprs = [jaxpr]
    for inner in jaxprs:
        for eqn in inner.eqns:
            body = jx.inner_jaxpr(eqn)
            if body is not None:
                jaxprs.append(body[0])
                continue
            if eqn.primitive.name == "scan" and (policy.numbers or is_small_loop(eqn)):
                return True
            if kind_of(eqn.primitive.name) is Kind.SINE and (not policy.numbers if eqn.outvars[0].aval.shape else batched):
                return True
            equations.append(eqn)
    return policy.numbers and serves(equations, 1)  # else its derivative has such equations too


def materialized(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    policy: Policy,
    other: tuple[Callable[..., Any], float] | None = None,
) -> Any:
    """Return ``function(*arrays)``, under `jax.jit` on a CPU compiled so that values read by many loops are made by one.

    Leaves of the result that are no arrays come back as they are.  Another function that gives the same, and works out about
    so many numbers, is taken under `vmap` where it takes fewer.
    Cost: the equations are traced, read twice, and copied.
    """
    if jax.default_backend() != "cpu" or not jx.is_compiling():
        return function(*arrays)
    batched = jx.is_batched_here()
    traced = _traced(function, arrays)
    jaxpr, consts = traced.jaxpr, traced.consts
    if not jx.is_sized(jaxpr):
        return function(*arrays)
    if any(eqn.primitive.name == "scan" for eqn in jaxpr.eqns):
        jaxpr, consts = in_step(jaxpr, list(consts), arrays)
    fewer = _of_fewer_numbers(jaxpr, consts, arrays, other) if policy.numbers and batched else None
    if fewer is not None:
        traced, program = fewer
    else:
        program = _joined_from_numbers(jaxpr, consts, arrays) if policy.numbers and batched else _as_it_is(jaxpr, consts)
    if policy.numbers and serves(program.live, jx.points()):
        outer = [k for k, c in enumerate(program.consts) if jx.is_traced(c)]

        def of_all(*values: Any) -> list[Any]:
            consts = dict(enumerate(program.consts)) | dict(zip(outer, values[: len(outer)], strict=True))
            return _evaluated(program, policy, batched, True, list(consts.values()), values[len(outer) :])

        outputs = in_one_kernel(of_all, [*(program.consts[k] for k in outer), *arrays])
    else:
        outputs = _evaluated(program, policy, batched, False, program.consts, arrays)
    moving = iter(outputs)
    return jx.unflatten(traced.tree, [next(moving) if leaf is None else leaf for leaf in traced.others])


@dataclass(frozen=True)
class _Traced:
    """What a function returns: a pytree, its leaves that are no arrays (None for an array), and a program of the others."""

    tree: Any
    others: Sequence[Any]
    jaxpr: Any
    consts: Sequence[Any]


def _traced(function: Callable[..., Any], arrays: Sequence[Any]) -> _Traced:
    results: list[tuple[Any, list[Any]]] = []

    def of_arrays(*arrays: Any) -> list[Any]:
        leaves, tree = jax.tree_util.tree_flatten(function(*arrays))
        results.append((tree, [None if isinstance(leaf, jax.Array) else leaf for leaf in leaves]))
        return [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    jaxpr, consts, _ = jx.trace(of_arrays, arrays)
    return _Traced(*results[-1], jaxpr, consts)


def _evaluated(
    program: _Program, policy: Policy, batched: bool, one: bool, consts: Sequence[Any], arrays: Sequence[Any]
) -> list[Any]:
    """The arrays that a program returns, with borders where they pay."""
    live = program.live
    equations, names = _without_repetition(live)
    outputs = [_named(v, names) for v in program.outputs]
    chosen = _chosen(equations, outputs, policy, batched)
    apart = policy.merged and not batched and len(chosen) >= BORDERS  # may have stretches
    if policy.merged and chosen:  # what only other borders read saves nothing
        chosen = _chosen(equations, outputs, policy, batched, among=chosen)
    values = dict(zip((*program.jaxpr.constvars, *program.jaxpr.invars), (*consts, *arrays), strict=True))
    in_one_loop = [
        numbers is None
        or not program.apart
        or not jnp.issubdtype(aval.dtype, np.floating)
        or (len(numbers) <= JOINED and is_one_loop(equations, [_named(v, names) for v in numbers], chosen))
        for aval, numbers in zip(program.avals, program.joined, strict=True)
    ]
    if not all(in_one_loop):
        several = [v for v in program.jaxpr.invars if prod(v.aval.shape) > 1 and jnp.issubdtype(v.aval.dtype, np.floating)]
        values.update((v, in_rows(values[v], _FEW * prod(v.aval.shape))) for v in several)
        chosen = _chosen_rows(equations, outputs, policy, one)

    in_kernels = chosen
    if one and not batched and len(_paying_alone(equations, outputs, policy)) >= BORDERS:
        in_kernels = _rows_of_one(equations, outputs, policy)

    def read(atom: Any) -> Any:
        return jx.literal_value(atom) if jx.is_literal(atom) else values[atom]

    dear: set[Any] = set()
    shared = SharedFactors() if batched else None
    before: list[Any] = []  # results of the last routine of linear algebra

    def evaluate(eqn: Any, atoms: Sequence[Any], values: dict[Any, Any], one: bool) -> None:
        if batched:
            values.update({v: written(values[v]) for v in shared_operands(eqn, atoms, values, dear, _fused(eqn))})
        operands = [jx.literal_value(atom) if jx.is_literal(atom) else values[atom] for atom in atoms]
        routine = batched and is_routine(eqn)
        if routine:
            operands = later(operands, before)
        product = as_loops(eqn, operands) if one else small_product(eqn, operands) if batched else None
        by_shared = shared.product(eqn, atoms, operands) if shared is not None and not one else None
        product = by_shared if product is None else product
        if batched and product is None:
            product = turned(eqn, operands)
        results = loop_of_small_products(eqn, operands) if batched and product is None else None
        if not batched and eqn.primitive.name == "scan":
            results = small_loop(eqn, operands, [v in needed for v in eqn.outvars])
        if results is None:
            results = jx.bind(eqn, operands) if product is None else [product]
        for v, value in zip(eqn.outvars, results, strict=True):
            name = names.get(v, v)
            borders = in_kernels if one else chosen
            values[v] = written(value, borders[name]) if name in borders else value
        if routine:
            before[:] = inexact([values[v] for v in eqn.outvars])

    def in_kernel(stretch: Stretch, moving: Sequence[Any]) -> list[Any]:
        def of_all(*arrays: Any) -> list[Any]:
            inside = {v: values[v] for v in stretch.reads} | dict(zip(moving, arrays, strict=True))
            for eqn, atoms in stretch.equations:
                evaluate(eqn, atoms, inside, True)
            return [inside[v] for v in stretch.leaves]

        return in_one_kernel(of_all, [values[v] for v in moving])

    done = equations if policy.merged or program.apart else [(eqn, eqn.invars) for eqn in live]
    needed = {v for v in (*(v for _, atoms in done for v in atoms), *outputs) if not jx.is_literal(v)}
    parts = [Stretch(done)]
    if apart:
        paying = _paying_alone(equations, outputs, policy)
        here = dict.fromkeys(paying, 1) | {v: n for v, n in chosen.items() if n <= prod(v.aval.shape)}
        parts = stretches(done, here, outputs)
        if any(part.leaves for part in parts):
            in_kernels = _rows_of_one(equations, outputs, policy)
    for stretch in parts:
        moving = [v for v in stretch.reads if jx.is_traced(values[v])] if stretch.leaves else []
        if moving:  # a call without arguments XLA finds constant (see `lowered_call`)
            values.update(zip(stretch.leaves, in_kernel(stretch, moving), strict=True))
            continue
        for eqn, atoms in stretch.equations:
            evaluate(eqn, atoms, values, one)
    anyway = {v for eqn, _ in equations if _is_written_anyway(eqn) for v in eqn.outvars}

    def number(atom: Any, one_loop: bool) -> Any:
        """One of those that an array is joined from; written down, once, where it has a loop of its own."""
        name = _named(atom, names)
        value = read(name)
        return value if one_loop or jx.is_literal(atom) or name in chosen or name in anyway else written(value, _FEW)

    def result(v: Any, aval: Any, numbers: Any, one_loop: bool) -> Any:
        if numbers is None:
            return jx.as_array(read(_named(v, names)), aval)  # a literal is none
        if not aval.shape:
            return jx.as_array(read(_named(numbers[0], names)), aval)
        alone = one_loop or len(numbers) > JOINED  # of more of them XLA writes each down
        return join([number(atom, alone) for atom in numbers], aval, one_loop)

    return list(map(result, program.arrays, program.avals, program.joined, in_one_loop))


@dataclass(frozen=True)
class _Program:
    """A traced program; of each output the numbers that it is joined from, or None; and whether all was taken apart."""

    jaxpr: Any
    consts: Sequence[Any]
    live: Sequence[Any]
    outputs: Sequence[Any]  # arrays, and the numbers of those that are joined
    arrays: Sequence[Any]  # what is returned, of the program before it was taken apart
    avals: Sequence[Any]  # of these
    joined: Sequence[list[Any] | None]
    apart: bool = False


def _as_it_is(jaxpr: Any, consts: Sequence[Any]) -> _Program:
    live = [eqn for eqn, _ in jx.live_equations(jaxpr)]
    avals = [v.aval for v in jaxpr.outvars]
    return _Program(jaxpr, consts, live, jaxpr.outvars, jaxpr.outvars, avals, [None] * len(avals))


def _with_small_solves(jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any]) -> _Program:
    return _as_it_is(*(with_small_solves(jaxpr, consts, arrays) or (jaxpr, consts)))


def _of_fewer_numbers(
    jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any], other: tuple[Callable[..., Any], float] | None
) -> tuple[_Traced, _Program] | None:
    """The other function, where it works out fewer numbers than this program; which zeros there are no plan's price knows.

    In the time of the plan's own order, at 1,000 points, a Runge–Kutta step of a rigid body of 13 numbers, written line by
    line, takes 0.2 (and 2.4 to compile), of which `jax.jacfwd` is five times slower, and a Kepler orbit 0.8.
    """
    if other is None:
        return None
    program = _with_small_solves(jaxpr, consts, arrays)
    left = numbers_left(program.live, program.outputs, _known(program))
    function, about = other
    if left is not None and about >= left:
        return None
    traced = _traced(function, arrays)
    program = _with_small_solves(traced.jaxpr, traced.consts, arrays)
    fewer = numbers_left(program.live, program.outputs, _known(program), inf if left is None else left - 1)
    return None if fewer is None else (traced, _apart(program, arrays))


def _apart(plain: _Program, arrays: Sequence[Any]) -> _Program:
    """A program that is small, as one of numbers."""
    jaxpr, consts, _ = jx.trace(lambda *arrays: in_numbers(plain.jaxpr, plain.live, plain.consts, arrays), arrays)
    atoms = iter(jaxpr.outvars)
    joined = [[next(atoms) for _ in range(prod(aval.shape))] for aval in plain.avals]
    return replace(_as_it_is(jaxpr, consts), arrays=plain.arrays, avals=plain.avals, joined=joined, apart=True)


def _joined_from_numbers(jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any]) -> _Program:
    """A program that may be taken apart into its numbers, in whole or where its outputs are joined from some."""
    small = _with_small_solves(jaxpr, consts, arrays)
    if is_small(small.live, small.outputs, _known(small)):
        return _apart(small, arrays)
    plain = small if small.jaxpr is jaxpr else _as_it_is(jaxpr, consts)
    rows_of = numbers_of(plain.live, jaxpr.outvars, _known(plain))
    if not rows_of:
        return plain
    numbers = [None if jx.is_literal(v) else rows_of.get(v) for v in jaxpr.outvars]
    outputs = [atom for v, several in zip(jaxpr.outvars, numbers, strict=True) for atom in several or [v]]
    return replace(plain, live=_leading_to(outputs, plain.live), outputs=outputs, joined=numbers)


def _known(program: _Program) -> dict[Any, Any]:
    """The constants of a program that are known while tracing."""
    return {v: c for v, c in zip(program.jaxpr.constvars, program.consts, strict=True) if not jx.is_traced(c)}


def _is_written_anyway(eqn: Any) -> bool:
    """Whether XLA writes down what is read repeatedly of an equation; it multiplies where the divisor is known."""
    return kind_of(eqn.primitive.name) is Kind.DEAR and eqn.primitive is not lax.div_p


def _named(atom: Any, names: dict[Any, Any]) -> Any:
    """What stands for a value after repetitions are left out."""
    return atom if jx.is_literal(atom) else names.get(atom, atom)


def _leading_to(outputs: Sequence[Any], live: Sequence[Any]) -> list[Any]:
    """The equations that these values need, and those with effects."""
    needed = {v for v in outputs if not jx.is_literal(v)}
    leading = []
    for eqn in reversed(live):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            needed.update(v for v in eqn.invars if not jx.is_literal(v))
            leading.append(eqn)
    return leading[::-1]


Equations = Sequence[tuple[Any, list[Any]]]  # with the operands as they are named after repetitions are left out


def _without_repetition(live: Sequence[Any]) -> tuple[Equations, dict[Any, Any]]:
    """The equations without those repeated, with their operands, and which value stands for that of each one left out."""
    seen: dict[Any, Any] = {}
    names: dict[Any, Any] = {}
    distinct = []
    for eqn in live:
        operands = [v if jx.is_literal(v) else names.get(v, v) for v in eqn.invars]
        name = eqn.primitive.name
        said = _said(eqn) if name == "scan" else None
        if said or kind_of(name) not in (Kind.PICKS, Kind.REDUCES, Kind.OTHER):
            key = (name, *map(_identity, operands), *(said or eqn.params.items()))
            first = seen.setdefault(key, eqn.outvars)
            if first is not eqn.outvars:
                names.update(zip(eqn.outvars, first, strict=True))
                continue
        distinct.append((eqn, operands))
    return distinct, names


def _said(eqn: Any) -> tuple[Any, ...] | None:
    """What is equal for loops that do the same at each step; None of one with a program inside, or of an unknown kind."""
    closed, params = eqn.params["jaxpr"], eqn.params
    jaxpr = closed.jaxpr
    if eqn.effects or closed.consts or any(kind_of(e.primitive.name) is Kind.OTHER for e in jaxpr.eqns):
        return None
    numbers: dict[Any, int] = {}

    def atom(v: Any) -> Any:
        return _identity(v) if jx.is_literal(v) else numbers.setdefault(v, len(numbers))

    heads = [(atom(v), v.aval) for v in jaxpr.invars]
    body = [(e.primitive.name, *map(atom, (*e.invars, *e.outvars)), *e.params.items()) for e in jaxpr.eqns]
    return (params["length"], params["reverse"], scan_counts(params), *heads, *body, *map(atom, jaxpr.outvars))


def _identity(atom: Any) -> Any:
    """What is equal for operands that are the same (0.0 and -0.0 are not)."""
    if not jx.is_literal(atom):
        return atom
    return atom.aval.dtype, atom.aval.weak_type, np.shape(atom.val), np.asarray(atom.val).tobytes()


def _fused(eqn: Any) -> bool:
    """Whether XLA puts an operation into the loops that read it, at least where there is only one."""
    kind = kind_of(eqn.primitive.name)
    return kind not in (Kind.REDUCES, Kind.OTHER) and (kind is not Kind.JOINS or len(eqn.invars) <= JOINED)


def _loops(
    equations: Equations, outputs: Sequence[Any], rows: Container[Any] = ()
) -> tuple[dict[Any, float], dict[Any, int]]:
    """How many entries of each value XLA would compute, all its copies together; and the sizes of what it writes anyway.

    Of these ``rows``, which are written, it is how many all loops together read.

    A loop computes a value once for each way of indexing it: a set of bits for the loops that read a value, one more for
    each move behind it.
    """
    entries: list[float] = []  # of each loop
    single = 0  # bits of the loops of one

    def loop(size: float) -> int:
        nonlocal single
        entries.append(size)
        bit = 1 << (len(entries) - 1)
        single |= bit if size == 1.0 else 0
        return bit

    def total(loops: int) -> float:
        count = float((loops & single).bit_count())
        loops &= ~single
        while loops:
            lowest = loops & -loops
            count += entries[lowest.bit_length() - 1]
            loops ^= lowest
        return count

    readers: dict[Any, int] = defaultdict(int)
    stored: dict[Any, int] = {}
    for v in outputs:
        if not jx.is_literal(v):
            readers[v] |= loop(prod(v.aval.shape))
    for eqn, operands in reversed(equations):
        moving = [v for v in operands if not jx.is_literal(v)]
        if not _fused(eqn):
            stored.update((v, prod(v.aval.shape)) for v in eqn.outvars if hasattr(v.aval, "shape"))
            for v in moving:
                readers[v] |= loop(prod(getattr(v.aval, "shape", ())))
            continue
        kind = kind_of(eqn.primitive.name)
        for out in eqn.outvars:  # several of a split
            size, loops = prod(out.aval.shape), readers[out]
            if kind is Kind.DEAR and loops.bit_count() > 1:
                stored[out] = size
                loops = loop(size)
            elif out in rows:
                loops = loop(size)
            moved = total(loops) if kind in _MOVES else 0.0
            for v in moving:
                part = min(1.0, prod(v.aval.shape) / max(size, 1)) if kind is Kind.JOINS else 1.0
                readers[v] |= loop(part * moved) if kind in _MOVES else loops
    return {v: total(loops) for v, loops in readers.items()}, stored


def _chosen_rows(equations: Equations, outputs: Sequence[Any], policy: Policy, one: bool) -> dict[Any, int]:
    """The same of a program of numbers, of which sums and products get a border too: these are rows over the points.

    Steps of three neurons took 0.6 to 0.75 of the time (and 1.1 to 1.3 times as long to compile).  What only other rows read
    saves nothing, so all that would save by itself is chosen first, and of these what saves beside the others: a step of a
    neuron with three gates took 0.87 of the time of rows that were chosen at once.  In ``one`` kernel a row costs little: a
    step of a rigid body with 350 of them took 0.46 of the time of 24, and no longer to compile.  Where each is a kernel,
    those that spare few copies are limited (a camera and an arm were no quicker without, and compiled 1.3 times as long),
    and taken is, by `_time`, what should take less time.
    """
    row = _ROW_IN_ONE if one else _ROW
    chosen: dict[Any, int] = {}
    fewer = _chosen(equations, outputs, policy, True, row, room=inf)
    while len(fewer) != len(chosen):
        chosen = fewer
        room = inf if one else max(_ROWS, len(chosen) // 2)
        fewer = _chosen(equations, outputs, policy, True, row, chosen, room)
    if one:
        return chosen
    at_once = _chosen(equations, outputs, policy, True, row, room=_ROWS)
    return min(at_once, chosen, key=lambda rows: _time(equations, outputs, rows))


def _paying_alone(equations: Equations, outputs: Sequence[Any], policy: Policy) -> dict[Any, int]:
    """The values, sums and products among them, whose copies take longer than one more loop where no batch comes later."""
    any_work = replace(policy, arithmetic=True)
    every = _chosen(equations, outputs, any_work, False, alone=True)
    return _chosen(equations, outputs, any_work, False, among=every, alone=True) if every else every


def _rows_of_one(equations: Equations, outputs: Sequence[Any], policy: Policy) -> dict[Any, int]:
    """The values that get a border in a kernel at one point, each however few its entries: it is no loop of its own there.

    XLA copies a number into each loop that reads it, in one kernel too.  Programs of 100, 200 and 400 lines of numbers have
    a sparse Jacobian prepared in 2, 4 and 13 s for 6.6, 24 and more than 60, and run in a fifth of the time; bundle
    adjustment and a Kalman filter's Hessian run in 0.7 of it, programs of fewer copies as before (float64, jaxlib 0.10.2).
    """
    return dict.fromkeys(_chosen_rows(equations, outputs, policy, True), 1)


def _time(equations: Equations, outputs: Sequence[Any], rows: dict[Any, int]) -> float:
    """How long a point takes with these rows, in multiplications: what is in no row is worked out in every loop."""
    computed, stored = _loops(equations, outputs, rows)
    total = _ROW * len(rows)
    for eqn, _ in equations:
        kind = kind_of(eqn.primitive.name)
        if kind not in _MOVES:
            each = _SINE if kind is Kind.SINE else 1.0
            total += sum(each * (1.0 if v in rows or v in stored else computed[v]) for v in eqn.outvars if v in computed)
    return total


def _chosen(
    equations: Equations,
    outputs: Sequence[Any],
    policy: Policy,
    batched: bool,
    row: float | None = None,
    among: Container[Any] | None = None,
    room: float = inf,
    alone: bool = False,
) -> dict[Any, int]:
    """The values that get a border, each with the number of entries from where it pays; ``batched``: under `vmap`.

    With what a ``row`` over the points costs, the sums and products of numbers get one too: of those ``among`` others the
    ones that save most, as many as there is ``room`` for.  ``alone`` counts what a border saves where no batch comes later.
    """
    computed, stored = _loops(equations, outputs, among or ())
    as_rows = row is not None
    slow = 0  # bits of the equations that are slow
    steps: list[tuple[Any, list[Any], int, float]] = []  # value, operands, its bit if it is work, copies if it may be chosen
    for eqn, operands in equations:
        if not _fused(eqn) or eqn.outvars[0] in stored:
            continue
        kind = kind_of(eqn.primitive.name)
        bit = 0 if kind in _MOVES or kind is Kind.DEAR else 1 << len(steps)
        slow |= bit if kind is Kind.SINE else 0
        for out in eqn.outvars:
            shape = out.aval.shape
            arithmetic = policy.arithmetic or (batched and policy.numbers and bool(shape)) or as_rows
            may = kind is Kind.SINE or (arithmetic and bool(bit))
            may = may and not (policy.numbers and shape and not batched) and jnp.issubdtype(out.aval.dtype, jnp.floating)
            may = may and (among is None or out in among)
            copies = computed[out] / prod(shape) - 1 if may and prod(shape) else 0.0
            steps.append((out, [v for v in operands if not jx.is_literal(v)], bit, copies))

    def sweep(least: float) -> tuple[dict[Any, float], list[float], int]:
        """What saves more than this, an entry, from the first to the last; what each value would save; the room that takes.

        Behind a border nothing is computed again.
        """
        behind: dict[Any, int] = {}
        saved, gains, rows = {}, [], 0
        for out, operands, bit, copies in steps:
            work = bit
            for v in operands:
                work |= behind.get(v, 0)
            if copies > 0:
                is_row = row is not None and not bit & slow
                cost = row if row is not None and is_row else _WRITTEN
                gain = copies * (_SINE * (work & slow).bit_count() + (work & ~slow).bit_count()) - cost
                size = prod(out.aval.shape)
                if gain > 0 and ((size == 1 and not alone) or (batched and bit & slow) or gain * size > _LOOP):
                    limited = not as_rows or (is_row and gain < _COPIED)  # a sine has its row in any case
                    if limited:
                        gains.append(gain)
                    if gain > least or not limited:
                        saved[out] = gain
                        rows += limited
                        work = 0
            behind[out] = work
        return saved, gains, rows if as_rows else sum(prod(v.aval.shape) for v in saved)

    saved, _, need = sweep(0.0)
    if not as_rows:
        room = inf if policy.room == inf else policy.room * sum(stored.values())
    if need > room:
        bounds = sorted(sweep(inf)[1], reverse=True)
        low, high = 0, len(bounds)  # nothing saves more than the first
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if sweep(bounds[middle])[2] <= room else (low, middle)
        saved, *_ = sweep(bounds[low])
    # At one point another loop takes longer than a sine.
    return {v: max(2, ceil(_LOOP / gain)) for v, gain in saved.items()}
