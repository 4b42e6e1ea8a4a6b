"""`sparsity`, what a pattern knows, wrong input and memory, of `format="sparse"`."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.sparse.pattern import PatternTooLargeError
from benchmarks.models import sparse_models as models
from tests import reference

from .oracle import normal
from .test_sparse_jacobian import assert_same


# ---- patterns ----------------------------------------------------------------------------------------------------------
def test_sparsity():
    pattern = bs.sparsity(models.arrow(4).function, np.ones(4))
    assert pattern.dtype == bool
    np.testing.assert_array_equal(pattern.toarray(), np.eye(4, dtype=bool) | (np.arange(4) * np.arange(4)[:, None] == 0))


def test_sparsity_of_trees_without_values():
    shapes = {"a": jax.ShapeDtypeStruct((2,), float), "b": jax.ShapeDtypeStruct((3,), float)}
    found = bs.sparsity(lambda p, s: (p["a"] * s, p["b"][1:]), shapes, 2.0)
    assert [part.shape for part in (found[0]["a"], found[0]["b"], found[1]["a"], found[1]["b"])] == [
        (2, 2), (2, 3), (2, 2), (2, 3)
    ]  # fmt: skip
    assert [part.nnz for part in (found[0]["a"], found[0]["b"], found[1]["a"], found[1]["b"])] == [2, 0, 0, 2]
    assert bs.sparsity(lambda x, y: x[:2] * y, np.ones(3), np.ones(2), argnums=1).shape == (2, 2)


def test_a_pattern_does_not_depend_on_values():
    def f(x):
        return (jnp.where(x > 0, x, 2 * x[::-1]) + x[0] * (jnp.arange(6) == 4)).at[2].add(x[jnp.argmax(x)])

    J = bs.jacobian(f, format="sparse")
    first, *others = [J(jnp.asarray(normal(6, seed=s))) for s in range(5)]
    for s, A in enumerate([first, *others]):
        assert A.pattern == first.pattern
        assert_same(A, reference.jacobian(f)(jnp.asarray(normal(6, seed=s))))
    row = np.bincount(first.rows, minlength=6)
    assert row[2] == 6
    assert max(np.delete(row, 2)) == 3  # the one row that the traced index may touch is full


def test_numbers_known_to_be_zero_are_left_out():
    D = np.diag(np.ones(6)) - np.diag(np.ones(5), 1)
    edge = (jnp.arange(6) > 0).astype(float)

    def f(x):
        return jnp.asarray(D) @ x**2 * edge

    A = jax.jit(bs.jacobian(f, format="sparse"))(jnp.asarray(normal(6)))
    assert A.nnz == 9
    assert_same(A, reference.jacobian(f)(jnp.asarray(normal(6))))


@pytest.mark.parametrize("shapes", [(3, 3), (2, 3), (3, 1, 2)])
def test_arrays_placed_together_depend_each_on_its_own(shapes):
    def f(x):
        return jnp.concatenate(jax.device_put((jnp.ones(2), *(k * x[:n] ** k for k, n in enumerate(shapes, 1)))))

    x = jnp.asarray(normal(3))
    expected = reference.jacobian(f)(x)
    for J in (bs.jacobian(f), jax.jit(bs.jacobian(f)), bs.jacobian(lambda x: lax.map(f, x[None])[0])):
        np.testing.assert_allclose(J(x), expected, rtol=1e-12)
    for g in (f, lambda x: lax.map(f, x[None])[0]):
        np.testing.assert_array_equal(bs.sparsity(g, x).toarray(), expected != 0)


def test_exponents_known_to_be_zero_are_left_out():
    """The law of mass action: a species that takes no part in a reaction has the power 0."""
    orders = jnp.array([[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.0]])

    def rates(c):
        return jnp.prod(c**orders, axis=1)

    c = jnp.array([0.5, 2.0, 1.5, 3.0])
    assert bs.sparsity(rates, c).toarray().tolist() == (orders > 0).tolist()
    for J in (bs.jacobian(rates, format="sparse"), jax.jit(bs.jacobian(rates, format="sparse"))):
        assert_same(J(c), reference.jacobian(rates)(c))
    np.testing.assert_allclose(jax.jit(bs.jacobian(rates))(c), reference.jacobian(rates)(c), rtol=1e-12)
    np.testing.assert_allclose(
        bs.hessian(lambda c: jnp.sum(rates(c)))(c), reference.hessian(lambda c: jnp.sum(rates(c)))(c), rtol=1e-12
    )


def test_indices_worked_out_from_known_places_are_known():
    """Interpolation between the points of a grid: cells by floor, by rounding, by conversion."""
    t = jnp.linspace(0.0, 6.9, 20)

    def between(c):
        i = jnp.floor(t).astype(int)
        return (1 - (t - i)) * c[i] + (t - i) * c[i + 1]

    def nearest(c):
        return c[jnp.round(t / 1.1).astype(int)] * c[(t % 3.0).astype(int)]

    def near(c):
        return jnp.maximum(1 - jnp.sqrt((jnp.arange(8.0)[:, None] - t) ** 2), 0).T @ c

    c = jnp.asarray(normal(8))
    for f, most in ((between, 2), (nearest, 2), (near, 2)):
        for J in (bs.jacobian(f, format="sparse"), jax.jit(bs.jacobian(f, format="sparse"))):
            assert np.bincount(J(c).rows).max() <= most
            assert_same(J(c), reference.jacobian(f)(c))


def test_weights_and_bins_worked_out_from_known_numbers_are_known():
    def enlarged(x):
        return jax.image.resize(x, (12,), "linear")  # weights that are divided by their sums

    def counted(x):
        bins = jnp.floor(4 * jnp.array([0.1, 0.4, 0.5, 0.9, 0.2, 0.3]) / jnp.max(jnp.array([0.5, 1.0])))
        return jnp.zeros(4).at[bins.astype(int)].add(x)

    def ordered(x):
        return x[jnp.argsort(jnp.array([3.0, 1.0, 2.0, 5.0, 4.0, 0.0]))]

    x = jnp.asarray(normal(6))
    for f, count in ((enlarged, 22), (counted, 6), (ordered, 6)):
        A = jax.jit(bs.jacobian(f, format="sparse"))(x)
        assert A.nnz == count
        assert_same(A, reference.jacobian(f)(x))


@pytest.mark.parametrize("precision", ["highest", "default"])
def test_products_with_a_precision_that_changes_nothing_keep_their_structure(precision):
    B = jnp.eye(5) + jnp.eye(5, k=1)
    X = jnp.asarray(normal(4, 5))
    with jax.default_matmul_precision(precision):
        assert bs.sparsity(lambda X: jnp.tanh(X @ B), X).nnz == 4 * 9
        (op,) = bs.jacobian(lambda X: jnp.tanh(X @ B) @ B, format="operator")(X).entries.values()
    assert max(f.array.size for f in op.factors) <= 25


def test_known_indices_and_masks_are_exact_under_jit():
    odd = np.arange(8) % 2 == 1

    def f(x):
        i = jnp.arange(8)
        return jnp.where(odd, x, 0.0) + jnp.where(i > 5, x[(i + 3) % 8], 0.0)

    A = jax.jit(bs.jacobian(f, format="sparse"))(jnp.asarray(normal(8)))
    assert A.nnz == 4 + 2


# ---- wrong input ---------------------------------------------------------------------------------------------------------
def test_a_data_dependent_index_makes_its_row_dense():
    def f(x):
        return jnp.concatenate([x**2, x[jnp.argmax(x)][None]])

    A = bs.jacobian(f, format="sparse")(jnp.asarray(normal(5)))
    assert np.bincount(A.rows).tolist() == [1, 1, 1, 1, 1, 5]
    assert_same(A, reference.jacobian(f)(jnp.asarray(normal(5))))


def test_a_dense_function_warns_once():
    warnings.resetwarnings()
    warnings.simplefilter("error")
    W = jnp.asarray(normal(20, 20))

    def net(x):
        return jnp.tanh(W @ x)

    J = bs.jacobian(net, format="sparse")
    x = jnp.asarray(normal(20))
    with pytest.warns(UserWarning, match="the Jacobian of net is dense: 400 of its 400 entries") as caught:
        A = J(x)
    assert caught[0].filename == __file__
    assert_same(A, reference.jacobian(net)(x))
    J(x)  # not again


def test_a_dense_hessian_warns():
    def cube(x):
        return jnp.sum(x) ** 3

    for derivative in (bs.hessian, bs.value_grad_and_hessian):
        with pytest.warns(UserWarning, match="the Hessian of cube is dense: 400 of its 400 entries") as caught:
            derivative(cube, format="sparse")(jnp.ones(20))
        assert caught[0].filename == __file__


def test_a_pattern_too_large_is_refused_with_its_bytes():
    def f(x):
        return jnp.sum(x) * x

    with pytest.raises(PatternTooLargeError, match=r"has 1,000,000,000,000 entries and needs [\d,]+ bytes"):
        bs.jacobian(f, format="sparse")(jnp.ones(1_000_000))
    with pytest.raises(MemoryError, match="bytes while planning"):
        bs.sparsity(f, jax.ShapeDtypeStruct((1_000_000,), float))


def test_wrong_arguments():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="unknown format 'csr'; use one of 'array', 'operator', 'sparse'"):
        bs.jacobian(jnp.sin, format="csr")(x)
    with pytest.raises(TypeError, match=r"hessian with format='sparse' needs a scalar output, but sin returns shape \(3,\)"):
        bs.hessian(jnp.sin, format="sparse")(x)
    with pytest.raises(TypeError, match="needs real or complex inputs, but leaf 0 of the arguments has dtype int"):
        bs.jacobian(jnp.sin, format="sparse")(jnp.arange(3))
    with pytest.raises(ValueError, match="argnums 1 is out of range"):
        bs.jacobian(jnp.sin, argnums=1, format="sparse")(x)


def test_integers_where_they_are_allowed():
    A = bs.jacobian(lambda n, x: n * x, argnums=(0, 1), allow_int=True, format="sparse")(jnp.arange(3), jnp.ones(3))
    assert A[0].data.dtype == jax.dtypes.float0
    assert (A[0].nnz, A[1].nnz) == (0, 3)


# ---- size --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [models.burgers, models.arrow, models.rosenbrock])
def test_memory_is_proportional_to_the_non_zeros(make):
    """A million unknowns, compiled: the result and the temporaries, by XLA's own count."""
    model = make(1_000_000)
    derivative = bs.hessian if model.second else bs.jacobian
    J = jax.jit(derivative(model.function, format="sparse"))
    analysis = J.lower(jnp.asarray(model.point)).compile().memory_analysis()
    assert analysis.output_size_in_bytes <= 8 * 3 * len(model.point) + 1000
    assert analysis.temp_size_in_bytes <= 3 * 8 * 3 * len(model.point)
