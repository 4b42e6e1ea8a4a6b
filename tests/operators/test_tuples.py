"""Elements of spaces as flat vectors and back, for nested tuples, absent parts and several dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import O
from backsolve.algebra.elements import is_zero
from backsolve.algebra.spaces import ArraySpace, TupleSpace, space_of
from backsolve.operators.moves import Parts, flat_space, flattened, unflattened

FLOAT0 = jax.dtypes.float0


def parts(xp):
    x = xp.arange(6, dtype=xp.float32)
    return Parts([xp.reshape(x, (2, 3)), Parts([x[:2] + 1j, x[0]]), x[:0]])


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_there_and_back(xp):
    given = parts(xp)
    space = space_of(given)
    x = flattened(given, space)
    np.testing.assert_array_equal(x, [0, 1, 2, 3, 4, 5, 1j, 1 + 1j, 0])
    assert x.dtype == flat_space(space).dtype == np.complex64
    assert x.shape == flat_space(space).shape
    back = unflattened(x, space)
    assert jax.tree.structure(tuple(back)) == jax.tree.structure(tuple(given))
    for p, q in zip(jax.tree.leaves(back), jax.tree.leaves(given), strict=True):
        assert (p.shape, p.dtype) == (q.shape, q.dtype)
        np.testing.assert_array_equal(p, q)


def test_absent_parts_are_zeros():
    space = TupleSpace((ArraySpace((2,), np.dtype("float32")), ArraySpace((3,), FLOAT0), ArraySpace((1,))))
    x = flattened((O, np.zeros(3, FLOAT0), np.ones(1, np.float32)), space)
    np.testing.assert_array_equal(x, [0, 0, 0, 0, 0, 1])
    first, nothing, last = unflattened(x, space)
    assert is_zero(nothing)
    assert (first.shape, last.shape) == ((2,), (1,))
    assert flat_space(space).dtype == np.float32
    np.testing.assert_array_equal(flattened(O, space), np.zeros(6))
    np.testing.assert_array_equal(flattened(O, ArraySpace((2, 2))), np.zeros(4))
    assert flattened((), TupleSpace(())).size == 0


def test_numbers_and_masks():
    space = TupleSpace((ArraySpace(()), ArraySpace((2,))))
    np.testing.assert_array_equal(flattened([1.5, np.array([True, False])], space), [1.5, 1, 0])
    with pytest.raises(ValueError, match="zip"):
        flattened([1.5], space)
