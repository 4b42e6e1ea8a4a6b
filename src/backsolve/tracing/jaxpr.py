"""Jaxprs: tracing, reading and evaluating equations; what of JAX that takes, `series.py` finds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import takewhile
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.display import cell_of
from backsolve.operators import ArraySpace, LinearOperator
from backsolve.tracing import series
from backsolve.tracing.layouts import settled_alike
from backsolve.tracing.series import ad, batching, eval_jaxpr, layout_of, mesh_context, mlir, source_info_util, zeros

__all__ = [
    "FALLBACK",
    "PRIMITIVES",
    "Edge",
    "Equation",
    "Kind",
    "Primitive",
    "called",
    "each",
    "equation_context",
    "identity_primitive",
    "is_constant",
    "kind_of",
    "live_equations",
    "moved",
    "record_of",
    "space_of_aval",
    "trace",
    "unknown",
    "where",
    "zeros",
]


class Kind(Enum):
    """What a primitive does with entries, and whether XLA's CPU compiler works it out again in every loop that reads it."""

    CHEAP = auto()  # an operation on each entry by itself, worked out again
    SINE = auto()  # so are these, although each takes as long as 25 multiplications
    DEAR = auto()  # an operation on each entry by itself, worked out once where several loops read it
    MOVES = auto()  # entries of one operand at other places, as the parameters and shapes say
    JOINS = auto()  # so, of several operands
    PICKS = auto()  # entries at the places that an operand of indices names
    REDUCES = auto()  # sums along axes
    OTHER = auto()  # nothing is known


Aval = Any
Value = Any
Rule = Callable[[Any, list[Value]], Sequence[Value]]


def trace(fun: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, list[Any], Any]:
    """Trace fun(*args) to a jaxpr; return it, its constants (arrays and outer tracers), and the tree of its output."""
    trees: list[Any] = []
    source = series.fun_sourceinfo(fun)

    def flat(*leaves: Any) -> list[Any]:
        out, tree = jax.tree_util.tree_flatten(fun(*leaves))
        trees.append(tree)
        for leaf in out:
            _check_type(leaf, source or getattr(fun, "__name__", "?"))
        return out

    with contextlib.suppress(AttributeError):  # so that tracing errors name the user's function
        flat.__name__ = fun.__name__
    closed = series.traced(flat, args, source)
    return closed.jaxpr, closed.consts, trees[-1]


def _check_type(leaf: Any, source: str) -> None:
    try:
        jax.typeof(leaf)
    except TypeError as error:
        text = f"function {source} traced for backsolve returned a value of type {type(leaf)}, which is not a valid JAX type"
        raise TypeError(text) from error


# What JAX raises where a program asks for a value that is only traced.
NOT_CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def type_of(value: Value) -> Aval:
    """The type of a value: shape, dtype, weakness."""
    return jax.typeof(value)


def hoisted(fun: Callable[..., Any], args: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """fun with the outer tracers that it closes over as further arguments, and those.

    Unlike `jax.closure_convert`, which leaves those of ``vmap`` where they are.
    """
    leaves, structure = jax.tree_util.tree_flatten(tuple(args))

    def flat(*leaves: Any) -> Any:
        return fun(*unflatten(structure, leaves))

    flat.__wrapped__ = fun  # type: ignore[attr-defined]  # so that errors point at the user's own line
    jaxpr, consts, tree = trace(flat, leaves)
    moved = [is_traced(c) for c in consts]
    count = len(args)

    def closed(*args: Any) -> Any:
        outer = iter(args[count:])
        given = [next(outer) if is_moved else c for c, is_moved in zip(consts, moved, strict=True)]
        return unflatten(tree, eval_jaxpr(jaxpr, given, *jax.tree_util.tree_leaves(args[:count])))

    return closed, [c for c, is_moved in zip(consts, moved, strict=True) if is_moved]


def evaluated(closed: Any, args: Sequence[Value], rule: Rule | None = None) -> list[Value]:
    """The outputs of a closed jaxpr at these arguments; ``rule(eqn, inputs)`` has those of an equation, else `bind`."""
    if rule is None:
        return eval_jaxpr(closed.jaxpr, closed.consts, *args)
    jaxpr = closed.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))

    def read(atom: Any) -> Value:
        return literal_value(atom) if is_literal(atom) else values[atom]

    for eqn in jaxpr.eqns:
        values.update(zip(eqn.outvars, rule(eqn, list(map(read, eqn.invars))), strict=True))
    return list(map(read, jaxpr.outvars))


