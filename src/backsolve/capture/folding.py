"""Constant folding: indices and masks that follow from constants are numbers, also while a program is traced.

Where only a part of an array does, as of indices that are rows in turn beside columns that are not, that part is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.tracing.derivative import dependent
from backsolve.tracing.jaxpr import (
    Kind,
    bind,
    inner_equations,
    inner_jaxpr,
    is_literal,
    is_traced,
    literal_value,
    live_equations,
    record_of,
)
from backsolve.tracing.series import bind_primitive, constant_of, made_by, scan_counts

__all__ = ["MANY", "Partly", "fold", "known_value", "known_zeros", "partly_known", "wholly_known"]

_EXACT = (np.dtype("float32"), np.dtype("float64"))  # whose sums and products NumPy rounds as XLA does
MANY = 2**18  # floating-point numbers that are written into a program as a constant
CASES = 30  # that are selected from, at most
FAR = 100  # equations that are read back from an index: some twelve make one of each axis

_COPIES = ("select_n", "convert_element_type", "gather", "dynamic_slice", "dynamic_update_slice", "scatter")
_ENTRYWISE = (Kind.CHEAP, Kind.SINE, Kind.DEAR)
_JOINS = frozenset(("select_n", "concatenate", "pad", "scatter", "dynamic_update_slice"))  # what leaves a part known
_RANDOM = frozenset(f"random_{name}" for name in ("seed", "wrap", "unwrap", "fold_in", "split", "clone", "bits"))
_LIMITS = frozenset(("exp", "exp2", "logistic", "mul", "div", "add", "sub", "select_n"))


class Partly(NamedTuple):
    """An array of which some entries are known: its numbers, 0 where they are not, and where they are."""

    numbers: np.ndarray[Any, Any]
    known: np.ndarray[Any, Any]


def known_value(x: Any) -> np.ndarray[Any, Any] | None:
    """Return x as a NumPy array where it is known (a number, a NumPy or a concrete JAX array), None for a tracer or None.

    None for a random key too, which is no array of numbers.
    """
    if x is None or is_traced(x) or _kind(getattr(x, "dtype", np.dtype(int))) == "?":
        return None
    return np.asarray(x)


def fold(eqn: Any, inputs: Sequence[Any]) -> list[jax.Array] | None:
    """Return the outputs of an equation, one for each, where all are integers or booleans that follow from known operands.

    So are a known mask as numbers, and a few numbers (`MANY`) that are moved, sorted, added, multiplied, divided or rounded.
    They are concrete, also under ``jit``.

    None where an operand is traced, an output is of another kind, or the equation has effects.  Common primitives are done
    in NumPy; others by JAX itself, which compiles each of them once.

    Example:
        >>> import jax.numpy as jnp
        >>> eqn = jax.make_jaxpr(lambda i: i + 5)(jnp.arange(3)).eqns[0]
        >>> fold(eqn, [np.arange(3), 5])
        [Array([5, 6, 7], dtype=int32)]
    """
    if eqn.primitive.name in _RANDOM:
        return _drawn(eqn, inputs)
    outputs = _folded(eqn, inputs)
    if outputs is None:
        return None
    with jax.ensure_compile_time_eval():
        return [jnp.asarray(y, y.dtype) for y in outputs]  # without the dtype JAX compiles a program for each shape


def _drawn(eqn: Any, inputs: Sequence[Any]) -> list[jax.Array] | None:
    """The random keys and bits of an equation whose operands are known: the same in every run."""
    if any(x is None or is_traced(x) for x in inputs) or any(prod(v.aval.shape) > MANY for v in eqn.outvars):
        return None
    with jax.ensure_compile_time_eval():
        return bind_primitive(eqn.primitive, eqn.params, inputs)


def _folded(eqn: Any, inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    if eqn.effects or eqn.primitive.name == "pvary":  # which JAX evaluates inside of its ``shard_map`` alone
        return None
    record, body = record_of(eqn.primitive.name), inner_jaxpr(eqn)
    evaluate, adds = record.evaluate, record.kind is Kind.REDUCES or eqn.primitive.name == "sort"  # in JAX's own order
    floating = any(_kind(getattr(v.aval, "dtype", None)) not in "iub" for v in eqn.outvars)
    masks = bool(inputs) and all(_kind(getattr(x, "dtype", None)) == "b" for x in inputs)
    if floating and ((evaluate is None and body is None and not adds) or not (masks or all(map(_is_exact, eqn.outvars)))):
        return None
    if any(_kind(getattr(x, "dtype", np.dtype(int))) not in "iubf" for x in inputs):
        return None
    values = [known_value(x) for x in inputs]
    known = [np.asarray(x, v.aval.dtype) for x, v in zip(values, eqn.invars, strict=True) if x is not None]
    if len(known) < len(values) or any(_kind(v.dtype) not in "iubf" for v in known):
        return None
    if body is not None:
        return _fold_body(*body, known)
    with np.errstate(all="ignore"):  # XLA warns of nothing either
        out = NotImplemented if evaluate is None else evaluate(eqn.params, *known)
    if out is NotImplemented and floating and not masks and not adds:
        return None
    if out is NotImplemented:
        with jax.ensure_compile_time_eval():
            outputs = bind_primitive(eqn.primitive, eqn.params, known)
    else:
        outputs = out if eqn.primitive.multiple_results else [out]
    return [np.asarray(y, v.aval.dtype) for y, v in zip(outputs, eqn.outvars, strict=True)]


def _is_exact(v: Any) -> bool:
    """Whether NumPy's numbers are XLA's, and few enough to stand in a program."""
    return _tells(v.aval)


def _kind(dtype: Any) -> str:
    """The kind of a dtype; a random key's has none."""
    return getattr(dtype, "kind", None) or "?"


