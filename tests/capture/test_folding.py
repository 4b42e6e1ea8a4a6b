"""Constant folding: what is known while tracing, against JAX's own numbers."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from backsolve.capture.folding import Partly, _partly_entries, fold, known_value

FOLDED = [
    lambda i: i + 5 - 2 * i,
    lambda i: jnp.where(i < 0, i + 5, i),
    lambda i: jnp.stack([i // 2, i % 3, -i], axis=1),
    lambda i: lax.rem(i - 3, 2),
    lambda i: lax.div(i - 3, 2),
    lambda i: jnp.clip(i, 1, 2)[::-1].reshape(3, 1).T,
    lambda i: jnp.concatenate([i, jnp.arange(4)])[1:],
    lambda i: jnp.maximum(i, 2) == jnp.minimum(i, 3),
    lambda i: jnp.sort(i)[::-1],
    lambda i: jnp.searchsorted(jnp.arange(4), i),
    lambda i: (i[:, None] > jnp.arange(2)) & ~(i[:, None] == 2),
    lambda i: i.astype(jnp.int8),
    lambda i: jnp.cumsum(i)[jnp.array([2, 0])],
    lambda i: lax.pad(i, i.dtype.type(7), [(2, -1, 1)]),
    lambda i: lax.pad(i[0], i.dtype.type(7), []),
    lambda i: lax.select_n(i.astype(np.int32), *(k * i for k in range(40))),
    lambda i: (i > 1).astype(float),
    lambda i: jnp.floor((i - 1) / 3.0).astype(int),
    lambda i: jnp.ceil(i / jnp.array([0.7, 0.0, -1.1])),
    lambda i: lax.round(i - 2.5, lax.RoundingMethod.TO_NEAREST_EVEN),
    lambda i: lax.round(i - 2.5, lax.RoundingMethod.AWAY_FROM_ZERO),
    lambda i: lax.round(0.49999999999999994 * (i - 2.0), lax.RoundingMethod.AWAY_FROM_ZERO),
    lambda i: jnp.sqrt(i**2 * 0.7 - 0.1) + jnp.square(i / 7.0),
    lambda i: jnp.mod(i / 2.0 - 1.3, 0.7),
    lambda i: (i / 3.0).astype(jnp.float32),
    lambda i: jnp.max(i / 3.0) - jnp.min(i[:, None] - 0.5, axis=0) + jnp.sum(i / 7.0),
]


@pytest.mark.parametrize("number", range(len(FOLDED)))
def test_integers_are_folded_under_jit_as_jax_computes_them(number):
    f, i = FOLDED[number], jnp.array([2, 0, 3])
    closed = jax.make_jaxpr(f)(i)
    known = []

    def run():
        values = dict(zip((*closed.jaxpr.constvars, *closed.jaxpr.invars), (*closed.consts, i), strict=True))
        for eqn in closed.jaxpr.eqns:
            made = fold(eqn, [v.val if hasattr(v, "val") else values[v] for v in eqn.invars])
            values.update(zip(eqn.outvars, made, strict=True))
        known.append(values[closed.jaxpr.outvars[0]])
        return 0.0

    jax.jit(run)()
    assert not isinstance(known[0], jax.core.Tracer)
    want = f(i)
    assert known[0].dtype == want.dtype
    np.testing.assert_array_equal(np.asarray(known[0]), np.asarray(want))


def test_folding_in_numpy_compiles_nothing():
    """JAX makes an array of a NumPy one by a program of its own, one for each shape, unless it is told the dtype."""
    eqn = jax.make_jaxpr(lambda i: i + 5)(jnp.arange(23)).eqns[0]  # no other test has this many
    events = []

    def listener(event, seconds, **more):
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        (made,) = fold(eqn, [np.arange(23, dtype=np.int32), 5])
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    np.testing.assert_array_equal(made, np.arange(5, 28))
    assert not [event for event in events if "compile" in event]


def test_what_is_traced_or_rounded_otherwise_is_not_folded():
    eqn = jax.make_jaxpr(lambda i: i + 5)(1).eqns[0]
    assert jax.jit(lambda i: float(fold(eqn, [i, 5]) is None))(1) == 1.0
    assert jax.jit(lambda i: float(known_value(i) is None))(1) == 1.0
    assert known_value(None) is None
    floating = jax.make_jaxpr(lambda x: jnp.exp(x))(1.0).eqns[0]
    assert fold(floating, [1.0]) is None


def test_what_is_not_known_yet_warns_of_nothing():
    """Zeros stand for it, also where it is divided by."""
    eqn = jax.make_jaxpr(lambda a, b: a / b)(jnp.ones(2), jnp.ones(2)).eqns[0]
    half = Partly(np.array([0.0, 1.0], np.float32), np.array([False, True]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = _partly_entries(eqn, [half, None])
        assert found is not None
        assert not found.known.any()
