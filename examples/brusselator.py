"""A stiff reaction–diffusion equation by `scipy.integrate.solve_ivp`, with its sparse Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

import backsolve

try:
    from common import command_line, compared, timed
except ImportError:  # imported as a module, by the tests
    from .common import command_line, compared, timed

DIFFUSION = 0.02


def rate_of(side: int) -> Callable[[Any], Any]:
    """The Brusselator on a periodic square of side² points: y holds u and then v."""
    a = DIFFUSION * side**2

    def diffused(u: Any) -> Any:
        return jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1) - 4 * u

    def rate(y: Any) -> Any:
        u, v = y.reshape(2, side, side)
        return jnp.stack([1.0 + u * u * v - 4.4 * u + a * diffused(u), 3.4 * u - u * u * v + a * diffused(v)]).reshape(-1)

    return rate


def start_of(side: int) -> Any:
    """The classical start: u and v as bumps across the square."""
    x = np.arange(side) / side
    u = 22 * (x * (1 - x)) ** 1.5
    v = 27 * (x * (1 - x)) ** 1.5
    return np.concatenate([np.tile(u[:, None], (1, side)).ravel(), np.tile(v[None, :], (side, 1)).ravel()])


def solver(side: int, end: float, jacobian: str) -> Callable[[], Any]:
    """A compiled solver, with a "sparse" or "dense" Jacobian, or "none"."""
    rate, start = rate_of(side), start_of(side)
    f, jac = jax.jit(rate), None
    if jacobian == "sparse":
        sparse = jax.jit(backsolve.jacobian(rate, format="sparse"))
        jac = lambda t, y: sparse(y).to_scipy().tocsc()  # noqa: E731
    elif jacobian == "dense":
        dense = jax.jit(jax.jacfwd(rate))
        jac = lambda t, y: np.asarray(dense(y))  # noqa: E731
    f(start), None if jac is None else jac(0.0, start)  # compiled here
    return lambda: solve_ivp(lambda t, y: np.asarray(f(y)), (0, end), start, "BDF", jac=jac, rtol=1e-4, atol=1e-6)


def run(*, small: bool = False, output: Path = Path("brusselator.png")) -> dict[str, Any]:
    """Solve the Brusselator, print the gain of the sparse Jacobian, and draw the end state."""
    side, few, end = (16, 8, 0.5) if small else (128, 32, 2.0)
    with jax.enable_x64(True):
        kinds = {kind: partial(solver, few, end, kind) for kind in ("sparse", "dense", "none")}
        found = compared(f"Brusselator {few}², {2 * few**2:,} unknowns, Jacobian", kinds)
        solution, seconds = timed(solver(side, end, "sparse"))
        pattern = backsolve.sparsity(rate_of(side), start_of(side))
    n = 2 * side**2
    print(f"Brusselator {side}², {n:,} unknowns: {seconds:.2f} s with {pattern.nnz:,} non-zeros; dense: {8 * n * n:,} bytes")
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    for ax, state, name in zip(figure.subplots(1, 2), solution.y[:, -1].reshape(2, side, side), "uv", strict=True):
        image = ax.imshow(state.T, origin="lower", extent=(0, 1, 0, 1), cmap="magma", interpolation="bilinear")
        figure.colorbar(image, ax=ax, shrink=0.9)
        ax.set(title=f"{name} at t = {end:g}", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.savefig(output, dpi=130)
    return {"small": found, "large": solution}


if __name__ == "__main__":
    command_line(run, "brusselator.png")
