"""Programs of tens of thousands of equations: linear time, no recursion."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

import backsolve as bs

from .oracle import assert_same, check, compiled


def chain(n):
    """x ↦ a chain of n scalar equations, made as a jaxpr is: without Python frames on top of each other."""

    def f(x):
        for i in range(n // 2):
            x = x * 0.999 if i % 2 else x + 1e-3
            x = jnp.sin(x) if i % 100 == 0 else jax.lax.neg(x)
        return x

    return f


def traced(n, x):
    """The chain as one function of a ready jaxpr, so that tracing the chain itself is not in the measurement."""
    return jaxpr_as_fun(jax.make_jaxpr(chain(n))(x))


def seconds(n):
    x = jnp.float64(0.3)
    f = traced(n, x)
    start = time.process_time()
    jax.make_jaxpr(bs.grad(lambda v: f(v)[0]))(x)
    return time.process_time() - start


def test_fifty_thousand_equations_in_linear_time():
    seconds(500)
    small = min(seconds(5_000) for _ in range(2))
    assert seconds(50_000) < 40 * small  # quadratic would be 100; other tests run beside this one


def test_a_long_chain_does_not_recurse_and_is_right():
    x = jnp.float64(0.3)
    f = traced(2_000, x)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    try:
        gradient = jax.make_jaxpr(bs.grad(lambda v: f(v)[0]))(x)
        pushed = jax.make_jaxpr(lambda v: bs.jvp(lambda u: f(u)[0], (v,), (jnp.ones_like(v),))[1])(x)
    finally:
        sys.setrecursionlimit(limit)
    expected = compiled(jax.grad(chain(2_000)))(x)
    for closed in (gradient, pushed):
        assert_same(compiled(jaxpr_as_fun(closed))(x)[0], expected)


def test_deeply_nested_jit():
    depth = 200
    f = jnp.sin
    for _ in range(depth):
        f = jax.jit(lambda x, g=f: g(x) * 0.99)
    x = jnp.float64(0.3)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # JAX's own tracing recurses, some ten frames a level; ours must not
    try:
        f = jaxpr_as_fun(jax.make_jaxpr(f)(x))
    finally:
        sys.setrecursionlimit(limit)
    assert_same(bs.grad(lambda v: f(v)[0])(x), jnp.cos(x) * 0.99**depth)


def test_a_fan_out_of_a_thousand():
    def f(x):
        y = jnp.sin(x)
        return sum(y * float(i) for i in range(1_000))

    x = jnp.float64(0.3)
    assert_same(bs.grad(f)(x), jnp.cos(x) * 499_500.0)


def test_a_thousand_inputs_and_outputs():
    def f(xs):
        return [x * y for x, y in zip(xs, xs[1:] + xs[:1], strict=True)]

    check(f, ([np.float64(i) for i in range(300)],))


def test_a_chain_of_shared_squares_is_not_walked_path_by_path():
    def f(x):
        for _ in range(100):  # 2¹⁰⁰ paths
            x = x * x * 0.5 + x
        return x

    check(f, (np.float64(1e-3),))
