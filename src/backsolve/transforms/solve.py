"""Solving with derivatives: each a line or two on the `System` of a function, whose matrix is never inverted nor formed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backsolve.algebra.elements import describe
from backsolve.capture import linearize
from backsolve.transforms.derivatives import grad

__all__ = ["inverse_hvp", "solve_jacobian"]


def solve_jacobian(F: Callable[..., Any], x: Any, b: Any, *, damping: Any = None, engine: str = "auto") -> Any:
    """Return the u with  F'(x) u (+ damping · u) = b,  without forming F'(x): one sparse solve off F's own graph.

    b is shaped like F(x) and u like x, which have as many entries.  Works on concrete arrays (SciPy's SuperLU) and under
    ``jit``, ``vmap`` and ``grad`` (elimination of blocks in JAX; the derivative is that of the solution, by a second solve
    with the same factors).  ``engine`` is that of `System.solve`.  For several b keep the system:
    ``system = linearize(F, x)``, then ``system.solve(b)``.
    Raises `ValueError` where F' is not square, `SingularError` where it is singular (concrete values), `TypeError` for
    integer unknowns, `PatternTooLargeError` (a `MemoryError`) where the matrix does not fit into memory.
    Cost: one evaluation of F, the factors of a matrix as sparse as the program, two substitutions.

    Example:
        >>> import jax.numpy as jnp
        >>> solve_jacobian(lambda x: x**2, jnp.array([1.0, 2.0]), jnp.array([4.0, 4.0]))
        Array([2., 1.], dtype=float32)
    """
    return linearize(F, x).solve(b, damping=damping, engine=engine)


def inverse_hvp(f: Callable[..., Any], primals: Sequence[Any], b: Any, damping: Any = 0.0, *, engine: str = "auto") -> Any:
    """Return the u with  ∇²f u + damping · u = b:  exact, and no Hessian is formed.

    The system of ∇f, bordered, is as sparse as the program: for a deep net it is block banded, and time and memory are
    linear in depth.  With one primal, b and u are shaped like it; with several they are tuples.  `hvp` is the product that
    this undoes.  Works on concrete arrays and under ``jit``, ``vmap`` and ``grad``; ``engine`` is that of `System.solve`, of
    which "cholmod" (scikit-sparse) forms the Hessian and needs it positive definite.
    Raises as `solve_jacobian` does, and as `grad` where f is no scalar function.
    Cost: one evaluation of the gradient, the factors of a matrix as sparse as the program, two substitutions.

    Example:
        >>> import jax.numpy as jnp
        >>> inverse_hvp(lambda x: jnp.sum(x**3), (jnp.array([1.0, 2.0]),), jnp.array([6.0, 6.0]))
        Array([1. , 0.5], dtype=float32)
    """
    if not isinstance(primals, tuple | list) or not primals:
        got = type(primals).__name__ if not isinstance(primals, tuple | list) else "none"
        raise TypeError(f"primals of inverse_hvp must be a tuple or list of one argument or more, got {got}.")
    if len(primals) > 1 and not (isinstance(b, tuple | list) and len(b) == len(primals)):
        got = f"{len(b)} parts" if isinstance(b, tuple | list) else describe(b)
        raise TypeError(f"b of inverse_hvp must be a tuple with a part for each of the {len(primals)} primals, got {got}.")
    argnums: Any = 0 if len(primals) == 1 else tuple(range(len(primals)))
    damping = None if isinstance(damping, float | int) and damping == 0 else damping
    system = linearize(grad(f, argnums), *primals, argnums=argnums)
    return system.solve(tuple(b) if len(primals) > 1 else b, damping=damping, engine=engine)
