"""Small blocks: one product of two NumPy arrays is what `numpy.einsum` says, and what does not fit is refused as ever."""

from __future__ import annotations

import pickle
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

import backsolve as bs
from backsolve import I, hadamard, left_mul, right_mul
from backsolve.algebra.spaces import ArraySpace, SpaceError
from backsolve.operators.einsum import Einsum, Factor

SIZES = {0: 3, 1: 4, 2: 5, 3: 2}


def _layouts() -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Labels of a factor, of the argument and of the image: every one of a few axes whose image needs no other size."""
    few = [labels for n in (1, 2) for labels in permutations((0, 1, 2), n)]
    chosen = [(f, into, out) for f, into, out in product(few, few, few) if len(into) == len(out)]
    return [(f, into, out) for f, into, out in chosen if set(out) <= {*f, *into}]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128, np.int64, np.bool_])
def test_every_layout_of_two_arrays_is_what_einsum_says(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    at_once = 0
    for f, into, out in _layouts():
        a = (rng.standard_normal([SIZES[k] for k in f]) * 3).astype(dtype)
        op = Einsum((Factor(a, f),), out, into, {k: SIZES[k] for k in {*f, *into, *out}})
        x = (rng.standard_normal([SIZES[k] for k in into]) * 3).astype(np.float64 if dtype == np.bool_ else dtype)
        expected = np.einsum(a.astype(x.dtype), f, x, into, out)
        np.testing.assert_allclose(op @ x, expected, rtol=1e-4)
        np.testing.assert_allclose(op.todense().reshape(expected.size, x.size) @ x.ravel(), expected.ravel(), rtol=1e-4)
        if (y := op.at_once(x)) is not None:
            at_once += 1
            np.testing.assert_allclose(y, expected, rtol=1e-4)
    assert (at_once > 20) == (dtype in (np.float64, np.float32, np.complex128))


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (hadamard(np.ones((3, 1))), (3, 4)),  # NumPy would broadcast
        (hadamard(np.ones(3)), (3, 3)),
        (left_mul(np.ones((2, 3))), (4, 2)),
        (right_mul(np.ones((3, 2))), (2, 4)),
        (left_mul(np.ones((2, 3))).refine(ArraySpace((3, 5)), ArraySpace((2, 5))), (3, 4)),
        (left_mul(np.ones((2, 3))), (3, 4, 5)),
    ],
    ids=str,
)
def test_an_array_of_another_shape_is_refused(op: Any, shape: tuple[int, ...]) -> None:
    assert op.at_once(np.ones(shape)) is None
    with pytest.raises(SpaceError, match="domain of"):
        op @ np.ones(shape)


def test_a_size_that_is_not_known_fits_any_but_not_two_at_once() -> None:
    trace = Einsum((), (), (0, 0), {0: None})  # the sum of a diagonal
    assert not trace.accepts(np.ones((2, 3)))
    assert trace @ np.arange(9.0).reshape(3, 3) == 12.0
    assert left_mul(np.ones((2, 3))).accepts(np.ones((3, 7)))


def test_precisions_numbers_in_front_and_signs_stay_as_they_were() -> None:
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((3, 3)), rng.standard_normal((3, 2)).astype(np.float32)
    for op, expected in [(left_mul(W), W @ x), (-left_mul(W), -(W @ x)), (2.0 * left_mul(W), 2 * (W @ x))]:
        y = op @ x
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
@pytest.mark.parametrize("seed", range(6))
def test_graphs_of_small_blocks_beside_a_dense_solve(seed: int, dtype: Any) -> None:
    """Random graphs of products from both sides and entry by entry, in any numbering; transposed, conjugated, and again."""
    rng = np.random.default_rng(seed)
    n = 12
    place = rng.permutation(n)

    def random(*shape: int) -> Any:
        drawn = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype == np.complex128 else 0)
        return drawn.astype(dtype)

    kinds = [lambda: hadamard(random(3, 2)), lambda: left_mul(random(3, 3)), lambda: right_mul(random(2, 2)), lambda: 2 * I]
    kinds.append(lambda: left_mul(random(3, 3)) @ hadamard(random(3, 2)) - hadamard(random(3, 2)))
    entries = {}
    for i, j in permutations(range(n), 2):
        if i > j and rng.random() < 0.4:
            entries[int(place[i]), int(place[j])] = kinds[rng.integers(len(kinds))]()
    entries[int(place[1]), int(place[0])] = hadamard(random(3, 2))  # says the sizes
    L = bs.OperatorMatrix.from_entries(entries, (n, n))
    dense = np.zeros((n, 6, n, 6), dtype)
    for (i, j), element in L.entries.items():
        units = np.eye(6, dtype=dtype).reshape(6, 3, 2)
        dense[i, :, j] = np.stack([np.ravel(element @ unit) for unit in units], axis=-1)
    dense = np.eye(6 * n) - dense.reshape(6 * n, 6 * n)
    b = [random(3, 2) for _ in range(n)]
    flat = np.concatenate([block.ravel() for block in b])
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    for A, D in [
        (I - L, dense),
        ((I - L).T, dense.T),
        ((I - L).H, dense.conj().T),
        ((I - L).T.T, dense),
        (pickle.loads(pickle.dumps((I - L).T)), dense.T),
    ]:
        expected = np.linalg.solve(D.astype(np.complex128), flat)
        for given in (bs.vector(b), b):
            x = np.concatenate([np.ravel(block) for block in np.linalg.solve(A, given)])
            assert np.abs(x - expected).max() <= tolerance * np.abs(expected).max()
            again = np.concatenate([np.ravel(block) for block in A @ bs.vector([q.reshape(3, 2) for q in x.reshape(n, 6)])])
            assert np.abs(again - flat).max() <= tolerance * np.abs(expected).max()
    assert sorted((I - L).T.entries) == sorted((j, i) for i, j in (I - L).entries)
