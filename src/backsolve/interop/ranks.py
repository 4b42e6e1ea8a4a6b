"""Which process of an MPI communicator has which unknowns, and the way between arrays of JAX and their part of a vector.

PETSc numbers the unknowns of the first process first.  Those of an array that is spread in another way, or of several
arrays, are renumbered: within a process they keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import prod
from typing import Any

import jax
import numpy as np

from backsolve.sparse.pattern import Pattern

__all__ = ["Numbering", "Unknowns", "even", "is_whole", "owners_of_rows", "require_ranks", "span"]

Array = np.ndarray[Any, Any]


class Numbering:
    """Who of ``size`` processes has which of n unknowns: ``owner[k]`` has the k-th, told by the process of this ``rank``.

    ``sizes`` are the numbers of unknowns of each process, ``begin`` and ``end`` the range of this one, ``place[k]`` is the
    number that PETSc has for the k-th (None: k), ``own`` says which are this one's, increasing.
    """

    def __init__(self, owner: Array, rank: int, size: int) -> None:
        self.sizes = np.bincount(owner, minlength=size)
        ends = np.cumsum(self.sizes)
        self.rank, self.end = rank, int(ends[rank])
        self.begin = self.end - int(self.sizes[rank])
        self.place: Array | None = None
        self.own: Array | slice = slice(self.begin, self.end)
        if (np.diff(owner) < 0).any():
            order = np.argsort(owner, kind="stable")
            self.place = np.empty_like(order)
            self.place[order] = np.arange(order.size)
            self.own = order[self.begin : self.end]

    @property
    def layout(self) -> tuple[int, int]:
        """How many unknowns this process has, and how many there are: sizes as PETSc takes them."""
        return int(self.sizes[self.rank]), int(self.sizes.sum())

    def placed(self, indices: Array) -> Array:
        """PETSc's numbers for these unknowns."""
        return indices if self.place is None else self.place[indices]

    def has(self, indices: Array) -> Array:
        """Which of them this process has."""
        placed = self.placed(indices)
        return (placed >= self.begin) & (placed < self.end)


