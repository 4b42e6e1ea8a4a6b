"""What NumPy computes of an operation on numbers, each by itself: a call with an array for the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

__all__ = ["COMMUTING", "LOGIC", "NEUTRAL", "OPERATIONS", "TRUTHS", "Call", "calls", "values"]

Array = np.ndarray[Any, Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]

COMPARISONS: dict[str, np.ufunc] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "is_finite": np.isfinite,
}  # fmt: skip
LOGIC: dict[str, np.ufunc] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, "not": np.logical_not}
OPERATIONS: dict[str, np.ufunc] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "max": np.maximum, "min": np.minimum, "pow": np.power, "atan2": np.arctan2, "rem": np.fmod, "abs": np.abs,
    "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "square": np.square, "sqrt": np.sqrt, "cbrt": np.cbrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, **COMPARISONS, **LOGIC,
}  # fmt: skip
TRUTHS = COMPARISONS.keys() | LOGIC.keys()  # results are truth values
COMMUTING = frozenset({"add", "add_any", "mul", "max", "min", "eq", "ne", "and", "or", "xor"})
NEUTRAL = {
    "add": 0.0,
    "add_any": 0.0,
    "sub": 0.0,
    "mul": 1.0,
    "div": 1.0,
}  # as the last operand, or either of two that commute


def calls(operation: str, operands: Sequence[Array], out: Array, starts: Any = None) -> list[Call]:
    """The calls that work an operation out: "select" and "convert" are some, and "sum", of stretches from ``starts`` on."""
    if operation == "select":
        return [(np.copyto, (out, operands[1])), (_overwrite, (out, operands[2], operands[0]))]
    if operation == "convert":
        return [(np.copyto, (out, *operands))]
    if operation == "sum":
        return [(np.add.reduceat, (*operands, starts, 0, None, out))]
    if operation in ("max", "min"):
        return [(partial(OPERATIONS[operation], out=out), tuple(operands))]
    return [(OPERATIONS[operation], (*operands, out))]


def values(operation: str, operands: Sequence[Array], dtype: Any) -> Array:
    """The results for known operands, of this type where they are no truth values."""
    out = np.empty(operands[0].shape, bool if operation in TRUTHS else dtype)
    with np.errstate(all="ignore"):
        for call, arguments in calls(operation, operands, out):
            call(*arguments)
    return out


def _overwrite(out: Array, chosen: Array, where: Array) -> None:
    np.copyto(out, chosen, where=where)
