"""Entrywise primitives: partial derivatives, one line each.

``UNARY[name](x, y)`` is dy/dx at operand x and result y; ``BINARY[name]`` holds one such function of (a, b, y) for each
operand.  Numbers stand for constant derivatives, tuples of a number and arrays for their product.  Formulas:
Abramowitz & Stegun; ties as in JAX (each side a half).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from backsolve.capture.edges import diagonal, multiple, quotient
from backsolve.operators import LinearOperator
from backsolve.tracing.jaxpr import Equation, number_of

__all__ = [
    "BILINEAR",
    "BINARY",
    "FALLBACK",
    "LINEAR_UNARY",
    "UNARY",
    "ZERO",
    "absolute",
    "integer_power",
    "power",
    "power_base",
    "product",
    "quotient_",
]

FALLBACK: Any = object()  # what a rule returns where JAX's own linearization should serve


def _k(x: Any, c: float) -> Any:
    """The number c in x's dtype; `jax.lax` takes it beside an array and traces faster than `jax.numpy` would."""
    return x.dtype.type(c)


def _full(x: Any, c: float) -> Any:
    return lax.full_like(x, c)


def _chosen(beats: Any, a: Any, b: Any, y: Any) -> Any:
    """1 where a beats b, ½ where they tie, 0 elsewhere.

    The operands are compared with each other.  Compared with the result, an operand that a compiler works out twice, in two
    loops, and rounds differently would be neither of the two: then the derivative would be zero.
    """
    a, b = jnp.broadcast_to(a, y.shape), jnp.broadcast_to(b, y.shape)
    if y.dtype.kind == "c":  # ordered by real, then by imaginary part
        y, a, b = lax.real(y), *(lax.select(lax.eq(lax.real(a), lax.real(b)), lax.imag(x), lax.real(x)) for x in (a, b))
    return lax.select(beats(a, b), _full(y, 1.0), lax.select(lax.eq(a, b), _full(y, 0.5), _full(y, 0.0)))


def _squares(a: Any, b: Any) -> Any:
    return lax.add(lax.mul(a, a), lax.mul(b, b))


def _truncate(x: Any) -> Any:
    return lax.sign(x) * lax.floor(lax.abs(x))


def power_base(x: Any, p: Any, y: Any) -> Any:
    """d(x^p)/dx = p x^(p−1); for integer exponents 0 where p is 0, also at x = 0 (NaN for others), as in JAX."""
    if jnp.issubdtype(jnp.result_type(p), jnp.inexact):
        return jnp.multiply(p, jnp.power(x, p - 1))
    zero = jnp.equal(p, 0)
    slope = jnp.asarray(p, y.dtype) * jnp.power(x, jnp.where(zero, jnp.ones_like(p), p - 1))
    return jnp.where(zero, jnp.zeros_like(y), slope)


def product(eq: Equation, k: int) -> LinearOperator | None:
    """d(ab) = b da + a db.

    A square has one edge, 2a, whose 2 stays a number: as an array a + a would be one more reader of a, and XLA works out a
    cheap-looking a (a sine, say) again in every loop that reads it.
    """
    a, b = eq.eqn.invars
    if a is not b:
        return diagonal(eq, k, eq.inputs[1 - k])
    return diagonal(eq, k, (2, eq.inputs[k])) if k == 0 else None


def integer_power(eq: Equation, k: int) -> LinearOperator:
    """d(xⁿ) = n xⁿ⁻¹ dx."""
    x, n = eq.inputs[0], eq.params["y"]
    return (
        multiple(eq, k, 0)
        if n == 0
        else diagonal(eq, k, lax.mul(x.dtype.type(n), x if n == 2 else lax.integer_pow(x, n - 1)))
    )


def quotient_(eq: Equation, k: int) -> LinearOperator:
    """d(a/b) = da/b − a/b² db, with 1/b worked out once."""
    b = eq.inputs[1]
    number = number_of(b)
    if number is not None and number != 0:
        return diagonal(eq, k, 1 / number)
    if not eq.active[1] and eq.in_shape(0) == eq.in_shape(1) == eq.shape:
        return quotient(eq, b)
    if "1/b" not in eq.shared:
        eq.shared["1/b"] = lax.div(b.dtype.type(1), b)
    r = eq.shared["1/b"]
    return diagonal(eq, k, r if k == 0 else (-1, eq.output, r))


