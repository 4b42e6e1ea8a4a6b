"""Operators for the edges of one equation: what rules are written with."""

from __future__ import annotations

from typing import Any

from jax import lax

from backsolve.algebra.arrays import Labels
from backsolve.algebra.spaces import ArraySpace
from backsolve.capture.opaque import LinearEquation
from backsolve.operators import Einsum, Identity, LinearOperator, Scaling
from backsolve.operators.einsum import Factor
from backsolve.operators.quotient import Quotient
from backsolve.tracing.jaxpr import Equation, carries_derivatives, number_of

__all__ = ["diagonal", "jointly", "linear", "multiple", "quotient"]

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
    kept = tuple(axis for axis, (m, n) in enumerate(zip(given, shape, strict=True)) if m == n)
    return Factor(lax.squeeze(partial, [axis for axis in range(len(given)) if axis not in kept]), kept)


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


def quotient(eq: Equation, divisor: Any) -> LinearOperator:
    """The edge of an entrywise operation whose derivative is 1 / divisor, an array of the output's shape."""
    return Quotient(divisor, 1, (eq.in_dtype(0), eq.dtype))


def multiple(eq: Equation, k: int, c: Any) -> LinearOperator:
    """The edge X ↦ c X, stretched and cast as the equation does; the identity where nothing is left to do."""
    in_dtype, dtype = eq.in_dtype(k), eq.dtype
    out, into, sizes = _frame(eq, k)
    if out == into and in_dtype == dtype:
        space = ArraySpace(eq.shape, dtype)
        return Identity(space) if c == 1 else Scaling(c, space)
    return Einsum((), out, into, sizes, c, (in_dtype, dtype))


def linear(eq: Equation, k: int, **changed: Any) -> LinearOperator:
    """The edge of an equation that is linear in operand k: the primitive itself, with JAX's own transpose.

    ``changed`` overrides parameters of the primitive.
    """
    operands = [None if a and x is None else x for x, a in zip(eq.inputs, eq.active, strict=True)]
    params = {**eq.params, **changed} if changed else None
    return LinearEquation(eq.eqn, operands, params, moving=k)


def jointly(eq: Equation, k: int) -> LinearOperator:
    """The edge of operand k of an equation linear in its floating-point operands taken together: the others are zero."""
    operands = [None if carries_derivatives(v.aval) else x for v, x in zip(eq.eqn.invars, eq.inputs, strict=True)]
    return LinearEquation(eq.eqn, operands, moving=k)
