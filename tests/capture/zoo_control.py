"""Control flow, calls, custom rules, collectives, callbacks and mutable arrays."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import io_callback
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from .oracle import complex_normal, normal, positive
from .zoo_case import Case, case

V = normal(4)
X = normal(5, 4)
A = normal(4, 4)


@jax.custom_jvp
def clipped(x):
    return jnp.clip(x, -1, 1)


clipped.defjvp(lambda primals, tangents: (clipped(primals[0]), tangents[0] * 3.0))


@jax.custom_vjp
def scaled(x, y):
    return x * y


scaled.defvjp(lambda x, y: (x * y, (x, y)), lambda res, g: (2 * g * res[1], g * res[0]))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def applied(f, x):
    return f(x)


@jax.custom_vjp
def rematerialised(x):
    return jnp.sin(x)


rematerialised.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g * jnp.cos(x),), optimize_remat=True)


applied.defvjp(lambda f, x: (f(x), x), lambda f, x, g: (5 * g,))


@jax.custom_vjp
def two_results(x, n):
    return x * n, n + 1


two_results.defvjp(lambda x, n: (two_results(x, n), n), lambda n, g: (g[0] * n, None))


@jax.custom_batching.custom_vmap
def batchable(x):
    return x * x


@batchable.def_vmap
def _(size, batched, x):
    return x * x, batched[0]


def newton(g, y):
    for _ in range(20):
        y = y - g(y) / jax.grad(g)(y)
    return y


def _map(f, **specs):
    mesh = Mesh(np.array(jax.devices()[:1]), ("i",))
    return jax.shard_map(
        f, mesh=mesh, in_specs=Spec("i"), out_specs=specs.get("out", Spec("i")), check_vma=specs.get("check", True)
    )


def _named(f):
    return jax.vmap(f, axis_name="i")


def _rnn(w, h, xs):
    def cell(h, x):
        h = jnp.tanh(w @ h + x)
        return h, (h * 2, jnp.sum(x))

    return lax.scan(cell, h, xs)


def _halve(x):
    return lax.while_loop(lambda c: jnp.sum(c * c) > 0.1, lambda c: c * 0.5 * jnp.cos(c), x)


def _refs(x):
    ref = jax.new_ref(x * 1.0)
    ref[1] = x[0] * ref[2]
    ref[...] += x * x
    return jax.freeze(ref)


def _refs_inside(x):
    @jax.jit
    def inner(ref, y):
        ref[0] = y[1]
        return y * ref[1]

    def body(c, _):
        ref[2] = ref[2] * 1.1
        return c * ref[2], None

    ref = jax.new_ref(x)
    y = inner(ref, x * 2)
    return ref[...] * y, lax.scan(body, 1.0, None, length=3)[0]


def _callback(x):
    @jax.custom_jvp
    def f(v):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(v.shape, v.dtype), v, vmap_method="sequential")

    f.defjvp(lambda p, t: (f(p[0]), jnp.cos(p[0]) * t[0]))
    return f(x)


CONTROL: dict[str, list[Case]] = {
    "scan": [
        case(_rnn, A, V, X),
        case(lambda h: _rnn(jnp.asarray(A), h, jnp.asarray(X))[0], V),
        case(lambda xs: _rnn(jnp.asarray(A), jnp.zeros(4), xs)[1][1], X),
        case(lambda x: lax.scan(lambda c, v: (c * v, c), x[0], x, reverse=True), X),
        case(lambda x: lax.scan(lambda c, v: (c * v + c, v), x[0], x, unroll=2), X),
        case(lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)[0], V),
        case(lambda x: lax.scan(lambda c, v: ((c[0] + v, c[1] + 1), c[0] * c[1]), (x[0], 0), x), X),
        case(lambda x: lax.map(lambda row: jnp.sum(row) * row, x), X),
        case(lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) * (i + 1), x), V),
        case(lambda z: lax.scan(lambda c, v: (c * v, c), z[0], z), complex_normal(4)),
        case(lambda x: lax.scan(lambda c, v: (c + lax.scan(lambda a, b: (a * b, None), v[0], v)[0], None), 0.0, x)[0], X),
    ],
    "while": [
        case(_halve, V, vjp=False),
        case(lambda x, n: lax.fori_loop(0, n, lambda i, c: jnp.sin(c) * 2, x), V, 3, vjp=False),
        case(lambda x: x * lax.while_loop(lambda n: n < 5, lambda n: n + 2, 0), V),
    ],
    "cond": [
        case(lambda x: lax.cond(jnp.sum(x) > 0, jnp.sin, jnp.cos, x), V),
        case(lambda x, p: lax.cond(p, lambda v: v * v, lambda v: v * 2, x), V, True),
        case(lambda x, i: lax.switch(i, [jnp.sin, jnp.cos, lambda v: v * v], x), V, 2),
        case(lambda x, i: lax.switch(i, [jnp.sin, jnp.cos], x), V, 7),
        case(lambda x: lax.cond(True, lambda: x * 2, lambda: jnp.ones(4)), V),
        case(lambda x, y: lax.cond(x[0] > 0, lambda: (x * y, y), lambda: (y, x)), V, V * 2),
        case(jax.vmap(lambda v, p: lax.cond(p, jnp.sin, jnp.cos, v), in_axes=(0, None)), V, True),
    ],
    "jit": [
        case(jax.jit(lambda x: x * x), V),
        case(jax.nn.silu, V),
        case(jax.nn.elu, V),
        case(lambda x: jax.nn.log_softmax(x), X),
        case(lambda x: jax.jit(jax.nn.softmax)(x), X),
        case(lambda x: jax.jit(jax.nn.logsumexp)(x), X),
        case(lambda x: jax.jit(jax.nn.gelu)(x), V),
        case(lambda x: jax.jit(lambda v, n: (v * n, v), static_argnums=1)(x, 3), V),
        case(lambda x: jax.jit(lambda v: jax.jit(jnp.sin)(v) * x)(x), V),
        case(jax.jit(lambda x, y: (x, y * 2, 3.0)), V, V),
    ],
    "remat2": [
        case(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), V),
        case(jax.checkpoint(lambda w, x: jnp.tanh(w @ x), policy=jax.checkpoint_policies.dots_saveable), A, V),
        case(jax.checkpoint(lambda w, x: jnp.tanh(w @ x), policy=jax.checkpoint_policies.nothing_saveable), A, V),
        case(lambda x: lax.scan(jax.checkpoint(lambda c, v: (jnp.sin(c * v), None)), x[0], x)[0], X),
        case(jax.checkpoint(lambda x, n: x * n), V, 3),
    ],
    "name": [
        case(
            jax.checkpoint(
                lambda x: jnp.sin(checkpoint_name(jnp.sin(x), "kept")),
                policy=jax.checkpoint_policies.save_only_these_names("kept"),
            ),
            V,
        )
    ],
    "custom_jvp_call": [
        case(clipped, V * 3),
        case(lambda x: clipped(x) * x, V * 3),
        case(jax.nn.relu, np.array([-1.0, 0.0, 2.0])),
        case(jax.nn.relu6, V),
        case(lambda x: lax.custom_root(lambda y: y**3 + y - x, jnp.float64(1.0), newton, lambda g, y: y / g(1.0)), 2.0),
        case(lambda x: jnp.logaddexp(x, x * 2), V),
        case(jnp.sinc, np.array([0.0, 0.5])),
        case(jax.scipy.special.xlogy, np.array([0.0, 1.0]), positive(2)),
    ],
    "custom_vjp_call": [
        case(scaled, V, V, jvp=False),
        case(lambda x: scaled(x, x), V, jvp=False),
        case(lambda x: applied(jnp.sin, x), V, jvp=False),
        case(lambda x: lax.scan(lambda c, v: (scaled(c, v), None), x[0], x)[0], X, jvp=False),
        case(lambda x: two_results(x, 3), V, jvp=False),
        case(lambda x: rematerialised(x) * x, V, jvp=False),
        case(lambda x: jax.jit(scaled)(x, jnp.ones(4)), V, jvp=False),
    ],
    "layout_constraint": [case(lambda x: with_layout_constraint(x * x, Layout((0, 1))) * x, X)],
    "custom_vmap_call": [case(batchable, V, vjp=False)],
    "linear_call": [
        case(lambda x: jax.custom_derivatives.linear_call(lambda r, v: v * r, lambda r, ct: ct * r, jnp.asarray(V), x), V),
    ],
    "psum": [
        case(_named(lambda x: lax.psum(x * x, "i")), V),
        case(_named(lambda x: x / lax.pmean(jnp.exp(x), "i")), V),
        case(_map(lambda x: lax.psum(x * x, "i"), check=False), V),
    ],
    "pmax": [case(_named(lambda x: x * lax.pmax(lax.stop_gradient(x), "i")), V)],
    "all_gather": [
        case(_map(lambda x: lax.all_gather(x * x, "i", tiled=True), check=False), V),
        case(_map(lambda x: lax.all_gather(x, "i").reshape(-1), check=False), V),
    ],
    "ppermute": [case(_map(lambda x: lax.ppermute(x * x, "i", [(0, 0)]), check=False), V)],
    "all_to_all": [case(_map(lambda x: lax.all_to_all(x * x, "i", 0, 0, tiled=True), check=False), V)],
    "reduce_scatter": [case(_map(lambda x: lax.psum_scatter(x * x, "i", tiled=True), check=False), V)],
    "psum_invariant": [case(_map(lambda x: lax.psum(x * x, "i"), out=Spec()), V)],
    "pvary": [case(_map(lambda x: lax.pcast(jnp.ones(4), "i", to="varying") * x), V)],
    "shard_map": [
        case(_map(lambda x: jnp.sin(x) * x), V),
        case(lambda x: _map(lambda v: jnp.sum(v, keepdims=True) * v)(x * x), V),
    ],
    "axis_index": [
        case(_map(lambda x: x * (lax.axis_index("i") + 1)), V),
    ],
    "sharding_constraint": [
        case(
            lambda x: lax.with_sharding_constraint(x * x, NamedSharding(Mesh(np.array(jax.devices()[:1]), ("i",)), Spec())),
            V,
        )
    ],
    "device_put": [case(lambda x: jax.device_put(x * x, jax.devices()[0]) * x, V)],
    "pure_callback": [case(_callback, V)],
    "debug_callback": [case(lambda x: (jax.debug.callback(lambda v: None, x), x * x)[1], V)],
    "debug_print": [case(lambda x: (jax.debug.print("{}", jnp.sum(x)), x * x)[1], V)],
    "io_callback": [case(lambda x: (io_callback(lambda v: None, None, lax.stop_gradient(x)), x * x)[1], V)],
    "new_ref": [case(_refs, V), case(_refs_inside, V)],
    "get": [case(_refs, V)],
    "swap": [case(_refs, V)],
    "freeze": [case(_refs, V)],
}
