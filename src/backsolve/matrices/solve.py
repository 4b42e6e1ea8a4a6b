"""The backslash: substitution on a sparse triangular matrix whose elements may be anything with + and a product.

One primitive, `substitute(L, b)`: the x with x = L x + b.  `solve(A, b)` splits A = D − N and substitutes.  Elements
are multiplied from the left, rows are visited in topological order, and no product is ever reordered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from backsolve.algebra.elements import SingularError, describe, is_zero, left_divide
from backsolve.matrices.vector import times_row

__all__ = ["CycleError", "RightHandSide", "Triangular", "solve", "substitute", "topological_order"]


class CycleError(ValueError):
    """No numbering makes the matrix triangular: following its entries leads back to the start."""


class Triangular(Protocol):
    """What a matrix must offer to be solved with."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""

    def row(self, i: int) -> Sequence[tuple[int, Any]]:
        """The entries of row i as pairs of column and element."""

    def splitting(self) -> tuple[Sequence[Any] | None, Triangular]:
        """D and N with A = D − N, D diagonal (None for the identity) and N with an empty diagonal."""

    def compiled(self, diagonal: Sequence[Any] | None, b: Any) -> Any:
        """The x with D x = N x + b from a compiled routine, or None where the elements need the general one."""

    def unpack(self, b: Any) -> RightHandSide:
        """b as a list of blocks, checked against the rows of this matrix."""

    def product(self, b: Any) -> Callable[[Any, Any], Any]:
        """How elements are multiplied with the blocks of b."""

    def name(self, i: int) -> str:
        """Row i as an error message should call it."""


RightHandSide = tuple[list[Any], Callable[[list[Any]], Any]]  # the blocks, and how to make a result of solved ones


def substitute(L: Triangular, b: Any) -> Any:
    """Return the x with  x = L x + b,  that is (I − L)⁻¹ b = b + L b + L² b + …, for an L that is triangular with an
    empty diagonal under some numbering of its rows.

    Needs only + and a product of the elements, so it serves semirings too.  b is a vector of blocks, a sequence, an
    array, or a matrix of several right-hand sides; x comes back as the same.
    Raises `CycleError` (naming the rows) where L is not triangular, `ValueError` where b does not fit.
    Cost: one product and one sum for each entry of L.  Source: section 1 of the paper.

    Example:
        >>> from fractions import Fraction
        >>> import backsolve as bs
        >>> L = bs.matrix([[0, 0, 0], [Fraction(1, 2), 0, 0], [0, Fraction(1, 3), 0]])
        >>> print(*bs.substitute(L, [Fraction(1), Fraction(0), Fraction(0)]))
        1 1/2 1/6
    """
    _require_matrix(L, "substitute")
    return _solve(None, L, b)


def solve(A: Triangular, b: Any) -> Any:
    """Return A⁻¹ b for a matrix that is triangular under some numbering of its rows: forward or back substitution.

    The diagonal is divided by with what its elements offer: nothing for the identity, exact fractions for ints, a
    linear solve for blocks, ``inverse()`` otherwise.  ``np.linalg.solve(A, b)`` arrives here.
    Raises `CycleError` (naming the rows) where A is not triangular, `SingularError` (naming the row) where a diagonal
    element is missing or cannot be divided by, `ValueError` where b does not fit.
    Cost: one product and one sum for each entry of A, one division a row.

    Example:
        >>> import backsolve as bs
        >>> bs.solve(bs.matrix([[2, 0], [3, 4]]), [2, 11])
        [1, 2]
    """
    _require_matrix(A, "solve")
    diagonal, N = A.splitting()
    return _solve(diagonal, N, b)


def _require_matrix(A: Any, function: str) -> None:
    if not hasattr(A, "splitting"):
        raise TypeError(f"{function} takes a matrix such as backsolve.matrix([[...]]) makes, got {describe(A)}.")


def _solve(diagonal: Sequence[Any] | None, N: Triangular, b: Any) -> Any:
    rows, columns = N.shape
    if rows != columns:
        raise ValueError(f"only a square matrix can be solved with, got {rows} × {columns} blocks.")
    if diagonal is not None:
        for i, d in enumerate(diagonal):
            if is_zero(d):
                raise SingularError(f"the matrix is singular: {N.name(i)} has nothing on the diagonal.")
    x = N.compiled(diagonal, b)
    if x is not None:
        return x
    blocks, repack = N.unpack(b)
    multiply = N.product(b)
    for i in topological_order(rows, N.row, N.name):
        try:
            total = times_row(N.row(i), blocks, multiply, blocks[i])
        except (TypeError, ValueError) as error:
            error.add_note(f"This was in {N.name(i)}.")
            raise
        if diagonal is not None:
            try:
                total = left_divide(diagonal[i], total)
            except SingularError as error:
                told = SingularError(f"{N.name(i)}, diagonal element {describe(diagonal[i])}: {error}")
                raise told from error.__cause__
        blocks[i] = total
    return repack(blocks)


def topological_order(
    n: int, row: Callable[[int], Iterable[tuple[int, Any]]], name: Callable[[int], str] = "row {}".format
) -> Sequence[int]:
    """Return an order of 0 … n−1 in which i comes after every j that ``row(i)`` names.

    The order as it stands, forwards or backwards, is kept where it serves; otherwise rows become ready first come,
    first served.  Raises `CycleError` naming one cycle.  Cost: linear in the number of entries; nothing recurses.
    """
    lower = upper = True
    for i in range(n):
        for j, _ in row(i):
            lower = lower and j < i
            upper = upper and j > i
        if not (lower or upper):
            break
    if lower:
        return range(n)
    if upper:
        return range(n - 1, -1, -1)
    waiting = [0] * n
    users: list[list[int]] = [[] for _ in range(n)]
    for i in range(n):
        for j, _ in row(i):
            waiting[i] += 1
            users[j].append(i)
    order = [i for i in range(n) if not waiting[i]]
    for j in order:  # grows while it is read
        for i in users[j]:
            waiting[i] -= 1
            if not waiting[i]:
                order.append(i)
    if len(order) < n:
        raise CycleError(_describe_cycle(waiting, row, name))
    return order


def _describe_cycle(waiting: list[int], row: Callable[[int], Iterable[tuple[int, Any]]], name: Callable[[int], str]) -> str:
    """Walk back among the rows that never became ready until one repeats."""
    at = next(i for i, count in enumerate(waiting) if count)
    seen: dict[int, int] = {}
    while at not in seen:
        seen[at] = len(seen)
        at = next(j for j, _ in row(at) if waiting[j])
    cycle = [i for i, place in seen.items() if place >= seen[at]][::-1]
    start = cycle.index(min(cycle))
    cycle = cycle[start:] + cycle[:start]
    shown = [name(i) for i in [*cycle[:12], *([] if len(cycle) > 12 else cycle[:1])]]
    more = f" → … ({len(cycle)} in all)" if len(cycle) > 12 else ""
    return (
        f"no numbering makes the matrix triangular, a cycle stops it: {' → '.join(shown)}{more}. "
        "Substitution needs a directed acyclic graph; remove an entry of the cycle."
    )
