"""`backsolve explain`: what it prints for small functions, and what it says when it cannot."""

import re
import subprocess
import sys

import jax
import pytest

from backsolve.cli import main as cli
from backsolve.cli.explain import ExplainError, explain, find_function, make_inputs

PROGRAM = """
import jax
import jax.numpy as jnp

number = 3

def loss(W, b, x, *, scale=2.0):
    return scale * jnp.sum(jnp.tanh(W @ x + b))

def many(x):
    for _ in range(60):
        x = jnp.sin(x)
    return x

def picked(x, i):
    return x[i] * jnp.sin(x)

def pair(parameters):
    W, v = parameters
    return W @ v

def counted(n):
    return n + 1

def after_default(x, y=1.0, z=2.0):
    return x * y * z

def keyword(x, *, y):
    return x * y

def loops(x):
    return jax.lax.while_loop(lambda c: c < 10.0, lambda c: 2 * c, x)

class Net:
    @staticmethod
    def loss(x):
        return x * x

jitted = jax.jit(loss)

def named_loss(params, x, name):
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
    path = tmp_path / "explained_program.py"
    path.write_text(PROGRAM)
    yield str(path)
    sys.modules.pop("explained_program", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def table(text, heading):
    """The rows below a heading, as lists of cells."""
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[1:]
    return [re.split(r" {2,}", line.strip()) for line in lines]


def test_sizes_nodes_and_cost(program):
    text = explain(f"{program}:loss", ["W=4,3", "b=4", "x=3"])
    assert "W : float32[4×3]" in text
    assert "scale = 2.0 (its default)" in text
    assert "(assumed" not in text
    sizes = {row[0]: row[1:] for row in table(text, "System")}
    assert sizes["sources p"] == ["3", "float32[4×3], float32[4], float32[3]"]
    nodes = [row for row in table(text, "Nodes") if len(row) == 6]  # two cells where a node has one more edge
    assert sizes["nodes x"][0] == str(len(nodes))
    assert sizes["outputs y"] == ["1", "float32[scalar]"]
    counts = [n.replace("·", "0") for row in table(text, "Edges by kind") for n in row[-2:]]
    assert sum(map(int, counts)) == int(sizes["non-zeros"][0])
    assert any(row[1] == "tanh" and re.fullmatch(r"explained_progr\w*…:\d+", row[2]) for row in nodes)
    assert any("ᴴ" in row[0] for row in table(text, "Edges by kind"))
    flops = table(text, "Cost")[0]
    assert flops[0] == "flops"
    assert float(flops[3]) > 1


def test_eighty_columns_and_forty_rows(program):
    text = explain(f"{program}:many", ["x=1000"])
    assert max(map(len, text.splitlines()[1:])) <= 80
    assert len([line for line in text.splitlines() if re.match(r"  x\d+ ", line)]) == 40
    assert "  … and 20 more edges" in text


def test_scalars_are_assumed_and_said(program):
    text = explain(f"{program}:after_default")
    assert "x : float32[scalar] (assumed; --shape x=3,4 says otherwise)" in text
    assert "y = 1.0 (its default)" in text


def test_an_argument_behind_a_default_goes_by_keyword(program):
    text = explain(f"{program}:after_default", ["z=2"])
    assert "z : float32[2]" in text
    assert {row[0]: row[1] for row in table(text, "System")}["sources p"] == "1"
    assert "sum of all outputs" in text


def test_integers_are_not_varied(program):
    text = explain(f"{program}:picked", ["x=5"], ["i=int32"])
    assert "i : int32[scalar]" in text
    assert {row[0]: row[1] for row in table(text, "System")}["sources p"] == "1"


def test_lists_of_arrays_and_float64(program):
    text = explain(f"{program}:pair", ["parameters=2,3;3"], ["float64"])
    assert "parameters : [float64[2×3], float64[3]]" in text
    assert "float64[2]" in text
    assert jax.config.jax_enable_x64 is False


def test_keywords_methods_jitted_functions_and_modules(program):
    assert "y : float32[scalar]" in explain(f"{program}:keyword")
    assert "float32[scalar]" in explain(f"{program}:Net.loss")
    assert "W : float32[2×2]" in explain(f"{program}:jitted", ["W=2,2", "b=2", "x=2"])
    assert find_function("math:sqrt").__name__ == "sqrt"
    assert make_inputs(lambda x: x, ["x="], []).arguments[0].shape == ()


@pytest.mark.parametrize(
    ("target", "shapes", "dtypes", "message"),
    [
        ("loss", [], [], "expected MODULE:FUNCTION"),
        ("{program}:", [], [], "expected MODULE:FUNCTION"),
        ("no_such_module_of_ours:f", [], [], "no module 'no_such_module_of_ours'"),
        ("nowhere/net.py:f", [], [], r"no file 'nowhere/net\.py'"),
        ("{program}:los", [], [], "no function 'los'; did you mean loss"),
        ("{program}:number", [], [], "is no function but int"),
        ("{program}:loss", ["q=3"], [], "no parameter 'q'; it has W, b, x, scale"),
        ("{program}:loss", ["W"], [], "expected NAME=SIZES such as x=3,4, got 'W'"),
        ("{program}:loss", ["W=3,a"], [], "shape of 'W' must be whole numbers such as 3,4, got '3,a'"),
        ("{program}:loss", ["W=3,-1"], [], "must be whole numbers"),
        ("{program}:loss", [], ["float31"], "no dtype 'float31'"),
        ("{program}:loss", [], ["q=int32"], "no parameter 'q'"),
        ("{program}:counted", [], ["int32"], "no input of counted can be varied"),
        ("{program}:loss", ["W=4,3", "b=4", "x=5"], [], r"(?s)linearized.*x : float32\[5\].*TypeError: .*Other inputs"),
    ],
)
def test_what_cannot_be_explained(program, target, shapes, dtypes, message):
    with pytest.raises(ExplainError, match=message):
        explain(target.format(program=program), shapes, dtypes)


def test_a_gradient_that_cannot_be_compiled_has_no_cost(program):
    text = explain(f"{program}:loops")
    assert "Nodes" in text
    assert " ".join(text[text.index("Cost") :].split()).startswith(
        "Cost not known, since loops or its gradient cannot be compiled: ValueError: Reverse-mode differentiation does not"
    )


def test_a_module_that_misses_another_names_it(tmp_path, monkeypatch):
    (tmp_path / "needy_module.py").write_text("import no_such_module_of_ours\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExplainError, match="module 'needy_module' imports 'no_such_module_of_ours', which is not installed"):
        explain("needy_module:f")


def test_command_line(program, capsys):
    assert cli.main(["explain", f"{program}:loss", "--shape", "W=4,3", "b=4", "--shape", "x=3"]) == 0
    assert "Edges by kind" in capsys.readouterr().out
    assert cli.main(["explain", f"{program}:nothing"]) == 2
    assert capsys.readouterr().err.startswith("backsolve explain: ")


def test_a_module_of_the_current_folder_is_found(program, tmp_path):
    command = [sys.executable, "-m", "backsolve", "explain", "explained_program:many"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "System" in done.stdout


# ---- inputs that a function makes -----------------------------------------------------------------------------------
def test_the_command_line_takes_what_makes_the_arguments(program, capsys, tmp_path):
    assert cli.main(["explain", f"{program}:named_loss", "--args", f"{program}:made"]) == 0
    told = capsys.readouterr().out
    assert "p0  params['dense']['kernel']  float32[3×2]" in told
    assert "name : 'tanh'" in told
    assert cli.main(["explain", f"{program}:square", "--args", f"{program}:one"]) == 0
    assert "params['w']" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert cli.main(["show", f"{program}:named_loss", "--args", f"{program}:made", "-o", str(page)]) == 0
    assert "['dense']['kernel']" in page.read_text().replace("&#x27;", "'").replace("\\u0027", "'")


@pytest.mark.parametrize(
    ("function", "args", "shapes", "message"),
    [
        ("named_loss", "nowhere", [], "has no function 'nowhere'"),
        (
            "named_loss",
            "broken",
            [],
            r"is called without arguments, and raises RuntimeError: no data, at .*explained_program\.py:\d+\.$",
        ),
        ("square", "nothing", [], r"nothing of square can be varied: .*They are made by .*: a tuple of arguments"),
        (
            "named_loss",
            "wrong",
            [],
            r"cannot be linearized with these inputs, params : 1 array, 4 numbers, .* They are made",
        ),
        ("named_loss", "made", ["x=3"], r"--args makes all inputs: leave out --shape and --dtype, x=3\."),
    ],
)
def test_arguments_that_cannot_be_made(program, function, args, shapes, message):
    with pytest.raises(ExplainError, match=message):
        explain(f"{program}:{function}", shapes, [], f"{program}:{args}")
