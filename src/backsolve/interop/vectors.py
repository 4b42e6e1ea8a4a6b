"""What the files here share: the sparse Jacobian of a function between vectors, inside a trace of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from backsolve.capture.linearized import linearize_with_aux
from backsolve.capture.sparse import sparse_jacobian
from backsolve.sparse.matrix import SparseMatrix
from backsolve.xla.materialize import SPARSE, materialized

__all__ = ["jacobian_of", "value_and_gradient_of", "value_and_jacobian_of"]


def jacobian_of(function: Callable[[Any], Any], x: Any) -> SparseMatrix:
    """The Jacobian of a function from vectors to vectors at x, rewritten for the compiler.

    It is what `backsolve.jacobian` gives with format="sparse", but compiles nothing by itself, and says nothing where it is
    dense: who calls has no other format to take.
    """
    jacobian: SparseMatrix = materialized(lambda x: value_and_jacobian_of(function, x)[1], (x,), SPARSE)
    return jacobian


def value_and_jacobian_of(function: Callable[[Any], Any], x: Any, *, lower: bool = False) -> tuple[Any, SparseMatrix]:
    """The value of such a function, and its Jacobian, from one evaluation; of a symmetric one (``lower``) one half."""
    system, _ = linearize_with_aux(function, (x,), 0, fold=True)
    return system.value, sparse_jacobian(system, lower=lower)[0][0]


def value_and_gradient_of(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """The value of a function from vectors to numbers, and its gradient."""
    system, _ = linearize_with_aux(function, (x,), 0)
    return system.value, system.vjp(jnp.ones_like(system.value))
