"""Random straight-line programs that mix all families of operations, against JAX.

200 programs in ``make test``, 2,000 with BACKSOLVE_NIGHTLY=1 (``make nightly``).
"""

import os
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax

from .oracle import check, normal

PROGRAMS = 2_000 if os.environ.get("BACKSOLVE_NIGHTLY") == "1" else 20 if os.environ.get("BACKSOLVE_FRESH") == "1" else 200
SHAPES = ((), (1,), (2,), (3,), (1, 3), (2, 1), (2, 3), (3, 3), (2, 1, 2))


# ---- operations: (values so far, three numbers) → a value.  Each fits its operands to each other. ------------------------
def pick(values, i):
    return values[i % len(values)]


def small(x):
    """At most rank 3 and 40 entries: longer axes are summed."""
    while x.ndim > 3 or x.size > 40:
        x = jnp.sum(x, axis=int(np.argmax(x.shape)))
    return x


def fitted(a, b):
    """b in a form that broadcasts with a."""
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return jnp.sum(b)
    return b


def square_matrix(x):
    return jnp.resize(jnp.ravel(x), (2, 2))


def matrix(x):
    return jnp.atleast_2d(x).reshape(-1, jnp.atleast_1d(x).shape[-1])


def vector(x):
    return jnp.ravel(x)


@jax.custom_jvp
def bent(x):
    return jnp.where(x > 0, x, 0.1 * x)


bent.defjvp(lambda p, t: (bent(p[0]), jnp.where(p[0] > 0, 1.0, 0.2) * t[0]))


def unary(f):
    return lambda vs, i, j, k: f(pick(vs, i))


def binary(f):
    def op(vs, i, j, k):
        a = pick(vs, i)
        return f(a, fitted(a, pick(vs, j)))

    return op


def axis_of(x, k):
    return k % x.ndim if x.ndim else None


def along(f):
    def op(vs, i, j, k):
        x = pick(vs, i)
        return f(x, axis_of(x, k)) if x.ndim else jnp.sin(x)

    return op


def contract(vs, i, j, k):
    a, b = matrix(pick(vs, i)), matrix(pick(vs, j))
    if a.shape[1] == b.shape[0]:
        return a @ b
    if a.shape == b.shape:
        return a @ b.T
    return jnp.outer(a[:, 0], b[0])


def einsum(vs, i, j, k):
    a = pick(vs, i)
    if a.ndim == 3:
        return jnp.einsum("abc,abd->acd", a, a)
    return jnp.einsum("ab,cb->acb", matrix(a), matrix(a))


def cut(vs, i, j, k):
    x = vector(pick(vs, i))
    return x[j % x.size :: 1 + k % 2]


def dynamic_cut(vs, i, j, k):
    x = vector(pick(vs, i))
    return lax.dynamic_slice(x, (jnp.argmax(x) + j,), (1 + k % x.size,))


def dynamic_set(vs, i, j, k):
    x = vector(pick(vs, i))
    # Not an update that reads a slice of x itself: with one, jax.jit(jax.jvp(program)) of this test differed from the same
    # jax.jvp run operation by operation (JAX 0.10.2 on CPU, without backsolve), so that the oracle was wrong.
    update = jnp.sin(jnp.sum(x) * jnp.arange(1.0, 2 + k % x.size))
    return lax.dynamic_update_slice(x, update, (j,))


def gathered(vs, i, j, k):
    x = pick(vs, i)
    if not x.ndim:
        return x * x
    index = np.array([j, k, j + k, 0]) % x.shape[0]
    return x[index]


def computed_gather(vs, i, j, k):
    x = vector(pick(vs, i))
    return x[jnp.argsort(x)] if k % 2 else x.at[jnp.argsort(x) + j].get(mode=("clip", "fill")[i % 2], fill_value=0.5)


def scattered(vs, i, j, k):
    x, u = vector(pick(vs, i)), vector(pick(vs, j))
    index = np.arange(u.size) % x.size
    if k % 3 == 0:
        return x.at[index].add(u)
    if k % 3 == 1:
        return jax.ops.segment_sum(u, index, x.size)
    return x.at[k % x.size].set(u[0])


def concatenated(vs, i, j, k):
    a, b = pick(vs, i), pick(vs, j)
    if a.ndim and a.shape == b.shape:
        return jnp.concatenate([a, b, a], axis=k % a.ndim)
    return jnp.concatenate([vector(a), vector(b), jnp.ones(1)])


def padded(vs, i, j, k):
    x = vector(pick(vs, i))
    return lax.pad(x, jnp.sum(pick(vs, j)), [(j % 3, k % 2, i % 2)])


def reshaped(vs, i, j, k):
    x = pick(vs, i)
    if x.size % 2 == 0 and k % 2:
        return x.reshape(2, -1)
    return x.reshape(-1, 1) if k % 3 else x.reshape(1, -1)


def repeated(vs, i, j, k):
    x = pick(vs, i)
    return jnp.broadcast_to(x, (1 + k % 3, *x.shape))


def turned(vs, i, j, k):
    x = pick(vs, i)
    return jnp.transpose(x, np.roll(np.arange(x.ndim), k)) if x.ndim else x + 1


def chosen(vs, i, j, k):
    a = pick(vs, i)
    return jnp.where(a > 0, jnp.sqrt(jnp.abs(a) + 0.1), fitted(a, pick(vs, j)))


def guarded(vs, i, j, k):
    x = pick(vs, i)
    safe = jnp.where(x > 0, x, 1.0)
    return jnp.where(x > 0, jnp.log(safe), x)


