"""Bundle adjustment by `scipy.optimize.least_squares`, with its sparse Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import least_squares

import backsolve

try:
    from common import command_line, compared, timed
except ImportError:  # imported as a module, by the tests
    from .common import command_line, compared, timed

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


@cache
def compiled(sizes: tuple[int, int, int]) -> tuple[Any, Any, Any, Any]:
    """The start, the residuals and their sparse and dense Jacobians, jitted once for each size."""
    residuals, start, _ = problem(*sizes)
    sparse = jax.jit(backsolve.jacobian(residuals, format="sparse"))
    return start, jax.jit(residuals), sparse, jax.jit(jax.jacfwd(residuals))


def solver(sizes: tuple[int, int, int], jacobian: str, steps: int) -> Callable[[], Any]:
    """A compiled adjustment, with a "sparse" or "dense" Jacobian, or "none"."""
    start, f, sparse, dense = compiled(sizes)
    jac: Any = {"sparse": lambda z: sparse(z).to_scipy(), "dense": lambda z: np.asarray(dense(z)), "none": "2-point"}[
        jacobian
    ]
    f(start), None if jacobian == "none" else jac(start)  # compiled here
    return lambda: least_squares(
        lambda z: np.asarray(f(z)), start, jac=jac, x_scale="jac", tr_solver="lsmr", max_nfev=steps, ftol=1e-6
    )


def run(*, small: bool = False, output: Path = Path("bundle_adjustment.png")) -> dict[str, Any]:
    """Adjust cameras and points, print the gain of the sparse Jacobian, and draw the points before and after."""
    few, sizes, steps = ((4, 30, 240), (4, 30, 240), 5) if small else ((10, 200, 1_600), (49, 7_776, 31_843), 15)
    with jax.enable_x64(True):
        kinds = {kind: partial(solver, few, kind, steps) for kind in ("sparse", "dense", "none")}
        found = compared(f"{few[0]} cameras, {few[1]} points, {few[2]:,} observations, Jacobian", kinds)
        result, seconds = timed(solver(sizes, "sparse", steps))
        residuals, start, truth = problem(*sizes)
        before = np.asarray(residuals(start))
    m, n = 2 * sizes[2], start.size
    print(f"{sizes[0]} cameras, {sizes[1]:,} points, {sizes[2]:,} observations: {seconds:.2f} s; dense: {8 * m * n:,} bytes")
    errors = {"before": before, "after": result.fun}
    print("  " + ", ".join(f"{word} {np.sqrt(np.mean(e**2)):.2f} pixels" for word, e in errors.items()))
    points = [z[11 * sizes[0] :].reshape(-1, 3) for z in (truth, start, result.x)]
    picture(errors, [aligned(p, points[0]) for p in points]).savefig(output, dpi=130)
    return {"small": found, "large": result, "before": before}


def aligned(points: Any, truth: Any) -> Any:
    """The points in the truth's frame, as near as an affine map brings them: the observations say nothing of the frame."""
    wide = np.column_stack([points, np.ones(len(points))])
    return wide @ np.linalg.lstsq(wide, truth)[0]


def picture(errors: dict[str, Any], points: list[Any]) -> Figure:
    """How far the points are from the true ones, seen from above, and the reprojection errors, before and after."""
    truth, *found = points
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    first, second, ax = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    colours = dict(zip(errors, ("tab:red", "tab:blue"), strict=True))
    some = np.linspace(0, len(truth) - 1, min(250, len(truth))).astype(int)
    for axes, word, place in zip((first, second), errors, found, strict=True):
        lines = np.stack([truth[some], place[some]])[..., [0, 2]]
        axes.plot(lines[..., 0], lines[..., 1], color="0.6", linewidth=0.8)
        axes.plot(*lines[1].T, ".", color=colours[word], markersize=3)
        axes.set(
            title=f"points {word}, and the truth", aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xticks=[], yticks=[]
        )
    sizes = {word: np.maximum(np.hypot(*e.reshape(-1, 2).T), 1e-2) for word, e in errors.items()}
    edges = np.geomspace(min(s.min() for s in sizes.values()), max(s.max() for s in sizes.values()), 41)
    for word, size in sizes.items():
        ax.hist(size, edges, alpha=0.7, label=word, color=colours[word])
    ax.axvline(NOISE, color="black", linewidth=0.8, linestyle="--", label="noise")
    ax.set(xscale="log", title="reprojection errors", xlabel="pixels", ylabel="observations")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    command_line(run, "bundle_adjustment.png")
