"""What the backslash refuses, and that it says which row, which shapes and what to do."""

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

import backsolve as bs
from backsolve import CycleError, I, O, OperatorMatrix, SingularError, SparseMatrix, hadamard, matrix, solve, substitute
from backsolve.algebra import AlgebraError, MinPlus

from ..zoo import Minimal


def test_a_cycle_is_named():
    cyclic = OperatorMatrix.from_entries({(1, 0): 2, (2, 1): 3, (0, 2): 4, (3, 3): 1}, (4, 4))
    with pytest.raises(CycleError, match=r"row 0 → row 1 → row 2 → row 0.*remove an entry of the cycle"):
        solve(cyclic + OperatorMatrix.from_entries({(i, i): 1 for i in range(3)}, (4, 4)), [1, 1, 1, 1])
    with pytest.raises(CycleError, match=r"cycle.*row 3 → row 3"):
        substitute(OperatorMatrix.from_entries({(3, 3): 1, (1, 0): 1, (0, 3): 1}, (4, 4)), [1, 1, 1, 1])
    with pytest.raises(CycleError, match=r"row 0 → row 1 → row 0"):
        solve(matrix([[1.0, 2.0], [3.0, 4.0]]), np.ones(2))


@pytest.mark.parametrize("A", [matrix([[1, 0], [2, 0]]), matrix([[1.0, 0], [2.0, 0.0]]), matrix([[I, O], [I, O]])])
def test_a_missing_diagonal_is_named(A):
    with pytest.raises(SingularError, match=r"the matrix is singular: row 1 has nothing on the diagonal"):
        solve(A, [np.ones(2), np.ones(2)])


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (np.zeros((2, 2)), r"row 1, diagonal element numpy.ndarray of shape \(2, 2\): .*singular"),
        (
            hadamard(np.array([1.0, 0.0])),
            r"row 1, diagonal element \(2\)ᴴ : 2 → 2: .*is singular: its diagonal has a zero",
        ),
        (Minimal(np.eye(2)), r"row 1, diagonal element Minimal : 2 → 2: .*offers no inverse; give its class an inverse"),
        (Minimal(np.eye(2)) + Minimal(np.eye(2)), r"row 1, .*offers no inverse"),
        (aslinearoperator(np.eye(2)), r"row 1, .* of shape \(2, 2\): .*offers no inverse; give it an inverse\(\) method"),
    ],
)
def test_a_diagonal_that_cannot_be_divided_by(d, message):
    A = OperatorMatrix.from_entries({(0, 0): I, (1, 1): d}, (2, 2))
    with pytest.raises(SingularError, match=message):
        solve(A, [np.ones(2), np.ones(2)])


def test_semirings_have_no_division():
    with pytest.raises(SingularError, match=r"row 0, diagonal element .*MinPlus: .*offers no inverse"):
        solve(OperatorMatrix.from_entries({(0, 0): MinPlus(1)}, (1, 1)), [MinPlus(0)])


def test_right_hand_sides_that_do_not_fit():
    A = matrix([[I, O], [hadamard(np.ones(3)), I]])
    with pytest.raises(ValueError, match=r"solving with 2 × 2 takes a vector of 2 blocks, got one of 3"):
        solve(A, [np.ones(3)] * 3)
    with pytest.raises(ValueError, match=r"solving with 2 × 2 takes a vector of 2 blocks, got one of 3"):
        solve(matrix([[1.0, 0], [2.0, 1.0]]), np.ones(3))
    with pytest.raises(bs.SpaceError, match=r"block 1 of the vector and row 1 of the matrix do not match: 3 against 4"):
        solve(A, [np.ones(3), np.ones(4)])
    with pytest.raises(bs.SpaceError, match=r"block 0 .*: 3 against scalar\. .* a zero block of any shape is written O"):
        solve(A, [0, np.ones(3)])
    with pytest.raises(TypeError, match=r"takes a vector of 2 blocks, got int; make one with backsolve.vector"):
        solve(A, 3)
    with pytest.raises(ValueError, match=r"right-hand side of 3 × 1 does not fit 2 × 2"):
        solve(A, OperatorMatrix.from_entries({(0, 0): I}, (3, 1)))


def test_blocks_are_not_broadcast():
    A = matrix([[np.eye(3), O], [np.eye(3), np.eye(3)]])
    with pytest.raises(ValueError, match=r"\(3, 1\) .*\(3,\): blocks in one place have one shape"):
        solve(A, [np.ones(3), np.ones((3, 1))])


def test_what_is_no_matrix_or_not_square():
    with pytest.raises(ValueError, match=r"only a square matrix can be solved with, got 2 × 3 blocks"):
        solve(matrix([[1, 2, 3], [4, 5, 6]]), [1, 2])
    with pytest.raises(TypeError, match=r"solve takes a matrix .*got numpy.ndarray of shape \(2, 2\)"):
        solve(np.eye(2), [1, 2])
    S = SparseMatrix.from_entries([0, 1], [0, 1], np.ones(2), (2, 2))
    with pytest.raises(
        TypeError, match=r"got backsolve\.SparseMatrix of shape \(2, 2\)\. SciPy .*spsolve\(A\.to_csc\(\), b\)\.$"
    ):
        solve(S, [1, 2])
    with pytest.raises(TypeError, match=r"substitute takes a matrix such as backsolve.matrix"):
        substitute([[0]], [1])


def test_an_element_without_a_sum():
    class Lonely:
        def __mul__(self, other):
            return self

    lonely = Lonely()
    L = OperatorMatrix.from_entries({(2, 0): lonely, (2, 1): lonely}, (3, 3))
    with pytest.raises(AlgebraError, match=r"cannot add .*Lonely and .*Lonely: .*needs '\+' with the others"):
        substitute(L, [Lonely(), Lonely(), O])
    with pytest.raises(AlgebraError, match=r"entry \(1, 0\) is \{\}, which cannot be multiplied"):
        substitute(OperatorMatrix.from_entries({(1, 0): {}}, (2, 2)), [1, 1])
