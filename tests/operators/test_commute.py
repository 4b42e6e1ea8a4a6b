"""Slices and reshapes beside einsums: products and sums equal the dense ones, and moving them stores nothing new."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve import SpaceError, hadamard, matrix
from backsolve.operators import Einsum, Identity, Product, Sum, Zero, einsum
from backsolve.operators.closed_form import compose, dense_array
from backsolve.operators.moves import Reshape, Slice, disjoint, side_by_side, split_ends
from backsolve.testing import check_operator

from ..chains import (
    boxes,
    chains,
    dense_product,
    dense_slice,
    einsums,
    examples,
    moves,
    multiplied,
    reshapes,
    same,
    shapes,
    slices,
    stored,
)


@examples(60)
@given(st.data())
def test_every_kind_by_itself(data):
    shape = data.draw(shapes())
    for pair in (data.draw(einsums(shape)), data.draw(moves(shape))):
        same(pair.op, pair.dense)
        check_operator(pair.op)


@examples(150)
@given(chains(), st.data())
def test_products_however_parenthesised_equal_the_dense_ones(chain, data):
    op = multiplied(data.draw, chain, compose)
    same(op, dense_product(chain))
    check_operator(op)


@examples(60)
@given(chains(most=3), st.data())
def test_sums_equal_the_dense_ones(chain, data):
    """Also of two operators between the same slices and reshapes, which stay outside the sum."""
    first = multiplied(data.draw, chain, compose)
    dense = dense_product(chain)
    n = len(first.codomain.shape)
    other = data.draw(einsums(first.domain.shape, first.codomain.shape))
    between = data.draw(einsums(first.codomain.shape, first.codomain.shape))
    total = first + other.op + (compose(between.op, first) + first)
    want = 2 * dense + other.dense + np.tensordot(between.dense, dense, axes=n)
    same(total, want)
    check_operator(total)


@examples(60)
@given(st.data())
def test_sums_between_equal_moves_are_made_inside(data):
    shape = data.draw(shapes())
    last = data.draw(moves(shape))
    inner = [data.draw(einsums(last.op.codomain.shape, (2, 3))) for _ in range(2)]
    first = data.draw(moves((2, 3)))
    terms = [Product((first.op, pair.op, last.op)) for pair in inner]
    total = terms[0] + terms[1]
    dense = [dense_product([first, pair, last]) for pair in inner]
    same(total, dense[0] + dense[1])
    together = inner[0].op + inner[1].op
    assert isinstance(total, Sum) == isinstance(together, Sum)


@examples(60)
@given(st.data())
def test_slices_of_slices(data):
    """Boxes of boxes, and a box of what stands in another one."""
    shape = data.draw(shapes())
    (a0, a1), (b0, b1) = data.draw(boxes(shape)), data.draw(boxes(shape))
    a, b = Slice(shape, a0, a1), Slice(shape, b0, b1)
    da, db = dense_slice(shape, a0, a1), dense_slice(shape, b0, b1)
    n = len(shape)
    product = compose(a, b.T)
    same(product, np.tensordot(da, np.moveaxis(db, range(n), range(n, 2 * n)), axes=n))
    check_operator(product)
    grid = np.zeros(shape, bool)
    grid[tuple(map(slice, a0, a1))] = True
    other = np.zeros(shape, bool)
    other[tuple(map(slice, b0, b1))] = True
    assert disjoint(a, b) == (not (grid & other).any())
    assert isinstance(product, Zero) == disjoint(a, b)
    assert isinstance(product, Identity) == (a.box == b.box)
    inner = data.draw(slices(a.codomain.shape))
    made = compose(inner.op, a)
    assert isinstance(made, (Slice, Identity))
    same(made, np.tensordot(inner.dense, da, axes=n))
    same(made.T, np.tensordot(inner.dense, da, axes=n).transpose(*range(n, 2 * n), *range(n)))


def test_an_empty_slice():
    empty = Slice((4,), (2,), (2,))
    assert empty.todense().shape == (0, 4)
    full = einsum("i", "i", (np.arange(4.0), "i"))
    assert (empty @ full).todense().shape == (0, 4)
    np.testing.assert_array_equal((full @ empty.T).todense(), np.zeros((4, 0)))
    assert (empty.T @ np.zeros(0)).shape == (4,)
    assert isinstance(empty @ Slice((4,), (1,), (3,)).T, Zero)


def test_a_slice_of_a_diagonal_stays_a_diagonal_of_the_slice():
    d = np.arange(6.0)
    op = Slice((6,), (1,), (4,)) @ einsum("i", "i", (d, "i"))
    assert isinstance(op, Product)
    inner, cut = op.factors
    assert isinstance(inner, Einsum)
    assert inner.out == inner.into
    assert stored(op) == 3
    assert isinstance(cut, Slice)
    np.testing.assert_array_equal(op.todense(), np.diag(d)[1:4])


def test_a_slice_of_a_product_slices_the_factor_only():
    W = np.arange(12.0).reshape(3, 4)
    op = Slice((3, 5), (1, 2), (3, 4)) @ einsum("ij", "kj", (W, "ik"), sizes={"j": 5})
    assert stored(op) == 2 * 4  # rows 1:3 of W; the batch axis is cut on the other side
    X = np.random.default_rng(0).standard_normal((4, 5))
    np.testing.assert_allclose(op @ X, (W @ X)[1:3, 2:4])
    np.testing.assert_allclose(op.T @ np.ones((2, 2)), np.pad(W[1:3].T @ np.ones((2, 2)), ((0, 0), (2, 1))))


@examples(60)
@given(st.data())
def test_reshapes_join_and_cancel(data):
    shape = data.draw(shapes())
    first = data.draw(reshapes(shape))
    second = data.draw(reshapes(first.op.codomain.shape))
    made = compose(second.op, first.op)
    assert isinstance(made, (Reshape, Identity))
    same(made, np.eye(int(np.prod(shape))).reshape((*second.op.out, *shape)))
    assert isinstance(compose(first.op.T, first.op), Identity)
    check_operator(made)


def test_a_reshape_that_merges_axes_becomes_labels():
    """(n, 2, 3) → (n, 6) → W: the factor is reshaped, the batch's delta stays."""
    W = np.arange(24.0).reshape(4, 6)
    op = einsum("nk", "nj", (W, "kj"), sizes={"n": 5}) @ Reshape((5, 6), (5, 2, 3))
    assert isinstance(op, Einsum)
    assert len({*op.out} & {*op.into}) == 1
    assert stored(op) == 24
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    np.testing.assert_allclose(op @ x, x.reshape(5, 6) @ W.T)
    check_operator(op)


