"""Pytrees of arrays as vectors of blocks, one a leaf: the outer shape of a function's inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import is_number, is_zero, short
from backsolve.algebra.spaces import TupleSpace, space_of
from backsolve.matrices.vector import BlockVector
from backsolve.operators import O
from backsolve.operators.over_reals import pairs
from backsolve.operators.tuples import flattened, unflattened
from backsolve.tracing import jaxpr as jx

__all__ = ["Leaves", "flat"]


class Leaves:
    """The leaves of a pytree, of these types; those of integers and booleans carry no derivatives (dtype float0).

    Equal where structure, shapes and dtypes are: static data of a system that crosses ``jit``.
    """

    def __init__(self, structure: Any, avals: Iterable[Any], what: str = "the values") -> None:
        self.structure = structure
        self.avals = tuple(avals)
        self.what = what
        self.space = TupleSpace(tuple(map(jx.space_of_aval, self.avals)))

    @classmethod
    def of(cls, tree: Any) -> Leaves:
        """Those of a pytree of arrays, of no weak type."""
        leaves, structure = jax.tree_util.tree_flatten(tree)
        return cls(structure, map(_type, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Leaves) and (self.structure, self.space) == (other.structure, other.space)

    def __hash__(self) -> int:
        return hash((self.structure, self.space))

    @property
    def in_pairs(self) -> Leaves:
        """The leaves with pairs of real numbers in place of complex ones."""
        return Leaves(self.structure, map(_type, map(pairs, self.space.parts)), self.what)

    # ---- blocks ------------------------------------------------------------------------------------------------------
    def blocks(self, tree: Any, what: str | None = None) -> BlockVector:
        """Tangents or cotangents given as a pytree, as blocks, checked against the leaves; messages call them ``what``.

        Raises `TypeError` for another tree or dtype, `ValueError` for another shape.
        """
        leaves, structure = jax.tree_util.tree_flatten(tree)
        if structure != self.structure:
            raise TypeError(f"{what or self.what} must have the tree {self.structure}, got {structure}.")
        pairs = enumerate(zip(leaves, self.avals, strict=True))
        return BlockVector(self._block(f"{what or self.what}, leaf {i}", leaf, aval) for i, (leaf, aval) in pairs)

    def _block(self, what: str, leaf: Any, aval: Any) -> Any:
        dtype = getattr(leaf, "dtype", None)
        if not (is_zero(leaf) or is_number(leaf) or dtype is not None) or getattr(dtype, "kind", "f") in "OSU":
            raise TypeError(f"{what}: expected an array of numbers of shape {tuple(aval.shape)}, got {short(leaf)}.")
        if not jx.carries_derivatives(aval):
            if getattr(leaf, "dtype", None) != jax.dtypes.float0 and jnp.issubdtype(jnp.result_type(leaf), np.inexact):
                raise TypeError(
                    f"{what}: the leaf has dtype {aval.dtype}, whose tangents have dtype float0, "
                    f"got {jnp.result_type(leaf)}."
                )
            return O
        if is_zero(leaf):
            return leaf
        if jnp.shape(leaf) != tuple(aval.shape):
            raise ValueError(f"{what}: shape {jnp.shape(leaf)} does not match the leaf's shape {tuple(aval.shape)}.")
        if isinstance(leaf, complex) and not jnp.issubdtype(aval.dtype, np.complexfloating):
            raise TypeError(f"{what}: {leaf!r} is complex, but the leaf has dtype {aval.dtype}; take its real part.")
        if isinstance(leaf, (bool, int, float, complex)):
            return jx.weak(leaf, aval)
        if isinstance(leaf, np.ndarray | np.generic):
            leaf = jnp.asarray(leaf)  # double precision is single where JAX has none
        if leaf.dtype != aval.dtype:
            raise TypeError(
                f"{what}: dtype {leaf.dtype} does not match the leaf's dtype {aval.dtype}; convert it with .astype."
            )
        return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)

    def tree(self, blocks: Any) -> Any:
        """Blocks as the pytree, absent ones as zeros, float0 where there are no derivatives."""
        return jx.unflatten(self.structure, self.values(blocks))

    def values(self, blocks: Any) -> list[Any]:
        """Blocks as the leaves of `tree`."""
        return [self.value(block, aval) for block, aval in zip(blocks, self.avals, strict=True)]

    def value(self, block: Any, aval: Any) -> Any:
        """One block as its leaf."""
        if not jx.carries_derivatives(aval):
            return np.zeros(aval.shape, jax.dtypes.float0)
        if is_zero(block) or (is_number(block) and block == 0):  # nothing between input and output
            return jx.zeros(aval)
        if tuple(block.shape) != tuple(aval.shape):
            raise ValueError(
                f"{self.what}: a derivative of shape {tuple(block.shape)} for a leaf of shape {tuple(aval.shape)}; a rule "
                "of the program gives tangents or cotangents of another shape than its values."
            )
        return jx.as_array(block, aval)

    # ---- one vector --------------------------------------------------------------------------------------------------
    def flat(self, blocks: Any) -> Any:
        """Blocks as one vector, the leaves one after the other."""
        return flattened(self.values(blocks), self.space)

    def unflat(self, x: Any) -> BlockVector:
        """The blocks of such a vector."""
        return BlockVector(unflattened(x, self.space))

    def tree_of(self, x: Any) -> Any:
        """The pytree whose leaves lie one after the other in a vector."""
        return self.tree(self.unflat(x))


def _type(like: Any) -> Any:
    return jax.ShapeDtypeStruct(like.shape, like.dtype)  # type: ignore[no-untyped-call]


def flat(tree: Any, dtype: Any = None) -> Any:
    """The leaves of any pytree as one vector, one after the other, of at least this dtype (None: JAX's own)."""
    leaves = (jnp.zeros(0, dtype), *map(jnp.asarray, jax.tree_util.tree_leaves(tree)))
    return flattened(leaves, space_of(leaves))
