"""Plans and Jacobians in any order, against jax.jacobian: random programs, reuse, refusals, trees, bottlenecks."""

import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

import backsolve as bs
from backsolve.planning.plan import ORDERS
from backsolve.tracing import jaxpr as jx

from .. import reference
from ..chains import examples
from .oracle import as_jax, assert_close, assert_same, compiled, complex_normal, normal
from .test_operator_format import blocks_of
from .test_random_programs import CALLS, DENSE, MOVING, SHAPES
from .test_random_programs import Program as Tensors


# ---- random programs ----------------------------------------------------------------------------------------------------
class Scalars:
    """A random DAG of numbers; every node reads one or two others, sources too; outputs are any nodes."""

    ONE = (jnp.sin, jnp.tanh, lambda a: a * 3.0, lambda a: -a, lambda a: a * a, lambda a: a / 2, lambda a: a + 1)
    TWO = (jnp.add, jnp.subtract, jnp.multiply, lambda a, b: a / (2 + b * b), jnp.arctan2, jnp.hypot)

    def __init__(self, seed, nodes, outputs):
        r = random.Random(seed)
        self.sources = r.randint(1, 3)
        self.steps = []
        for k in range(nodes):
            count = r.randint(1, 2)
            pick = [r.randrange(self.sources + k) for _ in range(count)]
            self.steps.append((r.choice(self.ONE if count == 1 else self.TWO), pick))
        self.ends = [r.randrange(self.sources + nodes) for _ in range(outputs)]  # some are inputs, some the same

    def __call__(self, *values):
        values = list(values)
        for f, pick in self.steps:
            values.append(f(*[values[i] for i in pick]))
        return [values[k] for k in self.ends]

    @property
    def point(self):
        return tuple(jnp.asarray(v) for v in normal(self.sources, seed=len(self.steps)))


def nodes_of(f, args, argnums=0):
    return bs.linearize(f, *args, argnums=argnums).L.shape[0]


@examples(15)
@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 3), st.data())
def test_random_graphs_of_numbers_in_random_orders(seed, nodes, outputs, data):
    f = Scalars(seed, nodes, outputs)
    argnums = tuple(range(f.sources))
    want = reference.jacfwd(f, argnums)(*f.point)
    assume(all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(want)))  # at 0/0 jacfwd and jacrev differ themselves
    order = data.draw(st.permutations(range(nodes_of(f, f.point, argnums))))
    for o in (*ORDERS, order, bs.plan(f, *f.point, argnums=argnums, order=order)):
        got = bs.jacobian(f, argnums, order=o)(*f.point)
        assert_same(got, want)
    J = bs.jacobian(f, argnums, order=order, format="operator")(*f.point)
    for got, expected in zip(blocks_of(J, f(*f.point), f.point), jax.tree.leaves(want), strict=True):
        assert_close(got, expected)


FAMILIES = {"dense": DENSE, "moving": MOVING | {"sin": DENSE["sin"]}, "calls": CALLS}


@pytest.mark.parametrize("family", FAMILIES)
def test_random_tensor_programs_in_random_orders(family):
    number = st.integers(0, 11)
    steps = st.lists(st.tuples(st.sampled_from(sorted(FAMILIES[family])), number, number, number), min_size=2, max_size=5)
    programs = st.builds(
        lambda a, b: Tensors(tuple(a), tuple(b)), st.lists(st.sampled_from(SHAPES), min_size=1, max_size=2), steps
    )

    @examples(6)
    @given(programs, st.integers(0, 10**6))
    def same_as_jax(program, seed):
        args = as_jax(program.arguments)
        argnums = tuple(range(len(args)))
        order = list(range(nodes_of(program, args, argnums)))
        random.Random(seed).shuffle(order)
        choice = seed % 3

        def everything(*args):
            chosen = order if choice else "auto"
            system = bs.linearize(program, *args, argnums=argnums)
            J = bs.jacobian(program, argnums, order=chosen, format="operator")(*args)
            blocks = [
                None if (op := J.entries.get(place)) is None else op.todense()
                for place in itertools.product(*map(range, J.shape))
            ]
            return system.jacobian(chosen), blocks, jax.jacrev(program, argnums)(*args)

        got, blocks, want = compiled(everything)(*args)
        assert_same(got, want)
        for block, expected in zip(blocks, jax.tree.leaves(want), strict=True):
            assert_close(np.zeros(expected.shape) if block is None else np.reshape(block, expected.shape), expected)

    same_as_jax()


