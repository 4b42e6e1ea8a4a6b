"""Matrices of which the blocks are made of what loops carry, in place of what they write at each step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture import recurrence
from backsolve.capture.recomputed import Recomputed
from backsolve.capture.solving import bordered_system
from backsolve.tracing import jaxpr as jx

from .test_recurrence import PROGRAMS, RNG, X, loss_of, parts


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_loops_put_down_made_again_gives_the_same(name, monkeypatch):
    """The blocks of all steps from what the loops before carry, not from what they have written at each step."""
    made, loops, data = [], [], []
    every = Recomputed.every
    monkeypatch.setattr(Recomputed, "every", lambda self: made.append(self.spared) or every(self))

    def matrix(x):
        system = bs.linearize(bs.grad(loss_of(name)), x)
        loops.extend(parts(system))
        return bordered_system(system).data

    for spared in (1e-9, np.inf):
        monkeypatch.setattr(recurrence, "SPARED", spared)
        data.append(jax.jit(lambda x: matrix(x))(X))
    for one, other in zip(*data, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert made or not loops or name in ("stencil", "loops in loops")  # nothing is put down, or not by a short one


def test_a_path_by_many_numbers_a_step_is_made_of_its_states_alone(monkeypatch):
    """A program for the matrix of a control problem whose loops write states and costates, and none of some ten slopes."""

    def step(s, u):
        for _ in range(3):
            s = s + 0.1 * jnp.sin(s[::-1]) * jnp.cos(s) + u
        return s, jnp.sum(jnp.exp(s) * s)

    def cost(u):
        end, costs = lax.scan(step, jnp.array([1.0, 0.3]), u)
        return jnp.sum(costs) + end @ end

    def matrix(u):
        return bordered_system(bs.linearize(bs.grad(cost), u)).data

    def written(program):
        """Numbers that the loops of a program write a step, those left out that nobody reads."""
        jaxpr = jax.make_jaxpr(program)(u).jaxpr
        loops = [eqn for eqn, _ in jx.live_equations(jaxpr) if eqn.primitive.name == "scan"]
        read = {v for eqn, _ in jx.live_equations(jaxpr) for v in eqn.invars if not jx.is_literal(v)}
        return sum(v.aval.size for eqn in loops for v in eqn.outvars[eqn.params["num_carry"] :] if v in read) / len(u)

    u = jnp.asarray(0.1 * RNG.standard_normal((20, 2)))
    remade, few = jax.jit(matrix)(u), written(matrix)
    monkeypatch.setattr(recurrence, "SPARED", np.inf)
    for one, other in zip(remade, jax.jit(lambda u: matrix(u))(u), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    assert 2 * few < written(lambda u: matrix(u))
