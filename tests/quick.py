"""How the tests of values compile: what costs XLA most of its time is left out, for single operations too.

What is left out is LLVM's optimisation, the newer of XLA's two ways of writing down a fused loop, and splitting code over
threads.  XLA's own passes over the program, which simplify, fuse and order it, run as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jax
from jax._src import compiler

OPTIMIZED = "jax_disable_most_optimizations"


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


@contextmanager
def compilation(*, quick: bool) -> Iterator[None]:
    """Compile quickly, or with all optimisations, inside the ``with``."""
    options()
    _told_to_xla()
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
