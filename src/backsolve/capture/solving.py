"""Solving with the Jacobian of a captured program: concrete values on the host, traced ones where they are.

Concrete arrays are factored by SuperLU.  Under ``jit``, ``vmap`` and ``grad`` the blocks are eliminated by JAX itself, and
the solution is differentiated as that of a linear system (`jax.lax.custom_linear_solve`), never through the factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..algebra import SingularError
from ..bordered import Bordered, bordered
from ..engines import ENGINES
from ..inverse import Inverse, require_square
from ..operators import LinearOperator
from ..operators.sparse import Sparse
from ..system import System
from . import jaxpr as jx
from .sparse_edges import sparse_edge

if TYPE_CHECKING:
    from .frames import TreeFrame

__all__ = ["bordered_system", "inverse_of", "is_concrete", "solved"]

KRYLOV = {"cg": "CG", "gmres": "GMRES", "bicgstab": "BiCGStab"}  # our names and lineax's
TOLERANCE = 1e-10  # of an iterative solution, relative
LOOSE = 100  # times the tolerance is what rounding may make of a residual that the iteration thinks it has reached
RESTART = 100  # directions that GMRES keeps
STEPS = 100  # and ten for each unknown, at most


def is_concrete(*trees: Any) -> bool:
    """Whether no leaf is traced."""
    return not any(jx.is_traced(leaf) for leaf in jax.tree_util.tree_leaves(trees))


def bordered_system(system: System, damping: Any = None, *, square: bool = True, formed: int = 0) -> Bordered:
    """The bordered matrix of a linearized function; on NumPy where all its values are concrete, so that nothing compiles."""
    require_solvable(system, square=square)
    parts = system.M, system.L, system.sinks
    if is_concrete(parts, damping):
        parts = jax.tree_util.tree_map(np.asarray, parts)
    M, L, S = parts
    return bordered(M, L, S, _edge, damping=damping, formed=formed)


def _edge(op: LinearOperator) -> Sparse | None:
    return sparse_edge(op)


def require_solvable(system: System, *, square: bool = True) -> None:
    """Raise `TypeError` where an unknown carries no derivatives, `ValueError` where the Jacobian is not square."""
    inputs, outputs = system.inputs, system.outputs
    for i, aval in enumerate(inputs.avals):  # type: ignore[attr-defined]
        if not jx.carries_derivatives(aval):
            raise TypeError(
                f"leaf {i} of the unknowns has dtype {aval.dtype}, along which nothing can be solved for; convert it with "
                ".astype(float), or choose other argnums."
            )
    if not square:
        return
    shapes = [", ".join(str(tuple(a.shape)) for a in f.avals) for f in (outputs, inputs)]  # type: ignore[attr-defined]
    require_square(outputs.size, inputs.size, f" (outputs {shapes[0]}, unknowns {shapes[1]})")  # type: ignore[attr-defined]


def inverse_of(system: System, damping: Any, engine: str) -> Inverse:
    """The inverse of a linearized function's Jacobian (+ damping · I), factored."""
    if engine == "auto":
        engine = "superlu" if is_concrete(system.M, system.L, system.sinks, damping) else "blocks"
    return Inverse(bordered_system(system, damping), engine)


