"""The kinds of operators, and what `@` and `+` of each two give: found by trying samples on the package's own tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import product
from operator import matmul
from typing import Any

import numpy as np

import backsolve.capture  # noqa: F401  (brings kinds of its own)
from backsolve import linear_map
from backsolve.algebra.spaces import ArraySpace
from backsolve.operators import Einsum, Identity, LinearOperator, Scaling, Zero
from backsolve.operators.dispatch import ADD, COMPOSE
from backsolve.operators.einsum import Factor
from backsolve.operators.moves import Reshape, Slice
from backsolve.sparse import Sparse, sparse

__all__ = ["all_kinds", "kinds", "results", "table"]

SHAPES = (6,), (4,), (2, 3)


def _below(kind: type) -> Iterator[type]:
    for other in kind.__subclasses__():
        yield other
        yield from _below(other)


def all_kinds() -> list[type]:
    """Every kind of operator that the package has, by file."""
    own = [kind for kind in _below(LinearOperator) if kind.__module__.startswith("backsolve.")]
    return sorted(set(own), key=lambda kind: (kind.__module__, kind.__name__))


def kinds() -> str:
    """All kinds as an HTML table: name and file, and what it says about itself."""
    rows = [
        f"<tr><td><code>{kind.__name__}</code><br><small>{kind.__module__.removeprefix('backsolve.')}</small></td>"
        f"<td>{escape((inspect.getdoc(kind) or '').splitlines()[0]).replace('`', '')}</td></tr>"
        for kind in all_kinds()
    ]
    return _table(rows)


def _table(rows: Sequence[str], style: str = "") -> str:
    inside = f'<table class="docutils" style="{style}">{"".join(rows)}</table>'
    return f'<div class="table-wrapper docutils container">{inside}</div>'


def _dense(out: tuple[int, ...], into: tuple[int, ...]) -> Einsum:
    labels = tuple(range(len(out) + len(into)))
    array = np.random.default_rng(0).standard_normal((*out, *into))
    sizes: dict[int, int | None] = dict(zip(labels, array.shape, strict=True))
    return Einsum((Factor(array, labels),), labels[: len(out)], labels[len(out) :], sizes)


def _samples() -> dict[type, list[LinearOperator]]:
    """Operators between a few spaces: of each kind that the tables name, and opaque ones for the others."""
    pairs = [(out, into) for out in SHAPES for into in SHAPES]
    slices = Slice.along((6,), 0, 0, 4), Slice.along((6,), 0, 1, 5), Slice.along((4,), 0, 0, 2)
    return {
        Identity: [Identity(ArraySpace(shape)) for shape in SHAPES],
        Scaling: [Scaling(2.0, ArraySpace(shape)) for shape in SHAPES],
        Zero: [Zero(ArraySpace(into), ArraySpace(out)) for out, into in pairs],
        Einsum: [_dense(out, into) for out, into in pairs],
        Slice: [*slices, *(box.T for box in slices)],
        Reshape: [Reshape((6,), (2, 3)), Reshape((2, 3), (6,))],
        Sparse: [sparse([0, 1], [1, 2], [3.0, 4.0], into, out) for out, into in pairs],
        LinearOperator: [linear_map(lambda x: x, lambda y: y, into, out) for out, into in pairs],
    }


def results(
    operation: Callable[[Any, Any], Any], table: Mapping[tuple[type, type], Any]
) -> dict[tuple[type, type], list[str]]:
    """The kinds that samples of each two kinds give; empty where their spaces never fit.

    Raises `ValueError` where the table names a kind of which there is no sample.
    """
    samples, others = _samples(), _samples()  # no operator meets itself
    unknown = {kind.__name__ for pair in table for kind in pair if kind not in samples}
    if unknown:
        raise ValueError(f"docs/kinds.py has no sample of {', '.join(sorted(unknown))}, which a table of the package names.")
    found: dict[tuple[type, type], list[str]] = {}
    for (one, left), (two, right) in product(samples.items(), others.items()):
        fitting = [(a, b) for a, b in product(left, right) if _fit(operation, a, b)]
        found[one, two] = list(dict.fromkeys(type(operation(a, b)).__name__ for a, b in fitting))
    return found


def _fit(operation: Any, a: LinearOperator, b: LinearOperator) -> bool:
    return a.domain == b.codomain if operation is matmul else (a.domain, a.codomain) == (b.domain, b.codomain)


def table(operation: Callable[[Any, Any], Any]) -> str:
    """What `operator.matmul` or `operator.add` of each two kinds gives, as an HTML table."""
    found = results(operation, COMPOSE if operation is matmul else ADD)
    heads = list(dict.fromkeys(one for one, _ in found))
    names = {kind: "any other" if kind is LinearOperator else kind.__name__ for kind in heads}
    words = {"LinearMap": "that other"}
    sign = "@" if operation is matmul else "+"
    rows = [f"<tr><th>{sign}</th>{''.join(f'<th>{names[two]}</th>' for two in heads)}</tr>"]
    for one in heads:
        cells = ("<br>".join(words.get(name, name) for name in found[one, two]) or "–" for two in heads)
        rows.append(f"<tr><th>{names[one]}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return _table(rows, "font-size: 0.75em")
