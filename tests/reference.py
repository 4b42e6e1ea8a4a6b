"""JAX's own derivatives, compiled as one program: what a test compares with need not be run operation by operation.

LLVM optimises them a little: without, XLA has made wrong numbers of one of JAX's own Jacobians, that of "hypot of sums" in
tests/capture/test_masks.py (jaxlib 0.10.2, by the older of its two ways of writing down a fused loop).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax._src import core

OPTIONS = {"xla_backend_optimization_level": 1}


def compiled(f: Callable[..., Any]) -> Any:
    """Any function of arrays, such as a derivative under ``vmap``."""
    return jax.jit(f, compiler_options=OPTIONS)


def jvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """jax.jvp, compiled."""
    return compiled(partial(jax.jvp, f))(primals, tangents)


def _compiled(transform: Callable[..., Any]) -> Callable[..., Any]:
    def of(f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        derivative = transform(f, *args, **options)
        run_compiled = compiled(derivative)

        def run(*xs: Any, **named: Any) -> Any:
            inside = not core.trace_state_clean()  # of another program, which has options of its own
            return (derivative if inside else run_compiled)(*xs, **named)

        return run

    of.__doc__ = f"jax.{transform.__name__}, compiled."
    return of


grad = _compiled(jax.grad)
jacfwd = _compiled(jax.jacfwd)
jacrev = _compiled(jax.jacrev)
jacobian = _compiled(jax.jacobian)
hessian = _compiled(jax.hessian)
