"""Outside `jax.jit` a derivative of what is jitted is compiled once for each program, and is that of the function."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

import backsolve as bs
from backsolve import extend

from ..capture.oracle import assert_same

P = {"W": np.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": np.array([0.5, -0.2, 0.1])}
X = np.array([0.3, -0.7, 1.1, 0.2])


def layer(p: Any, x: Any) -> Any:
    return jnp.tanh(p["W"] @ x + p["b"])


def loss(p: Any, x: Any, scale: Any = 1.0) -> Any:
    return scale * jnp.sum(layer(p, x) ** 2), {"out": layer(p, x)}


def test_gradients_with_all_that_they_return():
    doubled = partial(loss, scale=2.0)
    for jitted, plain in ((jax.jit(loss), loss), (jax.jit(doubled), doubled), (lambda *args: jax.jit(loss)(*args), loss)):
        for argnums in (0, 1, (0, 1), (1, 0)):
            by_jax = jax.value_and_grad(plain, argnums, has_aux=True)(P, X)
            for _ in range(2):
                assert_same(bs.value_and_grad(jitted, argnums, has_aux=True)(P, X), by_jax)
    for scale in (3.0, jnp.float32(2.0), np.float64(-1.0)):
        assert_same(bs.grad(jax.jit(loss), has_aux=True)(P, X, scale=scale), jax.grad(loss, has_aux=True)(P, X, scale))


@pytest.mark.parametrize("order", ["auto", "forward", "reverse", "markowitz"])
@pytest.mark.parametrize("more", [{}, {"chunk": 2}, {"format": "operator"}, {"format": "sparse"}], ids=str)
def test_jacobians_in_every_order_and_format(order, more):
    if order == "markowitz" and "chunk" in more:
        pytest.skip("chunks have an order of their own")
    J = bs.jacobian(jax.jit(layer), 1, order=order, **more)(P, X)
    J = J if isinstance(J, jax.Array) else J[0, 0].todense() if more["format"] == "operator" else J.todense()
    assert_same(J, jax.jacobian(layer, 1)(P, X))
    assert_same(bs.value_and_jacobian(jax.jit(layer), 1, order=order)(P, X), (layer(P, X), jax.jacobian(layer, 1)(P, X)))


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: lambda *args, **more: f(*args, **more)], ids=["jitted", "inside"])
def test_hessians(wrap):
    jitted = wrap(jax.jit(loss))
    for argnums in (0, 1, (0, 1), (1, 0)):
        expected = jax.hessian(loss, argnums, has_aux=True)(P, X)
        for order in ("auto", "forward", "reverse", "markowitz"):
            assert_same(bs.hessian(jitted, argnums, has_aux=True, order=order)(P, X), expected)
        assert_same(
            bs.hessian(jitted, argnums, has_aux=True)(P, X, scale=X[0]), jax.hessian(loss, argnums, True)(P, X, X[0])
        )
        first = jax.value_and_grad(loss, argnums, has_aux=True)(P, X)
        assert_same(bs.value_grad_and_hessian(jitted, argnums, has_aux=True)(P, X), (*first, expected[0]))
    assert_same(bs.hessian(wrap(jax.jit(layer)), 1)(P, X), jax.hessian(layer, 1)(P, X))
    assert_same(bs.hessian(wrap(jax.jit(layer)), 1, chunk=2)(P, X), jax.hessian(layer, 1)(P, X))
    H = bs.hessian(wrap(jax.jit(lambda x: loss(P, x)[0])), format="operator")(X)
    assert_same(H[0, 0].todense(), jax.hessian(lambda x: loss(P, x)[0])(X))
    assert bs.hessian(wrap(jax.jit(lambda z: z**3)), holomorphic=True)(1.0 + 2.0j) == 6.0 + 12.0j


@pytest.mark.parametrize("loops", ["sequential", "parallel", "auto"])
def test_products(loops):
    t = jax.tree.map(lambda x: np.cos(3 * x), (P, X))
    g = np.array([1.0, -2.0, 0.5])

    def steps(p: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(p["W"].T @ (p["W"] @ y + p["b"])), x)

    for f in (layer, steps):
        jitted = jax.jit(f)
        for _ in range(2):
            assert_same(bs.jvp(jitted, (P, X), t, loops=loops), jax.jvp(f, (P, X), t))
            value, pull = bs.vjp(jitted, P, X, loops=loops)
            expected, by_jax = jax.vjp(f, P, X)
            for cotangent in (jnp.ones_like(value), value**2):
                assert_same((value, pull(cotangent)), (expected, by_jax(cotangent)))
                assert_same(jax.jit(pull)(cotangent), by_jax(cotangent))
            assert_same(jax.vmap(pull)(jnp.eye(len(value))), jax.vmap(by_jax)(jnp.eye(len(value))))
            energy = lambda p, x, f=f: jnp.sum(f(p, x) ** 3)  # noqa: E731
            assert_same(bs.hvp(jax.jit(energy), (P, X), t, loops=loops), jax.jvp(jax.grad(energy, (0, 1)), (P, X), t)[1])
            alone = lambda x, f=f: jnp.sum(f(P, x) ** 3)  # noqa: E731
            assert_same(bs.hvp(jax.jit(alone), (X,), t[1:], loops=loops), jax.jvp(jax.grad(alone), (X,), t[1:])[1])
    assert_same(bs.jvp(jax.jit(loss), (P, X), t, has_aux=True), jax.jvp(loss, (P, X), t, has_aux=True))
    value, pull, aux = bs.vjp(jax.jit(loss), P, X, has_aux=True)
    assert_same((value, pull(1.0), aux), (loss(P, X)[0], jax.grad(loss, (0, 1), has_aux=True)(P, X)[0], loss(P, X)[1]))
    assert_same(bs.vjp(jax.jit(layer), P, X)[1](g), jax.vjp(layer, P, X)[1](jnp.asarray(g)))


def test_products_of_whole_numbers_and_numbers_of_pythons():
    f = jax.jit(lambda n, x: n * x**2)
    change = bs.jvp(f, (3, 2.0), (np.zeros((), jax.dtypes.float0), 1.0))[1]
    assert float(change) == 12.0
    n, x = bs.vjp(f, 3, 2.0)[1](1.0)
    assert (n.dtype, float(x)) == (jax.dtypes.float0, 12.0)
    counts = jnp.array([1, 2])
    by_jax = jax.vjp(f, counts, X[:2])[1](jnp.ones(2))[1]
    assert_same(bs.vjp(f, counts, X[:2])[1](np.ones(2))[1], by_jax)
    assert float(bs.hvp(jax.jit(lambda x: x**3), (2.0,), (1.0,))) == 12.0


def test_errors_are_those_of_the_function_itself():
    value, pull = bs.vjp(jax.jit(layer), P, X)
    for wrong, message in (
        (jnp.ones(4), r"\(4,\).*\(3,\)|\(3,\).*\(4,\)"),
        ((value, value), "structure|tree"),
        (np.array(["a", "b", "c"]), "dtype|type"),
    ):
        with pytest.raises((TypeError, ValueError), match=message) as inside:
            pull(wrong)
        with pytest.raises((TypeError, ValueError), match=message) as outside:
            bs.vjp(layer, P, X)[1](wrong)
        assert (inside.type, str(inside.value)) == (outside.type, str(outside.value))
    for call in (
        lambda f: bs.jvp(f, (P, X), (P, X[:2])),
        lambda f: bs.jvp(f, (P, X), (P,)),
        lambda f: bs.hvp(lambda x: f(P, x), (X,), (X,)),
        lambda f: bs.hvp(lambda x: jnp.sum(f(P, x)), (X,), (X[:2],)),
        lambda f: bs.hessian(lambda n: f(P, n * X))(3),
        lambda f: bs.hessian(lambda x: f(P, x) + 1j)(X),
        lambda f: bs.hessian(lambda x: f(P, x) > 0)(X),
        lambda f: bs.hessian(lambda x: f(P, x), 1)(X),
    ):
        with pytest.raises((TypeError, ValueError), match=r"\w") as plain:
            call(layer)
        with pytest.raises((TypeError, ValueError), match=r"\w") as jitted:
            call(jax.jit(layer))
        assert (jitted.type, str(jitted.value)) == (plain.type, str(plain.value))


def test_what_a_program_depends_on_is_told_apart():
    """Static arguments, what is closed over, which argument stands where, options, and types."""
    power = jax.jit(lambda n, x: x**n, static_argnums=0)
    assert [float(bs.grad(power, 1)(n, 3.0)) for n in (2, 3, 2)] == [6.0, 27.0, 6.0]
    for c in (2.0, 5.0):
        assert float(bs.grad(jax.jit(lambda x, c=c: c * x))(1.0)) == c
    quotient = jax.jit(lambda x, y: x / y)
    assert [float(bs.grad(quotient, k)(1.0, 2.0)) for k in (0, 1, 0)] == [0.5, -0.25, 0.5]
    assert [float(bs.grad(f)(2.0, 4.0)) for f in (quotient, lambda x, y: quotient(y, x))] == [0.25, -1.0]
    square = jax.jit(lambda z: z * z)
    assert bs.grad(square, holomorphic=True)(1.0 + 2.0j) == 2.0 + 4.0j
    with pytest.raises(TypeError, match="complex"):
        bs.grad(square)(1.0 + 2.0j)
    assert bs.grad(square)(np.float32(3)).dtype == np.float32
    assert bs.grad(square)(3.0).weak_type
    counted = bs.grad(jax.jit(lambda n, x: n * x), (0, 1), allow_int=True)(3, 2.0)
    assert counted[0].dtype == jax.dtypes.float0
    assert counted[1] == 3.0
    with pytest.raises(TypeError, match="grad needs a function with a scalar output"):
        bs.grad(jax.jit(layer), 1)(P, X)


def test_inside_other_transforms_it_is_as_ever():
    f = jax.jit(lambda x: jnp.sum(x**3))
    x = jnp.arange(3.0)
    assert_same(jax.vmap(bs.grad(f))(jnp.stack([x, x + 1])), jnp.stack([3 * x**2, 3 * (x + 1) ** 2]))
    assert_same(jax.jvp(bs.grad(f), (x,), (jnp.ones(3),)), (3 * x**2, 6 * x))
    assert_same(jax.jit(bs.grad(f))(x), 3 * x**2)
    assert_same(bs.hessian(f)(x), jnp.diag(6 * x))
    with jax.disable_jit():
        assert_same(bs.grad(f)(x), 3 * x**2)
    assert_same(jax.vmap(lambda s: s * bs.grad(f)(x))(jnp.arange(2.0)), jnp.stack([0 * x, 3 * x**2]))


def test_auxiliary_data_that_are_no_arrays_stay():
    f = jax.jit(lambda x: jnp.sum(x**2))
    for note in ("a", "b", None, 3):
        assert bs.grad(lambda x, note=note: (f(x), {"note": note}), has_aux=True)(X)[1] == {"note": note}
    for name in ("p", "q"):
        assert list(bs.grad(lambda x, name=name: (f(x), {name: f(x)}), has_aux=True)(X)[1]) == [name]


def compilations(call, caplog):
    """How many programs XLA compiles for a call."""
    caplog.clear()
    with jax.log_compiles():
        jax.block_until_ready(call())
    return sum("Finished XLA compilation" in record.getMessage() for record in caplog.records)


def test_it_is_compiled_once(caplog):
    f = jax.jit(lambda x: jnp.sum(jnp.sin(x) * x**3))
    x = jnp.arange(5.0)
    assert compilations(lambda: bs.grad(f)(x), caplog) == 1
    assert compilations(lambda: bs.grad(f)(x + 1), caplog) <= 1  # the sum
    assert compilations(lambda: bs.grad(f)(x + 1), caplog) == 0
    assert compilations(lambda: bs.jacobian(f)(x), caplog) == 1
    with jax.checking_leaks():  # what is kept holds no traced value
        bs.grad(f)(x)


def test_products_and_hessians_are_compiled_once(caplog):
    f, x = jax.jit(lambda x: jnp.sum(jnp.sin(x) * x**3)), jnp.arange(5.0)
    pairs = [(x, jnp.ones(5)), (x + 1, x)]
    one = jnp.float32(1)
    for derivative in (
        lambda x, t: bs.hvp(f, (x,), (t,)),
        lambda x, t: bs.jvp(f, (x,), (t,)),
        lambda x, t: bs.hessian(f)(x),
        lambda x, t: bs.value_grad_and_hessian(f)(x),
    ):
        assert compilations(lambda d=derivative: d(*pairs[0]), caplog) == 1
        assert compilations(lambda d=derivative: d(*pairs[1]), caplog) == 0
        with jax.checking_leaks():
            derivative(*pairs[0])
    assert compilations(lambda: bs.vjp(f, x)[1](one), caplog) == 2  # the value, and the pullback
    assert compilations(lambda: bs.vjp(f, x + 1)[1](one), caplog) <= 1  # the sum
    assert compilations(lambda: bs.vjp(f, x + 1)[1](one), caplog) == 0


DERIVATIVES = {
    "grad": bs.grad,
    "value_and_grad": bs.value_and_grad,
    "jacobian": bs.jacobian,
    "hessian": bs.hessian,
    "hvp": lambda f: lambda x: bs.hvp(f, (x,), (x,)),
    "jvp": lambda f: lambda x: bs.jvp(f, (x,), (x,)),
    "vjp": lambda f: lambda x: bs.vjp(f, x)[1](np.float32(1)),
}


@pytest.mark.parametrize("derivative", [*DERIVATIVES.values()], ids=[*DERIVATIVES])
def test_what_a_function_holds_lives_no_longer_than_it(derivative):
    """Nor does its derivative: whoever jits a new function at each step fills no memory."""

    def once(jitted: Any) -> Any:
        held = jnp.arange(4.0)
        jax.block_until_ready(derivative(jitted(held))(X))
        return weakref.ref(held)

    made = [
        lambda held: jax.jit(lambda x: jnp.sum(jnp.sin(held * x))),
        lambda held: jax.jit(lambda x: jax.jit(lambda x: jnp.sum(x * held))(x)),
        lambda held: partial(jax.jit(lambda y, x: jnp.sum(jnp.sin(y * x))), held),
        lambda held: jax.jit(lambda x: jnp.sum(jax.lax.fori_loop(0, 3, lambda i, y: jnp.sin(y * held), x))),
        lambda held: jax.jit(lambda x: jnp.sum(jax.lax.cond(x[0] > 0, lambda x: x * held, lambda x: x + held, x))),
        lambda held: jax.jit(jax.checkpoint(lambda x: jnp.sum(jnp.sin(x * held)))),
    ]
    references = [once(jitted) for jitted in made for _ in range(2)]
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


class Labelled:
    """A pytree with static data, which may be an array: JAX cannot compare two of these."""

    def __init__(self, x: Any, label: Any) -> None:
        self.x, self.label = x, label


jax.tree_util.register_pytree_node(Labelled, lambda t: ((t.x,), t.label), lambda label, x: Labelled(*x, label))


def test_static_data_of_pytrees_come_back_as_they_were_given(caplog):
    f, layered = jax.jit(lambda x: jnp.sum(x**3)), jax.jit(lambda x: x**3)
    x = jnp.arange(3.0)
    labels = [np.ones(2), np.ones(3), np.zeros(3), [1, 2], [2], "a", *range(100)]
    for label in labels:
        gradient = bs.grad(lambda t: f(t.x))(Labelled(x, label))
        assert gradient.label is label
        assert_same(gradient.x, 3 * x**2)
    for label in labels[:6]:
        J = bs.jacobian(lambda x, label=label: Labelled(layered(x), label))(x)
        assert J.label is label
        assert_same(J.x, jnp.diag(3 * x**2))
    assert compilations(lambda: bs.grad(lambda t: f(t.x))(Labelled(x, 1000)), caplog) == 0  # of another at each call


def test_a_call_inside_of_a_call_and_calls_at_the_same_time():
    f, scaled = jax.jit(lambda x: jnp.sum(jnp.sin(x))), jax.jit(lambda c, x: jnp.sum(c * x))
    x = jnp.arange(3.0)

    def outside(x: Any) -> Any:
        return jax.pure_callback(lambda x: np.asarray(bs.grad(f)(np.asarray(x))), x, jax.lax.stop_gradient(x))

    assert_same(bs.grad(jax.jit(lambda x: jnp.sum(x * outside(x))))(x), jnp.cos(x))
    functions = [jax.jit(lambda x, c=c: jnp.sum(jnp.sin(c * x))) for c in range(4)]

    def at(c: int) -> Any:
        return [bs.grad(g)(x) for g in functions], bs.grad(lambda x: scaled(jnp.float32(c), x))(x)

    with ThreadPoolExecutor(4) as pool:
        for c, (several, one) in enumerate(pool.map(at, range(4))):
            assert_same(several, [k * jnp.cos(k * x) for k in range(4)])
            assert_same(one, jnp.full(3, float(c)))


def test_a_rule_that_is_added_later_holds_from_then_on():
    sine = Primitive("user_sine_of_a_jitted_function")
    sine.def_impl(jnp.sin)
    sine.def_abstract_eval(lambda x: x)
    mlir.register_lowering(sine, mlir.lower_fun(jnp.sin, multiple_results=False))
    ad.defjvp(sine, lambda t, x: t * jnp.cos(x))
    f = jax.jit(lambda x: jnp.sum(sine.bind(x)))
    x = jnp.arange(3.0)
    assert_same(bs.grad(f)(x), jnp.cos(x))
    assert_same(bs.jacobian(f)(x), jnp.cos(x))
    extend.elementwise(sine, lambda x, y: 2 * jnp.cos(x))  # a mark, to see which one serves
    for _ in range(2):
        assert_same(bs.grad(f)(x), 2 * jnp.cos(x))
        assert_same(bs.jacobian(f)(x), 2 * jnp.cos(x))