def even(n: int, size: int) -> Array:
    """The owners of n unknowns of which each process has as many as the others, or one more: PETSc's own choice."""
    return np.repeat(np.arange(size), [n // size + (r < n % size) for r in range(size)])


def is_whole(array: Any) -> bool:
    """Whether this process holds every entry of an array."""
    return not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated


def require_ranks(comm: Any) -> None:
    """Raise `ValueError` where the processes of JAX are not those of the communicator, in the same order."""
    ours, theirs = (jax.process_index(), jax.process_count()), (comm.rank, comm.size)
    if ours != theirs:
        raise ValueError(
            f"the array is spread over processes of JAX, of which this is number {ours[0]} of {ours[1]}, but in the "
            f"communicator it is number {theirs[0]} of {theirs[1]}. Call jax.distributed.initialize(process_id=rank, "
            "num_processes=size, …) with MPI's rank and size, and take a communicator of all processes."
        )


def span(indices: Array) -> Array | slice:
    """The same indices as a slice, where they are one after the other: no copy is made by it."""
    if indices.size and indices[-1] - indices[0] == indices.size - 1 and (np.diff(indices) == 1).all():
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices


def _boxes(array: Any) -> Iterable[tuple[int, tuple[slice, ...]]]:
    """Each device's part of an array, with the device's process."""
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        yield device.process_index, index


def owners_of_rows(pattern: Pattern, data: Any, size: int) -> Array:
    """The process of each row of a matrix whose numbers are spread: the one that holds the row's first number.

    Where that would not be the first rows for the first process, and so on, each gets as many rows as the others.
    """
    m = pattern.shape[0]
    owner = np.full(pattern.nnz, size)
    for process, (entries,) in _boxes(data):
        owner[entries] = np.minimum(owner[entries], process)
    filled = np.diff(pattern.starts) > 0
    rows = np.zeros(m, owner.dtype)
    rows[filled] = owner[pattern.starts[:-1][filled]]
    rows = np.maximum.accumulate(rows)  # an empty row goes with the one before
    return even(m, size) if (rows[filled] != owner[pattern.starts[:-1][filled]]).any() else rows


class Unknowns:
    """The leaves of a pytree of arrays as one vector of PETSc, each process with those that it holds.

    Arrays that every process has whole are the same on all of them, and are divided evenly; ``gathers`` says that the way
    back asks the other processes for their part.
    """

    def __init__(self, tree: Any, comm: Any) -> None:
        paths, self.structure = jax.tree_util.tree_flatten_with_path(tree)
        self.names = [jax.tree_util.keystr(path, simple=True, separator="_") or "x" for path, _ in paths]
        self.leaves = [leaf for _, leaf in paths]
        self.shapes = [leaf.shape for leaf in self.leaves]
        self.begins = np.cumsum([0, *map(prod, self.shapes)])
        rank, size = comm.rank, comm.size
        if not all(map(is_whole, self.leaves)):
            require_ranks(comm)
        owners, self.gathers = [], False
        spread = [not is_whole(leaf) for leaf in self.leaves]
        for leaf, is_spread in zip(self.leaves, spread, strict=True):
            owner, alone = _owners(leaf, size) if is_spread else (even(leaf.size, size), size == 1)
            owners.append(owner)
            self.gathers = self.gathers or not alone
        if not any(spread):
            owners = [even(int(self.begins[-1]), size)]
        self.numbering = Numbering(np.concatenate(owners), rank, size)

    @property
    def size(self) -> int:
        """How many there are."""
        return int(self.begins[-1])

    def fields(self) -> list[tuple[str, Array]]:
        """The name of each leaf, and PETSc's numbers of what this process has of it."""
        fields = []
        for name, begin, end in zip(self.names, self.begins[:-1], self.begins[1:], strict=True):
            there = np.arange(begin, end)
            fields.append((name, self.numbering.placed(there[self.numbering.has(there)])))
        return fields

    def tree(self, leaves: Sequence[Any]) -> Any:
        """The pytree of these leaves."""
        return jax.tree_util.tree_unflatten(self.structure, leaves)

    # ---- from arrays --------------------------------------------------------------------------------------------------
    def write(self, leaves: Sequence[Any], local: Array) -> None:
        """Copy what this process has of these leaves, spread as the first ones were, into its part of a vector.

        Cost: one copy.
        """
        for leaf, moves in zip(leaves, self._moves, strict=True):
            parts = {_key(shard.index, leaf.shape): shard.data for shard in leaf.addressable_shards}
            for key, source, target in moves:
                part = np.asarray(leaf if key is None else parts[key])
                local[target] = part.reshape(-1)[source]

    @cached_property
    def _moves(self) -> list[list[tuple[Any, Array | slice, Array | slice]]]:
        """Of each leaf: a part (None: the whole), which of its entries are copied, and where to."""
        by_field = []
        for leaf, begin in zip(self.leaves, self.begins[:-1], strict=True):
            numbers = np.arange(begin, begin + leaf.size).reshape(leaf.shape)
            indices = [None] if is_whole(leaf) else [shard.index for shard in leaf.addressable_shards]
            moves: dict[Any, Any] = {}
            for index in indices:
                there = (numbers if index is None else numbers[index]).reshape(-1)
                own = self.numbering.has(there)
                target = self.numbering.placed(there[own]) - self.numbering.begin
                key = None if index is None else _key(index, leaf.shape)
                moves[key] = (key, span(np.flatnonzero(own)), span(target))
            by_field.append(list(moves.values()))
        return by_field

    # ---- to arrays ----------------------------------------------------------------------------------------------------
    def read(self, numbers: Array) -> list[Any]:
        """The leaves, spread as the first ones were, of this process's part of a vector; where it ``gathers``, of all of it.

        Arrays may share their memory with ``numbers``.
        """
        place = self.numbering.place
        if self.gathers and place is not None:
            numbers = numbers[place]
        return [self._leaf(k, numbers) for k in range(len(self.leaves))]

    def _leaf(self, k: int, numbers: Array) -> Any:
        leaf, begin, shape = self.leaves[k], int(self.begins[k]), self.shapes[k]
        if self.gathers or self.numbering.sizes.size == 1:
            whole = numbers[begin : begin + leaf.size].reshape(shape)
            return jax.make_array_from_callback(shape, leaf.sharding, lambda index: whole[index])
        targets = {key: target for key, _, target in self._moves[k]}

        def part(index: Any) -> Array:
            key = _key(index, shape)
            return numbers[targets[key]].reshape([end - begin for begin, end in key])

        return jax.make_array_from_callback(shape, leaf.sharding, part)


def _key(index: Iterable[slice], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The bounds of a part of an array: equal for equal parts."""
    return tuple([(s.indices(n)[0], s.indices(n)[1]) for s, n in zip(index, shape, strict=True)])


def _owners(leaf: Any, size: int) -> tuple[Array, bool]:
    """The first process that holds each entry of a spread array, and whether it is the only one."""
    owner = np.full(leaf.shape, size)
    holders: dict[Any, set[int]] = {}
    for process, index in _boxes(leaf):
        owner[index] = np.minimum(owner[index], process)
        holders.setdefault(_key(index, leaf.shape), set()).add(process)
    return owner.reshape(-1), all(len(processes) == 1 for processes in holders.values())