def power(eq: Equation, k: int) -> LinearOperator | None:
    """d(x^p) = p x^(p−1) dx where p is fixed."""
    if eq.active[1]:
        return FALLBACK  # type: ignore[no-any-return]
    return diagonal(eq, k, power_base(eq.inputs[0], eq.inputs[1], eq.output))


def absolute(eq: Equation, k: int) -> LinearOperator | None:
    """d|x| = ±dx of a real x, + at 0."""
    if eq.in_dtype(k).kind == "c":
        return FALLBACK  # type: ignore[no-any-return]
    x = eq.inputs[0]
    return diagonal(eq, k, lax.select(lax.ge(x, x.dtype.type(0)), lax.full_like(x, 1), lax.full_like(x, -1)))


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "sin": lambda x, y: lax.cos(x),
    "cos": lambda x, y: (-1, lax.sin(x)),
    "tan": lambda x, y: lax.add(_k(y, 1), lax.mul(y, y)),
    "asin": lambda x, y: lax.rsqrt(lax.sub(_k(x, 1), lax.mul(x, x))),
    "acos": lambda x, y: lax.neg(lax.rsqrt(lax.sub(_k(x, 1), lax.mul(x, x)))),
    "sinh": lambda x, y: lax.cosh(x),
    "cosh": lambda x, y: lax.sinh(x),
    "tanh": lambda x, y: lax.sub(_k(y, 1), lax.mul(y, y)),
    "exp": lambda x, y: y,
    "exp2": lambda x, y: lax.mul(_k(y, math.log(2.0)), y),
    "expm1": lambda x, y: lax.add(y, _k(y, 1)),
    "log1p": lambda x, y: lax.div(_k(x, 1), lax.add(x, _k(x, 1))),
    "sqrt": lambda x, y: lax.div(_k(y, 0.5), y),
    "rsqrt": lambda x, y: lax.mul(_k(y, -0.5), lax.div(y, x)),
    "cbrt": lambda x, y: lax.mul(_k(x, 1 / 3), lax.integer_pow(y, -2)),
    "logistic": lambda x, y: lax.mul(y, lax.sub(_k(y, 1), y)),
    "erf": lambda x, y: lax.mul(_k(x, 2 / math.sqrt(math.pi)), lax.exp(lax.neg(lax.mul(x, x)))),
    "erfc": lambda x, y: lax.mul(_k(x, -2 / math.sqrt(math.pi)), lax.exp(lax.neg(lax.mul(x, x)))),
    "lgamma": lambda x, y: lax.digamma(x),
    "square": lambda x, y: lax.mul(_k(x, 2), x),
}

# Derivatives that do not look at the operand: these serve tangents too.
LINEAR_UNARY: dict[str, int] = {"neg": -1, "copy": 1, "copy_p": 1}

BINARY: dict[str, tuple[Callable[[Any, Any, Any], Any], Callable[[Any, Any, Any], Any]]] = {
    "add": (lambda a, b, y: 1, lambda a, b, y: 1),
    "add_any": (lambda a, b, y: 1, lambda a, b, y: 1),
    "sub": (lambda a, b, y: 1, lambda a, b, y: -1),
    "max": (lambda a, b, y: _chosen(lax.gt, a, b, y), lambda a, b, y: _chosen(lax.gt, b, a, y)),
    "min": (lambda a, b, y: _chosen(lax.lt, a, b, y), lambda a, b, y: _chosen(lax.lt, b, a, y)),
    "atan2": (lambda a, b, y: lax.div(b, _squares(a, b)), lambda a, b, y: lax.div(lax.neg(a), _squares(a, b))),
    "rem": (lambda a, b, y: 1, lambda a, b, y: -_truncate(a / b)),
}

# Operands in which these are linear, so that their rules also serve tangents (whose values are not known).
BILINEAR: dict[str, tuple[int, ...]] = {"add": (0, 1), "add_any": (0, 1), "sub": (0, 1), "mul": (0, 1), "div": (0,)}

# Piecewise constant: no derivative anywhere, as in JAX.
ZERO = frozenset({"floor", "ceil", "round", "sign", "stop_gradient", "nextafter", "is_finite", "population_count", "clz"})
