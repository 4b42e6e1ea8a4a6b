"""The graph between sources and outputs: its borders, boxes of leaves as borders of their own, and what is left."""

from fractions import Fraction

import numpy as np
import pytest

from backsolve import I, O, OperatorMatrix, System, hadamard, left_mul, matrix
from backsolve.elimination.borders import LinearizedGraph, edge_product
from backsolve.operators import ArraySpace, Identity, Product, einsum
from backsolve.operators.moves import Slice
from backsolve.operators.tiled import tiles_of

RNG = np.random.default_rng(0)


def network(M, L, S):
    return LinearizedGraph(M, L, S)


def numbers(entries, shape):
    return OperatorMatrix.from_entries(entries, shape)


def test_an_output_that_nobody_else_reads_stands_for_its_node():
    """Node 1 is an output and read by node 2, node 2 is one alone: only node 2 needs no elimination."""
    M, L = numbers({(0, 0): 2}, (3, 1)), numbers({(1, 0): 3, (2, 1): 5}, (3, 3))
    found = network(M, L, matrix([[O, I, O], [O, O, I]]))
    assert found.terminal == {2}
    assert found.inner == [0, 1]
    assert len(found.sources) == 1
    assert len(found.outputs) == 2


@pytest.mark.parametrize(
    ("ends", "shape", "want"),
    [
        ({(0, 0): 1, (0, 1): 1}, (1, 2), {(0, 0): 5}),  # two terms
        ({(0, 0): I, (1, 0): I}, (2, 2), {(0, 0): 2, (1, 0): 2}),  # a node that is two outputs
        ({(0, 1): 7}, (1, 2), {(0, 0): 21}),  # a multiple of its node
    ],
)
def test_outputs_that_stay_borders(ends, shape, want):
    found = network(numbers({(0, 0): 2, (1, 0): 3}, (2, 1)), numbers({}, (2, 2)), numbers(ends, shape))
    assert found.terminal == set()
    assert found.inner == [0, 1]
    for order in ([0, 1], [1, 0]):
        assert found.accumulate(order).entries == want


def sliced_source(boxes):
    """y = Σ Wₖ x[boxₖ], a node a box."""
    weights = [RNG.standard_normal((3, b - a)) for a, b in boxes]
    n, k = 6, len(boxes)
    maps = [einsum("i", "j", (W, "ij")) @ Slice((n,), (a,), (b,)) for W, (a, b) in zip(weights, boxes)]
    edges = {(i, 0): op for i, op in enumerate(maps)}
    M = OperatorMatrix.from_entries(edges, (k + 1, 1))
    L = OperatorMatrix.from_entries({(k, i): hadamard(np.full(3, i + 1.0)) for i in range(k)}, (k + 1, k + 1))
    dense = np.zeros((3, n))
    for i, (W, (a, b)) in enumerate(zip(weights, boxes)):
        dense[:, a:b] += (i + 1) * W
    return M, L, matrix([[O] * k + [Identity(ArraySpace((3,)))]]), dense


def dense_of(J, i=0, j=0):
    return J.entries[i, j].todense()


def test_a_source_read_in_disjoint_boxes_is_a_border_for_each():
    M, L, S, dense = sliced_source([(0, 2), (4, 6), (2, 3), (0, 2)])
    found = network(M, L, S)
    assert len(found.sources) == 3  # (0, 2) is read twice
    assert sorted(b.box.box for b in found.sources.values()) == [((0,), (2,)), ((2,), (3,)), ((4,), (6,))]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        J = found.accumulate(order)
        assert sorted(tile.into.box for tile in tiles_of(J.entries[0, 0])) == [((0,), (2,)), ((2,), (3,)), ((4,), (6,))]
        np.testing.assert_allclose(dense_of(J), dense)


def test_a_source_read_in_overlapping_boxes_is_one_border():
    M, L, S, dense = sliced_source([(0, 3), (2, 6)])
    found = network(M, L, S)
    assert [b.box for b in found.sources.values()] == [None]
    np.testing.assert_allclose(dense_of(found.accumulate([1, 0])), dense)


