"""Sparse matrices as arrays: against SciPy and dense NumPy, in NumPy and in JAX, under its transformations."""

import copy
import gc
import operator
import pickle
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import backsolve as bs
from backsolve.operators import ArraySpace, Identity, SpaceError, hadamard, left_mul
from backsolve.sparse.matrix import SparseMatrix

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("double_precision")


def random(m, n, count, seed=0):
    rng = np.random.default_rng(seed)
    return SparseMatrix.from_entries(
        rng.integers(0, m, count), rng.integers(0, n, count), rng.standard_normal(count), (m, n)
    )


def in_jax(A):
    return jax.tree.map(jnp.asarray, A)


def dense(x):
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


A, B, V = random(6, 6, 14), random(6, 6, 11, 1), RNG.standard_normal(6)
W = RNG.standard_normal((2, 6))

BINARY = {
    "sum": lambda A, B, v: A + B,
    "difference": lambda A, B, v: A - B,
    "entrywise": lambda A, B, v: A * B,
    "product": lambda A, B, v: A @ B,
    "gram": lambda A, B, v: A.T @ A,
    "vector": lambda A, B, v: A @ v,
    "from the left": lambda A, B, v: v @ A,
    "columns": lambda A, B, v: A @ W.T,
    "rows": lambda A, B, v: W @ A,
    "scaled columns": lambda A, B, v: A * v,
    "scaled rows": lambda A, B, v: v[:, None] * A,
    "divided": lambda A, B, v: A / v,
    "scaled": lambda A, B, v: 2 * A - A / 3 + (-A) * np.float64(0.5),
    "absolute": lambda A, B, v: abs(A - B) * abs(v),
    "by a number": lambda A, B, v: v[0] * A,
    "dense": lambda A, B, v: A + W.T @ W - (W.T @ W - B),
    "composed": lambda A, B, v: ((A @ B + B.T) * A).T @ (v @ B),
}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic(name, jit):
    f = BINARY[name]
    want = f(A.toarray(), B.toarray(), V)
    np.testing.assert_allclose(dense(f(A, B, V)), want, atol=1e-13)
    run = jax.jit(f) if jit else f
    found = run(in_jax(A), in_jax(B), jnp.asarray(V))
    np.testing.assert_allclose(dense(found), want, atol=1e-13)
    assert isinstance(getattr(found, "data", found), jax.Array)


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 12), st.integers(0, 12), st.integers(0, 99))
def test_products_and_sums_of_all_shapes(m, n, k, p, q, seed):
    left, right, other = random(m, n, p, seed), random(n, k, q, seed + 1), random(m, n, q, seed + 2)
    L, R, S = left.to_scipy(), right.to_scipy(), other.to_scipy()
    np.testing.assert_allclose(dense(left @ right), dense(L @ R), atol=1e-13)
    np.testing.assert_allclose(dense(left + other), dense(L + S), atol=1e-13)
    np.testing.assert_allclose(dense(left - other), dense(L - S), atol=1e-13)
    np.testing.assert_allclose(dense(left * other), dense(L * S), atol=1e-13)
    np.testing.assert_allclose(left.diagonal(), L.diagonal(), atol=1e-13)
    np.testing.assert_allclose(left.trace(), L.trace(), atol=1e-13)
    np.testing.assert_allclose(left.norm(), scipy.sparse.linalg.norm(L), atol=1e-13)
    for shift in (-1, 0, 2):
        np.testing.assert_allclose(dense(left.lower(shift)), dense(sp.tril(L, shift)), atol=1e-13)
        np.testing.assert_allclose(dense(left.upper(shift)), dense(sp.triu(L, shift)), atol=1e-13)
    for found, want in ((left.to_csc(), L.tocsc()), (left.to_scipy(), L)):
        assert type(found) is type(want)
        assert (found != want).nnz == 0
        assert found.has_canonical_format
        assert found.indices.dtype == np.int32


