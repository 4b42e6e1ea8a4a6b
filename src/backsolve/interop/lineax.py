"""lineax: sparse Jacobians as its operators, and sparse factors as its solver; by it optimistix and diffrax have both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx  # type: ignore[import-untyped]
import numpy as np

from backsolve.algebra.elements import SingularError, describe
from backsolve.capture.callback import on_host
from backsolve.capture.linearized import Leaves, flat
from backsolve.engines import ENGINES, TRACED, factored, require_package
from backsolve.engines.base import Factors
from backsolve.engines.blocks import block_factors, factors_of
from backsolve.engines.layout import Layout, Part
from backsolve.interop.vectors import jacobian_of
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.pattern import Pattern

__all__ = ["SparseLU", "SparseOperator", "operator"]

KEPT = 4  # factors, and layouts of patterns, that a solver remembers


# ---- operators --------------------------------------------------------------------------------------------------------
def operator(J: Any, output_structure: Any = None, tags: Any = ()) -> SparseOperator:
    """Return a sparse Jacobian as a lineax operator, whose only numbers are the matrix's non-zeros.

    J is a `SparseMatrix`, such as ``backsolve.jacobian(f, format="sparse")(x)`` returns of a function between arrays, and
    maps arrays of its domain to arrays of its codomain; or the pytree of them that it returns of a function between pytrees:
    then ``output_structure`` is needed, as in lineax's own ``PyTreeLinearOperator``: f(x), or what ``jax.eval_shape`` gives
    for it.  ``tags`` are lineax's, and not checked; that a matrix is diagonal, tridiagonal or triangular is seen without.
    Raises `TypeError` for what is no sparse matrix, `ValueError` where the matrices do not fit the output.
    Cost: none for one matrix; for a pytree, one pass over its entries.

    Example:
        >>> import backsolve, jax.numpy as jnp, lineax
        >>> from backsolve.interop.lineax import SparseLU, operator
        >>> J = backsolve.jacobian(lambda x: x**2 + x[::-1], format="sparse")(jnp.array([1.0, 2.0]))
        >>> lineax.linear_solve(operator(J), jnp.array([4.0, 9.0]), SparseLU()).value
        Array([1., 2.], dtype=float32)
    """
    if isinstance(J, SparseMatrix):
        _require_numbers(J)
        into, out = (jax.ShapeDtypeStruct(shape, J.dtype) for shape in (J.domain, J.codomain))  # type: ignore[no-untyped-call]
        _require_structure(output_structure, Leaves.of(out))
        return SparseOperator(J.pattern, jnp.asarray(J.data), Leaves.of(into), Leaves.of(out), _tags(tags))
    if not jax.tree_util.tree_leaves(J, is_leaf=_is_matrix) or not all(
        map(_is_matrix, jax.tree_util.tree_leaves(J, is_leaf=_is_matrix))
    ):
        raise TypeError(
            f"operator takes a SparseMatrix or a pytree of them, got {describe(J)}; backsolve.jacobian(f, format='sparse') "
            "returns one, SparseMatrix.from_entries makes one."
        )
    if output_structure is None:
        raise ValueError(
            "a pytree of matrices does not say which of its levels are the output's: pass output_structure, which is f(x) "
            "or jax.eval_shape(f, x)."
        )
    return _joined(J, Leaves.of(jax.eval_shape(lambda: output_structure)), _tags(tags))


def _joined(J: Any, outputs: Leaves, tags: frozenset[Any]) -> SparseOperator:
    """The operator of the matrices for each leaf of the output and the input."""
    structure = outputs.structure
    try:
        rows = structure.flatten_up_to(J)
    except ValueError as error:
        raise ValueError(f"the matrices do not fit an output of structure {structure}: {error}") from error
    flattened = [jax.tree_util.tree_flatten(row, is_leaf=_is_matrix) for row in rows]
    into: Any = flattened[0][1]
    if any(tree != into for _, tree in flattened):
        raise ValueError("the matrices of different outputs have inputs of different structures.")
    blocks = [row for row, _ in flattened]
    for k, (row, aval) in enumerate(zip(blocks, outputs.avals, strict=True)):
        for A, first in zip(row, blocks[0], strict=True):
            _require_numbers(A)
            if tuple(A.codomain) != tuple(aval.shape) or A.domain != first.domain:
                raise ValueError(
                    f"a matrix of output {k} maps shape {A.domain} to {A.codomain}, but the output has shape "
                    f"{tuple(aval.shape)} and the first output's matrix takes shape {first.domain}."
                )
    inputs = Leaves(into, [jax.ShapeDtypeStruct(A.domain, A.dtype) for A in blocks[0]])  # type: ignore[no-untyped-call]
    tops = np.cumsum([0, *(row[0].shape[0] for row in blocks)])
    lefts = np.cumsum([0, *(A.shape[1] for A in blocks[0])])
    placed = [
        (A.rows + np.int64(top), A.cols + np.int64(left), A.data)
        for row, top in zip(blocks, tops[:-1], strict=True)
        for A, left in zip(row, lefts[:-1], strict=True)
    ]
    at, under, numbers = zip(*placed, strict=True)
    shape = int(tops[-1]), int(lefts[-1])
    whole = SparseMatrix.from_entries(np.concatenate(at), np.concatenate(under), jnp.concatenate(numbers), shape)
    return SparseOperator(whole.pattern, whole.data, inputs, outputs, tags)


class SparseOperator(lx.AbstractLinearOperator):  # type: ignore[misc]
    """A sparse matrix between pytrees, as lineax has operators: ``data`` is its only leaf.  Made by `operator`."""

    pattern: Pattern = eqx.field(static=True)
    data: Any
    inputs: Leaves = eqx.field(static=True)
    outputs: Leaves = eqx.field(static=True)
    tags: frozenset[Any] = eqx.field(static=True)

    @property
    def matrix(self) -> SparseMatrix:
        """The matrix between the leaves as vectors, one after the other."""
        m, n = self.pattern.shape
        return SparseMatrix(self.pattern, self.data, (n,), (m,))

    def mv(self, vector: Any) -> Any:
        """The product with a pytree like the input.  Cost: one multiplication and addition an entry."""
        return self.outputs.tree_of(self.matrix @ flat(vector))

    def as_matrix(self) -> Any:
        """The dense matrix."""
        return self.matrix.todense()

    def transpose(self) -> SparseOperator:
        """The transposed operator; itself where it is tagged as symmetric."""
        if lx.is_symmetric(self):
            return self
        A = self.matrix.T
        return SparseOperator(A.pattern, A.data, self.outputs, self.inputs, lx.transpose_tags(self.tags))

    def in_structure(self) -> Any:
        """The input's structure."""
        return jax.tree_util.tree_unflatten(self.inputs.structure, self.inputs.avals)

    def out_structure(self) -> Any:
        """The output's structure."""
        return jax.tree_util.tree_unflatten(self.outputs.structure, self.outputs.avals)


