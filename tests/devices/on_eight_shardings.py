"""Derivatives of sharded programs, under explicit and automatic sharding: numbers and shardings are those of JAX's own."""

import contextlib
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import backsolve as bs

MODES = {
    "explicit": (AxisType.Explicit, AxisType.Explicit),
    "automatic": (AxisType.Auto, AxisType.Auto),
    "mixed": (AxisType.Explicit, AxisType.Auto),
}


@pytest.fixture(params=MODES)
def mesh(request):
    made = jax.make_mesh((4, 2), ("d", "m"), axis_types=MODES[request.param])
    with jax.set_mesh(made):
        yield made


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def put(mesh, x, *spec):
    return jax.device_put(x, NamedSharding(mesh, P(*spec)))


def is_explicit(mesh):
    return mesh.axis_types[0] == AxisType.Explicit


def agree(got, want, *, where=True):
    """Equal to rounding and, with ``where``, in one sharding."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        largest = max(1.0, float(np.abs(np.asarray(b)).max(initial=0)))
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=3e-5 * largest)
        if where:
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.sharding, b.sharding)


def run(f, jitted, *args):
    return (jax.jit(f) if jitted else f)(*args)


# ---- losses as people write them: of parameters, and of data over the axis "d" --------------------------------------------
def net(mesh):
    def loss(p, x, y):
        h = jnp.tanh(x @ p["W"] + p["b"])
        return jnp.mean(jnp.sum((h @ p["V"] - y) ** 2, axis=1))

    p = {"W": put(mesh, numbers(0, 6, 10)), "b": put(mesh, numbers(1, 10)), "V": put(mesh, numbers(2, 10, 3))}
    return loss, p, put(mesh, numbers(3, 16, 6), "d"), put(mesh, numbers(4, 16, 3), "d")


def tensor_parallel(mesh):
    two = mesh.axis_types[1] == AxisType.Explicit
    whole = {"out_sharding": P("d", None)} if two else {}

    def loss(p, x, y):
        return jnp.mean((jnp.matmul(jax.nn.gelu(x @ p[0]), p[1], **whole) - y) ** 2)

    p = [put(mesh, numbers(0, 6, 10), None, "m"), put(mesh, numbers(1, 10, 3), "m")]
    return loss, p, put(mesh, numbers(2, 16, 6), "d"), put(mesh, numbers(3, 16, 3), "d")


def sharded_weights(mesh):
    """Weights that lie in pieces and are gathered for use: their gradients are scattered again."""
    everywhere = NamedSharding(mesh, P())

    def gathered(w):
        return jax.sharding.reshard(w, P()) if is_explicit(mesh) else jax.lax.with_sharding_constraint(w, everywhere)

    def loss(p, x, y):
        return jnp.mean((jax.nn.relu(x @ gathered(p[0])) @ gathered(p[1]) - y) ** 2)

    p = [put(mesh, numbers(0, 8, 12), "d"), put(mesh, numbers(1, 12, 3), "d")]
    return loss, p, put(mesh, numbers(2, 16, 8), "d"), put(mesh, numbers(3, 16, 3), "d")


def batch_norm(mesh):
    def loss(p, x, y):
        z = (x - jnp.mean(x, 0)) / jnp.sqrt(jnp.var(x, 0) + 1e-3)
        return jnp.sum((jnp.cos(z * p["scale"] + p["shift"]) - y) ** 2)

    p = {"scale": put(mesh, numbers(0, 6)), "shift": put(mesh, numbers(1, 6))}
    return loss, p, put(mesh, numbers(2, 16, 6), "d"), put(mesh, numbers(3, 16, 6), "d")


def attention(mesh):
    """Heads over "d"."""
    whole = {"out_sharding": P()} if is_explicit(mesh) else {}

    def loss(p, x, y):
        q, k, v = (jnp.einsum("btc,chd->bthd", x, w) for w in p[:3])
        a = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k), axis=-1)
        z = jnp.einsum("bhts,bshd->bthd", a, v)
        return jnp.mean((jnp.einsum("bthd,hdc->btc", z, p[3], **whole) - y) ** 2)

    p = [put(mesh, numbers(k, 6, 4, 3) / 3, None, "d") for k in range(3)] + [put(mesh, numbers(3, 4, 3, 6), "d")]
    return loss, p, put(mesh, numbers(4, 2, 5, 6)), put(mesh, numbers(5, 2, 5, 6))


def masks_and_pieces(mesh):
    def loss(p, x, y):
        h = x @ p
        h = jnp.where(h > 0, h, 0.1 * h) + jnp.where(jnp.arange(6) > 2, h, 0.0)
        left, right = jnp.split(h, 2, axis=1)
        h = jnp.concatenate(
            [left * right, jnp.pad(right, ((0, 0), (1, 2)))[:, 1:4], jnp.reshape(x, (16, 2, 3))[:, 1]], axis=1
        )
        return jnp.sum(h**3) + jnp.max(h) + jnp.sum(x.at[:, 1].set(0.0)[:, jnp.array([0, 2])] ** 2) + jnp.sum(y * x)

    return loss, put(mesh, numbers(0, 6, 6)), put(mesh, numbers(1, 16, 6), "d"), put(mesh, numbers(2, 16, 6), "d")


def inside_and_around_loops(mesh):
    def loss(p, x, y):
        h = jax.lax.fori_loop(0, 3, lambda i, h: jnp.sin(h) @ p, x)
        h = jax.checkpoint(lambda h: jnp.tanh(h @ p))(h)
        h = jax.lax.cond(jnp.sum(p) > 0, jnp.sin, jnp.cos, h)
        return jnp.sum(jax.vmap(lambda r, t: jnp.sum(r - t) ** 2)(h, y))

    return loss, put(mesh, numbers(0, 6, 6)), put(mesh, numbers(1, 16, 6), "d"), put(mesh, numbers(2, 16, 6), "d")


def over_shard_map(mesh):
    """Differences of neighbours by ``ppermute``, and a mean by ``pmean``."""
    axes = set(mesh.axis_names) if mesh.axis_types[0] == mesh.axis_types[1] else {"d"}

    def local(p, x, y):
        n = jax.lax.axis_size("d")
        before = jax.lax.ppermute(x[-1:], "d", [(k, (k + 1) % n) for k in range(n)])
        return jax.lax.pmean(jnp.mean((jnp.sin(x @ p) - jnp.concatenate([before, x[:-1]]) * y) ** 3), "d")

    loss = jax.shard_map(local, in_specs=(P(), P("d"), P("d")), out_specs=P(), axis_names=axes)
    return loss, put(mesh, numbers(0, 6, 6)), put(mesh, numbers(1, 16, 6), "d"), put(mesh, numbers(2, 16, 6), "d")


LOSSES = [
    net,
    tensor_parallel,
    sharded_weights,
    batch_norm,
    attention,
    masks_and_pieces,
    inside_and_around_loops,
    over_shard_map,
]


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_lie_where_those_of_jax_lie(mesh, loss, jitted):
    f, *args = loss(mesh)
    agree(run(bs.value_and_grad(f, argnums=(0, 1)), jitted, *args), jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(*args))


@pytest.mark.parametrize("loss", LOSSES)
def test_products_lie_where_those_of_jax_lie(mesh, loss):
    f, p, *data = loss(mesh)

    def along(derivatives):
        def products(p, *data):
            def of(p):
                return f(p, *data)

            t = jax.tree.map(jnp.cos, p)
            hvp = bs.hvp if derivatives is bs else lambda f, x, t: jax.jvp(jax.grad(f), x, t)[1]
            return derivatives.jvp(of, (p,), (t,)), derivatives.vjp(of, p)[1](f(p, *data)), hvp(of, (p,), (t,))

        return products

    agree(run(along(bs), True, p, *data), run(along(jax), True, p, *data))


@pytest.mark.parametrize("jitted", [False, True])
def test_jacobians_of_sharded_arrays(mesh, jitted):
    x, W = put(mesh, numbers(0, 8, 3), "d"), put(mesh, numbers(1, 3, 4))

    def f(x, W):
        return jnp.tanh(x @ W)

    want = jax.jit(jax.jacobian(f, argnums=(0, 1)))(x, W)
    for order in ("auto", "forward", "reverse", "markowitz"):
        agree(run(bs.jacobian(f, argnums=(0, 1), order=order), jitted, x, W), want, where=False)
    g = partial(jax.tree.reduce, jnp.add)
    agree(
        run(bs.hessian(lambda W: g(jnp.sum(f(x, W) ** 2))), jitted, W),
        jax.jit(jax.hessian(lambda W: g(jnp.sum(f(x, W) ** 2))))(W),
    )


@pytest.mark.parametrize("jitted", [False, True])
def test_per_example_derivatives_of_a_sharded_batch(mesh, jitted):
    W, x = put(mesh, numbers(0, 6, 4)), put(mesh, numbers(1, 16, 6), "d")
    for of in ("grad", "hessian"):

        def each(derivatives, of=of):
            return jax.vmap(getattr(derivatives, of)(lambda r, W: jnp.sum(jnp.tanh(r @ W) ** 2)), (0, None))

        agree(run(each(bs), jitted, x, W), jax.jit(each(jax))(x, W))


@pytest.mark.parametrize("jitted", [False, True])
def test_derivatives_inside_a_shard_map(mesh, jitted):
    """Also where the basis of a Jacobian is one for all devices, and the function is not."""
    W, x = put(mesh, numbers(0, 6, 4)), put(mesh, numbers(1, 16, 6), "d")
    axes = {"d"} if mesh.axis_types[0] != mesh.axis_types[1] else {"d", "m"}

    def local(derivatives):
        def one(W, x):
            g = derivatives.grad(lambda W: jax.lax.pmean(jnp.mean(jnp.tanh(x @ W) ** 2), "d"))(W)
            J = derivatives.jacobian(lambda r: jnp.tanh(r[1:] * r[:-1]))(x[0])
            return g, J, derivatives.hessian(lambda r: jnp.sum(jnp.tanh(r[1:] * r[:-1])))(x[0])

        return jax.shard_map(one, in_specs=(P(), P("d")), out_specs=(P(), P("d"), P("d")), axis_names=axes)

    agree(run(local(bs), jitted, W, x), jax.jit(local(jax))(W, x))


def _loop(x):
    c, ys = jax.lax.scan(lambda c, _: (jnp.sin(c) * x, c), x, length=3)
    return jnp.sum(c) + jnp.sum(ys**2)


def _loop_from_zeros(x):
    return jnp.sum(jax.lax.scan(lambda c, t: (c * jnp.sin(x) + t, None), jnp.zeros_like(x), jnp.arange(3.0))[0])


def _counted(x):
    return jnp.sum(jax.lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) * x, x))


def _chosen(x):
    return jnp.sum(jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x))


def _solved(x):
    return jnp.sum(jnp.linalg.solve(2 * jnp.eye(x.size) + x[:, None] * x, x) ** 2)


@pytest.mark.parametrize(
    ("f", "jitted"),
    [(_counted, True), *product((_loop, _loop_from_zeros, _chosen, _solved), (False, True))],  # see docs/limitations.md
)
def test_loops_inside_a_shard_map(mesh, f, jitted):
    """Its types say over which devices a value varies: those of seeds and of zeros do so too."""
    x = put(mesh, numbers(0, 8, 3), "d")
    axes = {"d"} if mesh.axis_types[0] != mesh.axis_types[1] else {"d", "m"}

    def local(derivatives):
        def one(x):
            g, H = derivatives.grad(f), derivatives.hessian(f)
            return g(x[0]), derivatives.jacobian(lambda x: jnp.sin(g(x)) * f(x))(x[0]), H(x[0])

        return jax.shard_map(one, in_specs=P("d"), out_specs=P("d"), axis_names=axes)

    agree(run(local(bs), jitted, x), jax.jit(local(jax))(x))


@pytest.mark.parametrize("f", [_counted, _loop, _loop_from_zeros, _chosen, _solved])
def test_sparse_derivatives_of_loops_inside_a_shard_map(mesh, f):
    """Patterns and numbers are worked out from types, and for seeds, that vary over the same devices."""
    x = put(mesh, numbers(0, 8, 3), "d")
    axes = {"d"} if mesh.axis_types[0] != mesh.axis_types[1] else {"d", "m"}

    def along(x):
        return jnp.sin(x) * f(x)

    def ours(x):
        J, H = bs.jacobian(along, format="sparse")(x[0]), bs.hessian(f, format="sparse")(x[0])
        return J.todense(), H.todense(), bs.solve_jacobian(lambda x: 9 * x + along(x), x[0], x[0])

    def theirs(x):
        J, H = jax.jacobian(along)(x[0]), jax.hessian(f)(x[0])
        return J, H, jnp.linalg.solve(9 * jnp.eye(3) + J, x[0])

    got, want = (jax.jit(jax.shard_map(g, in_specs=P("d"), out_specs=P("d"), axis_names=axes))(x) for g in (ours, theirs))
    agree(got, want)


def test_donated_parameters_stay_where_they_are(mesh):
    f, p, *data = sharded_weights(mesh)

    def step(derivatives):
        def update(p, *data):
            return jax.tree.map(lambda w, g: w - 0.1 * g, p, derivatives.grad(f)(p, *data))

        where = jax.tree.map(lambda w: w.sharding, p)
        return jax.jit(update, donate_argnums=0, in_shardings=(where, *[x.sharding for x in data]), out_shardings=where)

    copies = [jax.tree.map(lambda w: w + 0, p) for _ in range(2)]
    agree(step(bs)(copies[0], *data), step(jax)(copies[1], *data))
    assert all(w.is_deleted() for w in copies[0])


def test_a_cotangent_is_brought_where_its_value_lies(mesh):
    """The factor of a product has the sharding of its own cotangent, not of what it is multiplied with."""
    x, v = put(mesh, numbers(0, 8, 8), "d"), put(mesh, numbers(1, 8, 8))

    def f(v, x):
        return jnp.sum(jnp.sin(x) * v)

    agree(jax.jit(bs.grad(f))(v, x), jax.jit(jax.grad(f))(v, x), where=is_explicit(mesh))


@pytest.mark.parametrize("jitted", [False, True])
def test_a_part_with_other_kinds_of_axes(jitted):
    mesh = jax.make_mesh((4, 2), ("d", "m"), axis_types=MODES["explicit"])
    with jax.set_mesh(mesh):
        W, x = put(mesh, numbers(0, 6, 4)), put(mesh, numbers(1, 16, 6), "d")

        def f(W, x):
            def inner(W, x):
                return jnp.sum(jnp.tanh(x @ W) ** 2, axis=1)

            return jnp.sum(jax.sharding.auto_axes(inner, axes=("d", "m"), out_sharding=P("d"))(W, x) ** 2)

        agree(run(bs.grad(f, argnums=(0, 1)), jitted, W, x), run(jax.grad(f, argnums=(0, 1)), jitted, W, x))


def test_without_a_mesh_in_the_context():
    """As `jax.make_mesh` makes it, and nothing set: arrays say where they lie."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    W, x = put(mesh, numbers(0, 6, 4)), put(mesh, numbers(1, 16, 6), "d")

    def f(W, x):
        return jnp.mean(jnp.tanh(x @ W) ** 2)

    want = jax.jit(jax.grad(f, argnums=(0, 1)))(W, x)
    for jitted in (True, False):
        agree(run(bs.grad(f, argnums=(0, 1)), jitted, W, x), want)


