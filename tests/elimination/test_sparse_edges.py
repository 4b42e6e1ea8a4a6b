"""Elimination on sparse operators, by hand-made systems: every order, opaque operators among them, the lower triangle."""

from itertools import permutations

import numpy as np
import pytest

from backsolve import OperatorMatrix, linear_map
from backsolve.elimination.sparse_edges import OpaqueEdge, accumulate_sparse, pulled, pushed
from backsolve.operators import ArraySpace, Identity
from backsolve.sparse.operator import Sparse, as_sparse, mirror_sparse, sparse

RNG = np.random.default_rng(0)


def random_sparse(m, n, share=0.4):
    dense = np.where(RNG.uniform(size=(m, n)) < share, RNG.standard_normal((m, n)), 0.0)
    rows, cols = np.nonzero(dense)
    return sparse(rows, cols, dense[rows, cols], (n,), (m,)), dense


def random_opaque(m, n):
    dense = RNG.standard_normal((m, n))
    return linear_map(lambda x: dense @ x, lambda y: dense.T @ y, ArraySpace((n,)), ArraySpace((m,))), dense


def system(sizes, edges, sources, make=random_sparse):
    """Random operators on edges j → i of nodes of these sizes; the first ``sources`` are sources, the last is the output."""
    inner = len(sizes) - sources
    M, L, into = {}, {}, {}
    for j, i in edges:
        op, into[i, j] = make(sizes[i], sizes[j])
        (M if j < sources else L)[(i - sources, j if j < sources else j - sources)] = op
    spaces = [ArraySpace((n,)) for n in sizes]
    matrices = (
        OperatorMatrix(M, (inner, sources), spaces[sources:], spaces[:sources]),
        OperatorMatrix(L, (inner, inner), spaces[sources:], spaces[sources:]),
        OperatorMatrix({(0, inner - 1): Identity(spaces[-1])}, (1, inner), spaces[-1:], spaces[sources:]),
    )
    total = {j: {j: np.eye(sizes[j])} for j in range(sources)}
    for i in range(sources, len(sizes)):
        total[i] = {}
        for j in range(i):
            if (i, j) in into:
                for source, path in total[j].items():
                    total[i][source] = total[i].get(source, 0) + into[i, j] @ path
    return matrices, total[len(sizes) - 1]


SIZES = (4, 3, 5, 2, 6, 3)
EDGES = [(0, 2), (1, 2), (0, 3), (2, 3), (2, 4), (3, 4), (1, 4), (4, 5), (2, 5), (0, 5)]


def edge(op):
    return as_sparse(op)


@pytest.mark.parametrize("order", [None, *permutations(range(3))])
def test_every_order_gives_the_path_weights(order):
    (M, L, S), expected = system(SIZES, EDGES, 2)
    found = accumulate_sparse(M, L, S, edge, order)
    assert set(found) == {(0, 0), (0, 1)}
    for j in range(2):
        np.testing.assert_allclose(found[0, j].todense(), expected[j], atol=1e-12)


@pytest.mark.parametrize("order", [None, *permutations(range(3))])
def test_opaque_operators_among_sparse_ones(order):
    number = iter(range(len(EDGES)))

    def make(m, n):
        return random_opaque(m, n) if next(number) % 3 == 0 else random_sparse(m, n)

    (M, L, S), expected = system(SIZES, EDGES, 2, make)
    found = accumulate_sparse(M, L, S, edge, order)
    for j in range(2):
        np.testing.assert_allclose(found[0, j].todense(), expected[j], atol=1e-12)


def test_a_block_without_a_path_is_absent():
    (M, L, S), _ = system((2, 2, 2), [(0, 2)], 2)
    assert set(accumulate_sparse(M, L, S, edge)) == {(0, 0)}


def test_the_lower_triangle_alone():
    weights = RNG.standard_normal(5)
    B, dense = random_sparse(5, 4)
    diagonal = sparse(range(5), range(5), weights, (5,), (5,))
    spaces = [ArraySpace((n,)) for n in (4, 5, 5, 4)]
    M = OperatorMatrix({(0, 0): B}, (3, 1), spaces[1:], spaces[:1])
    L = OperatorMatrix({(1, 0): diagonal, (2, 1): B.transpose()}, (3, 3), spaces[1:], spaces[1:])
    S = OperatorMatrix({(0, 2): Identity(spaces[3])}, (1, 3), spaces[3:], spaces[1:])
    lower = accumulate_sparse(M, L, S, edge, lower=True)[0, 0]
    full = dense.T @ np.diag(weights) @ dense
    np.testing.assert_allclose(lower.todense(), np.tril(full), atol=1e-12)
    assert np.all(lower.rows >= lower.cols)
    np.testing.assert_allclose(mirror_sparse(lower).todense(), full, atol=1e-12)