LAYERS = {
    "scan": lambda x: lax.scan(lambda c, v: (jnp.tanh(c * v), c + v), x[0], x)[1],
    "custom_jvp": lambda x: jax.nn.silu(jax.nn.relu(x) + jax.nn.logsumexp(x)),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.sin, lambda v: v * v, x) * x[0],
    "while": lambda x: lax.fori_loop(0, 3, lambda i, v: jnp.sin(v) + x, x),
    "gather": lambda x: x[jnp.array([2, 0, 2])] * x,
    "matrix": lambda x: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(3), x),
    "repeated": lambda x: x * x,
    "fan": lambda x: [jnp.sin(x), jnp.sin(x) * x, x],
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_in_every_order(name):
    f = LAYERS[name]
    x = jnp.asarray(normal(3))
    n = nodes_of(f, (x,))

    def everything(x):
        orders = (*ORDERS, list(range(n))[::-1], [*range(1, n), 0])
        return [bs.jacobian(f, order=order)(x) for order in orders], jax.jacrev(f)(x)

    found, want = compiled(everything)(x)
    for got in found:
        assert_same(got, want)


HOLOMORPHIC = {
    "matmul": lambda z: jnp.tanh(z @ z.T) * (1 + 2j),
    "moved": lambda z: jnp.concatenate([z[:1] * 2j, z[1:].reshape(1, 3) @ (z.T @ z)]),
    "reduced": lambda z: jnp.sum(jnp.exp(z * 1j), axis=0) / (2 + z[0]),
}


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_holomorphic_functions_in_every_order(name):
    f, z = HOLOMORPHIC[name], jnp.asarray(0.3 * complex_normal(2, 3))
    n = nodes_of(f, (z,))

    def everything(z):
        orders = (*ORDERS, random.Random(1).sample(range(n), n))
        return [bs.jacobian(f, holomorphic=True, order=o)(z) for o in orders], jax.jacrev(f, holomorphic=True)(z)

    found, want = compiled(everything)(z)
    for got in found:
        assert_same(got, want)


def moved_by_boxes(x):
    """Boxes taken and put, at both ends and between."""
    low, high = x[:2] * x[2:4], jnp.pad(x[1:3] * 2, (1, 3))
    return jnp.concatenate([low, x[4:], x[:1]]), x.at[1:3].multiply(high[1:3]), lax.dynamic_update_slice(x, x[:2] * 3, (2,))


MORE = {
    "boxes": (moved_by_boxes, (6,)),
    "quadrants": (lambda X: jnp.block([[X[:1, :2] * 2, X[:1, 2:]], [X[1:, :2], jnp.sin(X[1:, 2:])]]), (3, 4)),
    "rows": (lambda X: jnp.stack([jnp.sin(X[0]), X[1] * X[2], X[2]]), (3, 4)),
    "pieces": (lambda x: jnp.array([x[i] * x[(i + 1) % 6] for i in range(6)]), (6,)),
    "dilated": (lambda x: lax.pad(x, 0.0, [(1, 3, 1)])[::2] ** 2, (6,)),
    "tiles": (lambda x: jnp.tile(x, 2) * jnp.repeat(x, 2), (6,)),
    "fourier": (lambda x: jnp.real(jnp.fft.fft(x) * (1 + 2j)), (6,)),
    "rounded": (lambda x: (x.astype(jnp.float32) * 2).astype(jnp.float64) * jnp.sum(x), (6,)),
    "broadcast": (lambda x: jnp.broadcast_to(x, (2, 6)) * jnp.arange(2.0)[:, None] + x, (6,)),
    "modulus": (lambda x: jnp.abs(lax.complex(x, x**2)), (6,)),
}


@pytest.mark.parametrize("name", MORE)
def test_moves_in_every_order(name):
    f, shape = MORE[name]
    x = jnp.asarray(normal(*shape))
    n = nodes_of(f, (x,))
    orders = (*ORDERS, random.Random(3).sample(range(n), n))

    def everything(x):
        return [bs.jacobian(f, order=o)(x) for o in orders], jax.jacrev(f)(x)

    found, want = compiled(everything)(x)
    for got in found:
        assert_same(got, want, 1e-6 if name == "rounded" else None)
    J = bs.jacobian(f, format="operator")(x)
    for got, expected in zip(blocks_of(J, f(x), x), jax.tree.leaves(want), strict=True):
        assert_close(got, expected, 1e-6 if name == "rounded" else None)


