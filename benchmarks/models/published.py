"""The four functions of numbers whose counts of multiplications are published, in plain JAX.

Source of the counts: Lohoff & Neftci, *Optimizing Automatic Differentiation with Deep Reinforcement Learning*, NeurIPS 2024.
The functions are written from their formulas. The graph is theirs, edge for edge (tests/test_published_counts.py), so what
their programs compute twice is computed twice here: XLA merges it, and a count of the graph does not. Constants are not part
of a graph; here they, and two signs that differ there, are those of the formulas.
"""

from __future__ import annotations

import jax.numpy as jnp

from benchmarks.models.jacobians import Array, Numbers, ScalarModel

GAMMA = 1.4  # ratio of specific heats of air


def roe_flux_1d(rho_l: Array, m_l: Array, E_l: Array, rho_r: Array, m_r: Array, E_r: Array) -> Numbers:
    """Flux of density, momentum and energy between two gas states.

    Roe, *Approximate Riemann solvers*, J. Comput. Phys. 43 (1981). As published, the wave of speed u − a gets weight |u|.
    """

    def state(rho: Array, m: Array, E: Array) -> Numbers:
        velocity = m / rho
        pressure = (GAMMA - 1) * (E - 0.5 * m**2 / rho)
        return velocity, pressure, (E + pressure) / rho

    def flux(rho: Array, m: Array, E: Array, pressure: Array) -> Numbers:
        velocity = m / rho
        return m, pressure + m * velocity, velocity * (pressure + E)

    def mean(left: Array, right: Array) -> Array:
        return (jnp.sqrt(rho_l) * left + jnp.sqrt(rho_r) * right) / weight

    jump, rho = rho_r - rho_l, jnp.sqrt(rho_l * rho_r)
    weight = jnp.sqrt(rho_l) + jnp.sqrt(rho_r)
    v_l, p_l, h_l = state(rho_l, m_l, E_l)
    v_r, p_r, h_r = state(rho_r, m_r, E_r)
    dp, dv = p_r - p_l, v_r - v_l
    u, h = mean(v_l, v_r), mean(h_l, h_r)
    square = u**2
    a_squared = (GAMMA - 1) * (h - 0.5 * square)
    a = jnp.sqrt(a_squared)
    fastest, middle, slowest = jnp.abs(u + a), jnp.abs(u), jnp.abs(u)
    impedance = a * rho
    entropy = (jump - dp / a_squared) * middle
    right = (dv + dp / impedance) * fastest
    left = (dv - dp / impedance) * slowest
    both = [f + g for f, g in zip(flux(rho_l, m_l, E_l, p_l), flux(rho_r, m_r, E_r, p_r))]
    c = 0.5 * rho / a
    waves = (
        entropy + c * right - c * left,
        entropy * u + c * right * (u + a) - c * left * (u - a),
        entropy * 0.5 * square + c * right * (h + u * a) - c * left * (h - u * a),
    )
    return tuple(0.5 * (f - wave) for f, wave in zip(both, waves))


def robot_arm(t1: Array, t2: Array, t3: Array, t4: Array, t5: Array, t6: Array) -> Numbers:
    """Position (m) and orientation (three angles, rad) of the tool of a 6-axis arm, from its joint angles.

    Denavit–Hartenberg forward kinematics of an arm with a spherical wrist; lengths as in Lohoff & Neftci.
    """
    a1, a2, a3, d1, d4, d6 = 0.175, 0.890, 0.050, 0.575, 1.035, 0.185
    c1, c2, c4, c5, c6 = (jnp.cos(t) for t in (t1, t2, t4, t5, t6))
    c23 = jnp.cos(t2) * jnp.cos(t3) - jnp.sin(t2) * jnp.sin(t3)
    s1, s2, s4, s5, s6 = (jnp.sin(t) for t in (t1, t2, t4, t5, t6))
    s23 = jnp.cos(t2) * jnp.sin(t3) + jnp.sin(t2) * jnp.cos(t3)

    # The approach vector is where the tool points, by axis; the normal and the sliding vector need their z alone.
    def approach_x() -> Array:
        return s5 * (c1 * c23 * c4 + s1 * s4) + c1 * s23 * c5

    def approach_y() -> Array:
        return s5 * (s1 * c23 * c4 - c1 * s4) + s1 * s23 * c5

    def approach_z() -> Array:
        return s23 * c4 * s5 - c23 * c5

    def lean() -> Array:
        return c23 * s5 + s23 * c4 * c5

    def reach() -> Array:
        return a1 + a2 * c2 + a3 * c23 + d4 * s23

    ax, ay, az = approach_x(), approach_y(), approach_z()
    nz = c6 * lean() - s23 * s4 * s6
    oz = -s6 * lean() - s23 * s4 * c6
    angles = (jnp.arctan2(ay, ax), jnp.arctan2(jnp.sqrt(1 - az**2), az), jnp.arctan2(oz, -nz))
    x = d6 * approach_x() + c1 * reach()
    y = d6 * approach_y() + s1 * reach()
    z = a2 * s2 + d1 + a3 * s23 - d4 * c23 + d6 * approach_z()
    return x, y, z, *angles


