"""A planar quadrotor from rest to rest in the least time: direct collocation, and Newton's method on its KKT conditions.

The bounds on the thrusts are logarithmic barriers, sharpened step by step; each grid starts from the coarser one's solution.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.interpolate import make_interp_spline

import backsolve
from backsolve.transforms.repeated import Repeated  # what newton does in each step

try:
    from common import command_line, timed
    from gains import gains
except ImportError:  # imported as a module, by the tests
    from .common import command_line, timed
    from .gains import gains

GOAL = np.array([6.0, 2.0, 0.0, 0.0, 0.0, 0.0])  # place, height, tilt, and at rest; lengths in v²/g, gravity 1
LEAST, MOST = 0.1, 1.2  # of each thrust; weight is 1
TURN = 1.0  # arm over moment of inertia


class Unknowns(NamedTuple):
    """States and duration (n, 7), thrusts (n, 2), and the multipliers of defects (n − 1, 7) and of both ends (2, 6)."""

    state: Any
    thrust: Any
    defect: Any
    ends: Any


def rate(state: Any, thrust: Any) -> Any:
    """The change of every knot's place, height, tilt, speeds and duration, per unit of the duration."""
    tilt, both = state[:, 2], thrust[:, 0] + thrust[:, 1]
    forces = [-both * jnp.sin(tilt), both * jnp.cos(tilt) - 1.0, TURN * (thrust[:, 1] - thrust[:, 0])]
    change = jnp.concatenate([state[:, 3:6], jnp.stack(forces, axis=1), jnp.zeros_like(state[:, :1])], axis=1)
    return state[:, 6:] * change  # a duration at every knot, so that none couples all of them


def lagrangian(x: Unknowns, barrier: Any, share: Any) -> Any:
    """The duration and the barriers, and multipliers times the defects of the trapezoidal rule; ``share`` of the way."""
    h = 1.0 / (len(x.state) - 1)
    change = rate(x.state, x.thrust)
    wrong = x.state[1:] - x.state[:-1] - h / 2 * (change[1:] + change[:-1])
    room = jnp.stack([x.thrust - LEAST, MOST - x.thrust])
    walls = jnp.sum(jnp.log(jnp.where(room > 0, room, jnp.nan)), axis=(0, 2))  # NaN, so that no step crosses one
    walls = -h * barrier * (jnp.sum(walls[1:]) + jnp.sum(walls[:-1])) / 2
    start, end = x.state[0, :6], x.state[-1, :6] - share * GOAL
    return h * jnp.sum(x.state[:-1, 6]) + walls + jnp.sum(x.defect * wrong) + x.ends[0] @ start + x.ends[1] @ end


def conditions(barrier: float, share: float = 1.0) -> Callable[[Unknowns], Unknowns]:
    """What is zero at the solution."""
    gradient: Callable[[Unknowns], Unknowns] = backsolve.grad(lambda x: lagrangian(x, barrier, share))
    return gradient


def guess(knots: int) -> Unknowns:
    """At rest, hovering, at a duration of 1."""
    state = np.zeros((knots, 7))
    state[:, 6] = 1.0
    return Unknowns(state, np.full((knots, 2), 0.5), np.zeros((knots - 1, 7)), np.zeros((2, 6)))


def refined(x: Unknowns, knots: int) -> Unknowns:
    """The unknowns on another grid, by interpolation."""

    def at(values: Any, n: int, shift: float) -> Any:
        old, new = ((np.arange(k) + shift) / (k - 1 + 2 * shift) for k in (len(values), n))
        return make_interp_spline(old, np.asarray(values), k=3)(new)

    return Unknowns(at(x.state, knots, 0), at(x.thrust, knots, 0), at(x.defect, knots - 1, 0.5), x.ends)  # amid two knots


def coarse(knots: int, shares: tuple[float, ...]) -> Unknowns:
    """A solution with weak barriers on a coarse grid: first a tenth of the way, then more and more of it."""
    x, s = guess(knots), np.linspace(0, 1, knots)[:, None]
    x.state[:, :2], x.state[:, 3:5], x.state[:, 6] = 0.1 * s * GOAL[:2], 0.05 * GOAL[:2], 2.0  # at constant speed
    x.defect[:] = 0.1 * np.random.default_rng(0).standard_normal(x.defect.shape)
    for share in shares:
        x = backsolve.newton(conditions(1.0, share), x, tol=1e-8).x
    return x


