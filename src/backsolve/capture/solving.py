"""Solving with the Jacobian of a captured program: concrete values on the host, traced ones where they are.

Concrete arrays are factored by SuperLU, or by SuiteSparse.  Under ``jit``, ``vmap`` and ``grad`` the blocks are eliminated
by JAX itself, and the solution is differentiated as that of a linear system (`jax.lax.custom_linear_solve`), never through
the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import SingularError
from backsolve.capture.reals import from_pairs, in_pairs, is_complex_value
from backsolve.capture.sparse import sparse_edge
from backsolve.engines import ENGINES, FORMED, TRACED, require_package
from backsolve.operators import LinearOperator
from backsolve.sparse.operator import Sparse
from backsolve.system.bordered import Bordered, bordered
from backsolve.system.inverse import Inverse, require_square
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx

__all__ = ["bordered_system", "inverse_of", "is_concrete", "require_engine", "solved"]

KRYLOV = {"cg": "CG", "gmres": "GMRES", "bicgstab": "BiCGStab"}  # our names and lineax's
TOLERANCE = 1e-10  # of an iterative solution, relative
LOOSE = 100  # times the tolerance is what rounding may make of a residual that the iteration thinks it has reached
RESTART = 100  # directions that GMRES keeps
STEPS = 100  # and ten for each unknown, at most

RIGHT = "the right-hand side b", "the right-hand side g"  # of solve, of solve_transpose


def is_concrete(*trees: Any) -> bool:
    """Whether no leaf is traced."""
    return not any(jx.is_traced(leaf) for leaf in jax.tree_util.tree_leaves(trees))


def bordered_system(system: System, damping: Any = None, *, square: bool = True, formed: int = 0) -> Bordered:
    """The bordered matrix of a linearized function; on NumPy where all its values are concrete, so that nothing compiles.

    Raises `ValueError` where it would be one of pairs of real numbers: of complex unknowns, but not linear in them.
    """
    require_solvable(system, square=square)
    if system.over_reals is not system:
        inputs, outputs = (frame.avals for frame in (system.inputs, system.outputs))  # type: ignore[attr-defined]
        if any(map(is_complex_value, (*inputs, *outputs))):
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


def _edge(op: LinearOperator) -> Sparse | None:
    return sparse_edge(op)


def require_solvable(system: System, *, square: bool = True) -> None:
    """Raise `TypeError` where a leaf carries no derivatives, `ValueError` where the Jacobian is not square."""
    inputs: Any = system.inputs
    outputs: Any = system.outputs
    for what, frame in (("unknowns", inputs), ("outputs", outputs)):
        for i, aval in enumerate(frame.avals):
            if not jx.carries_derivatives(aval):
                raise TypeError(
                    f"leaf {i} of the {what} has dtype {aval.dtype}, along which nothing can be solved for; convert it "
                    "with .astype(float), or leave it out (argnums, has_aux)."
                )
    if not square:
        return
    shapes = [", ".join(str(tuple(a.shape)) for a in f.avals) for f in (outputs, inputs)]
    require_square(outputs.size, inputs.size, f" (outputs {shapes[0]}, unknowns {shapes[1]})")
    rows, cols = (sum(prod(a.shape) for a in f.avals if is_complex_value(a)) for f in (outputs, inputs))
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


def inverse_of(system: System, damping: Any, engine: str) -> Inverse:
    """The inverse of a linearized function's Jacobian (+ damping · I), factored."""
    if engine == "auto":
        engine = "superlu" if is_concrete(system.M, system.L, system.sinks, damping) else "blocks"
    return Inverse(bordered_system(system, damping, formed=FORMED.get(engine, 0)), engine)


