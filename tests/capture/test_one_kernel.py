"""Small programs under jit are compiled on a CPU as one function: the same numbers, in one kernel, and nowhere else."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture import one_kernel
from backsolve.capture.one_kernel import in_one_kernel
from backsolve.capture.rules.elementwise import BINARY, UNARY

from .oracle import assert_close, assert_same, complex_normal, normal, unit

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere XLA decides")
X = unit(5)


def f(x):
    """Divisions and roots, each a kernel of its own to XLA, and read by all that follows."""
    a, b, c, d, e = x
    r = jnp.sqrt(a * b + c) / (d + e)
    s = jnp.where(r > a, jnp.exp(-r) / b, jnp.sin(r * e))
    return jnp.stack([r * s / c, s / r + a, jnp.maximum(r, s) * d, jnp.tanh(s) / e])


def compiled(fun, *args):
    return jax.jit(fun).lower(*args).compile().as_text()


def kernels(fun, *args):
    text = compiled(fun, *args)
    entry = text[text.index("ENTRY") :]
    return entry.count(" call("), entry.count(" fusion(")


def calls(fun, *args):
    return str(jax.make_jaxpr(fun)(*args)).count("one_kernel[")


@ON_CPU
def test_a_jacobian_of_numbers_is_one_kernel():
    assert kernels(bs.jacobian(f), X) == (1, 0)
    assert kernels(jax.jacfwd(f), X)[1] > 5
    assert kernels(bs.jacobian(jnp.stack), list(X))[0] == 1
    assert_same(jax.jit(bs.jacobian(f))(X), jax.jacobian(f)(X))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_in_every_precision(dtype):
    x = jnp.asarray(X, dtype)
    got, want = jax.jit(bs.jacobian(f))(x), jax.jit(jax.jacobian(f))(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(got, float), np.asarray(want, float), rtol=64 * float(jnp.finfo(dtype).eps), atol=1e-2
    )


def whole(fun):
    """fun with nothing but itself in one kernel."""

    def made(*args):
        jaxpr = jax.make_jaxpr(fun)(*args).jaxpr
        return in_one_kernel(lambda: fun(*args), jaxpr)

    return made


OPERATIONS = {
    **{
        name: (lambda x, name=name: getattr(lax, f"{name}_p").bind(x), "unit")
        for name in ("floor", "ceil", "abs", "sign", "neg")
    },
    **{name: (getattr(lax, name), "unit") for name in sorted(set(UNARY) - {"integer_pow"}) if hasattr(lax, name)},
    **{name: (getattr(lax, name), "two") for name in ("max", "min", "atan2", "rem", "pow", "nextafter")},
    "round": (lambda x: lax.round(3 * x), "unit"),
    "is_finite": (lambda x: lax.is_finite(1 / (x - x[0])), "unit"),
    "clamp": (lambda x: lax.clamp(0.3, x, 0.6), "unit"),
    "integer_pow": (lambda x: lax.integer_pow(x, -3), "unit"),
    "inverse": (lambda x: jnp.stack([jnp.arctan(x), jnp.arcsinh(x), jnp.arctanh(x), jnp.arccosh(1 + x)]), "unit"),
    "compare": (lambda x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y), "two"),
    "logic": (lambda x, y: ((x > 0.5) & (y > 0.5), (x > 0.5) | (y > 0.5), (x > 0.5) ^ (y > 0.5), ~(x > 0.5)), "two"),
    "select": (lambda x, y: jnp.where(x > y, x, -y), "two"),
    "convert": (lambda x: (x.astype(jnp.int32) + 1, (10 * x).astype(jnp.int8), x.astype(jnp.float16), x > 0.5), "unit"),
    "moves": (lambda x: (x[::-1], x[1:4:2], jnp.pad(x, (1, 2)), jnp.concatenate([x, x]), x.reshape(5, 1).T), "unit"),
    "split": (lambda x: jnp.split(x, [2]), "unit"),
    "iota": (lambda x: x + jnp.arange(5), "unit"),
    "sums": (lambda x: (x.sum(), x.max(), x.min(), x.prod(), x.reshape(5, 1).sum(0)), "unit"),
    "complex parts": (lambda z: (z.real, z.imag, jnp.conj(z), lax.complex(z.real, z.imag), jnp.abs(z)), "complex"),
    "complex": (lambda z: (z * z / (1 + z), jnp.exp(z), jnp.sin(z), jnp.log(z), jnp.sqrt(z), jnp.tanh(z)), "complex"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_the_same_there(name):
    fun, kind = OPERATIONS[name]
    args = {"unit": [unit(5)], "two": [unit(5), unit(5, seed=1)], "complex": [complex_normal(5)]}[kind]
    assert calls(whole(fun), *args) == 1
    assert_same(jax.jit(whole(fun))(*args), jax.jit(fun)(*args), rtol=1e-12)


@pytest.mark.parametrize("name", sorted({*UNARY, *BINARY} & set(OPERATIONS)))
def test_numbers_that_are_none_and_infinities(name):
    fun, kind = OPERATIONS[name]
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
    args = [x] if kind == "unit" else [x, np.roll(x, 1)]
    got, want = jax.jit(whole(fun))(*args), jax.jit(fun)(*args)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(want)[number])


def test_nan_in_a_jacobian_as_outside_jit():
    for x in (np.full(5, np.nan), np.array([0.0, 1, 1, 1, -1]), np.array([np.inf, 1, 1, 1, 1])):
        got = jax.jit(bs.jacobian(f))(x)
        np.testing.assert_allclose(got, bs.jacobian(f)(x), rtol=1e-9)
        assert np.isnan(got).all() or not np.isnan(x).all()


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.sort(x) * x[0],
        lambda x: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(5), x),
        lambda x: lax.fori_loop(0, 3, lambda i, y: jnp.sin(y), x),
        lambda x: jnp.fft.fft(x).real,
        lambda x: x @ jnp.outer(x, x),
        lambda x: lax.cumsum(x) * x,
    ],
)
def test_what_a_kernel_cannot_hold_is_left_as_it_was(fun):
    assert calls(bs.jacobian(fun), X) == 0
    assert_same(jax.jit(bs.jacobian(fun))(X), jax.jacobian(fun)(X))


def test_custom_derivatives_of_entrywise_functions():
    def fun(x, y):
        return jax.nn.softplus(x) / jax.nn.silu(y), jax.nn.relu(x - 0.5) * jnp.logaddexp(x, y) * jax.nn.softplus(y)

    x, y = unit(2), unit(2, seed=1)
    assert calls(bs.jacobian(fun), x, y) == 1
    assert_same(jax.jit(bs.jacobian(fun))(x, y), jax.jacobian(fun)(x, y))
    again = jax.jacfwd(jax.jit(bs.jacobian(fun)))  # through softplus(y), which was not differentiated before
    assert_same(jax.jit(again)(x, y), jax.jacfwd(jax.jacobian(fun))(x, y))


def test_effects_stay(capfd):
    def shouting(x):
        jax.debug.print("x is {}", x[0])
        return x * x

    assert calls(bs.jacobian(shouting), X) == 0
    jax.block_until_ready(jax.jit(bs.jacobian(shouting))(X))
    jax.effects_barrier()
    assert "x is" in capfd.readouterr().out


def test_large_programs_are_left_as_they_were(monkeypatch):
    assert calls(bs.jacobian(lambda x: jnp.sin(x) * x[::-1]), normal(40)) == 0  # of 40 entries, and 1,600
    monkeypatch.setattr(one_kernel, "_EQUATIONS", 40)
    assert len(jax.make_jaxpr(f)(X).eqns) < 40  # the program is small, its Jacobian is not
    assert calls(bs.jacobian(f), X) == 0
    assert_same(jax.jit(bs.jacobian(f))(X), jax.jacobian(f)(X))


def test_nothing_is_called_outside_jit_or_under_vmap():
    points = unit(7, 5)
    assert calls(jax.vmap(bs.jacobian(f)), points) == 0
    assert calls(jax.vmap(jax.jit(bs.jacobian(f))), points) == 0
    assert kernels(jax.vmap(jax.jit(bs.jacobian(f))), points)[0] == 0
    for batched in (jax.vmap(bs.jacobian(f)), jax.vmap(jax.jit(bs.jacobian(f)))):
        assert_same(jax.jit(batched)(points), jax.vmap(jax.jacobian(f))(points))
    assert_same(bs.jacobian(f)(X), jax.jacobian(f)(X))


def test_vmap_over_one_of_two_arguments():
    def two(x, y):
        return jnp.stack([x[0] / y[1], x[1] * y[0]])

    xs, y = unit(3, 2), unit(2, seed=1)
    got = jax.vmap(jax.jit(bs.jacobian(two, argnums=(0, 1))), in_axes=(0, None))(xs, y)
    assert_same(got, jax.vmap(jax.jacobian(two, argnums=(0, 1)), in_axes=(0, None))(xs, y))


@pytest.mark.parametrize("inner", [bs.jacobian, lambda f: jax.jit(bs.jacobian(f))], ids=["plain", "jitted"])
def test_it_is_differentiated_again(inner):
    want = jax.jacobian(jax.jacobian(f))(X)
    for outer in (jax.jacfwd, jax.jacrev, bs.jacobian):
        assert_same(jax.jit(outer(inner(f)))(X), want)
    assert_close(jax.jit(bs.hessian(lambda x: f(x).sum()))(X), jax.hessian(lambda x: f(x).sum())(X))
    assert_close(jax.grad(lambda x: inner(f)(x).sum())(X), jax.grad(lambda x: jax.jacobian(f)(x).sum())(X))
    assert_close(bs.grad(lambda x: inner(f)(x).sum())(X), jax.grad(lambda x: jax.jacobian(f)(x).sum())(X))
    moved = [jax.jvp(lambda x, y, J=J: J(f)(x * y), (X, X), (X, np.zeros(5)))[1] for J in (inner, jax.jacobian)]
    assert_close(*moved)


def test_inside_loops_and_conditions():
    def newton(J):
        def step(x, _):
            return x - 0.1 * (J(f)(x).T @ f(x)), J(f)(x)[0, 0]

        return lambda x: lax.scan(step, x, None, length=4)

    assert_same(jax.jit(newton(bs.jacobian))(X), jax.jit(newton(jax.jacobian))(X))
    ends = [
        lax.while_loop(lambda x: x.sum() < 20, lambda x, J=J: x + abs(J(f)(x)).sum(), X) for J in (bs.jacobian, jax.jacobian)
    ]
    assert_close(*ends)
    got, want = (
        jax.jit(lambda x, J=J: lax.cond(x[0] > 0, J(f), lambda x: jnp.zeros((4, 5)), x))(X)
        for J in (bs.jacobian, jax.jacobian)
    )
    assert_same(got, want)
    got, want = (jax.jit(lambda xs, J=J: lax.map(J(f), xs))(unit(3, 5)) for J in (bs.jacobian, jax.jacobian))
    assert_same(got, want)
    assert_same(jax.jit(jax.checkpoint(bs.jacobian(f)))(X), jax.jacobian(f)(X))


def test_trees_dtypes_and_what_is_constant():
    def g(p, k):
        return {"a": p["x"] * k / 3, "b": [p["y"] ** 2 / p["x"], 7.0]}

    p = {"x": jnp.float32(2.0), "y": jnp.float64(3.0), "n": 4}
    for fun, kwargs in ((g, {}), (lambda p, k: (g(p, k), {"aux": p["x"] / k, "one": 1}), {"has_aux": True})):
        got, want = (jax.jit(J(fun, allow_int=True, **kwargs))(p, 5) for J in (bs.jacobian, jax.jacrev))
        assert_same(got, want)
    assert_same(jax.jit(bs.jacobian(lambda x: jnp.ones(3)))(X), jax.jacobian(lambda x: jnp.ones(3))(X))
    for weak in (2.0, jnp.float32(2.0)):
        got, want = (transform(bs.jacobian(lambda x: jnp.sin(x) / x))(weak) for transform in (jax.jit, lambda J: J))
        assert (got.dtype, got.weak_type) == (want.dtype, want.weak_type)
    y = unit(5, seed=3)
    got, want = (jax.jit(lambda y, J=J: J(lambda x: f(x * y))(X))(y) for J in (bs.jacobian, jax.jacobian))
    assert_same(got, want)  # what is closed over is traced
    assert_same(
        jax.jit(bs.jacobian(lambda z: jnp.sin(z) / z, holomorphic=True))(1.0 + 2j),
        jax.jacobian(lambda z: jnp.sin(z) / z, holomorphic=True)(1.0 + 2j),
    )


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: 3.0 * x,
        lambda x, y: jnp.where(jnp.array(True), 3.0 * x, x * y),
        lambda x, y: jnp.concatenate([x * y, x])[2:],
        lambda x, y: x,
        lambda x, y: (x, x, y * 2),
        lambda x, y: x * (y.astype(int) * 0),
        lambda x, y: jnp.pad(x * y, (2, 2))[:2] + x,
        lambda x, y: jnp.clip(x * y, 2.0, 2.0) * x,
        lambda x, y: (x + 0, y.reshape(2, 1)),
    ],
)
@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_inputs_that_simplify_away(fun, argnums):
    """XLA's compiler would stop the process where a parameter of the function ends without a reader."""
    args = unit(2), unit(2, seed=1)
    assert_same(jax.jit(bs.jacobian(fun, argnums))(*args), jax.jacobian(fun, argnums)(*args))


