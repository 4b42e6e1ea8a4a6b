"""The same results whatever library the arrays come from: NumPy, JAX (eager and jitted), PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from backsolve import I, O, bidiagonal, diagonal, hadamard, kron, left_mul, matrix, right_mul, row, solve, tdot, vector
from backsolve.algebra.arrays import is_array, namespace
from backsolve.operators import einsum

LIBRARIES = {"numpy": np.asarray, "jax": jnp.asarray, "torch": torch.asarray}


@pytest.fixture(params=LIBRARIES)
def asarray(request):
    with jax.enable_x64(True):
        yield LIBRARIES[request.param]


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def operators(a):
    """Every structured constructor on arrays made by a."""
    B, R, M, A, S, u = (a(array(*s, seed=k)) for k, s in enumerate([(2, 3), (4, 2), (3, 4), (5, 4), (3, 3), (3,)]))
    return {
        "left_mul": left_mul(B),
        "right_mul": right_mul(R),
        "hadamard": hadamard(M),
        "kron": kron(A, B),
        "tdot": tdot(M),
        "net edge": hadamard(M) @ left_mul(S),
        "difference": hadamard(M) - hadamard(M) @ hadamard(M),
        "multiple": 2.5 * left_mul(B),
        "plus identity": left_mul(S) + I,
        "trace": einsum("", "ii") @ left_mul(S) @ right_mul(a(array(4, 3))),
        "diagonal": einsum("ii", "i", (u, "i")) @ einsum("i", "ij", sizes={"j": 4}),
        "inverse": (hadamard(M) @ left_mul(S)).inverse(),
    }


@pytest.mark.parametrize("name", operators(np.asarray))
def test_operators_of_every_library(asarray, name):
    op, ours = operators(asarray)[name], operators(np.asarray)[name]
    X = array(3, 4, seed=9)
    x = asarray(X)
    y = op @ x
    assert type(y) is type(x) or np.ndim(y) == 0
    np.testing.assert_allclose(np.asarray(y), ours @ X, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(op.T @ y), ours.T @ (ours @ X), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(op.H @ y), ours.T @ (ours @ X), rtol=1e-12)


def formula(a):
    W, X = [a(array(3, 3, seed=k)) for k in (1, 2)], [a(array(3, 4, seed=k)) for k in (3, 4, 5)]
    D = [a(array(3, 4, seed=k)) for k in (6, 7, 8)]
    e = a(np.ones((4, 1)))
    M = diagonal([row([hadamard(d) @ right_mul(x), hadamard(d) @ right_mul(e.T)]) for d, x in zip(D, X)])
    ImL = bidiagonal([I] * 3, [-hadamard(d) @ left_mul(w) for d, w in zip(D[1:], W)])
    return M.T @ np.linalg.solve(ImL.T, vector([O, O, a(array(3, 4, seed=10))]))


def test_the_formula_in_every_library(asarray):
    blocks = formula(asarray)
    for got, want in zip(blocks, formula(np.asarray)):
        assert type(got) is type(asarray(want))
        np.testing.assert_allclose(np.asarray(got), want, rtol=1e-12)


def test_the_formula_under_jit():
    with jax.enable_x64(True):
        jitted = jax.jit(lambda D: list(solve(matrix([[I, O], [-hadamard(D), I]]).T, [O, D])))
        D = jnp.asarray(array(3))
        np.testing.assert_allclose(jitted(D)[0], D * D, rtol=1e-12)


def test_blocks_of_every_library(asarray):
    D, C = array(2, 2, seed=1) + 3 * np.eye(2), array(2, 2, seed=2)
    A = matrix([[asarray(D), O], [asarray(C), asarray(D)]])
    x = solve(A, [asarray(np.ones(2)), asarray(np.ones(2))])
    want = np.linalg.solve(np.block([[D, np.zeros((2, 2))], [C, D]]), np.ones(4))
    np.testing.assert_allclose(np.concatenate([np.asarray(b) for b in x]), want, rtol=1e-12)


def test_right_hand_side_as_one_array(asarray):
    b = asarray(array(3, 2))
    x = solve(matrix([[1.0, 0, 0], [2.0, 1.0, 0], [0, 3.0, 2.0]]), b)
    assert type(x) is type(b)
    want = np.linalg.solve(np.array([[1, 0, 0], [2, 1, 0], [0, 3, 2.0]]), array(3, 2))
    np.testing.assert_allclose(np.asarray(x), want, rtol=1e-12)


def test_what_counts_as_an_array():
    assert all(is_array(a([1.0])) for a in LIBRARIES.values())
    assert is_array(np.float64(1))
    assert not any(map(is_array, (1.0, [1.0], hadamard(np.ones(2)), matrix([[1.0]]))))
    assert namespace(1.0) is np
