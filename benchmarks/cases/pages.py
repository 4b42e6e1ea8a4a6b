"""The page of a large function in a real browser: how soon it is painted, and how long a step takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from backsolve import Graph, linearize
from backsolve.show import page
from benchmarks.runner import Row, Runner, Section, Target, optional

TITLE = "The page of 5,000 nodes in Chromium"
PAINT = """new Promise(done => { const look = () => { const found = performance.getEntriesByName('first-contentful-paint');
  if (found.length) done(found[0].startTime); else setTimeout(look, 10); }; look(); })"""
STEPS = """(() => { const last = backsolve.data.runs[0].order.length, times = [];
  for (const run of [0, 1]) { backsolve.choose(run);
    for (let k = 0; k <= 20; k++) { const start = performance.now();
      backsolve.go(Math.round(k * last / 20)); document.body.offsetHeight; times.push(performance.now() - start); } }
  return times; })()"""


def measure(runner: Runner) -> Section:
    """First paint from the file, and the slowest of 42 steps over two orders, drawn and laid out."""
    nodes = 60 if runner.quick else 5_000
    browser = _browser()
    if browser is None:
        text = "Not measured: there is no Chromium here, or no websocket-client (`pip install 'backsolve[dev]'`)."
        print(f"pages: {text}")
        return Section("pages", TITLE, text, [])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, thing in (("a net", _net(nodes)), ("a tangle", _tangle(nodes))):
                file = Path(folder, "page.html")
                file.write_text(page(thing), encoding="utf-8")
                rows += _contests(runner, browser, file, name)
        finally:
            browser.close()
    text = (
        f"Pages of {nodes:,} nodes, opened from a file in a headless Chromium of 1280 × 800: the time until it first paints "
        "and the slowest of 42 steps from the start to the end of forward and back substitution, its layout included. "
        "A net is captured from JAX and folds by its layers; in a tangle every node has two edges from the 200 before it."
    )
    return Section("pages", TITLE, text, rows)


def _browser() -> Any:
    """A Chromium, or None where there is none, or nothing to drive it with."""
    client = optional("tests.show.browser")  # the tests' own, so that both look at the same thing
    return None if client is None or client.chromium() is None else client.Browser()


def _contests(runner: Runner, browser: Any, file: Path, name: str) -> list[Row]:
    def paint() -> float:
        browser.open(file)
        return float(browser.ask(PAINT)) / 1e3

    def slowest_step() -> float:
        return float(max(browser.ask(STEPS))) / 1e3

    return [
        runner.contest(f"{name}: {what}", {"backsolve": call}, tolerance=0, rounds=9, target=Target(limit), seconds=float)
        for what, call, limit in (("first paint", paint, 2.0), ("slowest step", slowest_step, 0.05))
    ]


def _net(nodes: int) -> Any:
    def layer(W: Any, b: Any, x: Any) -> Any:
        return jnp.tanh(W @ x + b)

    def net(params: Any, x: Any) -> Any:
        for W, b in params:
            x = layer(W, b, x)
        return jnp.sum(x**2)

    params = [(jnp.full((3, 3), 0.1), jnp.ones(3)) for _ in range(nodes // 3)]
    return linearize(net, params, jnp.ones(3), argnums=(0, 1))


def _tangle(nodes: int) -> Graph:
    rng = np.random.default_rng(0)
    edges = {(int(i), j): 1.0 for j in range(20, nodes) for i in set(rng.integers(max(0, j - 200), j, 2).tolist())}
    return Graph(edges)
