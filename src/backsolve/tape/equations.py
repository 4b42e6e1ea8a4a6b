"""What an equation does with numbers: some are moved, for some there is one operation, for some there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.lax import GatherDimensionNumbers

from backsolve.capture.index_maps import index_operator
from backsolve.tape.numbers import Ids, NotServed, Numbers
from backsolve.tape.operations import LOGIC, OPERATIONS, TRUTHS
from backsolve.tracing.jaxpr import Kind, carries_derivatives, is_traced, record_of, where
from backsolve.tracing.series import is_spread

__all__ = ["Known", "Value", "ids_of", "known", "outputs"]

PRODUCTS = 2**14  # of entries in a product of matrices; for more there are routines
_PASSED = frozenset({"copy", "copy_p", "stop_gradient", "written", "optimization_barrier"})


class Known(NamedTuple):
    """An array that is known while a program is read; it may be of any type."""

    array: Any


Value = Ids | Known


def known(x: Any, aval: Any) -> Known:
    """A constant of a program, as one of this type: NumPy's own may have another one."""
    spread = is_spread(aval) or (isinstance(x, jax.Array) and not is_traced(x) and len(x.devices()) > 1)
    if spread or is_traced(x) or getattr(getattr(aval, "dtype", None), "kind", "?") not in "biufc":
        raise NotServed(f"a constant of type {aval}")
    return Known(np.asarray(x, aval.dtype))


def ids_of(numbers: Numbers, value: Value) -> Ids:
    """The ids of an array, also of a known one."""
    return numbers.constant(value.array) if isinstance(value, Known) else value