def heart_dipole(a: Array, b: Array, c: Array, d: Array, t: Array, u: Array, v: Array, w: Array) -> Numbers:
    """Residuals of the eight equations for the dipole moment of the heart: MINPACK-2, problem DHHD1."""
    m_x, m_y, A, B, C, D, E, F = 0.485, -0.0019, -0.0581, 0.015, 0.105, 0.0406, 0.167, -0.399
    tv, uw = t**2 - v**2, u**2 - w**2

    def cubic(x: Array, y: Array) -> Array:
        return x * (x**2 - 3 * y**2)

    moments = (a + b - m_x, c + d - m_y)
    linear = (t * a + u * b - v * c - w * d - A, v * a + w * b + t * c + u * d - B)
    quadratic = (
        a * tv - 2 * c * t * v + b * uw - 2 * d * u * w - C,
        c * tv + 2 * a * t * v + d * uw + 2 * b * u * w - D,
    )
    tvv, vtt, uww, wuu = cubic(t, v), cubic(v, t), cubic(u, w), cubic(w, u)
    cubics = (
        a * tvv + c * vtt + b * uww + d * wuu - E,
        c * tvv - a * vtt + d * uww - b * wuu - F,
    )
    return *moments, *linear, *quadratic, *cubics


def propane_combustion(
    n1: Array,
    n2: Array,
    n3: Array,
    n4: Array,
    n5: Array,
    n6: Array,
    n7: Array,
    n8: Array,
    n9: Array,
    n10: Array,
    total: Array,
) -> Numbers:
    """Residuals of the eleven equations for propane burning in air: MINPACK-2, problem PC, full formulation.

    Moles of ten products and their total. As published, all equilibrium constants are 1.
    """
    p, R = 40.0, 10.0  # atmospheres; air to fuel
    root = jnp.sqrt(p / total)
    atoms = (
        n1 + n4 - 3,
        2 * n1 + n2 + n4 + n7 + n8 + n9 + 2 * n10 - R,
        2 * n2 + 2 * n5 + n6 + n7 - 8,
        2 * n3 + n9 - 4 * R,
    )
    equilibria = (
        n2 * n4 - n1 * n5,
        jnp.sqrt(n2 * n4) - jnp.sqrt(n1) * root * n6,
        jnp.sqrt(n1 * n2) - jnp.sqrt(n4) * n7 * root,
        n1 - n4 * n8 * p / total,
        n1 * jnp.sqrt(n3) - n4 * n9 * root,
        n1**2 - n4**2 * n10 * p / total,
    )
    balance = total
    for n in (n1, n2, n3, n4, n5, n6, n7, n8, n9, n10):
        balance = balance - n
    return *atoms, *equilibria, balance


PUBLISHED = (
    ScalarModel("Roe flux, 1-D", roe_flux_1d, (1.0, 0.3, 2.6, 0.7, 0.5, 2.1)),
    ScalarModel("robot arm, 6 joints", robot_arm, (0.3, -0.5, 0.7, 0.4, 0.9, -0.6)),
    ScalarModel("heart dipole", heart_dipole, (0.299, 0.186, -0.0273, 0.0254, -0.474, 0.474, -0.0892, 0.0892)),
    ScalarModel("propane combustion", propane_combustion, (0.7, 2.2, 18.7, 2.3, 0.9, 1.1, 1.3, 2.4, 2.6, 1.4, 33.6)),
)
