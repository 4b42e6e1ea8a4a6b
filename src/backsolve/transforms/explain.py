"""A function's system as text: its sizes, its edges by kind, its nodes, and what its gradient costs."""

from __future__ import annotations

import re
import sysconfig
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import short
from backsolve.capture import linearize
from backsolve.capture.linearized import name_of, normalized_argnums
from backsolve.capture.names import parameter_names, source_names
from backsolve.operators.moves import Component
from backsolve.system.system import System

__all__ = ["WIDTH", "Call", "Explanation", "call_of", "explain", "space_of", "text_of", "told"]

Argnums = int | Sequence[int] | None

WIDTH = 80
ROWS = 40  # of edges
LINE = 20  # characters of file:line


class Explanation(str):
    """A text that prints as it is, with the ``system`` that it tells of."""

    system: System

    def __repr__(self) -> str:
        return str(self)


def explain(f: Callable[..., Any], *args: Any, argnums: Argnums = None, **kwargs: Any) -> Explanation:
    """Return what ``backsolve explain`` prints of f at these arguments: its system, edges, nodes, and its gradient's cost.

    Arguments may be any pytrees.  Sources are the leaves of the arguments ``argnums``, by default of all that have real or
    complex numbers, and are named as in ``params['dense']['kernel']``; what is no array is handed to f as it is.
    The result is a string; its ``system`` is that of `linearize`.
    Raises `TypeError` where there is nothing to vary, otherwise as `linearize`.
    Cost: one evaluation of f, and compiling it and its gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> told = explain(lambda p, x: jnp.sum(p["w"] * x), {"w": jnp.ones(3)}, 2.0)
        >>> print("\\n".join(told.splitlines()[:7]))
        <lambda>
          p : 1 array, 3 numbers
          x : float32[scalar]
        <BLANKLINE>
        Sources
          p0  p['w']  float32[3]
          p1  x       float32[scalar]
    """
    call = call_of(f, args, kwargs, argnums)
    system = linearize(call.function, *call.arguments, argnums=call.argnums)
    explanation = Explanation(text_of(name_of(f), call, system))
    explanation.system = system
    return explanation


