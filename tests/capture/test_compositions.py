"""Compositions of what goes wrong together: masks, complex numbers, custom rules, precisions, literals, empty axes, loops.

Jacobians and Hessians of random programs in every order and format, against JAX's own in double precision.  Of each program
the Jacobians in all orders and formats are compiled as one; which Hessians are, and what is done eagerly, under ``vmap`` and
compiled a second time (inside another program), is drawn anew for each.  300 programs in ``make test``, 5,000 with
BACKSOLVE_NIGHTLY=1 (``make nightly``).

JAX's forward and reverse mode differ in where a branch that was not taken leaves NaN.  Ours must be right wherever both are
finite, and may be NaN only where one of them is.
"""

import os
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from jax import lax

import backsolve as bs

from .oracle import CHOICES, compiled, normal

NIGHTLY = os.environ.get("BACKSOLVE_NIGHTLY") == "1"
FRESH = os.environ.get("BACKSOLVE_FRESH") == "1"  # other programs in each run, and fewer
PROGRAMS = 5_000 if NIGHTLY else 24 if FRESH else 300
PARTS = 6  # tests of their own, for several workers
WAYS = ("eager", "vmap", "twice")


# ---- operations: (values so far, three numbers) → a value ----------------------------------------------------------------
def pick(values, i):
    return values[i % len(values)]


def fitted(a, b):
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return jnp.sum(b)
    return b


def vector(x):
    return jnp.ravel(x)


def table(x):
    """A matrix with the entries of x."""
    x = vector(x)
    return x.reshape(2, -1) if x.size and x.size % 2 == 0 else x.reshape(1, -1)


def unary(f):
    return lambda vs, i, j, k: f(pick(vs, i))


def binary(f):
    def op(vs, i, j, k):
        a = pick(vs, i)
        return f(a, fitted(a, pick(vs, j)))

    return op


def where_of_where(vs, i, j, k):
    x, y = pick(vs, i), fitted(pick(vs, i), pick(vs, j))
    safe = jnp.where(x > 0.1, x, 1.0)
    return jnp.where(y < 0.4, jnp.where(x > 0.1, jnp.sqrt(safe), x), 0.0)


def summed_mask(vs, i, j, k):
    x = table(pick(vs, i))
    keep = (jnp.arange(x.shape[0])[:, None] + jnp.arange(x.shape[1])) % 3 != k % 3
    return jnp.sum(jax.nn.relu(x), axis=k % 2, where=keep)


def masked_mean(vs, i, j, k):
    x = vector(pick(vs, i))
    return jnp.mean(x, where=jnp.arange(x.size) != k) if x.size > 1 else x


def nan_mean(vs, i, j, k):
    x = vector(pick(vs, i))
    return jnp.nanmean(jnp.where(jnp.arange(x.size) == k, jnp.nan, x)) if x.size > 1 else x


def triangles(vs, i, j, k):
    x = vector(pick(vs, i))
    return jnp.triu(jnp.tril(jnp.outer(x[:3], x[:3])), k % 2 - 1)


def selected(vs, i, j, k):
    x = pick(vs, i)
    return jnp.select([x > 0.5, x > 0.0, x < -0.5], [x * 0.0, x + 0.0 * jnp.sum(pick(vs, j)), jnp.sin(x)], 0.3)


def hypotenuse(vs, i, j, k):
    x, y = pick(vs, i), fitted(pick(vs, i), pick(vs, j))
    return jnp.hypot(x + 0.3, jnp.cos(y))


def distances(vs, i, j, k):
    """Pairs masked twice, as in molecular dynamics."""
    x = vector(pick(vs, i))[:3]
    d = x[:, None] - x[None]
    away = d * d > 0
    r = jnp.where(away, jnp.sqrt(jnp.where(away, d * d, 1.0)), 0.0)
    near = (r > 0) & (r < 1.5)
    return jnp.sum(jnp.where(near, 1.0 / jnp.where(near, 1.0 + r, 1.0), 0.0), axis=k % 2)


def guarded_root(vs, i, j, k):
    """The square root of zeros, hidden once."""
    x = pick(vs, i)
    return jnp.where(x > 0.2, jnp.sqrt(jnp.where(x > 0.2, x, 0.0)), x)