def unflatten(tree: Any, leaves: Sequence[Any]) -> Any:
    """The pytree with this structure and these leaves."""
    return jax.tree_util.tree_unflatten(tree, leaves)


class Equation:
    """One equation as a rule sees it.

    ``name`` is the primitive's, ``params`` its parameters, ``inputs`` the values of its operands (None for an operand
    that is itself a tangent, in a linear equation), ``output`` its value (None likewise), ``in_shapes`` and ``shape`` the
    shapes, ``in_dtypes`` and ``dtype`` the dtypes, ``active`` which operands carry derivatives.
    """

    __slots__ = ("active", "eqn", "inputs", "name", "output", "params", "shared")

    def __init__(self, eqn: Any, inputs: list[Value], active: list[bool]) -> None:
        self.eqn = eqn
        self.name: str = eqn.primitive.name
        self.params: dict[str, Any] = eqn.params
        self.inputs = inputs
        self.active = active
        self.output: Value = None
        self.shared: dict[str, Value] = {}  # what the rules of several operands need, worked out once

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) output."""
        return tuple(self.eqn.outvars[0].aval.shape)

    @property
    def dtype(self) -> Any:
        """Dtype of the (first) output."""
        return self.eqn.outvars[0].aval.dtype

    def in_shape(self, k: int) -> tuple[int, ...]:
        """Shape of operand k."""
        return tuple(self.eqn.invars[k].aval.shape)

    def in_dtype(self, k: int) -> Any:
        """Dtype of operand k."""
        return self.eqn.invars[k].aval.dtype

    def bind(self) -> list[Value]:
        """Evaluate the equation; one value for each output."""
        return bind(self.eqn, self.inputs)

    def evaluate(self, *inputs: Value) -> list[Value]:
        """Evaluate its primitive on other operands, of which there may be fewer."""
        return series.bind_primitive(self.eqn.primitive, self.params, inputs)


# ---- one record a primitive: the table is empty here, `backsolve.capture.primitives` fills it ----------------------------
FALLBACK: Any = object()  # what an edge function returns where JAX's own linearization should serve

Edge = Callable[[Equation, int], LinearOperator | None]
Evaluate = Callable[..., Any]


def unknown(eq: Equation, k: int) -> Any:
    """The edge function of a primitive that has none."""
    return FALLBACK


@dataclass(frozen=True)
class Primitive:
    """What is known of a primitive.

    ``edge(eq, k)`` is the operator from operand k to the output, None for zero; ``edges(eq)`` has one operator for each
    output of a primitive with one operand.  Without either JAX's own linearization serves.
    ``linear`` names the operands in which the primitive is linear, so that the edge serves where their values are not
    known; None for all.  With ``bilinear`` that is so of one of them at a time.
    ``kind`` says what it does with entries.
    ``evaluate(params, *operands)`` computes the output of NumPy arrays; NotImplemented where it does not know it.
    ``index_map(eqn, k, operands)`` is the exact sparse operator from operand k to the output, None where there is none;
    one that moves or joins entries needs none of its own, it is evaluated on their numbers.
    ``axes(eq, k)`` says where in the output the axes of operand k are along which each entry of the one depends on one
    entry of the other alone; of entrywise primitives, and where an edge by shapes alone tells, it is known without.
    ``eager(params, *operands)`` computes the output of large concrete arrays by fewer programs than JAX would compile.
    ``pattern(eqn, k)`` has the places between operand k and the output that may be non-zero, of a primitive whose numbers
    are had by applying it.
    ``constant(eqn)`` is whether the output is piecewise constant, whatever the derivatives of the operands are.
    ``work(eqn)`` is how many multiplications each entry of the output takes, where that is more than a few.
    """

    edge: Edge = unknown
    linear: Container[int] | None = ()
    kind: Kind = Kind.OTHER
    evaluate: Evaluate | None = None
    index_map: Callable[[Any, int, Any], Any] | None = None
    axes: Callable[[Equation, int], dict[int, int]] | None = None
    edges: Callable[[Equation], list[LinearOperator]] | None = None
    eager: Callable[..., Any] | None = None
    work: Callable[[Any], float] | None = None
    pattern: Callable[[Any, int], Any] | None = None
    bilinear: bool = False
    constant: Callable[[Any], bool] | None = None

    def serves(self, eqn: Any, tangents: list[int]) -> bool:
        """Whether there is an edge function and it holds with these operands being tangents.

        Not where an index or a mask follows from a tangent, or two of them are multiplied: a pullback that is not linear may
        do that.
        """
        if self.edge is unknown or (self.bilinear and len(tangents) > 1):
            return False
        return all((self.linear is None or k in self.linear) and carries_derivatives(eqn.invars[k].aval) for k in tangents)


def each(function: Callable[..., Any]) -> Evaluate:
    """The evaluation of a primitive without parameters."""
    return lambda params, *operands: function(*operands)


PRIMITIVES: dict[str, Primitive] = {}  # by name
_NOTHING = Primitive()


def record_of(name: str) -> Primitive:
    """What is known of the primitive with this name, if only nothing."""
    return PRIMITIVES.get(name, _NOTHING)


def kind_of(name: str) -> Kind:
    """The kind of the primitive with this name."""
    return record_of(name).kind


def moved(eqn: Any, inputs: Sequence[Any]) -> list[Any] | None:
    """The outputs of an equation that puts entries elsewhere, without a program for it alone; None for any other one.

    A net with its parameters in one vector has two for each layer, of 60 ms to compile and microseconds to run.
    """
    record = record_of(eqn.primitive.name)
    out = None
    if record.kind in (Kind.MOVES, Kind.JOINS) and record.evaluate and not any(v.aval.weak_type for v in eqn.outvars):
        arrays = [np.asarray(x, v.aval.dtype) if is_literal(v) else x for x, v in zip(inputs, eqn.invars, strict=True)]
        out = series.moved_by_numpy(partial(record.evaluate, eqn.params), arrays, sum(v.aval.size for v in eqn.outvars))
    if out is None and record.eager is not None:
        out = record.eager(eqn.params, *inputs)
    return out if out is None or isinstance(out, list) else [out]


def is_constant(eqn: Any) -> bool:
    """Whether the output of an equation is piecewise constant, whatever the derivatives of its operands are."""
    constant = record_of(eqn.primitive.name).constant
    return constant is not None and constant(eqn)


# ---- evaluating and reading equations ------------------------------------------------------------------------------------
def bind(eqn: Any, inputs: Sequence[Value]) -> list[Value]:
    """Evaluate one equation on values, under the user's source line; a list with one value an output."""
    primitive, info = eqn.primitive, eqn.source_info
    stack = source_info_util.current_name_stack() + info.name_stack
    current = next(series.transforms())
    if series.stages(current, inputs) and not eqn.effects and not series.is_high(eqn):
        # under jit the equation is copied into the program being traced, as JAX inlines one jaxpr into another
        avals = [v.aval for v in eqn.outvars]
        return series.staged(current, primitive, eqn.params, avals, inputs, info.replace(name_stack=stack), eqn.ctx)
    if type(current) is series.BatchTrace:
        batch = series.staged_batch(current, eqn, inputs, info.replace(name_stack=stack))
        if batch is not None:
            return batch
    if current is series.eval_trace and not any(map(is_traced, inputs)):
        out = moved(eqn, inputs)
        if out is not None:
            return out
    with eqn.ctx.manager, source_info_util.user_context(info.traceback, name_stack=stack):
        return series.bind_primitive(primitive, eqn.params, inputs)


