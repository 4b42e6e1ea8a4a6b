"""The paper's matrix net, its challenge (section 4), and what its reference implementation cannot do (section 5)."""

import itertools
import re
import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
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
from backsolve.operators import Einsum
from tests import reference

_RNG = np.random.default_rng(0)
B, W, H, X = (_RNG.standard_normal(s) for s in [(5, 3), (3, 3), (3, 4), (3, 4)])


# ---- the matrix net, and section 4: the challenge -----------------------------------------------------------------
SIZES, COLUMNS = (5, 4, 3, 2), 6


def matrix_net():
    """Three layers on k data columns: the parameters, the loss, and M, I − L and g as the paper writes them."""
    rng = np.random.default_rng(6)
    weights = [rng.standard_normal((m, n)) for n, m in itertools.pairwise(SIZES)]
    biases = [rng.standard_normal((m, 1)) for m in SIZES[1:]]
    X0, Y = rng.standard_normal((SIZES[0], COLUMNS)), rng.standard_normal((SIZES[-1], COLUMNS))
    e = np.ones((COLUMNS, 1))

    def loss(params, xp):
        X = xp.asarray(X0)
        for Wi, bi in zip(params[::2], params[1::2]):
            X = xp.tanh(Wi @ X + bi @ e.T)
        return xp.sum((X - Y) ** 2)

    inputs, deltas = [X0], []
    for Wi, bi in zip(weights, biases):
        inputs.append(np.tanh(Wi @ inputs[-1] + bi @ e.T))
        deltas.append(1 - inputs[-1] ** 2)
    N = 3
    M = diagonal([row([hadamard(D) @ right_mul(X), hadamard(D) @ right_mul(e.T)]) for D, X in zip(deltas, inputs)])
    ImL = bidiagonal([I] * N, [-hadamard(D) @ left_mul(W) for D, W in zip(deltas[1:], weights[1:])])
    g = vector([O] * (N - 1) + [2 * (inputs[-1] - Y)])
    params = [p for pair in zip(weights, biases) for p in pair]
    return params, loss, M, ImL, g


def jax_gradient(loss, params):
    with jax.enable_x64(True):
        return [np.asarray(p) for p in reference.grad(lambda ps: loss(ps, jnp))([jnp.asarray(p) for p in params])]


def assert_blocks_close(blocks, expected, rtol=1e-12):
    assert len(blocks) == len(expected)
    for block, want in zip(blocks, expected):
        assert block.shape == want.shape
        scale = np.abs(want).max()
        np.testing.assert_allclose(block, want, rtol=rtol, atol=rtol * scale)


def test_the_challenge():
    params, loss, M, ImL, g = matrix_net()
    gradient = M.T @ np.linalg.solve(ImL.T, g)
    assert isinstance(gradient, bs.BlockVector)
    assert_blocks_close(gradient, jax_gradient(loss, params))