def test_shifts_and_matrices_of_scipy():
    D, S, eye = A.toarray(), B.to_scipy(), sp.eye_array(6)
    pairs = [
        (A + 0.1 * bs.I, D + 0.1 * np.eye(6)),
        (bs.I * 0.1 + A, D + 0.1 * np.eye(6)),
        (A - bs.I, D - np.eye(6)),
        (bs.I - A, np.eye(6) - D),
        (A + 0.1 * np.eye(6), D + 0.1 * np.eye(6)),
        (0.1 * np.eye(6) - A, 0.1 * np.eye(6) - D),
        (A + 0.1 * eye, D + 0.1 * np.eye(6)),
        (0.1 * eye + A, D + 0.1 * np.eye(6)),
        (A - eye, D - np.eye(6)),
        (A @ S, D @ dense(S)),
        (A * S, D * dense(S)),
        (A @ bs.I, D),
        (bs.I @ A, D),
        (2 * bs.I @ A, 2 * D),
        (A @ (2 * Identity(ArraySpace((6,)))), 2 * D),
        (sum([A, A]), 2 * D),
        (A + bs.O, D),
        (A + B.as_operator(), D + B.toarray()),
        (+A, D),
    ]
    for found, want in pairs:
        np.testing.assert_allclose(dense(found), want, atol=1e-13)
    assert isinstance(A + 0.1 * eye, SparseMatrix)
    scaling = hadamard(V)
    np.testing.assert_allclose(dense((A @ scaling).todense()), D * V, atol=1e-13)
    np.testing.assert_allclose(dense((scaling @ A).todense()), V[:, None] * D, atol=1e-13)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_scipy_s_matrices_multiply_from_the_left(form, kind):
    """By ``@`` alone: ``*`` of their older kind is the matrix product, of the newer entry by entry, and is refused."""
    left = getattr(sp, f"{form}_{kind}")(sp.random_array((6, 6), density=0.5, rng=np.random.default_rng(3)))
    S = random(6, 6, 14)
    want = left.toarray() @ dense(S)
    for found in (left @ S, jax.jit(lambda S: left @ S)(in_jax(S))):
        assert isinstance(found, SparseMatrix)
        np.testing.assert_allclose(dense(found), want, atol=1e-13)
    with pytest.raises(TypeError, match=r"no NumPy array: A\.to_scipy\(\) is SciPy's csr_array"):
        left * S
    with pytest.raises(SpaceError, match=r"cannot multiply sparse matrices of shapes \(6, 6\) and \(5, 6\)"):
        left @ S[:5]


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.complex128, np.float16])
def test_diagonals_and_sums(dtype):
    S = random(5, 7, 20).astype(dtype)
    D = dense(S)
    for matrix in (S, in_jax(S)):
        for k in range(-5, 8):
            for found in (matrix.diagonal(k), jax.jit(lambda S, k=k: S.diagonal(k))(matrix)):
                np.testing.assert_array_equal(found, np.diagonal(D, k))
        assert matrix.diagonal(-9).shape == matrix.diagonal(9).shape == (0,)
        for axis in (None, 0, 1, -1, -2):
            for found in (matrix.sum(axis=axis), jax.jit(lambda S, axis=axis: S.sum(axis=axis))(matrix)):
                np.testing.assert_allclose(found, D.sum(axis=axis), rtol=1e-2 if dtype is np.float16 else 1e-12)
    large = SparseMatrix.from_entries([0, 0], [0, 1], np.array([2**31 - 1] * 2, np.int32), (1, 2))
    assert large.sum(axis=1).tolist() == [2**32 - 2]
    with pytest.raises(ValueError, match="has the axes 0 and 1, got axis=2"):
        S.sum(axis=2)
    for axis in (None, 0, 1):
        np.testing.assert_allclose(np.sum(S, axis=axis), S.toarray().sum(axis=axis), rtol=1e-12)
        assert np.sum(S, axis=axis, dtype=np.complex64).dtype == np.complex64
    with pytest.raises(TypeError, match="cannot be written into out="):
        np.sum(S, axis=0, out=np.zeros(S.shape[1]))


def test_parts():
    D, key = A.toarray(), np.array([True, False, True, True, False, False])
    for part in (
        1, -1, slice(1, 4), slice(None, None, -2), [0, 3, 3], np.array([], int), [], key, (2, 3),
        (slice(1, 3), 2), (-2, slice(2)), (slice(None), [4, 1]), (key, slice(None, None, 2)), (slice(2, 2), slice(None)),
    ):  # fmt: skip
        want = D[part]
        for matrix in (A, in_jax(A)):
            found = matrix[part]
            assert found.shape == want.shape
            np.testing.assert_array_equal(dense(found), want)
        jitted = jax.jit(lambda A: A[part])(in_jax(A))  # noqa: B023
        np.testing.assert_array_equal(dense(jitted), want)
    assert len(list(A)) == 6
    wide = SparseMatrix.from_entries([0, 3, 5], [1, 0, 3], np.ones(3), (6, 4), (2, 2), (2, 3))
    assert (wide[2:].codomain, wide[2:].domain) == ((4,), (2, 2))


