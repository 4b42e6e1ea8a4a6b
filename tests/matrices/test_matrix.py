"""OperatorMatrix: arithmetic against dense blocks, spaces unified on insertion, refusals, laziness."""

from fractions import Fraction

import numpy as np
import pytest
import sympy

from backsolve import (
    I,
    O,
    OperatorMatrix,
    SpaceError,
    bidiagonal,
    diagonal,
    hadamard,
    left_mul,
    matrix,
    right_mul,
    row,
    solve,
    tdot,
    vector,
)
from backsolve.operators import ArraySpace, Identity, LinearOperator

RNG = np.random.default_rng(0)


def numbers(m, n, density=0.6):
    A = RNG.standard_normal((m, n)) * (RNG.random((m, n)) < density)
    return A, OperatorMatrix.from_entries({(i, j): A[i, j] for i, j in np.ndindex(m, n)}, (m, n))


def dense(K):
    return np.array([[K.entries.get((i, j), 0) for j in range(K.shape[1])] for i in range(K.shape[0])])


# ---- arithmetic -----------------------------------------------------------------------------------------------------
def test_arithmetic_of_numbers_against_numpy():
    (A, K), (B, N) = numbers(4, 5), numbers(4, 5)
    C, P = numbers(5, 3)
    np.testing.assert_allclose(dense(K + N), A + B)
    np.testing.assert_allclose(dense(K - N), A - B)
    np.testing.assert_allclose(dense(-K), -A)
    np.testing.assert_allclose(dense(2 * K), 2 * A)
    np.testing.assert_allclose(dense(K * 0.5), A / 2)
    np.testing.assert_allclose(dense(K / 4), A / 4)
    np.testing.assert_allclose(dense(K @ P), A @ C)
    np.testing.assert_allclose(dense(K.T), A.T)
    np.testing.assert_allclose(dense((1j * K).H), (1j * A).conj().T)
    x, X = RNG.standard_normal(5), RNG.standard_normal((5, 2))
    np.testing.assert_allclose(K @ x, A @ x)
    np.testing.assert_allclose(K @ X, A @ X)
    np.testing.assert_allclose(K @ x.tolist(), A @ x)
    np.testing.assert_allclose(dense(sum([K, N, K])), 2 * A + B)


def test_from_scipy_and_from_arrays():
    import scipy.sparse

    A, K = numbers(4, 4)
    for source in (A, scipy.sparse.coo_array(A), scipy.sparse.csc_matrix(A)):
        S = OperatorMatrix.from_scipy(source)
        np.testing.assert_allclose(dense(S), A)
        np.testing.assert_allclose(S @ np.ones(4), A.sum(axis=1))
        np.testing.assert_allclose(dense(S + K), 2 * A)
        np.testing.assert_allclose(dense(I - S), np.eye(4) - A)
    with pytest.raises(ValueError, match=r"matrix of 4 × 4 cannot act on shape \(3,\)"):
        OperatorMatrix.from_scipy(A) @ np.ones(3)


def test_products_of_operator_matrices_keep_the_order():
    a, b, c, d = sympy.symbols("a b c d", commutative=False)
    assert (matrix([[a, b]]) @ matrix([[c], [d]])).entries == {(0, 0): a * c + b * d}
    U, V, W = (RNG.standard_normal((3, 3)) for _ in range(3))
    A = matrix([[left_mul(U), right_mul(V)], [O, hadamard(W)]])
    x = vector([RNG.standard_normal((3, 3)) for _ in range(2)])
    for got, want in zip((A @ A.T) @ x, A @ (A.T @ x)):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    for got, want in zip((A + A) @ x, A @ (x + x)):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    for got, want in zip((A @ A).T @ x, A.T @ (A.T @ x)):
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("kind", ["numbers", "operators", "scipy"])
def test_identity_minus_is_lazy_and_equal_to_eager(kind):
    if kind == "operators":
        D = hadamard(RNG.standard_normal(3))
        L = OperatorMatrix.from_entries({(1, 0): D, (2, 1): D}, (3, 3))
        b = vector([RNG.standard_normal(3) for _ in range(3)])
    else:
        L = OperatorMatrix.from_entries({(1, 0): 2.0, (2, 1): 3.0}, (3, 3))
        L = OperatorMatrix.from_scipy(dense(L)) if kind == "scipy" else L
        b = vector([1.0, 2.0, 3.0])
    lazy = I - L
    eager = OperatorMatrix.from_entries({(i, i): I for i in range(3)} | {p: -w for p, w in L.entries.items()}, (3, 3))
    assert lazy.splitting() == (None, L)  # nothing negated, nothing copied
    for A, B in ((lazy, eager), (lazy.T, eager.T), (lazy.H, eager.H)):
        assert set(A.entries) == set(B.entries)
        for got, want in zip(solve(A, b), solve(B, b)):
            np.testing.assert_allclose(got, want, rtol=1e-12)
        for got, want in zip(A @ b, B @ b):
            np.testing.assert_allclose(got, want, rtol=1e-12)
    assert len((lazy + L).entries) >= 3
    assert lazy[0, 0].universal_unit == "one"


