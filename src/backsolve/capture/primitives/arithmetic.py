"""Entrywise primitives by their partial derivatives, most of them a line; products of arrays, and sums along axes.

Numbers stand for constant derivatives, tuples of a number and arrays for their product.  Formulas: Abramowitz & Stegun;
ties as in JAX (each side a half).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.algebra.arrays import Labels
from backsolve.algebra.spaces import ArraySpace
from backsolve.capture import index_maps
from backsolve.capture.batch_axes import all_but
from backsolve.capture.folding import known_value
from backsolve.capture.index_maps import moved
from backsolve.capture.opaque import jointly, linear
from backsolve.operators import Einsum, Identity, LinearOperator, Scaling
from backsolve.operators.einsum import Factor, quotient
from backsolve.sparse.pattern import Pattern, transposed
from backsolve.tracing.jaxpr import FALLBACK, Edge, Equation, Kind, Primitive, as_array, each, is_traced, number_of, unknown

__all__ = ["CONTRACTION", "ELEMENTWISE", "REDUCTION", "diagonal", "multiple"]


# ---- entrywise edges ---------------------------------------------------------------------------------------------------
_LABELS = tuple(tuple(range(n)) for n in range(33))


def _frame(eq: Equation, k: int) -> tuple[Labels, Labels, dict[int, int | None]]:
    """Labels of output and operand k where size-1 axes of the operand are stretched, as lax's binary operations do."""
    shape, in_shape = eq.shape, eq.in_shape(k)
    n = len(shape)
    out = _LABELS[n]
    sizes: dict[int, int | None] = dict(zip(out, shape, strict=True))
    if in_shape == shape:
        return out, out, sizes
    if not in_shape:
        return out, (), sizes
    into = []
    for axis, (m, size) in enumerate(zip(in_shape, shape, strict=True)):
        if m == size:
            into.append(axis)
        else:
            into.append(n + axis)
            sizes[n + axis] = m
    return out, tuple(into), sizes


def _factor(partial: Any, out: Labels, shape: tuple[int, ...]) -> Factor:
    """The partial derivative as a factor, its stretched axes dropped."""
    given = tuple(partial.shape)
    if given == shape:
        return Factor(partial, out)
    if not given:
        return Factor(partial, ())
    axes = tuple(axis for axis, (m, n) in enumerate(zip(given, shape, strict=True)) if m == n)
    gone = [axis for axis in range(len(given)) if axis not in axes]
    if is_traced(partial):
        return Factor(lax.squeeze(partial, gone), axes)
    with jax.ensure_compile_time_eval():  # what is known stays so
        return Factor(lax.squeeze(partial, gone), axes)


def diagonal(eq: Equation, k: int, partial: Any) -> LinearOperator:
    """The edge of an entrywise operation: multiplication by the partial derivative.

    That is an array, a number, or a tuple of a number and arrays whose product it is.  A boolean array selects.
    """
    number = None if isinstance(partial, tuple) else number_of(partial)
    if number is not None:
        return multiple(eq, k, number)
    coef: complex = 1
    arrays = []
    for part in partial if isinstance(partial, tuple) else (partial,):
        number = number_of(part)
        if number is None:
            arrays.append(part)
        else:
            coef = coef * number
    out, into, sizes = _frame(eq, k)
    factors = tuple([_factor(array, out, eq.shape) for array in arrays])
    return Einsum(factors, out, into, sizes, coef, (eq.in_dtype(k), eq.dtype))


def _divided(eq: Equation, divisor: Any) -> LinearOperator:
    """The edge of an entrywise operation whose derivative is 1 / divisor, an array of the output's shape."""
    return quotient(divisor, 1, (eq.in_dtype(0), eq.dtype))


def multiple(eq: Equation, k: int, c: Any) -> LinearOperator:
    """The edge X ↦ c X, stretched and cast as the equation does; the identity where nothing is left to do."""
    in_dtype, dtype = eq.in_dtype(k), eq.dtype
    out, into, sizes = _frame(eq, k)
    if out == into and in_dtype == dtype:
        space = ArraySpace(eq.shape, dtype)
        return Identity(space) if c == 1 else Scaling(c, space)
    return Einsum((), out, into, sizes, c, (in_dtype, dtype))


