"""Where a sparse matrix may be non-zero: patterns, their products, sums and transposes, and who contributes to what.

Everything here is NumPy on whole index arrays, done once while planning.  A plan says which entries meet in which entry of
the result, so that what runs later touches values only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from backsolve.algebra.arrays import Labels
from backsolve.algebra.spaces import PatternTooLargeError, SpaceError, require_memory

__all__ = [
    "Groups",
    "Pattern",
    "PatternTooLargeError",
    "ProductPlan",
    "UnionPlan",
    "apart",
    "dense",
    "diagonal",
    "from_entries",
    "from_labels",
    "intersection",
    "product",
    "require_memory",
    "rows_chosen",
    "run_starts",
    "selected",
    "transposed",
    "union",
    "with_filled",
]

Index = np.ndarray[Any, Any]
T = TypeVar("T")


def run_starts(lengths: Sequence[int] | Index) -> Index:
    """Where runs of these lengths begin, one after the other, and where the last one ends.

    Example:
        >>> run_starts([2, 0, 3])
        array([0, 2, 2, 5])
    """
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=starts[1:])
    return starts


PLANS = 8  # with other patterns that a pattern remembers; those of a formula that is worked out again and again
_TRIES = 4  # numbers of columns in turn that are tried
_BYTES = 40  # an entry at the height of planning: its key, the sort's order, two indices and a place in the result


class Pattern:
    """The places of a ``shape[0]`` × ``shape[1]`` matrix that may be non-zero: row-major sorted, each once.

    Immutable.  ``rows`` and ``cols`` are integer arrays; what is worked out of it is kept in a memo of its own, and the last
    few plans with other patterns.  ``filled`` are the places (None: none) that were only added so that rows are as long as
    each other: a zero there is no number of the matrix, and what it is multiplied with does not matter.
    Make one with `from_entries`, which sorts and checks.
    """

    __slots__ = ("_memo", "_plans", "cols", "filled", "rows", "shape")

    def __init__(self, rows: Index, cols: Index, shape: tuple[int, int], filled: Index | None = None) -> None:
        """Wrap places that are known to be sorted, unique and inside the shape; `from_entries` sees to it."""
        dtype = np.int32 if max(*shape, rows.size) < 2**31 else np.int64
        self.rows, self.cols = (_frozen(places.astype(dtype, copy=False)) for places in (rows, cols))
        self.shape = shape
        self.filled = filled
        self._memo: dict[str, Any] = {}
        self._plans: tuple[tuple[str, Any, Any], ...] = ()  # never changed, only replaced: threads may share a pattern

    @property
    def nnz(self) -> int:
        """Number of places."""
        return int(self.rows.size)

    @property
    def keys(self) -> Index:
        """``row · columns + column`` of each place: increasing."""
        return self.remember("keys", lambda: self.rows * np.int64(self.shape[1]) + self.cols)

    @property
    def starts(self) -> Index:
        """Where each row begins, and at last the number of places: the row pointer of CSR."""
        return self.remember("starts", lambda: run_starts(np.bincount(self.rows, minlength=self.shape[0])))

    @property
    def compressed(self) -> tuple[Index, Index]:
        """`starts` and the columns in one dtype, of 32 bits where they fit: the index arrays of SciPy's CSR."""
        return self.remember("compressed", lambda: (_frozen(self.starts.astype(self.cols.dtype)), self.cols))

    @property
    def row_counts(self) -> Index:
        """Number of places in each row."""
        return np.diff(self.starts)

    @property
    def col_counts(self) -> Index:
        """Number of places in each column."""
        return self.remember("column counts", lambda: np.bincount(self.cols, minlength=self.shape[1]))

    @property
    def row_load(self) -> float | Index:
        """`row_counts`, one number where they are all the same."""
        return self.remember("row load", lambda: _number_if_uniform(self.row_counts))

    @property
    def col_load(self) -> float | Index:
        """`col_counts`, one number where they are all the same."""
        return self.remember("column load", lambda: _number_if_uniform(self.col_counts))

    @property
    def full_rows(self) -> bool:
        """Whether every row has exactly one place."""
        m = self.shape[0]
        return self.remember("full", lambda: self.nnz == m and bool(np.array_equal(self.rows, np.arange(m))))

    @property
    def is_diagonal(self) -> bool:
        """Whether these are the places of a square diagonal, all of them."""
        m, n = self.shape
        return m == n and self.full_rows and self.remember("diagonal", lambda: bool(np.array_equal(self.rows, self.cols)))

    def remember(self, key: str, make: Callable[[], T]) -> T:
        """What ``make`` returned the first time this key was asked for."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]  # type: ignore[no-any-return]

    def remember_with(self, kind: str, other: Any, make: Callable[[], T]) -> T:
        """What ``make`` returned for this other pattern itself, or an equal key, if that is among the last few asked for."""
        for known, its, plan in self._plans:
            if known == kind and (its is other or (not isinstance(its, Pattern) and its == other)):
                return plan  # type: ignore[no-any-return]
        result = make()
        self._plans = ((kind, other, result), *self._plans)[:PLANS]
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the memo, whose keys are objects of this process."""
        return Pattern, (self.rows, self.cols, self.shape, self.filled)

    def __deepcopy__(self, memo: Any) -> Pattern:
        return self

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Pattern) or self.shape != other.shape or self.nnz != other.nnz:
            return False
        if self.filled is None or other.filled is None:
            if self.filled is not other.filled:
                return False
        elif not np.array_equal(self.filled, other.filled):
            return False
        return bool(np.array_equal(self.rows, other.rows) and np.array_equal(self.cols, other.cols))

    def __hash__(self) -> int:
        return hash((self.shape, self.nnz))

    def __repr__(self) -> str:
        return f"Pattern({self.shape[0]} × {self.shape[1]}, {self.nnz} places)"


