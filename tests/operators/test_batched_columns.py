"""Opaque operators that say which axes they leave side by side: closed in an elimination, equal to the dense ones."""

import numpy as np
import pytest

from backsolve.operators import ArraySpace, Einsum, LinearOperator, Product, TupleSpace, einsum
from backsolve.operators.closed_form import batched_columns, compose_closed, dense_array, is_opaque
from backsolve.operators.moves import Component, Parts, Reshape, Slice
from backsolve.testing import check_operator

RNG = np.random.default_rng(0)
DOUBLE = np.dtype(float)
B, N, M = 4, 3, 2


def space(*shape):
    return ArraySpace(shape, DOUBLE)


class Rows(LinearOperator):
    """Each row of a matrix times A, and how often it was asked: nothing is known of it but that rows stay side by side."""

    def __init__(self, A, rows=B, asked=None):
        self.A, self.rows, self.asked = A, rows, [] if asked is None else asked

    @property
    def domain(self):
        return space(self.rows, self.A.shape[0])

    @property
    def codomain(self):
        return space(self.rows, self.A.shape[1])

    def apply(self, x):
        self.asked.append(1)
        return x @ self.A

    def transpose(self):
        return Rows(self.A.T, self.rows, self.asked)

    def aligned(self, into, out):
        return frozenset({(0, 0)})


class Pair(LinearOperator):
    """(X, Y) ↦ (X A, X + Y): of rows again."""

    def __init__(self, A, transposed=False):
        self.A, self.transposed = A, transposed

    @property
    def domain(self):
        return TupleSpace((space(B, N), space(B, N)))

    codomain = domain

    def apply(self, x):
        X, Y = (np.zeros((B, N)) if isinstance(part, LinearOperator) else part for part in x)
        return Parts((X @ self.A.T + Y, Y)) if self.transposed else Parts((X @ self.A, X + Y))

    def transpose(self):
        return Pair(self.A, not self.transposed)

    def aligned(self, into, out):
        return frozenset({(0, 0)})


def columns(op):
    """The matrix of an operator between arrays, column by column."""
    into, out = op.domain.shape, op.codomain.shape
    made = [op.apply(e.reshape(into)) for e in np.eye(int(np.prod(into)))]
    return np.stack(made, -1).reshape(*out, *into)


def assert_closed(a, b, asked=None, most=None):
    """a ∘ b in closed form, equal to what it does, without more applications than rows have entries."""
    want = columns(Product((a, b)))
    if asked is not None:
        asked.clear()
    made = compose_closed(a, b)
    assert not any(map(is_opaque, made.factors if isinstance(made, Product) else (made,)))
    np.testing.assert_allclose(dense_array(made), want, atol=1e-12)
    if asked is not None:
        assert len(asked) <= most
    check_operator(made)
    return made


def test_rows_stay_rows():
    op = Rows(RNG.standard_normal((N, M)))
    left = einsum("bi", "bj", (RNG.standard_normal((B, M, M)), "bij"))
    made = assert_closed(left, op, op.asked, M)  # fewer rows than columns
    assert isinstance(made, Einsum)
    assert len({*made.out} & {*made.into}) == 1
    assert all(f.array.size < B * B * M for f in made.factors)
    right = einsum("bj", "bi", (RNG.standard_normal((B, N, 5)), "bji"))
    assert_closed(op, right, op.asked, N)


@pytest.mark.parametrize(
    "before",
    [
        Product((Reshape((B, N), (B * N,), DOUBLE), einsum("k", "k", (RNG.standard_normal(B * N), "k")))),
        Product((Slice((B, 7), (0, 2), (B, 2 + N), DOUBLE), einsum("bi", "bi", (RNG.standard_normal((B, 7)), "bi")))),
        Product((Slice((9, N), (1, 0), (1 + B, N), DOUBLE), einsum("bi", "bi", (RNG.standard_normal((9, N)), "bi")))),
    ],
    ids=["reshaped", "columns", "rows"],
)
def test_between_moves(before):
    assert_closed(Rows(RNG.standard_normal((N, M))), before)


def test_a_narrow_neighbour_is_pushed_through_instead():
    op = Rows(RNG.standard_normal((N, M)))
    narrow = einsum("bi", "", (RNG.standard_normal((B, N)), "bi"))
    made = assert_closed(op, narrow, op.asked, 1)
    assert len(op.asked) == 1
    assert made.domain == space()


@pytest.mark.parametrize("out", [0, 1])
def test_a_sum_of_parts_goes_in(out):
    pair = Pair(RNG.standard_normal((N, N)))
    tuples = pair.domain
    reversed_rows = einsum("bi", "ci", (np.eye(B)[::-1], "bc"))
    into = {
        "beside": Component(0, tuples).T + Component(1, tuples).T @ einsum("bi", "bi", (RNG.standard_normal((B, N)), "bi")),
        "across": Component(0, tuples).T + Component(1, tuples).T @ reversed_rows,
    }
    for name, first in into.items():
        run = [first, pair, Component(out, tuples)]
        made = batched_columns(run, pair, B * N)
        if name == "across":  # a row and the opposite one: nothing lies beside
            assert made is None
        else:
            assert len({*made.out} & {*made.into}) == 1
            np.testing.assert_allclose(made.todense(), columns(Product(tuple(reversed(run)))), atol=1e-12)
