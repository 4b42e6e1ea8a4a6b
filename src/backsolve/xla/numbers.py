"""Under `vmap`, a program of small arrays as one of their numbers: each is a row over the points, as all loops then are.

Of small arrays at many points XLA's CPU compiler makes loops over the points and, innermost, over the few entries of one,
which are too short to be vectorised, with index arithmetic for each entry.  Of numbers alone it makes loops over the points,
which are.  Jacobians and Hessians of small arrays, in the time of before (float32, 10,000 points, jaxlib 0.10.2, two cores):
a Runge–Kutta step of two populations 0.09, a quadrotor 0.3, a flux 0.4, an arm of six joints and a camera 0.5, Kepler
orbits 0.6; their compilation takes 0.3 to 2.1 of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of, record_of
from backsolve.tracing.series import MUL_PARAMS, is_spread, staged_number

__all__ = ["FOLDED", "FULL", "HALF", "in_numbers", "is_array", "is_small", "worked_out"]

_LARGEST = 1024  # numbers of an array
_EACH = 7  # numbers an equation, on the average: so much longer the program may become
_ENTRYWISE = (Kind.CHEAP, Kind.SINE, Kind.DEAR)
_MOVES = (Kind.MOVES, Kind.JOINS)
HALF = (jnp.bfloat16, jnp.float16)
FULL = (np.float32, np.float64)
FOLDED: dict[str, Any] = {  # by which operation of two numbers
    "reduce_sum": lax.add_p,
    "reduce_prod": lax.mul_p,
    "reduce_max": lax.max_p,
    "reduce_min": lax.min_p,
    "reduce_and": lax.and_p,
    "reduce_or": lax.or_p,
}

Numbers = np.ndarray[Any, Any]  # of objects: the entries of an array, NumPy's numbers where they are known while tracing
Memo = dict[Any, tuple[Any, Sequence[Any]]]  # what operations make of operands, and these: their `id` stays theirs


def is_small(live: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether a program of these equations is worth taking apart: small arrays, and of nothing but operations on entries."""
    work = 0
    if not all(map(_is_small_array, outputs)):
        return False
    for eqn in live:
        if not all(map(_is_small_array, (*eqn.invars, *eqn.outvars))) or eqn.effects or (count := _count(eqn)) is None:
            return False
        work += count
    return work <= _EACH * len(live)


def is_array(atom: Any) -> bool:
    """Whether an atom is an array of numbers, on one device."""
    aval = atom.aval
    known = hasattr(aval, "shape") and hasattr(aval, "dtype") and not jnp.issubdtype(aval.dtype, jax.dtypes.extended)
    return known and not is_spread(aval)


def _is_small_array(atom: Any) -> bool:
    return is_array(atom) and prod(atom.aval.shape) <= _LARGEST


def _count(eqn: Any) -> int | None:
    """Operations on numbers that an equation becomes; None where it is no operation on entries."""
    name = eqn.primitive.name
    kind = kind_of(name)
    if kind in _MOVES or name == "iota":
        return None if record_of(name).evaluate is None else 0
    if len(eqn.outvars) != 1:
        return None
    out = eqn.outvars[0].aval
    size: int = prod(out.shape)
    if name in FOLDED or eqn.primitive is lax.dot_general_p:
        sizes: list[int] = [prod(v.aval.shape) for v in eqn.invars]
        if 0 in sizes or out.dtype in HALF or any(v.aval.dtype != out.dtype for v in eqn.invars):
            return None  # sums of half precision are added up in single precision
        if name in FOLDED:
            return sizes[0]
        (summed, _), _ = eqn.params["dimension_numbers"]
        summands: int = prod(eqn.invars[0].aval.shape[k] for k in summed)
        return 2 * size * summands
    if kind in _ENTRYWISE and np.broadcast_shapes(*(v.aval.shape for v in eqn.invars)) == out.shape:
        return size
    return None


def in_numbers(jaxpr: Any, live: Sequence[Any], consts: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """The numbers of all outputs of a program that `is_small`, one after the other.

    Rounding aside they are those of the program: sums are added up from the first to the last, as XLA's loops do.
    """
    given = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arrays), strict=True))
    values: dict[Any, Numbers] = {}
    memo: Memo = {}

    def read(atom: Any) -> Numbers:
        if jx.is_literal(atom):
            return _apart(jx.literal_value(atom), atom.aval)
        if atom not in values:  # an argument or a constant, read for the first time
            values[atom] = _apart(given[atom], atom.aval)
        return values[atom]

    for eqn in live:
        with jx.equation_context(eqn):
            values.update(zip(eqn.outvars, _evaluated(eqn, list(map(read, eqn.invars)), memo), strict=True))
    return [x for v in jaxpr.outvars for x in read(v).ravel()]


