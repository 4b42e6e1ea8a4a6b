"""A linear equation of which nothing is known, as an operator."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from backsolve.algebra.spaces import ArraySpace
from backsolve.capture.batch_axes import Aligned, aligned_axes
from backsolve.operators import LinearOperator, Space, TupleSpace
from backsolve.operators.dispatch import OPERATIONS
from backsolve.operators.moves import Parts
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import pull_cotangents, push_tangents
from backsolve.tracing.jaxpr import Equation, carries_derivatives, record_of
from backsolve.tracing.series import array

__all__ = ["LinearEquation", "jointly", "linear"]

# A loop goes back by what it has put down at each step, and forth beside the program's own (see `xla.in_step`).  A row took
# 0.5 to 8 times as long as a column by JAX's own modes through fifteen loops of 4 to 100 steps at 1,000 points, as a median:
BACK = 2.0


def _itself(x: Any) -> Any:
    return x


class LinearEquation(LinearOperator):
    """A linear primitive as it stands, applied by JAX's own implementation and transposed by JAX's own rule.

    ``operands`` holds the values of the fixed operands and None for the moving ones.  With one moving operand and one
    output it maps arrays to arrays, otherwise tuples to tuples (`Parts`).
    """

    __slots__ = ("_aligned", "_times", "codomain", "domain", "eqn", "operands", "params", "transposed")
    domain: Space
    codomain: Space

    def __init__(
        self,
        eqn: Any,
        operands: Sequence[Any],
        params: dict[str, Any] | None = None,
        *,
        moving: int | None = None,
        spaces: tuple[Space, Space] | None = None,
        transposed: bool = False,
    ) -> None:
        self.eqn = eqn
        self.params = eqn.params if params is None else params
        self.transposed = transposed
        if moving is not None:  # the other tangent operands are held at zero
            operands = [
                None if i == moving else jx.zeros(v.aval) if x is None else x
                for i, (x, v) in enumerate(zip(operands, eqn.invars, strict=True))
            ]
        self.operands = operands
        if spaces is None:
            into = [jx.space_of_aval(v.aval) for v, x in zip(eqn.invars, operands, strict=True) if x is None]
            out = [jx.space_of_aval(v.aval) for v in eqn.outvars]
            packed = len(into) > 1 or len(out) > 1
            spaces = (TupleSpace(tuple(into)), TupleSpace(tuple(out))) if packed else (into[0], out[0])
        self.domain, self.codomain = spaces
        self._aligned: list[Aligned] | None = None
        self._times: tuple[float, float] | None = None

    def __deepcopy__(self, memo: Any) -> LinearEquation:
        spaces = (self.domain, self.codomain)
        operands = deepcopy(self.operands, memo)
        return LinearEquation(self.eqn, operands, self.params, spaces=spaces, transposed=self.transposed)

    def __reduce__(self) -> tuple[Any, ...]:
        """As the sparse operator that it is.  Raises `TypeError` where nothing but JAX's equation is known of it."""
        matrix = OPERATIONS["sparse_edge"](self)
        if not isinstance(matrix, LinearOperator) or not isinstance(self.domain, ArraySpace):
            raise TypeError(
                f"{self!r} is an equation of a traced program, at {jx.where(self.eqn)}, which cannot be pickled; pickle the "
                "function and its arguments and linearize again, or its Jacobian, system.jacobian(format='sparse')."
            )
        return _itself, (matrix.between(self.domain, self.codomain),)  # type: ignore[attr-defined]

    def transpose(self) -> LinearOperator:
        spaces = (self.codomain, self.domain)
        return LinearEquation(self.eqn, self.operands, self.params, spaces=spaces, transposed=not self.transposed)

    def aligned(self, into: int, out: int) -> frozenset[tuple[int, int]]:
        if self._aligned is None:
            self._aligned = aligned_axes(self.eqn, [x is None for x in self.operands])
        if not self.transposed:
            return self._aligned[out].get(into, frozenset())
        return frozenset((b, a) for a, b in self._aligned[into].get(out, frozenset()))

    @property
    def work(self) -> float:
        return self._each_way * (BACK if self.transposed and self._is_loop else 1.0)

    @property
    def work_back(self) -> float:
        return self._each_way * (BACK if not self.transposed and self._is_loop else 1.0)

    @property
    def started(self) -> float:
        return self._counts[1]

    @property
    def _each_way(self) -> float:
        return self._counts[0]

    @property
    def _counts(self) -> tuple[float, float]:
        if self._times is None:
            self._times = _work(self.eqn)
        return self._times

    @property
    def _is_loop(self) -> bool:
        return bool(self.eqn.primitive.name == "scan")

    def lifted(self, x: Any) -> Any:
        return array(x)

    def apply(self, x: Any) -> Any:
        packed = isinstance(self.domain, TupleSpace)
        given = list(x) if packed else [x]
        move = pull_cotangents if self.transposed else push_tangents
        try:
            with jx.equation_context(self.eqn):
                out = move(self.eqn, self.operands, self.params, given)
        except (TypeError, ValueError, NotImplementedError) as error:
            error.add_note(
                f"(backsolve: in {'reverse' if self.transposed else 'forward'} mode through {jx.where(self.eqn)})"
            )
            raise
        return Parts(out) if packed else out[0]

    @property
    def label(self) -> str:
        return f"{self.eqn.primitive.name}{'ᵀ' if self.transposed else ''}"

    @property
    def where(self) -> str:
        return jx.where(self.eqn)


def _work(eqn: Any) -> tuple[float, float]:
    """About how many scalar operations an equation takes: the entries it writes, once for each turn of its loops.

    And how many equations are started in these turns.
    """
    total = started = 0.0
    waiting = [(eqn, 1.0)]
    while waiting:
        at, times = waiting.pop()
        total += times * sum(float(np.prod(getattr(v.aval, "shape", ()))) for v in (*at.invars, *at.outvars))
        each_entry = record_of(at.primitive.name).work
        if each_entry is not None:
            total += times * float(np.prod(at.outvars[0].aval.shape)) * each_entry(at)
        turns = times * float(at.params.get("length", 1) or 1)
        inner = list(jx.inner_equations(at.params))
        started += turns * len(inner)
        waiting.extend((e, turns) for e in inner)
    return total, started


def linear(eq: Equation, k: int, **changed: Any) -> LinearOperator:
    """The edge of an equation that is linear in operand k: the primitive itself, with JAX's own transpose.

    ``changed`` overrides parameters of the primitive.
    """
    operands = [None if a and x is None else x for x, a in zip(eq.inputs, eq.active, strict=True)]
    params = {**eq.params, **changed} if changed else None
    return LinearEquation(eq.eqn, operands, params, moving=k)


def jointly(eq: Equation, k: int, **changed: Any) -> LinearOperator:
    """The edge of operand k of an equation linear in its floating-point operands taken together: the others are zero.

    ``changed`` overrides parameters of the primitive.
    """
    operands = [None if carries_derivatives(v.aval) else x for v, x in zip(eq.eqn.invars, eq.inputs, strict=True)]
    return LinearEquation(eq.eqn, operands, {**eq.params, **changed} if changed else None, moving=k)
