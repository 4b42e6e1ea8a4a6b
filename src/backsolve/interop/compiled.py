"""A function of vectors and parameters, in double precision, traced once: run by NumPy's calls, or else compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.sparse.matrix import SparseMatrix
from backsolve.tape.program import NotServed, Tape
from backsolve.tracing import jaxpr as jx
from backsolve.xla.materialize import SPARSE, materialized
from backsolve.xla.quick import OptimizedLater, evaluations_before_optimizing

__all__ = ["Compiled"]

Array = np.ndarray[Any, Any]


class Compiled:
    """A function of vectors and parameters, in double precision, that is traced once.

    It returns vectors and numbers, and a matrix or None.  Where a `Tape` serves it runs at once.  Else it is compiled,
    quickly at first, and optimised once it has been evaluated often; the program has one array for all that it returns:
    what a call costs besides its arithmetic, it costs for each array (2 µs for one that goes in, as much for one that comes
    out).  ``before`` is another one, of the first of these vectors, whose numbers it goes on from.
    """

    def __init__(
        self, function: Callable[..., Any], sizes: Sequence[int], parameters: Any, before: Compiled | None = None
    ) -> None:
        matrices: list[SparseMatrix | None] = []

        def kept(*arguments: Any) -> Any:
            arrays, matrix = function(*arguments)
            matrices.append(matrix)
            return arrays

        with jax.enable_x64(True):
            vectors = [jax.ShapeDtypeStruct((size,), np.float64) for size in sizes]  # type: ignore[no-untyped-call]
            self._program = jax.make_jaxpr(kept)(*vectors, parameters)
        self._run: Any = None
        self.sizes = tuple(v.aval.size for v in self._program.jaxpr.outvars)
        ends = np.cumsum([0, *self.sizes]).tolist()
        self._parts = tuple(map(slice, ends, ends[1:]))
        nowhere = np.zeros(0, np.int64)
        self.places = (nowhere, nowhere) if matrices[0] is None else (matrices[0].rows, matrices[0].cols)
        self._tape, self._stage = self._taped(before)

    def _taped(self, before: Compiled | None) -> tuple[Tape | None, int]:
        if before is not None and before._tape is None:
            return None, 0
        first, *parameters = [v.aval for v in self._program.jaxpr.invars]
        try:
            tape = Tape(first, parameters) if before is None or before._tape is None else before._tape
            return tape, tape.read(self._program.jaxpr, self._program.consts)
        except NotServed:
            return None, 0

    @property
    def is_compiled(self) -> bool:
        """Whether it is a program of XLA's."""
        return self._tape is None

    def prepare(self) -> None:
        """What there is to do before the first call, where it is none of XLA's."""
        if self._tape is not None:
            self._tape.prepare()

    @cached_property
    def lowered(self) -> Any:
        """The program as the compiler gets it, for the device that is JAX's own in the thread that asks."""
        program = self._program

        def joined(*leaves: Any) -> Any:
            arrays = materialized(lambda *leaves: jx.evaluated(program, leaves), leaves, SPARSE)
            # Each is made first, and then copied; else XLA makes all in one loop, in which it chooses at every entry.
            apart = jax.lax.optimization_barrier(arrays)  # type: ignore[no-untyped-call]
            return jnp.concatenate([jnp.ravel(a) for a in apart])

        with jax.enable_x64(True):
            struct: Any = jax.ShapeDtypeStruct
            return jax.jit(joined).lower(*[struct(v.aval.shape, v.aval.dtype) for v in program.jaxpr.invars])

    def compile(self, lowered: Any) -> Any:
        """Compile it, unless it is; from any thread."""
        if self._run is None:
            self._run = OptimizedLater(lowered, evaluations_before_optimizing(self._program.jaxpr))
        return self._run

    def __call__(self, *arguments: Any) -> Sequence[Array]:
        """What the function returns, as vectors that cannot be written into; to be called where JAX is set to double."""
        *vectors, parameters = arguments
        if self._tape is not None:
            numbers = self._tape.run(self._stage, vectors, parameters)
        else:
            run = self._run or self.compile(self.lowered)
            numbers = np.asarray(run(*vectors, *jax.tree_util.tree_leaves(parameters)))
        return [numbers[part] for part in self._parts]