def scanned(vs, i, j, k):
    h, w = pick(vs, i), jnp.sum(pick(vs, j))

    def step(c, x):
        c = jnp.tanh(c * w + x)
        return c, (jnp.sum(c), x * 2)

    last, (sums, _) = lax.scan(step, h, jnp.arange(3.0) * w, reverse=bool(k % 2))
    return last * sums[k % 3]


def conditioned(vs, i, j, k):
    x, y = pick(vs, i), jnp.sum(pick(vs, j))
    return lax.cond(y > 0, lambda v: jnp.sin(v) * y, lambda v: v * v, x)


def switched(vs, i, j, k):
    x = pick(vs, i)
    return lax.switch(jnp.int32(k % 3), [jnp.sin, jnp.tanh, lambda v: v * 0.5], x)


def looped(vs, i, j, k):
    x = pick(vs, i)
    return lax.fori_loop(0, 1 + k % 3, lambda n, v: jnp.sin(v) + 0.1 * n, x)


def solved(vs, i, j, k):
    m = square_matrix(pick(vs, i))
    return jnp.linalg.solve(m @ m.T + jnp.eye(2), jnp.resize(vector(pick(vs, j)), (2,)))


DENSE = {
    "sin": unary(jnp.sin),
    "tanh": unary(jnp.tanh),
    "exp": unary(lambda x: jnp.exp(jnp.clip(x, -2, 1))),
    "log1p": unary(lambda x: jnp.log1p(x * x)),
    "power": unary(lambda x: jnp.abs(x) ** 1.5 + x**3),
    "erf": unary(lax.erf),
    "add": binary(jnp.add),
    "subtract": binary(jnp.subtract),
    "multiply": binary(jnp.multiply),
    "divide": binary(lambda a, b: a / (1 + b * b)),
    "maximum": binary(jnp.maximum),
    "minimum": binary(jnp.minimum),
    "arctan2": binary(lambda a, b: jnp.arctan2(a, 2 + b * b)),
    "contract": contract,
    "einsum": einsum,
    "sum": along(jnp.sum),
    "mean": along(lambda x, a: x - jnp.mean(x, axis=a, keepdims=True)),
    "max": along(jnp.max),
    "prod": along(jnp.prod),
    "logsumexp": along(lambda x, a: jax.nn.logsumexp(x, axis=a)),
    "softmax": along(lambda x, a: jax.nn.softmax(x, axis=a)),
    "cumsum": along(jnp.cumsum),
    "cumprod": along(jnp.cumprod),
    "mixed": unary(lambda x: x * jnp.float32(0.5)),
}
MOVING = {
    "cut": cut,
    "dynamic_cut": dynamic_cut,
    "dynamic_set": dynamic_set,
    "gathered": gathered,
    "computed_gather": computed_gather,
    "scattered": scattered,
    "concatenated": concatenated,
    "padded": padded,
    "reshaped": reshaped,
    "repeated": repeated,
    "turned": turned,
    "reversed": along(lambda x, a: jnp.flip(x, a)),
    "sorted": along(lambda x, a: jnp.sort(x, axis=a)),
    "squeezed": unary(jnp.squeeze),
}
CALLS = {
    "where": chosen,
    "guarded": guarded,
    "bent": unary(bent),
    "relu": unary(jax.nn.relu),
    "silu": unary(jax.nn.silu),
    "scan": scanned,
    "cond": conditioned,
    "switch": switched,
    "loop": looped,
    "jit": binary(jax.jit(lambda a, b: a * b - a)),
    "checkpoint": binary(jax.checkpoint(lambda a, b: jnp.sin(a * b))),
    "vmap": along(lambda x, a: jax.vmap(lambda v: v * jnp.sum(v), in_axes=a)(x)),
    "stop": unary(lambda x: x * lax.stop_gradient(x)),
    "solve": solved,
}
FAMILIES = {"dense": DENSE, "moving": MOVING | {"sin": DENSE["sin"]}, "calls": CALLS, "all": DENSE | MOVING | CALLS}


@dataclass(frozen=True)
class Program:
    """A program as data, so that a failing one prints as a list of steps."""

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[str, int, int, int], ...]

    def __call__(self, *inputs):
        values = list(inputs)
        for name, i, j, k in self.steps:
            y = small(FAMILIES["all"][name](values, i, j, k))
            values.append(
                y if name in ("sum", "squeezed", "reshaped", "turned") else jnp.tanh(0.5 * y) if k % 2 else 0.5 * y
            )
        return values[-1], jnp.sum(values[len(values) // 2])

    @property
    def arguments(self):
        return tuple(normal(*shape, seed=n + 17) for n, shape in enumerate(self.shapes))


def programs(family):
    number = st.integers(0, 11)
    step = st.tuples(st.sampled_from(sorted(FAMILIES[family])), number, number, number)
    shapes = st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3)
    steps = st.lists(step, min_size=2, max_size=9)
    return st.builds(lambda a, b: Program(tuple(a), tuple(b)), shapes, steps)


@pytest.mark.fresh
@pytest.mark.parametrize("family", FAMILIES)
def test_random_programs(family):
    @settings(max_examples=PROGRAMS // len(FAMILIES), deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(programs(family))
    def same_as_jax(program):
        check(program, program.arguments)

    same_as_jax()


def test_every_operation_by_itself():
    everything = Program(((2, 3), (3,)), tuple((name, 0, 1, 3) for name in FAMILIES["all"]))
    check(everything, everything.arguments)
    spread = [Program(((2, 3), (3,)), ((name, 0, 1, 2),)) for name in FAMILIES["all"]]
    check(lambda *xs: [program(*xs) for program in spread], spread[0].arguments)
