"""`backsolve show`: a page of any function, from the command line."""

import json
import re

import pytest

from backsolve.cli import main as cli

SOURCE = """
import jax.numpy as jnp

def layer(W, b, x):
    return jnp.tanh(W @ x + b)

def loss(params, x, scale=2.0):
    for W, b in zip(params[::2], params[1::2]):
        x = layer(W, b, x)
    return scale * jnp.sum(x ** 2)

def broken(x):
    return x @ jnp.ones(7)
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "shownet.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "shownet.py")


SHAPES = ["--shape", "params=4,3;4;2,4;2", "x=3"]


def data(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


def test_a_page(net, tmp_path, capsys):
    assert cli.main(["show", f"{net}:loss", *SHAPES, "-o", "out.html"]) == 0
    assert capsys.readouterr().out == "out.html\n"
    found = data(tmp_path / "out.html")
    texts = {found["strings"][v[2]] for v in found["vertices"] if v[1] == "source"}
    assert texts == {"params[0]", "params[1]", "params[2]", "params[3]", "x"}
    names = ["back substitution", "forward substitution", "Markowitz order", "planned order"]
    assert [run["name"] for run in found["runs"]] == names


def test_the_default_name_is_the_functions(net, tmp_path):
    assert cli.main(["show", f"{net}:loss", *SHAPES]) == 0
    assert (tmp_path / "loss.html").exists()


@pytest.mark.parametrize("ending", ["svg", "png", "dot", "tex"])
def test_other_endings(net, tmp_path, ending):
    assert cli.main(["show", f"{net}:loss", *SHAPES, "-o", f"out.{ending}"]) == 0
    assert (tmp_path / f"out.{ending}").stat().st_size


def test_64_bits_are_kept(net, tmp_path):
    assert cli.main(["show", f"{net}:loss", *SHAPES, "--dtype", "float64", "-o", "out.html"]) == 0
    spaces = {found["strings"][v[3]] for found in [data(tmp_path / "out.html")] for v in found["vertices"]}
    assert "float64[4×3]" in spaces
    assert not any("float32" in space for space in spaces)


def test_orders(net, tmp_path):
    page = ["show", f"{net}:loss", *SHAPES, "-o", "out.html"]
    assert cli.main([*page, "--order", "reverse"]) == 0
    runs = data(tmp_path / "out.html")["runs"]
    assert runs[0]["name"] == "back substitution"
    assert cli.main([*page, "--order", "auto"]) == 0
    assert data(tmp_path / "out.html")["runs"][0]["name"] == "planned order"
    order = ",".join(map(str, range(len(runs[0]["order"]))))
    assert cli.main([*page, "--order", order]) == 0
    assert data(tmp_path / "out.html")["runs"][0]["name"] == "this order"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "shownet.py:nothing"], "has no function 'nothing'"),
        (["show", "shownet.py:broken", "--shape", "x=3"], "cannot be linearized with these inputs"),
        (["show", "shownet.py:loss", *SHAPES, "--order", "0,1"], "the order misses 2; it must name each of the"),
        (
            ["show", "shownet.py:loss", *SHAPES, "--order", "best"],
            "expected --order forward, reverse, markowitz, auto or numbers",
        ),
        (["show", "shownet.py:loss", *SHAPES, "-o", "x.gif"], "cannot save as 'x.gif'"),
    ],
)
def test_what_is_wrong_is_said(net, capsys, arguments, message):
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_names_it(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["show", "--help"])
    text = capsys.readouterr().out
    for option in ("--shape", "--dtype", "--order", "--output"):
        assert option in text