class Groups(NamedTuple):
    """How given entries become the entries of a pattern.

    The sorted entries are ``entries[order]`` (order None: as they are); group k, ``starts[k] … starts[k+1]−1`` of these,
    shares place k (starts None: one each).
    """

    order: Index | None
    starts: Index | None


class ProductPlan(NamedTuple):
    """The pattern of a product and its scalar products: ``left[t]`` of a times ``right[t]`` of b, grouped by place.

    ``starts`` as in `Groups`: products ``starts[k] … starts[k+1]−1`` add up to place k (None: one product a place).
    """

    pattern: Pattern
    left: Index
    right: Index
    starts: Index | None

    def restricted(self, mask: Index) -> ProductPlan:
        """The plan of the places that the mask keeps."""
        if mask.all():
            return self
        pattern = Pattern(self.pattern.rows[mask], self.pattern.cols[mask], self.pattern.shape)
        if self.starts is None:
            return ProductPlan(pattern, self.left[mask], self.right[mask], None)
        counts = np.diff(self.starts)
        terms = np.repeat(mask, counts)
        return ProductPlan(pattern, self.left[terms], self.right[terms], run_starts(counts[mask]))


class UnionPlan(NamedTuple):
    """The pattern of a sum, and at which of its places the entries of each summand lie (None: they are its places)."""

    pattern: Pattern
    left: Index | None
    right: Index | None


# ---- making ---------------------------------------------------------------------------------------------------------
def from_entries(rows: Any, cols: Any, shape: tuple[int, int]) -> tuple[Pattern, Groups]:
    """Return the pattern of these places, given in any order and repeated at will, and how they are grouped in it.

    Raises `SpaceError` where rows and cols differ in length or a place lies outside the shape.  Cost: one sort, and none
    where they are sorted.

    Example:
        >>> pattern, groups = from_entries([1, 0, 1], [0, 2, 0], (2, 3))
        >>> pattern.rows.tolist(), pattern.cols.tolist(), groups.order.tolist(), groups.starts.tolist()
        ([0, 1], [2, 0], [1, 0, 2], [0, 1, 3])
    """
    rows, cols = np.asarray(rows), np.asarray(cols)
    for word, places, size in (("row", rows, shape[0]), ("column", cols, shape[1])):
        if places.ndim != 1 or (places.size and places.dtype.kind not in "iu"):
            raise SpaceError(
                f"the {word}s of a sparse matrix are one list of integers, got {places.dtype} of shape {places.shape}."
            )
        if places.size and not (places.min() >= 0 and places.max() < size):
            worst = places[(places < 0) | (places >= size)][0]
            raise SpaceError(f"{word} {worst} lies outside a sparse matrix of shape {shape}; {word}s count from 0.")
    if rows.size != cols.size:
        raise SpaceError(f"{rows.size} rows against {cols.size} columns: a sparse matrix needs one of each for every entry.")
    require_memory(rows.size, _BYTES, f"a pattern of {rows.size} places, in order")
    return _grouped(rows.astype(np.int64) * _width(shape) + cols, shape)


