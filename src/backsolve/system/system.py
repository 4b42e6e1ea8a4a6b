"""A program as a system of matrices of operators, M, L and S, and its derivatives as plain linear algebra."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from backsolve.algebra.arrays import asarray, is_number
from backsolve.algebra.elements import array_of_numbers, describe, is_zero, short
from backsolve.algebra.spaces import ArraySpace, TupleSpace
from backsolve.display import Showable, plural
from backsolve.elimination.borders import LinearizedGraph
from backsolve.engines import FORMED
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.solve import solve
from backsolve.matrices.vector import BlockVector, unpack_vector
from backsolve.operators import I, LinearOperator
from backsolve.operators.flat import FlatProducts, Known, dtype_of
from backsolve.operators.moves import flattened, unflattened
from backsolve.planning.costs import Cost, Sharing, abstracted
from backsolve.planning.plan import Choice, Plan, choose_order, make_plan
from backsolve.sparse.operator import as_sparse
from backsolve.system.bordered import Inverse, bordered, require_square, with_operators

__all__ = ["FORMATS", "System", "check_chunk", "check_loops"]

FORMATS = ("array", "operator", "sparse")  # of a Jacobian

Plans = MutableMapping[Any, Choice]


@dataclass(frozen=True, eq=False)
class System(FlatProducts, Showable):
    """dx = M dp + L dx,  dy = S dx: a program between its sources p, its inner nodes x and its outputs y.

    ``M`` (nodes × sources) holds the edges from the sources, ``L`` (nodes × nodes, triangular under some numbering) those
    between nodes, ``sinks`` is S (outputs × nodes), ``value`` what the program returned.  So dy/dp = S (I − L)⁻¹ M, and

    - ``vjp(g)`` is  Mᵀ ((I − Lᵀ) \\ Sᵀ g): back substitution, backpropagation (the paper's equation 1);
    - ``jvp(t)`` is  S ((I − L) \\ M t): forward substitution, forward mode.

    SciPy's iterative solvers take it as the linear operator dy/dp between flat vectors (``shape``, ``matvec``, …).

    Raises `ValueError` where the shapes of M, L and S do not fit together.

    Example:
        >>> from backsolve import matrix, vector
        >>> M, L, S = matrix([[2.0], [0.0]]), matrix([[0, 0], [3.0, 0]]), matrix([[0, 1.0]])
        >>> System(M, L, S).vjp(vector([1.0]))
        BlockVector([6.0])
    """

    M: OperatorMatrix
    L: OperatorMatrix
    sinks: OperatorMatrix
    value: Any = None
    point: Any = field(default=None, kw_only=True, repr=False)  # where it was made, for people; no part of the pytree

    default_format: ClassVar[str] = "operator"  # of a Jacobian

    shape: ClassVar[Any] = Known("flat_shape")  # of the Jacobian, for SciPy
    dtype: ClassVar[Any] = Known("flat_dtype")

    def __post_init__(self) -> None:
        for name, A in self._parts():
            if not isinstance(A, OperatorMatrix):
                raise TypeError(f"{name} of a System must be a matrix such as backsolve.matrix makes, got {describe(A)}.")
        n = self.L.shape[0]
        if self.L.shape != (n, n) or self.M.shape[0] != n or self.sinks.shape[1] != n:
            sizes = [f"{name} {A.shape[0]} × {A.shape[1]}" for name, A in self._parts()]
            raise ValueError(
                f"a system needs M of N × sources, L of N × N and sinks of outputs × N blocks, got {', '.join(sizes)}."
            )

    def __repr__(self) -> str:
        (n, p), q = self.M.shape, self.sinks.shape[0]
        edges = len(self.M.entries) + len(self.L.entries)
        sizes = f"{plural(p, 'source')}, {plural(n, 'node')}, {plural(q, 'output')} and {plural(edges, 'edge')}"
        return f"System of {sizes}\nL =\n{self.L}"

    def _parts(self) -> tuple[tuple[str, OperatorMatrix], ...]:
        return (("M", self.M), ("L", self.L), ("sinks", self.sinks))

    def vjp(self, g: Any) -> Any:
        """Return Mᵀ ((I − Lᵀ) \\ Sᵀ g), the gradient of ⟨g, y⟩ by the sources.

        g is a vector with one block an output; the result has one block a source.
        Cost: one application of every edge's transpose.
        """
        return self.pull(g)

    def pull(self, g: Any) -> Any:
        """``vjp`` on vectors of blocks."""
        M, L, S = self.M, self.L, self.sinks
        return M.T @ solve(I - L.T, S.T.times(g))

    def jvp(self, t: Any) -> Any:
        """Return S ((I − L) \\ M t), the change of the outputs along t.

        t is a vector with one block a source; the result has one block an output.
        Cost: one application of every edge.
        """
        return self.push(t)

    def push(self, t: Any) -> Any:
        """``jvp`` on vectors of blocks."""
        M, L, S = self.M, self.L, self.sinks
        return S @ solve(I - L, M.times(t))

    def jacobian(self, order: Any = "auto", *, format: str | None = None, plans: Plans | None = None) -> Any:
        """Return dy/dp = S (I − L)⁻¹ M.

        A system made by hand returns an OperatorMatrix (outputs × sources), whose operators stay structured; a linearized
        function a pytree as `backsolve.jacobian`, with arrays or (``format="operator"``) such an OperatorMatrix.
        ``order`` is what `plan` takes, or a plan; ``plans`` keeps plans by structure, for further calls.
        Raises `ValueError` for an unknown or incomplete order, and for a plan made for another system.
        Cost: what the plan says.
        """
        if format and format != "operator":
            raise ValueError(f"a system made by hand has its Jacobian as operators, not in the format {format!r}.")
        M, L, S = self.M, self.L, self.sinks
        if order == "forward":
            return S @ solve(I - L, M)
        if order == "reverse":
            return (M.T @ solve(I - L.T, S.T)).T
        network, plan = self.planned(order, dense=False, plans=plans)
        return network.accumulate(plan.order)

    def solve(self, b: Any, *, damping: Any = None, engine: str = "auto") -> Any:
        """Return the dp with dy/dp dp (+ damping · dp) = b, without forming dy/dp: J⁻¹ b off the bordered matrix::

            [ I − L   −M ] [dx]   [0]
            [   S      0 ] [dp] = [b]

        b is shaped as the outputs, the result as the sources.  ``engine`` is "superlu" (concrete values: SciPy), "umfpack",
        "klu" or "cholmod" (the same by scikit-sparse; CHOLMOD for symmetric positive definite J), "blocks" (elimination in
        the arrays' own library, under ``jit`` and ``vmap`` too), "auto" (the one that fits), or of a linearized function
        "gmres", "cg" (lineax's) or "bicgstab", with the system's products, nothing factored.  The factors are kept: further
        right-hand sides cost a substitution each.
        Raises `ValueError` where J is not square (for "cholmod", not symmetric), `SingularError` where it is singular
        (concrete values; for "cholmod", not positive definite), `ImportError` where the engine's package is missing,
        `TypeError` for integer unknowns, `PatternTooLargeError` (a `MemoryError`) where the matrix does not fit into memory.
        Cost: the factors of a matrix with as many unknowns as the program has entries, once; then two substitutions.

        Example:
            >>> from backsolve import matrix, vector
            >>> M, L, S = matrix([[2.0], [0.0]]), matrix([[0, 0], [3.0, 0]]), matrix([[0, 1.0]])
            >>> System(M, L, S).solve(vector([1.5]))
            BlockVector([0.25])
        """
        return self._solution(b, damping, engine, transposed=False)

    def solve_transpose(self, g: Any, *, damping: Any = None, engine: str = "auto") -> Any:
        """Return the y with (dy/dp)ᵀ y (+ damping · y) = g, by the same factors; see `solve`.

        g is shaped as the sources, the result as the outputs.
        """
        return self._solution(g, damping, engine, transposed=True)

    def _solution(self, b: Any, damping: Any, engine: str, *, transposed: bool) -> Any:
        n = self.M.shape[1] if transposed else self.sinks.shape[0]
        blocks, _ = unpack_vector(b, n, "solve_transpose" if transposed else "solve")
        for k, block in enumerate(blocks):
            if not is_zero(block):
                array_of_numbers(block, f"block {k} of the right-hand side")
        key = transposed, tuple(None if is_zero(block) else tuple(asarray(block).shape) for block in blocks)
        if key not in self._sized:
            sides: dict[str, Any] = {"sources" if transposed else "outputs": blocks}
            self._sized[key] = System(*with_operators(self.M, self.L, self.sinks, **sides))
        sized = self._sized[key]
        inverse = sized.factored(damping=damping, engine=engine)
        ends = _of_any_dtype(sized.sinks.row_spaces), _of_any_dtype(sized.M.col_spaces)
        before, after = ends[::-1] if transposed else ends
        rhs = flattened(blocks, before)
        x = unflattened(inverse.solve_transpose(rhs) if transposed else inverse.solve(rhs), after)
        return BlockVector(part.item() if isinstance(part, np.ndarray) and part.ndim == 0 else part for part in x)

    def factored(self, *, damping: Any = None, engine: str = "auto") -> Inverse:
        """Return J⁻¹ (or (J + damping · I)⁻¹), factored: what `solve` applies, between flat vectors.  Kept by the system."""
        if damping is not None and getattr(damping, "shape", () if is_number(damping) else None) != ():
            raise TypeError(f"damping must be a single number, got {short(damping)}.")
        if not isinstance(damping, float | int | None):
            return self._inverse(damping, engine)
        key = (engine, damping or None)
        if key not in self._inverses:
            self._inverses[key] = self._inverse(damping or None, engine)
        return self._inverses[key]

    def _inverse(self, damping: Any, engine: str) -> Inverse:
        M, L, S = with_operators(self.M, self.L, self.sinks)
        sizes = [sum(space.size for space in spaces) for spaces in (S.row_spaces, M.col_spaces)]
        require_square(sizes[0], sizes[1])
        matrix = bordered(M, L, S, as_sparse, damping=damping, formed=FORMED.get(engine, 0))
        return Inverse(matrix, "superlu" if engine == "auto" else engine)

    @cached_property
    def _inverses(self) -> dict[Any, Inverse]:
        return {}

    @cached_property
    def _sized(self) -> dict[Any, System]:
        return {}

    # ---- as a linear operator of SciPy's -------------------------------------------------------------------------------
    @property
    def flat_shape(self) -> tuple[int, int]:
        spaces = self._known.sinks.row_spaces, self._known.M.col_spaces
        return sum(space.size for space in spaces[0]), sum(space.size for space in spaces[1])

    @property
    def flat_dtype(self) -> Any:
        known = dtype_of(*self._known.sinks.row_spaces, *self._known.M.col_spaces)
        return super().flat_dtype if known is None else known

    @cached_property
    def _known(self) -> System:
        """The system with operators alone, and every size known."""
        return System(*with_operators(self.M, self.L, self.sinks))

    def _flat_product(self, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        known = self._known
        ends = _of_any_dtype(known.M.col_spaces), _of_any_dtype(known.sinks.row_spaces)
        before, after = ends[::-1] if transposed else ends
        move = known.pull if transposed else known.push
        return flattened(tuple(move(BlockVector(unflattened(x, before)))), after)

    def plan(self, order: Any = "auto", search: float | None = None, *, format: str | None = None) -> Plan:
        """Return the plan of an elimination: see `backsolve.plan`.

        Example:
            >>> from backsolve import matrix
            >>> M, L, S = matrix([[2.0], [0.0]]), matrix([[0, 0], [3.0, 0]]), matrix([[0, 1.0]])
            >>> System(M, L, S).plan().multiplications
            1
        """
        if format is not None and format not in FORMATS:
            raise ValueError(f"unknown format {format!r}; use one of {', '.join(map(repr, FORMATS))}.")
        plan = make_plan(self.network(), order, search, dense=(format or self.default_format) == "array")
        return replace(plan, outline=self.over_reals.outline())

    def outline(self) -> System:
        """The system with shapes in place of arrays: what a picture needs, and all that a plan keeps."""
        cost = Cost()

        def without_entries(A: OperatorMatrix) -> OperatorMatrix:
            entries = {
                place: abstracted(element, cost) if isinstance(element, LinearOperator) else element
                for place, element in A.entries.items()
            }
            names: Any = A.names
            names = names.outline() if hasattr(names, "outline") else names
            return OperatorMatrix(entries, A.shape, A.row_spaces, A.col_spaces, names=names)

        M, L, S = map(without_entries, (self.M, self.L, self.sinks))
        return System(M, L, S, point=None if self.point is None else self.point.outline())

    def network(self) -> LinearizedGraph:
        """The graph between sources and outputs that plans are made for."""
        whole = self.over_reals
        return LinearizedGraph(whole.M, whole.L, whole.sinks)

    @property
    def over_reals(self) -> System:
        """The system with pairs of real numbers for complex ones, where an edge is linear over the reals alone; else itself.

        It has the same nodes.  `vjp` and `jvp` need none of it; products of edges do.
        """
        return self  # operators made by hand are linear over the numbers they act on

    def planned(self, order: Any, *, dense: bool, plans: Plans | None = None) -> tuple[LinearizedGraph, Choice | Plan]:
        """The network and the plan for an order, which may be a plan; ``plans`` keeps what was made for each."""
        network = self.network()
        if isinstance(order, Plan):
            order.check(network)
            return network, order
        shared = self.shared
        if plans is None or not isinstance(order, str):
            return network, choose_order(network, order, dense=dense, shared=shared)
        key = order, network.signature(), shared is None
        if key not in plans:
            plans[key] = choose_order(network, order, dense=dense, shared=shared)
        return network, plans[key]

    @property
    def shared(self) -> Sharing | None:
        """Where the system stands for one at each point of a batch, which of its arrays the batch shares; else None."""
        return None


def _of_any_dtype(spaces: Sequence[Any]) -> TupleSpace:
    """The spaces of these blocks, whose numbers are what a solution has."""
    return TupleSpace(tuple(ArraySpace(space.shape) for space in spaces))


def check_chunk(chunk: Any, format: str) -> None:
    """Raise `ValueError` for what is no number of rows or columns, and where nothing is worked out in parts."""
    if chunk is not None and format != "array":
        raise ValueError(f"chunk={chunk!r} is for format='array'; {format!r} is not worked out in parts.")
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1):
        raise ValueError(f"chunk is how many rows or columns are worked out at a time, 1 or more, got {chunk!r}.")


def check_loops(loops: Any) -> None:
    """Raise `ValueError` for what is neither step after step, nor all steps side by side, nor a choice between the two."""
    if not isinstance(loops, str) or loops not in ("sequential", "parallel", "auto"):
        raise ValueError(f"unknown loops={loops!r}; use one of 'sequential', 'parallel', 'auto'.")
