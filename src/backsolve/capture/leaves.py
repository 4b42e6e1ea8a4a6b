"""Pytrees of arrays as vectors of blocks: the outer shape of a function's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import is_number, is_zero, short
from backsolve.capture.reals import as_operators, as_pairs, avals_in_pairs, is_complex_value, joined_array, needs_reals
from backsolve.capture.solving import inverse_of, solved
from backsolve.capture.sparse import sparse_jacobian
from backsolve.matrices.vector import BlockVector
from backsolve.operators import O
from backsolve.operators.closed_form import dense_array, first_of
from backsolve.system.system import FORMATS, Plans, System
from backsolve.tracing import jaxpr as jx

__all__ = ["TreeFrame"]


class TreeFrame:
    """A pytree of leaves with these avals; leaves of integers and booleans carry no derivatives (dtype float0)."""

    format = "array"

    def __init__(self, tree: Any, avals: Sequence[Any], what: str) -> None:
        self.structure = tree
        self.avals = list(avals)
        self.what = what

    def blocks(self, tree: Any, what: str | None = None) -> BlockVector:
        """Tangents or cotangents given as a pytree, as blocks, checked against the leaves; messages call them ``what``.

        Raises `TypeError` for another tree or dtype, `ValueError` for another shape.
        """
        leaves, structure = jax.tree_util.tree_flatten(tree)
        if structure != self.structure:
            raise TypeError(f"{what or self.what} must have the tree {self.structure}, got {structure}.")
        pairs = enumerate(zip(leaves, self.avals, strict=True))
        return BlockVector(self._leaf(f"{what or self.what}, leaf {i}", leaf, aval) for i, (leaf, aval) in pairs)

    def _leaf(self, what: str, leaf: Any, aval: Any) -> Any:
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
        return jx.unflatten(
            self.structure, [self.leaf_value(block, aval) for block, aval in zip(blocks, self.avals, strict=True)]
        )

    @property
    def size(self) -> int:
        """Number of entries of all leaves."""
        return sum(prod(aval.shape) for aval in self.avals)

    def flat(self, blocks: Any) -> Any:
        """Blocks as one vector, the leaves one after the other."""
        leaves = [jnp.ravel(self.leaf_value(block, aval)) for block, aval in zip(blocks, self.avals, strict=True)]
        return jnp.concatenate(leaves) if leaves else jnp.zeros(0)

    def unflat(self, x: Any) -> Any:
        """The pytree whose leaves lie one after the other in a vector."""
        ends = [sum(prod(a.shape) for a in self.avals[: k + 1]) for k in range(len(self.avals))]
        leaves = [x[end - prod(a.shape) : end].reshape(a.shape) for end, a in zip(ends, self.avals, strict=True)]
        return jx.unflatten(self.structure, [x.astype(a.dtype) for x, a in zip(leaves, self.avals, strict=True)])

    def inverse(self, system: System, damping: Any, engine: str) -> Any:
        """The inverse of the Jacobian of a system with this frame as its outputs, factored."""
        return inverse_of(system, damping, engine)

    def solve(self, system: System, b: Any, damping: Any, engine: str, transposed: bool) -> Any:
        """The solution with the Jacobian of a system with this frame as its outputs: a pytree."""
        return solved(system, self, b, damping, engine, transposed=transposed)

    def leaf_value(self, block: Any, aval: Any) -> Any:
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

    def over_reals(self, system: System) -> System:
        """The system over pairs of real numbers, if it needs that; else itself."""
        if not needs_reals(system):
            return system
        inputs: Any = system.inputs
        frames = [TreeFrame(f.structure, avals_in_pairs(f.avals), f.what) for f in (inputs, self)]
        return as_pairs(system, *frames)

    def jacobian(self, system: System, order: Any, form: str, plans: Plans | None = None) -> Any:
        """dy/dp of a system with this frame as its outputs: a pytree (outputs of inputs) of arrays, or an OperatorMatrix."""
        inputs = system.inputs
        if not isinstance(inputs, TreeFrame):
            raise TypeError(f"the inputs of the system have no pytree, got {inputs!r}.")
        if form not in FORMATS:
            raise ValueError(f"unknown format {form!r}; use one of {', '.join(map(repr, FORMATS))}.")
        if form == "sparse":
            return self.nested(inputs, sparse_jacobian(system, order))
        whole = system.over_reals
        outputs: Any = whole.outputs
        found = outputs._worked_out(whole, order, form == "array", plans)
        if form == "operator":
            return found if whole is system else as_operators(found, system.sinks.row_spaces, system.M.col_spaces)
        rows = [[found[j][i] for j in range(len(inputs.avals))] for i in range(len(self.avals))]
        return self.nested(
            inputs,
            [
                [
                    x if whole is system or not (is_complex_value(a) or is_complex_value(b)) else joined_array(x, a, b)
                    for x, b in zip(row, inputs.avals, strict=True)
                ]
                for row, a in zip(rows, self.avals, strict=True)
            ],
        )

    def _worked_out(self, system: System, order: Any, dense: bool, plans: Plans | None) -> Any:
        """The Jacobian of a system over the reals, where it has to be: its columns of arrays, or an OperatorMatrix."""
        inputs: Any = system.inputs
        network, plan = system.planned(order, dense=dense, plans=plans)
        if dense and plan.method != "elimination":
            return self._substituted(system, inputs, plan.method)
        J = network.eliminated(plan.order)
        if not dense:
            return J
        return [[self._dense(J, inputs, i, j) for i in range(len(self.avals))] for j in range(len(inputs.avals))]

    def nested(self, inputs: TreeFrame, rows: Sequence[Sequence[Any]]) -> Any:
        """Blocks, a row for each output leaf, as a pytree of outputs of pytrees of inputs."""
        return jx.unflatten(self.structure, [jx.unflatten(inputs.structure, row) for row in rows])

    def _dense(self, J: Any, inputs: TreeFrame, i: int, j: int) -> Any:
        """Block (i, j) of a Jacobian as an array of the input's dtype, as `jax.jacobian` has it."""
        out, into = self.avals[i], inputs.avals[j]
        shape = (*out.shape, *into.shape)
        op = J.entries.get((i, j))
        if op is None:
            return jnp.zeros(shape, into.dtype)
        array = dense_array(op)
        return array if isinstance(array, jax.Array) and array.dtype == into.dtype else jnp.asarray(array, into.dtype)

    def _substituted(self, system: System, inputs: TreeFrame, method: str) -> list[list[Any]]:
        """Columns by forward substitution, or rows by back substitution, an identity on the right."""

        def columns() -> list[list[Any]]:
            return [_pushed(system, self, inputs, j) for j in range(len(inputs.avals))]

        def by_rows() -> list[list[Any]]:
            rows = [_pulled(system, self, inputs, i) for i in range(len(self.avals))]
            return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in inputs.avals]

        return first_of(columns, by_rows) if method == "columns" else first_of(by_rows, columns)  # type: ignore[no-any-return]


def _one_hot(count: int, i: int, block: Any) -> BlockVector:
    return BlockVector(block if k == i else O for k in range(count))


def _basis(aval: Any) -> Any:
    n = prod(aval.shape)
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
    return [jnp.reshape(block, shape).astype(aval.dtype) for block, shape in zip(found, shapes, strict=True)]


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
