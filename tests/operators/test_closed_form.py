"""Products and sums kept in closed form during an elimination: equal to the dense ones, no lazy sum, opaque parts pushed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve.algebra.spaces import ArraySpace
from backsolve.operators import Einsum, LinearMap, LinearOperator, Product, Sum, einsum
from backsolve.operators.closed_form import as_dense_einsum, closed_form, compose_closed, dense_array, is_opaque
from backsolve.operators.moves import Slice
from backsolve.testing import check_operator

from ..chains import MOST, Pair, dense_product, einsums, examples, multiplied, operators, same, shapes, turned


def opaque(dense, rank, seen=None):
    """A function nothing is known of; ``seen`` counts its applications."""
    out, into = dense.shape[:rank], dense.shape[rank:]
    back = turned(dense, rank)

    def apply(array, x):
        if seen is not None:
            seen.append(1)
        return np.tensordot(array, x, axes=x.ndim)

    return LinearMap(
        lambda x: apply(dense, x),
        lambda y: apply(back, y),
        ArraySpace(into, np.dtype(float)),
        ArraySpace(out, np.dtype(float)),
    )


@st.composite
def links(draw, shape):
    """One operator: structured, opaque, or a sum of such."""
    out = draw(st.none() | shapes())
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        pair = draw(operators(shape) if out is None else einsums(shape, out))
        out = pair.op.codomain.shape
        if draw(st.integers(0, 4)) == 0:
            pair = Pair(opaque(pair.dense, len(out)), pair.dense)
        pairs.append(pair)
    if len(pairs) == 1:
        return pairs[0]
    return Pair(Sum(tuple(pair.op for pair in pairs)), sum(pair.dense for pair in pairs))


@st.composite
def mixed_chains(draw):
    shape = draw(shapes())
    found = []
    for _ in range(draw(st.integers(1, 4))):
        found.insert(0, draw(links(shape)))
        shape = found[0].op.codomain.shape
        if np.prod(shape) > MOST:
            break
    return found


def parts(op):
    """op and all that it is made of."""
    waiting, found = [op], []
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(getattr(one, "terms", ()))
        waiting.extend(one.factors if isinstance(one, Product) else ())
    return found


@examples(150)
@given(mixed_chains(), st.data())
def test_products_however_parenthesised_equal_the_dense_ones(chain, data):
    op = multiplied(data.draw, chain, compose_closed)
    want = dense_product(chain)
    same(op, want)
    check_operator(op)
    if len(chain) > 1:
        assert not any(isinstance(f, Sum) for f in parts(op))
    np.testing.assert_allclose(dense_array(op), want, atol=1e-9 * max(1, np.abs(want).max(initial=0)))


def test_a_product_of_one_is_what_it_holds():
    """As an array too, whatever it holds: something opaque, something known, a sum."""
    opaque = LinearMap(lambda x: 2 * x, lambda x: 2 * x, ArraySpace((2,)), ArraySpace((2,)))
    known = einsum("i", "j", (np.arange(4.0).reshape(2, 2), "ij"))
    for op in (opaque, known, Sum((opaque, known))):
        for wrapped in (Product((op,)), Product((Product((op,)),)), Sum((Product((op,)),))):
            np.testing.assert_array_equal(wrapped.todense(), op.todense())
            np.testing.assert_array_equal(dense_array(wrapped), op.todense())


@examples(100)
@given(mixed_chains())
def test_the_dense_array_of_a_lazy_product(chain):
    """Columns or rows are pushed through what is opaque, whatever stands beside it."""
    lazy = Product(tuple(pair.op for pair in chain))
    want = dense_product(chain)
    np.testing.assert_allclose(dense_array(lazy), want, atol=1e-9 * max(1, np.abs(want).max(initial=0)))
    single = as_dense_einsum(lazy)
    assert isinstance(single, Einsum)
    assert [f.array.shape for f in single.factors] == [want.shape]
    same(single, want)


@pytest.mark.parametrize(("wide", "narrow"), [((20,), (3,)), ((3,), (20,))], ids=["rows", "columns"])
def test_an_opaque_operator_is_pushed_on_its_narrow_side(wide, narrow):
    rng = np.random.default_rng(0)
    seen: list[int] = []
    a, b = rng.standard_normal((*narrow, 7)), rng.standard_normal((7, *wide))
    op = compose_closed(opaque(a, 1, seen), einsum("i", "j", (b, "ij")))
    assert isinstance(op, Einsum)
    assert len(seen) == min(*wide, *narrow)
    np.testing.assert_allclose(op.todense(), a @ b)


def test_a_slice_beside_an_opaque_operator_waits():
    """Nothing is gained by forming the two before a third comes."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, 4))
    op = compose_closed(Slice((4,), (1,), (3,)), opaque(a, 1))
    assert isinstance(op, Product)
    same(op, a[1:3])


def test_a_sum_keeps_the_deltas_that_its_terms_share():
    rng = np.random.default_rng(0)
    W, V, c = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal((50, 3))
    term = einsum("nk", "nj", (W, "kj"), (c, "nk"), (V, "ij"))
    lazy = Sum((einsum("nk", "nj", (W, "kj"), sizes={"n": 50}), einsum("nk", "nk", (c, "nk"))))
    op = closed_form(lazy)
    assert isinstance(op, Einsum)
    assert sum(f.size for f in op.factors) == 50 * 3 * 3  # one example's 3 × 3 for every example
    x = rng.standard_normal((50, 3))
    np.testing.assert_allclose(op @ x, x @ W.T + c * x)
    assert closed_form(term) is term


def test_what_is_opaque():
    class Own(LinearOperator):
        domain = codomain = ArraySpace((2,))

        def apply(self, x):
            return x

        def transpose(self):
            return self

    assert is_opaque(Own())
    assert not is_opaque(einsum("i", "i", (np.ones(2), "i")))
    assert not is_opaque(Slice((4,), (1,), (3,)))


def test_a_sum_of_three_operators_without_any_array():
    """Nothing says in which library to write their deltas, so they are added up densely."""
    n = 3
    sizes = {"i": n, "j": n}
    space = ArraySpace((n, n), np.dtype(float))
    terms = (
        einsum("ij", "ij", sizes=sizes),
        einsum("ji", "ij", sizes=sizes),
        einsum("ij", "kl", sizes=sizes | {"k": n, "l": n}),
    )
    lazy = Sum(tuple(term.refine(space, space) for term in terms))
    x = np.random.default_rng(0).standard_normal((n, n))
    want = x + x.T + x.sum()
    np.testing.assert_allclose(lazy @ x, want)
    d = einsum("ij", "ij", (np.full((n, n), 2.0), "ij"))
    op = compose_closed(d, lazy)
    np.testing.assert_allclose(op @ x, 2 * want)
