"""Masks are numbers where they are summed or added, and hide what is infinite or NaN wherever they are multiplied.

What is compiled is compiled with all optimisations: two of these cases were wrong only in what such a compiler made of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve import hadamard

from .. import reference
from ..quick import optimized
from .oracle import ORDERS, assert_close, assert_everywhere, normal

ROWS = np.arange(-3.0, 4.0)[:, None] + np.zeros(3)
KEEP = np.arange(7)[:, None] != 5
B = np.array([0.1, 0.2, -0.3])


def reach(q):
    """A robot arm's reach: the maximum inside `hypot` is read by several loops."""
    x = y = a = 0.0
    for i, length in enumerate((0.3, 0.25, 0.2)):
        a = a + q[i]
        x = x + length * jnp.cos(a) * jnp.cos(q[0])
        y = y + length * jnp.cos(a) * jnp.sin(q[0])
    return jnp.stack([jnp.hypot(y, x)])


FUNCTIONS = {
    "mask of a mask, summed": (lambda b: jnp.where(KEEP, jax.nn.relu(ROWS + b), 0.0).sum(0), B),
    "mask, summed": (lambda b: jax.nn.relu(ROWS + b).sum(0), B),
    "mean where": (lambda b: jnp.mean(ROWS - b, axis=0, where=KEEP), B),
    "sum where, of a product": (lambda b: jnp.sum((ROWS - b) * b, axis=1, where=KEEP), B),
    "nanmean": (lambda b: jnp.nanmean(jnp.where(KEEP, jnp.nan, ROWS * b), axis=0), B),
    "relu plus identity": (lambda x: jax.nn.relu(x) + x, B),
    "relu plus relu": (lambda x: jax.nn.relu(x) + jnp.where(x < 0.15, x, 0.0), B),
    "relu minus relu": (lambda x: jax.nn.relu(x) - jax.nn.relu(-x) - jax.nn.relu(x - 0.15), B),
    "half of a mask": (lambda x: 0.5 * jax.nn.relu(x) + 0.25 * jnp.where(x < 0.15, x, 0.0), B),
    "one value in both branches": (lambda x: 0.3 * jnp.where(x > 0, x, x) + jnp.where(x > 0.15, x, -0.7 * x), B),
    "counts of columns": (lambda x: 0.1 * jax.nn.relu(x + ROWS).sum(0) * jax.nn.relu(x - ROWS).sum(0), B),
    "triangles": (lambda x: jnp.tril(jnp.triu(jnp.outer(x, x), -1), 1), B),
    "select": (lambda b: jnp.select([ROWS + b > 1, ROWS + b > 0], [ROWS * 0 + b * 0, ROWS + b], 0.0).sum(0), B),
    "hypot of sums": (reach, np.array([0.9, 0.8, 1.1])),
    "clip of a clip": (lambda x: jnp.clip(jnp.clip(jnp.outer(x, x), -0.05, 0.03).sum(0), -0.1, 0.02), B),
    "mask times matrix": (lambda x: jax.nn.relu(normal(4, 3) @ jax.nn.relu(normal(3, 3, seed=1) @ x)), B),
    "masks of a batch": (lambda x: jax.nn.relu(normal(5, 3) * x) @ jax.nn.relu(normal(3, 2, seed=1) * x[0]), B),
    "one number": (
        lambda x: jnp.where(x > 0, x, 0.0) + jnp.where(x < 1, x * x, x) * jnp.where(x > 0, 1.0, x),
        np.array(0.7),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobians(name):
    f, x = FUNCTIONS[name]
    x = jnp.asarray(x)
    assert_everywhere(bs.jacobian, f, (x,), reference.jacobian(f)(x), alone=True)


def test_known_values():
    assert_close(bs.jacobian(FUNCTIONS["mean where"][0])(B), -np.eye(3))
    assert_close(bs.hessian(lambda t: jnp.sum(jnp.where(ROWS[:, 0] > 0, t, 0.0)) ** 2)(1.5), 18.0)
    assert_close(optimized(bs.jacobian(lambda x: jax.nn.relu(x) + x))(jnp.array([0.5, -1.0])), np.diag([2.0, 1.0]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_counting_leaves_the_precision(dtype):
    x = jnp.asarray(B, dtype)
    for order in ("auto", "forward", "reverse", "markowitz"):
        got = optimized(bs.jacobian(lambda x: jax.nn.relu(x[:, None] + jnp.zeros((3, 4), dtype)).sum(1), order=order))(x)
        assert got.dtype == dtype
        assert_close(got, 4 * np.diag(B > 0))


@pytest.mark.parametrize("format", ["array", "sparse", "operator"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_masks_beside_numbers_that_numpy_has_no_common_type_with(dtype, format):
    """A mask that is added to numbers counts as integers; two half precisions meet in single precision."""

    def chosen(x):
        return jnp.where(x > 0, x, x**2), jax.nn.leaky_relu(x) * x, jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, x[::-1])

    def both_halves(x):
        y = x.astype(jnp.float16 if dtype == jnp.bfloat16 else jnp.bfloat16)
        step = lambda c, z: ((jnp.where(z[0] > 0, c[0], c[0] * z[0]), c[1] * z[1]), c[1])  # noqa: E731
        return lax.scan(step, (x[0], y[1]), (x, y)), (y * y + 2 * y).astype(dtype) + x

    def dense(J):
        return [J[i, 0].todense() for i in range(J.shape[0])] if format == "operator" else [A.todense() for A in leaves(J)]

    def leaves(J):
        return jax.tree.leaves(J, is_leaf=lambda A: isinstance(A, bs.SparseMatrix))

    x = jnp.asarray([0.5, -1.25, 0.25], dtype)
    for f in (chosen, both_halves):
        for order in ("auto", "forward", "reverse", "markowitz"):
            J = bs.jacobian(f, order=order, format=format)
            for got in (J(x), jax.jit(J)(x)) if order == "auto" else (jax.jit(J)(x),):
                found = leaves(got) if format == "array" else dense(got)
                for a, b in zip(found, jax.tree.leaves(reference.jacobian(f)(x)), strict=True):
                    assert format == "operator" or a.dtype == dtype
                    np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=0.02, atol=0.02)


def lennard_jones(R):
    """Pairs masked twice, as programs of molecular dynamics do: at distance zero both branches are infinite."""
    d = R[:, None] - R[None]
    squares = jnp.sum(d * d, -1)
    away = squares > 0
    r = jnp.where(away, jnp.sqrt(jnp.where(away, squares, 0.0)), 0.0)
    near = (r > 0) & (r < 2.5)
    s = jnp.where(near, (1.0 / jnp.where(near, r, 1.0)) ** 6, 0.0)
    return jnp.sum(4 * (s * s - s)) / 2


def coulomb(R):
    d = R[:, None] - R[None]
    off = ~jnp.eye(3, dtype=bool)
    r = jnp.where(off, jnp.sqrt(jnp.where(off, jnp.sum(d * d, -1), 0.0)), 0.0)
    return jnp.sum(jnp.where(off, 1.0 / jnp.where(off, r, 1.0), 0.0)[jnp.triu_indices(3, 1)])


def entropy(x):
    p = jax.nn.relu(x)
    safe = jnp.where(p > 0, p, 1.0)
    return -(jnp.sum(jnp.where(p > 0, p * jnp.log(safe), 0.0)) ** 2)


@jax.custom_jvp
def kinked(x):
    return jnp.where(x > 0, x, 0.1 * x)


kinked.defjvp(lambda p, t: (kinked(p[0]), jnp.where(p[0] > 0, 1.0, 0.2) * t[0]))


def safe_root(x):
    """The usual way around the infinite derivative of a root at zero, behind an edge that is a number."""
    x = kinked(x)
    return jnp.sum(jnp.where(x > 0.2, jnp.sqrt(jnp.where(x > 0.2, x, 0.0)), x) ** 2)


def root_of(moved):
    """The same root of entries that known numbers, not all alike, have been multiplied with before."""

    def f(x):
        y = moved(x)
        return jnp.sum(jnp.where(y > 0.2, jnp.sqrt(jnp.where(y > 0.2, y, 0.0)), y) ** 2)

    return f


HIDDEN = {
    "safe root": (safe_root, np.array([-0.5, 0.7])),
    "weighted": (root_of(lambda x: np.array([-1.0, 0.5]) * x), np.array([0.5, 0.7])),
    "weighted by a mask": (root_of(lambda x: jnp.where(jnp.arange(2) % 2 == 0, -x, 0.7 * x)), np.array([0.5, 0.7])),
    "weighted, complex": (root_of(lambda x: jnp.conj(x * np.array([1 - 1j, 2j])).imag), np.array([0.5, 0.7])),
    "Lennard-Jones": (lennard_jones, np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])),
    "Coulomb": (coulomb, np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]])),
    "entropy": (entropy, B),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_infinities(name):
    f, x = HIDDEN[name]
    x = jnp.asarray(x)
    expected = reference.hessian(f)(x)
    assert np.isfinite(expected).all()
    assert_everywhere(bs.hessian, f, (x,), expected, alone=True)
    assert_close(jax.jacfwd(bs.jacobian(f))(x), expected)
    assert_close(optimized(bs.jacobian(jax.grad(f), order="reverse"))(x), expected)