@pytest.mark.parametrize(
    ("out", "into"),
    [((6,), (1, 6, 1)), ((1, 1), ()), ((2, 1, 3), (1, 2, 3, 1)), ((1,), (1, 1, 1)), ((4, 1), (4,))],
    ids=str,
)
def test_axes_of_size_one_come_and_go_without_a_reshape(out, into):
    d = np.arange(1.0, 1 + np.prod(out)).reshape(out)
    labels = "abc"[: len(out)]
    op = einsum(labels, labels, (d, labels)) @ Reshape(out, into)
    assert isinstance(op, Einsum)
    x = np.random.default_rng(0).standard_normal(into)
    np.testing.assert_array_equal(op @ x, d * x.reshape(out))
    np.testing.assert_array_equal(op.T @ np.ones(out), d.reshape(into))
    check_operator(op)


def test_the_parts_of_a_product():
    cut, shaped, middle = Slice((4,), (0,), (2,)), Reshape((2, 1), (2,)), einsum("i", "i", (np.ones(2), "i"))
    one = split_ends(Product((shaped, middle, cut)))
    assert (one.lead, one.middle, one.trail) == ((shaped,), middle, (cut,))
    assert one.keys == ((((2, 1), (2,)),), (((4,), (0,), (2,), False),))
    alone = split_ends(cut)
    assert (alone.lead, alone.middle, alone.trail) == ((cut,), None, ())


