"""Matrices and vectors from blocks: flattened as np.block does, with I and O growing to fit."""

import numpy as np
import pytest

from backsolve import (
    BlockVector,
    I,
    O,
    OperatorMatrix,
    SpaceError,
    bidiagonal,
    column,
    diagonal,
    hadamard,
    matrix,
    row,
    vector,
)


def dense(K):
    return np.array([[K.entries.get((i, j), 0) for j in range(K.shape[1])] for i in range(K.shape[0])])


def of(A):
    return matrix(A.tolist())


def test_flattening_is_np_block():
    rng = np.random.default_rng(0)
    P, Q, R, S = (rng.integers(1, 9, s) for s in [(2, 3), (2, 1), (1, 3), (1, 1)])
    np.testing.assert_array_equal(dense(matrix([[of(P), of(Q)], [of(R), of(S)]])), np.block([[P, Q], [R, S]]))
    np.testing.assert_array_equal(dense(matrix([[of(P), of(Q)], [of(R), 7]])), np.block([[P, Q], [R, np.array([[7]])]]))
    np.testing.assert_array_equal(dense(row([of(P), of(Q)])), np.hstack([P, Q]))
    np.testing.assert_array_equal(dense(column([of(P), of(R)])), np.vstack([P, R]))


def test_units_grow_to_the_size_of_their_neighbours():
    P = np.arange(1, 10).reshape(3, 3)
    K = matrix([[of(P), I], [O, of(P)]])
    assert K.shape == (6, 6)
    assert [K[i, i + 3] for i in range(3)] == [I, I, I]
    assert len(K.entries) == 9 + 3 + 9
    np.testing.assert_array_equal(K @ np.ones(6), np.block([[P, np.eye(3)], [np.zeros((3, 3)), P]]) @ np.ones(6))
    with pytest.raises(SpaceError, match=r"element \(0, 1\) is I where its neighbours make a block of 2 × 1"):
        matrix([[of(np.ones((2, 2))), I], [of(np.ones((1, 2))), 5]])


def test_the_papers_M_is_n_by_2n():
    D = hadamard(np.ones(3))
    M = diagonal([row([D, D])] * 4)
    assert M.shape == (4, 8)
    assert sorted(M.entries) == [(i, 2 * i + k) for i in range(4) for k in range(2)]


def test_from_entries_keeps_nested_matrices():
    inner = matrix([[1, 2], [3, 4]])
    K = OperatorMatrix.from_entries({(0, 0): inner}, (1, 1))
    assert K.shape == (1, 1)
    assert K[0, 0] is inner


def test_bidiagonal_and_empty():
    assert bidiagonal([1, 2, 3], [4, 5]).entries == {(0, 0): 1, (1, 1): 2, (2, 2): 3, (1, 0): 4, (2, 1): 5}
    assert bidiagonal([], []).shape == (0, 0)
    assert matrix([]).shape == (0, 0)
    assert bidiagonal([I], []).shape == (1, 1)
    with pytest.raises(ValueError, match="with 3 elements on the diagonal has 2 below it, got 3"):
        bidiagonal([1, 2, 3], [4, 5, 6])


def test_rows_and_bands_that_do_not_fit():
    with pytest.raises(SpaceError, match="row 1 has 1 elements and row 0 has 2; pad with O"):
        matrix([[1, 2], [3]])
    with pytest.raises(SpaceError, match=r"element \(0, 1\).* takes 1 block rows where another of its row takes 2"):
        matrix([[of(np.ones((2, 2))), 5]])
    with pytest.raises(SpaceError, match=r"element \(1, 0\).* takes 3 block columns where another of its column takes 2"):
        matrix([[of(np.ones((2, 2)))], [of(np.ones((2, 3)))]])
    with pytest.raises(TypeError, match=r"a vector holds blocks, not matrices; use column"):
        vector([matrix([[1]])])


def test_vectors_are_flattened():
    assert list(vector([vector([1, 2]), 3])) == [1, 2, 3]
    assert list(vector(range(3))) == [0, 1, 2]
    assert isinstance(vector([]), BlockVector)
