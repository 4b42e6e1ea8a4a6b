"""A program as a list of calls of NumPy: nothing to compile, and of small arrays as fast as what XLA compiles.

A program is read number by number.  Numbers that are moved, picked or placed are not computed; one that is known is computed
while reading, one that two equations make is computed once, and one that no result needs is not.  What is left is done by a
call for all numbers of one operation at one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import jax
import numpy as np

from backsolve.tape.equations import Value, ids_of, known, outputs
from backsolve.tape.numbers import BITS, Group, Ids, NotServed, Numbers
from backsolve.tape.operations import COMMUTING
from backsolve.tape.steps import Memory, Stage, bound, taken_at_once
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import is_spread

__all__ = ["NotServed", "Tape"]


class Tape:
    """A program of real numbers, and a second one of the same first vector and the same parameters.

    The second goes on from the numbers of the first.  Several threads may `run` them.
    ``vector`` and ``parameters`` are types of arrays.  Raises `NotServed` where these are not all of double precision, or
    all of single precision.
    """

    def __init__(self, vector: Any, parameters: Sequence[Any]) -> None:
        if vector.dtype not in (np.float64, np.float32):
            raise NotServed(f"a vector of type {vector.dtype}")
        self.dtype = np.dtype(vector.dtype)
        self._numbers = Numbers(self.dtype)
        self._memory = Memory(self._numbers)
        self._same = np.zeros(0, np.int64)  # of each number the one that stands for it
        self._seen: dict[str, tuple[Ids, Ids]] = {}  # of an operation: the keys of its numbers, in order, and their ids
        self._stages: list[Stage] = []
        self._given = [self._input(aval) for aval in (vector, *parameters)]
        self._places = [self._memory.place(ids.reshape(-1)) for ids in self._given]
        self._running: _Running | None = None
        self._lock = Lock()

    def _input(self, aval: Any) -> Ids:
        if aval.dtype != self.dtype or is_spread(aval):
            raise NotServed(f"an argument of type {aval}, beside a vector of {self.dtype}")
        return self._numbers.given(aval.shape)

    # ---- reading ------------------------------------------------------------------------------------------------------
    def read(self, jaxpr: Any, consts: Sequence[Any]) -> int:
        """Read a program of the vector, inputs of its own, and the parameters; return its number.

        Raises `NotServed` where it has other equations than those of numbers, or too many of these.
        Cost: one pass over the numbers, in NumPy: 0.1 µs each.
        """
        with self._lock:
            vector, *parameters = self._given
            others = [self._input(v.aval) for v in jaxpr.invars[1 : len(jaxpr.invars) - len(parameters)]]
            self._numbers.groups = {}
            values: dict[Any, Value] = dict(zip(jaxpr.invars, (vector, *others, *parameters), strict=True))
            self._follow(jaxpr, consts, values)
            results = [ids_of(self._numbers, _value(v, values)).reshape(-1) for v in jaxpr.outvars]
            if any(v.aval.dtype != self.dtype for v in jaxpr.outvars):
                raise NotServed(f"results of types {sorted({str(v.aval.dtype) for v in jaxpr.outvars})}")
            groups, needed = self._needed(np.concatenate(results) if results else self._same[:0])
            inputs = [self._memory.place(ids.reshape(-1)) for ids in others]
            steps = [step for group in groups if group.pieces for step in self._memory.steps(group)]
            self._stages.append(Stage(steps, inputs, self._memory.addresses(needed)))
            self._running = None
            return len(self._stages) - 1

    def _follow(self, jaxpr: Any, constants: Sequence[Any], values: dict[Any, Value]) -> None:
        """Every equation, those inside calls too."""
        values.update((v, known(c, v.aval)) for v, c in zip(jaxpr.constvars, constants, strict=True))
        for eqn, body, consts in jx.opened(jaxpr, custom=True):
            if body is not None and consts is None:
                values.update(zip(eqn.outvars, [_value(v, values) for v in body.outvars], strict=True))
                continue
            operands = [_value(v, values) for v in eqn.invars]
            if body is None or consts is None:
                values.update(zip(eqn.outvars, outputs(self._numbers, eqn, operands), strict=True))
                continue
            values.update((v, known(c, v.aval)) for v, c in zip(body.constvars, consts, strict=True))
            values.update(zip(body.invars, operands, strict=True))

    # ---- what is needed, once -----------------------------------------------------------------------------------------
    def _needed(self, results: Ids) -> tuple[list[Group], Ids]:
        """The groups by their level, of numbers that these results need and that no others stand for; and the results."""
        count = self._numbers.size
        self._same = np.concatenate([self._same, np.arange(self._same.size, count)])
        groups = [group for _, group in sorted(self._numbers.groups.items(), key=lambda item: item[0][0])]
        for group in groups:
            group.pieces = [
                (ids, [operands[0], self._same[operands[1]]] if group.is_sum else [self._same[x] for x in operands])
                for ids, operands in group.pieces
            ]
            if not group.is_sum:
                self._without_repetition(group)
        results = self._same[results]
        needed = np.zeros(count, bool)
        needed[results] = True
        for group in reversed(groups):
            pieces = []
            for ids, operands in group.pieces:
                own = needed[ids] & (self._same[ids] == ids)
                if group.is_sum:
                    operands = [operands[0][own], operands[1][np.repeat(own, operands[0])]]
                else:
                    operands = [x[own] for x in operands]
                for x in operands[group.is_sum :]:
                    needed[x] = True
                if own.any():
                    pieces.append((ids[own], operands))
            group.pieces = pieces
        for operation, (keys, ids) in self._seen.items():  # those of the programs before are there
            there = needed[ids] | self._memory.holds(ids)
            self._seen[operation] = keys[there], ids[there]
        return groups, results

    def _without_repetition(self, group: Group) -> None:
        """Let one number stand for all that are made alike."""
        ids, operands = group.joined()
        if group.operation in COMMUTING:
            operands = [np.minimum(*operands), np.maximum(*operands)]
        keys = operands[0]
        for x in operands[1:]:
            keys = keys << BITS | x
        before, own = self._seen.get(group.operation, (keys[:0], ids[:0]))
        keys, own = np.concatenate([before, keys]), np.concatenate([own, ids])
        unique, first, where = np.unique(keys, return_index=True, return_inverse=True)
        self._same[ids] = own[first][where[before.size :]]
        self._seen[group.operation] = unique, own[first]

    # ---- running --------------------------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Make the calls of all programs, unless they are."""
        with self._lock:
            self._prepared()

    def _prepared(self) -> _Running:
        if self._running is None:
            self._running = _Running(self._memory.arrays(), self._places, self._stages)
        return self._running

    def run(self, number: int, vectors: Sequence[Ids], parameters: Any) -> Ids:
        """The results of a program, one after the other, in a new array; ``parameters`` are a pytree, looked at where it is
        another object than before.

        What the first program has worked out of the same vector and parameters stays.
        Cost: 0.3 µs a call, and 1 ns for each number that is taken out of an array.
        """
        with self._lock:
            return self._prepared().run(number, vectors, parameters)