def test_labels_of_slices_and_reshapes():
    assert repr(Slice((4, 3), (1, 0), (2, 3))) == "slice(1:2, :) : 4×3 → 1×3"
    assert repr(Slice((4,), (1,), (2,)).T) == "slice(1:2)ᵀ : 1 → 4"
    assert repr(Reshape((2, 3), (6,))) == "reshape(2×3) : 6 → 2×3"
    assert Slice.along((4, 3), 1, 0, 2).box == ((0, 0), (4, 2))


@given(st.data())
def test_many_pieces_of_one_array_are_joined(data):
    """Σ sliceᵀ x over runs along either axis, with gaps, in any order, beside another term: as the padded pieces add up."""
    axis, width = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 3))
    cuts = sorted(data.draw(st.sets(st.integers(0, 40), min_size=20, max_size=30)))
    ends = data.draw(st.permutations(list(zip(cuts[::2], cuts[1::2], strict=False))))
    shape = (41, width) if axis == 0 else (width, 41)
    pieces = [Slice.along(shape, axis, start, stop, np.float64).transpose() for start, stop in ends]
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal(piece.domain.shape) for piece in pieces]
    want = sum(piece.apply(x) for piece, x in zip(pieces, blocks, strict=True))
    np.testing.assert_array_equal(side_by_side(list(zip(pieces, blocks, strict=True))), want)
    other = hadamard(rng.standard_normal(shape))
    more = rng.standard_normal(shape)
    (got,) = matrix([[*pieces, other]]) @ [*blocks, more]
    np.testing.assert_allclose(got, want + other.apply(more), rtol=1e-14)


def test_pieces_that_overlap_or_differ_are_added_up():
    pieces = [Slice((12,), (k,), (k + 2,), np.float64).transpose() for k in range(10)]
    ones = [np.ones(2)] * 10
    assert side_by_side(list(zip(pieces, ones, strict=True))) is None
    apart = [Slice((20,), (2 * k,), (2 * k + 2,), np.float64).transpose() for k in range(10)]
    assert side_by_side(list(zip(apart, [np.ones(2, int)] * 10, strict=True))) is None  # which the products refuse
    (got,) = matrix([pieces]) @ ones
    np.testing.assert_array_equal(got, [1, *[2] * 9, 1, 0])
    boxes = [Slice((4, 4), (i, j), (i + 1, j + 1), np.float64).transpose() for i in range(4) for j in range(4)]
    (got,) = matrix([boxes]) @ [np.full((1, 1), float(k)) for k in range(16)]
    np.testing.assert_array_equal(got, np.arange(16).reshape(4, 4))
    with pytest.raises(SpaceError, match=r"\[2\] against float64\[3\]"):
        matrix([[Slice((30,), (3 * k,), (3 * k + 2,), np.float64).transpose() for k in range(10)]]) @ ([np.ones(3)] * 10)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("both", [False, True], ids=["one side", "both sides"])
def test_the_array_of_diagonals_in_a_box(shape, both):
    """The diagonals lie where the box is; beside infinite ones, of one side, are zeros."""
    d = np.random.default_rng(4).standard_normal(shape)
    d.flat[1] = 7.0 if both else np.inf
    starts = tuple(range(len(shape)))
    large = tuple(n + 2 * k + 1 for k, n in enumerate(shape))
    place = Slice(large, starts, tuple(n + k for k, n in enumerate(shape)), np.float64).T
    axes = "ijk"[: len(shape)]

    def array(d, transposed):
        op = place @ einsum(axes, axes, (d, axes))
        op = op @ place.T if both else op
        return dense_array(op.T if transposed else op)

    rows = np.ravel_multi_index(np.ix_(*(k + np.arange(n) for k, n in zip(starts, shape, strict=True))), large).ravel()
    dense = np.zeros((np.prod(large), np.prod(large) if both else d.size))
    dense[rows, rows if both else np.arange(d.size)] = d.ravel()
    with jax.enable_x64(True):
        for way in (array, jax.jit(array, static_argnums=1)):
            np.testing.assert_array_equal(np.reshape(way(d, False), dense.shape), dense)
            np.testing.assert_array_equal(np.reshape(way(d, True), dense.T.shape), dense.T)
