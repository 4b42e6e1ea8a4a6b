"""One backslash for every kind of element, every triangle and every right-hand side."""

import random as stdlib_random
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pylops
import pytest
import sympy
from scipy.sparse.linalg import LinearOperator as ScipyOperator
from scipy.sparse.linalg import aslinearoperator

from backsolve import I, O, OperatorMatrix, hadamard, kron, left_mul, matrix, right_mul, solve, substitute, vector
from backsolve.algebra import AlgebraError, Boolean, Counting, LogSumExp, MaxTimes, MinPlus
from backsolve.matrices.solve import topological_order

from ..zoo import Minimal

N = 5
RNG = np.random.default_rng(0)
NUMBERINGS = {"lower": range(N), "upper": range(N)[::-1], "permuted": (2, 0, 4, 1, 3)}


def pattern(numbering):
    """The places of a full strict triangle under a numbering."""
    where = list(NUMBERINGS[numbering])
    return [(where[i], where[j]) for i in range(N) for j in range(i)]


def from_dense(A):
    return OperatorMatrix.from_entries({(i, j): A[i, j] for i, j in np.ndindex(*A.shape) if A[i, j] != 0}, A.shape)


def dense_triangle(numbering, dtype=float, unit=False):
    rng = np.random.default_rng(1)
    A = np.zeros((N, N), dtype)
    for i, j in pattern(numbering):
        A[i, j] = rng.standard_normal() + (1j * rng.standard_normal() if dtype is complex else 0)
    return A + (np.eye(N) if unit else np.diag(rng.uniform(1, 2, N)))


# ---- numbers --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_floats_compiled_generic_and_dense_agree(numbering, dtype, unit):
    A = dense_triangle(numbering, dtype, unit)
    b = np.random.default_rng(2).standard_normal(N)
    want = np.linalg.solve(A, b)
    for kind in (from_dense(A), OperatorMatrix.from_scipy(A)):
        compiled = solve(kind, b)
        generic = solve(kind, b.astype(object))
        assert isinstance(compiled, np.ndarray)
        np.testing.assert_allclose(compiled, want, rtol=1e-12)
        np.testing.assert_allclose(generic.astype(dtype), want, rtol=1e-12)
        np.testing.assert_allclose(np.linalg.solve(kind, b), want, rtol=1e-12)
        np.testing.assert_allclose(solve(kind.T, b), np.linalg.solve(A.T, b), rtol=1e-11)
        np.testing.assert_allclose(solve(kind.H, b), np.linalg.solve(A.conj().T, b), rtol=1e-11)


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_right_hand_sides_of_every_kind(numbering):
    A = dense_triangle(numbering)
    K = from_dense(A)
    b, B = RNG.standard_normal(N), RNG.standard_normal((N, 3))
    want = np.linalg.solve(A, b)
    for kind in (list, tuple, vector):
        x = solve(K, kind(b.tolist()))
        assert type(x) is type(kind([1.0]))
        np.testing.assert_allclose(list(x), want, rtol=1e-12)
    np.testing.assert_allclose(solve(K, B), np.linalg.solve(A, B), rtol=1e-12)
    np.testing.assert_allclose(solve(K, [1, 2, 3, 4, 5]), np.linalg.solve(A, [1, 2, 3, 4, 5]), rtol=1e-12)
    np.testing.assert_allclose(solve(K, np.arange(N)), np.linalg.solve(A, np.arange(N)), rtol=1e-12)
    X = solve(K, from_dense(B))
    assert isinstance(X, OperatorMatrix)
    np.testing.assert_allclose([[X[i, j] for j in range(3)] for i in range(N)], np.linalg.solve(A, B), rtol=1e-12)
    x = solve(K, [O, *b[1:].tolist()])
    np.testing.assert_allclose([0 if v is O else v for v in x], np.linalg.solve(A, [0, *b[1:]]), rtol=1e-12)


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_inverse_of_numbers_is_of_numbers(numbering):
    A = dense_triangle(numbering)
    inverse = np.linalg.inv(from_dense(A))
    assert all(isinstance(x, float) for x in inverse.entries.values())
    np.testing.assert_allclose([[inverse.entries.get((i, j), 0) for j in range(N)] for i in range(N)], np.linalg.inv(A))


