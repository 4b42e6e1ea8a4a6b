"""Newton's method off the bordered matrix: equations, minima and least squares, at the cost of the program's sparsity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import SingularError, short
from backsolve.capture.linearized import flat
from backsolve.engines.base import SingularMatrixError
from backsolve.system.bordered import require_square
from backsolve.transforms.bounds import Box, least_in_box
from backsolve.transforms.curvature import Curvature
from backsolve.transforms.derivatives import grad
from backsolve.transforms.history import ConvergenceError, History, Solution
from backsolve.transforms.pairs import of_pairs, over_pairs, split
from backsolve.transforms.products import hvp
from backsolve.transforms.promotion import promoting
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
LARGE = 0.5  # of the values of F nearby: what is larger is no root that is near
AT_BOUNDS = ("at bounds",)  # a column of histories
NO_ROOT = "has found no root: ½‖F‖² is stationary here, but F is not zero:"
STUCK = "is stuck: no step makes ‖F‖ smaller, but F is not zero here:"
NOT_FINITE = "is NaN or infinite here. Take another x0."


@promoting
def newton(
    F: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-10,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
    damping: float = 0.0,
    lower: Any = -np.inf,
    upper: Any = np.inf,
) -> Solution:
    """Find the x with F(x) = 0 by Newton's method:  F'(x) d = −F(x),  x ← x + t d.

    x and F(x) are pytrees with as many entries; complex ones are two each, their real and imaginary parts, so that F need
    not be holomorphic.  Each step is one solve off F's own graph (see `solve_jacobian`); F' is traced and analysed once, and
    compiled where NumPy does not serve (`backsolve.tape`).  The step length t is halved until ‖F‖ falls as it should, but
    for entries that are zero already, so that the rounding of one does not hide another.
    Converged where the step d is at most √tol of x, and after it each |F_i| at most √tol of what it is at a relative
    distance of √tol from x, or no more than its own rounding, which is measured.  Then x is the root up to about tol (a
    double one up to its square root), whatever the units of x and of F, and whatever F was at x0.  An unknown below tol² of
    the largest it has been counts as 0.
    ``engine`` is that of `System.solve`, but one that factors.  ``callback(x, history)`` is called at x0 and after every
    step; where it returns False the iteration ends, with a `Solution` that is not ``converged``.
    With ``damping`` λ > 0, or with bounds, the step is that of `gauss_newton` on ½‖F‖², (JᵀJ + λI) d = −Jᵀ F  (Levenberg),
    which exists where F' is singular and stays between the bounds.  Only a root counts: where ½‖F‖² is least between the
    bounds and F is not zero, `ConvergenceError` says so.
    Returns a `Solution`, whose ``history`` prints as a table; shows each step while a person watches.
    Raises `ConvergenceError` with the history where that takes more than ``max_steps`` or no step helps, `SingularError`
    where F' is singular, naming the unknown, and as `solve_jacobian`.
    Cost: a step, four evaluations of F, one of F', its factors, two substitutions.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 11; when to stop, see `Stopping`.

    Example:
        >>> import jax.numpy as jnp
        >>> newton(lambda x: jnp.array([x[0] ** 2 + x[1] ** 2 - 2.0, x[0] - x[1]]), jnp.array([2.0, 0.5]), tol=1e-6).x
        Array([1., 1.], dtype=float32)
        >>> newton(lambda x: x**2 - 4.0, jnp.array([-0.1, 1.0]), damping=1.0, lower=jnp.array([-9.0, 0.0]), tol=1e-6).x
        Array([-2.,  2.], dtype=float32)
    """
    box, damping = Box.known(x0, lower, upper), checked_damping(damping)
    F, x0 = over_pairs(F), split(x0)
    if box.bounded or damping:
        work = Repeated(F, x0, square=False, engine=engine)
        require_square(work.value(work.x0).size, work.x0.size)
        return _least_squares(work, x0, box, tol, max_steps, callback, damping, root=True)
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
            return Solution(work.shown(x), work.output(x), history, converged=False)
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow("newton", max_steps), history)
        largest = np.maximum(largest, abs(x))
        try:
            d = -work.inverse(x).solve(value)
        except SingularError as error:
            if _vanishes(rule, x, value, rule.scale(x, largest, 0 * x), largest, zero | True):  # as at a multiple root
                break
            raise SingularError(_singular(error, len(history) - 1)) from error
        t, value = _searched(work.value, box, x, d, _shrinking(value, ~zero | zero.all()))
        if t > 0:
            x = box.moved(x, d, t)
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
    return Solution(work.shown(x), work.output(x), history)


@promoting
def minimize_newton(
    f: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-8,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
    damping: float = 0.0,
    lower: Any = -np.inf,
    upper: Any = np.inf,
) -> Solution:
    """Find a minimum of a scalar f by Newton's method:  (∇²f + σI) d = −∇f,  x ← x + t d.

    Complex unknowns are two each, their real and imaginary parts.  The solves are those of `inverse_hvp`.  σ is 0 where the
    Hessian is positive definite, and otherwise raised until the sum is: told by the signs of the pivots where the Hessian is
    sparse or small (inertia, Sylvester's law), by the lowest eigenvalue (Lanczos) where it is neither.  So saddle points
    repel; at one, the direction of most negative curvature is taken.  Where rounding may hide how far f falls (a short step,
    or less than tol of f promised), gradients at both ends tell.
    Converged where ∇f is zero as F is in `newton` (told by ∇f near x, not by ∇f at x0), after a step that damping has not
    kept short, and no curvature is negative.
    ``damping`` is the least σ of the first step, the one of `inverse_hvp`: that step is −(∇²f + σI)⁻¹ ∇f.  It then falls to
    a quarter after each whole step, and rises after short ones.
    ``lower`` and ``upper`` are numbers, or pytrees like x0 of numbers or arrays, and may be infinite: x stays between them,
    in all evaluations of f.  Unknowns at a bound that ∂f/∂x_i presses against it are held (complementarity); what is said
    here of ∇f and of curvature is of the others.  A step is that of least value of its quadratic model between the bounds.
    ``engine`` and ``callback`` are those of `newton`; a Hessian that is formed is factored symmetrically by any engine.
    Returns a `Solution`; its history prints as a table.
    Raises `ConvergenceError` with the history, also where f has no minimum, and as `inverse_hvp`; `ValueError` where lower
    is above upper or x0 is outside.
    Cost: a step, one evaluation of the gradient's system and a few factorizations; with bounds, one for each set of held
    unknowns that is tried.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, section 3.4 (added multiple of the identity); Hager and
    Zhang, *A new conjugate gradient method*, 2005 (gradients where values are too coarse); Bertsekas, *Projected Newton
    methods for optimization problems with simple constraints*, 1982 (bounds); when to stop, see `newton`.

    Example:
        >>> import jax.numpy as jnp
        >>> minimize_newton(lambda x: (x[0] ** 2 - 1.0) ** 2 + x[1] ** 2, jnp.array([0.0, 1.0]), tol=1e-5).x
        Array([1., 0.], dtype=float32)
        >>> minimize_newton(lambda x: jnp.sum((x - 2.0) ** 2) + x[0] * x[1], jnp.zeros(2), upper=jnp.array([1.0, 9.0])).x
        Array([1. , 1.5], dtype=float32)
    """
    box, least = Box.known(x0, lower, upper), checked_damping(damping)
    f, x0 = of_pairs(f, x0), split(x0)
    slope = grad(f)
    work = Repeated(slope, x0, formed=FORMED, engine=engine)
    curvature = Curvature(work, jax.jit(lambda x, v: flat(hvp(f, (work.tree(x),), (work.tree(v),)))))
    scalar = jax.jit(lambda x: f(work.tree(x)))
    history = History("minimize_newton", ("f", "max |∇f|", "damping σ", "step length", *AT_BOUNDS[: box.bounded]))
    watch = _watch(callback, work, history)

    def value_of(x: Array) -> Array:
        return np.asarray(scalar(x), float)

    def ended(x: Array, *, converged: bool = True) -> Solution:
        return Solution(work.shown(x), f(work.tree(x)), history, converged=converged)

    x = largest = work.x0
    rule = Stopping(_each(work.value), x0, x.size, tol, box if box.bounded else None)
    g = work.value(x)  # refuses an f that is no scalar
    value = float(value_of(x))
    free = ~box.held(x, g)
    history.add(value, _max(g[free]), 0.0, 0.0, *_counted(box, free))
    stationary = not g[free].any()
    while True:
        if not (np.isfinite(value) and np.isfinite(g).all()):
            raise ConvergenceError(f"minimize_newton is stuck: f or its gradient {NOT_FINITE}", history)
        if watch(x):
            return ended(x, converged=False)
        room = box.room(x)
        if stationary:
            way, shift = curvature.escape(x, free, *room)
            if way is None:
                return ended(x)
        else:
            model, shift = curvature.model(x, g, least, free)
            way = least_in_box(model, g, *(np.where(free, end, 0) for end in room))
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow("minimize_newton", max_steps), history)
        largest = np.maximum(largest, abs(x))
        with np.errstate(over="ignore"):  # where f is all but linear
            d = -way if g @ way > 0 and not box.bounded else _shortened(way, *room)
            promised = min(float(g @ d), -0.5 * abs(shift) * float(d @ d)) if stationary else float(g @ d)

        scale = rule.scale(x, largest, d)
        hidden = rule.short(d, scale) or abs(promised) <= rule.tol * abs(value)
        enough = _falling(promised, value, g if hidden else None, d)
        t, _ = _searched(work.value if hidden else value_of, box, x, d, enough)
        if t == 0:
            if stationary:  # a curvature that f is too coarse for
                return ended(x)
            stationary = _vanishes(rule, x, g, scale, largest, free)
            if stationary:
                continue
            raise ConvergenceError(
                "minimize_newton is stuck: no step along a direction of descent makes f smaller, but ∇f is not zero here. "
                "Take another x0, or a larger tol if rounding keeps it from 0.",
                history,
            )
        if t < SHORT and not stationary:
            least = max(GROWTH * least, _max(g[free]) / _max(d))
        elif t == 1:
            least = least / GROWTH if least > tol else 0.0
        x, before = box.moved(x, d, t), g
        value, g = float(value_of(x)), work.value(x)
        free = ~box.held(x, g)
        history.add(value, _max(g[free]), shift, t, *_counted(box, free))
        scale = rule.scale(x, largest, d)
        rounding = _max(d) <= rule.rounding * _max(scale)  # of which half a step is as good as a whole one
        whole = (t == 1 or rounding) and _is_whole(shift, d, before[free], g[free])
        stationary = not g[free].any() or (whole and rule.short(d, scale) and _vanishes(rule, x, g, scale, scale, free))


@promoting
def gauss_newton(
    r: Callable[[Any], Any],
    x0: Any,
    *,
    tol: float = 1e-8,
    max_steps: int = 100,
    engine: str = "auto",
    callback: Callback | None = None,
    damping: float = 0.0,
    lower: Any = -np.inf,
    upper: Any = np.inf,
) -> Solution:
    """Find the x of least ½ ‖r(x)‖² by damped Gauss-Newton steps:  min ‖J d + r‖² + λ ‖Dd‖²,  x ← x + d.

    r(x) is a pytree of at least as many entries as x; complex ones are two each, their real and imaginary parts, and
    ‖r‖² = Σ |rᵢ|².  Each step is one solve with the augmented matrix of J's own graph:
    neither J nor JᵀJ is formed.  λ starts at 0 and rises where J has not full rank or the step does not help
    (Levenberg-Marquardt): λ ‖Dd‖², with D about the norms of J's columns, as large as they have been, so that the steps are
    the same in all units of x.  Where rounding may hide how far ½ ‖r‖² falls, gradients at both ends tell.
    Converged where the gradient Jᵀr is zero as F is in `newton` (told by Jᵀr near x, not at x0), after a step that λ has not
    kept short: at a minimum, or at another point where ½ ‖r‖² is stationary.
    ``damping`` is the λ of the first step, (JᵀJ + λI) d = −Jᵀr  (Levenberg: D = I, in the units that x has); then the gain
    of each step over what its model promises lowers or raises it.  ``lower`` and ``upper`` are those of `minimize_newton`:
    the step is the best one between the bounds, and an unknown that is held at one counts for no gradient.
    ``engine`` and ``callback`` are those of `newton`.
    Returns a `Solution`, with ``value`` r(x); its history prints as a table.
    Raises `ConvergenceError` with the history; `ValueError` where lower is above upper or x0 is outside; otherwise as
    `solve_jacobian`, except that J need not be square.
    Cost: a step, one evaluation of J and the factors of its augmented matrix; with bounds, those for each set of held
    unknowns that is tried.
    Source: Nocedal and Wright, *Numerical Optimization*, 2006, chapter 10; Moré, *The Levenberg-Marquardt algorithm:
    implementation and theory*, 1978; Nielsen, *Damping parameter in Marquardt's method*, 1999; bounds, see
    `minimize_newton`; when to stop, see `newton`.

    Example:
        >>> import jax.numpy as jnp
        >>> t = jnp.linspace(0.0, 1.0, 5)
        >>> gauss_newton(lambda p: p[0] * jnp.exp(p[1] * t) - jnp.exp(-t), jnp.array([2.0, 0.0]), tol=1e-5).x.round(3)
        Array([ 1., -1.], dtype=float32)
        >>> gauss_newton(lambda p: p - jnp.array([1.0, -2.0]), jnp.ones(2), lower=0.0).x
        Array([1., 0.], dtype=float32)
    """
    box, damping = Box.known(x0, lower, upper), checked_damping(damping)
    r, x0 = over_pairs(r), split(x0)
    work = Repeated(r, x0, square=False, engine=engine)
    return _least_squares(work, x0, box, tol, max_steps, callback, damping, root=False)


def _least_squares(
    work: Repeated, x0: Any, box: Box, tol: float, max_steps: int, callback: Callback | None, damping: float, *, root: bool
) -> Solution:
    """`gauss_newton` of ``work``; with ``root`` it is `newton` by such steps, for an x with r(x) = 0 alone."""
    what, least = ("newton", "max |F|") if root else ("gauss_newton", "½‖r‖²")
    slope = jax.jit(lambda x, d: _normal(work.flat_value, x, d))
    history = History(what, (least, "max |Jᵀr|", "damping λ", "max |d|", *AT_BOUNDS[: box.bounded]))
    watch = _watch(callback, work, history)

    def gradient(x: Array) -> Array:
        return np.asarray(slope(x, np.zeros_like(x)), float)

    def size(residual: Array) -> float:
        return _max(residual) if root else _half(residual)

    def is_root(x: Array, scale: Array, wide: Array) -> bool:
        return not residual.any() or _vanishes(zeros, x, residual, scale, wide, whole_box)

    def none_found(x: Array, why: str) -> ConvergenceError:
        return ConvergenceError(f"{what} {why} {_where(box, x, residual)}", history)

    x = largest = work.x0
    whole_box, inside = np.ones(x.size, bool), box if box.bounded else None
    units = _Units(None if damping else work.column_norms, x.size)
    rule, zeros = (Stopping(_each(each), x0, x.size, tol, inside) for each in (gradient, work.value))
    residual, g = work.value(x), gradient(x)
    free = ~box.held(x, g)
    history.add(size(residual), _max(g[free]), damping, 0.0, *_counted(box, free))
    done = not (residual if root else g[free]).any()
    if residual.any() and not g.any() and _half(residual) == 0:
        raise ConvergenceError(f"{what} cannot begin: the squares of its values are all 0. Multiply them by 1e150.", history)
    while not done:
        if not np.isfinite(residual).all() or not np.isfinite(g).all():
            told = "F" if root else "r"
            raise ConvergenceError(f"{what} is stuck: {told} or its derivative {NOT_FINITE}", history)
        if watch(x):
            return Solution(work.shown(x), work.output(x), history, converged=False)
        if len(history) > max_steps:
            raise ConvergenceError(_too_slow(what, max_steps), history)
        if root and not g[free].any():
            raise none_found(x, NO_ROOT)
        largest = np.maximum(largest, abs(x))
        D = units.at(x) if damping else units.last
        first = units.first(g, free, largest)
        while True:
            try:
                d = least_in_box(_Normal(work, slope, x, residual, damping * D**2), g, *box.room(x))
            except SingularError:  # J has not full rank: more damping gives it
                d = None
            scale = rule.scale(x, largest, 0 * x if d is None else d)
            if d is not None:
                there = box.moved(x, d)
                y, promised = work.value(there), -float(g @ d)
                hidden = rule.short(d, scale) or promised <= rule.tol * _half(residual)
                fall = _fall(g, gradient(there), d) if hidden else _half(residual) - _half(y)
                if (there != x).any() and fall >= DECREASE * promised:
                    break
            D = units.at(x)
            first = units.first(g, free, largest)
            damping = max(GROWTH * damping, first)
            if (d is not None and (there == x).all()) or not damping < LARGEST_DAMPING * first:
                if root and not is_root(x, scale, largest):
                    raise none_found(x, STUCK)
                if root or _vanishes(rule, x, g, scale, largest, free):
                    return Solution(work.shown(x), work.output(x), history)
                raise ConvergenceError(
                    f"{what} is stuck: no step makes the residual smaller, but its gradient is not zero here. "
                    "Take another x0, or a larger tol if rounding keeps it from 0.",
                    history,
                )
        x, residual, before = there, y, g
        g = gradient(x)
        free = ~box.held(x, g)
        history.add(size(residual), _max(g[free]), damping, _max(d), *_counted(box, free))
        scale = rule.scale(x, largest, d)
        short = rule.short(d, scale) and _is_whole(damping, D * d, (before / D)[free], (g / D)[free])
        done = not (residual if root else g[free]).any() or (short and root and is_root(x, scale, scale))
        if short and not done and _vanishes(rule, x, g, scale, scale, free):
            if root and not zeros.near(x, residual, scale, LARGE).all():  # near a multiple root the gradient vanishes first
                raise none_found(x, NO_ROOT)
            done = not root
        gain = 2 * fall / (promised + damping * float((D * d) @ (D * d)))  # over what the model promises
        damping = 0.0 if damping < first else damping * max(GROWTH**-2, 1 - (2 * gain - 1) ** 3)
    watch(x)
    return Solution(work.shown(x), work.output(x), history)


class _Units:
    """Sizes D of the unknowns, by which steps are damped, λ ‖D d‖²: ones, or the norms of J's columns.

    With these, as large as they have been, the iteration is the same in all units of x.
    Source: Moré, *The Levenberg-Marquardt algorithm: implementation and theory*, 1978.
    """

    def __init__(self, norms: Callable[[Array], Array] | None, size: int) -> None:
        self._norms, self._sizes = norms, np.zeros(size)
        self._x: Array | None = None
        self.last = np.ones(size)

    def at(self, x: Array) -> Array:
        """D at x, which is worked out once."""
        if self._norms is not None and self._x is not x:
            self._x, norms = x, self._norms(x)
            self._sizes = np.maximum(self._sizes, np.where(np.isfinite(norms), norms, 0))
            self.last = np.where(self._sizes > 0, self._sizes, 1.0)
        return self.last

    def first(self, g: Array, free: Array, largest: Array) -> float:
        """The least λ that is worth trying, by the last D."""
        return FIRST_DAMPING * _max((g / self.last)[free]) / (_max(self.last * largest) or 1.0)


class _Normal(NamedTuple):
    """½ ‖J d + r‖² + ½ Σ λᵢ dᵢ² as a function of the step d."""

    work: Repeated
    normal: Callable[[Array, Array], Any]
    x: Array
    residual: Array
    damping: Array

    def slope(self, d: Array) -> Array:
        return np.asarray(self.normal(self.x, d), float) + self.damping * d  # type: ignore[no-any-return]

    def face(self, free: Array, d: Array) -> Array:
        held = np.where(free, 0, d)
        residual = self.residual + self.work.change(self.x, held) if held.any() else self.residual
        return held + self.work.shortest(self.x, -residual, self.damping, free)


def _normal(r: Callable[[Any], Any], x: Any, d: Any) -> Any:
    """Jᵀ (r + J d)."""
    value, change = jax.jvp(r, (x,), (d,))
    return jax.vjp(r, x)[1](value + change)[0]


def _counted(box: Box, free: Array) -> tuple[int, ...]:
    """The number of unknowns that are held at bounds, for a history that has a place for it."""
    return (int(free.size - free.sum()),) if box.bounded else ()


def _where(box: Box, x: Array, residual: Array) -> str:
    """How far from a root x is, which unknowns are at bounds, and what to do."""
    at = np.flatnonzero((x == box.lower) | (x == box.upper))
    which = f"; {at.size} of {x.size} unknowns are at their bounds, the first is entry {at[0]}" if at.size else ""
    wider = "Take another x0, or wider bounds" if box.bounded else "Take another x0"
    return f"max |F| is {_max(residual):.3e}{which}. {wider}; gauss_newton returns such a point."


def _shortened(d: Array, low: Array, high: Array) -> Array:
    """The longest step along d, up to d, within the room there is."""
    room = np.where(d < 0, low, high)
    ratios = np.divide(room, d, out=np.full_like(d, np.inf), where=d != 0)
    return d * min(1.0, float(ratios.min(initial=np.inf)))


def checked_damping(damping: Any) -> float:
    """Raise `ValueError` where damping is no number of at least 0."""
    if not (is_number(damping) or getattr(damping, "shape", None) == ()) or isinstance(damping, complex):
        raise TypeError(f"damping must be a number of at least 0, got {short(damping)}.")
    if not 0 <= float(damping) < np.inf:
        raise ValueError(f"damping must be a number of at least 0, got {float(damping)}.")
    return float(damping)


def _watch(callback: Callback | None, work: Repeated, history: History) -> Callable[[Array], bool]:
    """What calls the user's callback once for each row of the history, and tells whether that ends the iteration."""
    rows = 0

    def watch(x: Array) -> bool:
        nonlocal rows
        if callback is None or rows == len(history):
            return False
        rows = len(history)
        return callback(work.shown(x), history) is False

    return watch


def _searched(
    value: Callable[[Array], Array], box: Box, x: Array, d: Array, enough: Callable[[float, Array], bool]
) -> tuple[float, Array]:
    """The longest of the steps 1, ½, ¼ … that is enough, and the value there; length 0 where none is."""
    t = 1.0
    while t >= SHORTEST:
        with np.errstate(over="ignore", invalid="ignore"):  # too far
            there = box.moved(x, d, t)
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


def _vanishes(rule: Stopping, x: Array, g: Array, scale: Array, wide: Array, free: Array) -> bool:
    """Whether each entry of a gradient by a free unknown is near 0, or rounding, which is measured on the wide scale."""
    zero = ~free | rule.near(x, g, scale * free)
    return bool(zero.all() or (zero | rule.noise(x, g, wide * free)).all())


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
        told, advice = error.fact, f"Take gauss_newton, which damps its steps, or damping > 0, or {error.remedy}."
    return f"newton cannot go on after {step} steps: {told} {advice}"


def _max(x: Array) -> float:
    return float(np.abs(x).max(initial=0.0))


def _half(r: Array) -> float:
    with np.errstate(over="ignore"):
        return 0.5 * float(r @ r)
