"""A linear equation of which nothing is known, as an operator."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

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
# 0.5 to 8 times as long as a column by JAX's own modes through fifteen loops of 4 to 100 steps at 1,000 points, on average:
BACK = 2.6
# An entry that is added to another at an index takes 2 to 5 ns, one picked by an index, of which nothing else is read, 0.2
# to 1, and one that is written 0.1 to 0.3 (float32, rows of 200 to 10,000 entries, of which there were 1 to 1,000).
ADDED = 16.0
SCATTERS = ("scatter", "scatter-add", "scatter-sub")


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
        self._times: _Effort | None = None

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
        return self._effort.back if self.transposed else self._effort.forth

    @property
    def work_back(self) -> float:
        return self._effort.forth if self.transposed else self._effort.back

    @property
    def started(self) -> float:
        return self._effort.started

    @property
    def _effort(self) -> _Effort:
        if self._times is None:
            self._times = _Effort.of(self.eqn)
        return self._times

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


class _Effort(NamedTuple):
    """About how many scalar operations an equation takes, and its transpose, and how many equations its loops start.

    It is the entries that are read and written, once for each turn of its loops.
    """

    forth: float
    back: float
    started: float

    @staticmethod
    def of(eqn: Any) -> _Effort:
        """That of an equation with all that is inside."""
        forth = back = started = 0.0
        waiting = [(eqn, 1.0)]
        while waiting:
            at, times = waiting.pop()
            each = sum(map(_entries, (*at.invars, *at.outvars)))
            each_entry = record_of(at.primitive.name).work
            if each_entry is not None:
                each += _entries(at.outvars[0]) * each_entry(at)
            picked = _entries(at.outvars[0]) if at.primitive.name == "gather" else 0.0
            added = _entries(at.invars[2]) if at.primitive.name in SCATTERS else 0.0
            forth += times * (each + ADDED * added - (_entries(at.invars[0]) if picked else 0.0))
            back += times * (each + ADDED * picked)
            turns = times * float(at.params.get("length", 1) or 1)
            inner = list(jx.inner_equations(at.params))
            started += turns * len(inner)
            waiting.extend((e, turns) for e in inner)
        return _Effort(forth, BACK * back if eqn.primitive.name == "scan" else back, started)


def _entries(v: Any) -> float:
    return float(np.prod(getattr(v.aval, "shape", ())))


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