def entrywise(primitive: Any, a: Value, b: Value, **params: Any) -> Value:
    """A binary entrywise operation on two arrays of one shape and dtype, whatever their layouts."""
    current = next(series.transforms())
    own = type(current) is series.DynamicJaxprTrace and getattr(a, "_trace", None) is getattr(b, "_trace", None) is current
    if own and a.aval == b.aval:  # the result is of that type too: nothing to find out
        return series.staged(current, primitive, params, [a.aval], [a, b], source_info_util.current())[0]
    types = [getattr(x, "aval", None) for x in (a, b)]  # NumPy's arrays have none
    careful = getattr(jax.lax, primitive.name)  # it sees to what varies there, which the primitive does not
    if types[0] is None or types[1] is None:
        return careful(a, b)
    with mesh_context(a):
        return primitive.bind(a, b, **params) if types[0] == types[1] else careful(*settled_alike(a, b))


@contextlib.contextmanager
def equation_context(eqn: Any) -> Any:
    """What JAX knows about an equation (its configuration and the user's line) while it is evaluated again."""
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with eqn.ctx.manager, source_info_util.user_context(eqn.source_info.traceback, name_stack=stack):
        yield


def called(eqn: Any) -> str:
    """The primitive's name; of a function with a rule of its own the function's: ``relu``."""
    name = str(eqn.primitive.name)
    if name not in ("custom_jvp_call", "custom_vjp_call"):
        return name
    function = (eqn.params["call_jaxpr"].jaxpr.debug_info.func_src_info or "").partition(" at ")[0]
    return function if function.isidentifier() else name


