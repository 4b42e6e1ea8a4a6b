"""Where a function was linearized, and what it calls its arguments; what makes each node."""

import pickle

import jax
import jax.numpy as jnp
import pytest

from backsolve import linearize


def f(params, x, *rest):
    return params["w"] * jnp.sin(x) * 2.0 + sum(rest)


def test_the_point_names_the_leaves():
    params = {"w": jnp.float32(3.0), "v": jnp.ones(2)}
    system = linearize(f, params, 2.0, 1.0, argnums=(0, 1, 2))
    assert system.point.names == ("params['v']", "params['w']", "x", "rest[0]")
    assert [jnp.shape(v) for v in system.point.values] == [(2,), (), (), ()]
    assert linearize(f, params, 2.0, argnums=1).point.names == ("x",)
    assert linearize(f, params, 2.0, argnums=-1).point.values == (2.0,)


def test_a_copy_keeps_the_point_and_what_crosses_jit_has_none():
    system = linearize(f, {"w": jnp.float32(3.0)}, 2.0, argnums=(0, 1))
    again = pickle.loads(pickle.dumps(system))  # the function is one that can be pickled; a lambda below is not
    assert again.point.names == system.point.names
    local = linearize(lambda x: jnp.sin(x), 1.0)
    assert pickle.loads(pickle.dumps(local)).point.names == ("x",)
    assert jax.jit(lambda x: linearize(jnp.sin, x))(1.0).point is None
    assert jax.tree_util.tree_map(lambda x: x, local).point is None


def test_each_node_knows_its_operation():
    x, y, c = map(jnp.float32, (1.0, 3.0, 5.0))
    system = linearize(lambda x, y: jnp.sin(x * 2.0) * y + x * c, x, y, argnums=(0, 1))
    operations = [system.L.names.operation(i) for i in range(system.L.shape[0])]
    assert [(name, operands) for name, _, operands in operations] == [
        ("mul", (-1, 2.0)),
        ("sin", (0,)),
        ("mul", (1, -2)),
        ("mul", (-1, None)),
        ("add", (2, 3)),
    ]


def test_what_is_linearized_by_jax_has_no_operation_of_its_own():
    system = linearize(lambda x: jnp.linalg.norm(jnp.linalg.qr(x)[0]), jnp.eye(2))
    assert None in [system.L.names.operation(i) for i in range(system.L.shape[0])]


@pytest.mark.parametrize("text", ["output"])
def test_an_output_that_is_an_input_has_none(text):
    system = linearize(lambda x: x, 1.0)
    assert system.L.name(0) == text
    assert system.L.names.operation(0) is None
