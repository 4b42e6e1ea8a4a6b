"""grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp, linearize: signatures and pytrees as their namesakes in JAX."""

import functools
from collections import OrderedDict, namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from tests import reference

from .oracle import as_jax, assert_both_same, assert_same, check, compiled, complex_normal, float0, normal, positive, tangent

Pair = namedtuple("Pair", "a b")
X = normal(3)
Y = normal(3, seed=1)
A = normal(3, 3)
TREE = {"w": A, "list": [X, (Y,)], "none": None, "pair": Pair(X[0], Y)}


def energy(x, y):
    return jnp.sum(jnp.sin(x) * y**2)


def of_tree(tree):
    return jnp.sum(tree["w"] @ tree["list"][0] * tree["list"][1][0]) * tree["pair"].a + jnp.sum(tree["pair"].b ** 2)


def outputs(x, y):
    return {"a": x * y, "b": [jnp.sum(x), None], "c": Pair(x, (y[0],))}


# ---- grad and value_and_grad ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("argnums", [0, 1, -1, -2, (0,), (1, 0), (0, 1), [0, -1]])
def test_argnums(argnums):
    x, y = as_jax((X, Y))
    assert_same(bs.grad(energy, argnums)(x, y), jax.grad(energy, argnums)(x, y))
    assert_same(bs.value_and_grad(energy, argnums)(x, y), jax.value_and_grad(energy, argnums)(x, y))


def test_pytrees():
    assert_same(bs.grad(of_tree)(TREE), jax.grad(of_tree)(TREE))
    ordered = OrderedDict(b=X, a=Y)
    f = lambda t: jnp.sum(t["b"] * t["a"])  # noqa: E731
    assert_same(bs.grad(f)(ordered), jax.grad(f)(ordered))


@pytest.mark.parametrize("tree", [(), {}, None, [], (None, ())])
def test_empty_pytrees(tree):
    assert_same(bs.grad(lambda t, x: jnp.sum(x))(tree, X), jax.grad(lambda t, x: jnp.sum(x))(tree, X))
    value, pull = bs.vjp(lambda x: tree, X)
    assert jax.tree.structure(value) == jax.tree.structure(tree)
    assert_same(pull(tree), (jnp.zeros(3),))
    assert jax.tree.structure(bs.jacobian(lambda x: tree)(X)) == jax.tree.structure(tree)  # jax.jacobian raises


def test_has_aux():
    def f(x):
        return jnp.sum(x**2), {"seen": x * 2, "n": 3, "word": None}

    assert_same(bs.grad(f, has_aux=True)(X), jax.grad(f, has_aux=True)(X))
    assert_same(bs.value_and_grad(f, has_aux=True)(X), jax.value_and_grad(f, has_aux=True)(X))
    assert_same(jax.jit(bs.grad(f, has_aux=True))(X), jax.jit(jax.grad(f, has_aux=True))(X))
    assert_same(bs.jacobian(f, has_aux=True)(X), jax.jacrev(f, has_aux=True)(X))
    assert_same(bs.jvp(f, (X,), (Y,), has_aux=True), jax.jvp(f, (X,), (Y,), has_aux=True))
    value, pull, aux = bs.vjp(f, X, has_aux=True)
    expected, jax_pull, jax_aux = jax.vjp(f, X, has_aux=True)
    assert_same((value, aux, pull(1.0)), (expected, jax_aux, jax_pull(1.0)))


def test_keyword_arguments():
    def f(x, *, power=1, y=None):
        return jnp.sum(x**power * (1.0 if y is None else y))

    assert_same(bs.grad(f)(X, power=3, y=Y), jax.grad(f)(X, power=3, y=Y))
    assert_same(bs.value_and_grad(f)(X, power=2), jax.value_and_grad(f)(X, power=2))
    assert_same(bs.jacobian(f)(X, power=2), jax.jacobian(f)(X, power=2))
    assert_same(bs.hessian(f)(X, power=3), jax.hessian(f)(X, power=3))


def test_other_arguments_may_be_anything():
    def f(x, mode, options, g, nothing):
        return jnp.sum(g(x)) * options["scale"] if mode == "sum" and nothing is None else jnp.prod(x)

    args = (X, "sum", {"scale": 2.0}, jnp.sin, None)
    assert_same(bs.grad(f)(*args), jax.grad(f)(*args))


