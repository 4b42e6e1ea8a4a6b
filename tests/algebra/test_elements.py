"""What elements do: semiring laws, universal units in every algebra, division on the left side."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from backsolve import I, O, SingularError, hadamard
from backsolve.algebra import AlgebraError, Boolean, Counting, LogSumExp, MaxTimes, MinPlus
from backsolve.algebra import elements as al

VALUES = {
    MinPlus: st.integers(-50, 50) | st.just(math.inf),
    MaxTimes: st.fractions(0, 10),
    Boolean: st.booleans(),
    Counting: st.integers(0, 50),
    LogSumExp: st.floats(-50, 50) | st.just(-math.inf),
}


def same(a, b):
    return type(a) is type(b) and a.value == pytest.approx(b.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_semiring_laws(kind, data):
    a, b, c = (kind(data.draw(VALUES[kind])) for _ in range(3))
    assert same((a + b) + c, a + (b + c))
    assert same(a + b, b + a)
    assert same((a * b) * c, a * (b * c))
    assert same(a * (b + c), a * b + a * c)
    assert same((a + b) * c, a * c + b * c)
    assert same(a + kind.zero(), a)
    assert same(a * kind.one(), a)
    assert same(kind.one() * a, a)
    assert same(a * kind.zero(), kind.zero())


@pytest.mark.parametrize("kind", [MinPlus, MaxTimes, Counting, LogSumExp])
def test_nan_stays_nan_on_either_side(kind):
    nan, two = kind(math.nan), kind(2.0)
    for x in (nan + two, two + nan, nan * two, two * nan):
        assert math.isnan(x.value)


def test_semirings_do_not_mix():
    with pytest.raises(AlgebraError, match=r"cannot add .*MinPlus and .*Counting"):
        al.add(MinPlus(1), Counting(1))


a = sympy.Symbol("a", commutative=False)
ELEMENTS = [2, Fraction(1, 3), 1.5, 2 + 1j, np.float32(2), a, sympy.Matrix([[1, 2], [3, 4]]), np.eye(2) + 1,
            hadamard(np.ones((2, 2)) * 3), MinPlus(3)]  # fmt: skip


@pytest.mark.parametrize("x", ELEMENTS, ids=str)
def test_universal_units(x):
    for got in (al.add(x, O), al.add(O, x), al.multiply(I, x), al.multiply(x, I), al.left_divide(I, x)):
        assert got is x or repr(got) == repr(x)
    assert al.is_zero(al.multiply(O, x)) or np.all(np.asarray(al.multiply(O, x)) == 0)
    assert al.is_zero(al.multiply(x, O))


@pytest.mark.parametrize("x", ELEMENTS[:-1], ids=str)
def test_the_quotient_of_one_is_the_inverse(x):
    product = al.multiply(al.left_divide(x, I), x)
    if hasattr(x, "codomain"):
        product, x = product @ np.ones((2, 2)), np.ones((2, 2))
        np.testing.assert_allclose(product, x)
    else:
        difference = al.subtract(product, al.one_like(x))
        assert np.allclose(np.array(difference, dtype=complex), 0)


def test_division_is_from_the_left():
    b = sympy.Symbol("b", commutative=False)
    assert al.left_divide(a, b) == a**-1 * b

    class Quaternion:
        """Only / and *, which do not commute: division multiplies the inverse on the right."""

        def __init__(self, m):
            self.m = np.asarray(m)

        def __mul__(self, other):
            return Quaternion(self.m @ other.m)

        def __truediv__(self, other):
            return Quaternion(self.m @ np.linalg.inv(other.m))

    p, q = Quaternion([[1.0, 2], [3, 4]]), Quaternion([[0.0, 1], [1, 1]])
    np.testing.assert_allclose(al.left_divide(p, q).m, np.linalg.solve(p.m, q.m), atol=1e-14)


def test_multiples_of_the_one_take_the_algebra_of_their_neighbour():
    assert al.add(2 * I, Fraction(1, 3)) == Fraction(7, 3)
    assert al.multiply(2 * I, Fraction(1, 3)) == Fraction(2, 3)
    np.testing.assert_array_equal(al.add(np.ones((2, 2)), -I), 1 - np.eye(2))
    np.testing.assert_array_equal(al.multiply(np.ones((2, 2)), 3 * I), 3 * np.ones((2, 2)))


@pytest.mark.parametrize("d", [0, 0.0, O, Fraction(0), np.zeros((2, 2)), np.ones((2, 3)), MinPlus(1), "text"], ids=str)
def test_what_cannot_be_divided_by(d):
    with pytest.raises(SingularError, match=r"zero|0|singular|not square|offers no inverse"):
        al.left_divide(d, np.ones(2))
