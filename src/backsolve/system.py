"""The paper's system: what its matrices say about a program's derivatives, as plain linear algebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from .eliminate import eliminate
from .matrix import OperatorMatrix
from .operators import I
from .solve import solve

__all__ = ["System"]


class Frame(Protocol):
    """How the caller's values are vectors of blocks and back: the outer shape of inputs or outputs."""

    def blocks(self, tree: Any) -> Any:
        """The vector of blocks of a caller's tangent or cotangent."""

    def tree(self, blocks: Any) -> Any:
        """The caller's form of a vector of blocks."""

    def jacobian(self, system: System, order: Any) -> Any:
        """dy/dp in the caller's form, of a system whose outputs these are."""


class Plain:
    """Vectors of blocks as they are."""

    def blocks(self, tree: Any) -> Any:
        """The vector itself."""
        return tree

    def tree(self, blocks: Any) -> Any:
        """The vector itself."""
        return blocks

    def jacobian(self, system: System, order: Any) -> OperatorMatrix:
        """The Jacobian as an OperatorMatrix."""
        M, L, S = system.M, system.L, system.sinks
        if order == "auto":
            order = "forward" if M.shape[1] <= S.shape[0] else "reverse"
        if order == "forward":
            return S @ solve(I - L, M)  # type: ignore[no-any-return]
        if order == "reverse":
            return (M.T @ solve(I - L.T, S.T)).T  # type: ignore[no-any-return]
        if isinstance(order, str):
            raise ValueError(f"unknown order {order!r}; use 'auto', 'forward', 'reverse' or a sequence of nodes.")
        return _eliminated(M, L, S, list(order))


PLAIN = Plain()


@dataclass(frozen=True, eq=False)
class System:
    """dx = M dp + L dx,  dy = S dx: a program between its sources p, its inner nodes x and its outputs y.

    ``M`` (nodes × sources) holds the edges from the sources, ``L`` (nodes × nodes, triangular under some numbering) those
    between nodes, ``sinks`` is S (outputs × nodes), ``value`` what the program returned.  So dy/dp = S (I − L)⁻¹ M, and

    - ``vjp(g)`` is  Mᵀ ((I − Lᵀ) \\ Sᵀ g): back substitution, backpropagation (the paper's equation 1);
    - ``jvp(t)`` is  S ((I − L) \\ M t): forward substitution, forward mode.

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
    inputs: Frame = PLAIN
    outputs: Frame = PLAIN

    def __post_init__(self) -> None:
        n = self.L.shape[0]
        if self.L.shape != (n, n) or self.M.shape[0] != n or self.sinks.shape[1] != n:
            sizes = [f"{name} {A.shape[0]} × {A.shape[1]}" for name, A in self._parts()]
            raise ValueError(
                f"a system needs M of N × sources, L of N × N and sinks of outputs × N blocks, got {', '.join(sizes)}."
            )

    def __repr__(self) -> str:
        (n, p), q = self.M.shape, self.sinks.shape[0]
        edges = len(self.M.entries) + len(self.L.entries)
        return f"System of {p} sources, {n} nodes, {q} outputs and {edges} edges\nL =\n{self.L}"

    def _parts(self) -> tuple[tuple[str, OperatorMatrix], ...]:
        return (("M", self.M), ("L", self.L), ("sinks", self.sinks))

    def vjp(self, g: Any) -> Any:
        """Return Mᵀ ((I − Lᵀ) \\ Sᵀ g), the gradient of ⟨g, y⟩ by the sources.

        g is a vector with one block an output; the result has one block a source.
        Cost: one application of every edge's transpose.
        """
        return self.inputs.tree(self.pull(self.outputs.blocks(g)))

    def pull(self, g: Any) -> Any:
        """``vjp`` on vectors of blocks."""
        M, L, S = self.M, self.L, self.sinks
        return M.T @ solve(I - L.T, S.T.times(g))

    def jvp(self, t: Any) -> Any:
        """Return S ((I − L) \\ M t), the change of the outputs along t.

        t is a vector with one block a source; the result has one block an output.
        Cost: one application of every edge.
        """
        return self.outputs.tree(self.push(self.inputs.blocks(t)))

    def push(self, t: Any) -> Any:
        """``jvp`` on vectors of blocks."""
        M, L, S = self.M, self.L, self.sinks
        return S @ solve(I - L, M.times(t))

    def jacobian(self, order: Any = "auto") -> Any:
        """Return dy/dp = S (I − L)⁻¹ M.

        A system made by hand returns an OperatorMatrix (outputs × sources), whose operators stay structured; ``order`` is
        "forward" (forward substitution with M on the right), "reverse" (back substitution with Sᵀ), "auto" (the one with
        fewer right-hand sides), or a sequence naming every node once: they are eliminated in that order.
        A linearized function returns a pytree of arrays as `backsolve.jacobian`.
        Raises `ValueError` for an unknown or incomplete order.
        Cost: one product for each entry and right-hand side; for an elimination, in-degree × out-degree a node.
        """
        return self.outputs.jacobian(self, order)


def _eliminated(M: OperatorMatrix, L: OperatorMatrix, S: OperatorMatrix, order: list[int]) -> OperatorMatrix:
    """Border L with the sources and the outputs, eliminate every node, read off what is left between the borders."""
    n, p, q = L.shape[0], M.shape[1], S.shape[0]
    missing = sorted(set(range(n)) - set(order))
    if missing:
        raise ValueError(f"the order misses {L.name(missing[0])}; it must name each of the {n} nodes once.")
    entries = dict(L.entries)
    entries |= {(i, n + j): element for (i, j), element in M.entries.items()}
    entries |= {(n + p + i, j): element for (i, j), element in S.entries.items()}
    spaces = [*L.row_spaces, *M.col_spaces, *S.row_spaces]
    names = [*(L.name(i) for i in range(n)), *["source"] * p, *["output"] * q]
    left = eliminate(OperatorMatrix(entries, (n + p + q,) * 2, spaces, spaces, names=names), order)
    kept = {(i - n - p, j - n): element for (i, j), element in left.entries.items()}
    return OperatorMatrix(kept, (q, p), S.row_spaces, M.col_spaces)
