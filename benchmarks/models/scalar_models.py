"""Functions of a handful of numbers from finance, fluids, robotics and chemistry, in plain JAX, from their formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.models.jacobians import Array, Numbers, ScalarModel

GAMMA = 1.4  # ratio of specific heats of air
R = 8.31446  # J / (mol K)


def normal_cdf(z: Array) -> Array:
    return 0.5 * (1 + jax.scipy.special.erf(z / math.sqrt(2)))


def black_scholes(S: Array, K: Array, r: Array, sigma: Array, T: Array) -> Array:
    """Price of a European call: Black & Scholes, J. Political Economy 81 (1973)."""
    spread = sigma * jnp.sqrt(T)
    d = (jnp.log(S / K) + (r + 0.5 * sigma**2) * T) / spread
    return S * normal_cdf(d) - K * jnp.exp(-r * T) * normal_cdf(d - spread)


def black_scholes_greeks(S: Array, K: Array, r: Array, sigma: Array, T: Array) -> Numbers:
    """The five first derivatives of the price by `jax.grad`: the Jacobian of these is the Hessian of the price."""
    greeks: Numbers = jax.grad(black_scholes, argnums=(0, 1, 2, 3, 4))(S, K, r, sigma, T)
    return greeks


def sabr_smile(F: Array, alpha: Array, beta: Array, rho: Array, nu: Array, T: Array) -> Numbers:
    """Implied volatilities at five strikes: Hagan et al., *Managing smile risk*, Wilmott (2002), formula 2.17."""

    def volatility(K: float) -> Array:
        log, power = jnp.log(F / K), (F * K) ** ((1 - beta) / 2)
        z = nu / alpha * power * log
        x = jnp.log((jnp.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
        b = (1 - beta) ** 2
        drift = b / 24 * alpha**2 / power**2 + rho * beta * nu * alpha / (4 * power) + (2 - 3 * rho**2) / 24 * nu**2
        return alpha / (power * (1 + b / 24 * log**2 + b**2 / 1920 * log**4)) * z / x * (1 + drift * T)

    return tuple(volatility(K) for K in (0.5, 0.7, 1.3, 1.5, 2.0))


def euler_state(rho: Array, mx: Array, my: Array, mz: Array, E: Array) -> Numbers:
    """Velocities, pressure and total enthalpy of an ideal gas from its density, momenta and energy."""
    u, v, w = mx / rho, my / rho, mz / rho
    p = (GAMMA - 1) * (E - 0.5 * (mx * u + my * v + mz * w))
    return u, v, w, p, (E + p) / rho


def roe_flux_3d(
    rho_l: Array,
    mx_l: Array,
    my_l: Array,
    mz_l: Array,
    E_l: Array,
    rho_r: Array,
    mx_r: Array,
    my_r: Array,
    mz_r: Array,
    E_r: Array,
) -> Numbers:
    """Flux of density, momenta and energy along x between two gas states: Toro, *Riemann Solvers* (2009), section 11.2.2."""
    u_l, v_l, w_l, p_l, h_l = euler_state(rho_l, mx_l, my_l, mz_l, E_l)
    u_r, v_r, w_r, p_r, h_r = euler_state(rho_r, mx_r, my_r, mz_r, E_r)
    root_l, root_r = jnp.sqrt(rho_l), jnp.sqrt(rho_r)
    left = root_l / (root_l + root_r)
    u, v, w, h = (left * a + (1 - left) * b for a, b in ((u_l, u_r), (v_l, v_r), (w_l, w_r), (h_l, h_r)))
    rho, q = root_l * root_r, u * u + v * v + w * w
    a2 = (GAMMA - 1) * (h - 0.5 * q)
    a = jnp.sqrt(a2)
    dp, du = p_r - p_l, rho * a * (u_r - u_l)
    slow = jnp.abs(u - a) * (dp - du) / (2 * a2)
    fast = jnp.abs(u + a) * (dp + du) / (2 * a2)
    middle = jnp.abs(u) * (rho_r - rho_l - dp / a2)
    shear_v, shear_w = jnp.abs(u) * rho * (v_r - v_l), jnp.abs(u) * rho * (w_r - w_l)
    every = slow + middle + fast
    waves = (
        every,
        slow * (u - a) + middle * u + fast * (u + a),
        every * v + shear_v,
        every * w + shear_w,
        slow * (h - u * a) + middle * 0.5 * q + fast * (h + u * a) + shear_v * v + shear_w * w,
    )
    flux_l = (mx_l, mx_l * u_l + p_l, mx_l * v_l, mx_l * w_l, mx_l * h_l)
    flux_r = (mx_r, mx_r * u_r + p_r, mx_r * v_r, mx_r * w_r, mx_r * h_r)
    return tuple(0.5 * (f + g - wave) for f, g, wave in zip(flux_l, flux_r, waves))


def hllc_flux_2d(
    rho_l: Array, mx_l: Array, my_l: Array, E_l: Array, rho_r: Array, mx_r: Array, my_r: Array, E_r: Array
) -> Numbers:
    """Flux along x with the contact wave restored: Toro, Spruce & Speares, Shock Waves 4 (1994), Davis's wave speeds."""

    def side(rho: Array, mx: Array, my: Array, E: Array) -> Numbers:
        u, v = mx / rho, my / rho
        p = (GAMMA - 1) * (E - 0.5 * (mx * u + my * v))
        return u, v, p, jnp.sqrt(GAMMA * p / rho)

    (u_l, v_l, p_l, a_l), (u_r, v_r, p_r, a_r) = side(rho_l, mx_l, my_l, E_l), side(rho_r, mx_r, my_r, E_r)
    slow, fast = jnp.minimum(u_l - a_l, u_r - a_r), jnp.maximum(u_l + a_l, u_r + a_r)
    gap_l, gap_r = rho_l * (slow - u_l), rho_r * (fast - u_r)
    contact = (p_r - p_l + u_l * gap_l - u_r * gap_r) / (gap_l - gap_r)

    def fluxes(state: Numbers, u: Array, v: Array, p: Array, gap: Array, speed: Array) -> tuple[Numbers, Numbers]:
        rho, mx, my, E = state
        plain = (mx, mx * u + p, my * u, (E + p) * u)
        density = gap / (speed - contact)
        energy = density * (E / rho + (contact - u) * (contact + p / gap))
        star = (density, density * contact, density * v, energy)
        return plain, tuple(f + speed * (inside - outside) for f, inside, outside in zip(plain, star, state))

    outer_l, inner_l = fluxes((rho_l, mx_l, my_l, E_l), u_l, v_l, p_l, gap_l, slow)
    outer_r, inner_r = fluxes((rho_r, mx_r, my_r, E_r), u_r, v_r, p_r, gap_r, fast)
    return tuple(
        jnp.where(slow >= 0, a, jnp.where(contact >= 0, b, jnp.where(fast >= 0, c, d)))
        for a, b, c, d in zip(outer_l, inner_l, inner_r, outer_r)
    )


