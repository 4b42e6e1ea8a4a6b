"""The inverse of a captured program's Jacobian: what of it may be traced, and its derivatives.

Solutions and determinants are differentiated as such, never through the factors.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.engines import TRACED, factored
from backsolve.engines.layout import Layout
from backsolve.sparse.materialize import take
from backsolve.system.bordered import COLUMNS, Bordered, Inverse, placed
from backsolve.tracing import jaxpr as jx

__all__ = ["BlocksInverse", "HostInverse", "factored_inverse"]

REFINED = 1  # steps of refinement of a traced solution


def factored_inverse(matrix: Bordered, engine: str) -> Inverse:
    """Return the inverse by the engine of this name.

    Raises `TypeError` where the numbers are traced and the engine is one of the host.
    """
    if engine in TRACED:
        return BlocksInverse(matrix, engine)
    if any(map(jx.is_traced, matrix.data)):
        raise TypeError(
            f"engine {engine!r} factors concrete numbers, but the point is traced; under jit, vmap and grad take "
            "engine='blocks' (or 'auto'), or System.solve, which calls it back."
        )
    return HostInverse(matrix, engine)


class HostInverse(Inverse):
    """Factors of concrete numbers, for concrete right-hand sides."""

    def solve(self, b: Any) -> Any:
        self._require_concrete(b)
        return super().solve(b)

    def solve_transpose(self, g: Any) -> Any:
        self._require_concrete(g)
        return super().solve_transpose(g)

    def _require_concrete(self, b: Any) -> None:
        if jx.is_traced(b):
            raise TypeError(
                f"the factors of engine {self.engine!r} are on the host, but the right-hand side is traced; under jit, vmap "
                "and grad take factored(engine='blocks'), or System.solve, which calls back."
            )


class BlocksInverse(Inverse):
    """Factors in the library of the numbers, which may be traced: a pytree, under ``jit``, ``vmap`` and ``grad``."""

    def __init__(self, matrix: Bordered, engine: str) -> None:
        self.matrix = matrix
        self.engine = engine
        self.factors = factored(matrix.layout, tuple(map(_frozen, matrix.data)), engine)

    @property
    def _is_concrete(self) -> bool:
        return not any(map(jx.is_traced, self.matrix.data))

    def solve(self, b: Any) -> Any:
        if self._is_concrete and not jx.is_traced(b):
            return super().solve(b)
        return self._solved(b, transposed=False)

    def solve_transpose(self, g: Any) -> Any:
        if self._is_concrete and not jx.is_traced(g):
            return super().solve_transpose(g)
        return self._solved(g, transposed=True)

    def _solved(self, b: Any, *, transposed: bool) -> Any:
        matrix = self.matrix
        before, after = (matrix.into, matrix.out) if transposed else (matrix.out, matrix.into)
        numbers = matrix.layout.numbers(matrix.data)
        return take(_solution(self, numbers, placed(b, before, matrix.layout.size), transposed=transposed), after)

    def slogdet(self) -> tuple[Any, Any]:
        sign, size = super().slogdet()
        if self._is_concrete:
            return sign, size
        return sign, _log_size(self.matrix.layout, jnp.asarray(self.matrix.layout.numbers(self.matrix.data)), size)

    def diagonal(self) -> Any:
        if self._is_concrete:
            return super().diagonal()
        n = self.matrix.out.size
        return jax.lax.map(
            lambda k: self.solve((jnp.arange(n) == k).astype(self.dtype))[k], jnp.arange(n), batch_size=COLUMNS
        )


def _frozen(x: Any) -> Any:
    return jax.lax.stop_gradient(x) if isinstance(x, jax.Array) else x


def _solution(inverse: Any, numbers: Any, b: Any, *, transposed: bool) -> Any:
    """The solution with the whole matrix, of these numbers column by column, by the factors: with derivatives by both."""
    layout, factors = inverse.matrix.layout, inverse.factors
    numbers, b = jnp.asarray(numbers), jnp.asarray(b)
    dtype = jnp.result_type(numbers, b)
    numbers, b = numbers.astype(dtype), b.astype(dtype)
    row, col = layout.columns.indices, np.repeat(np.arange(layout.size), np.diff(layout.columns.indptr))

    def product(into: Any, out: Any, x: Any) -> Any:
        terms = numbers.reshape(-1, *(1,) * (x.ndim - 1)) * x[into]
        return jnp.zeros_like(x).at[out].add(terms)

    def refined(solve: Any, multiply: Any, r: Any) -> Any:
        x = solve(r).astype(r.dtype)
        for _ in range(REFINED):
            x = x + solve(r - multiply(x)).astype(r.dtype)
        return x

    ways = [(partial(product, col, row), factors.solve), (partial(product, row, col), factors.solve_transpose)]
    (multiply, solve), (multiply_transpose, solve_transpose) = ways[::-1] if transposed else ways
    return jax.lax.custom_linear_solve(
        multiply,
        b,
        solve=lambda multiply, r: refined(solve, multiply, r),
        transpose_solve=lambda _, r: refined(solve_transpose, multiply_transpose, r),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_size(layout: Layout, numbers: Any, size: Any) -> Any:
    """``size``, the logarithm of the size of the determinant of the matrix of these numbers, with its derivative."""
    return size


@_log_size.defjvp
def _log_size_changes(layout: Layout, primals: Any, tangents: Any) -> Any:
    """d log |det A| = tr A⁻¹ dA, of which the entries of A⁻¹ at the places of Aᵀ are needed.

    Cost: one factorization, 2 n substitutions.
    """
    numbers, size = primals
    entries = _entries_of_inverse(layout, numbers)
    return _log_size(layout, numbers, size), jnp.real(jnp.sum(entries * tangents[0])).astype(size.dtype)


def _entries_of_inverse(layout: Layout, numbers: Any) -> Any:
    """(A⁻¹)ⱼᵢ for every place (i, j) of A."""
    n, (indptr, row, order) = layout.size, layout.columns
    col = np.repeat(np.arange(n), np.diff(indptr))
    parts = jnp.split(take(numbers, np.argsort(order)), np.cumsum([p.nnz for p in layout.patterns])[:-1])
    whole = np.arange(n)
    made = BlocksInverse(Bordered(layout, whole, whole, tuple(parts)), "blocks")
    by_row = np.argsort(row, kind="stable")
    counts = np.bincount(row, minlength=n)
    number = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)  # of an entry in its row
    table = np.zeros((n, int(counts.max(initial=0))), np.int64)
    table[row[by_row], number] = col[by_row]

    def of_row(i: Any, cols: Any) -> Any:
        return _solution(made, numbers, (jnp.arange(n) == i).astype(numbers.dtype), transposed=False)[cols]

    found = jax.lax.map(lambda pair: of_row(*pair), (jnp.arange(n), jnp.asarray(table)), batch_size=COLUMNS)
    place = np.empty(row.size, np.int64)
    place[by_row] = row[by_row] * np.int64(table.shape[1]) + number
    return found.reshape(-1)[place]


class _Skeleton:
    """All of an inverse but its arrays; equal only to itself."""

    def __init__(self, inverse: BlocksInverse) -> None:
        self.layout, self.out, self.into = inverse.matrix.layout, inverse.matrix.out, inverse.matrix.into
        self.engine = inverse.engine
        self.factors: Any = inverse.factors


def _flatten(inverse: BlocksInverse) -> tuple[Any, Any]:
    skeleton = inverse.__dict__.setdefault("_skeleton", _Skeleton(inverse))
    return (inverse.matrix.data, inverse.factors.arrays), skeleton  # type: ignore[attr-defined]


def _unflatten(skeleton: _Skeleton, children: Any) -> BlocksInverse:
    data, arrays = children
    made = object.__new__(BlocksInverse)
    made.matrix = Bordered(skeleton.layout, skeleton.out, skeleton.into, data)
    made.engine, made.factors = skeleton.engine, skeleton.factors.with_arrays(arrays)
    made.__dict__["_skeleton"] = skeleton
    return made


def _refused(inverse: Any, *_: Any) -> Any:
    raise TypeError(
        f"the factors of engine {inverse.engine!r} are on the host and cannot be an argument of jit, vmap or grad; take "
        "factored(engine='blocks')."
    )


jax.tree_util.register_pytree_node(BlocksInverse, _flatten, _unflatten)
# JAX would take the others for arrays, as they have a shape and a dtype.  What is never flattened is never put together.
jax.tree_util.register_pytree_node(Inverse, _refused, _refused)
jax.tree_util.register_pytree_node(HostInverse, _refused, _refused)
