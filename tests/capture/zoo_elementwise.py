"""Entrywise primitives: at plain points, at edges and ties, repeated operands, broadcasting, complex, integers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.lax import lax as lax_internal

from .oracle import complex_normal, normal, positive, unit
from .zoo_case import Case, case

X = normal(3, 4)
Y = normal(3, 4, seed=1)
P = positive(3, 4)
U = unit(3, 4)
Z = complex_normal(3, 4)
W = complex_normal(3, 4, seed=1)
ROW = normal(1, 4, seed=2)
COLUMN = normal(3, 1, seed=3)
INTS = np.arange(12).reshape(3, 4)
NAN = float("nan")
INF = float("inf")


def _unary(f, x, *, z=Z, more=()):
    """A real case, a scalar, and a complex case unless z is None."""
    cases = [case(f, x), case(f, float(np.ravel(x)[1]))]
    return cases + ([case(f, z)] if z is not None else []) + [case(f, v) for v in more]


def _zero(f, *args):
    """A piecewise constant primitive inside a function that has a derivative."""
    return [case(lambda *a: jnp.asarray(f(*a), a[0].dtype) * a[0], *args), case(f, *args)]


def _compare(f):
    return [case(lambda x, y: jnp.where(f(x, y), x, 2 * y), X, Y), case(lambda x, y: f(x, y) * x, X, ROW)]


def _total(primitive):
    return [case(lambda x, y: jnp.where(primitive.bind(x, y), x * x, y), X, Y)]


def _bits(f):
    return [
        case(lambda x, n: x * f(n, n + 3), X, INTS),
        case(lambda x: x * f((x * 10).astype(int), jnp.asarray(INTS)), X),
    ]


ELEMENTWISE: dict[str, list[Case]] = {
    "neg": _unary(lax.neg, X),
    "sin": _unary(lax.sin, X, more=(np.array([0.0, INF, NAN]),)),
    "cos": _unary(lax.cos, X),
    "tan": _unary(lax.tan, X),
    "asin": _unary(lax.asin, U, more=(np.array([0.0, 1.0, -1.0]),)),
    "acos": _unary(lax.acos, U),
    "atan": _unary(lax.atan, X),
    "sinh": _unary(lax.sinh, X),
    "cosh": _unary(lax.cosh, X),
    "tanh": _unary(lax.tanh, X, more=(np.array([0.0, 400.0, -400.0]),)),
    "asinh": _unary(lax.asinh, X),
    "acosh": _unary(lax.acosh, 1 + P),
    "atanh": _unary(lax.atanh, U),
    "exp": _unary(lax.exp, X, more=(np.array([0.0, 800.0, -800.0]),)),
    "exp2": _unary(lax.exp2, X),
    "expm1": _unary(lax.expm1, X, more=(np.array([1e-12, -40.0]),)),
    "log": _unary(lax.log, P, more=(np.array([0.0, -1.0]),)),
    "log2": [case(jnp.log2, P), case(jnp.log2, Z)],
    "log1p": _unary(lax.log1p, P, more=(np.array([1e-12, -1.0]),)),
    "sqrt": _unary(lax.sqrt, P, more=(np.array([0.0, -1.0]),)),
    "rsqrt": _unary(lax.rsqrt, P, more=(np.array([0.0]),)),
    "cbrt": _unary(lax.cbrt, P, z=None, more=(np.array([0.0, -8.0]),)),
    "logistic": _unary(lax.logistic, X, more=(np.array([900.0, -900.0]),)),
    "square": _unary(lax.square, X),
    "one_minus_square": [case(lambda x: lax_internal.one_minus_square(x), X)],
    "polynomial": [
        case(jnp.polyval, ROW[0], X),
        case(lambda x: lax.polynomial(x, [1.0, 5.0, 2.0]) * x, X),
        case(lambda x, a, b: lax.polynomial(x, [a, b]), X, ROW, COLUMN),
        case(lambda x, c: lax.polynomial(x, list(c)), np.array(0.5), normal(12)),
        case(lambda z, w: lax.polynomial(z, [w, 2 * w, z, w]), Z, W),
    ],
    "abs": [*_unary(lax.abs, X, more=(np.array([0.0, -0.0]),)), case(lax.abs, np.array([0j, 1j]))],
    "sign": [*_zero(lax.sign, X), case(lax.sign, np.array([0.0, -2.0])), case(lax.sign, Z)],
    "floor": _zero(lax.floor, X),
    "ceil": _zero(lax.ceil, X),
    "round": _zero(lax.round, X),
    "is_finite": _zero(lax.is_finite, X),
    "erf": _unary(lax.erf, X, z=None),
    "erfc": _unary(lax.erfc, X, z=None),
    "erf_inv": _unary(lax.erf_inv, U, z=None),
    "lgamma": _unary(lax.lgamma, P, z=None),
    "digamma": _unary(lax.digamma, P, z=None),
    "polygamma": [case(lambda x: lax.polygamma(jnp.full_like(x, 2.0), x), P)],
    "bessel_i0e": _unary(lax.bessel_i0e, X, z=None),
    "bessel_i1e": _unary(lax.bessel_i1e, X, z=None, more=(np.array([0.0]),)),
    "igamma": [case(lambda x: lax.igamma(jnp.asarray(P), x), U), case(lax.igamma, P, U, rtol=1e-8)],
    "igammac": [case(lambda x: lax.igammac(jnp.asarray(P), x), U), case(lax.igammac, P, U, rtol=1e-8)],
    "regularized_incomplete_beta": [case(lambda x: lax.betainc(jnp.asarray(P), jnp.asarray(2 * P), x), U)],
    "real": [case(lax.real, Z), case(lambda z: lax.real(z) * z, Z)],
    "imag": [case(lax.imag, Z), case(lambda z: lax.imag(z) * lax.real(z), Z)],
    "conj": [case(lax.conj, Z), case(lambda z: z * lax.conj(z), Z), case(lax.conj, X)],
    "complex": [case(lax.complex, X, Y), case(lambda x: lax.complex(x, x) ** 2, X)],
    "integer_pow": [
        *(case(lambda x, n=n: lax.integer_pow(x, n), X) for n in (-2, -1, 2, 3, 4, 7)),
        case(lambda x: lax.integer_pow(x, 2), Z),
        case(lambda x: lax.integer_pow(x, 3), np.array([0.0, -1.0])),
        case(lambda x: x**2 * x**3, X),
        case(lambda x: lax.integer_pow(x, -3), Z),
    ],
    "pow": [
        case(lax.pow, P, Y),
        case(lambda x: lax.pow(x, x), P),
        case(lambda x: lax.pow(x, jnp.asarray(Y)), P),
        case(lambda p: lax.pow(jnp.asarray(P), p), Y),
        case(lax.pow, Z, W),
        case(lax.pow, np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0, 0.0])),
        case(lambda x: x ** jnp.array([0.0, 1.0, 2.0, 0.5]), np.zeros(4)),
        case(lambda x: lax.pow(x, jnp.asarray(INTS)), P),
        case(lambda x: lax.pow(x, jnp.asarray(INTS)), np.zeros((3, 4))),
        case(lambda x: x**2.5, P),
        case(lambda x: 0.0**x, np.array([1.0, 0.0, 3.0])),
    ],
    "add": [
        case(lax.add, X, Y),
        case(lambda x: x + x, X),
        case(jnp.add, X, ROW),
        case(jnp.add, COLUMN, ROW),
        case(lambda x: x + 1, X),
        case(lax.add, Z, W),
        case(lambda x, y: x + y, X, 2.0),
        case(lambda x, z: x + z, X, Z),
    ],
    "sub": [case(lax.sub, X, Y), case(lambda x: x - x, X), case(jnp.subtract, ROW, X), case(lambda x: 1 - x, Z)],
    "mul": [
        case(lax.mul, X, Y),
        case(lambda x: x * x, X),
        case(lambda x: x * x * x, Z),
        case(jnp.multiply, X, COLUMN),
        case(jnp.multiply, ROW, COLUMN),
        case(lambda x, n: x * n, X, INTS),
        case(lambda x, b: x * b, X, INTS > 5),
        case(lambda x: 2.0 * x, X.astype(np.float32)),
        case(lambda x, y: x * y, X, np.float32(2)),
        case(lambda x: x * 0, np.array([INF, NAN, 1.0])),
    ],
    "div": [
        case(lax.div, X, P),
        case(lambda x: x / x, X),
        case(lambda x: 1 / x, Z),
        case(jnp.divide, ROW, P),
        case(jnp.divide, X, np.array(2.0)),
        case(lax.div, Z, W),
        case(lax.div, np.array([1.0, 0.0]), np.zeros(2)),
    ],
    "rem": [case(lax.rem, X, P), case(lax.rem, -X * 5, -P), case(lambda x: lax.rem(x, jnp.float64(0.3)), X)],
    "max": [
        case(lax.max, X, Y),
        case(lambda x: lax.max(x, x), X),
        case(lambda x: jnp.maximum(x, 0.0), np.array([0.0, 1.0, -1.0, NAN])),
        case(jnp.maximum, X, ROW),
        case(lax.max, Z, W),
    ],
    "min": [
        case(lax.min, X, Y),
        case(lambda x: lax.min(x, x), X),
        case(lambda x: jnp.minimum(x, 0.0), np.array([0.0, 1.0, -1.0])),
        case(jnp.minimum, X, COLUMN),
        case(lax.min, np.array([NAN, 1.0]), np.array([1.0, NAN])),
    ],
    "atan2": [case(lax.atan2, X, Y), case(lambda x: lax.atan2(x, x), X), case(lax.atan2, np.zeros(2), np.array([0.0, 1.0]))],
    "clamp": [
        case(lax.clamp, -U, X, U),
        case(lambda x: lax.clamp(-0.5, x, 0.5), np.array([-0.5, 0.0, 0.5, 2.0])),
        case(lambda lo, x: lax.clamp(lo, x, jnp.float64(0.5)), 0.2, 0.3),
    ],
    "nextafter": [case(lambda x: lax.nextafter(jnp.asarray(X), jnp.asarray(Y)) * x, X)],
    "select_n": [
        case(lambda x, y: lax.select(x > y, x, y), X, Y),
        case(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0), np.array([-1.0, 0.0, 4.0])),
        case(lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), np.array([-1.0, 0.0, 4.0])),
        case(lambda x: jnp.where(x != 0, x / x, 0.0), np.array([0.0, 2.0])),
        case(lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x), np.array([0.0, 2.0])),
        case(lambda x, y, z: lax.select_n(jnp.asarray(INTS % 3), x, y, z), X, Y, P),
        case(lambda x, y: lax.select(jnp.bool_(True), x, y), X, Y),
        case(lambda x: lax.select(x > 0, x, x), X),
        case(lambda x: jnp.where(jnp.arange(3)[:, None] > 0, x, NAN), X),
        case(lambda z, w: jnp.where(jnp.abs(z) > 1, z, w), Z, W),
    ],
    "convert_element_type": [
        case(lambda x: x.astype(jnp.float32), X),
        case(lambda x: x.astype(float) ** 2, X.astype(np.float32)),
        case(lambda x: x.astype(jnp.bfloat16), X),
        case(lambda x: x.astype(complex), X),
        case(lambda z: z.astype(jnp.complex64), Z),
        case(lambda x: x.astype(int) * x, X),
        case(lambda n: n.astype(float), INTS),
        case(lambda x: (x.astype(bool)).astype(float), X),
        case(lambda z: lax.convert_element_type(z.real, jnp.complex64), Z),
    ],
    "reduce_precision": [
        case(lambda x: lax.reduce_precision(x, 8, 7), X, adjoint=False),  # the rule rounds tangents
        case(lambda x: x * lax.reduce_precision(x, 5, 10), X, adjoint=False),
    ],
    "bitcast_convert_type": [case(lambda x: x * lax.bitcast_convert_type(x, jnp.int64), X)],
    "copy": [case(lambda x: jnp.copy(x) * x, X), case(jnp.copy, Z)],
    "stop_gradient": [
        case(lambda x: x * lax.stop_gradient(x), X),
        case(lax.stop_gradient, X),
        case(lambda z: lax.stop_gradient(z) * z, Z),
    ],
    "add_any": [
        case(lambda x: jax.vjp(lambda v: v * v, x)[1](x)[0], X),
        case(lambda x: jax.vjp(lambda v: jnp.sin(v) * v, x)[1](x)[0], Z),
    ],
    "mulhi": [case(lambda x: x * lax_internal.mulhi_p.bind(jnp.int32(1 << 20), jnp.int32(1 << 20)), X)],
    "eq": [*_compare(lambda x, y: x == y), case(lambda x: jnp.where(x == x, x, 0), np.array([NAN, 1.0]))],
    "ne": [case(lambda x, y: jnp.where(x != y, x, 2 * y), X, Y)],
    "lt": _compare(lambda x, y: x < y),
    "le": _compare(lambda x, y: x <= y),
    "gt": _compare(lambda x, y: x > y),
    "ge": _compare(lambda x, y: x >= y),
    "eq_to": _total(lax_internal.eq_to_p),
    "le_to": _total(lax_internal.le_to_p),
    "lt_to": _total(lax_internal.lt_to_p),
    "and": [*_bits(lax.bitwise_and), case(lambda x: jnp.where((x > 0) & (x < 1), x, x * x), X)],
    "or": [*_bits(lax.bitwise_or), case(lambda x: jnp.where((x < 0) | (x > 1), x, x * x), X)],
    "xor": [*_bits(lax.bitwise_xor), case(lambda x: jnp.where((x < 0) ^ (x > 1), x, x * x), X)],
    "not": [case(lambda x: jnp.where(~(x > 0), x, x * x), X)],
    "shift_left": _bits(lax.shift_left),
    "shift_right_arithmetic": _bits(lax.shift_right_arithmetic),
    "shift_right_logical": _bits(lax.shift_right_logical),
    "population_count": [case(lambda x: x * lax.population_count((x * 10).astype(int)), X)],
    "clz": [case(lambda x: x * lax.clz((x * 10).astype(int)), X)],
}
