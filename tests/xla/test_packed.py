"""Programs written number by number, packed: the same values, Jacobians, Hessians and patterns, in fewer equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backsolve as bs
from backsolve.xla import packed as packing
from backsolve.xla.packed import in_vectors, packed
from tests import reference

N = 10
RNG = np.random.default_rng(0)
LINES = [(int(i), int(j)) for i, j in RNG.integers(0, N, (30, 2)) if i != j]
RATES = RNG.uniform(0.5, 2.0, len(LINES))


def network(x):
    flow = [0.0] * N
    for (i, j), rate in zip(LINES, RATES, strict=True):
        drop = x[i] - x[j]
        current = rate * jnp.sin(drop) * x[i] + drop**3
        flow[i], flow[j] = flow[i] - current, flow[j] + current
    return jnp.stack(flow)


def choices(x):
    """Masks, largest ones, integers beside numbers, small arrays, a call of a compiled function, constants."""
    scaled = jax.jit(lambda a, b: jnp.where(a > b, a * b, -a))
    out = []
    for (i, j), rate in zip(LINES, RATES, strict=True):
        a, b = scaled(x[i], x[j] * rate), jnp.maximum(x[i], 0.5) / (1 + jnp.exp(-x[j]))
        pair = jnp.array([a, b]) * jnp.array([1.0, 2.0]) + x[:2]
        out.append(pair.sum() + pair[1] ** 2.5 * jnp.float64(jnp.int32(x[i] * 3) + j))
    return jnp.stack(out[:7])


def with_arrays(x):
    """Numbers of whole arrays, and arrays joined of numbers."""
    A = jnp.outer(x, jnp.sin(x)) + jnp.arange(float(N))
    out = [A[i, j] * x[i] + jnp.cos(A[j, i]) - x[j] ** 2 / (2.0 + A[i, i]) for i, j in LINES]
    joined = jnp.array(out[: N * 2]).reshape(2, N)
    return jnp.tanh(joined) @ x + jnp.sum(jnp.stack(out))


def in_turn(x):
    """A long chain, which no equations share."""
    for k in range(60):
        x = x.at[k % N].set(jnp.sin(x[k % N]) * x[(k + 3) % N] + 0.1)
    return x


def complex_numbers(x):
    total = [0j] * 4
    for n, ((i, j), rate) in enumerate(zip(LINES, RATES, strict=True)):
        total[n % 4] = total[n % 4] + jnp.exp(1j * x[i]) * (x[j] - 2j * rate) * jnp.conj(x[i] + 1j * x[j])
    return jnp.abs(jnp.stack(total))


def odd_outputs(x):
    """An input, a constant, and what is empty, beside numbers."""
    return jnp.concatenate([x, jnp.ones(2), network(x)[:0] + jnp.sum(x), network(x)])


PROGRAMS = {f.__name__: f for f in (network, choices, with_arrays, in_turn, complex_numbers, odd_outputs)}


@pytest.fixture(autouse=True)
def _in_double(double_precision):
    """Compared to the last digits."""


def point(seed=1):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.3, 1.2, N))


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_jacobians_and_patterns(name, monkeypatch):
    f, x = PROGRAMS[name], point()
    closed = jax.make_jaxpr(f)(x)
    assert (packed(closed.jaxpr, closed.consts) is None) == (name == "in_turn")
    np.testing.assert_allclose(in_vectors(f)(x), f(x), rtol=1e-13)
    expected = reference.jacobian(f)(x)
    found = jax.jit(bs.jacobian(f, format="sparse"))(x)
    np.testing.assert_allclose(found.todense(), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        bs.jacobian(f, format="sparse", order="reverse")(x).todense(), expected, rtol=1e-9, atol=1e-11
    )
    monkeypatch.setattr(packing, "MANY", 10**9)
    assert bs.sparsity(f, x).nnz == found.nnz


@pytest.mark.parametrize("name", ["network", "choices"])
def test_hessians(name):
    f, x = PROGRAMS[name], point()
    g = lambda x: jnp.sum(f(x) ** 2)  # noqa: E731
    found = jax.jit(bs.hessian(g, format="sparse"))(x)
    np.testing.assert_allclose(found.todense(), reference.hessian(g)(x), rtol=1e-8, atol=1e-8)


def test_fewer_equations():
    closed = jax.make_jaxpr(network)(point())
    found = packed(closed.jaxpr, closed.consts)
    assert len(closed.jaxpr.eqns) > 300
    assert len(found.jaxpr.eqns) < len(closed.jaxpr.eqns) / 2
    for f in (in_turn, lambda x: jnp.sin(x) * x):  # nothing alike, and nothing number by number
        closed = jax.make_jaxpr(f)(point())
        assert packed(closed.jaxpr, closed.consts) is None


@pytest.mark.filterwarnings("ignore:the Jacobian of")
def test_arguments_as_people_have_them():
    """Several arguments, pytrees, numbers, auxiliary data, what is closed over, also under `jit`."""

    def f(state, rate, label=None):
        assert label == "network"
        y = network(state["x"] * rate) * scale
        return {"y": y, "first": y[0]}, (y * 2, "told")

    scale, x, r = jnp.float64(1.5), point(), 0.8
    derivative = bs.jacobian(f, argnums=(0, 1), has_aux=True, format="sparse")
    J, (twice, told) = derivative({"x": x}, r, label="network")
    expected = reference.jacobian(lambda x, r: network(x * r) * scale, argnums=(0, 1))(x, r)
    np.testing.assert_allclose(J["y"][0]["x"].todense(), expected[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(J["y"][1].todense(), expected[1], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(J["first"][0]["x"].todense(), expected[0][0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(twice, network(x * r) * 3)
    assert told == "told"

    @jax.jit
    def within(s):
        return bs.jacobian(lambda x: network(x * s), format="sparse")(x).data

    data = bs.jacobian(lambda x: network(x * 0.7), format="sparse")(x).data
    np.testing.assert_allclose(within(0.7), data, rtol=1e-12)


def test_infinite_numbers_stay_with_theirs(monkeypatch):
    """What is NaN or infinite is so in the same entries as number by number."""

    def f(x):
        return jnp.stack([x[i] * jnp.log(x[j]) + jnp.sqrt(x[i]) * x[j] + 1 / x[i] for i, j in LINES])

    x = point().at[3].set(0.0)
    found = jax.jit(bs.jacobian(f, format="sparse"))(x).todense()
    monkeypatch.setattr(packing, "MANY", 10**9)
    np.testing.assert_allclose(found, jax.jit(bs.jacobian(lambda x: f(x), format="sparse"))(x).todense(), rtol=1e-12)
    assert np.isinf(found).any()


OPERATIONS = [
    lambda a, b: a * b,
    lambda a, b: a + jnp.sin(b),
    lambda a, b: jnp.where(a > b, a, 2.0 * b),
    lambda a, b: a / (1.5 + b * b),
    lambda a, b: jnp.stack([a, b])[::-1][0] - 1.0,
    lambda a, b: jnp.minimum(a, b) ** 2,
    lambda a, b: jnp.dot(jnp.stack([a, b]), jnp.array([0.5, 2.0])),
]


@pytest.mark.filterwarnings("ignore:the Jacobian of")
@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_random_programs(seed):
    def f(x):
        rng = np.random.default_rng(seed)
        values = [x[k] for k in range(N)] + [jnp.asarray(0.3)]
        chosen = [OPERATIONS[int(k)] for k in rng.integers(0, len(OPERATIONS), 2)]
        for _ in range(4):
            made = []
            for _ in range(30):
                a, b = (values[int(k)] for k in rng.integers(0, len(values), 2))
                made.append(chosen[int(rng.integers(0, 2))](a, b))
            values = made
        return jnp.stack(values[:8])

    x = point(seed)
    expected = reference.jacobian(f)(x)
    found = jax.jit(bs.jacobian(f, format="sparse"))(x)
    np.testing.assert_allclose(found.todense(), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["network", "choices", "complex_numbers"])
def test_dense_jacobians_under_jit(name):
    """They are those entries in an array; so they are differentiated again, and under vmap."""
    f, x = PROGRAMS[name], point()
    expected = reference.jacobian(f)(x)
    np.testing.assert_allclose(jax.jit(bs.jacobian(f))(x), expected, rtol=1e-9, atol=1e-11)
    value, J = jax.jit(bs.value_and_jacobian(f))(x)
    np.testing.assert_allclose(value, f(x), rtol=1e-12)
    np.testing.assert_allclose(J, expected, rtol=1e-9, atol=1e-11)
    X = jnp.stack([x, x + 0.1])
    for batched in (jax.jit(jax.vmap(bs.jacobian(f))), jax.vmap(jax.jit(bs.jacobian(f)))):
        np.testing.assert_allclose(batched(X), jax.vmap(reference.jacobian(f))(X), rtol=1e-9, atol=1e-11)
    twice = jax.jit(jax.grad(lambda x: jnp.sum(bs.jacobian(f)(x) ** 2)))(x)
    # Forward over forward: of JAX's reverse mode over itself XLA makes a program that it compiles for more than a minute.
    expected = reference.jacfwd(lambda x: jnp.sum(jax.jacfwd(f)(x) ** 2))(x)
    np.testing.assert_allclose(twice, expected, rtol=1e-8, atol=1e-8)


def test_what_is_hidden_stays_hidden():
    """An infinite derivative behind a mask, at the place where the mask hides it."""

    def f(x):
        return jnp.stack([jnp.where(x[i] > 0, jnp.log(x[i]) * x[j], x[j] ** 2) + jnp.sin(x[j]) for i, j in LINES * 2])

    x = point().at[3].set(0.0)
    expected = reference.jacfwd(f)(x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(jax.jit(bs.jacobian(f))(x), expected, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(bs.jacobian(f, format="sparse"))(x).todense(), expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:the Jacobian of")
def test_random_keys_beside_numbers():
    """A key that is closed over is no array of numbers: such a program is left as it is, as one with effects."""
    key = jax.random.key(0)

    def f(x):
        return network(x) * jax.random.uniform(key, (N,)) + jnp.sum(network(x * 2))

    x = point()
    expected = reference.jacobian(f)(x)
    np.testing.assert_allclose(jax.jit(bs.jacobian(f, format="sparse"))(x).todense(), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(jax.jit(bs.jacobian(f))(x), expected, rtol=1e-9, atol=1e-11)
    nothing = jax.jit(bs.jacobian(lambda x: (network(x), jnp.zeros(0) + x[0])))(x)[1]
    assert nothing.shape == (0, N)

    def printing(x):
        jax.debug.print("{}", x[0], ordered=True)
        return network(x) * 2

    np.testing.assert_allclose(jax.jit(bs.jacobian(printing))(x), 2 * reference.jacobian(network)(x), rtol=1e-9, atol=1e-11)
