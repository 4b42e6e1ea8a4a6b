"""Several columns through a loop together, by the blocks of its steps.

A linear loop  c' = A c + B u + K k,  y = C c + D u + E k  is applied to many columns at once: the blocks of a step are
worked out first, those of many steps side by side, and what is left to be done one step after the other is a product
with A.  Pushed column by column, the whole body would be evaluated for each column and step, by as many loops as it has
sums and products.
A carry that only adds up what it is given is summed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.algebra.spaces import ArraySpace
from backsolve.capture.blocks import PatternOf, value_or_type
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.recomputed import Recomputed
from backsolve.capture.recurrence import Loop
from backsolve.capture.walk import Program, walk
from backsolve.elimination.sparse_edges import accumulate_sparse
from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent_outputs
from backsolve.tracing.jaxpr import record_of
from backsolve.tracing.series import struct, varying_as

__all__ = ["by_step_blocks"]

CARRIED = 64  # numbers carried, at most
# Nanoseconds of XLA's CPU: a loop's turn starts each of its kernels, and does operations; a loop of few bytes is one kernel.
KERNEL, OPERATION, SCALAR = 100.0, 0.3, 1.0
SMALL = 1024
FUSED = 3  # operations that a kernel takes together, where they are entrywise
GAIN = 0.6  # blocks are taken where they take at most so much of the time
PLACES = 64  # of a block that is neither full nor diagonal: its rows are sums written out
OUTER = 16  # columns of a block up to which its product is written out as a sum of outer products
BYTES = 1 << 19  # of the blocks of steps held side by side, beside what they are made of, the columns and the images

Array = Any
Place = tuple[int, int]
Index = np.ndarray[Any, Any]


def by_step_blocks(op: LinearEquation, columns: Sequence[Array], edge: PatternOf) -> list[Array] | None:
    """The images of columns under a linear `scan`; None where that is not done by blocks.

    Of each part of an operand there are n × k numbers, and so there are of each part of the result.
    That is where little is carried, and where the blocks of a step take less work than to push the columns.
    ``edge`` gives the operators of what is inside.
    Cost: one linearization of the body; at run time A times the columns for each step, and the rest for many steps at once.
    """
    loop = Loop.of(op)
    if loop is None or not 0 < loop.size <= CARRIED:
        return None
    inputs = [v.aval for v, moves in zip(loop.body.jaxpr.invars, loop.active, strict=True) if moves]
    outputs = [v.aval for v in loop.body.jaxpr.outvars]
    dtypes = {a.dtype for a in [*inputs, *outputs] if jx.carries_derivatives(a)} | {x.dtype for x in columns}
    if len(dtypes) > 1 or not jnp.issubdtype(columns[0].dtype, jnp.floating):
        return None
    try:
        step = _Step.of(loop, edge)
    except _UnsuitableError:
        return None
    width = columns[0].shape[1]
    if step.nanoseconds(loop, width) > GAIN * _pushing(loop, width):
        return None
    columns = [varying_as(x, *(v.aval for v in op.eqn.outvars)) for x in columns]
    return _mapped(step, loop, columns, op.transposed)


def _pushing(loop: Loop, width: int) -> float:
    """About how many nanoseconds a step takes where so many columns are pushed through its body."""
    equations = [eqn for eqn in jx.every_equation(loop.body.jaxpr) if jx.inner_jaxpr(eqn) is None]
    entries = sum(prod(getattr(v.aval, "shape", ())) for eqn in equations for v in (*eqn.invars, *eqn.outvars))
    work = sum(prod(getattr(eqn.outvars[0].aval, "shape", ())) * _terms(eqn) for eqn in equations)
    kernels = len(equations) / FUSED + len(loop.body.jaxpr.invars) - loop.after + len(loop.body.jaxpr.outvars)
    return _turn(kernels, work * width, entries * width)


def _terms(eqn: Any) -> float:
    """How many operations an entry takes."""
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return float(prod(eqn.invars[0].aval.shape[k] for k in contracted))
    each = record_of(eqn.primitive.name).work
    return 1.0 if each is None else float(each(eqn))


def _turn(kernels: float, operations: float, entries: float) -> float:
    """Nanoseconds of a turn of a loop, about."""
    return operations * SCALAR if 8 * entries < SMALL else kernels * KERNEL + operations * OPERATION


class _UnsuitableError(Exception):
    """A block of which nothing is known, or that is large and neither full nor diagonal."""


# ---- blocks -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Block:
    """A block of each step: the numbers at some places, with the steps along a first axis, or alike in all steps.

    ``rows`` and ``cols`` are None where it is full, ``rows`` alone where it is diagonal.
    """

    shape: tuple[int, int]
    rows: Index | None
    cols: Index | None
    numbers: Array = None

    @staticmethod
    def of(op: Sparse) -> _Block:
        (m, n), rows, cols = op.pattern.shape, op.rows, op.cols
        if m == n == rows.size and np.array_equal(rows, cols):
            return _Block((m, n), None, np.arange(n))
        if rows.size == m * n:
            return _Block((m, n), None, None)
        if rows.size > PLACES:
            raise _UnsuitableError
        return _Block((m, n), rows, cols)

    @property
    def is_one(self) -> bool:
        """Whether it is the identity in all steps."""
        known = isinstance(self.numbers, np.ndarray) and self.shape[0] == self.shape[1]
        return known and self.rows is None and self.cols is not None and bool((self.numbers == 1).all())

    @property
    def size(self) -> int:
        """How many numbers it has, those of an identity not among them."""
        m, n = self.shape
        return 0 if self.is_one else m * n if self.cols is None else len(self.cols)

    def turned(self) -> _Block:
        """The transpose."""
        (m, n), numbers = self.shape, self.numbers
        if self.cols is None:
            full = numbers.reshape(*numbers.shape[:-1], m, n)
            return replace(self, shape=(n, m), numbers=full.swapaxes(-1, -2).reshape(*numbers.shape))
        return self if self.rows is None else replace(self, shape=(n, m), rows=self.cols, cols=self.rows)

    def times(self, x: Array) -> Array:
        """Its product with x[…, :, k], the steps along the first axes."""
        (m, n), numbers = self.shape, self.numbers
        if self.is_one:
            return x
        if self.cols is None:
            full = numbers.reshape(*numbers.shape[:-1], m, n)
            if n > OUTER:
                return jnp.matmul(full, x)
            terms = [full[..., :, k, None] * x[..., k, None, :] for k in range(n)]
            return sum(terms[1:], terms[0])
        if self.rows is None:
            return numbers[..., None] * x
        rows: list[Array] = [jnp.zeros((), x.dtype)] * m
        for k, (i, j) in enumerate(zip(self.rows.tolist(), self.cols.tolist(), strict=True)):
            rows[i] = rows[i] + numbers[..., k, None] * x[..., j, :]
        shape = jnp.broadcast_shapes(*(row.shape for row in rows))
        return jnp.stack([jnp.broadcast_to(row, shape) for row in rows], -2)


Blocks = Mapping[Place, _Block]


class _Step(NamedTuple):
    """The blocks of a step, by number of output and of moving input, and what their numbers are made from."""

    blocks: Blocks
    program: Any  # of what a step is given
    numbers: list[Place]  # of its outputs
    varying: list[bool]  # whether they differ from step to step
    fixed: list[Any]  # what is alike in all steps
    sliced: list[Any]  # what is not, along a first axis

    @staticmethod
    def of(loop: Loop, edge: PatternOf) -> _Step:
        """Those of a loop's body, which is linearized for one step."""

        def known(op: LinearOperator) -> Sparse | Pattern:
            weight = edge(op)
            if weight is None:
                raise _UnsuitableError
            return weight

        jaxpr, active = loop.body.jaxpr, loop.active
        given = loop.given()
        held = [k for k, moves in enumerate(active) if not moves]
        constants = [value_or_type(jaxpr.invars[k], given[k]) for k in held if k < loop.consts]
        abstract = [isinstance(x, jax.ShapeDtypeStruct) for x in constants]
        fixed = [given[k] for k, a in zip(held, abstract, strict=False) if a]
        slices = Recomputed([given[k] for k in held if k >= loop.consts], loop.length)
        if not all(getattr(jaxpr.invars[k].aval.dtype, "kind", "?") in "iubf" for k in held):
            raise _UnsuitableError  # a random key
        spaces = [ArraySpace(v.aval.shape, v.aval.dtype) for v, moves in zip(jaxpr.invars, active, strict=True) if moves]
        out = [ArraySpace(v.aval.shape, v.aval.dtype) for v in jaxpr.outvars]
        wanted = [k >= loop.carried or loop.moving[k] for k in range(len(out))]
        blocks: dict[Place, _Block] = {}
        places: list[Place] = []

        def numbers(*values: Any) -> list[Any]:
            own = iter(values[: len(fixed)])
            stays = [next(own) if a else x for x, a in zip(constants, abstract, strict=True)]
            it = iter([*stays, *slices.at(values[len(fixed) :])])
            count = iter(range(len(spaces)))
            inputs = [None if moves else next(it) for moves in active]
            program = Program(spaces, fold=True)
            _, nodes = walk(jaxpr, loop.body.consts, inputs, program, [next(count) if m else None for m in active])
            parts = program.matrices([node if w else None for node, w in zip(nodes, wanted, strict=True)], out)
            entries = []
            for place, op in accumulate_sparse(parts[0], parts[1], parts[2], known).items():
                if not op.nnz:
                    continue
                block, data = _Block.of(op), op.data
                if op.values.is_static:
                    blocks[place] = replace(block, numbers=np.asarray(data, op.dtype))
                else:
                    blocks[place] = block
                    places.append(place)
                    entries.append(data)
            return entries

        types = [*map(_type, fixed), *(_type(x, sliced=True) for x in slices.stacks)]
        program = jax.make_jaxpr(numbers)(*types)
        sliced = [k >= len(fixed) for k in range(len(types))]
        return _Step(blocks, program, places, dependent_outputs(program.jaxpr, sliced), fixed, slices.stacks)

    def at(self, steps: Sequence[Any]) -> dict[Place, _Block]:
        """The blocks with their numbers, of steps of which the slices are given, along a first axis."""
        once: Sequence[Any] = [None] * len(self.varying)
        if not all(self.varying):
            nothing = [varying_as(jnp.zeros(np.shape(x)[1:], x.dtype), jax.typeof(x)) for x in self.sliced]
            once = jx.evaluated(self.program, [*self.fixed, *nothing])
        axes = [*[None] * len(self.fixed), *[0] * len(steps)]
        each: Any = jax.vmap(lambda *xs: _where(jx.evaluated(self.program, xs), self.varying), in_axes=axes)
        varying = iter(each(*self.fixed, *steps) if any(self.varying) else ())
        blocks = {place: block for place, block in self.blocks.items() if block.numbers is not None}
        for place, x, varies in zip(self.numbers, once, self.varying, strict=True):
            blocks[place] = replace(self.blocks[place], numbers=next(varying) if varies else x)
        return blocks

    def nanoseconds(self, loop: Loop, width: int) -> float:
        """About how many a step takes: what is left of the loop, and the rest, for many steps at once."""
        own = sum(b.size for (i, j), b in self.blocks.items() if i < loop.carried and loop.carries(j))
        every = sum(b.size for b in self.blocks.values())
        entries = sum(prod(getattr(v.aval, "shape", ())) for eqn in self.program.jaxpr.eqns for v in eqn.outvars)
        chained = sum(loop.moving)
        turn = _turn(3.0 * chained, own * width, own + 4 * loop.size * width)
        return turn + ((every - own) * width + entries + 2 * loop.size * width) * OPERATION

    @property
    def bytes(self) -> int:
        """What the blocks of a step take that differ from step to step."""
        return sum(v.aval.size * v.aval.dtype.itemsize for v, w in zip(self.program.jaxpr.outvars, self.varying) if w)


