"""A boundary layer and a shock: singularly perturbed boundary-value problems by `backsolve.newton`, on many points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import backsolve

try:
    from common import command_line, timed
    from gains import gains
except ImportError:  # imported as a module, by the tests
    from .common import command_line, timed
    from .gains import gains

ENDS = -1.0, 1.5


def equations(points: int, thickness: float) -> Callable[[Any], Any]:
    """ε u″ + u u′ − u = 0 on [0, 1] with u(0) = −1, u(1) = 1.5: a shock of width ε (Lagerstrom and Cole).

    u u′ is taken as (u²/2)′, by central differences, all times the step, so that rounding is small; u are the inner values.
    """
    h = 1.0 / (points + 1)

    def residual(u: Any) -> Any:
        u = jnp.concatenate([jnp.array(ENDS[:1]), u, jnp.array(ENDS[1:])])
        bend = (u[2:] - 2 * u[1:-1] + u[:-2]) / h
        return thickness * bend + (u[2:] ** 2 - u[:-2] ** 2) / 4 - h * u[1:-1]

    return residual


def solved(points: int, thickest: float, halvings: int) -> list[tuple[float, Any]]:
    """The solutions for ever thinner shocks, each the start of the next."""
    u = jnp.linspace(*ENDS, points + 2)[1:-1]
    found = []
    for k in range(halvings + 1):
        thickness = thickest / 2**k
        solution = backsolve.newton(equations(points, thickness), u, tol=1e-11)
        u = solution.x
        found.append((thickness, solution))
    return found


def dense(points: int, thickness: float) -> Any:
    """The thickest shock by Newton's method with JAX's dense Jacobian."""
    F = jax.jit(equations(points, thickness))
    J = jax.jit(jax.jacfwd(equations(points, thickness)))
    u = jnp.linspace(*ENDS, points + 2)[1:-1]
    first = float(jnp.linalg.norm(F(u)))
    for _ in range(50):
        if jnp.linalg.norm(F(u)) <= 1e-9 * first:
            break
        d, t = jnp.linalg.solve(J(u), -F(u)), 1.0
        while not jnp.linalg.norm(F(u + t * d)) < jnp.linalg.norm(F(u)):
            t /= 2
        u = u + t * d
    return u


def run(*, small: bool = False, output: Path = Path("boundary_value.png")) -> dict[str, Any]:
    """Sharpen a shock, print the gain over a dense Jacobian, and draw the solutions."""
    few, points, halvings = (100, 400, 2) if small else (1_500, 100_000, 5)
    with jax.enable_x64(True):
        mine, seconds = timed(lambda: solved(few, 0.08, 0)[0][1])
        theirs, dense_seconds = timed(lambda: dense(few, 0.08))
        gains(f"{few:,} points", {"newton": seconds, "dense Jacobian": dense_seconds})
        found, total = timed(lambda: solved(points, 0.08, halvings))
    steps = sum(solution.steps for _, solution in found)
    print(f"{points:,} points, {len(found)} thicknesses: {total:.2f} s, {steps} steps, {total / steps:.3f} s each")
    x = np.linspace(0, 1, points + 2)[1:-1]
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for k, (thickness, solution) in enumerate(found):
        ax.plot(x, solution.x, color=(0.9 * (1 - k / len(found)), 0.3, 0.9 * k / len(found)), label=f"ε = {thickness:.3g}")
    ax.set(xlabel="x", ylabel="u", title="ε u″ + u u′ = u")
    ax.legend()
    figure.savefig(output, dpi=130)
    return {"small": (mine.x, theirs), "large": found}


if __name__ == "__main__":
    command_line(run, "boundary_value.png")
