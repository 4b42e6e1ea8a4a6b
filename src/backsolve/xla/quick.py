"""Quick compilation: what costs the compiler most of its time is left out, for good or until a program has run often.

On a CPU XLA has two ways to write down a fused loop: the older one takes half of the time to compile, its loops are about as
fast.  Without LLVM's optimisation compiling takes a quarter to a sixth of that, and the program 1.4 to 3.8 times as long:
a solver that asks for it fifty times has its result before optimising is done.  The programs of IPOPT's callbacks
(which `backsolve.tape` serves now) of a collocation with 300 unknowns, of one with 3,000, and of an optimal power flow of
118 buses, ms of processor time to compile, and in brackets µs to evaluate:

===============================  ========  =========  ==========
newer loops                       370                  2300
older loops                       136 (16)   143 (58)  1216 (175)
older loops, not optimised         38 (25)   43 (138)   187 (308)
===============================  ========  =========  ==========

Tried with jax and jaxlib 0.10.2, on two cores; 0.8.0 and 0.9.0 know the options too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from math import prod
from threading import Lock
from typing import Any

import jax

from backsolve.tracing.jaxpr import every_equation, inner_equations

__all__ = ["OptimizedLater", "evaluations_before_optimizing", "quickly_compiled"]

_OPTIONS = {"xla_cpu_use_fusion_emitters": False}
_UNOPTIMIZED = {**_OPTIONS, "xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
_LOOPS = ("scan", "while")

# Optimising takes some 1 ms an equation and gains 0.3 ns for each number that an equation makes.  It has paid for itself
# after 3,000,000 of these an equation; begun at a third of that, it is there at two thirds.
_NUMBERS = 1_000_000


def quickly_compiled(lowered: Any, options: Mapping[str, Any] = _OPTIONS) -> Any:
    """The executable of what `jax.stages.Traced.lower` gives."""
    if jax.default_backend() == "cpu":
        try:
            return lowered.compile(compiler_options=dict(options))
        except jax.errors.JaxRuntimeError:  # an XLA without one of these options; any other reason is met again
            pass
    return lowered.compile()


def evaluations_before_optimizing(jaxpr: Any) -> int:
    """After how many evaluations of a program to begin optimising it: the fewer, the more numbers an equation of it makes.

    At once (0) if there is a loop in it, for what that takes is not told by its equations, or on another device than a CPU.
    """
    equations = [eqn for eqn in every_equation(jaxpr) if not inner_equations(eqn.params)]
    loops = any(eqn.primitive.name in _LOOPS for eqn in every_equation(jaxpr))
    numbers = sum(prod(getattr(v.aval, "shape", ())) for eqn in equations for v in eqn.outvars)
    return 0 if loops or jax.default_backend() != "cpu" else _NUMBERS * len(equations) // max(numbers, 1)


class OptimizedLater:
    """The executable of a lowered program, optimised once it has run often.

    Optimising begins in another thread with evaluation number ``after``, and what comes of it runs from evaluation
    2 · ``after`` on: by counts and not by the clock, so that the same calls have the same results.  Those of the two
    programs may differ in their last bits.  With ``after`` = 0 it is optimised from the start.  Several threads may call it.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> run = OptimizedLater(jax.jit(jnp.sin).lower(0.0), after=100)
        >>> [float(run(0.0)) for _ in range(2)]
        [0.0, 0.0]
    """

    def __init__(self, lowered: Any, after: int) -> None:
        self._lowered = lowered
        self._after = after
        self._numbers: Iterator[int] = count(1)
        self._lock = Lock()
        self._optimized: Future[Any] | None = None
        self._run = quickly_compiled(lowered, _UNOPTIMIZED if after else _OPTIONS)

    def __call__(self, *args: Any) -> Any:
        number = next(self._numbers)
        if number == self._after:
            self._optimizing()
        elif number == 2 * self._after:
            self._run = self._optimizing().result()
        return self._run(*args)

    def _optimizing(self) -> Future[Any]:
        """What compiles the optimised program, begun when it is first asked for."""
        with self._lock:
            if self._optimized is None:
                pool = ThreadPoolExecutor(1)
                self._optimized = pool.submit(quickly_compiled, self._lowered)
                pool.shutdown(wait=False)
            return self._optimized
