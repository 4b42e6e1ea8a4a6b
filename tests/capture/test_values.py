"""Programs that ask for values: control flow of Python's outside `jit`, auxiliary data of any kind, pullbacks as pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

from .oracle import assert_close, assert_same, normal

X = normal(3)


# ---- control flow on values ---------------------------------------------------------------------------------------
def branch(x):
    return x * x if x > 0 else -3.0 * x


def loop(x):
    steps = 0
    while x < 10.0:
        x = x * 1.7
        steps += 1
    return x * steps


def indexed(x):
    return x[int(jnp.argmax(x))] * x


def filtered(x):
    return jnp.sum(x[jnp.nonzero(x > 0)[0]] ** 2) * x[0]


def sorted_by_hand(x):
    order = [int(i) for i in jnp.argsort(x)]
    return jnp.stack([x[i] * (k + 1) for k, i in enumerate(order)])


def custom(x):
    return jnp.exp(jax.nn.relu(x)) if bool(jnp.all(jnp.isfinite(x))) else x


@pytest.mark.parametrize("x", [1.5, -0.5])
@pytest.mark.parametrize("f", [branch, loop])
def test_branches_and_loops_of_numbers(f, x):
    x = abs(x) if f is loop else x
    assert_same(bs.grad(f)(x), jax.grad(f)(x))
    assert_same(bs.value_and_grad(f)(x), jax.value_and_grad(f)(x))
    assert_close(bs.jvp(f, (x,), (2.0,))[1], jax.jvp(f, (x,), (2.0,))[1])
    assert_close(bs.vjp(f, x)[1](3.0)[0], jax.vjp(f, x)[1](3.0)[0])
    for order in ("auto", "forward", "reverse", "markowitz"):
        assert_close(bs.jacobian(f, order=order)(x), jax.jacobian(f)(x))
    assert_close(bs.hessian(f)(x), jax.hessian(f)(x))
    assert_close(bs.hvp(f, (x,), (2.0,)), 2.0 * jax.hessian(f)(x))


@pytest.mark.parametrize("f", [indexed, filtered, sorted_by_hand, custom])
def test_indices_and_masks_from_values(f):
    x = jnp.asarray(X)
    expected = jax.jacfwd(f)(x)
    for order in ("auto", "forward", "reverse", "markowitz"):
        assert_close(bs.jacobian(f, order=order)(x), expected)
    J = bs.jacobian(f, format="operator")(x)[0, 0]
    assert_close(J.todense(), expected)
    assert_close(bs.vjp(f, x)[1](jnp.ones_like(f(x)))[0], jax.vjp(f, x)[1](jnp.ones_like(f(x)))[0])


def test_trees_integers_and_aux():
    def f(p, n):
        y = p["w"] * p["n"] if p["w"].sum() > 0 else p["w"]
        return jnp.sum(y**2), {"positive": bool(p["w"].sum() > 0), "y": y}

    p = {"w": jnp.abs(jnp.asarray(X)), "n": 3}
    got = bs.grad(f, has_aux=True, allow_int=True)(p, 2)
    want = jax.grad(f, has_aux=True, allow_int=True)(p, 2)
    assert_same(got, want)


def test_solving_with_it():
    def f(x):
        return x * x + 1.0 if x[0] > 0 else x

    x = jnp.array([2.0, 3.0])
    assert_close(bs.solve_jacobian(f, x, x), np.array([0.5, 0.5]))


def test_complex_values():
    def f(z):
        return jnp.abs(z) ** 2 if z.real > 0 else z.imag

    assert_close(bs.jacobian(f)(1 + 2j), 2 - 4j)


@pytest.mark.parametrize(
    "run", [jax.jit(bs.grad(branch)), lambda x: jax.vmap(bs.grad(branch))(x[None])], ids=["jit", "vmap"]
)
def test_under_jit_jaxs_own_error(run):
    with pytest.raises(jax.errors.TracerBoolConversionError, match="boolean conversion of traced array"):
        run(jnp.asarray(1.0))


def test_patterns_hold_for_all_points_so_it_is_refused():
    with pytest.raises(jax.errors.TracerBoolConversionError, match="boolean conversion"):
        bs.jacobian(branch, format="sparse")(1.0)
    with pytest.raises(jax.errors.TracerBoolConversionError, match="boolean conversion"):
        bs.sparsity(branch, 1.0)


def test_errors_of_the_function_come_through():
    def f(x):
        if x > 0:
            raise RuntimeError("no such x")
        return x

    with pytest.raises(RuntimeError, match="no such x"):
        bs.grad(f)(1.0)


# ---- auxiliary data ------------------------------------------------------------------------------------------------------
class Opaque:
    pass


TOKEN = Opaque()


@pytest.mark.parametrize(
    "aux", ["hi", None, 3, 2.5, TOKEN, {"a": "b", "n": [1, TOKEN]}, np.arange(3), (jnp.ones(2), "x", 1)]
)
def test_aux_is_handed_back(aux):
    def f(x):
        return x * x, aux

    for derivative in (bs.grad, bs.jacobian, bs.hessian, lambda f, **kw: bs.jacobian(f, format="sparse", **kw)):
        got = derivative(f, has_aux=True)(2.0)[1]
        assert jax.tree.structure(got) == jax.tree.structure(aux)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(aux), strict=True):
            assert a is b or (type(a) is type(b) and np.all(np.asarray(a) == np.asarray(b)))
    assert bs.grad(f, has_aux=True)(2.0)[0] == 4.0
    value, pull, got = bs.vjp(f, 2.0, has_aux=True)
    assert (value, pull(1.0)[0]) == (4.0, 4.0)
    assert jax.tree.structure(got) == jax.tree.structure(aux)
    assert bs.jvp(f, (2.0,), (1.0,), has_aux=True)[1] == 4.0


def test_traced_parts_of_aux_are_values():
    def f(x):
        return jnp.sum(x**2), {"name": "square", "y": jnp.sin(x)}

    for run in (bs.grad(f, has_aux=True), bs.jacobian(f, has_aux=True, format="sparse")):
        aux = run(jnp.asarray(X))[1]
        assert aux["name"] == "square"
        assert_close(aux["y"], np.sin(X))


# ---- pullbacks ---------------------------------------------------------------------------------------------------
PULLED = {
    "sine": jnp.sin,
    "net": lambda x: jnp.tanh(normal(4, 3) @ jax.nn.relu(normal(3, 3, seed=1) @ x)),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, v: jnp.sin(v) * x, x),
    "complex": lambda x: jnp.abs(jnp.fft.fft(x)),
    "tree": lambda x: {"a": x[0] * x, "b": (x[1:], 2.0)},
}


@pytest.mark.parametrize("name", PULLED)
def test_a_pullback_leaves_jit(name):
    f, x = PULLED[name], jnp.asarray(X)
    value, pull = jax.jit(lambda x: bs.vjp(f, x))(x)
    expected, jax_pull = jax.vjp(f, x)
    g = jax.tree.map(jnp.ones_like, expected)
    assert_close(jnp.ravel(jax.tree.leaves(value)[0]), jnp.ravel(jax.tree.leaves(expected)[0]))
    assert_close(pull(g)[0], jax_pull(g)[0])
    assert_close(jax.jit(lambda pull, g: pull(g))(pull, g)[0], jax_pull(g)[0])
    leaves, tree = jax.tree.flatten(pull)
    assert leaves
    assert_close(jax.tree.unflatten(tree, leaves)(g)[0], jax_pull(g)[0])


def test_pullbacks_of_a_batch():
    pulls = jax.vmap(lambda x: bs.vjp(jnp.sin, x)[1])(jnp.asarray(normal(4, 3)))
    got = jax.vmap(lambda pull: pull(jnp.ones(3))[0])(pulls)
    assert_close(got, np.cos(normal(4, 3)))
