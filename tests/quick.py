"""How the tests of values compile: what costs XLA most of its time is left out, for single operations too.

What is left out is LLVM's optimisation, the newer of XLA's two ways of writing down a fused loop, and splitting code over
threads.  XLA's own passes over the program, which simplify, fuse and order it, run as ever.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from typing import Any

import jax
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir

OPTIMIZED = "jax_disable_most_optimizations"
LATELY = 1000  # executables that are kept
CHARACTERS = 10_000_000  # of their modules altogether: an executable takes some 20 bytes for each


@cache
def options() -> dict[str, Any]:
    """Options with which this XLA compiles small programs four times as fast; none where it does not know them."""
    quick = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    try:
        jax.jit(lambda x: x, compiler_options=quick)(0)
    except jax.errors.JaxRuntimeError:
        return {}
    return quick


@cache
def _told_to_xla() -> None:
    """From now on `options` hold wherever JAX compiles without most optimisations.

    ``jax.jit`` takes options of XLA, but an operation that is done by itself is compiled too, and has no place for them.
    """
    as_users_have_it = compiler.get_compile_options

    def get_compile_options(*args: Any, env_options_overrides: dict[str, Any] | None = None, **named: Any) -> Any:
        if jax.config.values[OPTIMIZED]:
            env_options_overrides = options() | (env_options_overrides or {})
        return as_users_have_it(*args, env_options_overrides=env_options_overrides, **named)

    compiler.get_compile_options = get_compile_options


class _Contexts(threading.local):
    """For each thread the context of MLIR that its modules are written in, and how many more it takes."""

    context: Any = None
    left = 0


@cache
def _one_context_for_many_modules() -> None:
    """From now on JAX writes many modules in one context of MLIR, wherever it compiles without most optimisations.

    JAX until 0.12 makes a context anew for each module, which loads every dialect: in a process of thousands of modules an
    eighth of the CPU time of all tests.  A context holds only what modules have in common (types, attributes, places in the
    source), so that it grows: hence a new one now and then; and one for itself for a module that is written while another
    one is, and would else be written into it.
    """
    as_users_have_it = mlir.make_ir_context
    here = _Contexts()

    def make_ir_context() -> Any:
        if not jax.config.values[OPTIMIZED] or (here.left and ir.Context.current is here.context):
            return as_users_have_it()
        if not here.left:
            here.context, here.left = as_users_have_it(), 100
        here.left -= 1
        return here.context

    mlir.make_ir_context = make_ir_context


@cache
def _equal_modules_are_compiled_once() -> None:
    """From now on a module that was compiled lately is not compiled again, wherever JAX compiles without most optimisations.

    Many programs are the same to XLA, in tests that write a program anew for each order, or compare with the same one: a
    tenth of the CPU time of all tests.  They are traced and lowered each.  What calls back knows its Python function by more
    than its text.
    """
    as_users_have_it = compiler.backend_compile_and_load
    lately: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
    lock = threading.Lock()

    def backend_compile_and_load(backend: Any, module: Any, devices: Any, options: Any, *more: Any) -> Any:
        if not jax.config.values[OPTIMIZED]:
            return as_users_have_it(backend, module, devices, options, *more)
        text = module.operation.get_asm(assume_verified=True, use_local_scope=True)  # JAX has verified it
        if any(more) or "callback" in text:
            return as_users_have_it(backend, module, devices, options, *more)
        parts = (text.encode(), options.SerializeAsString(), repr((backend.platform, id(backend), devices)).encode())
        key = sha256(b"|".join(parts)).digest()
        with lock:
            executable, _ = lately.pop(key, (None, 0))
        if executable is None:
            executable = as_users_have_it(backend, module, devices, options, *more)
        with lock:
            lately[key] = executable, len(text)
            while len(lately) > LATELY or sum(length for _, length in lately.values()) > CHARACTERS:
                lately.popitem(last=False)
        return executable

    compiler.backend_compile_and_load = backend_compile_and_load


@contextmanager
def compilation(*, quick: bool) -> Iterator[None]:
    """Compile quickly, or with all optimisations, inside the ``with``."""
    options()
    _told_to_xla()
    _one_context_for_many_modules()
    _equal_modules_are_compiled_once()
    before = jax.config.values[OPTIMIZED]
    jax.config.update(OPTIMIZED, quick)
    try:
        yield
    finally:
        jax.config.update(OPTIMIZED, before)


def optimized(f: Callable[..., Any]) -> Callable[..., Any]:
    """jax.jit with all optimisations, wherever it is called."""
    fast = jax.jit(f)

    def run(*args: Any) -> Any:
        with compilation(quick=False):
            return fast(*args)

    return run
