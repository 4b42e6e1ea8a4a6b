"""A linearized function: traced and evaluated once, a system that speaks the pytrees of its arguments and output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import is_zero, short
from backsolve.algebra.spaces import TupleSpace, is_complex, space_of
from backsolve.capture.names import Point
from backsolve.capture.opaque import LinearEquation
from backsolve.capture.reals import as_operators, as_pairs, from_pairs, in_pairs, joined_array, needs_reals, pairs
from backsolve.capture.recurrence import NARROW, unfolded
from backsolve.capture.solving import inverse_of, is_concrete, require_engine, require_number, require_solvable, solution
from backsolve.capture.sparse import sparse_edge, sparse_jacobian
from backsolve.capture.substitution import by_columns, by_rows
from backsolve.capture.walk import Program, one_way, walk
from backsolve.elimination.borders import LinearizedGraph
from backsolve.elimination.masks import masks_joined
from backsolve.matrices.vector import BlockVector
from backsolve.operators import O
from backsolve.operators.closed_form import first_of, result_array
from backsolve.operators.flat import dtype_of, image_of
from backsolve.operators.moves import flattened, unflattened
from backsolve.planning.costs import Sharing
from backsolve.planning.plan import Choice, Plan
from backsolve.system.bordered import Inverse
from backsolve.system.system import FORMATS, Plans, System, check_chunk, check_loops
from backsolve.tracing import jaxpr as jx
from backsolve.tracing import layouts
from backsolve.tracing.derivative import linearized
from backsolve.tracing.series import array, beside, held_by, is_foreign, layout_of

__all__ = [
    "Leaves",
    "Linearized",
    "Traced",
    "flat",
    "linearize",
    "linearize_with_aux",
    "name_of",
    "normalized_argnums",
    "traced",
]


class Leaves:
    """The leaves of a pytree, of these types; those of integers and booleans carry no derivatives (dtype float0).

    Equal where structure, shapes and dtypes are: static data of a system that crosses ``jit``.  ``held`` says of concrete
    leaves on several devices where they lie.
    """

    def __init__(
        self, structure: Any, avals: Iterable[Any], what: str = "the values", held: Sequence[Any] | None = None
    ) -> None:
        self.structure = structure
        self.avals = tuple(avals)
        self.what = what
        self.held = held
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
            leaf = array(leaf)  # double precision is single where JAX has none
        if leaf.dtype != aval.dtype:
            raise TypeError(
                f"{what}: dtype {leaf.dtype} does not match the leaf's dtype {aval.dtype}; convert it with .astype."
            )
        return leaf if isinstance(leaf, jax.Array) else array(leaf)

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

    def brought(self, tree: Any) -> Any:
        """A pytree like this one, its arrays where the leaves lie."""
        arrays = zip(self.structure.flatten_up_to(tree), self.avals, self.held or [None] * len(self.avals), strict=True)
        return jx.unflatten(self.structure, [_brought(*pair) for pair in arrays])

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


def _brought(x: Any, like: Any, held: Any) -> Any:
    """An array where one of the type ``like`` lies, which ``held``, from `held_by`, says of a concrete one."""
    if held is not None and not jx.is_traced(x):
        return jax.device_put(x, held)
    layout = layout_of(like)
    return x if layout is None or not jx.is_traced(x) else layouts.settle(x, layout)


def flat(tree: Any, dtype: Any = None) -> Any:
    """The leaves of any pytree as one vector, one after the other, of at least this dtype (None: JAX's own)."""
    leaves = (jnp.zeros(0, dtype), *map(array, jax.tree_util.tree_leaves(tree)))
    return flattened(leaves, space_of(leaves))


@dataclass(frozen=True, eq=False, repr=False)
class Linearized(System):
    """The system of a function at a point: what `System` does with vectors of blocks, with pytrees like argument and output.

    Jacobians are arrays where no other format is asked for.  Where an edge is linear over the reals alone, Jacobians and
    solutions come from the system over pairs of real numbers.
    """

    inputs: Leaves = field(kw_only=True)
    outputs: Leaves = field(kw_only=True)

    default_format: ClassVar[str] = "array"

    @property
    def leaf_names(self) -> tuple[list[str], list[str]]:
        """What the leaves of the output and of the arguments are called; those of a gradient as what it is by."""
        columns = [f"p{j}" for j in range(len(self.inputs.avals))] if self.point is None else list(self.point.names)
        if len(self.outputs.avals) == len(columns) and self.outputs == self.inputs:
            return columns, columns
        tree = jx.unflatten(self.outputs.structure, self.outputs.avals)
        return [f"output{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(tree)], columns

    def vjp(self, g: Any) -> Any:
        with self._beside:
            return self.inputs.tree(self.pull(self.outputs.blocks(g)))

    def jvp(self, t: Any) -> Any:
        with self._beside:
            return self.outputs.tree(self.push(self.inputs.blocks(t)))

    @property
    def _beside(self) -> Any:
        """A context in which numbers are made where concrete values lie."""
        return beside(jax.tree_util.tree_leaves(self.value))

    @cached_property
    def over_reals(self) -> Linearized:
        spaces = (*self.M.col_spaces, *self.L.row_spaces, *self.sinks.row_spaces)
        if not any(map(is_complex, spaces)) or not needs_reals(self):
            return self
        # Kept with the system, so nothing here may belong to a trace that only this call is in.
        with jax.ensure_compile_time_eval() if is_concrete(self.M, self.L, self.sinks) else nullcontext():
            M, L, S = map(as_pairs, (self.M, self.L, self.sinks))
        return Linearized(M, L, S, inputs=self.inputs.in_pairs, outputs=self.outputs.in_pairs)

    @property
    def shared(self) -> Sharing | None:
        return (lambda x: not jx.is_traced(x)) if jx.is_batching() else None

    # ---- Jacobians ---------------------------------------------------------------------------------------------------
    def jacobian(
        self, order: Any = "auto", *, format: str | None = None, plans: Plans | None = None, chunk: int | None = None
    ) -> Any:
        form = format or self.default_format
        if form not in FORMATS:
            raise ValueError(f"unknown format {form!r}; use one of {', '.join(map(repr, FORMATS))}.")
        check_chunk(chunk, form)
        if form == "sparse":
            return self.nested(sparse_jacobian(self, order))
        with self._beside:
            return self._jacobian(order, form, plans, chunk)

    def _jacobian(self, order: Any, form: str, plans: Plans | None, chunk: int | None) -> Any:
        whole, rows, columns = self.over_reals, self.sinks.row_spaces, self.M.col_spaces
        mode = one_way(order if form == "array" else form, self.M, self.L)
        if chunk is not None or mode is not None:
            blocks = whole._by_chunks(mode or order, chunk)
        else:
            network, plan = self.planned(order, dense=form == "array", plans=plans)
            if form == "operator":
                J = network.accumulate(plan.order)
                return J if whole is self else as_operators(J, rows, columns)
            blocks = whole._arrays(network, plan)
        if whole is not self:
            blocks = [[joined_array(x, out, into) for x, into in zip(row, columns)] for row, out in zip(blocks, rows)]
        return self.nested(blocks)

    def nested(self, rows: Sequence[Sequence[Any]]) -> Any:
        """Blocks, a row for each output leaf, as a pytree of outputs of pytrees of inputs."""
        return jx.unflatten(self.outputs.structure, [jx.unflatten(self.inputs.structure, row) for row in rows])

    def _arrays(self, network: LinearizedGraph, plan: Choice | Plan) -> list[list[Any]]:
        """The blocks as arrays: by elimination, or by substitution with an identity on the right."""
        if plan.method == "elimination":
            J = network.accumulate(plan.order)
            return [
                [_dense(J.entries.get((i, j)), out, into) for j, into in enumerate(self.inputs.avals)]
                for i, out in enumerate(self.outputs.avals)
            ]
        columns, rows = self._substitutions()
        return first_of(columns, rows) if plan.method == "columns" else first_of(rows, columns)  # type: ignore[no-any-return]

    def _by_chunks(self, order: Any, chunk: int | None) -> list[list[Any]]:
        """The blocks as arrays by substitution, with so many columns of the identity at a time."""
        if order not in ("auto", "forward", "reverse"):
            raise ValueError(f"with chunk, the order is 'auto', 'forward' or 'reverse', got {short(order)}.")
        sizes = [sum(prod(aval.shape) for aval in side.avals) for side in (self.inputs, self.outputs)]
        columns, rows = self._substitutions(chunk)
        if order == "auto":
            return first_of(rows, columns) if sizes[1] < sizes[0] else first_of(columns, rows)  # type: ignore[no-any-return]
        return columns() if order == "forward" else rows()

    def _substitutions(self, chunk: int | None = None) -> tuple[partial[list[list[Any]]], ...]:
        """What gives the blocks as arrays by substitution: forward, a column after the other, and back, a row."""
        whole, into, out = System(*masks_joined(self.M, self.L, self.sinks)), self.inputs.avals, self.outputs.avals
        columns = partial(by_columns, lambda t: self.outputs.values(whole.push(t)), into, out, chunk)
        return columns, partial(by_rows, lambda g: self.inputs.values(whole.pull(g)), into, out, chunk)

    # ---- as a linear operator of SciPy's -------------------------------------------------------------------------------
    @property
    def flat_shape(self) -> tuple[int, int]:
        return self.outputs.space.size, self.inputs.space.size

    @property
    def flat_dtype(self) -> Any:
        known = dtype_of(self.inputs.space, self.outputs.space)
        return np.dtype(float) if known is None else known

    def _flat_product(self, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        if self.over_reals is not self and any(map(is_complex, (*self.inputs.space.parts, *self.outputs.space.parts))):
            raise TypeError(
                "the function is not holomorphic: its derivative is linear over the reals alone and is no matrix of complex "
                "numbers. Take real and imaginary parts as inputs and as outputs, or use jvp and vjp."
            )
        product = self._product(None, transposed=transposed)
        return image_of(x, lambda part: product(array(part)), (self.outputs if transposed else self.inputs).space)

    # ---- loops -------------------------------------------------------------------------------------------------------
    def unfolded(self) -> Linearized:
        """Return the same system with its loops taken apart: a node for the carry after each step of a `lax.scan`.

        The nodes of a loop are block bidiagonal in the matrix: each step depends on the one before and on what the loop is
        given, by blocks that hold the non-zeros alone.  Left as they are: loops without a carry or of unknown length, loops
        inside of others, functions of which only the pullback is known, and loops over complex numbers that are not linear
        over these (that conjugate, say, or carry real numbers beside complex ones).
        Cost: one linearization of each loop's body, all steps at once, and a node for each step.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> system = linearize(lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c * jnp.sin(c), x), jnp.ones(2))
            >>> system.L.shape, system.unfolded().L.shape
            ((1, 1), (4, 4))
        """
        return self._taken_apart(parallel=False)

    def in_parallel(self) -> Linearized:
        """Return the same system with its loops' steps done side by side: `vjp` and `jvp` have logarithmic depth in them.

        A loop that carries n numbers becomes a linear recurrence, solved by an associative scan: T products of n × n blocks
        (of diagonals, where the carry's entries do not mix) in place of T products with vectors. What enters and leaves the
        steps is the loop's body, applied to all of them together. That pays for a carry that
        is small or diagonal, and is meant for accelerators, where a step takes longer to start than to do. What `unfolded`
        leaves as it is, so does this.
        Raises `PatternTooLargeError` (a `MemoryError`), with the bytes, where the blocks of all steps would not fit.
        Cost: one linearization of each loop's body, all steps at once.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> system = linearize(lambda x: jax.lax.fori_loop(0, 3, lambda i, c: 2 * c, x), jnp.ones(2))
            >>> system.in_parallel().vjp(jnp.ones(2))
            Array([8., 8.], dtype=float32)
        """
        return self._taken_apart(parallel=True)

    def with_loops(self, loops: str) -> Linearized:
        """The same system with its loops applied as this option says: as they are, `in_parallel`, or by cost."""
        check_loops(loops)
        if loops == "sequential" or (loops == "auto" and jax.default_backend() == "cpu"):
            return self
        return self._taken_apart(parallel=True, most=NARROW if loops == "auto" else None)

    def _taken_apart(self, *, parallel: bool, most: int | None = None) -> Linearized:
        M, L, S = unfolded(self, sparse_edge, parallel=parallel, most=most)
        return Linearized(M, L, S, self.value, inputs=self.inputs, outputs=self.outputs, point=self.point)

    @property
    def loop_sizes(self) -> list[tuple[int, int]]:
        """Of each `lax.scan` that is one edge the number of its steps, and how many entries its matrix has at most."""
        edges = [op for A in (self.M, self.L) for op in A.entries.values() if isinstance(op, LinearEquation)]
        loops = [op for op in edges if op.eqn.primitive.name == "scan"]
        return [(op.params["length"], op.domain.size * op.codomain.size) for op in loops]

    # ---- solving -----------------------------------------------------------------------------------------------------
    def _inverse(self, damping: Any, engine: str) -> Inverse:
        return inverse_of(self, damping, engine)

    def _solution(self, b: Any, damping: Any, engine: str, *, transposed: bool) -> Any:
        require_solvable(self)
        require_engine(engine)
        require_number(damping, self.M.col_spaces)
        before, after = (self.inputs, self.outputs) if transposed else (self.outputs, self.inputs)
        whole, pairs = self.over_reals, self.over_reals is not self
        if pairs and jnp.iscomplexobj(damping):
            raise TypeError(
                f"damping must be real where the function is not holomorphic (linear over the reals alone), got {damping!r}."
            )
        rhs = before.blocks(b, "the right-hand side g" if transposed else "the right-hand side b")
        ends = (whole.inputs, whole.outputs) if transposed else (whole.outputs, whole.inputs)
        flat = ends[0].flat(in_pairs(rhs, before.space, conjugated=transposed) if pairs else rhs)
        products = whole._product(damping, transposed=transposed), whole._product(damping, transposed=not transposed)
        with self._beside:
            x = ends[1].unflat(solution(whole, products, flat, damping, engine, transposed=transposed))
        return after.brought(after.tree(from_pairs(x, after.space, conjugated=transposed) if pairs else x))

    def _product(self, damping: Any, *, transposed: bool) -> Callable[[Any], Any]:
        """x ↦ J x + damping · x (or with Jᵀ) between flat vectors."""
        before, after, move = (
            (self.outputs, self.inputs, self.pull) if transposed else (self.inputs, self.outputs, self.push)
        )

        def product(x: Any) -> Any:
            change = after.flat(move(before.unflat(x)))
            return change if damping is None else change + damping * x

        return product


def _dense(op: Any, out: Any, into: Any) -> Any:
    """A block of a Jacobian (None: zero) as an array of the input's dtype, as `jax.jacobian` has it."""
    if op is None:
        return jx.zeros(jax.ShapeDtypeStruct((*out.shape, *into.shape), into.dtype))  # type: ignore[no-untyped-call]
    array = result_array(op)
    return array if isinstance(array, jax.Array) and array.dtype == into.dtype else jnp.asarray(array, into.dtype)


# ---- linearizing a function ----------------------------------------------------------------------------------------------
def linearize(
    f: Callable[..., Any], *primals: Any, argnums: int | Sequence[int] = 0, loops: str = "sequential"
) -> Linearized:
    """Return the system of f at the primals:  dx = M dp + L dx,  dy = S dx,  with p the arguments ``argnums``.

    f is any function JAX can trace, its inputs and output pytrees of arrays; ``.value`` is f(*primals).  ``.vjp(g)`` takes
    a pytree like the output and returns one like the argument (a tuple of them for several ``argnums``), ``.jvp(t)`` the
    other way round.  Works on concrete arrays and under ``jax.jit``, ``vmap`` and ``grad``.
    ``loops`` is that of `grad`, see `Linearized.in_parallel`; f runs as written.

    Raises `TypeError` where f is not callable, cannot be traced, or an argument is no array, `ValueError` for argnums out
    of range and for other loops.
    Cost: tracing f once and evaluating it once, with the derivative of each primitive.
    Source: section 2 of the paper.

    Example:
        >>> import jax.numpy as jnp
        >>> system = linearize(lambda x: jnp.sum(jnp.sin(x) ** 2), jnp.zeros(3))
        >>> system.vjp(1.0)
        Array([0., 0., 0.], dtype=float32)
    """
    system = linearize_with_aux(f, primals, argnums)[0].with_loops(loops)
    return replace(system, point=Point(f, primals, normalized_argnums(argnums, len(primals), f)))


def linearize_with_aux(
    f: Callable[..., Any], primals: Sequence[Any], argnums: int | Sequence[int], *, has_aux: bool = False, fold: bool = False
) -> tuple[Linearized, Any]:
    """As `linearize`, for an f that returns (output, auxiliary data) if ``has_aux``; returns the system and the data.

    With ``fold`` indices and masks that follow from constants alone are worked out while tracing, also under ``jit``.
    """
    return traced(f, primals, argnums, has_aux=has_aux).system(fold=fold)


@dataclass(frozen=True)
class Aux:
    """Auxiliary data: its arrays come out of the program, anything else is kept as it is."""

    structure: Any
    leaves: list[Any]

    def filled(self, arrays: Sequence[Any]) -> Any:
        """The data with these arrays."""
        it = iter(arrays)
        return jx.unflatten(self.structure, [next(it) if leaf is _ARRAY else leaf for leaf in self.leaves])


_ARRAY: Any = object()


@dataclass(frozen=True)
class Traced:
    """A function as its jaxpr, and the values it is to be linearized at.

    Where it asks for values (``if x > 0``), the jaxpr is that of its linearization at the point, and ``known`` what it
    returned, with which of that depends on the inputs.
    """

    name: str
    jaxpr: Any
    consts: Sequence[Any]
    inputs: list[Any]  # the leaves of the arguments by which it is differentiated
    tree: Any  # of these arguments
    out_tree: Any  # of the output and the arrays of the auxiliary data
    structure: Any  # of the output alone
    aux: Aux
    known: tuple[list[Any], list[bool]] | None = None

    @property
    def in_avals(self) -> list[Any]:
        """The types of the inputs."""
        return [jx.type_of(x) for x in self.inputs]

    def system(self, *, fold: bool = False) -> tuple[Linearized, Any]:
        """The system, and the auxiliary data; ``fold`` as in `linearize_with_aux`."""
        count = self.structure.num_leaves
        program = Program([jx.space_of_aval(a) for a in self.in_avals], fold=fold)
        with beside((*self.inputs, *self.consts)):
            values, nodes = self._walked(program)
        out_avals = [jx.type_of(x) for x in values[:count]] if self.known else [v.aval for v in self.jaxpr.outvars[:count]]
        M, L, S = program.matrices(nodes[:count], [jx.space_of_aval(a) for a in out_avals])
        value, arrays = jx.unflatten(self.out_tree, values)
        held = [held_by(x) for x in self.inputs], [held_by(x) for x in values[:count]]
        inputs = Leaves(self.tree, self.in_avals, f"the tangents for {self.name}", held[0])
        outputs = Leaves(self.structure, out_avals, f"the cotangents for {self.name}", held[1])
        return Linearized(M, L, S, value, inputs=inputs, outputs=outputs), self.aux.filled(arrays)

    def _walked(self, program: Program) -> tuple[list[Any], list[int | None]]:
        """The values and the nodes of all outputs."""
        jaxpr = self.jaxpr
        if self.known is None:
            values, nodes = walk(jaxpr, self.consts, self.inputs, program)
            return [jnp.asarray(x) if jx.is_literal(v) else x for v, x in zip(jaxpr.outvars, values, strict=True)], nodes
        values, moves = self.known
        moving = [k for k, a in enumerate(self.in_avals) if jx.carries_derivatives(a)]
        _, nodes = walk(jaxpr, self.consts, [None] * len(moving), program, moving)
        it = iter(nodes)
        return values, [next(it) if moved else None for moved in moves]


def traced(f: Callable[..., Any], primals: Sequence[Any], argnums: int | Sequence[int], *, has_aux: bool = False) -> Traced:
    """Trace f, which returns (output, auxiliary data) if ``has_aux``, as `linearize` does before it evaluates.

    An f that asks for values is run at the point, as `jax.grad` would, where the point is known (outside ``jit``).
    """
    if not callable(f):
        raise TypeError(f"expected a function of JAX arrays, got {f!r} of type {type(f).__name__}.")
    numbers = normalized_argnums(argnums, len(primals), f)
    argnums = argnums if isinstance(argnums, Sequence) else numbers[0]
    chosen = primals[numbers[0]] if isinstance(argnums, int) else tuple(primals[i] for i in numbers)
    leaves, tree = jax.tree_util.tree_flatten(chosen)
    for number, i, leaf in [(n, *place) for n in numbers for place in enumerate(jax.tree_util.tree_leaves(primals[n]))]:
        known = isinstance(leaf, jax.Array | bool | int | float | complex) or hasattr(leaf, "__array__")
        if is_foreign(leaf) or not known:
            raise TypeError(
                f"argument {number} of {name_of(f)}, leaf {i}, is {leaf!r} of type {type(leaf).__name__}, not an array; "
                "differentiate by other arguments, or close over it."
            )
    leaves = [leaf if isinstance(leaf, jax.Array) else array(leaf) for leaf in leaves]
    outputs: list[tuple[Any, Aux]] = []

    def flat(*values: Any) -> tuple[Any, Any]:
        given = jx.unflatten(tree, values)
        arguments = list(primals)
        for i, value in zip(numbers, (given,) if isinstance(argnums, int) else given, strict=True):
            arguments[i] = value
        out = f(*arguments)
        if not has_aux:
            out = (out, None)
        elif not isinstance(out, (tuple, list)) or len(out) != 2:
            raise TypeError(f"with has_aux, {name_of(f)} must return a pair (output, auxiliary data), got {out!r}.")
        data, structure = jax.tree_util.tree_flatten(out[1])
        arrays = [leaf for leaf in data if isinstance(leaf, jax.Array)]
        aux = Aux(structure, [_ARRAY if isinstance(leaf, jax.Array) else leaf for leaf in data])
        outputs.append((jax.tree_util.tree_structure(out[0]), aux))
        return out[0], arrays

    flat.__name__ = name_of(f)
    flat.__wrapped__ = f  # type: ignore[attr-defined]  # so that errors point at the user's own line
    try:
        jaxpr, consts, out_tree = jx.trace(flat, leaves)
    except jx.NOT_CONCRETE as error:
        try:
            return _at_the_point(flat, leaves, tree, outputs)
        except jx.NOT_CONCRETE:  # nor does JAX know it
            raise error from None
    return Traced(name_of(f), jaxpr, consts, leaves, tree, out_tree, *outputs[-1])


def _at_the_point(flat: Callable[..., Any], leaves: list[Any], tree: Any, outputs: list[tuple[Any, Aux]]) -> Traced:
    """A function that asks for values, by JAX's linearization at the point."""
    moving = [jx.carries_derivatives(jx.type_of(x)) for x in leaves]
    trees: list[Any] = []

    def listed(*values: Any) -> list[Any]:
        it = iter(values)
        out, out_tree = jax.tree_util.tree_flatten(
            flat(*[next(it) if m else x for x, m in zip(leaves, moving, strict=True)])
        )
        trees.append(out_tree)
        return [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in out]

    values, moves, jaxpr, consts = linearized(listed, [x for x, m in zip(leaves, moving, strict=True) if m])
    return Traced(flat.__name__, jaxpr, consts, leaves, tree, trees[-1], *outputs[-1], known=(values, moves))


def normalized_argnums(argnums: int | Sequence[int], count: int, f: Callable[..., Any]) -> list[int]:
    """argnums as a list of positions from 0.  Raises `ValueError` where one is out of range, `TypeError` for no int."""
    out = []
    for i in argnums if isinstance(argnums, Sequence) else (argnums,):
        if not hasattr(i, "__index__") or jnp.ndim(i):
            raise TypeError(f"argnums must be an int or a sequence of ints, got {argnums!r}.")
        if not -count <= i < count:
            raise ValueError(
                f"argnums {i} is out of range: {name_of(f)} is called with {count} positional argument"
                f"{'' if count == 1 else 's'}."
            )
        out.append(int(i) % count)
        if out.index(out[-1]) < len(out) - 1:
            raise ValueError(f"argnums {argnums!r} names argument {out[-1]} of {name_of(f)} twice; name each one once.")
    return out


def name_of(f: Any) -> str:
    """A function as messages call it; of a `functools.partial`, that which it calls."""
    while isinstance(f, partial):
        f = f.func
    return getattr(f, "__name__", None) or type(f).__name__
