"""What `sparse` differentiates: functions of one vector whose Jacobian, or Hessian, is mostly zero.

Nothing here knows who takes the derivative.  ``by_hand`` are the non-zeros as one would write them for this very function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any
Function = Callable[[Array], Array]

# A camera, a point and a feature of ADBench's ba1_n49_m7776_p31843.txt (microsoft/ADBench, MIT licence), in its layout.
CAMERA = (
    -0.758453,
    -1.109613,
    -0.845551,
    34.556073,
    39.676747,
    53.881673,
    419.194514,
    5.864426,
    -8.518870,
    0.087812,
    0.002739,
)
POINT, WEIGHT, FEATURE = (7.203245, 0.001144, 3.023326), 0.417022, (271.760969, 834.209256)
OBSERVED = 49, 7_776, 31_843  # cameras, points, observations


@dataclass(frozen=True)
class SparseModel:
    """A function of a vector, and a point.  ``second`` asks for the Hessian of a scalar function."""

    name: str
    function: Function
    point: Array
    second: bool = False
    by_hand: Function | None = None
    of_casadi: Callable[[Any, Any], Any] | None = None  # the same from CasADi's module and a column of its symbols


def _uniform(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0.1, 1.0, n)


# ---- stencils --------------------------------------------------------------------------------------------------------
def burgers(n: int) -> SparseModel:
    """Viscous Burgers on a line with fixed ends: three non-zeros a row."""

    def function(u: Array) -> Array:
        slope, bend = (u[2:] - u[:-2]) / 2, u[2:] - 2 * u[1:-1] + u[:-2]
        return jnp.concatenate([u[:1], 0.1 * bend - u[1:-1] * slope, u[-1:]])

    def by_hand(u: Array) -> Array:
        half = u[1:-1] / 2
        rows = jnp.stack([0.1 + half, -0.2 - (u[2:] - u[:-2]) / 2, 0.1 - half], axis=1)
        one = jnp.ones(1, u.dtype)
        return jnp.concatenate([one, rows.reshape(-1), one])

    def of_casadi(ca: Any, u: Any) -> Any:
        slope, bend = (u[2:] - u[:-2]) / 2, u[2:] - 2 * u[1:-1] + u[:-2]
        return ca.vertcat(u[0], 0.1 * bend - u[1:-1] * slope, u[-1])

    return SparseModel(f"Burgers, {n:,} points", function, _uniform(n), by_hand=by_hand, of_casadi=of_casadi)


def brusselator(side: int) -> SparseModel:
    """Two reacting species on a periodic square: six non-zeros a row."""
    a = 0.002 * side**2

    def diffused(u: Array) -> Array:
        return jnp.roll(u, 1, 0) + jnp.roll(u, -1, 0) + jnp.roll(u, 1, 1) + jnp.roll(u, -1, 1) - 4 * u

    def function(y: Array) -> Array:
        u, v = y.reshape(2, side, side)
        first = 1.0 + u * u * v - 4.4 * u + a * diffused(u)
        second = 3.4 * u - u * u * v + a * diffused(v)
        return jnp.stack([first, second]).reshape(-1)

    def by_hand(y: Array) -> Array:
        u, v = y.reshape(2, -1)
        near, square = jnp.full_like(u, a), u * u
        first = jnp.stack([near, near, 2 * u * v - 4.4 - 4 * a, near, near, square], axis=1)
        second = jnp.stack([3.4 - 2 * u * v, near, near, -square - 4 * a, near, near], axis=1)
        return jnp.concatenate([first.reshape(-1), second.reshape(-1)])

    def of_casadi(ca: Any, y: Any) -> Any:
        near = np.arange(side * side).reshape(side, side)
        moves = [np.roll(near, step, axis).reshape(-1).tolist() for axis in (0, 1) for step in (1, -1)]
        u, v = y[: side * side], y[side * side :]
        lap_u, lap_v = (sum((w[k] for k in moves), -4 * w) for w in (u, v))
        return ca.vertcat(1.0 + u * u * v - 4.4 * u + a * lap_u, 3.4 * u - u * u * v + a * lap_v)

    point = _uniform(2 * side * side)
    return SparseModel(f"Brusselator, {side}²", function, point, by_hand=by_hand, of_casadi=of_casadi)


# ---- many to one, one to many -----------------------------------------------------------------------------------------
def arrow(n: int) -> SparseModel:
    """A dense first row, a dense first column and the diagonal."""

    def function(x: Array) -> Array:
        return x**2 * x[0] + jnp.zeros(n).at[0].set(jnp.sum(jnp.sin(x)))

    def by_hand(x: Array) -> Array:
        corner, rows = 3 * x[:1] ** 2 + jnp.cos(x[:1]), jnp.stack([x[1:] ** 2, 2 * x[0] * x[1:]], axis=1)
        return jnp.concatenate([corner, jnp.cos(x[1:]), rows.reshape(-1)])

    def of_casadi(ca: Any, x: Any) -> Any:
        y = x**2 * x[0]
        return ca.vertcat(y[0] + ca.sum1(ca.sin(x)), y[1:])

    return SparseModel(f"arrow, n = {n:,}", function, _uniform(n), by_hand=by_hand, of_casadi=of_casadi)


def pool(n: int) -> SparseModel:
    """An arrow whose entries take more work: cells that feed on one shared pool (Michaelis–Menten uptake) and decay."""
    rate, half, death = np.linspace(0.5, 2.0, n - 1), np.linspace(0.2, 1.0, n - 1), 0.3

    def function(x: Array) -> Array:
        stock, cells = x[0], x[1:]
        uptake = rate * stock / (half + stock) * cells / (1 + cells)
        return jnp.concatenate([(1.0 - stock - jnp.sum(uptake) / n)[None], uptake - death * cells * jnp.exp(-cells)])

    def of_casadi(ca: Any, x: Any) -> Any:
        stock, cells = x[0], x[1:]
        uptake = rate * stock / (half + stock) * cells / (1 + cells)
        return ca.vertcat(1.0 - stock - ca.sum1(uptake) / n, uptake - death * cells * ca.exp(-cells))

    return SparseModel(f"arrow of cells and their pool, n = {n:,}", function, _uniform(n), of_casadi=of_casadi)


# ---- estimation and control -------------------------------------------------------------------------------------------
def bundle(cameras: int, points: int, observations: int) -> SparseModel:
    """ADBench's bundle adjustment: two reprojection errors an observation, and a residual of its weight."""
    seen = np.arange(observations)
    camera_of, point_of = seen % cameras, seen % points
    ends = 11 * cameras, 11 * cameras + 3 * points

    def function(z: Array) -> Array:
        camera = z[: ends[0]].reshape(-1, 11)[camera_of]
        point = z[ends[0] : ends[1]].reshape(-1, 3)[point_of]
        weight = z[ends[1] :]
        errors = weight[:, None] * (projected(camera, point) - jnp.array(FEATURE))
        return jnp.concatenate([errors.reshape(-1), 1 - weight**2])

    def of_casadi(ca: Any, z: Any) -> Any:
        c = ca.reshape(z[: ends[0]], 11, cameras).T[camera_of.tolist(), :]
        p = ca.reshape(z[ends[0] : ends[1]], 3, points).T[point_of.tolist(), :]
        weight, angle = z[ends[1] :], ca.sqrt(c[:, 0] ** 2 + c[:, 1] ** 2 + c[:, 2] ** 2)
        axis, ray = [c[:, k] / angle for k in range(3)], [p[:, k] - c[:, 3 + k] for k in range(3)]
        along = axis[0] * ray[0] + axis[1] * ray[1] + axis[2] * ray[2]
        cross = [axis[k - 2] * ray[k - 1] - axis[k - 1] * ray[k - 2] for k in range(3)]
        sin, cos = ca.sin(angle), ca.cos(angle)
        seen = [ray[k] * cos + cross[k] * sin + axis[k] * (along * (1 - cos)) for k in range(3)]
        flat = [seen[0] / seen[2], seen[1] / seen[2]]
        r2 = flat[0] ** 2 + flat[1] ** 2
        stretched = (1 + c[:, 9] * r2 + c[:, 10] * r2**2) * c[:, 6]
        errors = [weight * (flat[k] * stretched + c[:, 7 + k] - FEATURE[k]) for k in range(2)]
        return ca.vertcat(ca.vec(ca.horzcat(*errors).T), 1 - weight**2)

    rng = np.random.default_rng(0)
    parts = [np.tile(CAMERA, cameras), np.tile(POINT, points), np.full(observations, WEIGHT)]
    z = np.concatenate(parts)
    z = z * (1 + 0.01 * rng.standard_normal(z.size))
    return SparseModel(f"bundle adjustment, {observations:,} observations", function, z, of_casadi=of_casadi)