def test_matrix_net_has_the_papers_shape():
    _, _, M, ImL, g = matrix_net()
    assert (M.shape, ImL.shape, len(g)) == ((3, 6), (3, 3), 3)
    assert sorted(M.entries) == [(i, 2 * i + k) for i in range(3) for k in range(2)]
    assert sorted(ImL.entries) == [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    assert ImL[1, 0].domain.shape == (4, 6)
    assert ImL[2, 1].codomain.shape == (2, 6)


def test_the_solver_that_ran_is_the_one_that_solves_fractions(monkeypatch):
    """Every product and sum of both solves is made by one and the same code object."""
    _, _, _, ImL, g = matrix_net()
    fractions = bidiagonal([1, 1, 1], [Fraction(-1, 2), Fraction(-1, 3)])
    of_a_row = bs.solve.__globals__["times_row"].__code__  # which _solve calls for each row

    def codes(run):
        seen = set()

        def trace(frame, event, arg):
            caller = frame.f_back
            if event == "call" and frame.f_code.co_name == "multiply" and caller is not None:
                seen.add(caller.f_code)

        sys.setprofile(trace)
        try:
            run()
        finally:
            sys.setprofile(None)
        return {code for code in seen if code is of_a_row or code.co_filename.endswith("solve.py")}

    for_fractions = codes(lambda: np.linalg.solve(fractions, [Fraction(1), 0, 0]))
    for_operators = codes(lambda: np.linalg.solve(ImL.T, g))
    assert for_fractions == for_operators == {of_a_row}

    ran = []
    solve_module = sys.modules[bs.solve.__module__]
    original = solve_module._solve

    def traced(diagonal, N, b):
        ran.append(N)
        return original(diagonal, N, b)

    monkeypatch.setattr(solve_module, "_solve", traced)
    np.linalg.solve(ImL.T, g)
    assert np.linalg.solve(fractions, [Fraction(1), 0, 0]) == [1, Fraction(1, 2), Fraction(1, 6)]
    assert len(ran) == 2


def test_the_solver_has_no_word_about_operators_or_derivatives():
    source = Path(sys.modules[bs.solve.__module__].__file__).read_text(encoding="utf-8")
    words = "operator|derivative|gradient|jacobian|adjoint|tangent|differentiat|backprop"
    assert re.findall(words, source, flags=re.IGNORECASE) == []


# ---- section 5: what the reference could not do -------------------------------------------------------------------
def test_compositions_are_checked_for_shape():
    with pytest.raises(SpaceError, match=r"cannot compose .* domain 3×\? .* codomain 5×\?"):
        left_mul(B) @ left_mul(B)
    with pytest.raises(SpaceError, match=r"domain 3×4 .* codomain 5×\?.*transpose one with \.T"):
        hadamard(H) @ left_mul(B)


def test_compositions_are_simplified():
    chain = hadamard(H)
    for _ in range(50):
        chain = hadamard(H) @ chain
    assert isinstance(chain, Einsum)
    assert len(chain.factors) == 1
    mixed = left_mul(W) @ left_mul(W) @ left_mul(W)
    assert len(mixed.factors) == 1
    np.testing.assert_allclose(mixed.factors[0].array, W @ W @ W, rtol=1e-12)
    assert (I @ mixed) is mixed or (I @ mixed).factors == mixed.factors
    assert isinstance(O @ mixed, type(O))


def test_inverse_of_an_operator_matrix():
    params, loss, M, ImL, g = matrix_net()
    inverse = np.linalg.inv(ImL)
    assert_blocks_close(M.T @ (inverse.T @ g), jax_gradient(loss, params))
    product = ImL @ inverse
    t = vector(np.random.default_rng(7).standard_normal((m, COLUMNS)) for m in SIZES[1:])
    assert_blocks_close(product @ t, list(t))


def test_product_of_operator_matrices():
    params, loss, M, ImL, g = matrix_net()
    by_products = (M.T @ np.linalg.inv(ImL.T)) @ g
    assert_blocks_close(by_products, jax_gradient(loss, params))


def test_every_evaluation_order_of_the_formula():
    params, loss, M, ImL, g = matrix_net()
    expected = jax_gradient(loss, params)
    g = vector([np.zeros((m, COLUMNS)) for m in SIZES[1:-1]] + [g[2]])
    column = OperatorMatrix.from_entries({(2, 0): tdot(g[2]).T}, (3, 1))
    ways = {
        "back substitution": M.T @ solve(ImL.T, g),
        "inverse first": (M.T @ np.linalg.inv(ImL.T)) @ g,
        "inverse, then vector": M.T @ (np.linalg.inv(ImL.T) @ g),
        "all columns at once": np.linalg.solve(ImL, M).T @ g,
        "transposed product": (np.linalg.inv(ImL) @ M).T @ g,
        "g as an operator": (M.T @ np.linalg.solve(ImL.T, column)) @ vector([1.0]),
        "g as an operator, inside out": (column.T @ np.linalg.solve(ImL, M)).T @ vector([1.0]),
    }
    for blocks in ways.values():
        assert_blocks_close(blocks, expected)


def test_sums_with_a_zero_of_unknown_size():
    assert (hadamard(H) + O).domain.shape == (3, 4)
    np.testing.assert_allclose((O + left_mul(B) + O) @ X, B @ X)
    assert (matrix([[O, hadamard(H)]]) + matrix([[left_mul(W), O]])).shape == (1, 2)


def test_diagonals_other_than_the_identity():
    D = 2 + np.abs(H)
    A = matrix([[hadamard(D), O], [left_mul(W), left_mul(W)]])
    b = [X, 2 * X]
    x = solve(A, b)
    np.testing.assert_allclose(x[0], X / D, rtol=1e-12)
    np.testing.assert_allclose(x[1], np.linalg.solve(W, 2 * X - W @ (X / D)), rtol=1e-10)