def where(eqn: Any, caller: Any = None, name: str = "") -> str:
    """The primitive (or another name) and the user's file and line: ``tanh (net.py:12 (layer))``.

    An equation of a library's own jitted function has no line of the user's; that of its caller serves.  A cell of a
    notebook is called as there: ``tanh (In[3]:2:9 (layer))``.
    """
    line = source_info_util.summarize(eqn.source_info) or (source_info_util.summarize(caller.source_info) if caller else "")
    if not line:
        return name or str(eqn.primitive.name)
    path, rest = re.fullmatch(r"(.*?)((?::\d.*)?)", line, re.DOTALL).groups()  # type: ignore[union-attr]  # fits any text
    return f"{name or eqn.primitive.name} ({cell_of(path)}{rest})"


def is_traced(x: Any) -> bool:
    """Whether a value stands for one that is not known yet."""
    return isinstance(x, series.Tracer)


def in_trace_of(x: Value) -> Any:
    """A context in which what is computed of x lies where x does, in its own trace, or is known where x is."""
    return series.set_current_trace(x._trace) if is_traced(x) else jax.ensure_compile_time_eval()


def is_literal(atom: Any) -> bool:
    """Whether an operand is a literal constant."""
    return isinstance(atom, series.Literal)


def literal(number: Any) -> Any:
    """A number of NumPy's as a literal constant."""
    return series.Literal(number, jax.typeof(number))  # type: ignore[no-untyped-call]


def literal_value(atom: Any) -> Any:
    """The value of an operand that is a literal constant."""
    return series.plain(atom.val)


def live_equations(jaxpr: Any, wanted: Sequence[bool] | None = None) -> list[tuple[Any, list[bool]]]:
    """The equations that the outputs (or the wanted ones) need, and those with effects; each with which outputs are.

    An equation that the outputs need, but not their derivatives (what a comparison or ``stop_gradient`` hides), comes with
    an empty list.
    """
    needed = {v for i, v in enumerate(jaxpr.outvars) if not is_literal(v) and (wanted is None or wanted[i])}
    moving = set(needed)  # what the derivatives need
    live: list[tuple[Any, list[bool]]] = []
    for eqn in reversed(jaxpr.eqns):
        if not eqn.effects and needed.isdisjoint(eqn.outvars):
            continue
        operands = [v for v in eqn.invars if not is_literal(v)]
        needed.update(operands)
        if moving.isdisjoint(eqn.outvars):
            live.append((eqn, []))
        else:
            live.append((eqn, [v in needed for v in eqn.outvars]))
            if not is_constant(eqn):
                moving.update(operands)
    return live[::-1]


def space_of_aval(aval: Aval) -> ArraySpace:
    """The space of the tangents of a value."""
    return ArraySpace(tuple(aval.shape), aval.dtype, layout_of(aval))


def number_of(value: Value) -> complex | None:
    """The value as a Python number where it is a literal scalar, known while tracing; else None."""
    if type(value) in (bool, int, float, complex):
        return value  # type: ignore[no-any-return]
    own = isinstance(value, (int, float, complex))  # one of JAX's, which carries a dtype
    if not own and (isinstance(value, jax.Array) or getattr(value, "ndim", None) != 0):
        return None
    number: Any = np.asarray(value).item()
    return number if isinstance(number, (int, float, complex)) else None


