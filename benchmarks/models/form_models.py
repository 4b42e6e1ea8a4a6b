"""What `forms` differentiates: one array in and one out (or a number), as people write it; the set to tune by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any


@dataclass(frozen=True)
class FormModel:
    """A function of one vector, with the range that its arguments are drawn from; ``second`` asks for a Hessian.

    ``most`` is at how many points JAX's own derivative still ends.
    """

    name: str
    function: Callable[[Array], Array]
    size: int
    low: float = 0.2
    high: float = 1.0
    second: bool = False
    most: int = 100_000

    def points(self, count: int) -> Array:
        """So many points, a row each."""
        drawn = np.random.default_rng(0).uniform(self.low, self.high, (count, self.size))
        return np.asarray(drawn, np.float32)


def runge_kutta(f: Callable[[Array], Array], x: Array, h: float) -> Array:
    """A step of Runge and Kutta's method of fourth order."""
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    k4 = f(x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def cart_pole(z: Array) -> Array:
    """A Runge–Kutta step of a pole on a cart: position, angle, their speeds, and the force."""
    force = z[4]

    def f(x: Array) -> Array:
        s, c = jnp.sin(x[1]), jnp.cos(x[1])
        total = 1.0 + 0.1 * s**2
        push = force + 0.1 * s * (0.5 * x[3] ** 2 + 9.81 * c)
        turn = -force * c - 0.05 * x[3] ** 2 * c * s - 1.1 * 9.81 * s
        return jnp.stack([x[2], x[3], push / total, turn / (0.5 * total)])

    return runge_kutta(f, z[:4], 0.05)


def quadrotor(z: Array) -> Array:
    """The rates of position, quaternion, velocity, spin by four rotors: 13 states and 4 thrusts."""
    q, v, w, u = z[3:7], z[7:10], z[10:13], z[13:]
    rotate = jnp.array(
        [
            [1 - 2 * (q[2] ** 2 + q[3] ** 2), 2 * (q[1] * q[2] - q[0] * q[3]), 2 * (q[1] * q[3] + q[0] * q[2])],
            [2 * (q[1] * q[2] + q[0] * q[3]), 1 - 2 * (q[1] ** 2 + q[3] ** 2), 2 * (q[2] * q[3] - q[0] * q[1])],
            [2 * (q[1] * q[3] - q[0] * q[2]), 2 * (q[2] * q[3] + q[0] * q[1]), 1 - 2 * (q[1] ** 2 + q[2] ** 2)],
        ]
    )
    spin = 0.5 * jnp.array(
        [
            -q[1] * w[0] - q[2] * w[1] - q[3] * w[2],
            q[0] * w[0] + q[2] * w[2] - q[3] * w[1],
            q[0] * w[1] - q[1] * w[2] + q[3] * w[0],
            q[0] * w[2] + q[1] * w[1] - q[2] * w[0],
        ]
    )
    inertia = jnp.array([0.02, 0.02, 0.04])
    torque = jnp.array([0.2 * (u[1] - u[3]), 0.2 * (u[2] - u[0]), 0.05 * (u[0] - u[1] + u[2] - u[3])])
    force = rotate @ jnp.array([0.0, 0.0, 1.0]) * jnp.sum(u) - jnp.array([0.0, 0.0, 9.81]) - 0.1 * v
    return jnp.concatenate([v, spin, force, (torque - jnp.cross(w, inertia * w)) / inertia])


def camera(z: Array) -> Array:
    """A point seen by a camera with radial distortion: rotation vector, centre, focal length and coefficients, the point."""
    r, centre, (focal, k1, k2), point = z[:3], z[3:6], z[6:9], z[9:]
    angle = jnp.sqrt(r @ r)
    axis = r / angle
    x = point - centre
    x = x * jnp.cos(angle) + jnp.cross(axis, x) * jnp.sin(angle) + axis * (axis @ x) * (1 - jnp.cos(angle))
    p = x[:2] / (x[2] + 3.0)
    square = p @ p
    return focal * p * (1 + k1 * square + k2 * square**2)


def lorenz(x: Array) -> Array:
    """A Runge–Kutta step of Lorenz' model of 1996 with 40 variables."""
    return runge_kutta(lambda x: (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8.0, x, 0.05)


def arm(z: Array) -> Array:
    """The accelerations of a double pendulum with torques, by its mass matrix: angles, speeds, torques."""
    q, v, tau = z[:2], z[2:4], z[4:]
    c2, s2 = jnp.cos(q[1]), jnp.sin(q[1])
    mass = jnp.array([[3 + 2 * c2, 1 + c2], [1 + c2, 1.0]])
    bias = jnp.array([-s2 * (2 * v[0] * v[1] + v[1] ** 2), s2 * v[0] ** 2])
    gravity = 9.81 * jnp.array([2 * jnp.sin(q[0]) + jnp.sin(q[0] + q[1]), jnp.sin(q[0] + q[1])])
    return jnp.linalg.solve(mass, tau - bias - gravity)


def predators(x: Array) -> Array:
    """Lotka and Volterra's rates for ten species that all meet."""
    meet = np.random.default_rng(1).uniform(-1, 1, (10, 10)).astype(np.float32)
    return x * (1.0 + jnp.asarray(meet) @ x) / (1.0 + jnp.sum(x))


def policy(x: Array) -> Array:
    """A small net: eight numbers in, two layers of 16, four out."""
    rng = np.random.default_rng(2)
    for rows, cols in ((16, 8), (16, 16), (4, 16)):
        x = jnp.tanh(jnp.asarray(rng.normal(size=(rows, cols)).astype(np.float32) / np.sqrt(cols)) @ x)
    return x


def orbit(z: Array) -> Array:
    """Position and velocity after Kepler's equation by five Newton steps: elements a, e, i, Ω, ω, M."""
    a, e, i, node, peri, mean = z
    e = 0.5 * e
    E = mean
    for _ in range(5):
        E = E - (E - e * jnp.sin(E) - mean) / (1 - e * jnp.cos(E))
    root = jnp.sqrt(1 - e**2)
    flat = jnp.stack([a * (jnp.cos(E) - e), a * root * jnp.sin(E)])
    rate = jnp.sqrt(1 / a) / (1 - e * jnp.cos(E))
    speed = jnp.stack([-rate * jnp.sin(E), rate * root * jnp.cos(E)])
    cO, sO, ci, si, cw, sw = jnp.cos(node), jnp.sin(node), jnp.cos(i), jnp.sin(i), jnp.cos(peri), jnp.sin(peri)
    turn = jnp.stack(
        [
            jnp.stack([cO * cw - sO * sw * ci, -cO * sw - sO * cw * ci]),
            jnp.stack([sO * cw + cO * sw * ci, -sO * sw + cO * cw * ci]),
            jnp.stack([sw * si, cw * si]),
        ]
    )
    return jnp.concatenate([turn @ flat, turn @ speed])


def kinetics(y: Array) -> Array:
    """Rates of twelve species in a chain of reversible reactions with Arrhenius' law; the last number is the temperature."""
    x, temperature = y[:-1], y[-1] + 1.0
    forward = jnp.exp(-jnp.arange(1.0, 12.0) / (10 * temperature))
    rate = forward * x[:-1] * x[1:] - 0.1 * x[1:] ** 2
    zero = jnp.zeros(1, x.dtype)
    return jnp.concatenate([jnp.concatenate([zero, rate]) - jnp.concatenate([rate, zero]), jnp.sum(rate, keepdims=True)])


def softmax_loss(x: Array) -> Array:
    """Cross-entropy of twelve logits with a penalty."""
    return jax.nn.logsumexp(x) - x[3] + 0.05 * jnp.sum(x**2)


def cluster(x: Array) -> Array:
    """The energy of five atoms with Lennard-Jones' potential."""
    p = x.reshape(5, 3) + 1.5 * jnp.arange(5.0)[:, None]
    i, j = np.triu_indices(5, 1)
    square = jnp.sum((p[i] - p[j]) ** 2, axis=1)
    return jnp.sum(square**-6 - square**-3)


def chain(q: Array) -> Array:
    """Where the hand of an arm of six joints is and points to: a product of matrices of 4 × 4 by Denavit and Hartenberg."""
    pose = jnp.eye(4)
    for angle, (length, offset, twist) in zip(
        q, ((0.0, 0.3, 1.57), (0.6, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.1, 1.57), (0.0, 0.1, -1.57), (0.0, 0.2, 0.0))
    ):
        c, s, ct, st = jnp.cos(angle), jnp.sin(angle), float(np.cos(twist)), float(np.sin(twist))
        joint = jnp.array(
            [[c, -s * ct, s * st, length * c], [s, c * ct, -c * st, length * s], [0.0, st, ct, offset], [0.0, 0.0, 0.0, 1.0]]
        )
        pose = pose @ joint
    return jnp.concatenate([pose[:3, 3], pose[:3, 2]])


def option(z: Array) -> Array:
    """Black and Scholes: a call, a put and their hedge ratios by spot, strike, rate, volatility and time."""
    spot, strike, rate, volatility, years = z
    wide = volatility * jnp.sqrt(years)
    d1 = (jnp.log(spot / strike) + (rate + volatility**2 / 2) * years) / wide
    d2 = d1 - wide
    up, down = jax.scipy.stats.norm.cdf(d1), jax.scipy.stats.norm.cdf(d2)
    call = spot * up - strike * jnp.exp(-rate * years) * down
    return jnp.stack([call, call - spot + strike * jnp.exp(-rate * years), up, up - 1])


def euler_flux(u: Array) -> Array:
    """The flux of Lax and Friedrichs between two states of a gas: density, momentum, energy on either side."""
    left, right = u[:4], u[4:]

    def flux(w: Array) -> tuple[Array, Array]:
        velocity = w[1] / w[0]
        pressure = 0.4 * (w[3] + 2.0 - 0.5 * (w[1] ** 2 + w[2] ** 2) / w[0])
        speed = jnp.abs(velocity) + jnp.sqrt(1.4 * pressure / w[0])
        return jnp.array([w[1], w[1] * velocity + pressure, w[2] * velocity, (w[3] + 2.0 + pressure) * velocity]), speed

    (fl, sl), (fr, sr) = flux(left), flux(right)
    return 0.5 * (fl + fr) - 0.5 * jnp.maximum(sl, sr) * (right - left)


def neuron(z: Array) -> Array:
    """An implicit Euler step of Hodgkin and Huxley's neuron by two Newton-like sweeps: voltage, three gates, current."""
    v0, current = 10.0 * z[0], z[4]
    v, m, h, n = v0, z[1], z[2], z[3]
    for _ in range(2):
        am = 0.1 * (25 - v) / (jnp.exp((25 - v) / 10) - 1)
        bm = 4 * jnp.exp(-v / 18)
        ah = 0.07 * jnp.exp(-v / 20)
        bh = 1 / (jnp.exp((30 - v) / 10) + 1)
        an = 0.01 * (10.5 - v) / (jnp.exp((10.5 - v) / 10) - 1)
        bn = 0.125 * jnp.exp(-v / 80)
        m, h, n = ((x + 0.1 * a) / (1 + 0.1 * (a + b)) for x, a, b in ((z[1], am, bm), (z[2], ah, bh), (z[3], an, bn)))
        na, k = 120 * m**3 * h, 36 * n**4
        v = (v0 + 0.1 * (current + na * 115 - k * 12 + 0.3 * 10.6)) / (1 + 0.1 * (na + k + 0.3))
    return jnp.array([v, m, h, n])


def mixture(z: Array) -> Array:
    """Minus the logarithm of a mixture of three Gaussians' density at four places: weights, means and spreads."""
    weights, means, spreads = z[:3], z[3:6], z[6:]
    at = jnp.array([-1.0, 0.0, 0.5, 1.5])
    log = jax.nn.log_softmax(weights) - jnp.log(spreads) - 0.5 * ((at[:, None] - means) / spreads) ** 2
    return -jnp.sum(jax.nn.logsumexp(log, axis=1))


def net_energy(x: Array) -> Array:
    """A small net from ten numbers to one."""
    rng = np.random.default_rng(3)
    for rows, cols in ((16, 10), (16, 16)):
        x = jnp.tanh(jnp.asarray(rng.normal(size=(rows, cols)).astype(np.float32) / np.sqrt(cols)) @ x)
    return jnp.sum(x**2)


def rosenbrock(x: Array) -> Array:
    """Rosenbrock's function of 20 numbers."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


TUNING = (
    FormModel("cart-pole, RK4 step", cart_pole, 5),
    FormModel("quadrotor, 17 in", quadrotor, 17),
    FormModel("camera", camera, 12),
    FormModel("Lorenz 96, RK4 step", lorenz, 40),
    FormModel("double pendulum", arm, 6),
    FormModel("ten species", predators, 10),
    FormModel("policy net", policy, 8),
    FormModel("Kepler orbit", orbit, 6),
    FormModel("reaction chain", kinetics, 13),
    FormModel("arm of six joints", chain, 6),
    FormModel("option", option, 5),
    FormModel("flux of a gas", euler_flux, 8, low=0.5),
    FormModel("neuron, implicit step", neuron, 5),
    FormModel("softmax, Hessian", softmax_loss, 12, second=True),
    FormModel("five atoms, Hessian", cluster, 15, second=True),
    FormModel("mixture, Hessian", mixture, 9, second=True),
    FormModel("small net, Hessian", net_energy, 10, second=True),
    FormModel("Rosenbrock, Hessian", rosenbrock, 20, second=True),
)
