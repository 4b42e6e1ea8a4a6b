"""Trajectory optimisation by direct collocation and `trust-constr`, with sparse Jacobians and Hessians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import BFGS, NonlinearConstraint, minimize

import backsolve

try:
    from common import command_line, gains, timed
except ImportError:  # imported as a module, by the tests
    from .common import command_line, gains, timed

DURATION = 2.0
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


def solved(knots: int, derivatives: str, steps: int) -> Any:
    """The trajectory with "sparse" or "dense" derivatives, or (quasi-Newton and differences) "none"."""
    f, g, c = jax.jit(effort), jax.jit(backsolve.grad(effort)), jax.jit(defects)

    def weighed(z: Any, v: Any) -> Any:
        return v @ defects(z)

    if derivatives == "sparse":
        J, H, K = (
            jax.jit(derivative(function, format="sparse"))
            for derivative, function in (
                (backsolve.jacobian, defects), (backsolve.hessian, effort), (backsolve.hessian, weighed)
            )
        )  # fmt: skip
        jac, hess, curvature = lambda z: J(z).to_scipy(), lambda z: H(z).to_scipy(), lambda z, v: K(z, v).to_scipy()
    elif derivatives == "dense":
        J, H, K = jax.jit(jax.jacfwd(defects)), jax.jit(jax.hessian(effort)), jax.jit(jax.hessian(weighed))
        jac, hess, curvature = (lambda *a, d=d: np.asarray(d(*a)) for d in (J, H, K))  # type: ignore[misc]
    else:
        jac, hess, curvature = "2-point", BFGS(), BFGS()  # type: ignore[assignment]
    still = NonlinearConstraint(lambda z: np.asarray(c(z)), 0, 0, jac=jac, hess=curvature)
    return minimize(
        lambda z: float(f(z)), guess(knots), jac=lambda z: np.asarray(g(z)), hess=hess, constraints=[still],
        method="trust-constr", options={"maxiter": steps, "sparse_jacobian": derivatives == "sparse" or None},
    )  # fmt: skip


def run(*, small: bool = False, output: Path = Path("collocation.png")) -> dict[str, Any]:
    """Swing the pole up, print the gain of sparse derivatives, and draw the trajectory."""
    few, knots, steps = (8, 12, 40) if small else (20, 400, 300)
    with jax.enable_x64(True):
        found = {kind: timed(lambda kind=kind: solved(few, kind, steps)) for kind in ("sparse", "dense", "none")}  # type: ignore[misc]
        gains(f"collocation with {few} knots", {f"{kind} derivatives": t for kind, (_, t) in found.items()})
        result, seconds = timed(lambda: solved(knots, "sparse", steps))
    print(f"{knots} knots, {result.x.size:,} unknowns: {seconds:.2f} s")
    print(f"  effort {result.fun:.2f}, largest defect {result.constr_violation:.1e}, {result.niter} iterations")
    state, force = parts(result.x)
    times = np.linspace(0, DURATION, knots)
    figure = Figure(figsize=(6, 4))
    ax, below = figure.subplots(2, 1, sharex=True)
    ax.plot(times, state[:, 0], label="place")
    ax.plot(times, state[:, 1], label="angle")
    below.plot(times, force, color="tab:red", label="force")
    below.set_xlabel("seconds")
    for axes in (ax, below):
        axes.legend()
    figure.savefig(output, dpi=130, bbox_inches="tight")
    return {"small": {kind: solution for kind, (solution, _) in found.items()}, "large": result}


if __name__ == "__main__":
    command_line(run, "collocation.png")
