"""A function's value and its bordered matrix, at one point after the other: traced, analysed, compiled at most once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import short
from backsolve.capture.linearized import Leaves, flat, linearize, linearize_with_aux
from backsolve.capture.solving import bordered_system
from backsolve.engines import ENGINES, FORMED, require_package
from backsolve.system.bordered import Bordered, Inverse
from backsolve.system.least_squares import least_squares
from backsolve.tape.called import Called
from backsolve.tracing.series import array, beside, held_by
from backsolve.transforms.pairs import joined
from backsolve.xla.materialize import SPARSE, materialized

__all__ = ["Repeated", "column_norms", "held_step", "real_leaves"]

Array = np.ndarray[Any, Any]

PROBES = 8  # products with Jᵀ that estimate the norms of its columns; of as many values or fewer the norms are exact


class Repeated:
    """F between flat vectors, compiled: its values, and J⁻¹ off the bordered matrix with one pattern for all points.

    ``square`` False takes the least-squares solution for J⁻¹ (the Gauss-Newton step).  With ``formed`` all nodes are
    eliminated if that leaves at most so many entries, or four times those of the bordered matrix: what is left is J.
    ``engine`` is one that factors: "auto" is "superlu".
    Where a mask of ``free`` unknowns is given, the others are held: the equation of each is d = 0, and they are in no other
    one (of a square F, leaf k answers leaf k of x).
    """

    def __init__(
        self, F: Callable[..., Any], x0: Any, *, square: bool = True, formed: int = 0, engine: str = "auto"
    ) -> None:
        if not callable(F):
            raise TypeError(f"expected a function of JAX arrays, got {F!r} of type {type(F).__name__}.")
        leaves, structure = real_leaves(x0), jax.tree_util.tree_structure(x0)
        if engine != "auto" and (engine not in ENGINES or (engine in FORMED and not square)):
            usable = [name for name in ENGINES if square or name not in FORMED]
            raise ValueError(
                f"unknown engine {engine!r}; Newton's steps need one that factors: use one of "
                f"{', '.join(map(repr, ('auto', *usable)))}."
            )
        require_package(engine)
        self.engine = "superlu" if engine == "auto" else engine
        formed = max(formed, FORMED.get(engine, 0))
        self._matrix: dict[tuple[bool, bool], Bordered] = {}  # with a place for damping on the diagonal, with a mask
        self.x0 = np.asarray(flat(leaves), float)
        unknowns = Leaves.of(jax.tree_util.tree_unflatten(structure, leaves))
        unknowns.held = [held_by(leaf) for leaf in leaves]
        self.tree = unknowns.tree_of  # a flat vector as the pytree of x0
        self._brought = unknowns.brought

        def values(x: Any) -> Any:
            y = F(self.tree(x))
            if self.x0.size and not jax.tree_util.tree_leaves(y):
                raise TypeError(f"the function returns {y!r}, which holds no array; return its values.")
            value = flat(y)
            if jnp.iscomplexobj(value):
                raise TypeError("the function has complex values; take their real parts.")
            return value, y

        def matrix(x: Any, damping: Any, free: Any) -> Any:
            function = F if free is None else _holding(F, self.tree(x), _masks(free, self.tree(x)), square)
            system, _ = linearize_with_aux(function, (self.tree(x),), 0, fold=True)
            bordered = bordered_system(system, damping if square else None, square=square, formed=formed)
            bordered = bordered if square else least_squares(bordered, damping)
            self._matrix[damping is not None, free is not None] = bordered
            return bordered.data

        def numbers(*given: Any) -> Any:
            leaves, tree = jax.tree_util.tree_flatten(given)
            return materialized(lambda *leaves: matrix(*jax.tree_util.tree_unflatten(tree, leaves)), leaves, SPARSE)

        def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
            def of_arrays(tree: Any, arrays: Any) -> Any:
                return function(*jax.tree_util.tree_unflatten(tree, arrays))

            run = Called(jax.jit(of_arrays, static_argnums=0))

            def at(*args: Any) -> Any:
                arrays, tree = jax.tree_util.tree_flatten(args)
                with beside(leaves):  # where F may hold further arrays
                    return run(tree, arrays)

            return at

        self._values = compiled(values)
        self._numbers = compiled(numbers)
        self._change = compiled(lambda x, d: jax.jvp(self.flat_value, (x,), (d,))[1])
        self._norms = compiled(lambda x: column_norms(self.flat_value, x))

    def value(self, x: Array) -> Array:
        """F(x), flat."""
        return np.asarray(self._values(x)[0], float)

    def flat_value(self, x: Any) -> Any:
        """F(x), flat, as a JAX array."""
        return array(self._values(x)[0])

    def output(self, x: Array) -> Any:
        """F(x), as F returns it, with complex numbers where it has pairs of real ones."""
        return joined(jax.tree_util.tree_map(array, self._values(x)[1]))

    def shown(self, x: Array) -> Any:
        """A flat vector as the pytree of x0 and where x0 lies, with complex numbers where it has pairs of real ones."""
        return joined(self._brought(self.tree(x)))

    def inverse(self, x: Array, damping: Any = None, free: Array | None = None) -> Inverse:
        """J⁻¹ or (J + damping · I)⁻¹ at x, or the least-squares one, factored.  Raises `SingularError`."""
        return Inverse(self._at(x, damping, free), self.engine)

    def change(self, x: Array, d: Array) -> Array:
        """J d at x, flat."""
        return np.asarray(self._change(x, d), float)

    def column_norms(self, x: Array) -> Array:
        """See `column_norms`."""
        return np.asarray(self._norms(x), float)

    def shortest(self, x: Array, b: Array, damping: Array, free: Array) -> Array:
        """The d of least ‖J d − b‖² + Σ dampingᵢ dᵢ², of which entries that are not free are 0.  Raises `SingularError`."""
        if free.all():
            return self.inverse(x, damping).solve(b)  # type: ignore[no-any-return]
        return np.where(free, self.inverse(x, damping, free).solve(np.append(b, np.zeros(x.size))), 0)

    def symmetric(self, x: Array) -> Any:
        """J at x as a SciPy matrix, its upper triangle taken from the lower one; None where it is not formed."""
        from scipy.sparse import csc_array, tril

        known = self._matrix.get((True, False))
        matrix = self._at(x, 0.0) if known is None or known.layout.size == x.size else known
        layout = matrix.layout
        if layout.size > x.size:
            return None
        numbers = np.asarray(layout.numbers(matrix.data), float)
        A = csc_array((numbers, layout.columns.indices, layout.columns.indptr), shape=(x.size, x.size))
        below = tril(A[matrix.out][:, matrix.into], -1)
        return (below + below.T + tril(A[matrix.out][:, matrix.into]) - below).tocsc()

    def _at(self, x: Array, damping: Any, free: Array | None = None) -> Bordered:
        numbers = tuple(map(np.asarray, self._numbers(x, damping, free)))
        return replace(self._matrix[damping is not None, free is not None], data=numbers)


def column_norms(F: Callable[[Any], Any], x: Any) -> Any:
    """About the norm of each column of the Jacobian J of F, between flat vectors, at x: the size of Jᵀv for vectors v of ±1.

    In other units of an unknown it is as many times as large as the norm itself; of eight values or fewer it is the norm.
    Cost: eight products with Jᵀ; neither J nor any of its columns is formed.
    Source: Bekas, Kokiopoulou and Saad, *An estimator for the diagonal of a matrix*, 2007.
    """
    value, back = jax.vjp(F, x)
    if value.size <= PROBES:
        signs = np.eye(value.size)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (PROBES, value.size)) / np.sqrt(PROBES)
    images = jax.vmap(lambda v: back(v)[0])(jnp.asarray(signs, value.dtype))
    return jnp.sqrt((images**2).sum(axis=0))


def held_step(F: Callable[[Any], Any], tree: Callable[[Any], Any], x: Any, b: Any, damping: Any, free: Any) -> Any:
    """`Repeated.shortest` of traced numbers: the d of least ‖J d − b‖² + Σ dampingᵢ dᵢ² by the free unknowns."""
    system = linearize(_holding(F, tree(x), _masks(free, tree(x)), square=False), tree(x))
    matrix = least_squares(bordered_system(system, square=False), damping)
    return Inverse(matrix, "blocks").solve(jnp.concatenate([b, jnp.zeros_like(x)])).astype(x.dtype)


def _masks(free: Any, x: Any) -> Any:
    """A flat mask as masks of the leaves of x."""
    leaves, structure = jax.tree_util.tree_flatten(x)
    parts = jnp.split(free, np.cumsum([leaf.size for leaf in leaves])[:-1].tolist())
    shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree_util.tree_unflatten(structure, shaped)


def real_leaves(x0: Any) -> list[Any]:
    """The leaves of the unknowns as arrays.  Raises `TypeError` where one is not of real floating-point numbers."""
    leaves = jax.tree_util.tree_leaves(x0)
    for i, leaf in enumerate(leaves):
        if not (is_number(leaf) or hasattr(leaf, "dtype")):
            raise TypeError(f"leaf {i} of x0 is {short(leaf)}; the unknowns must be floating-point numbers.")
    leaves = [array(leaf) for leaf in leaves]
    for i, leaf in enumerate(leaves):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"leaf {i} of x0 has dtype {leaf.dtype}; the unknowns must be floating-point numbers. Convert it with "
                ".astype(float)."
            )
    return leaves


def _holding(F: Callable[[Any], Any], x: Any, free: Any, square: bool) -> Callable[[Any], Any]:
    """F with the entries of its argument that are not free held at x, and an equation for each of them to be at 0."""

    def chosen(new: Any, old: Any) -> Any:
        return jax.tree_util.tree_map(lambda mask, a, b: jnp.where(mask, a, b).astype(a.dtype), free, new, old)

    def held(arg: Any) -> Any:
        value = F(chosen(arg, x))
        return chosen(value, arg) if square else (value, chosen(jax.tree_util.tree_map(jnp.zeros_like, arg), arg))

    return held
