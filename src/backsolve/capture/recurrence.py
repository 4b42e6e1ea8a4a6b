"""Loops taken apart: the carry of all steps as unknowns of a matrix that is block bidiagonal in time.

With c the carry, x what is sliced, k what stays, and a body c' = A c + B x + K k, y = C c + D x + E k + F c', the carries
after all steps are one vector c with

    (I − own) c = entering · (k, c₀, x),    (c_T, y) = leaving · c + direct · (k, c₀, x)

where ``own`` holds the blocks A, each a step below the diagonal.  The body is linearized once, all steps side by side.  What
y has of the carry after the step stays F c': of a loop that hands out its carry it is the identity, not A and B once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.algebra.spaces import ArraySpace, TupleSpace
from backsolve.capture.bidiagonal import SideBySide, Steps, bidiagonal_inverse, parts_of
from backsolve.capture.blocks import PatternOf, moving_carry
from backsolve.capture.folding import wholly_known
from backsolve.capture.inside import scanned_pattern
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import loop_over_one_field
from backsolve.capture.recomputed import Recomputed
from backsolve.capture.walk import Program, walk
from backsolve.elimination.sparse_edges import Recurrence, accumulate_sparse
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import Identity, LinearOperator
from backsolve.operators.moves import Component, flat_space
from backsolve.sparse.boolean import BYTES
from backsolve.sparse.operator import Keep, Sparse, columns_of, join_sparse, rows_of, sparse
from backsolve.sparse.pattern import Pattern, PatternTooLargeError
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent, dependent_outputs, pull_cotangents
from backsolve.tracing.series import scan_counts, struct

__all__ = ["NARROW", "Loop", "recurrence", "unfolded"]

SPARED = 2.0  # numbers that a loop need not write for each that is carried by one more loop, which makes them again
NARROW = 32  # numbers carried, up to which 4 n³ operations take an accelerator less time than a step takes to start

Index = np.ndarray[Any, Any]
Part = tuple[Sparse, Index, Index]  # a block, and where its rows and its columns lie


def recurrence(op: LinearEquation, edge: PatternOf, *, always: bool = False) -> Recurrence | None:
    """A scan with a carry, taken apart.

    None where its own matrix has fewer entries, and where something in its body is known only by applying it, or only by
    its pullback.  With ``always`` it may have more, and `PatternTooLargeError` is raised where that would not fit.
    ``edge`` gives the operators of what is inside.  Cost: one linearization of the body, over all steps at once.
    """
    loop = Loop.of(op)
    if loop is None:
        return None
    forward = loop.op
    try:
        apart = loop.taken_apart(edge)
    except _OpaqueError:
        return None
    except PatternTooLargeError as error:
        if always:
            error.add_note(f"(backsolve: the steps of {jx.where(op.eqn)}, taken apart; loops='sequential' keeps them whole)")
            raise
        return None
    if not always and apart.nnz >= _entries(forward, edge, apart.nnz):
        return None
    return apart.transpose() if op.transposed else apart


def side_by_side(op: LinearEquation, edge: PatternOf) -> SideBySide | None:
    """A scan with a carry, its steps side by side; None where `recurrence` has none.

    Raises `PatternTooLargeError` where the blocks between carry and carry do not fit into memory.
    Cost: one linearization of the body, over all steps at once.
    """
    loop = Loop.of(op)
    if loop is None:
        return None
    try:
        steps = loop.side_by_side(edge)
    except _OpaqueError:
        return None
    except PatternTooLargeError as error:
        error.add_note(f"(backsolve: the steps of {jx.where(op.eqn)}, side by side; loops='sequential' keeps them whole)")
        raise
    return steps.transpose() if op.transposed else steps


def _entries(op: LinearEquation, edge: PatternOf, most: int) -> int:
    """How many entries the matrix of the whole loop has; all of them where that is more than ``most``."""
    try:
        return scanned_pattern(op, edge, BYTES * most).nnz
    except PatternTooLargeError:
        return op.domain.size * op.codomain.size


class _OpaqueError(Exception):
    """An edge inside of which not even the pattern is known."""


class Loop:
    """A linear scan: which of its body's inputs move, and where they lie among what enters and leaves it."""

    def __init__(self, op: LinearEquation) -> None:
        self.op = op
        params, invars, outvars = op.eqn.params, op.eqn.invars, op.eqn.outvars
        self.body, self.length, self.reverse = params["jaxpr"], params["length"], params["reverse"]
        self.consts, self.carried = scan_counts(params)
        self.after = self.consts + self.carried
        active = [x is None for x in op.operands]
        follows, self.moving = moving_carry(op, self.carried)
        self.counts = follows != self.moving  # whether an integer follows from tangents: no linear map
        self.active = [*active[: self.consts], *self.moving, *active[self.after :]]  # of the body's inputs
        self.entering = _numbered([prod(v.aval.shape) for v in invars], active)
        self.leaving = _numbered([prod(v.aval.shape) for v in outvars], [True] * len(outvars))
        each = _numbered([prod(v.aval.shape) for v in outvars[: self.carried]], self.moving)
        self.size = sum(at.size for at in each)  # of all that is carried and moves
        steps = self.size * np.arange(self.length)[:, None]
        self.carry = [steps + at for at in each]

    @staticmethod
    def of(op: LinearEquation) -> Loop | None:
        """That of an equation or of its transpose; None where it is no loop that can be taken apart."""
        params = op.eqn.params
        if op.eqn.primitive.name != "scan" or params["length"] < 2:
            return None
        forward = op.transpose() if op.transposed else op
        assert isinstance(forward, LinearEquation)
        loop = Loop(forward)
        if not any(loop.moving) or loop.counts:
            return None
        body = _pushable(loop.body, loop.active)
        if body is None:
            return None
        loop.body = body
        if not loop_over_one_field(forward.eqn, [x is None for x in forward.operands]):
            return None  # its blocks are linear over the reals alone
        return loop

    def taken_apart(self, edge: PatternOf) -> Recurrence:
        """The blocks of all steps, placed."""
        carried = [k for k, moves in enumerate(self.moving) if moves]
        inputs = [k for k, moves in enumerate(self.active) if moves]
        own: list[Part] = []
        entering: list[Part] = []
        leaving: list[Part] = []
        direct: list[Part] = []
        for (i, j), block in self._blocks(edge).items():
            to_carry = i < self.carried
            rows = self.carry[i].reshape(-1) if to_carry else self.leaving[i]
            if j >= len(inputs):
                leaving.append((block, rows, self.carry[carried[j - len(inputs)]].reshape(-1)))
                continue
            k = inputs[j] - self.consts
            if not 0 <= k < self.carried:
                (entering if to_carry else direct).append((block, rows, self.entering[inputs[j]]))
                continue
            before, first = self._earlier(k)
            starts, later = (block.restricted(_within(columns)) for columns in (first, ~first))
            if self.op.operands[inputs[j]] is None:
                start = np.tile(self.entering[inputs[j]], self.length)
                (entering if to_carry else direct).append((starts, rows, start))
            (own if to_carry else leaving).append((later, rows, before))
        last = 0 if self.reverse else self.length - 1
        for k in carried:
            at = self.carry[k][last]
            ones = sparse(np.arange(at.size), np.arange(at.size), None, (at.size,), (at.size,))
            leaving.append((ones, self.leaving[k], at))
        into, out = flat_space(self.op.domain), flat_space(self.op.codomain)
        dtype = np.result_type(*(self.op.eqn.outvars[k].aval.dtype for k in carried))
        between = ArraySpace((self.length * self.size,), dtype)
        return Recurrence(
            join_sparse(own, between, between),
            join_sparse(entering, into, between),
            join_sparse(leaving, between, out),
            join_sparse(direct, into, out),
            self.length,
            f"the carry of {jx.where(self.op.eqn)}",
        )

    def side_by_side(self, edge: PatternOf) -> SideBySide:
        """The same with the numbers of ``own`` alone: what enters and leaves is the body itself, at all steps together."""
        carried = [k for k, moves in enumerate(self.moving) if moves]
        inputs = [k for k, moves in enumerate(self.active) if moves]
        own: list[Part] = []
        for (i, j), block in self._blocks(edge, own=True).items():
            before, first = self._earlier(inputs[j] - self.consts)
            own.append((block.restricted(_within(~first)), self.carry[i].reshape(-1), before))
        dtype = np.result_type(*(self.op.eqn.outvars[k].aval.dtype for k in carried))
        between = ArraySpace((self.length * self.size,), dtype)
        label = f"the carry of {jx.where(self.op.eqn)}"
        inverse = bidiagonal_inverse(join_sparse(own, between, between), self.length, _loop(label))
        starts = [x is None for x in self.op.operands[self.consts : self.after]]
        steps = Steps(self.body, self.consts, self.moving, self.active, starts, self.length, self.reverse)
        values = [x for x, moves in zip(self.given(), self.active, strict=True) if not moves]
        spaces = self.op.domain, between, self.op.codomain
        ends = {"entering": (0, 1), "leaving": (1, 2), "direct": (0, 2)}
        maps = {name: steps.operator(name, values, spaces[a], spaces[b]) for name, (a, b) in ends.items()}
        return SideBySide(inverse, **maps, label=label)

    def _earlier(self, k: int) -> tuple[Index, Index]:
        """For each entry of carry k before all steps: where it lies after the step before, and whether there is none."""
        after = self.carry[k]
        first = np.zeros(after.shape, bool)
        first[-1 if self.reverse else 0] = True
        return np.roll(after, -1 if self.reverse else 1, axis=0).reshape(-1), first.reshape(-1)

    def _blocks(self, edge: PatternOf, *, own: bool = False) -> dict[tuple[int, int], Sparse]:
        """What the body's outputs depend on, all steps side by side: blocks by number of output and of moving input.

        Behind the inputs come the carries that move, as they are after the step, for what is not carried.  With ``own``
        there are those alone between carry and carry.
        """

        def known(op: LinearOperator) -> Sparse | Pattern:
            weight = edge(op)
            if weight is None:
                raise _OpaqueError
            return weight

        jaxpr, closed = self.body.jaxpr, self.body
        after = [v for v, moves in zip(jaxpr.outvars, self.moving, strict=False) if moves]
        invars = [*jaxpr.invars, *after]

        def step(*xs: Any) -> list[Any]:
            given, then = xs[: len(jaxpr.invars)], xs[len(jaxpr.invars) :]
            known = {v: x for v, x in zip(after, then, strict=True) if not jx.is_literal(v)}

            def replaced(eqn: Any, inputs: list[Any]) -> list[Any]:
                return [known.get(v, x) for v, x in zip(eqn.outvars, jx.bind(eqn, inputs), strict=True)]

            return [*jx.evaluated(closed, given)[: self.carried], *jx.evaluated(closed, given, replaced)[self.carried :]]

        axes = [None] * self.consts + [0] * (len(invars) - self.consts)
        types: list[Any] = [
            struct(v.aval, v.aval.shape if axis is None else (self.length, *v.aval.shape))
            for v, axis in zip(invars, axes, strict=True)
        ]
        every = jax.make_jaxpr(jax.vmap(step, in_axes=axes))(*types)
        given = self.given()
        values = [x if numbers is None else numbers for x, numbers in zip(given, wholly_known(given), strict=True)]
        values = values if own else self._remade(values)
        values.extend(None for _ in after)
        count = iter(range(len(values)))
        active = [*self.active, *(True for _ in after)]
        numbers = [next(count) if moves else None for moves in active]
        moving = [t for t, moves in zip(types, active, strict=True) if moves]
        program = Program([ArraySpace(t.shape, t.dtype) for t in moving], fold=True)
        inputs = [k for k, moves in enumerate(self.active) if moves]
        _, nodes = walk(every.jaxpr, every.consts, values, program, numbers)
        wanted = [self.moving[k] if k < self.carried else not own for k in range(len(nodes))]
        if own:
            edges = program.from_sources.items()
            program.from_sources = {place: op for place, op in edges if place[1] < len(inputs) and self.carries(place[1])}
        out = [ArraySpace(v.aval.shape, v.aval.dtype) for v in every.jaxpr.outvars]
        parts = program.matrices([node if w else None for node, w in zip(nodes, wanted, strict=True)], out)
        if not any(map(jx.is_traced, jax.tree_util.tree_leaves(parts))):
            parts = jax.tree_util.tree_map(np.asarray, parts)
        M, L, S = parts
        return accumulate_sparse(M, L, S, known)

    def carries(self, number: int) -> bool:
        """Whether a moving input of the body, by its number among these, is carried."""
        inputs = [k for k, moves in enumerate(self.active) if moves]
        return self.consts <= inputs[number] < self.after

    def given(self) -> list[Any]:
        """What the body is given at all steps, those along a first axis that differ; None for what moves."""
        given = [*self.op.operands[: self.consts], *self._carries(), *self.op.operands[self.after :]]
        return [None if moves else x for x, moves in zip(given, self.active, strict=True)]

    def _remade(self, given: Sequence[Any]) -> list[Any]:
        """The same, what an earlier loop has put down at its steps made again of what it carries, if that is less."""
        slices = [k for k in range(self.after, len(given)) if given[k] is not None]
        arrays = Recomputed([given[k] for k in slices], self.length)
        if arrays.spared < SPARED:
            return list(given)
        replaced = dict(zip(slices, arrays.every(), strict=True))
        return [replaced.get(k, x) for k, x in enumerate(given)]

    def _carries(self) -> list[Any]:
        """The carries before all steps, of those that do not move; nothing of the others."""
        if all(self.moving):
            return [None] * self.carried
        invars = self.op.eqn.invars
        given = [jx.zeros(v.aval) if x is None else jx.as_array(x, v.aval) for v, x in zip(invars, self.op.operands)]

        def step(carry: Sequence[Any], slices: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            out = jx.evaluated(self.body, [*given[: self.consts], *carry, *slices])
            return list(out[: self.carried]), [c for c, moves in zip(carry, self.moving, strict=True) if not moves]

        start = given[self.consts : self.after]
        _, known = lax.scan(step, start, given[self.after :], length=self.length, reverse=self.reverse)
        it = iter(known)
        return [None if moves else next(it) for moves in self.moving]


def _pushable(body: Any, active: Sequence[bool]) -> Any:
    """A linear body in which functions of which only the pullback is known are the transposes of that.

    None where there is one inside of another call, of complex numbers (over which it need not be linear), or one whose
    pullback is not linear, such as one that clips the cotangent.
    """
    jaxpr = body.jaxpr
    pulled = [eqn for eqn in jx.every_equation(jaxpr) if eqn.primitive.name == "custom_lin"]
    if not pulled:
        return body
    inner = len(pulled) > sum(eqn.primitive.name == "custom_lin" for eqn in jaxpr.eqns)
    if inner or not all(jnp.issubdtype(v.aval.dtype, jnp.floating) for eqn in pulled for v in eqn.outvars):
        return None
    moving = {v for v, a in zip(jaxpr.invars, active, strict=True) if a}
    for eqn in jaxpr.eqns:
        depends = dependent(eqn, [not jx.is_literal(v) and v in moving for v in eqn.invars])
        moving.update(v for v, d in zip(eqn.outvars, depends, strict=True) if d)

    def pushed(eqn: Any, inputs: list[Any]) -> list[Any]:
        if eqn.primitive.name != "custom_lin":
            return jx.bind(eqn, inputs)
        moves = [not jx.is_literal(v) and v in moving for v in eqn.invars]
        operands = [None if m else x for x, m in zip(inputs, moves, strict=True)]
        zeros = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]

        def pull(*cts: Any) -> list[Any]:
            return pull_cotangents(eqn, operands, eqn.params, cts)

        change = jax.make_jaxpr(lambda cts, ts: jax.jvp(pull, cts, ts)[1])(tuple(zeros), tuple(zeros))
        at = [k < len(zeros) for k in range(2 * len(zeros))]
        linear.append(not any(dependent_outputs(change.jaxpr, at)))
        return list(jax.vjp(pull, *zeros)[1]([x for x, m in zip(inputs, moves, strict=True) if m]))

    linear: list[bool] = []
    given: list[Any] = [struct(v.aval) for v in jaxpr.invars]
    pushable = jax.make_jaxpr(lambda *xs: jx.evaluated(body, xs, pushed))(*given)
    return pushable if all(linear) else None


