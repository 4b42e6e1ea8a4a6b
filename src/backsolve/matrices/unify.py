"""How the elements of a matrix fit together: the space of every row and column, unified over all that stand in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from backsolve.algebra.elements import describe, is_number, is_zero
from backsolve.algebra.spaces import ANY, ArraySpace, Space, unify
from backsolve.operators import LinearOperator

__all__ = ["Entries", "element_spaces", "is_structural_zero", "refuse_numbers_among_operators", "unified", "unify_spaces"]

Entries = dict[tuple[int, int], Any]


def unified(a: Sequence[Space], b: Sequence[Space], word: str) -> list[Space]:
    """Two lists of spaces made one; ``word`` says in an error which they are."""
    pairs = enumerate(zip(a, b, strict=True))
    return [unify(p, q, partial("the {} spaces at {}".format, word, i)) for i, (p, q) in pairs]


def is_structural_zero(element: Any) -> bool:
    """Whether the element need not be stored."""
    return is_zero(element) or (is_number(element) and not isinstance(element, bool) and bool(element == 0))


def element_spaces(element: Any) -> tuple[Space, Space]:
    """Codomain and domain of an element: an operator's own, the leading axis for a 2-D block, anything otherwise."""
    if isinstance(element, LinearOperator):
        return element.codomain, element.domain
    shape = getattr(element, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and not hasattr(element, "block_rows"):
        return ArraySpace((int(shape[0]), ...)), ArraySpace((int(shape[1]), ...))
    return ANY, ANY


def refuse_numbers_among_operators(entries: Entries) -> None:
    """Raise `TypeError` where a number stands beside operators, since nothing says how large it is."""
    operators = [
        (place, e)
        for place, e in entries.items()
        if isinstance(e, LinearOperator) and not hasattr(e, "universal_unit")  # those serve every algebra
    ]
    if not operators:
        return
    for place, element in entries.items():
        if is_number(element) and element != 0:
            other, op = operators[0]
            raise TypeError(
                f"entry {place} is the number {element} among operators (entry {other} is {op!r}): its size is unknown. "
                f"Write {element} * I for a multiple of the identity."
            )


def _entry(line: str, k: int, place: tuple[int, int], element: Any) -> str:
    return f"{line} {k} and entry {place}, {describe(element)},"


def unify_spaces(entries: Entries, rows: list[Space], cols: list[Space]) -> None:
    """Fill in the spaces of rows and columns from the elements, and of the elements from these, until nothing moves."""
    by_row: dict[int, list[tuple[int, int]]] = {}
    by_col: dict[int, list[tuple[int, int]]] = {}
    for place in entries:
        by_row.setdefault(place[0], []).append(place)
        by_col.setdefault(place[1], []).append(place)
    todo = deque(entries)
    queued = set(entries)
    while todo:
        place = todo.popleft()
        queued.discard(place)
        i, j = place
        element = entries[place]
        codomain, domain = element_spaces(element)
        in_row, in_col = partial(_entry, "row", i, place, element), partial(_entry, "column", j, place, element)
        row_space = unify(rows[i], codomain, in_row, "Elements of one row have one codomain.")
        col_space = unify(cols[j], domain, in_col, "Elements of one column have one domain.")
        if isinstance(element, LinearOperator) and (codomain != row_space or domain != col_space):
            refined = element.refine(col_space, row_space)
            entries[place] = refined
            # A kind that does not refine keeps its unknowns; what the row and the column know stays known.
            row_space, col_space = unify(row_space, refined.codomain), unify(col_space, refined.domain)
        for space, known, index, line in ((row_space, rows, i, by_row), (col_space, cols, j, by_col)):
            if known[index] != space:
                known[index] = space
                for other in line[index]:
                    if other not in queued and other != place:
                        queued.add(other)
                        todo.append(other)
