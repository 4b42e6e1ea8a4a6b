"""What the files here share: the sparse Jacobian of a function between vectors, inside a trace of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backsolve.capture.linearized import linearize_with_aux
from backsolve.capture.sparse import sparse_jacobian
from backsolve.sparse.matrix import SparseMatrix
from backsolve.xla.materialize import SPARSE, materialized

__all__ = ["jacobian_of", "value_and_jacobian_of"]


def jacobian_of(function: Callable[[Any], Any], x: Any, *, lower: bool = False) -> SparseMatrix:
    """The Jacobian of a function from vectors to vectors at x; of a symmetric one (``lower``) one half is worked out.

    It is what `backsolve.jacobian` gives with format="sparse", but compiles nothing by itself, and says nothing where it is
    dense: who calls has no other format to take.
    """
    return value_and_jacobian_of(function, x, lower=lower)[1]


def value_and_jacobian_of(function: Callable[[Any], Any], x: Any, *, lower: bool = False) -> tuple[Any, SparseMatrix]:
    """The value of such a function, and its Jacobian, from one evaluation."""

    def both(x: Any) -> Any:
        system, _ = linearize_with_aux(function, (x,), 0, fold=True)
        return system.value, sparse_jacobian(system, lower=lower)[0][0]

    found: tuple[Any, SparseMatrix] = materialized(both, (x,), SPARSE)
    return found