def clipped(vs, i, j, k):
    x = pick(vs, i)
    return jnp.clip(x, -0.4, 0.6) + jnp.maximum(x, 0.1 * k - 0.3)


def power_spectrum(vs, i, j, k):
    return jnp.abs(jnp.fft.rfft(vector(pick(vs, i)) + 0.1)) ** 2


def filtered(vs, i, j, k):
    x = vector(pick(vs, i))
    if x.size < 2:
        return jnp.real(x * (1 + 2j))
    spectrum = jnp.fft.rfft(x)
    return jnp.fft.irfft(spectrum * jnp.exp(1j * jnp.arange(spectrum.size)), n=x.size)


def complex_product(vs, i, j, k):
    a = pick(vs, i)
    z = lax.complex(a, jnp.cos(a) * jnp.sum(pick(vs, j)) if k % 2 else a * a)
    return (z * jnp.conj(z) * (0.5 - 1j) + jnp.exp(1j * a)).real + jnp.abs(z + 0.5)


def phase(vs, i, j, k):
    return jnp.angle(jnp.exp(1j * pick(vs, i)) + 2.0) + (pick(vs, i) * 1j).imag


def complex_moves(vs, i, j, k):
    z = vector(pick(vs, i)) * (1 - 1j)
    z = jnp.concatenate([z[::-1], jnp.conj(z[: k % 3])])
    return jnp.where(jnp.arange(z.size) % 2 == 0, z, jnp.conj(z) * 1j).imag


@jax.custom_jvp
def bent(x):
    return jnp.where(x > 0, x, 0.1 * x)


bent.defjvp(lambda p, t: (bent(p[0]), jnp.where(p[0] > 0, 1.0, 0.2) * t[0]))


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,))


@jax.custom_vjp
def weighted(x):
    return jnp.sum(x * np.arange(x.size).reshape(x.shape))


weighted.defvjp(
    lambda x: (weighted(x), x.shape), lambda shape, g: (g * np.arange(np.prod(shape), dtype=float).reshape(shape),)
)


@jax.custom_vjp
def slowed(x, rate):
    return x * 1.0


slowed.defvjp(lambda x, rate: (x * 1.0, rate), lambda rate, g: (rate * g, jnp.zeros_like(rate)))


def solved(vs, i, j, k):
    x = vector(pick(vs, i))[:2]
    if x.size < 2:
        return x
    A, b = jnp.outer(x, x) + 2.0 * jnp.eye(2), jnp.stack([x[0], 1.0])

    def solve(_, r):
        return jnp.linalg.solve(A, r), {"steps": jnp.array(3.0)}

    return lax.custom_linear_solve(lambda y: A @ y, b, solve, solve, symmetric=True, has_aux=True)[0]


def in_single(vs, i, j, k):
    x = vector(pick(vs, i))[:4].astype(jnp.float32)
    return (jnp.convolve(x, x) if k % 2 and x.size else x * x).astype(jnp.float64)


def in_half(vs, i, j, k):
    return (pick(vs, i).astype(jnp.bfloat16) * 0.5).astype(jnp.float64)


def mixed(vs, i, j, k):
    return pick(vs, i) * jnp.float32(0.5) + np.float64(0.25)


def literals(vs, i, j, k):
    x = pick(vs, i)
    return jnp.dot(2.0, x) + jnp.arctan2(x, 3.0) + jnp.where(k % 2 == 0, x, 1.0) + lax.max(x, 0.2)


def padded(vs, i, j, k):
    x = vector(pick(vs, i))
    return jnp.pad(x, (0, 1 + k % 2), mode="edge") if x.size else x


def nothing(vs, i, j, k):
    """Axes of size zero on the way."""
    x = table(pick(vs, i))
    return jnp.concatenate([x[:0], x * 1.0]).sum(0) + x[:, :0].sum() + jnp.diff(x[:1], axis=0).sum()


def constant_matrix(vs, i, j, k):
    x = vector(pick(vs, i))
    return (np.eye(x.size) + np.eye(x.size, k=1)) @ x