def test_patterns_are_worked_out_once():
    first, second = jax.jit(lambda A: A @ A.T + bs.I)(in_jax(A)), A @ A.T + bs.I
    again = 2 * A @ (2 * A).T + bs.I
    assert again.pattern is second.pattern
    assert first.pattern == second.pattern
    assert jax.tree.structure(first) == jax.tree.structure(again)
    assert A.lower().pattern is (2 * A).lower().pattern
    assert A[1:3].pattern is (2 * A)[1:3].pattern
    kept = A.pattern._plans
    for _ in range(3):
        A + sp.eye_array(6)
        A @ sp.eye_array(6)
    assert A.pattern._plans is kept  # what comes from SciPy is new each time


def test_patterns_that_come_once_are_not_kept():
    """A loop over parts, whose patterns are new each time, leaves a few of them behind."""
    S = random(6, 6, 18, 5)
    parts = []
    for k in range(40):
        part = S[np.roll(np.arange(6), k)]
        parts.append(weakref.ref(part.pattern.rows))
        for made, want in (
            (S + part, dense(S) + dense(part)),
            (S @ part, dense(S) @ dense(part)),
            (S[: k + 1], dense(S)[: k + 1]),
        ):
            np.testing.assert_allclose(dense(made), want)
        np.testing.assert_allclose(dense(S.lower(k)), np.tril(dense(S), k))
        del part, made
    gc.collect()
    assert sum(part() is not None for part in parts) <= 8
    assert len(S.pattern._plans) <= 8


def test_under_vmap_scan_and_grad():
    def f(d):
        matrix = jax.tree.map(lambda _: d, A)
        return matrix @ matrix.T + 0.5 * bs.I - matrix.lower()

    D = jnp.stack([jnp.asarray(A.data), 2 * jnp.asarray(A.data)])
    many = jax.vmap(f)(D)
    np.testing.assert_allclose(dense(jax.tree.map(lambda d: d[1], many)), dense(f(D[1])), atol=1e-13)
    X = jnp.stack([jnp.asarray(V), -jnp.asarray(V)])
    np.testing.assert_allclose(jax.vmap(operator.matmul)(many, X)[1], dense(f(D[1])) @ -V, atol=1e-12)
    with pytest.raises(
        SpaceError, match=r"a product is that of one sparse matrix, but the data have shape \(2, \d+\), of a b"
    ):
        many @ V

    def step(carry, v):
        matrix, x = carry
        return (matrix + 0.1 * matrix, matrix @ x), matrix.trace()

    (last, x), traces = lax.scan(step, (in_jax(A), jnp.asarray(V)), jnp.arange(3))
    np.testing.assert_allclose(dense(last), 1.1**3 * A.toarray(), rtol=1e-12)
    np.testing.assert_allclose(traces, A.trace() * 1.1 ** np.arange(3), rtol=1e-12)
    np.testing.assert_allclose(x, 1.1**3 * np.linalg.matrix_power(A.toarray(), 3) @ V, rtol=1e-10)

    def loss(d, whole):
        M = jnp.zeros((6, 6)).at[A.rows, A.cols].set(d) if whole else jax.tree.map(lambda _: d, A)
        lower = jnp.tril(M) if whole else M.lower()
        part = (M.T @ M + lower)[1:4]
        norm = jnp.linalg.norm(M) if whole else M.norm()
        diagonal = jnp.diagonal(M) if whole else M.diagonal()
        return jnp.sum((part @ V) ** 2) + norm + jnp.sum(diagonal**3) + jnp.sum((V @ M) * (M * V @ V))

    for transform in (jax.grad, lambda f: jax.jit(jax.grad(f), static_argnums=1), bs.grad):
        np.testing.assert_allclose(transform(loss)(D[0], False), jax.grad(loss)(D[0], True), rtol=1e-10, atol=1e-12)
    slope = jax.grad(lambda A: jnp.sum((A @ V) ** 2))(in_jax(A))
    assert isinstance(slope, SparseMatrix)
    np.testing.assert_allclose(dense(slope), 2 * np.outer(A.toarray() @ V, V) * (A.toarray() != 0), atol=1e-13)


