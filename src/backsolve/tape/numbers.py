"""The numbers of a program, by ids: those of an array can be moved, repeated and joined like the array itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from backsolve.tape.operations import COMMUTING, NEUTRAL, TRUTHS, values

__all__ = ["BITS", "Group", "Ids", "NotServed", "Numbers"]

Ids = np.ndarray[Any, Any]  # of an array: which number of the program each entry is

BITS = 20  # of an id: reading that many numbers takes half a second, as long as compiling them


class NotServed(Exception):  # noqa: N818  (no error: the program is left to XLA)
    """A program has an equation that no call of NumPy stands for, or too many numbers; the message says which."""


@dataclass
class Group:
    """Numbers that one operation makes at one level: their ids and those of the operands, a piece for each equation.

    Of a "sum" the operands are the counts of terms and the terms, one after the other.
    """

    operation: str
    pieces: list[tuple[Ids, list[Ids]]] = field(default_factory=list)

    @property
    def is_sum(self) -> bool:
        """Whether it is one of sums."""
        return self.operation == "sum"

    def joined(self) -> tuple[Ids, list[Ids]]:
        """All pieces as one."""
        operands = zip(*(operands for _, operands in self.pieces), strict=True)
        return np.concatenate([ids for ids, _ in self.pieces]), [np.concatenate(parts) for parts in operands]


class Numbers:
    """All numbers so far: of each the level (the longest way from what is given), whether it is a truth value, and its value
    where that is known.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.size = 0
        self.level = np.zeros(0, np.int32)
        self.truth = np.zeros(0, bool)
        self.known = np.zeros(0, bool)
        self.value = np.zeros(0)
        self.groups: dict[Any, Group] = {}
        self._arrays: dict[Any, Ids] = {}  # ids of arrays by their bytes
        self._constants: tuple[dict[int, int], dict[int, int]] = {}, {}  # ids by their bits: of numbers, of truth values

    def _new(self, count: int, level: int, truth: bool, value: Any = None) -> Ids:
        first, self.size = self.size, self.size + count
        if self.size > 2**BITS:
            raise NotServed(f"a program of more than {2**BITS:,} numbers")
        if self.size > self.level.size:
            for name in ("level", "truth", "known", "value"):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.zeros(self.size + 1024, old.dtype)]))
        own = slice(first, self.size)
        self.level[own], self.truth[own], self.known[own] = level, truth, value is not None
        self.value[own] = 0.0 if value is None else value
        return np.arange(first, self.size)

    def given(self, shape: tuple[int, ...]) -> Ids:
        """The ids of an array of which nothing is known."""
        return self._new(prod(shape), 0, False).reshape(shape)

    def constant(self, array: Any) -> Ids:
        """The ids of known numbers or truth values, one for all that are the same bit by bit."""
        array = np.asarray(array)
        if array.dtype not in (self.dtype, bool):
            raise NotServed(f"a constant of type {array.dtype}, beside numbers of type {self.dtype}")
        key = array.dtype, array.shape, array.tobytes()
        if key not in self._arrays:
            self._arrays[key] = self._ids_of(array)
        return self._arrays[key]

    def one(self) -> Ids:
        """The id of 1."""
        return self.constant(np.ones((), self.dtype))

    def _ids_of(self, array: Ids) -> Ids:
        truth = array.dtype == bool
        unique, where = np.unique(array.astype(np.float64).reshape(-1).view(np.int64), return_inverse=True)
        bits, ids = unique.tolist(), self._constants[truth]
        new = [k for k, number in enumerate(bits) if number not in ids]
        if new:
            fresh = self._new(len(new), 0, truth, unique[new].view(np.float64))
            ids.update(zip([bits[k] for k in new], fresh.tolist(), strict=True))
        return np.array([ids[number] for number in bits], np.int64)[where].reshape(array.shape)

    def made(self, operation: str, *operands: Ids) -> Ids:
        """The numbers that an operation makes, each of one of each operand."""
        arrays = np.broadcast_arrays(*operands)
        flat = [x.reshape(-1) for x in arrays]
        out, left = np.empty(flat[0].size, np.int64), np.ones(flat[0].size, bool)
        for where, ids in self._simpler(operation, flat):
            own = where & left
            out[own] = ids[own]
            left &= ~own
        if left.any():
            chosen = flat if left.all() else [x[left] for x in flat]
            out[left] = self._grouped(operation, chosen, chosen[0].size, operation in TRUTHS)
        return out.reshape(arrays[0].shape)

    def _simpler(self, operation: str, operands: list[Ids]) -> list[tuple[Ids, Ids]]:
        """Where results are numbers that are there already, or known: which."""
        known = [self.known[x] for x in operands]
        some = [bool(k.any()) for k in known]
        cases = []
        if all(some) and (every := np.logical_and.reduce(known)).any():
            ids = np.zeros(every.size, np.int64)
            ids[every] = self.constant(values(operation, [self._values(x[every]) for x in operands], self.dtype))
            cases.append((every, ids))
        if operation in NEUTRAL:
            pairs = [(1, 0), (0, 1)] if operation in COMMUTING else [(1, 0)]
            cases += [(known[k] & (self.value[operands[k]] == NEUTRAL[operation]), operands[n]) for k, n in pairs if some[k]]
        if operation == "select" and some[0]:
            cases += [(known[0] & (self.value[operands[0]] == k), operands[1 + k]) for k in (0, 1)]
        return cases

    def _values(self, ids: Ids) -> Any:
        values = self.value[ids]
        return values != 0 if ids.size and self.truth[ids[0]] else values.astype(self.dtype)

    def _grouped(self, operation: str, operands: list[Ids], count: int, truth: bool = False) -> Ids:
        level = 1 + max(int(self.level[x].max()) for x in operands[operation == "sum" :])
        constant = () if operation == "sum" else tuple(bool(self.known[x].all()) for x in operands)
        ids = self._new(count, level, truth)
        self.groups.setdefault((level, operation, constant), Group(operation)).pieces.append((ids, operands))
        return ids

    def summed(self, counts: Ids, terms: Ids) -> Ids:
        """The sums of so many of these terms each, one of them or more."""
        out, several = np.asarray(terms[np.cumsum(counts) - counts]), counts > 1
        if several.any():
            chosen = [counts[several], terms[np.repeat(several, counts)]]
            out[several] = self._grouped("sum", chosen, chosen[0].size)
        return out