def test_ints_and_fractions_are_exact():
    A = matrix([[2, 0, 0], [1, 3, 0], [1, 1, -7]])
    assert solve(A, [2, 1, 10**20]) == [1, 0, Fraction(1 - 10**20, 7)]
    assert solve(A, [Fraction(1), 0, 0]) == [Fraction(1, 2), Fraction(-1, 6), Fraction(1, 21)]
    assert (A @ np.linalg.inv(A)).entries == {(0, 0): 1, (1, 1): 1, (2, 2): 1}
    assert solve(matrix([[4, 0], [0, 2]]), [8, 6]) == [2, 3]
    assert all(isinstance(x, int) for x in solve(matrix([[4, 0], [0, 2]]), [8, 6]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.complex64])
def test_precision_is_kept(dtype):
    third = dtype(1) / dtype(3)
    x = substitute(matrix([[0, 0], [third, 0]]), np.array([1, 0], dtype))
    assert x.dtype == dtype
    assert x[1] == third


def test_permuted_real_matrix_with_complex_diagonal():
    A = dense_triangle("permuted").astype(complex)
    A[np.diag_indices(N)] *= 1j
    K = matrix([[float(A[i, j].real) if i != j else complex(A[i, j]) for j in range(N)] for i in range(N)])
    np.testing.assert_allclose(solve(K, np.ones(N)), np.linalg.solve(A, np.ones(N)), rtol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
def test_nan_passes_through_as_nan(compiled):
    L = matrix([[0, 0, 0], [np.nan, 0, 0], [0, 1.0, 0]])
    b = np.ones(3) if compiled else [1, 1, 1]
    np.testing.assert_array_equal(substitute(L, b), [1, np.nan, np.nan])
    np.testing.assert_array_equal(solve(matrix([[np.nan, 0], [0.0, 2.0]]), np.ones(2)), [np.nan, 0.5])
    x = solve(matrix([[I, O], [hadamard(np.array([np.nan, 1.0])), I]]), [np.ones(2), np.ones(2)])
    np.testing.assert_array_equal(x[1], [np.nan, 0.0])


# ---- symbols, blocks, operators --------------------------------------------------------------------------------------
@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_noncommuting_symbols_are_never_reordered(numbering):
    p, q, r = list(NUMBERINGS[numbering])[:3]
    a, b, c, d, e, f, x, y, z = sympy.symbols("a b c d e f x y z", commutative=False)
    entries = {(p, p): a, (q, p): b, (q, q): c, (r, p): d, (r, q): e, (r, r): f}
    entries |= {(i, i): 1 for i in NUMBERINGS[numbering] if i not in (p, q, r)}
    A = OperatorMatrix.from_entries(entries, (N, N))
    rhs = [0] * N
    rhs[p], rhs[q], rhs[r] = x, y, z
    u = solve(A, rhs)
    first = a**-1 * x
    second = c**-1 * (y - b * first)
    third = f**-1 * (z - d * first - e * second)
    for got, want in ((u[p], first), (u[q], second), (u[r], third)):
        assert sympy.expand(got - want) == 0
    inverse = np.linalg.inv(A)
    assert sympy.expand(inverse[q, p] + c**-1 * b * a**-1) == 0


def test_sympy_matrix_blocks():
    t = sympy.Symbol("t")
    D, C = sympy.Matrix([[t, 1], [0, 2]]), sympy.Matrix([[1, 2], [3, t]])
    A = matrix([[D, O], [C, D]])
    b = [sympy.Matrix([1, 2]), sympy.Matrix([3, 4])]
    x = solve(A, b)
    whole = sympy.Matrix(sympy.BlockMatrix([[D, sympy.zeros(2)], [C, D]]))
    want = whole.LUsolve(sympy.Matrix([1, 2, 3, 4]))
    assert sympy.simplify(sympy.Matrix([*x[0], *x[1]]) - want) == sympy.zeros(4, 1)


SIZES = (2, 3, 1, 4, 2)


def dense_blocks(numbering, unit):
    rng = np.random.default_rng(3)
    blocks = {(i, j): rng.standard_normal((SIZES[i], SIZES[j])) for i, j in pattern(numbering)}
    eyes = {(i, i): np.eye(n) if unit else rng.standard_normal((n, n)) + 3 * np.eye(n) for i, n in enumerate(SIZES)}
    return blocks | eyes


def glued(blocks):
    rows = [[blocks.get((i, j), np.zeros((SIZES[i], SIZES[j]))) for j in range(N)] for i in range(N)]
    return np.block(rows)


class WithInverse(ScipyOperator):
    """A SciPy operator that offers the inverse a diagonal needs."""

    def __init__(self, A):
        self.A = A
        super().__init__(A.dtype, A.shape)

    def _matvec(self, x):
        return self.A @ x

    def inverse(self):
        return aslinearoperator(np.linalg.inv(self.A))


KINDS = {  # how a block of an array becomes an element, off the diagonal and on it
    "ndarray": (lambda A: A, lambda A: A),
    "left_mul": (left_mul, left_mul),
    "user's own with I": (Minimal, None),
    "SciPy": (aslinearoperator, WithInverse),
    "PyLops": (pylops.MatrixMult, pylops.MatrixMult),
}


# The minimal contract has no inverse, so it stands beside the identity only.
KINDS_AND_DIAGONALS = [(k, unit) for k in KINDS for unit in (True, False) if unit or KINDS[k][1]]


@pytest.mark.parametrize(("kind", "unit"), KINDS_AND_DIAGONALS)
@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_blocks_and_operators_equal_the_dense_solve(numbering, kind, unit):
    off, on = KINDS[kind]
    blocks = dense_blocks(numbering, unit)
    entries = {(i, j): I if unit and i == j else (on if i == j else off)(B) for (i, j), B in blocks.items()}
    A = OperatorMatrix.from_entries(entries, (N, N))
    tail = (2,) if kind == "left_mul" else ()
    rng = np.random.default_rng(4)
    b = [rng.standard_normal((n, *tail)) for n in SIZES]
    want = np.linalg.solve(glued(blocks), np.concatenate(b))
    np.testing.assert_allclose(np.concatenate(solve(A, b)), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.concatenate(list(np.linalg.solve(A, vector(b)))), want, rtol=1e-9, atol=1e-12)
    if unit or kind not in ("SciPy", "PyLops"):
        back = np.concatenate(solve(A.T, b))
        np.testing.assert_allclose(back, np.linalg.solve(glued(blocks).T, np.concatenate(b)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "square",
    [
        hadamard(RNG.uniform(1, 2, (3, 4))),
        left_mul(RNG.standard_normal((3, 3))),
        right_mul(RNG.standard_normal((4, 4))),
        2.5 * I,
        -I,
        kron(RNG.standard_normal((4, 4)), RNG.standard_normal((3, 3))),
        hadamard(RNG.uniform(1, 2, (3, 4))) @ left_mul(RNG.standard_normal((3, 3))),
    ],
)
def test_operators_on_the_diagonal(square):
    W = RNG.standard_normal((3, 3))
    A = matrix([[square, O], [left_mul(W), square]])
    b = vector([RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))])
    x = solve(A, b)
    for got, want in zip(A @ x, b):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    for got, want in zip(np.linalg.inv(A) @ b, x):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_lineax_operators():
    import jax
    import jax.numpy as jnp
    import lineax

    with jax.enable_x64(True):
        P, Q = (jnp.asarray(np.random.default_rng(k).standard_normal((2, 2))) for k in (5, 6))
        L = OperatorMatrix.from_entries(
            {(1, 0): lineax.MatrixLinearOperator(P), (2, 1): lineax.MatrixLinearOperator(Q)}, (3, 3)
        )
        x = substitute(L, [jnp.ones(2), jnp.zeros(2), jnp.zeros(2)])
        np.testing.assert_allclose(x[2], Q @ (P @ np.ones(2)), rtol=1e-12)
        back = substitute(L.T, [jnp.zeros(2), jnp.zeros(2), jnp.ones(2)])
        np.testing.assert_allclose(back[0], P.T @ (Q.T @ np.ones(2)), rtol=1e-12)


