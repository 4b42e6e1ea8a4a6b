"""A function's value and its bordered matrix, at one point after the other: traced, analysed and compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import is_number, short
from backsolve.capture.linearize import linearize_with_aux
from backsolve.capture.linearized import Leaves, flat
from backsolve.capture.solving import bordered_system
from backsolve.engines import ENGINES, FORMED, require_package
from backsolve.system.bordered import Bordered, Inverse
from backsolve.system.least_squares import least_squares

__all__ = ["Repeated"]

Array = np.ndarray[Any, Any]


class Repeated:
    """F between flat vectors, compiled: its values, and J⁻¹ off the bordered matrix with one pattern for all points.

    ``square`` False takes the least-squares solution for J⁻¹ (the Gauss-Newton step).  With ``formed`` all nodes are
    eliminated if that leaves at most so many entries, or four times those of the bordered matrix: what is left is J.
    ``engine`` is one that factors: "auto" is "superlu".
    """

    def __init__(
        self, F: Callable[..., Any], x0: Any, *, square: bool = True, formed: int = 0, engine: str = "auto"
    ) -> None:
        if not callable(F):
            raise TypeError(f"expected a function of JAX arrays, got {F!r} of type {type(F).__name__}.")
        leaves, structure = jax.tree_util.tree_flatten(x0)
        for i, leaf in enumerate(leaves):
            if not (is_number(leaf) or hasattr(leaf, "dtype")):
                raise TypeError(f"leaf {i} of x0 is {short(leaf)}; the unknowns must be real floating-point numbers.")
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        for i, leaf in enumerate(leaves):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise TypeError(
                    f"leaf {i} of x0 has dtype {leaf.dtype}; the unknowns must be real floating-point numbers. Convert "
                    "integers with .astype(float), and take real and imaginary parts of complex numbers."
                )
        if engine != "auto" and (engine not in ENGINES or (engine in FORMED and not square)):
            usable = [name for name in ENGINES if square or name not in FORMED]
            raise ValueError(
                f"unknown engine {engine!r}; Newton's steps need one that factors: use one of "
                f"{', '.join(map(repr, ('auto', *usable)))}."
            )
        require_package(engine)
        self.engine = "superlu" if engine == "auto" else engine
        formed = max(formed, FORMED.get(engine, 0))
        self._matrix: dict[bool, Bordered] = {}  # with a place for damping on the diagonal, and without
        self.x0 = np.asarray(flat(leaves), float)
        self.tree = Leaves.of(jax.tree_util.tree_unflatten(structure, leaves)).tree_of  # a flat vector as the pytree of x0

        def values(x: Any) -> Any:
            y = F(self.tree(x))
            if self.x0.size and not jax.tree_util.tree_leaves(y):
                raise TypeError(f"the function returns {y!r}, which holds no array; return its values.")
            value = flat(y)
            if jnp.iscomplexobj(value):
                raise TypeError("the function has complex values; return their real and imaginary parts.")
            return value, y

        def matrix(x: Any, damping: Any) -> Any:
            system, _ = linearize_with_aux(F, (self.tree(x),), 0, fold=True)
            bordered = bordered_system(system, damping if square else None, square=square, formed=formed)
            bordered = bordered if square else least_squares(bordered, damping)
            self._matrix[damping is not None] = bordered
            return bordered.data

        self._values = jax.jit(values)
        self._numbers = jax.jit(matrix)

    def value(self, x: Array) -> Array:
        """F(x), flat."""
        return np.asarray(self._values(x)[0], float)

    def flat_value(self, x: Any) -> Any:
        """F(x), flat, as a JAX array."""
        return self._values(x)[0]

    def output(self, x: Array) -> Any:
        """F(x), as F returns it."""
        return self._values(x)[1]

    def inverse(self, x: Array, damping: float | None = None) -> Inverse:
        """J⁻¹ or (J + damping · I)⁻¹ at x, or the least-squares one, factored.  Raises `SingularError`."""
        return Inverse(self._at(x, damping), self.engine)

    def symmetric(self, x: Array) -> Any:
        """J at x as a SciPy matrix, its upper triangle taken from the lower one; None where it is not formed."""
        from scipy.sparse import csc_array, tril

        matrix = self._at(x, 0.0)
        layout = matrix.layout
        if layout.size > x.size:
            return None
        numbers = np.asarray(layout.numbers(matrix.data), float)
        A = csc_array((numbers, layout.columns.indices, layout.columns.indptr), shape=(x.size, x.size))
        below = tril(A[matrix.out][:, matrix.into], -1)
        return (below + below.T + tril(A[matrix.out][:, matrix.into]) - below).tocsc()

    def _at(self, x: Array, damping: float | None) -> Bordered:
        numbers = tuple(map(np.asarray, self._numbers(x, damping)))
        return replace(self._matrix[damping is not None], data=numbers)
