"""`explain`: any function and any pytrees, their leaves by name."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs

PARAMS = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}, "scale": (2.0, np.float32(1.0))}


def loss(params, batch, apply, *, weight=1.0):
    y = apply(params["dense"], batch["x"]) * params["scale"][0] * params["scale"][1]
    return weight * jnp.sum((y - batch["labels"]) ** 2)


def dense(p, x):
    return jnp.tanh(x @ p["kernel"] + p["bias"])


BATCH = {"x": jnp.ones((4, 3)), "labels": jnp.zeros((4, 2), jnp.int32)}


def section(text, heading):
    return text[text.index(heading) :].split("\n\n")[0].splitlines()[1:]


def test_sources_are_named_as_one_gets_at_them():
    told = bs.explain(loss, PARAMS, BATCH, dense, weight=2.0, argnums=0)
    lines = told.splitlines()
    assert lines[:2] == ["loss", "  params : 4 arrays, 10 numbers"]
    assert lines[2] == "  batch : 2 arrays, 20 numbers"
    assert lines[3].startswith("  apply : <function")
    assert lines[4] == "  weight : float32[scalar]"
    assert [line.split() for line in section(told, "Sources")] == [
        ["p0", "params['dense']['bias']", "float32[2]"],
        ["p1", "params['dense']['kernel']", "float32[3×2]"],
        ["p2", "params['scale'][0]", "float32[scalar]"],
        ["p3", "params['scale'][1]", "float32[scalar]"],
    ]
    assert section(told, "System")[0].split()[:3] == ["sources", "p", "4"]
    assert any("tanh" in line and "test_explain.py" in line for line in section(told, "Nodes"))
    assert "gradient" in told[told.index("Cost") :]
    assert max(map(len, lines)) <= 80
    assert repr(told) == str(told)
    gradient = told.system.vjp(1.0)
    want = jax.grad(loss)(PARAMS, BATCH, dense, weight=2.0)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_what_is_varied():
    """All arguments with real numbers, unless it is said; integers, functions and strings are handed on."""
    every = section(bs.explain(loss, PARAMS, BATCH, dense), "Sources")
    assert [line.split()[1] for line in every][-2:] == ["batch['labels']", "batch['x']"]
    assert "Sources" not in bs.explain(lambda x, y: x * y, 2.0, jnp.ones(3))
    power = bs.explain(lambda x, n, how: x**n if how == "power" else x, jnp.ones(3), 2, "power")
    assert section(power, "System")[0].split()[:3] == ["sources", "p", "1"]
    variadic = bs.explain(lambda *parts: parts[0] @ parts[1], jnp.ones(3), jnp.ones(3), argnums=(1, 0))
    assert [line.split()[1] for line in section(variadic, "Sources")] == ["parts[1]", "parts[0]"]
    bound = functools.partial(functools.partial(loss, apply=dense), batch=BATCH)
    assert bs.explain(bound, PARAMS).startswith("loss\n")
    module = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    told = bs.explain(lambda net, x: jnp.sum(net(x)), module, jnp.ones(3))
    assert "net.weight" in told


def test_wrong_input():
    with pytest.raises(TypeError, match=r"explain takes a function of JAX arrays and its arguments, got 3"):
        bs.explain(3)
    with pytest.raises(TypeError, match=r"nothing of loss can be varied: .* got 'a', 3"):
        bs.explain(loss, "a", 3)
    with pytest.raises(TypeError, match=r"argument 2 of loss, apply, is to be varied but is "):
        bs.explain(loss, PARAMS, BATCH, dense, argnums=2)
    with pytest.raises(TypeError, match=r"argument 1 of loss, leaf 1, is ShapeDtypeStruct\(.* not an array"):
        bs.explain(loss, PARAMS, {**BATCH, "x": jax.ShapeDtypeStruct((4, 3), jnp.float32)}, dense)
    with pytest.raises(ValueError, match="argnums 5 is out of range"):
        bs.explain(loss, PARAMS, BATCH, dense, argnums=5)
