"""Functions defined by an equation, and their derivatives by the implicit function theorem, in both modes.

With F(z, p) = 0:  F_z dz + F_p dp = 0,  so  dz = −F_z⁻¹ F_p dp:  one solve with F's bordered matrix, however z was found.
In reverse mode it is the solve with its transpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .capture import linearize
from .capture.jaxpr import hoisted
from .capture.solving import is_concrete, require_engine
from .history import ConvergenceError, History
from .optimize import newton

__all__ = ["fixed_point", "root"]

METHODS = ("iteration", "newton")


def root(F: Callable[..., Any], z0: Any, *args: Any, tol: float = 1e-10, max_steps: int = 50, engine: str = "auto") -> Any:
    """Return the z with F(z, *args) = 0, by Newton's method from z0; differentiable by ``args``, in both modes.

    z and F(z, *args) are pytrees with as many entries.  The derivative is  dz = −F_z⁻¹ F_p dp,  exact at the root; z0 has
    none.  What F closes over counts as an argument too.  Works under ``jit``, ``vmap`` and ``grad``, where F_z is eliminated
    block by block in JAX, and where nothing can be raised: z is NaN if the iteration has not converged.
    Raises `ConvergenceError` with the residual history, `SingularError` where F_z is singular, and as `newton`.
    Cost: Newton's steps; a derivative, one solve.
    Source: Krantz and Parks, *The Implicit Function Theorem*, 2002; Blondel et al., *Efficient and Modular Implicit
    Differentiation*, NeurIPS 2022.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cube_root = lambda a: root(lambda z, a: z**3 - a, 1.0, a, tol=1e-6)
        >>> round(float(cube_root(8.0)), 4), round(float(jax.grad(cube_root)(8.0)), 4)
        (2.0, 0.0833)
    """

    def found(F: Callable[..., Any], z0: Any, args: Any) -> Any:
        if is_concrete(z0, args):
            return newton(lambda z: F(z, *args), z0, tol=tol, max_steps=max_steps).x
        return _newton_traced(lambda z: F(z, *args), z0, tol, max_steps)

    return _implicit(F, found, z0, args, engine)


def fixed_point(
    g: Callable[..., Any],
    z0: Any,
    *args: Any,
    tol: float = 1e-10,
    max_steps: int = 1000,
    method: str = "iteration",
    engine: str = "auto",
) -> Any:
    """Return the z with z = g(z, *args), from z0 on; differentiable by ``args``, in both modes.

    ``method`` is "iteration", z ← g(z), which converges where g contracts, or "newton", on z − g(z) = 0 (see `root`).
    The derivative is  dz = (I − g_z)⁻¹ g_p dp,  however z was found.  z0 and g(z0, *args) have the same shapes.  Converged
    where max |g(z) − z| ≤ tol · max(1, max |z|), or what the dtype can reach.  Under ``jit`` nothing can be raised: z is NaN
    if the iteration has not converged.
    Raises `ConvergenceError` with the history of max |g(z) − z|, `ValueError` for an unknown method or where g changes
    the shape, and as `root`.
    Cost: the iteration; a derivative, one solve.
    Source: Bai, Kolter and Koltun, *Deep Equilibrium Models*, NeurIPS 2019.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = lambda a: fixed_point(lambda z, a: jnp.cos(a * z), 1.0, a, tol=1e-6)
        >>> round(float(z(1.0)), 4), round(float(jax.grad(z)(1.0)), 4)
        (0.7391, -0.2975)
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; use one of {', '.join(map(repr, METHODS))}.")
    shapes = [jax.tree_util.tree_map(jnp.shape, tree) for tree in (z0, jax.eval_shape(g, z0, *args))]
    if shapes[0] != shapes[1]:
        raise ValueError(f"g must keep the shape of z: z0 has {shapes[0]}, g(z0) has {shapes[1]}.")

    def found(F: Callable[..., Any], z0: Any, args: Any) -> Any:
        def image(z: Any) -> Any:
            return jax.tree_util.tree_map(jnp.subtract, z, F(z, *args))

        concrete = is_concrete(z0, args)
        if method == "newton":
            if concrete:
                return newton(lambda z: F(z, *args), z0, tol=tol, max_steps=max_steps).x
            return _newton_traced(lambda z: F(z, *args), z0, tol, max_steps)
        return _iterated(image, z0, tol, max_steps) if concrete else _iterated_traced(image, z0, tol, max_steps)

    def F(z: Any, *args: Any) -> Any:
        return jax.tree_util.tree_map(jnp.subtract, z, g(z, *args))

    return _implicit(F, found, z0, args, engine)