# ---- opaque operators by themselves ------------------------------------------------------------------------------------
def counted(m, n):
    """An opaque operator, its matrix, and how often it was applied either way."""
    dense, calls = RNG.standard_normal((m, n)), {"push": 0, "pull": 0}

    def push(x):
        calls["push"] += 1
        return dense @ x

    def pull(y):
        calls["pull"] += 1
        return dense.T @ y

    return linear_map(push, pull, ArraySpace((n,)), ArraySpace((m,))), dense, calls


def test_only_columns_that_are_not_zero_are_pushed():
    op, dense, calls = counted(7, 6)
    right = sparse([0, 3, 5], [2, 2, 9], [1.0, 2.0, 3.0], (10,), (6,))
    made = pushed(OpaqueEdge(op), right)
    np.testing.assert_allclose(made.todense(), dense @ right.todense())
    assert (made.nnz, calls) == (14, {"push": 2, "pull": 0})


def test_only_rows_that_are_not_zero_are_pulled():
    op, dense, calls = counted(7, 6)
    left = sparse([1, 1, 8], [0, 4, 6], [1.0, 2.0, 3.0], (7,), (10,))
    made = pulled(left, OpaqueEdge(op))
    np.testing.assert_allclose(made.todense(), left.todense() @ dense)
    assert (made.nnz, calls) == (12, {"push": 0, "pull": 2})


@pytest.mark.parametrize(("m", "n"), [(2, 9), (9, 2)])
def test_the_whole_block_by_the_shorter_side_once(m, n):
    op, dense, calls = counted(m, n)
    opaque = OpaqueEdge(op)
    for _ in range(2):
        np.testing.assert_allclose(pushed(opaque, None).todense(), dense)
    assert calls == ({"push": 0, "pull": 2} if m < n else {"push": 2, "pull": 0})


def test_an_operator_without_one_direction_goes_the_other():
    dense = RNG.standard_normal((6, 6))

    def refused(x):
        raise NotImplementedError("one way only")

    space = ArraySpace((6,))
    forward = OpaqueEdge(linear_map(lambda x: dense @ x, refused, space, space))
    backward = OpaqueEdge(linear_map(refused, lambda y: dense.T @ y, space, space))
    one, matrix = random_sparse(6, 6, 0.2)
    for opaque in (forward, backward):
        np.testing.assert_allclose(pushed(opaque, one).todense(), dense @ matrix, atol=1e-12)
        np.testing.assert_allclose(pulled(one, opaque).todense(), matrix @ dense, atol=1e-12)
        np.testing.assert_allclose(pushed(opaque, opaque).todense(), dense @ dense, atol=1e-12)


def test_sums_of_opaque_and_sparse():
    op, dense, _ = counted(4, 4)
    other, matrix = random_sparse(4, 4)
    both = OpaqueEdge.sum_of(OpaqueEdge(op), other)
    np.testing.assert_allclose(both.matrix().todense(), dense + matrix)
    assert isinstance(both.matrix(), Sparse)


@pytest.mark.parametrize(("n", "k", "way"), [(2, 3, "push"), (3, 2, "pull")])
def test_a_chain_of_opaque_operators_is_passed_from_the_shorter_end(n, k, way):
    """Not from both ends, with a product of two long blocks where they meet."""
    one, A, first = counted(40, 40)
    two, B, second = counted(40, 40)
    (into, right), (out, left) = random_sparse(40, n, 1.0), random_sparse(k, 40, 1.0)
    weights = RNG.standard_normal(40)
    between = sparse(range(40), range(40), weights, (40,), (40,))
    spaces = [ArraySpace((m,)) for m in (n, 40, 40, 40, 40, k)]
    M = OperatorMatrix({(0, 0): into}, (5, 1), spaces[1:], spaces[:1])
    L = OperatorMatrix({(1, 0): one, (2, 1): between, (3, 2): two, (4, 3): out}, (5, 5), spaces[1:], spaces[1:])
    S = OperatorMatrix({(0, 4): Identity(spaces[5])}, (1, 5), spaces[5:], spaces[1:])
    made = accumulate_sparse(M, L, S, edge)[0, 0]
    np.testing.assert_allclose(made.todense(), left @ B @ np.diag(weights) @ A @ right, atol=1e-10)
    assert first == second == {"push": 0, "pull": 0} | {way: 2}