@pytest.mark.parametrize("weight", [2, 0.5, hadamard(np.array([0.5, 2.0]), "Δ"), sympy.Symbol("a", commutative=False)])
def test_identity_minus_a_unit_triangle_is_strictly_triangular(weight):
    back = I - bidiagonal([I, I, I] if isinstance(weight, LinearOperator) else [1, 1, 1], [-weight, -weight])
    assert set(back.entries) == {(1, 0), (2, 1)}
    assert back.shape == (3, 3)
    if not isinstance(weight, LinearOperator):
        assert back[1, 0] == weight


def test_identity_minus_with_a_diagonal():
    A, K = numbers(3, 3, density=1)
    np.testing.assert_allclose((I - K) @ np.eye(3), np.eye(3) - A)
    np.testing.assert_allclose((I + K) @ np.eye(3), np.eye(3) + A)
    np.testing.assert_allclose((K - I) @ np.eye(3), A - np.eye(3))
    np.testing.assert_allclose(dense(2 * (I - K) - I), np.eye(3) - 2 * A)
    inverse = np.linalg.inv(matrix([[1, 0], [2, 1]]))
    assert ((inverse + inverse) @ [1, Fraction(1, 2)]) == [2, -3]
    assert (I @ K) is K
    assert (K @ I) is K
    B = np.ones((2, 2))
    assert np.array_equal((I - matrix([[B]]))[0, 0], np.eye(2) - B)


def test_rows_without_entries_give_zeros():
    A = matrix([[0, 1.0], [0, 0]])
    np.testing.assert_array_equal(A @ np.ones((2, 3)), [[1, 1, 1], [0, 0, 0]])
    assert (A @ [2.0, 3.0]) == [3.0, 0]
    K = OperatorMatrix.from_entries({(0, 0): hadamard(np.ones(3)), (1, 1): hadamard(np.ones(2))}, (2, 2))
    x = K @ vector([np.ones(3), O])
    np.testing.assert_array_equal(x[1], np.zeros(2))


def test_scalars_between_operators():
    """A node may hold a number: operators from and to scalars act on numbers."""
    G = np.arange(3.0)
    A = matrix([[I, -tdot(G).T], [O, I]])
    np.testing.assert_allclose(solve(A, vector([O, 2.0]))[0], 2 * G)
    np.testing.assert_allclose(solve(A, vector([O, np.float64(2.0)]))[0], 2 * G)
    np.testing.assert_allclose(float((matrix([[tdot(G)]]) @ vector([G]))[0]), 5.0)


def test_looking_at_entries():
    A = matrix([[1, 0], [2, 3]])
    assert (A[1, 0], A[-1, -1], A[0, 1]) == (2, 3, O)
    assert list(A.row(1)) == [(0, 2), (1, 3)]
    assert A.block_rows == 2
    with pytest.raises(IndexError, match=r"entry \(2, 0\) lies outside a matrix of 2 × 2 blocks"):
        A[2, 0]


