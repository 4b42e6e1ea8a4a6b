"""Long stretches between loops and gathers are one kernel each: the same numbers, wherever the program stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.xla.materialize import SPARSE, materialized
from benchmarks.models import loop_models as models

from ..capture.oracle import assert_close, normal

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA decides")
N = 3_000


def shared(x, count=17):
    """Values that several loops read, so that each gets a border; two of them are the same."""
    several = []
    for k in [*range(count), 2]:
        y = x
        for _ in range(9):
            y = y * x * 0.5 - (k + 1)
        several.append(y)
    return [0.1 * y[k:] * y[: y.shape[0] - k] for y in several for k in range(2)]


def one(x):
    return shared(x)


def behind_a_sort(x):
    """Values of the first stretch are read in the second too, and are results; one result is known, one given."""
    first = shared(x)
    order = jnp.sort(first[0] + first[6])
    return [*first, order, *shared(jnp.tanh(order) + 0.1 * jnp.cos(first[4])), jnp.ones(3), x, x[::2]]


def between_loops(x):
    """The second loop starts where the first ends, and reads what was made in between, the first of which is repeated."""

    def step(c, v):
        return jnp.tanh(c + v), c * v

    end, states = lax.scan(step, x[0], x)
    _, again = lax.scan(step, x[0], x)
    some = shared(states + again)
    last, more = lax.scan(step, end, jnp.sin(some[0] + 2 * some[8]))
    return last, shared(jnp.sin(more * states)), some


def by_an_index(x):
    return shared(x[jnp.argsort(x)])


PROGRAMS = {"one": (one, 1), "sort": (behind_a_sort, 2), "loops": (between_loops, 2), "index": (by_an_index, 1)}


def kernels(f, x):
    """How many stretches are one kernel."""
    program = jax.make_jaxpr(lambda x: materialized(f, [x], SPARSE))(x)
    return sum(e.primitive.name == "one_kernel" for e in program.eqns)


WAYS = {
    "jit": jax.jit,
    "vmap": lambda f: jax.jit(jax.vmap(f)),
    "map": lambda f: lambda x: lax.map(f, x),
    "jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (jnp.cos(x),))[1]),
    "grad": lambda f: jax.jit(jax.grad(lambda x: sum(jnp.sum(y**2) for y in jax.tree.leaves(f(x))))),
}


@pytest.mark.parametrize(
    ("way", "program"),
    [("jit", "one"), ("jit", "sort"), ("jit", "loops"), ("vmap", "loops"), *((way, "index") for way in WAYS)],
)
def test_the_numbers_are_the_same(way, program):
    f, count = PROGRAMS[program]
    x = jnp.asarray(normal(2, N) if way in ("vmap", "map") else normal(N))
    assert kernels(f, x.reshape(-1)[:N]) == count
    got, want = WAYS[way](lambda x: materialized(f, [x], SPARSE))(x), WAYS[way](f)(x)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(assert_close, got, want)


@pytest.mark.usefixtures("as_users_compile")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_that_are_none_stay(dtype):
    x = normal(N).astype(dtype)
    x[:4] = np.nan, np.inf, -np.inf, -0.0
    got = jax.jit(lambda x: materialized(one, [x], SPARSE))(x)
    for y, want in zip(got, jax.jit(one)(x), strict=True):
        assert y.dtype == dtype
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_programs_of_few_borders_stay_as_they_are():
    """So do those of few numbers, which have none, those of many, which several threads work out."""
    x = jnp.asarray(normal(N))
    assert kernels(lambda x: shared(x, 3), x) == 0
    assert kernels(one, x[:20]) == 0
    assert kernels(one, jnp.asarray(normal(200_000))) == 0


def test_a_stretch_of_constants_is_no_kernel():
    """A call without arguments, which the compiler finds constant."""

    def f(x):
        return [*shared(jnp.sin(lax.iota(x.dtype, N))), x]

    x = jnp.linspace(0.5, 1.5, N)
    assert kernels(f, x) == 0
    for got, right in zip(jax.jit(lambda x: materialized(f, [x], SPARSE))(x), f(x), strict=True):
        assert_close(got, right)


def test_effects_keep_their_order():
    seen = []

    def f(x):
        end = jnp.sort(x)[0]
        jax.debug.callback(lambda v: seen.append("behind a sort"), end, ordered=True)
        jax.debug.callback(lambda v: seen.append("at once"), x[0], ordered=True)
        return shared(x)

    x = jnp.asarray(normal(N))
    assert kernels(f, x) == 0
    got = jax.jit(lambda x: materialized(f, [x], SPARSE))(x)
    jax.effects_barrier()
    assert seen == ["behind a sort", "at once"]
    jax.tree.map(assert_close, got, one(x))


def test_a_filter():
    """A Hessian through a loop: what is done for all of its steps between its four loops."""
    model = models.kalman(N)
    x = jnp.asarray(model.point)
    H = bs.hessian(model.function, format="sparse")
    program = jax.make_jaxpr(H)(x)
    while len(program.jaxpr.eqns) == 1:
        program = program.jaxpr.eqns[0].params["jaxpr"]
    names = [e.primitive.name for e in program.jaxpr.eqns]
    assert names.count("scan") + names.count("small_loop") == 4
    assert names.count("one_kernel") == 2
    want = jax.jit(jax.hessian(model.function))(x)
    assert_close(H(x).todense(), want)
    assert_close(jax.jit(jax.vmap(lambda x: H(x).todense()))(x[None])[0], want)


def lines(count, seed=0):
    """A program of numbers, line by line, in which each reads two of those before it."""
    drawn = np.random.default_rng(seed).integers(0, 8, (count, 3))

    def function(x):
        v = [x[i] for i in range(8)]
        for k, (i, a, b) in enumerate(drawn):
            v[i] = jnp.sin(v[a]) * v[b] if k % 3 else 0.5 * v[a] + jnp.where(v[b] > 0.3, v[b], -v[i])
        return jnp.stack(v)

    return function


@pytest.mark.parametrize(("count", "seed", "dtype"), [(60, 0, np.float64), (60, 1, np.float64), (30, 2, np.float32)])
def test_a_long_program_of_numbers_is_that_of_jax(count, seed, dtype):
    function, points = lines(count, seed), normal(6, 8).astype(dtype)
    by_jax = jax.jit(jax.vmap(jax.jacfwd(lines(count, seed))))(jnp.asarray(points, np.float64))
    sparse = jax.jit(lambda x: bs.jacobian(function, format="sparse")(x).todense())
    for ours in (jax.jit(bs.jacobian(function)), jax.jit(bs.jacobian(function, order="reverse")), sparse):
        apart = jnp.stack([ours(x) for x in points])
        for J in (apart, jax.vmap(ours)(points), jax.jit(jax.vmap(ours))(points)):
            np.testing.assert_allclose(J, by_jax, atol=1e-10 if dtype == np.float64 else 1e-4)


def test_a_program_of_numbers_is_compiled_once_not_once_for_each_loop_that_reads_it():
    derivative = bs.jacobian(lines(100), format="sparse")
    traced = jax.jit(lambda x: derivative(x).data).trace(normal(8))
    equations = str(traced.jaxpr).count(" = ")
    assert traced.lower().compile().as_text().count(" = ") < 5 * equations
