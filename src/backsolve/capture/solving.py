"""Solving with the Jacobian of a captured program, and its factored inverse: concrete values on the host, others in JAX.

Concrete arrays are factored by SuperLU, or by SuiteSparse.  Under ``jit``, ``vmap`` and ``grad`` the blocks are eliminated
by JAX itself, and the solution is differentiated as that of a linear system (`jax.lax.custom_linear_solve`), never through
the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import SingularError
from backsolve.algebra.spaces import Space, is_complex
from backsolve.capture.bicgstab import bicgstab
from backsolve.capture.callback import on_host
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.recurrence import recurrence
from backsolve.capture.sparse import sparse_edge
from backsolve.capture.walk import one_way
from backsolve.elimination.sparse_edges import Recurrence
from backsolve.engines import ENGINES, FORMED, TRACED, factored, require_package
from backsolve.engines.layout import Layout
from backsolve.operators import LinearOperator
from backsolve.sparse.materialize import take
from backsolve.sparse.operator import Sparse
from backsolve.sparse.pattern import Pattern
from backsolve.system.bordered import COLUMNS, Bordered, Inverse, bordered, placed, require_square
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing import layouts
from backsolve.tracing.series import array, layout_of

__all__ = [
    "BlocksInverse",
    "HostInverse",
    "bordered_system",
    "inverse_of",
    "is_concrete",
    "require_engine",
    "require_number",
    "require_solvable",
    "solution",
]

KRYLOV = {"cg": "CG", "gmres": "GMRES", "bicgstab": "BiCGStab"}  # our names and theirs, the first two lineax's
TOLERANCE = 1e-10  # of an iterative solution, relative
LOOSE = 100  # times the tolerance is what rounding may make of a residual that the iteration thinks it has reached
RESTART = 100  # directions that GMRES keeps
STEPS = 100  # and ten for each unknown, at most
REFINED = 1  # steps of refinement of a traced solution

Product = Callable[[Any], Any]  # of a matrix with a flat vector


def is_concrete(*trees: Any) -> bool:
    """Whether no leaf is traced."""
    return not any(jx.is_traced(leaf) for leaf in jax.tree_util.tree_leaves(trees))


def bordered_system(system: System, damping: Any = None, *, square: bool = True, formed: int = 0) -> Bordered:
    """The bordered matrix of a linearized function; on NumPy where all its values are concrete, so that nothing compiles.

    Raises `ValueError` where it would be one of pairs of real numbers: of complex unknowns, but not linear in them.
    """
    require_solvable(system, square=square)
    if system.over_reals is not system:
        if any(map(is_complex, (*system.M.col_spaces, *system.sinks.row_spaces))):
            raise ValueError(
                "the function is not holomorphic: its derivative is linear over the reals alone and has no complex matrix. "
                "Take real and imaginary parts as unknowns and as outputs, or solve with solve_jacobian."
            )
        system = system.over_reals
    parts = system.M, system.L, system.sinks
    if is_concrete(parts, damping):
        parts = jax.tree_util.tree_map(np.asarray, parts)
    M, L, S = parts
    return bordered(M, L, S, _edge, damping=damping, formed=formed)


def _edge(op: LinearOperator) -> Sparse | Pattern | Recurrence | None:
    """An edge of a matrix to solve with: as `sparse_edge` has it, a loop taken apart where that is smaller."""
    apart = recurrence(op, sparse_edge) if isinstance(op, LinearEquation) else None
    return sparse_edge(op) if apart is None else apart


def require_solvable(system: System, *, square: bool = True) -> None:
    """Raise `TypeError` where a leaf carries no derivatives, `ValueError` where the Jacobian is not square, or of no one."""
    outputs: Sequence[Any] = system.sinks.row_spaces
    inputs: Sequence[Any] = system.M.col_spaces
    one_way("solve", system.M, system.L)
    for what, spaces in (("unknowns", inputs), ("outputs", outputs)):
        for i, space in enumerate(spaces):
            if not jx.carries_derivatives(space):
                raise TypeError(
                    f"leaf {i} of the {what} has dtype {space.dtype}, along which nothing can be solved for; convert it "
                    "with .astype(float), or leave it out (argnums, has_aux)."
                )
    if not square:
        return
    shapes = [", ".join(str(space.shape) for space in side) for side in (outputs, inputs)]
    rows, cols = (sum(space.size for space in side) for side in (outputs, inputs))
    require_square(rows, cols, f" (outputs {shapes[0]}, unknowns {shapes[1]})")
    rows, cols = (sum(space.size for space in side if is_complex(space)) for side in (outputs, inputs))
    if rows != cols:
        raise ValueError(
            f"{rows:,} outputs and {cols:,} unknowns are complex: over the reals the Jacobian is not square. Take real and "
            "imaginary parts as outputs or as unknowns."
        )


def require_engine(engine: str) -> None:
    """Raise `ValueError` for an unknown name, `ImportError` where what is behind it is not installed."""
    if engine not in {"auto", *ENGINES, *KRYLOV}:
        raise ValueError(f"unknown engine {engine!r}; use one of {', '.join(map(repr, ('auto', *ENGINES, *KRYLOV)))}.")
    require_package(engine)


def require_number(damping: Any, unknowns: Sequence[Space]) -> None:
    """Raise `TypeError` where damping is no single real number (nor a complex one, where all unknowns are); None is none."""
    if damping is None:
        return
    shape = getattr(damping, "shape", () if isinstance(damping, int | float | complex) else None)
    if shape != () or (jnp.iscomplexobj(damping) and not all(map(is_complex, unknowns))):
        raise TypeError(f"damping must be a single number, real where an unknown is, got {damping!r}.")


def inverse_of(system: System, damping: Any, engine: str) -> Inverse:
    """The inverse of a linearized function's Jacobian (+ damping · I), factored."""
    if engine == "auto":
        engine = "superlu" if is_concrete(system.M, system.L, system.sinks, damping) else "blocks"
    return factored_inverse(bordered_system(system, damping, formed=FORMED.get(engine, 0)), engine)