@dataclass(frozen=True)
class Call:
    """A function of arrays alone, what it is called with, which of that is varied, a line on each, and names of sources."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    argnums: tuple[int, ...]
    lines: tuple[str, ...]
    names: tuple[str, ...]


def call_of(f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], argnums: Argnums = None) -> Call:
    """The call f(*args, **kwargs) with all that is no array put into the function.

    Raises `TypeError` where nothing can be varied, and where what is to be varied is no array.
    """
    if not callable(f):
        raise TypeError(f"explain takes a function of JAX arrays and its arguments, got {short(f)}.")
    names = parameter_names(f, len(args))
    arrays = [i for i, arg in enumerate(args) if _is_of_arrays(arg)]
    if argnums is None:
        chosen = [i for i in arrays if any(map(_varies, jax.tree_util.tree_leaves(args[i])))]
        if not chosen:
            raise TypeError(
                f"nothing of {name_of(f)} can be varied: that takes a positional argument with arrays of real or complex "
                f"numbers, got {', '.join(map(short, args)) or 'none'}."
            )
    else:
        chosen = normalized_argnums(argnums, len(args), f)
        for i in chosen:
            if i not in arrays:
                raise TypeError(f"argument {i} of {name_of(f)}, {names[i]}, is to be varied but is {short(args[i])}.")

    def called(*given: Any) -> Any:
        arguments = list(args)
        for i, value in zip(arrays, given, strict=True):
            arguments[i] = value
        return f(*arguments, **kwargs)

    called.__name__ = name_of(f)
    called.__wrapped__ = f  # type: ignore[attr-defined]  # so that errors point at the user's own line
    lines = [f"{name} : {_described(arg)}" for name, arg in zip(names, args, strict=True)]
    return Call(
        called,
        tuple(args[i] for i in arrays),
        tuple(map(arrays.index, chosen)),
        (*lines, *(f"{name} : {_described(value)}" for name, value in kwargs.items())),
        source_names([names[i] for i in chosen], [args[i] for i in chosen]),
    )


def _is_of_arrays(argument: Any) -> bool:
    leaves = jax.tree_util.tree_leaves(argument)
    return bool(leaves) and all(is_number(x) or getattr(getattr(x, "dtype", None), "kind", "O") not in "OSU" for x in leaves)


def _varies(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), np.inexact))


def _described(argument: Any) -> str:
    leaves, tree = jax.tree_util.tree_flatten(argument)
    if not _is_of_arrays(argument):
        return short(argument)
    if jax.tree_util.treedef_is_leaf(tree):
        return space_of(argument)
    numbers = sum(prod(jnp.shape(leaf)) for leaf in leaves)
    return f"{len(leaves)} array{'' if len(leaves) == 1 else 's'}, {numbers:,} numbers"


def space_of(x: Any) -> str:
    """Dtype and shape of an array, as lines of arguments have them."""
    return f"{jnp.result_type(x)}[{'×'.join(map(str, jnp.shape(x))) or 'scalar'}]"


def text_of(title: str, call: Call, system: System) -> str:
    """The text on a system of this call."""
    parts = [
        [title, *(_cut(f"  {line}", WIDTH) for line in call.lines)],
        _source_lines(call, system),
        _sizes_lines(system),
        _kind_lines(system),
        _node_lines(system),
        _cost_lines(call.function, call.arguments, call.argnums, system),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _source_lines(call: Call, system: System) -> list[str]:
    """The sources by name, where they are not the arguments as they are."""
    if all(name.isidentifier() for name in call.names):
        return []
    spaces = [str(space) for space in system.M.col_spaces]
    rows = [[f"  p{j}", name, space] for j, (name, space) in enumerate(zip(call.names, spaces, strict=True))]
    lines = [_cut(line, WIDTH) for line in _table(rows[:ROWS])]
    return ["Sources", *lines, *([f"  … and {len(rows) - ROWS} more sources"] if len(rows) > ROWS else [])]


def _sizes_lines(system: System) -> list[str]:
    """How many sources, nodes, outputs and edges there are, and of which spaces."""
    M, L, S = system.M, system.L, system.sinks
    n, p, q = L.shape[0], M.shape[1], S.shape[0]
    return [
        "System    dx = M dp + L dx,  dy = S dx",
        *_table(
            [
                ["  sources p", f"{p}", _cut(", ".join(map(str, M.col_spaces)), 56)],
                ["  nodes x", f"{n}", f"{sum(space.size for space in L.row_spaces):,} numbers"],
                ["  outputs y", f"{q}", _cut(", ".join(map(str, S.row_spaces)), 56)],
                ["  non-zeros", f"{len(M.entries) + len(L.entries)}", _density(system)],
            ],
            right=(1,),
        ),
    ]


def _density(system: System) -> str:
    M, L = system.M, system.L
    return f"{len(M.entries)} in M ({M.shape[0]} × {M.shape[1]}), {len(L.entries)} in L ({L.shape[0]} × {L.shape[1]})"


KINDS = {
    "Identity": "identity",
    "Zero": "zero",
    "Scaling": "scaling",
    "Reshape": "reshape",
    "LinearMap": "opaque",
    "LinearEquation": "opaque",
    "Product": "product",
    "Sum": "sum",
}
SYMBOLS = {
    "( )ᴴ": "entry by entry",
    "( )ᴸ": "from the left",
    "( )ᴿ": "from the right",
    "( )ᵀ•": "inner product",
    "( )•": "times an array",
}


def _kind(operator: Any) -> str:
    name = type(operator).__name__
    text = getattr(operator, "label", str(operator)).lstrip("−")
    if name in ("LinearMap", "LinearEquation"):
        return f"opaque: {text}"
    if isinstance(operator, Component):
        return "into a tuple" if operator.transposed else "out of a tuple"
    if name in KINDS:
        return KINDS[name]
    text = re.sub(r"\([^()]*\)(?=[ᴴᴸᴿᵀ•])", "( )", text)
    return f"{text}  {SYMBOLS[text]}" if text in SYMBOLS else text


def _kind_lines(system: System) -> list[str]:
    """How many edges there are of each kind."""
    counts = [Counter(_kind(op) for op in A.entries.values()) for A in (system.M, system.L)]
    order = sorted(set().union(*counts), key=lambda kind: (-sum(c[kind] for c in counts), kind))
    rows = [[f"  {_cut(kind, 50)}", *(str(c[kind] or "·") for c in counts)] for kind in order]
    return _table([["Edges by kind", "M", "L"], *rows], right=(1, 2))


def _node_lines(system: System) -> list[str]:
    """The nodes with their lines, and the edges that lead to them."""
    M, L = system.M, system.L
    edges: dict[int, list[tuple[str, str]]] = {i: [] for i in range(L.shape[0])}
    for prefix, A in (("p", M), ("x", L)):
        for (i, j), op in A.entries.items():
            edges[i].append((f"{prefix}{j}", getattr(op, "label", str(op))))
    rows, hidden = [["Nodes", "operation", "line", "shape", "from", "operator"]], 0
    for i, sources in edges.items():
        operation, line = _origin(L.name(i))
        head = [f"  x{i}", _cut(operation, 18), line, _cut(_shape_text(L.row_spaces[i]), 14)]
        for k, (source, label) in enumerate(sources or [("", "")]):
            if len(rows) > ROWS:
                hidden += 1
                continue
            rows.append([*(head if k == 0 else [""] * len(head)), source, label])
    lines = [_cut(line, WIDTH) for line in _table(rows)]
    return lines + ([f"  … and {hidden} more edges"] if hidden else [])


def _origin(name: str) -> tuple[str, str]:
    """The operation and file:line of a node's name, ``tanh (/path/net.py:12:5 (layer))``."""
    match = re.match(r"(\S+) \((?:.*[/\\])?([^/\\():]+:\d+)", name)
    if match is None:
        return name.removesuffix(" ()"), ""
    file, _, line = match[2].rpartition(":")
    return match[1], f"{_cut(file, LINE - 1 - len(line))}:{line}"


