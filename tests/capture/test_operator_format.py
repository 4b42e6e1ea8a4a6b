"""``format="operator"``: blocks equal to JAX's Jacobian, diagonals never stored, memory of the factors' size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.operators import Einsum, Product
from backsolve.operators.tiled import tiles_of
from tests import reference

from .oracle import as_jax, assert_close, compiled, complex_normal, normal, positive


def blocks_of(J, value, args):
    """The array of every (output leaf, input leaf) block, zeros where there is none."""
    outs, ins = jax.tree.leaves(value), jax.tree.leaves(args)
    assert J.shape == (len(outs), len(ins))
    found = []
    for i, out in enumerate(outs):
        for j, into in enumerate(ins):
            shape = (*jnp.shape(out), *jnp.shape(into))
            op = J.entries.get((i, j))
            found.append(np.zeros(shape) if op is None else np.reshape(op.todense(), shape))
    return found


def parts(op):
    waiting, found = [op], []
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(getattr(one, "terms", ()))
        waiting.extend(one.factors if isinstance(one, Product) else ())
    return found


def arrays_of(op):
    return [f.array for one in parts(op) if isinstance(one, Einsum) for f in one.factors]


def stored(J):
    return sum(int(np.size(a)) for op in J.entries.values() for a in arrays_of(op))


def deltas(op):
    """Labels in both out and into: diagonals that are not stored."""
    (inner,) = [one for one in parts(op) if isinstance(one, Einsum)]
    return {*inner.out} & {*inner.into}


def assert_blocks(f, args, argnums, order="auto"):
    args = as_jax(args)
    operators = bs.jacobian(f, argnums, order=order, format="operator")
    J, want, value = compiled(lambda *xs: (operators(*xs), jax.jacobian(f, argnums)(*xs), f(*xs)))(*args)
    by = args[argnums] if isinstance(argnums, int) else tuple(args[k] for k in argnums)
    for got, expected in zip(blocks_of(J, value, by), jax.tree.leaves(want), strict=True):
        assert_close(got, expected)
    return J


def net(x, W, b, V):
    return jnp.tanh(x @ W + b) @ V


NET = normal(3, 5), normal(5), normal(5, 2)
BATCH = 11


@pytest.mark.parametrize("batched", [lambda f: f, lambda f: jax.vmap(f, (0, None, None, None))], ids=["plain", "vmap"])
@pytest.mark.parametrize("order", ["auto", "reverse", "markowitz"])
def test_a_batched_net_by_its_inputs_is_block_diagonal(batched, order):
    J = assert_blocks(batched(net), (normal(BATCH, 3), *NET), 0, order)
    op = J[0, 0]
    assert len(deltas(op)) == 1
    assert stored(J) <= BATCH * 2 * 3 + 3 * 5 + 5 * 2 + BATCH * 5
    assert all(np.size(a) < BATCH * BATCH for a in arrays_of(op))


def test_a_batched_net_by_its_weights():
    """By V: the hidden layer alone; its Kronecker delta over the outputs is not stored."""
    J = assert_blocks(jax.vmap(net, (0, None, None, None)), (normal(BATCH, 3), *NET), (1, 2, 3))
    full = BATCH * 2 * (3 * 5 + 5 + 5 * 2)
    assert stored(J) < full / 2
    assert stored_in(J, 0, 2) == BATCH * 5
    assert len(deltas(J[0, 2])) == 1


def stored_in(J, i, j):
    return sum(int(np.size(a)) for a in arrays_of(J[i, j]))


BATCHED = {
    "sin": (jax.vmap(jnp.sin), 1),
    "normalise": (jax.vmap(lambda x: x / jnp.sum(x)), 3),
    "softmax": (jax.vmap(jax.nn.softmax), 3),
    "flip": (jax.vmap(lambda x: x[::-1] * x), 3),
    "cumsum": (jax.vmap(lambda x: jnp.cumsum(x) * 2), 3),
    "concatenate": (jax.vmap(lambda x: jnp.concatenate([x[:1], x[1:] * x[:-1]])), 3),
    "at-set": (jax.vmap(lambda x: x.at[0].set(x[1] * x[2])), 3),
    "where": (jax.vmap(lambda x: jnp.where(x > 0, x * x, 0.1 * x)), 1),
    "gather": (jax.vmap(lambda x: x[jnp.array([2, 0, 2])] * 3), 3),
    "roll": (jax.vmap(lambda x: jnp.roll(x, 1) * x), 3),
    "diff": (jax.vmap(lambda x: jnp.diff(x) ** 2), 3),
    "scan": (jax.vmap(lambda x: jax.lax.scan(lambda c, v: (jnp.sin(c * v), c), 1.0, x)[1]), 3),
    "cumprod": (jax.vmap(jnp.cumprod), 3),
    "sort": (jax.vmap(lambda x: jnp.sort(x) * x), 3),
    "max": (jax.vmap(lambda x: jnp.max(x) * x), 3),
    "vmap-vmap": (jax.vmap(jax.vmap(jnp.exp)), 1),
    "centre": (lambda x: x - x.mean(axis=1, keepdims=True), 3),
}


@pytest.mark.parametrize("name", BATCHED)
def test_no_array_is_batch_by_batch(name):
    """Each example's 3 × 3 at most, for every example."""
    f, examples = BATCHED[name]
    J = assert_blocks(f, (normal(40, 3),), 0)
    assert all(np.size(a) < 40 * 40 for a in arrays_of(J[0, 0]))
    numbers = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(J))
    assert numbers <= 3 * 40 * 3 * examples