def test_nested_matrices_are_elements():
    inner = matrix([[2, 0], [1, 2]])
    off = matrix([[1, 2], [3, 4]])
    A = OperatorMatrix.from_entries({(0, 0): inner, (1, 0): off, (1, 1): inner}, (2, 2))
    assert A.shape == (2, 2)
    x = solve(A, [vector([1, 2]), vector([3, 4])])
    flat = np.array([[2, 0, 0, 0], [1, 2, 0, 0], [1, 2, 2, 0], [3, 4, 1, 2.0]])
    np.testing.assert_allclose([float(v) for block in x for v in block], np.linalg.solve(flat, [1, 2, 3, 4]))
    assert [list(block) for block in A @ x] == [[1, 2], [3, 4]]


SEMIRINGS = {
    MinPlus: ((3, 1, 4), min, lambda a, b: a + b),
    MaxTimes: ((0.5, 0.25, 0.1), max, lambda a, b: a * b),
    Boolean: ((True, False, True), lambda a, b: a or b, lambda a, b: a and b),
    Counting: ((2, 3, 7), lambda a, b: a + b, lambda a, b: a * b),
    LogSumExp: ((0.1, -2.0, 0.7), np.logaddexp, lambda a, b: a + b),
}


@pytest.mark.parametrize("semiring", SEMIRINGS)
def test_semirings(semiring):
    (a, b, c), plus, times = SEMIRINGS[semiring]
    L = OperatorMatrix.from_entries({(1, 0): semiring(a), (2, 0): semiring(b), (2, 1): semiring(c)}, (3, 3))
    x = substitute(L, [semiring.one(), semiring.zero(), semiring.zero()])
    assert x[2].value == pytest.approx(plus(b, times(c, a)))
    y = substitute(L, [I, O, O])
    assert y[2] == x[2]
    with pytest.raises(AlgebraError, match=r"cannot negate .*\. Elements without a minus .* substitute\(L, b\)"):
        (I - L).entries  # noqa: B018


