"""Boolean matrices: which entries a linear loop reaches, by products of patterns, sparse ones while they have few places."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from backsolve.algebra.spaces import require_memory
from backsolve.sparse.pattern import run_starts

__all__ = ["BYTES", "MOST", "foresee", "powers", "product", "require", "same"]

Index = np.ndarray[Any, Any]
Bits = np.ndarray[Any, np.dtype[np.uint64]]
MOST = 2**31  # bytes of a pattern that is formed before anybody knows which of its columns are needed
BYTES = 48  # of each of its places while it is formed
SAMPLE, MANY = 32, 32  # columns that tell how many entries all have, where they are so many times as many
FILLED = 256  # a product of two places takes as long as that of so many bits


def require(places: int, bytes_each: int, what: str, most: int = MOST) -> None:
    """Raise `PatternTooLargeError` where so many places take more than ``most`` bytes, or than there are."""
    require_memory(places, bytes_each, what, most)
    require_memory(places, bytes_each, what)


def same(A: csr_array, B: csr_array) -> bool:
    """Whether two matrices with sorted columns have the same places."""
    return A.nnz == B.nnz and np.array_equal(A.indptr, B.indptr) and np.array_equal(A.indices, B.indices)


def product(A: csr_array, B: csr_array) -> csr_array:
    """The boolean product, its columns sorted.  Raises `PatternTooLargeError` where it may not fit."""
    require(min(_meetings(A, B), A.shape[0] * B.shape[1]), 10, f"the product of patterns with {A.nnz} and {B.nnz} places")
    AB = A @ B
    AB.sort_indices()
    return AB


def powers(A: csr_array, B: csr_array, K: csr_array | None, turns: int | None) -> csr_array:
    """The places of x after so many turns of  x ← A x + K  from x = B; without K none are added.

    With ``turns`` None until nothing changes, which has to come to pass (where A has a diagonal, say).
    Raises `PatternTooLargeError` where they are too many.
    Cost: a sparse product a turn while they are few, then nnz(A) · columns / 8 bytes read a turn.
    """
    count = itertools.count() if turns is None else iter(range(turns))
    foresee(A, B, turns)
    for _ in count:
        held = (A.nnz + 3 * B.shape[0]) * B.shape[1] // 8  # by a turn in bits
        if FILLED * _meetings(A, B) > A.nnz * B.shape[1] and held < MOST:
            require(held, 1, "the carry of a loop, in bits,")
            return _from_bits(_in_bits(A, _to_bits(B), None if K is None else _to_bits(K), itertools.chain((0,), count)), B)
        new = product(A, B) if K is None else (product(A, B) + K).astype(bool)
        new.sort_indices()
        require(new.nnz, BYTES, "the carry of a loop")
        if same(new, B):
            break
        B = new
    return B


def foresee(A: csr_array, B: csr_array, turns: int | None, most: int = MOST) -> None:
    """Raise `PatternTooLargeError` where some of B's columns, taken through all turns, say that all are twice too many."""
    sample = B[:, :: max(B.shape[1] // SAMPLE, 1)]
    share = B.shape[1] / max(sample.shape[1], 1)
    for _ in itertools.count() if turns is None else range(turns):
        if share < MANY:
            return
        new = A @ sample
        new.sort_indices()
        if same(new, sample):
            return
        sample = new
        if (foreseen := int(share * sample.nnz)) * BYTES > 2 * most:
            require(foreseen, BYTES, "the carry of a loop, foreseen from some of its columns,", most)


def _meetings(A: csr_array, B: csr_array) -> int:
    return int(np.diff(B.indptr)[A.indices].sum())


# ---- in bits -----------------------------------------------------------------------------------------------------------
def _in_bits(A: csr_array, B: Bits, K: Bits | None, turns: Any) -> Bits:
    """As `powers`: each row of a product is the bitwise or of some rows."""
    filled = np.flatnonzero(np.diff(A.indptr))
    starts = A.indptr[filled]
    for _ in turns:
        new = np.zeros_like(B)
        if filled.size:
            new[filled] = np.bitwise_or.reduceat(B[A.indices], starts, axis=0)
        if K is not None:
            new |= K
        if np.array_equal(new, B):
            break
        B = new
    return B


def _to_bits(A: csr_array) -> Bits:
    """The rows, eight places a byte, 64 a number."""
    bits = np.zeros((A.shape[0], 8 * -(-A.shape[1] // 64)), np.uint8)
    rows = np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))
    np.bitwise_or.at(bits, (rows, A.indices // 8), np.uint8(128) >> (A.indices % 8).astype(np.uint8))
    return bits.view(np.uint64)


def _from_bits(bits: Bits, like: csr_array) -> csr_array:
    """The matrix of a shape that these rows are."""
    counts = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    require(int(counts.sum()), BYTES, "the carry of a loop")
    columns = [np.flatnonzero(np.unpackbits(row)) for row in bits.view(np.uint8)]
    indices = np.concatenate([np.zeros(0, np.int64), *columns])
    indptr = run_starts(counts)
    return csr_array((np.ones(indices.size, bool), indices, indptr), shape=like.shape)