def test_names_and_docs():
    assert bs.grad(energy).__name__ == "energy"
    assert "energy" in bs.grad(energy).__doc__
    assert bs.grad(functools.partial(energy, y=Y))(X).shape == (3,)


@pytest.mark.parametrize("x", [2.0, np.float32(2.0), np.float64(2.0), jnp.float32(2.0), jnp.bfloat16(2.0), 2.0 + 0j])
def test_scalars_keep_their_types(x):
    holomorphic = isinstance(x, complex)
    got, expected = (m.value_and_grad(lambda v: v * v * 3, holomorphic=holomorphic)(x) for m in (bs, jax))
    assert_same(got, expected)
    assert [v.weak_type for v in got] == [v.weak_type for v in expected]


def test_weak_types_mix_as_in_jax():
    f = lambda x, y: jnp.sum(x * y)  # noqa: E731
    x = jnp.ones(3, jnp.bfloat16)
    assert_same(bs.grad(f, (0, 1))(x, 2.0), jax.grad(f, (0, 1))(x, 2.0))


@pytest.mark.parametrize(
    "dtypes",
    [
        ("float32", "float64"), ("bfloat16", "float32"), ("bfloat16", "float16"),
        ("complex64", "float64"), ("float64", "complex128"),
    ],
)  # fmt: skip
def test_mixed_dtypes(dtypes):
    x, y = (jnp.asarray(complex_normal(3) if d.startswith("c") else X, d) for d in dtypes)
    check(lambda x, y: {"a": x * y, "b": jnp.sin(x) + y, "c": x.astype(complex)}, (x, y))
    check(lambda x, y: jnp.sum(jnp.abs(x * y)), (x, y))


def test_integer_and_boolean_leaves():
    tree = {"x": X, "n": np.arange(3), "b": np.array([True, False, True])}
    f = lambda t: jnp.sum(t["x"] ** t["n"] * t["b"])  # noqa: E731
    got, expected = (m.grad(f, allow_int=True)(tree) for m in (bs, jax))
    assert_same(got, expected)
    assert got["n"].dtype == got["b"].dtype == float0
    assert_same(bs.grad(lambda n: n * 1.5, allow_int=True)(3), jax.grad(lambda n: n * 1.5, allow_int=True)(3))
    check(lambda x, n: (x * n, n + 1), (X, np.arange(3)))


@pytest.mark.parametrize("f", [lambda z: z**2 * 1j, lambda z: jnp.sum(jnp.exp(z)), lambda z: jnp.sum(z)])
def test_holomorphic(f):
    z = jnp.asarray(complex_normal(3)[0] if f(jnp.ones(2)).shape else complex_normal(3))
    for name in ("grad", "jacobian", "hessian"):
        assert_both_same(lambda m, z, n=name: getattr(m, n)(f, holomorphic=True)(z), z)


def test_real_function_of_complex_input():
    z = jnp.asarray(complex_normal(3))
    f = lambda z: jnp.sum(jnp.abs(z) ** 2 + jnp.real(z * 1j))  # noqa: E731
    assert_same(bs.grad(f)(z), jax.grad(f)(z))


# ---- inputs and outputs that have nothing between them -------------------------------------------------------------------
@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x,
        lambda x, y: (x, x, y),
        lambda x, y: (x, 3.0, y * 2),
        lambda x, y: jnp.sum(y),
        lambda x, y: jnp.ones(2),
        lambda x, y: (jnp.arange(3), x),
        lambda x, y: (x > y, x),
        lambda x, y: jax.lax.stop_gradient(x) + 0 * y,
        lambda x, y: jnp.floor(x),
        lambda x, y: {"u": np.float64(3), "v": None, "w": x * 0},
    ],
)
def test_inputs_as_outputs_constants_and_zeros(f):
    check(f, (X, Y))
    if all(jnp.issubdtype(leaf.dtype, np.inexact) for leaf in jax.tree.leaves(jax.eval_shape(f, X, Y))):
        assert_both_same(lambda m, x, y: m.jacobian(f, (0, 1))(x, y), X, Y)


def test_a_python_number_as_output():
    assert_same(bs.grad(lambda x: 3.0)(X), jax.grad(lambda x: 3.0)(X))
    value, gradient = bs.value_and_grad(lambda x: 3.0)(1.0)
    assert isinstance(value, jax.Array)
    assert isinstance(gradient, jax.Array)
    assert_same((value, gradient), jax.value_and_grad(lambda x: 3.0)(1.0))
    assert gradient.weak_type