def solved(system: System, outputs: TreeFrame, b: Any, damping: Any, engine: str, *, transposed: bool = False) -> Any:
    """The solution of J x + damping · x = b (or of Jᵀ), a pytree like the inputs (the outputs)."""
    require_solvable(system)
    if engine not in {"auto", *ENGINES, *KRYLOV}:
        raise ValueError(f"unknown engine {engine!r}; use one of {', '.join(map(repr, ('auto', *ENGINES, *KRYLOV)))}.")
    inputs: Any = system.inputs
    before, after = (inputs, outputs) if transposed else (outputs, inputs)
    rhs = before.flat(before.blocks(b))
    concrete = is_concrete(system.M, system.L, system.sinks, damping, rhs)
    if concrete and engine not in KRYLOV:
        kept = system.factored(damping=damping, engine=engine)
        solve = kept.solve_transpose if transposed else kept.solve
        return after.unflat(jnp.asarray(solve(np.asarray(rhs))))

    def product(x: Any) -> Any:
        change = outputs.flat(system.push(inputs.blocks(inputs.unflat(x))))
        return change if damping is None else change + damping * x

    def product_transposed(y: Any) -> Any:
        change = inputs.flat(system.pull(outputs.blocks(outputs.unflat(y))))
        return change if damping is None else change + damping * y

    forward, backward = (product_transposed, product) if transposed else (product, product_transposed)
    dtype = jnp.result_type(rhs, *(a.dtype for a in inputs.avals))
    rhs = rhs.astype(dtype)
    if engine in KRYLOV:
        return after.unflat(_iterated(forward, rhs, engine))
    M, L, S = jax.tree_util.tree_map(_frozen, (system.M, system.L, system.sinks))
    frozen = System(M, L, S, None, inputs, outputs)
    damping = None if damping is None else _frozen(damping)
    matrix = bordered_system(frozen, damping)
    inverse: Any = _OnTheHost(matrix, dtype) if engine == "superlu" else Inverse(matrix, "blocks")
    ways = inverse.solve, inverse.solve_transpose
    solve, solve_transpose = ways[::-1] if transposed else ways

    def refined(solve: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def run(multiply: Any, r: Any) -> Any:
            x = solve(r)
            return x + solve(r - multiply(x))

        return run

    x = jax.lax.custom_linear_solve(
        forward, rhs, solve=refined(solve), transpose_solve=lambda _, r: refined(solve_transpose)(backward, r)
    )
    return after.unflat(x)


def _frozen(x: Any) -> Any:
    return jax.lax.stop_gradient(x) if isinstance(x, jax.Array) else x


class _OnTheHost:
    """Both solutions by SuperLU, called back from compiled code with the numbers of the moment."""

    def __init__(self, matrix: Bordered, dtype: Any) -> None:
        self.matrix = matrix
        self.dtype = dtype

    def solve(self, b: Any) -> Any:
        return self._called("solve", b)

    def solve_transpose(self, g: Any) -> Any:
        return self._called("solve_transpose", g)

    def _called(self, way: str, b: Any) -> Any:
        matrix = self.matrix

        def on_host(numbers: Any, b: Any) -> Any:
            inverse = Inverse(replace(matrix, data=tuple(map(np.asarray, numbers))), "superlu")
            return np.asarray(getattr(inverse, way)(np.asarray(b)), self.dtype)

        result = jax.ShapeDtypeStruct(b.shape, self.dtype)  # type: ignore[no-untyped-call]
        return jax.pure_callback(on_host, result, matrix.data, b, vmap_method="sequential")


def _iterated(product: Callable[[Any], Any], b: Any, engine: str) -> Any:
    try:
        import lineax as lx  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f"engine={engine!r} needs lineax: pip install lineax; or take engine='auto'.") from error
    tags = lx.positive_semidefinite_tag if engine == "cg" else ()
    like = jax.ShapeDtypeStruct(b.shape, b.dtype)  # type: ignore[no-untyped-call]
    operator = lx.FunctionLinearOperator(product, like, tags)
    tolerance = max(TOLERANCE, 10 * float(np.finfo(b.dtype).eps))
    more = {"restart": min(b.size, RESTART)} if engine == "gmres" else {}
    solver = getattr(lx, KRYLOV[engine])(rtol=tolerance, atol=0.0, max_steps=STEPS + 10 * b.size, **more)
    x = lx.linear_solve(operator, b, solver, throw=False).value
    size = jnp.linalg.norm(b)
    residual = jnp.linalg.norm(b - product(x))
    if is_concrete(residual) and not residual <= LOOSE * tolerance * size:
        raise SingularError(
            f"{KRYLOV[engine]} has left a residual of {float(residual / size):.1e} times the right-hand side. The Jacobian "
            "is singular or badly conditioned (or, for 'cg', not positive definite): pass damping, or take engine='auto'."
        )
    return jnp.where(residual <= LOOSE * tolerance * size, x, jnp.nan)  # under jit nothing can be raised
