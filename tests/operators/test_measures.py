"""diagonal, trace, norm and row_norms from the factors, against the dense array; on random operators and on Hessians."""

import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import SpaceError
from backsolve.operators import einsum
from tests import reference

RNG = np.random.default_rng(0)
A, B, D = RNG.normal(size=(3, 3)), RNG.normal(size=(4, 4)), RNG.normal(size=(3, 4))
ROWS, BOTH = {"i": 3, "j": 4, "k": 3}, {"i": 3, "j": 4, "k": 3, "l": 4}
OPERATORS = {
    "hadamard": einsum("ij", "ij", (D, "ij")),
    "kron": einsum("ij", "kl", (A, "ik"), (B, "jl")),
    "left": einsum("ij", "kj", (A, "ik"), sizes=ROWS),
    "broadcast": einsum("ij", "kl", (D, "kl"), sizes=BOTH, coef=-2),
    "complex": einsum("ij", "kj", (A + 1j * A.T, "ik"), sizes=ROWS),
    "sum": einsum("ij", "ij", (D, "ij")) + einsum("ij", "kl", (A, "ik"), (B, "jl")),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_against_the_dense_array(name):
    op = OPERATORS[name]
    dense = np.asarray(op.todense()).reshape(12, 12)
    np.testing.assert_allclose(np.ravel(op.diagonal()), np.diag(dense), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(op.trace(), np.trace(dense), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(op.norm(), np.linalg.norm(dense), rtol=1e-12)
    np.testing.assert_allclose(np.ravel(op.row_norms()), np.linalg.norm(dense, axis=1), rtol=1e-12)


def test_between_different_spaces_there_is_no_diagonal():
    with pytest.raises(SpaceError, match=r"only an operator from a space to itself has a diagonal.*take a square block"):
        einsum("i", "j", (D, "ij")).diagonal()


def test_gradient_norms_of_each_example():
    X, w = jnp.asarray(RNG.normal(size=(5, 3))), jnp.asarray(RNG.normal(size=3))
    losses = lambda w: jnp.tanh(X @ w) ** 2  # noqa: E731
    norms = bs.jacobian(losses, format="operator")(w)[0, 0].row_norms()
    np.testing.assert_allclose(norms, jnp.linalg.norm(reference.jacobian(losses)(w), axis=1), rtol=1e-5)


def test_a_matrix_of_operators():
    f = lambda x, y: jnp.sum(jnp.sin(x) * jnp.sum(y**2)) + jnp.sum(jnp.exp(x))  # noqa: E731
    x, y = jnp.asarray(RNG.normal(size=3)), jnp.asarray(RNG.normal(size=2))
    H = bs.hessian(f, (0, 1), format="operator")(x, y)
    want = np.block([[np.asarray(b) for b in row] for row in reference.hessian(f, (0, 1))(x, y)])
    np.testing.assert_allclose(H.todense(), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(H.diagonal()), np.diag(want), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(H.trace(), np.trace(want), rtol=1e-5)
    np.testing.assert_allclose(H.norm(), np.linalg.norm(want), rtol=1e-5)
