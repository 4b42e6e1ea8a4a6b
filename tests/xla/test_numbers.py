"""Programs of small arrays, taken apart into their numbers under vmap: the same derivatives, and loops over points alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import SERIES
from backsolve.xla.materialize import JACOBIAN, _chosen, _chosen_rows
from backsolve.xla.numbers import tangent_numbers
from tests import reference

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere arrays are left to XLA")
RNG = np.random.default_rng(26)


def runge_kutta(rate, y, h):
    a = rate(y)
    b = rate(y + h / 2 * a)
    c = rate(y + h / 2 * b)
    return y + h / 6 * (a + 2 * b + 2 * c + rate(y + h * c))


def populations(y):
    """A step of arrays of two, joined from numbers in every stage."""
    return runge_kutta(lambda y: jnp.stack([y[0] * (1.1 - 0.4 * y[1]), y[1] * (0.1 * y[0] - 0.4)]), y, 0.1)


def oscillator(y):
    for _ in range(2):
        y = runge_kutta(lambda y: jnp.array([y[1], (1 - y[0] ** 2) * y[1] - y[0]]), y, 0.1)
    return y


def chained(z):
    """One number, to which the ways double at every step."""
    x = z[0]
    for _ in range(6):
        x = jnp.tanh(x * z[1] + 0.1) + jnp.exp(-x * z[2])
    return x


def membrane(z):
    v, m = z
    opened = lambda v: 0.1 * (v + 4.0) / (1 - jnp.exp(-(v + 4.0) / 10))  # noqa: E731
    for _ in range(3):
        v, m = v + 0.05 * (-(v - 0.5) * m**3 - 0.3 * (v + 5.0)), m + 0.05 * (opened(v) * (1 - m) - jnp.exp(-v / 18) * m)
    return jnp.array([v, m])


def rotated(z):
    """A matrix made of sines, its products, a cross product, a norm."""
    c, s = jnp.cos(z[0]), jnp.sin(z[0])
    R = jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    p = R @ R.T @ (R @ z[1:4])
    return jnp.cross(p, z[2:5]) / jnp.linalg.norm(p)


def moved(x):
    """Reversed, padded, repeated, turned, taken apart and joined."""
    m = jnp.pad(jnp.flip(x[:4]), (1, 1), constant_values=2.0).reshape(2, 3)
    return jnp.concatenate([(m.T @ m).ravel(), jnp.tile(x[:2], 2) * x[-1], jnp.split(x, 2)[1]])


def reduced(x):
    """Sums, products, the largest and the smallest, along axes and of all."""
    m = jnp.outer(x, x[:2]) + 1.0
    return jnp.stack([m.sum(), m.prod(0)[1], x.reshape(2, 2).max(1)[1], x.min(), jnp.mean(m**2), jnp.std(x)])


def chosen(x):
    """Masks, comparisons, whole numbers and a clip."""
    k = jnp.argsort(jnp.array([3.0, 1.0, 2.0]))
    y = jnp.where(x > 0.9, x**2, jnp.sin(x)) * jnp.arange(x.size)
    return jnp.clip(y, 0.1, 2.0)[::-1] + jnp.sign(x) * k[0] + (x > 1.0).astype(x.dtype) * x


def turned_by_i(x):
    z = jax.lax.complex(x[0], x[1]) * jnp.exp(1j * x[2]) ** 2
    return jnp.stack([z.real, z.imag, jnp.abs(z)])


def partly_constant(x):
    return jnp.stack([jnp.stack([x[0], jnp.ones(()), x[0] * x[1]]), jnp.array([0.0, 2.0, -1.0]) * x[2]])


def price(z):
    spot, strike, rate, sigma, time = z
    d = (jnp.log(spot / strike) + (rate + sigma**2 / 2) * time) / (sigma * jnp.sqrt(time))
    cdf = jax.scipy.stats.norm.cdf
    return spot * cdf(d) - strike * jnp.exp(-rate * time) * cdf(d - sigma * jnp.sqrt(time))


def written_in_place(z):
    """Windows, entries and lists of places, some of them twice, written over and read; a matrix filled row by row."""
    x = jnp.zeros(6).at[0:2].set(z[1:3] * z[0]).at[3].set(z[3]).at[jnp.array([5, -2])].set(z[:2] ** 2)
    m = (
        jnp.eye(3)
        .at[1]
        .set(jnp.sin(z[:3]))
        .at[:, 2]
        .set(z[1:])
        .at[2, 0]
        .set(z[0] * z[3])
        .at[:2, :2]
        .set(x[:4].reshape(2, 2))
    )
    picked = m[jnp.array([[2, 0], [0, 1]])] * m[:, jnp.array([1, 1, 0])][1:]
    twice = jnp.ones((2, 3)).at[jnp.array([0, 0]), jnp.array([2, 1])].set(m[np.array([0, 2]), np.array([1, 2])])
    return jnp.concatenate([x, (m @ m).ravel(), picked.ravel(), (twice * z[:3]).ravel()])


def filled(z):
    """Windows, and an entry."""
    return jnp.zeros(7).at[0:3].set(z[1:] * z[0]).at[3:6].set(z[:3] * z[3]).at[jnp.array([6])].set(z[3:] * z[2])


def picked(z):
    """Rows, columns and lists of places of a matrix, one of them twice, and a sum over places of which one comes twice."""
    m = jnp.outer(z[:3], z[1:])
    rows = m[jnp.array([[2, 0], [0, 1]])] * m[:, jnp.array([1, 1, 0])][1:]
    return jnp.concatenate(
        [rows[0, 0], jnp.zeros(3).at[jnp.array([0, 2, 0])].add(m[np.array([0, 2, 1]), np.array([1, 2, 0])])]
    )


def out_of_place(z):
    """Places outside of the array, of which one is dropped, one filled in and one moved to the end."""
    x = jnp.sin(z).at[jnp.array([1, 9])].set(z[:2] ** 2, mode="drop")
    return x * x.at[jnp.array([0, 7])].get(mode="fill", fill_value=2.0).sum() + x.at[jnp.array([2, 8])].get(mode="clip")[1]


def placed_by_value(z):
    """A place that is not known while tracing."""
    return z.at[jnp.argmax(z)].set(z[0] * z[1]) * z[jnp.argmin(z)]


def padded(z):
    """Sums of small windows in large arrays of zeros."""
    return sum(jnp.pad(z[k : k + 2] * z[-1], (3 * k, 24 - 3 * k)) for k in range(6)) * jnp.pad(z[:2], 12)


PROGRAMS = {
    "populations": (populations, 2),
    "oscillator": (oscillator, 2),
    "chained": (chained, 3),
    "membrane": (membrane, 2),
    "rotated": (rotated, 5),
    "moved": (moved, 6),
    "reduced": (reduced, 4),
    "chosen": (chosen, 3),
    "turned by i": (turned_by_i, 3),
    "partly constant": (partly_constant, 3),
    "price": (price, 5),
    "softmax": (jax.nn.softmax, 3),
    "two leaves": (lambda x: {"a": x[0] * x[1:], "b": x[0] ** 2, "c": jnp.arange(2.0)}, 3),
    "the argument": (lambda x: x, 2),
    "written in place": (written_in_place, 4),
    "filled": (filled, 4),
    "picked": (picked, 4),
    "out of place": (out_of_place, 4),
    "written twice": (lambda z: jnp.zeros(3).at[jnp.array([0, 0])].set(z[:2]) * z[2], 3),
    "placed by value": (placed_by_value, 4),
    "padded": (padded, 8),
    "one number": (lambda x: jnp.sum(jnp.sin(x)), 1),
}


def points(n, count=40):
    return RNG.uniform(0.5, 1.5, (count, n))


def close(ours, theirs, rtol=1e-11, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", PROGRAMS)
def test_jacobians(name):
    f, n = PROGRAMS[name]
    X = points(n)
    expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X)
    close(jax.jit(jax.vmap(bs.jacobian(f, order="forward")))(X), expected)
    value, J = jax.jit(jax.vmap(jax.vmap(bs.value_and_jacobian(f))))(X.reshape(4, 10, n))
    close(jax.tree.map(lambda y: y.reshape(40, *y.shape[2:]), (value, J)), (reference.compiled(jax.vmap(f))(X), expected))


@pytest.mark.parametrize("name", ["populations", "chosen"])
def test_eagerly(name):
    f, n = PROGRAMS[name]
    X = points(n, 3)
    close(jax.vmap(bs.jacobian(f))(X), reference.compiled(jax.vmap(jax.jacfwd(f)))(X))


@pytest.mark.parametrize("name", ["oscillator", "chained", "rotated", "reduced", "price", "softmax", "written in place"])
def test_hessians(name):
    f, n = PROGRAMS[name]
    X = points(n)
    loss = lambda x: jnp.sum(jnp.cos(f(x)))  # noqa: E731
    close(jax.jit(jax.vmap(bs.hessian(loss)))(X), reference.compiled(jax.vmap(jax.hessian(loss)))(X), 1e-9, 1e-10)


@pytest.mark.parametrize("name", ["membrane", "rotated", "chosen"])
def test_derivatives_of_jacobians(name):
    f, n = PROGRAMS[name]
    X = points(n)

    def loss(jacobian, X):
        return jnp.sum(jnp.sin(jax.vmap(jacobian(f))(X)))

    ours, theirs = (jax.jit(jax.grad(loss, 1), static_argnums=0)(J, X) for J in (bs.jacobian, jax.jacfwd))
    close(ours, theirs, 1e-9, 1e-10)


def test_arguments_of_every_kind():
    """Some with an axis of vmap, the last or the first, others without; whole numbers, masks and float32 among them."""

    def f(x, y, k, mask, w):
        return jnp.where(mask, x * y[0], x**2) * k + w.astype(x.dtype) @ x[:2]

    x, y, k, w = points(3, 50).T, points(2, 1)[0], np.arange(50), points(2, 50).astype(np.float32)
    mask = RNG.uniform(size=(50, 3)) > 0.5
    axes = (1, None, 0, 0, 0)
    for argnums in (0, 1, (0, 1), 4):
        ours, theirs = (jax.jit(jax.vmap(J(f, argnums), axes))(x, y, k, mask, w) for J in (bs.jacobian, jax.jacrev))
        close(ours, theirs)


def test_arguments_of_whole_numbers_and_masks_beside_rows():
    """So many points and results that each number has a row of its own."""

    def f(x, k, mask):
        return jnp.stack([jnp.where(mask, x * k, x**2)[i] * jnp.exp(x[1 - i]) for i in range(2)] * 3)

    x, k, mask = points(2, 100), RNG.integers(1, 5, (100, 2)), RNG.uniform(size=(100, 2)) > 0.5
    ours, theirs = (jax.jit(jax.vmap(J(f)))(x, k, mask) for J in (bs.jacobian, jax.jacfwd))
    close(ours, theirs)


def test_known_numbers_that_are_not_finite():
    """Held by the function: infinite and NaN as JAX has them under jit."""
    scale = jnp.array([[0.0, 1.0], [2.0, 0.0]])

    def f(x):
        held = jnp.where(jnp.isfinite(1.0 / scale), scale, jnp.eye(2) / jnp.zeros(2))
        return jnp.concatenate([jnp.nan_to_num(held, posinf=3.0) @ x, held[0] / held[1] * x])

    X = points(2)
    ours, theirs = (jax.jit(jax.vmap(J(f)))(X) for J in (bs.jacobian, jax.jacfwd))
    np.testing.assert_allclose(ours, theirs, rtol=1e-11)


def test_half_precision_is_added_up_as_elsewhere():
    X = points(6).astype(jnp.bfloat16)
    f = lambda x: jnp.stack([jnp.sum(x * x), jnp.dot(x, x[::-1])])  # noqa: E731
    ours, theirs = (np.asarray(jax.jit(jax.vmap(J(f)))(X), np.float32) for J in (bs.jacobian, jax.jacrev))
    np.testing.assert_allclose(ours, theirs, rtol=2e-2)


@pytest.mark.parametrize("name", ["populations", "price", "rotated", "partly constant", "written in place"])
def test_nan_and_infinity_are_where_jax_has_them(name):
    """Where both of its modes have them, and where neither has them, the numbers."""
    f, n = PROGRAMS[name]
    X = points(n, 40)
    X[::5, 0], X[1::5, -1], X[2::5, 0] = np.inf, np.nan, 0.0
    ours, forward, reverse = (np.asarray(jax.jit(jax.vmap(J(f)))(X)) for J in (bs.jacobian, jax.jacfwd, jax.jacrev))
    finite = np.isfinite(forward), np.isfinite(reverse)
    assert not np.isfinite(ours[~finite[0] & ~finite[1]]).any()
    np.testing.assert_allclose(ours[finite[0] & finite[1]], forward[finite[0] & finite[1]], rtol=1e-11, atol=1e-12)


@ON_CPU
@pytest.mark.parametrize(
    ("name", "apart"),
    [("filled", True), ("picked", True), ("out of place", False), ("written twice", False), ("placed by value", False)],
)
def test_what_is_read_and_written_at_known_places_is_taken_apart(name, apart):
    """But where one is outside of the array, or it is the machine's choice what stays there."""
    f, n = PROGRAMS[name]
    program = jax.make_jaxpr(jax.jit(jax.vmap(bs.jacobian(f))))(points(n))
    names = {eqn.primitive.name for eqn in jx.every_equation(program.jaxpr)}
    assert names.isdisjoint({"gather", "scatter", "scatter-add"}) == apart


