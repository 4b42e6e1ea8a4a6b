"""The vectors that forward and back substitution fill, a value for each vertex, and the arrays on edges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import AlgebraError, add, is_zero, multiply
from backsolve.algebra.spaces import ANY, ArraySpace, Space
from backsolve.elimination.paths import Graph
from backsolve.matrices.solve import solve
from backsolve.matrices.vector import BlockVector
from backsolve.operators import I, O
from backsolve.planning.costs import AbstractArray
from backsolve.show.model import Picture, spaces_of
from backsolve.show.numbers import Grid, grid_of, operator_grid
from backsolve.show.steps import FORWARD, REVERSE
from backsolve.system.system import System

__all__ = ["Values", "operator_grids", "vectors"]

VALUES = 2_000  # vertices whose vectors are computed
NUMBERS = 10_000_000  # numbers in all of them
GRIDS = 100  # arrays that are drawn, of vertices and of edges


class Values(NamedTuple):
    """The vector of each direction, of a vertex its number or the norm of its array; and why one is not there.

    ``grids`` are the arrays themselves, for as many vertices as a page has room for, the sources first.
    """

    found: dict[str, dict[int, str]]
    note: str = ""
    grids: dict[str, dict[int, Grid]] = {}  # noqa: RUF012  # never changed


def vectors(picture: Picture) -> Values:
    """What fills up: under "forward" the changes of every vertex for ones at the sources, under "reverse" the gradients
    for ones at the outputs.  Where they cannot be computed the note says so, and why.
    """
    subject = picture.subject
    if not isinstance(subject, System | Graph):
        return Values({}, "No values are filled in: a matrix alone has no right-hand side.")
    if len(picture.vertices) > VALUES:
        return Values({}, f"No values are filled in beyond {VALUES:,} vertices.")
    if sum(v.size for v in picture.vertices) > NUMBERS:
        return Values({}, f"No values are filled in: they are more than {NUMBERS:,} numbers.")
    if isinstance(subject, System) and _outlined(subject):
        return Values({}, "No values are filled in: a plan keeps shapes, not arrays.")
    texts: dict[str, dict[int, str]] = {}
    grids: dict[str, dict[int, Grid]] = {}
    missing = []
    for direction, name in (("forward", FORWARD), ("reverse", REVERSE)):
        try:
            if isinstance(subject, Graph):
                blocks = _of_graph(picture, subject, direction)
            else:
                blocks = _pushed(picture, subject) if direction == "forward" else _pulled(picture, subject)
            texts[direction] = {v: _short(block) for v, block in blocks.items()}
            grids[direction] = _grids(picture, blocks)
        except (TypeError, ValueError, ArithmeticError, NotImplementedError, AlgebraError) as error:
            reason = (str(error).splitlines() or [""])[0][:120]  # an operator without a transpose, what takes no ones
            missing.append(f"No values are filled in for {name}: {reason or type(error).__name__}")
    return Values(texts, " ".join(missing), grids)


def _grids(picture: Picture, blocks: Mapping[int, Any]) -> dict[int, Grid]:
    """The arrays of the sources, then of others, while there is room."""
    grids: dict[int, Grid] = {}
    for v in sorted(blocks, key=lambda v: picture.vertices[v].role != "source"):
        grid = None if len(grids) >= GRIDS else grid_of(blocks[v])
        if grid is not None:
            grids[v] = grid
    return grids


def operator_grids(picture: Picture) -> dict[int, Grid]:
    """What stands on edges, as arrays: the matrix of a small operator, of a large one the array that it multiplies with."""
    grids: dict[int, Grid] = {}
    for n, e in enumerate(picture.edges):
        if len(grids) >= GRIDS:
            break
        grid = None if e.value is not None else operator_grid(e.element)
        if grid is not None:
            grids[n] = grid
    return grids


def _outlined(system: System) -> bool:
    """Whether what the operators hold are shapes in place of arrays, as in the outline that a Plan keeps."""
    elements = [*system.M.entries.values(), *system.L.entries.values()]
    return any(
        isinstance(getattr(factor, "array", None), AbstractArray) for x in elements for factor in getattr(x, "factors", ())
    )


def _pushed(picture: Picture, system: System) -> dict[int, Any]:
    M, L, S = system.M, system.L, system.sinks
    t = _ones(spaces_of(system)[0], M.entries)
    x = solve(I - L, M.times(t))
    return _by_vertex(picture, t, x, S.times(x))


def _pulled(picture: Picture, system: System) -> dict[int, Any]:
    M, L, S = system.M, system.L, system.sinks
    g = _ones(spaces_of(system)[2], S.entries)
    x = solve(I - L.T, S.T.times(g))
    return _by_vertex(picture, M.T.times(x), x, g)


def _by_vertex(picture: Picture, p: BlockVector, x: BlockVector, y: BlockVector) -> dict[int, Any]:
    blocks = {v: x[i] for i, v in picture.nodes.items()}
    blocks |= dict(zip(picture.ends["source"], p, strict=True))
    return blocks | dict(zip(picture.ends["output"], y, strict=True))


def _of_graph(picture: Picture, graph: Graph, direction: str) -> dict[int, Any]:
    Lt = graph.matrix()
    n = Lt.shape[0]
    neighbours: list[list[tuple[int, Any]]] = [[] for _ in range(n)]
    x: list[Any] = [I] * n
    if direction == "forward":  # products from source to sink, left to right
        for (i, j), weight in Lt.entries.items():
            neighbours[j].append((i, weight))
        for j in range(n):
            if neighbours[j]:
                x[j] = _total(multiply(x[i], weight) for i, weight in neighbours[j])
    else:
        for (i, j), weight in Lt.entries.items():
            neighbours[i].append((j, weight))
        for i in reversed(range(n)):
            if neighbours[i]:
                x[i] = _total(multiply(weight, x[j]) for j, weight in neighbours[i])
    return {v: x[i] for v, i in enumerate(picture.origin)}


def _total(terms: Iterable[Any]) -> Any:
    total: Any = O
    for term in terms:
        total = term if total is O else add(total, term)
    return total


def _ones(spaces: Sequence[Space], entries: Mapping[tuple[int, int], Any]) -> BlockVector:
    """A vector of ones in these spaces.  Raises `ValueError` where one of them is not known."""
    blocks: list[Any] = []
    numbers = all(is_number(x) or hasattr(x, "codomain") or not hasattr(x, "shape") for x in entries.values())
    for space in spaces:
        if isinstance(space, ArraySpace) and space.known and space.shape is not None:
            blocks.append(np.ones(space.shape, space.dtype or float))
        elif space == ANY and numbers:
            blocks.append(1)
        else:
            raise ValueError(f"no ones in the space {space}.")
    return BlockVector(blocks)


def _short(block: Any) -> str:
    """A number as it is, an array by its norm, a symbol by its text."""
    if is_zero(block):
        return "0"
    if getattr(type(block), "universal_unit", None) == "one":
        return "1"
    if is_number(block) or getattr(block, "shape", None) == ():
        try:
            return f"{complex(block):.4g}" if np.iscomplexobj(block) else f"{float(block):.4g}"
        except (TypeError, ValueError):
            return str(block)
    if isinstance(block, tuple):
        return "(" + ", ".join(map(_short, block)) + ")"
    if hasattr(block, "shape") and hasattr(block, "dtype") and not hasattr(block, "codomain"):
        return f"‖·‖ {float(np.linalg.norm(np.asarray(block))):.4g}"
    text = str(block)
    return text if len(text) <= 40 else text[:39] + "…"