def test_booleans():
    """Of patterns, sums are unions and products say what is reached."""
    P, Q = (SparseMatrix(M.pattern, np.ones(M.nnz, bool), M.domain, M.codomain) for M in (A, B))
    p, q = P.toarray(), Q.toarray()
    assert p.dtype == bool
    for found, want in ((P + Q, p | q), (P @ Q, p @ q), (P * Q, p & q), (P.T @ P, p.T @ p)):
        assert found.dtype == bool
        np.testing.assert_array_equal(dense(found), want)
        assert str(found.to_scipy().dtype) == "bool"
    np.testing.assert_allclose(P @ V, p @ V)
    np.testing.assert_allclose(V @ P, V @ p)
    np.testing.assert_allclose(dense(P * A), A.toarray())
    np.testing.assert_allclose(P.norm(), np.sqrt(p.sum()))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "uint8", "bool", "complex128"])
def test_absolute_values(dtype):
    """The dtypes are those of SciPy's and of jnp.abs, and nothing is an entry that was none."""
    data = (3 * A.data + 2j * A.data[::-1] if dtype == "complex128" else 3 * A.data).astype(dtype)
    M = SparseMatrix(A.pattern, data, A.domain, A.codomain)
    want = abs(M.to_scipy())
    for found in (
        abs(M),
        abs(in_jax(M)),
        jax.jit(abs)(in_jax(M)),
        jax.jit(jax.vmap(abs))(jax.tree.map(lambda d: d[None], M)),
    ):
        assert found.pattern == M.pattern
        assert found.dtype == want.dtype
        np.testing.assert_allclose(np.ravel(found.data), want.data, rtol=1e-6)


def test_derivatives_of_absolute_values():
    """Those of jnp.abs, at zero as well."""
    d = jnp.asarray(A.data).at[2].set(0.0)
    weights = jnp.arange(1.0, A.nnz + 1)

    def loss(d):
        return jnp.sum(weights * abs(jax.tree.map(lambda _: d, A)).data)

    for transform in (jax.grad, lambda f: jax.jit(jax.grad(f)), bs.grad):
        np.testing.assert_allclose(transform(loss)(d), jax.grad(lambda d: jnp.sum(weights * jnp.abs(d)))(d))
    z = d * (1 + 2j)
    slope = lambda f: jax.grad(lambda z: jnp.sum(weights * f(z)))(z.at[2].set(1j))  # noqa: E731
    np.testing.assert_allclose(slope(lambda z: abs(jax.tree.map(lambda _: z, A)).data), slope(jnp.abs))


def test_matrices_are_equal_to_themselves_alone():
    """As keys of a dictionary, and as what jit compares, they are objects."""
    twin = SparseMatrix(A.pattern, A.data, A.domain, A.codomain)
    assert (twin == A) is False
    assert {A: 1, twin: 2} == {twin: 2, A: 1}


def test_complex_numbers_and_other_libraries():
    C = A * (1 + 2j)
    np.testing.assert_allclose(dense(C.H @ C), dense(C).conj().T @ dense(C), atol=1e-12)
    np.testing.assert_allclose(C.norm(), np.linalg.norm(dense(C)))
    T = SparseMatrix(A.pattern, torch.from_numpy(A.data), A.domain, A.codomain)
    for name in ("sum", "product", "gram", "entrywise", "scaled columns", "absolute"):
        other = SparseMatrix(B.pattern, torch.from_numpy(B.data), B.domain, B.codomain)
        found = BINARY[name](T, other, torch.from_numpy(V))
        np.testing.assert_allclose(found.toarray().numpy(), BINARY[name](A.toarray(), B.toarray(), V), atol=1e-12)
    assert A.astype(np.float32).dtype == np.float32


def test_copies_and_pickles():
    """The memo of a pattern, which knows others by where they are in memory, is left behind."""
    A @ B, A + B, A.T
    for twin in (pickle.loads(pickle.dumps(A)), copy.deepcopy(A), copy.copy(A), pickle.loads(pickle.dumps(in_jax(A)))):
        assert twin.pattern == A.pattern
        np.testing.assert_array_equal(dense(twin @ B), dense(A @ B))
        assert jax.tree.structure(twin) == jax.tree.structure(A)
    assert not pickle.loads(pickle.dumps(A)).pattern._memo
    deep = copy.deepcopy(A)
    deep.data[:] = 0
    assert A.data.any()


