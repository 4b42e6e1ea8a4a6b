"""The bordered matrix [I − L, −M; S, 0], the square system whose solution is J⁻¹ b: another border of the same matrix.

With dx = M dp + L dx and dy = S dx, J dp = b is

    [ I − L   −M ] [dx]   [0]
    [   S      0 ] [dp] = [b]

sparse as the program is, with nothing formed.  Nodes whose elimination adds no entry (index moving, elementwise chains,
sums) are eliminated before, on the level of operators; what is left are blocks with static patterns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, is_number, pad
from backsolve.algebra.elements import describe, is_zero, short
from backsolve.algebra.spaces import ANY, ArraySpace, Space, unify
from backsolve.elimination.borders import Border, LinearizedGraph
from backsolve.elimination.condense import condense, condensed_fully
from backsolve.elimination.sparse_edges import EdgeOf, OpaqueEdge, SparseEdges
from backsolve.engines import factored
from backsolve.engines.base import Factors, parity
from backsolve.engines.layout import Layout, Part
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import LinearOperator
from backsolve.operators.base import Scaling
from backsolve.operators.constructors import linear_map
from backsolve.operators.flat import FlatProducts, Known
from backsolve.operators.linear_map import LinearMap
from backsolve.sparse.materialize import take
from backsolve.sparse.operator import Sparse, add_sparse, sparse
from backsolve.sparse.pattern import run_starts

__all__ = ["Bordered", "Inverse", "bordered", "placed", "require_square", "with_operators"]


Index = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bordered:
    """A square matrix in sparse blocks, and where right-hand sides enter it and solutions leave it.

    Entry k of all outputs, one leaf after the other, is row ``out[k]``; entry k of all sources is column ``into[k]``.
    ``data`` are the numbers of each block of the layout.
    """

    layout: Layout
    out: Index
    into: Index
    data: tuple[Any, ...]


def bordered(
    M: OperatorMatrix,
    L: OperatorMatrix,
    S: OperatorMatrix,
    edge: EdgeOf,
    *,
    damping: Any = None,
    formed: int = 0,
) -> Bordered:
    """Return the matrix whose solution, for b at the outputs and zeros elsewhere, is dp with J dp (+ damping · dp) = b.

    ``edge`` gives an edge as a sparse operator, None where it is opaque: it becomes the smallest dense block.  The unknowns
    of an edge that has some of its own (`Recurrence`) are unknowns of the matrix.  Outputs and
    sources must have as many entries; with ``damping`` leaf k of one answers leaf k of the other.  All nodes are
    eliminated where that leaves about as few entries, or at most ``formed``: then the matrix is J itself.
    Cost: one walk over the edges, and the products of those eliminated.
    """
    work = SparseEdges(LinearizedGraph(M, L, S), edge)
    condense(work)
    work = condensed_fully(work, formed) or work
    network, spaces = work.network, work.spaces
    nodes = [v for v in network.inner if v in work.graph.into]
    inner = [Part(network.label(v), spaces[v].size) for v in nodes]
    nodes += work.kept
    inner += [Part(loop.label, spaces[v].size, loop.steps) for v, loop in work.kept.items()]
    outputs, out = _border(inner, work, network.outputs, S.row_spaces, "output")
    sources, into = _border(inner, work, network.sources, M.col_spaces, "source")
    rows, cols = ((*inner, *side.values()) for side in (outputs, sources))
    row_of, col_of = ({k: n for n, k in enumerate((*nodes, *side))} for side in (outputs, sources))

    entries: dict[tuple[int, int], Sparse] = {}
    for v in nodes:
        at = np.arange(spaces[v].size)
        ones = _ones(at, at, Part("", at.size), Part("", at.size))
        own = add_sparse(ones, work.kept[v].own.scaled(-1)) if v in work.kept else ones
        entries[row_of[v], col_of[v]] = own
    for i, row in work.graph.into.items():
        for j, element in row.items():
            op = element.matrix() if isinstance(element, OpaqueEdge) else element
            entries[row_of[i], col_of[j]] = op if i in outputs else op.scaled(-1)
    for (i, j), terms in work.ends.items():
        entries[row_of[i], col_of[j]] = reduce(add_sparse, terms)
    if damping is not None:
        _damp(entries, (rows, cols), (out, into), damping)
    blocks = {place: op for place, op in entries.items() if op.nnz}
    mates = None
    if out.size == into.size and (out != into).any():
        mates = np.arange(sum(part.size for part in inner) + out.size)
        mates[out] = into
    layout = Layout(rows, cols, tuple(blocks), tuple(op.pattern for op in blocks.values()), mates)
    return Bordered(layout, out, into, tuple(op.data for op in blocks.values()))


def _border(
    inner: Sequence[Part], work: SparseEdges, side: Mapping[int, Border], leaves: Sequence[Space], word: str
) -> tuple[dict[Any, Part], Index]:
    """The parts of one border by their nodes, and the number of each entry of its leaves.

    Entries that no edge touches are a part of their own, so that the matrix is square where the Jacobian is.
    """
    parts: dict[Any, Part] = {}
    index = [np.full(space.size, -1) for space in leaves]
    start = sum(part.size for part in inner)

    def place(key: Any, leaf: int, at: Index) -> None:
        nonlocal start
        parts[key] = Part(f"{word} {leaf}", at.size)
        index[leaf][at] = np.arange(start, start + at.size)
        start += at.size

    for k, border in side.items():
        places = work.places[k]
        place(k, border.leaf, np.arange(work.spaces[k].size) if places is None else places)
    for leaf, numbers in enumerate(index):
        if numbers.size and numbers.min() < 0:
            place(("rest", leaf), leaf, np.flatnonzero(numbers < 0))
    return parts, np.concatenate([np.zeros(0, int), *index])


def _damp(entries: dict[tuple[int, int], Sparse], parts: Any, at: tuple[Index, Index], damping: Any) -> None:
    """Add damping · dp to the outputs, entry by entry."""
    starts = [run_starts([part.size for part in side]) for side in parts]
    block = [np.searchsorted(s, k, "right") - 1 for s, k in zip(starts, at, strict=True)]
    for p, q in np.unique(np.stack(block), axis=1).T.tolist():
        met = (block[0] == p) & (block[1] == q)
        term = _ones(at[0][met] - starts[0][p], at[1][met] - starts[1][q], parts[0][p], parts[1][q]).scaled(damping)
        entries[p, q] = add_sparse(entries[p, q], term) if (p, q) in entries else term


def _ones(rows: Index, cols: Index, out: Part, into: Part) -> Sparse:
    """Ones at these places of a block."""
    return sparse(rows, cols, None, (into.size,), (out.size,))


SCALAR = ArraySpace(())

Blocks = Sequence[Any] | None

COLUMNS = 64  # of the identity, solved for together


class Inverse(FlatProducts):
    """J⁻¹ between flat vectors: all sources, one leaf after the other, of all outputs.

    Made by `System.factored`.  ``layout`` is the static side of the bordered matrix, ``factors`` what the engine made.
    SciPy's iterative solvers take it as a linear operator, as a preconditioner for instance.
    """

    shape: Any = Known("flat_shape")
    dtype: Any = Known("flat_dtype")

    def __init__(self, matrix: Bordered, engine: str) -> None:
        self.matrix = matrix
        self.engine = engine
        self.factors: Factors = factored(matrix.layout, matrix.data, engine)

    def __repr__(self) -> str:
        layout, residual = self.matrix.layout, self.residual
        told = "" if residual is None else f", last residual {residual:.1e}"
        return (
            f"Inverse of a Jacobian of {self.matrix.out.size:,} × {self.matrix.into.size:,}, by a bordered matrix of "
            f"{layout.size:,} unknowns with {layout.nnz:,} non-zeros ({self.engine}{told})"
        )

    @property
    def residual(self) -> float | None:
        """max |b − A x| / max |b| of the last solution, after refinement; None where the engine does not measure it."""
        residual: float | None = getattr(self.factors, "residual", None)
        return residual

    def solve(self, b: Any) -> Any:
        """The x with J x = b, for b of shape (n,) or (n, k)."""
        matrix = self.matrix
        return take(self.factors.solve(placed(b, matrix.out, matrix.layout.size)), matrix.into)

    def solve_transpose(self, g: Any) -> Any:
        """The y with Jᵀ y = g, for g of shape (n,) or (n, k)."""
        matrix = self.matrix
        return take(self.factors.solve_transpose(placed(g, matrix.into, matrix.layout.size)), matrix.out)

    def __matmul__(self, b: Any) -> Any:
        return self.solve(b)

    @property
    def T(self) -> LinearMap:
        """J⁻ᵀ as an operator on vectors, by the same factors."""
        m, n = self.flat_shape
        return linear_map(self.solve_transpose, self.solve, (m,), (n,), name="J⁻ᵀ")

    def slogdet(self) -> tuple[Any, Any]:
        """Return the sign of det J (of complex numbers, its phase) and log |det J|, from the factors.

        The bordered matrix has the determinant of J, up to the order of its rows and columns.
        Raises `TypeError` for an engine whose factors tell none.
        """
        tell = getattr(self.factors, "slogdet", None)
        if tell is None:
            raise TypeError(f"the factors of engine {self.engine!r} tell no determinant; take 'superlu' or 'blocks'.")
        sign, size = tell()
        matrix = self.matrix
        inner = matrix.layout.size - matrix.out.size
        return sign * parity(matrix.out - inner) * parity(matrix.into - inner), size

    def logdet(self) -> Any:
        """Return log |det J|; in JAX with a derivative, d log |det J| = tr J⁻¹ dJ.

        Cost: that of `slogdet`; of the derivative, one substitution for each unknown of the bordered matrix.
        """
        return self.slogdet()[1]

    def diagonal(self) -> Any:
        """Return the diagonal of J⁻¹ as a vector: of an inverse Hessian, the variances of Laplace's approximation.

        With SuperLU its entries come from the factors alone, by selected inversion.
        Cost: about that of the factors; where these do not serve, one substitution for each entry, of 64 at a time.
        """
        n = self.matrix.out.size
        tell = getattr(self.factors, "inverse_entries", None)
        if tell is not None and n > COLUMNS:
            entries = tell(self.matrix.into, self.matrix.out)
            if entries is not None:
                return np.asarray(entries).astype(self.dtype, copy=False)
        pieces = []
        for start in range(0, n, COLUMNS):
            k = np.arange(start, min(start + COLUMNS, n))
            unit = np.zeros((n, k.size), self.dtype)
            unit[k, k - start] = 1
            pieces.append(np.asarray(self.solve(unit))[k, k - start])
        return np.concatenate(pieces) if pieces else np.zeros(0, self.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """What the factors were made of; they are made again."""
        return type(self), (self.matrix, self.engine)

    # ---- as a linear operator of SciPy's -------------------------------------------------------------------------------
    @property
    def flat_shape(self) -> tuple[int, int]:
        return int(self.matrix.into.size), int(self.matrix.out.size)

    @property
    def flat_dtype(self) -> Any:
        kinds = [np.dtype(part.dtype) for part in self.matrix.data if isinstance(part.dtype, np.dtype)]
        return np.result_type(np.float32, *kinds) if kinds else np.dtype(float)

    def _flat_product(self, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        return self.solve_transpose(x) if transposed else self.solve(x)

    _flat_products = _flat_product


def require_square(outputs: int, sources: int, shapes: str = "") -> None:
    """Raise `ValueError` where a Jacobian is not square."""
    if outputs != sources:
        raise ValueError(
            f"the Jacobian has {outputs:,} rows and {sources:,} columns{shapes}; only a square one has an inverse. Choose "
            "argnums with as many entries as the output, or solve in the least-squares sense with gauss_newton."
        )


def placed(b: Any, at: Any, size: int) -> Any:
    """A vector of this size that is b at these places and zero elsewhere.  Raises `ValueError` for a b of another length."""
    shape = getattr(b, "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[0] != at.size:
        got = short(b) if shape is None else tuple(shape)
        raise ValueError(f"the right-hand side must be an array of shape ({at.size},) or ({at.size}, k), got {got}.")
    index = np.full(size, at.size)
    index[at] = np.arange(at.size)
    return take(pad(b, (0,) * len(b.shape), (1, *(0 for _ in b.shape[1:]))), index)


# ---- of systems made by hand ------------------------------------------------------------------------------------------
def with_operators(
    M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix, *, sources: Blocks = None, outputs: Blocks = None
) -> tuple[OperatorMatrix, OperatorMatrix, OperatorMatrix]:
    """The matrices with operators in the place of numbers, and with every size that neighbours or these blocks tell.

    What nothing tells of is a number.
    """
    nodes: list[Space] = [ANY] * L.shape[0]
    sides: list[tuple[OperatorMatrix, list[Space], list[Space]]] = []
    ends = [_spaces(blocks, n) for blocks, n in ((sources, M.shape[1]), (outputs, S.shape[0]))]
    for A, rows, cols in ((M, nodes, ends[0]), (L, nodes, nodes), (S, ends[1], nodes)):
        for side, own in ((rows, A.row_spaces), (cols, A.col_spaces)):
            side[:] = [unify(a, b) for a, b in zip(side, own, strict=True)]
        sides.append((A, rows, cols))
    entries = [{place: _operator(place, element) for place, element in A.entries.items()} for A, _, _ in sides]
    for last in (False, True):
        while True:
            before = [list(side) for side in (nodes, *ends)]
            for ops, (_, rows, cols) in zip(entries, sides, strict=True):
                for (i, j), op in ops.items():
                    ops[i, j] = op = op.refine(cols[j], rows[i])
                    rows[i], cols[j] = unify(rows[i], op.codomain), unify(cols[j], op.domain)
            if before == [nodes, *ends]:
                break
        if not last:
            for side in (nodes, *ends):
                side[:] = [SCALAR if space == ANY else space for space in side]
    M, L, S = (OperatorMatrix(ops, A.shape, rows, cols, names=A.names) for ops, (A, rows, cols) in zip(entries, sides))
    return M, L, S


def _spaces(blocks: Blocks, n: int) -> list[Space]:
    if blocks is None:
        return [ANY] * n
    if len(blocks) != n:
        raise ValueError(f"the vector has {len(blocks)} blocks, but the matrix {n}.")
    return [ANY if is_zero(block) else ArraySpace(tuple(asarray(block).shape)) for block in blocks]


def _operator(place: tuple[int, int], element: Any) -> LinearOperator:
    if isinstance(element, LinearOperator):
        return element
    if not (is_number(element) and isinstance(element, int | float | complex | np.number)):
        raise TypeError(
            f"element {place} is {describe(element)}; a system is solved with operators or numbers as elements. "
            "For other elements form the Jacobian, system.jacobian(), and solve with that."
        )
    return Scaling(element, SCALAR)
