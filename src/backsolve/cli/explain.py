"""`backsolve explain`: a function found by its name, linearized at random inputs, as text."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.spaces import available_memory
from backsolve.capture import linearize
from backsolve.capture.linearized import name_of
from backsolve.capture.names import source_names
from backsolve.system.system import System
from backsolve.transforms.explain import Call, call_of, space_of, text_of, told

__all__ = ["ExplainError", "Inputs", "explain", "find_function", "linearize_target", "make_inputs", "wide_enough"]

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
        raise ExplainError(f"module {name!r} cannot be imported: {told(error)}.") from error


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
        raise ExplainError(f"{str(path)!r} cannot be imported: {told(error)}.") from error
    return module


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
            f"no input of {name_of(function)} can be varied: that takes a positional parameter of real or complex numbers; "
            "one with a default is varied if --shape names it."
        )
    return Inputs(tuple(arguments), keywords, tuple(lines), tuple(argnums))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ExplainError(f"{name_of(function)} does not tell its parameters; wrap it in a function that does.") from None
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


def _spaces(value: Any) -> str:
    return "[" + ", ".join(map(space_of, value)) + "]" if isinstance(value, list) else space_of(value)


def wide_enough(dtypes: Sequence[str], args: str | None = None) -> AbstractContextManager[Any]:
    """A context in which JAX keeps the dtypes that are asked for: with 64 bits where one of them has 64.

    Where ``args`` makes the inputs, it is for the user's module to say.
    """
    if args is not None:
        return nullcontext()
    wide = any(_dtype(entry.rpartition("=")[2]) in WIDE for entry in dtypes)
    context: AbstractContextManager[Any] = jax.enable_x64(wide or jnp.result_type(float) == np.float64)
    return context


def linearize_target(
    target: str, shapes: Sequence[str], dtypes: Sequence[str], args: str | None = None
) -> tuple[Call, System]:
    """MODULE:FUNCTION as a function of arrays with inputs for it, and its system there.

    Inputs are random, or what the function that ``args`` names returns: a tuple of them, or one that is none.
    Raises `ExplainError` where the function is not found, its inputs cannot be made, or it cannot be linearized there.
    """
    function = find_function(target)
    call = _random_call(function, shapes, dtypes) if args is None else _made_call(function, args, [*shapes, *dtypes])
    try:
        return call, linearize(call.function, *call.arguments, argnums=call.argnums)
    except (Exception, SystemExit) as error:  # whatever the user's function raises is told as its own
        described = ", ".join(call.lines)
        remedy = "Other inputs: --shape NAME=3,4 --dtype NAME=int32" if args is None else f"They are made by {args}."
        raise ExplainError(
            f"{target} cannot be linearized with these inputs, {described}: {told(error)}. {remedy}"
        ) from error


def _random_call(function: Callable[..., Any], shapes: Sequence[str], dtypes: Sequence[str]) -> Call:
    inputs = make_inputs(function, shapes, dtypes)

    def called(*arguments: Any) -> Any:
        return function(*arguments, **inputs.keywords)

    called.__name__ = name_of(function)
    called.__wrapped__ = function  # type: ignore[attr-defined]  # so that errors point at the user's own line
    parameters = [line.split(" ")[0] for line in inputs.lines if "(its default)" not in line]
    names = source_names([parameters[i] for i in inputs.argnums], [inputs.arguments[i] for i in inputs.argnums])
    return Call(called, inputs.arguments, inputs.argnums, inputs.lines, names)


def _made_call(function: Callable[..., Any], args: str, others: Sequence[str]) -> Call:
    if others:
        raise ExplainError(f"--args makes all inputs: leave out --shape and --dtype, {', '.join(others)}.")
    make = find_function(args)
    try:
        arguments = make()
    except (Exception, SystemExit) as error:  # whatever the user's function raises is told as its own
        raise ExplainError(f"--args {args} is called without arguments, and raises {told(error)}.") from error
    try:
        return call_of(function, arguments if isinstance(arguments, tuple) else (arguments,), {})
    except TypeError as error:
        raise ExplainError(f"{error} They are made by {args}: a tuple of arguments, or one that is none.") from error


def explain(target: str, shapes: Sequence[str] = (), dtypes: Sequence[str] = (), args: str | None = None) -> str:
    """The text that `backsolve explain` prints: the system of the function at random inputs, or at those ``args`` makes.

    Raises `ExplainError` where the function is not found, its inputs cannot be made, or it cannot be linearized there.
    Cost: one evaluation of the function, and compiling it and its gradient.
    """
    with wide_enough(dtypes, args):
        return text_of(target, *linearize_target(target, shapes, dtypes, args))