def test_memory_of_a_residual_block_and_attention():
    W = [normal(4, 4, seed=k) for k in range(4)]

    def attention(x, Q, K, V, U):
        return x + jax.nn.softmax((x @ Q) @ (x @ K).T) @ (x @ V) @ U

    x = normal(6, 5, 4)
    J = assert_blocks(jax.vmap(attention, (0, *[None] * 4)), (x, *W), 0)
    assert stored(J) <= 3 * 6 * (5 * 4) ** 2  # (tokens · width)² an example, and not (batch · …)²

    def residual(x, A, B):
        for _ in range(2):
            x = x + jnp.tanh(x @ A) @ B
        return x

    J = assert_blocks(jax.vmap(residual, (0, None, None)), (normal(50, 4), *W[:2]), 0)
    assert stored(J) <= 4 * 50 * 4 * 4


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sum(jnp.sin(x) ** 2),
        lambda x: jnp.sum(jnp.log1p(jnp.exp(x))) + jnp.sum(x**3),
        lambda x: jnp.mean(jax.nn.softplus(x) * x),
        lambda x: jnp.sum(jax.vmap(lambda v: jnp.exp(v) * v)(x)),
    ],
    ids=["sin", "two", "softplus", "vmap"],
)
def test_hessians_of_separable_sums_are_diagonal(f):
    n = 60
    x = jnp.asarray(normal(n))
    H, dense, want = compiled(lambda x: (bs.hessian(f, format="operator")(x), bs.hessian(f)(x), jax.hessian(f)(x)))(x)
    np.testing.assert_allclose(H[0, 0].todense(), want, rtol=1e-9, atol=1e-12)
    assert sum(int(np.size(leaf)) for leaf in jax.tree.leaves(H)) <= 3 * n
    assert all(np.size(a) <= n for a in arrays_of(H[0, 0]))
    np.testing.assert_allclose(dense, want, rtol=1e-9, atol=1e-12)


def test_hessian_of_a_net_by_two_arguments():
    args = as_jax((normal(4, 3), *NET))

    def loss(*args):
        return jnp.sum(net(*args) ** 2)

    operators = bs.hessian(loss, (0, 2), format="operator")
    H, want = compiled(lambda *xs: (operators(*xs), jax.hessian(loss, (0, 2))(*xs)))(*args)
    by = (args[0], args[2])
    for got, expected in zip(blocks_of(H, by, by), jax.tree.leaves(want), strict=True):
        assert_close(got, expected)


def test_an_outer_product_stays_two_vectors():
    """300 → 1 → 300: the Jacobian is rank one and stays so."""
    a, b = normal(300, seed=1), normal(300, seed=2)
    J = assert_blocks(lambda x: jnp.sin(jnp.dot(jnp.asarray(a), x)) * jnp.asarray(b), (normal(300),), 0)
    assert stored(J) <= 4 * 300


