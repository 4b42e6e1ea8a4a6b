"""Pytrees of arrays as vectors of blocks: the outer shape of a function's inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra import is_zero
from ..blocks import BlockVector
from ..operators import O
from ..system import System
from . import jaxpr as jx

__all__ = ["TreeFrame"]


class TreeFrame:
    """A pytree of leaves with these avals; leaves of integers and booleans carry no derivatives (dtype float0)."""

    def __init__(self, tree: Any, avals: Sequence[Any], what: str) -> None:
        self.structure = tree
        self.avals = list(avals)
        self.what = what

    def blocks(self, tree: Any) -> BlockVector:
        """Tangents or cotangents given as a pytree, as blocks, checked against the leaves.

        Raises `TypeError` for another tree or dtype, `ValueError` for another shape.
        """
        leaves, structure = jax.tree_util.tree_flatten(tree)
        if structure != self.structure:
            raise TypeError(f"{self.what} must have the tree {self.structure}, got {structure}.")
        return BlockVector(self._leaf(i, leaf, aval) for i, (leaf, aval) in enumerate(zip(leaves, self.avals, strict=True)))

    def _leaf(self, i: int, leaf: Any, aval: Any) -> Any:
        if not jx.carries_derivatives(aval):
            if getattr(leaf, "dtype", None) != jax.dtypes.float0 and jnp.issubdtype(jnp.result_type(leaf), np.inexact):
                raise TypeError(
                    f"{self.what}, leaf {i}: the leaf has dtype {aval.dtype}, whose tangents have dtype float0, "
                    f"got {jnp.result_type(leaf)}."
                )
            return O
        if is_zero(leaf):
            return leaf
        if jnp.shape(leaf) != tuple(aval.shape):
            raise ValueError(
                f"{self.what}, leaf {i}: shape {jnp.shape(leaf)} does not match the leaf's shape {tuple(aval.shape)}."
            )
        if isinstance(leaf, (bool, int, float, complex)):
            return jx.weak(leaf, aval)
        if leaf.dtype != aval.dtype:
            raise TypeError(
                f"{self.what}, leaf {i}: dtype {leaf.dtype} does not match the leaf's dtype {aval.dtype}; "
                "convert it with .astype."
            )
        return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)

    def tree(self, blocks: Any) -> Any:
        """Blocks as the pytree, absent ones as zeros, float0 where there are no derivatives."""
        return jx.unflatten(
            self.structure, [self.leaf_value(block, aval) for block, aval in zip(blocks, self.avals, strict=True)]
        )

    def leaf_value(self, block: Any, aval: Any) -> Any:
        """One block as its leaf."""
        if not jx.carries_derivatives(aval):
            return np.zeros(aval.shape, jax.dtypes.float0)
        if is_zero(block) or not isinstance(block, jax.Array):  # nothing between input and output
            return jx.zeros(aval)
        return block

    def jacobian(self, system: System, order: Any) -> Any:
        """dy/dp of a system with this frame as its outputs: a pytree (outputs of inputs) of arrays.

        "forward" solves once for each entry of the inputs, "reverse" once for each entry of the outputs, all at once
        under ``vmap``; "auto" takes the one with fewer, "reverse" where complex inputs have real outputs.
        """
        inputs = system.inputs
        if not isinstance(inputs, TreeFrame):
            raise TypeError(f"the inputs of the system have no pytree, got {inputs!r}.")
        if order == "auto":
            real = any(a.dtype.kind != "c" for a in self._moving())
            mixed = real and any(a.dtype.kind == "c" for a in inputs._moving())
            order = "forward" if inputs._count() < self._count() and not mixed else "reverse"
        if order not in ("forward", "reverse"):
            raise ValueError(f"unknown order {order!r}; use 'auto', 'forward' or 'reverse'.")
        if order == "forward":
            columns = [_pushed(system, self, inputs, j) for j in range(len(inputs.avals))]
        else:
            rows = [_pulled(system, self, inputs, i) for i in range(len(self.avals))]
            columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in inputs.avals]
        trees = [
            jx.unflatten(inputs.structure, [columns[j][i] for j in range(len(columns))]) for i in range(len(self.avals))
        ]
        return jx.unflatten(self.structure, trees)

    def _moving(self) -> list[Any]:
        return [a for a in self.avals if jx.carries_derivatives(a)]

    def _count(self) -> int:
        return sum(math.prod(a.shape) for a in self._moving())


def _one_hot(count: int, i: int, block: Any) -> BlockVector:
    return BlockVector(block if k == i else O for k in range(count))


def _basis(aval: Any) -> Any:
    n = math.prod(aval.shape)
    return jnp.eye(n, dtype=aval.dtype).reshape(n, *aval.shape)


def _pushed(system: System, outputs: TreeFrame, inputs: TreeFrame, j: int) -> list[Any]:
    """Column j of the Jacobian, one array an output leaf: forward substitution for every entry of input leaf j."""
    aval = inputs.avals[j]
    shapes = [(*a.shape, *aval.shape) for a in outputs.avals]
    if not jx.carries_derivatives(aval):
        return [np.zeros(shape, jax.dtypes.float0) for shape in shapes]

    def push(t: Any) -> list[Any]:
        moved = system.push(_one_hot(len(inputs.avals), j, t))
        return [outputs.leaf_value(block, a) for block, a in zip(moved, outputs.avals, strict=True)]

    found = jax.vmap(push, out_axes=-1)(_basis(aval))
    return [jnp.reshape(block, shape) for block, shape in zip(found, shapes, strict=True)]


def _pulled(system: System, outputs: TreeFrame, inputs: TreeFrame, i: int) -> list[Any]:
    """Row i of the Jacobian, one array an input leaf: back substitution for every entry of output leaf i."""
    aval = outputs.avals[i]
    shapes = [(*aval.shape, *a.shape) for a in inputs.avals]

    def pull(g: Any) -> list[Any]:
        moved = system.pull(_one_hot(len(outputs.avals), i, g))
        kept = [(b, a) for b, a in zip(moved, inputs.avals, strict=True) if jx.carries_derivatives(a)]
        return [inputs.leaf_value(block, a) for block, a in kept]

    found = iter(jax.vmap(pull)(_basis(aval)))
    return [
        jnp.reshape(next(found), shape) if jx.carries_derivatives(a) else np.zeros(shape, jax.dtypes.float0)
        for a, shape in zip(inputs.avals, shapes, strict=True)
    ]