def _is_matrix(x: Any) -> bool:
    return isinstance(x, SparseMatrix)


def _require_numbers(A: SparseMatrix) -> None:
    if np.shape(A.data) != (A.nnz,) or not jnp.issubdtype(A.dtype, jnp.inexact):
        raise TypeError(
            f"the matrices of an operator hold one real or complex number an entry, got data of shape {np.shape(A.data)} "
            f"and dtype {A.dtype}; inside jax.vmap a batch of matrices is one matrix."
        )


def _require_structure(given: Any, known: Leaves) -> None:
    if given is not None and Leaves.of(jax.eval_shape(lambda: given)).space != known.space:
        raise ValueError(f"output_structure is {given!r}, but the matrix maps to {known.space}.")


def _tags(tags: Any) -> frozenset[Any]:
    return frozenset(tags) if isinstance(tags, Iterable) else frozenset([tags])


@lx.linearise.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> SparseOperator:
    return operator


@lx.materialise.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> SparseOperator:
    return operator


@lx.conj.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> SparseOperator:
    return SparseOperator(operator.pattern, operator.data.conj(), operator.inputs, operator.outputs, operator.tags)


@lx.diagonal.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> Any:
    return operator.matrix.diagonal(0)


@lx.tridiagonal.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> tuple[Any, Any, Any]:
    return operator.matrix.diagonal(0), operator.matrix.diagonal(-1), operator.matrix.diagonal(1)


@lx.is_symmetric.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    definite = {lx.positive_semidefinite_tag, lx.negative_semidefinite_tag}
    real = not jnp.issubdtype(operator.data.dtype, jnp.complexfloating)
    return bool(
        lx.symmetric_tag in operator.tags
        or (real and definite & operator.tags)
        or (lx.is_diagonal(operator) and operator.inputs == operator.outputs)
    )