def test_several_outputs_of_many_kinds():
    check(outputs, (X, Y))
    assert_both_same(lambda m, x, y: m.jacobian(outputs, (0, 1))(x, y), X, Y)


def test_arrays_without_entries():
    check(lambda x: (jnp.sum(x), x * 2), (np.zeros((0, 3)),))


# ---- vjp, jvp, linearize -------------------------------------------------------------------------------------------------
def test_a_pullback_called_twice_gives_the_same():
    calls = []

    def f(x):
        calls.append(1)
        return jnp.sin(x) * x

    _, pull = bs.vjp(f, X)
    first, second, other = pull(Y), pull(Y), pull(2 * Y)
    assert len(calls) == 1
    np.testing.assert_array_equal(first[0], second[0])
    assert_same(other[0], 2 * first[0])


def test_the_same_call_gives_the_same_bits():
    f = bs.grad(of_tree)
    first, second = f(TREE), f(TREE)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_function_is_traced_and_evaluated_once():
    calls, printed = [], []

    def f(x):
        calls.append(1)
        jax.debug.callback(lambda v: printed.append(float(v)), x)
        return x * x

    bs.grad(f)(3.0)
    jax.effects_barrier()
    assert (len(calls), printed) == (1, [3.0])


def test_debug_print_appears_once(capfd):
    jax.jit(bs.grad(lambda x: (jax.debug.print("x is {}", x), x * x)[1]))(3.0)
    jax.effects_barrier()
    assert capfd.readouterr().out == "x is 3.0\n"


def test_numpy_inputs_stay_untouched():
    x = X.copy()
    gradient = bs.grad(lambda v: jnp.sum(v**2))(x)
    assert isinstance(gradient, jax.Array)
    np.testing.assert_array_equal(x, X)


def test_linearize_is_a_system():
    system = bs.linearize(energy, X, Y, argnums=(0, 1))
    assert isinstance(system, bs.System)
    assert_same(system.value, energy(*as_jax((X, Y))))
    assert_same(system.vjp(1.0), jax.grad(energy, (0, 1))(X, Y))
    assert_same(system.jvp((Y, X)), jax.jvp(energy, (X, Y), (Y, X))[1])
    assert_same(system.jacobian(), jax.jacobian(energy, (0, 1))(X, Y))
    names = [system.L.name(i) for i in range(system.L.shape[0])]
    assert any("sin" in name and "test_transforms.py" in name for name in names)


def test_vjp_of_lists_and_cotangents_that_are_numbers():
    value, pull = bs.vjp(lambda t: [t[0] * t[1], t[1]], [2.0, 3.0])
    assert_same(
        (value, pull([1.0, 0.0])), (lambda v, p: (v, p([1.0, 0.0])))(*jax.vjp(lambda t: [t[0] * t[1], t[1]], [2.0, 3.0]))
    )


# ---- jacobian, hessian, hvp ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("shapes", [((2,), (3, 2)), ((3, 2), (2,)), ((), (2,)), ((2,), ()), ((1, 2), (2, 1))])
def test_jacobian_shapes(order, shapes):
    into, out = shapes
    W = normal(int(np.prod(out)), int(np.prod(into)))
    f = lambda x: jnp.tanh(W @ jnp.ravel(x)).reshape(out)  # noqa: E731
    assert_both_same(lambda m, x: bs.jacobian(f, order=order)(x) if m is bs else jax.jacrev(f)(x), normal(*into))


@pytest.mark.parametrize("order", ["auto", "forward", "reverse"])
def test_jacobian_of_pytrees(order):
    f = lambda t: {"y": t["w"] @ t["list"][0], "z": t["pair"]}  # noqa: E731
    assert_both_same(lambda m, tree: bs.jacobian(f, order=order)(tree) if m is bs else jax.jacrev(f)(tree), TREE)


@pytest.mark.parametrize("argnums", [0, (0, 1), (1, 0), -1])
def test_hessian(argnums):
    assert_both_same(lambda m, x, y: m.hessian(energy, argnums)(x, y), X, Y)