# ---- looking ---------------------------------------------------------------------------------------------------------
def test_the_share_is_told_right():
    def share(nnz, n):
        places = np.arange(nnz)
        return repr(SparseMatrix.from_entries(places // n, places % n, np.ones(nnz), (n, n))).split("(")[1].split(")")[0]

    assert [share(nnz, 100) for nnz in (0, 1, 5, 1234, 9899, 9901, 9999, 10_000)] == [
        "0%", "0.01%", "0.05%", "12%", "99%", "> 99%", "> 99%", "100%"
    ]  # fmt: skip
    assert share(1, 1) == "100%"


def test_a_picture_names_rows_and_columns():
    J = bs.jacobian(lambda x: (x[1:] - x[:-1]).ravel(), format="sparse")(jnp.ones((4, 5)))
    axes = J.spy().axes[0]
    assert axes.get_title() == "15 × 20, 30 entries"
    assert axes.get_xlabel() == "input[i, j] of 4×5"
    assert axes.get_ylabel() == "output[i] of 15"
    assert axes.xaxis.get_major_formatter()(7) == "1,2"


# ---- wrong input -----------------------------------------------------------------------------------------------------
def test_no_array_unasked():
    for way in (np.asarray, np.array, jnp.asarray, lambda A: np.linalg.solve(A, V), lambda A: A.to_scipy() * A):
        with pytest.raises(
            TypeError, match=r"SparseMatrix of shape \(6, 6\) is no NumPy array: A\.to_scipy\(\) .* A\.todense"
        ):
            way(A)
    for way in (scipy.sparse.linalg.spsolve, scipy.sparse.linalg.splu):
        with pytest.raises(ValueError, match=r"A\.to_scipy\(\) makes a csr_array of it"):
            way(*(A, V)[: 2 if way is scipy.sparse.linalg.spsolve else 1])
    shifted = A + 3 * bs.I
    x = scipy.sparse.linalg.spsolve(shifted.to_csc(), V)
    np.testing.assert_allclose(shifted @ x, V, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: A + 1, TypeError, r"cannot add int to a sparse matrix of shape \(6, 6\): .* A \+ c \* backsolve\.I"),
        (lambda: V + A, TypeError, r"cannot add numpy\.ndarray of shape \(6,\) to a sparse matrix of shape \(6, 6\)"),
        (lambda: A + random(6, 5, 3), SpaceError, r"cannot add sparse matrices of shapes \(6, 6\) and \(6, 5\)"),
        (lambda: A @ random(5, 6, 3), SpaceError, r"cannot multiply sparse matrices of shapes \(6, 6\) and \(5, 6\)"),
        (lambda: A * random(5, 6, 3), SpaceError, r"shapes \(6, 6\) and \(5, 6\) entry by entry"),
        (
            lambda: A * np.ones(5),
            SpaceError,
            r"shape \(6, 6\) is multiplied entry by entry .* got \(5,\); the matrix product",
        ),
        (lambda: np.ones(5) @ A, SpaceError, r"shape \(6,\) or \(k, 6\) multiplies .* \(6, 6\) from the left, got \(5,\)"),
        (lambda: random(5, 6, 3) + bs.I, SpaceError, r"added to a square matrix, not to one of shape \(5, 6\)"),
        (lambda: A + Identity(ArraySpace((5,))), SpaceError, r"does not fit a sparse matrix of shape \(6, 6\)"),
        (lambda: A * left_mul(np.ones((2, 2))), TypeError, "multiplies a sparse matrix entry by entry; write '@'"),
        (lambda: A[6], IndexError, "row 6 lies outside a sparse matrix with 6 rows"),
        (lambda: A[0, -7], IndexError, "column -7 lies outside a sparse matrix with 6 columns"),
        (lambda: A[1.5], TypeError, r"the rows of a sparse matrix are chosen by a whole number, .* got 1\.5"),
        (lambda: A[1, 2, 3], TypeError, r"A\[rows\] or A\[rows, columns\], got A\["),
        (lambda: jax.jit(lambda i: A[i])(1), TypeError, "known while tracing"),
        (lambda: A @ ["a"] * 6, TypeError, "takes an array of numbers"),
        (
            lambda: A @ scipy.sparse.linalg.aslinearoperator(np.eye(6)),
            TypeError,
            r"a product of a sparse .*aslinearoperator\(A\) in place",
        ),
        (
            lambda: A - scipy.sparse.linalg.aslinearoperator(np.eye(6)),
            TypeError,
            r"a sum of a sparse .*aslinearoperator\(A\) in place",
        ),
        (
            lambda: scipy.sparse.linalg.aslinearoperator(np.eye(6)) + A,
            TypeError,
            r"a sum of a sparse .*aslinearoperator\(A\) in place",
        ),
    ],
)
def test_wrong_input(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


WHOLE = [np.uint8, np.int8, np.int64, np.float32]


@pytest.mark.parametrize("left", WHOLE)
@pytest.mark.parametrize("right", WHOLE)
@pytest.mark.parametrize("kind", ["ours", "scipy", "array"])
def test_differences_are_those_of_arrays(left, right, kind):
    """Nothing is negated in a type that has no negative numbers."""
    a = np.array([[1, 0, 2], [0, 0, 3]], left)
    b = np.array([[2, 5, 0], [0, 0, 1]], right)
    A = bs.SparseMatrix.from_entries(*np.nonzero(a), a[np.nonzero(a)], a.shape)
    other = {
        "ours": lambda: bs.SparseMatrix.from_entries(*np.nonzero(b), b[np.nonzero(b)], b.shape),
        "scipy": lambda: sp.csr_array(b),
        "array": lambda: b,
    }[kind]()
    for got, expected in ((A - other, a - b), (other - A, b - a)):
        dense = got.toarray() if isinstance(got, bs.SparseMatrix) else got
        assert dense.dtype == expected.dtype
        np.testing.assert_array_equal(dense, expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, bool])
