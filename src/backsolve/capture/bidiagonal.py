"""A loop's steps side by side: the inverse of a block bidiagonal matrix by an associative scan, and what is around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from backsolve.algebra.elements import is_zero
from backsolve.algebra.spaces import ArraySpace, PatternTooLargeError, TupleSpace, available_memory
from backsolve.operators import LinearMap, LinearOperator
from backsolve.operators.moves import Parts
from backsolve.sparse.operator import Sparse
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent_outputs
from backsolve.tracing.series import array

__all__ = ["SideBySide", "Steps", "bidiagonal_inverse", "parts_of"]

HELD = 4  # times the blocks are held while they are multiplied pairwise: those of all lengths, and both halves of a length


def bidiagonal_inverse(own: Sparse, steps: int, loop: str) -> LinearMap:
    """(I − own)⁻¹, for an ``own`` of so many blocks A, each a step below the diagonal, or each a step above.

    That is b ↦ the c with  cₜ = Aₜ cₜ₋₁ + bₜ  (or cₜ = Aₜ cₜ₊₁ + bₜ), for vectors of n numbers in a row.  Where every block
    is diagonal, diagonals are what is kept.  Messages call the loop ``loop``.
    Raises `PatternTooLargeError` where the blocks do not fit into memory.
    Cost: of depth 2 log₂ T; about 2 T products of blocks with each other, which for dense ones are n times those of a loop.
    Source: Blelloch, *Prefix Sums and Their Applications* (1990).
    """
    space = own.domain
    n = own.pattern.shape[0] // steps
    rows, cols = own.rows.astype(np.int64), own.cols % n
    if (rows % n == cols).all():
        values = own.values.spread(rows, steps * n)
        blocks = jnp.reshape(array(values.array(own.dtype)), (steps, n))
    else:
        _require_room(steps, n, own.dtype, loop)
        values = own.values.spread(rows * n + cols, steps * n * n)
        blocks = jnp.reshape(array(values.array(own.dtype)), (steps, n, n))
    work = 4.0 * float(np.prod(blocks.shape)) * (n if blocks.ndim == 3 else 1)
    backwards = bool((own.rows < own.cols).any())
    ways = (_backwards, _backwards_transposed) if backwards else (_forwards, _forwards_transposed)
    apply, transpose_apply = (Partial(way, blocks) for way in ways)  # type: ignore[no-untyped-call]  # pytrees of the blocks
    return LinearMap(apply, transpose_apply, space, space, "(I − A)⁻¹", work=work, lift=array)


def _require_room(steps: int, n: int, dtype: Any, loop: str) -> None:
    needed, limit = HELD * steps * n * n * np.dtype(dtype).itemsize, available_memory()
    if needed > limit:
        raise PatternTooLargeError(
            f"{loop}: its {steps:,} steps side by side are as many blocks of {n:,} × {n:,} numbers and need {needed:,} "
            f"bytes, but {limit:,} are available. Take loops='sequential', which multiplies with vectors alone."
        )


def _forwards(blocks: Any, x: Any) -> Any:
    return _scanned(blocks, x, backwards=False)


def _backwards(blocks: Any, x: Any) -> Any:
    return _scanned(blocks, x, backwards=True)


def _forwards_transposed(blocks: Any, x: Any) -> Any:
    return _backwards(_transposed(blocks, -1), x)


def _backwards_transposed(blocks: Any, x: Any) -> Any:
    return _forwards(_transposed(blocks, 1), x)


def _transposed(blocks: Any, steps: int) -> Any:
    """The blocks of the transpose, each where its own step begins."""
    blocks = jnp.roll(blocks, steps, axis=0)
    return jnp.swapaxes(blocks, 1, 2) if blocks.ndim == 3 else blocks


@partial(jax.jit, static_argnames="backwards", inline=True)  # by themselves its slices and products are a hundred programs
def _scanned(blocks: Any, x: Any, *, backwards: bool) -> Any:
    """The solution for blocks of shape (T, n, n), or (T, n) where each is diagonal; the first to act is not read."""
    b = jnp.reshape(x, blocks.shape[:2])
    _, c = lax.associative_scan(_joined, (blocks, b), reverse=backwards)
    return jnp.reshape(c, (-1,))


def _joined(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
    """Two stretches of a recurrence as one: c ↦ A₂ (A₁ c + b₁) + b₂."""
    (A1, b1), (A2, b2) = first, second
    if A1.ndim == b1.ndim:
        return A2 * A1, A2 * b1 + b2
    return A2 @ A1, jnp.einsum("...ij,...j->...i", A2, b1) + b2


# ---- what enters and leaves ----------------------------------------------------------------------------------------------
class SideBySide(NamedTuple):
    """A loop's matrix as  leaving ∘ inverse ∘ entering + direct,  between which lies what is carried after all steps.

    ``label`` is the name of that.
    """

    inverse: LinearOperator
    entering: LinearOperator
    leaving: LinearOperator
    direct: LinearOperator
    label: str

    def transpose(self) -> SideBySide:
        """That of the transposed loop: what left enters."""
        inverse, entering, leaving, direct = (op.transpose() for op in self[:4])
        return SideBySide(inverse, leaving, entering, direct, self.label)


class Steps:
    """A linear loop's body at all steps together, none of which knows of the one before.

    Vectors between steps hold what is carried and moves, step after step.
    """

    def __init__(
        self, body: Any, consts: int, moving: list[bool], active: list[bool], starts: list[bool], length: int, reverse: bool
    ) -> None:
        self.body, self.consts, self.length, self.reverse = body, consts, length, reverse
        self.moving, self.active = moving, active
        self.starts = [s for s, m in zip(starts, moving, strict=True) if m]  # of the carries that move
        self.axes = [None] * consts + [0] * (len(active) - consts)
        self.depends = dependent_outputs(body.jaxpr, active)
        outvars = body.jaxpr.outvars[: len(moving)]
        self.avals = [v.aval for v, m in zip(outvars, moving, strict=True) if m]

    def operator(self, way: str, values: list[Any], into: Any, out: Any) -> LinearMap:
        """One of the three ways as an operator, with these values of what does not move."""
        run = partial(_pushed, getattr(self, way), out)
        back = partial(_pulled_back, getattr(self, way), into, out)
        turns = self.length * sum(prod(v.aval.shape) for eqn in self.body.jaxpr.eqns for v in eqn.outvars)
        apply, transpose_apply = (Partial(f, values) for f in (run, back))  # type: ignore[no-untyped-call]
        return LinearMap(apply, transpose_apply, into, out, f"{way} steps", work=float(turns), lift=array)

    def entering(self, values: list[Any], given: list[Any]) -> list[Any]:
        """(constants, starts, slices) ↦ what is carried after a step that began with nothing, the first with its start."""
        return [self._packed(self._evaluated(values, *self._started(given))[: len(self.moving)])]

    def direct(self, values: list[Any], given: list[Any]) -> list[Any]:
        """The same to what leaves the loop."""
        return self._left(None, self._evaluated(values, *self._started(given)))

    def leaving(self, values: list[Any], given: list[Any]) -> list[Any]:
        """What is carried after the steps ↦ what leaves the loop."""
        (c,) = given
        c, before = _moved_on(c, self.length, self.reverse)
        after = self.consts + len(self.moving)
        consts, slices = self._nothing(0, self.consts), self._nothing(after, len(self.active))
        return self._left(self._unpacked(c), self._evaluated(values, consts, self._unpacked(before), slices))

    def _nothing(self, begin: int, end: int) -> list[Any]:
        """Zeros for the inputs of the body among these that move, of all steps."""
        avals = [v.aval for v, a in zip(self.body.jaxpr.invars[begin:end], self.active[begin:end], strict=True) if a]
        return [_zeros((self.length, *a.shape) if begin else a.shape, a.dtype) for a in avals]

    def _started(self, given: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """What enters the loop as constants, carries before all steps and slices."""
        fixed = sum(self.active[: self.consts])
        it = iter(given[fixed:])
        first = self.length - 1 if self.reverse else 0
        types = zip(self.avals, self.starts, strict=True)
        carries = [_at_one(next(it) if s else None, first, self.length, a.shape, a.dtype) for a, s in types]
        return given[:fixed], carries, list(it)

    def _evaluated(self, values: list[Any], consts: list[Any], carries: list[Any], slices: list[Any]) -> list[Any]:
        moving, known = iter([*consts, *carries, *slices]), iter(values)
        given = [next(moving) if a else next(known) for a in self.active]
        body = self.body
        return jax.vmap(lambda *xs: jx.evaluated(body, xs), self.axes, axis_size=self.length)(*given)

    def _packed(self, outputs: list[Any]) -> Any:
        return _side_by_side([y for y, m in zip(outputs, self.moving, strict=True) if m], self.length)

    def _unpacked(self, c: Any) -> list[Any]:
        ends = np.cumsum([prod(a.shape) for a in self.avals])[:-1].tolist()
        parts = zip(jnp.split(c, ends, axis=1), self.avals, strict=True)
        return [jnp.reshape(part, (self.length, *a.shape)).astype(a.dtype) for part, a in parts]

    def _left(self, after: list[Any] | None, outputs: list[Any]) -> list[Any]:
        """What leaves the loop: the last of the carries after the steps (None: of none), and what outputs depend."""
        it = iter([] if after is None else after)
        last = 0 if self.reverse else self.length - 1
        carries = [next(it)[last] if m and after is not None else None for m in self.moving]
        stacked = [y if d else None for y, d in zip(outputs, self.depends, strict=True)][len(self.moving) :]
        return [*carries, *stacked]


@partial(jax.jit, static_argnums=(1, 2), inline=True)
def _moved_on(c: Any, length: int, reverse: bool) -> tuple[Any, Any]:
    """What is carried after each of the steps, and before it, where nothing comes before the first."""
    c = jnp.reshape(c, (length, -1))
    nothing = jnp.zeros((1, c.shape[1]), c.dtype)
    return c, jnp.concatenate([c[1:], nothing] if reverse else [nothing, c[:-1]])


@partial(jax.jit, static_argnums=(1, 2, 3, 4), inline=True)
def _at_one(x: Any, first: int, length: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Zeros of all steps, with x (None: zeros too) at one."""
    zeros = jnp.zeros((length, *shape), dtype)
    return zeros if x is None else zeros.at[first].set(x)


