"""The paper's system: what its matrices say about a program's derivatives, as plain linear algebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

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


class Plain:
    """Vectors of blocks as they are."""

    def blocks(self, tree: Any) -> Any:
        """The vector itself."""
        return tree

    def tree(self, blocks: Any) -> Any:
        """The vector itself."""
        return blocks


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
    inputs: Frame = Plain()
    outputs: Frame = Plain()

    def __post_init__(self) -> None:
        n = self.L.shape[0]
        if self.L.shape != (n, n) or self.M.shape[0] != n or self.sinks.shape[1] != n:
            sizes = [f"{name} {A.shape[0]} × {A.shape[1]}" for name, A in self._parts()]
            raise ValueError(
                f"a system needs M of N × sources, L of N × N and sinks of outputs × N blocks, got {', '.join(sizes)}."
            )

    def _parts(self) -> tuple[tuple[str, OperatorMatrix], ...]:
        return (("M", self.M), ("L", self.L), ("sinks", self.sinks))

    def vjp(self, g: Any) -> Any:
        """Return Mᵀ ((I − Lᵀ) \\ Sᵀ g), the gradient of ⟨g, y⟩ by the sources.

        g is a vector with one block an output; the result has one block a source.
        Cost: one application of every edge's transpose.
        """
        M, L, S = self.M, self.L, self.sinks
        g = self.outputs.blocks(g)
        return self.inputs.tree(M.T @ solve(I - L.T, S.T.times(g)))

    def jvp(self, t: Any) -> Any:
        """Return S ((I − L) \\ M t), the change of the outputs along t.

        t is a vector with one block a source; the result has one block an output.
        Cost: one application of every edge.
        """
        M, L, S = self.M, self.L, self.sinks
        t = self.inputs.blocks(t)
        return self.outputs.tree(S @ solve(I - L, M.times(t)))
