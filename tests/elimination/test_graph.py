"""Elimination of nodes: every order leaves the same path sums; oracle: the dense inverse."""

import random
from fractions import Fraction

import numpy as np
import pytest
import sympy

from backsolve import OperatorMatrix, left_mul
from backsolve.elimination.graph import eliminate


def triangle(n, seed, weight):
    r = random.Random(seed)
    return {(i, j): weight(r) for i in range(n) for j in range(i) if r.random() < 0.6}


@pytest.mark.parametrize("seed", range(20))
def test_random_orders_give_the_entries_of_the_inverse(seed):
    entries = triangle(8, seed, lambda r: Fraction(r.randint(-5, 5) or 1, r.randint(1, 5)))
    A = sympy.eye(8) - sympy.Matrix(8, 8, lambda i, j: sympy.Rational(entries[i, j]) if (i, j) in entries else 0)
    inverse = A.inv()
    r = random.Random(seed + 100)
    inner = list(range(1, 7))
    r.shuffle(inner)
    left = eliminate(OperatorMatrix.from_entries(entries, (8, 8)), inner)
    assert left.entries.get((7, 0), 0) == Fraction(int(inverse[7, 0].p), int(inverse[7, 0].q))
    assert set(left.entries) <= {(7, 0)}


def test_all_orders_of_operators_agree():
    rng = np.random.default_rng(0)
    entries = {(i, j): left_mul(rng.standard_normal((3, 3))) for i in range(5) for j in range(i)}
    L = OperatorMatrix.from_entries(entries, (5, 5))
    A = np.eye(15)
    for (i, j), op in entries.items():
        A[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] -= op.factors[0].array
    want = np.linalg.inv(A)[12:, :3]
    for order in ([1, 2, 3], [3, 2, 1], [2, 1, 3], [2, 3, 1]):
        np.testing.assert_allclose(eliminate(L, order)[4, 0] @ np.eye(3), want, rtol=1e-10)


def test_what_is_left_between_the_others_is_untouched():
    L = OperatorMatrix.from_entries({(1, 0): 2, (2, 1): 3, (3, 2): 5, (3, 0): 7}, (4, 4))
    assert eliminate(L, []).entries == L.entries
    assert eliminate(L, [1]).entries == {(2, 0): 6, (3, 2): 5, (3, 0): 7}
    assert eliminate(L, [2, 1]).entries == {(3, 0): 37}
    assert L.entries == {(1, 0): 2, (2, 1): 3, (3, 2): 5, (3, 0): 7}


def test_a_long_chain_is_linear():
    n = 20_000
    L = OperatorMatrix.from_entries({(i + 1, i): 1 for i in range(n)}, (n + 1, n + 1))
    order = list(range(1, n))
    random.Random(0).shuffle(order)
    assert eliminate(L, order).entries == {(n, 0): 1}


def test_wrong_orders():
    L = OperatorMatrix.from_entries({(1, 0): 2, (1, 1): 3}, (2, 2))
    with pytest.raises(ValueError, match="the order names node 5, but the nodes are 0 to 1"):
        eliminate(L, [5])
    with pytest.raises(ValueError, match="eliminates row 0 twice"):
        eliminate(L, [0, 0])
    with pytest.raises(ValueError, match="row 1 has an entry with itself and cannot be eliminated"):
        eliminate(L, [1])
