"""What every engine that factors a square sparse matrix in blocks is asked for."""

from __future__ import annotations

from typing import Any, Protocol

from backsolve.algebra.elements import SingularError as SingularError

__all__ = ["Factors", "SingularError", "SingularMatrixError"]


class SingularMatrixError(SingularError):
    """A matrix without an inverse: ``fact`` says why, ``remedy`` what may help where there is no damping to pass."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact} Pass damping, or {remedy}.")
        self.fact = fact
        self.remedy = remedy


class Factors(Protocol):
    """A factored matrix A, good for any number of right-hand sides of shape (n,) or (n, k)."""

    def solve(self, b: Any) -> Any:
        """The x with A x = b."""

    def solve_transpose(self, b: Any) -> Any:
        """The x with Aᵀ x = b."""