def _type(x: Any, *, sliced: bool = False) -> Any:
    return struct(jax.typeof(x), np.shape(x)[sliced:])


def _where(xs: Sequence[Any], chosen: Sequence[bool]) -> list[Any]:
    return [x for x, there in zip(xs, chosen, strict=True) if there]


# ---- substitution -----------------------------------------------------------------------------------------------------
class _System(NamedTuple):
    """Between what is carried, given at each step, given once, put out at each step, and summed up over all steps."""

    own: Blocks
    entering: Blocks  # to the carry from what is given at each step
    always: Blocks  # and from what is given once
    leaving: Blocks  # to the outputs from the carry before
    direct: Blocks
    leaving_always: Blocks
    summed: Blocks  # to the sums from the carry before
    summed_direct: Blocks


# Which of these a block of the loop is, by what it goes to and comes from; and which its transpose is.
_FORWARD = {
    ("carry", "carry"): "own",
    ("carry", "slice"): "entering",
    ("carry", "const"): "always",
    ("out", "carry"): "leaving",
    ("out", "slice"): "direct",
    ("out", "const"): "leaving_always",
}
_BACKWARD = {
    ("carry", "carry"): "own",
    ("carry", "slice"): "leaving",
    ("carry", "const"): "summed",
    ("out", "carry"): "entering",
    ("out", "slice"): "direct",
    ("out", "const"): "summed_direct",
}


