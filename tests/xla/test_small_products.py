"""Small products of matrices under vmap: the same numbers, without a routine for each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.tracing import jaxpr as jx
from benchmarks.models.form_models import kinetics
from tests import reference

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere they are left to XLA")
RNG = np.random.default_rng(5)

PRODUCTS = {
    "plain": (lambda a, b: a @ b, (3, 4), (4, 2)),
    "left transposed": (lambda a, b: a.T @ b, (4, 3), (4, 2)),
    "right transposed": (lambda a, b: a @ b.T, (3, 4), (2, 4)),
    "three axes": (lambda a, b: jnp.einsum("ijk,jl->ikl", a, b), (2, 3, 2), (3, 4)),
    "one summed": (lambda a, b: a @ b, (3, 1), (1, 3)),
    "eight summed": (lambda a, b: a @ b, (8, 8), (8, 8)),
    "nine summed": (lambda a, b: a @ b, (2, 9), (9, 2)),
    "two axes summed": (lambda a, b: jnp.einsum("ijk,jkl->il", a, b), (2, 3, 2), (3, 2, 2)),
    "batched": (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (3, 2, 2), (3, 2, 2)),
    "a vector": (lambda a, b: a @ b, (3, 4), (4,)),
    "a chain": (lambda a, b: a @ b @ a @ jnp.cos(b), (4, 4), (4, 4)),
}


def program(name):
    """A function of one vector, and how long it is."""
    product, left, right = PRODUCTS[name]
    n = int(np.prod(left))

    def f(x):
        return jnp.ravel(product(jnp.sin(x[:n]).reshape(left), x[n:].reshape(right) ** 2))

    return f, n + int(np.prod(right))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_same_numbers(name, dtype):
    f, n = program(name)
    with jax.enable_x64(True):
        X = RNG.standard_normal((5, n)).astype(dtype)
        expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X.astype(np.float64))
        got = jax.jit(jax.vmap(bs.jacobian(f)))(X)
        assert got.dtype == dtype
        np.testing.assert_allclose(
            got, expected, rtol=1e-10 if dtype == np.float64 else 2e-4, atol=1e-4 * (dtype == np.float32)
        )


@pytest.mark.parametrize("name", ["plain", "right transposed", "a chain"])
def test_further_derivatives(name):
    f, n = program(name)
    with jax.enable_x64(True):
        X, g = RNG.standard_normal((3, n)), RNG.standard_normal(f(jnp.ones(n)).size)

        def loss(x):
            return g @ f(x)

        expected = reference.compiled(jax.vmap(jax.hessian(loss)))(X)
        np.testing.assert_allclose(jax.jit(jax.vmap(bs.hessian(loss)))(X), expected, rtol=1e-9, atol=1e-9)

        def total(jacobian):
            return lambda X: jnp.sum(jnp.sin(jax.vmap(jacobian(f))(X)))

        expected = reference.grad(total(jax.jacfwd))(X)
        np.testing.assert_allclose(jax.jit(jax.grad(total(bs.jacobian)))(X), expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(jax.grad(jax.jit(total(bs.jacobian)))(X), expected, rtol=1e-9, atol=1e-9)


def test_what_is_not_a_number_stays_where_it_is():
    """In the products a zero beside NaN is NaN, whichever way they are summed."""

    def f(x):
        return (x[:4].reshape(2, 2) @ jnp.exp(x[4:]).reshape(2, 2)).ravel()

    X = RNG.standard_normal((4, 8)).astype(np.float32)
    X[1, 0], X[2, 5] = np.nan, np.inf
    got = np.asarray(jax.jit(jax.vmap(bs.jacobian(f)))(X))
    one_by_one = np.stack([jax.jit(bs.jacobian(f))(x) for x in X])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(one_by_one))
    assert np.isnan(got[1:3]).any(axis=(1, 2)).all() or np.isinf(got[1:3]).any(axis=(1, 2)).all()
    np.testing.assert_allclose(got[[0, 3]], jax.vmap(jax.jacrev(f))(X[[0, 3]]), rtol=1e-5)


def repeated(x):
    """Three steps, whose Jacobians of 3 × 3 are multiplied."""
    for _ in range(3):
        x = jnp.stack([jnp.sin(x[0] * x[1]), x[1] * x[2], jnp.cos(x[2]) * x[0]])
    return x


@ON_CPU
@pytest.mark.parametrize(("f", "n", "dots"), [(repeated, 3, False), (program("nine summed")[0], 36, True)])
def test_no_routine_is_called_for_each(f, n, dots):
    text = jax.jit(jax.vmap(bs.jacobian(f))).lower(np.ones((5, n), np.float32)).as_text()
    assert ("dot_general" in text) == dots


@ON_CPU
def test_one_point_is_left_alone():
    """But in a program that is one kernel."""

    def f(x):
        return jnp.sort(jnp.sin(x[:4].reshape(2, 2) @ x[4:].reshape(2, 2)).ravel())

    x = np.ones(8, np.float32)
    assert "dot_general" in jax.jit(bs.jacobian(f)).lower(x).as_text()
    assert "dot_general" not in jax.jit(jax.vmap(bs.jacobian(f))).lower(x[None]).as_text()


SHIFTS = {
    "identity": np.eye(5),
    "to the right": np.eye(5, 5, 2),
    "to the left": np.eye(5, 5, -2),
    "narrower": np.eye(5, 3, 0),
    "narrower, moved": np.eye(5, 3, -2),
    "wider, moved": np.eye(5, 9, 3),
    "out at the end": np.eye(5, 7, 5),
    "not whole": np.diag([1.0, 1, 0, 1, 1]),
    "another number": 2 * np.eye(5),
    "one more": np.eye(5) + np.eye(5, 5, 3),
    "turned": np.roll(np.eye(5), 1, axis=0),
    "nothing": np.zeros((5, 4)),
}


@pytest.mark.parametrize("library", [np, jnp])
@pytest.mark.parametrize("side", ["left", "right", "left transposed", "right transposed"])
@pytest.mark.parametrize("name", SHIFTS)
def test_products_with_shifted_identities(name, side, library):
    with jax.enable_x64(True):
        S = library.asarray(SHIFTS[name])
    n = len(S)

    def f(x):
        a = jnp.outer(jnp.sin(x), jnp.arange(1.0, 10)[: n if side.startswith("right") else 4])
        a = a if side.startswith("right") else jnp.outer(jnp.arange(1.0, n + 1), jnp.sin(x))
        product = {
            "right": lambda: a @ S,
            "right transposed": lambda: jnp.einsum("ij,kj->ik", a, S.T),
            "left": lambda: S.T @ a,
            "left transposed": lambda: jnp.einsum("ji,jk->ik", S, a),
        }[side]()
        return jnp.ravel(product**2 + product)

    with jax.enable_x64(True):
        X = RNG.standard_normal((3, 3))
        expected = reference.compiled(jax.vmap(jax.jacfwd(f)))(X)
        np.testing.assert_allclose(jax.jit(jax.vmap(bs.jacobian(f)))(X), expected, rtol=1e-11, atol=1e-12)


@ON_CPU
def test_slices_that_became_matrices_are_slices_again():
    x = np.linspace(0.1, 0.9, 13)
    jacobian = bs.jacobian(kinetics, order="reverse")
    one = jax.jit(jacobian).lower(x).as_text().count("dot_general")
    run = jax.jit(jax.vmap(jacobian))
    assert run.lower(x[None]).as_text().count("dot_general") <= one - 2  # what is left are products with vectors
    np.testing.assert_allclose(run(x[None])[0], reference.jacfwd(kinetics)(x), rtol=1e-10, atol=1e-12)


@ON_CPU
def test_complex_numbers_are_left_alone():
    def f(x):
        z = jax.lax.complex(x[:4], x[4:]).reshape(2, 2)
        return jnp.abs(z @ z).ravel()

    X = RNG.standard_normal((5, 8)).astype(np.float32)
    run = jax.jit(jax.vmap(bs.jacobian(f)))
    np.testing.assert_allclose(run(X), reference.compiled(jax.vmap(jax.jacfwd(f)))(X), rtol=1e-3, atol=1e-4)


@ON_CPU
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_left_alone(dtype):
    """A routine sums it in single precision."""

    def f(x):
        return jnp.sin(x[:4].reshape(2, 2) @ x[4:].reshape(2, 2)).ravel()

    assert "dot_general" in jax.jit(jax.vmap(bs.jacobian(f))).lower(jnp.ones((1, 8), dtype)).as_text()


# ---- at the steps of a loop -----------------------------------------------------------------------------------------------
def recursion(x):
    """One matrix is the point's, another is known, a third shared; with an output and a slice for each step, backwards."""
    M, known = x.reshape(3, 3) / 4, jnp.arange(9.0).reshape(3, 3) / 10

    def step(P, t):
        P = M @ P @ M.T + known @ P + t * jnp.eye(3)
        return P, P @ P[0]

    last, out = lax.scan(step, jnp.eye(3), jnp.linspace(0.0, 1.0, 4, dtype=x.dtype), reverse=True, unroll=2)
    return jnp.concatenate([last.ravel(), out.ravel()])