def test_what_is_hidden_stays_so_in_products_on_both_sides():
    """In every order of a dense Jacobian, though only one of JAX's modes has no infinity times zero here."""

    def one_sided(x):
        y = jnp.where(x > 0.15, jnp.sqrt(jnp.maximum(x - 0.15, 0.0)), 0.0)
        return normal(2, 3) @ jnp.sin(y)

    expected = jax.jacfwd(one_sided)(B)
    assert np.isnan(jax.jacrev(one_sided)(B)).any()
    for order in ORDERS:
        for run in (bs.jacobian(one_sided, order=order), optimized(bs.jacobian(one_sided, order=order))):
            assert_close(run(B), expected)


def exponentials(x):
    """Overflow behind a mask, between sums: substitution by rows is the cheapest."""
    z = normal(20, 3) @ x
    return normal(20) @ jnp.where(z < 50, jnp.exp(z) / z + z, 0.0)


def roots(x):
    """A root whose derivative is infinite beside a mask, between sums: by columns."""
    return normal(20, 20) @ jnp.sqrt(jnp.where(normal(20, 3, seed=1) @ x > 0, normal(20, 3, seed=1) @ x, 0.0))


def beside_the_ends(x):
    """A mask and what it hides with nothing but the argument before, and the output behind."""
    return jnp.where(x < 50, jnp.exp(x), 0.0)


