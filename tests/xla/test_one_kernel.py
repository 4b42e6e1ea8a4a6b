"""Programs of loops are one kernel: its numbers are JAX's wherever it stands, and the process lives."""

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
import pytest
from jax import export, lax

import backsolve as bs
from backsolve.xla import one_kernel

known = pytest.mark.skipif(one_kernel.SERIES[:3] > one_kernel.KNOWN, reason="a release that it was not tried with")
pytestmark = [
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="a habit of XLA's on the CPU"),
    pytest.mark.usefixtures("double_precision", "as_users_compile"),
]
X = np.random.default_rng(0).normal(size=(60, 3))
K = np.arange(60) % 7


def f(x):
    return jnp.stack([jnp.sin(x[0]) * x[1], jnp.exp(0.3 * x[2]) * x[0], x.prod(), jnp.tanh(x[1]) / (1 + x[2] ** 2)])


def sums(x):
    """Arrays, small sums and products of which are loops too."""
    y = jnp.outer(x, x) @ (x + 1)
    return jnp.roll(y, 1) * y.sum() + jnp.where(y > 0, y, x) - jnp.max(y * x)


def scalar(x):
    return jnp.sin(x[0]) * x[1] * x[2] + x[2] ** 3


def functions(x):
    a, b = jnp.abs(x[0]) + 0.1, jnp.tanh(x[1])
    of_one = [special.erf, special.gammaln, special.digamma, special.i0e, special.ndtr, jnp.cbrt, jnp.log1p, jnp.arcsinh]
    more = [special.erfinv(b), jnp.arctan2(a, b), a**b, jnp.hypot(a, b), jnp.clip(x[2], -1, 1), jnp.floor(x[0]) * a]
    return jnp.stack([g(a) for g in of_one] + more + [special.polygamma(1, a), special.gammainc(2.0, a)])


@jax.custom_jvp
def ruled(x):
    return x * jnp.sin(x)


ruled.defjvp(lambda x, t: (ruled(*x), 2 * t[0] * x[0]))  # another one than the true one


def rules(x):
    return ruled(x) * jax.nn.silu(x[0]) + jax.jit(lambda y: ruled(y) * y)(x[1])


def stepped(J):
    def step(c, _):
        return c + 0.01 * jax.vmap(J(f))(c)[:, :3].sum(1), jax.vmap(J(f))(c)

    return lambda X: lax.scan(step, X, None, length=3)


def whiled(J):
    return lambda X: lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + 0.01 * jax.vmap(J(f))(s[1])[:, :3].sum(1)), (0, X)
    )


def chosen(J):
    return lambda X: lax.cond(X[0, 0] > 0, jax.vmap(J(f)), lambda X: 2 * jax.vmap(J(f))(X), X)


def repeated(J):
    g = jax.jit(jax.vmap(J(f)))
    return lambda X: (g(X), g(X + 1), jax.vmap(J(f))(X), X)


