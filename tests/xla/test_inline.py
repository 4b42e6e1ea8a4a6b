"""A function whose programs run in its own thread: they are done when they come back; values, errors and settings stay."""

import jax
import jax.numpy as jnp
import pytest

from backsolve.xla.inline import inline


@pytest.fixture
def slow():
    """A program of some ten milliseconds, compiled, and its argument."""
    x = jnp.ones((500, 500))
    f = jax.jit(lambda x: x @ x @ x @ x)
    f(x).block_until_ready()
    return lambda: f(x)


def test_programs_are_done_when_they_come_back(slow):
    assert all(inline(lambda: slow().is_ready()) for _ in range(10))


def test_also_where_earlier_ones_are_still_running(slow):
    for _ in range(10):
        earlier = slow()
        assert inline(lambda: slow().is_ready())
        assert earlier.is_ready()


def test_what_a_function_returns_and_raises_comes_out():
    assert inline(lambda: inline(lambda: [1, inline(dict)])) == [1, {}]
    with pytest.raises(KeyboardInterrupt, match="now"):
        inline(lambda: exec("raise KeyboardInterrupt('now')"))
    assert inline(lambda: None) is None


@pytest.mark.parametrize("double", [True, False])
def test_settings_of_the_caller_hold(double):
    device = jax.devices()[0]
    with jax.enable_x64(double), jax.default_device(device):
        found = inline(lambda: (jnp.ones(2).dtype, jax.config.jax_default_device))
    assert found == (jnp.float64 if double else jnp.float32, device)
    assert inline(lambda: jax.config.jax_default_device) is None


def test_nothing_is_compiled_again():
    traced = []
    f = jax.jit(lambda x: traced.append(None) or x + 1)
    f(1.0)
    assert inline(lambda: float(f(1.0))) == 2
    assert len(traced) == 1


def test_on_another_device_it_is_a_plain_call(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert inline(lambda: 5) == 5
