"""SciPy's protocol of linear operators: every kind of ours, in SciPy's own solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg as sl
from scipy.optimize import root

import backsolve as bs
from backsolve.operators import ArraySpace, Identity, LinearOperator, SpaceError, hadamard, kron, left_mul
from backsolve.operators.moves import Reshape, Slice
from tests import reference

N = 12
X, B = np.linspace(0.1, 1.0, N), np.arange(1.0, N + 1)
RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("double_precision")


def residual(x):
    return 4 * x - 0.5 * jnp.roll(x, 1) - 0.3 * jnp.roll(x, -1) ** 2 + jnp.sin(x)


def energy(p):
    x = jnp.concatenate([p["a"], p["b"].ravel()])
    return jnp.sum(x**4) + jnp.sum((x[1:] - x[:-1]) ** 2)


def scanned(x):
    return jax.lax.scan(lambda c, _: (c + 0.1 * jnp.sin(jnp.roll(c, 1)), None), x, None, length=3)[0]


def things():
    system = bs.linearize(residual, X)
    D = np.asarray(reference.jacobian(residual)(X))
    p = {"a": X[:4], "b": X[4:].reshape(2, 4)}
    H = reference.hessian(lambda x: energy({"a": x[:4], "b": x[4:].reshape(2, 4)}))(X)
    blocks = bs.jacobian(lambda p: {"u": 2 * p["a"] + p["b"][0], "v": p["b"] * p["a"]}, format="operator")(p)
    flat = reference.jacobian(lambda x: jnp.concatenate([2 * x[:4] + x[4:8], (x[4:].reshape(2, 4) * x[:4]).ravel()]))(X)
    K = kron(np.array([[2.0, 1.0], [0.0, 3.0]]), np.eye(3) + np.diag([1.0, 1.0], 1)).refine(ArraySpace((3, 2)), ArraySpace())
    Z = RNG.standard_normal(N) + 1j * RNG.standard_normal(N)
    hand = bs.System(bs.matrix([[2.0], [0.0]]), bs.matrix([[0, 0], [3.0, 0]]), bs.matrix([[0, 1.0]]))
    return {
        "sparse": (bs.jacobian(residual, format="sparse")(X), D),
        "sparse in NumPy": (bs.SparseMatrix.from_entries(range(N), range(N), B, (N, N)), np.diag(B)),
        "operator": (bs.jacobian(residual, format="operator")(X)[0, 0], D),
        "matrix": (bs.jacobian(residual, format="operator")(X).to_scipy(), D),
        "blocks": (blocks.to_scipy(), np.asarray(flat)),
        "numbers": (bs.matrix([[2.0, 1.0], [0, 3.0]]), np.array([[2.0, 1.0], [0, 3.0]])),
        "arrays": (bs.matrix([[np.eye(2), 2 * np.eye(2)]]).to_scipy(), np.hstack([np.eye(2), 2 * np.eye(2)])),
        "system": (system, D),
        "system of trees": (bs.linearize(bs.grad(energy), p), np.asarray(H)),
        "loop": (bs.linearize(scanned, X), np.asarray(reference.jacobian(scanned)(X))),
        "by hand": (hand, np.array([[6.0]])),
        "inverse": (system.factored(), np.linalg.inv(D)),
        "inverse of blocks": (system.factored(engine="blocks"), np.linalg.inv(D)),
        "inverse by hand": (hand.factored(), np.array([[1 / 6]])),
        "quotient": (bs.jacobian(lambda x: x.reshape(3, 4) / np.arange(1.0, 13).reshape(3, 4), format="operator")(
            X.reshape(3, 4))[0, 0], np.diag(1 / np.arange(1.0, 13))),
        "kron": (K, K.todense().reshape(6, 6)),
        "left": (left_mul(np.arange(12.0).reshape(3, 4)).refine(ArraySpace((4, 2)), ArraySpace()),
                 np.kron(np.arange(12.0).reshape(3, 4), np.eye(2))),
        "complex": (hadamard(Z), np.diag(Z)),
        "complex system": (bs.linearize(lambda z: z**2 * z[::-1], Z), np.asarray(
            reference.jacobian(lambda z: z**2 * z[::-1], holomorphic=True)(Z))),
        "lazy": (bs.linear_map(lambda x: 2 * x, lambda y: 2 * y, (N,), (N,)) @ hadamard(B), np.diag(2 * B)),
        "identity": (Identity(ArraySpace((3,))), np.eye(3)),
    }  # fmt: skip


THINGS = (
    "sparse", "sparse in NumPy", "operator", "matrix", "blocks", "numbers", "arrays", "system", "system of trees", "loop",
    "by hand", "inverse", "inverse of blocks", "inverse by hand", "quotient", "kron", "left", "complex", "complex system",
    "lazy", "identity",
)  # fmt: skip


@pytest.fixture(scope="module")
def made():
    with jax.enable_x64(True):
        return things()


def test_all_are_tried(made):
    assert tuple(made) == THINGS


@pytest.mark.parametrize("name", THINGS)
def test_products(made, name):
    thing, D = made[name]
    A = sl.aslinearoperator(thing)
    m, n = D.shape
    rng = np.random.default_rng(1)
    x, y, X = rng.standard_normal(n), rng.standard_normal(m), rng.standard_normal((n, 3))
    assert A.shape == (m, n)
    assert A.dtype == D.dtype
    np.testing.assert_allclose(A @ x, D @ x, atol=1e-11)
    np.testing.assert_allclose(A.H @ y, D.conj().T @ y, atol=1e-11)
    np.testing.assert_allclose(A @ (x + 1j * x[::-1]), D @ (x + 1j * x[::-1]), atol=1e-11)
    np.testing.assert_allclose(A.rmatvec(y + 2j * y[::-1]), D.conj().T @ (y + 2j * y[::-1]), atol=1e-11)
    np.testing.assert_allclose(A @ X, D @ X, atol=1e-11)
    np.testing.assert_allclose(A.rmatmat(y[:, None]), D.conj().T @ y[:, None], atol=1e-11)
    assert A.matvec(x[:, None]).shape == (m, 1)
    if isinstance(thing, bs.SparseMatrix):
        return
    own = thing if isinstance(thing, sl.LinearOperator) else thing.to_scipy()
    np.testing.assert_allclose(own @ X, D @ X, atol=1e-11)
    np.testing.assert_allclose(own.T @ y, D.T @ y, atol=1e-11)
    before = x.copy()
    found = A.matvec(x)
    found += 1  # is SciPy's own
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    "name", [n for n in THINGS if n not in ("by hand", "inverse by hand", "numbers", "arrays", "identity")]
)
def test_solvers(made, name):
    thing, D = made[name]
    m, n = D.shape
    if np.iscomplexobj(D):
        found = sl.svds(thing, k=2, return_singular_vectors=False)
    else:
        found = sl.svds(thing, k=2, return_singular_vectors=False, rng=0)
        if m == n:
            x, info = sl.gmres(thing, np.ones(n), rtol=1e-10, restart=n)
            assert info == 0
            np.testing.assert_allclose(D @ x, np.ones(n), atol=1e-7)
        x = sl.lsqr(thing, np.ones(m), atol=1e-12, btol=1e-12)[0]
        np.testing.assert_allclose(D @ x, D @ np.linalg.lstsq(D, np.ones(m))[0], atol=1e-6)
    np.testing.assert_allclose(np.sort(found), np.sort(np.linalg.svd(D, compute_uv=False))[-2:], rtol=1e-6)


def test_eigenvalues_and_preconditioners(made):
    system, H = made["system of trees"]
    want = np.linalg.eigvalsh(H)
    np.testing.assert_allclose(sl.eigsh(system, k=2)[0], want[-2:], rtol=1e-8)
    least = sl.eigsh(system, k=2, sigma=0, OPinv=system.factored())[0]
    np.testing.assert_allclose(np.sort(least), want[:2], rtol=1e-8)
    J, D = made["sparse"]
    steps = []
    x, info = sl.gmres(J, B, M=made["inverse"][0], rtol=1e-12, callback=steps.append, callback_type="pr_norm")
    assert (info, len(steps)) == (0, 1)
    np.testing.assert_allclose(D @ x, B, atol=1e-10)
    inverse = made["inverse"][0]
    found = root(jax.jit(residual), X, method="krylov", options={"jac_options": {"inner_M": inverse}})
    assert found.success
    np.testing.assert_allclose(inverse @ B, np.linalg.solve(D, B))


def test_the_own_subclass_of_a_user_is_taken():
    class Doubling(LinearOperator):
        domain = codomain = ArraySpace((2, 2))

        def __init__(self):
            self.shape = "its own"

        def apply(self, x):
            return 2 * x

        def transpose(self):
            return self

    op = Doubling()
    assert op.shape == "its own"
    np.testing.assert_array_equal(op.to_scipy() @ np.ones(4), 2 * np.ones(4))


def test_single_precision_without_x64():
    with jax.enable_x64(False):
        system = bs.linearize(residual, X)
        x, info = sl.gmres(system, B, rtol=1e-4)
        assert (info, sl.aslinearoperator(system).dtype) == (0, np.float32)
    np.testing.assert_allclose(np.asarray(residual(X)).shape, x.shape)
    np.testing.assert_allclose(np.asarray(reference.jacobian(residual)(X)) @ x, B, rtol=1e-2)


def test_wrong_input(made):
    for unknown in (bs.I, bs.O, left_mul(np.ones((3, 4)))):
        assert not hasattr(unknown, "shape")
        with pytest.raises(SpaceError, match=r"size of .* is not known"):
            unknown.to_scipy()
    blocks = bs.jacobian(lambda x: x**2, format="operator")(X)
    for use in (sl.aslinearoperator, lambda A: sl.gmres(A, B)):
        with pytest.raises(TypeError, match=r"counts blocks, here 1 × 1, where SciPy wants the 12 × 12 numbers of its matr"):
            use(blocks)
    with pytest.raises(SpaceError, match=r"block 0 of the vector has the space \?, of unknown size"):
        bs.matrix([[bs.I]]).to_scipy()
    cut = bs.jacobian(lambda x: x.reshape(3, 4)[1:], format="operator")(X)[0, 0]
    assert cut.to_scipy().shape == (8, 12)
    piece = Slice((3, 4), (1, 0), (3, 4))
    np.testing.assert_array_equal(piece.to_scipy() @ X, X[4:])
    with pytest.raises(TypeError, match=r"shape of a Slice is that of an array, here 3 × 4, where SciPy wants the 8 × 12"):
        sl.aslinearoperator(piece)
    system = made["system"][0]
    with pytest.raises(SpaceError, match=r"with a Linearized of 12 × 12 numbers takes vectors of shape \(12,\), got \(3,\)"):
        system.matvec(np.ones(3))
    with pytest.raises(SpaceError, match=r"takes matrices of shape \(12, k\), got \(3, 2\)"):
        made["sparse"][0].matmat(np.ones((3, 2)))
    with pytest.raises(TypeError, match=r"not holomorphic.*is no matrix of complex numbers"):
        bs.linearize(lambda z: jnp.conj(z) * z, X + 1j).matvec(X)
    with pytest.raises(TypeError, match="takes an array of numbers"):
        system.matvec(["a"] * 12)
    assert Reshape((2, 6), (12,)).to_scipy().shape == (12, 12)