@pytest.mark.parametrize(
    ("f", "one_side", "other"),
    [(exponentials, jax.jacfwd, jax.jacrev), (roots, jax.jacrev, jax.jacfwd), (beside_the_ends, jax.jacfwd, jax.jacrev)],
)
def test_what_is_hidden_stays_so_in_substitutions(f, one_side, other):
    """At one point and at several, whatever is cheapest, and in parts: finite where either of JAX's modes is."""
    points = jnp.array([[1000.0, -300.0, 2000.0], [0.1, 0.2, 0.3]])
    expected = jax.vmap(one_side(f))(points)
    assert np.isfinite(expected).all()
    assert np.isnan(jax.vmap(other(f))(points)).any()
    for J in (bs.jacobian(f), *(bs.jacobian(f, order=order, chunk=2) for order in ("auto", "forward", "reverse"))):
        for run in (J, optimized(J)):
            assert_close(run(points[0]), expected[0], 1e-5)
        for run in (jax.vmap(J), optimized(jax.vmap(J))):
            assert_close(run(points), expected, 1e-5)


def test_counts_of_masks_do_not_overflow():
    """A mask counts where it is added up; after 32 layers there are more paths than a 32-bit integer holds."""

    def deep(x):
        for _ in range(40):
            x = x + jnp.where(x > 0, x, 0.0)
        return x

    x = jnp.array([1.0, 2.0])
    expected = reference.jacfwd(deep)(x)
    assert expected[0, 0] == 2.0**40
    assert_everywhere(bs.jacobian, deep, (x,), expected, alone=True)
    doubled = lambda x: sum((jax.nn.relu(x) for _ in range(3)), deep(x))  # noqa: E731
    assert_everywhere(bs.jacobian, doubled, (x,), reference.jacfwd(doubled)(x), alone=True)
    wide = lambda x: jnp.sum(jax.nn.relu(jnp.sum(jax.nn.relu(x)) + jnp.zeros(70_000)))  # noqa: E731
    many = jnp.ones(70_000, jnp.float32)  # 70,000² paths
    assert_close(bs.jacobian(wide, order="forward")(many), jax.grad(wide)(many), 1e-6)


