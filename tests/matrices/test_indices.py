"""Indices of the type that SuperLU counts with: SciPy 1.15.0 to 1.17.0 makes wider ones, and refuses them."""

import numpy as np
import pytest
import scipy.sparse

import backsolve as bs
from backsolve.matrices.solve import for_superlu


@pytest.mark.parametrize("form", ["csc", "csr"])
def test_wide_indices_are_narrowed(form):
    A = scipy.sparse.random_array((6, 6), density=0.5, format=form, rng=np.random.default_rng(0))
    dense = A.toarray()
    A.indices, A.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    B = for_superlu(A)
    assert B.indices.dtype == B.indptr.dtype == np.intc
    np.testing.assert_array_equal(B.toarray(), dense)


def test_a_matrix_of_numbers_is_solved():
    A = np.array([[2.0, 0, 0], [1, 3, 0], [0, 1, 4]])
    M = bs.bidiagonal([2.0, 3.0, 4.0], [1.0, 1.0])
    np.testing.assert_allclose(np.linalg.solve(M, np.ones(3)), np.linalg.solve(A, np.ones(3)), rtol=1e-14)
    np.testing.assert_allclose(np.linalg.solve(M.T, np.ones(3)), np.linalg.solve(A.T, np.ones(3)), rtol=1e-14)
    L = bs.OperatorMatrix.from_entries({(1, 0): 2.0, (2, 1): 0.5, (2, 0): 1.0}, (3, 3))
    np.testing.assert_allclose(bs.solve(bs.I - L, np.ones(3)), [1.0, 3.0, 3.5])
