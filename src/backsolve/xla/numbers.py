"""Under `vmap`, a program of small arrays as one of their numbers: each is a row over the points, as all loops then are.

Of small arrays at many points XLA's CPU compiler makes loops over the points and, innermost, over the few entries of one,
which are too short to be vectorised, with index arithmetic for each entry.  Of numbers alone it makes loops over the points,
which are.  Jacobians and Hessians of small arrays, in the time of before (float32, 10,000 points, jaxlib 0.10.2, two cores):
a Runge–Kutta step of two populations 0.09, a quadrotor 0.3, a flux 0.4, an arm of six joints and a camera 0.5, Kepler
orbits 0.6; their compilation takes 0.3 to 2.1 of the time.  Gathers and scatters at places that are known
(`x.at[3:7].set(y)`) are moves and sums: a quadrotor of such lines 0.2 at 1,000 and 10,000 points, and 0.5 to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf, prod
from operator import or_
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, kind_of, record_of
from backsolve.tracing.series import MUL_PARAMS, is_spread, staged_number
from backsolve.tracing.windows import window_of

__all__ = ["FOLDED", "FULL", "HALF", "in_numbers", "is_array", "is_small", "numbers_left", "tangent_numbers", "worked_out"]

_LARGEST = 1024  # numbers of an array
_EACH = 6  # numbers an equation, on the average: so much longer the program may become
_ENTRYWISE = (Kind.CHEAP, Kind.SINE, Kind.DEAR)
_MOVES = (Kind.MOVES, Kind.JOINS)
_AT_PLACES = (lax.gather_p, lax.scatter_p, lax.scatter_add_p)
_SOLVES = ("custom_linear_solve", "lu", "stop_gradient")  # of what may be operations on rows (see `small_solves`)
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


class _Memo(dict[Any, tuple[Any, Sequence[Any]]]):
    """What operations make of operands, and these: their `id` stays theirs; by which function, and how many at most."""

    def __init__(self, stage: Callable[..., Any], room: float = inf) -> None:
        self.stage = stage
        self.room = room

    def take(self) -> None:
        """Make room for one more, or raise."""
        if self.room <= 0:
            raise _UnfitError
        self.room -= 1


@dataclass(frozen=True, eq=False)
class _Unknown:
    """A number that is not known while tracing, where numbers are only counted."""

    dtype: Any
    inputs: int = 0  # bits of those that it depends on


class _UnfitError(Exception):
    """There is no room for another number, or a place is not known."""


def is_small(live: Sequence[Any], outputs: Sequence[Any], consts: Mapping[Any, Any]) -> bool:
    """Whether a program of these equations is worth taking apart: small arrays, and of nothing but operations on entries.

    ``consts`` are the values of its constants that are known while tracing.  Where all operations are too many, those on
    known zeros and ones, and repeated ones, are left out, and where something is read or written at places, these have to be
    known: the program is gone through without making any number.
    """
    work = _work(live, outputs)
    if work is None:
        return False
    at_places = any(eqn.primitive in _AT_PLACES for eqn in live)
    room = _EACH * len(live)
    return (work <= room and not at_places) or _left(live, consts, room) is not None


def numbers_left(live: Sequence[Any], outputs: Sequence[Any], consts: Mapping[Any, Any], most: float = inf) -> int | None:
    """How many numbers are worked out by a program that `is_small`; None of one that is not, or works out more than most."""
    if _work(live, outputs) is None:
        return None
    return _left(live, consts, min(most, _EACH * len(live)))


def tangent_numbers(jaxpr: Any, consts: Sequence[Any]) -> float | None:
    """About how many numbers forward mode works out for the Jacobian of a program; None where itself is not small.

    Of each number of the program it has the tangents by the inputs that this depends on.  Less than any where there are
    solves, whose numbers are not known.
    """
    steps = list(jx.opened(jaxpr, custom=True))
    equations = [eqn for eqn, body, _ in steps if body is None]
    work = _work([eqn for eqn in equations if eqn.primitive.name not in _SOLVES], jaxpr.outvars)
    if work is None or work > _EACH * len(equations):
        return None
    if any(eqn.primitive.name in _SOLVES for eqn in equations):
        return 0.0
    total, inputs = 0.0, 0

    def stage(operation: Any, params: Any, dtype: Any, operands: Sequence[Any]) -> _Unknown:
        nonlocal total
        moving = [x.inputs for x in operands if not _is_known(x) and x.inputs]
        union = reduce(or_, moving, 0)
        each = 2 if operation in (lax.mul_p, lax.div_p, lax.atan2_p) else 0 if kind_of(operation.name) is Kind.CHEAP else 1
        products = sum(m.bit_count() for m in moving) if each or len(moving) < 2 else 0
        total += 1 + products + sum(m.bit_count() for m in moving) - union.bit_count()
        return _Unknown(dtype, union)

    def given(atom: Any) -> Numbers:
        nonlocal inputs
        entries = []
        for _ in range(prod(atom.aval.shape)):
            entries.append(_Unknown(atom.aval.dtype, 1 << inputs))
            inputs += 1
        return _array(entries, atom.aval.shape)

    memo = _Memo(stage)
    values: dict[Any, Numbers] = {v: given(v) for v in jaxpr.invars}
    values.update((v, _entries(c, v.aval)) for v, c in zip(jaxpr.constvars, consts, strict=True))

    def read(atom: Any) -> Numbers:
        return _entries(jx.literal_value(atom), atom.aval) if jx.is_literal(atom) else values[atom]

    try:
        for eqn, body, inside in steps:
            if body is None:
                values.update(zip(eqn.outvars, _evaluated(eqn, list(map(read, eqn.invars)), memo), strict=True))
            elif inside is not None:
                values.update(zip(body.invars, map(read, eqn.invars), strict=True))
                values.update((v, _entries(c, v.aval)) for v, c in zip(body.constvars, inside, strict=True))
            else:
                values.update(zip(eqn.outvars, map(read, body.outvars), strict=True))
    except _UnfitError:
        return None
    return total


def _entries(x: Any, aval: Any) -> Numbers:
    """The entries of a constant, which may not be known either."""
    if not jx.is_traced(x):
        return _apart(x, aval)
    return _array([_Unknown(aval.dtype) for _ in range(prod(aval.shape))], aval.shape)


def _work(live: Sequence[Any], outputs: Sequence[Any]) -> int | None:
    """Operations on numbers that equations become; None where some are no operations on entries, or on many."""
    if not all(map(_is_small_array, outputs)):
        return None
    work = 0
    for eqn in live:
        if not all(map(_is_small_array, (*eqn.invars, *eqn.outvars))) or eqn.effects or (count := _count(eqn)) is None:
            return None
        work += count
    return work


def _left(live: Sequence[Any], consts: Mapping[Any, Any], room: float) -> int | None:
    """How many numbers are left to be worked out; None where there is no room for as many."""

    def given(atom: Any) -> Numbers:
        if atom in consts:
            return _apart(consts[atom], atom.aval)
        return _array([_Unknown(atom.aval.dtype) for _ in range(prod(atom.aval.shape))], atom.aval.shape)

    memo = _Memo(lambda operation, params, dtype, operands: _Unknown(dtype), room)
    try:
        _gone_through(live, given, memo)
    except _UnfitError:
        return None
    return int(room - memo.room)


def _at_places(eqn: Any, memo: _Memo, x: Numbers, indices: Numbers, updates: Numbers | None = None) -> Numbers:
    """A gather, or a scatter: one update after the other."""
    window = window_of(eqn)
    if window is None or not all(map(_is_known, indices.flat)):
        raise _UnfitError
    places = window.entries(indices.astype(int)).ravel()
    if (places < 0).any():  # filled in, or dropped
        raise _UnfitError
    numbers = x.ravel()
    if updates is None:
        return _array(list(numbers[places]), eqn.outvars[0].aval.shape)
    if eqn.primitive is lax.scatter_p and np.unique(places).size < places.size:
        raise _UnfitError  # which of two updates of one entry stays is the machine's choice
    out = list(numbers)
    for place, update in zip(places.tolist(), updates.ravel(), strict=True):
        if eqn.primitive is lax.scatter_p:
            out[place] = update
        else:
            out[place] = _number(lax.add_p, {}, eqn.outvars[0].aval.dtype, (out[place], update), memo)
    return _array(out, x.shape)


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
    if eqn.primitive in _AT_PLACES:
        return None if eqn.primitive is lax.scatter_add_p and eqn.outvars[0].aval.dtype in HALF else 0
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
    read = _gone_through(live, lambda atom: _apart(given[atom], atom.aval), _Memo(staged_number))
    return [x for v in jaxpr.outvars for x in read(v).ravel()]


def _gone_through(live: Sequence[Any], given: Callable[[Any], Numbers], memo: _Memo) -> Callable[[Any], Numbers]:
    """Evaluate equations; of their arguments and constants the entries are ``given``.  What comes back reads a value."""
    values: dict[Any, Numbers] = {}

    def read(atom: Any) -> Numbers:
        if jx.is_literal(atom):
            return _apart(jx.literal_value(atom), atom.aval)
        if atom not in values:  # an argument or a constant, read for the first time
            values[atom] = given(atom)
        return values[atom]

    for eqn in live:
        with jx.equation_context(eqn):
            values.update(zip(eqn.outvars, _evaluated(eqn, list(map(read, eqn.invars)), memo), strict=True))
    return read


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


def _evaluated(eqn: Any, operands: list[Numbers], memo: _Memo) -> Sequence[Numbers]:
    """The outputs of an equation."""
    name, params = eqn.primitive.name, eqn.params
    evaluate = record_of(name).evaluate
    if name == "iota":
        known = evaluate(params) if evaluate is not None else None
        return [_apart(known, eqn.outvars[0].aval)]
    if kind_of(name) in _MOVES and evaluate is not None:
        moved = evaluate(params, *operands)
        return moved if eqn.primitive.multiple_results else [moved]
    if eqn.primitive in _AT_PLACES:
        return [_at_places(eqn, memo, *operands)]
    if name in FOLDED:
        axes = params["axes"]
        return [_folded(FOLDED[name], np.moveaxis(operands[0], axes, range(len(axes))), len(axes), memo)]
    if eqn.primitive is lax.dot_general_p:
        return [_product(params["dimension_numbers"], operands[0], operands[1], memo)]
    out = eqn.outvars[0].aval
    together = zip(*(np.broadcast_to(x, out.shape).ravel() for x in operands), strict=True)
    return [_array([_number(eqn.primitive, params, out.dtype, numbers, memo) for numbers in together], out.shape)]


def _folded(operation: Any, x: Numbers, axes: int, memo: _Memo) -> Numbers:
    """The first axes of an array by one operation of two numbers after the other."""
    params = MUL_PARAMS if operation is lax.mul_p else {}
    shape = x.shape[axes:]
    total, *others = map(list, x.reshape(-1, prod(shape)))
    for other in others:
        total = [_number(operation, params, a.dtype, (a, b), memo) for a, b in zip(total, other, strict=True)]
    return _array(total, shape)


def _product(numbers: Any, a: Numbers, b: Numbers, memo: _Memo) -> Numbers:
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


def _number(operation: Any, params: Any, dtype: Any, operands: Sequence[Any], memo: _Memo) -> Any:
    """One number by an operation on others; zeros and ones that are known while tracing are neither added nor multiplied.

    A product with a zero stays: of what is not finite it is NaN.  What the ``memo`` holds is not made again.
    """
    name = operation.name
    known = list(map(_is_known, operands))
    if all(known):
        memo.take()
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
        memo.take()
        memo[key] = memo.stage(operation, params, dtype, operands), operands
    return memo[key][0]