def projected(camera: Array, point: Array) -> Array:
    """Where cameras (…, 11) see points (…, 3): Rodrigues' rotation, perspective division, radial distortion."""
    rotation, centre, focal = camera[:, :3], camera[:, 3:6], camera[:, 6:7]
    angle = jnp.sqrt(jnp.sum(rotation**2, axis=1, keepdims=True))
    axis, ray = rotation / angle, point - centre
    along = jnp.sum(axis * ray, axis=1, keepdims=True)
    seen = ray * jnp.cos(angle) + jnp.cross(axis, ray) * jnp.sin(angle) + axis * (along * (1 - jnp.cos(angle)))
    flat = seen[:, :2] / seen[:, 2:]
    r2 = jnp.sum(flat**2, axis=1, keepdims=True)
    return flat * (1 + camera[:, 9:10] * r2 + camera[:, 10:11] * r2**2) * focal + camera[:, 7:9]


def collocation(knots: int) -> SparseModel:
    """Defects of a cart with a pole, by the trapezoidal rule: four states and a force at every knot."""
    h = 2.0 / knots

    def function(z: Array) -> Array:
        z = z.reshape(knots, 5)
        state, force = z[:, :4], z[:, 4]
        rate = jnp.stack(cart_pole(state, force), axis=1)
        return (state[1:] - state[:-1] - h / 2 * (rate[1:] + rate[:-1])).reshape(-1)

    def of_casadi(ca: Any, z: Any) -> Any:
        z = ca.reshape(z, 5, knots).T
        state, rate = z[:, :4], ca.horzcat(*cart_pole(z[:, :4], z[:, 4], ca))
        return ca.vec((state[1:, :] - state[:-1, :] - h / 2 * (rate[1:, :] + rate[:-1, :])).T)

    return SparseModel(f"collocation, {knots:,} knots", function, _uniform(5 * knots), of_casadi=of_casadi)


