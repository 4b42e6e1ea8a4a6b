"""What `forms` is told by: functions that nothing was tuned on, written as people write them, apart from the tuning set."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.models.form_models import FormModel, runge_kutta

Array = Any


def rigid_body(z: Array) -> Array:
    """A Runge–Kutta step of a tumbling body by Euler's equations, with a normed quaternion: quaternion, spin, torque."""
    inertia, torque = jnp.array([1.0, 2.0, 2.5]), z[7:]

    def f(x: Array) -> Array:
        q, w = x[:4], x[4:]
        scalar = -0.5 * (q[1:] @ w)
        vector = 0.5 * (q[0] * w + jnp.cross(q[1:], w))
        return jnp.concatenate([scalar[None], vector, (torque - jnp.cross(w, inertia * w)) / inertia])

    x = runge_kutta(f, z[:7], 0.1)
    return jnp.concatenate([x[:4] / jnp.linalg.norm(x[:4]), x[4:]])


def _pose(twist: Array) -> Array:
    w, v = twist[:3], twist[3:]
    angle = jnp.sqrt(jnp.sum(w**2))
    cross = jnp.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    square = cross @ cross
    a, b, c = jnp.sin(angle) / angle, (1 - jnp.cos(angle)) / angle**2, (angle - jnp.sin(angle)) / angle**3
    rotation = jnp.eye(3) + a * cross + b * square
    shift = (jnp.eye(3) + b * cross + c * square) @ v
    return jnp.block([[rotation, shift[:, None]], [jnp.zeros((1, 3)), jnp.ones((1, 1))]])


def poses(z: Array) -> Array:
    """A point moved by two poses, each the exponential of a twist by Rodrigues' formula: two twists and the point."""
    return (_pose(z[:6]) @ _pose(z[6:12]) @ jnp.append(z[12:], 1.0))[:3]


def manipulator(z: Array) -> Array:
    """The accelerations of a planar arm of three links with point masses at their ends: angles, speeds, torques."""
    q, v, torque = z[:3], z[3:6], z[6:]
    lengths, masses = jnp.array([0.5, 0.4, 0.3]), jnp.array([2.0, 1.5, 1.0])
    angle, speed = jnp.cumsum(q), jnp.cumsum(v)
    beyond = jnp.array([4.5, 2.5, 1.0])  # the mass that hangs on each link
    shared = jnp.minimum(beyond[:, None], beyond[None, :]) * lengths[:, None] * lengths[None, :]
    between = angle[:, None] - angle[None, :]
    mass = shared * jnp.cos(between) + jnp.diag(0.01 * masses)
    bias = (shared * jnp.sin(between)) @ speed**2 + 9.81 * beyond * lengths * jnp.cos(angle)
    drive = torque - jnp.append(torque[1:], 0.0)
    turn = jnp.linalg.solve(mass, drive - bias)
    return jnp.stack([turn[0], turn[1] - turn[0], turn[2] - turn[1]])


def stereo(z: Array) -> Array:
    """A point in a pair of pinhole cameras: roll, pitch and yaw, shift, focal lengths, baseline, the point."""
    roll, pitch, yaw = z[:3]
    shift, (fx, fy), baseline, point = z[3:6], z[6:8], z[8], z[9:]
    cr, sr, cp, sp, cy, sy = jnp.cos(roll), jnp.sin(roll), jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw), jnp.sin(yaw)
    about_x = jnp.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_y = jnp.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_z = jnp.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    x, y, depth = about_z @ about_y @ about_x @ point + shift
    depth = depth + 4.0
    left = jnp.stack([fx * x / depth, fy * y / depth])
    right = jnp.stack([fx * (x - baseline) / depth, fy * y / depth])
    return jnp.concatenate([left, right])


def equation_of_state(z: Array) -> Array:
    """Peng and Robinson's pressure, its slopes, enthalpy departure and fugacity: temperature, volume, acentric factor."""
    temperature, volume, acentric = z[0], 1.0 + z[1], 0.3 * z[2]
    root2 = float(np.sqrt(2.0))
    b = 0.0778
    kappa = 0.37464 + 1.54226 * acentric - 0.26992 * acentric**2
    bracket = 1 + kappa * (1 - jnp.sqrt(temperature))
    a = 0.45724 * bracket**2
    a_slope = -0.45724 * bracket * kappa / jnp.sqrt(temperature)
    below = volume**2 + 2 * b * volume - b**2
    pressure = temperature / (volume - b) - a / below
    by_temperature = 1 / (volume - b) - a_slope / below
    by_volume = -temperature / (volume - b) ** 2 + 2 * a * (volume + b) / below**2
    log = jnp.log((volume + (1 + root2) * b) / (volume + (1 - root2) * b))
    compression = pressure * volume / temperature
    enthalpy = temperature * (compression - 1) + (temperature * a_slope - a) / (2 * root2 * b) * log
    fugacity = compression - 1 - jnp.log(compression * (volume - b) / volume) - a / (2 * root2 * b * temperature) * log
    return jnp.stack([pressure, by_temperature, by_volume, enthalpy, fugacity])


