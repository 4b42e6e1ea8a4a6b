"""Selected inversion against dense inverses, and where it steps back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import splu

import backsolve as bs
from backsolve.engines import selected
from backsolve.engines.selected import selected_inverse


def random(seed, kind):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    A = sp.random_array((n, n), density=min(1, 2.5 / n), rng=rng).toarray() + np.diag(rng.standard_normal(n) + 3)
    if kind == "permuted":
        A = A[rng.permutation(n)]
    if kind == "complex":
        A = A * (1 + 1j * rng.standard_normal((n, n)))
    return A, rng.integers(0, n, (2, 2 * n))


@pytest.mark.parametrize("kind", ["plain", "permuted", "complex"])
def test_any_entries_of_random_matrices(kind, monkeypatch):
    monkeypatch.setattr(selected, "WORK", 1e9)
    served = 0
    for seed in range(40):
        A, (rows, cols) = random(seed, kind)
        lu = splu(sp.csc_array(A))
        B = np.zeros_like(A)
        i, j = np.nonzero(A)
        B[lu.perm_r[i], lu.perm_c[j]] = A[i, j]
        found = selected_inverse(lu.L, lu.U, sp.csc_array(B), rows, cols)
        if found is not None:
            served += 1
            np.testing.assert_allclose(found, np.linalg.inv(B)[rows, cols], rtol=1e-6, atol=1e-8)
    assert served > 35


def grid(x, side):
    u = jnp.pad(x.reshape(side, side), 1)
    return (4.1 * u[1:-1, 1:-1] - u[2:, 1:-1] - u[:-2, 1:-1] - u[1:-1, 2:] - u[1:-1, :-2] + u[1:-1, 1:-1] ** 3).ravel()


def arrow(x):
    return 4 * x - jnp.roll(x, 1) - 0.3 * jnp.sum(x) * jnp.eye(1, x.size)[0] + x[::-1] * 0.5


def bumped(x):
    """Nodes that stay in the bordered matrix."""
    y = jnp.tanh(x + 0.1 * jnp.roll(x, 3))
    return 2 * x[jnp.array(np.random.default_rng(0).permutation(x.size))] + y * jnp.roll(y, 1) + jnp.sum(y) ** 2


@pytest.mark.parametrize("f", [lambda x: grid(x, 15), arrow, bumped], ids=["grid", "arrow", "bumped"])
@pytest.mark.usefixtures("double_precision")
def test_the_diagonal_comes_from_the_factors(f, monkeypatch):
    x = np.cos(np.arange(225.0))
    inverse = bs.linearize(f, x).factored()
    want = np.diag(np.linalg.inv(np.asarray(jax.jacobian(f)(x))))
    entries = inverse.factors.inverse_entries(inverse.matrix.into, inverse.matrix.out)
    if f is not bumped:  # which is full
        np.testing.assert_allclose(entries, want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(inverse.diagonal(), want, rtol=1e-9, atol=1e-12)
    for bound, value in (("WORK", 0), ("LIVE", 0), ("POOR", -1.0)):  # substitutions take over
        monkeypatch.setattr(selected, bound, value)
        assert inverse.factors.inverse_entries(inverse.matrix.into, inverse.matrix.out) is None
        np.testing.assert_allclose(inverse.diagonal(), want, rtol=1e-9, atol=1e-12)
        monkeypatch.undo()


def test_factors_that_are_wrong_are_found_out():
    A = sp.csc_array(np.diag(np.arange(1.0, 5.0)) + np.eye(4, k=1))
    lu = splu(A, permc_spec="NATURAL")
    here = np.arange(4)
    assert selected_inverse(lu.L, lu.U, 2 * A, here, here) is None
    np.testing.assert_allclose(selected_inverse(lu.L, lu.U, A, here, here), 1 / np.arange(1.0, 5.0))
