"""Derivatives of JAX functions: each a line or two of linear algebra on a `System`.

Signatures, pytrees, shapes and dtypes are those of the `jax.` functions of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from itertools import islice
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import short
from backsolve.capture import Traced, linearize_with_aux, traced
from backsolve.capture.linearized import Linearized, name_of, normalized_argnums
from backsolve.capture.names import Point
from backsolve.capture.sparse import sparse_jacobian
from backsolve.capture.walk import one_way
from backsolve.planning.plan import Choice, Plan
from backsolve.system.system import FORMATS, check_chunk, check_loops
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import beside
from backsolve.transforms.sparse import LAYOUTS, pattern_of, sparse_derivative
from backsolve.transforms.whole import compiled_whole
from backsolve.xla.materialize import GRADIENT, JACOBIAN, SPARSE, Policy, concerns, materialized
from backsolve.xla.numbers import tangent_numbers
from backsolve.xla.packed import MANY, packed

__all__ = [
    "grad",
    "jacobian",
    "plan",
    "sparsity",
    "value_and_grad",
    "value_and_jacobian",
]


PLACES = 2**20  # of an array that is worked out as a sparse matrix
Argnums = int | Sequence[int]


@dataclass(frozen=True)
class Form:
    """In which form a matrix comes back, and in which order it is made.  Raises `ValueError` for what there is none of."""

    order: Any
    format: str
    layout: str | None
    chunk: int | None
    mode: str = "reverse"  # where a batch around the function leaves no order but JAX's two

    def __post_init__(self) -> None:
        known = (*FORMATS, "scipy")
        if self.format not in known:
            raise ValueError(f"unknown format {self.format!r}; use one of {', '.join(map(repr, known))}.")
        if self.format == "scipy":
            object.__setattr__(self, "layout", "csr" if self.layout is None else self.layout)
            if self.layout not in LAYOUTS:
                raise ValueError(f"unknown layout {self.layout!r}; use one of {', '.join(map(repr, LAYOUTS))}.")
        elif self.layout is not None:
            raise ValueError(f"layout={self.layout!r} is one of SciPy's: take it with format='scipy', not {self.format!r}.")
        check_chunk(self.chunk, self.format)

    @property
    def is_sparse(self) -> bool:
        """Whether the matrix is one with a pattern."""
        return self.format in ("sparse", "scipy")

    @property
    def is_free(self) -> bool:
        """Whether any order will do."""
        return isinstance(self.order, str) and self.order == "auto"

    @property
    def is_named(self) -> bool:
        """Whether an array is asked for at once, in an order that has a name."""
        return self.format == "array" and self.chunk is None and isinstance(self.order, str)

    @property
    def is_plain(self) -> bool:
        """Whether an array is asked for, in whatever order is best."""
        return self.format == "array" and self.is_free and self.chunk is None


def grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    loops: str = "sequential",
) -> Callable[..., Any]:
    """Return the function that gives the gradient of a scalar fun:  Mᵀ ((I − Lᵀ) \\ g)  with g = 1 at the output.

    As `jax.grad`: by the arguments ``argnums``, pytrees like them; with ``has_aux`` it returns (gradient, auxiliary data).
    ``loops`` says how the transpose of a loop (`lax.scan`, `lax.fori_loop` of known length) is applied: "sequential", step
    after step, or "parallel", all steps by an associative scan of logarithmic depth, which multiplies n × n blocks for a
    carry of n numbers (or diagonals, where its entries do not mix): for accelerators, and carries that are small or
    diagonal; or "auto", by cost: on a processor as "sequential", elsewhere in parallel where at most 32 numbers are carried.
    fun itself is evaluated as it is written.
    Raises `TypeError` where the output is no real scalar (or no complex one if ``holomorphic``) or an input is an integer
    (unless ``allow_int``), `ValueError` for argnums out of range and for other loops, `PatternTooLargeError` (a
    `MemoryError`) where the blocks of a loop in parallel do not fit into memory.
    Cost: one evaluation of fun and one application of the transpose of every edge.

    Example:
        >>> import jax.numpy as jnp
        >>> grad(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0]))
        Array([ 3., 12.], dtype=float32)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int, loops=loops)

    @like(fun, "gradient of")
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    loops: str = "sequential",
) -> Callable[..., Any]:
    """Return the function that gives (value, gradient) of a scalar fun; see `grad`.

    Example:
        >>> value_and_grad(lambda x: x * x)(3.0)
        (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    check_loops(loops)

    @like(fun, "value and gradient of")
    def both(*args: Any, **kwargs: Any) -> Any:
        def of_system(system: Linearized, aux: Any) -> Any:
            gradient = system.with_loops(loops).vjp(_scalar_seed(fun, system.value, holomorphic))
            return ((system.value, aux) if has_aux else system.value), gradient

        program = checked_trace(fun, args, kwargs, argnums, "grad", has_aux, holomorphic, allow_int)
        compute = partial(_compiled_well, derivative=of_system, policy=GRADIENT)
        is_call = len(program.jaxpr.eqns) == 1
        return compiled_whole(program, compute, "grad", has_aux, holomorphic, loops) if is_call else compute(program)

    return both


def jacobian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    order: Any = "auto",
    format: str = "array",
    layout: str | None = None,
    chunk: int | None = None,
) -> Callable[..., Any]:
    """Return the function that gives the Jacobian of fun:  S (I − L)⁻¹ M,  a pytree of arrays as `jax.jacobian` gives.

    The nodes of the system are eliminated one after the other; ``order`` says how: "forward", "reverse", "markowitz", a
    sequence of nodes, a `Plan`, or "auto", the cheapest that a short search finds (see `plan`).  With
    ``format="operator"`` the result is an `OperatorMatrix` with a row for each leaf of the output and a column for each
    leaf of the argument, whose operators keep their structure: block diagonal, factored, sparse.

    With ``format="sparse"`` the leaves of the pytree are `SparseMatrix` es, of shape (entries of the output, entries of the
    argument).  Patterns are worked out while tracing and hold for all inputs of these shapes; what runs is arithmetic on
    the non-zeros.  Index arrays that the function makes or closes over are known and give exact patterns; where an index
    depends on an argument, all it may name is in the pattern.  A call outside ``jit`` is compiled too, once for these
    shapes.  "auto" then eliminates the node that takes fewest products of two numbers, one after the other.
    Warns once where more than half of all places are in the pattern.

    With ``format="scipy"`` the same come as `scipy.sparse.csr_array` (``layout="csc"``: `scipy.sparse.csc_array`), with
    indices of 32 bits where they fit: what SciPy asks for as ``jac=`` or ``hess=``.  The call takes concrete numbers, and
    all that it returns is NumPy's.  NumPy arrays of double precision, and plain numbers, are computed with in double
    precision, also where JAX has it switched off.  A program of operations on numbers, moves and sums is run by calls of
    NumPy (`backsolve.tape`), another one is compiled.  A call with other values traces and compiles nothing; other
    whole numbers of Python's do, which are part of the program, and NumPy's are not.

    With ``chunk=k`` an array is worked out k rows or columns at a time ("auto": whichever are fewer, "reverse": rows,
    "forward": columns), so that beside the result no more is in memory than for k of them.

    Raises `ValueError` for an unknown order, format or layout, for a chunk below 1 and for a plan of other shapes,
    `PatternTooLargeError` (a `MemoryError`) for a sparse pattern that does not fit into memory, `TypeError` for a traced
    argument with ``format="scipy"``, otherwise as `grad`.
    Cost: one evaluation, and what the plan says.

    Example:
        >>> import jax.numpy as jnp
        >>> jacobian(lambda x: x[:2] * x[2])(jnp.array([1.0, 2.0, 3.0]))
        Array([[3., 0., 1.],
               [0., 3., 2.]], dtype=float32)
        >>> jacobian(lambda x: x[:2] * x[2], format="sparse")(jnp.array([1.0, 2.0, 3.0]))
        SparseMatrix 2×3, 4 non-zeros (67%), float32
        ⎡⠑⠃⎤
    """

    form = Form(order, format, layout, chunk)
    return like(fun, "Jacobian of")(jacobian_of(fun, argnums, has_aux, holomorphic, allow_int, form, value=False))


def value_and_jacobian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    order: Any = "auto",
    format: str = "array",
    layout: str | None = None,
    chunk: int | None = None,
) -> Callable[..., Any]:
    """Return the function that gives (value, Jacobian) of fun, from one evaluation; see `jacobian`.

    With ``has_aux`` it returns ((value, auxiliary data), Jacobian), as `value_and_grad` does.

    Example:
        >>> import jax.numpy as jnp
        >>> value, J = value_and_jacobian(lambda x: x[:2] * x[2], format="scipy")(np.array([1.0, 2.0, 3.0]))
        >>> value, J.toarray()
        (array([3., 6.]), array([[3., 0., 1.],
               [0., 3., 2.]]))
    """
    form = Form(order, format, layout, chunk)
    return like(fun, "value and Jacobian of")(jacobian_of(fun, argnums, has_aux, holomorphic, allow_int, form, value=True))


def jacobian_of(
    fun: Any, argnums: Argnums, has_aux: bool, holomorphic: bool, allow_int: bool, form: Form, *, value: bool
) -> Callable[..., Any]:
    def build(args: Any, kwargs: Any) -> tuple[Linearized, Any, bool]:
        system, aux = system_of(fun, args, kwargs, argnums, "jacobian", has_aux, holomorphic, allow_int, fold=True)
        check_real_output(fun, system.value, holomorphic)
        return system, aux, False

    if form.is_sparse:
        name = f"Jacobian of {name_of(fun)}"
        return sparse_derivative(build, name, form.order, has_aux=has_aux, layout=form.layout, value=value)

    plans: dict[Any, Choice] = {}  # by structure: a function is planned once, however often it is traced

    def matrix(*args: Any, **kwargs: Any) -> Any:
        def of_entries(system: Linearized, aux: Any) -> Any:
            """The entries that are not zero, in an array: of a program written number by number, which has many nodes."""
            return put_together(system, aux, system.nested([[A.todense() for A in row] for row in sparse_jacobian(system)]))

        def of_system(system: Linearized, aux: Any, order: Any = form.order) -> Any:
            order = form.mode if form.is_free and one_way(form.mode, system.M, system.L) else order
            return put_together(system, aux, system.jacobian(order, format=form.format, plans=plans, chunk=form.chunk))

        def put_together(system: Linearized, aux: Any, J: Any) -> Any:
            check_real_output(fun, system.value, holomorphic)
            if value:
                return ((system.value, aux) if has_aux else system.value), J
            return (J, aux) if has_aux else J

        def of_program(program: Traced) -> Any:
            plain = form.is_plain and jx.is_compiling() and not jx.is_batching() and _is_small_and_real(program)
            vectors = _in_vectors(program) if plain else None
            if vectors is not None:
                return _compiled_well(vectors, of_entries, SPARSE, fold=True)
            if form.format != "array":
                return of_system(*program.system())
            batched = form.is_plain and jx.is_batched_here() and _is_small_and_real(program) and program.known is None
            numbers = tangent_numbers(program.jaxpr, program.consts) if batched else None
            other = None if numbers is None else (partial(of_system, order="forward"), numbers)
            return _compiled_well(program, of_system, JACOBIAN, other=other)

        program = checked_trace(fun, args, kwargs, argnums, "jacobian", has_aux, holomorphic, allow_int)
        if not form.is_named or len(program.jaxpr.eqns) != 1:
            return of_program(program)
        return compiled_whole(program, of_program, "jacobian", form.order, has_aux, holomorphic, value)

    return matrix


def plan(
    fun: Callable[..., Any],
    *primals: Any,
    argnums: Argnums = 0,
    order: Any = "auto",
    search: float | None = None,
    format: str = "array",
) -> Plan:
    """Return the plan by which `jacobian` would eliminate the nodes of fun's system at primals of these shapes.

    ``order`` is "forward", "reverse", "markowitz", a sequence naming every node once, or "auto": the cheapest of those
    three, of plain substitution with an identity on the right (forward and reverse mode), and of a short search.
    ``search`` is how many seconds to look for a better one.  ``print(plan)`` is a table of the steps; ``.multiplications``
    and ``.cost`` are what it costs, ``jacobian(fun, order=plan)`` uses it.  Nothing is computed; primals may be
    `jax.ShapeDtypeStruct`.
    Raises `ValueError` for an unknown name or format and for a sequence that misses, repeats or invents a node.
    Cost: tracing fun, and the search.
    Source: Griewank and Walther, *Evaluating Derivatives*, chapter 9 (vertex elimination).

    Example:
        >>> import jax.numpy as jnp
        >>> plan(lambda x: jnp.exp(jnp.sin(x) * x), 2.0).multiplications
        2
    """
    plans: list[Plan] = []

    def planned(*values: Any) -> Any:
        point = Point(fun, values, normalized_argnums(argnums, len(values), fun))
        system = replace(linearize_with_aux(fun, values, argnums)[0], point=point)
        plans.append(system.plan(order, search, format=format))
        return system.value

    require_shaped(fun, primals)
    jax.eval_shape(planned, *primals)
    return plans[0]


def sparsity(fun: Callable[..., Any], *primals: Any, argnums: Argnums = 0) -> Any:
    """Return where the Jacobian of fun may be non-zero, for all inputs of the primals' shapes: a boolean `SparseMatrix`.

    Its shape is (entries of the output, entries of the argument); where output or argument has several leaves, it is a
    pytree of them, as `jacobian` gives.  Nothing is computed; primals may be `jax.ShapeDtypeStruct`.
    Raises as `jacobian`, and `PatternTooLargeError` (a `MemoryError`) where the pattern does not fit into memory.
    Cost: tracing fun, and the pattern's products.

    Example:
        >>> import jax.numpy as jnp
        >>> pattern = sparsity(lambda x: x[1:] - x[:-1], jnp.zeros(3))
        >>> pattern
        SparseMatrix 2×3, 4 non-zeros (67%), bool
        ⎡⠙⠂⎤
        >>> pattern.toarray()
        array([[ True,  True, False],
               [False,  True,  True]])
    """

    def build(args: Any, kwargs: Any) -> tuple[Linearized, Any, bool]:
        return *system_of(fun, args, kwargs, argnums, "sparsity", False, False, False, fold=True), False

    require_shaped(fun, primals)
    return pattern_of(build, primals)


# ---- shared by the above ------------------------------------------------------------------------------------------------
def require_shaped(fun: Any, primals: Sequence[Any]) -> None:
    """Raise `TypeError` where a leaf of an argument is neither an array, nor a number, nor a `jax.ShapeDtypeStruct`."""
    for i, primal in enumerate(primals):
        for leaf in jax.tree_util.tree_leaves(primal):
            if not (is_number(leaf) or (hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type))):
                raise TypeError(f"argument {i} of {name_of(fun)} is {short(leaf)}, no array and no jax.ShapeDtypeStruct.")


def like(fun: Any, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Name and document a derivative after its function."""
    name = name_of(fun)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if callable(fun) and hasattr(fun, "__name__"):
            function = wraps(fun)(function)
        function.__doc__ = f"The {what} {name}, by backsolve."
        return function

    return decorate