def test_operators_apply_transpose_and_compose():
    f, g = (lambda x: jnp.tanh(x @ jnp.asarray(NET[0]))), (lambda y: jnp.sin(y) @ jnp.asarray(NET[2]))
    x = jnp.asarray(normal(BATCH, 3))
    A = bs.jacobian(f, format="operator")(x)
    B = bs.jacobian(g, format="operator")(f(x))
    t, c = jnp.asarray(normal(BATCH, 3, seed=5)), jnp.asarray(normal(BATCH, 2, seed=6))
    value, change = jax.jvp(lambda x: g(f(x)), (x,), (t,))
    (back,) = jax.vjp(lambda x: g(f(x)), x)[1](c)
    both = B @ A
    assert_close((both @ bs.vector([t]))[0], change)
    assert_close((both.T @ bs.vector([c]))[0], back)
    assert_close(both[0, 0].todense(), reference.jacobian(lambda x: g(f(x)))(x))
    assert value.shape == (BATCH, 2)


def test_trees_of_outputs_and_inputs():
    def f(p, q):
        return {"a": p["u"] * q[0], "b": (jnp.sum(p["v"]), q[1] @ p["v"])}

    args = ({"u": normal(3), "v": normal(2)}, (normal(3, seed=3), normal(4, 2)))
    J = assert_blocks(f, args, (0, 1))
    assert (0, 1) not in J.entries  # a does not see v
    assert (1, 0) not in J.entries


@pytest.mark.parametrize("order", ["auto", "forward", "reverse", "markowitz"])
def test_complex_functions(order):
    f = lambda z: jnp.exp(z @ z.T) * (2 + 1j)  # noqa: E731
    z = jnp.asarray(complex_normal(2, 3))
    J = bs.jacobian(f, holomorphic=True, order=order, format="operator")(z)
    assert_close(J[0, 0].todense(), reference.jacobian(f, holomorphic=True)(z))


def pieces(x):
    """x is read in boxes; the output is put together from boxes."""
    low, high = jnp.split(x, 2)
    return jnp.concatenate([jnp.sin(low), high * 2, low * high])


def test_pieces_of_the_input_give_a_mosaic():
    n = 12
    op = assert_blocks(pieces, (normal(n),), 0)[0, 0]
    assert sum(int(np.size(a)) for a in arrays_of(op)) <= 3 * n
    places = sorted((tile.out.box, tile.into.box) for tile in tiles_of(op))
    low, high = ((0,), (6,)), ((6,), (12,))
    assert places == [(low, low), (high, high), (((12,), (18,)), low), (((12,), (18,)), high)]


def test_a_mosaic_crosses_jit():
    assert_blocks(pieces, (normal(12),), 0)


def test_under_jit_and_vmap_operators_are_pytrees():
    x = jnp.asarray(positive(BATCH, 3))
    f = jax.vmap(lambda v: jnp.log(v) * jnp.sum(v))
    J = jax.jit(bs.jacobian(f, format="operator"))(x)
    assert_close(J[0, 0].todense(), reference.jacobian(f)(x))
    g = lambda v: jnp.log(v) * jnp.sum(v)  # noqa: E731
    many = jax.vmap(lambda v: bs.jacobian(g, format="operator")(v)[0, 0].todense())(x)
    assert_close(many, jax.vmap(jax.jacobian(g))(x))


def test_unknown_formats():
    for what in (bs.jacobian, bs.hessian):
        with pytest.raises(ValueError, match="unknown format 'dense'; use one of 'array'"):
            what(lambda x: jnp.sum(x**2), format="dense")(jnp.ones(3))


def test_structure_without_arrays_keeps_single_precision():
    """x[:, None] − x[None] has no array of its own: made dense, its ones are of the precision of x."""

    def pulls(x):
        d = x[:, None] - x[None]
        return (d / (jnp.sum(d**2, axis=-1, keepdims=True) + 0.1) ** 1.5).sum(axis=1)

    with jax.enable_x64(False):  # where a double would warn, and warnings are errors here
        x = jnp.asarray(normal(5, 3), jnp.float32)
        assert_close(jax.jit(bs.jacobian(pulls))(x), reference.jacobian(pulls)(x))
    J = bs.jacobian(pulls, format="operator")(jnp.asarray(normal(5, 3), jnp.float32))
    assert {a.dtype for a in arrays_of(J[0, 0])} <= {np.dtype(np.float32), np.dtype(bool)}