CONTEXTS = {
    "vmap": lambda J: jax.vmap(J(f)),
    "arrays": lambda J: jax.vmap(J(sums)),
    "one point": lambda J: lambda X: (J(f)(X[0]), J(sums)(X[1])),
    "rules": lambda J: jax.vmap(J(rules)),
    "gradient of rules": lambda J: jax.grad(lambda X: jnp.sum(jax.jit(jax.vmap(J(rules)))(X) ** 2)),
    "functions": lambda J: jax.vmap(J(functions)),
    "vmap twice": lambda J: lambda X: jax.vmap(jax.vmap(J(f), in_axes=1, out_axes=2), in_axes=2)(X.reshape(3, 5, 12)),
    "vmap of jit": lambda J: jax.vmap(jax.jit(J(f))),
    "one argument of a batch": lambda J: lambda X: jax.vmap(lambda y: J(lambda z: f(z) * y.sum())(X[0]))(X),
    "values of an outer batch": lambda J: (
        lambda X: jax.vmap(lambda y: jax.vmap(J(lambda z: f(z) * y[0] + y[1]))(X[:7]))(X[:9])
    ),
    "the same twice": lambda J: jax.vmap(lambda x: J(lambda y, z: f(y) * z.sum(), argnums=(0, 1))(x, x)),
    "scan": stepped,
    "while": whiled,
    "few in while": lambda J: lambda X: whiled(J)(X[:2]),
    "cond": chosen,
    "calls": repeated,
    "gradient": lambda J: jax.grad(lambda X: jnp.sum(jax.vmap(J(f))(X) ** 2)),
    "gradient of jit": lambda J: jax.grad(lambda X: jnp.sum(jax.jit(jax.vmap(J(f)))(X) ** 2)),
    "our gradient of jit": lambda J: (bs.grad if J is bs.jacobian else jax.grad)(
        lambda X: jnp.sum(jax.jit(jax.vmap(J(f)))(X) ** 2)
    ),
    "remat": lambda J: jax.grad(jax.checkpoint(lambda X: jnp.sum(jax.vmap(J(f))(X) ** 2))),
    "jvp": lambda J: lambda X: jax.jvp(jax.vmap(J(f)), (X,), (jnp.ones_like(X),)),
    "vjp": lambda J: lambda X: jax.vjp(jax.vmap(J(f)), X)[1](jnp.ones((60, 4, 3))),
    "twice": lambda J: jax.vmap(J(J(f))),
    "collective": lambda J: jax.vmap(lambda x: J(f)(x) - lax.pmean(J(f)(x), "i"), axis_name="i"),
    "map": lambda J: lambda X: lax.map(J(f), X, batch_size=8),
    "then a product": lambda J: jax.vmap(lambda x: jnp.linalg.solve(J(f)(x)[:3] + 4 * jnp.eye(3), J(f)(x).T @ f(x))),
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_wherever_it_stands(name):
    ours, theirs = (jax.tree.leaves(jax.jit(CONTEXTS[name](J))(X)) for J in (bs.jacobian, jax.jacfwd))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


UNREAD = {
    "constant": lambda x, k: 2 * x,
    "nothing": lambda x, k: jnp.zeros(2),
    "itself": lambda x, k: x,
    "turned": lambda x, k: x[::-1],
    "times zero": lambda x, k: jnp.stack([x[0] * (k * 0), x[1] * x[2] * (k - k)]),
    "a mask": lambda x, k: jnp.where(k >= 0, x * x[0], jnp.where(k > 3, x, 0)),
    "counted": lambda x, k: x * k + jnp.arange(3),
}


@pytest.mark.parametrize("known", [False, True], ids=["given", "known to XLA"])
@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read(name, known):
    """XLA ends the process where a call that it writes down as one function does not read an argument, as it finds late."""
    g = UNREAD[name]

    def derivatives(J):
        def of(X, K, t):
            X, K = (jnp.arange(180.0).reshape(60, 3) / 60, jnp.arange(60)) if known else (X, K)
            return jax.vmap(lambda x, k: J(lambda z: g(z, k))(x))(X, K) + t, J(lambda z: g(z, K[1]))(X[1])

        return of

    for a, b in zip(*(jax.jit(derivatives(J))(X, K, 1.0) for J in (bs.jacobian, jax.jacfwd)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16, np.complex64, np.complex128])
@pytest.mark.parametrize("points", [0, 1, 2, 33])
def test_of_any_kind(dtype, points):
    at = jnp.asarray(np.resize(X, (points, 3)), dtype)
    complex_ = jnp.issubdtype(dtype, np.complexfloating)
    g = (lambda x: jnp.stack([x[0] * x[1], jnp.exp(x[0])])) if complex_ else f
    ours, theirs = (jax.jit(jax.vmap(J(g, holomorphic=complex_)))(at) for J in (bs.jacobian, jax.jacfwd))
    assert ours.dtype == theirs.dtype
    rounding = float(jnp.finfo(dtype).eps)
    kind = np.complex128 if complex_ else np.float64
    np.testing.assert_allclose(np.asarray(ours, kind), np.asarray(theirs, kind), rtol=20 * rounding, atol=20 * rounding)


def test_pytrees_empty_arrays_and_keys():
    def g(p, e, key):
        return {"a": p["u"] * p["v"][0], "b": jnp.concatenate([jnp.sin(p["v"]), e])}, jax.random.uniform(key)

    p, e = {"u": X[:, 0], "v": X[:, 1:]}, np.zeros((60, 0))
    keys = jax.random.split(jax.random.key(0), 60)
    ours, theirs = (jax.jit(jax.vmap(J(g, has_aux=True)))(p, e, keys) for J in (bs.jacobian, jax.jacfwd))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)


def is_one_kernel(compiled):
    text = compiled.as_text()
    entry = text[text.index("\nENTRY") :]
    return "xla_cpu_small_call" in entry and " fusion(" not in entry


@known
def test_it_is_one_kernel():
    hessians = jax.jit(jax.vmap(bs.hessian(scalar))).lower(X)
    ruled_ones = jax.jit(jax.vmap(bs.jacobian(rules))).lower(X)
    for lowered in (
        jax.jit(jax.vmap(bs.jacobian(f))).lower(X),
        jax.jit(bs.jacobian(sums)).lower(X[0]),
        hessians,
        ruled_ones,
    ):
        assert is_one_kernel(lowered.compile())


LIMITS = {
    "rows": ("_ROW", 60, jax.vmap(bs.jacobian(f)), X),
    "rows over two batches": ("_ROW", 15, jax.vmap(jax.vmap(bs.jacobian(f))), X[:15].reshape(3, 5, 3)),
    "arrays": ("_ARRAY", 9, bs.jacobian(sums), X[0]),
    "a later batch": ("_LARGEST", 60 * 12, jax.vmap(jax.jit(bs.jacobian(f))), X),
}


@known
@pytest.mark.parametrize("name", LIMITS)
def test_many_numbers_are_divided_among_threads(monkeypatch, name):
    limit, numbers, derivative, at = LIMITS[name]
    monkeypatch.setattr(one_kernel, limit, numbers)
    one = jax.jit(lambda x: derivative(x))
    assert is_one_kernel(one.lower(at).compile())
    monkeypatch.setattr(one_kernel, limit, numbers - 1)
    several = jax.jit(lambda x: derivative(x))
    assert not is_one_kernel(several.lower(at).compile())
    np.testing.assert_allclose(several(at), one(at), rtol=1e-12)


@known
def test_no_other_compiler_is_told():
    """What is exported may be compiled by a release that is not known."""
    jitted = jax.jit(jax.vmap(bs.jacobian(f)))
    exported = export.export(jitted)(jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert "small_call" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(X), jitted(X), rtol=1e-12)
    assert "small_call" in jitted.lower(X).as_text()
    assert "small_call" not in jitted.trace(X).lower(lowering_platforms=("cuda",)).as_text()


def test_releases_that_are_not_known_get_the_program_as_it_is(monkeypatch):
    monkeypatch.setattr(one_kernel, "SERIES", (99, 0))
    assert "small_call" not in jax.jit(jax.vmap(bs.jacobian(f))).lower(X).as_text()