@lx.is_diagonal.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.diagonal_tag in operator.tags or _within(operator, 0, 0)


@lx.is_tridiagonal.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.tridiagonal_tag in operator.tags or lx.is_diagonal(operator) or _within(operator, -1, 1)


@lx.is_lower_triangular.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.lower_triangular_tag in operator.tags or _within(operator, -np.inf, 0)


@lx.is_upper_triangular.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.upper_triangular_tag in operator.tags or _within(operator, 0, np.inf)


@lx.has_unit_diagonal.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.unit_diagonal_tag in operator.tags


@lx.is_positive_semidefinite.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.positive_semidefinite_tag in operator.tags


@lx.is_negative_semidefinite.register(SparseOperator)  # type: ignore[untyped-decorator]
def _(operator: SparseOperator) -> bool:
    return lx.negative_semidefinite_tag in operator.tags


def _within(operator: SparseOperator, least: float, most: float) -> bool:
    """Whether a square matrix has entries between these diagonals only."""
    pattern = operator.pattern
    offset = pattern.cols.astype(np.int64) - pattern.rows
    return bool(pattern.shape[0] == pattern.shape[1] and ((least <= offset) & (offset <= most)).all())


# ---- the solver -------------------------------------------------------------------------------------------------------
class _Memory:
    """Layouts by pattern, and the factors made last.  Equal to any other one, since it changes no result."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._layouts: list[tuple[Pattern, Layout]] = []
        self._factors: list[tuple[Layout, str, Any, Factors]] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Memory)

    def __hash__(self) -> int:
        return hash(_Memory)

    def __reduce__(self) -> Any:
        return _Memory, ()

    def layout(self, pattern: Pattern) -> Layout:
        """The layout of a matrix with this pattern, the same one for equal patterns."""
        with self._lock:
            for known, layout in self._layouts:
                if known == pattern:
                    return layout
            part = Part("unknown", pattern.shape[0])
            layout = Layout((part._replace(label="equation"),), (part,), ((0, 0),), (pattern,))
            self._layouts = [(pattern, layout), *self._layouts][:KEPT]
            return layout

    def solve(self, pattern: Pattern, engine: str, numbers: Any, b: Any, way: str) -> Any:
        """The solution with a matrix of concrete numbers, factored unless it was just now."""
        layout = self.layout(pattern)
        with self._lock:  # factors are not made for two threads at once
            for known in self._factors:
                if known[0] is layout and known[1] == engine and np.array_equal(known[2], numbers):
                    break
            else:
                known = layout, engine, np.array(numbers), factored(layout, (numbers,), engine)
                self._factors = [known, *self._factors][:KEPT]
            return getattr(known[3], way)(b)


class _Plan(eqx.Module):
    """The static side of a solver's state: a pattern, the structures at both ends, and which form is solved with."""

    pattern: Pattern = eqx.field(static=True)
    inputs: Leaves = eqx.field(static=True)
    outputs: Leaves = eqx.field(static=True)
    transposed: bool = eqx.field(static=True)
    conjugated: bool = eqx.field(static=True)


