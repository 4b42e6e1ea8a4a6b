"""Loops whose steps differ by an index or a mask that is counted, or given: exact patterns, and values as JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import backsolve as bs
from backsolve.capture import each_step
from tests import reference

N = 8
BAND = np.diag(np.arange(1.0, N + 1)) + np.diag(np.ones(N - 1), 1)
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


@case
def diff_loop(x):
    def body(i, y):
        return y.at[i].set(x[i] ** 2 + x[i - 1])

    return lax.fori_loop(1, N, body, jnp.zeros(N))


@case
def map_pairs(x):
    return lax.map(lambda i: x[i] * x[(i + 1) % N], jnp.arange(N))


@case
def cumul(x):
    def step(c, i):
        c = c * 0.5 + x[i]
        return c, c

    return lax.scan(step, 0.0, jnp.arange(N))[1]


@case
def perm(x):
    idx = np.array([3, 1, 4, 1, 5, 0])
    return lax.scan(lambda c, i: (c, x[i] * 2), 0.0, idx)[1]


@case
def blocks2(x):
    def body(i, y):
        v = lax.dynamic_slice(x, (2 * i,), (2,))
        return lax.dynamic_update_slice(y, v * v[::-1], (2 * i,))

    return lax.fori_loop(0, N // 2, body, jnp.zeros(N))


@case
def forward_sub(x):
    A = jnp.eye(N) * 2 + jnp.diag(jnp.ones(N - 1), -1)

    def body(i, y):
        return y.at[i].set((x[i] - A[i] @ y) / A[i, i])

    return lax.fori_loop(0, N, body, jnp.zeros(N))


@case
def thomas(x):
    a, b, c = -jnp.ones(N), 3 * jnp.ones(N), -jnp.ones(N)

    def fw(i, s):
        cp, dp = s
        m = b[i] - a[i] * cp[i - 1]
        return cp.at[i].set(c[i] / m), dp.at[i].set((x[i] - a[i] * dp[i - 1]) / m)

    cp, dp = lax.fori_loop(1, N, fw, (jnp.zeros(N).at[0].set(c[0] / b[0]), jnp.zeros(N).at[0].set(x[0] / b[0])))

    def bw(k, y):
        i = N - 2 - k
        return y.at[i].set(dp[i] - cp[i] * y[i + 1])

    return lax.fori_loop(0, N - 1, bw, jnp.zeros(N).at[-1].set(dp[-1]))


@case
def gauss_seidel(x):
    def sweep(_, u):
        def body(i, u):
            return u.at[i].set(0.5 * (u[i - 1] + u[i + 1]) + x[i])

        return lax.fori_loop(1, N - 1, body, u)

    return lax.fori_loop(0, 1, sweep, x)


@case
def red_black(x):
    m = jnp.arange(N) % 2

    def body(t, u):
        new = u + 0.1 * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1))
        return jnp.where(m == t % 2, new, u)

    return lax.fori_loop(0, 3, body, x)


@case
def cond_by_counter(x):
    def body(i, c):
        return lax.cond(i % 2 == 0, lambda c: c.at[i].set(c[i] * x[i]), lambda c: c, c)

    return lax.fori_loop(0, N, body, jnp.ones(N))


@case
def switch_by_counter(x):
    def step(c, i):
        return c, lax.switch(i % 3, [lambda: x[0] * x[1], lambda: x[i] * 1.0, lambda: 0.0 * x[0] + 1])

    return lax.scan(step, 0, jnp.arange(N))[1]


@case
def one_hot(x):
    def step(c, i):
        e = jax.nn.one_hot(i, N, dtype=x.dtype)
        return c + e * jnp.sin(x), c @ e

    return lax.scan(step, jnp.zeros(N), jnp.arange(N))[0]


@case
def masked(x):
    def body(i, c):
        return jnp.where(jnp.arange(N) == i, x**2 + c, c)

    return lax.fori_loop(0, N // 2, body, x * 0 + 1)


@case
def nested(x):
    def outer(i, A):
        def inner(j, A):
            return A.at[i, j].set(x[i] * x[j])

        return lax.fori_loop(0, 3, inner, A)

    return lax.fori_loop(0, N, outer, jnp.zeros((N, 3)))


@case
def nested_dyn(x):
    def outer(i, A):
        def inner(j, A):
            return A.at[i].add(x[(i + j) % N])

        return lax.fori_loop(0, 2, inner, A)

    return lax.fori_loop(0, N, outer, jnp.zeros(N))


@case
def reverse(x):
    def step(c, i):
        c = x[i] + 0.3 * c
        return c, c * x[0]

    return lax.scan(step, 0.0, jnp.arange(N), reverse=True)[1]


@case
def window(x):
    return lax.map(lambda i: jnp.sum(lax.dynamic_slice(x, (i,), (3,)) ** 2), jnp.arange(N - 2))


@case
def vmap_index(x):
    return jax.vmap(lambda i: x[i] * x[N - 1 - i])(jnp.arange(N))


@case
def edges(x):
    src = jnp.array([0, 1, 2, 5])
    dst = jnp.array([3, 3, 4, 0])

    def step(acc, e):
        s, d = e
        return acc.at[d].add(jnp.sin(x[s] - x[d])), None

    return lax.scan(step, jnp.zeros(N), (src, dst))[0]


@case
def fib(x):
    def body(i, y):
        return y.at[i].set(y[i - 1] * 0.5 + y[i - 2] * x[i])

    return lax.fori_loop(2, N, body, jnp.zeros(N).at[:2].set(x[:2]))


@case
def checkpointed(x):
    @jax.checkpoint
    def body(y, i):
        return y.at[i].set(jnp.sin(x[i]) * y[i - 1]), None

    return lax.scan(body, jnp.ones(N), jnp.arange(1, N))[0]


@case
def python_index_in_xs(x):
    def step(c, inp):
        i, v = inp
        return c, v * x[i]

    return lax.scan(step, 0.0, (jnp.arange(N)[::-1], x))[1]


@case
def carry_index(x):
    def step(s, _):
        i, y = s
        return (i + 2, y.at[i % N].add(x[(i + 1) % N])), x[i % N]

    (_, y), z = lax.scan(step, (0, jnp.zeros(N)), None, length=5)
    return jnp.concatenate([y, z])


@case
def unrolled(x):
    def body(i, y):
        return y.at[i].set(x[i] ** 2 + x[i - 1])

    return lax.fori_loop(1, N, body, jnp.zeros(N), unroll=2)


@case
def floats_as_time(x):
    def step(y, i):
        t = 0.1 * i
        return y + 0.1 * (jnp.sin(t) * y - y * x), None

    return lax.scan(step, x, jnp.arange(5))[0]


@case
def jit_inside(x):
    @jax.jit
    def g(i, y):
        return y.at[i].set(x[i] ** 2 * y[i - 1])

    return lax.fori_loop(1, N, g, jnp.ones(N))


@case
def custom_inside(x):
    @jax.custom_jvp
    def sq(a):
        return a * a

    sq.defjvp(lambda p, t: (sq(p[0]), 2 * p[0] * t[0]))

    def body(i, y):
        return y.at[i].set(sq(x[i]) + y[i - 1])

    return lax.fori_loop(1, N, body, jnp.ones(N))


@case
def rows_of_a_matrix(x):
    return lax.scan(lambda c, row: (c, row @ x**2), 0.0, BAND)[1]


@case
def rows_by_number(x):
    return lax.fori_loop(0, N, lambda i, y: y.at[i].set(jnp.asarray(BAND)[i] @ x), jnp.zeros(N))


@case
def masks(x):
    return lax.map(lambda row: jnp.sum(jnp.where(row, jnp.sin(x), 0.0)), BAND > 0)


@case
def lower(x):
    return lax.map(lambda i: jnp.sum(jnp.where(jnp.arange(N) <= i, x**2, 0.0)), jnp.arange(N))


@case
def factors_of_steps(x):
    """Known while tracing to be zero at every second step."""

    def step(c, i):
        w = jnp.where(i % 2 == 0, 1.0, 0.0)
        return w * x * c + (1 - w) * c, c

    return lax.scan(step, jnp.ones(N), jnp.arange(4))[1]


@case
def solved_apart(x):
    """Two systems at once, of which neither knows of the other."""
    A = np.kron(np.eye(2), 4 * np.eye(N // 2) + np.diag(np.ones(N // 2 - 1), 1) + np.diag(np.ones(N // 2 - 1), -1))
    return lax.custom_linear_solve(
        lambda v: A @ v, x**2, lambda _, b: jnp.linalg.solve(A, b), lambda _, b: jnp.linalg.solve(A.T, b)
    )


@pytest.fixture(autouse=True)
def _in_double(double_precision):
    """Patterns are compared with numbers."""


def points(count):
    return [jnp.asarray(np.random.default_rng(k).uniform(0.5, 1.5, N)) for k in range(count)]


def dense(f, x):
    return np.asarray(reference.jacfwd(f)(x)).reshape(-1, N)


def matrix(found):
    return np.asarray(found.todense()).reshape(-1, N)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("name", CASES)
def test_patterns_are_exact_and_values_right(name):
    f = CASES[name]
    xs = points(3)
    expected = [dense(f, x) for x in xs]
    np.testing.assert_array_equal(matrix(bs.sparsity(f, xs[0])), np.any([J != 0 for J in expected], axis=0))
    compiled = jax.jit(bs.jacobian(f, format="sparse"))
    for x, J in zip(xs, expected, strict=True):
        np.testing.assert_allclose(matrix(compiled(x)), J, rtol=1e-9, atol=1e-12)
    x, J = xs[0], expected[0]
    np.testing.assert_allclose(matrix(bs.jacobian(f, format="sparse", order="reverse")(x)), J, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.asarray(bs.jacobian(f)(x)).reshape(-1, N), J, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("name", ["thomas", "red_black", "nested", "carry_index", "reverse"])
def test_the_carry_as_a_sparse_matrix(name, monkeypatch):
    """As where it is too large for bits."""
    f, x = CASES[name], points(1)[0]
    expected = matrix(bs.sparsity(f, x))
    monkeypatch.setattr(each_step, "HELD", -1)
    np.testing.assert_array_equal(matrix(bs.sparsity(f, x)), expected)


@pytest.mark.parametrize("name", ["thomas", "cumul", "forward_sub", "reverse"])
def test_solves(name):
    f, x = CASES[name], points(1)[0]
    b = jnp.linspace(-1.0, 1.0, N)
    expected = np.linalg.solve(dense(f, x), b)
    np.testing.assert_allclose(bs.solve_jacobian(f, x, b), expected, rtol=1e-8)
    np.testing.assert_allclose(jax.jit(lambda x, b: bs.solve_jacobian(f, x, b))(x, b), expected, rtol=1e-8)


def test_hessians():
    for name in ("gauss_seidel", "edges", "window", "nested"):
        f, x = CASES[name], points(1)[0]
        g = lambda x, f=f: jnp.sum(jnp.sin(f(x)))  # noqa: E731
        found = bs.hessian(g, format="sparse")(x)
        np.testing.assert_allclose(matrix(found), reference.hessian(g)(x), rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
def test_what_is_not_known_may_be_any_place():
    """An index that follows from the point, or is given under jit, may name all."""
    x, table = points(1)[0], jnp.array([3, 1, 4])

    def by_value(x):
        return lax.scan(lambda c, i: (c, x[jnp.int32(x[0] * 0) + i]), 0.0, jnp.arange(N))[1]

    def by_table(x, table):
        return lax.scan(lambda c, i: (c, x[i] ** 2), 0.0, table)[1]

    J = jax.jit(bs.jacobian(by_table, format="sparse"))(x, table)
    assert J.nnz == 3 * N
    np.testing.assert_allclose(matrix(J), dense(lambda x: by_table(x, table), x), rtol=1e-12)
    J = bs.jacobian(by_value, format="sparse")(x)
    assert J.nnz == N * N
    np.testing.assert_allclose(matrix(J), dense(by_value, x), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
def test_steps_too_many_to_be_gone_through(monkeypatch):
    f, x = CASES["diff_loop"], points(1)[0]
    monkeypatch.setattr(each_step, "STEPS", N)
    J = bs.jacobian(f, format="sparse")(x)
    assert J.nnz > 2 * N
    np.testing.assert_allclose(matrix(J), dense(f, x), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
def test_beside_what_is_no_number():
    """A loop that counts and carries a random key in another one; a solve with auxiliary data."""

    def with_keys(x):
        def step(carry, k):
            y, key = carry
            inner = lambda s, _: ((s[0] + 1, jax.random.split(s[1])[0]), None)  # noqa: E731
            (i, key), _ = lax.scan(inner, (k, key), None, length=2)
            return (y.at[i % N].set(x[k] * jax.random.uniform(key)), key), None

        return lax.scan(step, (jnp.zeros(N), jax.random.key(0)), jnp.arange(4))[0][0]

    def with_data(x):
        d = jnp.arange(1.0, N + 1)
        solve = lambda _, b: (b / d, jnp.zeros(2, int))  # noqa: E731
        return lax.custom_linear_solve(lambda v: v * d, x**2, solve, solve, has_aux=True)[0]

    for f in (with_keys, with_data):
        x = points(1)[0]
        np.testing.assert_allclose(matrix(bs.jacobian(f, format="sparse")(x)), dense(f, x), rtol=1e-9, atol=1e-12)


# ---- random loops --------------------------------------------------------------------------------------------------------
OPERATIONS = [
    lambda a, b: lambda x, y, i: y.at[(a * i + b) % N].set(jnp.sin(x[i % N]) * y[(i + b) % N]),
    lambda a, b: lambda x, y, i: y.at[(a * i + b) % N].add(x[(i + a) % N] ** 2),
    lambda a, b: lambda x, y, i: lax.dynamic_update_slice(y, lax.dynamic_slice(x, (i % 3 + a,), (2,)) * y[b], (i % 5,)),
    lambda a, b: lambda x, y, i: jnp.where((jnp.arange(N) + i) % (a + 2) == 0, y * x, y),
    lambda a, b: lambda x, y, i: lax.cond(i % (a + 2) == 0, lambda: y * x[b], lambda: y.at[i % N].set(0.5)),
    lambda a, b: lambda x, y, i: lax.fori_loop(0, a, lambda k, y: y.at[(i + k) % N].add(x[(k + b) % N]), y),
    lambda a, b: lambda x, y, i: y + jnp.asarray([1.0, 2.0, 3.0])[i % 3] * x[b] * jax.nn.one_hot(i % N, N),
    lambda a, b: lambda x, y, i: jnp.roll(y, 1) * 0.5 + y[::-1] * x[(i + a) % N],
]


@given(
    st.lists(
        st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 3), st.integers(0, N - 1)), min_size=1, max_size=3
    ),
    st.integers(2, 6),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=12, deadline=None)
def test_random_loops(operations, steps, reverse, stacked, start):
    def f(x):
        def step(y, i):
            before = y
            for k, a, b in operations:
                y = OPERATIONS[k](a, b)(x, y, i)
            return y, before[i % N] * x[-1]

        last, out = lax.scan(step, start * x + 0.3, jnp.arange(steps), reverse=reverse)
        return jnp.concatenate([last, out]) if stacked else last

    xs = points(2)
    pattern = matrix(bs.sparsity(f, xs[0]))
    compiled = jax.jit(bs.jacobian(f, format="sparse"))
    for x in xs:
        expected = dense(f, x)
        assert not (expected[pattern == 0] != 0).any()
        np.testing.assert_allclose(matrix(compiled(x)), expected, rtol=1e-8, atol=1e-10)