# ---- sizes ----------------------------------------------------------------------------------------------------------
def test_long_chain_and_wide_fan_do_not_recurse():
    n, D = 100_000, hadamard(np.array([1.0, -1.0]))
    chain = OperatorMatrix.from_entries({(i + 1, i): D for i in range(n - 1)}, (n, n))
    numbers = OperatorMatrix.from_entries({(i + 1, i): -1 for i in range(n - 1)}, (n, n))
    wide = {(i, 0): D for i in range(1, 1001)} | {(1001, i): D for i in range(1, 1001)}
    fan = OperatorMatrix.from_entries(wide, (1002, 1002))
    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 60)
    try:
        g = vector([O] * (n - 1) + [np.array([1.0, 2.0])])
        back = np.linalg.solve(I - chain.T, g)[0]
        ahead = solve(I - numbers, [1] + [0] * (n - 1))[-1]
        through = solve(I - fan, vector([np.array([1.0, 2.0])] + [O] * 1001))[-1]
    finally:
        sys.setrecursionlimit(limit)
    np.testing.assert_array_equal(back, [1, 2 * (-1.0) ** (n - 1)])
    assert ahead == (-1) ** (n - 1)
    np.testing.assert_array_equal(through, [1000, 2000])


def test_eight_threads_solve_one_matrix():
    A = I - OperatorMatrix.from_entries({(i + 1, i): 0.5 for i in range(2000)}, (2001, 2001))
    K = I - OperatorMatrix.from_entries({(i + 1, i): hadamard(np.full(3, 0.5)) for i in range(200)}, (201, 201))
    b = np.zeros(2001)
    b[0] = 1

    def work(k):
        x = solve(A, (k + 1) * b)
        y = solve(K.T, vector([O] * 200 + [np.full(3, k + 1.0)]))
        return x[10], y[190][0]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(64)))
    assert results == [((k + 1) * 0.5**10, (k + 1) * 0.5**10) for k in range(64)]


def test_topological_order_of_shuffled_graphs():
    shuffle = stdlib_random.Random(0)
    for _ in range(50):
        n = shuffle.randrange(1, 30)
        name = list(range(n))
        shuffle.shuffle(name)
        rows = [[] for _ in range(n)]
        for i in range(n):
            for j in range(i):
                if shuffle.random() < 0.2:
                    rows[name[i]].append((name[j], None))
        place = {v: k for k, v in enumerate(topological_order(n, rows.__getitem__))}
        assert sorted(place) == list(range(n))
        assert all(place[j] < place[i] for i in range(n) for j, _ in rows[i])
