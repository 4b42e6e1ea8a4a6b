"""Axes that a linear equation leaves side by side: true of its matrix, found where they should be, and used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import backsolve as bs
from backsolve.capture.opaque import LinearEquation
from backsolve.operators import Einsum, Product, TupleSpace
from backsolve.operators.closed_form import batched_columns
from backsolve.operators.moves import Component
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import scan_counts
from tests import reference

from .oracle import assert_close, assert_same, normal

B, T, N = 3, 4, 2
X = normal(B, T, N)
W = normal(T, 5)
INDEX = np.array([2, 0, 3])
NUMBERS = lax.GatherDimensionNumbers(
    offset_dims=(1,),
    collapsed_slice_dims=(1,),
    start_index_map=(1,),
    operand_batching_dims=(0,),
    start_indices_batching_dims=(0,),
)


def decaying(x):
    """A scan over the middle axis whose carry decays; the batch comes first, and the last axis is mixed."""

    def step(c, v):
        mixed = 0.5 * c + jnp.roll(v, 1, axis=-1)
        return mixed, mixed * jnp.arange(1.0, 1 + N)

    return lax.scan(step, jnp.zeros((B, N)), jnp.moveaxis(x, 1, 0))


def swapping(x):
    """Carries that change places: what is side by side in one turn need not be in the next."""
    return lax.scan(
        lambda c, v: ((c[1], c[0].T + v), c[0].sum(0)), (x[:, :, 0][:3, :3], x[:, :, 1][:3, :3]), jnp.ones((2, 3, 3))
    )


# name → (function, primitive of the equation in it, moving operands, {(operand, output): pairs})
CASES = {
    "cumsum": (lambda x: lax.cumsum(x, 1), "cumsum", {(0, 0): {(0, 0), (2, 2)}}),
    "rev": (lambda x: lax.rev(x, (1,)), "rev", {(0, 0): {(0, 0), (2, 2)}}),
    "strided": (lambda x: lax.slice(x, (0, 0, 0), (B, T, N), (1, 2, 1)), "slice", {(0, 0): {(0, 0), (2, 2)}}),
    "dilated": (lambda x: lax.pad(x, 0.0, ((0, 0, 0), (1, 0, 1), (0, 0, 0))), "pad", {(0, 0): {(0, 0), (2, 2)}}),
    "matmul": (lambda x: lax.dot_general(x, W, (((1,), (0,)), ((), ()))), "dot_general", {(0, 0): {(0, 0), (1, 2)}}),
    "batched-matmul": (lambda x: jnp.einsum("btn,bt->bn", x, X[:, :, 0]), "dot_general", {(0, 0): {(0, 0), (1, 2)}}),
    "gather-whole": (lambda x: x[:, INDEX], "gather", {(0, 0): {(0, 0), (2, 2)}}),
    "gather-batch": (
        lambda x: lax.gather(x, jnp.array([[1], [0], [3]]), NUMBERS, (1, 1, N)),
        "gather",
        {(0, 0): {(0, 0), (1, 2)}},
    ),
    "dynamic-slice": (lambda x: lax.dynamic_slice(x, (0, 1, 0), (B, 2, N)), "dynamic_slice", {(0, 0): {(0, 0), (2, 2)}}),
    "update": (
        lambda x: lax.dynamic_update_slice(x, 2 * x[:, :2], (0, 1, 0)),
        "dynamic_update_slice",
        {(0, 0): {(0, 0), (2, 2)}, (1, 0): {(0, 0), (2, 2)}},
    ),
    "concatenate": (
        lambda x: lax.concatenate([x, x], 2),
        "concatenate",
        {(0, 0): {(0, 0), (1, 1)}, (1, 0): {(0, 0), (1, 1)}},
    ),
    "reduce": (lambda x: lax.reduce_sum(x, axes=(1,)), "reduce_sum", {(0, 0): {(0, 0), (1, 2)}}),
    "transpose": (lambda x: lax.transpose(x, (2, 0, 1)), "transpose", {(0, 0): {(0, 2), (1, 0), (2, 1)}}),
    "reshape": (lambda x: lax.reshape(x, (B, T * N)), "reshape", {(0, 0): {(0, 0)}}),
    "regroup": (lambda x: lax.reshape(x, (1, B, 2, 2, N)), "reshape", {(0, 0): {(1, 0), (4, 2)}}),
    "broadcast": (
        lambda x: lax.broadcast_in_dim(x, (B, 5, T, N), (0, 2, 3)),
        "broadcast_in_dim",
        {(0, 0): {(0, 0), (2, 1), (3, 2)}},
    ),
    "split": (lambda x: lax.split(x, (1, 3), 1), "split", {(0, 0): {(0, 0), (2, 2)}, (0, 1): {(0, 0), (2, 2)}}),
    "scan": (decaying, "scan", {(0, 0): {(0, 0), (1, 1)}, (1, 0): {(0, 1)}, (0, 1): {(1, 0), (2, 1)}, (1, 1): {(1, 1)}}),
    "swapping": (swapping, "scan", {(0, 0): set(), (1, 1): set()}),
    "calls": (lambda x: jax.jit(lambda x: jnp.cumsum(x, 1)[:, ::-1])(x), "jit", {(0, 0): {(0, 0), (2, 2)}}),
    "sort": (lambda x: jnp.sort(x, 1), "sort", {}),
    "convolution": (
        lambda x: lax.conv_general_dilated(x, normal(2, T, 2), (1,), "SAME"),
        "conv_general_dilated",
        {(0, 0): set()},
    ),
}


def equation(name):
    """The equation as an operator, all operands that are floating-point arrays moving unless they are constants."""
    fun, primitive, expected = CASES[name]
    jaxpr = jax.make_jaxpr(fun)(X)
    values = dict(zip(jaxpr.jaxpr.constvars, jaxpr.consts))
    depends = set(jaxpr.jaxpr.invars)
    for eqn in jaxpr.jaxpr.eqns:
        moving = [not jx.is_literal(v) and v in depends for v in eqn.invars]
        if eqn.primitive.name == primitive:
            known = [v.val if jx.is_literal(v) else values.get(v) for v in eqn.invars]
            if primitive == "scan":  # all it carries, and all it scans
                moving = [k >= scan_counts(eqn.params)[0] for k in range(len(known))]
                known = [None if m else x for m, x in zip(moving, known)]
            return LinearEquation(eqn, [None if m else x for m, x in zip(moving, known)]), expected
        if any(moving):
            depends.update(eqn.outvars)
        else:
            read = [v.val if jx.is_literal(v) else values[v] for v in eqn.invars]
            values.update(zip(eqn.outvars, jx.bind(eqn, read)))
    raise AssertionError(f"no {primitive} in {jaxpr}")


def between(op, into, out):
    """op from one part to one part, as a run in order of application."""
    run = [Component(into, op.domain).T] if isinstance(op.domain, TupleSpace) else []
    run.append(op)
    return run + ([Component(out, op.codomain)] if isinstance(op.codomain, TupleSpace) else [])


def dense(run):
    """The matrix of a run, column by column."""
    into, out = run[0].domain.shape, run[-1].codomain.shape
    columns = []
    for column in np.eye(int(np.prod(into))):
        x = jnp.asarray(column.reshape(into))
        for op in run:
            x = op.apply(x)
        columns.append(np.zeros(out) if bs.operators.base.is_scalar(x) and out else np.asarray(x))
    return np.stack(columns, -1).reshape(*out, *into)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_what_lies_side_by_side(name, transposed):
    op, expected = equation(name)
    op = op.transpose() if transposed else op
    for (k, o), pairs in expected.items():
        into, out = (o, k) if transposed else (k, o)
        pairs = {(b, a) for a, b in pairs} if transposed else pairs
        assert op.aligned(into, out) == pairs
        run = between(op, into, out)
        A = dense(run)
        n = len(run[-1].codomain.shape)
        for b, a in pairs:  # nothing between different indices
            crossed = np.moveaxis(A, (b, n + a), (0, 1))
            off = ~np.eye(*crossed.shape[:2], dtype=bool)
            assert not np.any(crossed[off])
        made = batched_columns(run, op, A.size)
        assert (made is None) == (not pairs)
        if made is not None:
            assert isinstance(made, Einsum)
            assert len({*made.out} & {*made.into}) == len({b for b, _ in pairs}) == len(pairs)
            np.testing.assert_allclose(np.asarray(made.todense()), A, atol=1e-12)
            assert batched_columns(run, op, 0) is None


@pytest.mark.parametrize("order", ["auto", "forward", "reverse"])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sin(jnp.cumsum(jnp.sin(x), 1)),
        lambda x: jnp.sort(jnp.sin(x), 1) * x,
        lambda x: decaying(jnp.sin(x))[1] ** 2,
        lambda x: jax.vmap(lambda y: lax.fori_loop(0, 3, lambda i, z: jnp.sin(z) * y, y))(x),
        lambda x: jnp.exp(-lax.cumlogsumexp(x, 1))[:, ::-1],
        lambda x: jax.vmap(lambda y: lax.scan(lambda c, v: (c * v, jnp.tanh(c @ W[:N, :N])), y[0], y)[1])(x),
    ],
)
def test_jacobians_through_them(f, order):
    want = reference.jacobian(f)(jnp.asarray(X))
    assert_same(jax.jit(bs.jacobian(f, order=order))(X), want)
    J = bs.jacobian(f, order=order, format="operator")(jnp.asarray(X))
    assert_close(J[0, 0].todense(), want)


def test_a_batched_scan_costs_one_example_an_example():
    """Forty examples: no array of the Jacobian couples two of them, and tracing sees no column of more than one."""

    def f(x):
        return jax.vmap(lambda y: lax.scan(lambda c, v: (jnp.sin(c * v), c), 1.0, y)[1])(jnp.cos(x))

    x = jnp.asarray(normal(40, 3))
    J = bs.jacobian(f, format="operator")(x)
    op = J[0, 0]
    assert (
        max(np.size(a.array) for part in (op.factors if isinstance(op, Product) else [op]) for a in part.factors) <= 40 * 9
    )
    largest = max(
        v.aval.size for eqn in jax.make_jaxpr(lambda x: bs.jacobian(f, format="operator")(x))(x).eqns for v in eqn.outvars
    )
    assert largest < 40 * 40
    assert_close(op.todense(), reference.jacobian(f)(x))
