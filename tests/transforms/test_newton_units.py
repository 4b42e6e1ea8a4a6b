"""Damped steps in other units of the unknowns: the same ones.  Moré, Garbow and Hillstrom's problems, published minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import gauss_newton, newton
from backsolve.transforms.repeated import PROBES, column_norms
from tests import reference

pytestmark = pytest.mark.usefixtures("double_precision")

# Testing unconstrained optimization software, ACM TOMS 7, 1981: the numbers of problems 5, 6, 15, 17 and 35.
T = np.arange(1.0, 11)
KOWALIK = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
AT = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
OSBORNE = """.844 .908 .932 .936 .925 .908 .881 .85 .818 .784 .751 .718 .685 .658 .628 .603 .58 .558 .538 .522 .506 .49 .478
.467 .457 .448 .438 .431 .424 .42 .414 .411 .406"""
TIMES, CURVE = 10.0 * np.arange(33), np.array(OSBORNE.split(), float)


def osborne(x):
    return CURVE - (x[0] + x[1] * jnp.exp(-TIMES * x[3]) + x[2] * jnp.exp(-TIMES * x[4]))


def chebyquad(x):
    terms = [jnp.ones_like(x), 2 * x - 1]
    for _ in range(6):
        terms.append(2 * (2 * x - 1) * terms[-1] - terms[-2])
    exact = [0 if i % 2 else -1 / (i * i - 1) for i in range(1, 8)]
    return jnp.stack([term.mean() - e for term, e in zip(terms[1:], exact)])


PROBLEMS = {  # the start and ‖r‖² at the minimum
    "beale": (lambda x: np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** np.arange(1, 4)), [1.0, 1.0], 0),
    "jennrich and sampson": (lambda x: 2 + 2 * T - (jnp.exp(T * x[0]) + jnp.exp(T * x[1])), [0.3, 0.4], 124.362),
    "kowalik and osborne": (
        lambda x: KOWALIK - x[0] * (AT**2 + AT * x[1]) / (AT**2 + AT * x[2] + x[3]),
        [0.25, 0.39, 0.415, 0.39],
        3.07505e-4,
    ),
    "osborne": (osborne, [0.5, 1.5, -1.0, 0.01, 0.02], 5.46489e-5),
    "chebyquad": (chebyquad, np.arange(1, 8) / 8, 0),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_least_squares_in_any_units(name):
    r, start, least = PROBLEMS[name]
    own = gauss_newton(r, jnp.array(start))
    np.testing.assert_allclose(jnp.sum(own.value**2), least, rtol=2e-6, atol=1e-15)
    units = 2.0 ** np.random.default_rng(1).integers(-20, 21, len(start))
    other = gauss_newton(lambda x: r(x / units), jnp.array(start) * units)
    np.testing.assert_allclose(other.x / units, own.x, rtol=1e-5)
    assert max(own.history["damping λ"]) > 0
    assert abs(own.steps - other.steps) <= 1


@pytest.mark.parametrize("find", [lambda *a, **k: newton(*a, **k).x, bs.root, jax.jit(bs.root, static_argnums=0)])
@pytest.mark.parametrize("powers", [(0, 0), (20, -20), (-25, 15)])
def test_roots_between_bounds_in_any_units(find, powers):
    """Rosenbrock's valley, which is followed by damped steps."""
    units = 2.0 ** np.array(powers)

    def F(x):
        u, v = x / units
        return jnp.stack([10 * (v - u**2), 1 - u])

    found = find(F, jnp.array([-1.2, 1.0]) * units, lower=-9 * units, upper=9 * units)
    np.testing.assert_allclose(found / units, 1, rtol=1e-9)


@pytest.mark.parametrize("values", [3, PROBES, 40])
def test_norms_of_columns(values):
    rng = np.random.default_rng(0)
    A, units = rng.standard_normal((values, 6)), 10.0 ** np.arange(-3, 3)
    A[:, 2] = 0

    def F(x):
        return A @ jnp.sin(x / units)

    x = units * rng.uniform(-0.5, 0.5, 6)
    norms, exact = column_norms(F, x), np.linalg.norm(reference.jacobian(F)(x), axis=0)
    if values <= PROBES:
        np.testing.assert_allclose(norms, exact, rtol=1e-12)
    else:
        np.testing.assert_array_equal(norms == 0, exact == 0)
        assert (abs(np.log2(norms[exact > 0] / exact[exact > 0])) < 1).all()
    own = column_norms(lambda x: F(x * units), x / units)
    np.testing.assert_allclose(own, norms * units, rtol=1e-12)