def test_hessian_of_a_pytree_with_aux():
    assert_both_same(lambda m, tree: m.hessian(of_tree)(tree), TREE)
    assert_both_same(lambda m, x: m.hessian(lambda x: (jnp.sum(x**3), x), has_aux=True)(x), X)


def test_hvp():
    expected = jax.jvp(jax.grad(of_tree), (TREE,), (tangent(TREE),))[1]
    assert_same(bs.hvp(of_tree, (TREE,), (tangent(TREE),)), expected)
    two = jax.jvp(jax.grad(energy, (0, 1)), (X, Y), (Y, X))[1]
    assert_same(bs.hvp(energy, (X, Y), (Y, X)), two)


# ---- nested --------------------------------------------------------------------------------------------------------------
def scalar(x):
    return jnp.sin(x) * jax.nn.relu(x) ** 3 + jnp.where(x > 0, jnp.log(x), x)


NESTED = {
    "bs of bs": lambda f: bs.grad(bs.grad(f)),
    "bs of bs of bs": lambda f: bs.grad(bs.grad(bs.grad(f))),
    "bs of jax": lambda f: bs.grad(jax.grad(f)),
    "jax of bs": lambda f: jax.grad(bs.grad(f)),
    "jacfwd of bs": lambda f: jax.jacfwd(bs.grad(f)),
    "jacrev of bs": lambda f: jax.jacrev(bs.grad(f)),
    "bs.jacobian of bs": lambda f: bs.jacobian(bs.grad(f)),
    "hessian": bs.hessian,
    "jit of bs of bs": lambda f: jax.jit(bs.grad(bs.grad(f))),
    "bs of jit of bs": lambda f: bs.grad(jax.jit(bs.grad(f))),
    "bs of jit": lambda f: bs.grad(bs.grad(jax.jit(f))),
    "checkpoint": lambda f: bs.grad(jax.checkpoint(bs.grad(jax.checkpoint(f)))),
    "jvp of bs": lambda f: lambda x: bs.jvp(bs.grad(f), (x,), (jnp.ones_like(x),))[1],
    "jax.jvp of bs": lambda f: lambda x: jax.jvp(bs.grad(f), (x,), (jnp.ones_like(x),))[1],
    "bs of bs.jvp": lambda f: bs.grad(lambda x: bs.jvp(f, (x,), (jnp.ones_like(x),))[1]),
    "bs of bs.vjp": lambda f: bs.grad(lambda x: bs.vjp(f, x)[1](jnp.ones_like(x))[0]),
    "jax.linearize of bs": lambda f: lambda x: jax.linearize(bs.grad(f), x)[1](jnp.ones_like(x)),
    "bs in scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (c, bs.grad(bs.grad(f))(c)), x, None, length=2)[1][1],
    "bs of scan of bs": lambda f: bs.grad(lambda x: jax.lax.scan(lambda c, _: (c, bs.grad(f)(c)), x, None, length=2)[1][1]),
    "bs in cond": lambda f: lambda x: jax.lax.cond(x > -9, bs.grad(bs.grad(f)), jnp.zeros_like, x),
}


@pytest.mark.parametrize("name", NESTED)
def test_nested(name):
    order = 3 if name == "bs of bs of bs" else 2
    expected = scalar
    for _ in range(order):
        expected = jax.grad(expected)
    x = jnp.float64(0.7)
    assert_same(*compiled(lambda x: [NESTED[name](scalar)(x), expected(x)])(x))
    if name in ("bs of bs", "jax of bs", "bs of jax"):
        assert_same(NESTED[name](scalar)(x), expected(x))


@pytest.mark.parametrize("name", ["bs of bs", "jax of bs", "bs of jax", "hessian", "checkpoint", "bs of scan of bs"])
def test_nested_under_vmap(name):
    xs = jnp.asarray(positive(4))
    pair = [jax.vmap(NESTED[name](scalar)), jax.vmap(jax.grad(jax.grad(scalar)))]
    assert_same(*compiled(lambda xs: [f(xs) for f in pair])(xs))


def test_inner_derivative_does_not_confuse_its_variable_with_the_outer():
    """The classic perturbation confusion: d/dx x · d/dy (x + y) = 1."""
    f = lambda x: x * bs.grad(lambda y: x + y)(1.0)  # noqa: E731
    assert_same(bs.grad(f)(2.0), jnp.float64(1.0))
    assert_same(jax.grad(f)(2.0), jnp.float64(1.0))


