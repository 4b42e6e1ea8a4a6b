"""Orders of elimination step by step, and what each costs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from backsolve.planning.search import BitGraph
from backsolve.show.model import Picture
from backsolve.system.system import System

FORWARD, REVERSE, MARKOWITZ = "forward substitution", "back substitution", "Markowitz order"

__all__ = ["FORWARD", "MARKOWITZ", "REVERSE", "Run", "costs", "runs"]


@dataclass(frozen=True)
class Run:
    """An order of elimination: its name, its vertices, the multiplications of each step, and their total."""

    name: str
    order: tuple[int, ...]
    costs: tuple[int, ...]

    @property
    def total(self) -> int:
        """Multiplications of all steps."""
        return sum(self.costs)


def runs(picture: Picture, order: Any = None, name: str = "") -> list[Run]:
    """Forward and back substitution, and the order given: a Plan, the name of one, or a sequence of nodes.

    With a Plan the multiplications are the plan's own, which knows the operators; otherwise those of `costs`.
    Raises `ValueError` where an order misses, repeats or invents a node, and for a plan of another system.
    """
    subject = picture.subject
    if isinstance(order, str) and order in ("auto", "markowitz") and isinstance(subject, System):
        name = MARKOWITZ if order == "markowitz" else "planned order"
        order = subject.plan(order)
    if hasattr(order, "steps") and isinstance(subject, System):
        return _planned(picture, subject, order, name or "plan")
    inner = sorted(picture.nodes.values())
    forward, reverse = tuple(inner), tuple(reversed(inner))
    substitutions = [Run(FORWARD, forward, costs(picture, forward)), Run(REVERSE, reverse, costs(picture, reverse))]
    if order is None or (isinstance(order, str) and order == "forward"):
        return substitutions
    if isinstance(order, str) and order == "reverse":
        return substitutions[::-1]
    if isinstance(order, str) or not isinstance(getattr(order, "order", order), Iterable):
        raise ValueError(
            f"unknown order {order!r}; use 'forward', 'reverse', of a System also 'auto' or 'markowitz', "
            "or a sequence of nodes."
        )
    named = list(getattr(order, "order", order))
    unknown = [node for node in named if not isinstance(node, Hashable) or node not in picture.nodes]
    if unknown:
        raise ValueError(f"the order names {unknown[0]!r}, which is none of the {len(inner)} nodes that can be eliminated.")
    if len(set(named)) < len(named):
        twice = next(node for node in named if named.count(node) > 1)
        raise ValueError(f"the order names {twice!r} twice.")
    missing = [node for node in picture.nodes if node not in set(named)]
    if missing:
        raise ValueError(f"the order misses {missing[0]!r}; it must name each of the {len(inner)} nodes once.")
    vertices = tuple(picture.nodes[node] for node in named)
    return [Run(name or "this order", vertices, costs(picture, vertices)), *substitutions]


def _planned(picture: Picture, system: System, plan: Any, name: str) -> list[Run]:
    """The plan's order and those it is compared with, each counted as plans count."""
    plan.check(system.network())

    def run(name: str, plan: Any) -> Run:
        by_node = {step.node: step.multiplications for step in plan.steps}
        order = [node for node in plan.order if node in by_node]
        order += [node for node in picture.nodes if node not in by_node]  # outputs, which cost nothing
        return Run(name, tuple(picture.nodes[v] for v in order), tuple(by_node.get(v, 0) for v in order))

    others = {FORWARD: "forward", REVERSE: "reverse", MARKOWITZ: "markowitz"}
    return [run(name, plan), *(run(word, system.plan(order)) for word, order in others.items() if word != name)]


def costs(picture: Picture, order: Sequence[int]) -> tuple[int, ...]:
    """The multiplications of every step: Σ over pairs of an edge in and an edge out, of the product of the three sizes.

    Between scalars that is in-degree × out-degree.  Sizes that are not known count as one, and what only names a node as
    an output costs nothing.
    """
    sizes = [v.size for v in picture.vertices]
    masks: dict[int, int] = {}
    for i, size in enumerate(sizes):
        masks[size] = masks.get(size, 0) | (1 << i)
    into, out = [0] * len(sizes), [0] * len(sizes)
    for e in picture.edges:
        into[e.head] |= 1 << e.tail
        out[e.tail] |= 1 << e.head
    graph, free = BitGraph(into, out), _naming(picture)

    def weight(vertices: int) -> int:
        return sum(size * (vertices & mask).bit_count() for size, mask in masks.items())

    multiplications = []
    for v in map(int, order):
        multiplications.append(sizes[v] * weight(graph.into[v]) * weight(graph.out_of[v] & ~free[v]))
        graph.eliminate(v)
    return tuple(multiplications)


def _naming(picture: Picture) -> list[int]:
    """For each vertex the outputs that are this vertex and nothing else."""
    into: dict[int, list[int]] = {}
    for n, e in enumerate(picture.edges):
        if picture.vertices[e.head].role == "output":
            into.setdefault(e.head, []).append(n)
    free = [0] * len(picture.vertices)
    for output, numbers in into.items():
        e = picture.edges[numbers[0]]
        if len(numbers) == 1 and e.label in ("I", "1", "1.0"):
            free[e.tail] |= 1 << output
    return free
