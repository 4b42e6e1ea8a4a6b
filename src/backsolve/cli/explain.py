"""`backsolve explain`: a function's system as text: its sizes, its edges by kind, its nodes, and what its gradient costs."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.spaces import available_memory
from backsolve.capture import linearize
from backsolve.system.system import System

__all__ = ["ExplainError", "Inputs", "explain", "find_function", "linearize_target", "make_inputs", "wide_enough"]

WIDTH = 80
ROWS = 40  # of edges
LINE = 20  # characters of file:line
WIDE = ("float64", "complex128", "int64", "uint64")


class ExplainError(ValueError):
    """What was asked for cannot be explained; the message says why and what to do."""


def find_function(target: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION or path/to/file.py:FUNCTION names; FUNCTION may have dots.

    Raises `ExplainError` where there is no such module, file or function, and where it cannot be imported.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ExplainError(f"expected MODULE:FUNCTION or path/to/file.py:FUNCTION, got {target!r}.")
    target_value: Any = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    owner, parts = target_value, name.split(".")
    for k, part in enumerate(parts):
        if not hasattr(target_value, part):
            inside = getattr(target_value, "__dict__", {})
            offered = sorted(key for key, value in inside.items() if callable(value) and not key.startswith("_"))
            close = difflib.get_close_matches(part, offered, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(offered[:8]) or 'none'}."
            raise ExplainError(f"{':'.join([place, '.'.join(parts[:k])]).rstrip(':')} has no function {part!r}; {hint}")
        owner, target_value = target_value, getattr(target_value, part)
    if not callable(target_value):
        raise ExplainError(f"{target} is no function but {type(target_value).__name__}.")
    if isinstance(owner, type) and inspect.isfunction(inspect.getattr_static(owner, part)):
        raise ExplainError(f"{target} is a method; name that of an instance, it.{part} with it = {owner.__name__}().")
    return target_value  # type: ignore[no-any-return]


def _load_module(name: str) -> Any:
    if name.startswith("."):
        raise ExplainError(f"a module is named from its outermost package on, got {name!r}.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ExplainError(
                f"there is no module {name!r}, neither here nor installed; a file is named as path/to/file.py:FUNCTION."
            ) from None
        raise ExplainError(f"module {name!r} imports {error.name!r}, which is not installed.") from None
    except (Exception, SystemExit) as error:  # whatever the module raises is told as its own
        raise ExplainError(f"module {name!r} cannot be imported: {_told(error)}.") from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ExplainError(f"there is no file {str(path)!r}.")
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ExplainError(f"{str(path)!r} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file raises is told as its own
        raise ExplainError(f"{str(path)!r} cannot be imported: {_told(error)}.") from error
    return module


def _told(error: BaseException) -> str:
    """An exception of the user's code in a line: type, message, and the last line of theirs that it went through."""
    text, place = " ".join(str(error).split()).rstrip("."), ""
    if isinstance(error, SyntaxError):
        text, place = error.msg, f"{error.filename}:{error.lineno}" if error.lineno else ""
    else:
        paths = sysconfig.get_paths()
        ours = str(Path(__file__).parent), paths["stdlib"], paths["purelib"], paths["platlib"], "<frozen"
        for frame in traceback.extract_tb(error.__traceback__):
            place = place if frame.filename.startswith(ours) else f"{frame.filename}:{frame.lineno}"
    return f"{type(error).__name__}: {text}" + (f", at {place}" if place else "")


@dataclass(frozen=True)
class Inputs:
    """What a function is called with: its arguments in order, those by keyword, a line on each, and what is moved."""

    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    lines: tuple[str, ...]
    argnums: tuple[int, ...]


