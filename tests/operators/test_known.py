"""Matrices that are known while tracing: the images of unit arrays, without dense products."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from backsolve.algebra.spaces import ArraySpace
from backsolve.operators import Einsum, Identity, Product, Scaling, Sum
from backsolve.operators.closed_form import FEW, dense_array
from backsolve.operators.einsum import Factor
from backsolve.operators.known import known_array
from backsolve.operators.moves import Reshape, Slice

from ..chains import chains, dense_product, examples


def images(op):
    """The matrix by its columns."""
    columns = [op.apply(e.reshape(op.domain.shape)) for e in np.eye(op.domain.size)]
    return np.stack(columns, axis=-1).reshape(*op.codomain.shape, *op.domain.shape)


@given(chains())
@examples(60)
def test_known_products_are_the_images_of_unit_arrays(chain):
    op = Product(tuple(pair.op for pair in chain))
    np.testing.assert_allclose(known_array(op), dense_product(chain), atol=1e-9)


def shifts(n):
    """The mean over a grid's neighbours, as boxes of a stack of shifted copies."""
    space = ArraySpace((n, n), np.dtype(float))
    labels, sizes, numbers = (0, 1, 2), {0: 2, 1: n, 2: n}, (space.dtype, space.dtype)
    terms = []
    for k in range(2):
        layer = Slice.along((2, n, n), 0, k, k + 1, space.dtype).transpose()
        down = Slice((n, n), (0, 0), (n - 1, n), space.dtype)
        turned = Einsum((), (1, 0), (0, 1), {0: n, 1: n}, 0.5, numbers)
        terms.append(Product((layer, Reshape((1, n, n), (n, n), space.dtype), turned, down.transpose(), down, turned)))
    return Product((Einsum((), (1, 2), labels, sizes, 1, numbers), Sum(tuple(terms)), Scaling(2.0, space)))


def test_large_ones_are_not_multiplied_out_densely(monkeypatch):
    op = shifts(12)
    assert op.domain.size * op.codomain.size > FEW
    monkeypatch.setattr(np, "eye", None)
    monkeypatch.setattr("backsolve.algebra.arrays.map_columns", None)
    array = dense_array(op)
    monkeypatch.undo()
    np.testing.assert_array_equal(array, images(op))
    assert array.dtype == np.float64


@pytest.mark.parametrize("array", [jnp.ones(3), np.array([1.0, np.inf, 2.0]), np.ones(3, complex)])
def test_what_is_traced_or_infinite_or_complex_is_not_known(array):
    dtype = np.dtype(array.dtype)
    times = Einsum((Factor(array, (0,)),), (0,), (0,), {0: 3}, 1, (dtype, dtype))
    assert known_array(times) is None
    assert known_array(Product((times, Identity(ArraySpace((3,), dtype))))) is None
    assert known_array(Scaling(1j, ArraySpace((3,), np.dtype(complex)))) is None
