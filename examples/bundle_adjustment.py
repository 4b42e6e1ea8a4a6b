"""Bundle adjustment by `scipy.optimize.least_squares`, with its sparse Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import least_squares

import backsolve

try:
    from common import command_line, gains, timed
except ImportError:  # imported as a module, by the tests
    from .common import command_line, gains, timed

FOCAL = 400.0
NOISE = 0.5  # pixels


def projected(camera: Any, point: Any) -> Any:
    """Where cameras (rotation 3, centre 3, focal, principal point 2, distortion 2) see points: ADBench's model."""
    rotation, centre = camera[:, :3], camera[:, 3:6]
    angle = jnp.sqrt(jnp.sum(rotation**2, axis=1, keepdims=True))
    axis, ray = rotation / angle, point - centre
    along = jnp.sum(axis * ray, axis=1, keepdims=True)
    seen = ray * jnp.cos(angle) + jnp.cross(axis, ray) * jnp.sin(angle) + axis * (along * (1 - jnp.cos(angle)))
    flat = seen[:, :2] / seen[:, 2:]
    r2 = jnp.sum(flat**2, axis=1, keepdims=True)
    return flat * (1 + camera[:, 9:10] * r2 + camera[:, 10:] * r2**2) * camera[:, 6:7] + camera[:, 7:9]


def problem(cameras: int, points: int, observations: int) -> tuple[Callable[[Any], Any], Any, Any]:
    """The residuals of z (all cameras, then all points), a start, and the truth. Cameras stand on a circle and look in."""
    rng = np.random.default_rng(0)
    turn = np.linspace(0, 2 * np.pi, cameras, endpoint=False)
    camera = np.zeros((cameras, 11))
    camera[:, 1] = turn + 0.01  # about the upright axis
    camera[:, 3], camera[:, 5] = 5 * np.sin(turn), -5 * np.cos(turn)
    camera[:, 6] = FOCAL
    camera[:, 9:] = 0.01, 0.001
    point = rng.uniform(-1, 1, (points, 3))
    seen = np.arange(observations)
    camera_of, point_of = seen % cameras, seen % points
    truth = np.concatenate([camera.ravel(), point.ravel()])
    feature = np.asarray(projected(camera[camera_of], point[point_of])) + NOISE * rng.standard_normal((observations, 2))

    def residuals(z: Any) -> Any:
        camera, point = z[: 11 * cameras].reshape(-1, 11), z[11 * cameras :].reshape(-1, 3)
        return (projected(camera[camera_of], point[point_of]) - feature).reshape(-1)

    scale = np.concatenate([np.tile([0.01] * 6 + [1.0] * 3 + [0.001] * 2, cameras), np.full(3 * points, 0.05)])
    return residuals, truth + scale * rng.standard_normal(truth.size), truth


def solved(sizes: tuple[int, int, int], jacobian: str, steps: int) -> Any:
    """The adjustment with a "sparse" or "dense" Jacobian, or "none"."""
    residuals, start, _ = problem(*sizes)
    f = jax.jit(residuals)
    sparse, dense = jax.jit(backsolve.jacobian(residuals, format="sparse")), jax.jit(jax.jacfwd(residuals))
    jac = {"sparse": lambda z: sparse(z).to_scipy(), "dense": lambda z: np.asarray(dense(z)), "none": "2-point"}[jacobian]
    return least_squares(
        lambda z: np.asarray(f(z)), start, jac=jac, x_scale="jac", tr_solver="lsmr", max_nfev=steps, ftol=1e-6
    )


def run(*, small: bool = False, output: Path = Path("bundle_adjustment.png")) -> dict[str, Any]:
    """Adjust cameras and points, print the gain of the sparse Jacobian, and draw the points before and after."""
    few, sizes, steps = ((3, 10, 60), (4, 30, 240), 5) if small else ((5, 100, 500), (49, 7_776, 31_843), 15)
    with jax.enable_x64(True):
        found = {kind: timed(lambda kind=kind: solved(few, kind, steps)) for kind in ("sparse", "dense", "none")}  # type: ignore[misc]
        gains(f"{few[0]} cameras, {few[1]} points", {f"{kind} Jacobian": t for kind, (_, t) in found.items()})
        result, seconds = timed(lambda: solved(sizes, "sparse", steps))
        residuals, start, _ = problem(*sizes)
        before = np.asarray(residuals(start))
    m, n = 2 * sizes[2], start.size
    print(f"{sizes[0]} cameras, {sizes[1]:,} points, {sizes[2]:,} observations: {seconds:.2f} s; dense: {8 * m * n:,} bytes")
    errors = {"before": before, "after": result.fun}
    print("  " + ", ".join(f"{word} {np.sqrt(np.mean(e**2)):.2f} pixels" for word, e in errors.items()))
    figure = Figure(figsize=(6, 3.6))
    ax = figure.subplots()
    for word, e in errors.items():
        ax.hist(np.log10(np.hypot(*e.reshape(-1, 2).T) + 1e-3), bins=60, alpha=0.6, label=word)
    ax.set(xlabel="log₁₀ reprojection error in pixels", ylabel="observations")
    ax.legend()
    figure.savefig(output, dpi=130, bbox_inches="tight")
    return {"small": {kind: solution for kind, (solution, _) in found.items()}, "large": result, "before": before}


if __name__ == "__main__":
    command_line(run, "bundle_adjustment.png")
