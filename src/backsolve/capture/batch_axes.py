"""Which axes a linear equation leaves side by side: entry i of the output there depends on entry i of the operand alone.

A cumulative sum along one axis does nothing across the others; a scan of a batch does nothing across the batch.  Each value
of a jaxpr gets, for every moving operand that it depends on, the pairs of its own axes and that operand's axes which lie
side by side.  What is not known here has no such axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backsolve.operators.batch_axes import Pairs, joined, regrouped
from backsolve.tracing import jaxpr as jx

__all__ = ["Aligned", "aligned_axes"]

Aligned = dict[int, Pairs]  # by moving operand; a value that depends on none of them has no entry
Shape = tuple[int, ...]

_ENTRYWISE = frozenset(
    ("add", "add_any", "sub", "mul", "div", "neg", "copy", "select_n", "convert_element_type", "real", "imag", "complex",
     "conj", "reduce_precision")
)  # fmt: skip
_NESTED = frozenset(("jit", "pjit", "closed_call", "core_closed_call", "custom_jvp_call"))


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
    name, params = eqn.primitive.name, eqn.params
    if not any(operands):
        return [{} for _ in eqn.outvars]
    if name == "scan":
        return _scanned(params, operands)
    if name in _NESTED:
        closed = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
        return _walked(closed.jaxpr, operands)
    found = []
    for out in eqn.outvars:
        total: Aligned = {}
        for k, operand in enumerate(operands):
            if operand:
                axes = _kept(name, params, k, [v.aval.shape for v in eqn.invars], tuple(out.aval.shape))
                total = joined((total, _moved(operand, axes)))
        found.append(total)
    return found


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
    body, consts, carries = params["jaxpr"].jaxpr, params["num_consts"], params["num_carry"]
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


def _moved(operand: Aligned, axes: dict[int, int]) -> Aligned:
    return {k: frozenset((axes[a], b) for a, b in pairs if a in axes) for k, pairs in operand.items()}


def _kept(name: str, params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    """Where the axes of operand k are in the output, those along which nothing but that entry is looked at."""
    shape = tuple(shapes[k])
    if name in _ENTRYWISE:
        return {a: a for a, n in enumerate(shape) if len(shape) == len(out) and n == out[a]}
    rule = _RULES.get(name)
    return {} if rule is None else rule(params, k, shapes, out)


def _all_but(axes: Sequence[int], shape: Shape) -> dict[int, int]:
    return {a: a for a in range(len(shape)) if a not in axes}


def _broadcast(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    places = params["broadcast_dimensions"]
    return {a: places[a] for a, n in enumerate(shapes[0]) if k == 0 and n == out[places[a]]}


def _without(axes: Sequence[int], shape: Shape) -> dict[int, int]:
    """The axes that are left when these are gone."""
    left = [a for a in range(len(shape)) if a not in axes]
    return {a: i for i, a in enumerate(left)}


def _slice(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    return {a: a for a, n in enumerate(shapes[0]) if n == out[a]}  # whole, so neither moved nor thinned


def _update(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    return {a: a for a, n in enumerate(shapes[1]) if k < 2 and n == out[a]}


def _pad(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    return {a: a for a, widths in enumerate(params["padding_config"]) if k == 0 and not any(widths)}


def _stack(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    return {a: a + (a >= params["axis"]) for a in range(len(shapes[k]))}


def _product(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    """A dot_general: batch axes come first, then those of the one operand that are not summed, then the other's."""
    summed, batch = params["dimension_numbers"]
    free = [[a for a in range(len(shapes[i])) if a not in summed[i] and a not in batch[i]] for i in (0, 1)]
    begin = len(batch[0]) + (len(free[0]) if k else 0)
    return {a: i for i, a in enumerate(batch[k])} | {a: begin + i for i, a in enumerate(free[k])}


def _gather(params: dict[str, Any], k: int, shapes: Sequence[Shape], out: Shape) -> dict[int, int]:
    """Axes that are taken whole, and those that go with an axis of the indices."""
    if k:
        return {}
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    windows = [a for a in range(len(shapes[0])) if a not in gone]
    whole = {
        a: place
        for a, place in zip(windows, sorted(numbers.offset_dims), strict=True)
        if sizes[a] == shapes[0][a]  # an index there can only be 0
    }
    batches = [a for a in range(len(out)) if a not in numbers.offset_dims]  # the axes of the indices but their last
    return whole | {
        a: batches[b] for a, b in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    }


Kept = Callable[[dict[str, Any], int, Sequence[Shape], Shape], dict[int, int]]
_RULES: dict[str, Kept] = {
    "reshape": lambda params, k, shapes, out: regrouped(tuple(shapes[0]), out),
    "expand_dims": lambda params, k, shapes, out: regrouped(tuple(shapes[0]), out),
    "squeeze": lambda params, k, shapes, out: _without(params["dimensions"], tuple(shapes[0])),
    "broadcast_in_dim": _broadcast,
    "transpose": lambda params, k, shapes, out: {a: i for i, a in enumerate(params["permutation"])},
    "cumsum": lambda params, k, shapes, out: _all_but((params["axis"],), out),
    "rev": lambda params, k, shapes, out: _all_but(params["dimensions"], tuple(shapes[0])),
    "reduce_sum": lambda params, k, shapes, out: _without(params["axes"], tuple(shapes[0])),
    "slice": _slice,
    "dynamic_slice": lambda params, k, shapes, out: _slice(params, k, shapes, out) if k == 0 else {},
    "dynamic_update_slice": _update,
    "pad": _pad,
    "concatenate": lambda params, k, shapes, out: _all_but((params["dimension"],), out),
    "split": lambda params, k, shapes, out: _all_but((params["axis"],), out),
    "stack": _stack,
    "dot_general": _product,
    "gather": _gather,
}