def with_numbers_of_its_own(W, x):
    """A mask, and a variance: numbers beside the arrays, that eager JAX places on one device."""
    z = x / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) @ W
    return jnp.mean(jnp.where(z > 0, z**2, 0.1))


def test_eagerly_without_a_mesh_in_the_context():
    """Where JAX itself asks for one: the arrays of the point have it."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    W, x = put(mesh, numbers(0, 6, 4)), put(mesh, numbers(1, 16, 6), "d")
    with jax.set_mesh(mesh):
        want = jax.jit(jax.grad(with_numbers_of_its_own, argnums=(0, 1)))(W, x)
    agree(bs.grad(with_numbers_of_its_own, argnums=(0, 1))(W, x), want)
    u, four = (put(mesh, jnp.full(16, k), "d") for k in (2.5, 4.0))
    agree(bs.newton(lambda u: u**2 - jnp.where(four > 0, four, 0.0), u, tol=1e-6).x, four / 2)
    agree(bs.solve_jacobian(lambda u: jnp.where(u > 0, 4.0 * u, u), u, four), four / 4)


def numbers_of_a_point(r):
    return jnp.stack([r[0] * r[1], jnp.sin(r[2]) * r[0], r[1] ** 2])


@pytest.mark.parametrize("in_context", [False, True])
@pytest.mark.parametrize("jitted", [False, True])
def test_jacobians_of_a_sharded_batch_of_numbers(jitted, in_context):
    """Of which some are zero, whatever the example: these are no part of the batch, nor of its mesh."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x = put(mesh, numbers(0, 64, 3), "d")
    with jax.set_mesh(mesh) if in_context else contextlib.nullcontext():
        ours, theirs = (run(jax.vmap(d.jacobian(numbers_of_a_point)), jitted, x) for d in (bs, jax))
        agree(ours, theirs)