def system_of(
    fun: Any,
    args: Any,
    kwargs: Any,
    argnums: Argnums,
    what: str,
    has_aux: bool,
    holomorphic: bool,
    allow_int: bool,
    *,
    fold: bool = False,
) -> tuple[Linearized, Any]:
    program = checked_trace(fun, args, kwargs, argnums, what, has_aux, holomorphic, allow_int)
    return ((_in_vectors(program) if fold else None) or program).system(fold=fold)


def packed_program(jaxpr: Any, consts: Sequence[Any]) -> Any:
    """The program with equations of numbers that are alike done together; None of a short one, or where few are."""
    return packed(jaxpr, consts) if sum(1 for _ in islice(jx.every_equation(jaxpr), MANY)) == MANY else None


def _in_vectors(program: Traced) -> Traced | None:
    """The program with equations of numbers that are alike done together; None where that is not worth it."""
    closed = packed_program(program.jaxpr, program.consts) if program.known is None else None
    return None if closed is None else replace(program, jaxpr=closed.jaxpr, consts=closed.consts)


def _is_small_and_real(program: Traced) -> bool:
    """Whether all of a Jacobian's places, of real numbers, may be worked out as those of a sparse one."""
    types = [*program.in_avals, *(v.aval for v in program.jaxpr.outvars[: program.structure.num_leaves])]
    sizes = [sum(prod(aval.shape) for aval in part) for part in (program.in_avals, types[len(program.in_avals) :])]
    return (
        jx.is_sized(program.jaxpr)
        and sizes[0] * sizes[1] <= PLACES
        and all(jnp.issubdtype(aval.dtype, np.floating) for aval in types)
    )