def scanned(vs, i, j, k):
    h = pick(vs, i)

    def step(c, x):
        c = jnp.where(c > 0, jnp.tanh(c * x), 0.5 * c)
        return c, jnp.sum(c)

    last, sums = lax.scan(step, h, jnp.arange(3.0), reverse=bool(k % 2))
    return last * sums[k % 3]


def looped(vs, i, j, k):
    return lax.fori_loop(0, 1 + k % 3, lambda n, v: jnp.sin(v) + 0.1 * n, pick(vs, i))


def branched(vs, i, j, k):
    x, y = pick(vs, i), jnp.sum(pick(vs, j))
    return lax.cond(y > 0.1, lambda v: jnp.where(v > 0, v, 0.0) * y, lambda v: v * v, x)


def gathered(vs, i, j, k):
    x = vector(pick(vs, i))
    return x[jnp.argsort(x)] if k % 2 else x.at[np.array([k % x.size])].set(0.0) if x.size else x


def contracted(vs, i, j, k):
    x, y = table(pick(vs, i)), table(pick(vs, j))
    return x.T @ y if x.shape[0] == y.shape[0] else jnp.outer(x[0], y[0])


OPERATIONS = {
    "where of where": where_of_where,
    "summed mask": summed_mask,
    "masked mean": masked_mean,
    "nan mean": nan_mean,
    "triangles": triangles,
    "selected": selected,
    "hypotenuse": hypotenuse,
    "distances": distances,
    "guarded root": guarded_root,
    "clipped": clipped,
    "relu": unary(jax.nn.relu),
    "both branches": unary(lambda x: 0.7 * jnp.where(x > 0.1, x, x) + jnp.where(x > 0, x, 0.5 * x)),
    "power spectrum": power_spectrum,
    "filtered": filtered,
    "complex product": complex_product,
    "phase": phase,
    "complex moves": complex_moves,
    "bent": unary(bent),
    "sine": unary(sine),
    "weighted": unary(weighted),
    "slowed": unary(lambda x: slowed(x, 0.7)),
    "solved": solved,
    "single": in_single,
    "half": in_half,
    "mixed": mixed,
    "literals": literals,
    "padded": padded,
    "nothing": nothing,
    "constant matrix": constant_matrix,
    "scanned": scanned,
    "looped": looped,
    "branched": branched,
    "gathered": gathered,
    "contracted": contracted,
    "multiply": binary(jnp.multiply),
    "subtract": binary(jnp.subtract),
    "divide": binary(lambda a, b: a / (1 + b * b)),
    "checkpoint": binary(jax.checkpoint(lambda a, b: jnp.sin(a * b))),
    "jit": binary(jax.jit(lambda a, b: a * b - a)),
}
PULLED = {"sine", "weighted", "slowed"}  # JAX has no forward mode of these
ROUGH = {"single": 1e-4, "half": 0.2}


@dataclass(frozen=True)
class Program:
    """A program as data, so that a failing one prints as a list of steps."""

    size: int
    steps: tuple[tuple[str, int, int, int], ...]

    def __call__(self, x):
        values = [x]
        for name, i, j, k in self.steps:
            y = OPERATIONS[name](values, i, j, k)
            while y.ndim > 2 or y.size > 12:
                y = jnp.sum(y, axis=int(np.argmax(y.shape)))
            values.append(jnp.tanh(0.5 * y) if k % 2 else 0.5 * y)
        return jnp.concatenate([vector(y) for y in values[-2:]])

    def scalar(self, x):
        y = self(x)
        return jnp.sum(jnp.where(y > 0, y, 0.5 * y) * y)

    @property
    def names(self):
        return {name for name, *_ in self.steps}

    @property
    def tolerance(self):
        return max([1e-8, *(ROUGH[name] for name in self.names & set(ROUGH))])

    @property
    def point(self):
        return jnp.asarray(normal(self.size, seed=len(self.steps)))


def programs():
    number = st.integers(0, 7)
    step = st.tuples(st.sampled_from(sorted(OPERATIONS)), number, number, number)
    steps = st.lists(step, min_size=1, max_size=5)
    return st.builds(lambda n, steps: Program(n, tuple(steps)), st.integers(1, 4), steps)