# ---- partial derivatives -----------------------------------------------------------------------------------------------
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


def _power_base(x: Any, p: Any, y: Any) -> Any:
    """d(x^p)/dx = p x^(p−1); for integer exponents 0 where p is 0, also at x = 0 (NaN for others), as in JAX."""
    if jnp.issubdtype(jnp.result_type(p), jnp.inexact):
        return jnp.multiply(p, jnp.power(x, p - 1))
    zero = jnp.equal(p, 0)
    slope = jnp.asarray(p, y.dtype) * jnp.power(x, jnp.where(zero, jnp.ones_like(p), p - 1))
    return jnp.where(zero, jnp.zeros_like(y), slope)


def _product(eq: Equation, k: int) -> LinearOperator | None:
    """d(ab) = b da + a db.

    A square has one edge, 2a, whose 2 stays a number: as an array a + a would be one more reader of a, and XLA works out a
    cheap-looking a (a sine, say) again in every loop that reads it.
    """
    a, b = eq.eqn.invars
    if a is not b:
        return diagonal(eq, k, eq.inputs[1 - k])
    return diagonal(eq, k, (2, eq.inputs[k])) if k == 0 else None


def _integer_power(eq: Equation, k: int) -> LinearOperator:
    """d(xⁿ) = n xⁿ⁻¹ dx."""
    x, n = eq.inputs[0], eq.params["y"]
    return (
        multiple(eq, k, 0)
        if n == 0
        else diagonal(eq, k, lax.mul(x.dtype.type(n), x if n == 2 else lax.integer_pow(x, n - 1)))
    )


def _quotient(eq: Equation, k: int) -> LinearOperator:
    """d(a/b) = da/b − a/b² db, with 1/b worked out once."""
    b = eq.inputs[1]
    number = number_of(b)
    if number is not None and number != 0:
        return diagonal(eq, k, 1 / number)
    if not eq.active[1] and eq.in_shape(0) == eq.in_shape(1) == eq.shape:
        return _divided(eq, b)
    if "1/b" not in eq.shared:
        eq.shared["1/b"] = lax.div(b.dtype.type(1), b)
    r = eq.shared["1/b"]
    return diagonal(eq, k, r if k == 0 else (-1, eq.output, r))


def _area_cosine(eq: Equation, k: int) -> LinearOperator:
    """Of complex numbers JAX's own, which takes another branch since JAX 0.12."""
    x = eq.inputs[0]
    return FALLBACK if eq.in_dtype(k).kind == "c" else diagonal(eq, k, lax.rsqrt(lax.sub(lax.mul(x, x), _k(x, 1))))


def _power(eq: Equation, k: int) -> LinearOperator | None:
    """d(x^p) = p x^(p−1) dx where p is fixed; where p is known to be 0, as in the orders of a reaction, it is no entry.

    Where x is fixed, log(x) x^p dp, and 0 for x = 0.
    """
    if all(eq.active):
        return FALLBACK  # type: ignore[no-any-return]
    if k == 1:
        x = jnp.asarray(eq.inputs[0], eq.in_dtype(0))
        return diagonal(eq, k, (lax.log(lax.select(lax.eq(x, lax.full_like(x, 0)), lax.full_like(x, 1), x)), eq.output))
    slope = _power_base(eq.inputs[0], eq.inputs[1], eq.output)
    exponents = known_value(eq.inputs[1])
    if exponents is None or not exponents.ndim or exponents.all():
        return diagonal(eq, k, slope)
    ones = np.broadcast_to((exponents != 0).astype(eq.dtype), eq.shape)  # no mask: 0⁰ has JAX's NaN in an array
    return diagonal(eq, k, (slope, ones))


