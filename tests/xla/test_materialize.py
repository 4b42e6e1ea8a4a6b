"""Values that XLA would compute in several loops are computed in one: the same numbers, fewer of them computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.tracing import jaxpr as jx
from backsolve.xla.materialize import SPARSE, materialized
from benchmarks.models import sparse_models as models

from ..capture.oracle import assert_close, normal

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA decides")


def many_readers(x):
    y = jnp.sin(x) * jnp.cos(x)
    return tuple(y[k:] * y[: y.shape[0] - k] for k in range(1, 9))


def once(x):
    return materialized(many_readers, [x], SPARSE)


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(assert_close, got, want)


def hlo(f, x):
    return jax.jit(f).lower(x).compile().as_text()


@ON_CPU
def test_a_value_of_many_readers_is_computed_once():
    x = jnp.asarray(normal(20_000))
    assert hlo(many_readers, x).count(" sine(") > 1
    assert hlo(once, x).count(" sine(") == 1
    assert_same(jax.jit(once)(x), jax.jit(many_readers)(x))


def test_what_only_a_border_reads_has_none():
    def chain(x):
        y = x
        for _ in range(30):
            y = y * x - 0.5
        return y[1:] * 2.0, y[:-1] * 3.0

    x = jnp.asarray(normal(20_000))
    program = jax.make_jaxpr(lambda x: materialized(chain, [x], SPARSE))(x)
    assert sum(e.primitive.name == "written" for e in program.eqns) == (jax.default_backend() == "cpu")
    assert_same(jax.jit(lambda x: materialized(chain, [x], SPARSE))(x), jax.jit(chain)(x))


@ON_CPU
def test_few_entries_are_left_as_they_are():
    def two_readers(x):
        y = jnp.sin(x)
        return y[1:] * 2.0, y[:-1] * 3.0

    def once(x):
        return materialized(two_readers, [x], SPARSE)

    assert [" divide(" in hlo(once, jnp.asarray(normal(n))) for n in (50, 5_000)] == [False, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_are_none_stay(dtype):
    x = normal(5_000).astype(dtype)
    x[:4] = np.nan, np.inf, -np.inf, -0.0
    for got, want in zip(jax.jit(once)(x), jax.jit(many_readers)(x), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_zeros_of_either_sign_are_different_constants():
    def f(x):
        return x * 0.0, x * -0.0

    plus, minus = jax.jit(lambda x: materialized(f, [x], SPARSE))(jnp.ones(3))
    assert np.signbit([plus, minus]).tolist() == [[False] * 3, [True] * 3]


def test_equations_of_the_same_operands_are_made_once():
    def f(x):
        return jnp.exp(x) + jnp.exp(x) * 2.0, jnp.exp(x[:2])

    names = [e.primitive.name for e in jax.make_jaxpr(lambda x: materialized(f, [x], SPARSE))(jnp.ones(3)).eqns]
    assert names.count("exp") == 2
    assert_same(materialized(f, [jnp.ones(3)], SPARSE), f(jnp.ones(3)))


def test_trees_constants_and_inputs_come_back():
    shift = jnp.arange(3.0)

    def f(x, n):
        return {"same": x, "number": n, "constant": shift, "sum": (x + shift,)}

    got = jax.jit(lambda x, n: materialized(f, [x, n], SPARSE))(jnp.ones(3), jnp.asarray(2))
    assert_same(got, f(jnp.ones(3), jnp.asarray(2)))


def test_derivatives_and_batches():
    x = jnp.asarray(normal(2, 5_000))
    total = lambda f: lambda x: sum(jnp.sum(y**2) for y in f(x))  # noqa: E731
    assert_close(jax.grad(total(once))(x[0]), jax.grad(total(many_readers))(x[0]))
    assert_same(jax.vmap(once)(x), jax.vmap(many_readers)(x))


@ON_CPU
def test_bundle_adjustment_computes_each_sine_once():
    """Rotation enters all numbers of a row: without borders some forty loops would take its sine."""
    model = models.bundle(49, 300, 3_000)
    x = jnp.asarray(model.point)
    text = hlo(lambda x: bs.jacobian(model.function, format="sparse")(x).data, x)
    assert text.count(" sine(") == text.count(" cosine(") == 1


def _two_axles(z):
    steer = jnp.stack([z[0], 0.5 * z[0]])
    force = jnp.stack([z[1], z[2]]) * jnp.exp(-z[3])
    arm = jnp.asarray([1.2, -1.4])
    along = jnp.cos(steer) * force
    across = jnp.sin(steer) * force
    return jnp.stack([jnp.sum(along), jnp.sum(across), jnp.sum(arm * across), jnp.sum(arm * along)])


@ON_CPU
def test_sines_of_short_arrays_are_computed_once_in_a_batch():
    """Of the two entries each: they are too few for a loop of their own, of a thousand points they are two thousand."""
    X = jnp.asarray(normal(1_000, 4))
    text = hlo(jax.vmap(bs.jacobian(_two_axles)), X)
    assert text.count(" sine(") == text.count(" cosine(") == 2
    assert_close(jax.jit(jax.vmap(bs.jacobian(_two_axles)))(X), jax.vmap(jax.jacfwd(_two_axles))(X))


@ON_CPU
def test_what_a_batch_shares_and_is_dear_is_written_down():
    """Random weights drawn inside of a net: else XLA draws them again for each example."""
    weights = jnp.asarray(normal(4, 4, seed=1))

    def net(x, W):
        return jnp.tanh(weights @ jnp.tanh(W @ x))

    def drawn(x):
        return net(x, 0.5 * jax.random.normal(jax.random.key(0), (4, 4)))

    def borders(f, X):
        return [e for e in jax.make_jaxpr(jax.vmap(bs.jacobian(f)))(X).eqns if e.primitive.name == "written"]

    X = jnp.asarray(normal(5, 4))
    assert [e.outvars[0].aval.shape for e in borders(drawn, X)] == [(4, 4)]
    assert not borders(lambda x: net(x, 0.5 * weights), X)
    assert_same(jax.jit(jax.vmap(bs.jacobian(drawn)))(X), jax.jit(jax.vmap(jax.jacobian(drawn)))(X))


@ON_CPU
@pytest.mark.parametrize(
    ("other", "count"),
    [
        (lambda c, v: (0.1 * jnp.sin(c) + v, c), 1),
        (lambda c, v: (0.1 * jnp.sin(c) + v, v), 2),
        (lambda c, v: (0.1 * jnp.sin(c) - v, c), 2),
        (lambda c, v: ((0.1 + 1e-15) * jnp.sin(c) + v, c), 2),
        (lambda c, v: (0.1 * jnp.sin(c) + jax.lax.pow(v, 1.0), c), 2),
    ],
    ids=["the same", "another output", "another operation", "another number", "one more operation"],
)
def test_a_loop_that_is_repeated_is_run_once(other, count):
    def f(x):
        first = jax.lax.scan(lambda c, v: (0.1 * jnp.sin(c) + v, c), x[0], x)
        second = jax.lax.scan(other, x[0], x)
        return [*first, *second]

    x = jnp.asarray(normal(6))
    program = jax.make_jaxpr(lambda x: materialized(f, [x], SPARSE))(x)
    assert sum(e.primitive.name == "scan" for e in jx.every_equation(program.jaxpr)) == count
    assert_same(jax.jit(lambda x: materialized(f, [x], SPARSE))(x), f(x))
