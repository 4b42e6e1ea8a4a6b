"""Systems made by hand: numbers and the paper's operators, against NumPy."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import (
    I,
    O,
    OperatorMatrix,
    SingularError,
    System,
    diagonal,
    hadamard,
    kron,
    left_mul,
    linear_map,
    matrix,
    vector,
)
from backsolve.matrices.build import column
from backsolve.system.bordered import require_square

RNG = np.random.default_rng(0)


def numbers(n=5):
    """A scalar system of n nodes, two sources and two outputs, and its Jacobian by dense algebra."""
    L = np.tril(RNG.standard_normal((n, n)), -1)
    M, S = RNG.standard_normal((n, 2)), RNG.standard_normal((2, n))
    return System(*(matrix(A.tolist()) for A in (M, L, S))), S @ np.linalg.solve(np.eye(n) - L, M)


@pytest.mark.parametrize("engine", ["auto", "superlu", "blocks"])
def test_numbers(engine):
    system, J = numbers()
    assert system.factored() is system.factored()
    b = np.array([1.5, -2.0])
    for damping, D in ((None, J), (0.7, J + 0.7 * np.eye(2))):
        got = system.solve(vector(b), damping=damping, engine=engine)
        np.testing.assert_allclose(list(got), np.linalg.solve(D, b), rtol=1e-11)
        got = system.solve_transpose(vector(b), damping=damping, engine=engine)
        np.testing.assert_allclose(list(got), np.linalg.solve(D.T, b), rtol=1e-11)
    assert all(isinstance(x, float) for x in got)


def paper(k=3):
    """Matrices as unknowns: X ↦ B X Aᵀ, entry by entry, and a second layer, with the operators' dense forms."""
    A, B, D, C = (RNG.standard_normal((k, k)) + 2 * np.eye(k) for _ in range(4))
    M = column([kron(A, B), hadamard(D)])
    L = matrix([[O, O], [left_mul(C), O]])
    S = matrix([[O, I]])

    def J(X):
        return C @ (B @ X @ A.T) + D * X

    return System(M, L, S), J, k


@pytest.mark.parametrize("engine", ["superlu", "blocks"])
def test_the_papers_operators(engine):
    system, J, k = paper()
    dense = np.stack([J(e.reshape(k, k)).ravel() for e in np.eye(k * k)], axis=1)
    b = RNG.standard_normal((k, k))
    (got,) = system.solve(vector([b]), engine=engine)
    np.testing.assert_allclose(got, np.linalg.solve(dense, b.ravel()).reshape(k, k), rtol=1e-9, atol=1e-10)
    (got,) = system.solve_transpose(vector([b]), engine=engine)
    np.testing.assert_allclose(got, np.linalg.solve(dense.T, b.ravel()).reshape(k, k), rtol=1e-9, atol=1e-10)


def test_many_right_hand_sides_of_a_net_by_its_input():
    """A chain of layers d ∘ W x: the inverse undoes them one by one."""
    Ws = [RNG.standard_normal((3, 3)) + 2 * np.eye(3) for _ in range(4)]
    ds = [RNG.standard_normal((3, 1)) + 3 for _ in range(4)]
    layers = [left_mul(d * W) for W, d in zip(Ws, ds)]
    M = column([layers[0], *[O] * 3])
    L = OperatorMatrix.from_entries({(k, k - 1): layers[k] for k in (1, 2, 3)}, (4, 4))
    b = RNG.standard_normal((3, 1))
    want = b
    for W, d in zip(Ws[::-1], ds[::-1]):
        want = np.linalg.solve(W, want / d)
    system = System(M, L, matrix([[O, O, O, I]]))
    (got,) = system.solve(vector([b]))
    np.testing.assert_allclose(got, want, rtol=1e-10)
    (got,) = system.solve(vector([np.tile(b, 2)]))  # as many columns as b has
    np.testing.assert_allclose(got, np.tile(want, 2), rtol=1e-10)


def test_traced_numbers_by_hand():
    def solved(d):
        return system_of(d).solve(vector([jnp.ones(3)]), engine="blocks")[0]

    def system_of(d):
        return System(matrix([[hadamard(d)]]), matrix([[O]]), matrix([[I]]))

    d = jnp.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(jax.jit(solved)(d), 1 / d, rtol=1e-6)


def test_zeros_in_the_right_hand_side():
    system = System(
        diagonal([hadamard(np.full((2, 1), 2.0)), left_mul(np.eye(2))]), matrix([[O, O], [O, O]]), diagonal([I, I])
    )
    x, y = system.solve(vector([O, np.ones((2, 1))]))
    np.testing.assert_array_equal(x, 0)
    np.testing.assert_array_equal(y, 1)


def test_refusals():
    one, zero = matrix([[1.0]]), matrix([[0]])
    with pytest.raises(ValueError, match="2 rows and 1 columns; only a square one has an inverse"):
        System(one, zero, matrix([[1.0], [2.0]])).solve(vector([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"1,000 rows and 2 columns \(x\); .*gauss_newton"):
        require_square(1000, 2, " (x)")
    with pytest.raises(SingularError, match="source 0"):
        System(matrix([[0.0], [1.0]]), matrix([[0, 0], [0, 0]]), matrix([[1.0, 0]])).solve(vector([1.0]))
    with pytest.raises(ValueError, match="unknown engine 'lu'"):
        System(one, zero, one).solve(vector([1.0]), engine="lu")
    with pytest.raises(TypeError, match=r"element \(0, 0\) is .*operators or numbers as elements"):
        System(matrix([[Fraction(1, 2)]]), zero, one).solve(vector([1.0]))


def test_an_edge_that_is_known_by_its_application_alone():
    A = RNG.standard_normal((3, 3)) + 3 * np.eye(3)
    edge = linear_map(lambda x: A @ x, lambda y: A.T @ y, (3,), (3,))
    b = np.arange(3.0)
    (got,) = System(matrix([[edge]]), matrix([[O]]), matrix([[I]])).solve(vector([b]))
    np.testing.assert_allclose(got, np.linalg.solve(A, b), rtol=1e-11)