def _polynomial(eq: Equation, k: int) -> LinearOperator:
    """c₀ + c₁x + c₂x² + …, of operands x, c₀, c₁, …: in x the polynomial with coefficients n cₙ, in cₙ the power xⁿ."""
    x, *coefs = eq.inputs
    if k:
        return diagonal(eq, k, lax.integer_pow(x, k - 1) if k > 1 else 1)
    slopes = [lax.mul(_k(c, n), c) for n, c in enumerate(coefs)][1:]
    return diagonal(eq, 0, eq.evaluate(x, *slopes)[0] if len(slopes) > 1 else slopes[0])


def _absolute(eq: Equation, k: int) -> LinearOperator | None:
    """d|x| = ±dx of a real x, + at 0."""
    if eq.in_dtype(k).kind == "c":
        return FALLBACK  # type: ignore[no-any-return]
    x = eq.inputs[0]
    return diagonal(eq, k, lax.select(lax.ge(x, x.dtype.type(0)), lax.full_like(x, 1), lax.full_like(x, -1)))


def _no_edge(eq: Equation, k: int) -> None:
    """Piecewise constant: no derivative anywhere, as in JAX."""
    return


def _sign(eq: Equation, k: int) -> LinearOperator | None:
    """None of a real number; z / |z| of a complex one has the derivative that JAX says (0 before JAX 0.12)."""
    return FALLBACK if eq.in_dtype(k).kind == "c" else None


