"""Sparse Jacobians through loops, several columns at once: by the blocks of each step, along the last axis, in one loop with
that which they belong to.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture import columns_last, step_blocks
from backsolve.tracing import jaxpr as jx

pytestmark = pytest.mark.filterwarnings("ignore:the (Jacobian|Hessian) of .* is dense")

RNG = np.random.default_rng(0)
T = 12
X = RNG.standard_normal(T)
W, U = 0.4 * RNG.standard_normal((3, 4, 4)), RNG.standard_normal((3, 2, 4))


def unit(x, **options):
    """A gated unit, whose blocks are full, forwards or backwards."""

    def step(h, v):
        update, reset = jax.nn.sigmoid(v @ U[0] + h @ W[0]), jax.nn.sigmoid(v @ U[1] + h @ W[1])
        return (1 - update) * jnp.tanh(v @ U[2] + reset * (h @ W[2])) + update * h, None

    return lax.scan(step, jnp.zeros(4, x.dtype), x.reshape(-1, 2), **options)[0]


def outputs(x):
    """Outputs at all steps, by the start, by what stays and by slices; one carry adds up."""

    def step(carry, v):
        a, b, total = carry
        a, b = jnp.sin(a) * x[0] + v * b, b * jnp.cos(v) + 0.1 * a * x[1]
        return (a, b, total + a * v), (a * b, b + x[2])

    (a, _, total), ys = lax.scan(step, (x[0], x[1], 0.0), x)
    return jnp.concatenate([jnp.stack([a, total]), *ys])


def partly(x):
    """Blocks that are neither full nor diagonal; a carry that does not move, and a counter."""

    def step(carry, v):
        c, fixed, k = carry
        c = jnp.stack([c[0] * v, jnp.sin(c[1]) + c[0], c[2] + fixed * k])
        return (c, 0.5 * fixed, k + 1), c[::2]

    (c, _, _), ys = lax.scan(step, (x[:3], 1.0, 0), x, reverse=True)
    return jnp.concatenate([c, ys.reshape(-1)])


def likelihood(p):
    """A filter, of which the Hessian is asked for."""

    def step(carry, y):
        mean, variance = p[2] * carry[0], p[2] ** 2 * carry[1] + jnp.exp(p[0])
        total = variance + jnp.exp(p[1])
        gain, error = variance / total, y - mean
        return (mean + gain * error, (1 - gain) * variance), (jnp.log(total) + error**2 / total) / 2

    return jnp.sum(lax.scan(step, (0.0 * p[0], 1.0 + 0.0 * p[0]), X)[1])


def gathered(x):
    """Indices that are known, inside a loop."""
    at = np.array([[3, 1], [0, 2], [1, 1], [2, 0]])
    return lax.scan(lambda u, v: (0.5 * u + v * jnp.sin(u[at]).sum(1), u[:2] * v), x[:4], x)[0]


def cut(x):
    """A product that is infinite in one column leaves the others as they are."""
    return lax.scan(lambda c, _: (jnp.stack([c[0] * 1e200, 2 * c[1]]), None), x[:2] * x[2:4], None, length=3)[0]


PROGRAMS = {
    "unit": unit,
    "backwards": lambda x: unit(x, reverse=True),
    "unrolled": lambda x: unit(x, unroll=3),
    "outputs": outputs,
    "partly": partly,
    "gathered": gathered,
    "infinite": cut,
    "after and before others": lambda x: jnp.cumsum(outputs(jnp.sin(x) * x[::-1])),
    "by few": lambda p: outputs(jnp.concatenate([p[:3], X[3:]])),
}
STENCIL = RNG.standard_normal((5, 6))


def plate(u):
    def step(u, a):
        p = jnp.pad(u, 1)
        near = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] + jnp.roll(u, 1, 1)[::-1]
        flow = jnp.where(u > 0, u - jnp.concatenate([u[:1], u[:-1]]), 0.0)
        return u * a + 0.1 * near * jnp.sin(u) - flow + u.sum(0), u[:, :2].T

    end, ys = lax.scan(step, u, jnp.linspace(0.5, 1, 3))
    return end, ys


def two_loops(p):
    """What the second is given at each step is put down by the first, both three steps at a time; a third goes back."""
    x = jnp.concatenate([p, X[2:]])
    end, states = lax.scan(lambda c, v: (jnp.sin(c) * v, jnp.cos(c * v)), x[0], x, unroll=3)
    y, more = lax.scan(lambda c, s: (c * jnp.tanh(s) + s, c * jnp.exp(s)), end, states, unroll=3)
    z, last = lax.scan(lambda c, s: (jnp.sin(c) + c * s, c * s), y, more, reverse=True)
    return jnp.concatenate([more, last, jnp.stack([y, z])])


def waves(x):
    """Many numbers, by sines, powers and divisions, a mask and a function inside."""

    def step(u, v):
        near = jnp.where(u > 0, jnp.roll(u, 1), jax.nn.softplus(u))
        return u + 0.1 * near * jnp.sin(u) / (1 + u**2) + v * jnp.roll(jnp.exp(-u), -1), (u * jnp.cos(u), u > v)

    end, (ys, _) = lax.scan(step, jnp.tile(x, 4), x[:3])
    return end, ys[:, 5]


ALL = {
    **{name: (f, X) for name, f in PROGRAMS.items()},
    "plate": (plate, STENCIL),
    "two loops": (two_loops, X[:2]),
    "waves": (waves, X),
}


BLOCKS, FEW, LAST, BESIDE, CHOSEN = "blocks", "blocks of a few steps", "columns last", "beside their loop", "as chosen"
CASES = [  # a program, the way, and whether under jit
    *[(name, BLOCKS, True) for name in ("unit", "outputs", "partly", "gathered", "after and before others")],
    *[(name, FEW, True) for name in ("backwards", "by few")],
    *[(name, LAST, True) for name in ("plate", "outputs", "infinite")],
    *[(name, BESIDE, True) for name in ("plate", "outputs", "partly", "by few", "two loops", "waves")],
    ("infinite", BLOCKS, False),
    ("gathered", LAST, False),
    ("unrolled", CHOSEN, True),
]


def goes(way, monkeypatch):
    """Take this way whatever it costs; returns a list that grows with each use of it."""
    used = []

    def counted(module, name):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: used.append(name) or inner(*args))

    if way in (BLOCKS, FEW):
        monkeypatch.setattr(step_blocks, "GAIN", np.inf)
        monkeypatch.setattr(step_blocks, "BYTES", 1 << 19 if way == BLOCKS else -10_000)
        counted(step_blocks, "_mapped")
    elif way == LAST:
        monkeypatch.setattr(step_blocks, "GAIN", 0.0)
        monkeypatch.setattr(columns_last, "FEW", 1)
        counted(columns_last, "evaluated_last")
    elif way == BESIDE:
        beside = columns_last.beside_their_loops
        monkeypatch.setattr(step_blocks, "GAIN", 0.0)
        monkeypatch.setattr(columns_last, "FEW", 1000)

        def kept(op):
            function = beside(op)
            used.extend([way] if function is not None else [])
            return function

        monkeypatch.setattr(columns_last, "beside_their_loops", kept)
    return used


@pytest.mark.parametrize(("name", "way", "jit"), CASES)
def test_jacobians(name, way, jit, monkeypatch):
    f, x = ALL[name]
    used = goes(way, monkeypatch)
    ours = bs.jacobian(f, format="sparse")
    ours = (jax.jit(ours) if jit else ours)(x)
    assert used or way == CHOSEN
    theirs = jax.jit(jax.jacfwd(f))(x)
    for S, J in zip(jax.tree.leaves(ours, is_leaf=lambda S: hasattr(S, "todense")), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(S.todense(), J, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", [BLOCKS, LAST, BESIDE])
def test_hessians(way, monkeypatch):
    """Both scans of a gradient; what the first has put down is worked out again."""
    p = np.array([-1.0, 0.0, 0.9])
    used = goes(way, monkeypatch)
    ours = jax.jit(bs.hessian(likelihood, format="sparse"))(p)
    assert len(used) >= (1 if way == BESIDE else 2)
    np.testing.assert_allclose(ours.todense(), jax.jit(jax.hessian(likelihood))(p), rtol=1e-9)


def test_patterns_by_indices_that_follow_from_known_ones():
    """A gather inside a loop, of indices that the loop is given."""
    S = bs.jacobian(gathered, format="sparse")(X)
    at = np.array([[3, 1], [0, 2], [1, 1], [2, 0]])

    def mesh(u):
        return lax.scan(lambda u, _: (0.5 * u + jnp.sin(u[at]).sum(1), None), u, None, length=1)[0]

    assert S.shape == (4, T)
    np.testing.assert_array_equal(bs.sparsity(mesh, X[:4]).todense() != 0, np.asarray(jax.jacfwd(mesh)(X[:4])) != 0)


def test_beside_their_loop_nothing_is_put_down():
    """The loop of a Jacobian by two columns alone: it writes nothing, and there is no other."""

    def f(x):
        return lax.fori_loop(0, 5, lambda _, u: jnp.sin(u) * u[::-1], x.reshape(40, 2).T).T

    x = RNG.standard_normal(80)
    made = jax.make_jaxpr(bs.jacobian(f, format="sparse"))(x)
    loops = [eqn for eqn, _ in jx.live_equations(made.jaxpr)]
    waiting, scans = list(loops), []
    while waiting:
        eqn = waiting.pop()
        scans += [eqn] if eqn.primitive.name == "scan" else []
        waiting.extend(e for body in jx.inner_equations(eqn.params) for e in [body])
    assert len(scans) == 1
    assert len(scans[0].outvars) == scans[0].params["num_carry"]
