"""In a real browser: counts are those of plans, the gradient is that of `grad`, an order of one's own by mouse and keys."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import Graph, linearize
from backsolve.show import page
from backsolve.show.model import picture_of
from backsolve.show.steps import degrees

from .things import THINGS, captured, figure_1, signed

TEXT = "document.getElementById('{}').textContent"
NODES = "[...document.querySelectorAll('#graph .v[data-node]')].map(v => v.querySelector('tspan').textContent)"
GONE = "[...document.querySelectorAll('#graph .v.done tspan.strong')].map(t => t.textContent)"


WORDS = {
    "auto": "planned order",
    "forward": "forward substitution",
    "reverse": "back substitution",
    "markowitz": "Markowitz order",
}


def surface(x, y):
    return jnp.sin(x * y) + x**2


def net(params, x):
    for layer in params.values():
        x = jnp.tanh(layer["kernel"] @ x + layer["bias"])
    return jnp.sum(x**2)


def parameters():
    rng = np.random.default_rng(0)
    sizes = {"dense": (4, 3), "head": (2, 4)}
    return {
        name: {"kernel": jnp.array(rng.standard_normal(s)), "bias": jnp.array(rng.standard_normal(s[0]))}
        for name, s in sizes.items()
    }


@pytest.fixture
def opened(browser, tmp_path):
    def open_it(thing, hash="", **options):
        file = tmp_path / "page.html"
        file.write_text(page(thing, **options), encoding="utf-8")
        browser.open(file)
        browser.ask("backsolve.unfold(true)")
        if hash:
            browser.ask(f"location.hash = {json.dumps(hash)}")
            browser.ask("new Promise(done => setTimeout(done, 50))")
        return browser

    return open_it


def middle(browser, selector):
    return browser.ask(
        f"(e => {{ e.scrollIntoView({{block: 'center', inline: 'center'}}); const b = e.getBoundingClientRect();"
        f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
    )


def totals(browser):
    """Multiplications and costs by the name of the order, as the page tells them."""
    texts = browser.ask("[...document.querySelectorAll('#totals [data-run]')].map(t => t.textContent)")
    found = {}
    for text in texts:
        name, count, cost, way = re.fullmatch(r"(.*): ([\d,]+) cost ([\d,.]+)(?: by (\w+))?", text).groups()
        found[name] = int(count.replace(",", "")), float(cost.replace(",", "")), way or "elimination"
    return found


@pytest.mark.parametrize("name", ["scalar", "net", "captured", "skips", "attention", "stencil"])
def test_counts_and_costs_are_those_of_plans(opened, name):
    made = {
        "scalar": lambda: (surface, 1.0, 2.0),
        "net": lambda: (net, parameters(), jnp.ones(3)),
        "stencil": lambda: (lambda u: u**3 + jnp.roll(u, 1) - 2 * u, jnp.linspace(0, 1, 8)),
    }
    if name in made:
        f, *primals = made[name]()
        system = linearize(f, *primals, argnums=tuple(range(len(primals))))
        plans = {
            w: bs.plan(f, *primals, argnums=tuple(range(len(primals))), order=w) for w in ("auto", "forward", "reverse")
        }
        plans["markowitz"] = bs.plan(f, *primals, argnums=tuple(range(len(primals))), order="markowitz")
    else:
        system = THINGS[name]()
        plans = {w: system.plan(w) for w in ("auto", "forward", "reverse", "markowitz")}
    told = totals(opened(system))
    assert set(told) == set(WORDS.values())
    for word, plan in plans.items():
        count, cost, method = told[WORDS[word]]
        assert count == plan.multiplications, word
        assert cost == pytest.approx(plan.cost, rel=1e-3)
        assert method == plan.method


@pytest.mark.parametrize("format", ["array", "operator"])
def test_the_page_of_a_plan_compares_with_plans_of_its_kind(opened, format):
    made = {word: bs.plan(net, parameters(), jnp.ones(3), argnums=(0, 1), order=word, format=format) for word in WORDS}
    told = totals(opened(made["auto"].outline, order=made["auto"]))
    for word, name in WORDS.items():
        count, cost, method = told["plan" if word == "auto" else name]
        assert (count, method) == (made[word].multiplications, made[word].method)
        assert cost == pytest.approx(made[word].cost, rel=1e-3)


def test_the_page_of_a_plan_has_names_and_symbols(opened):
    plan = bs.plan(net, parameters(), jnp.ones(3), argnums=(0, 1))
    browser = opened(plan.outline, order=plan)
    heads = browser.ask("[...document.querySelectorAll('#graph .v.source text:first-of-type')].map(t => t.textContent)")
    assert "p1 …['dense']['kernel']" in heads
    labels = dict(browser.ask("[...document.querySelectorAll('#graph .name')].map(n => [n.dataset.edge, n.textContent])"))
    assert labels["p4 → x0"] == "(dense.kernel)L"
    assert labels["x1 → x2"] == "(1 − tanh²(x1))H"
    assert "At " not in browser.ask("document.querySelector('header').textContent")


def test_the_page_of_a_plan_of_numbers_has_derivatives_in_symbols(opened):
    plan = bs.plan(lambda x, y: surface(x, y) + jnp.cos(x) / y, 1.0, 2.0, argnums=(0, 1))
    browser = opened(plan.outline, order=plan)
    labels = browser.ask("[...document.querySelectorAll('#graph .name')].map(n => n.textContent)")
    assert "cos(xy)" in labels
    assert not any("c·I" in label for label in labels)


def test_where_the_output_is_one_number_back_substitution_is_selected(opened):
    assert opened(linearize(surface, 1.0, 2.0, argnums=(0, 1))).ask(TEXT.format("order")).startswith("back substitution")
    chosen = "document.querySelector('#order').selectedOptions[0].textContent"
    assert opened(captured(1)).ask(chosen) == "back substitution"
    assert opened(THINGS["attention"]()).ask(chosen) == "forward substitution"


def test_the_last_row_is_the_gradient_of_numbers(opened):
    browser = opened(linearize(surface, 1.0, 2.0, argnums=(0, 1)))
    texts = "[...document.querySelectorAll('#matrix .result text')].map(t => t.textContent)"
    assert browser.ask(texts) == ["", ""]
    browser.ask("backsolve.go(Infinity)")
    gradient = bs.grad(surface, argnums=(0, 1))(1.0, 2.0)
    assert browser.ask(texts) == [f"{float(g):.4g}" for g in gradient]
    words = " ".join(f"by {name} {float(g):.4g}," for name, g in zip("xy", gradient, strict=True)).rstrip(",")
    assert browser.ask(TEXT.format("status")).endswith(f"The gradient: {words}.")
    for k, g in enumerate(gradient):  # all digits, where it is pointed at
        browser.move(2, 2)
        browser.ask(f"document.querySelectorAll('#matrix .result')[{k}].id = 'here'")
        browser.move(*middle(browser, "#here"))
        browser.ask("document.getElementById('here').id = ''")
        assert float(browser.ask(TEXT.format("detail")).rpartition(": ")[2]) == pytest.approx(float(g), rel=1e-7)
    assert browser.ask("document.querySelectorAll('#graph .v.source .told').length") == 2
    browser.ask("backsolve.go(2)")
    assert browser.ask(texts) == ["", ""]


def test_the_last_row_is_the_gradient_of_arrays(opened):
    params = parameters()
    browser = opened(linearize(net, params, jnp.ones(3), argnums=(0, 1)))
    browser.ask("backsolve.go(Infinity)")
    rows = browser.ask(
        "backsolve.view().results.map(({u, box}) => [backsolve.data.vertices[u][0], backsolve.data.runs[0].grids[u],"
        " box.classList.contains('filled')])"
    )
    of_params, of_x = bs.grad(net, argnums=(0, 1))(params, jnp.ones(3))
    expected = [of_params[name][key] for name in ("dense", "head") for key in ("bias", "kernel")]
    assert [name for name, *_ in rows] == ["p0", "p1", "p2", "p3", "p4"]
    for (_, (shape, _, _, numbers), filled), gradient in zip(rows, [*expected, of_x], strict=True):
        assert filled
        assert shape == "×".join(map(str, gradient.shape))
        np.testing.assert_allclose(numbers, np.ravel(gradient), rtol=1e-6, atol=1e-9)
    browser.ask("document.querySelector('#matrix .result').focus()")
    assert browser.ask(TEXT.format("thumb")).startswith("4: ")


def test_edges_between_numbers_tell_symbol_and_value(opened):
    browser = opened(linearize(surface, 1.0, 2.0, argnums=(0, 1)))
    labels = dict(browser.ask("[...document.querySelectorAll('#graph .name')].map(n => [n.dataset.edge, n.textContent])"))
    assert labels == {
        "p0 → x0": "y = 2",
        "p1 → x0": "x = 1",
        "x0 → x1": f"cos(xy) = {signed(np.cos(2.0))}",
        "p0 → x2": "2x = 2",
        "x1 → x3": "1",
        "x2 → x3": "1",
        "x3 → y0": "1",
    }
    assert "At x = 1, y = 2." in browser.ask("document.querySelector('header').textContent")
    heads = "[...document.querySelectorAll('#graph .v.source text')].map(t => t.textContent)"
    assert browser.ask(heads) == ["p0 x", "= 1", "p1 y", "= 2"]


def test_what_is_filled_in_tells_its_value(opened):
    browser = opened(linearize(surface, 1.5, 2.0, argnums=(0, 1)), order=[0, 1, 2, 3])

    def cell(row, column):
        selector = json.dumps(f'#matrix .cell[aria-label^="row {row}, column {column}:"]')
        return browser.ask(f"document.querySelector({selector}).getAttribute('aria-label')").partition(": ")[2]

    browser.ask("backsolve.go(2)")  # x0 and x1 are gone: from p0 and p1 straight to x3
    c = np.cos(3.0)
    assert cell("x3", "p0") == signed(2.0 * c)
    assert cell("x3", "p1") == signed(1.5 * c)
    browser.ask("backsolve.go(4)")
    gradient = bs.grad(surface, argnums=(0, 1))(1.5, 2.0)
    for name, g in zip(("p0", "p1"), gradient, strict=True):
        assert cell("y0", name) == signed(float(g))
    browser.ask("backsolve.go(0)")
    assert browser.ask("document.querySelectorAll('#matrix .cell.fill').length") == 0
    assert cell("x1", "x0") == signed(-c)
    browser = opened(figure_1())
    browser.ask("backsolve.go(2)")
    assert cell("5", "1") == "−a·c·d"


def test_arrays_have_a_picture_where_they_are_pointed_at(opened):
    params = parameters()
    browser = opened(linearize(net, params, jnp.ones(3), argnums=(0, 1)))
    assert browser.ask("document.getElementById('thumb').hidden")
    browser.move(*middle(browser, '#graph .name[data-edge="p4 → x0"] text'))
    kernel = np.asarray(params["dense"]["kernel"])
    assert not browser.ask("document.getElementById('thumb').hidden")
    assert browser.ask(TEXT.format("thumb")) == f"4×3: {kernel.min():.4g} … {kernel.max():.4g}"
    box = browser.ask("(b => [b.left, b.top, b.right, b.bottom])(document.getElementById('thumb').getBoundingClientRect())")
    assert min(box) >= 0
    assert box[2] <= 1280
    assert box[3] <= 800
    assert "(dense.kernel)ᴸ" in browser.ask(TEXT.format("detail"))
    browser.move(2, 2)
    assert browser.ask("document.getElementById('thumb').hidden")


# ---- orders of one's own ---------------------------------------------------------------------------------------------
def eliminated(browser, node, *, by):
    if by == "mouse":
        browser.click(*middle(browser, f'#graph .v[aria-label^="node {node}"]'))
    else:
        browser.ask(f"document.querySelector('#graph .v[aria-label^=\"node {node}\"]').focus()")
        browser.press("Enter", 13, "\r")


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
@pytest.mark.parametrize("name", ["numbers", "net", "attention"])
def test_an_order_of_ones_own(opened, by, name):
    if name == "numbers":
        system = linearize(surface, 1.0, 2.0, argnums=(0, 1))
    else:
        system = linearize(net, parameters(), jnp.ones(3), argnums=(0, 1)) if name == "net" else THINGS["attention"]()
    browser = opened(system)
    order = [int(node) for node in np.random.default_rng(2).permutation(system.L.shape[0])]
    plan = system.plan(order)
    multiplied = {step.node: step.multiplications for step in plan.steps}
    so_far = 0
    for k, node in enumerate(order, 1):
        eliminated(browser, f"x{node} ", by=by)
        so_far += multiplied.get(node, 0)
        assert browser.ask(TEXT.format("so")) == f"{so_far:,}"
        assert browser.ask(TEXT.format("count")) == f"{k} / {len(order)}"
        assert browser.ask("location.hash") == f"#order={','.join(map(str, order[:k]))}"
        assert browser.ask("document.getElementById('link').getAttribute('href')") == browser.ask("location.hash")
    best = min(count for count, _, _ in totals(browser).values())
    told = browser.ask(TEXT.format("told"))
    assert told.startswith(f"Yours: {plan.multiplications:,} multiplication")
    assert f"Best known: {best:,} by " in told
    assert told.endswith(f"order={order}")
    browser.press("ArrowLeft", 37)
    assert browser.ask(TEXT.format("count")) == f"{len(order) - 1} / {len(order)}"


def test_a_step_back_and_another_node_changes_the_order(opened):
    browser = opened(linearize(surface, 1.0, 2.0, argnums=(0, 1)))
    for node in ("x2 ", "x1 "):
        eliminated(browser, node, by="mouse")
    eliminated(browser, "x1 ", by="mouse")
    assert "is eliminated already" in browser.ask(TEXT.format("status"))
    browser.click(*middle(browser, "#back"))
    eliminated(browser, "x3 ", by="mouse")
    assert browser.ask("location.hash") == "#order=2,3"
    assert "2 nodes left" in browser.ask(TEXT.format("told"))
    browser.click(*middle(browser, "#finish"))
    told = browser.ask(TEXT.format("told"))
    found = [int(x) for x in told.rpartition("[")[2].rstrip("]").split(",")]
    assert sorted(found) == [0, 1, 2, 3]
    assert found[:2] == [2, 3]
    browser.click(*middle(browser, '#totals [data-run="1"]'))  # another order, and back to one's own
    assert browser.ask("document.getElementById('own').hidden")
    assert browser.ask("backsolve.data.runs[backsolve.state.run].name") == "forward substitution"


def test_it_begins_with_what_the_order_on_the_page_has_eliminated(opened):
    browser = opened(figure_1())
    browser.ask("backsolve.go(1)")
    eliminated(browser, "3", by="keyboard")
    assert browser.ask("backsolve.own.order.map(v => backsolve.data.vertices[v][0])") == ["4", "3"]
    told = browser.ask(TEXT.format("told"))
    assert told == "Yours: 3 multiplications. Best known: 3 by back substitution. As good as the best known."


def test_a_link_carries_the_order(opened):
    system = linearize(net, parameters(), jnp.ones(3), argnums=(0, 1))
    browser = opened(system, hash="#order=3,1,7")
    assert browser.ask(TEXT.format("count")) == "3 / 8"
    assert sorted(browser.ask(GONE)) == ["x1", "x3"]  # and x7 is in work
    assert browser.ask("document.querySelector('#graph .v.work tspan').textContent") == "x7"
    browser = opened(system, hash="#order=3,1,99")
    assert "names what is no node of this page" in browser.ask(TEXT.format("status"))
    browser = opened(system, hash="#order=3,3")
    assert "or one twice" in browser.ask(TEXT.format("status"))
    assert opened(system, hash="#elsewhere").ask("backsolve.state.step") == 0


def test_of_a_graph_nodes_of_any_name_can_be_chosen(opened):
    graph = Graph({("a", "<b>"): 2, ("<b>", "c"): 3, ("a", "c"): 1, ("c", "d"): 4, ("<b>", "d"): 5})
    picture = picture_of(graph)
    browser = opened(graph)
    order = [picture.nodes["c"], picture.nodes["<b>"]]
    for node in ("c", "<b>"):
        eliminated(browser, node, by="keyboard")
    assert browser.ask(TEXT.format("so")) == str(sum(degrees(picture, order)))


def test_what_no_table_holds_is_reckoned_and_said_to_be(opened):
    browser = opened(THINGS["skips"]())
    n = browser.ask("backsolve.data.keys.length")
    rng = np.random.default_rng(0)
    exact = 0
    for _ in range(20):
        order = [int(v) for v in rng.permutation(n)]
        vertices = browser.ask(f"{order}.map(k => backsolve.data.keys.find(([, key]) => key === k)[0])")
        found = browser.ask(f"backsolve.counted({vertices})")
        count = THINGS["skips"]().plan(order).multiplications
        exact += not found["about"]
        assert sum(found["costs"]) == count
    assert exact == 20
    # Without the table every product and sum is reckoned from sizes.
    browser.ask("backsolve.counting.products.clear(), backsolve.counting.sums.clear()")
    reckoned = browser.ask(f"backsolve.counted({vertices})")
    assert reckoned["about"]
    assert 0.3 * count < sum(reckoned["costs"]) < 3 * count
    browser.ask(f"backsolve.setOwn({vertices})")
    assert browser.ask(TEXT.format("told")).startswith("Yours: about ")


def test_names_of_sources_are_those_of_the_tree(opened):
    system = linearize(net, parameters(), jnp.ones(3), argnums=(0, 1))
    browser = opened(system)
    labels = "[...document.querySelectorAll('#graph .v.source')].map(v => v.getAttribute('aria-label'))"
    names = [f"params['{layer}']['{key}']" for layer in ("dense", "head") for key in ("bias", "kernel")] + ["x"]
    for k, name in enumerate(names):
        assert sum(text.startswith(f"source p{k} {name}, float32[") for text in browser.ask(labels)) == 1
    shown = browser.ask("[...document.querySelectorAll('#graph .v.source text:first-of-type')].map(t => t.textContent)")
    assert sorted(shown) == [
        "p0 params['dense']['bias']",
        "p1 …['dense']['kernel']",
        "p2 params['head']['bias']",
        "p3 params['head']['kernel']",
        "p4 x",
    ]
    told = str(bs.explain(net, parameters(), jnp.ones(3)))
    assert all(name in told for name in names)
    own = opened(system, names=["b1", "W1", "b2", "W2", "x"])
    assert sum(text.startswith("source p1 W1,") for text in own.ask(labels)) == 1


def test_small_graphs_fill_their_panel_and_the_matrix_is_never_cut(opened, browser):
    room = "(e => [e.clientWidth, e.parentElement.clientWidth])(document.getElementById('{}'))"
    for size in [(1280, 800), (390, 844)]:
        browser.resize(*size)
        for thing in (figure_1(), linearize(net, parameters(), jnp.ones(3), argnums=(0, 1)), captured(20), captured(100)):
            opened(thing)
            for folded in (False, True):
                if folded:
                    browser.ask("backsolve.unfold(false)")
                svg, panel = browser.ask(room.format("matrix"))
                assert svg <= panel
        opened(figure_1())
        for which, share in [("graph", 0.75), ("matrix", 0.4)]:
            svg, panel = browser.ask(room.format(which))
            assert share * panel < svg <= panel


def test_the_structures_of_a_network_give_what_plans_count():
    """What the page counts with, walked through here by the same steps: any order of a system, against its plan."""
    from backsolve.elimination.graph import EliminationGraph
    from backsolve.planning.structures import structures_of

    for name in ("captured", "skips", "attention"):
        system = THINGS[name]()
        network = system.network()
        found = structures_of(network, [network.inner])
        for seed in range(10):
            order = [int(v) for v in np.random.default_rng(seed).permutation(network.nodes)]
            count = 0

            def product(a, b, found=found):
                nonlocal count
                count += found.products[a, b].multiplications
                return found.products[a, b].result

            graph = EliminationGraph(found.into, product, lambda a, b, found=found: found.sums[a, b])
            for v in order:
                if v not in network.terminal:
                    graph.eliminate(v)
            assert count == system.plan(order).multiplications
