"""JAX's side of the core: how its arrays are multiplied, added, placed and gathered, and our types as its pytrees.

Arrays go straight to `jax.lax`, which traces several times faster than `jax.numpy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from backsolve.algebra.arrays import Labels, counted, is_mask, register_adapter, selects
from backsolve.capture.linearized import Linearized
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import Translated
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.matrices.vector import BlockVector
from backsolve.operators import Einsum, Identity, LinearMap, Product, Scaling, Sum, Zero
from backsolve.operators.moves import Component, Parts, Reshape, Slice
from backsolve.planning.plan import Plan
from backsolve.sparse.lazy_values import LazyValues
from backsolve.sparse.materialize import register_kernels
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.operator import Sparse
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing import layouts
from backsolve.tracing.series import MUL_PARAMS, ShardingTypeError, explicit_mesh, is_spread, layout_of, moved_by_numpy

__all__ = ["JaxAdapter", "JaxKernels"]


class JaxAdapter:
    """See `backsolve.algebra.arrays.Adapter`."""

    def multiply(self, a: Any, b: Any) -> Any:
        """Entrywise product; a boolean operand selects."""
        da, db = getattr(a, "dtype", None), getattr(b, "dtype", None)
        if isinstance(a, (int, float)):
            b = counted(b)
            if a == -1:
                return lax.neg(b)
            b = _unbounded(b)
            return jnp.multiply(a, b) if getattr(b, "weak_type", False) else lax.mul(b.dtype.type(a), b)
        if is_mask(b) and not is_mask(a):
            a, b = b, a
        if is_mask(a):
            if a.shape != b.shape:
                a, b = jnp.broadcast_arrays(a, b)
            if explicit_mesh((a, b)) is not None:
                a, b = layouts.settled_alike(a, b)
            return lax.bitwise_and(a, b) if is_mask(b) else _selected(a, b)
        if _is_count(a) and _is_count(b):
            return jnp.multiply(_unbounded(a), b)
        if da == db and da is not None and (a.shape == b.shape or not a.shape or not b.shape):
            return jx.entrywise(lax.mul_p, a, b, **MUL_PARAMS) if a.shape == b.shape else lax.mul(a, b)
        return jnp.multiply(a, b)

    def add(self, a: Any, b: Any) -> Any:
        """Entrywise sum."""
        a, b = _unbounded(a), _unbounded(b)
        if _alike(a, b):
            return jx.entrywise(lax.add_p, a, b)
        if isinstance(b, (int, float)) and not getattr(a, "weak_type", True):
            return lax.add(a, a.dtype.type(b))
        return jnp.add(a, b)

    def subtract(self, a: Any, b: Any) -> Any:
        """Entrywise difference."""
        a, b = _unbounded(a), _unbounded(b)
        return jx.entrywise(lax.sub_p, a, b) if _alike(a, b) else jnp.subtract(a, b)

    def divide(self, a: Any, b: Any) -> Any:
        """Entrywise quotient."""
        if not isinstance(a, (int, float)):
            return lax.div(a, b)
        with jx.in_trace_of(b):  # a reciprocal is kept with its operator: it may outlive the trace of a call
            return lax.div(b.dtype.type(a), b)

    def sum(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Sum over axes; an axis of size 1 is just dropped."""
        long = tuple(axis for axis in axes if x.shape[axis] != 1)
        if long:
            x = lax.reduce_sum(counted(_unbounded(x)), axes=long)
        if len(long) < len(axes):
            short = [axis - sum(k < axis for k in long) for axis in axes if axis not in long]
            x = lax.squeeze(x, short)
        return x

    def eye(self, like: Any, n: Any, dtype: Any) -> Any:
        """One ``eye``."""
        out = moved_by_numpy(lambda: np.eye(n, dtype=dtype), size=n * n)
        return jnp.eye(n, dtype=dtype) if out is None else out

    def pad(self, x: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
        """One ``lax.pad``."""
        around = list(zip(before, after, strict=True))
        size = prod(a + n + b for (a, b), n in zip(around, x.shape, strict=True))
        widths = [(a, b, 0) for a, b in around]
        return _moved(lambda x: np.pad(x, around), lambda x: lax.pad(x, x.dtype.type(0), widths), x, size=size)

    def take(self, x: Any, starts: tuple[int, ...], stops: tuple[int, ...]) -> Any:
        """One ``lax.slice``."""
        box = tuple(map(slice, starts, stops))
        return _moved(lambda x: x[box], lambda x: lax.slice(x, starts, stops), x)

    def concat(self, arrays: Any, axis: int) -> Any:
        """One ``lax.concatenate``."""
        dtype = jnp.result_type(*arrays)
        xs = [lax.convert_element_type(x, dtype) for x in arrays]
        if explicit_mesh(xs) is not None:
            xs = layouts.alike_beside(axis, xs)
        return _moved(lambda *xs: np.concatenate(xs, axis), lambda *xs: lax.concatenate(xs, axis), *xs)

    def stack(self, arrays: Any) -> Any:
        """One ``stack``; a concatenation where JAX has none, as under ``vmap`` of spread arrays beside others."""
        dtype = jnp.result_type(*arrays)
        xs = [lax.convert_element_type(x, dtype) for x in arrays]
        try:
            return _moved(lambda *xs: np.stack(xs), lambda *xs: jnp.stack(xs), *xs)
        except ShardingTypeError:
            return self.concat([lax.expand_dims(x, (0,)) for x in xs], 0)

    def map_columns(self, function: Any, x: Any) -> Any:
        """One ``vmap``, over a first axis: some of JAX's own batching rules know no other."""
        columns = moved_by_numpy(lambda x: np.moveaxis(x, -1, 0), (x,))
        return jax.vmap(function, out_axes=-1)(jnp.moveaxis(x, -1, 0) if columns is None else columns)

    def solve_triangular(self, R: Any, b: Any, transposed: bool) -> Any:
        """One ``triangular_solve``."""
        return lax.linalg.triangular_solve(R, b, left_side=True, lower=False, transpose_a=transposed)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Row-major reshape."""
        return _moved(lambda x: x.reshape(shape), lambda x: lax.reshape(x, shape), x)

    def is_spread(self, x: Any) -> bool:
        """Whether its type belongs to a mesh of several devices."""
        return is_spread(jx.type_of(x))

    def settle(self, x: Any, layout: Any) -> Any:
        """One ``reshard``, where the type of x says another layout."""
        return layouts.settle(x, layout)

    def astype(self, x: Any, dtype: Any) -> Any:
        """Conversion; complex to real keeps the real part, as the transpose of the inclusion does."""
        return lax.convert_element_type(x, dtype)

    def place(self, x: Any, labels: Labels, out: Labels, shape: tuple[int, ...]) -> Any:
        """Permute, then repeat along the labels x lacks, in one ``broadcast_in_dim``."""
        order = sorted(range(len(labels)), key=lambda axis: out.index(labels[axis]))
        if order != list(range(len(order))):
            moved = moved_by_numpy(lambda x: x.transpose(order), (x,))
            x = lax.transpose(x, order) if moved is None else moved
            labels = tuple(labels[axis] for axis in order)
        if labels == out:
            return x
        new = tuple(k for k, label in enumerate(out) if label not in labels)
        placed = moved_by_numpy(lambda x: np.broadcast_to(np.expand_dims(x, new), shape), (x,), prod(shape))
        return lax.broadcast_in_dim(x, shape, tuple(map(out.index, labels))) if placed is None else placed

    def contract(self, a: Any, la: Labels, b: Any, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
        """One ``dot_general``, or an entrywise product where nothing is summed."""
        a, la = self._sum_private(a, la, lb, keep)
        b, lb = self._sum_private(b, lb, la, keep)
        shared = [label for label in la if label in lb]
        summed = [label for label in shared if label not in keep]
        batch = [label for label in shared if label in keep]
        free = [k for k in la if k not in shared], [k for k in lb if k not in shared]
        if summed and (free[0] or free[1] or len(shared) < 2) and not selects(a, la, b, lb):
            if _is_count(a) or _is_count(b):
                a, b = _unbounded(a), _unbounded(b)
            a, b = counted(a), counted(b)
            if a.dtype != b.dtype:  # a selection that sums, or two precisions
                dtype = jnp.promote_types(a.dtype, b.dtype)
                a, b = lax.convert_element_type(a, dtype), lax.convert_element_type(b, dtype)
            dims = tuple((tuple(ls.index(k) for k in summed), tuple(ls.index(k) for k in batch)) for ls in (la, lb))
            (ca, ba), (cb, bb) = dims

            def product(a: Any, b: Any) -> Any:
                sharding = None if explicit_mesh((a, b)) is None else layouts.sharding_of_product(a, b, dims)
                return lax.dot_general(a, b, ((ca, cb), (ba, bb)), out_sharding=sharding)

            return _anyhow(product, a, b), tuple(batch + free[0] + free[1])
        if summed:  # no matrix product, or a mask: an entrywise one, which fuses with its sum
            product, out = self.contract(a, la, b, lb, la + lb)
            return self._sum_private(product, out, (), keep)
        out = lb if len(lb) >= len(la) else la
        if set(keep) == {*la, *lb} and len(set(keep)) == len(keep):
            out = keep
        else:
            out += tuple(k for k in la + lb if k not in out)
        size = dict(zip(la + lb, tuple(a.shape) + tuple(b.shape), strict=True))
        shape = tuple(size[k] for k in out)
        a = self.place(a, la, out, shape) if la else a  # lax takes a scalar as it is
        b = self.place(b, lb, out, shape) if lb else b
        return self.multiply(a, b), out

    def _sum_private(self, a: Any, la: Labels, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
        axes = tuple(axis for axis, label in enumerate(la) if label not in lb and label not in keep)
        return (self.sum(a, axes), tuple(k for i, k in enumerate(la) if i not in axes)) if axes else (a, la)


def _selected(mask: Any, x: Any) -> Any:
    out = moved_by_numpy(lambda mask, x: np.where(mask, x, x.dtype.type(0)), (mask, x))
    return lax.select(mask, x, lax.full_like(x, 0)) if out is None else out


def _moved(by_numpy: Callable[..., Any], by_jax: Callable[..., Any], *xs: Any, size: int = 0) -> Any:
    """Entries put elsewhere: eagerly, and where they are few, by NumPy."""
    out = moved_by_numpy(by_numpy, xs, size)
    return _anyhow(by_jax, *xs) if out is None else out


def _anyhow(function: Callable[..., Any], *xs: Any) -> Any:
    """function(*xs), of arrays in one piece on every device where JAX cannot say how the result would be spread."""
    try:
        return function(*xs)
    except ShardingTypeError:
        return function(*map(layouts.whole, xs))
    except ValueError:  # which JAX also raises where the result could not be spread evenly
        if all(layout_of(jax.typeof(x)) is None for x in xs):
            raise
        return function(*map(layouts.whole, xs))


def _is_count(x: Any) -> bool:
    """Whether x is an array of integers, which a mask becomes where it is added up."""
    return getattr(getattr(x, "dtype", None), "kind", "") in ("i", "u") and hasattr(x, "shape")


def _unbounded(x: Any) -> Any:
    """A count in floating point, weakly typed: integers would overflow after 32 doublings."""
    if not _is_count(x):
        return x
    with jax.numpy_dtype_promotion("standard"):
        return jnp.multiply(1.0, x)


def _alike(a: Any, b: Any) -> bool:
    """Whether two operands are arrays of one dtype and shape."""
    return hasattr(a, "dtype") and hasattr(b, "dtype") and a.dtype == b.dtype and a.shape == b.shape


register_adapter(jax.Array, JaxAdapter())


class JaxKernels:
    """See `backsolve.sparse.materialize.Kernels`."""

    def gather(self, x: Any, index: np.ndarray[Any, Any]) -> Any:
        """One ``lax.gather`` that checks no bounds."""
        size = index.size * prod(x.shape[1:])
        return _moved(lambda x: x[index], lambda x: self._gathered(x, index), x, size=size)

    def _gathered(self, x: Any, index: np.ndarray[Any, Any]) -> Any:
        rest = tuple(range(1, x.ndim))
        steps = np.diff(index)
        return lax.gather(
            x,
            index.astype(np.int32 if x.shape[0] < 2**31 else np.int64)[:, None],
            lax.GatherDimensionNumbers(rest, (0,), (0,)),
            (1, *x.shape[1:]),
            unique_indices=bool((steps > 0).all()),
            indices_are_sorted=bool((steps >= 0).all()),
            mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
        )

    def box(self, x: Any, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> Any:
        """One ``lax.slice``."""
        rest = x.shape[len(starts) :]
        strides = None if all(step == 1 for step in steps) else (*steps, *(1,) * len(rest))
        box = tuple(map(slice, starts, stops, steps))
        return _moved(lambda x: x[box], lambda x: lax.slice(x, (*starts, *(0,) * len(rest)), (*stops, *rest), strides), x)

    def concatenate(self, parts: Sequence[Any]) -> Any:
        """One ``lax.concatenate``."""
        return _moved(lambda *parts: np.concatenate(parts), lambda *parts: lax.concatenate(parts, 0), *parts)

    def stack(self, parts: Sequence[Any]) -> Any:
        """One ``lax.concatenate`` along the second axis."""

        def stacked(*parts: Any) -> Any:
            return lax.concatenate([lax.expand_dims(part, (1,)) for part in parts], 1)

        return _moved(lambda *parts: np.stack(parts, 1), stacked, *parts)


register_kernels(jax.Array, JaxKernels())


def _static(value: Any) -> bool:
    return isinstance(value, (bool, int, float, complex, str)) or value is None


def _einsum_flatten(op: Einsum) -> tuple[Any, Any]:
    labels = tuple((type(f), *f[1:]) for f in op.factors)
    return [f[0] for f in op.factors], (labels, op.out, op.into, tuple(op.sizes.items()), op.coef, op.dtypes)


def _einsum_unflatten(aux: Any, arrays: Any) -> Einsum:
    labels, out, into, sizes, coef, dtypes = aux
    factors = tuple(kind(array, *rest) for array, (kind, *rest) in zip(arrays, labels, strict=True))
    return Einsum(factors, out, into, dict(sizes), coef, dtypes)


def _matrix_flatten(A: OperatorMatrix) -> tuple[Any, Any]:
    places = tuple(A.entries)
    layouts = tuple([space.layout for space in A.row_spaces])  # which do not make spaces differ, but programs
    return [A.entries[place] for place in places], (places, A.shape, tuple(A.row_spaces), tuple(A.col_spaces), layouts)


def _matrix_unflatten(aux: Any, elements: Any) -> OperatorMatrix:
    places, shape, rows, cols, _ = aux
    return OperatorMatrix(dict(zip(places, elements, strict=True)), shape, rows, cols)


def _scaling_flatten(op: Scaling) -> tuple[Any, Any]:
    return ((), (op.c, op.space)) if _static(op.c) else ((op.c,), (None, op.space))


class Same:
    """Static data that is equal only to itself: a traced equation, its parameters."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _equation_flatten(op: LinearEquation) -> tuple[Any, Any]:
    """Whole numbers and flags of Python's are static, as a rule of the user's own may ask for them."""
    static = tuple((type(x), x) if isinstance(x, bool | int) else None for x in op.operands)
    kids = tuple(None if told else x for told, x in zip(static, op.operands, strict=True))
    return kids, (static, Same(op.eqn), Same(op.params), (op.domain, op.codomain), op.transposed)


def _equation_unflatten(aux: Any, kids: Any) -> LinearEquation:
    static, eqn, params, spaces, transposed = aux
    operands = [told[1] if told else x for told, x in zip(static, kids, strict=True)]
    return LinearEquation(eqn.value, operands, params.value, spaces=spaces, transposed=transposed)


def _map_flatten(op: LinearMap) -> tuple[Any, Any]:
    """Functions that are pytrees themselves (`jax.tree_util.Partial`) have their arrays there, others are static."""
    moving = [isinstance(f, Partial) for f in op.functions]
    kids = [f if m else None for f, m in zip(op.functions, moving, strict=True)]
    static = tuple(None if m else f for f, m in zip(op.functions, moving, strict=True))
    told = op.told | {"batch_axes": tuple(op.batch_axes.items())}
    return kids, (static, op.domain, op.codomain, tuple(told.items()))


def _map_unflatten(aux: Any, kids: Any) -> LinearMap:
    static, domain, codomain, told = aux
    told = dict(told)
    apply, transpose_apply = (kid if f is None else f for kid, f in zip(kids, static, strict=True))
    return LinearMap(apply, transpose_apply, domain, codomain, **told | {"batch_axes": dict(told["batch_axes"])})


def _register() -> None:
    register = jax.tree_util.register_pytree_node
    register(Einsum, _einsum_flatten, _einsum_unflatten)
    register(OperatorMatrix, _matrix_flatten, _matrix_unflatten)
    register(LinearEquation, _equation_flatten, _equation_unflatten)
    register(LinearMap, _map_flatten, _map_unflatten)
    register(
        Translated,
        lambda op: ((op.inner,), (op.domain, op.codomain, op.conjugated)),
        lambda aux, kids: Translated(kids[0], *aux),
    )
    register(Scaling, _scaling_flatten, lambda aux, kids: Scaling(kids[0] if kids else aux[0], aux[1]))
    register(Identity, lambda op: ((), op.space), lambda space, _: Identity(space))
    register(Zero, lambda op: ((), (op.domain, op.codomain)), lambda aux, _: Zero(*aux))
    register(
        Slice,
        lambda op: ((), (op.shape, op.starts, op.stops, op.dtype, op.transposed)),
        lambda aux, _: Slice(*aux),
    )
    register(
        Sparse,
        lambda op: (op.values.sources, (op.pattern, op.values.plan, op.domain, op.codomain)),
        lambda aux, kids: Sparse(aux[0], LazyValues(kids, aux[1]), *aux[2:]),
    )
    register(
        SparseMatrix,
        lambda A: ((A.data,), (A.pattern, A.domain, A.codomain)),
        lambda aux, kids: SparseMatrix(aux[0], kids[0], *aux[1:]),
    )
    register(Reshape, lambda op: ((), (op.out, op.into, op.dtype)), lambda aux, _: Reshape(*aux))
    register(Component, lambda op: ((), (op.index, op.space, op.transposed)), lambda aux, _: Component(*aux))
    register(Product, lambda op: (op.factors, None), lambda _, kids: Product(tuple(kids)))
    register(Sum, lambda op: (op.terms, None), lambda _, kids: Sum(tuple(kids)))
    register(BlockVector, lambda v: (v.blocks, None), lambda _, kids: BlockVector(kids))
    register(Parts, lambda p: (tuple(p), None), lambda _, kids: Parts(kids))
    register(Plan, lambda plan: ((), plan), lambda plan, _: plan)
    register(System, lambda s: ((s.M, s.L, s.sinks, s.value), None), lambda _, kids: System(*kids))
    register(
        Linearized,
        lambda s: ((s.M, s.L, s.sinks, s.value), (s.inputs, s.outputs)),
        lambda ends, kids: Linearized(*kids, inputs=ends[0], outputs=ends[1]),
    )


_register()
