"""Batch axes of a linear equation: along them, entry i of the output depends on entry i of the operand alone.

A cumulative sum along one axis does nothing across the others; a scan of a batch does nothing across the batch.  Each value
of a jaxpr gets, for every moving operand that it depends on, the pairs of its own axes and that operand's axes which lie
side by side.  What is not known here has no such axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backsolve.operators import Einsum, Product
from backsolve.operators.batch_axes import Pairs, joined, propagate
from backsolve.operators.moves import Reshape, Slice
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.jaxpr import Kind, record_of
from backsolve.tracing.series import scan_counts

__all__ = ["Aligned", "aligned_axes", "all_but", "whole"]

Aligned = dict[int, Pairs]  # by moving operand; a value that depends on none of them has no entry

_ENTRYWISE = (Kind.CHEAP, Kind.SINE, Kind.DEAR)
_BY_SHAPE = (Kind.MOVES, Kind.JOINS, Kind.REDUCES)  # their edges look at no values, and say what they leave side by side
_READABLE = (Einsum, Reshape, Slice, Product)  # (an equation that stands for itself would ask here again)


def aligned_axes(eqn: Any, moving: Sequence[bool]) -> list[Aligned]:
    """For each output of a linear equation, the axes that lie side by side with those of each moving operand.

    Moving operands are numbered 0, 1, … among themselves.
    """
    operands: list[Aligned] = []
    count = 0
    for v, moves in zip(eqn.invars, moving, strict=True):
        operands.append({count: frozenset((axis, axis) for axis in range(len(v.aval.shape)))} if moves else {})
        count += moves
    return _outputs(eqn, operands)


def _outputs(eqn: Any, operands: list[Aligned]) -> list[Aligned]:
    """The outputs of one equation, from its operands."""
    if not any(operands):
        return [{} for _ in eqn.outvars]
    if eqn.primitive.name == "scan":
        return _scanned(eqn.params, operands)
    if eqn.primitive.name == "custom_linear_solve":
        return _solved(eqn.params, operands)
    body = jx.inner_jaxpr(eqn, custom=True)
    if body is not None:
        return _walked(body[0], operands)
    eq = jx.Equation(eqn, [None] * len(operands), [True] * len(operands))
    outputs = []
    for number in range(len(eqn.outvars)):
        axes = [_kept(eq, k, number) if operand else {} for k, operand in enumerate(operands)]
        outputs.append(joined([_moved(operand, places) for operand, places in zip(operands, axes, strict=True)]))
    return outputs


def _walked(jaxpr: Any, inputs: Sequence[Aligned]) -> list[Aligned]:
    """The outputs of a jaxpr, from its inputs."""
    values: dict[Any, Aligned] = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Aligned:
        return {} if jx.is_literal(atom) else values.get(atom, {})

    for eqn in jaxpr.eqns:
        values.update(zip(eqn.outvars, _outputs(eqn, list(map(read, eqn.invars))), strict=True))
    return list(map(read, jaxpr.outvars))


def _scanned(params: dict[str, Any], operands: list[Aligned]) -> list[Aligned]:
    """A scan: what its carry keeps, once another turn takes nothing away."""
    body, (consts, carries) = params["jaxpr"].jaxpr, scan_counts(params)
    fixed, carry, xs = operands[:consts], operands[consts : consts + carries], operands[consts + carries :]
    slices = [{k: frozenset((a - 1, b) for a, b in pairs if a) for k, pairs in x.items()} for x in xs]
    while True:
        out = _walked(body, [*fixed, *carry, *slices])
        after = [joined(pair) for pair in zip(carry, out[:carries], strict=True)]
        if after == carry:
            break
        carry = after
    stacked = [{k: frozenset((a + 1, b) for a, b in pairs) for k, pairs in y.items()} for y in out[carries:]]
    return [*carry, *stacked]


def _solved(params: dict[str, Any], operands: list[Aligned]) -> list[Aligned]:
    """The solution of a linear system, by its right-hand sides."""
    lengths, solve = params["const_lengths"], params["jaxprs"].solve
    fixed, sides = operands[: sum(lengths)], operands[sum(lengths) :]
    if any(fixed):
        return [{} for _ in solve.out_avals]
    return _walked(solve.jaxpr, [*[{}] * lengths.solve, *sides])


def _moved(operand: Aligned, axes: dict[int, int]) -> Aligned:
    return {k: frozenset((axes[a], b) for a, b in pairs if a in axes) for k, pairs in operand.items()}


def _kept(eq: jx.Equation, k: int, output: int) -> dict[int, int]:
    """Where the axes of operand k are in an output, those along which nothing but that entry is looked at."""
    primitive = record_of(eq.name)
    if primitive.axes is not None:
        return primitive.axes(eq, k)
    if primitive.kind in _ENTRYWISE:
        return whole(eq, k)
    edge = primitive.edges(eq)[output] if primitive.edges else primitive.edge(eq, k) if primitive.kind in _BY_SHAPE else None
    if not isinstance(edge, _READABLE):
        return {}
    own = frozenset((axis, axis) for axis in range(len(eq.in_shape(k))))
    return {a: b for b, a in propagate(edge, {0: own})[0]}


def whole(eq: jx.Equation, k: int) -> dict[int, int]:
    """The axes of operand k that are as long in the output: an operation on each entry, or a box, leaves these in place."""
    shape, out = eq.in_shape(k), eq.shape
    return {a: a for a, n in enumerate(shape) if len(shape) == len(out) and n == out[a]}


def all_but(parameter: str) -> Callable[[jx.Equation, int], dict[int, int]]:
    """The axes but those that this parameter names, in place."""
    return lambda eq, k: {a: a for a in range(len(eq.shape)) if a not in np.ravel(eq.params[parameter])}
