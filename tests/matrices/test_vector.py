"""BlockVector: a sequence of its blocks, with arithmetic block by block."""

from collections.abc import Sequence

import numpy as np
import pytest

from backsolve import O, hadamard, matrix, vector


def test_it_is_a_sequence():
    blocks = [np.ones(2), 3.0, O]
    v = vector(blocks)
    assert isinstance(v, Sequence)
    assert len(v) == 3
    assert v[0] is blocks[0]
    assert v[-1] is O
    assert list(v) == blocks
    assert next(reversed(v)) is O
    assert isinstance(v[1:], type(v))
    assert len(v[1:]) == 2
    assert (3.0 in vector([1.0, 3.0])) is True
    assert vector([1, 2, 2]).count(2) == 2
    first, *rest = v
    assert first is blocks[0]
    assert len(rest) == 2
    with pytest.raises(IndexError, match="out of range"):
        v[3]


def test_arithmetic():
    a, b = np.arange(3.0), np.ones((2, 2))
    v = vector([a, b])
    for got, want in zip(2 * v - v / 4 + v * 0.5, (2.25 * a, 2.25 * b)):
        np.testing.assert_allclose(got, want)
    np.testing.assert_array_equal((vector([O, b]) + v)[0], a)
    np.testing.assert_array_equal((v - vector([O, b]))[0], a)
    np.testing.assert_array_equal((vector([O, b]) - v)[0], -a)
    np.testing.assert_array_equal((np.float64(2.0) * v)[0], 2 * a)
    assert list([1, 2] + vector([3, 4])) == [4, 6]  # noqa: RUF005
    assert (3 * vector([O]))[0] is O
    assert (vector([O]) * 3)[0] is O


def test_lengths_and_shapes_are_checked():
    with pytest.raises(ValueError, match="vectors of 2 and 3 blocks cannot be combined block by block"):
        vector([1, 2]) + vector([1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(3,\) and numpy.ndarray of shape \(1,\)"):
        vector([np.ones(3)]) + vector([np.ones(1)])
    with pytest.raises(TypeError, match="unsupported operand"):
        vector([1]) + 1


def test_printing():
    assert repr(vector([np.ones((2, 3)), 1.5])) == "BlockVector([2×3 float64, 1.5])"


def test_matrix_times_the_kinds_of_vector():
    D = hadamard(np.ones(2))
    A = matrix([[D, D]])
    for kind in (list, tuple, vector):
        assert type(A @ kind([np.ones(2), np.ones(2)])) is type(kind([1]))
    np.testing.assert_array_equal(A @ np.ones((2, 2)), [[2, 2]])