def seven_joints(*angles: Array) -> Numbers:
    """Position (m) and axes of the flange of a KUKA LBR iiwa 14: Denavit–Hartenberg chain, lengths of its data sheet."""
    lengths, twists = (0.36, 0.0, 0.42, 0.0, 0.4, 0.0, 0.126), (-1, 1, 1, -1, -1, 1, 0)  # twists in right angles
    x: Sequence[Array] = (1.0, 0.0, 0.0)
    y: Sequence[Array] = (0.0, 1.0, 0.0)
    z: Sequence[Array] = (0.0, 0.0, 1.0)
    origin: Sequence[Array] = (0.0, 0.0, 0.0)
    for angle, length, twist in zip(angles, lengths, twists):
        c, s = jnp.cos(angle), jnp.sin(angle)
        x, y = [c * a + s * b for a, b in zip(x, y)], [c * b - s * a for a, b in zip(x, y)]
        if length:
            origin = [o + length * a for o, a in zip(origin, z)]
        if twist:  # about x
            y, z = [twist * a for a in z], [-twist * a for a in y]
    return *origin, *x, *y, *z


def two_link_step(q1: Array, q2: Array, v1: Array, v2: Array, torque1: Array, torque2: Array) -> Numbers:
    """A classical Runge–Kutta step of a planar arm with two links: Spong, Hutchinson & Vidyasagar (2006), section 7.4."""
    m1, m2, l1, c1, c2, I1, I2, g, h = 1.2, 0.8, 0.6, 0.3, 0.25, 0.05, 0.03, 9.81, 0.02

    def speed(q1: Array, q2: Array, v1: Array, v2: Array) -> Numbers:
        cos2 = jnp.cos(q2)
        M11 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cos2) + I1 + I2
        M12 = m2 * (c2**2 + l1 * c2 * cos2) + I2
        M22 = m2 * c2**2 + I2
        coriolis = -m2 * l1 * c2 * jnp.sin(q2)
        weight2 = m2 * c2 * g * jnp.cos(q1 + q2)
        weight1 = (m1 * c1 + m2 * l1) * g * jnp.cos(q1) + weight2
        b1 = torque1 - coriolis * (2 * v1 * v2 + v2**2) - weight1
        b2 = torque2 + coriolis * v1**2 - weight2
        determinant = M11 * M22 - M12**2
        return v1, v2, (M22 * b1 - M12 * b2) / determinant, (M11 * b2 - M12 * b1) / determinant

    def moved(y: Numbers, by: float, k: Numbers) -> Numbers:
        return tuple(a + by * b for a, b in zip(y, k))

    y: Numbers = (q1, q2, v1, v2)
    k1 = speed(*y)
    k2 = speed(*moved(y, h / 2, k1))
    k3 = speed(*moved(y, h / 2, k2))
    k4 = speed(*moved(y, h, k3))
    return tuple(a + h / 6 * (p + 2 * q + 2 * r + s) for a, p, q, r, s in zip(y, k1, k2, k3, k4))


