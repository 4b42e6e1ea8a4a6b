"""Numbers standing for operators between spaces of one number: the same products, sums and eliminations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve import I, O, OperatorMatrix, System, hadamard, linear_map, matrix
from backsolve.elimination import borders as networks
from backsolve.elimination.borders import ScalarEdge, as_operator, as_scalar_edge, scalar_dtype
from backsolve.operators import ArraySpace, Einsum, Identity, Product, Scaling, TupleSpace, Zero, einsum
from backsolve.operators.einsum import Factor, quotient
from backsolve.operators.moves import Reshape

from ..chains import examples

DOUBLE = np.dtype(np.float64)
SPACES = [ArraySpace((), DOUBLE), ArraySpace((1,), DOUBLE), ArraySpace((1, 1), DOUBLE)]


def number(coef, x):
    """coef · x · , between scalars."""
    return Einsum((Factor(np.asarray(x), ()),), (), (), {}, coef, (DOUBLE, DOUBLE))


@st.composite
def singles(draw):
    """A number in one of its forms, and what it is."""
    coef = draw(st.sampled_from([1, -1, 2, -2, 0.5, 3.0]))
    form = draw(st.sampled_from(["array", "mask", "none"]))
    if form == "none":
        return ScalarEdge(coef, None), coef
    if form == "mask":
        keep = draw(st.booleans())
        return ScalarEdge(coef, np.asarray(keep)), coef * keep
    x = draw(st.floats(-4, 4))
    return ScalarEdge(coef, np.asarray(x)), coef * x


def value(single):
    return single.coef * (1 if single.array is None else float(single.array))


@examples(200)
@given(singles(), singles(), singles())
def test_the_laws_of_numbers(one, two, three):
    (a, x), (b, y), (c, z) = one, two, three
    assert value(a @ b) == pytest.approx(x * y)
    assert value(a.plus(b, DOUBLE)) == pytest.approx(x + y)
    assert value((a @ b) @ c) == pytest.approx(value(a @ (b @ c))) == pytest.approx(x * y * z)
    assert value(a.plus(b, DOUBLE) @ c) == pytest.approx((x + y) * z)
    for s in (a, a @ b, a.plus(b, DOUBLE)):
        for domain in SPACES:
            for codomain in SPACES:
                op = as_operator(s, domain, codomain)
                assert (op.domain, op.codomain) == (domain, codomain)
                dense = op.todense()
                assert dense.shape == codomain.shape + domain.shape
                assert float(dense.reshape(())) == pytest.approx(value(s))


def test_signs_cost_no_array():
    x, y = np.asarray(3.0), np.asarray(5.0)
    for c, d, coef, array in [(1, -1, 1, -2.0), (-1, 1, 1, 2.0), (-1, -1, -1, 8.0), (2, -2, 2, -2.0), (1, 2, 1, 13.0)]:
        found = ScalarEdge(c, x).plus(ScalarEdge(d, y), DOUBLE)
        assert (found.coef, float(found.array)) == (coef, array)


@pytest.mark.parametrize("hidden", [np.inf, np.nan])
def test_a_selection_hides_what_it_does_not_select(hidden):
    mask, x = ScalarEdge(1, np.asarray(False)), ScalarEdge(1, np.asarray(hidden))
    assert value(mask @ x) == value(x @ mask) == 0


def test_operators_as_numbers():
    wide = einsum("i", "i", (np.full(1, 3.0), "i"), coef=2)
    reshaped = Product((Reshape((1,), (), DOUBLE), number(4, 0.5)))
    for op, want in [
        (Identity(SPACES[0]), 1),
        (Scaling(-2, SPACES[1]), -2),
        (number(-1, 3.0), -3),
        (quotient(np.asarray(4.0)), 0.25),
        (wide, 6),
        (reshaped, 2),
        (Reshape((1, 1), (), DOUBLE), 1),
    ]:
        assert value(as_scalar_edge(op, DOUBLE)) == want


@pytest.mark.parametrize(
    "op",
    [
        hadamard(np.asarray(2.0), "Δ"),  # prints its name
        number(1, np.float32(2)),
        number(1j, 2.0),
        Scaling(np.asarray(2.0), SPACES[0]),
        einsum("i", "j", (np.ones(3), "i"), sizes={"j": 1}),
        einsum("i", "i", sizes={"i": 3}),
        linear_map(lambda x: x, lambda x: x, (), ()),
        Product((number(1, 2.0), linear_map(lambda x: x, lambda x: x, (), ()))),
        3.0,
    ],
)
def test_what_is_more_than_a_number(op):
    assert as_scalar_edge(op, DOUBLE) is None


def test_spaces_of_one_number_and_one_dtype():
    assert scalar_dtype(SPACES) == DOUBLE
    single = ArraySpace((), np.dtype(np.float32))
    for other in (single, ArraySpace((2,), DOUBLE), ArraySpace((None,), DOUBLE), ArraySpace(()), TupleSpace((single,))):
        assert scalar_dtype([*SPACES, other]) is None
    assert scalar_dtype([]) is None


def systems(seed):
    """A random program of scalars with signs, divisions, masks and constants, and its Jacobian by dense solves."""
    rng = np.random.default_rng(seed)
    n, p, q = 9, 3, 2
    space = ArraySpace((), DOUBLE)

    def edge():
        kind = rng.integers(5)
        x = rng.standard_normal()
        return [
            (number(1, x), x),
            (number(-1, x), -x),
            (quotient(np.asarray(x), -2, (DOUBLE, DOUBLE)), -2 / x),
            (Einsum((Factor(np.asarray(x > 0), ()),), (), (), {}, 3, (DOUBLE, DOUBLE)), 3.0 * (x > 0)),
            (Scaling(-1, space), -1.0),
        ][kind]

    M, L = {(i, i): edge() for i in range(p)}, {}
    for i in range(p, n):
        for j in rng.choice(i, 2, replace=False):
            L[i, int(j)] = edge()
    S = {(k, n - 1 - k): (Identity(space), 1.0) for k in range(q)}
    parts, dense = [], []
    for entries, shape in ((M, (n, p)), (L, (n, n)), (S, (q, n))):
        spaces = [space] * shape[0], [space] * shape[1]
        parts.append(OperatorMatrix({place: op for place, (op, _) in entries.items()}, shape, *spaces))
        D = np.zeros(shape)
        for place, (_, x) in entries.items():
            D[place] = x
        dense.append(D)
    M, L, S = dense
    return System(*parts), S @ np.linalg.solve(np.eye(n) - L, M), rng.permutation(n)


@pytest.mark.parametrize("seed", range(12))
def test_eliminations_of_numbers_are_those_of_operators(seed, monkeypatch):
    system, want, order = systems(seed)

    def dense(J):
        return np.array([[J.entries[i, j].todense() if (i, j) in J.entries else 0.0 for j in range(3)] for i in range(2)])

    J = system.jacobian([int(v) for v in order])
    np.testing.assert_allclose(dense(J), want, atol=1e-12)
    monkeypatch.setattr(networks, "scalar_dtype", lambda spaces: None)
    plain = system.jacobian([int(v) for v in order])
    np.testing.assert_allclose(dense(plain), want, atol=1e-12)
    assert J.entries.keys() == plain.entries.keys()


def test_a_zero_edge_or_one_of_another_kind_leaves_operators():
    space = ArraySpace((), DOUBLE)
    L = OperatorMatrix(
        {(1, 0): Zero(space, space), (2, 1): number(1, 2.0), (2, 0): number(1, 3.0)}, (3, 3), [space] * 3, [space] * 3
    )
    M = OperatorMatrix({(0, 0): number(1, 5.0)}, (3, 1), [space] * 3, [space])
    J = System(M, L, matrix([[O, O, I]])).jacobian([0, 1, 2])
    assert math.isclose(float(J.entries[0, 0].todense()), 15.0)
