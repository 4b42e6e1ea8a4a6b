"""A plan shows itself: the page of the system it was made for, with the plan's own order and numbers."""

import jax.numpy as jnp
import pytest

import backsolve as bs
from backsolve.planning.plan import make_plan


def net(W, x):
    return jnp.sum(jnp.tanh(W @ x))


def test_a_plan_writes_the_page_of_its_system(tmp_path):
    plan = bs.plan(net, jnp.ones((3, 4)), jnp.ones(4))
    page = plan.show(tmp_path / "plan.html").read_text()
    assert "tanh" in page
    assert f"{plan.multiplications}" in page
    assert "<iframe" in plan._repr_html_()


def test_what_a_plan_keeps_holds_no_array():
    plan = bs.plan(net, jnp.ones((3, 4)), jnp.ones(4))
    factors = [f for A in (plan.outline.M, plan.outline.L) for op in A.entries.values() for f in getattr(op, "factors", ())]
    assert factors
    assert all(type(f.array).__name__ == "AbstractArray" for f in factors)


def test_a_plan_without_a_system_says_so():
    system = bs.linearize(net, jnp.ones((3, 4)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"keeps no system to show; make it with System.plan"):
        make_plan(system.network()).show()