@pytest.mark.parametrize("library", [np, jnp])
def test_norms_of_whole_numbers_do_not_overflow(dtype, library):
    data = np.array([100, 100, 1]).astype(dtype)
    A = bs.SparseMatrix.from_entries([0, 1, 1], [0, 0, 1], library.asarray(data), (2, 2))
    np.testing.assert_allclose(A.norm(), np.linalg.norm(data.astype(float)), rtol=1e-6)


def test_the_identity_less_whole_numbers_without_a_sign():
    A = bs.SparseMatrix.from_entries([0, 1], [0, 1], np.array([3, 4], np.uint8), (2, 2))
    np.testing.assert_array_equal((bs.I - A).toarray(), np.eye(2) - np.diag([3.0, 4.0]))


def test_lists_of_rows_and_columns_together():
    A = bs.SparseMatrix.from_entries([0, 1], [0, 1], np.ones(2), (2, 2))
    with pytest.raises(IndexError, match=r"write A\[rows\]\[:, columns\]"):
        A[[0, 1], [0, 1]]
    np.testing.assert_array_equal(A[[0, 1]][:, [1, 0]].toarray(), [[0, 1], [1, 0]])


def test_quotients_and_vectors_of_other_libraries():
    A = bs.SparseMatrix.from_entries([0, 1], [0, 1], np.ones(2), (2, 2))
    np.testing.assert_array_equal((A / [2, 4]).toarray(), np.diag([0.5, 0.25]))
    with pytest.raises(TypeError, match=r"take A\.toarray\(\) / B\.toarray\(\)"):
        A / sp.csr_array(np.eye(2))
    with pytest.raises(SpaceError, match=r"has two axes, got one of scipy\.sparse of shape \(3,\)"):
        A + sp.coo_array(np.ones(3))


def test_before_anything_of_jax_was_used():
    """Arrays of JAX's are immutable, and its adapter comes with the first function that is captured."""
    program = """
import backsolve as bs, jax.numpy as jnp
A = bs.SparseMatrix.from_entries([0, 1], [0, 0], jnp.array([2.0, 3.0]), (2, 2))
print(A.diagonal().tolist(), A.toarray().tolist(), A.todense().tolist())
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[2.0, 0.0] [[2.0, 0.0], [3.0, 0.0]] [[2.0, 0.0], [3.0, 0.0]]"
