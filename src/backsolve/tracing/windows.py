"""The windows of a gather, or of a scatter read backwards: which entry of an array lies at each place of a result."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax import lax

__all__ = ["NOWHERE", "Index", "Mode", "Window", "entries_of", "strides", "window_of"]

Index = np.ndarray[Any, Any]
Mode = lax.GatherScatterMode
NOWHERE = -1


class Window(NamedTuple):
    """A gather, or a scatter read backwards: which entries of an array of ``shape`` lie in the windows of a result.

    ``clip`` says that windows are pushed inside; otherwise one that is not wholly inside is nowhere.
    """

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    dims: lax.GatherDimensionNumbers
    clip: bool

    @property
    def reach(self) -> tuple[int, ...]:
        """The largest start of a window inside, for each axis."""
        return tuple(n - s for n, s in zip(self.shape, self.sizes, strict=True))

    def entries(self, indices: Index) -> Index:
        """The number of the entry at each place of the result, `NOWHERE` where there is none."""
        rank, count, dims = len(self.shape), indices.ndim - 1, self.dims
        starts = np.zeros((*indices.shape[:-1], rank), np.int64)
        starts[..., list(dims.start_index_map)] = indices
        reach = np.array(self.reach, np.int64)
        if self.clip:
            starts = np.clip(starts, 0, reach)
        for axis, along in zip(dims.operand_batching_dims, dims.start_indices_batching_dims, strict=True):
            steps = np.arange(indices.shape[along])
            starts[..., axis] = steps.reshape((-1,) + (1,) * (count - along - 1))
        inside = np.asarray(((starts >= 0) & (starts <= reach)).all(axis=-1))
        each = strides(self.shape)
        gone = (*dims.collapsed_slice_dims, *dims.operand_batching_dims)
        axes = [axis for axis in range(rank) if axis not in gone]
        entries = np.asarray((starts * each).sum(axis=-1)).reshape((*inside.shape, *(1,) * len(axes)))
        for i, axis in enumerate(axes):
            entries = entries + (np.arange(self.sizes[axis]) * each[axis]).reshape((-1,) + (1,) * (len(axes) - i - 1))
        entries = np.where(inside.reshape((*inside.shape, *(1,) * len(axes))), entries, NOWHERE)
        windows, batches = iter(range(count, count + len(axes))), iter(range(count))
        return entries.transpose([next(windows if j in dims.offset_dims else batches) for j in range(entries.ndim)])

    def traced_entries(self, indices: Any) -> Any:
        """`entries` of traced indices: the window's own gather, on the numbers of the entries."""
        numbers, mode = entries_of(self.shape).astype(np.int32), Mode.CLIP if self.clip else Mode.FILL_OR_DROP
        return lax.gather(numbers, indices, self.dims, self.sizes, mode=mode, fill_value=NOWHERE)


def window_of(eqn: Any) -> Window | None:
    """The windows of a gather, or of any scatter; None where the mode is another than clipping, filling or a promise."""
    params, dims, shape = eqn.params, eqn.params["dimension_numbers"], tuple(eqn.invars[0].aval.shape)
    if params["mode"] == Mode.ONE_HOT:
        return None
    if isinstance(dims, lax.GatherDimensionNumbers):
        return Window(shape, tuple(params["slice_sizes"]), dims, params["mode"] != Mode.FILL_OR_DROP)
    absent = (*dims.inserted_window_dims, *dims.operand_batching_dims)
    extents = iter([eqn.invars[2].aval.shape[axis] for axis in dims.update_window_dims])
    backwards = lax.GatherDimensionNumbers(
        dims.update_window_dims, dims.inserted_window_dims, dims.scatter_dims_to_operand_dims,
        dims.operand_batching_dims, dims.scatter_indices_batching_dims,
    )  # fmt: skip
    sizes = tuple(1 if axis in absent else next(extents) for axis in range(len(shape)))
    return Window(shape, sizes, backwards, params["mode"] == Mode.CLIP)


def entries_of(shape: tuple[int, ...]) -> Index:
    """The numbers of all entries of an array of this shape."""
    return np.arange(prod(shape)).reshape(shape)


def strides(shape: tuple[int, ...]) -> Index:
    """By how many entries a step along each axis moves."""
    return np.array([prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
