"""Quick compilation: the numbers are those of `jax.jit`, also where XLA does not know the option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve.xla import quick


def f(x):
    return jnp.concatenate([jnp.sin(x[1:]) * x[:-1], jnp.cumsum(x**2)])[::2]


@pytest.mark.parametrize("options", [quick._OPTIONS, {"xla_no_such_option": True}])
def test_what_is_compiled_is_the_program(options, monkeypatch):
    monkeypatch.setattr(quick, "_OPTIONS", options)
    x = jnp.linspace(0.0, 3.0, 50)
    run = quick.quickly_compiled(jax.jit(f).lower(x))
    np.testing.assert_allclose(run(x), f(x), rtol=1e-5)
    np.testing.assert_allclose(run(-x), jax.jit(f)(-x), rtol=1e-5)


def test_what_does_not_compile_raises_its_own_error():
    def broken(x):
        return jax.lax.custom_linear_solve(lambda x: x, x, lambda f, b: jax.ffi.ffi_call("no_such_target", b)(b))

    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_target"):
        quick.quickly_compiled(jax.jit(broken).lower(jnp.ones(3)))