class SparseLU(lx.AbstractLinearSolver):  # type: ignore[misc]
    """Sparse factors as a lineax solver, of any square operator whose matrix is sparse.

    The pattern is worked out while tracing: that of an `operator`, or of any other lineax operator, whose function is taken
    apart as `backsolve.jacobian` does it.  So it serves wherever a ``linear_solver`` is asked for:
    ``optimistix.Newton(rtol, atol, linear_solver=SparseLU())``, or, for diffrax's implicit solvers,
    ``diffrax.Kvaerno5(root_finder=diffrax.VeryChord(linear_solver=SparseLU()))``.  Works under ``jit``, ``vmap`` and
    ``grad``; the adjoint solves with the same factors.

    ``engine`` is "superlu", or SuiteSparse's "umfpack" or "klu": factors on the host, called back from compiled code; the
    state holds the matrix's numbers, and the last few factors are remembered, so that one factorization serves all solutions
    with these numbers.  Or "blocks": factors made by JAX, which are the state, for accelerators and batches of small
    systems.
    Where the matrix is singular the solution is NaN, of which lineax makes its own error.
    Raises `ValueError` for an unknown engine and where the operator is not square.
    Cost: tracing the operator; a sparse factorization for each new set of numbers, and two substitutions a solution.

    Example:
        >>> import jax.numpy as jnp, lineax
        >>> from backsolve.interop.lineax import SparseLU
        >>> matrix = lineax.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
        >>> lineax.linear_solve(matrix, jnp.array([3.0, 4.0]), SparseLU()).value
        Array([1., 1.], dtype=float32)
    """

    engine: str = eqx.field(static=True)
    memory: _Memory = eqx.field(static=True)

    def __init__(self, engine: str = "superlu") -> None:
        if engine not in ENGINES or engine == "cholmod":
            names = ", ".join(repr(name) for name in ENGINES if name != "cholmod")
            raise ValueError(f"unknown engine {engine!r}; use one of {names}.")
        require_package(engine)
        self.engine = engine
        self.memory = _Memory()

    def init(self, operator: Any, options: Any) -> Any:
        """The state: the matrix's numbers, or its factors."""
        matrix = _sparse(operator)
        m, n = matrix.pattern.shape
        if m != n:
            raise ValueError(f"SparseLU solves with square operators, but this one maps {n:,} numbers to {m:,}.")
        plan = _Plan(matrix.pattern, matrix.inputs, matrix.outputs, False, False)
        if self.engine not in TRACED:
            return plan, (matrix.data,)
        return plan, tuple(block_factors(self.memory.layout(matrix.pattern), (matrix.data,)).arrays)

    def compute(self, state: Any, vector: Any, options: Any) -> tuple[Any, Any, dict[str, Any]]:
        """The solution for one right-hand side."""
        plan, arrays = state
        b = plan.outputs.flat(plan.outputs.blocks(vector))
        x = self._solved(plan, arrays, b.conj() if plan.conjugated else b)
        return plan.inputs.tree_of(x.conj() if plan.conjugated else x), lx.RESULTS.successful, {}

    def _solved(self, plan: _Plan, arrays: Sequence[Any], b: Any) -> Any:
        way = "solve_transpose" if plan.transposed else "solve"
        if self.engine in TRACED:
            return getattr(factors_of(self.memory.layout(plan.pattern), arrays), way)(b)
        (data,) = arrays
        dtype = jnp.result_type(data, b)

        def solved(numbers: Any, b: Any) -> Any:
            try:
                return self.memory.solve(plan.pattern, self.engine, numbers, b, way)
            except SingularError:  # nothing can be raised from compiled code: lineax tells it by what is not finite
                return np.full(b.shape, np.nan)

        return on_host(solved, b.shape, dtype, data, b)

    def transpose(self, state: Any, options: Any) -> tuple[Any, dict[str, Any]]:
        """The state for the transposed operator, with the same factors."""
        plan, arrays = state
        turned = _Plan(plan.pattern, plan.outputs, plan.inputs, not plan.transposed, plan.conjugated)
        return (turned, arrays), {}

    def conj(self, state: Any, options: Any) -> tuple[Any, dict[str, Any]]:
        """The state for the conjugated operator, with the same factors."""
        plan, arrays = state
        other = _Plan(plan.pattern, plan.inputs, plan.outputs, plan.transposed, not plan.conjugated)
        return (other, arrays), {}

    def assume_full_rank(self) -> bool:
        """Always: a singular matrix has no solution here."""
        return True


def _sparse(operator: Any) -> SparseOperator:
    """Any operator of lineax as a sparse one."""
    if isinstance(operator, SparseOperator):
        return operator
    if isinstance(operator, lx.TaggedLinearOperator):
        return _sparse(operator.operator)
    inputs, outputs = (Leaves.of(ends()) for ends in (operator.in_structure, operator.out_structure))
    if isinstance(operator, lx.JacobianLinearOperator):
        at = flat(operator.x)
        A = jacobian_of(lambda x: flat(operator.fn(inputs.tree_of(x), operator.args)), at)
    else:
        dtype = jnp.result_type(*(aval.dtype for aval in inputs.avals))
        A = jacobian_of(lambda x: flat(operator.mv(inputs.tree_of(x))), jnp.zeros(operator.in_size(), dtype))
    return SparseOperator(A.pattern, A.data, inputs, outputs, frozenset())
