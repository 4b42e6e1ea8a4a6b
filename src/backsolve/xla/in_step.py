"""Loops in step: one that reads what another puts down at the same step is done in one loop with it.

A derivative by columns has two loops for each of the program's: the loop itself, which puts down what its derivative reads,
and the tangents' loop behind it.  In one loop nothing is put down, as in JAX's own forward mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax

from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import scan_counts

__all__ = ["in_step"]


def in_step(jaxpr: Any, consts: list[Any], arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A program at arrays of these types, and its constants, with the loops that can be in step in one loop.

    Two are, of one length and direction, where the second reads some of what the first puts down step by step, and depends
    on it by nothing else.
    Cost: the bodies of such loops are traced again; for each pair a look at the equations between the two.
    """
    items = [[eqn] for eqn, _ in jx.live_equations(jaxpr)]
    before = len(items)
    items = _joined(items)
    if len(items) == before:
        return jaxpr, consts
    readers: dict[Any, set[int]] = defaultdict(set, {v: {-1} for v in jaxpr.outvars if not jx.is_literal(v)})
    for k, item in enumerate(items):
        for v in (v for eqn in item for v in eqn.invars if not jx.is_literal(v)):
            readers[v].add(k)

    def program(*arrays: Any) -> list[Any]:
        values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arrays), strict=True))

        def read(atom: Any) -> Any:
            return jx.literal_value(atom) if jx.is_literal(atom) else values[atom]

        for k, item in enumerate(items):
            if len(item) > 1:
                values |= _applied(item, {v for eqn in item for v in eqn.outvars if readers[v] - {k}}, read)
            else:
                values |= zip(item[0].outvars, jx.bind(item[0], list(map(read, item[0].invars))), strict=True)
        return list(map(read, jaxpr.outvars))

    return jx.trace(program, arrays)[:2]


def _joined(items: list[list[Any]]) -> list[list[Any]]:
    """The equations in an order that they can be evaluated in, with loops that can be in step together."""
    item_of = {v: item for item in items for eqn in item for v in eqn.outvars}
    k = 0
    while k < len(items):
        item = items[k]
        sources = [item_of[v] for v in _sliced(item[0]) if v in item_of] if len(item) == 1 and _is_scan(item[0]) else []
        for source in {id(s): s for s in sources}.values():
            if not _is_scan(source[0]) or not _alike(source[0], item[0]):
                continue
            first = next(n for n, other in enumerate(items) if other is source)
            free, behind = _parted(items[first + 1 : k], source)
            if _is_only_sliced(item[0], source, {v for other in behind for eqn in other for v in eqn.outvars}):
                source.append(item[0])
                item_of.update((v, source) for v in item[0].outvars)
                items = [*items[:first], *free, source, *behind, *items[k + 1 :]]
                k = first + len(free)
                break
        k += 1
    return items


def _is_scan(eqn: Any) -> bool:
    """Whether an equation is a loop of known length, without effects."""
    return eqn.primitive.name == "scan" and not eqn.effects


def _sliced(eqn: Any) -> list[Any]:
    """What a loop reads a slice of at each step."""
    return [v for v in eqn.invars[sum(scan_counts(eqn.params)) :] if not jx.is_literal(v)]


def _alike(one: Any, other: Any) -> bool:
    return all(one.params[key] == other.params[key] for key in ("length", "reverse"))


def _parted(items: Sequence[list[Any]], source: list[Any]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Those of these equations that do not depend on these loops, and those that do."""
    reached = {v for eqn in source for v in eqn.outvars}
    free: list[list[Any]] = []
    behind: list[list[Any]] = []
    for item in items:
        depends = any(v in reached for eqn in item for v in eqn.invars if not jx.is_literal(v))
        (behind if depends else free).append(item)
        if depends:
            reached.update(v for eqn in item for v in eqn.outvars)
    return free, behind


def _is_only_sliced(eqn: Any, source: Sequence[Any], behind: set[Any]) -> bool:
    """Whether a loop depends on these by what they put down at each step alone, where it reads a slice of it."""
    first = sum(scan_counts(eqn.params))
    after = {v for loop in source for v in loop.outvars[: scan_counts(loop.params)[1]]}
    every = {v for loop in source for v in loop.outvars}
    return not any(
        v in behind or v in (every if k < first else after) for k, v in enumerate(eqn.invars) if not jx.is_literal(v)
    )


@dataclass(frozen=True)
class _Part:
    """One of several loops: its body, what it is given once, first and at each step, what is left last and put down."""

    body: Any
    fixed: list[Any]
    start: list[Any]
    sliced: list[Any]
    last: list[Any]
    out: list[Any]

    @staticmethod
    def of(eqn: Any, read: Any) -> _Part:
        consts, carried = scan_counts(eqn.params)
        given = [jx.as_array(read(v), v.aval) for v in eqn.invars[: consts + carried]]
        parts = given[:consts], given[consts:], eqn.invars[consts + carried :]
        return _Part(eqn.params["jaxpr"], *parts, eqn.outvars[:carried], eqn.outvars[carried:])


def _applied(loops: Sequence[Any], wanted: set[Any], read: Any) -> dict[Any, Any]:
    """The outputs of these loops by one; of what they put down at each step what is wanted."""
    parts = [_Part.of(eqn, read) for eqn in loops]
    inside = {v for part in parts for v in part.out}
    wanted_inside = [v for v in inside if v in wanted]
    slices = [[None if v in inside else jx.as_array(read(v), v.aval) for v in part.sliced] for part in parts]

    def step(carries: Any, slices: Any) -> Any:
        here: dict[Any, Any] = {}
        after = []
        for part, carry, several in zip(parts, carries, slices, strict=True):
            xs = [here[v] if x is None else x for v, x in zip(part.sliced, several, strict=True)]
            results = jx.evaluated(part.body, [*part.fixed, *carry, *xs])
            here |= zip(part.out, results[len(carry) :], strict=True)
            after.append(results[: len(carry)])
        return after, [here[v] for v in wanted_inside]

    params = loops[0].params
    last, stacked = lax.scan(
        step, [part.start for part in parts], slices, length=params["length"], reverse=params["reverse"]
    )
    ends = {v: x for part, xs in zip(parts, last, strict=True) for v, x in zip(part.last, xs, strict=True)}
    return ends | dict(zip(wanted_inside, stacked, strict=True))
