"""Structure inside loops, branches, rules and linear primitives: exact patterns, and values as JAX's, in every order."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.experimental.sparse import BCOO, BCSR
from jax.scipy.linalg import cho_solve, solve_triangular
from scipy.sparse import csr_array

import backsolve as bs
from backsolve.sparse.pattern import PatternTooLargeError, apart, from_entries
from tests import reference

N = 12
KERNEL, ROWS = np.array([1.0, 2.0, 1.0]), np.array([0, 1, 2])
BAND = 2 * np.eye(12) + np.eye(12, k=1)
PAIRS = np.kron(np.eye(6), [[2.0, 0.0], [1.0, 3.0]])
TRIANGLES = np.array([[[2.0, 0, 0], [1, 2, 0], [0, 0, 2]], [[2, 0, 0], [1, 2, 0], [0, 1, 2]]])
FACTOR = (np.linalg.cholesky(np.kron(np.eye(6), [[2.0, 1.0], [1.0, 2.0]])), True)
SPARSE = BCOO.fromdense(BAND, index_dtype=np.int32)


def lap(u):
    return jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)


@jax.custom_vjp
def square(x):
    return x**2


square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))


@jax.custom_vjp
def shifted(x):
    return jnp.sin(x) * x[::-1]


shifted.defvjp(lambda x: (shifted(x), x), lambda x, g: (jnp.cos(x) * x[::-1] * g + (jnp.sin(x) * g)[::-1],))


def table(x):
    return x.reshape(3, 4)


def _lines(x):
    """A tridiagonal matrix with these numbers on its diagonal."""
    beside = jnp.full(x.shape, -0.2)
    return beside.at[..., 0].set(0), 2 + x**2, beside.at[..., -1].set(0)


def heat(steps, **how):
    return lambda x: lax.scan(lambda u, _: (u + 0.1 * lap(u), None), x, None, length=steps, **how)[0]


def rollout(x, reverse=False):
    """Two states, ten controls: every state depends on all controls before it (after it)."""

    def step(c, u):
        c = jnp.stack([c[0] + 0.1 * c[1], c[1] + 0.1 * jnp.sin(u) - 0.01 * c[0]])
        return c, c * u

    return lax.scan(step, x[:2], x[2:], reverse=reverse)


def growing(x):
    """A carry that is constant at first, one that stays so, one of integers."""

    def step(c, v):
        a, b, k, fixed = c
        return (a + b * v, jnp.sin(b), k + 1, fixed), a * fixed

    (a, b, _, _), y = lax.scan(step, (jnp.zeros(4), x[:4], 0, jnp.ones(4)), table(x))
    return a, b, y


def by_constants(x):
    """A body that closes over what it is differentiated by."""
    w = x[:3]
    return lax.fori_loop(0, 3, lambda i, c: c * w + 1.0, jnp.ones(3))


def nested(x):
    """Rows in a loop, a loop for each of them."""

    def row(c, v):
        inner = lax.scan(lambda a, b: (a + b, a * b), 0.0, v)[1]
        return c, inner**2

    return lax.scan(row, None, table(x))[1]


def stepping(x):
    return lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] + 0.1 * lap(c[1])), (0, x))[1]


def branch(x):
    return lax.switch(jnp.int32(x[0] * 3), [lambda y: y**2, lambda y: y[::-1], lambda y: jnp.roll(y, 1) * y], x)


# name: (function, entries that can be non-zero, whether it has a forward mode)
CASES = {
    "tile": (lambda x: jnp.tile(x, 2), 24),
    "unstack": (lambda x: sum(jnp.unstack(table(x))), 12),
    "unstack, in the middle": (lambda x: jnp.unstack(x.reshape(2, 3, 2), axis=1)[1] ** 2, 4),
    "convolve": (lambda x: jnp.convolve(x, KERNEL, "same"), 34),
    "conv, batched": (lambda x: lax.conv_general_dilated(x.reshape(3, 1, 4), KERNEL[None, None], (1,), "SAME"), 30),
    "conv, strided, in two dimensions": (
        lambda x: lax.conv_general_dilated(
            x.reshape(1, 1, 3, 4), jnp.ones((2, 1, 2, 2)), (2, 1), ((1, 0), (0, 1)), rhs_dilation=(1, 2)
        ),
        30,
    ),
    "conv, grouped": (
        lambda x: lax.conv_general_dilated(x.reshape(1, 4, 3), jnp.ones((4, 1, 2)), (1,), "VALID", feature_group_count=4),
        16,
    ),
    "conv, dilated": (
        lambda x: lax.conv_general_dilated(x.reshape(1, 1, 12), jnp.ones((1, 1, 2)), (1,), [(0, 0)], lhs_dilation=(2,)),
        22,
    ),
    "conv, by its kernel": (
        lambda x: lax.conv_general_dilated(jnp.ones((1, 2, 4)), x.reshape(2, 2, 3), (1,), "SAME"), 2 * 2 * (3 + 3 + 2 + 2)
    ),
    "cumsum of rows": (lambda x: jnp.cumsum(table(x), 1), 30),
    "cumsum, reversed": (lambda x: lax.cumsum(table(x), 0, reverse=True), 24),
    "cumprod of rows": (lambda x: jnp.cumprod(table(x), 1), 30),
    "cumlogsumexp of rows": (lambda x: lax.cumlogsumexp(table(x), 1), 30),
    "real": (lambda x: jnp.real(x * (1 + 2j)), 12),
    "conj": (lambda x: jnp.real(jnp.conj(x + 0j)), 12),
    "fft of rows": (lambda x: jnp.abs(jnp.fft.fft(table(x), axis=1)), 48),
    "reshape, order F": (lambda x: x.reshape(3, 4, order="F") ** 2, 12),
    "diagonal": (lambda x: jnp.diagonal(table(x)), 3),
    "diag": (lambda x: jnp.diag(table(x)[:, :3]), 3),
    "prod of rows": (lambda x: jnp.prod(table(x), 1), 12),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(x) ** 2), 12),
    "checkpoint of a stencil": (lambda x: jax.checkpoint(lap)(x * x), 36),
    "custom_vjp": (square, 12),
    "custom_vjp, coupled": (shifted, 24),
    "polyval": (lambda x: jnp.polyval(jnp.array([1.0, 2.0, 3.0]), x), 12),
    "a constant matrix": (lambda x: (jnp.eye(12) + jnp.eye(12, k=1)) @ x, 23),
    "kron with the identity": (lambda x: jnp.kron(jnp.eye(2), table(x)), 24),
    "optimization_barrier": (lambda x: lax.optimization_barrier(x) ** 2, 12),
    "max_pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3,), (3,), "VALID"), 12),
    "0 x": (lambda x: 0.0 * x, 0),
    "x to the 0": (lambda x: x**0, 0),
    "rows overwritten": (lambda x: lap(x).at[np.array([0, 11])].set(0.0), 30),
    "columns overwritten": (lambda x: table(x).at[:, ROWS].set(0.0), 3),
    "overwritten by others": (lambda x: x[:3].at[ROWS].set(x[3:6]), 3),
    "cond, entrywise": (lambda x: lax.cond(x[0] > 0, lambda y: y**2, lambda y: -y, x), 12),
    "switch": (branch, 34),
    "scan, entrywise": (lambda x: lax.scan(lambda c, _: (jnp.sin(c) * c, None), x, None, length=4)[0], 12),
    "scan, stencil twice": (heat(2), 60),
    "scan, stencil, unrolled": (heat(3, unroll=2), 84),
    "scan, one-sided": (lambda x: lax.fori_loop(0, 2, lambda i, u: u + 0.1 * (jnp.roll(u, 1) - u), x), 36),
    "scan of no turns": (heat(0), 12),
    "scan of rows": (lambda x: lax.scan(lambda c, v: (c, v**2), 0.0, x)[1], 12),
    "scan, reversed": (lambda x: lax.scan(lambda c, v: (c + v, c * v), x[0], x, reverse=True)[1], 12 + sum(range(12)) + 11),
    "scan of constants": (by_constants, 3),
    "nested scans": (nested, 3 * (1 + 2 + 3 + 4)),
    "map": (lambda x: lax.map(lambda v: v**2, x), 12),
    "map, in batches": (lambda x: lax.map(lambda v: v**2, x, batch_size=4), 12),
    "map of rows": (lambda x: lax.map(lambda v: v * jnp.sum(v), table(x)), 48),
    "fori_loop under vmap": (jax.vmap(lambda a: lax.fori_loop(0, 3, lambda i, c: c * c + a, a)), 12),
    "while_loop under vmap": (
        jax.vmap(lambda a: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * c[1]), (0, a))[1]), 12,
    ),
    "while_loop of a stencil": (stepping, 144),
    "a constant matrix, scaled in a scan": (
        lambda x: lax.scan(lambda u, _: (u - 0.1 * BAND @ jnp.sin(u), None), x, None, length=2)[0], 33
    ),
    "cond of which the choice is known": (lambda x: lax.cond(True, lambda y: y**2, lambda y: y[0] * y, x), 12),
    "switch of which the choice is out of range": (lambda x: lax.switch(7, [lambda y: y[0] * y, lambda y: y**2], x), 12),
    "a triangle": (lambda x: solve_triangular(jnp.exp(jnp.outer(x, jnp.ones(12))), x, lower=True), 78),
    "a triangle, transposed": (lambda x: solve_triangular(BAND + 0 * x.sum(), x, trans=1), 78),
    "a triangle of known blocks": (lambda x: solve_triangular(PAIRS, jnp.sin(x), lower=True), 18),
    "a triangle of known blocks, transposed": (lambda x: solve_triangular(PAIRS, jnp.sin(x), lower=True, trans=1), 18),
    "a triangle of known blocks, from the right": (
        lambda x: lax.linalg.triangular_solve(PAIRS, jnp.stack([x, x**2]), lower=True), 36
    ),
    "a triangle of known blocks, from the right, transposed": (
        lambda x: lax.linalg.triangular_solve(PAIRS, jnp.stack([x, x**2]), lower=True, transpose_a=True), 36
    ),
    "triangles in a batch": (
        lambda x: lax.linalg.triangular_solve(TRIANGLES, x.reshape(2, 3, 2), left_side=True, lower=True), 2 * (4 + 6)
    ),
    "a factor in a scan": (lambda x: lax.scan(lambda u, _: (cho_solve(FACTOR, u), None), x, None, length=2)[0], 24),
    "tridiagonal solves in a batch": (lambda x: lax.linalg.tridiagonal_solve(*_lines(table(x)), table(x)[..., None]), 48),
    "tridiagonal solves by columns": (lambda x: lax.linalg.tridiagonal_solve(*_lines(BAND[0, :3]), table(x)), 36),
    "a sparse matrix of JAX's": (lambda x: SPARSE @ jnp.sin(x), 23),
    "a sparse matrix of JAX's, in a scan": (
        lambda x: lax.scan(lambda u, _: (u + 0.1 * (SPARSE @ jnp.sin(u)), None), x, None, length=2)[0], 33
    ),
    "entries of a sparse matrix of JAX's": (
        lambda x: BCOO((x**2, SPARSE.indices[:12]), shape=(12, 12)) @ jnp.ones((12, 2)), 24
    ),
    "a sparse matrix of JAX's, by rows": (lambda x: BCSR.from_bcoo(SPARSE) @ table(x).reshape(12), 23),
    "solves in a batch": (lambda x: jnp.linalg.solve(jnp.eye(2) * 3 + x.reshape(3, 2, 2), jnp.ones((3, 2, 1))), 24),
    "determinants in a batch": (lambda x: jnp.linalg.det(x.reshape(3, 2, 2)), 12),
}  # fmt: skip
PULLED = {"custom_vjp", "custom_vjp, coupled"}
POINT = np.linspace(0.1, 1.0, N)


def dense(f, x, pulled=False):
    """JAX's Jacobian, all outputs below each other."""
    derivative = reference.jacrev if pulled else reference.jacfwd
    return np.concatenate([np.asarray(J).reshape(-1, x.size) for J in jax.tree_util.tree_leaves(derivative(f)(x))])


