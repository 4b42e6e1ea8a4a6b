"""The result class: its forms, its products, its picture, and its passage through JAX's transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from backsolve.operators import SpaceError
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.operator import sparse
from backsolve.sparse.pattern import dense, diagonal, from_entries
from backsolve.sparse.text import braille


@st.composite
def matrices(draw):
    m, n, count = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(0, 15))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows, cols, data = rng.integers(0, m, count), rng.integers(0, n, count), rng.standard_normal(count)
    return SparseMatrix.from_entries(rows, cols, data, (m, n)), sp.coo_array((data, (rows, cols)), shape=(m, n)).toarray()


@settings(max_examples=30)
@given(matrices(), st.integers(1, 3))
def test_forms_and_products_against_scipy(pair, k):
    A, want = pair
    m, n = A.shape
    keys = A.rows.astype(int) * n + A.cols
    assert (np.diff(keys) > 0).all()
    np.testing.assert_allclose(A.todense(), want, atol=1e-14)
    np.testing.assert_allclose(A.to_scipy().toarray(), want, atol=1e-14)
    np.testing.assert_allclose(A.T.todense(), want.T, atol=1e-14)
    np.testing.assert_allclose(np.asarray(A.to_bcoo().todense()), want, atol=1e-6)
    x, X = np.random.default_rng(0).standard_normal(n), np.random.default_rng(1).standard_normal((n, k))
    np.testing.assert_allclose(A @ x, want @ x, atol=1e-12)
    np.testing.assert_allclose(A @ X, want @ X, atol=1e-12)
    np.testing.assert_allclose(np.asarray(A @ jnp.asarray(X)), want @ X, atol=1e-4)
    np.testing.assert_allclose(A.T @ (A @ x), want.T @ (want @ x), atol=1e-12)
    assert (A.T.shape, A.nnz, A.dtype) == ((n, m), A.data.size, np.float64)
    assert repr(A).startswith(f"SparseMatrix {m}×{n}, {A.nnz} non-zero")


def test_shapes_of_codomain_and_domain():
    op = sparse([0, 3, 5], [1, 0, 3], np.array([1.0, 2.0, 3.0]), (2, 2), (2, 3))
    A = SparseMatrix.from_operator(op)
    assert (A.shape, A.codomain, A.domain) == ((6, 4), (2, 3), (2, 2))
    assert A.todense().shape == (2, 3, 2, 2)
    assert A.T.todense().shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(A.as_operator().todense(), op.todense())
    assert not A.rows.flags.writeable
    assert SparseMatrix.from_entries([5], [3], np.ones(1), (6, 4), (2, 2), (2, 3)).codomain == (2, 3)


def test_wrong_input_is_refused():
    A = SparseMatrix.from_entries([0, 1], [0, 3], np.ones(2), (2, 4), domain=(2, 2))
    with pytest.raises(SpaceError, match=r"of shape \(2, 4\) multiplies arrays of shape \(4,\) or \(4, k\), got \(3,\)\.$"):
        A @ np.ones(3)
    with pytest.raises(SpaceError, match=r"got \(2, 2\)\. Ravel it to \(4,\) first\."):
        A @ np.ones((2, 2))
    with pytest.raises(SpaceError, match=r"got \(4, 2, 2\)"):
        A @ np.ones((4, 2, 2))
    with pytest.raises(SpaceError, match=r"2 places need data of shape \(2,\), got \(3,\)"):
        SparseMatrix.from_entries([0, 1], [0, 3], np.ones(3), (2, 4))
    with pytest.raises(SpaceError, match=r"of shape \(2, 4\) does not map \(3,\) to \(2,\): that takes \(2, 3\)"):
        SparseMatrix.from_entries([0, 1], [0, 3], np.ones(2), (2, 4), domain=(3,))
    with pytest.raises(SpaceError, match=r"row 5 lies outside"):
        SparseMatrix.from_entries([5], [0], np.ones(1), (2, 4))
    np.testing.assert_array_equal(A @ [1.0, 1.0, 1.0, 1.0], [1.0, 1.0])


# ---- JAX ---------------------------------------------------------------------------------------------------------------
ROWS, COLS = np.array([2, 0, 1, 2]), np.array([0, 1, 1, 2])


def made(d):
    return SparseMatrix.from_entries(ROWS, COLS, d, (3, 3))


def test_it_crosses_jit_vmap_and_grad_with_data_its_only_leaf():
    d = jnp.arange(1.0, 5.0)
    A = jax.jit(made)(d)
    assert isinstance(A, SparseMatrix)
    assert [leaf.shape for leaf in jax.tree.leaves(A)] == [(4,)]
    assert isinstance(A.rows, np.ndarray)
    many = jax.vmap(made)(jnp.stack([d, 2 * d]))
    assert many.data.shape == (2, 4)
    assert "non-zeros (44%), float32[2×4]" in repr(many)
    x = jnp.ones(3)
    np.testing.assert_allclose(np.asarray(jax.vmap(lambda A: A @ x)(many)[1]), 2 * np.asarray(A @ x))
    slope = jax.grad(lambda d: jnp.sum((made(d) @ x) ** 2))(d)
    want = jax.grad(lambda d: jnp.sum((jnp.zeros((3, 3)).at[ROWS, COLS].add(d) @ x) ** 2))(d)
    np.testing.assert_allclose(np.asarray(slope), np.asarray(want))
    assert jax.tree.structure(A) == jax.tree.structure(jax.jit(made)(2 * d))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, A)
    np.testing.assert_allclose(np.asarray(doubled.todense()), 2 * np.asarray(A.todense()))


# ---- pictures ------------------------------------------------------------------------------------------------------------
def test_pictures_by_hand():
    assert braille(diagonal(4)) == ["⎡⠑⢄⎤"]
    assert braille(dense(4, 4)) == ["⎡⣿⣿⎤"]
    assert braille(dense(9, 2)) == ["⎡⣿⎤", "⎢⣿⎥", "⎣⠉⎦"]
    assert braille(from_entries([], [], (3, 0))[0]) == []


@pytest.mark.parametrize("shape", [(10**6, 10**6), (3, 10**5), (10**5, 3), (1, 1), (20_000, 7), (150, 73)])
def test_pictures_fit_on_a_page_and_show_every_corner(shape):
    m, n = shape
    lines = braille(from_entries([0, m - 1], [0, n - 1], shape)[0])
    assert 1 <= len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert len(set(map(len, lines))) == 1
    assert lines[0][1] != "⠀"
    assert lines[-1][-2] != "⠀"
    assert "SparseMatrix 1000×1000, 2 non-zeros (0.0002%), float32" in repr(
        SparseMatrix.from_entries([0, 999], [0, 999], np.ones(2, np.float32), (1000, 1000))
    )
