"""A function of a vector and parameters, in double precision, traced once and lowered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.sparse.matrix import SparseMatrix
from backsolve.xla.quick import OptimizedLater, evaluations_before_optimizing

__all__ = ["Compiled"]

Array = np.ndarray[Any, Any]


class Compiled:
    """A function of a vector and parameters, in double precision, that is traced once and lowered once.

    It returns vectors and numbers, and a matrix or None.  The program has one array for all of these: what a call costs
    besides its arithmetic, it costs for each array (2 µs for one that goes in, as much for one that comes out).
    It is compiled quickly at first, and optimised once it has been evaluated often.
    """

    def __init__(self, function: Callable[..., Any], size: int, parameters: Any) -> None:
        matrices: list[SparseMatrix | None] = []
        sizes: list[int] = []

        def kept(vector: Any, parameters: Any) -> Any:
            arrays, matrix = function(vector, parameters)
            matrices.append(matrix)
            sizes.extend(a.size for a in arrays)
            # Each is made first, and then copied; else XLA makes all in one loop, in which it chooses at every entry.
            apart = jax.lax.optimization_barrier(arrays)  # type: ignore[no-untyped-call]
            return jnp.concatenate([jnp.ravel(a) for a in apart])

        with jax.enable_x64(True):
            vector = jax.ShapeDtypeStruct((size,), np.float64)  # type: ignore[no-untyped-call]
            self._traced = jax.jit(kept).trace(vector, parameters)
        self._run: Any = None
        self.sizes = tuple(sizes)
        ends = np.cumsum([0, *sizes]).tolist()
        self._parts = tuple(map(slice, ends, ends[1:]))
        nowhere = np.zeros(0, np.int64)
        self.places = (nowhere, nowhere) if matrices[0] is None else (matrices[0].rows, matrices[0].cols)

    @cached_property
    def lowered(self) -> Any:
        """The program as the compiler gets it, for the device that is JAX's own in the thread that asks."""
        with jax.enable_x64(True):
            return self._traced.lower()

    def compile(self, lowered: Any) -> Any:
        """Compile it, unless it is; from any thread."""
        if self._run is None:
            self._run = OptimizedLater(lowered, evaluations_before_optimizing(self._traced.jaxpr.jaxpr))
        return self._run

    def __call__(self, vector: Array, parameters: Any) -> Sequence[Array]:
        """What the function returns, as vectors that cannot be written into; to be called where JAX is set to double."""
        found = np.asarray((self._run or self.compile(self.lowered))(vector, parameters))
        return [found[part] for part in self._parts]
