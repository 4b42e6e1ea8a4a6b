"""Patterns of equations with a program inside: loops, branches, checkpoints and custom rules.

The inside is linearized once, abstractly: nothing is computed, and what comes out is which entries of its outputs depend on
which of its inputs.  A loop is a block bidiagonal matrix, whose blocks are those of its body: the patterns of its powers say
what its last carry and its stacked outputs depend on.  The numbers are had by applying the equation to columns that hold one
entry for each set of columns that no row has in common (see `backsolve.elimination.sparse_edges.OpaqueEdge`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from backsolve.capture.blocks import (
    PatternOf,
    Places,
    blocks_of,
    moving_carry,
    pattern_of,
    placed,
    places_matrix,
    value_or_type,
)
from backsolve.capture.each_step import by_each_step
from backsolve.capture.folding import wholly_known
from backsolve.capture.opaque import LinearEquation
from backsolve.sparse.boolean import BYTES, MOST, foresee, powers, product, require, same
from backsolve.sparse.pattern import Pattern, PatternTooLargeError, from_entries, from_labels, run_starts, transposed
from backsolve.tracing.derivative import dependent, dependent_outputs, pull_cotangents
from backsolve.tracing.jaxpr import record_of
from backsolve.tracing.series import scan_counts, sparse_implementation

__all__ = ["RULES", "equation_pattern", "scanned_pattern"]

Index = np.ndarray[Any, Any]


def equation_pattern(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """The places of a linear equation's matrix, between its moving operands and its outputs, one after the other.

    ``edge`` gives the operators of what is inside.  None where nothing is known, or where there are more than fit into
    `MOST` bytes: such an equation stays opaque, in case only few columns of it are needed.
    Cost: one abstract pass over the inside, and for a loop the powers of its body's pattern, until they repeat themselves.
    """
    forward = op.transpose() if op.transposed else op
    assert isinstance(forward, LinearEquation)
    try:
        pattern = RULES.get(op.eqn.primitive.name, _by_axes)(forward, edge)
    except PatternTooLargeError:
        return None
    return transposed(pattern)[0] if op.transposed and pattern is not None else pattern


# ---- what has a body -----------------------------------------------------------------------------------------------------
def _called(op: LinearEquation, edge: PatternOf) -> Pattern:
    """A body that is evaluated once, such as that of a checkpoint."""
    jaxpr = op.eqn.params["jaxpr"]
    consts = getattr(jaxpr, "consts", ())
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    inputs = [None if x is None else value_or_type(v, x) for v, x in zip(op.eqn.invars, op.operands, strict=True)]
    return pattern_of(blocks_of(jaxpr, consts, inputs, edge))


def _branches(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """The union of the branches, of which one alone counts where the choice is known.

    None where that depends on what moves (in a pullback that is not linear).
    """
    if op.operands[0] is None:
        return None
    branches = op.eqn.params["branches"]
    (choice,) = wholly_known(op.operands[:1])
    if choice is not None:
        branches = [branches[min(max(int(choice), 0), len(branches) - 1)]]
    total: Any = None
    for branch in branches:
        pairs = zip(op.eqn.invars[1:], op.operands[1:], strict=True)
        matrix = blocks_of(branch.jaxpr, branch.consts, [None if x is None else value_or_type(v, x) for v, x in pairs], edge)
        total = matrix if total is None else total + matrix
    return pattern_of(total.astype(bool))


def _pulled(op: LinearEquation, edge: PatternOf) -> Pattern:
    """A function of which only the pullback is known, a linear program of the cotangent."""
    types = [value_or_type(v) for v in op.eqn.outvars]
    closed = jax.make_jaxpr(lambda *cts: pull_cotangents(op.eqn, op.operands, op.params, cts))(*types)
    matrix = blocks_of(closed.jaxpr, closed.consts, [None] * len(types), edge)
    return transposed(pattern_of(matrix))[0]


class _Body:
    """The blocks of a loop's body: how its carry and its outputs depend on constants, carry and slices that move.

    ``constants`` are the values of the first inputs, None for those that move; then come the carry and the slices.
    """

    def __init__(
        self,
        op: LinearEquation,
        closed: Any,
        constants: Sequence[Any],
        sliced: Sequence[bool],
        carried: int,
        edge: PatternOf,
    ) -> None:
        jaxpr, count = closed.jaxpr, len(constants)
        invars = jaxpr.invars
        self.moving = moving_carry(op, carried)[1]
        inputs = [None if x is None else value_or_type(v, x) for v, x in zip(invars, constants, strict=False)]
        inputs += [None if m else value_or_type(v) for v, m in zip(invars[count:], [*self.moving, *sliced], strict=True)]
        B = blocks_of(jaxpr, closed.consts, inputs, edge)
        sizes, out = ([prod(v.aval.shape) for v in variables] for variables in (invars, jaxpr.outvars))
        self.consts = sum(n for n, x in zip(sizes, constants, strict=False) if x is None)
        self.carry = sum(n for n, m in zip(sizes[count:], self.moving, strict=False) if m)
        rows = [np.arange(a, a + n) for a, n, m in zip(run_starts(out), out, self.moving, strict=False) if m]
        self.rows = np.concatenate([np.zeros(0, np.int64), *rows])  # of all that is carried, the entries of what moves
        K, C, after = self.consts, self.consts + self.carry, sum(out[:carried])
        own, given = B[self.rows], B[after:]
        self.A, self.by_consts, self.by_slices = own[:, K:C], own[:, :K], own[:, C:]
        self.out_carry, self.out_consts, self.out_slices = given[:, K:C], given[:, :K], given[:, C:]

    def starting(self, sizes: Sequence[int], active: Sequence[bool]) -> csr_array:
        """How the carry that moves depends on the initial values that do."""
        at, rows = 0, []
        for n, moves, starts in zip(sizes, self.moving, active, strict=True):
            if starts:
                rows.append(np.arange(at, at + n))
            at += n if moves else 0
        every = np.concatenate([np.zeros(0, np.int64), *rows])
        return places_matrix(every, np.arange(every.size), (self.carry, every.size))


def scanned_pattern(op: LinearEquation, edge: PatternOf, most: int = MOST) -> Pattern:
    """The places of a scan's matrix: c' = A c + B x + K k and y = C c + D x + E k at each of T steps.

    Raises `PatternTooLargeError` where they would take more than ``most`` bytes.
    """
    exact = by_each_step(op, edge, most)
    if exact is not None:
        return exact
    params, invars, operands = op.eqn.params, op.eqn.invars, op.operands
    (count, carried), T = scan_counts(params), params["length"]
    active = [x is None for x in operands]
    sizes = [prod(v.aval.shape) for v in invars]
    sliced = active[count + carried :]
    body = _Body(op, params["jaxpr"], operands[:count], sliced, carried, edge)
    start = body.starting(sizes[count : count + carried], active[count : count + carried])
    out = [prod(v.aval.shape) for v in op.eqn.outvars]
    widths = [n for n, a in zip(sizes[count + carried :], sliced, strict=True) if a]
    places = Places((sum(out), sum(n for n, a in zip(sizes, active, strict=True) if a)), most)
    if not T:
        moved = start.tocoo()
        places.add(body.rows[moved.row], moved.col + body.consts)
        return places.pattern()
    row_of, row_step = _stacked(out[carried:], T, sum(out[:carried]))
    col_of, col_step = _stacked(widths, T, body.consts + start.shape[1])
    steps = np.arange(T)[::-1] if params["reverse"] else np.arange(T)

    def stack(A: csr_array, at: Index, cols: Callable[[Any], Index]) -> None:
        """What outputs at some steps depend on."""
        A = A.tocoo()
        if A.nnz:
            places.add(row_of[A.row] + row_step[A.row] * at[:, None], cols(A.col))

    def ended(reached: csr_array, summed: csr_array) -> Pattern:
        """All places, with what the last carry depends on by its start and by what stays."""
        for end, before in ((reached, body.consts), (summed, 0)):
            entries = end.tocoo()
            places.add(body.rows[entries.row], entries.col + before)
        return places.pattern()

    def slices(at: Index) -> Callable[[Any], Index]:
        return lambda col: col_of[col] + col_step[col] * at[:, None]

    stack(body.out_slices, steps, slices(steps))
    stack(body.out_consts, steps, lambda col: col)
    if not body.carry:
        return places.pattern()
    reached, lagged, summed = start, body.by_slices, csr_array((body.carry, body.consts), dtype=bool)
    if not lagged.nnz and not body.out_carry.nnz:  # only the end is asked for
        reached, summed = powers(body.A, reached, None, T), powers(body.A, summed, body.by_consts, T)
        return ended(reached, summed)
    foresee(body.A, reached, T, most)
    steady = False
    from_start, by_lag = body.out_carry @ reached, body.out_carry @ lagged
    for k in range(T):
        rest = np.arange(k, T if steady else k + 1)  # powers that repeat themselves need no product
        last = lagged.tocoo()  # the carry of the end depends on the slice k steps before
        places.add(body.rows[last.row], col_of[last.col] + col_step[last.col] * steps[T - 1 - rest, None])
        if row_of.size:
            stack(from_start, steps[rest], lambda col: col + body.consts)
            stack(body.out_carry @ summed, steps[rest], lambda col: col)
        if row_of.size and by_lag.nnz:
            after = T - 1 - k
            require(by_lag.nnz * (after * (after + 1) // 2 if steady else after), BYTES, "the matrix of a loop", most)
            later, earlier = np.tril_indices(after) if steady else (np.arange(after), np.arange(after))
            stack(by_lag, steps[later + k + 1], slices(steps[earlier]))
        if steady:
            break
        new = product(body.A, reached), product(body.A, lagged), (product(body.A, summed) + body.by_consts).astype(bool)
        new[2].sort_indices()
        steady = all(same(a, b) for a, b in zip(new, (reached, lagged, summed), strict=True))
        reached, lagged, summed = new
        require(reached.nnz + lagged.nnz + summed.nnz, BYTES, "the carry of a loop")
        from_start, by_lag = body.out_carry @ reached, body.out_carry @ lagged
    return ended(reached, summed)


def _stacked(sizes: Sequence[int], T: int, begin: int) -> tuple[Index, Index]:
    """Of arrays with T slices each, one after the other: where each entry of a slice lies, and how far that moves a step."""
    starts, steps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for size in sizes:
        each = size // max(T, 1)
        starts.append(begin + np.arange(each))
        steps.append(np.full(each, each))
        begin += size
    return np.concatenate(starts), np.concatenate(steps)


def _repeated(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """A loop of which nobody knows how often it turns: the union over all numbers of turns.

    None where that depends on what moves.
    """
    params, invars, operands = op.eqn.params, op.eqn.invars, op.operands
    begin = params["cond_nconsts"]
    count = begin + params["body_nconsts"]
    active = [x is None for x in operands]
    moves = dependent(op.eqn, active)
    if any(dependent_outputs(params["cond_jaxpr"].jaxpr, [*active[:begin], *moves])):
        return None
    body = _Body(op, params["body_jaxpr"], operands[begin:count], [], len(operands) - count, edge)
    start = body.starting([prod(v.aval.shape) for v in invars[count:]], active[count:])
    before = sum(prod(v.aval.shape) for v, a in zip(invars[:begin], active, strict=False) if a)
    out = sum(prod(v.aval.shape) for v in op.eqn.outvars)
    places = Places((out, before + body.consts + start.shape[1]))
    once = np.arange(body.carry)
    A = body.A + places_matrix(once, once, body.A.shape)
    for part, at in ((start, before + body.consts), (body.by_consts, before)):
        total = powers(A, part, None, None)
        entries = total.tocoo()
        places.add(body.rows[entries.row], entries.col + at)
    return places.pattern()


def _solved(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """x = A⁻¹ b: the inverse is a polynomial in A, so that it has none but the places between entries that A connects.

    Where that is all, or where A moves, as of an equation of which nothing is known.
    """
    params, operands = op.eqn.params, op.operands
    matvec, lengths = params["jaxprs"].matvec, params["const_lengths"]
    count = sum(lengths)
    moves = [x is None for x in operands]
    if any(moves[:count]) or not all(moves[count:]) or len(moves) - count != len(op.eqn.outvars):  # auxiliary data
        return _by_axes(op, edge)
    constants = list(map(value_or_type, matvec.jaxpr.invars, operands[: lengths.matvec]))
    A = blocks_of(matvec.jaxpr, matvec.consts, [*constants, *operands[count:]], edge)
    parts, part = connected_components(A, directed=False)
    if parts == 1:
        return _by_axes(op, edge)
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part)
    require(int((sizes**2).sum()), BYTES, "the inverse of what is solved", MOST)
    starts = run_starts(sizes)[part[order]]
    width = sizes[part[order]]
    within = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    return from_entries(np.repeat(order, width), order[np.repeat(starts, width) + within], A.shape)[0]


def _substituted(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """x = T⁻¹ b or b T⁻¹ with a triangle T: the paths of its graph, as far as its zeros are known."""
    params, (_, v) = op.eqn.params, op.eqn.invars
    if op.operands[0] is None or op.operands[1] is not None:
        return _by_axes(op, edge)
    (numbers,) = wholly_known(op.operands[:1])
    shape, left = v.aval.shape, params["left_side"]
    (m, n), count = shape[-2:] if left else shape[:-3:-1], prod(shape[:-2])
    if numbers is None:
        require(count * n * (m * (m + 1) // 2), BYTES, "the inverse of a triangle", MOST)
    triangle = np.ones((1, m, m), bool) if numbers is None else np.reshape(numbers != 0, (-1, m, m))
    triangle = (np.tril if params["lower"] else np.triu)(triangle) | np.eye(m, dtype=bool)
    if bool(params["transpose_a"]) == left:
        triangle = triangle.swapaxes(1, 2)
    kinds, kind = np.unique(triangle, axis=0, return_inverse=True)
    solved = [powers(A, A, None, 0 if numbers is None else None) for A in map(csr_array, kinds)]
    kind = np.broadcast_to(kind.reshape(-1), count)
    require(n * int(sum(solved[k].nnz for k in kind.tolist())), BYTES, "the inverse of a triangle", MOST)
    batch, other = np.arange(count), np.arange(n)
    rows: list[Index] = []
    cols: list[Index] = []
    for k, A in enumerate(solved):
        entries = A.tocoo()
        for part, places in ((rows, entries.row), (cols, entries.col)):
            inner = places[:, None] * n + other if left else places[:, None] + other * m
            part.append((batch[kind == k, None, None] * (m * n) + inner).reshape(-1))
    return from_entries(np.concatenate(rows), np.concatenate(cols), (prod(shape), prod(shape)))[0]


def _implemented(op: LinearEquation, edge: PatternOf) -> Pattern:
    """A primitive on sparse matrices of JAX's, which it puts together from others."""
    evaluate = sparse_implementation(op.eqn.primitive.name)
    closed = jax.make_jaxpr(partial(evaluate, **op.params))(*(v.aval for v in op.eqn.invars))
    inputs = [None if x is None else value_or_type(v, x) for v, x in zip(op.eqn.invars, op.operands, strict=True)]
    return pattern_of(blocks_of(closed.jaxpr, closed.consts, inputs, edge))