# ---- of known numbers, in NumPy, as XLA rounds them ---------------------------------------------------------------------
def _divide(a: Any, b: Any) -> Any:
    """Division, of integers towards zero, as XLA's; NumPy leaves theirs by zero to itself."""
    if a.dtype.kind == "f":
        return a / b
    if not np.all(b):
        return NotImplemented
    return (np.abs(a) // np.abs(b)) * np.sign(a) * np.sign(b) if a.dtype.kind == "i" else a // b


def _squared(params: dict[str, Any], x: Any) -> Any:
    return np.square(x) if params["y"] == 2 else NotImplemented


def _rounded(params: dict[str, Any], x: Any) -> Any:
    if params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN:
        return np.round(x)
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def _remainder(a: Any, b: Any) -> Any:
    return np.fmod(a, b) if a.dtype.kind == "f" or np.all(b) else NotImplemented


# ---- the records -------------------------------------------------------------------------------------------------------
def _unary(partial: Callable[[Any, Any], Any], kind: Kind = Kind.DEAR) -> Primitive:
    """An operation on x with the result y, by dy/dx as a function of these two."""
    return Primitive(lambda eq, k: diagonal(eq, k, partial(eq.inputs[0], eq.output)), kind=kind)


def _binary(*partials: Callable[[Any, Any, Any], Any], kind: Kind = Kind.CHEAP, evaluate: Any = None) -> Primitive:
    """An operation on a and b with the result y, by ∂y/∂a and ∂y/∂b as functions of these three."""

    def edge(eq: Equation, k: int) -> LinearOperator:
        return diagonal(eq, k, partials[k](eq.inputs[0], eq.inputs[1], eq.output))

    return Primitive(edge, kind=kind, evaluate=evaluate)


def _scaled(function: Callable[..., Any], *coefs: int, index_map: Any = None) -> Primitive:
    """A sum of its operands, each times a number."""
    return Primitive(lambda eq, k: multiple(eq, k, coefs[k]), None, Kind.CHEAP, each(function), index_map)


def _seen_as(params: dict[str, Any], x: Any) -> Any:
    """The bits of numbers as numbers of another type, of as many bits each."""
    dtype = np.dtype(params["new_dtype"])
    return np.asarray(x).view(dtype) if dtype.itemsize == x.dtype.itemsize else NotImplemented


def _zero(function: Callable[..., Any] | None = None) -> Primitive:
    return Primitive(_no_edge, None, Kind.CHEAP, function and each(function), constant=lambda eqn: True)


def _cheap(function: Callable[..., Any], edge: Edge = unknown, linear: tuple[int, ...] = ()) -> Primitive:
    return Primitive(edge, linear, Kind.CHEAP, each(function))


ELEMENTWISE: dict[str, Primitive] = {
    "sin": _unary(lambda x, y: lax.cos(x), Kind.SINE),
    "cos": _unary(lambda x, y: (-1, lax.sin(x)), Kind.SINE),
    "tan": _unary(lambda x, y: lax.add(_k(y, 1), lax.mul(y, y)), Kind.SINE),
    "asin": _unary(lambda x, y: lax.rsqrt(lax.sub(_k(x, 1), lax.mul(x, x)))),
    "acos": _unary(lambda x, y: lax.neg(lax.rsqrt(lax.sub(_k(x, 1), lax.mul(x, x))))),
    "atan": _unary(lambda x, y: lax.div(_k(x, 1), lax.add(_k(x, 1), lax.mul(x, x)))),
    "sinh": _unary(lambda x, y: lax.cosh(x)),
    "cosh": _unary(lambda x, y: lax.sinh(x)),
    "tanh": _unary(lambda x, y: lax.sub(_k(y, 1), lax.mul(y, y))),
    "asinh": _unary(lambda x, y: lax.rsqrt(lax.add(lax.mul(x, x), _k(x, 1)))),
    "acosh": Primitive(_area_cosine, kind=Kind.DEAR),
    "atanh": _unary(lambda x, y: lax.div(lax.reciprocal(lax.add(_k(x, 1), x)), lax.sub(_k(x, 1), x))),
    "exp": _unary(lambda x, y: y),
    "exp2": _unary(lambda x, y: lax.mul(_k(y, math.log(2.0)), y)),
    "expm1": _unary(lambda x, y: lax.add(y, _k(y, 1))),
    "log": Primitive(lambda eq, k: _divided(eq, eq.inputs[0]), kind=Kind.DEAR),
    "log2": Primitive(lambda eq, k: _divided(eq, lax.mul(eq.inputs[0], _k(eq.inputs[0], math.log(2.0)))), kind=Kind.DEAR),
    "log1p": _unary(lambda x, y: lax.div(_k(x, 1), lax.add(x, _k(x, 1)))),
    "sqrt": replace(_unary(lambda x, y: lax.div(_k(y, 0.5), y)), evaluate=each(np.sqrt)),
    "rsqrt": _unary(lambda x, y: lax.mul(_k(y, -0.5), lax.div(y, x))),
    "cbrt": _unary(lambda x, y: lax.mul(_k(x, 1 / 3), lax.integer_pow(y, -2))),
    "logistic": _unary(lambda x, y: lax.mul(y, lax.sub(_k(y, 1), y))),
    "erf": _unary(lambda x, y: lax.mul(_k(x, 2 / math.sqrt(math.pi)), lax.exp(lax.neg(lax.mul(x, x))))),
    "erfc": _unary(lambda x, y: lax.mul(_k(x, -2 / math.sqrt(math.pi)), lax.exp(lax.neg(lax.mul(x, x))))),
    "erf_inv": _unary(lambda x, y: lax.mul(_k(x, math.sqrt(math.pi) / 2), lax.exp(lax.mul(y, y)))),
    "lgamma": _unary(lambda x, y: lax.digamma(x)),
    "square": replace(_unary(lambda x, y: lax.mul(_k(x, 2), x), Kind.CHEAP), evaluate=each(np.square)),
    "one_minus_square": _unary(lambda x, y: lax.mul(_k(x, -2), x), Kind.CHEAP),
    "polynomial": Primitive(_polynomial, range(1, sys.maxsize), kind=Kind.DEAR),
    "integer_pow": Primitive(_integer_power, kind=Kind.CHEAP, evaluate=_squared),
    "pow": Primitive(_power, kind=Kind.DEAR),
    "abs": _cheap(np.abs, _absolute),
    "neg": _scaled(np.negative, -1),
    "copy": _scaled(np.asarray, 1, index_map=moved),
    "copy_p": _scaled(np.asarray, 1, index_map=moved),
    "add": _scaled(np.add, 1, 1),
    "add_any": _scaled(np.add, 1, 1),
    "sub": _scaled(np.subtract, 1, -1),
    "mul": replace(_cheap(np.multiply, _product, (0, 1)), bilinear=True),
    "div": Primitive(_quotient, (0,), Kind.DEAR, each(_divide)),
    "rem": _binary(lambda a, b, y: 1, lambda a, b, y: -_truncate(a / b), kind=Kind.DEAR, evaluate=each(_remainder)),
    "max": _binary(
        lambda a, b, y: _chosen(lax.gt, a, b, y), lambda a, b, y: _chosen(lax.gt, b, a, y), evaluate=each(np.maximum)
    ),
    "min": _binary(
        lambda a, b, y: _chosen(lax.lt, a, b, y), lambda a, b, y: _chosen(lax.lt, b, a, y), evaluate=each(np.minimum)
    ),
    "atan2": _binary(
        lambda a, b, y: lax.div(b, _squares(a, b)), lambda a, b, y: lax.div(lax.neg(a), _squares(a, b)), kind=Kind.DEAR
    ),
    "real": Primitive(linear, (0,), Kind.CHEAP),
    "imag": Primitive(linear, (0,), Kind.CHEAP),
    "complex": Primitive(jointly, (0, 1), Kind.CHEAP),
    "conj": Primitive(kind=Kind.CHEAP),
    "reduce_precision": Primitive(linear, (0,), Kind.CHEAP),
    "sign": Primitive(_sign, None, Kind.CHEAP, each(np.sign), constant=lambda eqn: eqn.invars[0].aval.dtype.kind != "c"),
    "stop_gradient": _zero(np.asarray),
    "floor": _zero(np.floor),
    "ceil": _zero(np.ceil),
    "bitcast_convert_type": Primitive(evaluate=_seen_as),
    "round": replace(_zero(), evaluate=_rounded),
    "nextafter": Primitive(lambda eq, k: multiple(eq, k, 1) if k == 0 else None, (0,), Kind.CHEAP),  # as JAX since 0.12
    **dict.fromkeys(("is_finite", "population_count", "clz"), _zero()),
    "eq": _cheap(np.equal),
    "ne": _cheap(np.not_equal),
    "lt": _cheap(np.less),
    "le": _cheap(np.less_equal),
    "gt": _cheap(np.greater),
    "ge": _cheap(np.greater_equal),
    "and": _cheap(np.bitwise_and),
    "or": _cheap(np.bitwise_or),
    "xor": _cheap(np.bitwise_xor),
    "not": _cheap(np.invert),
    "clamp": _cheap(lambda low, x, high: np.minimum(np.maximum(x, low), high)),
}


def _dot_general(eq: Equation, k: int) -> LinearOperator:
    """The edge of operand k of a contraction: an `Einsum` whose one factor is the other operand.

    With a precision that changes something, a sharding or an accumulation dtype of its own, the primitive itself.
    """
    params, other = eq.params, as_array(eq.inputs[1 - k], eq.eqn.invars[1 - k].aval)
    plain = _is_usual(params.get("precision"), eq.dtype) and params.get("out_sharding") is None
    if not plain or other.dtype != eq.in_dtype(k) or eq.dtype != eq.in_dtype(k):
        return linear(eq, k)
    (contract_l, contract_r), (batch_l, batch_r) = params["dimension_numbers"]
    left, right, out = _dot_labels(len(eq.in_shape(0)), len(eq.in_shape(1)), contract_l, contract_r, batch_l, batch_r)
    into, fixed = (left, right) if k == 0 else (right, left)
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    sizes |= dict(zip(fixed, other.shape, strict=True))
    return Einsum((Factor(other, fixed, given=True),), out, into, sizes, 1, (eq.in_dtype(k), eq.dtype))


def _is_usual(precision: Any, dtype: Any) -> bool:
    """Whether products are computed as without this precision: a CPU and double precision know but one of JAX's three."""
    if precision is None:
        return True
    named = all(isinstance(p, lax.Precision) for p in (precision if isinstance(precision, tuple) else (precision,)))
    return named and (dtype in (np.float64, np.complex128) or (dtype.itemsize >= 4 and jax.default_backend() == "cpu"))


def _product_axes(eq: Equation, k: int) -> dict[int, int]:
    contract, batch = eq.params["dimension_numbers"]
    *operands, out = _dot_labels(len(eq.in_shape(0)), len(eq.in_shape(1)), *contract, *batch)
    return {a: out.index(label) for a, label in enumerate(operands[k]) if label in out}


def _kernel_size(eqn: Any) -> float:
    """Entries of the kernel for each entry of a convolution."""
    shape = eqn.invars[1].aval.shape
    return float(prod(shape) / max(shape[eqn.params["dimension_numbers"].rhs_spec[0]], 1))


def _dot_labels(
    rank_l: int, rank_r: int, contract_l: Any, contract_r: Any, batch_l: Any, batch_r: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Labels of the two operands and the result of a contraction: batch, free left, free right."""
    left = list(range(rank_l))
    right = list(range(rank_l, rank_l + rank_r))
    for i, j in zip((*contract_l, *batch_l), (*contract_r, *batch_r), strict=True):
        right[j] = left[i]
    free_l = [left[i] for i in range(rank_l) if i not in contract_l and i not in batch_l]
    free_r = [right[j] for j in range(rank_r) if j not in contract_r and j not in batch_r]
    return tuple(left), tuple(right), (*(left[i] for i in batch_l), *free_l, *free_r)


CONTRACTION: dict[str, Primitive] = {
    "dot_general": Primitive(_dot_general, (0, 1), axes=_product_axes, bilinear=True),
    "conv_general_dilated": Primitive(linear, (0, 1), work=_kernel_size, pattern=index_maps.convolved, bilinear=True),
}


def _reduce_sum(eq: Equation, k: int) -> LinearOperator:
    """Labels only in the operand are summed."""
    if eq.params.get("out_sharding") is not None:
        return linear(eq, k)
    axes = eq.params["axes"]
    into = tuple(range(len(eq.in_shape(k))))
    out = tuple(axis for axis in into if axis not in axes)
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    return Einsum((), out, into, sizes, 1, (eq.dtype, eq.dtype))


def _windows(eqn: Any, k: int) -> Pattern | None:
    return index_maps.windows(eqn.params, eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape) if k == 0 else None


def _from_windows(eqn: Any, k: int) -> Pattern | None:
    """What is added at one entry of each window."""
    shapes = eqn.outvars[0].aval.shape, eqn.invars[0].aval.shape
    return transposed(index_maps.windows(eqn.params, *shapes))[0] if k == 0 else None


def _transform_axes(eq: Equation, k: int) -> dict[int, int]:
    return {a: a for a in range(len(eq.shape) - len(eq.params["fft_lengths"]))}


def _solved_axes(eq: Equation, k: int) -> dict[int, int]:
    """Of the right-hand sides, the last operand: the batch, and which of them it is."""
    axes = len(eq.shape)
    sides = axes - 1 if eq.params.get("left_side", True) else axes - 2
    return {a: a for a in (*range(axes - 2), sides)} if k == len(eq.active) - 1 else {}


def _extreme(function: Callable[..., Any]) -> Primitive:
    """A maximum or minimum along axes."""
    return Primitive(evaluate=lambda p, x: function(x, axis=tuple(p["axes"])) if x.size else NotImplemented)


REDUCTION: dict[str, Primitive] = {
    "reduce_max": _extreme(np.max),
    "reduce_min": _extreme(np.min),
    "reduce_sum": Primitive(_reduce_sum, (0,), Kind.REDUCES),
    "reduce_window_sum": Primitive(linear, (0,), index_map=index_maps.window_sum),
    "cumsum": Primitive(linear, (0,), index_map=index_maps.running_sum, axes=all_but("axis")),
    "select_and_gather_add": Primitive(pattern=_windows),
    "select_and_scatter_add": Primitive(pattern=_from_windows),
    "fft": Primitive(linear, (0,), axes=_transform_axes),
    "triangular_solve": Primitive(axes=_solved_axes),
    "tridiagonal_solve": Primitive(axes=_solved_axes),
}
