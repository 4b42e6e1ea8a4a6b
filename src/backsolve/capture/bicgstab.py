"""BiCGStab in JAX, begun anew where it breaks down: for matrices that need not be symmetric, in five vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["bicgstab"]

Product = Callable[[Any], Any]


class _State(NamedTuple):
    x: Any
    rest: Any  # b − A x, as the iteration has it
    shadow: Any  # what further ones are made orthogonal to
    direction: Any
    along: Any  # ⟨shadow, rest⟩
    steps: Any
    fresh: Any  # whether shadow and direction are the rest itself


def bicgstab(product: Product, b: Any, tolerance: float, steps: int) -> Any:
    """Return the x with A x = b, to a residual of ``tolerance`` times b, or as good as so many ``steps`` make it.

    Where rest and shadow have become orthogonal, in single precision after few steps, the iteration begins anew from where
    it is; so it does where its residual has drifted from the true one, as long as that halves.
    Cost: two products a step.
    Source: van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG", 1992.

    Example:
        >>> A = jnp.array([[2.0, 1.0], [0.0, 3.0]])
        >>> bicgstab(lambda x: A @ x, jnp.array([4.0, 6.0]), 1e-6, 10)
        Array([1., 2.], dtype=float32)
    """
    small = tolerance * jnp.linalg.norm(b)
    least = float(np.finfo(b.dtype).eps)

    def begun(x: Any, rest: Any, count: Any) -> _State:
        return _State(x, rest, rest, rest, jnp.vdot(rest, rest), count, jnp.array(True))

    def goes_on(s: _State) -> Any:
        return (jnp.linalg.norm(s.rest) > small) & (s.steps < steps)

    def step(s: _State) -> _State:
        v = product(s.direction)
        alpha = s.along / jnp.vdot(s.shadow, v)
        q = s.rest - alpha * v
        t = product(q)
        square = jnp.vdot(t, t)
        omega = jnp.where(square == 0, 0, jnp.vdot(t, q) / square)
        x, rest = s.x + alpha * s.direction + omega * q, q - omega * t
        along = jnp.vdot(s.shadow, rest)
        direction = rest + along / s.along * alpha / omega * (s.direction - omega * v)
        sound = jnp.isfinite(jnp.linalg.norm(rest))
        lengths = jnp.linalg.norm(s.shadow) * jnp.linalg.norm(rest)
        goes = sound & jnp.isfinite(jnp.linalg.norm(direction)) & (abs(along) > least * lengths)
        on = _State(x, rest, s.shadow, direction, along, s.steps + 1, jnp.array(False))
        anew = begun(jnp.where(sound, x, s.x), jnp.where(sound, rest, s.rest), s.steps + 1)
        anew = anew._replace(steps=jnp.where(sound | ~s.fresh, anew.steps, steps))  # what fails at once fails again
        return _State(*[jnp.where(goes, a, b) for a, b in zip(on, anew, strict=True)])

    def goes_on_outside(state: Any) -> Any:
        _, _, count, norm, before = state
        return (norm > small) & (norm <= 0.5 * before) & (count < steps)

    def again(state: Any) -> Any:
        x, rest, count, norm, _ = state
        s = jax.lax.while_loop(goes_on, step, begun(x, rest, count))
        rest = b - product(s.x)
        after = jnp.linalg.norm(rest)
        better = after < norm
        return jnp.where(better, s.x, x), rest, s.steps, jnp.where(better, after, norm), norm

    norm = jnp.linalg.norm(b)
    start = (jnp.zeros_like(b), b, jnp.array(0), norm, jnp.full_like(norm, jnp.inf))
    return jax.lax.while_loop(goes_on_outside, again, start)[0]