def _fold_body(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]] | None:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return literal_value(atom) if is_literal(atom) else values[atom]

    for eqn in jaxpr.eqns:
        outputs = _folded(eqn, [read(v) for v in eqn.invars])
        if outputs is None:
            return None
        values.update(zip(eqn.outvars, outputs, strict=True))
    out = [known_value(read(v)) for v in jaxpr.outvars]
    known = [v for v in out if v is not None]
    return known if len(known) == len(out) else None


# ---- what is known in part -----------------------------------------------------------------------------------------------
def partly_known(x: Any) -> Partly | None:
    """Return what is known of an array of integers or booleans, None where nothing is.

    Of a traced one the equations that made it are read back in the program being traced, the nearest ones, up to `FAR`
    values: of a concatenation of known arrays with others, say, the former are known.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> f = lambda i: print(partly_known(jnp.stack([jnp.arange(3), i])).known)
        >>> _ = jax.jit(f)(jnp.array([2, 0, 1]))
        [[ True  True  True]
         [False False False]]
    """
    return _parts_of([x])[0] if _kind(getattr(x, "dtype", None)) in "iub" else None


def _parts_of(xs: Sequence[Any], *, limits: bool = False) -> list[Partly | None]:
    """The same of several arrays, for which an equation that made more than one of them is worked out once.

    Of a few floating-point numbers too (`MANY`), where they are moved, or rounded as XLA does it.  With ``limits`` also what
    follows from one operand whatever finite numbers the others are, see `known_zeros`.
    """
    parts: dict[int, Partly | None] = {}
    equations: dict[int, tuple[Any, int]] = {}
    asked: dict[int, list[bool]] = {}  # by equation, which of its outputs
    waiting = list(xs)
    for at in waiting:  # it grows meanwhile
        if id(at) in parts or id(at) in equations:
            continue
        whole = _at_once(at)
        source = _read_back(at, limits) if whole is None and len(equations) < FAR * len(xs) else None
        if source is None:
            parts[id(at)] = whole
        else:
            eqn, number = equations[id(at)] = source
            asked.setdefault(id(eqn), [False] * len(eqn.outvars))[number] = True
            waiting.extend(eqn.invars)
    of_equation: dict[int, Sequence[Partly | None]] = {}  # by equation
    stack = list(xs)
    while stack:
        at = stack[-1]
        if id(at) not in parts:
            eqn, number = equations[id(at)]
            if id(eqn) not in of_equation:
                missing = [v for v in eqn.invars if id(v) not in parts]
                if missing:
                    stack.extend(missing)
                    continue
                of_equation[id(eqn)] = _partly(eqn, [parts[id(v)] for v in eqn.invars], asked[id(eqn)], limits)
            parts[id(at)] = of_equation[id(eqn)][number]
        stack.pop()
    return [parts[id(x)] for x in xs]


