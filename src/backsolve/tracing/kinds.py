"""Kinds of primitives: what a program does with the entries of its arrays, without their names.

The table is filled from above, by the records of `backsolve.capture.primitives`.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["KINDS", "Kind", "kind_of"]


class Kind(Enum):
    """What a primitive does with entries, and whether XLA's CPU compiler works it out again in every loop that reads it."""

    CHEAP = auto()  # an operation on each entry by itself, worked out again
    SINE = auto()  # so are these, although each takes as long as 25 multiplications
    DEAR = auto()  # an operation on each entry by itself, worked out once where several loops read it
    MOVES = auto()  # entries of one operand at other places, as the parameters and shapes say
    JOINS = auto()  # so, of several operands
    PICKS = auto()  # entries at the places that an operand of indices names
    REDUCES = auto()  # sums along axes
    OTHER = auto()  # nothing is known


KINDS: dict[str, Kind] = {}  # by name of the primitive


def kind_of(name: str) -> Kind:
    """The kind of the primitive with this name."""
    return KINDS.get(name, Kind.OTHER)
