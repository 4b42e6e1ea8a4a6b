"""Quick compilation: of XLA's two ways to write down a fused loop the one that takes less time, where it knows both.

On a CPU the newer way takes most of the time of compiling a small program and the loops it writes are no faster.  IPOPT's
three functions, compiled in either way, seconds of two cores: collocation of 300 unknowns 0.42 and 0.17, an optimal power
flow of 118 buses 2.3 and 0.9.
"""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["quickly_compiled"]

_OPTIONS = {"xla_cpu_use_fusion_emitters": False}


def quickly_compiled(lowered: Any) -> Any:
    """The executable of what `jax.stages.Traced.lower` gives."""
    if jax.default_backend() == "cpu":
        try:
            return lowered.compile(compiler_options=_OPTIONS)
        except jax.errors.JaxRuntimeError:  # an XLA without this option; any other reason is met again
            pass
    return lowered.compile()