def checked_trace(
    fun: Any, args: Any, kwargs: Any, argnums: Argnums, what: str, has_aux: bool, holomorphic: bool, allow_int: bool
) -> Traced:
    if kwargs and callable(fun):
        fun = wraps(fun)(partial(fun, **kwargs))
    program = traced(fun, args, argnums, has_aux=has_aux)
    for i, aval in enumerate(program.in_avals):
        _check_input(what, i, aval.dtype, holomorphic, allow_int)
    return program


def _compiled_well(
    program: Traced,
    derivative: Callable[[Linearized, Any], Any],
    policy: Policy,
    *,
    fold: bool = False,
    other: tuple[Callable[[Linearized, Any], Any], float] | None = None,
) -> Any:
    """``derivative(system, aux)`` of a traced function, rewritten for the compiler where it is being compiled.

    Another derivative that is the same is taken where it works out fewer numbers, about as many as it comes with.
    """

    def at(derivative: Callable[[Linearized, Any], Any], *inputs: Any) -> Any:
        with beside((*inputs, *program.consts)):
            return derivative(*replace(program, inputs=list(inputs)).system(fold=fold))

    if program.known is not None or not jx.is_compiling() or not concerns(program.jaxpr, policy):
        return at(derivative, *program.inputs)
    rival = None if other is None else (partial(at, other[0]), other[1])
    return materialized(partial(at, derivative), program.inputs, policy, rival)


