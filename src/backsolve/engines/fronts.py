"""Sparse block matrices factored by multifrontal QR, in the array library of their numbers.

A = Q R with Q unitary: no pivots are searched for while numbers flow, so every shape and every index is static, and yet
the factorisation is backward stable.  What is factored, moved and multiplied together is worked out once (`FrontPlan`);
fronts of one shape that do not depend on each other are one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from backsolve.algebra.arrays import (
    add,
    concat,
    conjugate,
    contract,
    namespace,
    pad,
    reshape,
    solve_triangular,
    subtract,
    take,
)
from backsolve.engines.base import SingularError
from backsolve.engines.block_order import Pattern, fronts_of, qr_flops
from backsolve.engines.front_layout import CONSTANTS, Batch, Block, IntArray, Layout, check_places, check_rank
from backsolve.sparse.materialize import common_dtype, concatenate, same_library
from backsolve.sparse.materialize import take as gather

__all__ = ["Block", "FrontFactors", "FrontPlan", "cut", "product"]


class FrontPlan:
    """The factorisation of a sparse block matrix without its numbers: for all matrices of one pattern.

    Block row i has ``row_sizes[i]`` rows, block column j has ``col_sizes[j]`` columns; ``blocks[i, j]`` says where block
    (i, j) has entries, an absent block is zero.  ``order`` is the order of elimination of the block columns, by default
    one that keeps the fill small.  ``flops`` estimates the operations of `factor`; ``nbytes`` is the size of the factors
    in numbers of 8 bytes.

    Raises SingularError, naming a block column by ``label``, where no numbers at these places make a regular matrix, and
    ValueError where the matrix is not square, a place lies outside its block, or ``order`` is not one.
    Cost: about a second for 5,000 block columns.
    Source: George and Heath, *Solution of sparse linear least squares problems using Givens rotations* (1980);
    Davis, *Direct Methods for Sparse Linear Systems* (2006), chapter 5.
    """

    def __init__(
        self,
        row_sizes: Sequence[int],
        col_sizes: Sequence[int],
        blocks: Mapping[tuple[int, int], Block],
        order: Sequence[int] | None = None,
        label: Callable[[int], str] = "block column {}".format,
    ) -> None:
        check_places(row_sizes, col_sizes, blocks, order)
        check_rank(row_sizes, col_sizes, blocks, label)
        self.label = label
        # Empty block columns and rows are left out.
        self.cols = [j for j, n in enumerate(col_sizes) if n]
        rows = [i for i, m in enumerate(row_sizes) if m]
        row_number, col_number = ({k: number for number, k in enumerate(numbered)} for numbered in (rows, self.cols))
        filled = {(row_number[i], col_number[j]): (i, j) for (i, j) in sorted(blocks) if blocks[i, j].rows.size}
        of_row: list[list[int]] = [[] for _ in rows]
        for i, j in filled:
            of_row[i].append(j)
        pattern, fronts = fronts_of(
            Pattern(
                tuple(int(row_sizes[i]) for i in rows),
                tuple(int(col_sizes[j]) for j in self.cols),
                tuple(map(tuple, of_row)),
            ),
            None if order is None else [col_number[j] for j in order if j in col_number],
        )
        self.n = int(sum(row_sizes))
        self.fronts = fronts
        self.col_sizes = pattern.col_sizes
        self.flops = float(sum(qr_flops(*front.shape) for front in fronts))
        self.nbytes = 8 * sum(r * r + n * c for r, n, c in (front.shape for front in fronts))
        row_starts, col_starts = (np.cumsum([0, *sizes])[:-1] for sizes in (row_sizes, col_sizes))
        layout = Layout(
            pattern,
            fronts,
            {place: blocks[original] for place, original in filled.items()},
            row_starts[rows],
            col_starts[self.cols],
            self.n,
        )
        self.batches = layout.batches
        self.entry_order = [filled[place] for place in layout.entry_order]
        # b in the order of the batches, n where a link of a stretched row has none; where the unknowns are found.
        self.row_order, self.col_order = layout.row_order, layout.col_order
        self.x_order, self.y_order = layout.x_order, layout.y_order
        self.sign = cache(layout.sign)

    def factor(self, data: Mapping[tuple[int, int], Any]) -> FrontFactors:
        """The factors of the matrix with these entries: of each block a vector, in the order of its places.

        Cost: ``flops`` operations, mostly matrix products; a dozen array operations for each batch of fronts.
        """
        return self.factor_flat(concatenate(common_dtype([data[place] for place in self.entry_order], None)))

    def factor_flat(self, flat: Any) -> FrontFactors:
        """As `factor`, of all blocks' entries as one vector, the blocks in the order ``entry_order``."""
        xp = namespace(flat)
        constants = same_library(CONSTANTS, flat)
        rests: list[Any] = []
        arrays: list[Any] = []
        for batch in self.batches:
            count, (r, n, c) = len(batch.fronts), batch.shape
            own = take(flat, batch.entries[:1], batch.entries[1:])
            F = reshape(batch.assembly([constants, own], rests), (count, r, c))
            Q, R = xp.linalg.qr(cut(F, 2, 0, n), mode="complete" if r > n else "reduced")
            R = cut(R, 1, 0, n)
            self._check_pivots(R, batch)
            arrays += [Q, R]
            rest: Any = None
            if c > n:
                T = product(conjugate(Q), (0, 2, 1), cut(F, 2, n, c))
                arrays.append(cut(T, 1, 0, n))
                rest = reshape(cut(T, 1, n, r), (count * (r - n) * (c - n),)) if r > n else None
            rests.append(rest)
        return FrontFactors(self, arrays)

    def _check_pivots(self, R: Any, batch: Batch) -> None:
        if type(R) is not np.ndarray:  # where numbers are known only when the program runs, they become infinite
            return
        zero = np.argwhere(np.diagonal(R, axis1=1, axis2=2) == 0)
        if zero.size:
            pivots = self.fronts[batch.fronts[zero[0, 0]]].pivots
            ends = np.cumsum([self.col_sizes[j] for j in pivots])
            j = pivots[int(np.searchsorted(ends, zero[0, 1], side="right"))]
            name = self.label(self.cols[j]) if j < len(self.cols) else "a long block row"
            raise SingularError(f"the matrix is singular: a pivot of {name} is 0.")


