"""SuperLU on matrices in sparse blocks, against NumPy: both solutions, order reuse, refinement, what is singular."""

import pickle

import numpy as np
import pytest

from backsolve.algebra import SingularError
from backsolve.algebra.spaces import PatternTooLargeError
from backsolve.engines import factored
from backsolve.engines import hosted as superlu
from backsolve.engines.hosted import SuperLU
from backsolve.engines.layout import Layout, Part
from backsolve.sparse.pattern import Pattern

SIZES = {"rows": (3, 1, 4, 2), "cols": (2, 4, 3, 1)}


def in_blocks(A, rows=(), cols=()):
    """A dense matrix as a layout with its non-zeros, and the numbers of each block."""
    rows, cols = (tuple(sizes) or (side,) for sizes, side in zip((rows, cols), A.shape, strict=True))
    places, patterns, data = [], [], []
    for i, top in enumerate(np.cumsum((0, *rows[:-1]))):
        for j, left in enumerate(np.cumsum((0, *cols[:-1]))):
            block = A[top : top + rows[i], left : left + cols[j]]
            at = np.nonzero(block)
            if at[0].size:
                places.append((i, j))
                patterns.append(Pattern(*at, block.shape))
                data.append(block[at])
    parts = [tuple(Part(f"{word} {k}", n) for k, n in enumerate(side)) for word, side in (("row", rows), ("node", cols))]
    return Layout(*parts, tuple(places), tuple(patterns)), data


def random(n=10, seed=0, density=0.4, kind=float):
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((n, n)) < density, rng.standard_normal((n, n)), 0) + np.diag(rng.permutation(n) + 1.0)
    return A[rng.permutation(n)].astype(kind) * (1 + 2j if kind is complex else 1)


@pytest.mark.parametrize("engine", ["superlu", "blocks"])
@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("seed", range(3))
def test_both_solutions(engine, kind, seed):
    A = random(seed=seed, kind=kind)
    factors = factored(*in_blocks(A, **SIZES), engine)
    rng = np.random.default_rng(seed)
    for shape in ((10,), (10, 3)):
        b = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind is complex else 0)
        np.testing.assert_allclose(factors.solve(b), np.linalg.solve(A, b), rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(factors.solve_transpose(b), np.linalg.solve(A.T, b), rtol=1e-10, atol=1e-11)


def test_the_residual_is_told():
    A = random()
    factors = SuperLU(*in_blocks(A, **SIZES))
    assert factors.residual is None
    b = np.arange(1.0, 11.0)
    x = factors.solve(b)
    assert factors.residual < 1e-12
    np.testing.assert_allclose(factors.residual, np.abs(b - A @ x).max() / 10, atol=1e-15)


def test_a_complex_right_hand_side_of_a_real_matrix():
    A, b = random(), np.arange(10) + 1j * np.ones(10)
    factors = SuperLU(*in_blocks(A, **SIZES))
    np.testing.assert_allclose(factors.solve(b), np.linalg.solve(A, b), rtol=1e-11)
    np.testing.assert_allclose(factors.solve_transpose(b), np.linalg.solve(A.T, b), rtol=1e-11)


def test_the_order_of_the_first_factorization_serves_the_next(monkeypatch):
    from scipy.sparse import linalg

    monkeypatch.setattr(superlu, "BAND", 0)  # a band would be the order of the first one already
    A, orders, splu = random(30, density=0.1), [], linalg.splu
    monkeypatch.setattr(linalg, "splu", lambda A, **options: orders.append(options.get("permc_spec")) or splu(A, **options))
    layout, data = in_blocks(A)
    SuperLU(layout, data)
    assert orders[0] != "NATURAL"
    orders.clear()
    second = SuperLU(layout, [3 * part for part in data])
    assert orders == ["NATURAL"]
    b = np.arange(30.0)
    np.testing.assert_allclose(second.solve(b), np.linalg.solve(3 * A, b), rtol=1e-10)
    np.testing.assert_allclose(second.solve_transpose(b), np.linalg.solve(3 * A.T, b), rtol=1e-10)


def banded(n, below, above, kind=float, seed=0):
    """Numbers in a band, some of which need pivots, rows and columns permuted."""
    rng = np.random.default_rng(seed)
    A = np.triu(np.tril(rng.standard_normal((n, n)), above), -below) + 1.5 * np.eye(n)
    A = A[rng.permutation(n)][:, rng.permutation(n)]
    return (A * (1 + 1j * rng.standard_normal((n, n)))).astype(kind) if kind is complex else A


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize(("below", "above"), [(3, 2), (0, 0), (1, 4)])
def test_a_band_is_lapacks(kind, below, above, monkeypatch):
    A = banded(70, below, above, kind)
    monkeypatch.setattr("scipy.sparse.linalg.splu", None)
    layout, data = in_blocks(A)
    rng = np.random.default_rng(1)
    for scale in (1.0, 3.0):  # the second by the order of the first
        factors = SuperLU(layout, [scale * part for part in data])
        for b in (rng.standard_normal(70), rng.standard_normal((70, 3)), rng.standard_normal(70) * (1 + 2j)):
            for x, matrix in ((factors.solve(b), scale * A), (factors.solve_transpose(b), scale * A.T)):
                expected = np.linalg.solve(matrix, b)
                np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
        for found, expected in zip(factors.slogdet(), np.linalg.slogdet(scale * A), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_band_of_several_widths_is_superlus(monkeypatch):
    from scipy.sparse import linalg

    A = np.zeros((600, 600))
    A[:40, :40], A[40:, 40:] = random(40, density=0.9), banded(560, 1, 1)
    factored, splu = [], linalg.splu
    monkeypatch.setattr(linalg, "splu", lambda *args, **options: factored.append(0) or splu(*args, **options))
    b = np.arange(600.0)
    np.testing.assert_allclose(SuperLU(*in_blocks(A)).solve(b), np.linalg.solve(A, b), rtol=1e-7, atol=1e-7)
    assert factored


def test_a_layout_is_analysed_once():
    layout, data = in_blocks(random(), **SIZES)
    SuperLU(layout, data)
    assert layout.columns is layout.columns


def test_an_ill_conditioned_matrix_is_solved_to_its_residual():
    """Hilbert's, condition 2e8, rows of very different sizes: no larger backward error than NumPy's."""
    A = 1.0 / (np.arange(6)[:, None] + np.arange(6) + 1)
    A = np.diag(10.0 ** np.arange(-3, 3)) @ A
    b = np.ones(6)
    factors = SuperLU(*in_blocks(A))
    assert np.linalg.cond(A) > 1e7
    for x, matrix in ((factors.solve(b), A), (factors.solve_transpose(b), A.T)):
        backward = np.abs(b - matrix @ x).max() / (np.abs(matrix) @ np.abs(x)).max()
        assert backward < 4e-16


def test_single_precision_is_factored_in_double():
    A = random().astype(np.float32)
    x = SuperLU(*in_blocks(A, **SIZES)).solve(np.ones(10, np.float32))
    np.testing.assert_allclose(x, np.linalg.solve(A.astype(float), np.ones(10)), rtol=1e-12)


def with_copied_row():
    A = random()
    A[4] = 2 * A[2]
    return A


def with_zeros(cols):
    A = random()
    A[:, cols] = 0
    return A


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (with_zeros([0]), "for its pattern alone: 1 of 10 unknowns .* the first is node 0, entry 0 of 2"),
        (with_zeros([9]), "the first is node 3. Pass damping"),
        (with_zeros([3, 4]), "2 of 10 unknowns .* the first is node 1, entry 1 of 4"),
        (with_copied_row(), r"singular to working precision: the pivot of node \d.* is \S+e-\d\d times its column"),
    ],
)
def test_a_singular_matrix_is_refused_with_the_node_named(A, message):
    layout, data = in_blocks(A, **SIZES)
    for _ in range(2):  # with and without a known order
        with pytest.raises(SingularError, match=message):
            SuperLU(layout, data).solve(np.ones(10))