def outputs(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Sequence[Value]:
    """The outputs of an equation."""
    name, params, several = eqn.primitive.name, eqn.params, eqn.primitive.multiple_results
    record = record_of(name)
    if name in _PASSED:
        return operands
    if record.evaluate is not None and all(isinstance(x, Known) for x in operands):
        with np.errstate(all="ignore"):
            result = record.evaluate(params, *(x.array for x in operands if isinstance(x, Known)))
        if result is not NotImplemented:
            arrays = result if several else [result]
            return [Known(np.asarray(y, v.aval.dtype)) for y, v in zip(arrays, eqn.outvars, strict=True)]
    types = [getattr(v.aval, "dtype", None) for v in eqn.outvars]
    served = numbers.dtype, np.dtype(bool)
    if eqn.effects or any(t is None or t not in served for t in types) or any(is_spread(v.aval) for v in eqn.outvars):
        raise NotServed(where(eqn))
    if record.kind in (Kind.MOVES, Kind.JOINS) and record.evaluate is not None:
        result = record.evaluate(params, *(ids_of(numbers, x) for x in operands))
        if result is NotImplemented:
            raise NotServed(where(eqn))
        return list(result) if several else [result]
    if name in _SPECIAL and (types == [numbers.dtype] or name == "gather"):
        return [_SPECIAL[name](numbers, eqn, operands)]
    truths = {v.aval.dtype.kind == "b" for v in eqn.invars}
    if name not in OPERATIONS or truths != {name in LOGIC} or types != [served[name in TRUTHS]]:
        raise NotServed(where(eqn))
    return [numbers.made(name, *(ids_of(numbers, x) for x in operands))]


# ---- several operations ------------------------------------------------------------------------------------------------
def _by(function: Callable[..., Ids]) -> Callable[..., Ids]:
    """An equation of numbers that is a function of them, and of the parameters."""

    def evaluated(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
        return function(numbers, eqn.params, *(ids_of(numbers, x) for x in operands))

    return evaluated


def _power(numbers: Numbers, params: dict[str, Any], x: Ids) -> Ids:
    product, power, rest = numbers.constant(np.ones(x.shape, numbers.dtype)), x, abs(params["y"])
    while rest:
        if rest & 1:
            product = numbers.made("mul", product, power)
        rest >>= 1
        power = numbers.made("mul", power, power) if rest else power
    return numbers.made("div", numbers.one(), product) if params["y"] < 0 else product


def _inverse_root(numbers: Numbers, params: dict[str, Any], x: Ids) -> Ids:
    return numbers.made("div", numbers.one(), numbers.made("sqrt", x))


def _logistic(numbers: Numbers, params: dict[str, Any], x: Ids) -> Ids:
    one = numbers.one()
    return numbers.made("div", one, numbers.made("add", one, numbers.made("exp", numbers.made("neg", x))))


def _clamped(numbers: Numbers, params: dict[str, Any], low: Ids, x: Ids, high: Ids) -> Ids:
    return numbers.made("min", numbers.made("max", x, low), high)


def _multiplied(numbers: Numbers, params: dict[str, Any], left: Ids, right: Ids) -> Ids:
    (contract_l, contract_r), (batch_l, batch_r) = params["dimension_numbers"]
    free_l = [k for k in range(left.ndim) if k not in contract_l and k not in batch_l]
    free_r = [k for k in range(right.ndim) if k not in contract_r and k not in batch_r]
    shape = [*(left.shape[k] for k in (*batch_l, *free_l)), *(right.shape[k] for k in free_r)]
    batch, count = prod(left.shape[k] for k in batch_l), prod(left.shape[k] for k in contract_l)
    if not 0 < prod(shape) * count <= PRODUCTS:
        raise NotServed(f"a product of matrices with {prod(shape) * count:,} products of entries")
    rows = left.transpose(*batch_l, *free_l, *contract_l).reshape(batch, -1, 1, count)
    cols = right.transpose(*batch_r, *free_r, *contract_r).reshape(batch, 1, -1, count)
    products = numbers.made("mul", rows, cols).reshape(-1, count)
    return _added_up(numbers, products).reshape(shape)


def _added_up(numbers: Numbers, rows: Ids) -> Ids:
    return numbers.summed(np.full(rows.shape[0], rows.shape[1]), rows.reshape(-1))


def _reduced(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    x, axes, shape = ids_of(numbers, operands[0]), eqn.params["axes"], eqn.outvars[0].aval.shape
    rows = np.moveaxis(x, axes, range(-len(axes), 0)).reshape(prod(shape), -1) if x.size else x
    if not rows.size:
        raise NotServed(where(eqn))
    operation = {"reduce_max": "max", "reduce_min": "min", "reduce_prod": "mul"}.get(eqn.primitive.name)
    if operation is None:
        return _added_up(numbers, rows).reshape(shape)
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        pairs = numbers.made(operation, rows[:, :half], rows[:, half : 2 * half])
        rows = np.concatenate([pairs, rows[:, 2 * half :]], axis=1)
    return rows.reshape(shape)


def _selected(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    if eqn.invars[0].aval.dtype.kind != "b" or len(operands) != 3:
        raise NotServed(where(eqn))
    return numbers.made("select", *(ids_of(numbers, x) for x in operands))


def _converted(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    dtype, x = eqn.invars[0].aval.dtype, operands[0]
    if dtype.kind == "b":
        return numbers.made("convert", ids_of(numbers, x))
    if dtype != numbers.dtype:
        raise NotServed(where(eqn))
    return ids_of(numbers, x)


# ---- at places that are known ------------------------------------------------------------------------------------------
_OF_A_VECTOR = GatherDimensionNumbers((), (0,), (0,))


def _gathered(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    x, indices = operands
    params = eqn.params
    if isinstance(indices, Known) and params["dimension_numbers"] == _OF_A_VECTOR and params["slice_sizes"] == (1,):
        places, ids = indices.array[..., 0], ids_of(numbers, x)
        if places.size and places.min() >= 0 and places.max() < ids.size:
            return np.asarray(ids[places])
    return _picked(numbers, eqn, operands)


def _picked(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    """Each number is one of an operand: of slices that move, and scatters that overwrite."""
    shape = eqn.outvars[0].aval.shape
    out = np.full(prod(shape), -1)
    arrays = [carries_derivatives(v.aval) for v in eqn.invars]
    given = [x.array if isinstance(x, Known) and not moved else None for x, moved in zip(operands, arrays, strict=True)]
    for k, (x, moved) in enumerate(zip(operands, arrays, strict=True)):
        if not moved and given[k] is None:
            raise NotServed(where(eqn))
        if moved:
            operator = index_operator(eqn, k, given)
            if operator is None:
                raise NotServed(where(eqn))
            out[operator.rows] = ids_of(numbers, x).reshape(-1)[operator.cols]
    if (out < 0).any():  # filled in, where an index is out of range
        raise NotServed(where(eqn))
    return out.reshape(shape)


def _scattered(numbers: Numbers, eqn: Any, operands: Sequence[Value]) -> Ids:
    """Updates added at places of an array."""
    array, indices, updates = operands
    placed = index_operator(eqn, 2, [None, indices.array, None]) if isinstance(indices, Known) else None
    if placed is None:
        raise NotServed(where(eqn))
    out = ids_of(numbers, array).reshape(-1).copy()
    rows, counts = np.unique(placed.rows, return_counts=True)
    before = out[rows]
    there = ~numbers.known[before] | (numbers.value[before] != 0)
    terms = ids_of(numbers, updates).reshape(-1)[placed.cols]
    out[rows] = numbers.summed(counts + there, np.insert(terms, (np.cumsum(counts) - counts)[there], before[there]))
    return out.reshape(eqn.outvars[0].aval.shape)


_SPECIAL: dict[str, Callable[[Numbers, Any, Sequence[Value]], Ids]] = {
    "integer_pow": _by(_power),
    "rsqrt": _by(_inverse_root),
    "logistic": _by(_logistic),
    "clamp": _by(_clamped),
    "dot_general": _by(_multiplied),
    "select_n": _selected,
    "convert_element_type": _converted,
    "gather": _gathered,
    "scatter-add": _scattered,
    **dict.fromkeys(("dynamic_slice", "dynamic_update_slice", "scatter"), _picked),
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min", "reduce_prod"), _reduced),
}
