"""Every primitive that JAX can differentiate, against JAX: the list is JAX's own registry."""

import sys

import jax
import jax.scipy.special
import pytest
from jax._src import core
from jax._src.interpreters import ad

from .oracle import as_jax, check_both, check_jvp, check_vjp, primitives_in
from .zoo_arrays import ARRAYS
from .zoo_control import CONTROL
from .zoo_elementwise import ELEMENTWISE
from .zoo_special import SPECIAL

FAMILIES = (ELEMENTWISE, ARRAYS, SPECIAL, CONTROL)
ZOO = {name: cases for family in FAMILIES for name, cases in family.items()}
CASES = [pytest.param(name, c, id=f"{name}-{i}") for name, cases in ZOO.items() for i, c in enumerate(cases)]

# Registered, but not to be reached by a function on one CPU; each with the reason.
UNTESTED: dict[str, str] = {}


def registered() -> set[str]:
    """Names of the primitives of JAX's own modules that have a derivative rule."""
    own = {
        value
        for name, module in list(sys.modules.items())
        if name.startswith("jax._src") and not name.startswith("jax._src.pallas")
        for value in vars(module).values()
        if isinstance(value, core.Primitive)
    }
    tables = (ad.primitive_jvps, ad.primitive_transposes, ad.primitive_linearizations, ad.fancy_transposes)
    return {p.name for table in tables for p in table if p in own}


def test_every_registered_primitive_has_a_case():
    missing = registered() - set(ZOO) - set(UNTESTED)
    assert not missing, f"JAX differentiates primitives that no case of the zoo exercises: {sorted(missing)}"


def test_no_primitive_is_in_two_families():
    assert sum(map(len, FAMILIES)) == len(ZOO)
    assert not set(ZOO) & set(UNTESTED)


@pytest.mark.parametrize(("name", "c"), CASES)
def test_primitive(name, c):
    args = as_jax(c.args)
    assert name in set(primitives_in(jax.make_jaxpr(c.f)(*args))), f"this case does not exercise {name}"
    if c.vjp and c.jvp:
        check_both(c.f, args, c.rtol)
    elif c.vjp:
        check_vjp(c.f, args, c.rtol)
    elif c.jvp:
        check_jvp(c.f, args, c.rtol)
