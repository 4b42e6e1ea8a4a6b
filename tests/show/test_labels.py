"""Labels as the paper writes them, and values that can be pointed at, in a real browser."""

import re

import numpy as np
import pytest

import backsolve as bs
from docs import stills

from .things import captured, figure_1, matrix_net, random_graph

LABELS = "[...document.querySelectorAll('#graph .name')].map(n => [n.dataset.edge, n.textContent])"


def test_every_edge_bears_its_operator(opened):
    browser = opened(matrix_net())
    assert dict(browser.ask(LABELS))["x0 → x1"] == "(Δ₂)H ∘ (W₂)L"
    indices = "[...document.querySelectorAll('#graph .name tspan[font-size]')].map(t => t.textContent).sort().join('')"
    assert browser.ask(indices) == "HHHHHLRRRR"
    lowered = "[...document.querySelectorAll('#matrix .cell tspan[font-size]')].every(t => +t.getAttribute('dy') === 3)"
    assert browser.ask(lowered)


def test_labels_stand_above_all_lines(opened):
    browser = opened(random_graph())
    order = browser.ask("[...document.querySelectorAll('#graph > g')].map(g => g.getAttribute('class'))")
    assert max(k for k, name in enumerate(order) if name == "edge") < order.index("name")
    assert len(browser.ask(LABELS)) == browser.ask("backsolve.data.edges.length")


def test_labels_light_and_fade_with_their_edges(opened):
    browser = opened(figure_1())
    lit = "[...document.querySelectorAll('#graph .name.{}')].map(n => n.textContent)"
    browser.ask("backsolve.light({edges: [0]})")
    assert browser.ask(lit.format("lit")) == ["a"]
    browser.ask("backsolve.unlight(), backsolve.go(1)")
    assert browser.ask(lit.format("lit")) == []
    assert browser.ask(lit.format("work")) == ["c", "d"]
    browser.ask("backsolve.go(2)")
    assert browser.ask(lit.format("done")) == ["a", "b", "c", "d"]


DETAIL = "document.getElementById('detail').textContent"


def test_a_value_is_told_when_it_is_pointed_at(opened):
    browser = opened(captured(1))
    browser.ask("backsolve.unfold(true)")
    row = browser.ask("backsolve.view().rowLines.findIndex(l => l.item.short === 'x3')")
    point = f"backsolve.light({{value: {row}}})"
    browser.ask(point)
    assert browser.ask(DETAIL).startswith("x̄ of x3 integer_pow")
    assert browser.ask(DETAIL).endswith("not filled in yet")
    browser.ask(f"backsolve.go(2), {point}")
    assert re.search(r"‖·‖ [\d.]+$", browser.ask(DETAIL))
    assert browser.ask("document.querySelectorAll('#matrix .value.lit').length") == 1
    browser.ask("backsolve.unfold(false), backsolve.light({value: 0})")
    assert browser.ask(DETAIL).endswith("of 3 values filled in")


def test_a_plan_is_stepped_through_with_its_own_numbers(opened):
    import jax.numpy as jnp

    def f(a, b, c):
        u = jnp.sin(a * b)
        v = u * c + a
        return v * u, jnp.cos(v) / c

    plan = bs.plan(f, 1.0, 2.0, 3.0, argnums=(0, 1, 2))
    browser = opened(plan.outline, order=plan)
    so_far = 0
    steps = {step.node: step.multiplications for step in plan.steps}
    for k, node in enumerate([n for n in plan.order if n in steps], start=1):
        browser.ask(f"backsolve.go({k})")
        so_far += steps[node]
        assert browser.ask("document.getElementById('so').textContent") == str(so_far)
        assert browser.ask("document.querySelector('#graph .v.work tspan').textContent") == f"x{node}"
    assert so_far == plan.multiplications
    totals = browser.ask("[...document.querySelectorAll('#totals [data-run]')].map(t => t.textContent)")
    assert f"forward substitution: {plan.totals['forward']}" in [text.split(" cost ")[0] for text in totals]
    assert f"back substitution: {plan.totals['reverse']}" in [text.split(" cost ")[0] for text in totals]
    assert "a plan keeps shapes, not arrays" in browser.ask("document.querySelector('header').textContent")


def test_a_source_tells_its_gradient_in_as_many_digits_as_its_box_has_room_for(opened):
    browser = opened(stills.system())  # the README's net, whose sources have short names
    browser.ask("backsolve.go(Infinity)")
    texts = browser.ask("[...document.querySelectorAll('#graph .v.source .told')].map(e => e.textContent)")
    exact = [float(np.linalg.norm(part)) for part in stills.system().vjp(bs.vector([np.ones((1, 1))]))]
    assert [float(text.removeprefix("‖·‖ ")) for text in texts] == pytest.approx(exact, rel=0.06)
