"""Steps: numbers made by one operation, as calls of NumPy on stretches of one array, or on what is taken out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.tape.numbers import Group, Ids, Numbers
from backsolve.tape.operations import Call, calls

__all__ = ["Memory", "Stage", "Step", "bound", "taken_at_once"]

# In ns: a call of NumPy, and to take a number out of an array.
_CALL, _TAKEN = 400.0, 1.2

Where = slice | Ids  # a stretch, or addresses


class Step(NamedTuple):
    """An operation, where its results stand, and where its operands: each with whether it is of truth values."""

    operation: str
    truth: bool
    place: slice
    operands: list[tuple[bool, Where]]
    starts: Ids | None = None


class Stage(NamedTuple):
    """The steps of a program, where what it is given alone stands, and the addresses of its results."""

    steps: list[Step]
    inputs: list[slice]
    outputs: Ids


class Memory:
    """Where numbers stand: addresses in one array of numbers and one of truth values."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._address = np.zeros(0, np.int64)
        self._sizes = [0, 0]
        self._constants: tuple[dict[bytes, int], dict[bytes, int]] = {}, {}  # stretches of them, by their bytes

    def place(self, ids: Ids, truth: bool = False) -> slice:
        """Give numbers their stretch."""
        start = self._reserve(ids.size, truth)
        self._grow()
        self._address[ids] = np.arange(start, start + ids.size)
        return slice(start, start + ids.size)

    def _grow(self) -> None:
        missing = self._numbers.level.size - self._address.size
        self._address = np.concatenate([self._address, np.full(missing, -1)]) if missing else self._address

    def _reserve(self, count: int, truth: bool) -> int:
        self._sizes[truth] += count
        return self._sizes[truth] - count

    def _constant(self, ids: Ids, truth: bool) -> int:
        """Where these known numbers stand one after the other."""
        key = self._numbers.value[ids].tobytes()
        if key not in self._constants[truth]:
            self._constants[truth][key] = self._reserve(ids.size, truth)
        return self._constants[truth][key]

    def holds(self, ids: Ids) -> Any:
        """Which numbers have a place."""
        self._grow()
        return self._address[ids] >= 0

    def addresses(self, ids: Ids) -> Ids:
        """Of numbers; known ones have one each from now on."""
        self._grow()
        addresses: Ids = self._address[ids]
        if addresses.size and addresses.min() < 0:
            missing = np.unique(ids[addresses < 0])
            assert self._numbers.known[missing].all()
            self._address[missing] = self._constant(missing, self._is_truth(missing)) + np.arange(missing.size)
            addresses = self._address[ids]
        return addresses

    def _is_truth(self, ids: Ids) -> bool:
        return bool(self._numbers.truth[ids[0]])

    def _operand(self, ids: Ids) -> tuple[bool, Where]:
        truth = self._is_truth(ids)
        if self._numbers.known[ids].all():
            start = self._constant(ids, truth)
            return truth, slice(start, start + ids.size)
        places = self.addresses(ids)
        step = int(places[1] - places[0]) if places.size > 1 else 1
        if step > 0 and (np.diff(places) == step).all():
            return truth, slice(int(places[0]), int(places[-1]) + 1, step)
        return truth, places

    def steps(self, group: Group) -> list[Step]:
        """A group as one step, but for pieces whose operands stand so well that a step of their own takes less."""
        if group.is_sum:
            ids, (counts, terms) = group.joined()
            operand = self._operand(terms)
            return [Step("sum", False, self.place(ids), [operand], np.cumsum(counts) - counts)]
        alone, together = [], Group(group.operation)
        for ids, operands in group.pieces:
            where = [self._operand(x) for x in operands]
            gathers = sum(not isinstance(places, slice) for _, places in where)
            unknown = sum(not self._numbers.known[x].all() for x in operands)
            if len(group.pieces) == 1 or _CALL * (1 + (gathers > 0)) < _TAKEN * ids.size * (unknown - gathers):
                alone.append(self._step(group.operation, ids, where))
            else:
                together.pieces.append((ids, operands))
        if together.pieces:
            ids, operands = together.joined()
            alone.append(self._step(group.operation, ids, [self._operand(x) for x in operands]))
        return alone

    def _step(self, operation: str, ids: Ids, where: list[tuple[bool, Where]]) -> Step:
        truth = self._is_truth(ids)
        return Step(operation, truth, self.place(ids, truth), where)

    def arrays(self) -> list[Ids]:
        """Arrays in which the known numbers stand, and the others are to be worked out."""
        arrays = [np.zeros(size, dtype) for size, dtype in zip(self._sizes, (self._numbers.dtype, bool), strict=True)]
        for array, stretches in zip(arrays, self._constants, strict=True):
            for key, start in stretches.items():
                values = np.frombuffer(key)
                array[start : start + values.size] = values
        return arrays


def bound(steps: Sequence[Step], arrays: Sequence[Ids], scratch: Sequence[Ids]) -> list[Call]:
    """The calls of steps on these arrays; operands that are taken out of them go to the other two."""
    order: list[Call] = []
    for step in steps:
        apart = [[w for truth, w in step.operands if truth == kind and not isinstance(w, slice)] for kind in (False, True)]
        for array, room, addresses in zip(arrays, scratch, apart, strict=True):
            if addresses:
                index = np.concatenate(addresses)
                order.append((array.take, (index, None, room[: index.size], "wrap")))
        ends, operands = [0, 0], []
        for truth, where in step.operands:
            if isinstance(where, slice):
                operands.append(arrays[truth][where])
            else:
                operands.append(scratch[truth][ends[truth] : ends[truth] + where.size])
                ends[truth] += where.size
        order += calls(step.operation, operands, arrays[step.truth][step.place], step.starts)
    return order


def taken_at_once(steps: Sequence[Step]) -> int:
    """How many numbers a step takes out of an array, at most."""
    return max((sum(w.size for _, w in step.operands if not isinstance(w, slice)) for step in steps), default=0)