def counted(x):
    M = jnp.outer(x, x[::-1])
    return lax.fori_loop(1, 5, lambda k, Q: jnp.tanh(Q @ M) / k + M[k % 9], jnp.eye(9)[:2, :])[:, :4]


def of_another_loop(x):
    """The second loop reads what the first puts down, and has another inside."""
    M = x.reshape(3, 3) / 4
    last, out = lax.scan(lambda P, _: (jnp.sin(P @ M), P), M, None, length=3)

    def step(P, Q):
        inner = lax.fori_loop(0, 2, lambda _, R: R @ Q - M, P)
        return inner @ last.T, None

    return lax.scan(step, jnp.eye(3), out)[0]


@pytest.mark.parametrize("f", [recursion, counted, of_another_loop])
@pytest.mark.parametrize("mode", ["jacobian", "hessian"])
def test_the_same_numbers_at_the_steps_of_a_loop(f, mode):
    with jax.enable_x64(True):
        X = RNG.standard_normal((4, 9))
        g = jnp.asarray(RNG.standard_normal(f(X[0]).shape))
        function = f if mode == "jacobian" else lambda x: jnp.sum(g * f(x))
        ours, theirs = (bs.jacobian, jax.jacfwd) if mode == "jacobian" else (bs.hessian, jax.hessian)
        expected = reference.compiled(jax.vmap(theirs(function)))(X)
        np.testing.assert_allclose(jax.jit(jax.vmap(ours(function)))(X), expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(jax.vmap(ours(function))(X), expected, rtol=1e-9, atol=1e-9)


@ON_CPU
def test_no_small_product_is_left_at_the_steps_of_a_loop():
    """At one point they are: alone one takes as long either way."""

    def f(x):
        M = x.reshape(2, 2)
        return lax.fori_loop(0, 3, lambda _, P: jnp.sin(M @ P), jnp.eye(2))

    X = RNG.standard_normal((3, 4))
    batched = jax.make_jaxpr(jax.jit(jax.vmap(bs.jacobian(f))))(X)
    alone = jax.make_jaxpr(jax.jit(bs.jacobian(f)))(X[0])
    batched, alone = (
        [e.primitive.name for e in jx.every_equation(program.jaxpr)].count("dot_general") for program in (batched, alone)
    )
    assert batched == 0
    assert alone > 0