def _numbered(sizes: Sequence[int], chosen: Sequence[bool]) -> list[Index]:
    """The numbers of each array's entries, those of the chosen ones one after the other."""
    out, start = [], 0
    for size, there in zip(sizes, chosen, strict=True):
        out.append(np.arange(start, start + (size if there else 0)))
        start += size if there else 0
    return out


def _within(columns: Index) -> Keep:
    """Whether a place lies in one of these columns."""
    return lambda _, cols: columns[cols]


# ---- as nodes ------------------------------------------------------------------------------------------------------------
def unfolded(
    system: System, edge: PatternOf, *, parallel: bool = False, most: int | None = None
) -> tuple[OperatorMatrix, ...]:
    """M, L and the sinks of a system whose loops are taken apart: a node for the carry after each step.

    With ``parallel`` a node for what enters them all, and one for all carries, between which lies the inverse.  Loops that
    carry more than ``most`` numbers stay whole.
    """
    return _Unfolding(system, edge, parallel, most).matrices()


class _Unfolding:
    """A system as it is copied node by node, loops taken apart.

    Tuples, between which a loop maps, are nodes only where somebody else reads them: ``parts`` holds the nodes of theirs.
    """

    def __init__(self, system: System, edge: PatternOf, parallel: bool, most: int | None) -> None:
        self.system = system
        self.edge = edge
        self.parallel = parallel
        self.most = most
        self.names = system.L.names or [""] * system.L.shape[0]
        self.program = Program(system.M.col_spaces)
        self.number: dict[int, int] = {}  # of a node in the copy
        self.parts: dict[int, dict[int, int]] = {}

    def matrices(self) -> tuple[OperatorMatrix, ...]:
        """M, L and the sinks of the copy."""
        for i in range(self.system.L.shape[0]):
            self._copy(i)
        ends = {(row, self._node(v)): op for (row, v), op in self.system.sinks.entries.items()}
        M, L, _ = self.program.matrices([], [])
        shape = self.system.sinks.shape[0], L.shape[0]
        return M, L, OperatorMatrix(ends, shape, self.system.sinks.row_spaces, L.row_spaces)

    def _copy(self, i: int) -> None:
        L, M = self.system.L, self.system.M
        edges: list[tuple[int, Any]] = [*L.row(i), *((-1 - j, op) for j, op in M.row(i))]
        if edges and all(isinstance(op, Component) and op.transposed for _, op in edges):
            self.parts[i] = {op.index: j if j < 0 else self._node(j) for j, op in edges}
            return
        if len(edges) == 1:
            ((j, op),) = edges
            if isinstance(op, Component) and not op.transposed and j in self.parts and op.index in self.parts[j]:
                self.number[i] = self.program.node(
                    L.row_spaces[i], self.names[i], [(self.parts[j][op.index], Identity(L.row_spaces[i]))]
                )
                return
            loop = Loop.of(op) if isinstance(op, LinearEquation) else None
            unfolds = loop is not None and (self.most is None or loop.size <= self.most)
            if unfolds and self.parallel and (steps := side_by_side(op, self.edge)) is not None:
                self._put_side_by_side(i, j if j < 0 else self._node(j), steps)
                return
            apart = recurrence(op, self.edge, always=True) if unfolds and not self.parallel else None
            if apart is not None:
                given = self.parts[j] if j in self.parts else {0: j if j < 0 else self._node(j)}
                self.parts[i] = self._steps(given, op, apart)
                if not isinstance(op.codomain, TupleSpace):
                    self.number[i] = self.parts[i][0]
                return
        copied = [(j if j < 0 else self._node(j), op) for j, op in edges]
        self.number[i] = self.program.node(L.row_spaces[i], self.names[i], copied)

    def _node(self, i: int) -> int:
        """The number of a node; that of a tuple is made where it is asked for."""
        if i not in self.number:
            space: Any = self.system.L.row_spaces[i]
            edges = [(node, Component(k, space, transposed=True)) for k, node in self.parts[i].items()]
            self.number[i] = self.program.node(space, self.names[i], edges)
        return self.number[i]

    def _steps(self, given: dict[int, int], op: LinearOperator, apart: Recurrence) -> dict[int, int]:
        """Put down the carry after each step as a node, then the parts of the loop's result; returns these."""
        sources = [(given[k], part, start) for k, part, start in parts_of(op.domain) if k in given]
        out: dict[int, list[tuple[int, LinearOperator]]] = {k: [] for k, _, _ in parts_of(op.codomain)}
        for node, leaving in self._carries(sources, apart):
            for k, part, start in parts_of(op.codomain):
                out[k] += _filled([(node, rows_of(leaving, start, part))])
        for k, part, start in parts_of(op.codomain):
            rows = rows_of(apart.direct, start, part)
            out[k] += _filled([(node, columns_of(rows, before, own)) for node, own, before in sources])
        return {
            k: self.program.node(part, f"output {k} of {_loop(apart.label)}", out[k]) for k, part, _ in parts_of(op.codomain)
        }

    def _put_side_by_side(self, i: int, source: int, steps: SideBySide) -> None:
        """Put down what enters a loop, all of its carries, and what leaves it."""
        whole: Any = steps.inverse.domain
        entered = self.program.node(whole, f"what enters {steps.label}", [(source, steps.entering)])
        carries = self.program.node(whole, steps.label, [(entered, steps.inverse)])
        edges = [(carries, steps.leaving), (source, steps.direct)]
        self.number[i] = self.program.node(self.system.L.row_spaces[i], self.names[i], edges)

    def _carries(self, sources: list[tuple[int, ArraySpace, int]], apart: Recurrence) -> list[tuple[int, Any]]:
        """The nodes of the carries, each with the columns of what leaves it."""
        whole = apart.own.domain
        size = whole.size // apart.steps
        space = ArraySpace((size,), whole.dtype)
        backwards = bool((apart.own.rows < apart.own.cols).any())
        leaving: Any = apart.leaving.transpose()
        nodes: dict[int, int] = {}
        for t in reversed(range(apart.steps)) if backwards else range(apart.steps):
            own, entering = (rows_of(block, t * size, space) for block in (apart.own, apart.entering))
            edges = [(node, columns_of(entering, start, part)) for node, part, start in sources]
            before = t + 1 if backwards else t - 1
            if before in nodes:
                edges.append((nodes[before], columns_of(own, before * size, space)))
            nodes[t] = self.program.node(space, f"step {t} of {_loop(apart.label)}", _filled(edges))
        return [(node, rows_of(leaving, t * size, space).transpose()) for t, node in nodes.items()]


def _loop(label: str) -> str:
    return label.removeprefix("the carry of ")


def _filled(edges: list[tuple[int, Sparse]]) -> list[tuple[int, LinearOperator]]:
    return [(node, op) for node, op in edges if op.nnz]
