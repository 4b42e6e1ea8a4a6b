"""Abstract arrays: composed and added they give what the real operators give, without a number being computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve.operators import Einsum, Product, Scaling, Sum, einsum
from backsolve.operators.closed_form import add, compose_closed, dense_array
from backsolve.operators.moves import Reshape, Slice
from backsolve.planning.costs import START, AbstractArray, Cost, StructureTable, abstracted, entries

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


def without_entries(chain, cost):
    """Every operator on abstract arrays; the one of an operator is the same wherever it stands."""
    return [pair._replace(op=abstracted(pair.op, cost)) for pair in chain]


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
def test_products_cost_without_entries_what_they_do_with(chain, data):
    draw = Recorded(data.draw)
    cost = Cost()
    real = multiplied(draw, chain, compose_closed)
    abstract = multiplied(draw.again(), without_entries(chain, cost), compose_closed)
    assert skeleton(abstract) == skeleton(real)
    assert cost.total >= 0
    array = dense_array(abstract)
    assert tuple(array.shape) == tuple(dense_array(real).shape)


@examples(60)
@given(chains(most=3), st.data())
def test_sums_cost_without_entries_what_they_do_with(chain, data):
    draw = Recorded(data.draw)
    cost = Cost()
    real = multiplied(draw, chain, compose_closed)
    abstract = multiplied(draw.again(), without_entries(chain, cost), compose_closed)
    other = data.draw(einsums(real.domain.shape, real.codomain.shape)).op
    assert skeleton(add(abstract, abstracted(other, cost))) == skeleton(add(real, other))
    assert skeleton(add(abstracted(other, cost), abstract)) == skeleton(add(other, real))
    twice = compose_closed(abstracted(other, cost).T, add(abstract, abstracted(other, cost)))
    assert skeleton(twice) == skeleton(compose_closed(other.T, add(real, other)))


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
        (einsum("i", "j", (np.ones((9, 4)), "ij")), 9 + 36 / 8 + START),
        (Scaling(2.0), 0.0),
    ],
    ids=["diagonal", "matrix", "number"],
)
def test_what_an_application_costs(op, cost):
    counted = Cost()
    x = AbstractArray(op.domain.shape or (9,), np.dtype(float), counted)
    abstracted(op, counted).apply(x)
    assert counted.taken() == pytest.approx(cost)
    assert counted.total == 0


def test_an_abstract_array_has_no_entries():
    with pytest.raises(TypeError, match="an abstract array has no entries"):
        AbstractArray((3,), np.dtype(float), Cost())[0]


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


def test_a_product_has_no_more_entries_than_its_matrix():
    """However long it is: of two hundred sums of all entries of an array."""
    each = einsum("i", "j", sizes={"i": 50, "j": 50})
    assert entries(Product((each,) * 200)) == 2500