def wholly_known(xs: Sequence[Any]) -> list[np.ndarray[Any, Any] | None]:
    """The numbers of arrays of which all are known, of floating-point ones where they are few; None of others."""
    return [None if part is None or not part.known.all() else part.numbers for part in _parts_of(xs)]


def known_zeros(xs: Sequence[Any]) -> list[np.ndarray[Any, Any] | None]:
    """Where floating-point arrays are zero whatever the finite numbers are that they are made of; None of others.

    So is the exponential of what a known mask has set to −∞, and what is multiplied with it, or divided by another number.
    Cost: the equations that made the arrays are read back, and what is known among them is evaluated.
    """
    floats = [x for x in xs if is_traced(x) and _kind(getattr(x, "dtype", None)) == "f" and x.shape and _tells(x)]
    masks: dict[int, np.ndarray[Any, Any]] = {}
    for x, part in zip(floats, _parts_of(floats, limits=True), strict=True):
        if part is not None and (zero := part.known & (part.numbers == 0)).any():
            masks[id(x)] = zero
    return [masks.get(id(x)) for x in xs]


def _at_once(x: Any) -> Partly | None:
    """Numbers that are known, or that the program being traced has as a constant."""
    value = known_value(x)
    value = known_value(constant_of(x)) if value is None else value
    return _wholly(value) if value is not None and _tells(value) else None


def _tells(x: Any) -> bool:
    """Whether these are integers or booleans, or a few floating-point numbers."""
    kind = _kind(getattr(x, "dtype", None))
    return kind in "iub" or (kind == "f" and x.dtype in _EXACT and prod(x.shape) <= MANY)


def _read_back(x: Any, limits: bool = False) -> tuple[Any, int] | None:
    """The equation that made numbers and which of its outputs they are, where it is known what it does."""
    source = made_by(x) if _tells(x) else None
    if source is None:
        return None
    eqn = source[0]
    name = eqn.primitive.name
    told = name == "scan" or inner_jaxpr(eqn) is not None or record_of(name).evaluate is not None
    return source if told or (limits and name in _LIMITS) else None


def _wholly(value: np.ndarray[Any, Any]) -> Partly:
    return Partly(value, np.ones(value.shape, bool))


def _partly(
    eqn: Any, operands: Sequence[Partly | None], asked: Sequence[bool], limits: bool = False
) -> Sequence[Partly | None]:
    """The outputs of an equation that are asked for, as far as they follow from what is known of its operands."""
    nothing = [None] * len(eqn.outvars)
    known = [x for x in operands if x is not None]
    if len(known) == len(operands) and all(x.known.all() for x in known):
        outputs = _folded(eqn, [x.numbers for x in known])
        if outputs is not None or not limits:
            return nothing if outputs is None else list(map(_wholly, outputs))
    if eqn.effects:
        return nothing
    if eqn.primitive.name == "scan":
        return _partly_loop(eqn, operands, asked)
    if not known or (limits and eqn.primitive.name not in _JOINS and not any(x.known.any() and x.known.ndim for x in known)):
        return nothing
    body = inner_jaxpr(eqn)
    if body is not None:
        return _partly_body(*body, operands, asked, limits)
    limit = _limit(eqn, operands) if limits and eqn.primitive.name in _LIMITS else None
    return _partly_entries(eqn, operands) if limit is None else [limit]