class _Running:
    """The calls of programs, on arrays of their own."""

    def __init__(self, arrays: Sequence[Ids], given: Sequence[slice], stages: Sequence[Stage]) -> None:
        room = max(taken_at_once(stage.steps) for stage in stages)
        scratch = [np.empty(room, array.dtype) for array in arrays]
        self._numbers = arrays[0]
        self._given = [arrays[0][place] for place in given]
        self._inputs = [[arrays[0][place] for place in stage.inputs] for stage in stages]
        self._calls = [bound(stage.steps, arrays, scratch) for stage in stages]
        self._outputs = [stage.outputs for stage in stages]
        self._at: bytes | None = None  # the vector of which the first program's numbers are
        self._parameters: Any = self  # no parameters yet

    def run(self, number: int, vectors: Sequence[Ids], parameters: Any) -> Ids:
        """See `Tape.run`."""
        at = vectors[0].tobytes()
        with np.errstate(all="ignore"):  # XLA warns of nothing either
            if at != self._at or parameters is not self._parameters:
                self._at = None  # an interruption may come
                self._given[0][:] = vectors[0].reshape(-1)
                if parameters is not self._parameters:
                    self._parameters = self
                    for place, leaf in zip(self._given[1:], jax.tree_util.tree_leaves(parameters), strict=True):
                        place[:] = np.ravel(leaf)
                for call, arguments in self._calls[0]:
                    call(*arguments)
                self._at, self._parameters = at, parameters
            if number:
                for place, vector in zip(self._inputs[number], vectors[1:], strict=True):
                    place[:] = vector
                for call, arguments in self._calls[number]:
                    call(*arguments)
        return self._numbers.take(self._outputs[number])


def _value(atom: Any, values: dict[Any, Value]) -> Value:
    return known(jx.literal_value(atom), atom.aval) if jx.is_literal(atom) else values[atom]