def weak(number: complex, aval: Aval) -> Value:
    """A Python number as a value of this type, weakly typed where the type is."""
    array = jnp.asarray(number)
    return array if aval.weak_type and array.dtype == aval.dtype else jnp.asarray(number, aval.dtype)


def carries_derivatives(aval: Aval) -> bool:
    """Whether values of this type have tangents: floating-point and complex ones."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, np.inexact)


_CALLS = {"jit", "pjit", "closed_call", "core_closed_call"}


def inner_jaxpr(eqn: Any, *, custom: bool = False) -> tuple[Any, Sequence[Any]] | None:
    """The body and its constants of an equation that only calls it (a nested ``jit``), else None.

    With ``custom`` also that of a function with a ``custom_jvp``.  Arrays placed on a device together are a call for each.
    """
    name = eqn.primitive.name
    if name in _CALLS or (custom and name == "custom_jvp_call"):
        closed = eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
        return closed.jaxpr, closed.consts
    return (series.one_by_one(eqn), ()) if name == "device_put" and len(eqn.outvars) > 1 else None


def opened(jaxpr: Any, *, custom: bool = False) -> Iterator[tuple[Any, Any, Sequence[Any] | None]]:
    """The live equations of a program with what it calls in the place of the calls, in their order.

    Each as ``(eqn, None, None)``; a call as ``(eqn, body, constants)`` before its body, and ``(eqn, body, None)`` behind it.
    ``custom`` is that of `inner_jaxpr`.
    """
    stack: list[Any] = [(iter(live_equations(jaxpr)), None, None)]
    while stack:
        equations, call, inside = stack[-1]
        eqn, _ = next(equations, (None, None))
        if eqn is None:
            stack.pop()
            if call is not None:
                yield call, inside, None
        elif (body := inner_jaxpr(eqn, custom=custom)) is None:
            yield eqn, None, None
        else:
            stack.append((iter(live_equations(body[0])), eqn, body[0]))
            yield eqn, *body


def inner_equations(params: dict[str, Any]) -> list[Any]:
    """The equations of all jaxprs among an equation's parameters."""
    return [eqn for jaxpr in series.jaxprs_in_params(params) for eqn in jaxpr.eqns]