def shallow_water(u: Array) -> Array:
    """Harten, Lax and van Leer's flux between two states of shallow water: depth and both momenta on either side."""
    left, right = u[:3], u[3:]

    def flux(w: Array) -> Array:
        h, hu, hv = w
        return jnp.stack([hu, hu**2 / h + 0.5 * 9.81 * h**2, hu * hv / h])

    speed_left, speed_right = left[1] / left[0], right[1] / right[0]
    wave_left, wave_right = jnp.sqrt(9.81 * left[0]), jnp.sqrt(9.81 * right[0])
    slow = jnp.minimum(speed_left - wave_left, speed_right - wave_right)
    fast = jnp.maximum(speed_left + wave_left, speed_right + wave_right)
    between = (fast * flux(left) - slow * flux(right) + slow * fast * (right - left)) / (fast - slow)
    return jnp.where(slow >= 0, flux(left), jnp.where(fast <= 0, flux(right), between))


def exchange_option(z: Array) -> Array:
    """Margrabe's option to swap two assets and its hedge ratios: prices, yields, volatilities, correlation, time."""
    first, second, yield1, yield2, sigma1, sigma2, correlation, years = z
    sigma = jnp.sqrt(sigma1**2 + sigma2**2 - 1.6 * (correlation - 0.5) * sigma1 * sigma2)
    wide = sigma * jnp.sqrt(years)
    d1 = (jnp.log(first / second) + (yield2 - yield1 + sigma**2 / 2) * years) / wide
    d2 = d1 - wide
    delta1 = jnp.exp(-yield1 * years) * jax.scipy.stats.norm.cdf(d1)
    delta2 = -jnp.exp(-yield2 * years) * jax.scipy.stats.norm.cdf(d2)
    vega = first * jnp.exp(-yield1 * years) * jax.scipy.stats.norm.pdf(d1) * jnp.sqrt(years)
    return jnp.stack([first * delta1 + second * delta2, delta1, delta2, vega])


def robertson(z: Array) -> Array:
    """An implicit Euler step of Robertson's three species by three Newton sweeps: concentrations and logarithms of rates."""
    y0, rates = z[:3], jnp.exp(z[3:]) * jnp.array([0.04, 100.0, 30.0])

    def change(y: Array) -> Array:
        r1, r2, r3 = rates[0] * y[0], rates[1] * y[1] * y[2], rates[2] * y[1] ** 2
        return jnp.stack([-r1 + r2, r1 - r2 - r3, r3])

    def slope(y: Array) -> Array:
        k1, k2, k3 = rates
        return jnp.array(
            [
                [-k1, k2 * y[2], k2 * y[1]],
                [k1, -k2 * y[2] - 2 * k3 * y[1], -k2 * y[1]],
                [0.0, 2 * k3 * y[1], 0.0],
            ]
        )

    y = y0
    for _ in range(3):
        y = y - jnp.linalg.solve(jnp.eye(3) - 0.1 * slope(y), y - y0 - 0.1 * change(y))
    return y


def barnacle(z: Array) -> Array:
    """A Runge–Kutta step of Morris and Lecar's neuron: voltage in units of 50 mV, gate, current, three conductances."""
    current, g_calcium, g_potassium, g_leak = 100 * z[2], 5 * z[3], 10 * z[4], 4 * z[5]

    def f(x: Array) -> Array:
        v, w = 50 * x[0], x[1]
        m = 0.5 * (1 + jnp.tanh((v + 1.2) / 18))
        rest = 0.5 * (1 + jnp.tanh((v - 2) / 30))
        flow = current - g_leak * (v + 60) - g_calcium * m * (v - 120) - g_potassium * w * (v + 84)
        return jnp.stack([flow / (20 * 50), 0.04 * (rest - w) * jnp.cosh((v - 2) / 60)])

    return runge_kutta(f, z[:2], 0.5)


def satellite(z: Array) -> Array:
    """A Runge–Kutta step of an orbit about an oblate planet with drag: position and velocity."""

    def f(x: Array) -> Array:
        r, v = x[:3], x[3:]
        distance = jnp.linalg.norm(r)
        flat = 1.5 * 1.08e-3 / distance**2
        height = 5 * (r[2] / distance) ** 2
        pull = -r / distance**3 * (1 + flat * (jnp.array([1.0, 1.0, 3.0]) - height))
        drag = -1e-3 * jnp.exp(-(distance - 1) / 0.5) * jnp.linalg.norm(v) * v
        return jnp.concatenate([v, pull + drag])

    return runge_kutta(f, z, 0.05)


