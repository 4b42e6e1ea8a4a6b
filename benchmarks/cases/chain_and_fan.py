"""Chains and fan-outs of operators: the solve must take time linear in the number of edges, and never recurse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve import I, O, OperatorMatrix, hadamard, left_mul, vector
from benchmarks.runner import Runner, Section, Target, relative_difference

TITLE = "Chains and fan-outs of operators"
Array = NDArray[Any]
SHAPE = (4, 3)  # of every node; small, so that what is measured is the solver and not BLAS
DISTINCT = 64  # operators that the edges share, so that a million edges fit into memory


@dataclass(frozen=True)
class Edges:
    """Edges i → j between nodes that hold 4 × 3 matrices, every one listed after those that lead to its start.

    An edge is (i, j, k, hadamard): it multiplies entry by entry by `factors[k]`, or from the left by `turns()[k]`.
    """

    nodes: int
    edges: list[tuple[int, int, int, bool]]
    factors: list[Array]

    def turns(self) -> list[Array]:
        """Orthogonal matrices, so that the values at the nodes neither overflow nor vanish after a million edges."""
        rng = np.random.default_rng(0)
        return [np.linalg.qr(rng.standard_normal((SHAPE[0], SHAPE[0])))[0] for _ in range(DISTINCT)]


def chain(edges: int) -> Edges:
    """A chain, 0 → 1 → 2 → …, of matrices of signs and orthogonal matrices in turn."""
    rng = np.random.default_rng(0)
    signs = [rng.choice([-1.0, 1.0], size=SHAPE) for _ in range(DISTINCT)]
    return Edges(edges + 1, [(i, i + 1, i % DISTINCT, i % 2 == 0) for i in range(edges)], signs)


def fans(edges: int, width: int = 1000) -> Edges:
    """A row of fans: a node with `width` successors that all meet again in the next such node."""
    width = min(width, edges // 2)
    # Positive, and summing to one over a fan (nearly, where the width is no multiple): a fan keeps the size of values.
    factors = np.random.default_rng(0).uniform(0.5, 1.5, size=(min(width, DISTINCT), *SHAPE))
    factors /= factors.mean(axis=0) * width
    listed, hub = [], 0
    for fan in range(edges // (2 * width)):
        end = hub + width + 1
        for k in range(width):
            listed.append((hub, hub + 1 + k, k % len(factors), True))
            listed.append((hub + 1 + k, end, fan % DISTINCT, False))
        hub = end
    return Edges(hub + 1, listed, list(factors))


def measure(runner: Runner) -> Section:
    """Back substitution over 10³ … 10⁶ edges."""
    sizes = (100, 200) if runner.quick else (1_000, 10_000, 100_000, 1_000_000)
    rows = []
    for series, build in (("chain", chain), ("fan-outs of 1,000", fans)):
        for size in sizes:
            graph = build(size)
            G = np.random.default_rng(1).standard_normal(SHAPE)
            ImL, g = _system(graph, G)
            rows.append(
                runner.contest(
                    f"{series}, {size:,} edges",
                    {
                        "backsolve": partial(_by_formula, ImL, g),
                        "loop by hand": partial(_by_hand, graph, [W.T for W in graph.turns()], G),
                    },
                    tolerance=1e-10,
                    rounds=max(3, min(15, 1_000_000 // size)),
                    difference=_difference,
                    series=series,
                    size=len(graph.edges),
                    target=Target(8.0, ("loop by hand",)) if size == 1_000_000 else None,
                )
            )
    text = (
        "`np.linalg.solve(ImL.T, g)` with Hadamard products and left multiplications on 4 × 3 blocks, the transpose "
        "inside the time and the building of the matrix outside. The loop by hand does the same products on bare "
        "arrays, knowing the order: between the two lies the price of spaces, checks and sorting, per edge."
    )
    return Section("chain_and_fan", TITLE, text, rows, unit="edge", slope_limit=1.1)


def _system(graph: Edges, G: Array) -> tuple[Any, Any]:
    factors, turns = [hadamard(D) for D in graph.factors], [left_mul(W) for W in graph.turns()]
    L = OperatorMatrix.from_entries(
        {(j, i): factors[k] if entrywise else turns[k] for i, j, k, entrywise in graph.edges}, (graph.nodes,) * 2
    )
    return I - L, vector([O] * (graph.nodes - 1) + [G])


def _by_formula(ImL: Any, g: Any) -> Any:
    return np.linalg.solve(ImL.T, g)


def _by_hand(graph: Edges, transposed_turns: list[Array], G: Array) -> list[Array]:
    factors = graph.factors
    x: list[Any] = [None] * graph.nodes
    x[-1] = G
    for i, j, k, entrywise in reversed(graph.edges):
        term = factors[k] * x[j] if entrywise else transposed_turns[k] @ x[j]
        x[i] = term if x[i] is None else x[i] + term
    return x


def _difference(ours: Any, theirs: list[Array]) -> float:
    return relative_difference(np.stack(list(ours)), np.stack(theirs))
