"""Patterns of loops whose steps differ: the indices and masks that a loop counts, or is given, are known for each step.

With c the carry, x what is sliced, k what stays, step t of a loop is c' = A_t c + B_t x + K_t k, y = C_t c + D_t x + E_t k.
The body is linearized once, all steps side by side, which gives the blocks of each.  Which entries of what enters the
loop the carry depends on is then found by forward substitution, one step after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.sparse import csr_array

from backsolve.capture.blocks import PatternOf, Places, blocks_of, moving_carry, places_matrix, value_or_type
from backsolve.capture.folding import wholly_known
from backsolve.capture.opaque import LinearEquation
from backsolve.sparse.boolean import MOST, product
from backsolve.sparse.pattern import Pattern, PatternTooLargeError, run_starts
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent
from backsolve.tracing.series import scan_counts

__all__ = ["by_each_step"]

Index = np.ndarray[Any, Any]
Bits = np.ndarray[Any, np.dtype[np.uint64]]

HELD = 1 << 25  # bytes of what the carry depends on, as bits; beyond, a sparse matrix
STEPS = 1 << 24  # numbers that are carried at all steps together
GATHERED = 1 << 25  # bytes of rows that are joined at a time

_NOWHERE = np.zeros(0, np.int64)


def by_each_step(op: LinearEquation, edge: PatternOf, most: int = MOST) -> Pattern | None:
    """The places of a linear scan's matrix, exact at each step.

    None where all steps are alike, as far as is known, and where the steps are too many or too large for it.
    ``edge`` gives the operators of what is inside.
    Raises `PatternTooLargeError` where the places would take more than ``most`` bytes.
    Cost: one linearization of the body over all steps at once; then, for each entry of the carry that a step changes, a read
    of a bit for each entry that enters the loop.
    """
    params, operands, T = op.eqn.params, op.operands, op.eqn.params["length"]
    consts, carried = scan_counts(params)
    jaxpr, after = params["jaxpr"].jaxpr, consts + carried
    moving = [x is None for x in operands]
    moving[consts:after] = moving_carry(op, carried)[1]
    held = [k for k in range(after, len(moving)) if not moving[k] and _is_exact(jaxpr.invars[k])]
    size = sum(prod(v.aval.shape) for v, m in zip(jaxpr.invars[consts:after], moving[consts:after], strict=True) if m)
    if not 2 <= T <= STEPS // max(size, 1) or not _matters(jaxpr, moving, held):
        return None
    numbers = zip(held, wholly_known([operands[k] for k in held]), strict=True)
    known = {k: own for k, own in numbers if own is not None}
    if not _matters(jaxpr, moving, list(known)) or any(e.primitive.name == "custom_lin" for e in jx.every_equation(jaxpr)):
        return None
    types: list[Any] = [v.aval if k < consts else _stacked(v.aval, T) for k, v in enumerate(jaxpr.invars)]
    axes = [None] * consts + [0] * (len(types) - consts)
    every = jax.make_jaxpr(jax.vmap(lambda *xs: jx.evaluated(params["jaxpr"], xs), in_axes=axes))(*types)
    inputs: list[Any] = []
    for k, v in enumerate(every.jaxpr.invars):
        inputs.append(
            None if moving[k] else known[k] if k in known else value_or_type(v, operands[k] if k < consts else None)
        )
    try:
        B = blocks_of(every.jaxpr, every.consts, inputs, edge).tocoo()
    except PatternTooLargeError:
        return None
    layout = _Layout.of(op, moving, consts, carried)
    return _substituted(layout, B.row.astype(np.int64), B.col.astype(np.int64), Places(layout.shape, most))


def _is_exact(v: Any) -> bool:
    return getattr(v.aval.dtype, "kind", "?") in "iub"


def _stacked(aval: Any, T: int) -> Any:
    struct: Any = jax.ShapeDtypeStruct
    return struct((T, *aval.shape), aval.dtype)


def _matters(jaxpr: Any, moving: Sequence[bool], known: Sequence[int]) -> bool:
    """Whether known inputs of a body are indices or masks of what moves, or make such."""
    moves = {v for v, m in zip(jaxpr.invars, moving, strict=True) if m}
    follows = {jaxpr.invars[k] for k in known}
    for eqn in jaxpr.eqns:
        active, given = ([not jx.is_literal(v) and v in those for v in eqn.invars] for those in (moves, follows))
        if any(active) and any(g and _is_exact(v) for v, g in zip(eqn.invars, given, strict=True)):
            return True
        moves.update(v for v, a in zip(eqn.outvars, dependent(eqn, active), strict=True) if a)
        follows.update(v for v, g in zip(eqn.outvars, dependent(eqn, given), strict=True) if g and v not in moves)
    return False


class _Numbers(NamedTuple):
    """Of each row or column of the blocks of all steps, numbers that are −1 where there is none."""

    step: Index  # none of what stays
    carry: Index  # among what is carried
    own: Index  # of the row or column of the loop's matrix; none of what is carried


class _Layout(NamedTuple):
    """Where the rows and the columns of the blocks of all steps belong."""

    shape: tuple[int, int]  # of the loop's matrix
    carry: int  # how many numbers are carried
    rows: _Numbers
    cols: _Numbers
    start: Index  # the column of each number that is carried first, −1 where it is none
    end: Index  # and the row of each that is carried last
    steps: Index  # in order

    @staticmethod
    def of(op: LinearEquation, moving: Sequence[bool], consts: int, carried: int) -> _Layout:
        """Of a loop's equation and which inputs of its body move."""
        invars, outvars, params = op.eqn.invars, op.eqn.outvars, op.eqn.params
        T, after = params["length"], consts + carried
        into = [prod(v.aval.shape) if x is None else 0 for v, x in zip(invars, op.operands, strict=True)]
        out = [prod(v.aval.shape) for v in outvars]
        first, below = run_starts(into), run_starts(out)
        rows: list[tuple[Index, ...]] = []
        cols: list[tuple[Index, ...]] = []
        start, end, count = [], [], 0
        for k, v in enumerate(invars):
            size = prod(v.aval.shape)
            own, nowhere = np.arange(size), np.full(size, -1)
            if consts <= k < after:
                carry = own + count if moving[k] else nowhere
                each = (np.repeat(np.arange(T), size), np.tile(carry, T), np.tile(nowhere, T))
                rows.append(each)
                if moving[k]:
                    cols.append(each)
                    start.append(own + first[k] if into[k] else nowhere)
                    end.append(own + below[k - consts])
                    count += size
            elif moving[k]:
                step = nowhere if k < consts else np.repeat(np.arange(T), size // T)
                cols.append((step, nowhere, own + first[k]))
        for k in range(carried, len(outvars)):
            own = np.arange(out[k])
            rows.append((np.repeat(np.arange(T), out[k] // T), np.full(out[k], -1), own + below[k]))
        of_rows, of_cols = ([np.concatenate([_NOWHERE, *part]) for part in zip(*each, strict=True)] for each in (rows, cols))
        steps = np.arange(T)[::-1] if params["reverse"] else np.arange(T)
        shape = int(below[-1]), int(first[-1])
        starts, ends = (np.concatenate([_NOWHERE, *part]) for part in (start, end))
        return _Layout(shape, count, _Numbers(*of_rows), _Numbers(*of_cols), starts, ends, steps)


def _substituted(layout: _Layout, i: Index, j: Index, places: Places) -> Pattern | None:
    """The places of the loop's matrix, from those of the blocks of all steps."""
    carried_to, carried_from = layout.rows.carry[i] >= 0, layout.cols.carry[j] >= 0
    kept = carried_to | (layout.rows.own[i] >= 0)  # what is carried and does not move is left out
    i, j, carried_to, carried_from = i[kept], j[kept], carried_to[kept], carried_from[kept]
    step, before = layout.rows.step[i], layout.cols.step[j]
    if ((before >= 0) & (before != step)).any():
        return None  # an edge inside of which the steps were not kept apart
    direct = ~carried_to & ~carried_from
    places.add(layout.rows.own[i[direct]], layout.cols.own[j[direct]])
    if not layout.carry:
        return places.pattern()
    entering = carried_to & ~carried_from
    started = np.flatnonzero(layout.start >= 0)
    given_by = np.concatenate([layout.cols.own[j[entering]], layout.start[started]])
    enters, number = np.unique(given_by, return_inverse=True)
    own, leaving = carried_to & carried_from, ~carried_to & carried_from
    T, size = layout.steps.size, layout.carry
    own_row, own_col = layout.rows.carry[i[own]], layout.cols.carry[j[own]]
    place = step[own] * size + own_row
    given = step[entering] * size + layout.rows.carry[i[entering]]
    stays = np.bincount(place, minlength=T * size) == 1
    stays &= np.bincount(place[own_row == own_col], minlength=T * size) == 1
    stays[given] = False
    few = size * enters.size <= 8 * HELD
    if not few:
        stays[:] = False
    changes, changed = np.flatnonzero(~stays), ~stays[place]
    blocks = zip(
        _by_step(T, changes // size, changes % size),
        _by_step(T, step[own][changed], own_row[changed], own_col[changed]),
        _by_step(T, step[entering], layout.rows.carry[i[entering]], number[: given.size]),
        _by_step(T, step[leaving], layout.rows.own[i[leaving]], layout.cols.carry[j[leaving]]),
        strict=True,
    )
    reached: _Bits | _Matrix = (_Bits if few else _Matrix)(size, enters.size)
    reached.replace(np.arange(size), reached.sums(np.arange(size), _NONE, (started, number[given.size :])))
    ordered = list(blocks)
    for t in layout.steps:
        (rows,), own_entries, given_entries, left = ordered[t]
        leaves = np.unique(left[0])
        at, cols = reached.places(reached.sums(leaves, left, _NONE))
        places.add(leaves[at], enters[cols])
        reached.replace(rows, reached.sums(rows, own_entries, given_entries))
    at, cols = reached.places(reached.rows)
    places.add(layout.end[at], enters[cols])
    return places.pattern()


def _by_step(T: int, step: Index, *parts: Index) -> list[tuple[Index, ...]]:
    """Entries, those of each step by their first part."""
    order = np.lexsort((parts[0], step))
    ends = np.searchsorted(step[order], np.arange(T + 1))
    parts = tuple(part[order] for part in parts)
    return [tuple(part[a:b] for part in parts) for a, b in itertools.pairwise(ends)]


# ---- what the carry depends on -------------------------------------------------------------------------------------------
Entries = tuple[Index, ...]  # rows, that ascend, and columns
_NONE = (_NOWHERE, _NOWHERE)


class _Matrix:
    """Which of so many columns each number that is carried depends on, as a sparse matrix."""

    def __init__(self, size: int, columns: int) -> None:
        self.rows = places_matrix(_NOWHERE, _NOWHERE, (size, columns))

    def sums(self, targets: Index, own: Entries, given: Entries) -> csr_array:
        """What rows depend on that are sums of those of ``own``, and of the columns of ``given``."""
        A = places_matrix(np.searchsorted(targets, own[0]), own[1], (targets.size, self.rows.shape[0]))
        G = places_matrix(np.searchsorted(targets, given[0]), given[1], (targets.size, self.rows.shape[1]))
        return (product(A, self.rows) + G).astype(bool)

    def replace(self, targets: Index, block: csr_array) -> None:
        """All rows are replaced."""
        self.rows = block

    @staticmethod
    def places(block: csr_array) -> tuple[Index, Index]:
        """The rows and columns of the places of a block."""
        entries = block.tocoo()
        return entries.row, entries.col


class _Bits:
    """The same with a bit for each column, 64 a number: only the rows that change are touched."""

    def __init__(self, size: int, columns: int) -> None:
        self.rows: Bits = np.zeros((size, -(-columns // 64)), np.uint64)

    def sums(self, targets: Index, own: Entries, given: Entries) -> Bits:
        """What rows depend on that are sums of those of ``own``, and of the columns of ``given``."""
        new: Bits = np.zeros((targets.size, self.rows.shape[1]), np.uint64)
        each = max(GATHERED // (8 * max(new.shape[1], 1)), 1)
        for at in range(0, own[0].size, each):
            rows, cols = (part[at : at + each] for part in own)
            starts = np.flatnonzero(np.diff(rows, prepend=-1))
            new[np.searchsorted(targets, rows[starts])] |= np.bitwise_or.reduceat(self.rows[cols], starts, axis=0)
        rows, cols = given
        np.bitwise_or.at(new, (np.searchsorted(targets, rows), cols // 64), np.uint64(1) << (cols % 64).astype(np.uint64))
        return new

    def replace(self, targets: Index, block: Bits) -> None:
        """Rows become those of a block."""
        self.rows[targets] = block

    @staticmethod
    def places(block: Bits) -> tuple[Index, Index]:
        """The rows and columns of the places of a block."""
        rows, words = np.nonzero(block)
        flags = np.unpackbits(block[rows, words].astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        at, bit = np.nonzero(flags)
        return rows[at], 64 * words[at] + bit