def rows_of(found):
    leaves = jax.tree_util.tree_leaves(found, is_leaf=lambda A: isinstance(A, bs.SparseMatrix))
    return np.concatenate([np.asarray(A.to_scipy().toarray()) for A in leaves]), sum(A.nnz for A in leaves)


@pytest.fixture(autouse=True)
def _in_double():
    with jax.enable_x64(True):
        yield


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("order", ["auto", "reverse"])
@pytest.mark.parametrize("name", CASES)
def test_a_pattern_is_exact_and_its_numbers_are_right(name, order):
    f, entries = CASES[name]
    x = jnp.asarray(POINT)
    found, nnz = rows_of(bs.jacobian(f, format="sparse", order=order)(x))
    np.testing.assert_allclose(found, dense(f, x, name in PULLED), rtol=1e-9, atol=1e-12)
    assert nnz == entries
    twice = rows_of(jax.jit(bs.jacobian(f, format="sparse", order=order))(x + 0.01))[0]
    np.testing.assert_allclose(twice, dense(f, x + 0.01, name in PULLED), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("f", [growing, lambda x: rollout(x, reverse=True), rollout], ids=["growing", "reverse", "rollout"])
def test_several_carries_and_outputs(f):
    x = jnp.asarray(POINT)
    found, nnz = rows_of(bs.jacobian(f, format="sparse")(x))
    expected = dense(f, x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert nnz == np.count_nonzero(expected)


@pytest.mark.parametrize(
    "name",
    ["scan, stencil twice", "scan, reversed", "checkpoint of a stencil", "switch", "nested scans", "max_pool"],
)
def test_hessians_through_what_is_inside(name):
    f, x = CASES[name][0], jnp.asarray(POINT)
    g = lambda x: jnp.sum(jnp.sin(f(x)) * jnp.arange(1.0, f(x).size + 1).reshape(f(x).shape))  # noqa: E731
    found, _ = rows_of(bs.hessian(g, format="sparse")(x))
    np.testing.assert_allclose(found, np.asarray(reference.hessian(g)(x)), rtol=1e-8, atol=1e-10)


def test_a_loop_inside_a_solve():
    """The bordered matrix takes the loop's own pattern, and Newton's method is right."""
    x, b = jnp.asarray(POINT), jnp.linspace(-1.0, 1.0, N)
    for name in ("scan, one-sided", "scan, entrywise", "checkpoint", "map", "cond, entrywise", "polyval"):
        f = CASES[name][0]
        expected = np.linalg.solve(dense(f, x), b)
        np.testing.assert_allclose(bs.solve_jacobian(f, x, b), expected, rtol=1e-8)
        np.testing.assert_allclose(jax.jit(lambda b, f=f: bs.solve_jacobian(f, x, b))(b), expected, rtol=1e-8)


def test_too_many_places_stay_opaque_until_all_are_asked_for():
    """A dense loop between narrow ends is pushed; as a result it is refused with its bytes."""

    def mixed(p):
        wide = jnp.arange(200_000.0) * p[0] + p[1]
        return jnp.sum(lax.scan(lambda c, _: (jnp.sin(c) + jnp.sum(c), None), wide, None, length=3)[0] * 1e-6)[None]

    p = jnp.array([0.5, 0.1])
    np.testing.assert_allclose(bs.jacobian(mixed, format="sparse")(p).todense(), reference.jacrev(mixed)(p), rtol=1e-9)
    everything = bs.jacobian(
        lambda x: lax.scan(lambda c, _: (jnp.sin(c) + jnp.sum(c), None), x, None, length=3)[0], format="sparse"
    )
    with pytest.raises(
        PatternTooLargeError,
        match=r"the matrix \(200000 × 200000\) of scan \(.*test_inside.py:\d+.* 4,000,000,000,000 bytes",
    ):
        everything(jnp.ones(200_000))


# ---- pullbacks that are not linear, random keys ---------------------------------------------------------------------------
def pulled_by(rule):
    @jax.custom_vjp
    def f(x):
        return x * 1.0

    f.defvjp(lambda x: (f(x), x), lambda x, g: (rule(g),))
    return lambda x: f(jnp.sin(x))


PULLBACKS = {
    "clipped": lambda g: jnp.clip(g, -1, 1),
    "by its sign": lambda g: jnp.where(g > 0, g, 0.1 * g),
    "by its norm": lambda g: g / jnp.maximum(1.0, jnp.sqrt(jnp.sum(g * g))),
    "squared": lambda g: g * g,
    "a branch by it": lambda g: lax.cond(jnp.sum(g) > 0, lambda g: g, lambda g: -g, g),
    "a loop by it": lambda g: lax.while_loop(lambda c: jnp.max(c) > 0.7, lambda c: c * 0.5, g),
    "in a scan": lambda g: lax.scan(lambda c, _: (jnp.where(c > 0, c, c * 0.5), None), g, None, length=2)[0],
    "an index by it": lambda g: jnp.zeros_like(g).at[jnp.argmax(g)].set(jnp.max(g)),
}


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("name", PULLBACKS)
def test_a_pullback_that_is_not_linear_is_pulled_row_by_row(name):
    f, x = pulled_by(PULLBACKS[name]), jnp.asarray(POINT)
    expected = np.asarray(reference.jacrev(f)(x))
    np.testing.assert_allclose(rows_of(bs.jacobian(f, format="sparse")(x))[0], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rows_of(jax.jit(bs.jacobian(f, format="sparse"))(x))[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("typed", [True, False])
def test_random_keys_inside(typed):
    key = jax.random.key(0) if typed else jax.random.PRNGKey(0)

    def carried(c, _):
        u, k = c
        k, own = jax.random.split(k)
        return (jnp.sin(u) * jax.random.uniform(own, u.shape), k), None

    functions = (
        lambda x: lax.scan(carried, (x, key), None, length=3)[0][0],
        lambda x: lax.scan(lambda c, k: (c * jax.random.normal(k, c.shape), None), x, jax.random.split(key, 3))[0],
        jax.checkpoint(lambda x: x**2 * jax.random.uniform(key, x.shape)),
    )
    for f in functions:
        x = jnp.asarray(POINT)
        found, nnz = rows_of(bs.jacobian(f, format="sparse")(x))
        np.testing.assert_allclose(found, dense(f, x), rtol=1e-9)
        assert nnz == N


# ---- random loops --------------------------------------------------------------------------------------------------------
MOVES = [
    lambda u: u * u,
    lambda u: u + 0.1 * lap(u),
    lambda u: jnp.roll(u, 2) * u,
    lambda u: u.at[1].set(0.5),
    lambda u: jnp.where(jnp.arange(u.size) % 2 == 0, u, jnp.sin(u)),
    lambda u: u[::-1],
    lambda u: jnp.cumsum(u.reshape(-1, 3), axis=1).reshape(-1) * 0.3,
]
LOOPS = {
    "scan": lambda f, k: lambda u: lax.scan(lambda c, _: (f(c), None), u, None, length=k)[0],
    "slices": lambda f, k: lambda u: lax.scan(lambda c, v: (c * 0.5 + v, f(jnp.full(6, 0.3) * v + c)), 0.1, u)[1][:, 0],
    "reverse": lambda f, k: lambda u: lax.scan(lambda c, v: (c + v, c * v), u[0], f(u), reverse=True)[1],
    "while": lambda f, k: lambda u: lax.while_loop(lambda c: c[0] < k, lambda c: (c[0] + 1, f(c[1])), (0, u))[1],
    "cond": lambda f, k: lambda u: lax.cond(u[0] > k / 4, f, lambda v: v * 2.0, u),
    "checkpoint": lambda f, k: jax.checkpoint(f),
    "map": lambda f, k: lambda u: lax.map(lambda v: jnp.sin(v) * v, f(u)),
    "vmap": lambda f, k: lambda u: jax.vmap(LOOPS["scan"](lambda c: c * jnp.sum(c) * 0.2, k))(f(u).reshape(3, 2)).reshape(6),
}  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from(sorted(LOOPS)), st.integers(0, 3)), min_size=1, max_size=3),
    st.lists(st.integers(0, len(MOVES) - 1), min_size=1, max_size=3),
    st.sampled_from(["auto", "forward", "reverse"]),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_loops_in_loops(loops, moves, order):
    def f(u):
        for k in moves:
            u = MOVES[k](u)
        return u

    for name, count in loops:
        f = LOOPS[name](f, count)
    x = jnp.linspace(0.2, 0.9, 6)
    expected = dense(f, x)
    np.testing.assert_allclose(rows_of(bs.jacobian(f, format="sparse", order=order)(x))[0], expected, rtol=1e-8, atol=1e-11)


# ---- sets of columns -----------------------------------------------------------------------------------------------------
@given(st.integers(1, 9), st.integers(1, 12), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 11)), max_size=40))
def test_columns_of_one_set_share_no_row(m, n, places):
    places = [(i % m, j % n) for i, j in places]
    pattern, _ = from_entries([i for i, _ in places], [j for _, j in places], (m, n))
    numbers, count = apart(pattern)
    A = csr_array((np.ones(pattern.nnz, int), (pattern.rows, pattern.cols)), shape=(m, n))
    for k in range(count):
        assert A[:, np.flatnonzero(numbers == k)].sum(axis=1).max(initial=0) <= 1
    assert ((numbers >= 0) == (pattern.col_counts > 0)).all()


