"""Newton's method off the bordered matrix: equations, minima and least squares, at the cost of the program's sparsity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from backsolve.algebra.elements import SingularError
from backsolve.engines.base import SingularMatrixError
from backsolve.transforms.curvature import Curvature
from backsolve.transforms.derivatives import grad, hvp
from backsolve.transforms.history import ConvergenceError, History, Solution
from backsolve.transforms.repeated import Repeated
from backsolve.transforms.stopping import Stopping

__all__ = ["gauss_newton", "minimize_newton", "newton"]

Array = np.ndarray[Any, Any]
Callback = Callable[[Any, History], Any]  # of x, as it is given, and the history up to there; False ends the iteration

jax.tree_util.register_pytree_node(
    Solution,
    lambda found: ((found.x, found.value), (found.history, found.converged)),
    lambda more, leaves: Solution(*leaves, *more),
)

SHORTEST = 2.0**-30  # step length
DECREASE = 1e-4  # of what the slope promises (Armijo)
FIRST_DAMPING = 1e-4  # times the size of the gradient's change; then four times as much
GROWTH = 4.0
LARGEST_DAMPING = 1e30  # times the first: no step is left of it
SHORT = 0.2  # a step length that says: damp more
FORMED = 1_000_000  # entries of a Hessian that is formed in any case
NOT_FINITE = "is NaN or infinite here. Take another x0."


def newton(
    F: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-10,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
) -> Solution:
    """Find the x with F(x) = 0 by Newton's method:  F'(x) d = −F(x),  x ← x + t d.

    x and F(x) are pytrees with as many entries.  Each step is one solve off F's own graph (see `solve_jacobian`); F' is
    traced, analysed and compiled once.  The step length t is halved until ‖F‖ falls as it should, without the entries that
    are zero already, so that the rounding of one does not hide another.
    Converged where the step d is at most √tol of x, and after it each |F_i| at most √tol of what it is at a relative
    distance of √tol from x, or no more than its own rounding, which is measured.  Then x is the root up to about tol (a
    double one up to its square root), whatever the units of x and of F, and whatever F was at x0.  An unknown below tol² of
    the largest it has been counts as 0.
    ``engine`` is that of `System.solve`, but one that factors.  ``callback(x, history)`` is called at x0 and after every
    step; where it returns False the iteration ends, with a `Solution` that is not ``converged``.
    Returns a `Solution`, whose ``history`` prints as a table; shows each step while a person watches.
    Raises `ConvergenceError` with the history where that takes more than ``max_steps`` or no step helps, `SingularError`
    where F' is singular, naming the unknown, and as `solve_jacobian`.
    Cost: a step, four evaluations of F, one of F', its factors, two substitutions.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 11; when to stop, see `Stopping`.

    Example:
        >>> import jax.numpy as jnp
        >>> newton(lambda x: jnp.array([x[0] ** 2 + x[1] ** 2 - 2.0, x[0] - x[1]]), jnp.array([2.0, 0.5]), tol=1e-6).x
        Array([1., 1.], dtype=float32)
    """
    work = Repeated(F, x0, engine=engine)
    history = History("newton", ("max |F|", "step length", "max |d|"))
    watch = _watch(callback, work, history)
    x = largest = work.x0
    rule = Stopping(_each(work.value), x0, x.size, tol)
    value = work.value(x)
    history.add(_max(value), 0.0, 0.0)
    if not np.isfinite(value).all():
        raise ConvergenceError(f"newton is stuck: F {NOT_FINITE}", history)
    zero = np.zeros(value.shape, bool)
    while value.any():
        if watch(x):
            return Solution(work.tree(x), work.output(x), history, converged=False)
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow("newton", max_steps), history)
        largest = np.maximum(largest, abs(x))
        try:
            d = -work.inverse(x).solve(value)
        except SingularError as error:
            if _vanishes(rule, x, value, rule.scale(x, largest, 0 * x), largest):  # as at a multiple root
                break
            raise SingularError(_singular(error, len(history) - 1)) from error
        t, value = _searched(work.value, x, d, _shrinking(value, ~zero | zero.all()))
        if t > 0:
            x = x + t * d
            history.add(_max(value), t, _max(d))
        scale = rule.scale(x, largest, d)
        before, zero = zero, rule.near(x, value, scale)
        last = t == 0 or rule.short(d, scale)
        if last and not zero.all():
            zero |= rule.noise(x, value, scale if t else largest)
        if last and zero.all():
            break
        if t == 0 and (zero == before).all():
            raise ConvergenceError(
                "newton is stuck: no step along the Newton direction makes ‖F‖ smaller, but F is not zero here. Take "
                "another x0, or a larger tol if rounding keeps it from 0; gauss_newton finds where ‖F‖ is least.",
                history,
            )
    watch(x)
    return Solution(work.tree(x), work.output(x), history)


def minimize_newton(
    f: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-8,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
) -> Solution:
    """Find a minimum of a scalar f by Newton's method:  (∇²f + σI) d = −∇f,  x ← x + t d.

    The solves are those of `inverse_hvp`.  σ is 0 where the Hessian is positive definite, and otherwise raised until the
    sum is: told by the signs of the pivots where the Hessian is sparse or small (inertia, Sylvester's law), by the lowest
    eigenvalue (Lanczos) where it is neither.  So saddle points repel; at one, the direction of most negative curvature is
    taken.  Where rounding may hide how far f falls (a short step, or less than tol of f promised), gradients at both ends
    tell.
    Converged where ∇f is zero as F is in `newton` (told by ∇f near x, not by ∇f at x0), after a step that damping has not
    kept short, and no curvature is negative.
    ``engine`` and ``callback`` are those of `newton`; a Hessian that is formed is factored symmetrically by any engine.
    Returns a `Solution`; its history prints as a table.
    Raises `ConvergenceError` with the history, also where f has no minimum, and as `inverse_hvp`.
    Cost: a step, one evaluation of the gradient's system and a few factorizations.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, section 3.4 (added multiple of the identity); Hager and
    Zhang, *A new conjugate gradient method*, 2005 (gradients where values are too coarse); when to stop, see `newton`.

    Example:
        >>> import jax.numpy as jnp
        >>> minimize_newton(lambda x: (x[0] ** 2 - 1.0) ** 2 + x[1] ** 2, jnp.array([0.0, 1.0]), tol=1e-5).x
        Array([1., 0.], dtype=float32)
    """
    slope = grad(f)
    work = Repeated(slope, x0, formed=FORMED, engine=engine)
    curvature = Curvature(work, jax.jit(lambda x, v: hvp(f, (work.tree(x),), (work.tree(v),))))
    scalar = jax.jit(lambda x: f(work.tree(x)))
    history = History("minimize_newton", ("f", "max |∇f|", "damping σ", "step length"))
    watch = _watch(callback, work, history)

    def value_of(x: Array) -> Array:
        return np.asarray(scalar(x), float)

    x = largest = work.x0
    rule = Stopping(_each(work.value), x0, x.size, tol)
    g = work.value(x)  # refuses an f that is no scalar
    value = float(value_of(x))
    history.add(value, _max(g), 0.0, 0.0)
    least = 0.0  # damping that keeps steps inside what the quadratic model is good for
    flat = not g.any()
    while True:
        if not (np.isfinite(value) and np.isfinite(g).all()):
            raise ConvergenceError(f"minimize_newton is stuck: f or its gradient {NOT_FINITE}", history)
        if watch(x):
            return Solution(work.tree(x), f(work.tree(x)), history, converged=False)
        d, damping = curvature.escape(x) if flat else curvature.descent(x, g, least)
        if d is None:
            return Solution(work.tree(x), f(work.tree(x)), history)
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow("minimize_newton", max_steps), history)
        largest = np.maximum(largest, abs(x))
        with np.errstate(over="ignore"):  # where f is all but linear
            d = -d if g @ d > 0 else d
            promised = min(float(g @ d), -0.5 * abs(damping) * float(d @ d)) if flat else float(g @ d)

        scale = rule.scale(x, largest, d)
        hidden = rule.short(d, scale) or abs(promised) <= rule.tol * abs(value)
        enough = _falling(promised, value, g if hidden else None, d)
        t, _ = _searched(work.value if hidden else value_of, x, d, enough)
        if t == 0:
            if flat:  # a curvature that f is too coarse for
                return Solution(work.tree(x), f(work.tree(x)), history)
            flat = _vanishes(rule, x, g, scale, largest)
            if flat:
                continue
            raise ConvergenceError(
                "minimize_newton is stuck: no step along a direction of descent makes f smaller, but ∇f is not zero here. "
                "Take another x0, or a larger tol if rounding keeps it from 0.",
                history,
            )
        if t < SHORT and not flat:
            least = max(GROWTH * least, _max(g) / _max(d))
        elif t == 1:
            least = least / GROWTH if least > tol else 0.0
        x, before = x + t * d, g
        value, g = float(value_of(x)), work.value(x)
        history.add(value, _max(g), damping, t)
        scale = rule.scale(x, largest, d)
        whole = t == 1 and _is_whole(damping, d, before, g)
        flat = not g.any() or (whole and rule.short(d, scale) and _vanishes(rule, x, g, scale, scale))


def gauss_newton(
    r: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-8,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
) -> Solution:
    """Find the x of least ½ ‖r(x)‖² by damped Gauss-Newton steps:  min ‖J d + r‖² + λ ‖d‖²,  x ← x + d.

    r(x) is a pytree of at least as many entries as x.  Each step is one solve with the augmented matrix of J's own graph:
    neither J nor JᵀJ is formed.  λ starts at 0 and rises where J has not full rank or the step does not help
    (Levenberg-Marquardt); where rounding may hide how far ½ ‖r‖² falls, gradients at both ends tell.
    Converged where the gradient Jᵀr is zero as F is in `newton` (told by Jᵀr near x, not at x0), after a step that λ has not
    kept short: at a minimum, or at another point where ½ ‖r‖² is stationary.
    ``engine`` and ``callback`` are those of `newton`.
    Returns a `Solution`, with ``value`` r(x); its history prints as a table.
    Raises `ConvergenceError` with the history; otherwise as `solve_jacobian`, except that J need not be square.
    Cost: a step, one evaluation of J and the factors of its augmented matrix.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 10; Nielsen, *Damping parameter in Marquardt's
    method*, 1999; when to stop, see `newton`.

    Example:
        >>> import jax.numpy as jnp
        >>> t = jnp.linspace(0.0, 1.0, 5)
        >>> gauss_newton(lambda p: p[0] * jnp.exp(p[1] * t) - jnp.exp(-t), jnp.array([2.0, 0.0]), tol=1e-5).x.round(3)
        Array([ 1., -1.], dtype=float32)
    """
    work = Repeated(r, x0, square=False, engine=engine)
    slope = jax.jit(lambda x: jax.vjp(lambda x: work.flat_value(x), x)[1](work.flat_value(x))[0])
    history = History("gauss_newton", ("½‖r‖²", "max |Jᵀr|", "damping λ", "max |d|"))
    watch = _watch(callback, work, history)

    def gradient(x: Array) -> Array:
        return np.asarray(slope(x), float)

    x = largest = work.x0
    rule = Stopping(_each(gradient), x0, x.size, tol)
    residual, g = work.value(x), gradient(x)
    damping = 0.0
    history.add(_half(residual), _max(g), damping, 0.0)
    done = not g.any()
    while not done:
        if not np.isfinite(residual).all() or not np.isfinite(g).all():
            raise ConvergenceError(f"gauss_newton is stuck: r or its derivative {NOT_FINITE}", history)
        if watch(x):
            return Solution(work.tree(x), work.output(x), history, converged=False)
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow("gauss_newton", max_steps), history)
        largest = np.maximum(largest, abs(x))
        first = FIRST_DAMPING * _max(g) / (_max(largest) or 1.0)
        while True:
            step = _damped_step(work, x, residual, damping)
            d = 0 * x if step is None else step
            scale = rule.scale(x, largest, d)
            if step is not None:
                y, promised = work.value(x + d), -float(g @ d)
                hidden = rule.short(d, scale) or promised <= rule.tol * _half(residual)
                fall = _fall(g, gradient(x + d), d) if hidden else _half(residual) - _half(y)
                if fall >= DECREASE * promised:
                    break
            damping = max(GROWTH * damping, first)
            if (step is not None and (x + d == x).all()) or not damping < LARGEST_DAMPING * first:
                if _vanishes(rule, x, g, scale, largest):
                    return Solution(work.tree(x), work.output(x), history)
                raise ConvergenceError(
                    "gauss_newton is stuck: no step makes the residual smaller, but its gradient is not zero here. "
                    "Take another x0, or a larger tol if rounding keeps it from 0.",
                    history,
                )
        x, residual, before = x + d, y, g
        g = gradient(x)
        history.add(_half(residual), _max(g), damping, _max(d))
        scale = rule.scale(x, largest, d)
        whole = _is_whole(damping, d, before, g)
        done = not g.any() or (whole and rule.short(d, scale) and _vanishes(rule, x, g, scale, scale))
        gain = 2 * fall / (promised + damping * float(d @ d))  # over what the model promises
        damping = 0.0 if damping < first else damping * max(GROWTH**-2, 1 - (2 * gain - 1) ** 3)
    watch(x)
    return Solution(work.tree(x), work.output(x), history)


def _watch(callback: Callback | None, work: Repeated, history: History) -> Callable[[Array], bool]:
    """What calls the user's callback once for each row of the history, and tells whether that ends the iteration."""
    rows = 0

    def watch(x: Array) -> bool:
        nonlocal rows
        if callback is None or rows == len(history):
            return False
        rows = len(history)
        return callback(work.tree(x), history) is False

    return watch


def _damped_step(work: Repeated, x: Array, residual: Array, damping: float) -> Array | None:
    try:
        return work.inverse(x, damping).solve(-residual)  # type: ignore[no-any-return]
    except SingularError:
        return None  # J has not full rank: more damping gives it


def _searched(
    value: Callable[[Array], Array], x: Array, d: Array, enough: Callable[[float, Array], bool]
) -> tuple[float, Array]:
    """The longest of the steps 1, ½, ¼ … that is enough, and the value there; length 0 where none is."""
    t = 1.0
    while t >= SHORTEST:
        with np.errstate(over="ignore", invalid="ignore"):  # too far
            there = x + t * d
            y = value(there)
            if np.isfinite(there).all() and np.isfinite(y).all() and enough(t, y):
                return t, y
        t /= 2
    return 0.0, value(x)


def _shrinking(value: Array, counted: Array) -> Callable[[float, Array], bool]:
    """Whether ‖F‖, of the entries that are counted, is after the step t d as much smaller as it should be (Armijo)."""
    size = _max(value[counted])  # so that no square overflows
    before = float(np.linalg.norm(value[counted] / size))
    return lambda t, there: float(np.linalg.norm(there[counted] / size)) <= (1 - DECREASE * t) * before


def _falling(promised: float, value: float, g: Array | None, d: Array) -> Callable[[float, Array], bool]:
    """Whether a function falls over the step t d as it should (Armijo): by its values, or by its gradients if g is given."""

    def enough(t: float, there: Array) -> bool:
        fall = value - float(there) if g is None else _fall(g, there, t * d)
        return fall >= -DECREASE * t * promised

    return enough


def _fall(here: Array, there: Array, d: Array) -> float:
    """How much a function falls over a step, by its gradients at both ends (the trapezoidal rule)."""
    return -0.5 * float((here + there) @ d)


def _vanishes(rule: Stopping, x: Array, g: Array, scale: Array, wide: Array) -> bool:
    """Whether each entry of g is near 0, or rounding, which is measured on the wide scale."""
    zero = rule.near(x, g, scale)
    return bool(zero.all() or (zero | rule.noise(x, g, wide)).all())


def _is_whole(damping: float, d: Array, before: Array, after: Array) -> bool:
    """Whether a step goes about as far as the minimum is: damping has not halved it, or it has halved the gradient."""
    return damping * _max(d) <= 0.5 * _max(before) or _max(after) <= 0.5 * _max(before)


def _each(value: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The values at several points, one after the other."""

    def values(points: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([value(x) for x in points])

    return values


def _too_slow(method: str, max_steps: int) -> str:
    return f"{method} has not converged in {max_steps} steps. Take another x0, or allow more max_steps."


def _singular(error: SingularError, step: int) -> str:
    """What `newton` says of a singular F', with advice that it can take."""
    told, advice = str(error), "Take another x0."
    if isinstance(error, SingularMatrixError):
        told, advice = error.fact, f"Take gauss_newton, which damps its steps, or {error.remedy}."
    return f"newton cannot go on after {step} steps: {told} {advice}"


def _max(x: Array) -> float:
    return float(np.abs(x).max(initial=0.0))


def _half(r: Array) -> float:
    with np.errstate(over="ignore"):
        return 0.5 * float(r @ r)