def every_equation(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program, and of all that is inside of them."""
    waiting = list(jaxpr.eqns)
    while waiting:
        yield (eqn := waiting.pop())
        waiting.extend(inner_equations(eqn.params))


_IDENTITIES: set[Any] = set()


def last_axis(x: Value, axis: int) -> tuple[Value, int]:
    """An array with this axis moved behind the others, and where it is then."""
    return jnp.moveaxis(x, axis, -1), x.ndim - 1


def identity_primitive(name: str, on_cpu: Callable[..., Any], batch: Callable[..., Any] = lambda x, axis: (x, axis)) -> Any:
    """A primitive that is the identity to all of JAX, and is compiled on a CPU as this function, an identity too.

    Its parameters are handed to that function; ``batch(x, axis)`` may move the axis of ``vmap`` before.
    """
    primitive: Any = series.Primitive(name)
    primitive.def_impl(lambda x, **params: x)
    primitive.def_abstract_eval(lambda x, **params: x)

    def batched(args: Any, axes: Any, **params: Any) -> Any:
        x, axis = batch(args[0], axes[0])
        return primitive.bind(x, **params), axis

    batching.primitive_batchers[primitive] = batched
    ad.primitive_jvps[primitive] = lambda primals, tangents, **params: (primitive.bind(primals[0], **params), tangents[0])
    mlir.register_lowering(primitive, lambda context, x, **params: [x])
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False), platform="cpu")
    _IDENTITIES.add(primitive)
    return primitive


def call_primitive(name: str, marked: Callable[[Any], tuple[dict[str, str], Any]]) -> Callable[..., list[Any]]:
    """A function ``call(function, arrays)`` that evaluates ``function(*arrays)``, a list of arrays.

    Compiled for one device, a CPU, it is a call with marks for the compiler: these and what is called are ``marked(jaxpr)``.
    To all else of JAX it is the function itself.
    """
    primitive: Any = series.Primitive(name)
    primitive.multiple_results = True

    def evaluated(*args: Any, jaxpr: Any) -> Any:
        return jaxpr(*args) if callable(jaxpr) else eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)

    def batched(args: Any, axes: Any, *, jaxpr: Any) -> Any:
        size = next(x.shape[k] for x, k in zip(args, axes, strict=True) if k is not None)
        function = jax.vmap(partial(evaluated, jaxpr=jaxpr), in_axes=tuple(axes), axis_size=size)
        out = primitive.bind(*args, jaxpr=series.traced(function, args, None))
        return out, [0] * len(out)

    def pushed(primals: Any, tangents: Any, *, jaxpr: Any) -> Any:
        return jax.jvp(partial(evaluated, jaxpr=jaxpr), tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))

    def call(function: Callable[..., Any], arrays: Sequence[Any]) -> list[Any]:
        # None of them is then a constant, which XLA would put into the body.
        arrays = [jax.lax.optimization_barrier(x) for x in arrays]  # type: ignore[no-untyped-call]
        at_once = is_batched_here() and any(map(is_batched, arrays))  # then it is traced with the batch
        out: list[Any] = primitive.bind(*arrays, jaxpr=function if at_once else series.traced(function, arrays, None))
        return out

    primitive.def_impl(evaluated)
    primitive.def_abstract_eval(lambda *avals, jaxpr: [v.aval for v in jaxpr.jaxpr.outvars])
    batching.primitive_batchers[primitive] = batched
    ad.primitive_jvps[primitive] = pushed
    ad.primitive_transposes[primitive] = partial(series.transposed_call, evaluated)
    mlir.register_lowering(primitive, mlir.lower_fun(evaluated, multiple_results=True))
    mlir.register_lowering(primitive, partial(series.lowered_call, name=name, marked=marked), platform="cpu")
    _CALLS.add(name)
    return call


def is_identity(eqn: Any) -> bool:
    """Whether an equation passes its operands on, as one of `identity_primitive` does: its derivative is no edge."""
    return eqn.primitive in _IDENTITIES or eqn.primitive.name == "optimization_barrier"


def is_compiling() -> bool:
    """Whether a program is being traced, as `jax.jit` does, under whatever other transforms."""
    return any(isinstance(t, series.DynamicJaxprTrace) for t in series.transforms())


def is_batching() -> bool:
    """Whether `jax.vmap` is at work, as far as is known: not where it comes after ``jit``."""
    return any(isinstance(t, series.BatchTrace) for t in series.transforms())


def is_batched_here() -> bool:
    """Whether what is computed now goes to `jax.vmap` at once: not into a program that is differentiated or kept."""
    return isinstance(next(series.transforms(), None), series.BatchTrace)


def points() -> int:
    """How many examples `jax.vmap` has of what is computed now, in all batches that it goes to at once."""
    batches = takewhile(lambda transform: isinstance(transform, series.BatchTrace), series.transforms())
    return prod(batch.axis_data.size for batch in batches)


def is_sized(jaxpr: Any) -> bool:
    """Whether all sizes here are numbers: `jax.export` has symbols for those that it leaves open, of batches too."""
    shapes = [getattr(v.aval, "shape", ()) for v in (*jaxpr.invars, *jaxpr.constvars)]
    return all(isinstance(n, int) for n in (points(), *(n for shape in shapes for n in shape)))


def is_batched(x: Value) -> bool:
    """Whether `jax.vmap`, as far as it is at work here, has one of these for each example."""
    return is_traced(x) and isinstance(x._trace, series.BatchTrace)


def as_array(x: Value, aval: Aval) -> Value:
    """A value as an array of JAX's (or a tracer) and of this type's dtype: literals and NumPy arrays are none."""
    if isinstance(x, jax.Array) and x.dtype == aval.dtype:
        return x
    if getattr(x, "dtype", None) == jax.dtypes.float0 or not hasattr(aval, "dtype"):
        return x
    if jnp.issubdtype(aval.dtype, jax.dtypes.extended):
        return x
    if is_traced(x):
        return jnp.asarray(x, aval.dtype)
    with jax.ensure_compile_time_eval():  # what is known stays so
        return weak(np.asarray(x).item(), aval) if aval.weak_type and not aval.shape else jnp.asarray(x, aval.dtype)
