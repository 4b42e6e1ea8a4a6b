"""Operators between boxes of their spaces: the sum of the tiles, each in its place."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve.algebra.spaces import ArraySpace
from backsolve.operators import Identity, LinearMap, Product, Sum
from backsolve.operators.einsum import einsum
from backsolve.operators.moves import Slice
from backsolve.operators.tiled import Tile, tiled, tiles_of
from backsolve.sparse import as_sparse
from backsolve.testing import check_operator

from ..chains import dense_slice, einsums, examples, same, shapes, turned


@st.composite
def partitions(draw, shape):
    """Disjoint boxes of a space: the whole is cut in two, again and again; some of the pieces, in any order."""
    pieces = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 3))):
        k = draw(st.integers(0, len(pieces) - 1))
        a, b = pieces[k]
        axes = [axis for axis in range(len(shape)) if b[axis] - a[axis] > 1]
        if not axes:
            continue
        axis = draw(st.sampled_from(axes))
        middle = draw(st.integers(a[axis] + 1, b[axis] - 1))
        low, high = list(b), list(a)
        low[axis] = high[axis] = middle
        pieces[k : k + 1] = [(a, tuple(low)), (tuple(high), b)]
    pieces = draw(st.permutations(pieces))
    return [Slice(shape, *piece) for piece in pieces[: draw(st.integers(1, len(pieces)))]]


def dense_of(side, shape):
    return dense_slice(shape, (0,) * len(shape), shape) if side is None else dense_slice(shape, *side.box)


@st.composite
def mosaics(draw):
    into, out = draw(shapes()), draw(shapes())
    starts = draw(st.just([None]) | partitions(into))
    ends = draw(st.just([None]) | partitions(out))
    tiles, total = [], np.zeros((*out, *into))
    for _ in range(draw(st.integers(1, 5))):
        end, start = draw(st.sampled_from(ends)), draw(st.sampled_from(starts))
        shape = into if start is None else start.codomain.shape
        pair = draw(einsums(shape, out if end is None else end.codomain.shape))
        tiles.append(Tile(end, start, pair.op))
        dense = np.tensordot(pair.dense, dense_of(start, into), axes=len(shape))
        total += np.tensordot(turned(dense_of(end, out), len(out)), dense, axes=len(out))
    return tiled(tiles), total


@examples(100)
@given(mosaics())
def test_a_mosaic_is_the_sum_of_its_tiles(case):
    op, dense = case
    same(op, dense)
    same(op.T, turned(dense, len(op.codomain.shape)))
    check_operator(op)
    check_operator(op, complex_values=True)


@examples(100)
@given(mosaics(), st.integers(0, 9))
def test_a_mosaic_composes_and_adds(case, seed):
    op, dense = case
    x = np.random.default_rng(seed).standard_normal(op.domain.shape)
    n = len(op.codomain.shape)
    gram = np.tensordot(turned(dense, n), dense, axes=n)
    np.testing.assert_allclose((op.T @ op) @ x, np.tensordot(gram, x, axes=x.ndim), atol=1e-9 * max(1, np.abs(gram).max()))
    same(op + op, 2 * dense)
    same(op * 3 - op, 2 * dense)
    same(op + op * 3, 4 * dense)


@examples(50)
@given(mosaics())
def test_a_mosaic_is_copied_and_crosses_jit(case):
    op, dense = case
    for other in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        same(other, dense)
    crossed = jax.jit(lambda A: (A, jnp.asarray(A.todense())))(op)
    for array in (crossed[0].todense(), crossed[1]):  # in single precision
        np.testing.assert_allclose(array, dense, atol=1e-5 * max(1, np.abs(dense).max()))
    sparse = as_sparse(op)
    assert sparse is not None
    same(sparse, dense)


@examples(50)
@given(mosaics())
def test_norms_and_diagonal_of_a_mosaic(case):
    op, dense = case
    m, n = op.codomain.size, op.domain.size
    flat = dense.reshape(m, n)
    size = max(1, np.abs(flat).max())
    np.testing.assert_allclose(np.ravel(op.row_norms()), np.linalg.norm(flat, axis=1), atol=1e-7 * size)
    gram = op.T @ op
    np.testing.assert_allclose(np.ravel(gram.diagonal()), np.sum(flat**2, axis=0), atol=1e-9 * size**2)


def test_tiles_are_found_again():
    """By the boxes at the ends of the terms, on a side where all have one that is another's or apart from it."""
    low, high, over = (Slice((6,), (a,), (b,)) for a, b in ((0, 2), (2, 6), (1, 4)))
    f, g = (einsum("i", "j", (np.ones(shape), "ij")) for shape in ((2, 4), (4, 2)))
    boxes = lambda *tiles: [tile[:2] for tile in tiles_of(tiled([Tile(*tile) for tile in tiles]))]  # noqa: E731
    assert [tuple(box and box.box for box in pair) for pair in boxes((low, high, f), (high, low, g))] == [
        (low.box, high.box),
        (high.box, low.box),
    ]
    assert [out.box for out, into in boxes((low, None, f @ high), (low, None, f @ high)) if into is not None] == [
        low.box
    ] * 2
    h = einsum("i", "j", (np.ones((3, 2)), "ij"))
    assert [(out, into.box) for out, into in boxes((over, low, h), (high, low, g))] == [(None, low.box)] * 2
    assert boxes((over, None, h), (high, None, g)) == [(None, None)]
    assert isinstance(tiled([Tile(low, low, Identity(ArraySpace((2,))))]), Product)
    assert tiled([Tile(low, None, Identity(ArraySpace((2,))))]).domain.shape == (2,)
    assert tiled([Tile(None, None, f)]) is f