def _check_input(what: str, i: int, dtype: Any, holomorphic: bool, allow_int: bool) -> None:
    if holomorphic and not jnp.issubdtype(dtype, np.complexfloating):
        raise TypeError(f"{what} with holomorphic=True needs complex inputs, but leaf {i} has dtype {dtype}.")
    if not holomorphic and jnp.issubdtype(dtype, np.complexfloating) and what == "forward":
        raise TypeError(f"{what} needs real inputs, but leaf {i} has dtype {dtype}; use holomorphic=True.")
    if not jnp.issubdtype(dtype, np.inexact) and not allow_int:
        more = "choose other argnums, or pass allow_int=True" if what in ("grad", "jacobian") else "or choose other argnums"
        raise TypeError(
            f"{what} needs real or complex inputs, but leaf {i} of the arguments has dtype {dtype}. "
            f"Convert it with .astype(float), {more}."
        )


def _scalar_seed(fun: Any, value: Any, holomorphic: bool) -> Any:
    if not jax.tree_util.all_leaves([value]):
        tree = jax.tree_util.tree_structure(value)
        raise TypeError(f"grad needs a function with one scalar output, but {name_of(fun)} returns a pytree: {tree}.")
    if shape := jnp.shape(value):
        raise TypeError(
            f"grad needs a function with a scalar output, but {name_of(fun)} returns shape {shape}; "
            "reduce it (jnp.sum), or use backsolve.jacobian or backsolve.vjp."
        )
    check_real_output(fun, value, holomorphic)
    return jax.lax.full_like(value, 1)


def check_real_output(fun: Any, value: Any, holomorphic: bool) -> None:
    name = name_of(fun)
    for leaf in jax.tree_util.tree_leaves(value):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, np.inexact):
            raise TypeError(f"{name} returns dtype {dtype}, which has no derivatives; return floating-point values.")
        if not holomorphic and jnp.issubdtype(dtype, np.complexfloating):
            raise TypeError(
                f"{name} returns dtype {dtype}; pass holomorphic=True for a holomorphic function, or return "
                "its real and imaginary parts."
            )
        if holomorphic and not jnp.issubdtype(dtype, np.complexfloating):
            raise TypeError(f"with holomorphic=True {name} must return complex values, got dtype {dtype}.")
