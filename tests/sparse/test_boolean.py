"""Powers of boolean matrices are those of dense ones, sparse and in bits, and what fills up is foreseen."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from backsolve.sparse import boolean
from backsolve.sparse.boolean import foresee, powers, product
from backsolve.sparse.pattern import PatternTooLargeError


def random(m, n, density, seed):
    return csr_array(np.random.default_rng(seed).random((m, n)) < density)


def dense_powers(A, B, K, turns):
    A, B = A.toarray().astype(int), B.toarray()
    for _ in range(turns):
        B = A @ B > 0 if K is None else (A @ B > 0) | K.toarray()
    return B


@pytest.mark.parametrize("filled", [0, 1, 10**9])  # never in bits, soon, at once
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 3), (40, 64), (65, 129)])
@pytest.mark.parametrize("turns", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("added", [False, True])
def test_powers(monkeypatch, filled, m, n, turns, added):
    monkeypatch.setattr(boolean, "FILLED", filled)
    A, B = random(m, m, 1.5 / m, turns), random(m, n, 0.1, m)
    K = random(m, n, 0.05, n) if added else None
    np.testing.assert_array_equal(powers(A, B, K, turns).toarray(), dense_powers(A, B, K, turns))


@pytest.mark.parametrize("filled", [0, 10**9])
def test_until_nothing_changes(monkeypatch, filled):
    monkeypatch.setattr(boolean, "FILLED", filled)
    A = csr_array(np.eye(50, dtype=bool) | np.eye(50, k=-1, dtype=bool))
    np.testing.assert_array_equal(powers(A, csr_array(np.eye(50, dtype=bool)), None, None).toarray(), np.tri(50))


def test_products_have_sorted_columns():
    A, B = random(30, 40, 0.2, 0), random(40, 20, 0.2, 1)
    AB = product(A, B)
    np.testing.assert_array_equal(AB.toarray(), A.toarray() @ B.toarray())
    assert AB.has_sorted_indices


def test_what_fills_up_is_foreseen():
    n = 5_000
    ring = csr_array((np.ones(2 * n, bool), (np.tile(np.arange(n), 2), np.r_[np.arange(n), np.roll(np.arange(n), 1)])))
    start = csr_array((np.ones(n, bool), (np.arange(n), np.arange(n))))
    foresee(ring, start, 10, most=10**7)
    with pytest.raises(PatternTooLargeError, match="foreseen"):
        foresee(ring, start, n, most=10**7)


@pytest.mark.parametrize("filled", [0, 10**9])
def test_what_a_turn_holds_is_asked_for(monkeypatch, filled):
    """In bits too: the gathered rows are as many as A has places, not as the result has rows."""
    monkeypatch.setattr(boolean, "FILLED", filled)
    monkeypatch.setattr("backsolve.algebra.spaces.available_memory", lambda: 10**6)
    n = 20_000
    columns = np.random.default_rng(0).integers(n, size=3 * n)
    A = csr_array((np.ones(3 * n, bool), (np.repeat(np.arange(n), 3), columns)), shape=(n, n))
    B = csr_array((np.ones(n, bool), (np.arange(n), np.arange(n))))
    with pytest.raises(PatternTooLargeError, match=r"loop|product"):
        powers(A, B, None, 30)
