"""Solvers under `jax.numpy_dtype_promotion("strict")`: their numbers in double precision meet the unknowns in any."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import jax

__all__ = ["promoting"]

P = ParamSpec("P")
R = TypeVar("R")


def promoting(solver: Callable[P, R]) -> Callable[P, R]:
    """A solver whose own arithmetic promotes dtypes as JAX does by itself; the function it is given, as the caller asked."""
    first = next(iter(signature(solver).parameters))

    @wraps(solver)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        asked = jax.config.jax_numpy_dtype_promotion  # type: ignore[attr-defined]
        function: Any = args[0] if args else kwargs.get(first)
        if asked == "standard" or not callable(function):
            return solver(*args, **kwargs)

        @wraps(function)
        def as_asked(*inputs: Any, **more: Any) -> Any:
            with jax.numpy_dtype_promotion(asked):
                return function(*inputs, **more)

        with jax.numpy_dtype_promotion("standard"):
            if args:
                return solver(as_asked, *args[1:], **kwargs)  # type: ignore[arg-type]
            return solver(**{**kwargs, first: as_asked})  # type: ignore[arg-type, call-arg]

    return call
