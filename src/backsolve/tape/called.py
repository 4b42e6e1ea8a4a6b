"""A jitted function that is called with NumPy's arrays, and returns some: by a tape where one serves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any

import jax
import numpy as np

from backsolve.tape.program import NotServed, Tape
from backsolve.tracing.jaxpr import is_traced
from backsolve.tracing.series import config_context

__all__ = ["Called"]

_CHECKING = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")  # JAX's own calls see to these


class Called:
    """What ``jitted(static, arrays)`` returns, with NumPy's arrays in place of JAX's where a `Tape` serves.

    As `jax.jit` does, it traces the function once for arguments of these types, whichever way it is evaluated then.
    """

    def __init__(self, jitted: Any) -> None:
        self._jitted = jitted
        self._tapes: dict[Hashable, _Taped | None] = {}

    def __call__(self, static: Hashable, arrays: Sequence[Any]) -> Any:
        """The function's result, with arrays that are the caller's to change."""
        tape = self._tape(static, arrays) if arrays and _on_the_host(arrays) else None
        return self._jitted(static, arrays) if tape is None else tape(arrays)

    def _tape(self, static: Hashable, arrays: Sequence[Any]) -> _Taped | None:
        types = tuple((np.shape(x), getattr(x, "dtype", float), getattr(x, "weak_type", False)) for x in arrays)
        key = static, types, config_context()
        if key not in self._tapes:
            self._tapes[key] = _taped(self._jitted.trace(static, arrays))
        return self._tapes[key]


def _on_the_host(arrays: Sequence[Any]) -> bool:
    """Whether JAX would evaluate these on one processor, and without checks of its own."""
    if jax.default_backend() != "cpu" or any(getattr(jax.config, name) for name in _CHECKING):
        return False
    if any(map(is_traced, arrays)):
        return False
    places = [x.devices() for x in arrays if isinstance(x, jax.Array)]
    return all(len(devices) == 1 and next(iter(devices)).platform == "cpu" for devices in places)


def _taped(traced: Any) -> _Taped | None:
    jaxpr, (leaves, tree) = traced.jaxpr, jax.tree_util.tree_flatten(traced.out_info)
    first, *others = [v.aval for v in jaxpr.jaxpr.invars]
    try:
        tape = Tape(first, others)
        tape.read(jaxpr.jaxpr, jaxpr.consts)
    except NotServed:
        return None
    return _Taped(tape, [leaf.shape for leaf in leaves], lambda parts: jax.tree_util.tree_unflatten(tree, parts))


class _Taped:
    """A function that a tape serves."""

    def __init__(self, tape: Tape, shapes: Sequence[tuple[int, ...]], structure: Callable[[list[Any]], Any]) -> None:
        self._tape = tape
        self._shapes = shapes
        ends = np.cumsum([0, *map(prod, shapes)]).tolist()
        self._parts = list(map(slice, ends, ends[1:]))
        self._structure = structure

    def __call__(self, arrays: Sequence[Any]) -> Any:
        first, *others = (np.asarray(x, self._tape.dtype) for x in arrays)
        numbers = self._tape.run(0, [first], others)
        return self._structure([numbers[part].reshape(shape) for part, shape in zip(self._parts, self._shapes, strict=True)])
