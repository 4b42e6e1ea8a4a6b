"""How many files of backsolve a call enters, and how many steps from file to file it takes.

``python -m benchmarks.stations`` prints them, with ``-v`` the files too.  Counted by `sys.setprofile` on small functions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp

import backsolve as bs

ROOT = str(Path(bs.__file__).parent)


def stations(call: Callable[[], Any]) -> tuple[list[str], set[tuple[str, str]]]:
    """The files that a call enters, in order of entrance, and the pairs of files where one's function calls another's."""
    entered: dict[str, None] = {}
    steps: set[tuple[str, str]] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(ROOT) or frame.f_code.co_name == "<module>":
            return
        entered.setdefault(file[len(ROOT) + 1 :])
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(ROOT):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != file:
            steps.add((caller.f_code.co_filename[len(ROOT) + 1 :], file[len(ROOT) + 1 :]))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(entered), steps


def net(w: jax.Array, x: jax.Array) -> jax.Array:
    """Two layers, with numbers coming out."""
    return jnp.tanh(w @ jnp.tanh(w @ x))


def loss(x: jax.Array) -> jax.Array:
    """A smooth sum with neighbours."""
    return jnp.sum(x**4) + jnp.sum((x[1:] - x[:-1]) ** 2)


def stencil(x: jax.Array) -> jax.Array:
    """Each entry with its two neighbours."""
    padded = jnp.pad(x, 1)
    return jnp.sin(x) * (padded[2:] - 2 * x + padded[:-2])


def calls() -> dict[str, Callable[[], Any]]:
    """The four ways through the house that docs/architecture.md follows."""
    w, x = jnp.eye(3) / 2, jnp.arange(3.0)
    return {
        "gradient": lambda: bs.grad(lambda x: jnp.sum(net(w, x)))(x),
        "dense Jacobian": lambda: bs.jacobian(net, argnums=1)(w, x),
        "sparse Jacobian": lambda: bs.jacobian(stencil, format="sparse")(x),
        "inverse-Hessian product": lambda: bs.inverse_hvp(loss, (x,), x, damping=1.0),
    }


def main() -> None:
    """Print the counts, and the files with ``-v``."""
    for name, call in calls().items():
        call()
        files, steps = stations(call)
        print(f"{name:25} {len(files):3} files {len(steps):4} steps")
        if "-v" in sys.argv:
            print("   ", " ".join(files))


if __name__ == "__main__":
    main()