# ---- spaces ---------------------------------------------------------------------------------------------------------
def test_sizes_spread_to_wildcards():
    W, D = RNG.standard_normal((2, 3)), np.ones((2, 5))
    A = matrix([[left_mul(W), hadamard(D)], [O, I]])
    assert A[0, 0].domain.shape == (3, 5)
    assert A[0, 0].codomain.shape == (2, 5)
    assert A[1, 1].domain.shape == (2, 5)
    assert [s.shape for s in A.row_spaces] == [(2, 5), (2, 5)]
    assert [s.shape for s in A.col_spaces] == [(3, 5), (2, 5)]
    assert A[0, 0].todense().shape == (2, 5, 3, 5)
    chain = OperatorMatrix.from_entries(
        {(i + 1, i): left_mul(np.ones((3, 3))) for i in range(50)} | {(i, i): I for i in range(51)}, (51, 51)
    )
    assert chain[50, 50].domain.shape == (3, None)
    fixed = chain + OperatorMatrix.from_entries({(50, 50): hadamard(np.ones((3, 7)))}, (51, 51))
    assert fixed.row_spaces[50].shape == (3, 7)


class Columns(LinearOperator):
    """A user's wildcard operator that does not refine."""

    def __init__(self, B):
        self.B = B

    @property
    def domain(self):
        return ArraySpace((self.B.shape[1], None))

    @property
    def codomain(self):
        return ArraySpace((self.B.shape[0], None))

    def apply(self, x):
        return self.B @ x

    def transpose(self):
        return Columns(self.B.T)


def test_operators_that_do_not_refine_keep_what_their_row_knows():
    A = matrix([[Columns(np.eye(3)), hadamard(np.ones((3, 4)))], [Columns(np.ones((2, 3))), O]])
    assert A.row_spaces[0].shape == (3, 4)
    assert A.col_spaces[1].shape == (3, 4)
    x = A @ vector([np.ones((3, 4)), np.ones((3, 4))])
    np.testing.assert_array_equal(x[0], 2 * np.ones((3, 4)))


def test_insertion_errors_name_both_shapes():
    W = np.ones((2, 3))
    with pytest.raises(
        SpaceError, match=r"row 0 and entry \(0, 1\), \(4\)ᴴ : 4 → 4, do not match: 3 against 4.*one codomain"
    ):
        matrix([[hadamard(np.ones(3)), hadamard(np.ones(4))]])
    with pytest.raises(SpaceError, match=r"column 0 and entry \(1, 0\).* do not match: 3×5 against 4×6.*one domain"):
        matrix([[hadamard(np.ones((3, 5)))], [hadamard(np.ones((4, 6)))]])
    with pytest.raises(SpaceError, match=r"do not match: 2×5 against 3×5|do not match: 3×5 against 2×"):
        matrix([[left_mul(W), O], [hadamard(np.ones((3, 5))), O], [hadamard(np.ones((2, 5))), O]])
    with pytest.raises(SpaceError, match=r"entry \(1, 0\), numpy.ndarray of shape \(3, 2\), do not match: 4×… against 2×…"):
        matrix([[np.ones((3, 4))], [np.ones((3, 2))]])


def test_sums_and_products_that_do_not_fit():
    A, B = matrix([[1, 2]]), matrix([[1], [2]])
    with pytest.raises(SpaceError, match=r"cannot add matrices of 1 × 2 and 2 × 1"):
        A + B
    with pytest.raises(
        SpaceError, match=r"cannot multiply matrices of 1 × 2 and 1 × 2: 2 block columns against 1 block rows"
    ):
        A @ A
    with pytest.raises(SpaceError, match=r"the domains of \(3\)ᴴ \+ \(4\)ᴴ do not match: 3 against 4\. Summands map"):
        matrix([[hadamard(np.ones(3))]]) + matrix([[hadamard(np.ones(4))]])
    with pytest.raises(SpaceError, match=r"the row spaces at 0 do not match: 3 against 4"):
        matrix([[hadamard(np.ones(3)), O]]) + matrix([[O, hadamard(np.ones(4))]])
    with pytest.raises(SpaceError, match=r"the inner spaces at 0 do not match: 3 against 4"):
        matrix([[hadamard(np.ones(3))]]) @ matrix([[hadamard(np.ones(4))]])
    with pytest.raises(SpaceError, match=r"I − A needs a square A, got 1 × 2"):
        I - A
    with pytest.raises(SpaceError, match=r"the identity added to a matrix of 1 × 2 blocks needs it square"):
        A + I
    with pytest.raises(ValueError, match=r"a matrix of 1 × 2 takes a vector of 2 blocks, got one of 3"):
        A @ [1, 2, 3]
    with pytest.raises(SpaceError, match=r"block 0 of the vector and column 0 of the matrix do not match: 3 against 4"):
        matrix([[hadamard(np.ones(3))]]) @ [np.ones(4)]