def test_three_sums_without_any_array():
    f = lambda X: jnp.tanh(X + X.T + X.sum())  # noqa: E731
    X = jnp.asarray(normal(3, 3))
    assert_same(bs.jacobian(f)(X), reference.jacobian(f)(X))


@pytest.mark.parametrize("how", ["eager", "jit"])
def test_leaky_relu(how):
    x = jnp.asarray(normal(4))
    for f in (jax.nn.leaky_relu, lambda x: jnp.tanh(jnp.where(x > 0, 2 * x, 3 * x))):
        for order in ("auto", "reverse", "markowitz"):
            J = bs.jacobian(f, order=order)
            assert_same((compiled(J) if how == "jit" else J)(x), reference.jacobian(f)(x))


# ---- tables filled entry by entry ----------------------------------------------------------------------------------------
def common_subsequence(x, n):
    """A softened length of the longest common subsequence of two: dynamic programming, one entry after the other."""
    table = jnp.zeros((n + 1, n + 1))
    for i, j in itertools.product(range(1, n + 1), repeat=2):
        match = jnp.exp(-((x[i - 1] - x[n + j - 1]) ** 2))
        best = jnp.maximum(table[i - 1, j], table[i, j - 1])
        table = table.at[i, j].set(jnp.maximum(best, table[i - 1, j - 1] + match))
    return table[n, n]


def test_a_table_filled_entry_by_entry_is_planned_in_no_time():
    """Orders in which the lazy products and sums of edges double at every entry are left alone: 2³⁶ terms here."""
    plan = bs.plan(lambda x: common_subsequence(x, 6), jax.ShapeDtypeStruct((12,), float))
    assert np.isfinite(plan.cost)


def predators(p):
    """A loop that is given its numbers one by one."""
    a, b, c, d = p

    def step(i, s):
        x, y = s
        return jnp.stack([x + 0.1 * (a * x - b * x * y), y + 0.1 * (c * x * y - d * y)])

    return lax.fori_loop(0, 20, step, jnp.ones(2))


def test_a_loop_that_is_given_several_numbers_costs_what_it_does():
    plan = bs.plan(predators, jnp.ones(4))
    assert plan.method == "columns"  # four through one loop, beside the loop itself
    assert plan.cost > 20 * 4 * 8
    p = jnp.array([0.5, 0.4, 0.3, 0.2])
    expected = reference.jacobian(predators)(p)
    for order in (*ORDERS, plan):
        J = bs.jacobian(predators, order=order)
        for found in (J(p), jax.jit(J)(p), jax.jit(jax.vmap(J))(p[None])[0]):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_loop_goes_forth_where_rows_and_columns_are_as_many():
    """Back it goes by what it has put down at each step."""

    def orbit(s):
        return lax.fori_loop(0, 5, lambda i, s: s + 0.1 * jnp.stack([s[1], -jnp.sin(s[0])]), s)

    def loops(J):
        jaxpr = jax.make_jaxpr(jax.jit(J))(jnp.ones(2)).eqns[0].params["jaxpr"].jaxpr
        return [eqn.params["reverse"] for eqn in jx.every_equation(jaxpr) if eqn.primitive.name == "scan"]

    assert loops(bs.jacobian(orbit)) == [False]


def test_adding_at_indices_costs_more_than_picking_by_them(double_precision):
    """The transpose of a gather is a scatter, entry after entry; forwards it is a part of the loop that reads it."""
    r = np.random.default_rng(0)
    x, knots, values = r.uniform(size=20), np.linspace(0, 1, 100), r.normal(size=100)

    def interpolated(values):
        return jnp.interp(x, knots, values)

    assert bs.plan(interpolated, values).method == "columns"
    for f in (
        interpolated,
        lambda v: jnp.sum(interpolated(v) ** 2),
        lambda v: jax.ops.segment_sum(v, jnp.arange(100) % 7, 7),
    ):
        expected = reference.jacobian(f)(values)
        for order in ORDERS:
            J = bs.jacobian(f, order=order)
            for found in (J(values), jax.jit(J)(values), jax.jit(jax.vmap(J))(values[None])[0]):
                np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_a_table_filled_entry_by_entry_in_markowitz_order(double_precision):
    x = jnp.linspace(0.1, 1.0, 8)

    def f(x):
        return common_subsequence(x, 4)

    for found in (bs.jacobian(f, order="markowitz")(x), jax.jit(bs.jacobian(f, order="markowitz"))(x)):
        np.testing.assert_allclose(found, reference.jacobian(f)(x), rtol=1e-10, atol=1e-12)
