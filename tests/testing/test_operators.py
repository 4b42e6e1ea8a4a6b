"""The public checker: it accepts the whole zoo and catches operators that are wrong on purpose."""

import numpy as np
import pytest

from backsolve import SpaceError, hadamard, left_mul, linear_map
from backsolve.operators import ArraySpace, TupleSpace
from backsolve.operators.einsum import einsum
from backsolve.testing import check_operator

from ..zoo import NAMES, Minimal, zoo

ZOO = zoo()
COMPLEX_ZOO = zoo(complex_values=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_zoo_passes(name):
    case = ZOO[name]
    op = case.op.refine(ArraySpace(case.domain), ArraySpace(case.codomain))
    check_operator(op)
    check_operator(op, case.domain, seed=3)
    case = COMPLEX_ZOO[name]
    check_operator(case.op.refine(ArraySpace(case.domain), ArraySpace(case.codomain)), complex_values=True)


def test_operators_on_tuples_pass():
    op = linear_map(lambda x: (x[0] + x[1], 2 * x[0]), lambda y: (y[0] + 2 * y[1], y[0]), [(3,), (3,)], [(3,), (3,)])
    assert isinstance(op.domain, TupleSpace)
    check_operator(op)


def test_wrong_transpose():
    wrong = linear_map(lambda x: 2 * x, lambda y: 3 * y, (2,), (2,))
    with pytest.raises(AssertionError, match=r"f : 2 → 2: the transpose is wrong: ⟨A x, y⟩ = .* but ⟨x, Aᵀ y⟩ = "):
        check_operator(wrong)


@pytest.mark.parametrize("apply", [np.tanh, lambda x: x + 1, lambda x: x * x, np.abs])
def test_nonlinear(apply):
    with pytest.raises(AssertionError, match=r"f : 3 → 3: A is not linear: the largest difference is"):
        check_operator(linear_map(apply, lambda y: y, (3,), (3,)))


def test_nan():
    with pytest.raises(AssertionError, match=r"is not linear.*nan"):
        check_operator(linear_map(lambda x: x * np.nan, lambda y: y * np.nan, (3,), (3,)))


def test_wrong_sizes():
    with pytest.raises(AssertionError, match=r"A x has shape \(3,\), but it claims to lie in 4"):
        check_operator(linear_map(lambda x: x, lambda y: y, (3,), (4,)))
    with pytest.raises(AssertionError, match=r"Aᵀ y has shape \(2,\), but it claims to lie in 3"):
        check_operator(linear_map(lambda x: x[:2], lambda y: y, (3,), (2,)))
    with pytest.raises(AssertionError, match=r"A x has shape \(3, 1\), but it claims to lie in 3"):
        check_operator(linear_map(lambda x: x[:, None], lambda y: y[:, 0], (3,), (3,)))


class WrongDense(Minimal):
    def todense(self):
        return 2 * self.A


class TransposedDense(Minimal):
    def todense(self):
        return self.A.T


class WrongDouble(Minimal):
    def transpose(self):
        return linear_map(lambda y: self.A.T @ y, lambda x: -self.A @ x, self.codomain, self.domain)


class WrongConjugate(Minimal):
    def transpose(self):
        return WrongConjugate(self.A.T)

    def conj(self):
        return self


def test_wrong_dense_form():
    A = np.random.default_rng(0).standard_normal((3, 2))
    with pytest.raises(AssertionError, match=r"WrongDense : 2 → 3: todense\(\) is not the operator: the largest"):
        check_operator(WrongDense(A))
    with pytest.raises(AssertionError, match=r"todense\(\) has shape \(2, 3\), expected codomain \+ domain = \(3, 2\)"):
        check_operator(TransposedDense(A))


def test_wrong_double_transpose_and_adjoint():
    A = np.random.default_rng(0).standard_normal((3, 2))
    with pytest.raises(AssertionError, match=r"the transpose of the transpose is not A"):
        check_operator(WrongDouble(A))
    with pytest.raises(AssertionError, match=r"the adjoint is wrong: ⟨A x, y⟩ = .* but ⟨x, Aᴴ y⟩ = "):
        check_operator(WrongConjugate(A + 1j), complex_values=True)


def test_open_sizes_are_asked_for():
    with pytest.raises(SpaceError, match=r"3×\? → 2×\? leaves sizes .* open; pass check_operator\(op, domain=shape\)"):
        check_operator(left_mul(np.ones((2, 3))))
    check_operator(left_mul(np.ones((2, 3))), (3, 4))
    with pytest.raises(SpaceError, match=r"3 against 4"):
        check_operator(hadamard(np.ones(3)), (4,))


class Wild(Minimal):
    @property
    def domain(self):
        return ArraySpace((self.A.shape[1], None))

    @property
    def codomain(self):
        return ArraySpace((self.A.shape[0], None))

    def transpose(self):
        return Wild(self.A.T)


def test_wildcards_that_do_not_refine_are_checked_on_the_shape_given():
    check_operator(Wild(np.ones((2, 3))), (3, 4))


class Aligned(Minimal):
    """x ↦ A x that claims to leave these axes side by side."""

    pairs = frozenset({(0, 0)})

    def transpose(self):
        return Minimal(self.A.T)

    def aligned(self, into, out):
        return self.pairs


def test_axes_said_to_be_aligned():
    check_operator(Aligned(np.diag([1.0, 2.0, 3.0])))
    with pytest.raises(AssertionError, match=r"axis 0 .* and axis 0 .* are not aligned: .* coupled, by up to 5"):
        check_operator(Aligned(np.array([[1.0, 5.0], [0.0, 2.0]])))
    with pytest.raises(AssertionError, match=r"cannot be aligned: \(2,\), \(3,\)"):
        check_operator(Aligned(np.ones((2, 3))))
    wrong = Aligned(np.eye(2))
    wrong.pairs = frozenset({(1, 0)})
    with pytest.raises(AssertionError, match=r"axis 1 of the codomain and axis 0 of the domain cannot be aligned"):
        check_operator(wrong)


def test_operators_that_are_zero_by_cancellation():
    """What is left of them is rounding, which no law holds for."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 3, 3))
    one = linear_map(lambda x: A @ (B @ x), lambda y: B.T @ (A.T @ y), (3,), (3,))
    other = linear_map(lambda x: -(A @ B) @ x, lambda y: -(A @ B).T @ y, (3,), (3,))
    check_operator(one + other)
    check_operator(hadamard(np.arange(3.0)) @ (one + other))
    cancelling = einsum("i", "j", (np.stack([A, A]), "kij"), (np.array([1.0, -1.0 + 1e-16]), "k"))
    check_operator(cancelling)
    with pytest.raises(AssertionError, match="the transpose is wrong"):
        check_operator(one + linear_map(lambda x: -(A @ B) @ x, lambda y: -(A @ B) @ y, (3,), (3,)))
    with pytest.raises(AssertionError, match="A is not linear"):
        check_operator(one + linear_map(lambda x: -(A @ B) @ x + 1e-6, lambda y: -(A @ B).T @ y, (3,), (3,)))


def test_what_is_large_on_the_way_hides_nothing_elsewhere():
    """The second entry is not linear, and the first one large between two factors only."""
    bent = linear_map(lambda x: np.array([x[0], abs(x[1])]), lambda y: y, (2,), (2,))
    with pytest.raises(AssertionError, match="not linear"):
        check_operator(hadamard(np.array([1e-9, 1.0])) @ bent @ hadamard(np.array([1e9, 1.0])))
