"""Closed forms of products and sums: factors merge where that does not grow them, and never otherwise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve import I, O, SpaceError, hadamard, kron, left_mul, right_mul, tdot
from backsolve.operators import Einsum, Identity, Scaling, Sum, Zero, einsum

RNG = np.random.default_rng(0)


def stored(op):
    return sum(f.size for f in op.factors)


def test_hadamards_and_multiplications_merge():
    M, N = RNG.standard_normal((2, 3, 4))
    B, C = RNG.standard_normal((2, 3, 3))
    assert stored(hadamard(M) @ hadamard(N)) == 12
    assert stored(left_mul(B) @ left_mul(C)) == 9
    assert stored(hadamard(M) + hadamard(N)) == 12
    assert stored(left_mul(B) - left_mul(C)) == 9
    assert len((hadamard(M) @ left_mul(B)).factors) == 2


def test_kronecker_and_rank_one_edges_are_never_blown_up():
    n = 300
    A, B = RNG.standard_normal((2, n, n))
    u, v = RNG.standard_normal((2, n))
    both = kron(A, B) @ kron(B, A) @ left_mul(A) @ right_mul(B)
    assert stored(both) == 2 * n * n
    rank_one = einsum("i", "j", (u, "i"), (v, "j"))
    assert stored(rank_one @ rank_one) <= 2 * n + 1
    assert stored(hadamard(v) @ rank_one @ hadamard(u)) <= 2 * n
    assert stored(rank_one.T @ hadamard(v)) <= 2 * n
    total = rank_one + rank_one.T
    assert isinstance(total, Sum)
    assert sum(map(stored, total.terms)) == 4 * n
    assert stored(tdot(np.ones((n, n))) @ left_mul(A)) <= n * n
    low = einsum("i", "j", (RNG.standard_normal((n, 2)), "ir"), (RNG.standard_normal((2, n)), "rj"))
    assert stored(low @ low) <= 4 * n + 4


@given(st.lists(st.sampled_from("hlrku"), min_size=1, max_size=7), st.integers(0, 100))
def test_composition_never_stores_more_than_its_operands(word, seed):
    rng = np.random.default_rng(seed)
    make = {
        "h": lambda: hadamard(rng.standard_normal((4, 5))),
        "l": lambda: left_mul(rng.standard_normal((4, 4))),
        "r": lambda: right_mul(rng.standard_normal((5, 5))),
        "k": lambda: kron(rng.standard_normal((5, 5)), rng.standard_normal((4, 4))),
        "u": lambda: einsum("ij", "kj", (rng.standard_normal(4), "i"), (rng.standard_normal(4), "k")),
    }
    parts = [make[c]() for c in word]
    total = parts[0]
    for part in parts[1:]:
        total = total @ part
    assert isinstance(total, Einsum)
    assert stored(total) <= sum(map(stored, parts))
    X = rng.standard_normal((4, 5))
    want = X
    for part in reversed(parts):
        want = part @ want
    np.testing.assert_allclose(total @ X, want, rtol=1e-9, atol=1e-9 * np.abs(want).max())


def test_identity_zero_and_multiples_vanish():
    op = left_mul(RNG.standard_normal((3, 3)))
    assert (I @ op).factors == op.factors
    assert isinstance(O @ op, Zero)
    assert isinstance(op @ O, Zero)
    assert (op + O).factors == op.factors
    assert isinstance(I + I, Scaling)
    assert isinstance(I @ I, Identity)
    assert isinstance((2 * I) @ (0.5 * I), Identity)
    assert (-1 * -op).coef == 1
    assert (3 * op).factors == op.factors  # a number costs no array


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sums_without_any_array(n):
    """Small sizes are where a dense sum would not grow."""
    sizes = {"i": n, "j": n}
    X = RNG.standard_normal((n, n))
    both = einsum("ij", "ij", sizes=sizes) + einsum("ji", "ij", sizes=sizes)
    np.testing.assert_allclose(both @ X, X + X.T)
    np.testing.assert_allclose((both + both) @ X, 2 * (X + X.T))
    trace = einsum("", "ij", sizes=sizes) - einsum("", "ii", sizes={"i": n})
    np.testing.assert_allclose(trace @ X, X.sum() - np.trace(X))


def test_wrong_labels_and_sizes():
    with pytest.raises(SpaceError, match=r"label 'i' has size 2 in one place and 3 in the factor of shape \(3, 4\)"):
        einsum("i", "j", (np.ones(2), "i"), (np.ones((3, 4)), "ij"))
    with pytest.raises(SpaceError, match=r"shape \(2, 3\) has 2 axes but 1 labels"):
        einsum("i", "j", (np.ones((2, 3)), "i"))
    with pytest.raises(SpaceError, match=r"repeats a label in 'ii'"):
        einsum("i", "i", (np.ones((2, 2)), "ii"))
    with pytest.raises(SpaceError, match=r"left_mul needs a matrix \(2 axes\), got an array of shape \(3,\)"):
        left_mul(np.ones(3))
    with pytest.raises(SpaceError, match=r"domains of .* do not match: 3×\? against 4×\?.*Summands map"):
        left_mul(np.ones((2, 3))) + left_mul(np.ones((2, 4)))
    with pytest.raises(SpaceError, match=r"3×\? against 2×\?\. It maps a space to itself"):
        left_mul(np.ones((2, 3))) + I
    with pytest.raises(SpaceError, match=r"the domain of \(3\)ᴴ and the array do not match: 3 against 4"):
        hadamard(np.ones(3)) @ np.ones(4)
    with pytest.raises(TypeError, match=r"'\*' scales .*use '@' to compose"):
        hadamard(np.ones(3)) * hadamard(np.ones(3))