def cart_pole(state: Array, force: Array, library: Any = jnp) -> tuple[Array, ...]:
    """The change of place, angle, speed and turning speed of a cart with a pole."""
    angle, speed, turn = state[:, 1], state[:, 2], state[:, 3]
    sin, cos = library.sin(angle), library.cos(angle)
    bottom = 1.0 + 0.3 * sin**2
    push = (0.3 * 0.5 * sin * turn**2 + force + 0.3 * 9.81 * cos * sin) / bottom
    swing = -(0.3 * 0.5 * cos * sin * turn**2 + force * cos + 1.3 * 9.81 * sin) / (0.5 * bottom)
    return speed, turn, push, swing


def mesh(nodes: int) -> SparseModel:
    """Nonlinear diffusion on the edges of a random triangulation."""
    from scipy.spatial import Delaunay

    corners = Delaunay(np.random.default_rng(0).uniform(size=(nodes, 2))).simplices
    edges = np.unique(np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=1), axis=0)
    one, other = edges.T

    def function(x: Array) -> Array:
        jump = x[one] - x[other]
        flow = (1 + (x[one] + x[other]) ** 2) * jump
        return jax.ops.segment_sum(flow, other, nodes) - jax.ops.segment_sum(flow, one, nodes)

    def of_casadi(ca: Any, x: Any) -> Any:
        start, end = x[one.tolist()], x[other.tolist()]
        flow = (1 + (start + end) ** 2) * (start - end)
        from scipy.sparse import csc_array

        signs, places = np.repeat([1.0, -1.0], one.size), (np.concatenate([other, one]), np.tile(np.arange(one.size), 2))
        return ca.DM(csc_array((signs, places), shape=(nodes, one.size))) @ flow

    return SparseModel(f"mesh, {nodes:,} nodes", function, _uniform(nodes), of_casadi=of_casadi)