class _Task(NamedTuple):
    """What a loop is given, with the columns along a last axis, and the sizes of what it gives."""

    start: dict[int, Array]  # of all that is carried
    given: dict[int, Array]  # at each step
    always: dict[int, Array]
    out: dict[int, int]
    sums: dict[int, int]
    reverse: bool
    width: int
    zero: Array  # varying over the axes of a ``shard_map`` that all of these vary over


class _Answer(NamedTuple):
    end: dict[int, Array]
    out: dict[int, Array]  # of each step
    sums: dict[int, Array]


def _solved(step: _Step, task: _Task, arranged: Callable[[Blocks], _System], length: int) -> _Answer:
    """All steps, as many at a time as there is room for their blocks."""
    slices = sum(x.shape[1] for x in task.given.values()) + sum(task.out.values())
    made_of = sum(np.size(x) * x.dtype.itemsize for x in step.sliced)
    room = BYTES + made_of + slices * length * task.width * task.zero.dtype.itemsize
    most = max(room // max(step.bytes, 1), 1)
    each = max(k for k in range(1, min(length, most) + 1) if length % k == 0)
    if each == length:
        return _substituted(arranged(step.at(step.sliced)), task, length)

    def some(before: Any, xs: Any) -> tuple[Any, Any]:
        start, sums = before
        slices, given = xs
        solution = _substituted(arranged(step.at(slices)), task._replace(start=start, given=given), each)
        return (solution.end, {k: x + solution.sums[k] for k, x in sums.items()}), solution.out

    slices, given = ([jnp.asarray(x) for x in step.sliced], task.given)
    xs = jax.tree_util.tree_map(lambda x: jnp.reshape(x, (length // each, each, *x.shape[1:])), (slices, given))
    nothing = {k: jnp.broadcast_to(task.zero, (n, task.width)) for k, n in task.sums.items()}
    (end, sums), out = lax.scan(some, (task.start, nothing), xs, length=length // each, reverse=task.reverse)
    return _Answer(end, {k: jnp.reshape(x, (length, *x.shape[2:])) for k, x in out.items()}, sums)


def _substituted(system: _System, task: _Task, length: int) -> _Answer:
    """Forward substitution, one step after the other."""

    def full(x: Any, m: int) -> Array:
        """Of all steps."""
        return jnp.broadcast_to(task.zero if x is None else x, (length, m, task.width))

    sizes = {i: x.shape[0] for i, x in task.start.items()}
    entering = _applied(system.always, task.always, _applied(system.entering, task.given))
    adding = _accumulators(system)
    chained = [i for i in sizes if i not in adding]
    direct = _applied(system.leaving_always, task.always, _applied(system.direct, task.given))
    own = {place: block for place, block in system.own.items() if place[0] in chained}
    added = {place: block for place, block in system.own.items() if place[0] in adding and place[0] != place[1]}
    later = [*system.summed, *added]
    read = {j for _, j in [*system.leaving, *later]}
    narrow = not later and sum(task.out.values()) < sum(sizes[i] for i in read)  # what leaves takes less than what stays
    inside = {**own, **{(-1 - i, j): block for (i, j), block in system.leaving.items()}} if narrow else own
    stacked = [] if narrow else [i for i in chained if i in read]
    varying = {place: block.numbers for place, block in inside.items() if np.ndim(block.numbers) == 2}

    def step(carry: list[Array], xs: Any) -> tuple[list[Array], Any]:
        numbers, entered, left = xs
        here = {place: replace(b, numbers=numbers[place]) if place in numbers else b for place, b in inside.items()}
        before = dict(zip(chained, carry, strict=True))
        after = _applied(here, before, {**entered, **{-1 - i: x for i, x in left.items()}})
        after = {**dict.fromkeys(chained, task.zero), **after}
        new = [jnp.broadcast_to(after[i], (sizes[i], task.width)) for i in chained]
        left = {i: jnp.broadcast_to(after[-1 - i], (task.out[i], task.width)) for i in task.out if -1 - i in after}
        return new, (left, [before[i] for i in stacked])

    entered = {i: full(x, sizes[i]) for i, x in entering.items() if i in chained}
    left = {i: full(x, task.out[i]) for i, x in direct.items()} if narrow else {}
    first = [task.start[i] for i in chained]
    last, (left, befores) = lax.scan(step, first, (varying, entered, left), length=length, reverse=task.reverse)
    before = dict(zip(stacked, befores, strict=True))
    end = dict(zip(chained, last, strict=True))
    more = _applied(added, before, {i: x for i, x in entering.items() if i in adding})
    end |= {i: task.start[i] + jnp.sum(full(more[i], sizes[i]), 0) if i in more else task.start[i] for i in adding}
    out = left if narrow else _applied(system.leaving, before, direct)
    sums = _applied(system.summed_direct, task.given, _applied(system.summed, before))
    return _Answer(
        end,
        {i: full(out.get(i), m) for i, m in task.out.items()},
        {i: jnp.sum(full(sums.get(i), m), 0) for i, m in task.sums.items()},
    )


def _applied(blocks: Blocks, xs: Mapping[int, Array], before: Mapping[int, Array] | None = None) -> dict[int, Array]:
    """Sums of products, by number of output."""
    totals = dict(before or {})
    for (i, j), block in blocks.items():
        if j in xs:
            term = block.times(xs[j])
            totals[i] = totals[i] + term if i in totals else term
    return totals


def _accumulators(system: _System) -> set[int]:
    """What is carried as it is, but for what is added to it, and that nobody reads."""
    read = {j for blocks in (system.leaving, system.summed) for _, j in blocks} | {j for i, j in system.own if i != j}
    return {i for (i, j), block in system.own.items() if i == j and block.is_one and i not in read}


# ---- what a loop is given, and gives ------------------------------------------------------------------------------------
def _mapped(step: _Step, loop: Loop, columns: Sequence[Array], transposed: bool) -> list[Array]:
    """The images of columns, or with ``transposed`` those of the transpose."""
    width, T = columns[0].shape[1], loop.length
    nought = varying_as(jnp.zeros((), columns[0].dtype), *map(jax.typeof, columns))

    def zeros(n: int) -> Array:
        return jnp.broadcast_to(nought, (n, width))

    inputs = [k for k, moves in enumerate(loop.active) if moves]
    carries = [k for k, moves in enumerate(loop.moving) if moves]
    into, out = loop.op.eqn.invars, loop.op.eqn.outvars
    consts = [k for k in inputs if k < loop.consts]
    slices = [k for k in inputs if k >= loop.after]
    outputs = list(range(loop.carried, len(out)))
    each_in = {k: prod(v.aval.shape) for k, v in enumerate(loop.body.jaxpr.invars)}
    each_out = {k: prod(v.aval.shape) for k, v in enumerate(loop.body.jaxpr.outvars)}

    def arranged(blocks: Blocks) -> _System:
        parts: dict[str, dict[Place, _Block]] = {field: {} for field in _System._fields}
        for (i, number), block in blocks.items():
            k = inputs[number]
            source = "const" if k < loop.consts else "carry" if k < loop.after else "slice"
            j = k - loop.consts if source == "carry" else k
            ways = _BACKWARD if transposed else _FORWARD
            parts[ways["carry" if i < loop.carried else "out", source]][(j, i) if transposed else (i, j)] = (
                block.turned() if transposed else block
            )
        return _System(**parts)

    moving = range(len(out)) if transposed else [k for k, x in enumerate(loop.op.operands) if x is None]
    given_parts = dict(zip(moving, columns, strict=True))

    def of_steps(k: int, m: int) -> Array:
        return jnp.reshape(given_parts[k], (T, m, width))

    if transposed:
        start = {i: given_parts[i] for i in carries}
        given = {k: of_steps(k, each_out[k]) for k in outputs}
        task = _Task(
            start,
            given,
            {},
            {k: each_in[k] for k in slices},
            {k: each_in[k] for k in consts},
            not loop.reverse,
            width,
            nought,
        )
    else:
        start = {i: given_parts.get(i + loop.consts, zeros(each_out[i])) for i in carries}
        given = {k: of_steps(k, each_in[k]) for k in slices}
        always = {k: given_parts[k] for k in consts}
        task = _Task(start, given, always, {k: each_out[k] for k in outputs}, {}, loop.reverse, width, nought)
    answer = _solved(step, task, arranged, T)
    tangents: list[Array] = []
    if transposed:
        for k, x in enumerate(loop.op.operands):
            if x is None:
                i = k - loop.consts
                result = answer.sums[k] if i < 0 else answer.out[k] if k >= loop.after else answer.end.get(i)
                tangents.append(zeros(prod(into[k].aval.shape)) if result is None else result)
    else:
        for k, v in enumerate(out):
            result = answer.end.get(k) if k < loop.carried else answer.out[k]
            tangents.append(zeros(prod(v.aval.shape)) if result is None else result)
    return [jnp.reshape(x, (-1, width)) for x in tangents]
