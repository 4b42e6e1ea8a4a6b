"""Every order of elimination gives the Jacobian that JAX gives, on the whole zoo of primitives."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from tests import reference
from tests.series import why_not

from .oracle import as_jax, assert_close, compiled, dtype_of, float0, tangent, tolerance
from .test_primitives import ZOO

CASES = [
    pytest.param(name, c, id=f"{name}-{i}", marks=why_not(f"{name}-{i}", eager=True))
    for name, cases in ZOO.items()
    for i, c in enumerate(cases)
    if c.jvp and c.vjp
]


def orders_of(system, seed):
    shuffled = list(range(system.L.shape[0]))
    random.Random(seed).shuffle(shuffled)
    return ["reverse", shuffled]


def floats(*trees):
    dtypes = map(dtype_of, jax.tree.leaves(trees))
    return [d for d in dtypes if d != float0 and jnp.issubdtype(d, np.inexact)]


def inexact(tree):
    return all(jnp.issubdtype(dtype_of(leaf), np.floating) for leaf in jax.tree.leaves(tree))


def moved(J, system, t):
    """J t, with J an OperatorMatrix over the leaves."""
    blocks = J.times(system.inputs.blocks(t))
    return system.outputs.tree(blocks)


@pytest.mark.parametrize(("name", "c"), CASES)
def test_every_order_on_the_zoo(name, c):
    """J t, and the arrays, against JAX's own, except where 0 · inf made that NaN."""
    args = as_jax(c.args)
    argnums = tuple(range(len(args)))
    t = tangent(args)
    expected = jax.eval_shape(lambda: jax.jvp(c.f, args, t)[1])
    rtol = ROUNDED.get(name, c.rtol) or max(map(tolerance, floats(args, expected)), default=None)
    small = sum(np.size(x) for x in jax.tree.leaves((args, expected))) < 200
    dense = small and name not in NO_JACFWD and inexact(args) and inexact(expected)
    moving, rebuild = split(args)

    def derivatives(moving):
        args = rebuild(moving)
        system = bs.linearize(c.f, *args, argnums=argnums)
        found = [moved(system.jacobian(order, format="operator"), system, t) for order in orders_of(system, len(name))]
        arrays = [system.jacobian(order) for order in ("auto", "forward")] if dense else []
        return found, arrays, jax.jvp(c.f, args, t)[1], jax.jacfwd(c.f, argnums)(*args) if dense else None

    try:
        found, arrays, expected, full = compiled(derivatives)(moving)
    except NotImplementedError:
        with pytest.raises(NotImplementedError, match=r"Batching rule for 'linear_call'|ragged_dot vmap"):  # JAX has none
            reference.jacrev(c.f, argnums)(*args)
        return
    for got in found:
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert_close(a, where_finite(b, a, name), rtol)
    for got in arrays:
        for a, b, leaf in zip(jax.tree.leaves(got), jax.tree.leaves(full), inputs_of(full, args), strict=True):
            assert dtype_of(a) == dtype_of(leaf)
            assert_close(a, where_finite(b, a, name), rtol)


def split(args):
    """The floating-point leaves of the arguments, and the function that puts them back."""
    leaves, tree = jax.tree.flatten(args)
    moves = [isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, np.inexact) for x in leaves]

    def rebuild(moving):
        it = iter(moving)
        return jax.tree.unflatten(tree, [next(it) if m else x for x, m in zip(leaves, moves, strict=True)])

    return [x for x, m in zip(leaves, moves, strict=True) if m], rebuild


def inputs_of(full, args):
    """For each array of a Jacobian the input that it is by."""
    leaves = jax.tree.leaves(args)
    return leaves * (len(jax.tree.leaves(full)) // len(leaves))


NO_JACFWD = {"dce_sink", "freeze", "get", "linear_call", "new_ref", "ragged_dot_general", "swap"}  # jax.jacfwd cannot either
ROUNDED = {"reduce_precision": 1e-3}  # it rounds tangents too, so that its derivative is linear up to that


def where_finite(expected, got, name):
    """What JAX gives, except where that is NaN (and for one primitive, whose two modes JAX lets differ, where ours is)."""
    unknown = np.isnan(expected) if dtype_of(expected) != float0 else False
    if name == "scatter-max":
        unknown |= np.isnan(got)
    return np.where(unknown, got, expected)


def test_a_nan_stays_on_its_diagonal():
    x = jnp.array([-1.0, 4.0])
    for order in ("forward", "reverse", "auto"):
        J = bs.jacobian(lambda x: jnp.sqrt(x) * 2, order=order)(x)
        np.testing.assert_array_equal(J, [[np.nan, 0.0], [0.0, 0.5]])