def _implicit(F: Callable[..., Any], found: Callable[..., Any], z0: Any, args: Any, engine: str) -> Any:
    """What ``found(F, z0, args)`` returns, with the derivative that the equation F(z, *args) = 0 gives."""
    require_engine(engine)
    z0 = jax.tree_util.tree_map(_inexact, z0)
    closed, outer = hoisted(F, (z0, *args))  # what F closes over may be traced

    @jax.custom_jvp
    def solution(z0: Any, args: Any) -> Any:
        return found(closed, z0, args)

    @solution.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (z0, args), (_, change) = primals, tangents
        z = solution(z0, args)
        moved = jax.jvp(lambda args: closed(z, *args), (args,), (change,))[1]
        system = linearize(lambda z: closed(z, *args), z)
        step = system.solve(moved, engine=engine)
        return z, jax.tree_util.tree_map(jnp.negative, step)

    return solution(z0, (*args, *outer))


def _inexact(x: Any) -> Any:
    x = jnp.asarray(x, jnp.result_type(x))  # of no weak type, which iterations would change
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(f"the unknowns must be real or complex, but z0 has dtype {x.dtype}; convert it with .astype(float).")
    return x


def _iterated(image: Callable[[Any], Any], z: Any, tol: float, max_steps: int) -> Any:
    history = History("fixed_point", ("max |g(z) − z|", "max |z|"))
    step = jax.jit(lambda z: _measured(z, image(z)))
    while True:
        better, error, size = step(z)
        history.add(float(error), float(size))
        if float(error) <= _tolerance(tol, z) * max(1.0, float(size)):
            return better
        if len(history) > max_steps or not jnp.isfinite(error):
            raise ConvergenceError(
                f"the fixed point has not converged in {len(history) - 1} steps: g does not contract here. "
                "Take method='newton', another z0, or a damped g.",
                history,
            )
        z = better


def _measured(z: Any, better: Any) -> Any:
    change = jax.tree_util.tree_map(jnp.subtract, better, z)
    return better, _max(change), _max(z)


def _iterated_traced(image: Callable[[Any], Any], z: Any, tol: float, max_steps: int) -> Any:
    def going(state: Any) -> Any:
        z, error, n = state
        return (error > _tolerance(tol, z) * jnp.maximum(1.0, _max(z))) & (n <= max_steps)

    def step(state: Any) -> Any:
        z, _, n = state
        better, error, _ = _measured(z, image(z))
        return better, error, n + 1

    z, error, _ = jax.lax.while_loop(going, step, (z, jnp.full((), jnp.inf, _max(z).dtype), 0))
    return _nan_unless(error <= _tolerance(tol, z) * jnp.maximum(1.0, _max(z)), z)


def _newton_traced(F: Callable[[Any], Any], z0: Any, tol: float, max_steps: int) -> Any:
    """Newton's method as one loop of JAX, the step halved while ‖F‖ does not fall."""
    first = _max(F(z0))
    goal = _tolerance(tol, z0) * jnp.maximum(1.0, first)

    def moved(z: Any, d: Any, t: Any) -> Any:
        return jax.tree_util.tree_map(lambda z, d: z - (t * d).astype(z.dtype), z, d)

    def step(state: Any) -> Any:
        z, _, n, _ = state
        system = linearize(F, z)
        d = system.solve(system.value)
        size = _norm(system.value)

        def too_long(t: Any) -> Any:
            return ~(_norm(F(moved(z, d, t))) <= (1 - 1e-4 * t) * size) & (t > 2.0**-30)

        t = jax.lax.while_loop(too_long, lambda t: t / 2, jnp.ones((), size.dtype))
        better = moved(z, d, t)
        return better, _max(F(better)), n + 1, t

    def going(state: Any) -> Any:
        _, error, n, t = state
        return (error > goal) & (n < max_steps) & (t > 2.0**-29)

    start = (z0, first, 0, jnp.ones((), first.dtype))
    z, error, _, _ = jax.lax.while_loop(going, step, start)
    return _nan_unless(error <= 1e3 * goal, z)


def _tolerance(tol: float, z: Any) -> float:
    eps = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree_util.tree_leaves(z)]  # type: ignore[no-untyped-call]
    return max(tol, *(4 * e for e in eps))


def _max(tree: Any) -> Any:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree_util.tree_leaves(tree)]))


def _norm(tree: Any) -> Any:
    return jnp.sqrt(sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree_util.tree_leaves(tree)))


def _nan_unless(good: Any, tree: Any) -> Any:
    return jax.tree_util.tree_map(lambda x: jnp.where(good, x, jnp.nan), tree)
