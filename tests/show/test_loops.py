"""A loop on the page: one edge, and by a button a box of steps, which is the unfolded system."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.show import page


def smoothed(x, h):
    """Six explicit steps of diffusion, and what is left at the end."""

    def step(u, _):
        u = u + h * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1))
        return u, None

    return jnp.sum(jax.lax.scan(step, x, None, length=6)[0] ** 2)


X, H = jnp.linspace(0.0, 1.0, 4), 0.1
TURN = "document.getElementById('loops').click()"
TOTALS = "Object.fromEntries(backsolve.data.runs.map(r => [r.name, r.costs.reduce((a, b) => a + b, 0)]))"


@pytest.fixture
def system():
    return bs.linearize(smoothed, X, H, argnums=(0, 1))


def test_a_button_shows_the_steps_and_the_edge_again(opened, system):
    browser = opened(system)
    nodes = "backsolve.data.keys.length"
    assert browser.ask(nodes) == system.L.shape[0]
    browser.ask(TURN)
    assert browser.ask(nodes) == system.unfolded().L.shape[0]
    assert "unfolded()" in browser.ask("document.querySelector('header').textContent")
    texts = browser.ask("[...document.querySelectorAll('#graph .v')].map(g => g.getAttribute('aria-label'))")
    assert sum(f"step {t} of scan" in text for text in texts for t in range(6)) == 6
    browser.ask(TURN)
    assert browser.ask(nodes) == system.L.shape[0]
    assert browser.ask("document.querySelectorAll('#order option').length") == 4


def test_the_loop_is_a_box(opened, system):
    browser = opened(system)
    browser.ask(TURN)
    browser.ask("backsolve.unfold(false)")
    boxes = "[...document.querySelectorAll('#graph [data-item]')].map(g => g.getAttribute('aria-label'))"
    assert any("unfold scan, 6 steps" in label for label in browser.ask(boxes))
    browser.ask("document.querySelector('#graph [data-item]').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert any("fold scan, 6 steps" in label for label in browser.ask(boxes))


def test_counts_are_those_of_the_unfolded_systems_plans(opened, system):
    browser = opened(system)
    one_edge = browser.ask(TOTALS)
    browser.ask(TURN)
    steps = browser.ask(TOTALS)
    for found, thing in ((one_edge, system), (steps, system.unfolded())):
        for order, name in (("forward", "forward substitution"), ("reverse", "back substitution")):
            assert found[name] == thing.plan(order).multiplications


def test_the_gradient_row_is_the_gradient(opened, system):
    browser = opened(system)
    browser.ask(TURN)
    browser.ask("backsolve.go(Infinity)")
    by_x, by_h = jax.grad(smoothed, argnums=(0, 1))(X, H)
    run = "backsolve.data.runs.find(r => r.name === 'back substitution')"
    vertices = browser.ask("backsolve.data.vertices")
    grids = {v[0]: browser.ask(f"{run}.grids[{k}][3]") for k, v in enumerate(vertices) if v[1] == "source"}
    np.testing.assert_allclose(grids["p0"], by_x, rtol=1e-5)
    np.testing.assert_allclose(grids["p1"], [by_h], rtol=1e-5)


def test_keys_act_once_after_turning(opened, system):
    browser = opened(system)
    for _ in range(3):
        browser.ask(TURN)
    browser.press("ArrowRight", 39)
    browser.press("ArrowRight", 39)
    assert browser.ask("backsolve.state.step") == 2


def test_a_link_leads_back_to_the_steps(opened, system, tmp_path):
    browser = opened(system)
    browser.ask(TURN)
    browser.ask("backsolve.setOwn([...backsolve.data.keys].slice(0, 2).map(([v]) => v))")
    link = browser.ask("document.getElementById('link').getAttribute('href')")
    assert link == "#steps-order=0,1"
    other = tmp_path / "again.html"
    other.write_text(page(system), encoding="utf-8")
    browser.open(other, fragment=link)
    assert browser.ask("backsolve.own.order.length") == 2
    assert browser.ask("backsolve.data.keys.length") == system.unfolded().L.shape[0]


@pytest.mark.parametrize("length", [1, 500])
def test_where_there_is_nothing_to_unfold_or_too_much_there_is_no_button(length):
    def f(x):
        return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=length)[0]

    html = page(bs.linearize(f, jnp.ones(3)))
    assert 'id="loops"' not in html
    assert '<template id="other">' not in html


def test_an_order_of_nodes_is_of_the_system_alone(system):
    order = list(range(system.L.shape[0]))
    assert 'id="loops"' not in page(system, order)
    assert 'id="loops"' in page(system, "markowitz")
