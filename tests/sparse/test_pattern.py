"""Patterns and their plans, against SciPy's sparse matrices and dense NumPy."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from backsolve.algebra import spaces as memory
from backsolve.operators import SpaceError
from backsolve.sparse.pattern import (
    Pattern,
    PatternTooLargeError,
    dense,
    diagonal,
    from_entries,
    from_labels,
    product,
    require_memory,
    transposed,
    union,
    with_filled,
)

SIZES = st.integers(0, 6)


@st.composite
def patterns(draw, m=SIZES, n=SIZES):
    m, n = (draw(size) if not isinstance(size, int) else size for size in (m, n))
    places = draw(st.lists(st.integers(0, max(m * n - 1, 0)), max_size=20)) if m * n else []
    rows, cols = np.divmod(np.array(places, int), max(n, 1))
    return from_entries(rows, cols, (m, n))[0]


def image(pattern, data=None):
    """The pattern as a dense array."""
    out = np.zeros(pattern.shape)
    out[pattern.rows, pattern.cols] = 1 if data is None else data
    return out


def well_formed(pattern):
    m, n = pattern.shape
    keys = pattern.rows.astype(int) * n + pattern.cols
    assert (np.diff(keys) > 0).all()
    assert not pattern.nnz or (keys.min() >= 0 and keys.max() < m * n and pattern.cols.max() < n)
    assert not pattern.rows.flags.writeable
    return pattern


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_entries_are_sorted_and_repeats_add_up(data, m, n):
    count = data.draw(st.integers(0, 25))
    rows = np.array(data.draw(st.lists(st.integers(0, m - 1), min_size=count, max_size=count)), int)
    cols = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=count, max_size=count)), int)
    values = np.arange(1.0, count + 1)
    pattern, groups = from_entries(rows, cols, (m, n))
    well_formed(pattern)
    ordered = values if groups.order is None else values[groups.order]
    summed = ordered if groups.starts is None else np.add.reduceat(ordered, groups.starts[:-1])
    np.testing.assert_array_equal(image(pattern, summed), sp.coo_array((values, (rows, cols)), shape=(m, n)).toarray())


@given(st.data())
def test_products_against_scipy(data):
    a = data.draw(patterns())
    b = data.draw(patterns(m=a.shape[1]))
    plan = product(a, b)
    well_formed(plan.pattern)
    u, v = np.random.default_rng(0).standard_normal((2, 50))
    terms = u[plan.left] * v[plan.right]
    assert plan.starts is None or (np.diff(plan.starts) > 0).all()
    got = terms if plan.starts is None else np.add.reduceat(terms, plan.starts[:-1])
    want = image(a, u[: a.nnz]) @ image(b, v[: b.nnz])
    np.testing.assert_allclose(image(plan.pattern, got), want, atol=1e-14)
    assert plan.pattern.nnz == np.count_nonzero(image(a) @ image(b))
    assert product(a, b) is plan  # worked out once


@given(st.data())
def test_unions_against_dense(data):
    a = data.draw(patterns())
    b = data.draw(patterns(*a.shape))
    plan = union(a, b)
    well_formed(plan.pattern)
    np.testing.assert_array_equal(image(plan.pattern), np.maximum(image(a), image(b)))
    for part, places in ((a, plan.left), (b, plan.right)):
        at = np.arange(part.nnz) if places is None else places
        np.testing.assert_array_equal(plan.pattern.rows[at], part.rows)
        np.testing.assert_array_equal(plan.pattern.cols[at], part.cols)


@given(patterns())
def test_transposes(a):
    t, order = transposed(a)
    well_formed(t)
    data = np.arange(1.0, a.nnz + 1)
    np.testing.assert_array_equal(image(t, data if order is None else data[order]), image(a, data).T)
    assert transposed(t)[0] == a


@given(st.data())
def test_products_of_patterns_are_associative(data):
    a = data.draw(patterns())
    b = data.draw(patterns(m=a.shape[1]))
    c = data.draw(patterns(m=b.shape[1]))
    assert product(product(a, b).pattern, c).pattern == product(a, product(b, c).pattern).pattern


@given(st.data())
def test_label_structures_against_einsum(data):
    out, into = (tuple(data.draw(st.lists(st.integers(0, 3), max_size=3))) for _ in range(2))
    sizes = {k: data.draw(st.integers(1, 3)) for k in range(4)}
    outer = tuple(dict.fromkeys((*out, *into)))
    factors = [tuple(k for k in data.draw(st.permutations(outer)) if data.draw(st.booleans())) for _ in range(2)]
    arrays = [np.random.default_rng(i).standard_normal([sizes[k] for k in labels]) for i, labels in enumerate(factors)]
    pattern, index = from_labels(out, into, sizes, factors)
    well_formed(pattern)
    values = np.ones(pattern.nnz)
    for array, entry in zip(arrays, index, strict=True):
        values = values * (array.reshape(-1) if entry is None else array.reshape(-1)[entry])
    x = np.random.default_rng(7).standard_normal([sizes[k] for k in into])
    want = np.zeros([sizes[k] for k in out])
    for place in np.ndindex(*(sizes[k] for k in outer)):
        at = dict(zip(outer, place, strict=True))
        term = x[tuple(at[k] for k in into)]
        for array, labels in zip(arrays, factors, strict=True):
            term = term * array[tuple(at[k] for k in labels)]
        want[tuple(at[k] for k in out)] += term
    np.testing.assert_allclose((image(pattern, values) @ x.reshape(-1)).reshape(want.shape), want, atol=1e-12)


def test_small_parts():
    assert diagonal(3).is_diagonal
    assert diagonal(3).full_rows
    assert not from_entries([0, 1], [1, 0], (2, 2))[0].is_diagonal
    assert dense(2, 3) == from_entries([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], (2, 3))[0]
    assert hash(dense(2, 3)) == hash(Pattern(dense(2, 3).rows.copy(), dense(2, 3).cols, (2, 3)))
    assert dense(2, 3) != dense(3, 2)
    assert dense(2, 3) != "2 × 3"
    assert repr(diagonal(3)) == "Pattern(3 × 3, 3 places)"
    assert dense(2, 3).starts.tolist() == [0, 3, 6]
    assert union(diagonal(2), dense(2, 2)).pattern is not None
    assert union(diagonal(2), dense(2, 2)).right is None


@pytest.mark.parametrize(
    ("rows", "cols", "message"),
    [
        ([0, 1], [0], r"2 rows against 1 columns: a sparse matrix needs one of each for every entry"),
        ([0, 2], [0, 0], r"row 2 lies outside a sparse matrix of shape \(2, 3\); rows count from 0"),
        ([0, 1], [0, -1], r"column -1 lies outside a sparse matrix of shape \(2, 3\)"),
        ([0.5], [0], r"the rows of a sparse matrix are one list of integers, got float64 of shape \(1,\)"),
        ([0], [[0]], r"the columns of a sparse matrix are one list of integers, got int64 of shape \(1, 1\)"),
    ],
)
def test_wrong_entries_are_refused(rows, cols, message):
    with pytest.raises(SpaceError, match=message):
        from_entries(rows, cols, (2, 3))


def test_wrong_shapes_are_refused():
    with pytest.raises(
        SpaceError, match=r"multiply sparse matrices of shapes \(2, 3\) and \(2, 3\): 3 columns against 2 rows"
    ):
        product(dense(2, 3), dense(2, 3))
    with pytest.raises(SpaceError, match=r"cannot add sparse matrices of shapes \(2, 3\) and \(3, 2\)"):
        union(dense(2, 3), dense(3, 2))


def test_what_does_not_fit_into_memory_is_refused_with_its_bytes():
    n = 2**20
    with pytest.raises(PatternTooLargeError, match=r"dense block of 1048576 × 1048576 .* 17,592,186,044,416 bytes"):
        dense(n, n)
    with pytest.raises(PatternTooLargeError, match=r"43,980,465,111,040 bytes while planning, but 1,000,000 are available"):
        from_labels((0,), (1,), {0: n, 1: n}, limit=10**6)
    ones = Pattern(np.arange(n), np.zeros(n, int), (n, 1))
    with pytest.raises(PatternTooLargeError, match="the product of patterns with 1048576 and 1048576 places has"):
        product(ones, transposed(ones)[0])
    with pytest.raises(PatternTooLargeError, match="more than 64-bit integers can number"):
        from_entries([0], [0], (2**32, 2**32))
    require_memory(10**9, 1, "nothing much", limit=10**9)


def test_a_million_places_take_no_python_loop():
    n = 1000
    grid = np.arange(n * n).reshape(n, n)
    parts = [(grid, grid), (grid[1:], grid[:-1]), (grid[:-1], grid[1:]), (grid[:, 1:], grid[:, :-1])]
    rows, cols = (np.concatenate([part[k].reshape(-1) for part in parts]) for k in (0, 1))
    stencil, _ = from_entries(rows, cols, (n * n, n * n))
    plan = product(stencil, transposed(stencil)[0])
    ours = sp.csr_array((np.ones(stencil.nnz), stencil.cols, stencil.starts), shape=stencil.shape)
    assert plan.pattern.nnz == (ours @ ours.T).nnz
    assert plan.left.size == plan.starts[-1]


@pytest.mark.parametrize("make", [lambda a, b: union(a, b), lambda a, b: from_entries(a.rows, a.cols, a.shape)])
def test_sums_and_sorts_that_do_not_fit_into_memory(make, monkeypatch):
    """Two patterns that fit, but not what adding them takes on the way: the process was killed."""
    a, b = (from_entries(np.arange(500_000), np.full(500_000, k), (500_000, 2))[0] for k in (0, 1))
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000_000)
    with pytest.raises(PatternTooLargeError, match=r"has [\d,]+ entries and needs .* but 10,000,000 are available"):
        make(a, b)


def test_places_that_were_only_added_are_told_apart():
    """They go along with transposes and copies; a sum or product makes numbers of them."""
    plain, _ = from_entries([0, 0, 1, 1], [0, 1, 0, 1], (2, 2))
    filled = with_filled(plain, np.array([1]))
    assert filled != plain
    assert filled == with_filled(plain, np.array([1])) == pickle.loads(pickle.dumps(filled))
    assert filled != with_filled(plain, np.array([2]))
    mirrored, _ = transposed(filled)
    assert mirrored.filled.tolist() == [2]
    assert transposed(mirrored)[0] == filled
    assert union(filled, diagonal(2)).pattern == plain
    assert union(diagonal(2), filled).pattern == plain
    assert product(filled, diagonal(2)).pattern == plain