def test_counts_of_masks_where_jax_promotes_nothing():
    """Masks are added up, beside numbers too, and an iteration's unknowns are one vector, in single precision."""

    def loss(x):
        return jnp.sum(jnp.logaddexp(x, jnp.zeros_like(x))) + jnp.sum(jax.nn.softplus(jnp.where(KEEP[:3, 0], -x, x)))

    x = jnp.asarray(B, jnp.float32)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        hessians = [run(bs.hessian(loss, order=order))(x) for order in ORDERS for run in (lambda H: H, jax.jit)]
        for root in (bs.root, jax.jit(bs.root, static_argnums=0)):
            found = root(lambda z: jax.grad(loss)(z) + z, x)
            assert_close(jax.grad(loss)(found), -found, 1e-5)
    for got in hessians:
        assert_close(got, reference.hessian(loss)(x), 1e-5)


def test_counts_of_masks_by_hand():
    count = hadamard(np.array([True, False])) + hadamard(np.array([True, True]))
    doubled, product = count, count
    for _ in range(40):
        doubled, product = doubled + doubled, product @ count
    np.testing.assert_array_equal(np.diag(doubled.todense()), [2.0**41, 2.0**40])
    np.testing.assert_array_equal(product @ np.ones(2), [2.0**41, 1.0])


def test_a_mask_of_the_argument_hides_when_it_is_applied():
    A, v = normal(4, 4), jnp.array([-0.8, 0.0, 0.5, 1.2])

    def logarithms(v):
        return A @ jnp.where(v > 0, jnp.log(v), 0.0)

    for order in ORDERS:
        op = bs.jacobian(logarithms, format="operator", order=order)(v).entries[0, 0]
        assert_close(op @ jnp.ones(4), jax.jvp(logarithms, (v,), (jnp.ones(4),))[1])
        assert_close(op.todense(), jax.jacfwd(logarithms)(v))


# ---- what a known mask hides ----------------------------------------------------------------------------------------------
LOWER = np.tril(np.ones((5, 5), bool))


def attention(x):
    scores = jnp.where(LOWER, jnp.outer(x, x), -jnp.inf)
    return jax.nn.softmax(scores, axis=-1) @ x


def by_hand(x):
    n = x.shape[0]
    scores = jnp.where(jnp.arange(n)[:, None] >= jnp.arange(n), jnp.outer(x, x), -jnp.inf)
    weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ x


def added(x):
    """The mask as numbers that are added."""
    weights = jax.nn.softmax(jnp.outer(x, x) + jnp.where(LOWER, 0.0, -jnp.inf), axis=-1)
    return (weights * jnp.sin(x)).sum(axis=1) + weights[:, 0]


def dropped(x):
    keep = jax.random.bernoulli(jax.random.key(3), 0.5, x.shape)
    return jnp.cumsum(jnp.where(keep, jnp.sin(x) / 0.5, 0.0))


@pytest.mark.parametrize("f", [attention, by_hand, added, dropped], ids=lambda f: f.__name__)
def test_what_a_known_mask_hides_is_in_no_pattern(f, double_precision):
    points = np.random.default_rng(0).normal(size=(4, 5))
    dense = np.asarray(reference.compiled(jax.vmap(jax.jacfwd(f)))(points))
    exact = (dense != 0).any(0)
    J, pattern = bs.jacobian(f, format="sparse"), bs.sparsity(f, points[0]).toarray()
    np.testing.assert_array_equal(pattern, exact)
    for x, expected in zip(points, dense, strict=True):
        for found in (J(x), jax.jit(J)(x), bs.jacobian(f, format="sparse", order="reverse")(x)):
            np.testing.assert_allclose(found.toarray(), expected, rtol=1e-10, atol=1e-12)
    batch = jax.jit(jax.vmap(lambda x: J(x).todense()))(points)
    np.testing.assert_allclose(batch, dense, rtol=1e-10, atol=1e-12)


def test_what_an_unknown_mask_hides_may_be_anywhere(double_precision):
    def f(x):
        return jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf))

    assert bs.sparsity(f, jnp.ones(4)).nnz == 16
    x = jnp.array([1.0, -1.0, 0.5, 2.0])
    np.testing.assert_allclose(bs.jacobian(f, format="sparse")(x).toarray(), reference.jacobian(f)(x), rtol=1e-12)


def test_a_zero_hides_nothing_that_is_not_finite_for_certain():
    """What is known of one operand, with the other one known too, is what it gives: 0/0 and 0·∞ are no zeros."""

    def f(x):
        zeros = jnp.where(LOWER[0], x, 0.0)
        return (zeros / jnp.where(LOWER[1], 1.0, 0.0)) * x, zeros * jnp.where(LOWER[1], 1.0, jnp.inf) * x

    for A in bs.sparsity(f, jnp.ones(5)):
        assert A.toarray()[2:].diagonal(2).all()
