"""Under `vmap`, no two routines of linear algebra of a Jacobian run at a time, and its numbers are JAX's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs


def newton(x):
    """Three steps, each of which solves."""
    z = x
    for _ in range(3):
        J = jnp.eye(4) * (2 + x[0]) + jnp.outer(z, jnp.cos(z))
        z = z - jnp.linalg.solve(J, jnp.sin(z) + z - x)
    return z


def apart(x):
    """Routines that do not need each other's results."""
    A = jnp.outer(x, x) + 3 * jnp.eye(4)
    solved = [jnp.linalg.solve(A + k * jnp.eye(4), x) for k in range(3)]
    return sum(solved) + jnp.linalg.cholesky(A)[2] + jnp.linalg.qr(A + 1)[1][0] + jnp.linalg.inv(A)[1]


def spectrum(x):
    A = jnp.outer(x, x) + jnp.diag(jnp.arange(1.0, 5))
    return jnp.linalg.eigh(A)[0] * jnp.linalg.svd(A + 1, compute_uv=False) + jnp.linalg.slogdet(A)[1]


def runs_beside(text):
    """Pairs of custom calls of LAPACK of which neither needs the other."""
    entry = text[text.index("\nENTRY") :]
    before, routines = {}, []
    for line in entry.splitlines():
        match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
        if match is None:
            continue
        name, rest = match.groups()
        direct = [k for k in re.findall(r"%([\w.\-]+)", rest.split("metadata=")[0]) if k in before]
        before[name] = set(direct).union(*(before[k] for k in direct))
        if 'custom_call_target="lapack' in line:
            routines.append(name)
    assert len(routines) > 3
    return [(a, b) for k, b in enumerate(routines) for a in routines[:k] if a not in before[b]]


@pytest.mark.parametrize("f", [newton, apart, spectrum])
def test_one_after_the_other(f, double_precision):
    X = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (7, 4)))
    compiled = jax.jit(jax.vmap(bs.jacobian(f))).lower(X).compile()
    assert runs_beside(compiled.as_text()) == []
    np.testing.assert_allclose(compiled(X), jax.jit(jax.vmap(jax.jacfwd(f)))(X), rtol=1e-9, atol=1e-11)


def test_numbers_of_any_kind_wait(double_precision):
    """Complex matrices, single precision, and a NaN in what is waited for: nothing is changed."""

    def f(x):
        A = jnp.outer(x, x) * 1j + 3 * jnp.eye(3)
        return jnp.abs(jnp.linalg.solve(A, x + 0j)) + jnp.linalg.solve(A.real, jnp.sqrt(x - 0.6))

    for dtype, tolerance in ((np.float64, 1e-9), (np.float32, 1e-4)):
        X = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (7, 3)), dtype)
        found = jax.jit(jax.vmap(bs.jacobian(f)))(X)
        expected = jax.jit(jax.vmap(jax.jacfwd(f)))(X)
        assert found.dtype == dtype
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