def test_a_pattern_that_is_singular_never_reaches_superlu(monkeypatch):
    """SuperLU may write past its arrays there, and end the process."""
    monkeypatch.setattr("scipy.sparse.linalg.splu", lambda *args, **kwargs: pytest.fail("it was called"))
    for cols in ([0], [9], [3, 4]):
        with pytest.raises(SingularError, match="unknowns have no equation of their own"):
            SuperLU(*in_blocks(with_zeros(cols), **SIZES))


def test_what_is_raised_crosses_to_another_process():
    with pytest.raises(SingularError, match="1 of 10 unknowns have no equation") as caught:
        SuperLU(*in_blocks(with_zeros([0]), **SIZES))
    caught.value.add_note("in a worker")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.__notes__) == (type(caught.value), str(caught.value), ["in a worker"])


def test_numbers_that_vanish_at_the_places_of_a_pattern():
    layout, data = in_blocks(np.eye(3) + np.ones((3, 3)))
    with pytest.raises(SingularError, match="3 of 3 unknowns have no equation"):
        SuperLU(layout, [0 * part for part in data])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(bad):
    layout, data = in_blocks(np.diag([1.0, 2.0, 3.0]), cols=(2, 1))
    data[-1] = data[-1] * bad
    with pytest.raises(SingularError, match="NaN or infinite, in the column of node 1"):
        SuperLU(layout, data)
    x = SuperLU(*in_blocks(np.diag([1.0, 2.0]))).solve(np.array([bad, 1.0]))
    np.testing.assert_array_equal(x, [bad, 0.5])


def test_no_memory_for_the_factors(monkeypatch):
    def refuse(*args, **options):
        raise MemoryError

    monkeypatch.setattr("scipy.sparse.linalg.splu", refuse)
    monkeypatch.setattr(superlu, "BAND", 0)
    with pytest.raises(PatternTooLargeError, match=r"10 unknowns and \d+ non-zeros \(\d+(,\d+)* bytes .*engine='gmres'"):
        SuperLU(*in_blocks(random(), **SIZES))


def test_unknown_engines():
    with pytest.raises(
        ValueError, match="unknown engine 'lu'; use one of 'auto', 'superlu', 'blocks', 'umfpack', 'klu', 'cho"
    ):
        factored(*in_blocks(np.eye(2)), "lu")