def power_flow(buses: int) -> SparseModel:
    """What flows out of each bus of a random network, by complex voltages and a constant matrix of admittances."""
    rng = np.random.default_rng(0)
    lines = [(i, int(rng.integers(0, i))) for i in range(1, buses)]
    lines += [(int(i), int(j)) for i, j in (rng.choice(buses, 2, replace=False) for _ in range(buses // 2))]
    Y = np.zeros((buses, buses), complex)
    for i, j in lines:
        admittance = rng.uniform(0.5, 2) - 1j * rng.uniform(3, 10)
        Y[[i, j], [i, j]] += admittance
        Y[[i, j], [j, i]] -= admittance

    def function(x: Array) -> Array:
        V = x[buses:] * jnp.exp(1j * x[:buses])
        S = V * jnp.conj(jnp.asarray(Y) @ V)
        return jnp.concatenate([S.real, S.imag])

    point = np.concatenate([0.1 * rng.normal(size=buses), 1 + 0.05 * rng.normal(size=buses)])
    return SparseModel(f"power flow, {buses} buses", function, point)


def circuit(nodes: int) -> SparseModel:
    """Currents into the nodes of a random circuit of resistors and diodes, each a number of its own."""
    rng = np.random.default_rng(0)
    branches = [(i, int(rng.integers(0, i))) for i in range(1, nodes)]
    branches += [(int(i), int(j)) for i, j in (rng.choice(nodes, 2, replace=False) for _ in range(nodes))]
    resistances = rng.uniform(1, 5, len(branches))

    def function(v: Array) -> Array:
        into = [1e-3 * v[k] ** 3 for k in range(nodes)]
        for number, (i, j) in enumerate(branches):
            drop = v[i] - v[j]
            current = drop / resistances[number] if number % 2 else 1e-3 * (jnp.exp(drop / 0.5) - 1)
            into[i], into[j] = into[i] + current, into[j] - current
        return jnp.stack(into)

    return SparseModel(f"circuit, {nodes} nodes", function, 0.3 * rng.normal(size=nodes))


# ---- Hessians ---------------------------------------------------------------------------------------------------------
def rosenbrock(n: int) -> SparseModel:
    """Chained Rosenbrock: a tridiagonal Hessian."""

    def function(x: Array) -> Array:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def by_hand(x: Array) -> Array:
        zero = jnp.zeros(1, x.dtype)
        side = -400 * x[:-1]
        left = jnp.concatenate([zero, side])
        middle = jnp.concatenate([1200 * x[:-1] ** 2 - 400 * x[1:] + 2, zero]) + jnp.concatenate(
            [zero, jnp.full(n - 1, 200.0)]
        )
        right = jnp.concatenate([side, zero])
        return jnp.stack([left, middle, right], axis=1).reshape(-1)[1:-1]

    def of_casadi(ca: Any, x: Any) -> Any:
        return ca.sum1(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return SparseModel(f"Rosenbrock, n = {n:,}", function, _uniform(n), second=True, by_hand=by_hand, of_casadi=of_casadi)


def freudenstein_roth(n: int) -> SparseModel:
    """The extended function of Freudenstein and Roth: a sum of squares of polynomials of two neighbours."""

    def function(x: Array) -> Array:
        a, b = x[:-1], x[1:]
        return jnp.sum((a - 13 + ((5 - b) * b - 2) * b) ** 2 + (a - 29 + ((b + 1) * b - 14) * b) ** 2)

    def of_casadi(ca: Any, x: Any) -> Any:
        a, b = x[:-1], x[1:]
        return ca.sum1((a - 13 + ((5 - b) * b - 2) * b) ** 2 + (a - 29 + ((b + 1) * b - 14) * b) ** 2)

    return SparseModel(f"Freudenstein and Roth, n = {n:,}", function, _uniform(n), second=True, of_casadi=of_casadi)


def minimal_surface(side: int) -> SparseModel:
    """The area above a square of linear triangles."""
    nodes = np.arange(side**2).reshape(side, side)
    below = np.stack([nodes[:-1, :-1], nodes[1:, :-1], nodes[:-1, 1:]], axis=-1).reshape(-1, 3)
    above = np.stack([nodes[1:, 1:], nodes[:-1, 1:], nodes[1:, :-1]], axis=-1).reshape(-1, 3)
    corners = np.concatenate([below, above])

    def function(u: Array) -> Array:
        height = u[corners]
        slopes = (height[:, 1:] - height[:, :1]) * (side - 1)
        return jnp.sum(jnp.sqrt(1 + jnp.sum(slopes**2, axis=1))) / (2 * (side - 1) ** 2)

    return SparseModel(f"minimal surface, {side}²", function, _uniform(side**2), second=True)


def separable(n: int) -> SparseModel:
    """A sum of functions of three variables each, drawn at random."""
    rng = np.random.default_rng(0)
    a, b, c = np.arange(n), (np.arange(n) + 1 + rng.integers(0, 50, n)) % n, (np.arange(n) + 60 + rng.integers(0, 50, n)) % n

    def function(x: Array) -> Array:
        return jnp.sum(jnp.log1p((x[a] * x[b] - jnp.sin(x[c])) ** 2))

    def of_casadi(ca: Any, x: Any) -> Any:
        return ca.sum1(ca.log1p((x[a.tolist()] * x[b.tolist()] - ca.sin(x[c.tolist()])) ** 2))

    return SparseModel(f"partially separable, n = {n:,}", function, _uniform(n), second=True, of_casadi=of_casadi)
