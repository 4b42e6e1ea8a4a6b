"""Numeric path weights over a million edges, beside SciPy's triangular solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve_triangular

from backsolve import Graph
from benchmarks.runner import Runner, Section, Target, relative_difference

TITLE = "Path weights over a million edges"
Array = NDArray[Any]


def measure(runner: Runner) -> Section:
    """Path weights from every source to the last node: back substitution on (I − Lᵀ) x = e."""
    nodes, edges = (300, 3_000) if runner.quick else (100_000, 1_000_000)
    weights = random_dag(nodes, edges)
    sink, e = nodes - 1, np.zeros(nodes)
    e[sink] = 1
    graph = Graph(weights)
    csr = sp.csr_array(sp.eye_array(nodes) - weights)
    csc = csr.tocsc()

    def scipy_solve(matrix: Any) -> Array:
        # Told all that helps: the diagonal is one, and the matrix may be written to (it comes out as it went in).
        x: Array = spsolve_triangular(matrix, e, lower=False, unit_diagonal=True, overwrite_A=True)
        return x

    rows = [
        runner.contest(
            "solve",
            {
                "backsolve": lambda: graph.path_weights(sink=sink),
                "SciPy, CSR": lambda: scipy_solve(csr),
                "SciPy, CSC": lambda: scipy_solve(csc),
            },
            tolerance=1e-10,
            rounds=21,
            target=Target(1.5, ("SciPy, CSR", "SciPy, CSC")),
            difference=_difference,
        ),
        runner.contest(
            "build and solve",
            {
                "backsolve": lambda: Graph(weights).path_weights(sink=sink),
                "SciPy, CSR": lambda: scipy_solve(sp.csr_array(sp.eye_array(nodes) - weights)),
                "SciPy, CSC": lambda: scipy_solve(sp.csc_array(sp.eye_array(nodes) - weights)),
            },
            tolerance=1e-10,
            rounds=21,
            difference=_difference,
        ),
    ]
    text = (
        f"A random acyclic graph, {nodes:,} nodes and {weights.nnz:,} edges, given as a SciPy CSR matrix: "
        "`Graph(csr).path_weights(sink=last)` beside `scipy.sparse.linalg.spsolve_triangular` on I − Lᵀ, with "
        "`unit_diagonal` and `overwrite_A`, in either format. In the second row everyone starts from the edges."
    )
    return Section("path_weights", TITLE, text, rows)


def random_dag(nodes: int, edges: int, seed: int = 0) -> Any:
    """A strictly upper triangular CSR matrix with `edges` normal entries, scaled so that path weights stay small."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(nodes, size=(2, int(edges * 1.001)))
    i, j = np.minimum(i, j), np.maximum(i, j)
    cells = np.unique((i * nodes + j)[i != j])
    cells = np.sort(rng.permutation(cells)[:edges])
    scale = 0.9 / np.sqrt(edges / nodes)
    weights = sp.coo_array((scale * rng.standard_normal(cells.size), (cells // nodes, cells % nodes)), (nodes, nodes))
    return weights.tocsr()


def _difference(ours: Any, theirs: Array) -> float:
    # Ours is a mapping over the sources; SciPy returns a number for every node.
    nodes = np.fromiter(ours, dtype=np.intp, count=len(ours))
    values = np.fromiter(ours.values(), dtype=float, count=len(ours))
    return relative_difference(values, theirs[nodes])