def test_numbers_among_operators_are_refused():
    with pytest.raises(TypeError, match=r"entry \(1, 1\) is the number 2.5 among operators .*\(3\)ᴴ.* Write 2.5 \* I"):
        matrix([[hadamard(np.ones(3)), O], [O, 2.5]])
    assert matrix([[hadamard(np.ones(3)), 0], [0, 2.5 * I]]).shape == (2, 2)
    with pytest.raises(TypeError, match=r"cannot add int to the operator .*number among operators has no size.* c \* I"):
        hadamard(np.ones(3)) + 1


def test_a_number_is_never_broadcast_into_a_block():
    with pytest.raises(ValueError, match=r"cannot add float and numpy.ndarray of shape \(2, 2\): .*one shape"):
        matrix([[2.0]]) + matrix([[np.eye(2)]])


def test_object_arrays_are_refused_with_a_remedy():
    mixed = np.empty(2, dtype=object)
    mixed[:] = [hadamard(np.ones(3)), 2.0]
    with pytest.raises(
        TypeError, match=r"dtype object .*\(3\)ᴴ.* mixes numbers with blocks of unknown size; use backsolve.vector"
    ):
        hadamard(np.ones(3)) @ mixed
    with pytest.raises(TypeError, match=r"stands left of .* write op @ x, op.T @ x, or tdot\(G\) @ op"):
        np.ones(3) @ hadamard(np.ones(3))


def test_places_twice_or_outside():
    with pytest.raises(ValueError, match=r"entry \(0, 1\) is given twice: int and float; add the two first"):
        OperatorMatrix.from_entries([((0, 1), 1), ((0, 1), 2.0)], (2, 2))
    with pytest.raises(IndexError, match=r"entry \(0, 2\) lies outside a matrix of 2 × 2 blocks"):
        OperatorMatrix.from_entries({(0, 2): 1}, (2, 2))


def test_zeros_are_dropped_and_nan_is_kept():
    A = OperatorMatrix.from_entries({(0, 0): 0, (0, 1): O, (1, 0): Fraction(0), (1, 1): float("nan")}, (2, 2))
    assert list(A.entries) == [(1, 1)]


def test_inverse_equals_the_dense_inverse():
    W = RNG.standard_normal((3, 3)) + 3 * np.eye(3)
    D = RNG.uniform(1, 2, (3, 2))
    A = matrix([[hadamard(D), O, O], [left_mul(W), left_mul(W), O], [O, hadamard(D), 2 * I]])
    inverse = np.linalg.inv(A)
    assert isinstance(inverse, OperatorMatrix)
    full = np.block([[_square(A[i, j]) for j in range(3)] for i in range(3)])
    got = np.block([[_square(inverse[i, j]) for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(got, np.linalg.inv(full), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="only a square matrix can be solved with, got 1 × 2 blocks"):
        np.linalg.inv(row([1.0, 2.0]))


def _square(op):
    space = ArraySpace((3, 2))
    return op.refine(space, space).todense().reshape(6, 6)


def test_numpy_functions_that_are_not_ours_are_refused():
    with pytest.raises(TypeError, match="det"):
        np.linalg.det(diagonal([1.0, 2.0]))
    with pytest.raises(TypeError, match="solve"):
        np.linalg.solve(np.eye(2), diagonal([1.0, 2.0]))
    assert isinstance(diagonal([Identity()])[0, 0], Identity)
