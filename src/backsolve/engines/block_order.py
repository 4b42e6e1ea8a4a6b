"""Elimination order and fronts of a sparse block matrix: the block columns, by orthogonal steps.

Eliminating block column c by QR gathers all block rows that have it into one dense *front*; what is left of them below the
pivot rows is one new block row, whose columns are the front's others.  So a set of rows becomes one row, and sets of block
columns, kept as bits of a Python integer, are all that is needed to know every shape in advance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

import numpy as np

from backsolve.elimination.graph import cheapest_first

__all__ = ["Front", "Pattern", "depths", "fronts_of", "qr_flops"]

# One more kind of step (a QR, its gathers and products, compiled once) is worth this many floating-point operations.
STEP = 2e6
# Two fronts become one where that costs at most so many operations more.
SLACK = 2e5
# Columns are eliminated side by side in one round if they cost at most this many times the cheapest.
TOLERANCE = 4.0
# A block row with more blocks than LONG is cut into links of CHUNK blocks each if that pays, with more than DENSE always.
LONG, DENSE, CHUNK = 6, 32, 2


@dataclass(frozen=True)
class Pattern:
    """Which block columns each block row has; ``links`` are those added by `stretched`.

    ``moved`` says in which row the blocks of a cut row are now: (row, column) -> row.
    """

    row_sizes: tuple[int, ...]
    col_sizes: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    links: tuple[tuple[int, int, int], ...] = ()  # (row, column, 1 or −1): that times an identity
    moved: tuple[tuple[int, int, int], ...] = ()  # (row, column, new row)

    def stretched(self, most: int) -> Pattern:
        """Block rows of more than ``most`` blocks cut into chains of short ones: an equivalent and sparser system.

        a₁x₁ + … + a_kx_k = b becomes a₁x₁ − t₁ = 0, t₁ + a₂x₂ − t₂ = 0, …, t_{k−1} + a_kx_k = b: one dense row would make
        every front as wide as the matrix.  The last link stands for the row.  Transposed, all links hold the same value.
        Source: Grcar, *Matrix stretching for linear equations* (1990); Adlers and Björck, *Matrix stretching for sparse
        least squares problems* (2000).
        """
        row_sizes, col_sizes, rows = list(self.row_sizes), list(self.col_sizes), list(self.rows)
        links, moved = list(self.links), list(self.moved)
        for i, cols in enumerate(self.rows):
            if len(cols) <= most:
                continue
            chunks = [cols[k : k + CHUNK] for k in range(0, len(cols), CHUNK)]
            before: tuple[int, ...] = ()
            for chunk in chunks[:-1]:
                row, link = len(rows), len(col_sizes)
                rows.append((*before, *chunk, link))
                row_sizes.append(self.row_sizes[i])
                col_sizes.append(self.row_sizes[i])
                links.extend((row, t, 1) for t in before)
                links.append((row, link, -1))
                moved.extend((i, j, row) for j in chunk)
                before = (link,)
            rows[i] = (*before, *chunks[-1])
            links.extend((i, t, 1) for t in before)
        return Pattern(tuple(row_sizes), tuple(col_sizes), tuple(rows), tuple(links), tuple(moved))


@dataclass(frozen=True)
class Front:
    """One dense factorisation: its pivot block columns, then the others; block rows of the matrix, then children's rests.

    ``shape`` counts scalars: rows, pivot columns, columns.  ``children`` are the fronts (by number) whose remaining rows
    end here, ``parent`` the one where its own do (−1 where none remain).
    """

    pivots: tuple[int, ...]
    rest: tuple[int, ...]
    rows: tuple[int, ...]
    children: tuple[int, ...]
    parent: int
    shape: tuple[int, int, int]


def qr_flops(r: int, n: int, c: int) -> float:
    """Operations to make n of c columns of a front with r rows triangular: QR of r × n, forming Q, and Qᴴ times the rest."""
    return 2 * n * n * (r - n / 3) + 4 * (r * r * n - r * n * n + n**3 / 3) + 2 * r * r * (c - n)


Price = Callable[[int, int, int], float]


def _width(r: int, n: int, c: int) -> float:
    """The degree of sparse QR: it leaves the links of long rows alone until their columns are gone."""
    return c


def _area(r: int, n: int, c: int) -> float:
    """What a pivot column takes."""
    return r * c / n


class _Elimination:
    """The rows that are left, by block column, and the fronts so far."""

    def __init__(self, pattern: Pattern, price: Price) -> None:
        self.price_of = price
        self.col_sizes = pattern.col_sizes
        self.original = len(pattern.rows)
        self.masks = [_mask(cols) for cols in pattern.rows]
        self.heights = list(pattern.row_sizes)
        self.of_col: list[dict[int, None]] = [{} for _ in pattern.col_sizes]
        for i, cols in enumerate(pattern.rows):
            for j in cols:
                self.of_col[j][i] = None
        # The width of a set of columns: Σₖ 2ᵏ · how many of them have bit k in their size.
        bits = max(pattern.col_sizes, default=0).bit_length()
        self.planes = [(1 << k, _mask(j for j, n in enumerate(pattern.col_sizes) if n >> k & 1)) for k in range(bits)]
        self.made_by: dict[int, int] = {}  # row -> the front it remained from
        self.fronts: list[Front] = []
        self.flops = 0.0

    def shape(self, c: int) -> tuple[int, int, int]:
        """Rows, pivot columns and columns of the front of column c, were it the next."""
        mask = rows = 0
        for i in self.of_col[c]:
            mask |= self.masks[i]
            rows += self.heights[i]
        return rows, self.col_sizes[c], sum(w * (mask & plane).bit_count() for w, plane in self.planes)

    def price(self, c: int) -> float:
        """What taking column c next costs."""
        return self.price_of(*self.shape(c))

    def eliminate(self, c: int) -> list[int]:
        """Take column c out; return the block columns that its front touches."""
        shape, rows, number = self.shape(c), self.of_col[c], len(self.fronts)
        mask = 0
        for i in rows:
            mask |= self.masks[i]
            self.masks[i] = 0
        mask &= ~(1 << c)
        rest = list(_bits(mask))
        for j in rest:
            left = self.of_col[j]
            for i in rows if len(rows) < len(left) else [i for i in left if i in rows]:
                left.pop(i, None)
        children = [self.made_by[i] for i in rows if i >= self.original]
        for f in children:
            self.fronts[f] = replace(self.fronts[f], parent=number)
        own = tuple(i for i in rows if i < self.original)
        if shape[0] > shape[1]:
            new = len(self.masks)
            self.masks.append(mask)
            self.heights.append(shape[0] - shape[1])
            self.made_by[new] = number
            for j in rest:
                self.of_col[j][new] = None
        self.of_col[c] = {}
        self.fronts.append(Front((c,), tuple(rest), own, tuple(children), -1, shape))
        self.flops += qr_flops(*shape)
        return rest

    def run(self, order: Iterable[int], limit: float) -> list[Front] | None:
        """Eliminate in this order; None where that costs more than the limit."""
        for c in order:
            if self.flops > limit:
                return None
            self.eliminate(c)
        return self.fronts

    def one_by_one(self) -> Iterator[int]:
        """Each time the cheapest column (of two alike the first); ``eliminate`` is called between two of them.

        A price is worked out again only when the column comes up: prices mostly rise.
        """
        return cheapest_first(range(len(self.col_sizes)), self.price, lambda _: ())

    def in_rounds(self) -> Iterator[int]:
        """Round by round, cheap columns that share no row: their fronts are independent and mostly alike.

        Source: Liu, *Modification of the minimum-degree algorithm by multiple elimination* (1985).
        """
        prices = {c: self.price(c) for c in range(len(self.col_sizes))}
        while prices:
            bound = TOLERANCE * min(prices.values())
            touched_rows: set[int] = set()
            chosen: list[int] = []
            for c in sorted((c for c, price in prices.items() if price <= bound), key=lambda c: (prices[c], c)):
                if touched_rows.isdisjoint(self.of_col[c]):
                    chosen.append(c)
                    touched_rows.update(self.of_col[c])
            changed: set[int] = set()
            for c in chosen:
                del prices[c]
                touched = len(self.fronts)
                yield c
                changed.update(self.fronts[touched].rest)
            prices.update((c, self.price(c)) for c in sorted(changed) if c in prices)


def merged(fronts: Sequence[Front], slack: float) -> list[Front]:
    """Fronts joined with their parents where that costs at most ``slack`` operations more, children first.

    A joined front has the child's pivots before the parent's: r, n, c become n′ + r, n′ + n, n′ + c for a child of n′
    pivots, because what remains of it was among the parent's rows already.
    Source: Duff and Reid, *The multifrontal solution of indefinite sparse symmetric linear equations* (1983).
    """
    joined = list(fronts)
    gone: set[int] = set()
    for f, front in enumerate(fronts):
        child, above = joined[f], front.parent
        if above < 0:
            continue
        parent, own = joined[above], child.shape[1]
        shape = (own + parent.shape[0], own + parent.shape[1], own + parent.shape[2])
        if qr_flops(*shape) - qr_flops(*child.shape) - qr_flops(*parent.shape) <= slack:
            joined[above] = replace(
                parent,
                pivots=child.pivots + parent.pivots,
                rows=child.rows + parent.rows,
                children=(*child.children, *(k for k in parent.children if k != f)),
                shape=shape,
            )
            for k in child.children:
                joined[k] = replace(joined[k], parent=above)
            gone.add(f)
    number = {f: k for k, f in enumerate(f for f in range(len(joined)) if f not in gone)}
    return [
        replace(joined[f], children=tuple(number[k] for k in joined[f].children), parent=number.get(joined[f].parent, -1))
        for f in number
    ]


def depths(fronts: Sequence[Front]) -> list[int]:
    """How many fronts must come one after the other before each: fronts of one depth are independent.

    A front's rest is known to its parent; where no rows remain there is none, and the rest leads to later pivots.
    """
    front_of = {j: f for f, front in enumerate(fronts) for j in front.pivots}
    depth = [0] * len(fronts)
    for f, front in enumerate(fronts):
        for after in (front.parent,) if front.parent >= 0 else {front_of[j] for j in front.rest}:
            depth[after] = max(depth[after], depth[f] + 1)
    return depth


def _score(fronts: Sequence[Front]) -> float:
    kinds = set(zip(depths(fronts), (front.shape for front in fronts), strict=True))
    return sum(qr_flops(*front.shape) for front in fronts) + STEP * len(kinds)


def fronts_of(pattern: Pattern, order: Sequence[int] | None) -> tuple[Pattern, list[Front]]:
    """The fronts of a structurally non-singular block matrix, and the pattern they are of (stretched, where that pays).

    Without an order several are tried: the cheapest column next, and rounds of independent columns, which make many
    fronts of one shape; by two prices; on the matrix as it is and with its long rows stretched; each with and without
    joining fronts.
    The one with the fewest operations wins, every kind of front counting as `STEP` more.
    Cost: O(Σ columns of the fronts) operations on sets of columns, each of (block columns) / 64 words.
    Source: Davis, Gilbert, Larimore and Ng, *A column approximate minimum degree ordering algorithm* (2004).
    """
    choices: list[Callable[[_Elimination], Iterable[int]]]
    choices = [_Elimination.one_by_one, _Elimination.in_rounds] if order is None else [lambda _: order]
    # The first is a limit to the second.
    candidates = [pattern.stretched(LONG), pattern.stretched(DENSE)] if order is None else [pattern]
    if len(candidates[0].rows) == len(candidates[-1].rows):
        del candidates[1:]
    best: tuple[float, Pattern, list[Front]] | None = None
    for candidate in candidates:
        for choose, price in product(choices, (_width, _area) if order is None else (_width,)):
            work = _Elimination(candidate, price)
            fronts = work.run(choose(work), inf if best is None else best[0])
            for candidate_fronts in () if fronts is None else (fronts, merged(fronts, SLACK)):
                score = _score(candidate_fronts)
                if best is None or score < best[0]:
                    best = score, candidate, candidate_fronts
    if best is None:
        raise RuntimeError("no order of elimination was found.")
    return best[1], best[2]


def _mask(numbers: Iterable[int]) -> int:
    mask = 0
    for j in numbers:
        mask |= 1 << j
    return mask


def _bits(mask: int) -> list[int]:
    """The places of the ones."""
    octets = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8, "little"), np.uint8)
    places: list[int] = np.flatnonzero(np.unpackbits(octets, bitorder="little")).tolist()
    return places
