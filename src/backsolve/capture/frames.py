"""Pytrees of arrays as vectors of blocks: the outer shape of a function's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra import is_zero
from ..blocks import BlockVector
from ..operators import O
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
            return jnp.asarray(leaf, aval.dtype)
        if leaf.dtype != aval.dtype:
            raise TypeError(
                f"{self.what}, leaf {i}: dtype {leaf.dtype} does not match the leaf's dtype {aval.dtype}; "
                "convert it with .astype."
            )
        return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)

    def tree(self, blocks: Any) -> Any:
        """Blocks as the pytree, absent ones as zeros, float0 where there are no derivatives."""
        return jx.unflatten(
            self.structure, [self._value(block, aval) for block, aval in zip(blocks, self.avals, strict=True)]
        )

    def _value(self, block: Any, aval: Any) -> Any:
        if not jx.carries_derivatives(aval):
            return np.zeros(aval.shape, jax.dtypes.float0)
        return jx.zeros(aval) if is_zero(block) else block
