"""Sparse Jacobians whose rows lie on eight devices: numbers of one device, and no more collectives than JAX's own."""

import collections
import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import backsolve as bs

from .. import reference

BYTES = {"f32": 4, "s32": 4, "pred": 1}


def periodic(u):
    return jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1) + u**3


def bounded(u):
    """Zero at the ends: the first and the last row are shorter."""
    w = jnp.pad(u, 1)
    return w[2:] - 2 * w[1:-1] + w[:-2] + u[::1] ** 3


def nonlinear(u):
    return jnp.sin(jnp.roll(u, 1) * u) * jnp.exp(-jnp.roll(u, -1)) + jnp.where(u > 0.5, u, u**2)


def plane(U):
    around = jnp.roll(U, 1, 0) + jnp.roll(U, -1, 0) + jnp.roll(U, 1, 1) + jnp.roll(U, -1, 1)
    return around - 4 * U + jnp.sin(U)


def box(U):
    """Neighbours across corners too."""
    return sum((i + 2 * j + 0.5) * jnp.roll(U, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) * U


CASES = [(periodic, (256,)), (bounded, (256,)), (nonlinear, (256,)), (plane, (32, 8))]


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def energy(U):
    return jnp.sum((U[1:] - U[:-1]) ** 4) + jnp.sum((U[:, 1:] - U[:, :-1]) ** 4) + jnp.sum(jnp.cos(U))


HESSIANS = [(rosenbrock, (256,)), (energy, (32, 8))]


def reaction(s):
    u, v = s["u"], s["v"]
    return {"u": jnp.roll(u, 1) - u * v**2, "v": jnp.roll(v, -1) * v + u * v**2}


def spread(shape, devices=8):
    mesh = jax.make_mesh((devices,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    x = jnp.linspace(0.1, 1.0, int(np.prod(shape))).reshape(shape)
    return x, jax.device_put(x, NamedSharding(mesh, P("d")))


def check_no_more(ours, theirs):
    """As many collectives as JAX's at most, of kinds that its have, and none that gathers."""
    assert {kind for kind, _ in ours} <= {kind for kind, _ in theirs} - {"all-gather"}
    assert len(ours) <= len(theirs)


def collectives(f, *args):
    """Kind and bytes of each collective of the compiled program."""
    text = jax.jit(f).lower(*args).compile().as_text()
    kinds = "all-gather|all-reduce|collective-permute|reduce-scatter|all-to-all"
    found = []
    for types, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):  # several at once give a tuple
        for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", types):
            found.append((kind, BYTES[dtype] * int(np.prod([int(n) for n in sizes.split(",") if n]))))
    return found


def numbers(f):
    return lambda x: bs.jacobian(f, format="sparse")(x).data


def product(S, v):
    return S @ v.reshape(-1)


@pytest.mark.parametrize(("f", "shape"), CASES)
def test_numbers_stay_where_their_rows_are(f, shape):
    x, y = spread(shape)
    found = jax.jit(bs.jacobian(f, format="sparse"))(y)
    assert found.data.sharding.is_equivalent_to(NamedSharding(y.sharding.mesh, P("d")), 1)
    want = reference.jacobian(f)(x)
    np.testing.assert_allclose(found.todense(), want, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(found.to_scipy().toarray(), want.reshape(found.shape), rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(bs.jacobian(f, format="sparse")(y).todense(), want, rtol=2e-5, atol=1e-5)
    v = jnp.cos(y)
    for multiply in (product, jax.jit(product)):
        np.testing.assert_allclose(multiply(found, v), reference.jvp(f, (x,), (v,))[1].reshape(-1), rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(found.addressable_rows, np.arange(x.size))


@pytest.mark.parametrize(("f", "shape"), CASES)
def test_no_more_collectives_than_those_of_jax(f, shape):
    _, y = spread(shape)
    S = jax.jit(bs.jacobian(f, format="sparse"))(y)
    ours, theirs = collectives(numbers(f), y), collectives(jax.jacobian(f), y)
    check_no_more(ours, theirs)
    times, jvp = collectives(product, S, y), collectives(lambda x, v: jax.jvp(f, (x,), (v,))[1], y, y)
    check_no_more(times, jvp)


@pytest.mark.parametrize(("f", "shape"), HESSIANS)
def test_hessians_of_a_sum(f, shape):
    """As many collectives as a product of JAX's, each for all colours at once, and none that gathers."""
    x, y = spread(shape)
    found = jax.jit(bs.hessian(f, format="sparse"))(y)
    assert found.data.sharding.is_equivalent_to(NamedSharding(y.sharding.mesh, P("d")), 1)
    want = reference.hessian(f)(x)
    for H in (found, bs.hessian(f, format="sparse")(y)):
        np.testing.assert_allclose(H.todense(), want, rtol=2e-5, atol=1e-4 * np.abs(want).max())
    ours = collectives(lambda x: bs.hessian(f, format="sparse")(x).data, y)
    theirs = collectives(lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1], y, y)
    check_no_more(ours, theirs)
    times = collectives(product, found, y)
    assert {kind for kind, _ in times} == {"collective-permute"}
    assert len(times) <= len(theirs)


@pytest.mark.parametrize(("f", "shape"), [*CASES, (box, (16, 24))])
def test_transposes_shift_and_gather_nothing(f, shape):
    x, y = spread(shape)
    S = jax.jit(bs.jacobian(f, format="sparse"))(y)
    w = jnp.cos(y)
    want = reference.compiled(lambda x: jax.vjp(f, x)[1](jnp.cos(x))[0])(x).reshape(-1)

    def pulled(S, w):
        return S.T @ w.reshape(-1)

    eagerly = [pulled] if f is periodic else []  # many small exchanges, each of eight threads
    for multiply in (*eagerly, jax.jit(pulled), jax.jit(lambda S, w: w.reshape(-1) @ S)):
        np.testing.assert_allclose(multiply(S, w), want, rtol=2e-5, atol=2e-5)
    assert jax.jit(lambda S: S.T)(S).data.sharding.is_equivalent_to(S.data.sharding, 1)
    ours, theirs = collectives(pulled, S, w), collectives(lambda x, w: jax.vjp(f, x)[1](w)[0], y, w)
    assert {kind for kind, _ in ours} <= {"collective-permute"}
    assert len(ours) <= len(theirs)
    assert len(collectives(lambda S, w: w.reshape(-1) @ S, S, w)) <= len(theirs)


@pytest.mark.parametrize(("f", "shape"), [(bounded, (256,)), (plane, (32, 8))])
def test_several_vectors_and_the_diagonal_gather_nothing(f, shape):
    x, y = spread(shape)
    S = jax.jit(bs.jacobian(f, format="sparse"))(y)
    dense = np.asarray(reference.jacobian(f)(x)).reshape(S.shape)
    V = np.stack([np.cos(x).ravel(), np.sin(3 * x).ravel()], 1)
    W = jax.device_put(V, NamedSharding(y.sharding.mesh, P("d")))
    calls = [
        (lambda S, W: S @ W, dense @ V, {"collective-permute": 2}),
        (lambda S, W: S.T @ W, dense.T @ V, {"collective-permute": 2}),
        (lambda S, W: S.trace(), np.trace(dense), {"all-reduce": 1}),
        (lambda S, W: (S + 2 * bs.I).diagonal(), np.diagonal(dense) + 2, {}),
    ]
    for call, want, exchanged in calls:
        np.testing.assert_allclose(jax.jit(call)(S, W), want, rtol=2e-5, atol=1e-3 if want.ndim == 0 else 2e-5)
        assert collections.Counter(kind for kind, _ in collectives(call, S, W)) == exchanged


def test_several_leaves():
    """Two fields, each by each: four matrices, whose rows stay where they are."""
    x, y = spread((256,))
    fields, apart = {"u": x, "v": jnp.cos(x)}, {"u": y, "v": jnp.cos(y)}
    want = reference.jacobian(reaction)(fields)
    for made in (jax.jit(bs.jacobian(reaction, format="sparse")), bs.jacobian(reaction, format="sparse")):
        found = made(apart)
        for i in "uv":
            for j in "uv":
                np.testing.assert_allclose(found[i][j].todense(), want[i][j], rtol=2e-5, atol=1e-5)
                assert found[i][j].data.sharding.is_equivalent_to(y.sharding, 1)
    kinds = {kind for kind, _ in collectives(lambda s: jax.tree.leaves(bs.jacobian(reaction, format="sparse")(s)), apart)}
    assert kinds <= {"collective-permute", "all-reduce"}


def test_one_of_two_arguments_and_a_number():
    """By a number each row has one place, in the one column."""
    x, y = spread((256,))

    def f(u, k):
        return k * periodic(u) + k**2

    found = jax.jit(bs.jacobian(f, (0, 1), format="sparse"))(y, 1.5)
    for S, want in zip(found, reference.jacobian(f, (0, 1))(x, 1.5), strict=True):
        np.testing.assert_allclose(S.todense(), want, rtol=2e-5, atol=1e-5)
        assert S.data.sharding.is_equivalent_to(y.sharding, 1)


def test_more_than_64_colours():
    x, y = spread((512,))

    def f(x):
        return jnp.convolve(x, jnp.linspace(1.0, 2.0, 67), mode="same") * x

    found = jax.jit(bs.jacobian(f, format="sparse"))(y)
    np.testing.assert_allclose(found.todense(), reference.jacobian(f)(x), rtol=2e-5, atol=1e-2)
    assert found.data.sharding.is_equivalent_to(y.sharding, 1)


def memory(f, *args):
    """Bytes of arguments, results and all between, on one device."""
    found = jax.jit(f).lower(*args).compile().memory_analysis()
    return found.argument_size_in_bytes + found.output_size_in_bytes, found.temp_size_in_bytes


@pytest.mark.parametrize("f", [periodic, nonlinear, plane])
def test_weak_scaling(f):
    """As many rows a device, then as many devices: what each has, works with and exchanges stays as it is."""
    sizes, held, between = [], [], []
    for devices in (1, 2, 4, 8):
        _, y = spread((32 * devices,) if f is not plane else (8 * devices, 8), devices)
        S = jax.jit(bs.jacobian(f, format="sparse"))(y)
        calls = ((numbers(f), y), (product, S, y), (lambda S, v: S.T @ v.reshape(-1), S, y))
        sizes.append([sum(size for _, size in collectives(*call)) for call in calls])
        held.append([memory(*call)[0] for call in calls])
        between.append([memory(*call)[1] for call in calls])
    assert held[0] == held[1] == held[2] == held[3]
    for one, two, four, eight in zip(*sizes, strict=True):
        assert one == 0
        assert two >= four >= eight > 0
    for _, two, four, eight in zip(*between, strict=True):
        assert eight <= 1.05 * two
        assert four <= 1.05 * two


def test_a_matrix_without_equal_rows_is_that_of_one_device():
    """Half of the rows full, half with one place: nothing is filled up."""
    x, y = spread((64,))

    def f(x):
        return jnp.concatenate([x[:32] * jnp.sum(x[32:]), x[32:] ** 2])

    found = jax.jit(bs.jacobian(f, format="sparse"))(y)
    assert found.nnz == bs.jacobian(f, format="sparse")(x).nnz
    np.testing.assert_allclose(found.todense(), reference.jacobian(f)(x), rtol=1e-5)
    np.testing.assert_allclose(found @ y, reference.jvp(f, (x,), (x,))[1], rtol=1e-5)


def test_scipy_on_one_device_is_scipy_on_eight():
    x, y = spread((256,))
    ours, theirs = (bs.jacobian(bounded, format="sparse")(z).to_scipy() for z in (y, x))
    assert isinstance(ours, scipy.sparse.csr_array)
    assert abs(ours - theirs).max() < 1e-6


@pytest.mark.parametrize("in_context", [False, True])
def test_explicit_axes(in_context):
    """Rolled along the axis that is whole on each device, as JAX rolls no other; a Hessian is one of all devices."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    x = jnp.linspace(0.1, 1.0, 64).reshape(8, 8)
    y = jax.device_put(x, NamedSharding(mesh, P("d")))

    def f(x):
        return jnp.roll(x, 1, 1) * x + x**2

    with jax.set_mesh(mesh) if in_context else contextlib.nullcontext():
        found = bs.jacobian(f, format="sparse")(y)
        assert jax.typeof(found.data).sharding.spec == P("d")
        np.testing.assert_allclose(found.to_scipy().toarray(), reference.jacobian(f)(x).reshape(64, 64), rtol=1e-5)
        np.testing.assert_allclose(found @ y.reshape(-1), reference.jvp(f, (x,), (x,))[1].reshape(-1), rtol=1e-5)

        def energy(x):
            return jnp.sum(f(x) ** 2)

        found = bs.hessian(energy, format="sparse")(y)
        np.testing.assert_allclose(
            found.to_scipy().toarray(), reference.hessian(energy)(x).reshape(64, 64), rtol=1e-4, atol=1e-5
        )


def diverging(u):
    """Infinite coefficients of some neighbours, a root of zero, a product that overflows: alone in their places."""
    where = jnp.arange(u.size) % 37
    a = jnp.where(where == 5, jnp.inf, jnp.where(where == 11, jnp.nan, 2.0)) * jax.lax.stop_gradient(u)
    w = jnp.pad(jnp.sin(u), 1)
    around = jnp.roll(jnp.sqrt(jnp.where(where == 3, u - u, u)), 2) * jnp.roll(u, -1)
    return a * w[2:] + around - jnp.exp(1e4 * jnp.where(where == 7, u, -u)) * w[:-2]


def diverging_plane(U):
    w = jnp.log(U - U[2, 5]) * jnp.roll(U, 1, 0) + jnp.roll(jnp.sqrt(U), -1, 1)
    return jnp.cumprod(jnp.stack([w, jnp.roll(U, 1, 1) / (U - U[1, 1])]), axis=0)[1] + jnp.roll(U**2, -1, 0)


def kinds_of_numbers(x):
    return np.where(np.isnan(x), 3, np.where(np.isinf(x), np.sign(x), 0))


@pytest.mark.parametrize(("f", "shape"), [(diverging, (256,)), (diverging_plane, (32, 8))])
def test_infinite_and_nan_stay_in_their_places(f, shape):
    """Each entry is what it is on one device, and so are products with vectors that are not finite."""
    x, y = spread(shape)
    one, eight = (jax.jit(bs.jacobian(f, format="sparse"))(z) for z in (x, y))
    assert eight.data.sharding.is_equivalent_to(NamedSharding(y.sharding.mesh, P("d")), 1)
    want = np.asarray(one.todense())
    assert 0 < (~np.isfinite(want)).sum() < one.nnz / 8
    assert np.isnan(want).any()
    assert np.isinf(want).any()
    np.testing.assert_array_equal(kinds_of_numbers(eight.todense()), kinds_of_numbers(want))
    np.testing.assert_allclose(eight.todense(), want, rtol=1e-5, atol=1e-5)
    S, T = (jax.jit(bs.jacobian(bounded if f is diverging else plane, format="sparse"))(z) for z in (x, y))
    v = x.reshape(-1).at[0].set(jnp.inf).at[-1].set(jnp.nan)
    for A, B in ((S, T), (S.T, T.T), (one, eight)):
        np.testing.assert_array_equal(kinds_of_numbers(jax.jit(product)(B, v)), kinds_of_numbers(A @ v))


def test_what_is_only_filled_up_meets_no_infinite_entry():
    """Of a matrix that has no few diagonals, too, and under a product with several vectors."""
    x, y = spread((256,))

    def f(u):
        w = jnp.pad(u, 1)
        return w[2:] * u[3] - w[:-2] ** 2 + jnp.flip(u)

    one, eight = (jax.jit(bs.jacobian(f, format="sparse"))(z) for z in (x, y))
    assert eight.nnz > one.nnz
    for v in (x.at[0].set(jnp.inf), x.at[-1].set(jnp.nan)):
        np.testing.assert_array_equal(kinds_of_numbers(jax.jit(product)(eight, v)), kinds_of_numbers(one @ v))
        V = jnp.stack([v, x], 1)
        found, want = jax.jit(lambda S, V: S @ V)(eight, V), one @ V
        np.testing.assert_array_equal(kinds_of_numbers(found), kinds_of_numbers(want))
        np.testing.assert_allclose(found[:, 1], want[:, 1], rtol=1e-5, atol=1e-5)


def test_a_hessian_that_is_infinite_in_one_place():
    x, y = spread((256,))

    def energy(u):
        return jnp.sum(jnp.where(jnp.arange(255) == 100, jnp.inf, 1.0) * u[1:] * u[:-1]) + jnp.sum(u**3)

    one, eight = (bs.hessian(energy, format="sparse")(z).to_scipy().toarray() for z in (x, y))
    assert np.isinf(one).sum() == 2
    np.testing.assert_array_equal(kinds_of_numbers(eight), kinds_of_numbers(one))
    np.testing.assert_allclose(eight, one, rtol=1e-5)


@pytest.mark.parametrize("f", [diverging, bounded])
def test_masks_of_what_is_not_reached_exchange_nothing(f):
    _, y = spread((256,))
    assert {kind for kind, _ in collectives(numbers(f), y)} == {"collective-permute"}
    check_no_more(collectives(numbers(f), y), collectives(jax.jacobian(f), y))
