"""System: vjp and jvp on the paper's net against jax, adjoint to each other, and refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import I, O, OperatorMatrix, SpaceError, System, diagonal, hadamard, left_mul, matrix, right_mul, row, vector

SIZES, K = (4, 3, 5, 2), 6
RNG = np.random.default_rng(0)
PARAMS = [p for n, m in itertools.pairwise(SIZES) for p in (RNG.standard_normal((m, n)), RNG.standard_normal((m, 1)))]
X0 = RNG.standard_normal((SIZES[0], K))


def net(*params):
    X = jnp.asarray(X0)
    for W, b in zip(params[::2], params[1::2]):
        X = jnp.sin(W @ X + b)
    return X


def system():
    inputs, deltas, e = [X0], [], np.ones((K, 1))
    for W, b in zip(PARAMS[::2], PARAMS[1::2]):
        Z = W @ inputs[-1] + b
        inputs.append(np.sin(Z))
        deltas.append(np.cos(Z))
    M = diagonal([row([hadamard(D) @ right_mul(X), hadamard(D) @ right_mul(e.T)]) for D, X in zip(deltas, inputs)])
    edges = {(i, i - 1): hadamard(deltas[i]) @ left_mul(PARAMS[2 * i]) for i in (1, 2)}
    L = OperatorMatrix.from_entries(edges, (3, 3))
    return System(M, L, matrix([[O, O, I]]), inputs[-1])


def close(blocks, want):
    assert len(blocks) == len(want)
    for p, q in zip(blocks, want):
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-13)


def test_vjp_and_jvp_against_jax():
    S = system()
    rng = np.random.default_rng(1)
    g, t = rng.standard_normal((2, K)), [rng.standard_normal(p.shape) for p in PARAMS]
    with jax.enable_x64(True):
        value, pull = jax.vjp(net, *map(jnp.asarray, PARAMS))
        np.testing.assert_allclose(S.value, value, rtol=1e-12)
        close(S.vjp(vector([g])), pull(jnp.asarray(g)))
        _, change = jax.jvp(net, tuple(map(jnp.asarray, PARAMS)), tuple(map(jnp.asarray, t)))
        close(S.jvp(vector(t)), [change])


@pytest.mark.parametrize("seed", range(5))
def test_vjp_is_the_adjoint_of_jvp(seed):
    S = system()
    rng = np.random.default_rng(seed)
    g, t = rng.standard_normal((2, K)), [rng.standard_normal(p.shape) for p in PARAMS]
    forward = np.sum(S.jvp(vector(t))[0] * g)
    backward = sum(np.sum(p * q) for p, q in zip(S.vjp(vector([g])), t))
    assert forward == pytest.approx(backward, rel=1e-12)


def test_a_source_that_does_not_matter_gets_zeros():
    M = OperatorMatrix.from_entries({(0, 0): hadamard(np.ones(3)), (1, 1): hadamard(np.ones(2))}, (2, 2))
    L = OperatorMatrix.from_entries({}, (2, 2))
    gradient = System(M, L, matrix([[I, O]])).vjp(vector([np.ones(3)]))
    np.testing.assert_array_equal(gradient[0], np.ones(3))
    np.testing.assert_array_equal(gradient[1], np.zeros(2))


def test_wrong_shapes():
    S = system()
    with pytest.raises(ValueError, match=r"M 3 × 6, L 3 × 3, sinks 1 × 2"):
        System(S.M, S.L, matrix([[O, I]]))
    with pytest.raises(ValueError, match=r"M 1 × 2, L 3 × 3, sinks 1 × 3"):
        System(row([1.0, 2.0]), S.L, S.sinks)
    with pytest.raises(ValueError, match=r"L 1 × 2"):
        System(S.M, row([1.0, 2.0]), S.sinks)
    with pytest.raises(ValueError, match=r"takes a vector of 6 blocks, got one of 2"):
        S.jvp(vector([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"takes a vector of 1 blocks, got one of 2"):
        S.vjp(vector([1.0, 2.0]))
    with pytest.raises(SpaceError, match=r"2×6 against 6×2|6×2 against 2×"):
        S.vjp(vector([np.ones((6, 2))]))
    with pytest.raises(SpaceError, match=r"block 0 of the vector and column 0 of the matrix do not match: 3×4 against 4×3"):
        S.jvp(vector([p.T for p in PARAMS]))
