"""Trajectory optimisation by direct collocation and `trust-constr`, with sparse Jacobians and Hessians."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import BFGS, NonlinearConstraint, minimize

import backsolve

try:
    from common import command_line, compared, timed
except ImportError:  # imported as a module, by the tests
    from .common import command_line, compared, timed

DURATION = 2.0
COLOURS = "0.3", "tab:blue", "tab:red"
START, END = np.zeros(4), np.array([0.0, np.pi, 0.0, 0.0])  # hanging, and upright


def rate(state: Any, force: Any) -> Any:
    """The change of place, angle, speed and turning speed of a cart with a pole."""
    angle, speed, turn = state[:, 1], state[:, 2], state[:, 3]
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    bottom = 1.0 + 0.3 * sin**2
    push = (0.15 * sin * turn**2 + force + 0.3 * 9.81 * cos * sin) / bottom
    swing = -(0.15 * cos * sin * turn**2 + force * cos + 1.3 * 9.81 * sin) / (0.5 * bottom)
    return jnp.stack([speed, turn, push, swing], axis=1)


def parts(z: Any) -> tuple[Any, Any]:
    """States (knots × 4) and forces of the unknowns."""
    z = z.reshape(-1, 5)
    return z[:, :4], z[:, 4]


def defects(z: Any) -> Any:
    """What the trapezoidal rule says is wrong between knots, and at both ends: zero on a trajectory."""
    state, force = parts(z)
    h = DURATION / (len(force) - 1)
    change = rate(state, force)
    wrong = state[1:] - state[:-1] - h / 2 * (change[1:] + change[:-1])
    return jnp.concatenate([wrong.reshape(-1), state[0] - START, state[-1] - END])


def effort(z: Any) -> Any:
    """The squared force over time."""
    _, force = parts(z)
    return jnp.sum(force[1:] ** 2 + force[:-1] ** 2) * DURATION / (2 * (len(force) - 1))


def guess(knots: int) -> Any:
    """A straight line between the ends."""
    s = np.linspace(0, 1, knots)[:, None]
    return np.hstack([START + s * (END - START), np.zeros((knots, 1))]).ravel()


def solver(knots: int, derivatives: str, steps: int) -> Callable[[], Any]:
    """A compiled solver with "sparse" or "dense" derivatives, or (quasi-Newton and differences) "none"."""
    start = guess(knots)
    f, g, c = jax.jit(effort), jax.jit(backsolve.grad(effort)), jax.jit(defects)

    def weighed(z: Any, v: Any) -> Any:
        return v @ defects(z)

    jac: Any
    hess: Any
    curvature: Any
    if derivatives == "sparse":
        J, H, K = (
            jax.jit(derivative(function, format="sparse"))
            for derivative, function in (
                (backsolve.jacobian, defects), (backsolve.hessian, effort), (backsolve.hessian, weighed)
            )
        )  # fmt: skip
        jac, hess, curvature = (lambda *a, d=d: d(*a).to_scipy() for d in (J, H, K))
    elif derivatives == "dense":
        J, H, K = jax.jit(jax.jacfwd(defects)), jax.jit(jax.hessian(effort)), jax.jit(jax.hessian(weighed))
        jac, hess, curvature = (lambda *a, d=d: np.asarray(d(*a)) for d in (J, H, K))
    else:
        jac, hess, curvature = "2-point", BFGS(), BFGS()
    if derivatives != "none":  # compiled here
        jac(start), hess(start), curvature(start, np.ones(4 * knots + 4))
    f(start), g(start), c(start)
    still = NonlinearConstraint(lambda z: np.asarray(c(z)), 0, 0, jac=jac, hess=curvature)
    return lambda: minimize(
        lambda z: float(f(z)), start, jac=lambda z: np.asarray(g(z)), hess=hess, constraints=[still],
        method="trust-constr", options={"maxiter": steps, "sparse_jacobian": derivatives == "sparse" or None},
    )  # fmt: skip


def run(*, small: bool = False, output: Path = Path("collocation.png")) -> dict[str, Any]:
    """Swing the pole up, print the gain of sparse derivatives, and draw the trajectory."""
    few, knots, steps = (8, 12, 40) if small else (40, 400, 300)
    with jax.enable_x64(True):
        kinds = {kind: partial(solver, few, kind, steps) for kind in ("sparse", "dense", "none")}
        found = compared(f"collocation with {few} knots, {5 * few} unknowns, derivatives", kinds)
        result, seconds = timed(solver(knots, "sparse", steps))
    print(f"{knots} knots, {result.x.size:,} unknowns: {seconds:.2f} s")
    print(f"  effort {result.fun:.2f}, largest defect {result.constr_violation:.1e}, {result.niter} iterations")
    picture(result.x).savefig(output, dpi=130)
    return {"small": found, "large": result}


def picture(z: Any) -> Figure:
    """The cart with its pole at a dozen moments, and place, angle and force over time."""
    state, force = parts(z)
    times = np.linspace(0, DURATION, len(force))
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    ax, right = figure.subplots(1, 2)
    some = np.linspace(0, len(force) - 1, 12).astype(int)
    for k, (place, angle) in zip(some, state[some, :2], strict=True):
        shade = float(0.15 + 0.85 * k / (len(force) - 1))
        tip = place + 0.5 * np.sin(angle), -0.5 * np.cos(angle)
        ax.plot([place, tip[0]], [0, tip[1]], color="tab:blue", alpha=shade, linewidth=2)
        ax.plot(*tip, "o", color="tab:blue", alpha=shade)
        ax.plot(place, 0, "s", color="0.3", alpha=shade, markersize=9)
    ax.plot(state[:, 0] + 0.5 * np.sin(state[:, 1]), -0.5 * np.cos(state[:, 1]), color="0.7", linewidth=0.8, zorder=0)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set(title="from hanging to upright", aspect="equal", xlabel="metres")
    for curve, label, colour in zip(
        (*state[:, :2].T, force / 10), ("place, m", "angle, rad", "force, 10 N"), COLOURS, strict=True
    ):
        right.plot(times, curve, color=colour, label=label)
    right.set(title="trajectory", xlabel="seconds")
    right.legend(frameon=False)
    for axes in (ax, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    command_line(run, "collocation.png")