RULES: dict[str, Callable[[LinearEquation, PatternOf], Pattern | None]] = {
    "scan": scanned_pattern,
    "while": _repeated,
    "cond": _branches,
    "checkpoint": _called,
    "remat2": _called,
    "custom_lin": _pulled,
    "custom_linear_solve": _solved,
    "triangular_solve": _substituted,
    **dict.fromkeys(("bcoo_dot_general", "bcoo_extract", "bcoo_todense", "bcsr_dot_general"), _implemented),
}


# ---- what has none -------------------------------------------------------------------------------------------------------
def _by_axes(op: LinearEquation, edge: PatternOf) -> Pattern | None:
    """By what the primitive's record says, else dense but for the axes that lie side by side; None where none do."""
    pattern = record_of(op.eqn.primitive.name).pattern
    moving = [k for k, x in enumerate(op.operands) if x is None]
    blocks: dict[tuple[int, int], Pattern] = {}
    known = False
    for number, k in enumerate(moving):
        for output, w in enumerate(op.eqn.outvars):
            own = None if pattern is None or len(op.eqn.outvars) > 1 else pattern(op.eqn, k)
            pairs = op.aligned(number, output)
            known = known or own is not None or bool(pairs)
            blocks[output, number] = _side_by_side(w.aval.shape, op.eqn.invars[k].aval.shape, pairs) if own is None else own
    if not known:
        return None
    into = [prod(op.eqn.invars[k].aval.shape) for k in moving]
    return pattern_of(placed(blocks, [prod(w.aval.shape) for w in op.eqn.outvars], into))


def _side_by_side(out: tuple[int, ...], into: tuple[int, ...], pairs: frozenset[tuple[int, int]]) -> Pattern:
    labels = list(range(len(out)))
    sizes = dict(enumerate(out))
    along: list[int] = []
    for a, n in enumerate(into):
        shared = next((b for b, axis in sorted(pairs) if axis == a and b not in along), None)
        label = len(out) + a if shared is None else shared
        sizes[label] = n
        along.append(label)
    return from_labels(tuple(labels), tuple(along), sizes, limit=MOST)[0]
