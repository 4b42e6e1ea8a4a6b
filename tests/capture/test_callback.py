"""Calls of the host from compiled code: every dtype arrives and returns as it is, in any thread and batch."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.capture.callback import on_host

X = np.random.default_rng(0).standard_normal((3, 4))


NARROW, WIDE = [np.float32, np.complex64, np.int32], [np.float64, np.complex128, np.int64]


@pytest.mark.parametrize(("dtype", "double"), [*((one, False) for one in NARROW), *((one, True) for one in NARROW + WIDE)])
def test_dtypes(dtype, double):
    with jax.enable_x64(double):
        x = jnp.asarray(1000 * X, dtype)
        seen = []

        def doubled(x):
            seen.append(x)
            return 2 * x

        for run in (lambda f: f, jax.jit, lambda f: jax.jit(jax.vmap(f))):
            batched = run(lambda x: on_host(doubled, x.shape, x.dtype, x))(x)
            np.testing.assert_array_equal(batched, 2 * np.asarray(x))
            assert batched.dtype == x.dtype
        assert all(one.dtype == x.dtype for one in seen)
        assert [one.shape for one in seen] == [(3, 4), (3, 4), (4,), (4,), (4,)]


def test_a_thread_where_double_precision_is_off():
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        call = jax.jit(lambda x: on_host(lambda x: x / 3, (3, 4), np.float64, x)).lower(x).compile()
        found = []

        def run():
            with jax.enable_x64(True):
                found.append(call(x))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        np.testing.assert_array_equal(found[0], X / 3)


def test_scalars_and_results_of_another_kind():
    with jax.enable_x64(True):
        made = jax.jit(lambda a, b: on_host(lambda a, b: a + 1j * b, (), np.complex128, a, b))(1.5, jnp.float32(2))
        assert made == 1.5 + 2j