def test_a_band_needs_as_many_sets_as_it_is_wide():
    rows = np.repeat(np.arange(1000), 5)
    pattern, _ = from_entries(rows, np.clip(rows + np.tile(np.arange(5) - 2, 1000), 0, 999), (1000, 1000))
    assert apart(pattern)[1] == 5
    around, _ = from_entries(rows, (rows + np.tile(np.arange(5) - 2, 1000)) % 999, (1000, 1000))
    assert apart(around)[1] <= 7
    full, _ = from_entries(np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6), (6, 6))
    assert apart(full)[1] == 6


def limited(u):
    """A slope limiter: sums of masks beside each other."""
    before, after = u - jnp.roll(u, 1), jnp.roll(u, -1) - u
    least = jnp.where(jnp.abs(before) < jnp.abs(after), before, after)
    return u + 0.4 * jnp.where(before * after > 0, least, 0.0)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("f", [limited, lambda u: lax.scan(lambda u, _: (limited(u), None), u, None, length=2)[0]])
def test_sums_of_masks_have_the_precision_of_the_program(f, jitted):
    """Also where double precision is on: nothing is computed in it, and a loop carries what it is given."""
    x = jnp.asarray(np.sin(3 * np.arange(12.0)), jnp.float32)
    of = bs.jacobian(f, format="sparse")
    S = (jax.jit(of) if jitted else of)(x)
    assert S.data.dtype == np.float32
    np.testing.assert_allclose(S.todense(), reference.jacfwd(f)(x), atol=1e-6)
    assert not re.search(r"f64\[\d", str(jax.make_jaxpr(lambda x: of(x).data)(x)))