def test_jit_vmap_and_grad_around_an_mlp():
    W1, W2, x = jnp.asarray(normal(3, 5)), jnp.asarray(normal(5, 1)), jnp.asarray(normal(7, 3))

    def loss(params, row):
        return jnp.sum(jax.nn.softplus(row @ params[0]) @ params[1]) ** 2

    assert_both_same(lambda m, params, x: jax.vmap(m.grad(loss), in_axes=(None, 0))(params, x), (W1, W2), x)


def test_under_shard_map_on_one_device():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",))
    spec = jax.sharding.PartitionSpec("i")
    f = lambda x: jnp.sum(jnp.sin(x) ** 2)  # noqa: E731
    assert_both_same(lambda m, x: jax.shard_map(m.grad(f), mesh=mesh, in_specs=spec, out_specs=spec)(x), X)


# ---- a batch around the function, over which it sums ---------------------------------------------------------------------
OVER_A_BATCH = {
    "psum": lambda x: jax.lax.psum(jnp.sin(x), "i") * x**2,
    "pmean": lambda x: (x - jax.lax.pmean(x, "i")) / jnp.sqrt(jax.lax.pmean(x**2, "i") + 0.1),  # batch normalization
    "ppermute": lambda x: jax.lax.ppermute(jnp.sin(x), "i", [(0, 1), (1, 2), (2, 0)]) * x,
    "scan": lambda x: jax.lax.scan(lambda c, y: (c * jax.lax.psum(y, "i") + x, None), x, 2 * x)[0],
    "complex": lambda x: jnp.real(jax.lax.psum(x**2 + 1j * x, "i") * (x - 2j)),
}


@pytest.mark.parametrize("name", OVER_A_BATCH)
@pytest.mark.parametrize("transform", [lambda f: f, compiled], ids=["eager", "jit"])
def test_sums_over_the_axis_of_a_vmap_outside_follow_the_mode_of_jax(name, transform):
    """JAX's modes differ, and an elimination mixes them: "auto" is what JAX's function of the name does."""
    f, X = OVER_A_BATCH[name], jnp.asarray(normal(3, 3))

    def scalar(x):
        return jnp.sum(jnp.sin(f(x)))

    theirs = jax.jacrev(f), jax.jacfwd(f), jax.hessian(scalar)
    rows, columns, H = reference.compiled(lambda X: [jax.vmap(each, axis_name="i")(X) for each in theirs])(X)
    pairs = [
        (bs.jacobian(f), rows),
        (bs.jacobian(f, order="reverse", chunk=2), rows),
        (bs.jacobian(f, order="forward"), columns),
        (bs.hessian(scalar), H),
        (lambda x: bs.value_grad_and_hessian(scalar)(x)[2], H),
    ]
    for ours, expected in pairs:
        assert_same(transform(jax.vmap(ours, axis_name="i"))(X), expected)


WITHOUT_MEANING = {
    "sparse": lambda f, x: bs.jacobian(f, format="sparse")(x),
    "operator": lambda f, x: bs.jacobian(f, format="operator")(x),
    "pattern": lambda f, x: bs.sparsity(f, x),
    "markowitz": lambda f, x: bs.jacobian(f, order="markowitz")(x),
    "solve": lambda f, x: bs.solve_jacobian(f, x, x),
    "factored": lambda f, x: bs.linearize(f, x).factored(engine="blocks").solve(x),
}


@pytest.mark.parametrize("what", WITHOUT_MEANING)
def test_what_a_batch_outside_leaves_without_meaning_is_refused(what):
    for f in OVER_A_BATCH.values():
        with pytest.raises(ValueError, match="over the axis 'i' of a vmap or shard_map around it"):
            jax.vmap(lambda x, f=f: WITHOUT_MEANING[what](f, x), axis_name="i")(jnp.asarray(normal(3, 3)))


def test_an_axis_outside_of_which_only_the_index_is_asked_for_changes_nothing():
    f = lambda x: jnp.sin(x) * jax.lax.axis_index("i")  # noqa: E731
    got = jax.vmap(lambda x: bs.jacobian(f, format="sparse")(x).todense(), axis_name="i")(jnp.asarray(normal(3, 3)))
    assert_same(got, jax.vmap(jax.jacobian(f), axis_name="i")(jnp.asarray(normal(3, 3))))