# Formation enthalpy (J/mol), standard entropy (J/(mol K)), efficiency as a third body: CODATA and NIST webbook.
SPECIES = {
    "H2": (0.0, 130.68, 2.5),
    "H": (217_998.0, 114.717, 1.0),
    "O": (249_180.0, 161.059, 1.0),
    "O2": (0.0, 205.152, 1.0),
    "OH": (37_360.0, 183.737, 1.0),
    "H2O": (-241_826.0, 188.835, 12.0),
    "HO2": (12_550.0, 229.1, 1.0),
}
# Reactants, products, and k = A Tⁿ exp(−E / RT) in cm³, mol, s and cal; M is any third body.
REACTIONS = (
    ("H O2", "O OH", 3.547e15, -0.406, 16_599.0),
    ("O H2", "H OH", 5.08e4, 2.67, 6_290.0),
    ("H2 OH", "H2O H", 2.16e8, 1.51, 3_430.0),
    ("O H2O", "OH OH", 2.97e6, 2.02, 13_400.0),
    ("H2 M", "H H M", 4.577e19, -1.40, 104_380.0),
    ("H OH M", "H2O M", 3.8e22, -2.0, 0.0),
    ("H O2 M", "HO2 M", 6.366e20, -1.72, 524.8),
    ("HO2 H", "H2 O2", 1.66e13, 0.0, 823.0),
    ("HO2 H", "OH OH", 7.079e13, 0.0, 295.0),
    ("HO2 O", "O2 OH", 3.25e13, 0.0, 0.0),
    ("HO2 OH", "H2O O2", 2.89e13, 0.0, -497.0),
)
CALORIE, ATMOSPHERE, HEAT_CAPACITY = 4.184, 101_325.0, 35.0  # J; Pa; J/(mol K) of each gas


