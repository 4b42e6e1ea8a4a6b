"""Plans in use: reused, refused, printed, of trees of arguments, and what they cost."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.planning.costs import START
from backsolve.planning.plan import ORDERS, choose_order, make_plan
from tests import reference

from .oracle import as_jax, assert_close, assert_same, compiled, normal, positive
from .test_plans import Scalars, nodes_of


# ---- reuse --------------------------------------------------------------------------------------------------------------
def net(x, W, V):
    h = jnp.tanh(W @ x)
    return V @ (h * jnp.sum(h)), h


ARGS = normal(3), normal(4, 3), normal(2, 4)


@pytest.mark.parametrize("order", ORDERS)
def test_a_plan_serves_every_point_of_its_shapes(order):
    plan = bs.plan(net, *ARGS, argnums=(0, 1), order=order)
    for seed in range(2):
        args = as_jax([normal(*a.shape, seed=seed + 9) for a in ARGS])
        want = reference.jacobian(net, (0, 1))(*args)
        assert_same(bs.jacobian(net, (0, 1), order=plan)(*args), want)
        assert_same(jax.jit(bs.jacobian(net, (0, 1), order=plan))(*args), want)
    assert_same(bs.linearize(net, *ARGS, argnums=(0, 1)).jacobian(plan), reference.jacobian(net, (0, 1))(*ARGS))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("f", [net, lambda x, W, V: (W @ jnp.sin(x)).sum() * V], ids=["net", "narrow"])
def test_an_order_alone_is_that_of_its_plan(f, order):
    network = bs.linearize(f, *ARGS, argnums=(0, 1, 2)).network()
    for dense in (False, True):
        choice, plan = choose_order(network, order, dense=dense), make_plan(network, order, dense=dense)
        assert (choice.order, choice.method) == (plan.order, plan.method)


def test_a_plan_of_shapes_alone():
    """Nothing is computed: shapes serve as well as arrays, and print callbacks stay silent."""
    calls = []

    def f(x):
        jax.debug.callback(lambda v: calls.append(v), x[0])
        return jnp.sin(x) * x

    x = jnp.asarray(normal(5))
    shapes = jax.ShapeDtypeStruct(x.shape, x.dtype)
    g = lambda x: jnp.sin(x) * x  # noqa: E731
    assert bs.plan(g, shapes) == bs.plan(g, x)
    assert_same(bs.jacobian(g, order=bs.plan(g, shapes))(x), reference.jacobian(g)(x))
    bs.plan(f, shapes)
    jax.effects_barrier()
    assert calls == []
    tree = {"a": shapes, "b": jax.ShapeDtypeStruct((), x.dtype)}
    assert bs.plan(lambda t: t["a"] * t["b"], tree).steps is not None


def test_plans_are_equal_where_they_are_made_alike_and_cross_jit():
    plan = bs.plan(net, *ARGS)
    assert plan == bs.plan(net, *ARGS)
    assert hash(plan) == hash(bs.plan(net, *ARGS))

    @jax.jit
    def through(plan, *args):
        return bs.jacobian(net, order=plan)(*args)

    assert_same(through(plan, *ARGS), reference.jacobian(net)(*ARGS))
    assert jax.tree.leaves(plan) == []


def test_a_plan_for_other_shapes_is_refused():
    plan = bs.plan(net, *ARGS)
    wider = as_jax((normal(5), normal(4, 5), normal(2, 4)))
    with pytest.raises(
        ValueError, match=r"the plan was made for .*\[3\], which here is .*\[5\].*for inputs of these shapes"
    ):
        bs.jacobian(net, order=plan)(*wider)
    with pytest.raises(ValueError, match=r"the plan was made for .*float64.*which here is float32"):
        bs.jacobian(net, order=plan)(*[jnp.asarray(a, jnp.float32) for a in ARGS])
    with pytest.raises(ValueError, match=r"the plan was made for a system with \d+ nodes and borders, this one has \d+;"):
        bs.jacobian(lambda x: jnp.sin(x), order=plan)(ARGS[0])
    with pytest.raises(ValueError, match="the plan was made for a system with"):
        bs.jacobian(net, (0, 1), order=plan)(*ARGS)


# ---- refusals -----------------------------------------------------------------------------------------------------------
def test_orders_that_are_none():
    n = nodes_of(net, ARGS)
    for order, message in (
        ([*range(n), 0], r"the order eliminates .* twice"),
        ([], r"the order misses .*; it must name each of the \d+ nodes once"),
        ([*range(n), n], rf"the order names node {n}, but the nodes are 0 to {n - 1}"),
        ([-1], "the order names node -1, but"),
        ("backward", "unknown order 'backward'; use one of 'auto', 'forward', 'reverse', 'markowitz'"),
    ):
        for use in (
            lambda order: bs.plan(net, *ARGS, order=order),
            lambda order: bs.jacobian(net, order=order)(*ARGS),
            lambda order: jax.jit(bs.jacobian(net, order=order))(*ARGS),
            lambda order: bs.linearize(net, *ARGS).jacobian(order),
        ):
            with pytest.raises(ValueError, match=message):
                use(order)
    with pytest.raises(ValueError, match="search is a time in seconds, zero or more, got -1"):
        bs.plan(net, *ARGS, search=-1)
    with pytest.raises(ValueError, match=r"(?s)argnums|argument"):
        bs.plan(net, *ARGS, argnums=7)


def test_messages_name_the_node_and_the_line():
    with pytest.raises(ValueError, match=r"the order misses .*\(.*test_plan_use\.py:\d+"):
        bs.plan(lambda x: jnp.sin(jnp.sin(x)) * x, 1.0, order=[])


# ---- the printed table --------------------------------------------------------------------------------------------------
def test_the_table_names_nodes_lines_and_other_orders():
    plan = bs.plan(net, *ARGS, order="reverse")
    lines = str(plan).splitlines()
    assert f"{plan.multiplications:,} multiplications, cost {plan.cost:,.0f}" in lines[0]
    for name in ("forward", "reverse", "markowitz"):
        assert f"{name} {plan.totals[name]:,}" in lines[1]
    assert plan.totals["reverse"] == plan.multiplications
    head = next(line for line in lines if "in × out" in line)
    rows = lines[lines.index(head) + 2 :]
    assert len(rows) == len(plan.steps)
    assert max(map(len, lines)) <= 100
    assert all(step.name.split()[0] in row for step, row in zip(plan.steps, rows, strict=True))
    assert all(f"{step.ins} × {step.outs}" in row for step, row in zip(plan.steps, rows, strict=True))
    assert any("float64[4]" in row for row in rows)
    assert all("test_plan_use.py:" in step.name for step in plan.steps)
    assert any(":" in row.split("(")[1] for row in rows if "(" in row)


# ---- trees --------------------------------------------------------------------------------------------------------------
TREES = {
    "tuple-argnums": (lambda x, y: jnp.sin(x) * jnp.sum(y), (0, 1)),
    "reversed-argnums": (lambda x, y: jnp.sin(x) * jnp.sum(y), (1, 0)),
    "list-argnums": (lambda x, y: x * y[0], [1]),
    "negative-argnums": (lambda x, y: x * y[0], -1),
    "an-output-is-an-input": (lambda x, y: (x, jnp.sin(x), y), (0, 1)),
    "an-output-twice": (lambda x, y: [jnp.sin(x)] * 2, 0),
    "unused-input": (lambda x, y: jnp.sin(x), (0, 1)),
    "constant-output": (lambda x, y: (jnp.ones(2), x), 0),
    "nothing-but-constants": (lambda x, y: jnp.ones(2), (0, 1)),
    "empty-output": (lambda x, y: {}, 0),
    "nested": (lambda x, y: {"a": (x[:1], [jnp.outer(x, y)]), "b": None}, (0, 1)),
    "scalar-output": (lambda x, y: jnp.sum(x) * y[1], (0, 1)),
    "empty-array": (lambda x, y: x[:0] * 2, 0),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_and_argnums(name):
    f, argnums = TREES[name]
    x, y = as_jax((normal(3), normal(2)))
    argnums = tuple(argnums) if isinstance(argnums, list) else argnums
    want = {} if name == "empty-output" else reference.jacrev(f, argnums)(x, y)  # JAX asks for at least one array
    found = compiled(lambda x, y: [bs.jacobian(f, argnums, order=order)(x, y) for order in ORDERS])(x, y)
    for got, order in zip(found, ORDERS, strict=True):
        assert_same(got, want, what=order)
    bs.jacobian(f, argnums, format="operator")(x, y)


def test_pytrees_of_arguments_and_aux():
    def f(p, scale):
        return {"y": jnp.tanh(p["W"] @ p["b"]) * scale}, {"loss": jnp.sum(p["W"]), "n": 3}

    p = {"W": jnp.asarray(normal(2, 3)), "b": jnp.asarray(normal(3))}
    want, expected = reference.jacrev(f, has_aux=True)(p, 2.0)
    for order in ("auto", "reverse"):
        got, aux = bs.jacobian(f, has_aux=True, order=order)(p, 2.0)
        assert_same(got, want)
        assert_same(aux, expected)


@pytest.mark.parametrize("leaf", ["x", "n"])
def test_integer_leaves(leaf):
    """A leaf without derivatives has zeros of its own dtype, as in jax.jacobian."""

    def f(p):
        return p["x"] * p["n"], jnp.sum(p["x"])

    p = {"x": jnp.asarray(normal(3)), "n": jnp.arange(3)}
    want = reference.jacrev(f, allow_int=True)(p)
    for order in ORDERS:
        got = bs.jacobian(f, allow_int=True, order=order)(p)
        for block, expected in zip(got, want, strict=True):
            assert block[leaf].shape == expected[leaf].shape
            assert block[leaf].dtype == expected[leaf].dtype
            assert_same(block["x"], expected["x"])
    with pytest.raises(TypeError, match="leaf 0 of the arguments has dtype int64"):
        bs.jacobian(f)(p)


@pytest.mark.parametrize("order", ORDERS)
def test_hessians_by_several_arguments(order):
    def f(x, y):
        return jnp.sum(jnp.tanh(jnp.outer(x, y)) ** 2) + jnp.sum(y**3)

    x, y = as_jax((normal(3), normal(2)))
    assert_same(compiled(bs.hessian(f, (0, 1), order=order))(x, y), compiled(jax.hessian(f, (0, 1)))(x, y))


# ---- cost ---------------------------------------------------------------------------------------------------------------
WRITTEN = 8  # an entry written costs as much as eight products summed (backsolve.planning.abstract, measured there)


def product_cost(m, k, n):
    """What a plan counts for the product of a dense m × k and a dense k × n matrix."""
    return m * n + m * k * n / WRITTEN


def best_parenthesisation(sizes, cost=product_cost):
    """The cheapest product of dense matrices of sizes[0] × sizes[1], sizes[1] × sizes[2], …"""
    best = {(i, i + 1): 0 for i in range(len(sizes) - 1)}
    for width in range(2, len(sizes)):
        for i in range(len(sizes) - width):
            k = i + width
            best[i, k] = min(best[i, j] + best[j, k] + cost(sizes[i], sizes[j], sizes[k]) for j in range(i + 1, k))
    return best[0, len(sizes) - 1]


def linear_chain(sizes):
    """A product of dense matrices applied to x; sizes from the output to the input."""
    weights = [jnp.asarray(normal(m, n, seed=k)) for k, (m, n) in enumerate(itertools.pairwise(sizes))]

    def f(x):
        for W in weights[::-1]:
            x = W @ x
        return x

    return f


@pytest.mark.parametrize(
    "sizes",
    [
        (30, 20, 4, 20, 30),
        (40, 30, 20, 10, 5),
        (5, 10, 20, 30, 40),
        (40, 3, 30, 2, 50),
        (2, 30, 30, 30, 30, 2),
        (6, 40, 5, 40, 6),
        (50, 7, 13, 4, 22, 9, 31),
    ],
    ids=["bottleneck", "tall", "wide", "two-bottlenecks", "narrow-ends", "hourglasses", "mixed"],
)
def test_chains_cost_what_the_best_parenthesisation_does(sizes):
    f, x = linear_chain(sizes), jnp.asarray(normal(sizes[-1]))
    plan = bs.plan(f, x)
    assert plan.cost - START * (len(sizes) - 2) <= 1.1 * best_parenthesisation(sizes)
    assert_close(bs.jacobian(f, order=plan)(x), reference.jacobian(f)(x))


@pytest.mark.parametrize("format", ["array", "operator"])
def test_a_net_narrow_in_the_middle(format):
    """60 → 4 → 60 with tanh between: three diagonals times thin matrices, and one product of 60 × 4 with 4 × 60."""
    W, V = jnp.asarray(normal(4, 60)), jnp.asarray(normal(60, 4))
    f = lambda x: jnp.tanh(V @ jnp.tanh(W @ jnp.tanh(x)))  # noqa: E731
    x = jnp.asarray(normal(60))
    plan = bs.plan(f, x, format=format)
    thin = 3 * 60 * 4
    assert plan.cost <= 1.1 * thin + (START + 1.1 * product_cost(60, 4, 60) if format == "array" else 0)
    want = reference.jacobian(f)(x)
    got = bs.jacobian(f, format=format, order=plan)(x)
    assert_close(got if format == "array" else got[0, 0].todense(), want)
    if format == "operator":
        assert sum(np.size(leaf) for leaf in jax.tree.leaves(got)) <= thin


def test_a_tall_chain_times_a_wide_one():
    """Σ over paths: two chains to one middle, each with a tail of its own."""
    tall, wide = linear_chain((40, 20, 10, 3)), linear_chain((3, 10, 20, 40))
    f, x = lambda x: jnp.sin(tall(wide(x))), jnp.asarray(0.01 * normal(40))
    plan = bs.plan(f, x)
    best = best_parenthesisation((40, 20, 10, 3, 10, 20, 40))
    assert plan.cost - 5 * START <= 1.1 * (best + 40 * 20 + 40 * 40)  # sin's diagonal on whichever side
    assert_close(bs.jacobian(f, order=plan)(x), reference.jacobian(f)(x))


def test_an_arrow():
    """y₀ sees every x, yᵢ sees x₀ and xᵢ: a diagonal and two lines, and no n × n array but the result."""
    n = 200

    def f(x):
        return jnp.concatenate([jnp.sum(x**2)[None], jnp.sin(x[1:]) * x[0]])

    x = jnp.asarray(positive(n))
    plan = bs.plan(f, x, format="operator")
    assert plan.multiplications <= 8 * n
    J = bs.jacobian(f, order=plan, format="operator")(x)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(J)) <= 8 * n
    assert_close(J[0, 0].todense(), reference.jacobian(f)(x))
    assert_close(bs.jacobian(f)(x), reference.jacobian(f)(x))


def test_search_is_never_worse():
    f = Scalars(5, 40, 3)
    argnums = tuple(range(f.sources))
    default = bs.plan(f, *f.point, argnums=argnums)
    longer = bs.plan(f, *f.point, argnums=argnums, search=0.3)
    none = bs.plan(f, *f.point, argnums=argnums, search=0)
    assert default.multiplications <= none.multiplications <= min(none.totals.values())
    assert longer.multiplications <= none.multiplications
    assert bs.plan(f, *f.point, argnums=argnums).order == default.order
    assert_same(bs.jacobian(f, argnums, order=longer)(*f.point), reference.jacobian(f, argnums)(*f.point))


def test_python_numbers_as_arguments():
    """Under jit these are weakly typed, and so are the constants they meet."""

    def f(x, y):
        return x * 2.5 + x * y, x * 0.5 - y

    assert_same(jax.jit(bs.jacobian(f, (0, 1)))(1.0, 2.0), reference.jacobian(f, (0, 1))(1.0, 2.0))