@pytest.mark.filterwarnings("ignore:Some donated buffers were not usable")
def test_an_input_that_is_donated():
    x = jnp.asarray(unit(3))
    want = jax.jacobian(lambda x: jnp.sin(x) / x)(x)
    assert_same(jax.jit(bs.jacobian(lambda x: jnp.sin(x) / x), donate_argnums=0)(x), want)
    square = jnp.asarray(unit(1, 1))
    got = jax.jit(bs.jacobian(lambda x: (x / (x + 1))[0]), donate_argnums=0)(square)
    assert_close(got, 1 / (unit(1, 1)[None] + 1) ** 2)


def test_errors_are_those_of_a_call_outside_jit():
    with pytest.raises(TypeError, match="leaf 0 of the arguments has dtype int"):
        jax.jit(bs.jacobian(f))(np.arange(5))
    with pytest.raises(TypeError, match="returns dtype int32"):
        jax.jit(bs.jacobian(lambda x: x.astype(jnp.int32)))(X)
    with pytest.raises(ValueError, match="unknown order 'sideways'"):
        jax.jit(bs.jacobian(f, order="sideways"))(X)


@ON_CPU
def test_other_platforms_get_the_equations():
    exported = jax.export.export(jax.jit(bs.jacobian(f)), platforms=["cuda"])(jnp.asarray(X))
    assert "small_call" not in exported.mlir_module()
    assert "small_call" in jax.export.export(jax.jit(bs.jacobian(f)))(jnp.asarray(X)).mlir_module()
    both = jax.export.export(jax.jit(bs.jacobian(f)), platforms=["cpu", "cuda"])(jnp.asarray(X))
    assert_close(both.call(jnp.asarray(X)), jax.jacobian(f)(X))


@ON_CPU
def test_several_devices_get_the_equations():
    """A partitioner splits what it can look into."""
    script = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    import backsolve as bs
    mesh = Mesh(np.array(jax.devices()), "i")
    f = lambda x: jnp.sin(x) / (x * x + jnp.roll(x, 1)) + jnp.cos(x[0])
    x = jax.device_put(jnp.linspace(0.1, 0.9, 8), NamedSharding(mesh, P("i")))
    program = jax.jit(bs.jacobian(f)).lower(x)
    assert "small_call" not in program.as_text()
    np.testing.assert_allclose(program.compile()(x), jax.jacobian(f)(x), rtol=1e-5, atol=1e-6)
    column = lambda x: jax.jit(bs.jacobian(lambda y: y / (y * y + 1)))(x).sum(0)
    local = jax.shard_map(column, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
    np.testing.assert_allclose(jax.jit(local)(x), (1 - x**2) / (x**2 + 1) ** 2, rtol=1e-5)
    print(len(jax.devices()), "devices")
    """
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 devices" in done.stdout
