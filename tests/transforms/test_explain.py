"""`explain`: any function and any pytrees, their leaves by name; and the command line with inputs that a function makes."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.cli import main as cli
from backsolve.cli.explain import ExplainError
from backsolve.cli.explain import explain as explain_target

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
    with pytest.raises(ValueError, match="argnums 5 is out of range"):
        bs.explain(loss, PARAMS, BATCH, dense, argnums=5)


PROGRAM = """
import jax
import jax.numpy as jnp

def loss(params, x, name):
    return jnp.sum(jnp.tanh(x @ params["dense"]["kernel"])) if name == "tanh" else 0.0

def made():
    return {"dense": {"kernel": jnp.ones((3, 2))}}, jnp.ones((4, 3)), "tanh"

def square(params):
    return jnp.sum(params["w"] ** 2)

def one():
    return {"w": jnp.ones(3)}

def nothing():
    return "name", 3

def broken():
    raise RuntimeError("no data")

def wrong():
    return {"dense": {"kernel": jnp.ones((2, 2))}}, jnp.ones((4, 3)), "tanh"
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "made_program.py"
    path.write_text(PROGRAM)
    yield str(path)
    sys.modules.pop("made_program", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def test_the_command_line_takes_what_makes_the_arguments(program, capsys, tmp_path):
    assert cli.main(["explain", f"{program}:loss", "--args", f"{program}:made"]) == 0
    told = capsys.readouterr().out
    assert "p0  params['dense']['kernel']  float32[3×2]" in told
    assert "name : 'tanh'" in told
    assert cli.main(["explain", f"{program}:square", "--args", f"{program}:one"]) == 0
    assert "params['w']" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert cli.main(["show", f"{program}:loss", "--args", f"{program}:made", "-o", str(page)]) == 0
    assert "['dense']['kernel']" in page.read_text().replace("&#x27;", "'").replace("\\u0027", "'")


@pytest.mark.parametrize(
    ("function", "args", "shapes", "message"),
    [
        ("loss", "nowhere", [], "has no function 'nowhere'"),
        (
            "loss",
            "broken",
            [],
            r"is called without arguments, and raises RuntimeError: no data, at .*made_program\.py:\d+\.$",
        ),
        ("square", "nothing", [], r"nothing of square can be varied: .*They are made by .*: a tuple of arguments"),
        ("loss", "wrong", [], r"cannot be linearized with these inputs, params : 1 array, 4 numbers, .* They are made by"),
        ("loss", "made", ["x=3"], r"--args makes all inputs: leave out --shape and --dtype, x=3\."),
    ],
)
def test_arguments_that_cannot_be_made(program, function, args, shapes, message):
    with pytest.raises(ExplainError, match=message):
        explain_target(f"{program}:{function}", shapes, [], f"{program}:{args}")
