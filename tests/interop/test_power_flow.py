"""IPOPT on an AC optimal power flow, the IEEE system of 118 buses: the published cost, and CasADi's."""

import casadi
import jax.numpy as jnp
import numpy as np
import pytest
from pypower.case118 import case118

from backsolve.interop.ipopt import Problem

PUBLISHED = 129660.69  # dollars an hour, of MATPOWER's case118


class Network:
    """The case in numbers per unit: where power comes from, where it goes, and what lies between."""

    def __init__(self, case):
        bus, gen, branch, cost, self.base = (case[name] for name in ("bus", "gen", "branch", "gencost", "baseMVA"))
        number = {int(k): i for i, k in enumerate(bus[:, 0])}
        self.buses, self.generators = len(bus), len(gen)
        self.at = np.array([number[int(k)] for k in gen[:, 0]])
        self.start, self.end = (np.array([number[int(k)] for k in branch[:, side]]) for side in (0, 1))
        series = 1 / (branch[:, 2] + 1j * branch[:, 3])
        tap = np.where(branch[:, 8] == 0, 1.0, branch[:, 8]) * np.exp(1j * np.pi / 180 * branch[:, 9])
        own = series + 0.5j * branch[:, 4]
        self.admittances = own / abs(tap) ** 2, -series / tap.conj(), -series / tap, own
        self.load, self.shunt = (bus[:, 2] + 1j * bus[:, 3]) / self.base, (bus[:, 4] - 1j * bus[:, 5]) / self.base
        self.cost = cost[:, 4:7]
        self.limit = (branch[:, 5] / self.base) ** 2
        angle = np.where(bus[:, 1] == 3, 0.0, np.inf)
        self.lb = np.concatenate([-angle, bus[:, 12], gen[:, 9] / self.base, gen[:, 4] / self.base])
        self.ub = np.concatenate([angle, bus[:, 11], gen[:, 8] / self.base, gen[:, 3] / self.base])
        middle = (self.lb[self.buses :] + self.ub[self.buses :]) / 2
        self.start_point = np.concatenate([np.zeros(self.buses), middle])

    def parts(self, x):
        """Angles, voltages, and both kinds of power of the generators."""
        n, m = self.buses, self.generators
        return x[:n], x[n : 2 * n], x[2 * n : 2 * n + m], x[2 * n + m :]

    def price(self, x):
        power = self.base * self.parts(x)[2]
        return (self.cost[:, 0] * power**2 + self.cost[:, 1] * power + self.cost[:, 2]).sum()

    def flows(self, x, cos, sin):
        """Power from both ends into each branch, real and reactive."""
        angle, voltage, _, _ = self.parts(x)
        a, b = self.start, self.end
        near, to, back, far = self.admittances
        turn, both = angle[a] - angle[b], voltage[a] * voltage[b]
        c, s = both * cos(turn), both * sin(turn)
        va, vb = voltage[a] ** 2, voltage[b] ** 2
        return (
            near.real * va + to.real * c + to.imag * s,
            -near.imag * va - to.imag * c + to.real * s,
            far.real * vb + back.real * c - back.imag * s,
            -far.imag * vb - back.imag * c - back.real * s,
        )

    def balance(self, x):
        """What is missing at each bus, and the squared flows."""
        _, voltage, real, reactive = self.parts(x)
        pa, qa, pb, qb = self.flows(x, jnp.cos, jnp.sin)
        missing = []
        for made, load, shunt, away, back in (
            (real, self.load.real, self.shunt.real, pa, pb),
            (reactive, self.load.imag, self.shunt.imag, qa, qb),
        ):
            into = jnp.zeros(self.buses).at[self.at].add(made)
            missing.append(into.at[self.start].add(-away).at[self.end].add(-back) - load - shunt * voltage**2)
        return missing, (pa**2 + qa**2, pb**2 + qb**2)

    def in_casadi(self):
        """The same as CasADi's scalar expressions."""
        x = casadi.SX.sym("x", self.lb.size)
        symbols = np.array([x[k] for k in range(self.lb.size)], object)
        _, voltage, real, reactive = self.parts(symbols)
        cos, sin = (np.frompyfunc(f, 1, 1) for f in (casadi.cos, casadi.sin))
        pa, qa, pb, qb = self.flows(symbols, cos, sin)
        rows = []
        for made, load, shunt, away, back in (
            (real, self.load.real, self.shunt.real, pa, pb),
            (reactive, self.load.imag, self.shunt.imag, qa, qb),
        ):
            missing = -load - shunt * voltage**2
            for at, power in ((self.at, made), (self.start, -away), (self.end, -back)):
                for k, one in zip(at, power):
                    missing[k] = missing[k] + one
            rows += [*missing]
        rows += [*(pa**2 + qa**2), *(pb**2 + qb**2)]
        return {"x": x, "f": self.price(symbols), "g": casadi.vertcat(*rows)}


NETWORK = Network(case118())
BALANCED = np.zeros(2 * NETWORK.buses)
LIMITS = {
    "cl": np.append(BALANCED, np.full(2 * NETWORK.limit.size, -np.inf)),
    "cu": np.concatenate([BALANCED, NETWORK.limit, NETWORK.limit]),
}


def test_the_cheapest_power_is_the_published_one_and_casadi_s():
    p = Problem(NETWORK.price, NETWORK.balance, n=NETWORK.lb.size, lb=NETWORK.lb, ub=NETWORK.ub, **LIMITS)
    found = p.solve(NETWORK.start_point, options={"print_level": 0, "sb": "yes", "tol": 1e-9}, library="ipyopt")
    assert found.converged
    assert found.objective == pytest.approx(PUBLISHED, abs=0.01)
    quiet = {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False, "ipopt.tol": 1e-9}
    solver = casadi.nlpsol("solver", "ipopt", NETWORK.in_casadi(), quiet)
    theirs = solver(x0=NETWORK.start_point, lbx=NETWORK.lb, ubx=NETWORK.ub, lbg=LIMITS["cl"], ubg=LIMITS["cu"])
    assert found.objective == pytest.approx(float(theirs["f"]), rel=1e-8)
    rows, cols = p.jacobianstructure()
    J = solver.get_function("nlp_jac_g").sparsity_out(1)
    assert set(zip(rows.tolist(), cols.tolist())) <= {*zip(*J.get_triplet())}
