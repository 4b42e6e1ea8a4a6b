"""Systems and operators as pytrees through JAX's transformations; Equinox modules and Optax training steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import backsolve as bs
from tests import reference

from .oracle import assert_both_same, assert_same, compiled, normal, positive

X = normal(3)
Y = normal(3, seed=1)
A = normal(3, 3)


def energy(x, y):
    return jnp.sum(jnp.sin(x) * y**2)


# ---- systems and operators as pytrees ------------------------------------------------------------------------------------
def test_a_system_crosses_jit():
    system = jax.jit(lambda x, y: bs.linearize(energy, x, y, argnums=(0, 1)))(X, Y)
    assert isinstance(system, bs.System)
    assert_same(system.vjp(1.0), reference.grad(energy, (0, 1))(X, Y))
    assert_same(jax.jit(lambda s, g: s.vjp(g))(system, 1.0), reference.grad(energy, (0, 1))(X, Y))


def test_a_system_of_elementwise_and_matrix_edges_crosses_vmap():
    f = lambda x: jnp.tanh(jnp.asarray(A) @ x) * x  # noqa: E731
    xs, gs = jnp.asarray(normal(4, 3)), jnp.asarray(normal(4, 3, seed=5))
    systems = jax.vmap(lambda x: bs.linearize(f, x))(xs)
    got = jax.vmap(lambda s, g: s.vjp(g))(systems, gs)
    assert_same(got, jax.vmap(lambda x, g: jax.vjp(f, x)[1](g)[0])(xs, gs))


@pytest.mark.parametrize("make", [bs.hadamard, bs.left_mul, bs.right_mul, bs.tdot, lambda m: bs.kron(m, m)])
def test_operators_cross_jit_and_grad(make):
    M, V = jnp.asarray(normal(3, 3)), jnp.asarray(normal(3, 3, seed=2))
    op = jax.jit(make)(M)
    assert isinstance(op, bs.LinearOperator)
    assert_same(jax.jit(lambda o, v: o @ v)(op, V), make(M) @ V)
    by_op = jax.grad(lambda o: jnp.sum(jnp.sin(o @ V)))(op)
    by_array = jax.grad(lambda m: jnp.sum(jnp.sin(make(m) @ V)))(M)
    assert_same(sum(jax.tree.leaves(by_op)), by_array)


def test_matrices_and_vectors_cross_jit():
    D = jnp.asarray(positive(3))
    matrix = bs.bidiagonal([bs.I, bs.I], [-bs.hadamard(D)])
    vector = bs.vector([jnp.ones(3), D])
    expected = bs.solve(matrix, vector)
    got = jax.jit(lambda A, b: bs.solve(A, b))(matrix, vector)
    assert_same(list(got), list(expected))


def test_opaque_operators_cross_jit_and_grad():
    """Functions of one's own are static; arrays of functions that are pytrees themselves are leaves."""
    M, v = jnp.asarray(normal(3, 3)), jnp.asarray(normal(3, seed=2))

    def by_closure(m):
        return bs.linear_map(lambda x: jnp.cumsum(x), lambda y: jnp.cumsum(y[::-1])[::-1], (3,), (3,))

    def by_partial(m):
        apply, back = jax.tree_util.Partial(jnp.matmul, m), jax.tree_util.Partial(jnp.matmul, m.T)
        return bs.linear_map(apply, back, (3,), (3,), name="M")

    for make, matrix in ((by_closure, jnp.tril(jnp.ones((3, 3)))), (by_partial, M)):
        op = make(M)
        A = bs.bidiagonal([bs.I, bs.I], [-op])
        assert_same(jax.jit(lambda o, x: o @ x)(op, v), matrix @ v)
        assert_same(jax.jit(lambda o, x: o.T @ x)(op, v), matrix.T @ v)
        assert_same(list(jax.jit(lambda A, b: bs.solve(A, b))(A, bs.vector([v, v]))), [v, v + matrix @ v])
        assert jax.tree_util.tree_map(lambda leaf: leaf, op).label == op.label
    by_op = jax.tree.leaves(jax.grad(lambda o: jnp.sum(jnp.sin(o @ v)))(by_partial(M)))
    assert_same(by_op[0], jax.grad(lambda m: jnp.sum(jnp.sin(m @ v)))(M))
    assert not by_op[1].any()  # the transpose is not used


# ---- Equinox and Optax ---------------------------------------------------------------------------------------------------
def test_equinox_module_partitioned_and_trained_by_optax():
    model = eqx.nn.MLP(3, 2, 8, 2, activation=jax.nn.gelu, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    x, y = jnp.asarray(normal(5, 3)), jnp.asarray(normal(5, 2))

    def loss(params, x, y):
        return jnp.mean((jax.vmap(eqx.combine(params, static))(x) - y) ** 2)

    assert_both_same(lambda m, *args: m.value_and_grad(loss)(*args), params, x, y)
    optimiser = optax.adam(1e-2)

    def train(library):
        @compiled
        def step(params, state):
            value, gradient = library.value_and_grad(loss)(params, x, y)
            updates, state = optimiser.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, value

        state, current, values = optimiser.init(params), params, []
        for _ in range(5):
            current, state, value = step(current, state)
            values.append(value)
        return current, values

    trained, values = train(bs)
    assert_same((trained, values), train(jax), rtol=1e-7)
    assert values[-1] < values[0]


def test_equinox_filter_transformations_around_and_inside():
    layer = eqx.nn.LSTMCell(3, 4, key=jax.random.key(1))
    xs = jnp.asarray(normal(6, 3))

    @eqx.filter_jit
    def loss(layer, xs):
        state = (jnp.zeros(4), jnp.zeros(4))
        return jnp.sum(jax.lax.scan(lambda s, x: (layer(x, s), None), state, xs)[0][0])

    arrays, static = eqx.partition(layer, eqx.is_array)
    f = lambda arrays: loss(eqx.combine(arrays, static), xs)  # noqa: E731
    assert_both_same(lambda m, a: m.grad(f)(a), arrays)


def test_optax_s_own_functions_are_differentiable():
    labels = jnp.array([0, 2, 1])
    f = lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels).mean() + optax.huber_loss(x).sum()  # noqa: E731
    assert_both_same(lambda m, x: m.grad(f)(x), normal(3, 3))
