"""A function's system as text: its sizes, its edges by kind, its nodes, and what its gradient costs."""

from __future__ import annotations

import re
import sysconfig
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture import linearize
from backsolve.system.system import System

__all__ = ["WIDTH", "cost_lines", "cut", "kind_lines", "name_of", "node_lines", "sizes_lines", "told"]

WIDTH = 80
ROWS = 40  # of edges
LINE = 20  # characters of file:line


def sizes_lines(system: System) -> list[str]:
    """How many sources, nodes, outputs and edges there are, and of which spaces."""
    M, L, S = system.M, system.L, system.sinks
    n, p, q = L.shape[0], M.shape[1], S.shape[0]
    return [
        "System    dx = M dp + L dx,  dy = S dx",
        *_table(
            [
                ["  sources p", f"{p}", cut(", ".join(map(str, M.col_spaces)), 56)],
                ["  nodes x", f"{n}", f"{sum(space.size for space in L.row_spaces):,} numbers"],
                ["  outputs y", f"{q}", cut(", ".join(map(str, S.row_spaces)), 56)],
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
    "Inject": "into a tuple",
    "Project": "out of a tuple",
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
    if name in KINDS:
        return KINDS[name]
    text = re.sub(r"\([^()]*\)(?=[ᴴᴸᴿᵀ•])", "( )", text)
    return f"{text}  {SYMBOLS[text]}" if text in SYMBOLS else text


def kind_lines(system: System) -> list[str]:
    """How many edges there are of each kind."""
    counts = [Counter(_kind(op) for op in A.entries.values()) for A in (system.M, system.L)]
    order = sorted(set().union(*counts), key=lambda kind: (-sum(c[kind] for c in counts), kind))
    rows = [[f"  {cut(kind, 50)}", *(str(c[kind] or "·") for c in counts)] for kind in order]
    return _table([["Edges by kind", "M", "L"], *rows], right=(1, 2))


def node_lines(system: System) -> list[str]:
    """The nodes with their lines, and the edges that lead to them."""
    M, L = system.M, system.L
    edges: dict[int, list[tuple[str, str]]] = {i: [] for i in range(L.shape[0])}
    for prefix, A in (("p", M), ("x", L)):
        for (i, j), op in A.entries.items():
            edges[i].append((f"{prefix}{j}", getattr(op, "label", str(op))))
    rows, hidden = [["Nodes", "operation", "line", "shape", "from", "operator"]], 0
    for i, sources in edges.items():
        operation, line = _origin(L.name(i))
        head = [f"  x{i}", cut(operation, 18), line, cut(_shape_text(L.row_spaces[i]), 14)]
        for k, (source, label) in enumerate(sources or [("", "")]):
            if len(rows) > ROWS:
                hidden += 1
                continue
            rows.append([*(head if k == 0 else [""] * len(head)), source, label])
    lines = [cut(line, WIDTH) for line in _table(rows)]
    return lines + ([f"  … and {hidden} more edges"] if hidden else [])


def _origin(name: str) -> tuple[str, str]:
    """The operation and file:line of a node's name, ``tanh (/path/net.py:12:5 (layer))``."""
    match = re.match(r"(\S+) \((?:.*[/\\])?([^/\\():]+:\d+)", name)
    if match is None:
        return name.removesuffix(" ()"), ""
    file, _, line = match[2].rpartition(":")
    return match[1], f"{cut(file, LINE - 1 - len(line))}:{line}"


def _shape_text(space: Any) -> str:
    return re.sub(r"\b[a-z_]+\d+\[([^]]*)\]", r"\1", str(space))


def cost_lines(function: Callable[..., Any], arguments: Sequence[Any], argnums: Sequence[int], system: System) -> list[str]:
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


def cut(text: str, width: int) -> str:
    """The text in so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def told(error: BaseException) -> str:
    """An exception of the user's code in a line: type, message, and the last line of theirs that it went through."""
    text, place = " ".join(str(error).split()).rstrip("."), ""
    if isinstance(error, SyntaxError):
        text, place = error.msg, f"{error.filename}:{error.lineno}" if error.lineno else ""
    else:
        paths = sysconfig.get_paths()
        ours = str(Path(__file__).parents[1] / "cli"), paths["stdlib"], paths["purelib"], paths["platlib"], "<frozen"
        for frame in traceback.extract_tb(error.__traceback__):
            place = place if frame.filename.startswith(ours) else f"{frame.filename}:{frame.lineno}"
    return f"{type(error).__name__}: {text}" + (f", at {place}" if place else "")


def name_of(function: Any) -> str:
    """A function as messages call it."""
    return getattr(function, "__name__", None) or type(function).__name__