def _apart(x: Any, aval: Any) -> Numbers:
    """The entries of an array."""
    if not jx.is_traced(x):
        known = np.asarray(x, aval.dtype)
        return _array(list(known.ravel()), aval.shape)
    if not aval.shape:
        return _array([x], ())
    row = lax.reshape(x, (prod(aval.shape),))
    return _array([lax.squeeze(lax.slice_in_dim(row, i, i + 1), (0,)) for i in range(row.size)], aval.shape)


def _array(entries: Sequence[Any], shape: tuple[int, ...]) -> Numbers:
    """An array of objects, none of which NumPy looks into."""
    out = np.empty(len(entries), object)
    for i, entry in enumerate(entries):
        out[i] = entry
    return out.reshape(shape)


def _evaluated(eqn: Any, operands: list[Numbers], memo: Memo) -> Sequence[Numbers]:
    """The outputs of an equation."""
    name, params = eqn.primitive.name, eqn.params
    evaluate = record_of(name).evaluate
    if name == "iota":
        known = evaluate(params) if evaluate is not None else None
        return [_apart(known, eqn.outvars[0].aval)]
    if kind_of(name) in _MOVES and evaluate is not None:
        moved = evaluate(params, *operands)
        return moved if eqn.primitive.multiple_results else [moved]
    if name in FOLDED:
        axes = params["axes"]
        return [_folded(FOLDED[name], np.moveaxis(operands[0], axes, range(len(axes))), len(axes), memo)]
    if eqn.primitive is lax.dot_general_p:
        return [_product(params["dimension_numbers"], operands[0], operands[1], memo)]
    out = eqn.outvars[0].aval
    together = zip(*(np.broadcast_to(x, out.shape).ravel() for x in operands), strict=True)
    return [_array([_number(eqn.primitive, params, out.dtype, numbers, memo) for numbers in together], out.shape)]


def _folded(operation: Any, x: Numbers, axes: int, memo: Memo) -> Numbers:
    """The first axes of an array by one operation of two numbers after the other."""
    params = MUL_PARAMS if operation is lax.mul_p else {}
    first, *others = x.reshape(-1, *x.shape[axes:])
    total = list(first.ravel())
    for other in others:
        total = [_number(operation, params, a.dtype, (a, b), memo) for a, b in zip(total, other.ravel(), strict=True)]
    return _array(total, first.shape)


def _product(numbers: Any, a: Numbers, b: Numbers, memo: Memo) -> Numbers:
    """A product of two arrays: `lax.dot_general`."""
    (summed_a, summed_b), (batch_a, batch_b) = numbers
    free_a = [k for k in range(a.ndim) if k not in summed_a and k not in batch_a]
    free_b = [k for k in range(b.ndim) if k not in summed_b and k not in batch_b]
    a, b = a.transpose(*summed_a, *batch_a, *free_a), b.transpose(*summed_b, *batch_b, *free_b)
    ways = len(summed_a)
    batch = a.shape[ways : ways + len(batch_a)]
    rows, columns = a.shape[ways + len(batch_a) :], b.shape[ways + len(batch_b) :]
    a = a.reshape(-1, *batch, *rows, *(1,) * len(columns))
    b = b.reshape(-1, *batch, *(1,) * len(rows), *columns)
    a, b = np.broadcast_arrays(a, b)
    terms = [_number(lax.mul_p, MUL_PARAMS, x.dtype, (x, y), memo) for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    return _folded(lax.add_p, _array(terms, a.shape), 1, memo)


def worked_out(name: str, params: Any, dtype: Any, operands: Sequence[Any]) -> np.ndarray[Any, Any] | None:
    """What an operation makes of constants; None where NumPy does not know it."""
    evaluate = record_of(name).evaluate
    if evaluate is None:
        return None
    with np.errstate(all="ignore"):  # XLA warns of nothing either
        value = evaluate(params, *map(np.asarray, operands))
    return None if value is NotImplemented else np.asarray(value, dtype)


def _is_known(x: Any) -> bool:
    return isinstance(x, np.generic)


def _number(operation: Any, params: Any, dtype: Any, operands: Sequence[Any], memo: Memo) -> Any:
    """One number by an operation on others; zeros and ones that are known while tracing are neither added nor multiplied.

    A product with a zero stays: of what is not finite it is NaN.  What the ``memo`` holds is not made again.
    """
    name = operation.name
    known = list(map(_is_known, operands))
    if all(known):
        value = worked_out(name, params, dtype, operands)
        if value is not None:
            return value[()]
    elif any(known) and name in ("add", "add_any", "sub", "mul") and not jnp.issubdtype(dtype, np.complexfloating):
        one, other = operands
        neutral = 1 if name == "mul" else 0
        if known[1] and other == neutral and one.dtype == dtype:
            return one
        if known[0] and one == neutral and other.dtype == dtype and name != "sub":
            return other
    said = [(x.dtype, x.tobytes()) if is_known else id(x) for x, is_known in zip(operands, known, strict=True)]
    key = (name, dtype, *params.items(), *said)
    if key not in memo:
        memo[key] = staged_number(operation, params, dtype, operands), operands
    return memo[key][0]
