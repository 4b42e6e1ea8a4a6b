"""Long and narrow matrices, reduced pair by pair, against the dense solve; Newton's method on all states of a loop."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax import lax

import backsolve as bs
from backsolve.algebra import SingularError
from backsolve.engines.blocks import Permuted, block_factors, factors_of
from backsolve.engines.chain import LONG, ChainFactors, chain_of
from backsolve.engines.layout import Layout, Part
from backsolve.sparse.pattern import from_entries
from backsolve.tracing.jaxpr import every_equation

pytestmark = pytest.mark.usefixtures("double_precision")


def banded(n, below, above, seed=0, dtype=float):
    """A matrix with these many diagonals below and above the main one, no diagonal dominance."""
    rng = np.random.default_rng(seed)
    A = sum(np.diag(rng.standard_normal(n - abs(d)), d) for d in range(-below, above + 1)).astype(dtype)
    return A * np.exp(1j * rng.standard_normal((n, n))) if np.dtype(dtype).kind == "c" else A


def shuffled(A, seed=1):
    rng = np.random.default_rng(seed)
    return A[rng.permutation(len(A))][:, rng.permutation(len(A))]


def boundary_value(stages, size, left):
    """Each stage a full block beside the next, ``left`` conditions at the start and the others at the end.

    As many modes decay, and the others grow: so it is well conditioned, though neither forwards nor backwards.
    """
    rng = np.random.default_rng(2)
    n, start = size * (stages + 1), np.arange(size) < left
    scales = np.concatenate([np.where(start, 0.2, 1), np.where(start, 1, 0.2)])
    A = np.zeros((n, n))
    A[:left, :size] = np.eye(size)[:left]
    A[n - size + left :, n - size :] = np.eye(size)[left:]
    for t in range(stages):
        both = np.tile(np.eye(size) + 0.2 * rng.standard_normal((size, size)), 2)
        A[left + t * size : left + (t + 1) * size, t * size : (t + 2) * size] = both * scales
    return A


def optimal_control(steps):
    """States, costates and torques, each kind by itself, as loops that are taken apart have them."""
    rng = np.random.default_rng(4)
    state = 2 * np.arange(steps)[:, None] + np.arange(2)
    costate, torque = state + 2 * steps, 4 * steps + np.arange(steps)
    A = np.eye(5 * steps)
    for t in range(steps):
        A[np.ix_(state[t], [torque[t]])] = rng.standard_normal((2, 1))
        A[np.ix_(costate[t], state[t])] = rng.standard_normal((2, 2))
        if t:
            A[np.ix_(state[t], state[t - 1])] = A[np.ix_(costate[t], state[t - 1])] = rng.standard_normal((2, 2)) / 2
        if t < steps - 1:
            A[np.ix_(costate[t], costate[t + 1])] = rng.standard_normal((2, 2)) / 2
            A[np.ix_([torque[t]], costate[t + 1])] = rng.standard_normal((1, 2))
    return A


MATRICES = {
    "tridiagonal": banded(200, 1, 1),
    "lower": banded(301, 3, 0) + 4 * np.eye(301),
    "upper": banded(301, 0, 3) + 4 * np.eye(301),
    "uneven band": banded(420, 2, 4) + 4 * np.eye(420),
    "shuffled": shuffled(banded(300, 2, 1)),
    "complex": banded(257, 1, 2, dtype=complex),
    "boundary values": boundary_value(70, 4, 1),
    "from the start": boundary_value(65, 3, 3),
    "from the end, shuffled": shuffled(boundary_value(99, 2, 0)),
    "two chains": np.kron(np.eye(2), banded(160, 1, 1)),
    "control": optimal_control(80),
    "numbers alone": np.diag(np.arange(1.0, 101.0)),
}


def laid_out(A):
    """The static side of a matrix, and its numbers."""
    row, col = np.nonzero(A)
    pattern, _ = from_entries(row, col, A.shape)
    layout = Layout((Part("equation", len(A)),), (Part("unknown", len(A)),), ((0, 0),), (pattern,))
    return layout, A[pattern.rows, pattern.cols]


def test_a_chain_is_as_narrow_as_its_stages():
    assert chain_of(laid_out(MATRICES["control"])[0]).width == 5
    assert chain_of(laid_out(shuffled(boundary_value(70, 4, 2)))[0]).width == 4


def residual(A, x, b):
    return np.linalg.norm(A @ x - b) / (np.linalg.norm(A) * np.linalg.norm(x) + np.linalg.norm(b))


TRACED = ("tridiagonal", "control", "complex", "from the end, shuffled")


@pytest.mark.parametrize(("name", "traced"), [*((name, False) for name in MATRICES), *((name, True) for name in TRACED)])
def test_chains_are_solved(name, traced):
    A = MATRICES[name]
    layout, data = laid_out(A)
    b = np.random.default_rng(5).standard_normal((len(A), 3)).astype(A.dtype)

    def solutions(data, b):
        factors = block_factors(layout, [data])
        assert isinstance(factors, ChainFactors)
        again = factors_of(layout, factors.arrays)
        return factors.solve(b), factors.solve_transpose(b), again.solve(b[:, 0]), factors.slogdet()

    x, y, first, (sign, size) = (jax.jit(solutions) if traced else solutions)(data, b)
    assert isinstance(x, jax.Array) == traced
    assert residual(A, x, b) < 1e-14
    assert residual(A.T, y, b) < 1e-14
    assert residual(A, first, b[:, 0]) < 1e-14
    expected = np.linalg.slogdet(A)
    np.testing.assert_allclose(sign, expected[0], atol=1e-12 * np.linalg.cond(A))
    np.testing.assert_allclose(size, expected[1], rtol=1e-14 * np.linalg.cond(A), atol=1e-13 * np.linalg.cond(A))


def test_single_precision_stays():
    A = MATRICES["uneven band"]
    layout, data = laid_out(A)
    x = block_factors(layout, [data.astype(np.float32)]).solve(np.ones(len(A), np.float32))
    assert x.dtype == np.float32
    assert residual(A, x, np.ones(len(A))) < 1e-6


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    A = MATRICES["shuffled"]
    layout, data = laid_out(A)
    factors, b = block_factors(layout, [torch.asarray(data)]), np.random.default_rng(5).standard_normal(len(A))
    for solve, matrix in ((factors.solve, A), (factors.solve_transpose, A.T)):
        x = solve(torch.asarray(b))
        assert isinstance(x, torch.Tensor)
        assert residual(matrix, x.numpy(), b) < 1e-14


def test_under_vmap():
    A = MATRICES["tridiagonal"]
    layout, data = laid_out(A)
    numbers = np.stack([data, 2 * data, data + 0.1])
    xs = jax.jit(jax.vmap(lambda d: block_factors(layout, [d]).solve(jnp.ones(len(A)))))(numbers)
    for d, x in zip(numbers, xs, strict=True):
        B = np.zeros_like(A)
        B[np.nonzero(A)] = d
        assert residual(B, x, np.ones(len(A))) < 1e-14


def test_the_narrowest_chain_is_found():
    """Blocks as wide as a stage, where its stages are those of the matrix; a band is cut by its width."""
    assert chain_of(laid_out(MATRICES["boundary values"])[0]).width == 4
    assert chain_of(laid_out(MATRICES["from the start"])[0]).width == 3
    assert chain_of(laid_out(MATRICES["tridiagonal"])[0]).width == 2
    assert chain_of(laid_out(MATRICES["numbers alone"])[0]).width == 1


def test_what_is_no_chain():
    grid = scipy.sparse.diags_array([1.0] * 5, offsets=[-40, -1, 0, 1, 40], shape=(1600, 1600)).toarray()
    arrow = banded(300, 1, 1)
    arrow[-1] = arrow[:, -1] = 1
    short = banded(LONG - 1, 0, 0)
    for A in (grid, arrow, short):
        layout, data = laid_out(A)
        assert chain_of(layout) is None
        assert isinstance(block_factors(layout, [data]), Permuted)


def test_singular_matrices_are_named():
    A = banded(200, 1, 1)
    A[:3, 2:5] = 0
    A[:3, 0] = 1  # the first three equations are about two unknowns
    layout, data = laid_out(A)
    with pytest.raises(SingularError, match=r"singular whatever its numbers are: unknown, entry \d+ of 200"):
        block_factors(layout, [data])
    layout, data = laid_out(MATRICES["numbers alone"])
    data[41] = 0
    with pytest.raises(SingularError, match=r"a pivot of unknown, entry 41 of 100 is 0"):
        block_factors(layout, [data])
    assert not np.isfinite(jax.jit(lambda d: block_factors(layout, [d]).solve(jnp.ones(100)))(data)).all()


# ---- Newton's method on all states of a loop -----------------------------------------------------------------------------
STEPS, WIDTH, INPUTS = 8192, 4, 3
RNG = np.random.default_rng(1)
UNIT = 0.3 * RNG.standard_normal((3, WIDTH, WIDTH)), 0.3 * RNG.standard_normal((3, INPUTS, WIDTH))


def gated(h, v, unit):
    """A step of a gated recurrent unit."""
    W, U = unit
    update, reset = jax.nn.sigmoid(v @ U[0] + h @ W[0]), jax.nn.sigmoid(v @ U[1] + h @ W[1])
    return (1 - update) * jnp.tanh(v @ U[2] + reset * (h @ W[2])) + update * h


def one_after_the_other(unit, x):
    return lax.scan(lambda h, v: (gated(h, v, unit),) * 2, jnp.zeros(WIDTH), x)[1]


def all_at_once(unit, x):
    def defects(h, unit, x):
        before = jnp.concatenate([jnp.zeros((1, WIDTH)), h[:-1]])
        return h - jax.vmap(gated, (0, 0, None))(before, x, unit)

    return bs.root(defects, jnp.zeros((len(x), WIDTH)), unit, x)


def with_gradient(states):
    def both(unit, x):
        h, pull = jax.vjp(lambda unit: states(unit, x), unit)
        return h, pull(jnp.cos(h))[0]

    return both


def test_states_of_a_gated_unit_all_at_once():
    """8,192 states and their derivatives as the roots of one equation: as by the loop, and no loop is as long as it."""
    x = RNG.standard_normal((STEPS, INPUTS))
    program = jax.jit(with_gradient(all_at_once)).lower(UNIT, x).compile()
    ours, theirs = program(UNIT, x), jax.jit(with_gradient(one_after_the_other))(UNIT, x)
    for a, b in zip(*map(jax.tree_util.tree_leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    text = program.as_text()
    turns = [int(n) for n in re.findall(r'known_trip_count[^}]*?"n":"(\d+)"', text)]
    assert sorted(set(turns)) == [3, 16]  # where Newton's method looks whether it has converged
    assert text.count(" while(") - len(turns) == 2  # its own, and that which halves a step
    traced = (jax.make_jaxpr(with_gradient(all_at_once))(UNIT, x[:n]).jaxpr for n in (512, 2048, 8192))
    counts = [len(list(every_equation(jaxpr))) for jaxpr in traced]
    assert counts[2] - counts[1] == counts[1] - counts[0] < 0.2 * counts[0]  # as many more for each doubling


def test_a_linear_recurrence_all_at_once():
    """Its states are the solution of one bidiagonal system: one step of Newton's method, or one solve."""
    a, b = 0.9 * RNG.standard_normal(5000), RNG.standard_normal(5000)

    def defects(c):
        return c - a * jnp.concatenate([jnp.zeros(1), c[:-1]])

    solve = jax.jit(lambda b: bs.solve_jacobian(defects, jnp.zeros(5000), b)).lower(b).compile()
    assert " while(" not in solve.as_text()
    expected = jax.jit(lambda: lax.scan(lambda c, ab: (ab[0] * c + ab[1],) * 2, 0.0, (a, b))[1])()
    np.testing.assert_allclose(solve(b), expected, rtol=1e-12, atol=1e-12)