def solved(system: System, outputs: Any, b: Any, damping: Any, engine: str, *, transposed: bool = False) -> Any:
    """The solution of J x + damping · x = b (or of Jᵀ), a pytree like the inputs (the outputs)."""
    require_solvable(system)
    require_engine(engine)
    inputs: Any = system.inputs
    before, after = (inputs, outputs) if transposed else (outputs, inputs)
    damping = _number(damping, inputs.avals)
    if system.over_reals is not system:
        return _solved_over_reals(system.over_reals, before, after, b, damping, engine, transposed)
    rhs = before.flat(before.blocks(b, RIGHT[transposed]))
    if not rhs.size:
        return after.unflat(rhs)
    concrete = is_concrete(system.M, system.L, system.sinks, damping, rhs)

    def product(x: Any) -> Any:
        change = outputs.flat(system.push(inputs.blocks(inputs.unflat(x))))
        return change if damping is None else change + damping * x

    def product_transposed(y: Any) -> Any:
        change = inputs.flat(system.pull(outputs.blocks(outputs.unflat(y))))
        return change if damping is None else change + damping * y

    forward, backward = (product_transposed, product) if transposed else (product, product_transposed)
    if concrete and engine not in KRYLOV:
        kept = system.factored(damping=damping, engine=engine)
        return after.unflat(jnp.asarray((kept.solve_transpose if transposed else kept.solve)(np.asarray(rhs))))
    dtype = jnp.result_type(rhs, *(a.dtype for a in inputs.avals))
    rhs = rhs.astype(dtype)
    if engine in KRYLOV and concrete:
        return after.unflat(_iterated(forward, rhs, engine))
    solve: Callable[[Any, Any], Any]
    solve_transpose: Callable[[Any, Any], Any]
    if engine in KRYLOV:
        solve = solve_transpose = lambda multiply, r: _iterated(multiply, r, engine)
    else:
        M, L, S = jax.tree_util.tree_map(_frozen, (system.M, system.L, system.sinks))
        fixed = System(M, L, S, None, inputs, outputs)
        matrix = bordered_system(fixed, None if damping is None else _frozen(damping), formed=FORMED.get(engine, 0))
        here = engine == "auto" or engine in TRACED
        inverse: Any = Inverse(matrix, "blocks") if here else _OnTheHost(matrix, dtype, engine)
        ways = inverse.solve, inverse.solve_transpose
        solve, solve_transpose = (_refined(way, int(here)) for way in (ways[::-1] if transposed else ways))
    x = jax.lax.custom_linear_solve(forward, rhs, solve=solve, transpose_solve=lambda _, r: solve_transpose(backward, r))
    return after.unflat(x)


def _solved_over_reals(whole: System, before: Any, after: Any, b: Any, damping: Any, engine: str, transposed: bool) -> Any:
    """The solution with a system over pairs of real numbers, for complex unknowns and outputs that these stand for."""
    if jnp.iscomplexobj(damping):
        raise TypeError(
            f"damping must be real where the function is not holomorphic (linear over the reals alone), got {damping!r}."
        )
    outputs: Any = whole.outputs
    inputs: Any = whole.inputs
    own, other = (inputs, outputs) if transposed else (outputs, inputs)
    given = [
        in_pairs(x, jx.space_of_aval(a), conjugated=transposed)
        for x, a in zip(before.blocks(b, RIGHT[transposed]), before.avals)
    ]
    found = solved(whole, outputs, own.tree(given), damping, engine, transposed=transposed)
    leaves = [from_pairs(x, jx.space_of_aval(a), conjugated=transposed) for x, a in zip(other.blocks(found), after.avals)]
    return after.tree(leaves)


def _number(damping: Any, avals: Sequence[Any]) -> Any:
    """The damping, a single real number (or a complex one, where all unknowns are); raises `TypeError` for anything else."""
    if damping is None:
        return None
    shape = getattr(damping, "shape", () if isinstance(damping, int | float | complex) else None)
    if shape != () or (jnp.iscomplexobj(damping) and not all(map(is_complex_value, avals))):
        raise TypeError(f"damping must be a single number, real where an unknown is, got {damping!r}.")
    return damping


def _refined(solve: Callable[[Any], Any], steps: int) -> Callable[[Any, Any], Any]:
    """A solution refined in so many steps."""

    def run(multiply: Callable[[Any], Any], r: Any) -> Any:
        x = solve(r).astype(r.dtype)
        for _ in range(steps):
            x = x + solve(r - multiply(x)).astype(r.dtype)
        return x

    return run


def _frozen(x: Any) -> Any:
    return jax.lax.stop_gradient(x) if isinstance(x, jax.Array) else x


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

        def on_host(numbers: Any, b: Any) -> Any:
            inverse = Inverse(replace(matrix, data=tuple(map(np.asarray, numbers))), self.engine)
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
    x = jnp.where(size == 0, 0, x)  # BiCGStab divides by it
    residual = jnp.linalg.norm(b - product(x))
    if is_concrete(residual) and not residual <= LOOSE * tolerance * size:
        raise SingularError(
            f"{KRYLOV[engine]} has left a residual of {float(residual / size):.1e} times the right-hand side. The Jacobian "
            "is singular or badly conditioned (or, for 'cg', not positive definite): pass damping, or take engine='auto'."
        )
    return jnp.where(residual <= LOOSE * tolerance * size, x, jnp.nan)  # under jit nothing can be raised
