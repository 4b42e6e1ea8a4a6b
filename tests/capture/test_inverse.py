"""The inverse of a Jacobian: determinants, diagonals, and all of it under JAX's transformations, against dense matrices."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

import backsolve as bs
from tests import reference

N = 9
X, B = np.linspace(0.1, 1.0, N), np.arange(1.0, N + 1)
PERM = np.array([4, 0, 7, 2, 8, 1, 6, 3, 5])
pytestmark = pytest.mark.usefixtures("double_precision")


def ring(x, t):
    return 4 * x * t - 0.5 * jnp.roll(x, 1) - 0.3 * jnp.roll(x, -1) ** 2 + jnp.sin(x * t)


def deep(x, t):
    """Nodes that stay: matrices between tanhs, a permutation, a sum that couples all."""
    y = jnp.tanh(x[PERM] * t + 0.1 * jnp.sum(x) ** 2)
    for k in range(3):
        y = jnp.sin(y + 0.2 * jnp.roll(y, k + 1) * t) + 0.3 * jnp.outer(y, y) @ x
    return y - 3 * x


def looped(x, t):
    return jax.lax.scan(lambda c, k: (c + 0.1 * t * jnp.sin(jnp.roll(c, 1)) * k, None), x, jnp.arange(1.0, 5.0))[0]


def swapped(x, t):
    """An odd permutation of a diagonal, whose determinant is negative."""
    return (t * x**2 + x)[jnp.array([1, 0, *range(2, N)])]


def trees(x, t):
    return {"b": x["u"] * t + jnp.sum(x["v"]), "a": x["v"] ** 2 - x["u"][::-1][:1] * t}


FUNCTIONS = {"ring": ring, "deep": deep, "looped": looped, "swapped": swapped, "trees": trees}


def at(name):
    return {"u": X[:4], "v": X[4:]} if name == "trees" else X


def dense(name, t):
    f, x = FUNCTIONS[name], at(name)
    J = reference.jacobian(f)(x, t)
    if name != "trees":
        return J
    return jnp.block([[J[out][into] for into in ("u", "v")] for out in ("a", "b")])


def inverse(name, t, **options):
    return bs.linearize(FUNCTIONS[name], at(name), t).factored(**options)


NAMES = [*sorted(set(FUNCTIONS) - {"trees"}), "trees"]
# The output {"a": 5, "b": 4} and the input {"u": 4, "v": 5} have as many entries.


@pytest.mark.parametrize("damping", [None, 0.7])
@pytest.mark.parametrize("engine", ["superlu", "blocks"])
@pytest.mark.parametrize("name", [n for n in NAMES if n != "trees"])
def test_determinant_and_diagonal(name, engine, damping):
    D = np.asarray(dense(name, 1.3)) + (damping or 0) * np.eye(N)
    found = inverse(name, 1.3, engine=engine, damping=damping)
    sign, size = found.slogdet()
    want = np.linalg.slogdet(D)
    assert sign == pytest.approx(want.sign)
    assert size == pytest.approx(want.logabsdet)
    assert found.logdet() == pytest.approx(want.logabsdet)
    np.testing.assert_allclose(found.diagonal(), np.diag(np.linalg.inv(D)), rtol=1e-9, atol=1e-12)
    b, turned = np.arange(1.0, N + 1), np.linalg.inv(D).T
    np.testing.assert_allclose(found.T @ b, turned @ b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.T.T @ b, turned.T @ b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(aslinearoperator(found.T).matvec(b), turned @ b, rtol=1e-9, atol=1e-12)
    if engine == "blocks":
        np.testing.assert_allclose(jax.jit(lambda inverse, b: inverse.T @ b)(found, b), turned @ b, rtol=1e-9, atol=1e-12)


def test_determinant_of_trees():
    D = np.asarray(dense("trees", 1.3))
    for engine in ("superlu", "blocks"):
        found = inverse("trees", 1.3, engine=engine)
        assert found.slogdet()[0] == pytest.approx(np.linalg.slogdet(D).sign)
        assert found.logdet() == pytest.approx(np.linalg.slogdet(D).logabsdet)


def test_large_sparse_and_complex_ones():
    n = 600

    def f(x):
        return 4 * x - jnp.roll(x, 1) - 0.3 * jnp.sum(x) * jnp.eye(1, n)[0] + 0.1 * x * jnp.roll(x, 40)

    x = jnp.cos(jnp.arange(float(n)))
    D = np.asarray(reference.jacobian(f)(x))
    want = pytest.approx(tuple(np.linalg.slogdet(D)))
    for engine in ("superlu", "blocks"):
        found = bs.linearize(f, x).factored(engine=engine)
        assert found.slogdet() == want
    np.testing.assert_allclose(found.diagonal(), np.diag(np.linalg.inv(D)), rtol=1e-8)
    Z = X + 1j * X[::-1]
    g = lambda z: z**2 * z[PERM] + jnp.roll(z, 2)  # noqa: E731
    D = np.asarray(reference.jacobian(g, holomorphic=True)(Z))
    for engine in ("superlu", "blocks"):
        sign, size = bs.linearize(g, Z).factored(engine=engine).slogdet()
        np.testing.assert_allclose([sign, size], list(np.linalg.slogdet(D)), rtol=1e-10)


@pytest.mark.parametrize("engine", ["auto", "superlu", "blocks"])
def test_a_jacobian_without_entries(engine):
    """NumPy says of an empty matrix that its determinant is 1; a Jacobian that is zero is singular."""

    def found(x):
        inverse = bs.linearize(jnp.sin, x).factored(engine=engine)
        return *inverse.slogdet(), inverse.solve(x), inverse.solve_transpose(x), inverse.diagonal()

    x = jnp.zeros(0)
    for way in (found, jax.jit(found)) if engine == "blocks" else (found,):
        sign, size, *vectors = way(x)
        assert (sign, size) == tuple(np.linalg.slogdet(np.zeros((0, 0))))
        assert all(v.shape == (0,) for v in vectors)
    with pytest.raises(bs.SingularError, match="singular"):
        bs.linearize(lambda x: 0 * x, jnp.ones(3)).factored(engine=engine)


def test_a_system_by_hand_and_one_of_numbers():
    hand = bs.System(bs.matrix([[2.0], [0.0]]), bs.matrix([[0, 0], [-3.0, 0]]), bs.matrix([[0, 1.0]]))
    sign, size = hand.factored().slogdet()
    assert (sign, size) == (-1.0, pytest.approx(np.log(6.0)))
    np.testing.assert_allclose(hand.factored().diagonal(), [-1 / 6])


# ---- under JAX's transformations ---------------------------------------------------------------------------------------
SCALARS = {
    "logdet": (lambda inv: inv.logdet(), lambda D: jnp.linalg.slogdet(D)[1]),
    "sign": (lambda inv: inv.slogdet()[0], lambda D: jnp.linalg.slogdet(D)[0]),
    "solve": (lambda inv: jnp.sum(inv.solve(B) ** 2), lambda D: jnp.sum(jnp.linalg.solve(D, B) ** 2)),
    "transpose": (
        lambda inv: jnp.sum(inv.solve_transpose(jnp.stack([B, B**2], 1)) ** 3),
        lambda D: jnp.sum(jnp.linalg.solve(D.T, jnp.stack([B, B**2], 1)) ** 3),
    ),
    "diagonal": (lambda inv: jnp.sum(inv.diagonal() ** 2), lambda D: jnp.sum(jnp.diag(jnp.linalg.inv(D)) ** 2)),
}


@pytest.mark.parametrize(
    ("name", "what"), [*(("ring", what) for what in SCALARS), ("deep", "logdet"), ("deep", "solve"), ("swapped", "logdet")]
)
def test_derivatives(name, what):
    ours = lambda t: SCALARS[what][0](inverse(name, t))  # noqa: E731
    want = lambda t: SCALARS[what][1](dense(name, t))  # noqa: E731
    t = 1.3
    np.testing.assert_allclose(jax.jit(ours)(t), reference.compiled(want)(t), rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(ours))(t), reference.grad(want)(t), rtol=1e-8, atol=1e-9)
    ts = jnp.array([1.0, 1.3])
    np.testing.assert_allclose(
        jax.vmap(jax.grad(ours))(ts), reference.compiled(jax.vmap(jax.grad(want)))(ts), rtol=1e-8, atol=1e-9
    )


def test_derivatives_of_second_order_and_by_us():
    ours, want = (lambda t: inverse("ring", t).logdet()), (lambda t: jnp.linalg.slogdet(dense("ring", t))[1])
    np.testing.assert_allclose(jax.jit(jax.hessian(ours))(1.3), reference.hessian(want)(1.3), rtol=1e-8)
    np.testing.assert_allclose(bs.grad(ours)(1.3), reference.grad(want)(1.3), rtol=1e-9)
    np.testing.assert_allclose(jax.grad(ours)(1.3), reference.grad(want)(1.3), rtol=1e-9)  # op by op
    Z = X + 1j
    f = lambda t: bs.linearize(lambda z: (t + 1j) * z**2 + z[PERM], Z).factored().logdet()  # noqa: E731
    g = lambda t: jnp.linalg.slogdet(jax.jacobian(lambda z: (t + 1j) * z**2 + z[PERM], holomorphic=True)(Z))[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.grad(f))(1.3), reference.grad(g)(1.3), rtol=1e-8)


def test_factors_at_hand_cross_the_border():
    """Factors of concrete numbers under ``jit``, as a constant and as an argument, and a batch of them."""
    found, D = inverse("deep", 1.3, engine="blocks"), dense("deep", 1.3)
    want = jnp.linalg.solve(D, B)
    np.testing.assert_allclose(jax.jit(found.solve)(B), want, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(lambda inv, b: inv @ b)(found, B), want, rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(found.solve)(jnp.stack([B, 2 * B]))[1], 2 * want, rtol=1e-9)
    np.testing.assert_allclose(jax.jacobian(found.solve)(B), jnp.linalg.inv(D), rtol=1e-8, atol=1e-10)
    many = jax.jit(jax.vmap(lambda t: inverse("deep", t)))(jnp.array([1.0, 1.3]))
    np.testing.assert_allclose(jax.vmap(lambda inv: inv.solve(B))(many)[1], want, rtol=1e-9)
    assert jax.tree.structure(found) == jax.tree.structure(jax.tree.map(lambda x: x, found))


def test_what_the_host_cannot_do_is_said():
    host = inverse("ring", 1.3)
    for run in (lambda: jax.jit(host.solve)(B), lambda: jax.grad(lambda b: host.solve_transpose(b).sum())(B)):
        with pytest.raises(
            TypeError, match=r"engine 'superlu' are on the host, but the right-hand side is traced; .*blocks"
        ):
            run()
    with pytest.raises(TypeError, match=r"engine 'superlu' factors concrete numbers, but the point is traced; .*'blocks'"):
        jax.jit(lambda t: inverse("ring", t, engine="superlu").logdet())(1.3)
    with pytest.raises(
        TypeError, match=r"engine 'superlu' are on the host and cannot be an argument of jit, vmap or grad; .*blocks"
    ):
        jax.jit(lambda inv: inv.solve(B))(host)


# ---- copies ----------------------------------------------------------------------------------------------------------
COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("engine", ["superlu", "blocks"])
def test_inverses_are_copied(engine, way):
    found = inverse("deep", 1.3, engine=engine)
    twin = COPIES[way](found)
    np.testing.assert_allclose(twin.solve(np.asarray(B)), found.solve(np.asarray(B)), rtol=1e-12)
    assert repr(twin).split(",")[0] == repr(found).split(",")[0]


@pytest.mark.parametrize("way", COPIES)
def test_everything_is_copied(way):
    x = {"a": X, "b": 2.0}
    system = bs.linearize(lambda p: ring(p["a"], p["b"])[PERM], x)
    system.solve_transpose  # noqa: B018
    twin = COPIES[way](system)
    for a, b in zip(jax.tree.leaves(twin.vjp(B)), jax.tree.leaves(system.vjp(B)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert str(twin) is not None
    square = bs.linearize(lambda x: ring(x, 1.3), X)
    square.solve(B), square.solve(B, engine="blocks")
    np.testing.assert_allclose(COPIES[way](square).solve(B), square.solve(B), rtol=1e-10)
    J = bs.jacobian(lambda x: ring(x, 1.3), format="operator")(X)
    for thing in (J, J[0, 0], bs.left_mul(np.eye(2)), bs.I, bs.plan(lambda x: ring(x, 1.3), X), bs.Graph({("a", "b"): 2.0}),
                  bs.matrix([[2.0, 0], [1.0, 3.0]]), bs.sparsity(lambda x: ring(x, 1.3), X)):  # fmt: skip
        assert repr(COPIES[way](thing)) == repr(thing)


def test_an_opaque_equation_is_copied_but_not_pickled():
    system = bs.linearize(lambda x: looped(x, 1.3), X)
    np.testing.assert_allclose(copy.deepcopy(system).jvp(B), system.jvp(B))
    with pytest.raises(
        TypeError, match=r"scan .*equation of a traced program, at scan \(.*test_inverse\.py.*pickled; pickle the fu"
    ):
        pickle.dumps(system)
