"""The protocol of an engine's factors of a square sparse matrix, and the error of a singular one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from backsolve.algebra.elements import SingularError as SingularError

__all__ = ["Factors", "NoFactors", "SingularError", "SingularMatrixError", "parity"]


class SingularMatrixError(SingularError):
    """A matrix without an inverse: ``fact`` says why, ``remedy`` what may help where there is no damping to pass."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(f"{fact} Pass damping, or {remedy}.")
        self.fact = fact
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:  # by what it was made of: a worker process hands it on
        return type(self), (self.fact, self.remedy), self.__dict__


class Factors(Protocol):
    """A factored matrix A, good for any number of right-hand sides of shape (n,) or (n, k)."""

    def solve(self, b: Any) -> Any:
        """The x with A x = b."""

    def solve_transpose(self, b: Any) -> Any:
        """The x with Aᵀ x = b."""


class NoFactors:
    """The factors of a matrix without rows and columns, whose determinant is 1."""

    arrays: tuple[Any, ...] = ()

    def solve(self, b: Any) -> Any:
        """The x with A x = b: b itself, which is empty."""
        return b

    solve_transpose = solve

    def with_arrays(self, arrays: Any) -> NoFactors:
        """The factors of another such matrix."""
        return self

    def slogdet(self) -> tuple[Any, Any]:
        """1, and the logarithm of it."""
        return np.float64(1), np.float64(0)


def parity(permutation: np.ndarray[Any, Any]) -> int:
    """1 for an even permutation of 0 … n−1, −1 for an odd one.

    Example:
        >>> parity(np.array([1, 2, 0])), parity(np.array([0, 2, 1]))
        (1, -1)
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = permutation.size
    cycles = connected_components(csr_array((np.ones(n, bool), permutation, np.arange(n + 1)), shape=(n, n)))[0]
    return 1 - 2 * int((n - cycles) % 2)