@ON_CPU
@pytest.mark.skipif(SERIES >= (0, 12), reason="there XLA copies one of the results once more")
@pytest.mark.parametrize("name", ["populations", "oscillator", "membrane", "rotated"])
def test_every_loop_is_over_the_points(name):
    """But for the last one, which joins the numbers of each point."""
    f, n = PROGRAMS[name]
    X = jnp.asarray(points(n, 1000), jnp.float32)
    text = jax.jit(jax.vmap(bs.jacobian(f))).lower(X).compile().as_text()
    loops = re.findall(r"= f32\[([\d,]*)\]\S* fusion\(", text)
    assert loops
    assert [shape for shape in loops[:-1] if "1000" not in shape or re.search(r"1000,[^1]", shape)] == []


@ON_CPU
@pytest.mark.parametrize(("name", "exponentials", "tangents"), [("chained", 6, 6), ("price", None, 0), ("membrane", 6, 0)])
def test_what_is_dear_is_worked_out_once(name, exponentials, tangents):
    """However many ways lead to it: the exponentials and hyperbolic tangents of the compiled program are the function's."""
    f, n = PROGRAMS[name]
    X = jnp.asarray(points(n, 1000), jnp.float32)
    texts = [jax.jit(jax.vmap(g)).lower(X).compile().as_text() for g in (bs.jacobian(f), f)]
    ours, of_the_function = ([text.count(f" {op}(") for op in ("exponential", "tanh", "log")] for text in texts)
    assert ours[1] == tangents
    assert exponentials is None or ours[0] <= exponentials
    assert ours[2] <= of_the_function[2]