def solution(
    system: System, products: tuple[Product, Product], b: Any, damping: Any, engine: str, *, transposed: bool
) -> Any:
    """The flat x with A x = b, A = J + damping · I (or Jᵀ + …) of a system without pairs of reals to take.

    ``products`` are those with A and with Aᵀ.
    """
    if not b.size:
        return b
    inverse: Any
    concrete = is_concrete(system.M, system.L, system.sinks, damping, b)
    if concrete and engine not in KRYLOV:
        inverse = system.factored(damping=damping, engine=engine)
        return array((inverse.solve_transpose if transposed else inverse.solve)(np.asarray(b)))
    dtype = jnp.result_type(b, *(space.dtype for space in system.M.col_spaces))  # type: ignore[union-attr]
    b = layouts.whole(b.astype(dtype))  # the iterations of lineax keep to no layout, nor does elimination
    products = _beside(products[0], b), _beside(products[1], b)
    solvers: list[Callable[[Product, Any], Any]]
    if engine in KRYLOV:
        if concrete:
            return _iterated(products[0], b, engine)
        solvers = [lambda product, r: _iterated(product, r, engine)] * 2
    else:
        M, L, S = jax.tree_util.tree_map(_frozen, (system.M, system.L, system.sinks))
        matrix = bordered_system(System(M, L, S), _frozen(damping), formed=FORMED.get(engine, 0))
        here = engine == "auto" or engine in TRACED
        inverse = Inverse(matrix, "blocks") if here else _OnTheHost(matrix, dtype, engine)
        solvers = [_refined(solve, int(here)) for solve in (inverse.solve, inverse.solve_transpose)]
    solve, solve_transpose = solvers[::-1] if transposed else solvers
    return jax.lax.custom_linear_solve(
        products[0], b, solve=solve, transpose_solve=lambda _, r: solve_transpose(products[1], r)
    )


def _refined(solve: Product, steps: int) -> Callable[[Product, Any], Any]:
    """A solution refined in so many steps."""

    def run(multiply: Product, r: Any) -> Any:
        x = solve(r).astype(r.dtype)
        for _ in range(steps):
            x = x + solve(r - multiply(x)).astype(r.dtype)
        return x

    return run


def _beside(product: Product, b: Any) -> Product:
    """A product whose result lies as the right-hand side does, where its type says how."""
    layout = layout_of(jx.type_of(b))
    return product if layout is None else lambda x: layouts.settle(product(x), layout, b)


def _frozen(x: Any) -> Any:
    return layouts.whole(jax.lax.stop_gradient(x)) if isinstance(x, jax.Array) else x


class _OnTheHost:
    """Both solutions, refined, called back from compiled code with the numbers of the moment."""

    def __init__(self, matrix: Bordered, dtype: Any, engine: str) -> None:
        self.matrix = matrix
        self.dtype = dtype
        self.engine = engine

    def solve(self, b: Any) -> Any:
        return self._called("solve", b)

    def solve_transpose(self, g: Any) -> Any:
        return self._called("solve_transpose", g)

    def _called(self, way: str, b: Any) -> Any:
        matrix = self.matrix

        def solved(*given: Any) -> Any:
            *numbers, b = given
            return getattr(Inverse(replace(matrix, data=tuple(numbers)), self.engine), way)(b)

        return on_host(solved, b.shape, self.dtype, *matrix.data, b)