def make_inputs(function: Callable[..., Any], shapes: Sequence[str], dtypes: Sequence[str]) -> Inputs:
    """Random inputs for the function's parameters that have no default: scalars, unless ``shapes`` says otherwise.

    ``shapes`` holds x=3,4 (an array), x= (a scalar) or x=3,4;4 (a list of arrays), ``dtypes`` a dtype for all or x=int32.
    Raises `ExplainError` for a parameter that the function does not have, and for what is no shape or dtype.
    """
    parameters = _parameters(function)
    given = {name: _shape(name, text) for name, text in _by_name("--shape", shapes).items()}
    named = {name: _dtype(text) for name, text in _by_name("--dtype", [d for d in dtypes if "=" in d]).items()}
    default = [_dtype(entry) for entry in ["float32", *dtypes] if "=" not in entry][-1]
    for name in [*given, *named]:
        if name not in parameters:
            raise ExplainError(f"the function has no parameter {name!r}; it has {', '.join(parameters) or 'none'}.")
    rng = np.random.default_rng(0)
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    lines, argnums = [], []
    skipped = False  # a parameter left at its default; what follows goes by keyword
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty and name not in given and name not in named:
            lines.append(f"{name} = {parameter.default!r} (its default)")
            skipped = True
            continue
        shape, dtype = given.get(name, ()), named.get(name, default)
        _require_room(name, shape, dtype)
        value = [_array(rng, s, dtype) for s in shape] if isinstance(shape, list) else _array(rng, shape, dtype)
        assumed = "" if name in given else " (assumed; --shape " + name + "=3,4 says otherwise)"
        lines.append(f"{name} : {_spaces(value)}{assumed}")
        if parameter.kind is parameter.KEYWORD_ONLY or (skipped and parameter.kind is not parameter.POSITIONAL_ONLY):
            keywords[name] = value
            continue
        if jnp.issubdtype(np.dtype(dtype), np.inexact):
            argnums.append(len(arguments))
        arguments.append(value)
    if not argnums:
        raise ExplainError(
            f"no input of {_name(function)} can be varied: that takes a positional parameter of real or complex numbers; "
            "one with a default is varied if --shape names it."
        )
    return Inputs(tuple(arguments), keywords, tuple(lines), tuple(argnums))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ExplainError(f"{_name(function)} does not tell its parameters; wrap it in a function that does.") from None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}


def _named(entry: str) -> tuple[str, str]:
    name, equals, text = entry.partition("=")
    if not equals or not name.strip():
        raise ExplainError(f"expected NAME=SIZES such as x=3,4, got {entry!r}.")
    return name.strip(), text.strip()