def _limit(eqn: Any, operands: Sequence[Partly | None]) -> Partly | None:
    """What follows from a zero or an infinite number of one operand, or from a choice that is known."""
    (aval,), name = [v.aval for v in eqn.outvars], eqn.primitive.name
    if not _tells(aval) or len(operands) > CASES:
        return None
    given = [
        Partly(np.zeros(v.aval.shape, v.aval.dtype), np.zeros(v.aval.shape, bool)) if x is None else x
        for x, v in zip(operands, eqn.invars, strict=True)
    ]
    numbers, known = ([np.broadcast_to(part, aval.shape) for part in parts] for parts in zip(*given, strict=True))
    zero, infinite = ([k & test(x) for x, k in zip(numbers, known, strict=True)] for test in (lambda x: x == 0, np.isinf))
    every = np.logical_and.reduce(known)
    if name in ("exp", "exp2", "logistic"):
        return Partly(np.zeros(aval.shape, aval.dtype), infinite[0] & (numbers[0] < 0))
    if name == "select_n":
        which = np.where(known[0], numbers[0], 0).astype(int)
        value, chosen = (np.choose(which, cases) for cases in (numbers[1:], known[1:]))
        return Partly(np.where(known[0] & chosen, value, 0).astype(aval.dtype), known[0] & chosen)
    one_zero = zero[0] | zero[1] if name == "mul" else zero[0] if name == "div" else np.zeros(aval.shape, bool)
    one_infinite = (infinite[0] ^ infinite[1]) & (name in ("add", "sub"))
    with np.errstate(all="ignore"):
        value = record_of(name).evaluate(eqn.params, *numbers)  # type: ignore[misc]
    value = np.where(every | one_infinite, value, 0)
    return Partly(value.astype(aval.dtype), every | one_zero | one_infinite)


def _partly_entries(eqn: Any, operands: Sequence[Partly | None]) -> Sequence[Partly | None]:
    """The same, of an operation on each entry by itself, or one that moves entries: known is what comes from known ones."""
    record, avals = record_of(eqn.primitive.name), [v.aval for v in eqn.outvars]
    nothing = [None] * len(avals)
    if record.evaluate is None or not all(map(_tells, avals)):
        return nothing
    given = [
        Partly(np.zeros(v.aval.shape, v.aval.dtype), np.zeros(v.aval.shape, bool)) if x is None else x
        for x, v in zip(operands, eqn.invars, strict=True)
    ]
    with np.errstate(all="ignore"):  # XLA warns of nothing either
        numbers: Any = record.evaluate(eqn.params, *(x.numbers for x in given))
    if numbers is NotImplemented:
        return nothing
    if record.kind in _ENTRYWISE:
        numbers, known = [numbers], [np.logical_and.reduce([np.broadcast_to(x.known, avals[0].shape) for x in given])]
    elif record.kind in (Kind.MOVES, Kind.JOINS):
        known = record.evaluate(eqn.params, *(x.known for x in given))
        numbers, known = (numbers, known) if eqn.primitive.multiple_results else ([numbers], [known])
    else:
        return nothing
    return [Partly(np.asarray(y, aval.dtype), np.asarray(k)) for y, k, aval in zip(numbers, known, avals, strict=True)]


def _partly_body(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Partly | None], asked: Sequence[bool], limits: bool
) -> list[Partly | None]:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*map(_at_once, consts), *inputs), strict=True))

    def read(atom: Any) -> Partly | None:
        return _at_once(literal_value(atom)) if is_literal(atom) else values.get(atom)

    for eqn, _ in live_equations(jaxpr, asked):
        outputs = _partly(eqn, list(map(read, eqn.invars)), [True] * len(eqn.outvars), limits)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return list(map(read, jaxpr.outvars))