def _iterated(product: Product, b: Any, engine: str) -> Any:
    tolerance = max(TOLERANCE, 10 * float(np.finfo(b.dtype).eps))
    steps = STEPS + 10 * b.size
    with layouts.context_of(b):
        x = (
            bicgstab(product, b, tolerance, steps)
            if engine == "bicgstab"
            else _by_lineax(product, b, engine, tolerance, steps)
        )
    size = jnp.linalg.norm(b)
    residual = jnp.linalg.norm(b - product(x))
    if is_concrete(residual) and not residual <= LOOSE * tolerance * size:
        raise SingularError(
            f"{KRYLOV[engine]} has left a residual of {float(residual / size):.1e} times the right-hand side. The Jacobian "
            "is singular or badly conditioned (or, for 'cg', not positive definite): pass damping, or take engine='auto'."
        )
    return jnp.where(residual <= LOOSE * tolerance * size, x, jnp.nan)  # under jit nothing can be raised


def _by_lineax(product: Product, b: Any, engine: str, tolerance: float, steps: int) -> Any:
    try:
        import lineax as lx  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"engine={engine!r} needs lineax: pip install lineax; or take engine='bicgstab'.") from error
    if engine == "gmres" and layout_of(jx.type_of(b)) is not None:
        raise TypeError(
            "GMRES stacks its directions, which arrays over explicit axes of a mesh do not let it: take engine='bicgstab' "
            "('cg' where the Jacobian is positive definite), or automatic axes (jax.sharding.AxisType.Auto)."
        )
    tags = lx.positive_semidefinite_tag if engine == "cg" else ()
    operator = lx.FunctionLinearOperator(product, jax.eval_shape(lambda b: b, b), tags)
    more = {"restart": min(b.size, RESTART)} if engine == "gmres" else {}
    solver = getattr(lx, KRYLOV[engine])(rtol=tolerance, atol=0.0, max_steps=steps, **more)
    return lx.linear_solve(operator, b, solver, throw=False).value


# ---- the inverse, kept ------------------------------------------------------------------------------------------------
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


def _solution(inverse: Any, numbers: Any, b: Any, *, transposed: bool) -> Any:
    """The solution with the whole matrix, of these numbers column by column, by the factors: with derivatives by both."""
    layout, factors = inverse.matrix.layout, inverse.factors
    numbers, b = array(numbers), array(b)
    dtype = jnp.result_type(numbers, b)
    numbers, b = numbers.astype(dtype), b.astype(dtype)
    row, col = layout.columns.indices, np.repeat(np.arange(layout.size), np.diff(layout.columns.indptr))

    def product(into: Any, out: Any, x: Any) -> Any:
        terms = numbers.reshape(-1, *(1,) * (x.ndim - 1)) * x[into]
        return jnp.zeros_like(x).at[out].add(terms)

    ways = [(partial(product, col, row), factors.solve), (partial(product, row, col), factors.solve_transpose)]
    (multiply, solve), (multiply_transpose, solve_transpose) = ways[::-1] if transposed else ways
    return jax.lax.custom_linear_solve(
        multiply,
        b,
        solve=_refined(solve, REFINED),
        transpose_solve=lambda _, r: _refined(solve_transpose, REFINED)(multiply_transpose, r),
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
    inverse = BlocksInverse(Bordered(layout, whole, whole, tuple(parts)), "blocks")
    by_row = np.argsort(row, kind="stable")
    counts = np.bincount(row, minlength=n)
    number = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)  # of an entry in its row
    table = np.zeros((n, int(counts.max(initial=0))), np.int64)
    table[row[by_row], number] = col[by_row]

    def of_row(i: Any, cols: Any) -> Any:
        return _solution(inverse, numbers, (jnp.arange(n) == i).astype(numbers.dtype), transposed=False)[cols]

    entries = jax.lax.map(lambda pair: of_row(*pair), (jnp.arange(n), jnp.asarray(table)), batch_size=COLUMNS)
    place = np.empty(row.size, np.int64)
    place[by_row] = row[by_row] * np.int64(table.shape[1]) + number
    return entries.reshape(-1)[place]


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
    inverse = object.__new__(BlocksInverse)
    inverse.matrix = Bordered(skeleton.layout, skeleton.out, skeleton.into, data)
    inverse.engine, inverse.factors = skeleton.engine, skeleton.factors.with_arrays(arrays)
    inverse.__dict__["_skeleton"] = skeleton
    return inverse


def _refused(inverse: Any, *_: Any) -> Any:
    raise TypeError(
        f"the factors of engine {inverse.engine!r} are on the host and cannot be an argument of jit, vmap or grad; take "
        "factored(engine='blocks')."
    )


jax.tree_util.register_pytree_node(BlocksInverse, _flatten, _unflatten)
# JAX would take the others for arrays, as they have a shape and a dtype.  What is never flattened is never put together.
jax.tree_util.register_pytree_node(Inverse, _refused, _refused)
jax.tree_util.register_pytree_node(HostInverse, _refused, _refused)
