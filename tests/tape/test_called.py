"""A jitted function by a tape: the numbers of `jax.jit`, traced as often, and left to it where it checks or spreads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.tape.called import Called

X = np.linspace(0.1, 1.0, 5)


class Counted:
    """A function that counts how often it is traced, and how often its program is run by JAX."""

    def __init__(self, function):
        self.traced = self.run = 0
        self._function = function
        self._jitted = jax.jit(self._trace, static_argnums=0)
        self.called = Called(self)

    def _trace(self, static, arrays):
        self.traced += 1
        return self._function(static, *arrays)

    def trace(self, static, arrays):
        return self._jitted.trace(static, arrays)

    def __call__(self, static, arrays):
        self.run += 1
        return self._jitted(static, arrays)


def f(k, x, *more):
    return {"a": k * jnp.sin(x) * sum(more, start=1.0), "b": (x.sum(), x.reshape(-1, 1))}


@pytest.mark.parametrize("x64", [False, True])
def test_it_is_traced_once_a_type_and_not_run_by_jax(x64):
    with jax.enable_x64(x64):
        counted = Counted(f)
        for scale in (1.0, 2.0, -1.0):
            found, want = counted.called(3, [scale * X]), f(3, jnp.asarray(scale * X))
            assert jax.tree.structure(found) == jax.tree.structure(want)
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
                assert (type(a), a.dtype, a.shape) == (np.ndarray, b.dtype, b.shape)
                np.testing.assert_allclose(a, b, rtol=1e-6)
        assert (counted.traced, counted.run) == (1, 0)
        for static, arrays in ((4, [X]), (3, [X[:2]]), (3, [X, 2.0]), (3, [X, X]), (3, [jnp.asarray(X, np.float32)])):
            counted.called(static, arrays)
            counted.called(static, arrays)
        assert (counted.traced, counted.run) == (5 + x64, 0)


def test_precision_and_parameters_are_those_of_the_call():
    counted = Counted(f)
    for x64 in (False, True, False):
        with jax.enable_x64(x64):
            for c in (2.0, 3.0):
                found = counted.called(1, [X, c])["a"]
                assert found.dtype == (np.float64 if x64 else np.float32)
                np.testing.assert_allclose(found, np.sin(X) * (1 + c), rtol=1e-13 if x64 else 1e-6)
    changed = X.copy()
    counted.called(1, [X, changed])
    changed[:] = 7.0
    np.testing.assert_allclose(counted.called(1, [X, changed])["a"], np.sin(X) * 8, rtol=1e-6)


def test_results_are_the_callers_own():
    counted = Counted(f)
    first = counted.called(1, [X])
    first["a"][:] = 0
    first["b"][1][:] = 0
    np.testing.assert_allclose(counted.called(1, [X])["a"], np.sin(X), rtol=1e-6)


def test_other_programs_are_jaxs():
    counted = Counted(lambda k, x: jnp.sort(x))
    for _ in range(3):
        np.testing.assert_allclose(counted.called(1, [X[::-1].copy()]), X, rtol=1e-6)
    assert (counted.traced, counted.run) == (1, 3)
    counted = Counted(lambda k: jnp.ones(2))
    np.testing.assert_array_equal(counted.called(1, []), np.ones(2))


def test_traced_arguments_are_jaxs():
    counted = Counted(f)
    np.testing.assert_allclose(jax.jit(lambda x: counted.called(1, [x])["a"])(X), np.sin(X), rtol=1e-6)
    np.testing.assert_allclose(
        jax.jvp(lambda x: counted.called(1, [x])["a"], (jnp.asarray(X),), (jnp.ones(5),))[1], np.cos(X), rtol=1e-6
    )
    assert counted.run == 2


def test_where_jax_is_to_check_it_does():
    counted = Counted(lambda k, x: jnp.log(x))
    assert np.isnan(counted.called(1, [-X])).all()
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"invalid value \(nan\)"):
        counted.called(1, [-X])
    with jax.disable_jit():
        counted.called(1, [X])
        traced = counted.traced
        counted.called(1, [X])
    assert counted.traced == traced + 1
