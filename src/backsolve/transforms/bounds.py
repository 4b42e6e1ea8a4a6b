"""Bounds on unknowns: what holds them at one, and the least value of a convex quadratic function between bounds.

A point is a minimum of f between bounds to first order (complementarity, Karush, Kuhn and Tucker) where

    ∂f/∂x_i = 0,   or   x_i = lower_i and ∂f/∂x_i > 0,   or   x_i = upper_i and ∂f/∂x_i < 0.

Unknowns of the last two kinds are *held*, the others free.  A step d of a Newton method with the model
q(d) = g·d + ½ dᵀ B d  is the d of least q with lower ≤ x + d ≤ upper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number, namespace
from backsolve.algebra.elements import short
from backsolve.capture.solving import is_concrete
from backsolve.transforms.pairs import split
from backsolve.transforms.repeated import real_leaves

__all__ = ["Box", "Quadratic", "least_in_box"]

Array = np.ndarray[Any, Any]

FACES = 30  # of a box that are tried in one step, besides one for each entry: most take two or three
DECREASE = 1e-4  # of what the slope promises (Armijo)
TRIED = (1.0, 0.5, 0.25)  # parts of the way to the minimum on a face, projected


class Quadratic(Protocol):
    """q(d) = g·d + ½ dᵀ B d with B positive definite."""

    def slope(self, d: Array) -> Array:
        """g + B d."""

    def face(self, free: Array, d: Array) -> Array:
        """The minimum of q by the free entries, the others being those of d."""


def least_in_box(q: Quadratic, g: Array, low: Array, high: Array) -> Array:
    """The d of least q(d) with low ≤ d ≤ high, where low ≤ 0 ≤ high and g = q'(0): by projected Newton steps from 0.

    Entries at a bound that the slope presses against it are held, and the minimum by the others is found.  Where it is
    outside, the way there, projected onto the box, is taken where q falls enough (so that many entries are held or freed at
    once), and otherwise up to the first bound, at which the entry is held until a minimum inside is found.  q never rises.
    Without a bound that matters this is one call of ``face``.
    Source: Bertsekas, *Projected Newton methods for optimization problems with simple constraints*, 1982; Tassa, Mansard and
    Todorov, *Control-limited differential dynamic programming*, 2014 (of a quadratic function); Nocedal and Wright,
    *Numerical Optimization*, 2006, section 16.5 (active sets, up to the first bound).
    """
    d, slope = np.zeros_like(g), g
    held = _held(d, slope, low, high)
    for _ in range(FACES + g.size):
        target = q.face(~held, d)
        if not np.isfinite(target).all():
            return target  # for the caller to refuse, as any step that leads nowhere
        there = np.clip(target, low, high)
        if (there == target).all():
            if not held.any():
                return target
            d, slope = there, q.slope(there)
            before, held = held, _held(d, slope, low, high)
            if held[before].all():
                return d
            continue
        after, value = slope, 0.5 * float(d @ (g + slope))
        for t in TRIED:
            there = np.clip(d + t * (target - d), low, high)
            after = q.slope(there)
            if 0.5 * float(there @ (g + after)) < value + DECREASE * float(slope @ (there - d)):
                held = _held(there, after, low, high)
                break
        else:
            way = target - d
            ends = np.divide(np.where(way < 0, low, high) - d, way, out=np.full_like(d, np.inf), where=way != 0)
            first = ends <= ends.min(initial=1.0)
            there = np.where(first, np.where(way < 0, low, high), np.clip(d + float(ends.min(initial=1.0)) * way, low, high))
            after, held = q.slope(there), held | first
        d, slope = there, after
    return d


def _held(x: Array, slope: Array, lower: Array, upper: Array) -> Array:
    return ((x <= lower) & (slope > 0)) | ((x >= upper) & (slope < 0)) | (lower == upper)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Box:
    """lower ≤ x ≤ upper, for flat vectors x; each may be infinite."""

    lower: Any
    upper: Any

    @classmethod
    def known(cls, x0: Any, lower: Any, upper: Any) -> Box:
        """The box that a user gives, of numbers that are known.  Raises as `of`, and `TypeError` where one is traced."""
        if not is_concrete(lower, upper):
            raise TypeError("lower and upper must be known numbers here, not traced ones; under jit and vmap take root.")
        return cls.of(x0, lower, upper)

    @classmethod
    def of(cls, x0: Any, lower: Any, upper: Any) -> Box:
        """The box that a user gives: numbers, or pytrees like x0 of numbers and arrays like its leaves; of one array a list.

        Raises `TypeError` for another tree, `ValueError` for another shape, NaN, a lower bound above the upper one and an x0
        outside.  Where numbers are traced, nothing is said of them.
        """
        leaves = real_leaves(split(x0))
        ends = [_spread("lower", lower, x0, leaves), _spread("upper", upper, x0, leaves)]
        for k, (low, high, leaf) in enumerate(zip(*ends, leaves, strict=True)):
            if is_concrete(low, high):
                _require(k, low > high, "lower is {low!r}, above upper, {high!r}. Exchange them.", low=low, high=high)
            if is_concrete(low, high, leaf):
                x, told = (
                    np.asarray(leaf, float),
                    "x0 is {x!r}, outside its bounds {low!r} and {high!r}. Take an x0 between them.",
                )
                _require(k, (x < low) | (x > high), told, low=low, high=high, x=x)
        return cls(*map(_flat, ends))

    def of_dtype(self, dtype: Any) -> Box:
        """The same between JAX arrays."""
        return Box(jnp.asarray(self.lower, dtype), jnp.asarray(self.upper, dtype))

    @property
    def bounded(self) -> bool:
        """Whether any bound is finite, or traced."""
        return not is_concrete(self.lower, self.upper) or bool(
            np.isfinite(self.lower).any() or np.isfinite(self.upper).any()
        )

    def held(self, x: Array, slope: Array) -> Array:
        """Which entries of x are at a bound and pressed against it by this slope of a function to be minimized."""
        return _held(x, slope, self.lower, self.upper)

    def room(self, x: Array) -> tuple[Array, Array]:
        """The least and the largest step from x."""
        return self.lower - x, self.upper - x

    def moved(self, x: Array, d: Array, t: float = 1.0) -> Array:
        """x + t d for a d that stays between the bounds: at them where d leads there, whatever rounding does."""
        low, high = self.room(x)
        there = np.clip(x + t * d, self.lower, self.upper)
        if t == 1:
            there = np.where((d <= low) & (d < 0), self.lower, np.where((d >= high) & (d > 0), self.upper, there))
        return there

    def turned(self, x: Any, steps: Any) -> Any:
        """Steps (k, n) from x with an entry turned round, or else shortened, where it leads out of the box."""
        xp, size = namespace(x), abs(steps)
        below, above = x - self.lower, self.upper - x
        ahead = xp.where(steps < 0, below, above)
        down = xp.where(size <= ahead, steps < 0, below > above)
        size = xp.minimum(size, xp.where(down, below, above))
        return xp.where(down, -size, size)

    def clipped(self, x: Any) -> Any:
        """The nearest points between the bounds."""
        return namespace(x).clip(x, self.lower, self.upper)


def _spread(name: str, bound: Any, x0: Any, leaves: list[Any]) -> list[Any]:
    """A bound for each entry of each leaf, in the precision of the leaf; two for a complex one, which has none."""
    given, structure = jax.tree_util.tree_flatten(bound)
    wanted: Any = jax.tree_util.tree_structure(x0)
    if jax.tree_util.all_leaves([bound]) and np.ndim(bound) == 0:
        given = given * len(leaves)
    elif isinstance(bound, list | tuple) and jax.tree_util.all_leaves([x0]) and all(map(is_number, bound)):
        given = [np.asarray(bound)]  # of one array, as SciPy takes it
    elif structure != wanted:
        raise TypeError(f"{name} must be a number or a pytree like x0, {wanted}; got {structure}.")
    spread: list[Any] = []
    for k, (part, leaf, own) in enumerate(zip(given, leaves, jax.tree_util.tree_leaves(x0), strict=True)):
        traced = not is_concrete(part)
        numbers: Any = part if traced else np.asarray(part)
        if numbers.dtype.kind not in "fiu" and numbers.dtype != jnp.bfloat16:
            raise TypeError(f"{name}, leaf {k}: expected real numbers, got {short(part)}.")
        if numbers.shape not in ((), np.shape(own)):
            raise ValueError(f"{name}, leaf {k}: shape {numbers.shape} does not match {np.shape(own)}, that of x0's leaf.")
        if leaf.shape != np.shape(own):  # pairs
            if traced or not np.isinf(numbers).all():
                raise TypeError(
                    f"{name} bounds leaf {k} of x0, which is complex, and complex numbers have no order. Take its real and "
                    "imaginary parts as unknowns, or give it an infinite bound."
                )
            numbers = numbers[..., None]
        if traced:
            spread.append(jnp.broadcast_to(numbers.astype(leaf.dtype), leaf.shape))
            continue
        with np.errstate(over="ignore"):  # beyond the leaf's precision is infinite
            numbers = np.broadcast_to(numbers.astype(leaf.dtype).astype(float), leaf.shape)
        _require(k, np.isnan(numbers), f"{name} is NaN; take infinity where there is no bound.")
        spread.append(numbers)
    return spread


def _require(leaf: int, bad: Array, told: str, **numbers: Array) -> None:
    """Raise `ValueError` with the first bad entry's place and numbers."""
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        place = f"entry {[int(i) for i in at]} of leaf {leaf}" if at else f"leaf {leaf}"
        raise ValueError(f"at {place} of x0, " + told.format(**{name: float(x[at]) for name, x in numbers.items()}))


def _flat(parts: list[Any]) -> Any:
    """Arrays as one vector; NumPy's where none is traced."""
    xp: Any = np if is_concrete(parts) else jnp
    return xp.concatenate([xp.zeros(0), *(part.ravel() for part in parts)])
