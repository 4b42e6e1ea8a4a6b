"""Newton's method off the bordered matrix: equations, minima and least squares, at the cost of the program's sparsity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .algebra import SingularError
from .capture.repeated import Repeated
from .curvature import Curvature
from .history import ConvergenceError, History, Solution
from .transforms import grad, hvp

__all__ = ["gauss_newton", "minimize_newton", "newton"]

Array = np.ndarray[Any, Any]

SHORTEST = 2.0**-30  # step length
DECREASE = 1e-4  # of what the slope promises (Armijo)
FIRST_DAMPING = 1e-4  # times the size of the gradient's change; then four times as much
GROWTH = 4.0
SHORT = 0.2  # a step length that says: damp more
FORMED = 1_000_000  # entries of a Hessian that is formed in any case


def newton(F: Callable[[Any], Any], x0: Any, *, tol: float = 1e-10, max_steps: int = 50) -> Solution:
    """Find the x with F(x) = 0 by Newton's method:  F'(x) d = −F(x),  x ← x + t d.

    x and F(x) are pytrees with as many entries.  Each step is one solve off F's own graph (see `solve_jacobian`); F' is
    traced, analysed and compiled once.  The step length t is halved until ‖F‖² falls as it should.  Converged where
    max |F| ≤ tol · max(1, max |F(x0)|), or where a full step changes no digit of x.
    Returns a `Solution`, whose ``history`` prints as a table; shows each step while a person watches.
    Raises `ConvergenceError` with the history where that takes more than ``max_steps`` or no step helps, `SingularError`
    where F' is singular, naming the unknown, and as `solve_jacobian`.
    Cost: a step, one evaluation of F', its factors, two substitutions.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 11.

    Example:
        >>> import jax.numpy as jnp
        >>> newton(lambda x: jnp.array([x[0] ** 2 + x[1] ** 2 - 2.0, x[0] - x[1]]), jnp.array([2.0, 0.5]), tol=1e-6).x
        Array([1., 1.], dtype=float32)
    """
    work = Repeated(F, x0)
    history = History("newton", ("max |F|", "step length", "max |d|"))
    x = work.x0
    value = work.value(x)
    goal = _goal(tol, value, x0)
    history.add(_max(value), 0.0, 0.0)
    while not _max(value) <= goal:
        if len(history) > max_steps:
            raise ConvergenceError(f"newton has not converged in {max_steps} steps to max |F| ≤ {goal:.1e}.", history)
        d = -work.inverse(x).solve(value)
        merit = float(value @ value)

        def enough(t: float, y: Array, merit: float = merit) -> bool:
            return float(y @ y) <= (1 - 2 * DECREASE * t) * merit

        t, value = _searched(work.value, x, d, enough)
        if t == 0:
            if _max(value) <= 1e3 * goal:  # as small as its rounding lets it be
                break
            raise ConvergenceError("newton is stuck: no step along the Newton direction makes ‖F‖ smaller.", history)
        x = x + t * d
        history.add(_max(value), t, _max(d))
        if t == 1 and _max(d) <= 4 * _rounding(x0) * _max(x):  # x is as exact as its digits let it be
            break
    return Solution(work.tree(x), work.output(x), history)


def minimize_newton(f: Callable[[Any], Any], x0: Any, *, tol: float = 1e-8, max_steps: int = 100) -> Solution:
    """Find a minimum of a scalar f by Newton's method:  (∇²f + σI) d = −∇f,  x ← x + t d.

    The solves are those of `inverse_hvp`.  σ is 0 where the Hessian is positive definite, and otherwise raised until the
    sum is: told by the signs of the pivots where the Hessian is sparse or small (inertia, Sylvester's law), by the lowest
    eigenvalue (Lanczos) where it is neither.  So saddle points repel; at one, the direction of most negative curvature is
    taken.  Converged where max |∇f| ≤ tol · max(1, max |∇f(x0)|) and no curvature is negative.
    Returns a `Solution`; its history prints as a table.
    Raises `ConvergenceError` with the history, and as `inverse_hvp`.
    Cost: a step, one evaluation of the gradient's system and a few factorizations.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, section 3.4 (added multiple of the identity).

    Example:
        >>> import jax.numpy as jnp
        >>> minimize_newton(lambda x: (x[0] ** 2 - 1.0) ** 2 + x[1] ** 2, jnp.array([0.0, 1.0]), tol=1e-5).x
        Array([1., 0.], dtype=float32)
    """
    slope = grad(f)
    work = Repeated(slope, x0, formed=FORMED)
    curvature = Curvature(work, jax.jit(lambda x, v: hvp(f, (work.tree(x),), (work.tree(v),))))
    value_of = jax.jit(lambda x: f(work.tree(x)))
    history = History("minimize_newton", ("f", "max |∇f|", "damping σ", "step length"))
    x = work.x0
    g = work.value(x)  # refuses an f that is no scalar
    value = float(value_of(x))
    goal = _goal(tol, g, x0)
    history.add(value, _max(g), 0.0, 0.0)
    least = 0.0  # damping that keeps steps inside what the quadratic model is good for
    while True:
        flat = _max(g) <= goal
        d, damping = curvature.escape(x) if flat else curvature.descent(x, g, least)
        if d is None:
            return Solution(work.tree(x), f(work.tree(x)), history)
        if len(history) > max_steps:
            raise ConvergenceError(f"minimize_newton has not converged in {max_steps} steps.", history)
        d = -d if g @ d > 0 else d
        promised = min(float(g @ d), -0.5 * abs(damping) * float(d @ d)) if flat else float(g @ d)

        def enough(t: float, y: Array, value: float = value, promised: float = promised) -> bool:
            return float(y) <= value + DECREASE * t * promised

        t, _ = _searched(lambda x: np.asarray(value_of(x), float), x, d, enough)
        if t == 0:
            if flat or _max(g) <= 1e3 * goal:  # f is as low as its rounding lets it be
                return Solution(work.tree(x), f(work.tree(x)), history)
            raise ConvergenceError(
                "minimize_newton is stuck: no step along a direction of descent makes f smaller.", history
            )
        if t < SHORT and not flat:
            least = max(GROWTH * least, float(np.linalg.norm(g) / np.linalg.norm(d)))
        elif t == 1:
            least = least / GROWTH if least > tol else 0.0
        x = x + t * d
        value, g = float(value_of(x)), work.value(x)
        history.add(value, _max(g), damping, t)


def gauss_newton(r: Callable[[Any], Any], x0: Any, *, tol: float = 1e-8, max_steps: int = 100) -> Solution:
    """Find the x of least ½ ‖r(x)‖² by damped Gauss-Newton steps:  min ‖J d + r‖² + λ ‖d‖²,  x ← x + d.

    r(x) is a pytree of at least as many entries as x.  Each step is one solve with the augmented matrix of J's own graph:
    neither J nor JᵀJ is formed.  λ starts at 0 and rises where J has not full rank or the step does not help
    (Levenberg-Marquardt).  Converged where max |Jᵀr| ≤ tol · max(1, max |Jᵀr| at x0).
    Returns a `Solution`, with ``value`` r(x); its history prints as a table.
    Raises `ConvergenceError` with the history; otherwise as `solve_jacobian`, except that J need not be square.
    Cost: a step, one evaluation of J and the factors of its augmented matrix.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 10.

    Example:
        >>> import jax.numpy as jnp
        >>> t = jnp.linspace(0.0, 1.0, 5)
        >>> gauss_newton(lambda p: p[0] * jnp.exp(p[1] * t) - jnp.exp(-t), jnp.array([2.0, 0.0]), tol=1e-5).x.round(3)
        Array([ 1., -1.], dtype=float32)
    """
    work = Repeated(r, x0, square=False)
    slope = jax.jit(lambda x: jax.vjp(lambda x: work.flat_value(x), x)[1](work.flat_value(x))[0])
    history = History("gauss_newton", ("½‖r‖²", "max |Jᵀr|", "damping λ", "max |d|"))
    x = work.x0
    residual, g = work.value(x), np.asarray(slope(x), float)
    goal = _goal(tol, g, x0)
    damping = 0.0
    history.add(_half(residual), _max(g), damping, 0.0)
    while not _max(g) <= goal:
        if not np.isfinite(residual).all() or not np.isfinite(g).all():
            raise ConvergenceError("gauss_newton is stuck: r or its derivative is not finite here.", history)
        if len(history) > max_steps:
            raise ConvergenceError(f"gauss_newton has not converged in {max_steps} steps.", history)
        first = FIRST_DAMPING * _max(g) / (1 + _max(x))
        while True:
            d = _solved(work, x, residual, damping)
            if d is not None:
                y = work.value(x + d)
                if _half(y) <= _half(residual) + DECREASE * float(g @ d):
                    break
                if _max(d) <= 1e-15 * (1 + _max(x)) or -float(g @ d) <= 1e-15 * _half(
                    residual
                ):  # as low as rounding lets it
                    return Solution(work.tree(x), work.output(x), history)
            damping = max(GROWTH * damping, first)
            if not damping < 1e30:
                raise ConvergenceError("gauss_newton is stuck: no step makes the residual smaller.", history)
        x, residual = x + d, y
        g = np.asarray(slope(x), float)
        history.add(_half(residual), _max(g), damping, _max(d))
        damping = 0.0 if damping < first else damping / GROWTH**2
    return Solution(work.tree(x), work.output(x), history)


def _solved(work: Repeated, x: Array, residual: Array, damping: float) -> Array | None:
    try:
        return work.inverse(x, damping).solve(-residual)  # type: ignore[no-any-return]
    except SingularError:
        if damping > 0:
            raise
        return None  # J has not full rank: damping gives it


def _searched(
    value: Callable[[Array], Array], x: Array, d: Array, enough: Callable[[float, Array], bool]
) -> tuple[float, Array]:
    """The longest of the steps 1, ½, ¼ … that is enough, and the value there; length 0 where none is."""
    t = 1.0
    while t >= SHORTEST:
        y = value(x + t * d)
        with np.errstate(over="ignore"):  # too far
            if np.isfinite(y).all() and enough(t, y):
                return t, y
        t /= 2
    return 0.0, value(x)


def _goal(tol: float, first: Array, x0: Any) -> float:
    """The tolerance, not below what the dtype can reach."""
    return max(tol, 4 * _rounding(x0)) * max(1.0, _max(first))


def _rounding(x0: Any) -> float:
    """The relative rounding error of the least exact leaf."""
    leaves = map(jax.numpy.asarray, jax.tree_util.tree_leaves(x0))
    return max((float(np.finfo(leaf.dtype).eps) for leaf in leaves), default=0.0)


def _max(x: Array) -> float:
    return float(np.abs(x).max(initial=0.0))


def _half(r: Array) -> float:
    return 0.5 * float(r @ r)
