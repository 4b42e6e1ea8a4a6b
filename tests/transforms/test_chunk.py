"""`chunk=`: dense Jacobians some rows or columns at a time, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from tests import reference

WIDE = jnp.asarray(np.random.default_rng(0).standard_normal((60, 300)))


def hidden(x):
    """Many entries between few: what a column more takes in memory is 300 numbers a layer."""
    y = jnp.sin(x) @ WIDE
    for _ in range(6):
        y = jnp.sin(y) + jnp.roll(y, 1) * y
    return jnp.tanh(y @ WIDE.T)


def temporary(f, x):
    return jax.jit(f).lower(x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("order", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("chunk", [1, 7, 60])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.usefixtures("double_precision")
def test_the_numbers_are_those_of_jax(order, chunk, jit):
    def f(p):
        return {"one": hidden(jnp.concatenate([p["a"], p["b"].ravel()]))[:9], "two": p["a"][0] * p["b"]}

    p = {"a": jnp.linspace(0.0, 1.0, 20), "b": jnp.linspace(1.0, 0.0, 40).reshape(4, 10)}
    J = bs.jacobian(f, order=order, chunk=chunk)
    found, want = (jax.jit(J) if jit else J)(p), reference.jacobian(f)(p)
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("double_precision")
def test_hessians_values_and_derivatives_of_it():
    x = jnp.linspace(0.0, 1.0, 60)
    f = lambda x: jnp.sum(hidden(x) ** 2)  # noqa: E731
    want = reference.hessian(f)(x)
    np.testing.assert_allclose(jax.jit(bs.hessian(f, chunk=8))(x), want, rtol=1e-8, atol=1e-8)
    value, gradient, H = bs.value_grad_and_hessian(f, chunk=8)(x)
    np.testing.assert_allclose(value, f(x))
    np.testing.assert_allclose(gradient, reference.grad(f)(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(H, want, rtol=1e-8, atol=1e-8)
    value, J = bs.value_and_jacobian(hidden, chunk=8)(x)
    np.testing.assert_allclose(value, hidden(x))
    np.testing.assert_allclose(J, reference.jacobian(hidden)(x), rtol=1e-9, atol=1e-9)
    square = lambda J: lambda x: jnp.sum(J(hidden)(x) ** 2)  # noqa: E731
    ours = jax.grad(square(lambda f: bs.jacobian(f, chunk=8)))(x)
    np.testing.assert_allclose(ours, reference.grad(square(jax.jacobian))(x), rtol=1e-8, atol=1e-6)
    many = jax.vmap(bs.jacobian(hidden, chunk=7))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(many[1], reference.jacobian(hidden)(2 * x), rtol=1e-8, atol=1e-8)
    z = x[:5] + 1j
    found = bs.jacobian(lambda z: z**2 * z[::-1], holomorphic=True, chunk=2)(z)
    np.testing.assert_allclose(found, reference.jacobian(lambda z: z**2 * z[::-1], holomorphic=True)(z), atol=1e-12)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_memory_is_bounded_by_the_chunk(order):
    """The compiled program's temporary bytes grow with the chunk, from little more than the result."""
    x = jnp.linspace(0.0, 1.0, 60)
    result = 4 * 60 * 60
    used = {chunk: temporary(bs.jacobian(hidden, order=order, chunk=chunk), x) for chunk in (1, 4, 16, None)}
    assert used[1] < used[4] < used[16] < used[None] / 2
    one = temporary(bs.jacobian(lambda x: hidden(x)[:1], order="reverse"), x)
    assert used[1] < one + 3 * result + 100_000


def test_wrong_input():
    for chunk in (0, -1, 2.5, True, "8"):
        with pytest.raises(
            ValueError, match=r"chunk is how many rows or columns .* at a time, 1 or more, got " + repr(chunk)
        ):
            bs.jacobian(hidden, chunk=chunk)
    with pytest.raises(ValueError, match=r"chunk=8 is for format='array'; 'sparse' is not worked out in parts"):
        bs.hessian(hidden, chunk=8, format="sparse")
    with pytest.raises(ValueError, match=r"with chunk, the order is 'auto', 'forward' or 'reverse', got 'markowitz'"):
        bs.jacobian(jnp.sin, chunk=8, order="markowitz")(jnp.ones(3))


@pytest.mark.parametrize(("format", "chunk"), [("operator", 2), ("sparse", 2), ("array", 0), ("array", -1), ("array", 1.5)])
def test_a_system_refuses_them_too(format, chunk):
    with pytest.raises(ValueError, match="chunk"):
        bs.linearize(jnp.sin, jnp.ones(3)).jacobian(format=format, chunk=chunk)
