"""Fills the table of primitives from the families, and adds the user's own."""

from __future__ import annotations

from dataclasses import replace

from backsolve.capture.primitives.arithmetic import CONTRACTION, ELEMENTWISE, REDUCTION
from backsolve.capture.primitives.moves import INDEXING, SHAPE
from backsolve.tracing.jaxpr import PRIMITIVES, Edge, record_of, unknown

__all__ = ["add_rule"]

PRIMITIVES |= ELEMENTWISE | SHAPE | INDEXING | REDUCTION | CONTRACTION

_OWN = frozenset(name for name, primitive in PRIMITIVES.items() if primitive.edge is not unknown)


def add_rule(name: str, edge: Edge, linear: tuple[int, ...] | None = ()) -> None:
    """Add the edge of a primitive of the user's own.  Raises `ValueError` for a name that has one."""
    record = record_of(name)
    if record.edge is not unknown:
        owner = "backsolve itself" if name in _OWN else "an earlier rule"
        raise ValueError(f"primitive {name!r} already has a rule, from {owner}; rules are not replaced silently.")
    PRIMITIVES[name] = replace(record, edge=edge, linear=linear)