def hydrogen_flame(*state: Array) -> Numbers:
    """Rates of seven concentrations (mol/m³) and of temperature (K): Li et al., Int. J. Chem. Kinet. 36 (2004).

    Hydrogen and oxygen at constant volume; reverse rates from equilibrium, by enthalpies and entropies of 298 K.
    """
    *concentrations, T = state
    c = dict(zip(SPECIES, concentrations))
    c["M"] = sum(efficiency * c[name] for name, (_, _, efficiency) in SPECIES.items())
    log_T, inverse = jnp.log(T), 1 / (R * T)
    log_standard = jnp.log(ATMOSPHERE * inverse)  # mol/m³ at one atmosphere
    rates: dict[str, Array] = dict.fromkeys(SPECIES, 0.0)
    heat: Array = 0.0
    for reactants, products, A, n, E in REACTIONS:
        before, after = reactants.split(), products.split()
        log_k = math.log(A * 1e-6 ** (len(before) - 1)) + n * log_T - E * CALORIE * inverse
        H, S = (
            sum(SPECIES[x][i] for x in after if x != "M") - sum(SPECIES[x][i] for x in before if x != "M") for i in (0, 1)
        )
        log_equilibrium = S / R - H * inverse
        if len(after) != len(before):
            log_equilibrium += (len(after) - len(before)) * log_standard
        rate = jnp.exp(log_k) * math.prod(c[x] for x in before)
        rate -= jnp.exp(log_k - log_equilibrium) * math.prod(c[x] for x in after)
        heat -= H * rate
        for x in before:
            rates[x] = rates.get(x, 0.0) - rate
        for x in after:
            rates[x] = rates.get(x, 0.0) + rate
    warming = heat / (HEAT_CAPACITY * sum(concentrations))
    return *(rates[x] for x in SPECIES), warming


# Critical temperature (K) and pressure (Pa), acentric factor.
GASES = ((190.56, 4.599e6, 0.011), (305.32, 4.872e6, 0.099), (369.83, 4.248e6, 0.152), (126.20, 3.396e6, 0.037))


def peng_robinson(T: Array, V: Array, *moles: Array) -> Numbers:
    """Pressure (bar) and log fugacity coefficients of a natural gas: Peng & Robinson, Ind. Eng. Chem. Fundam. 15 (1976).

    Methane, ethane, propane and nitrogen, without binary interactions.
    """
    n = sum(moles)
    v, x = V / n, [m / n for m in moles]
    roots, covolumes = [], []
    for critical, pressure, omega in GASES:
        kappa = 0.37464 + 1.54226 * omega - 0.26992 * omega**2
        scale = math.sqrt(0.45724 / pressure) * R * critical
        roots.append(scale * (1 + kappa * (1 - jnp.sqrt(T / critical))))
        covolumes.append(0.07780 * R * critical / pressure)
    root = sum(y * s for y, s in zip(x, roots))  # of the mixture's attraction
    a, b = root**2, sum(y * w for y, w in zip(x, covolumes))
    RT = R * T
    P = RT / (v - b) - a / (v**2 + 2 * b * v - b**2)
    Z, B = P * v / RT, P * b / RT
    two = math.sqrt(2)
    factor = a / (2 * two * b * RT) * jnp.log((Z + (1 + two) * B) / (Z + (1 - two) * B))
    logs = [w / b * (Z - 1) - jnp.log(Z - B) - factor * (2 * s / root - w / b) for s, w in zip(roots, covolumes)]
    return P * 1e-5, *logs


SCALAR_MODELS = (
    ScalarModel("Black–Scholes Hessian", black_scholes_greeks, (100.0, 110.0, 0.05, 0.25, 1.5)),
    ScalarModel("Roe flux, 3-D", roe_flux_3d, (1.0, 0.3, 0.2, -0.1, 2.6, 0.7, 0.5, -0.1, 0.3, 2.1)),
    ScalarModel("HLLC flux, 2-D", hllc_flux_2d, (1.0, 0.3, 0.2, 2.6, 0.7, 0.5, -0.1, 2.1)),
    ScalarModel("robot arm, 7 joints", seven_joints, (0.3, -0.5, 0.7, 0.4, 0.9, -0.6, 0.2)),
    ScalarModel("two-link arm, one step", two_link_step, (0.4, 0.9, -0.5, 0.8, 1.5, 0.6)),
    ScalarModel("hydrogen flame", hydrogen_flame, (3.0, 0.2, 0.15, 1.6, 0.3, 4.0, 0.001, 1800.0)),
    ScalarModel("Peng–Robinson mixture", peng_robinson, (300.0, 1e-3, 0.7, 0.15, 0.1, 0.05)),
    ScalarModel("SABR smile", sabr_smile, (1.0, 0.3, 0.6, -0.3, 0.5, 2.0)),
)
