"""`inline`: what a function calls of compiled programs runs in its own thread; on a CPU, JAX hands all but the smallest on.

A program of more than a thousand operations is handed to a thread of XLA's, so that the caller may go on.  A solver in
Python that waits for each result pays for two changes of threads: 30 µs of processor time for a program of 5 µs, and on a
machine that is at work as long as it takes until the other thread's turn comes.  Called back from a program, XLA does not do
that: there a thread that waits for others could wait for ever.  So the solver itself is called back, by a program that has
nothing else to do.  f, g and derivatives of a collocation with 300 unknowns, µs of processor time: 57 handed on, 17 here.
Tried with jax 0.8.0 to 0.12.0.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import io_callback

__all__ = ["inline"]

T = TypeVar("T")

# What the program that is called next calls back.  Another thread, to which JAX may hand that program on, has none.
_CALLED: ContextVar[Callable[[], None] | None] = ContextVar("_CALLED", default=None)


def inline(function: Callable[[], T]) -> T:
    """Return ``function()``, in this thread, and so the programs that it calls where XLA can do that.

    Elsewhere (another device, a program of this thread that is still running in another one) it is called all the same.
    Raises what it raises.  Cost: some 10 ms of compiling for the first one of a process, then 20 µs.
    """
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    result: list[T] = []
    errors: list[BaseException] = []

    def called() -> None:
        with jax.default_device(device):  # a callback has a device of its own, for which programs would be compiled again
            try:
                result.append(function())
            except BaseException as error:  # noqa: BLE001  (raised below: JAX makes errors of its own of all)
                errors.append(error)

    if jax.default_backend() == "cpu":
        token = _CALLED.set(called)
        try:
            # What is handed on waits until this thread's earlier programs have run: after that the next one is not.
            _ = np.asarray(_program()()) or np.asarray(_program()())
        finally:
            _CALLED.reset(token)
    if not result and not errors:
        return function()
    if errors:
        raise errors[0]
    return result[0]


@cache
def _program() -> Any:
    """A program that calls back and says whether it could; made in a thread of its own, where no mesh is set."""

    def compiled() -> Any:
        truth = jax.ShapeDtypeStruct((), np.bool_)  # type: ignore[no-untyped-call]
        return jax.jit(lambda: io_callback(_call_back, truth)).lower().compile()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(compiled).result()


def _call_back() -> np.bool_:
    called = _CALLED.get()
    if called is None:
        return np.False_
    called()
    return np.True_
