"""Every primitive that JAX can differentiate, against JAX: the list is JAX's own registry."""

import sys

import jax
import jax.scipy.special
import numpy as np
import pytest
from jax._src import core
from jax._src.interpreters import ad

import backsolve as bs
from tests.series import primitive_of, why_not

from .oracle import as_jax, check, primitives_in
from .zoo_arrays import ARRAYS
from .zoo_control import CONTROL
from .zoo_elementwise import ELEMENTWISE
from .zoo_special import SPECIAL

FAMILIES = (ELEMENTWISE, ARRAYS, SPECIAL, CONTROL)
ZOO = {name: cases for family in FAMILIES for name, cases in family.items()}
CASES = [
    pytest.param(primitive_of(case), c, id=case, marks=why_not(case))
    for name, cases in ZOO.items()
    for case, c in ((f"{name}-{i}", c) for i, c in enumerate(cases))
]

# Registered, but not to be reached by a function on one CPU; each with the reason.
UNTESTED: dict[str, str] = {
    # Parts of other primitives' derivatives, which a user's function does not hold.
    "custom_lin": "the linear part of a custom_vjp function: see custom_vjp_call",
    "accum_grad_in_ref": "JAX's own transposition with mutable arrays",
    "addupdate": "JAX's own transposition with mutable arrays",
    "call_hi_primitive_linearized": "linear part of a hijax primitive",
    "eval_jaxpr": "body of hijax lowering",
    "closed_call": "staged only where mutable arrays are made values: see new_ref",
    "remat_opt": "the forward pass of a custom_vjp function with optimize_remat: see custom_vjp_call",
    "call": "JAX's own tests; no function of its interface stages it",
    "check": "a check of checkify, which is done away with before anything is differentiated",
    "custom_transpose_call": "a step of JAX's own experiments, gone since 0.11; no function of its interface stages it",
    "vmap": "a step of JAX 0.8.0's own experiments",
    "xla_pmap": "several devices; pmap is jit and shard_map since 0.9",
    "program_order": "order among the programs of an accelerator; internal",
    "with_memory_space_constraint": "memory of kernels",
    "stage": "vanishes while it is traced",
    # Experimental types of JAX's developers (hijax), without a public constructor.
    "box_get": "hijax",
    "box_set": "hijax",
    "new_box": "hijax",
    "call_hi_primitive": "hijax",
    "log_extend": "hijax",
    "log_read": "hijax",
    "new_log": "hijax",
    "to_edtype": "extended dtypes, which carry no derivatives",
    "from_edtype": "extended dtypes, which carry no derivatives",
    # Mutable arrays without an initial value, or handed in from outside.
    "empty_ref": "uninitialised memory of kernels",
    "free_ref": "memory of kernels",
    "run_state": "loops over mutable arrays inside kernels",
    # Need more than one device, an explicit mesh or foreign code.
    "all_gather_invariant": "explicit sharding over several devices",
    "all_gather_reduced": "explicit sharding over several devices",
    "pbroadcast": "internal to shard_map's check of replication",
    "preduced": "explicit sharding over several devices",
    "reduced_vary_cast_p": "explicit sharding over several devices",
    "unreduced_psum": "explicit sharding over several devices",
    "unreduced_reduce_scatter": "explicit sharding over several devices",
    "vary_unreduced_cast_p": "explicit sharding over several devices",
    "reduced_vary_cast": "explicit sharding over several devices",
    "vary_unreduced_cast": "explicit sharding over several devices",
    "pbroadcast_dynamic": "a collective of several devices",
    "relayout": "layouts of accelerators, which JAX runs in no place outside of jit and batches nowhere",
    "reshard": "explicit sharding over several devices",
    "ragged_all_to_all": "not implemented on CPU",
    "ffi_call": "needs a compiled library; JAX gives it no derivative",
    "inspect_sharding": "a debugging aid of the compiler",
}


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
    check(c.f, args, vjp=c.vjp, jvp=c.jvp, adjoint=c.adjoint, rtol=c.rtol)


def test_the_next_number_moves_with_the_number():
    """JAX says so since 0.12, and has no derivative before: central differences do."""
    x, y, step = np.array([0.3, -1.2, 2.0]), np.array([1.0, -3.0, 0.5]), 1e-4

    def f(x, y):
        return jax.lax.nextafter(x, y) * x

    with jax.enable_x64(True):
        by_x, by_y = bs.jacobian(f, argnums=(0, 1))(x, y)
        moved = np.diag((f(x + step, y) - f(x - step, y)) / (2 * step))
    np.testing.assert_allclose(by_x, moved, rtol=1e-6)
    assert not np.any(by_y)