def dense_step(x: Unknowns, barrier: float) -> Callable[[], Any]:
    """A Newton step with JAX's dense Jacobian of the conditions, compiled."""
    flat, unflat = jax.flatten_util.ravel_pytree(jax.tree_util.tree_map(jnp.asarray, x))

    def F(v: Any) -> Any:
        return jax.flatten_util.ravel_pytree(jax.grad(lambda x: lagrangian(x, barrier, 1.0))(unflat(v)))[0]

    step = jax.jit(lambda v: jnp.linalg.solve(jax.jacfwd(F)(v), F(v)))
    jax.block_until_ready(step(flat))  # type: ignore[no-untyped-call]
    return lambda: jax.block_until_ready(step(flat))  # type: ignore[no-untyped-call]


def seconds_a_step(x: Unknowns, barrier: float) -> float:
    """Time of a step of `newton`, once all is compiled."""
    work = Repeated(conditions(barrier), x)
    step = lambda: work.inverse(work.x0).solve(work.value(work.x0))  # noqa: E731
    step()
    return min(timed(step)[1] for _ in range(3))


def run(*, small: bool = False, output: Path = Path("quadrotor.png")) -> dict[str, Any]:
    """Fly in the least time, print the gain over a dense solve and the time a step takes, and draw the flight."""
    few, grids = (12, (12, 24)) if small else (300, (30, 300, 3_000, 10_000))
    barriers = (0.3,) if small else (0.3, 0.1, 0.03, 0.01)
    taken: dict[int, float] = {}
    with jax.enable_x64(True):
        x = coarse(grids[0], (0.1, 1.0) if small else (0.1, 0.4, 1.0))
        for knots in grids[1:]:  # with weak barriers, where a coarser grid's solution is near
            x = backsolve.newton(conditions(1.0), refined(x, knots), tol=1e-8).x
            taken[knots] = seconds_a_step(x, 1.0)
        for barrier in barriers:
            solution, seconds = timed(lambda x=x, barrier=barrier: backsolve.newton(conditions(barrier), x, tol=1e-8))  # type: ignore[misc]
            x = jax.tree_util.tree_map(np.asarray, solution.x)
            print(
                f"{len(x.state):,} knots, barrier {barrier}: duration {x.state[0, 6]:.4f}, {solution.steps} steps, "
                f"{seconds:.2f} s with compiling"
            )
        there = refined(x, few)
        there = there._replace(thrust=np.clip(there.thrust, LEAST + 1e-3, MOST - 1e-3))
        ours, dense = seconds_a_step(there, barriers[-1]), timed(dense_step(there, barriers[-1]))[1]
    gains(f"a Newton step at {few} knots", {"bordered, sparse": ours, "dense": dense})
    for knots, seconds in taken.items():
        print(f"  {knots:7,} knots: {1e3 * seconds:8.1f} ms a step, {1e6 * seconds / knots:.0f} µs a knot")
    draw(x, output)
    return {"x": x, "steps": taken, "gain": dense / ours}


def draw(x: Unknowns, output: Path) -> None:
    """The flight, with the quadrotor every now and then, and the thrusts."""
    state, thrust = np.asarray(x.state), np.asarray(x.thrust)
    figure = Figure(figsize=(7, 5), layout="constrained")
    ax, below = figure.subplots(2, 1, height_ratios=(2, 1))
    ax.plot(state[:, 0], state[:, 1], color="0.7")
    for k in np.linspace(0, len(state) - 1, 16).astype(int):
        arm = 0.25 * np.array([np.cos(state[k, 2]), np.sin(state[k, 2])])
        ax.plot(*np.stack([state[k, :2] - arm, state[k, :2] + arm], axis=1), color="tab:blue", lw=2.5)
    ax.set(aspect="equal", xlabel="place", ylabel="height", title=f"rest to rest in {state[0, 6]:.3f}")
    time = np.linspace(0, state[0, 6], len(state))
    for k, side in enumerate(("left", "right")):
        below.plot(time, thrust[:, k], label=f"{side} thrust")
    for bound in (LEAST, MOST):
        below.axhline(bound, color="0.8", lw=0.8, zorder=0)
    below.set(xlabel="time", ylim=(0, 1.3))
    below.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    figure.savefig(output, dpi=130)


if __name__ == "__main__":
    command_line(run, "quadrotor.png")