def _by_name(option: str, entries: Sequence[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, text in map(_named, entries):
        if name in texts:
            raise ExplainError(f"{option} names {name!r} twice: {texts[name]!r} and {text!r}.")
        texts[name] = text
    return texts


def _shape(name: str, text: str) -> tuple[int, ...] | list[tuple[int, ...]]:
    if ";" in text:
        return [_sizes(name, part) for part in text.split(";")]
    return _sizes(name, text)


def _sizes(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    parts = parts if parts[-1] else parts[:-1]  # as Python writes (3,)
    if not all(part.isdecimal() for part in parts):
        raise ExplainError(f"the shape of {name!r} must be whole numbers such as 3,4, got {text!r}.")
    return tuple(int(part) for part in parts)


def _dtype(text: str) -> str:
    try:
        dtype = np.dtype(jnp.dtype(text))
    except TypeError:
        dtype = None
    if dtype is None or not (jnp.issubdtype(dtype, np.number) or dtype.kind == "b"):
        raise ExplainError(f"there is no dtype {text!r}; use float32, float64, bfloat16, complex64, int32, ...")
    return dtype.name


def _require_room(name: str, shape: Any, dtype: str) -> None:
    """Raise `ExplainError` where random numbers of these shapes do not fit into memory, before any are drawn."""
    shapes = shape if isinstance(shape, list) else [shape]
    needed = sum(prod(max(n, 1) for n in s) for s in shapes) * (8 + jnp.dtype(dtype).itemsize)  # they are drawn in float64
    if needed > 2**24 and needed > (limit := available_memory()):
        sizes = ", ".join("×".join(map(str, s)) for s in shapes)
        raise ExplainError(
            f"{name} : {dtype}[{sizes}] is too large: to make it takes {needed:,} bytes, and {limit:,} are available."
        )


def _array(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    kind = jnp.dtype(dtype)
    if jnp.issubdtype(kind, np.inexact):
        return jnp.asarray(rng.standard_normal(shape), kind)
    return jnp.zeros(shape, kind)


def _space(x: Any) -> str:
    return f"{x.dtype}[{'×'.join(map(str, x.shape)) or 'scalar'}]"


def _spaces(value: Any) -> str:
    return "[" + ", ".join(map(_space, value)) + "]" if isinstance(value, list) else _space(value)


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def wide_enough(dtypes: Sequence[str]) -> AbstractContextManager[Any]:
    """A context in which JAX keeps the dtypes that are asked for: with 64 bits where one of them has 64."""
    wide = any(_dtype(entry.rpartition("=")[2]) in WIDE for entry in dtypes)
    context: AbstractContextManager[Any] = jax.enable_x64(wide or jnp.result_type(float) == np.float64)
    return context


def linearize_target(target: str, shapes: Sequence[str], dtypes: Sequence[str]) -> tuple[Callable[..., Any], Inputs, System]:
    """MODULE:FUNCTION as a function of its positional arguments, random inputs for it, and its system there.

    Raises `ExplainError` where the function is not found, its inputs cannot be made, or it cannot be linearized there.
    """
    function = find_function(target)
    inputs = make_inputs(function, shapes, dtypes)

    def called(*arguments: Any) -> Any:
        return function(*arguments, **inputs.keywords)

    called.__name__ = _name(function)
    called.__wrapped__ = function  # type: ignore[attr-defined]  # so that errors point at the user's own line
    try:
        return called, inputs, linearize(called, *inputs.arguments, argnums=inputs.argnums)
    except (Exception, SystemExit) as error:  # whatever the user's function raises is told as its own
        described = ", ".join(inputs.lines)
        raise ExplainError(
            f"{target} cannot be linearized with these inputs, {described}: {_told(error)}. "
            "Other inputs: --shape NAME=3,4 --dtype NAME=int32"
        ) from error


def explain(target: str, shapes: Sequence[str] = (), dtypes: Sequence[str] = ()) -> str:
    """The text that `backsolve explain` prints: the system of the function at random inputs.

    Raises `ExplainError` where the function is not found, its inputs cannot be made, or it cannot be linearized there.
    Cost: one evaluation of the function, and compiling it and its gradient.
    """
    with wide_enough(dtypes):
        called, inputs, system = linearize_target(target, shapes, dtypes)
        parts = [
            [target, *(_cut(f"  {line}", WIDTH) for line in inputs.lines)],
            _sizes_lines(system, inputs.argnums),
            _kind_lines(system),
            _node_lines(system),
            _cost_lines(called, inputs, system),
        ]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _sizes_lines(system: System, argnums: Sequence[int]) -> list[str]:
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


def _kind_lines(system: System) -> list[str]:
    counts = [Counter(_kind(op) for op in A.entries.values()) for A in (system.M, system.L)]
    order = sorted(set().union(*counts), key=lambda kind: (-sum(c[kind] for c in counts), kind))
    rows = [[f"  {_cut(kind, 50)}", *(str(c[kind] or "·") for c in counts)] for kind in order]
    return _table([["Edges by kind", "M", "L"], *rows], right=(1, 2))


def _node_lines(system: System) -> list[str]:
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


def _cost_lines(function: Callable[..., Any], inputs: Inputs, system: System) -> list[str]:
    ones = jax.tree_util.tree_map(lambda y: jnp.ones(jnp.shape(y), jnp.result_type(y)), system.value)

    def gradient(*arguments: Any) -> Any:
        return linearize(function, *arguments, argnums=inputs.argnums).vjp(ones)

    rows = [["Cost", "f", "gradient", "ratio"]]
    try:
        compiled = [jax.jit(g).lower(*inputs.arguments).compile() for g in (function, gradient)]
    except (TypeError, ValueError, NotImplementedError) as error:  # JAX's: branches on values, forward mode alone
        told = f"not known, since {_name(function)} or its gradient cannot be compiled: {_told(error)}"
        return ["Cost", *textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="  ")]
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
    return text if len(text) <= width else text[: width - 1] + "…"