def diagonal(n: int) -> Pattern:
    """The pattern of the n × n identity."""
    places = np.arange(n)
    return Pattern(places, places, (n, n))


def dense(m: int, n: int, limit: int | None = None) -> Pattern:
    """The pattern of a full m × n matrix.  Raises `PatternTooLargeError` where it would not fit into memory."""
    require_memory(m * n, 16, f"a dense block of {m} × {n}", limit)
    return Pattern(np.repeat(np.arange(m), n), np.tile(np.arange(n), m), (m, n))


def from_labels(
    out: Labels, into: Labels, sizes: Mapping[int, int], factors: Sequence[Labels] = (), limit: int | None = None
) -> tuple[Pattern, list[Index | None]]:
    """Return the pattern of y[out] = Σ Π factors · x[into] between row-major vectors, and each factor's entry by place.

    One place for every value of the labels of out and into together; a factor's labels are among them.  The entry is an
    index into the raveled factor, None where that is simply all of it in order.
    Raises `PatternTooLargeError` where it would not fit into memory.

    Example:
        >>> pattern, (entry,) = from_labels((0, 1), (2, 1), {0: 1, 1: 2, 2: 2}, [(0, 2)])  # left multiplication
        >>> pattern.rows.tolist(), pattern.cols.tolist(), entry.tolist()
        ([0, 0, 1, 1], [0, 2, 1, 3], [0, 1, 0, 1])
    """
    order = tuple(dict.fromkeys((*out, *into)))
    shape = (prod(sizes[k] for k in out), prod(sizes[k] for k in into))
    total = prod(sizes[k] for k in order)
    require_memory(total, _BYTES, f"the pattern of an operator of {shape[0]} × {shape[1]}", limit)
    rows, cols = (_positions(labels, order, sizes) for labels in (out, into))
    pattern, groups = _grouped(rows * _width(shape) + cols, shape)
    index = []
    for labels in factors:
        place: Index | None = None if labels == order else _positions(labels, order, sizes)
        if groups.order is not None:
            place = groups.order if place is None else place[groups.order]
        index.append(place)
    return pattern, index


def apart(a: Pattern) -> tuple[Index, int]:
    """Return a number for each column such that columns of one number have no row in common (-1: an empty column), and how
    many numbers there are.

    Columns are numbered in turn where that serves (a band, a block diagonal), in runs of one length where the band goes
    round, else each gets the first number that is free.
    Cost: a few passes over the places, at most one of them in Python.
    Source: Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", 1974.

    Example:
        >>> band, _ = from_entries([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 3], (3, 4))
        >>> numbers, count = apart(band)
        >>> numbers.tolist(), count
        ([0, 1, 0, 1], 2)
    """
    return a.remember("apart", lambda: _apart(a))


