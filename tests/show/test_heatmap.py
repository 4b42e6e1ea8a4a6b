"""The page of entries, in a real browser: Jacobian and Hessian by blocks, rows and columns by name, against JAX."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import backsolve as bs
from backsolve import Graph, SparseMatrix, linearize, matrix
from backsolve.show.heatmap import entries_of, spy_page
from tests import reference

from .test_own import middle, net, parameters
from .things import captured, scalar_net

FAULTS = """(() => {
  const room = document.documentElement.clientWidth, found = [];
  const box = (id) => document.getElementById(id).getBoundingClientRect();
  const c = box('entries'), f = box('field');
  if (document.documentElement.scrollWidth > room) found.push('page');
  if (c.left < f.left || c.right > f.right + 1 || c.bottom > f.bottom + 1) found.push(['canvas', c.left, c.right, f.right]);
  if (c.width < 30 || c.height < 3) found.push('too small');
  const texts = [...document.querySelectorAll('#axes text')].map(t => t.getBoundingClientRect());
  const meet = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
  for (const t of texts) if (t.left < f.left || t.right > f.right + 1) found.push('text');
  texts.forEach((a, i) => texts.slice(0, i).forEach(b => { if (meet(a, b)) found.push('overlap'); }));
  return found; })()"""
DETAIL = "document.getElementById('detail').textContent"


def loss(params, xs):
    return jnp.sum(jax.vmap(lambda x: net(params, x))(xs) ** 2)


@pytest.fixture
def opened(browser, tmp_path):
    def open_it(write, name="spy.html"):
        file = write(tmp_path / name)
        browser.open(file)
        return browser

    return open_it


def inputs():
    return parameters(), jnp.array(np.random.default_rng(1).standard_normal((5, 3)))


def entries(browser):
    return np.array(browser.ask("[...backsolve.rows].map((r, k) => [r, backsolve.cols[k], backsolve.values[k]])"))


def test_a_hessian_is_that_of_jax(opened):
    params, xs = inputs()
    system = linearize(bs.grad(loss), params, xs)
    browser = opened(lambda path: system.spy(path, of="jacobian", title="Hessian"))
    flat, unravel = ravel_pytree(params)
    exact = reference.hessian(lambda v: loss(unravel(v), xs))(flat)
    dense = np.zeros(exact.shape)
    for r, c, value in entries(browser):
        dense[int(r), int(c)] = value
    np.testing.assert_allclose(dense, exact, rtol=1e-4, atol=1e-5)
    names = [f"params['{layer}']['{key}']" for layer in ("dense", "head") for key in ("bias", "kernel")]
    for axis in ("rowLeaves", "colLeaves"):
        assert browser.ask(f"backsolve.data.{axis}.map(l => l[0])") == names
        layers = [f"params['{layer}']" for layer in ("dense", "dense", "head", "head")]
        assert browser.ask(f"backsolve.data.{axis}.map(l => l[3])") == layers
    assert browser.ask("document.querySelectorAll('#axes .layer').length") == 2
    browser.ask("backsolve.tell(5, 20)")
    told = browser.ask(DETAIL)
    assert told.startswith("row params['dense']['kernel'][0, 1], column params['head']['kernel'][0, 2]: ")
    assert float(told.rpartition(": ")[2]) == pytest.approx(float(exact[5, 20]), rel=1e-4)


def test_it_is_pointed_at_by_mouse_and_by_keys_and_blocks_are_enlarged(opened):
    params, xs = inputs()
    system = linearize(lambda p: jax.vmap(lambda x: net(p, x))(xs), params)
    browser = opened(lambda path: system.spy(path, of="jacobian"))
    jacobian = reference.jacobian(lambda v: jax.vmap(lambda x: net(ravel_pytree(params)[1](v), x))(xs))(
        ravel_pytree(params)[0]
    )
    browser.move(*middle(browser, "#entries"))
    told = re.fullmatch(r"row output\[(\d)\], column (p\['\w+'\]\['\w+'\]\[[\d, ]+\]): (.*)", browser.ask(DETAIL))
    row, _, value = told.groups()
    r, c = browser.ask("[backsolve.state.row, backsolve.state.col]")
    assert int(row) == r
    assert float(value) == pytest.approx(float(jacobian[r, c]), rel=1e-4)
    browser.ask("document.getElementById('entries').focus()")
    browser.press("ArrowRight", 39)
    browser.press("ArrowUp", 38)
    assert browser.ask("[backsolve.state.row, backsolve.state.col]") == [r - 1, c + 1]
    assert float(browser.ask(DETAIL).rpartition(": ")[2]) == pytest.approx(float(jacobian[r - 1, c + 1]), rel=1e-4)
    window = "[backsolve.state.top, backsolve.state.bottom, backsolve.state.left, backsolve.state.right]"
    browser.press("Enter", 13, "\r")
    assert browser.ask(window) == [0, 5, 4, 16]  # the dense kernel
    browser.press("Escape", 27)
    assert browser.ask(window) == [0, 5, 0, 26]
    browser.click(*middle(browser, "#entries"))
    assert browser.ask(window) == [0, 5, 4, 16]
    browser.click(*middle(browser, "#whole"))
    assert browser.ask(window) == [0, 5, 0, 26]
    browser.ask("(s => { s.value = '0,3'; s.dispatchEvent(new Event('change')); })(document.getElementById('block'))")
    assert browser.ask(window) == [0, 5, 18, 26]


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off(opened, browser, size, scheme):
    browser.resize(*size)
    browser.scheme(scheme)
    params, xs = inputs()
    things = [
        lambda path: linearize(bs.grad(loss), params, xs).spy(path, of="jacobian"),
        lambda path: linearize(net, params, xs[0]).spy(path, of="jacobian"),
        lambda path: linearize(net, params, xs[0]).spy(path),
        lambda path: captured(30).spy(path),
        lambda path: bs.jacobian(lambda u: u**3 + jnp.roll(u, 1), format="sparse")(jnp.ones((30, 4))).spy(path),
    ]
    for write in things:
        opened(write)
        assert browser.ask(FAULTS) == []


def test_millions_of_entries_are_summed_up(opened):
    n = 300_000
    system = linearize(lambda u: u**2 * jnp.roll(u, 3), jnp.arange(n, dtype=jnp.float32) / n)
    browser = opened(lambda path: system.spy(path, of="jacobian"))
    header = browser.ask("document.querySelector('header').textContent")
    assert "599,997 entries" in header
    assert "Each square stands for 500 × 500 places" in header
    assert browser.ask("backsolve.data.counts.reduce((a, b) => a + b, 0)") == 599_997
    browser.ask("backsolve.tell(150250, 150250)")
    told = browser.ask(DETAIL)
    assert told.startswith("row u[150000] to u[150499], column u[150000] to u[150499]: ")
    x = np.arange(n) / n
    largest = max(2 * x[150_499] * x[150_496], x[150_499] ** 2)
    assert float(told.rpartition("the largest ")[2]) == pytest.approx(largest, rel=1e-4)


def test_blocks_of_systems_graphs_and_matrices():
    for thing, shape, count in [
        (scalar_net(), (4, 9), 12),
        (Graph({("a", "b"): 2, ("b", "c"): 3}), (3, 3), 5),
        (matrix([[1, 0], [2, 3]]), (2, 2), 3),
        (bs.sparsity(lambda u: u * 2, jnp.ones(4)), (4, 4), 4),
    ]:
        found = entries_of(thing)
        assert found.shape == shape
        assert len(found.rows) == count
        assert found.values is None
        assert "<canvas" in spy_page(thing)
    names = [name for name, _ in entries_of(linearize(net, parameters(), jnp.ones(3))).col_leaves]
    assert names[:2] == ["params['dense']['bias']", "params['dense']['kernel']"]
    assert names[4] == "x0 dot_general"


def test_wrong_input(tmp_path):
    with pytest.raises(ValueError, match=r"spy shows of='blocks' or of='jacobian', got 'hessian'"):
        linearize(jnp.sin, 1.0).spy(tmp_path / "x.html", of="hessian")
    with pytest.raises(ValueError, match=r"of='jacobian' is for a linearized function, .* got a Graph"):
        Graph({("a", "b"): 1}).spy(tmp_path / "x.html", of="jacobian")
    with pytest.raises(TypeError, match="spy takes a System, a Graph, an OperatorMatrix or a SparseMatrix, got str"):
        spy_page("x")


def test_names_of_users_do_nothing(opened):
    nasty = '</script><img src=x onerror="window.hit=1">'
    browser = opened(lambda path: Graph({(nasty, "b"): 2}).spy(path, title=nasty))
    browser.ask("backsolve.tell(0, 0)")
    assert browser.ask("window.hit") is None
    assert nasty in browser.ask(DETAIL)
    html = spy_page(Graph({("a", "b"): 1}))
    assert "default-src 'none'" in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert json.dumps("a") in html


def test_a_jacobian_as_a_picture(tmp_path):
    system = linearize(net, parameters(), jnp.ones(3), argnums=(0, 1))
    figure = system.spy(tmp_path / "x.png", of="jacobian", title="J")
    assert (tmp_path / "x.png").exists()
    assert figure.axes[0].get_title() == "J: 1 × 29, 29 entries"
    S = bs.jacobian(lambda u: u**2, format="sparse")(jnp.ones(3))
    assert isinstance(S, SparseMatrix)
    assert S.spy(tmp_path / "s.html").exists()