class FrontFactors:
    """A factored matrix: of each batch of fronts Q, the triangle R of its pivots and, where it has a rest, R's rest U."""

    def __init__(self, plan: FrontPlan, arrays: Sequence[Any]) -> None:
        self.plan = plan
        self.arrays = list(arrays)

    def solve(self, b: Any) -> Any:
        """The x with A x = b, b of shape (n,) or (n, k): y = Qᴴ b from leaves to roots, x = R⁻¹ (y − U x_rest) back.

        Cost: two operations for each number of the factors and each right-hand side.
        """
        b, factors, finish = self._started(b, self.plan.row_order)
        batches, k = self.plan.batches, b.shape[1]
        tops: list[Any] = []
        rests: list[Any] = []
        for batch, (Q, _, _) in zip(batches, factors, strict=True):
            count, (r, n, _) = len(batch.fronts), batch.shape
            own = reshape(batch.down([cut(b, 0, *batch.rows)], rests), (count, r, k))
            y = product(conjugate(Q), (0, 2, 1), own)
            tops.append(cut(y, 1, 0, n))
            rests.append(reshape(cut(y, 1, n, r), (count * (r - n), k)) if r > n else None)
        known: list[Any] = [None] * len(batches)
        parts: list[Any] = [None] * len(batches)
        for g in reversed(range(len(batches))):
            batch, (_, R, U), y = batches[g], factors[g], tops[g]
            count, (_, n, c) = len(batch.fronts), batch.shape
            if batch.back is None:
                x = whole = solve_triangular(R, y)
            else:
                rest = reshape(batch.back([], known), (count, c - n, k))
                x = solve_triangular(R, subtract(y, product(U, (0, 1, 2), rest)))
                whole = concat([x, rest], 1)
            parts[g] = reshape(x, (count * n, k))
            known[g] = reshape(whole, (count * c, k))
        return finish(parts, self.plan.x_order)

    def solve_transpose(self, b: Any) -> Any:
        """The x with Aᵀ x = b (no conjugate): z = R⁻ᵀ (b − Uᵀ z …) from leaves to roots, x = conj(Q) z back.

        Cost: two operations for each number of the factors and each right-hand side.
        """
        b, factors, finish = self._started(b, self.plan.col_order)
        batches, k = self.plan.batches, b.shape[1]
        tops: list[Any] = []
        updates: list[Any] = []
        for batch, (_, R, U) in zip(batches, factors, strict=True):
            count, (_, n, c) = len(batch.fronts), batch.shape
            z, rest = reshape(cut(b, 0, *batch.pivots), (count, n, k)), None
            if batch.updates is not None:
                update = reshape(batch.updates([], updates), (count, c, k))
                z, rest = subtract(z, cut(update, 1, 0, n)), cut(update, 1, n, c)
            z = solve_triangular(R, z, transposed=True)
            tops.append(z)
            if c > n:
                own = product(U, (0, 2, 1), z)
                rest = reshape(own if rest is None else add(own, rest), (count * (c - n), k))
            updates.append(rest)
        parts: list[Any] = [None] * len(batches)
        for g in reversed(range(len(batches))):
            batch, (Q, _, _), z = batches[g], factors[g], tops[g]
            count, (r, n, _) = len(batch.fronts), batch.shape
            if batch.up is not None:
                z = concat([z, reshape(batch.up([], parts), (count, r - n, k))], 1)
            parts[g] = reshape(product(conjugate(Q), (0, 1, 2), z), (count * r, k))
        return finish(parts, self.plan.y_order)

    def slogdet(self) -> tuple[Any, Any]:
        """The sign (of complex numbers, the phase) of the determinant, and the logarithm of its size."""
        sign: Any = self.plan.sign()
        size: Any = 0.0
        arrays = iter(self.arrays)
        for batch in self.plan.batches:
            _, n, c = batch.shape
            for factor in (next(arrays), next(arrays)):
                signs, sizes = namespace(factor).linalg.slogdet(factor)
                sign, size = sign * namespace(signs).prod(signs), size + namespace(sizes).sum(sizes)
            if c > n:
                next(arrays)
        return sign, size

    def _started(
        self, b: Any, order: IntArray
    ) -> tuple[Any, list[tuple[Any, Any, Any]], Callable[[list[Any], IntArray], Any]]:
        """b as a matrix in the order of the batches, the factors of each, and how the unknowns come into their order."""
        shape = tuple(b.shape)
        if len(shape) not in (1, 2) or shape[0] != self.plan.n:
            n = self.plan.n
            raise ValueError(f"a right-hand side of an {n} × {n} matrix has shape ({n},) or ({n}, k), not {shape}.")
        b, *arrays = common_dtype([b, *self.arrays], None)
        b = reshape(b, (shape[0], 1 if len(shape) == 1 else shape[1]))
        if len(order) > shape[0]:  # links of stretched rows have 0 on the right
            b = pad(b, (0, 0), (1, 0))
        factors, each = [], iter(arrays)
        for batch in self.plan.batches:
            _, n, c = batch.shape
            factors.append((next(each), next(each), next(each) if c > n else None))

        def finish(parts: list[Any], places: IntArray) -> Any:
            return reshape(gather(concatenate(parts), places), shape)

        return gather(b, order), factors, finish


def cut(x: Any, axis: int, start: int, stop: int) -> Any:
    """Start … stop of one axis."""
    if (start, stop) == (0, x.shape[axis]):
        return x
    starts, stops = [0] * len(x.shape), list(x.shape)
    starts[axis], stops[axis] = start, stop
    return take(x, tuple(starts), tuple(stops))


def product(A: Any, labels: tuple[int, int, int], x: Any) -> Any:
    """A stack of matrix products; labels (0, 1, 2) are A x, (0, 2, 1) are Aᵀ x."""
    return contract(A, labels, x, (0, 2, 3), (0, 1, 3))[0]
