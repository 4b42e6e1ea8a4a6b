"""Four calls and the way each takes through the files of the package.

The sentences are written by hand, the files are checked: a station that the call does not enter is an error.
"""

from __future__ import annotations

import sys
from functools import cache
from html import escape
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.stations import calls, stations

__all__ = ["WAYS", "entered", "way"]

# A name that ends with / stands for whichever of the folder's files are entered.
WAYS: dict[str, list[tuple[str, str]]] = {
    "gradient": [
        (
            "transforms/derivatives.py",
            "grad asks for the system of the function at the point, and pulls the number 1 through it.",
        ),
        ("capture/linearized.py", "The arguments' pytrees are taken apart and the function is traced."),
        ("tracing/", "Tracing is JAX's: what comes back is a jaxpr, the list of the function's equations."),
        ("capture/walk.py", "One walk over the equations. Each is evaluated once and becomes a node."),
        ("capture/primitives/", "The equation's primitive says which operator the edge from each of its operands carries."),
        ("operators/einsum.py", "Nearly always it is an Einsum: of a product W x the factor W, of a tanh a diagonal."),
        ("matrices/matrix.py", "Sources, nodes and outputs are numbered, the edges are the entries of M, L and S."),
        ("system/system.py", "M.T @ solve(I - L.T, S.T g)."),
        (
            "matrices/solve.py",
            "Back substitution, from the last node to the first: a row is visited once all that reads it is done.",
        ),
        ("algebra/arrays.py", "An operator meets an array: one contraction by labels …"),
        ("capture/adapter.py", "… which JAX does, by jax.lax, traced or not."),
    ],
    "dense Jacobian": [
        ("capture/linearized.py", "The same system, in the same way."),
        ("system/system.py", "jacobian asks for a plan, and has it carried out."),
        (
            "elimination/borders.py",
            "The nodes between their borders: sources and outputs stay, all that lies between is eliminated.",
        ),
        ("planning/plan.py", "Which node next? The cheapest of forward, reverse, Markowitz and a short search."),
        ("planning/search.py", "Orders are tried on bit masks."),
        (
            "planning/costs.py",
            "What a product of two edges costs is found by the operators' own code, run on arrays that have a shape and no "
            "entries: once for each two structures, then looked up.",
        ),
        ("elimination/graph.py", "accumulate: each node goes, and every edge into it meets every edge out of it."),
        ("operators/closed_form.py", "The product of two edges, in closed form again."),
        (
            "operators/einsum_rules.py",
            "Two Einsums are one: their factors are joined, and multiplied together where that does not grow them.",
        ),
        ("algebra/arrays.py", "At the end each operator between a source and an output is made an array."),
    ],
    "sparse Jacobian": [
        (
            "transforms/derivatives.py",
            "All below happens while jax.jit traces, once for each combination of shapes: no value is known.",
        ),
        ("capture/folding.py", "What follows from constants alone is folded, so that indices are known."),
        (
            "capture/sparse.py",
            "Every edge as a sparse operator; what only moves entries is run once on the numbers of the entries.",
        ),
        ("sparse/operator.py", "An Einsum or a Slice as a pattern and its non-zeros."),
        (
            "elimination/sparse_edges.py",
            "The same elimination; the cheapest node goes first, by how many pairs of numbers meet there.",
        ),
        ("elimination/graph.py", "The same graph."),
        ("sparse/pattern.py", "Products and unions of patterns: NumPy on index arrays, while planning."),
        (
            "sparse/lazy_values.py",
            "The non-zeros that belong to them, not yet computed: sums of entries of arrays, with coefficients.",
        ),
        ("sparse/materialize.py", "The non-zeros formed, those alike together."),
        ("xla/", "What XLA would compute several times over is computed once."),
        ("sparse/matrix.py", "A SparseMatrix around them."),
    ],
    "inverse-Hessian product": [
        ("transforms/solve.py", "The function is the gradient, whose Jacobian is the Hessian; nothing of it is formed."),
        ("capture/linearized.py", "The same system, of the gradient: its nodes are those of both sweeps."),
        ("capture/solving.py", "The values are concrete: NumPy and an engine on the host."),
        ("system/bordered.py", "[I − L, −M; S, 0] in sparse blocks: J⁻¹ is another border of the same matrix."),
        (
            "elimination/condense.py",
            "Static condensation: nodes whose elimination causes no fill-in go before, by the same graph.",
        ),
        ("engines/layout.py", "The places of the blocks, as compressed columns: analysed once for all numbers."),
        ("engines/choose.py", "An engine by its name."),
        ("engines/hosted.py", "L U = P A Q, by SciPy; substitution, and refinement where the residual asks for it."),
        ("system/bordered.py", "The solution at the sources; the factors are kept for the next right-hand side."),
    ],
}


@cache
def entered(name: str) -> tuple[list[str], int]:
    """The files that a call enters, in this order, and in how many pairs of files one calls the other."""
    call = calls()[name]
    call()  # what is done once and for all is no part of the way
    files, steps = stations(call)
    for station, _ in WAYS[name]:
        if not any(file.startswith(station) for file in files):
            raise ValueError(f"the page says that a {name} passes {station}, but it enters only {', '.join(files)}.")
    return files, len(steps)


def way(name: str) -> str:
    """The stations of a call as an HTML table, with all files it enters below."""
    files, steps = entered(name)
    rows = "".join(
        f"<tr><td><code>{station.replace('/', '/<wbr>')}</code></td><td>{escape(what)}</td></tr>"
        for station, what in WAYS[name]
    )
    return (
        f'<div class="table-wrapper docutils container"><table class="docutils">{rows}</table></div>'
        f"<details><summary>In all {len(files)} files, with {steps} steps from one file to another</summary>"
        f"<p>{' → '.join(f'<code>{file}</code>' for file in files)}</p></details>"
    )