def car(z: Array) -> Array:
    """The rates of a car on two tyres by Pacejka's formula: heading, speeds along and across, yaw, steering, drive."""
    heading, along, across, yaw, steer, drive = z
    along, steer = 10 * along, 0.3 * steer
    mass, inertia, front, rear = 1.5, 2.5, 1.2, 1.4

    def tyre(slip: Array, load: float) -> Array:
        stiff = 10.0 * slip
        return load * jnp.sin(1.9 * jnp.arctan(stiff - 0.97 * (stiff - jnp.arctan(stiff))))

    side_front = tyre(steer - jnp.arctan2(across + front * yaw, along), 8.0)
    side_rear = tyre(-jnp.arctan2(across - rear * yaw, along), 7.0)
    return jnp.stack(
        [
            along * jnp.cos(heading) - across * jnp.sin(heading),
            along * jnp.sin(heading) + across * jnp.cos(heading),
            yaw,
            (5 * drive - 0.01 * along**2 - side_front * jnp.sin(steer)) / mass + across * yaw,
            (side_front * jnp.cos(steer) + side_rear) / mass - along * yaw,
            (front * side_front * jnp.cos(steer) - rear * side_rear) / inertia,
        ]
    )


def gelu_net(x: Array) -> Array:
    """A small net: ten numbers in, one layer of 16 with biases and gelu, a softplus of six out."""
    rng = np.random.default_rng(11)
    inner, outer = (jnp.asarray(rng.normal(size=s).astype(np.float32) / np.sqrt(s[1])) for s in ((16, 10), (6, 16)))
    bias_inner, bias_outer = (jnp.asarray(0.1 * rng.normal(size=n).astype(np.float32)) for n in (16, 6))
    return jax.nn.softplus(outer @ jax.nn.gelu(inner @ x + bias_inner) + bias_outer)


def logistic_loss(w: Array) -> Array:
    """The loss of a logistic regression on 30 rows of eight features, with a penalty; the last weight is the intercept."""
    rng = np.random.default_rng(12)
    features = jnp.asarray(rng.normal(size=(30, 8)).astype(np.float32))
    labels = jnp.asarray(rng.integers(0, 2, 30).astype(np.float32))
    score = features @ w[:-1] + w[-1]
    return jnp.mean(jax.nn.softplus(score) - labels * score) + 0.01 * jnp.sum(w[:-1] ** 2)


def morse(x: Array) -> Array:
    """The energy of four atoms with Morse's potential."""
    p = x.reshape(4, 3) + 1.2 * jnp.arange(4.0)[:, None]
    i, j = np.triu_indices(4, 1)
    distance = jnp.linalg.norm(p[i] - p[j], axis=1)
    return jnp.sum((1 - jnp.exp(-1.5 * (distance - 1.2))) ** 2 - 1)


def gaussian_process(z: Array) -> Array:
    """Minus a Gaussian process' log-likelihood of four values by Cholesky: amplitude, length, noise, the values."""
    amplitude, length, noise, values = z[0], z[1], z[2], z[3:]
    at = jnp.array([0.0, 0.4, 1.1, 1.7])
    kernel = amplitude**2 * jnp.exp(-0.5 * ((at[:, None] - at[None, :]) / length) ** 2) + noise**2 * jnp.eye(4)
    lower = jnp.linalg.cholesky(kernel)
    white = jax.scipy.linalg.solve_triangular(lower, values, lower=True)
    return 0.5 * white @ white + jnp.sum(jnp.log(jnp.diag(lower))) + 2 * float(np.log(2 * np.pi))


def broyden(x: Array) -> Array:
    """Half the squares of Broyden's tridiagonal equations in 20 numbers."""
    padded = jnp.pad(x, 1)
    return 0.5 * jnp.sum(((3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1) ** 2)


TELLING = (
    FormModel("rigid body, RK4 step", rigid_body, 10),
    FormModel("two poses", poses, 15),
    FormModel("arm of three links", manipulator, 9, most=10_000),  # at 100,000 the solves of jacrev wait for each other
    FormModel("stereo pair", stereo, 12),
    FormModel("equation of state", equation_of_state, 3, low=0.5),
    FormModel("flux of shallow water", shallow_water, 6, low=0.5),
    FormModel("option to exchange", exchange_option, 8),
    FormModel("Robertson, implicit step", robertson, 6, most=10_000),  # the same
    FormModel("Morris–Lecar, RK4 step", barnacle, 6),
    FormModel("satellite, RK4 step", satellite, 6, low=0.5),
    FormModel("car on two tyres", car, 6),
    FormModel("gelu net", gelu_net, 10),
    FormModel("logistic loss, Hessian", logistic_loss, 9, second=True),
    FormModel("four atoms, Hessian", morse, 12, second=True),
    FormModel("Gaussian process, Hessian", gaussian_process, 7, second=True, most=1),  # jax.hessian: minutes at 1,000
    FormModel("Broyden, Hessian", broyden, 20, second=True),
)
