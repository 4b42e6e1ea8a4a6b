"""Shadows: composed and added they give what the real operators give, without a number being computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve.operators import Einsum, Product, Scaling, Sum, einsum
from backsolve.operators.closed_form import dense_array, settled_product
from backsolve.operators.reshape import Reshape
from backsolve.operators.rules import add
from backsolve.operators.slices import Slice
from backsolve.planning.abstract import Shadow, Tally, shadow_of
from backsolve.planning.costs import StructureTable

from ..chains import chains, einsums, examples, multiplied
from ..operators.test_closed_form import mixed_chains


def skeleton(op):
    """All of an operator but its numbers: kinds, spaces, labels numbered as they come, the factors' shapes."""
    spaces = (op.domain.shape, op.codomain.shape)
    if isinstance(op, (Product, Sum)):
        return (type(op).__name__, *spaces, *map(skeleton, op.factors if isinstance(op, Product) else op.terms))
    if isinstance(op, Einsum):
        number: dict[int, int] = {}

        def renamed(labels):
            return tuple(number.setdefault(k, len(number)) for k in labels)

        words = (renamed(op.out), renamed(op.into))
        factors = []
        for f in op.factors:  # in which order a factor has its axes is left to the array library
            axes = sorted(zip(f.labels, f.array.shape), key=lambda pair: (number.get(pair[0], len(number)), pair[1]))
            factors.append((tuple(n for _, n in axes), tuple(sorted(renamed(k for k, _ in axes)))))
        return ("Einsum", *spaces, *words, tuple(factors))
    if isinstance(op, Slice):
        return ("Slice", op.shape, op.starts, op.stops, op.transposed)
    if isinstance(op, Reshape):
        return ("Reshape", op.out, op.into)
    return ("Opaque" if op.label == "f" else type(op).__name__, *spaces)


def shadows(chain, tally):
    """Every operator's shadow; the one of an operator is the same wherever it stands."""
    return [pair._replace(op=shadow_of(pair.op, tally)) for pair in chain]


class Recorded:
    """Draws what another drew before, so that two products are parenthesised alike."""

    def __init__(self, draw):
        self.draw, self.made = draw, []

    def __call__(self, strategy):
        self.made.append(self.draw(strategy))
        return self.made[-1]

    def again(self):
        waiting = iter(self.made)
        return lambda _: next(waiting)


@examples(120)
@given(mixed_chains(), st.data())
def test_products_of_shadows_are_shadows_of_products(chain, data):
    draw = Recorded(data.draw)
    tally = Tally()
    real = multiplied(draw, chain, settled_product)
    shadow = multiplied(draw.again(), shadows(chain, tally), settled_product)
    assert skeleton(shadow) == skeleton(real)
    assert tally.cost >= 0
    array = dense_array(shadow)
    assert tuple(array.shape) == tuple(dense_array(real).shape)


@examples(60)
@given(chains(most=3), st.data())
def test_sums_of_shadows_are_shadows_of_sums(chain, data):
    draw = Recorded(data.draw)
    tally = Tally()
    real = multiplied(draw, chain, settled_product)
    shadow = multiplied(draw.again(), shadows(chain, tally), settled_product)
    other = data.draw(einsums(real.domain.shape, real.codomain.shape)).op
    assert skeleton(add(shadow, shadow_of(other, tally))) == skeleton(add(real, other))
    assert skeleton(add(shadow_of(other, tally), shadow)) == skeleton(add(other, real))
    twice = settled_product(shadow_of(other, tally).T, add(shadow, shadow_of(other, tally)))
    assert skeleton(twice) == skeleton(settled_product(other.T, add(real, other)))


@examples(60)
@given(chains())
def test_equal_structures_have_equal_numbers(chain):
    """The numbers of another point have the same structure, other sizes another."""
    table = StructureTable()
    for pair in chain:
        n = table.number(pair.op)
        if isinstance(pair.op, Einsum):
            again = tuple(f._replace(array=f.array + 1.0) for f in pair.op.factors)
            twin = Einsum(again, pair.op.out, pair.op.into, pair.op.sizes, pair.op.coef, pair.op.dtypes)
            assert table.number(twin) == n
        grown = einsum("abc", "de", sizes=dict(zip("abcde", (5, 5, 5, 7, 7))))
        assert table.number(grown) != n


@pytest.mark.parametrize(
    ("op", "cost"),
    [
        (einsum("i", "i", (np.ones(9), "i")), 9.0),
        (einsum("i", "j", (np.ones((9, 4)), "ij")), 9 + 36 / 8),
        (Scaling(2.0), 0.0),
    ],
    ids=["diagonal", "matrix", "number"],
)
def test_what_an_application_costs(op, cost):
    tally = Tally()
    x = Shadow(op.domain.shape or (9,), np.dtype(float), tally)
    shadow_of(op, tally).apply(x)
    assert tally.taken() == pytest.approx(cost)
    assert tally.cost == 0


def test_a_shadow_has_no_entries():
    with pytest.raises(TypeError, match="a shadow has no entries"):
        Shadow((3,), np.dtype(float), Tally())[0]


def test_the_products_of_two_matrices_are_counted():
    table = StructureTable()
    a, b = (table.number(einsum("i", "j", (np.ones(s), "ij"))) for s in ((5, 4), (4, 3)))
    assert table.product(a, b).multiplications == 5 * 4 * 3
    assert table.sum(a, a).multiplications == 0
    d = table.number(einsum("i", "i", (np.ones(4), "i")))
    assert table.product(a, d).multiplications == 5 * 4
    assert table.product(d, d).multiplications == 4
    batched = [table.number(einsum("ni", "nj", (np.ones((7, *s)), "nij"))) for s in ((5, 4), (4, 3))]
    assert table.product(*batched).multiplications == 7 * 5 * 4 * 3
    number = table.number(2.0)
    assert table.number(3) == number
    assert table.product(number, number).multiplications == 1