@pytest.mark.parametrize("one", [False, True])
def test_what_only_another_row_reads_is_no_row(one):
    def f(x, y):
        first = x
        for _ in range(20):
            first = first * y + x
        second = first
        for _ in range(20):
            second = second * x + y
        return [second * (x + k) for k in range(10)]

    jaxpr = jax.make_jaxpr(f)(1.0, 2.0)
    equations = [(eqn, list(eqn.invars)) for eqn in jaxpr.eqns]
    first, second = jaxpr.eqns[39].outvars[0], jaxpr.eqns[79].outvars[0]
    assert {first, second} <= set(_chosen(equations, jaxpr.jaxpr.outvars, JACOBIAN, True, row=30.0))
    assert set(_chosen_rows(equations, jaxpr.jaxpr.outvars, JACOBIAN, one)) == {second}


def tumbling(z):
    """A step of a body that turns about itself, line by line: a quaternion and three rates, driven by three torques."""

    def rate(s):
        a, b, c, d, p, q, r = s
        turning = [-b * p - c * q - d * r, a * p + c * r - d * q, a * q - b * r + d * p, a * r + b * q - c * p]
        return jnp.array([*(0.5 * x for x in turning), z[7] - 0.8 * q * r, z[8] + 0.5 * p * r, z[9] + 0.1 * p * q])

    return runge_kutta(rate, z[:7], 0.1)


