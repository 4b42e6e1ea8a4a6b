"""Products of matrices under vmap: the same numbers, with the operands turned as there is a quick routine for."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from tests import reference

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere they are left to XLA")
RNG = np.random.default_rng(7)
W = RNG.standard_normal((12, 12))

PRODUCTS = {
    "plain": (lambda a, b: a @ b, (12, 10), (10, 9)),
    "left transposed": (lambda a, b: a.T @ b, (10, 12), (10, 9)),
    "right transposed": (lambda a, b: a @ b.T, (12, 10), (9, 10)),
    "both transposed": (lambda a, b: a.T @ b.T, (10, 12), (9, 10)),
    "three axes": (lambda a, b: jnp.einsum("ikj,kl->ijl", a, b), (2, 10, 5), (10, 9)),
    "of a constant": (lambda a, b: W @ a @ W[:9] @ b, (12, 9), (12, 1)),
    "of a constant transposed": (lambda a, b: W.T @ a + (b.T @ W).T, (12, 9), (12, 9)),
    "a vector": (lambda a, b: a.T @ b, (10, 12), (10,)),
    "two axes summed": (lambda a, b: jnp.einsum("ijk,jkl->il", a, b), (3, 4, 3), (4, 3, 9)),
}


def program(name):
    """A function of one vector, and how long it is."""
    product, left, right = PRODUCTS[name]
    n = int(np.prod(left))

    def f(x):
        y = product(jnp.sin(x[:n]).reshape(left), x[n:].reshape(right) ** 2)
        return jnp.ravel(jnp.cos(y) if name != "a vector" else y @ jnp.tanh(jnp.outer(y, y)))

    return f, n + int(np.prod(right))


@pytest.mark.parametrize("order", ["auto", "forward", "reverse", "markowitz"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_same_numbers(name, order):
    f, n = program(name)
    with jax.enable_x64(True):
        X = RNG.standard_normal((3, n))
        expected = reference.compiled(jax.vmap(jax.jacrev(f)))(X)
        for run in (jax.vmap(bs.jacobian(f, order=order)), jax.jit(jax.vmap(bs.jacobian(f, order=order)))):
            np.testing.assert_allclose(run(X), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["left transposed", "both transposed", "of a constant"])
def test_further_derivatives_and_precisions(name):
    f, n = program(name)
    with jax.enable_x64(True):
        X = RNG.standard_normal((3, n))

        def of(jacobian):
            return lambda X: jnp.sum(jax.vmap(jacobian(f))(X) ** 2)

        expected = reference.grad(of(jax.jacrev))(X)
        for run in (jax.grad(of(bs.jacobian)), jax.jit(jax.grad(of(bs.jacobian)))):
            np.testing.assert_allclose(run(X), expected, rtol=1e-8, atol=1e-8)
        double = jax.jit(jax.vmap(jax.vmap(bs.jacobian(f))))(X[None])
        np.testing.assert_allclose(double[0], reference.compiled(jax.vmap(jax.jacrev(f)))(X), rtol=1e-9, atol=1e-9)
        single = jax.jit(jax.vmap(bs.jacobian(f)))(X.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, reference.compiled(jax.vmap(jax.jacrev(f)))(X), rtol=2e-3, atol=2e-3)


def net(activation, sizes=(8, 32, 32, 4)):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(sizes)]

    def energy(weights, x):
        for A in weights[:-1]:
            x = activation(A @ x)
        return jnp.sum((weights[-1] @ x) ** 2)

    return energy, weights


ACTIVATIONS = ("relu", "leaky_relu", "relu6", "elu", "gelu", "silu", "tanh", "softplus", "hard_tanh")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_hessians_of_nets_by_their_inputs(name):
    """Weights as constants and as arguments; no point of a batch has a copy of them, whatever masks are around them."""
    with jax.enable_x64(True):
        energy, weights = net(getattr(jax.nn, name))
        X = RNG.uniform(-1, 1, (6, 8))
        expected = reference.compiled(jax.vmap(jax.hessian(energy, argnums=1), (None, 0)))(weights, X)
        constant = jax.jit(jax.vmap(bs.hessian(lambda x: energy(weights, x))))
        np.testing.assert_allclose(constant(X), expected, rtol=1e-8, atol=1e-8)
        given = jax.jit(jax.vmap(bs.hessian(energy, argnums=1), (None, 0)))
        np.testing.assert_allclose(given(weights, X), expected, rtol=1e-8, atol=1e-8)
        for text in (constant.lower(X).as_text(), given.lower(weights, X).as_text()):
            assert not re.search(r"tensor<6x32x32x", text)


@ON_CPU
def test_precisions_go_with_their_operands():
    """Of a constant by what moves, which change places; an algorithm of products leaves them where they are."""

    def at(precision):
        f = lambda x: jnp.sin(jax.lax.dot(jnp.asarray(W), x.reshape(12, 9), precision=precision))  # noqa: E731
        return jax.jit(jax.vmap(bs.jacobian(f)))

    with jax.enable_x64(True):
        X = RNG.standard_normal((3, 108))
        expected = at(None)(X)
        for precision, text in ((("default", "highest"), "[HIGHEST, DEFAULT]"), ("F64_F64_F64", "algorithm")):
            np.testing.assert_allclose(at(precision)(X), expected, rtol=1e-12)
            assert text in at(precision).lower(X).as_text()


@ON_CPU
def test_sums_are_over_last_axes():
    """No product of two matrices of a point each is left to loops of scalars."""
    energy, weights = net(jax.nn.leaky_relu)
    X = np.zeros((100, 8), np.float32)
    compiled = jax.jit(jax.vmap(bs.hessian(lambda x: energy([A.astype(np.float32) for A in weights], x)))).lower(X).compile()
    products = re.findall(r" dot\(.*lhs_batch_dims=\{0\}, lhs_contracting_dims=\{(\d)\}", compiled.as_text())
    assert set(products) <= {"2"}


def test_what_the_program_multiplies_by_is_known_to_be_so_beyond_jit():
    edge = bs.jacobian(lambda x: W @ x, format="operator")(jnp.ones(12)).entries[0, 0]
    assert [f.given for f in edge.factors] == [f.given for f in jax.jit(lambda op: op)(edge).factors] == [True]


def test_an_infinite_weight_behind_a_mask_is_as_in_one_of_jax_modes():
    """Where both of JAX's modes are finite so is every order; where one is not, NaN is allowed and nothing else."""
    with jax.enable_x64(True):
        x = jnp.array([-0.5, 0.7, 0.2])
        A, C = RNG.standard_normal((4, 3)), RNG.standard_normal((2, 4))
        mask = jnp.array([True, False, True, True])

        def f(x, A, C):
            return jnp.sin(C @ jnp.where(mask, A @ x, 0.0))

        cases = {"none": (A, C), "before": (np.where(np.arange(4)[:, None] == 1, np.inf, A), C)}
        for A1, C1 in cases.values():
            modes = [jacobian(f)(x, A1, C1) for jacobian in (jax.jacfwd, jax.jacrev)]
            for order in ("auto", "forward", "reverse", "markowitz"):
                for run in (bs.jacobian(f, order=order), jax.jit(bs.jacobian(f, order=order))):
                    J = run(x, A1, C1)
                    sure = np.isfinite(modes[0]) & np.isfinite(modes[1])
                    np.testing.assert_allclose(J[sure], modes[0][sure], rtol=1e-9)
                    bad = ~np.isnan(J) & ~sure
                    np.testing.assert_allclose(J[bad], modes[0][bad], rtol=1e-9)