def test_an_output_put_together_from_boxes_is_a_border_for_each():
    parts = [RNG.standard_normal((2, 4)) for _ in range(3)]
    rows = [(0, 2), (4, 6), (2, 4)]
    M = OperatorMatrix.from_entries({(i, 0): einsum("i", "j", (W, "ij")) for i, W in enumerate(parts)}, (4, 1))
    L = OperatorMatrix.from_entries({(3, i): Slice((6,), (a,), (b,)).T for i, (a, b) in enumerate(rows)}, (4, 4))
    found = network(M, L, matrix([[O, O, O, Identity(ArraySpace((6,)))]]))
    assert found.terminal == {3}
    assert len(found.outputs) == 3
    J = found.accumulate([1, 2, 0])
    want = np.zeros((6, 4))
    for W, (a, b) in zip(parts, rows):
        want[a:b] = W
    np.testing.assert_array_equal(dense_of(J), want)
    assert sorted(tile.out.box for tile in tiles_of(J.entries[0, 0])) == [((a,), (b,)) for a, b in sorted(rows)]


def test_an_output_by_the_universal_identity_has_the_space_of_its_node():
    M, L, _, dense = sliced_source([(0, 2), (4, 6), (2, 3)])
    np.testing.assert_allclose(dense_of(network(M, L, matrix([[O, O, O, I]])).accumulate([0, 1, 2])), dense)


def test_an_edge_from_a_box_to_the_same_box():
    """D in one box of x, zero elsewhere."""
    cut, d = Slice((5,), (1,), (3,)), np.array([2.0, 3.0])
    M = OperatorMatrix.from_entries({(0, 0): cut.T @ einsum("i", "i", (d, "i")) @ cut}, (1, 1))
    S = matrix([[Identity(ArraySpace((5,)))]])
    J = network(M, OperatorMatrix.from_entries({}, (1, 1)), S).accumulate([])
    np.testing.assert_array_equal(dense_of(J), np.diag([0.0, 2, 3, 0, 0]))


def test_elimination_leaves_edges_from_sources_to_outputs_only():
    M, L, S, dense = sliced_source([(0, 2), (2, 6)])
    found = network(M, L, S)
    with pytest.raises(ValueError, match="the elimination left an edge between source 0 and row 1"):
        found.accumulate([0])
    before = {i: dict(row) for i, row in found.into.items()}
    np.testing.assert_allclose(dense_of(found.accumulate([0, 1])), dense)
    assert found.into == before  # an elimination changes nothing of the network


def test_products_that_vanish_leave_no_edge():
    """A box of what stands in another one is zero: no fill-in."""
    n = 4
    M = OperatorMatrix.from_entries({(0, 0): Slice((n,), (0,), (2,)).T}, (2, 1))
    L = OperatorMatrix.from_entries({(1, 0): Slice((n,), (2,), (4,))}, (2, 2))
    J = network(M, L, matrix([[O, I]])).accumulate([0])
    assert J.entries == {}
    assert J.shape == (1, 1)


def test_signature_is_of_spaces_and_edges():
    def made(n, seed=0, extra=False):
        x = np.random.default_rng(seed).standard_normal(n)
        M = OperatorMatrix.from_entries({(0, 0): hadamard(x), **({(1, 0): hadamard(x)} if extra else {})}, (2, 1))
        L = OperatorMatrix.from_entries({(1, 0): hadamard(x)}, (2, 2))
        return network(M, L, matrix([[O, I]])).signature()

    assert made(3, 0) == made(3, 1)
    assert made(3) != made(4)
    assert made(3) != made(3, extra=True)


def test_edge_products_take_operators_and_whatever_has_a_product():
    assert edge_product(Fraction(1, 2), 3) == Fraction(3, 2)
    op = edge_product(left_mul(np.eye(2)), left_mul(np.ones((2, 2))))
    np.testing.assert_array_equal(op @ np.eye(2), np.ones((2, 2)))
    cut = Slice((4,), (0,), (2,))
    assert edge_product(cut, Slice((4,), (2,), (4,)).T) is None
    assert isinstance(edge_product(cut, einsum("i", "i", (np.ones(4), "i"))), Product)


def test_labels():
    M = OperatorMatrix({(0, 0): 2.0}, (1, 1), names=["alpha"])
    L = OperatorMatrix({}, (1, 1), [ArraySpace(())], [ArraySpace(())], names=["alpha"])
    found = System(M, L, numbers({(0, 0): 3.0}, (1, 1))).network()
    assert [found.label(k) for k in range(3)] == [L.name(0), "source 0", "output 0"]