def test_a_sum_of_many_names_few():
    boxes = [Slice((9,), (i,), (i + 1,)) for i in range(9)]
    op = tiled([Tile(box, box, Identity(ArraySpace((1,)))) for box in boxes])
    assert repr(op) == "slice(0:1)ᵀ ∘ slice(0:1) + … (9 terms) : 9 → 9"
    assert repr(Sum(op.terms[:2])).count("slice") == 4


def test_boxes_that_nobody_writes_are_zero():
    halves = [Slice((6,), (0,), (2,)), Slice((6,), (4,), (6,))]
    double = LinearMap(lambda x: 2 * x, lambda x: 2 * x, ArraySpace((2,)), ArraySpace((2,)))
    op = tiled([Tile(halves[1], halves[0], double)])
    want = np.zeros((6, 6))
    want[4:, :2] = 2 * np.eye(2)
    same(op, want)
    np.testing.assert_array_equal(op @ np.arange(6.0), [0, 0, 0, 0, 0, 2])
    assert repr(op) == "slice(4:6)ᵀ ∘ f ∘ slice(0:2) : 6 → 6"


def test_boxes_in_two_directions():
    """Boxes that no one axis tells apart: each among zeros, and added up."""
    boxes = [Slice((4, 4), (0, 0), (2, 2)), Slice((4, 4), (2, 2), (4, 4)), Slice((4, 4), (0, 2), (2, 4))]
    elements = [LinearMap(lambda x, c=c: c * x, lambda x, c=c: c * x, *[ArraySpace((2, 2))] * 2) for c in (1, 2, 3)]
    op = tiled([Tile(b, b, e) for b, e in zip(boxes, elements)])
    x = np.arange(16.0).reshape(4, 4)
    y = x * np.kron([[1, 3], [0, 2]], np.ones((2, 2)))
    np.testing.assert_array_equal(op @ x, y)
    np.testing.assert_array_equal(np.tensordot(op.todense(), x, axes=2), y)
    check_operator(op)


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 11, 17])
@pytest.mark.parametrize("columns", [2, 8, 10, 13, 60])
def test_a_mosaic_of_single_entries(rows, columns):
    """Stacked few at a time, whatever the number of rows and columns, with zeros where there is no tile."""
    dense = np.random.default_rng(rows).normal(size=(rows, columns))
    dense[dense < -1] = 0
    dense[0, 0] = 1.0
    tiles = []
    for i, j in zip(*np.nonzero(dense), strict=True):
        out, into = Slice((rows,), (i,), (i + 1,)), Slice((columns,), (j,), (j + 1,))
        tiles.append(Tile(out, into, einsum("i", "i", (dense[i : i + 1, j], "i"))))
    op = tiled(tiles)
    assert np.array_equal(op.todense(), dense)