# ---- ours and JAX's -------------------------------------------------------------------------------------------------------
def ours(derivative, f, order, form):
    """The derivative as a function to arrays, whatever the format."""

    def run(x):
        found = derivative(f, order=order, format=form)(x)
        if form == "operator":
            return jnp.asarray(found[0, 0].todense())
        return jnp.asarray(found.todense()) if form == "sparse" else found

    return run


def oracles(derivative, f, pulled):
    if derivative is bs.jacobian:
        return [jax.jacrev(f)] if pulled else [jax.jacfwd(f), jax.jacrev(f)]
    return [jax.jacrev(jax.grad(f))] if pulled else [jax.jacfwd(jax.grad(f)), jax.jacrev(jax.grad(f))]


def is_right(got, modes, tolerance):
    """Equal to one of JAX's modes (they differ at ties and edges), or not finite where one of them is not."""
    got = np.asarray(got, float)
    modes = [np.asarray(e, float) for e in modes]
    assert got.size == modes[0].size, f"{got.shape}, expected {modes[0].shape}"
    got = got.reshape(modes[0].shape)
    with np.errstate(all="ignore"):
        scale = max([1e-3, *(float(np.abs(e[np.isfinite(e)]).max(initial=0.0)) for e in modes)])
        near = np.any([np.abs(got - e) <= tolerance * scale for e in modes], axis=0)
        one_is_not = ~np.all([np.isfinite(e) for e in modes], axis=0)
        unknown = one_is_not & (~np.isfinite(got) | ~np.any([np.isfinite(e) for e in modes], axis=0))
    return (near | unknown).all()


def check(program, drawn):
    x = program.point
    for derivative, f in ((bs.jacobian, program), (bs.hessian, program.scalar)):
        name = derivative.__name__
        every = drawn["compiled"] if derivative is bs.hessian else CHOICES
        first, *others = oracles(derivative, f, program.names & PULLED)
        found, right = compiled(lambda x, d=derivative, f=f, cs=every, e=first: ([ours(d, f, *c)(x) for c in cs], e(x)))(x)
        results = [(f"{name}, compiled, {choice}", got) for choice, got in zip(every, found, strict=True)]
        for way, choice in drawn[name]:
            results.append((f"{name}, {way}, {choice}", WAY[way](ours(derivative, f, *choice))(x)))
        modes = [right]
        if not np.isfinite(right).all() or not all(is_right(got, modes, program.tolerance) for _, got in results):
            modes += [compiled(other)(x) for other in others]
        for what, got in results:
            assert is_right(got, modes, program.tolerance), f"{what}: {got.tolist()}, expected {right.tolist()}"


WAY = {
    "eager": lambda run: run,
    "vmap": lambda run: lambda x: compiled(jax.vmap(run))(jnp.stack([0.5 * x, x]))[1],
    "twice": lambda run: lambda x: compiled(lambda x: lax.fori_loop(0, 2, lambda _, a: jax.jit(run)(x), run(0.5 * x)))(x),
}


def draws():
    one = st.sampled_from(CHOICES)
    way = st.tuples(st.sampled_from(WAYS), one)
    return st.fixed_dictionaries(
        {
            "compiled": st.lists(one, min_size=2, max_size=2, unique=True),
            "jacobian": st.lists(way, min_size=1, max_size=1),
            "hessian": st.lists(way, max_size=1),
        }
    )


@pytest.mark.fresh
@pytest.mark.parametrize("part", range(PARTS))
def test_compositions(part):
    @settings(max_examples=PROGRAMS // PARTS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(programs(), draws())
    def same_as_jax(program, drawn):
        check(program, drawn)

    (same_as_jax if NIGHTLY or FRESH else seed(part)(same_as_jax))()  # else each part would draw the same programs


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_by_itself(name):
    drawn = {
        "compiled": [("auto", "array"), ("reverse", "sparse")],
        "jacobian": [("eager", ("auto", "array"))],
        "hessian": [("vmap", ("auto", "array"))],
    }
    for k in range(2):
        check(Program(3, ((name, 0, 0, k),)), drawn)
