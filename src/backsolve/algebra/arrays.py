"""Arrays of any library: which namespace serves them, and the one kernel that multiplies two of them by labels.

Nothing here knows a library by name: NumPy and JAX arrays bring their array-API namespace along, PyTorch's comes from
`array_api_compat`.  A library that can do better than the plain array API hands in an adapter with
`register_adapter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from numbers import Number
from typing import Any, Protocol

import numpy as np

__all__ = [
    "Adapter",
    "Labels",
    "add",
    "asarray",
    "astype",
    "concat",
    "conjugate",
    "contract",
    "counted",
    "divide",
    "eye",
    "is_array",
    "is_number",
    "is_spread",
    "map_columns",
    "multiply",
    "namespace",
    "pad",
    "place",
    "promoted",
    "register_adapter",
    "reshape",
    "scale",
    "selects",
    "settle",
    "solve_triangular",
    "stack",
    "subtract",
    "sum_axes",
    "take",
]

Labels = tuple[int, ...]


class Adapter(Protocol):
    """An array library's own way to do what the functions of the same names in this module do."""

    def multiply(self, a: Any, b: Any) -> Any:
        """Entrywise product of arrays of one rank, or with a scalar."""

    def add(self, a: Any, b: Any) -> Any:
        """Entrywise sum of two arrays."""

    def subtract(self, a: Any, b: Any) -> Any:
        """Entrywise difference of two arrays."""

    def divide(self, a: Any, b: Any) -> Any:
        """Entrywise quotient of two arrays, or of a number and an array."""

    def contract(self, a: Any, la: Labels, b: Any, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
        """Product of two labelled arrays, summed over what is not kept."""

    def place(self, x: Any, labels: Labels, out: Labels, shape: tuple[int, ...]) -> Any:
        """Labelled x brought to the axes ``out``."""

    def sum(self, x: Any, axes: tuple[int, ...]) -> Any:
        """Sum over axes."""

    def eye(self, like: Any, n: Any, dtype: Any) -> Any:
        """The identity of n rows, beside the array ``like``."""

    def pad(self, x: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
        """Zeros before and after x along every axis."""

    def take(self, x: Any, starts: tuple[int, ...], stops: tuple[int, ...]) -> Any:
        """The box of x between two corners."""

    def concat(self, arrays: Sequence[Any], axis: int) -> Any:
        """Arrays one after the other along an axis."""

    def stack(self, arrays: Sequence[Any]) -> Any:
        """Arrays of one shape along a new first axis."""

    def map_columns(self, function: Any, x: Any) -> Any:
        """The images of x[…, 0], x[…, 1], … under a function of arrays, along a last axis."""

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """The same entries, in row-major order, under another shape."""

    def astype(self, x: Any, dtype: Any) -> Any:
        """The same entries in another dtype."""

    def settle(self, x: Any, layout: Any) -> Any:
        """The same entries, spread over devices as a layout of this library's says."""


# Filled once per array library, when that library's adapter is imported; read-only afterwards.
_ADAPTERS: list[tuple[type, Adapter]] = []


def register_adapter(array_type: type, adapter: Adapter) -> None:
    """Use ``adapter`` wherever one of the arrays is an ``array_type``."""
    _ADAPTERS.append((array_type, adapter))


def _adapter(a: Any, b: Any) -> Adapter | None:
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return None
    for array_type, adapter in _ADAPTERS:
        if isinstance(a, array_type) or isinstance(b, array_type):
            return adapter
    return None


def is_mask(x: Any) -> bool:
    """Whether x is an array of booleans, which as a factor selects: what it masks is zero, even where it was NaN."""
    dtype = getattr(x, "dtype", None)
    return dtype.kind == "b" if isinstance(dtype, np.dtype) else str(dtype) == "torch.bool"


def selects(a: Any, la: Labels, b: Any, lb: Labels) -> bool:
    """Whether one operand is a mask that can hide entries of the other, or be spread over it, before anything is summed."""
    return is_mask(a) != is_mask(b) and (set(la) <= set(lb) or set(lb) <= set(la))


def counted(x: Any) -> Any:
    """Return a mask as numbers, which count when added up; else x itself.

    In NumPy they are in double precision.  Other libraries take integers, which leave a precision beside them alone; what is
    made of two counts is of floating point again (see their adapter), as counts multiply without bound.
    """
    if not is_mask(x):
        return x
    xp = namespace(x)
    return astype(x, float if xp is np else xp.int32)


def promoted(*dtypes: Any) -> np.dtype[Any]:
    """Return the common type of numbers of these: NumPy's, and single precision where it has none, as of two halves."""
    try:
        return np.result_type(*dtypes)
    except TypeError:
        return np.dtype(np.float32)


def multiply(a: Any, b: Any) -> Any:
    """Return the entrywise product of two arrays; a mask beside numbers selects, two masks are one mask."""
    adapter = _adapter(a, b)
    if adapter is not None:
        return adapter.multiply(a, b)
    if is_mask(a) and not is_mask(b):
        return namespace(a, b).where(a, b, namespace(b).zeros_like(b))
    if is_mask(b) and not is_mask(a):
        return multiply(b, a)
    return a * b


def divide(a: Any, b: Any) -> Any:
    """Return the entrywise quotient of two arrays, or of a number and an array."""
    adapter = _adapter(a, b)
    return a / b if adapter is None else adapter.divide(a, b)


def scale(c: Any, x: Any) -> Any:
    """Return c x for a number (or array without axes) c."""
    x = x if is_array(c) else counted(x)
    adapter = _adapter(c, x)
    if adapter is not None:
        return adapter.multiply(c, x)
    return -x if isinstance(c, int) and c == -1 else c * x


def add(a: Any, b: Any) -> Any:
    """Return the entrywise sum of two arrays."""
    if type(a) is type(b) is np.ndarray and a.dtype is b.dtype and a.dtype.kind != "b":  # the many small blocks of a graph
        return a + b
    a, b = counted(a), counted(b)
    adapter = _adapter(a, b)
    return a + b if adapter is None else adapter.add(a, b)


def subtract(a: Any, b: Any) -> Any:
    """Return the entrywise difference of two arrays."""
    a, b = counted(a), counted(b)
    adapter = _adapter(a, b)
    return a - b if adapter is None else adapter.subtract(a, b)


def namespace(*arrays: Any) -> Any:
    """Return the array-API namespace that serves these arrays (NumPy's for plain numbers)."""
    foreign = [a for a in arrays if not isinstance(a, (np.ndarray, np.generic, int, float, complex))]
    if not foreign:
        return np
    for a in foreign:
        if hasattr(a, "__array_namespace__"):
            return a.__array_namespace__()
    if any(hasattr(a, "shape") and hasattr(a, "dtype") for a in foreign):
        from array_api_compat import array_namespace

        return array_namespace(*(a for a in foreign if hasattr(a, "dtype")))
    return np


def is_number(x: Any) -> bool:
    """Whether x is a number: Python's, a Fraction, or a NumPy scalar."""
    return isinstance(x, Number)


def is_array(x: Any) -> bool:
    """Whether x is an array (or a NumPy scalar) of some library, and not an operator or a matrix of operators."""
    return isinstance(x, (np.ndarray, np.generic)) or (
        hasattr(x, "dtype") and hasattr(x, "ndim") and hasattr(x, "__getitem__") and not hasattr(x, "codomain")
    )


def asarray(x: Any) -> Any:
    """Return x itself if it is an array of some library, else NumPy's array of it."""
    return x if is_array(x) else np.asarray(x)


def conjugate(x: Any) -> Any:
    """Return the complex conjugate of an array or number."""
    if isinstance(x, (int, float)):
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        return np.conjugate(x)
    if isinstance(x, Number):
        return x.conjugate()  # type: ignore[attr-defined]
    xp = namespace(x)
    if hasattr(xp, "isdtype") and not xp.isdtype(x.dtype, "complex floating"):
        return x
    return xp.conj(x)


def permute(xp: Any, x: Any, order: Sequence[int]) -> Any:
    """Return x with its axes in this order (x itself where that is the order they have)."""
    if all(i == p for i, p in enumerate(order)):
        return x
    return xp.permute_dims(x, tuple(order))


def expand(xp: Any, x: Any, labels: Labels, out: Labels) -> Any:
    """Return x with its axes in the order of ``out`` and a size-1 axis for each label of ``out`` it lacks."""
    x = permute(xp, x, sorted(range(len(labels)), key=lambda axis: out.index(labels[axis])))
    if len(labels) == len(out):
        return x
    present = set(labels)
    sizes = iter(x.shape)
    return xp.reshape(x, tuple(next(sizes) if label in present else 1 for label in out))


def contract(a: Any, la: Labels, b: Any, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
    """Multiply two labelled arrays and sum every label that is not in ``keep``:  c[…] = Σ a[la] b[lb].

    Labels within one operand are distinct.  Returns the product and its labels, in whatever order was cheapest.
    Cost: one matrix product (or elementwise product), without copies where the axes already lie well.
    """
    adapter = _adapter(a, b)
    if adapter is not None:
        return adapter.contract(a, la, b, lb, keep)
    xp = namespace(a, b)
    a, la = _sum_private(xp, a, la, lb, keep)
    b, lb = _sum_private(xp, b, lb, la, keep)
    summed = [label for label in la if label in lb and label not in keep]
    if summed and selects(a, la, b, lb):
        product, out = contract(a, la, b, lb, la + lb)
        return _sum_private(xp, product, out, (), keep)
    if not summed:
        out = la if len(la) >= len(lb) else lb
        out += tuple(label for label in (la + lb) if label not in out)
        return multiply(expand(xp, a, la, out), expand(xp, b, lb, out)), out
    batch = [label for label in la if label in lb and label in keep]
    free_a = [label for label in la if label not in lb]
    free_b = [label for label in lb if label not in la]
    if (*batch, *free_b, *free_a) == keep:  # the other way round it comes out as wanted
        a, la, b, lb, free_a, free_b = b, lb, a, la, free_b, free_a
    size = dict(zip(la + lb, tuple(a.shape) + tuple(b.shape), strict=True))
    a = _grouped(xp, a, la, size, batch, free_a, summed)
    b = _grouped(xp, b, lb, size, batch, summed, free_b)
    vector = not batch and not free_b
    a, b = counted(a), counted(b)
    if a.dtype != b.dtype:  # a selection that sums, or two precisions
        dtype = xp.result_type(a, b)
        a, b = xp.astype(a, dtype), xp.astype(b, dtype)
    c = a @ (xp.reshape(b, (-1,)) if vector else b)
    out = tuple(batch + free_a + free_b)
    shape = tuple(size[label] for label in out)
    return (c if tuple(c.shape) == shape else xp.reshape(c, shape)), out


def _sum_private(xp: Any, a: Any, la: Labels, lb: Labels, keep: Labels) -> tuple[Any, Labels]:
    axes = tuple(axis for axis, label in enumerate(la) if label not in lb and label not in keep)
    if not axes:
        return a, la
    return xp.sum(counted(a), axis=axes), tuple(label for axis, label in enumerate(la) if axis not in axes)


def _grouped(xp: Any, a: Any, la: Labels, size: dict[int, int], batch: list[int], rows: list[int], cols: list[int]) -> Any:
    """The operand as a stack of matrices: batch axes, then all rows as one axis, then all columns as one."""
    a = permute(xp, a, [la.index(label) for label in batch + rows + cols])
    shape = (*(size[k] for k in batch), prod(size[k] for k in rows), prod(size[k] for k in cols))
    return a if tuple(a.shape) == shape else xp.reshape(a, shape)


def eye(like: Any, n: Any, dtype: Any) -> Any:
    """Return the n × n identity in the library of ``like``."""
    adapter = _adapter(like, like)
    return namespace(like).eye(n, dtype=dtype) if adapter is None else adapter.eye(like, n, dtype)


def sum_axes(x: Any, axes: tuple[int, ...]) -> Any:
    """Return x summed over these axes."""
    adapter = _adapter(x, x)
    return namespace(x).sum(counted(x), axis=axes) if adapter is None else adapter.sum(x, axes)


def concat(arrays: Sequence[Any], axis: int) -> Any:
    """Return arrays one after the other along an axis."""
    adapter = next((known for x in arrays if (known := _adapter(x, x)) is not None), None)
    return namespace(*arrays).concat(list(arrays), axis=axis) if adapter is None else adapter.concat(arrays, axis)


def stack(arrays: Sequence[Any]) -> Any:
    """Return arrays of one shape along a new first axis."""
    adapter = next((known for x in arrays if (known := _adapter(x, x)) is not None), None)
    return namespace(*arrays).stack(list(arrays)) if adapter is None else adapter.stack(arrays)


def map_columns(function: Callable[[Any], Any], x: Any) -> Any:
    """Return the images of x[…, 0], x[…, 1], … under a function of arrays, along a last axis."""
    adapter = _adapter(x, x)
    if adapter is not None:
        return adapter.map_columns(function, x)
    return namespace(x).stack([function(x[..., j]) for j in range(x.shape[-1])], axis=-1)


def solve_triangular(R: Any, b: Any, *, transposed: bool = False) -> Any:
    """Return the x with R x = b, or with ``transposed`` Rᵀ x = b, for a stack of upper triangles R and of matrices b.

    An adapter may have a method of this name; without one the library's general solver does it, which of an upper triangle
    finds every pivot in its place.
    """
    solve = getattr(_adapter(R, b), "solve_triangular", None)
    if solve is not None:
        return solve(R, b, transposed)
    if type(R) is np.ndarray and type(b) is np.ndarray and R.shape[0] == 1:
        from scipy.linalg import solve_triangular as solve_one

        return solve_one(R[0], b[0], trans=int(transposed), check_finite=False)[None]
    xp = namespace(R, b)
    return xp.linalg.solve(xp.matrix_transpose(R) if transposed else R, b)


def is_spread(x: Any) -> bool:
    """Whether x may lie on several devices, in pieces."""
    spread = getattr(_adapter(x, x), "is_spread", None)
    return spread is not None and bool(spread(x))


def settle(x: Any, layout: Any) -> Any:
    """Return x spread over devices as the ``layout`` of an `ArraySpace` says, which its library's adapter understands."""
    adapter: Any = _adapter(x, x)
    return x if adapter is None else adapter.settle(x, layout)


def reshape(x: Any, shape: tuple[int, ...]) -> Any:
    """Return the entries of x, in row-major order, under another shape."""
    adapter = _adapter(x, x)
    return namespace(x).reshape(x, shape) if adapter is None else adapter.reshape(x, shape)


def astype(x: Any, dtype: Any) -> Any:
    """Return x in another dtype."""
    adapter = _adapter(x, x)
    return namespace(x).astype(x, dtype) if adapter is None else adapter.astype(x, dtype)


def take(x: Any, starts: tuple[int, ...], stops: tuple[int, ...]) -> Any:
    """Return the entries of x from the corner ``starts`` up to, and without, the corner ``stops``."""
    adapter = _adapter(x, x)
    if adapter is not None:
        return adapter.take(x, starts, stops)
    return x[tuple(map(slice, starts, stops))]


def pad(x: Any, before: tuple[int, ...], after: tuple[int, ...]) -> Any:
    """Return x with this many zeros before and after it along each axis."""
    adapter = _adapter(x, x)
    if adapter is not None:
        return adapter.pad(x, before, after)
    xp = namespace(x)
    for axis, counts in enumerate(zip(before, after, strict=True)):
        shape = tuple(x.shape)
        zeros = [xp.zeros((*shape[:axis], n, *shape[axis + 1 :]), dtype=x.dtype) for n in counts]
        x = xp.concat([zeros[0], x, zeros[1]], axis=axis) if any(counts) else x
    return x


def place(x: Any, labels: Labels, out: Labels, sizes: dict[int, int | None]) -> Any:
    """Bring labelled x to the axes ``out``: permute, and repeat along the labels it lacks (their size from ``sizes``)."""
    if labels == out:
        return x
    own = dict(zip(labels, x.shape, strict=True))
    shape = tuple(own.get(label, sizes.get(label)) for label in out)
    if None in shape:
        raise ValueError(f"cannot repeat an array of shape {tuple(x.shape)} along an axis of unknown size.")
    adapter = _adapter(x, x)
    if adapter is not None:
        return adapter.place(x, labels, out, shape)  # type: ignore[arg-type]
    xp = namespace(x)
    x = expand(xp, x, labels, out)
    return x if len(labels) == len(out) else xp.broadcast_to(x, shape)