def _apart(a: Pattern) -> tuple[Index, int]:
    m, n = a.shape
    numbers = np.full(n, -1, np.int64)
    some = np.flatnonzero(a.col_counts)
    if not some.size:
        return numbers, 0
    least = int(a.row_counts.max())
    rank = np.arange(some.size)
    runs = (
        np.arange(some.size // least) * some.size // (some.size // least)
    )  # as long as each other, for a band that goes round
    around = rank - runs[np.searchsorted(runs, rank, side="right") - 1]
    for tried in (rank % least, around, *(rank % count for count in range(least + 1, min(least + _TRIES, some.size) + 1))):
        numbers[some], count = tried, int(tried.max()) + 1
        if np.bincount(a.rows * np.int64(count) + numbers[a.cols]).max() == 1:
            return numbers, count
    used = [0] * m  # by row, the numbers of its columns so far, as bits
    by_column, _ = transposed(a)
    starts, rows = by_column.starts.tolist(), by_column.cols.tolist()
    for j in some.tolist():
        own = rows[starts[j] : starts[j + 1]]
        together = 0
        for i in own:
            together |= used[i]
        free = ~together & (together + 1)
        numbers[j] = free.bit_length() - 1
        for i in own:
            used[i] |= free
    return numbers, int(numbers.max()) + 1


# ---- algebra ----------------------------------------------------------------------------------------------------------
def transposed(a: Pattern) -> tuple[Pattern, Index | None]:
    """Return the transposed pattern, and for each of its places the place of a (None: the same).  Cost: one sort."""

    def make() -> tuple[Pattern, Index | None]:
        m, n = a.shape
        pattern, groups = _grouped(a.cols * np.int64(m) + a.rows, (n, m))
        if a.filled is None or groups.order is None:
            return with_filled(pattern, a.filled), groups.order
        moved = np.zeros(a.nnz, bool)
        moved[a.filled] = True
        return with_filled(pattern, np.flatnonzero(moved[groups.order])), groups.order

    return a.remember("transposed", make)


def with_filled(a: Pattern, filled: Index | None) -> Pattern:
    """The same places, of which these were only added."""
    return a if a.filled is filled else Pattern(a.rows, a.cols, a.shape, filled)


def product(a: Pattern, b: Pattern, limit: int | None = None) -> ProductPlan:
    """Return the pattern of the matrix product a b and every scalar product in it.

    Raises `SpaceError` where the inner sizes differ, `PatternTooLargeError` where the products would not fit into memory
    (``limit`` in bytes; what is available where None).  Cost: O(products), and one sort of them.

    Example:
        >>> stencil, _ = from_entries([0, 0, 1, 1], [0, 1, 1, 2], (2, 3))
        >>> plan = product(stencil, transposed(stencil)[0])
        >>> plan.pattern.nnz, plan.left.tolist(), plan.right.tolist(), plan.starts.tolist()
        (4, [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3], [0, 2, 3, 4, 6])
    """
    if a.shape[1] != b.shape[0]:
        raise SpaceError(
            f"cannot multiply sparse matrices of shapes {a.shape} and {b.shape}: {a.shape[1]} columns against "
            f"{b.shape[0]} rows. Check the order of the factors, or transpose one."
        )
    return a.remember_with("product", b, lambda: _product(a, b, limit))


def _product(a: Pattern, b: Pattern, limit: int | None) -> ProductPlan:
    shape = (a.shape[0], b.shape[1])
    if b.full_rows:  # every entry of a meets one of b, its row's
        left, right = np.arange(a.nnz), a.cols.astype(np.int64)
    else:
        counts = np.diff(b.starts)[a.cols]
        total = int(counts.sum())
        require_memory(total, _BYTES, f"the product of patterns with {a.nnz} and {b.nnz} places", limit)
        dtype = np.int32 if max(total, a.nnz, b.nnz) < 2**31 else np.int64
        left = np.repeat(np.arange(a.nnz, dtype=dtype), counts)
        right = np.arange(total, dtype=dtype)
        right += np.repeat((b.starts[:-1][a.cols] - (np.cumsum(counts) - counts)).astype(dtype), counts)
    keys = a.rows[left] * _width(shape) + b.cols[right]
    pattern, groups = _grouped(keys, shape)
    if groups.order is not None:
        left, right = left[groups.order], right[groups.order]
    return ProductPlan(pattern, left, right, groups.starts)


def intersection(a: Pattern, b: Pattern) -> UnionPlan:
    """Return the pattern of the entrywise product of a and b, and at which place of either its entries lie.

    Raises `SpaceError` where the shapes differ.  Cost: one merge of sorted lists.

    Example:
        >>> plan = intersection(diagonal(2), from_entries([0, 1], [1, 1], (2, 2))[0])
        >>> plan.pattern.rows.tolist(), plan.left.tolist(), plan.right.tolist()
        ([1], [1], [1])
    """
    if a.shape != b.shape:
        raise SpaceError(f"cannot multiply sparse matrices of shapes {a.shape} and {b.shape} entry by entry.")
    return a.remember_with("intersection", b, lambda: _intersection(a, b))


def _intersection(a: Pattern, b: Pattern) -> UnionPlan:
    if a == b:
        return UnionPlan(a, None, None)
    _, left, right = np.intersect1d(a.keys, b.keys, assume_unique=True, return_indices=True)
    return UnionPlan(selected(a, left), left, right)


def selected(a: Pattern, places: Index) -> Pattern:
    """The pattern of some of the places, in increasing order."""
    return Pattern(a.rows[places], a.cols[places], a.shape)


def rows_chosen(a: Pattern, rows: Index) -> tuple[Pattern, Index]:
    """Return the pattern whose row k is row ``rows[k]`` of a, and the place in a of each of its places.

    Example:
        >>> pattern, places = rows_chosen(from_entries([0, 1, 1], [1, 0, 1], (2, 2))[0], np.array([1, 1, 0]))
        >>> pattern.rows.tolist(), pattern.cols.tolist(), places.tolist()
        ([0, 0, 1, 1, 2], [0, 1, 0, 1, 1], [1, 2, 1, 2, 0])
    """
    counts = a.row_counts[rows]
    starts = run_starts(counts)
    places = np.arange(starts[-1]) + np.repeat(a.starts[rows] - starts[:-1], counts)
    return Pattern(np.repeat(np.arange(rows.size), counts), a.cols[places], (rows.size, a.shape[1])), places


def union(a: Pattern, b: Pattern) -> UnionPlan:
    """Return the pattern of a + b and where each one's entries lie in it.

    Raises `SpaceError` where the shapes differ.  Cost: one merge of sorted lists.

    Example:
        >>> plan = union(diagonal(2), from_entries([0, 1], [1, 1], (2, 2))[0])
        >>> plan.pattern.nnz, plan.left.tolist(), plan.right.tolist()
        (3, [0, 2], [1, 2])
    """
    if a.shape != b.shape:
        raise SpaceError(f"cannot add sparse matrices of shapes {a.shape} and {b.shape}; summands have one shape.")
    return a.remember_with("union", b, lambda: _union(a, b))


def _union(a: Pattern, b: Pattern) -> UnionPlan:
    if a == b:
        return UnionPlan(a, None, None)
    require_memory(a.nnz + b.nnz, _BYTES, f"the sum of patterns with {a.nnz} and {b.nnz} places")
    before = np.searchsorted(a.keys, b.keys)  # how many of a's places come before each of b's
    new = a.keys[np.minimum(before, a.nnz - 1)] != b.keys if a.nnz else np.ones(b.nnz, bool)
    if not new.any():
        return UnionPlan(with_filled(a, None), None, before)
    added = np.cumsum(new)  # b's own places up to here
    right = before + added - new
    left = np.arange(a.nnz) + np.bincount(before[new], minlength=a.nnz + 1)[: a.nnz].cumsum()
    rows, cols = np.empty(a.nnz + int(added[-1]), np.int64), np.empty(a.nnz + int(added[-1]), np.int64)
    rows[left], cols[left] = a.rows, a.cols
    rows[right], cols[right] = b.rows, b.cols
    if rows.size == b.nnz:
        return UnionPlan(with_filled(b, None), left, None)
    return UnionPlan(Pattern(rows, cols, a.shape), left, right)


# ---- parts of the above -------------------------------------------------------------------------------------------------
def _frozen(x: Index) -> Index:
    x = x.view()
    x.flags.writeable = False
    return x


def _number_if_uniform(counts: Index) -> float | Index:
    return float(counts[0]) if counts.size and (counts == counts[0]).all() else counts


def _width(shape: tuple[int, int]) -> np.int64:
    if shape[0] * shape[1] >= 2**63:
        raise PatternTooLargeError(
            f"a sparse matrix of shape {shape} has {shape[0] * shape[1]:,} places, more than 64-bit integers can number."
        )
    return np.int64(shape[1])


def _grouped(keys: Index, shape: tuple[int, int]) -> tuple[Pattern, Groups]:
    """The pattern of these keys and how they are grouped in it."""
    order = starts = None
    if keys.size > 1:
        step = keys[1:] - keys[:-1]
        least = step.min()
        if least < 0:
            order = np.argsort(keys, kind="stable")  # equal places keep their order, and so do their sums
            keys = keys[order]
            step = keys[1:] - keys[:-1]
            least = step.min()
        if least == 0:
            first = np.concatenate(([0], np.flatnonzero(step) + 1))
            starts = np.append(first, keys.size)
            keys = keys[first]
    rows, cols = np.divmod(keys, max(shape[1], 1))
    return Pattern(rows, cols, shape), Groups(order, starts)


def _positions(labels: Labels, order: Labels, sizes: Mapping[int, int]) -> Index:
    """The row-major position in an array with these labels, for every value of the labels ``order``."""
    shape = tuple(sizes[k] for k in order)
    total = np.zeros((1,) * len(order), np.int64)
    stride = 1
    for label in reversed(labels):
        axis = order.index(label)
        steps = np.arange(shape[axis], dtype=np.int64) * stride
        total = total + steps.reshape((1,) * axis + (-1,) + (1,) * (len(order) - axis - 1))
        stride *= sizes[label]
    return np.broadcast_to(total, shape).reshape(-1)