def orbit(z):
    """Kepler's equation by four steps of Newton's method."""
    e, M = 0.1 * z[0], z[1] + z[2]
    E = M
    for _ in range(4):
        E = E - (E - e * jnp.sin(E) - M) / (1 - e * jnp.cos(E))
    return jnp.array([z[2] * (jnp.cos(E) - e), z[2] * jnp.sqrt(1 - e**2) * jnp.sin(E), jnp.tanh(E)])


def solving(z):
    """A small solve, whose numbers are not told beforehand."""
    x = jnp.linalg.solve(jnp.array([[2.0 + z[0] ** 2, z[1]], [0.1, 3.0]]), z[2:4])
    return jnp.array([x[0] * x[1], x[0] * z[0]])


STEPS = {"tumbling": (tumbling, 10), "orbit": (orbit, 3), "solving": (solving, 4), "populations": (populations, 2)}


def written_down(order, f, X):
    """How many equations the Jacobians of f take at these points."""
    return len(list(jx.every_equation(jax.make_jaxpr(jax.vmap(bs.jacobian(f, order=order)))(X).jaxpr)))


@ON_CPU
@pytest.mark.parametrize("name", STEPS)
def test_the_order_of_fewer_numbers_is_taken(name):
    f, n = STEPS[name]
    X = jnp.asarray(RNG.normal(size=(6, n)), jnp.float32)
    assert written_down("auto", f, X) <= written_down("forward", f, X)
    with jax.enable_x64(True):
        X = jnp.asarray(RNG.normal(size=(6, n)))
        expected = jax.vmap(jax.jacfwd(f))(X)
        jit = lambda d: jax.jit(jax.vmap(d))  # noqa: E731
        np.testing.assert_allclose(jit(bs.jacobian(f))(X), expected, rtol=1e-9, atol=1e-12)
        value, J = jit(bs.value_and_jacobian(f))(X)
        np.testing.assert_allclose(value, jax.vmap(f)(X), rtol=1e-12)
        np.testing.assert_allclose(J, expected, rtol=1e-9, atol=1e-12)
        J, aux = jit(bs.jacobian(lambda z: (f(z), {"z": z[0], "name": None}), has_aux=True))(X)
        np.testing.assert_allclose(J, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(aux["z"], X[:, 0])
        H = jit(bs.hessian(lambda z: jnp.sum(f(z) ** 2)))(X)
        np.testing.assert_allclose(H, jax.vmap(jax.hessian(lambda z: jnp.sum(f(z) ** 2)))(X), rtol=1e-8, atol=1e-10)
        bent = jit(jax.grad(lambda z: jnp.sum(bs.jacobian(f)(z) ** 2)))(X)
        np.testing.assert_allclose(
            bent, jax.vmap(jax.grad(lambda z: jnp.sum(jax.jacfwd(f)(z) ** 2)))(X), rtol=1e-8, atol=1e-10
        )


def numbers_of_tangents(f, n):
    closed = jax.make_jaxpr(f)(jnp.ones(n))
    return tangent_numbers(closed.jaxpr, closed.consts)


def test_tangents_are_counted_by_the_inputs_that_numbers_depend_on():
    assert numbers_of_tangents(lambda z: z[0] * z[1], 3) == 1 + 2  # the product, and two that each takes a factor to
    assert numbers_of_tangents(lambda z: z[0] + z[1], 3) == 1  # of tangents by different inputs there is no sum
    assert numbers_of_tangents(lambda z: z[0] + z[0] * z[1], 2) == (1 + 2) + (1 + 1)
    assert numbers_of_tangents(lambda z: jnp.sin(z[0] + z[1]), 2) == 1 + (1 + 2)
    assert numbers_of_tangents(jax.jit(lambda z: jnp.sin(z[0] + z[1])), 2) == 1 + (1 + 2)
    assert numbers_of_tangents(lambda z: 2.0 * z, 3) == 3 * (1 + 1)
    assert numbers_of_tangents(lambda z: jnp.outer(z, z) @ z, 5) is None  # of many numbers an equation
    assert numbers_of_tangents(lambda z: jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), z), 2) is None
    assert numbers_of_tangents(solving, 4) == 0  # not known
