"""Layouts: how arrays are spread over devices where their types say so, over a mesh with explicit axes.

JAX's own derivative brings each cotangent where its value lies; so does `settle`.  What lies between is left to JAX where it
can say how a result is spread, and has its operands whole on every device where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from backsolve.tracing import series
from backsolve.tracing.series import NO_CONTEXT, is_spread, layout_of

__all__ = [
    "alike_beside",
    "context_of",
    "mesh_of",
    "on_mesh",
    "one_by_one",
    "settle",
    "settled_alike",
    "sharding_of_product",
    "whole",
]

Aval = Any
Value = Any


def settle(x: Value, layout: Any, beside: Value = None) -> Value:
    """An array in a layout that `layout_of` gave for a type; a concrete array ``beside`` it may know the devices."""
    if jax.typeof(x).sharding == layout:
        return x
    for known in (x, beside):  # outside of a context with a mesh, only a concrete array has one with devices
        held = None if isinstance(known, series.Tracer) else getattr(known, "sharding", None)
        if isinstance(held, jax.sharding.NamedSharding) and held.mesh.abstract_mesh == layout.mesh:
            layout = jax.sharding.NamedSharding(held.mesh, layout.spec)
            break
    return jax.sharding.reshard(x, layout)  # type: ignore[no-untyped-call]


def context_of(x: Value) -> Any:
    """The mesh with explicit axes of an array as that of the context, where that has none: for numbers made beside it."""
    layout = layout_of(jax.typeof(x))
    if layout is None or not jax.sharding.get_abstract_mesh().empty:
        return NO_CONTEXT
    traced = isinstance(x, series.Tracer)
    return jax.sharding.use_abstract_mesh(layout.mesh) if traced else jax.set_mesh(x.sharding.mesh)


def settled_alike(a: Value, b: Value) -> tuple[Value, Value]:
    """Two arrays of one shape in one layout, each axis spread as that of one of the two is (the first, where both are)."""
    layouts = layout_of(jax.typeof(a)), layout_of(jax.typeof(b))
    if layouts[0] is layouts[1] is None:
        return a, b
    specs = [() if layout is None else layout.spec for layout in layouts]
    used: set[Any] = set()
    both = [*(specs[0] or (None,) * len(specs[1]))]
    for at in both:
        used.update(_names(at))
    for k, at in enumerate(specs[1]):
        if both[k] is None and not used.intersection(_names(at)):
            both[k] = at
            used.update(_names(at))
    mesh = next(layout.mesh for layout in layouts if layout is not None)
    layout = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*both))  # type: ignore[no-untyped-call]
    return settle(a, layout, b), settle(b, layout, a)


def _names(at: Any) -> tuple[Any, ...]:
    """The axes of a mesh over which one axis of an array is spread."""
    return at if isinstance(at, tuple) else () if at is None else (at,)


def alike_beside(axis: int, xs: Sequence[Value]) -> list[Value]:
    """Arrays that are joined along an axis, those in one piece spread as the first of the others is, if not along the axis.

    Which takes a part of what each device has, and moves nothing.
    """
    layouts = [layout_of(jax.typeof(x)) for x in xs]
    spread = next((layout for layout in layouts if layout is not None and any(layout.spec)), None)
    if spread is None or spread.spec[axis] is not None:
        return list(xs)
    return [
        x if layout is not None and any(layout.spec) else settle(x, spread) for x, layout in zip(xs, layouts, strict=True)
    ]


def whole(x: Value) -> Value:
    """An array in one piece on every device, where its type says otherwise."""
    layout = layout_of(jax.typeof(x))
    if layout is None:
        return x
    return settle(x, jax.sharding.NamedSharding(layout.mesh, jax.sharding.PartitionSpec()))  # type: ignore[no-untyped-call]


def mesh_of(values: Iterable[Value]) -> Any:
    """The mesh of the first of these values that may lie on several devices; else None."""
    return next((jax.typeof(x).sharding.mesh for x in values if is_spread(jax.typeof(x))), None)


def on_mesh(make: Callable[[], Value], mesh: Any) -> Value:
    """make(), an array whose type belongs to this mesh, which may be None."""
    if mesh is None or not jax.sharding.get_abstract_mesh().empty:
        return make()
    with jax.sharding.use_abstract_mesh(mesh):
        return make()


def one_by_one(x: Value, mesh: Any) -> Value:
    """Arrays side by side along a first axis, of which each device has its part of each: not some of them whole."""
    if mesh is None or mesh.explicit_axes or not isinstance(x, series.Tracer):
        return x
    free = jax.sharding.PartitionSpec.UNCONSTRAINED
    spec = jax.sharding.PartitionSpec(None, *[free] * (x.ndim - 1))  # type: ignore[no-untyped-call]
    layout = jax.sharding.NamedSharding(mesh, spec)
    return jax.lax.with_sharding_constraint(x, layout)  # type: ignore[no-untyped-call]


def sharding_of_product(a: Value, b: Value, dims: Any) -> Any:
    """How a contraction over axes with an explicit sharding is sharded: along the axes that stay, as the operands are.

    None where JAX knows.  ``dims`` holds the summed and the batch axes of each operand.
    """
    shardings = [getattr(jax.typeof(x), "sharding", None) for x in (a, b)]
    specs = [getattr(s, "spec", None) or (None,) * np.ndim(x) for s, x in zip(shardings, (a, b), strict=True)]
    if all(spec[k] is None for spec, (summed, _) in zip(specs, dims, strict=True) for k in summed):
        return None
    used: set[Any] = set()
    out = []
    for n, (spec, (summed, batch)) in enumerate(zip(specs, dims, strict=True)):
        free = [k for k in range(len(spec)) if k not in summed and k not in batch]
        for k in (*batch, *free) if n == 0 else free:
            at: Any = spec[k]
            out.append(None if used.intersection(_names(at)) else at)
            used.update(_names(at))
    mesh = next(s.mesh for s in shardings if s is not None)
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*out))  # type: ignore[no-untyped-call]
