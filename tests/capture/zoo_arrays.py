"""Primitives that move, pick, sum and contract whole arrays."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.lax import lax as lax_internal

from .oracle import complex_normal, normal, positive
from .zoo_case import Case, case

V = normal(7)
X = normal(3, 4)
Y = normal(3, 4, seed=1)
A = normal(3, 3)
T = normal(2, 3, 4)
Z = complex_normal(3, 4)
INDEX = np.array([2, 0, 2, -1, 5])
IMAGE = normal(2, 3, 8, 9)
KERNEL = normal(4, 3, 3, 2)
RAW_DIMENSIONS = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
ELEMENT = lax.ScatterDimensionNumbers(update_window_dims=(), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,))


def _conv(strides=(1, 1), padding="SAME", **options):
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **options)


def _gather(mode, fill_value=None):
    def f(x):
        return lax.gather(x, jnp.array([[0], [2], [1], [7]]), RAW_DIMENSIONS, (1, 4), mode=mode, fill_value=fill_value)

    return f


def _modes(method):
    """x.at[i].method(u) in every mode, with and without repeated indices, in x, in u and in both."""
    cases = []
    for mode in ("clip", "drop", "promise_in_bounds"):
        index = np.array([2, 0, 4]) if mode == "promise_in_bounds" else np.array([2, 0, 9])
        cases.append(case(lambda x, u, i=index, m=mode: getattr(x.at[i], method)(u, mode=m), V, positive(3)))
    distinct = np.array([1, 3, 5])
    cases.append(case(lambda x: getattr(x.at[distinct], method)(2.0), V))
    cases.append(case(lambda u: getattr(jnp.ones(7).at[distinct], method)(u), positive(3)))
    cases.append(case(lambda x, u: getattr(x.at[1, :2], method)(u), X, positive(2)))
    return cases


def _reductions(f):
    return [
        case(lambda x: f(x, axis=0), X),
        case(f, X),
        case(lambda x: f(x, axis=(0, 2)), T),
        case(lambda x: f(x, axis=1), np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])),
    ]


def _cumulative(f):
    cases = [
        case(lambda x, a=axis, r=rev: f(x, axis=a, reverse=r), X) for axis, rev in itertools.product((0, 1), (False, True))
    ]
    return [*cases, case(lambda x: f(x) * x, V)]


def _window(f):
    return [case(f, V), case(lambda x: f(x) * 2, V)]


def _ragged(x, w):
    return lax.ragged_dot(x, w, jnp.array([2, 3], jnp.int32))


ARRAYS: dict[str, list[Case]] = {
    "reshape": [case(lambda x: x.reshape(4, 3), X), case(lambda x: x.reshape(()), np.ones((1, 1))), case(jnp.ravel, Z)],
    "squeeze": [case(lambda x: lax.squeeze(x, (0, 2)), normal(1, 3, 1)), case(jnp.squeeze, normal(1, 1))],
    "transpose": [case(lambda x: x.T @ x, X), case(lambda x: x.transpose(2, 0, 1), T), case(lambda z: z.T, Z)],
    "broadcast_in_dim": [
        case(lambda x: jnp.broadcast_to(x, (2, 3, 4)), X),
        case(lambda x: jnp.broadcast_to(x, (3, 4)), normal(3, 1)),
        case(lambda x: jnp.broadcast_to(x, (2, 2)), 3.0),
        case(lambda x: lax.broadcast_in_dim(x, (3, 5, 4), (0, 2)), Z),
    ],
    "concatenate": [
        case(lambda x, y: jnp.concatenate([x, y, x], 1), X, Y),
        case(lambda x: jnp.concatenate([x, jnp.ones((2, 4)), x * 2]), X),
        case(lambda x: jnp.concatenate([jnp.ones((2, 4)), x]), X),
    ],
    "stack": [case(lambda x, y: lax_internal.stack_p.bind(x, y, x, axis=1), X, Y)],
    "unstack": [
        case(lambda x: [a * b for a, b in itertools.pairwise(lax_internal.unstack_p.bind(x, axis=0))], X),
        case(lambda x: [a * b for a, b in itertools.pairwise(x)], V),
        case(lambda x: [jnp.sin(a) * b for a, b in itertools.pairwise(jnp.unstack(x, axis=1))], T),
        case(lambda z: next(iter(z)) * list(z * 2)[2], Z),
    ],
    "split": [case(lambda x: jnp.split(x, [1, 3], axis=1), X), case(lambda x: jnp.split(x, 2, axis=1)[1], X)],
    "tile": [case(lambda x: lax_internal.tile_p.bind(x, reps=(2, 3)), X)],
    "pad": [
        case(lambda x: lax.pad(x, 0.0, [(1, 2, 0), (0, 1, 2)]), X),
        case(lambda x, c: lax.pad(x, c, [(1, 0, 1), (-1, -1, 0)]), X, np.array(2.0)),
        case(lambda x: lax.pad(x, x[0, 0], [(1, 1, 0), (2, 0, 0)]), X),
        case(lambda x: jnp.pad(x, 1), X),
    ],
    "rev": [case(lambda x: lax.rev(x, (0, 1)), X), case(lambda x: x[::-1] * x, V)],
    "slice": [
        case(lambda x: lax.slice(x, (0, 1), (3, 4), (2, 2)), X),
        case(lambda x: x[1:] - x[:-1], V),
        case(lambda x: x[2:2], V),
        case(lambda z: z[1:, ::2], Z),
    ],
    "dynamic_slice": [
        case(lambda x: lax.dynamic_slice(x, (1, 1), (2, 2)), X),
        case(lambda x, i: lax.dynamic_slice(x, (i, -7), (2, 2)), X, 9),
        case(lambda x: lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (1, 4)), X),
    ],
    "dynamic_update_slice": [
        case(lambda x, u: lax.dynamic_update_slice(x, u, (1, 1)), X, normal(2, 2)),
        case(lambda x, u, i: lax.dynamic_update_slice(x, u, (i, -7)), X, normal(2, 2), 9),
        case(lambda x: lax.dynamic_update_slice(x, x[:1] * 2, (0, 0)), X),
        case(lambda u: lax.dynamic_update_slice(jnp.ones((3, 4)), u, (0, 1)), normal(2, 2)),
    ],
    "gather": [
        case(lambda x: x[INDEX % 3], X),
        case(lambda x: x.at[INDEX].get(mode="clip"), X),
        case(lambda x: x.at[INDEX].get(mode="fill", fill_value=7.0), X),
        case(lambda x: x.at[INDEX].get(mode="fill"), X),
        case(lambda x: x.at[np.array([0, 0, 1])].get(mode="promise_in_bounds"), X),
        case(lambda x, i: x[:, i], X, np.array([[0, 1], [1, 3]])),
        case(lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1), X),
        case(_gather("clip"), X),
        case(_gather("fill", 3.0), X),
        case(lambda x: x[1, jnp.array([0, 2, 2])] * x[0, 0], X),
        case(lambda z: z[jnp.array([2, 2, 0])], Z),
        case(lambda x: jax.vmap(lambda row, i: row[i])(x, jnp.array([0, 3, 3])), X),
    ],
    "scatter": [*_modes("set"), case(lambda x: x.at[jnp.array([1, 3])].set(x[:2] * 2), V)],
    "scatter-add": [
        *_modes("add"),
        case(lambda x: x.at[jnp.array([1, 1, 1])].add(x[:3]), V),
        case(lambda x: jax.ops.segment_sum(x, jnp.array([0, 1, 0, 2, 1, 0, 2]), 3), V),
        case(lambda z: z.at[1].add(z[0]), Z),
    ],
    "scatter-sub": [case(lambda x, u: x.at[jnp.array([1, 3])].subtract(u), V, positive(2))],
    "scatter-mul": [
        case(lambda x, u: x.at[jnp.array([1, 3])].multiply(u, unique_indices=True), V, positive(2)),
        case(lambda u: jnp.ones(7).at[jnp.array([1, 3])].multiply(u, unique_indices=True), positive(2)),
        case(lambda x: x.at[jnp.array([1, 1])].multiply(jnp.array([2.0, 3.0])), V),
    ],
    "scatter-max": [*_modes("max"), case(lambda x: x.at[jnp.array([1, 1])].max(x[1]), V)],
    "scatter-min": [*_modes("min"), case(lambda x: x.at[jnp.array([1, 1])].min(x[1]), V)],
    "reduce_sum": [
        case(jnp.sum, X),
        case(lambda x: x.sum(1, keepdims=True) * x, X),
        case(lambda x: jnp.sum(x, (0, 2)), T),
        case(jnp.sum, Z),
    ],
    "reduce_prod": [
        case(jnp.prod, X),
        case(lambda x: jnp.prod(x, 1), X),
        case(lambda x: jnp.prod(x, 1), np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]])),
        case(jnp.prod, Z),
    ],
    "reduce_max": _reductions(jnp.max),
    "reduce_min": _reductions(jnp.min),
    "reduce_and": [case(lambda x: x * jnp.all(x > 0, axis=0), X)],
    "reduce_or": [case(lambda x: x * jnp.any(x > 0, axis=0), X)],
    "reduce": [case(lambda x: lax.reduce(x, 0.0, lambda a, b: a + 2 * b, (1,)), X, vjp=False)],
    "argmax": [case(lambda x: x * jnp.argmax(x), V), case(lambda x: x[jnp.argmax(x)], V), case(jnp.argmax, V)],
    "argmin": [case(lambda x: x * jnp.argmin(x), V), case(lambda x: x[jnp.argmin(x)], V)],
    "cumsum": _cumulative(lax.cumsum),
    "cumprod": [*_cumulative(lax.cumprod), case(lax.cumprod, np.array([2.0, 0.0, 3.0]))],
    "cummax": [*_cumulative(lax.cummax), case(lax.cummax, np.array([1.0, 1.0, 0.0, 2.0]))],
    "cummin": [*_cumulative(lax.cummin), case(lax.cummin, np.array([1.0, 1.0, 0.0, 2.0]))],
    "cumlogsumexp": _cumulative(lax.cumlogsumexp),
    "sort": [
        case(lambda x: jnp.sort(x, axis=1), X),
        case(lambda x: lax.sort((x, x * x), dimension=0), X),
        case(lambda x, n: lax.sort((x, n), num_keys=1), V, np.arange(7)),
        case(lambda x: jnp.sort(x), np.array([2.0, 1.0, 2.0])),
        case(lambda x: x[jnp.argsort(x)], V),
        case(jnp.median, V),
    ],
    "top_k": [case(lambda x: lax.top_k(x, 2), X), case(lambda x: lax.top_k(x, 3)[0] ** 2, V)],
    "approx_top_k": [case(lambda x: lax.approx_max_k(x, 2)[0], X)],
    "reduce_window_sum": _window(lambda x: lax.reduce_window(x, 0.0, lax.add, (3,), (2,), "SAME")),
    "reduce_window_max": [
        *_window(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3,), (1,), "VALID")),
        case(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "SAME"), IMAGE),
    ],
    "reduce_window_min": _window(lambda x: lax.reduce_window(x, jnp.inf, lax.min, (2,), (2,), "VALID")),
    "reduce_window": [case(lambda x: lax.reduce_window(x, 1.0, lax.mul, (3,), (1,), "VALID"), V, vjp=False)],
    "select_and_scatter_add": [
        case(
            lambda x: jax.vjp(lambda v: lax.reduce_window(v, -jnp.inf, lax.max, (2,), (2,), "VALID"), x)[1](x[:3] ** 2)[0], V
        )
    ],
    "select_and_gather_add": [
        case(lambda x: jax.jvp(lambda v: lax.reduce_window(v, -jnp.inf, lax.max, (2,), (2,), "VALID"), (x,), (x * x,))[1], V)
    ],
    "dot_general": [
        case(jnp.matmul, X, normal(4, 5)),
        case(lambda x: x @ x, A),
        case(lambda x: x @ x.T @ x, X),
        case(lambda x: jnp.vdot(x, x), X),
        case(jnp.matmul, T, normal(2, 4, 5)),
        case(lambda a, b: lax.dot_general(a, b, (((1,), (2,)), ((0,), (1,)))), normal(2, 3, 4), normal(5, 2, 3)),
        case(lambda a, b: lax.dot_general(a, b, (((0, 2), (1, 0)), ((), ()))), normal(2, 3, 4), normal(4, 2, 5)),
        case(lambda a, b: jnp.matmul(a, b, precision="highest"), X, normal(4, 2)),
        case(
            lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32),
            X.astype(jnp.bfloat16),
            normal(4, 2).astype(jnp.bfloat16),
        ),
        case(
            lambda a, b: jnp.matmul(a, b, preferred_element_type=float),
            X.astype(np.float32),
            normal(4, 2).astype(np.float32),
        ),
        case(jnp.matmul, Z, complex_normal(4, 2)),
        case(jnp.matmul, X, complex_normal(4, 2)),
        case(lambda x: x @ jnp.arange(12).reshape(4, 3), X),
        case(lambda a, b: jnp.einsum("bij,bkj->ik", a, b), T, T),
        case(lambda a: jnp.einsum("ij,ij->i", a, a), X),
        case(lambda a: lax.dot_general(a, a, (((0,), (1,)), ((), ()))), A),
    ],
    "ragged_dot_general": [case(_ragged, normal(5, 3), normal(2, 3, 4))],
    "conv_general_dilated": [
        case(_conv(), IMAGE, KERNEL),
        case(_conv((2, 1), "VALID"), IMAGE, KERNEL),
        case(_conv((1, 2), [(1, 0), (2, 1)], lhs_dilation=(2, 1), rhs_dilation=(1, 2)), IMAGE, KERNEL),
        case(_conv(feature_group_count=3), IMAGE, normal(6, 1, 2, 2)),
        case(_conv(batch_group_count=2), IMAGE, KERNEL),
        case(_conv(dimension_numbers=("NHWC", "HWIO", "NHWC")), normal(2, 5, 6, 3), normal(2, 2, 3, 4)),
        case(lambda x: lax.conv_general_dilated(x, x[:, :, :2, :2], (1, 1), "VALID"), normal(2, 3, 4, 4)),
        case(lambda x, w: jnp.convolve(x, w), V, V[:3]),
        case(_conv(preferred_element_type=float), IMAGE.astype(np.float32), KERNEL.astype(np.float32)),
        case(_conv(), complex_normal(1, 2, 4, 4), complex_normal(2, 2, 2, 2)),
    ],
    "iota": [case(lambda x: x * jnp.arange(7), V)],
    "tie": [case(lambda x, y: lax_internal.tie_p.bind(x, y) * y, V, V)],
    "dce_sink": [case(lambda x: (lax_internal.dce_sink(x * x), x * 2)[1], V)],
    "optimization_barrier": [case(lambda x, y: lax.optimization_barrier((x * y, y)), V, V)],
    "composite": [case(lambda x: lax.composite(lambda v: v * v, "my.square")(x), V, vjp=False, jvp=False)],
}