@partial(jax.jit, static_argnums=1, inline=True)
def _side_by_side(arrays: list[Any], length: int) -> Any:
    """Arrays with an entry for each step, as one vector, step after step."""
    return jnp.reshape(jnp.concatenate([jnp.reshape(x, (length, -1)) for x in arrays], axis=1), (-1,))


def _zeros(shape: Any, dtype: Any) -> Any:
    return jx.zeros(jax.ShapeDtypeStruct(shape, dtype))  # type: ignore[no-untyped-call]


def _pushed(way: Any, out: Any, values: list[Any], x: Any) -> Any:
    """A way of a loop's steps, for the elements of spaces."""
    return _element(
        [_filled_in(y, part) for (_, part, _), y in zip(parts_of(out), way(values, _leaves(x)), strict=True)], out
    )


def _pulled_back(way: Any, into: Any, out: Any, values: list[Any], g: Any) -> Any:
    """Its transpose."""
    zeros = [_zeros(part.shape, part.dtype) for _, part, _ in parts_of(into)]
    primal, back = jax.vjp(partial(way, values), zeros)  # a branch under vmap holds what `linear_transpose` does not know
    given = zip(parts_of(out), _leaves(g), primal, strict=True)
    (cotangent,) = back([None if y is None else _filled_in(ct, part).astype(y.dtype) for (_, part, _), ct, y in given])
    return _element(cotangent, into)


def _leaves(x: Any) -> list[Any]:
    return list(x) if isinstance(x, Parts) else [x]


def _element(parts: Sequence[Any], space: Any) -> Any:
    return Parts(parts) if isinstance(space, TupleSpace) else parts[0]


def _filled_in(x: Any, space: ArraySpace) -> Any:
    return _zeros(space.shape, space.dtype) if x is None or is_zero(x) else x


def parts_of(space: Any) -> list[tuple[int, ArraySpace, int]]:
    """Number, space and first entry of each array among flat vectors."""
    parts = space.parts if isinstance(space, TupleSpace) else (space,)
    return [(k, part, sum(p.size for p in parts[:k])) for k, part in enumerate(parts)]