def _partly_loop(eqn: Any, operands: Sequence[Partly | None], asked: Sequence[bool]) -> Sequence[Partly | None]:
    """The outputs of a loop that are asked for and follow from known operands alone, such as what it counts.

    Cost: the loop's turns, of what these outputs need, compiled.
    """
    params, (consts, carried) = eqn.params, scan_counts(eqn.params)
    jaxpr, after = params["jaxpr"].jaxpr, consts + carried
    unknown = [x is None or not x.known.all() for x in operands]
    follows = dependent(eqn, unknown)
    wanted = [a and not f and _tells(v.aval) for a, f, v in zip(asked, follows, eqn.outvars, strict=True)]
    equations, needed, read = _needed(jaxpr, consts, carried, wanted)
    if any(map(_rounds, equations)):  # XLA may do it in another way elsewhere
        wanted = [w and _kind(v.aval.dtype) in "iub" for w, v in zip(wanted, eqn.outvars, strict=True)]
        equations, needed, read = _needed(jaxpr, consts, carried, wanted)
    if not any(wanted) or any(_kind(getattr(v.aval, "dtype", None)) == "?" for v in read):  # a random key has no zero
        return [None] * len(wanted)
    needed_carries = [k for k in range(carried) if needed[k]]
    cut = [k for k in range(after, len(unknown)) if jaxpr.invars[k] in read]

    def number(k: int) -> Any:
        """Operand k; what is not known of it does not matter, though an equation may take it."""
        x, v = operands[k], eqn.invars[k]
        return np.zeros(v.aval.shape, v.aval.dtype) if x is None or unknown[k] else np.asarray(x.numbers, v.aval.dtype)

    fixed = [k for k in range(consts) if jaxpr.invars[k] in read]

    def turned(start: Sequence[Any], slices: Sequence[Any], constants: Sequence[Any]) -> Any:
        def step(carry: Sequence[Any], given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            numbers = [*(consts + k for k in needed_carries), *cut, *fixed]
            values: dict[Any, Any] = dict(zip([jaxpr.invars[k] for k in numbers], [*carry, *given, *constants], strict=True))
            values.update(zip(jaxpr.constvars, params["jaxpr"].consts, strict=True))

            def at(v: Any) -> Any:
                return literal_value(v) if is_literal(v) else values[v]

            for e in equations:
                values.update(zip(e.outvars, bind(e, list(map(at, e.invars))), strict=True))
            stacked = zip(jaxpr.outvars[carried:], needed[carried:], strict=True)
            return [at(jaxpr.outvars[k]) for k in needed_carries], [at(v) for v, n in stacked if n]

        return jax.lax.scan(step, start, slices, length=params["length"], reverse=params["reverse"])

    inputs = [number(consts + k) for k in needed_carries], list(map(number, cut)), list(map(number, fixed))
    last, stacked = jax.jit(turned).lower(*inputs).compile()(*inputs)  # at once, whatever is being traced
    results = dict(zip([k for k, n in enumerate(needed) if n], [*last, *stacked], strict=True))
    return [_wholly(np.asarray(results[k])) if w else None for k, w in enumerate(wanted)]


def _needed(jaxpr: Any, consts: int, carried: int, wanted: Sequence[bool]) -> tuple[list[Any], list[bool], set[Any]]:
    """The equations of a loop's body that its wanted outputs need, with what is carried to them; and what these read."""
    needed = list(wanted)
    while True:
        equations = [e for e, _ in live_equations(jaxpr, needed)]
        read = {v for e in equations for v in e.invars if not is_literal(v)}
        read |= {v for v, n in zip(jaxpr.outvars, needed, strict=True) if n and not is_literal(v)}
        more = {k for k in range(carried) if not needed[k] and jaxpr.invars[consts + k] in read}
        if not more:
            return equations, needed, read
        needed = [n or k in more for k, n in enumerate(needed)]


def _rounds(eqn: Any) -> bool:
    """Whether an equation may round floating-point numbers."""
    inner = inner_equations(eqn.params)
    if inner:
        return any(map(_rounds, inner))
    moves = record_of(eqn.primitive.name).kind in (Kind.MOVES, Kind.JOINS, Kind.PICKS)
    floating = any(_kind(getattr(v.aval, "dtype", None)) not in "iub" for v in eqn.outvars)
    return floating and not moves and eqn.primitive.name not in _COPIES
