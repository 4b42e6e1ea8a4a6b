"""Inertia by the pivots of a symmetric factorization, against eigenvalues."""

import numpy as np
import pytest
import scipy.sparse as sp

from backsolve.engines.symmetric import SymmetricLU


def random(n, seed, shift):
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((n, n)) < 0.3, rng.standard_normal((n, n)), 0)
    return A + A.T + shift * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 5, 30])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0, 3.0, 6.0, 12.0])
def test_positive_definite_where_all_eigenvalues_are(n, shift):
    for seed in range(8):
        A = random(n, seed, shift)
        factors = SymmetricLU(sp.csc_array(A))
        assert factors.positive_definite == (np.linalg.eigvalsh(A)[0] > 0)
        if factors.positive_definite:
            b = np.arange(n) + 1.0
            np.testing.assert_allclose(factors.solve(b), np.linalg.solve(A, b), rtol=1e-9, atol=1e-11)


def test_shifts():
    A = random(20, 0, 0.0)
    low = np.linalg.eigvalsh(A)[0]
    for shift, definite in ((-low * 0.99, False), (-low * 1.01, True)):
        assert SymmetricLU(sp.csc_array(A), shift).positive_definite is definite


@pytest.mark.parametrize("A", [np.zeros((3, 3)), np.diag([1.0, 0.0]), np.ones((2, 2)), [[0.0, 1.0], [1.0, 0.0]]])
def test_singular_and_indefinite_matrices_are_not_positive_definite(A):
    assert not SymmetricLU(sp.csc_array(np.array(A))).positive_definite