def _shape_text(space: Any) -> str:
    return re.sub(r"\b[a-z_]+\d+\[([^]]*)\]", r"\1", str(space))


def _cost_lines(function: Callable[..., Any], arguments: Sequence[Any], argnums: Sequence[int], system: System) -> list[str]:
    """What XLA counts for the function and its gradient."""
    ones = jax.tree_util.tree_map(lambda y: jnp.ones(jnp.shape(y), jnp.result_type(y)), system.value)

    def gradient(*given: Any) -> Any:
        return linearize(function, *given, argnums=argnums).vjp(ones)

    rows = [["Cost", "f", "gradient", "ratio"]]
    try:
        compiled = [jax.jit(g).lower(*arguments).compile() for g in (function, gradient)]
    except (TypeError, ValueError, NotImplementedError) as error:  # JAX's: branches on values, forward mode alone
        text = f"not known, since {name_of(function)} or its gradient cannot be compiled: {told(error)}"
        return ["Cost", *textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")]
    flops = [float((c.cost_analysis() or {}).get("flops", np.nan)) for c in compiled]
    memory = [float(getattr(c.memory_analysis(), "temp_size_in_bytes", np.nan)) for c in compiled]
    for name, (of_f, of_gradient) in (("  flops", flops), ("  temporary bytes", memory)):
        ratio = f"{of_gradient / of_f:.2f}" if of_f else "-"
        rows.append([name, f"{of_f:,.0f}", f"{of_gradient:,.0f}", ratio])
    scalar = all(jnp.ndim(y) == 0 for y in jax.tree_util.tree_leaves(system.value))
    notes = ["  as XLA compiled them; the gradient includes f"]
    if not scalar or system.sinks.shape[0] != 1:
        notes.append("  the gradient is that of the sum of all outputs")
    return [*_table(rows, right=(1, 2, 3)), *notes]


def _table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Rows as lines, columns aligned and two blanks apart, those in ``right`` to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush = set(right)
    lines = []
    for row in rows:
        cells = [cell.rjust(w) if i in flush else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cut(text: str, width: int) -> str:
    """The text in so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def told(error: BaseException) -> str:
    """An exception of the user's code in a line: type, message, and the last line of theirs that it went through."""
    text, place = " ".join(str(error).split()).rstrip("."), ""
    if isinstance(error, SyntaxError):
        text, place = error.msg, f"{error.filename}:{error.lineno}" if error.lineno else ""
    else:
        paths = sysconfig.get_paths()
        ours = str(Path(__file__).parents[1]), paths["stdlib"], paths["purelib"], paths["platlib"], "<frozen"
        for frame in traceback.extract_tb(error.__traceback__):
            place = place if frame.filename.startswith(ours) else f"{frame.filename}:{frame.lineno}"
    return f"{type(error).__name__}: {text}" + (f", at {place}" if place else "")
