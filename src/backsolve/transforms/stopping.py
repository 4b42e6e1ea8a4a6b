"""When an iteration stops at a zero: told by values nearby, and by rounding, which is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import namespace
from backsolve.tracing.series import array
from backsolve.transforms.bounds import Box

__all__ = ["Stopping"]

AROUND = 3  # points around x: that an entry of F is nearly the same at all of them by chance is out of the question
ALONG = 8  # points on a line, unevenly spaced, so that their rounding has no pattern
DEGREE = 3  # of the polynomial that is taken from the values there: what it leaves of a smooth function is nothing
SHORT_LINE = 128  # roundings of x that the shorter line is long
DEVIATIONS = 10.0  # beyond any that occur among millions of entries, however roughly rounding is measured


class Stopping:
    """When F(x) is zero: told by F's values near x, entry by entry, and by nothing that F was at the start.

    With h = √tol, and the scale s_j of each unknown (see `scale`):

        F_i vanishes at x:   |F_i(x)| ≤ h · max |F_i(y)|  over points y at distances of about h s from x,
                             or F_i(x) is the rounding of F_i, as measured by what a cubic leaves of it on two lines,
                             of about h s and of a few hundred roundings of x: the less of both;
        a step d is short:   max |d| ≤ h · max s.

    An iteration has converged where all entries vanish and its step is short, or none makes ‖F‖ smaller.  For a simple root
    this says that x is within about tol · s.  Nothing changes where F_i is multiplied by a constant.  Values are
    compared, not derivatives, so that no pole, and no function that levels off, passes for a root.
    ``each`` maps points (k, n) to the values of F (k, m); arrays are NumPy's, or JAX's and traced.
    With a ``box`` all points lie in it: steps that lead out are turned round.
    Cost: 3 evaluations of F, for rounding 16 more.
    Source: Dennis and Schnabel, *Numerical Methods for Unconstrained Optimization and Nonlinear Equations*, 1996, chapter 7
    (scales, and steps besides residuals); Moré and Wild, *Estimating computational noise*, 2011 (by differences).
    """

    def __init__(self, each: Callable[[Any], Any], x0: Any, size: int, tol: float, box: Box | None = None) -> None:
        leaves = map(array, jax.tree_util.tree_leaves(x0))
        self.rounding = 4 * max((float(jnp.finfo(leaf.dtype).eps) for leaf in leaves), default=0.0)  # type: ignore[no-untyped-call]
        self.each = each
        self.box = box
        self.tol = max(tol, self.rounding)  # more is out of reach
        self.h = self.tol**0.5
        rng = np.random.default_rng(0)
        self._directions = rng.choice([-1.0, 1.0], (AROUND, size)) * rng.uniform(0.5, 1, (AROUND, size))
        self._line = (1 - np.cos(np.pi * (np.arange(ALONG) + 0.5) / ALONG)) / 2
        powers = np.vander(self._line, DEGREE + 1)
        self._contrasts = np.linalg.qr(powers, mode="complete").Q[:, DEGREE + 1 :].T  # orthonormal, 0 for any cubic

    def scale(self, x: Any, largest: Any, d: Any) -> Any:
        """The size |x_j| of each unknown after a step d.

        One below tol² of the largest it has been, or below the rounding of a short step, is 0: it has tol of that, or the
        length of the step.
        """
        xp, size, step = namespace(x), abs(x), abs(d).max(initial=0.0)
        step = xp.where(self.short(d, size), step, 0.0)
        zero = size <= xp.maximum(self.tol**2 * largest, self.rounding * step)
        return xp.where(zero, xp.maximum(self.tol * largest, step), size)

    def short(self, d: Any, scale: Any) -> Any:
        """Whether a step is short."""
        return abs(d).max(initial=0.0) <= self.h * scale.max(initial=0.0)

    def near(self, x: Any, value: Any, scale: Any, part: float | None = None) -> Any:
        """Which entries of ``value``, F(x), are small beside those near x: no more than h, or this part, of them."""
        return abs(value) <= (self.h if part is None else part) * _largest(
            self._at(x, self._steps(x, self.h * scale * self._directions))
        )

    def noise(self, x: Any, value: Any, scale: Any) -> Any:
        """Which entries of ``value``, F(x), are no more than rounding, where rounding is small beside F near x."""
        xp, ahead = namespace(x), scale * self._directions[:1]
        ends = (self._steps(x, length * ahead) for length in (self.h, SHORT_LINE * self.rounding))
        both = self._at(x, xp.concatenate([end * self._line[:, None] for end in ends]))
        noise = [self._left_by_cubic(along) for along in (both[:ALONG], both[ALONG:])]
        least = DEVIATIONS * xp.minimum(*noise)  # a kink or a step leaves less on a shorter line, rounding as much
        return (abs(value) <= least) & (least <= _largest(both[:ALONG]))

    def _steps(self, x: Any, steps: Any) -> Any:
        return steps if self.box is None else self.box.turned(x, steps)

    def _at(self, x: Any, steps: Any) -> Any:
        return self.each(x + steps if self.box is None else self.box.clipped(x + steps))

    def _left_by_cubic(self, along: Any) -> Any:
        left = (self._contrasts[..., None] * along).sum(axis=1)  # no matrix product, which may be less exact
        return (abs(left) ** 2).mean(axis=0) ** 0.5


def _largest(values: Any) -> Any:
    """The largest of each column that is a number."""
    xp, size = namespace(values), abs(values)
    return xp.where(xp.isfinite(size), size, 0.0).max(axis=0, initial=0.0)
