"""Patterns of loops whose steps differ: the indices and masks that a loop counts, or is given, are known for each step.

With c the carry, x what is sliced, k what stays, step t of a loop is c' = A_t c + B_t x + K_t k, y = C_t c + D_t x + E_t k.
The body is linearized once, all steps side by side, which gives the blocks of each.  Which entries of what enters the
loop the carry depends on is then found by forward substitution, one step after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
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
from backsolve.tracing.series import scan_counts, struct

__all__ = ["by_each_step"]

Index = np.ndarray[Any, Any]

HELD = 1 << 25  # bytes of what the carry depends on, as integers; beyond, a sparse matrix
STEPS = 1 << 22  # numbers that are carried at all steps together

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
    held = [k for k in range(after, len(moving)) if not moving[k]]
    size = sum(prod(v.aval.shape) for v, m in zip(jaxpr.invars[consts:after], moving[consts:after], strict=True) if m)
    if not 2 <= T <= STEPS // max(size, 1) or not _matters(jaxpr, moving, held):
        return None
    numbers = zip(held, wholly_known([operands[k] for k in held]), strict=True)
    known = {k: own for k, own in numbers if own is not None and _tells(own)}
    if not _matters(jaxpr, moving, list(known)) or any(e.primitive.name == "custom_lin" for e in jx.every_equation(jaxpr)):
        return None
    types: list[Any] = [v.aval if k < consts else struct(v.aval, (T, *v.aval.shape)) for k, v in enumerate(jaxpr.invars)]
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


def _kind(x: Any) -> str:
    return getattr(getattr(x, "dtype", None), "kind", "?")


def _tells(numbers: Index) -> bool:
    """Whether they may be indices or masks, or factors of which many are zero."""
    return numbers.dtype.kind in "iub" or 2 * int(np.count_nonzero(numbers)) <= numbers.size


def _matters(jaxpr: Any, moving: Sequence[bool], known: Sequence[int]) -> bool:
    """Whether known inputs of a body, or what follows from them, are indices, masks or factors of what moves."""
    moves = {v for v, m in zip(jaxpr.invars, moving, strict=True) if m}
    tell = {jaxpr.invars[k] for k in known}
    for eqn in jaxpr.eqns:
        active, given = ([not jx.is_literal(v) and v in those for v in eqn.invars] for those in (moves, tell))
        if any(active) and any(given):
            return True
        moves.update(v for v, a in zip(eqn.outvars, dependent(eqn, active), strict=True) if a)
        numbers = not any(g and _kind(v.aval) in "bfc" for v, g in zip(eqn.invars, given, strict=True))  # counted ones
        follows = zip(eqn.outvars, dependent(eqn, given), strict=True)
        tell.update(v for v, g in follows if g and v not in moves and (_kind(v.aval) in "iub" or not numbers))
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
    moves = carried_to | (layout.rows.own[i] >= 0)  # what is carried and does not move is left out
    i, j, carried_to, carried_from = i[moves], j[moves], carried_to[moves], carried_from[moves]
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
    blocks = _Carried(
        (step[own], layout.rows.carry[i[own]], layout.cols.carry[j[own]]),
        (step[entering], layout.rows.carry[i[entering]], number[: number.size - started.size]),
        (step[leaving], layout.rows.own[i[leaving]], layout.cols.carry[j[leaving]]),
        (started, number[number.size - started.size :]),
        (layout.carry, enters.size),
    )
    few = layout.carry * enters.size <= 8 * HELD
    for rows, columns in (_by_integers if few else _by_products)(blocks, layout.steps, layout.end):
        places.add(rows, enters[columns])
    return places.pattern()


# ---- what the carry depends on -------------------------------------------------------------------------------------------
class _Carried(NamedTuple):
    """The blocks of all steps that the carry has to do with: steps, rows and columns of their places."""

    own: tuple[Index, Index, Index]
    entering: tuple[Index, Index, Index]  # from the columns that enter
    leaving: tuple[Index, Index, Index]  # to rows of the loop's matrix
    start: tuple[Index, Index]  # rows of the carry, and columns that enter there before all steps
    shape: tuple[int, int]  # how many numbers are carried, and how many columns enter


def _by_integers(blocks: _Carried, steps: Index, end: Index) -> Iterator[tuple[Index, Index]]:
    """Rows of the loop's matrix and the columns they depend on, by forward substitution.

    Each number that is carried has an integer, with a bit for each column it depends on.  What a step leaves as it is costs
    nothing.
    """
    size, columns = blocks.shape
    T = steps.size
    step, row, col = blocks.own
    at, entered = step * size + row, blocks.entering[0] * size + blocks.entering[1]
    alone = np.bincount(at, minlength=T * size) == 1
    alone &= np.bincount(at[row == col], minlength=T * size) == 1
    alone[entered] = False
    changes = np.flatnonzero(~alone)
    changed, after = (changes % size).tolist(), np.searchsorted(changes, size * np.arange(T + 1)).tolist()
    own, given = _grouped(at, col, changes), _grouped(entered, blocks.entering[2], changes)
    step, row, col = blocks.leaving
    width = int(row.max(initial=0)) + 1
    leaves = np.unique(step * width + row)
    left, gone = _grouped(step * width + row, col, leaves), np.searchsorted(leaves, width * np.arange(T + 1)).tolist()
    reached = [0] * size
    for r, bit in zip(*(part.tolist() for part in blocks.start), strict=True):
        reached[r] |= 1 << bit
    out: list[int] = []
    order: list[int] = []
    for t in steps.tolist():
        for k in range(gone[t], gone[t + 1]):
            out.append(_joined(reached, left(k)))
            order.append(k)
        new = []
        for k in range(after[t], after[t + 1]):
            bits = _joined(reached, own(k))
            for bit in given(k):
                bits |= 1 << bit
            new.append(bits)
        for r, bits in zip(changed[after[t] : after[t + 1]], new, strict=True):
            reached[r] = bits
    yield from _bits(out, leaves[order] % width, columns)
    yield from _bits(reached, end, columns)


def _joined(reached: Sequence[int], rows: Sequence[int]) -> int:
    bits = 0
    for r in rows:
        bits |= reached[r]
    return bits


def _grouped(keys: Index, values: Index, wanted: Index) -> Callable[[int], list[int]]:
    """The values of the key that has a number among those that are wanted, which ascend."""
    order = np.argsort(keys, kind="stable")
    ends = np.searchsorted(keys[order], wanted), np.searchsorted(keys[order], wanted, side="right")
    begins, finishes = (end.tolist() for end in ends)
    ordered = values[order].tolist()
    return lambda k: ordered[begins[k] : finishes[k]]


def _bits(numbers: Sequence[int], rows: Index, columns: int) -> Iterator[tuple[Index, Index]]:
    """The rows and the columns that bits of integers mean, one integer a row, some at a time."""
    words = -(-columns // 64)
    each = max(HELD // (8 * max(words, 1)), 1)
    for at in range(0, len(numbers), each):
        some = b"".join(n.to_bytes(8 * words, "little") for n in numbers[at : at + each])
        flat = np.frombuffer(some, "<u8")
        there = np.flatnonzero(flat)
        flags = np.unpackbits(flat[there].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        word, bit = np.nonzero(flags)
        yield rows[at + there[word] // words], 64 * (there[word] % words) + bit


def _by_products(blocks: _Carried, steps: Index, end: Index) -> Iterator[tuple[Index, Index]]:
    """The same, where the integers would be too long, by sparse products."""
    size, columns = blocks.shape
    own = _by_step(steps.size, blocks.own, (size, size))
    entering = _by_step(steps.size, blocks.entering, (size, columns))
    leaving = _by_step(steps.size, blocks.leaving, (int(blocks.leaving[1].max(initial=0)) + 1, size))
    rows, cols = blocks.start
    reached = places_matrix(rows, cols, (size, columns))
    for t in steps.tolist():
        left = product(leaving[t], reached).tocoo()
        yield left.row, left.col
        reached = (product(own[t], reached) + entering[t]).astype(bool)
        reached.sort_indices()
    left = reached.tocoo()
    yield end[left.row], left.col


def _by_step(T: int, entries: tuple[Index, Index, Index], shape: tuple[int, int]) -> list[csr_array]:
    """The matrix of each step."""
    order = np.argsort(entries[0], kind="stable")
    step, rows, cols = (part[order] for part in entries)
    ends = np.searchsorted(step, np.arange(T + 1))
    return [places_matrix(rows[a:b], cols[a:b], shape) for a, b in itertools.pairwise(ends)]
