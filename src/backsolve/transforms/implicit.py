"""Functions defined by an equation, and their derivatives by the implicit function theorem, in both modes.

With F(z, p) = 0:  F_z dz + F_p dp = 0,  so  dz = −F_z⁻¹ F_p dp:  one solve with F's bordered matrix, however z was found.
In reverse mode it is the solve with its transpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture import linearize
from backsolve.capture.linearized import Leaves, flat
from backsolve.capture.solving import is_concrete, require_engine
from backsolve.engines import ENGINES
from backsolve.engines.base import SingularError, SingularMatrixError
from backsolve.system.bordered import require_square
from backsolve.tracing.jaxpr import hoisted
from backsolve.transforms.bounds import Box
from backsolve.transforms.history import ConvergenceError, History
from backsolve.transforms.newton import (
    DECREASE,
    FIRST_DAMPING,
    GROWTH,
    LARGEST_DAMPING,
    SHORTEST,
    checked_damping,
    newton,
)
from backsolve.transforms.pairs import joined, over_pairs, split
from backsolve.transforms.promotion import promoting
from backsolve.transforms.repeated import column_norms, held_step
from backsolve.transforms.stopping import Stopping

__all__ = ["fixed_point", "root"]

METHODS = ("iteration", "newton")


@promoting
def root(
    F: Callable[..., Any],
    z0: Any,
    *args: Any,
    tol: float = 1e-10,
    max_steps: int = 100,
    engine: str = "auto",
    damping: float = 0.0,
    lower: Any = -np.inf,
    upper: Any = np.inf,
) -> Any:
    """Return the z with F(z, *args) = 0, by Newton's method from z0; differentiable by ``args``, in both modes.

    z and F(z, *args) are pytrees with as many entries.  The derivative is  dz = −F_z⁻¹ F_p dp,  exact at the root; z0 has
    none.  What F closes over counts as an argument too.  Works under ``jit``, ``vmap`` and ``grad``, where F_z is eliminated
    block by block in JAX, and where nothing can be raised: z is NaN if the iteration has not converged.  When it has is told
    as in `newton`, traced or not; complex unknowns are two each as there.
    ``engine`` is that of `System.solve`, for the steps and for derivatives: one that does not factor is for these alone, and
    under ``jit`` damped and bounded steps are by blocks.
    ``damping`` and the bounds ``lower`` and ``upper`` are those of `newton`; under ``jit`` a z0 outside gives NaN too.  The
    derivative is the same, since only a z with F(z, *args) = 0 is returned: at a bound it is that of the side on which there
    is such a z.  By the bounds there is none.
    Raises `ConvergenceError` with the residual history, `SingularError` where F_z is singular (at a multiple root, where a
    derivative is asked for), and as `newton`.
    Cost: Newton's steps; a derivative, one solve.
    Source: Krantz and Parks, *The Implicit Function Theorem*, 2002; Blondel et al., *Efficient and Modular Implicit
    Differentiation*, NeurIPS 2022.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> cube_root = lambda a: root(lambda z, a: z**3 - a, 1.0, a, tol=1e-6)
        >>> round(float(cube_root(8.0)), 4), round(float(jax.grad(cube_root)(8.0)), 4)
        (2.0, 0.0833)
    """
    z0 = jax.tree_util.tree_map(_inexact, z0)
    box, damping = Box.of(z0, lower, upper), checked_damping(damping)
    special = box.bounded or damping > 0

    def solver(F: Callable[..., Any], start: Any, args: Any) -> Any:
        z0, box = start
        if is_concrete(start, args):
            ends: list[Any] = [jax.tree_util.tree_leaves(Leaves.of(z0).tree_of(end)) for end in box] or [-np.inf, np.inf]
            more = {"damping": damping, "lower": ends[0], "upper": ends[1]}
            return _newton_concrete(lambda z: F(z, *args), z0, tol, max_steps, engine, **more)
        if special:
            return _levenberg_traced(lambda z: F(z, *args), z0, Box(*box), tol, max_steps, damping)
        return _newton_traced(lambda z: F(z, *args), z0, tol, max_steps, engine)

    return _implicit(F, solver, z0, args, engine, (box.lower, box.upper) if special else ())


@promoting
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
    The derivative is  dz = (I − g_z)⁻¹ g_p dp,  however z was found.  z0 and g(z0, *args) have the same shapes.  The
    iteration has converged where max |g(z) − z| ≤ tol · max(1, max |z|), or what the dtype can reach; Newton's method as in
    `newton`.  Under ``jit`` nothing can be raised: z is NaN if it has not converged.
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

    def solver(F: Callable[..., Any], start: Any, args: Any) -> Any:
        z0, _ = start

        def image(z: Any) -> Any:
            return jax.tree_util.tree_map(jnp.subtract, z, joined(F(split(z), *args)))

        concrete = is_concrete(z0, args)
        if method == "newton":
            if concrete:
                return _newton_concrete(lambda z: F(z, *args), z0, tol, max_steps, engine)
            return _newton_traced(lambda z: F(z, *args), z0, tol, max_steps, engine)
        iterated = _iterated if concrete else _iterated_traced
        return split(iterated(image, joined(z0), tol, max_steps))

    def F(z: Any, *args: Any) -> Any:
        return jax.tree_util.tree_map(jnp.subtract, z, g(z, *args))

    return _implicit(F, solver, z0, args, engine)


def _implicit(
    F: Callable[..., Any], solver: Callable[..., Any], z0: Any, args: Any, engine: str, more: tuple[Any, ...] = ()
) -> Any:
    """What ``solver(F, (z0, more), args)`` returns, with the derivative that the equation F(z, *args) = 0 gives.

    The solver is given, and returns, pairs of real numbers in place of complex ones.
    """
    require_engine(engine)
    z0 = split(jax.tree_util.tree_map(_inexact, z0))
    closed, outer = hoisted(over_pairs(F), (z0, *args))  # what F closes over may be traced

    @jax.custom_jvp
    def solution(start: Any, args: Any) -> Any:
        return solver(closed, start, args)

    @solution.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (start, args), (_, change) = primals, tangents
        z = solution(start, args)
        moved = jax.jvp(lambda args: closed(z, *args), (args,), (change,))[1]
        system = linearize(lambda z: closed(z, *args), z)
        try:
            step = system.solve(moved, engine=engine)
        except SingularError as error:
            told = error.fact if isinstance(error, SingularMatrixError) else error
            raise SingularError(f"the solution has no derivative, since the equation does not fix it: {told}") from error
        return z, jax.tree_util.tree_map(jnp.negative, step)

    return joined(solution((z0, more), (*args, *outer)))


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


def _newton_concrete(F: Callable[[Any], Any], z0: Any, tol: float, max_steps: int, engine: str, **more: Any) -> Any:
    """The solution of `newton`, of which bounds are lists of leaves; pairs of real numbers stay pairs.

    Its steps need an engine that factors; one that iterates is for derivatives only.
    """
    engine = engine if engine in ENGINES else "auto"
    leaves, structure = jax.tree_util.tree_flatten(z0)

    def listed(leaves: Any) -> Any:
        return jax.tree_util.tree_leaves(F(jax.tree_util.tree_unflatten(structure, leaves)))

    zero = newton(listed, leaves, tol=tol, max_steps=max_steps, engine=engine, **more)
    return jax.tree_util.tree_unflatten(structure, zero.x)


def _newton_traced(F: Callable[[Any], Any], z0: Any, tol: float, max_steps: int, engine: str) -> Any:
    """`newton` as one loop of JAX, on z as one flat vector."""
    engine = engine if engine in ENGINES else "auto"
    unknowns = Leaves.of(z0)
    tree, dtype = unknowns.tree_of, jnp.result_type(jnp.float16, *unknowns.avals)

    def value(x: Any) -> Any:
        return flat(F(tree(x)), dtype)

    def step(state: Any) -> Any:
        x, now, zero, largest, n, _, _ = state
        largest = jnp.maximum(largest, abs(x))
        system = linearize(F, tree(x))
        d = -flat(system.solve(system.value, engine=engine), dtype)
        counted = ~zero | zero.all()

        def enough(t: Any, there: Any) -> Any:
            size = abs(jnp.where(counted, now, 0)).max(initial=0.0)  # so that no square overflows
            after, before = (jnp.linalg.norm(jnp.where(counted, y, 0) / size) for y in (there, now))
            less = (after <= (1 - DECREASE * t) * before) & (after < before)  # in single precision the factor may be 1
            return less & jnp.isfinite(there).all()

        def shortened(tried: Any) -> Any:
            t = tried[0] / 2
            return t, value(x + t * d)

        start = jnp.full((), 2.0, largest.dtype), jnp.full_like(now, jnp.nan)
        t, there = jax.lax.while_loop(lambda tried: ~enough(*tried) & (tried[0] > SHORTEST), shortened, start)
        t = jnp.where(enough(t, there), t, 0)
        x, now = jnp.where(t > 0, x + t * d, x), jnp.where(t > 0, there, now)
        scale = rule.scale(x, largest, d)
        before, zero = zero, rule.near(x, now, scale)
        last = (t == 0) | rule.short(d, scale)
        wide = jnp.where(t == 0, largest, scale)
        zero |= jax.lax.cond(last, lambda: rule.noise(x, now, wide), lambda: jnp.zeros_like(zero))
        converged = (last & zero.all()) | (now == 0).all()
        return x, now, zero, largest, n + 1, converged, (t == 0) & (zero == before).all()

    def going(state: Any) -> Any:
        _, _, _, _, n, converged, stuck = state
        return ~converged & ~stuck & (n < max_steps)

    x = flat(z0, dtype)
    rule = Stopping(lambda points: jax.lax.map(value, points), z0, x.size, tol)
    now = value(x)
    start = x, now, jnp.zeros(now.shape, bool), abs(x), 0, (now == 0).all(), False
    x, _, _, _, _, converged, _ = jax.lax.while_loop(going, step, start)
    return _nan_unless(converged, tree(x))


def _levenberg_traced(F: Callable[[Any], Any], z0: Any, box: Box, tol: float, max_steps: int, damping: float) -> Any:
    """`newton` with damping or between bounds as one loop of JAX, on z as one flat vector.

    Unknowns at a bound that the slope of ½‖F‖² presses against it are held, the step of the others is projected onto the
    box, and the damping rises until ½‖F‖² falls: in the limit it is a projected gradient step.
    Source: Kanzow, Yamashita and Fukushima, *Levenberg–Marquardt methods with strong local convergence properties for
    solving nonlinear equations with convex constraints*, 2004.
    """
    unknowns = Leaves.of(z0)
    tree, dtype = unknowns.tree_of, jnp.result_type(jnp.float16, *unknowns.avals)
    box = box.of_dtype(dtype)

    def value(x: Any) -> Any:
        return flat(F(tree(x)), dtype)

    def trial(state: Any) -> Any:
        x, now, g, sizes, shift, largest, n, _, _ = state
        largest = jnp.maximum(largest, abs(x))
        free = ~box.held(x, g)
        D = jnp.where(sizes > 0, sizes, 1)
        far = _max(D * largest)
        first = FIRST_DAMPING * _max(jnp.where(free, g / D, 0)) / jnp.where(far > 0, far, 1)
        d = jnp.where(free, held_step(F, tree, x, -now, shift * D**2, free), 0)
        there = box.clipped(x + d)
        d = there - x
        after, promised = value(there), -(g @ d)
        fall = (now @ now - after @ after) / 2
        good = jnp.isfinite(there).all() & (promised > 0) & (fall >= DECREASE * promised)
        scale = rule.scale(x, largest, d)
        slope = jnp.where(good, gradient(there, after), g)
        whole = shift * _max(D * d) <= 0.5 * _max(jnp.where(free, g / D, 0))
        x, now = jnp.where(good, there, x), jnp.where(good, after, now)
        stuck = ~good & (~(shift < LARGEST_DAMPING * first) | (jnp.isfinite(d).all() & (d == 0).all()))
        last = stuck | (good & whole & rule.short(d, scale))
        scale = jnp.where(good, rule.scale(x, largest, d), largest)
        zero = jax.lax.cond(
            last, lambda: (rule.near(x, now, scale) | rule.noise(x, now, scale)).all(), lambda: jnp.full((), False)
        )
        gain = 2 * fall / jnp.where(good, promised + shift * ((D * d) @ (D * d)), 1)
        less = jnp.where(shift < first, 0, shift * jnp.maximum(GROWTH**-2, 1 - (2 * gain - 1) ** 3))
        shift = jnp.where(good, less, jnp.maximum(GROWTH * shift, first))
        sizes = jax.lax.cond(good, lambda: grown(sizes, x), lambda: sizes)
        return x, now, slope, sizes, shift, largest, n + good, zero | (now == 0).all(), stuck

    def grown(sizes: Any, x: Any) -> Any:
        """Sizes of the unknowns: the norms of the columns of F', as large as they have been; ones where damping is given."""
        if damping:
            return jnp.ones_like(sizes)
        norms = column_norms(value, x)
        return jnp.maximum(sizes, jnp.where(jnp.isfinite(norms), norms, 0))

    def gradient(x: Any, now: Any) -> Any:
        return jax.vjp(value, x)[1](now)[0]

    def going(state: Any) -> Any:
        _, _, _, _, _, _, n, converged, stuck = state
        return ~converged & ~stuck & (n < max_steps)

    x = flat(z0, dtype)
    rule = Stopping(lambda points: jax.lax.map(value, points), z0, x.size, tol, box)
    now, inside = value(x), ((x >= box.lower) & (x <= box.upper)).all()
    if now.size != x.size:
        require_square(now.size, x.size)
    sizes = grown(jnp.zeros_like(x), x)
    start = x, now, gradient(x, now), sizes, jnp.asarray(damping, dtype), abs(x), 0, (now == 0).all(), ~inside
    x, _, _, _, _, _, _, converged, _ = jax.lax.while_loop(going, trial, start)
    return _nan_unless(converged & inside, tree(x))


def _tolerance(tol: float, z: Any) -> float:
    eps = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree_util.tree_leaves(z)]  # type: ignore[no-untyped-call]
    return max(tol, *(4 * e for e in eps))


def _max(tree: Any) -> Any:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree_util.tree_leaves(tree)]))


def _nan_unless(good: Any, tree: Any) -> Any:
    return jax.tree_util.tree_map(lambda x: jnp.where(good, x, jnp.nan), tree)
