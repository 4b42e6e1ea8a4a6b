"""JAX's internals, as all its tested releases have them: the only file that touches them, and that asks which JAX this is.

What has moved from release to release is read here once, and has one name for all others. A release newer than the newest
tested one is taken like that one, with a warning.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from importlib import import_module
from inspect import signature
from math import prod
from typing import Any

import jax
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.extend import linear_util, source_info_util
from jax.extend.core import ClosedJaxpr, Literal, Primitive
from jax.interpreters import ad as _ad
from jax.interpreters import batching as _batching
from jax.interpreters import mlir as _mlir

__all__ = [
    "MUL_PARAMS",
    "NEWEST",
    "NO_CONTEXT",
    "OLDEST",
    "SERIES",
    "BatchTrace",
    "BatchTracer",
    "DynamicJaxprTrace",
    "Literal",
    "NamedAxisEffect",
    "Primitive",
    "ShardingTypeError",
    "Tracer",
    "ad",
    "array",
    "batching",
    "beside",
    "bind_primitive",
    "check_series",
    "constant_of",
    "ct_aval",
    "discharged",
    "eval_jaxpr",
    "eval_trace",
    "explicit_mesh",
    "fun_sourceinfo",
    "held_by",
    "in_this_mesh",
    "internal",
    "is_foreign",
    "is_high",
    "is_spread",
    "jaxprs_in_params",
    "layout_of",
    "linear_util",
    "linearized",
    "lowered_call",
    "made_by",
    "mesh_context",
    "mlir",
    "moved_by_numpy",
    "no_effects",
    "plain",
    "pulled",
    "scan_counts",
    "set_current_trace",
    "source_info_util",
    "sparse_implementation",
    "staged",
    "staged_batch",
    "staged_number",
    "struct",
    "traced",
    "transforms",
    "varying_as",
    "varying_axes",
    "zeros",
]

OLDEST, NEWEST = (0, 8), (0, 12)  # between which the tests are run: `make matrix`
SERIES: tuple[int, ...] = jax.version.__version_info__


def _dotted(series: tuple[int, ...]) -> str:
    return ".".join(map(str, series))


_REMEDY = f'install one that it was tested with: pip install "jax>={_dotted(OLDEST)},<{NEWEST[0]}.{NEWEST[1] + 1}"'


def check_series(series: tuple[int, ...]) -> None:
    """Warn of a JAX that is newer than the newest tested one; refuse one that is older than the oldest.

    Raises ImportError there.
    """
    known = f"{_dotted(OLDEST)} to {_dotted(NEWEST)}"
    if series[:2] < OLDEST:
        raise ImportError(f"backsolve needs JAX {known}, and this is JAX {_dotted(series)}; {_REMEDY}.")
    if series[:2] > NEWEST:
        warnings.warn(
            f"JAX {_dotted(series)} is newer than what backsolve was tested with ({known}); where it fails, {_REMEDY}.",
            stacklevel=2,
        )


def internal(*places: str) -> Any:
    """What stands in JAX at the first of these places that exists, ``module:name`` each.

    Raises ImportError where none does.
    """
    for place in places:
        module, _, name = place.partition(":")
        try:
            return reduce(getattr, name.split("."), import_module(module))
        except (ImportError, AttributeError):
            continue
    raise ImportError(
        f"backsolve uses {' or '.join(places)} of JAX's internals, which JAX {_dotted(SERIES)} does not have; {_REMEDY}."
    )


check_series(SERIES)

# ---- what has not moved --------------------------------------------------------------------------------------------------
ad: Any = _ad  # these are untyped in JAX
batching: Any = _batching
mlir: Any = _mlir
ArrayImpl = internal("jax._src.array:ArrayImpl")
BatchTrace = internal("jax._src.interpreters.batching:BatchTrace")
BatchTracer = internal("jax._src.interpreters.batching:BatchTracer")
ShardingTypeError = internal("jax.errors:ShardingTypeError", "jax._src.core:ShardingTypeError")
NamedAxisEffect = internal("jax._src.core:NamedAxisEffect")
DynamicJaxprTrace = internal("jax._src.interpreters.partial_eval:DynamicJaxprTrace")
ValAccum = internal("jax._src.interpreters.ad:ValAccum")
config_context = internal("jax._src.config:trace_context")
debug_info = internal("jax._src.api_util:debug_info")
eval_trace = internal("jax._src.core:eval_trace")
fancy_transposes = internal("jax._src.interpreters.ad:fancy_transposes")
fun_sourceinfo = internal("jax._src.api_util:fun_sourceinfo")
jaxprs_in_params = internal("jax.extend.core:jaxprs_in_params", "jax._src.core:jaxprs_in_params")
no_effects = internal("jax._src.core:no_effects")
set_current_trace = internal("jax._src.core:set_current_trace")
trace_context = internal("jax._src.core:trace_ctx")
_pvary = internal("jax._src.core:pvary")
_zeros_like_aval = internal("jax._src.ad_util:zeros_like_aval")
_mutable_arrays = internal("jax._src.core:internal_mutable_array_effect")
_discharge = internal("jax._src.state.discharge:discharge_state")
_ManualAxisType: Any = getattr(jax.sharding, "ManualAxisType", None)  # since 0.10
_linearize = internal("jax.interpreters.ad:linearize")
_trace = internal("jax.interpreters.partial_eval:trace_to_jaxpr_dynamic")
_TypedArray = internal("jax._src.literals:TypedNdArray")

# ---- what has ------------------------------------------------------------------------------------------------------------
# Some within a series: then it is asked for the thing itself, not for the number of the release.
MUL_PARAMS: dict[str, Any] = {"out_dtype": None} if "out_dtype" in signature(jax.lax.mul).parameters else {}  # since 0.10
_DISCHARGES_OPEN = "consts" in signature(_discharge).parameters  # until 0.10.1 a jaxpr and its constants apart
_LINEARIZES_WRAPPED = "primals_ft" not in signature(_linearize).parameters  # until 0.10.1
if not _LINEARIZES_WRAPPED:
    _flat_tree = internal("jax._src.flattree:flatten", "jax._src.tree_util:FlatTree.flatten")  # since 0.11, in 0.10.2


def plain(x: Any) -> Any:
    """A constant of a program as an array of NumPy's, where it is one of JAX's own kind that is none (until 0.8)."""
    return x.val if isinstance(x, _TypedArray) and not isinstance(x, np.ndarray) else x


def closed_jaxpr(jaxpr: Any, consts: Sequence[Any]) -> Any:
    """A jaxpr with its constants."""
    close: Any = ClosedJaxpr
    return close(jaxpr, list(map(plain, consts)))


def traced(fun: Callable[..., Any], args: Sequence[Any], source: str | None) -> Any:
    """The closed jaxpr of a function from arrays to a list of arrays, with ``source`` as where it stands in errors."""
    debug = debug_info("backsolve", fun, args, {}, sourceinfo=source)
    types = [jax.typeof(x) for x in args]
    jaxpr, _, consts = _trace(linear_util.wrap_init(fun, debug_info=debug), types)
    closed = closed_jaxpr(jaxpr, consts)
    return discharged(closed) if _mutable_arrays in jaxpr.effects else closed


def one_by_one(eqn: Any) -> Any:
    """An equation of several operands, each with an output and parameters of its own, as a jaxpr of one for each."""

    def each(*arrays: Any) -> list[Any]:
        own = [{name: (value[k],) for name, value in eqn.params.items()} for k in range(len(arrays))]
        return [eqn.primitive.bind(x, **params)[0] for x, params in zip(arrays, own, strict=True)]

    return jax.make_jaxpr(each)(*(v.aval for v in eqn.invars)).jaxpr


def discharged(closed: Any) -> Any:
    """The closed jaxpr with plain values in the place of mutable arrays."""
    if _DISCHARGES_OPEN:
        return closed_jaxpr(*_discharge(closed.jaxpr, closed.consts))
    return _discharge(closed)


def linearized(fun: Callable[..., Any], point: Sequence[Any]) -> tuple[list[Any], list[bool], Any]:
    """A function's outputs at a point, which of them have tangents, and the closed jaxpr from tangents to those.

    ``fun`` returns a list of arrays.  Raises ValueError where its rules compute value and tangent in one go.
    """
    if _LINEARIZES_WRAPPED:
        debug = debug_info("linearize", fun, point, {})
        out, tangents, jaxpr, consts = _linearize(linear_util.wrap_init(fun, debug_info=debug), *point)
        return list(out), [not t.is_known() for t in tangents], closed_jaxpr(jaxpr, consts)
    out, zero, jaxpr, consts, *residuals = _linearize(fun, _flat_tree(tuple(point)))
    structured = jax.tree_util.tree_leaves(residuals)
    if structured:  # since 0.11.1: more constants, whose places come behind the tangents
        first, last = len(consts), len(jaxpr.invars) - len(structured)
        places = jaxpr.invars
        jaxpr = jaxpr.replace(invars=[*places[:first], *places[last:], *places[first:last]])
        consts = [*consts, *structured]
    return list(out), [not z for z in zero], closed_jaxpr(jaxpr, consts)


def bind_primitive(primitive: Any, params: dict[str, Any], inputs: Sequence[Any]) -> list[Any]:
    """Evaluate a primitive with the parameters of an equation; a list with one value an output."""
    bound = primitive.get_bind_params(params)
    functions, bound = bound if isinstance(bound, tuple) else ((), bound)  # until 0.9.0 the functions among them apart
    out = primitive.bind(*functions, *inputs, **bound)
    return list(out) if primitive.multiple_results else [out]


_FOLDS = internal("jax._src.config:eager_constant_folding")  # what `jax.ensure_compile_time_eval` sets


def stages(trace: Any, inputs: Sequence[Any]) -> bool:
    """Whether an operation on these goes into a program that is being traced, and is not done at once."""
    return type(trace) is DynamicJaxprTrace and (not _FOLDS.value or any(isinstance(x, Tracer) for x in inputs))


def staged(
    trace: Any, primitive: Any, params: Any, avals: Sequence[Any], inputs: Sequence[Any], source: Any, context: Any = None
) -> list[Any]:
    """An equation without effects, put into the program being traced; its results have these types."""
    tracers = [trace.to_jaxpr_tracer(x, source) for x in inputs]
    return list(trace.emit_eqn(tracers, avals, primitive, params, no_effects, source, context))


def _entrywise_type(avals: Sequence[Any], dtype: Any, weak_type: bool) -> Any:
    """The type of what an operation on entries makes of arrays of one type, but for their dtypes; None of others."""
    if not avals:
        return None
    first = avals[0]
    for aval in avals[1:]:
        if aval is not first and (aval if aval.dtype == first.dtype else aval.update(dtype=first.dtype)) != first:
            return None
    if first.dtype == dtype and first.weak_type == weak_type:
        return first
    return first.update(dtype=dtype, weak_type=weak_type)


def staged_number(primitive: Any, params: Any, dtype: Any, numbers: Sequence[Any]) -> Any:
    """An operation on numbers, whose types are told here and not found out by JAX where all have one but for the dtype."""
    trace = next(transforms())
    avals: list[Any] = [x.aval for x in numbers if isinstance(x, Tracer)]
    weak_type = len(avals) == len(numbers) and all(aval.weak_type for aval in avals)
    aval = _entrywise_type(avals, dtype, weak_type) if type(trace) is DynamicJaxprTrace else None
    if aval is None:
        return bind_primitive(primitive, params, numbers)[0]
    return staged(trace, primitive, params, [aval], numbers, source_info_util.current())[0]


_RULES = internal("jax._src.interpreters.batching:fancy_primitive_batchers")
_ENTRYWISE = (  # rules that call the primitive on arrays that have the batch, and on numbers
    internal("jax._src.interpreters.batching:broadcast_batcher"),
    internal("jax._src.interpreters.batching:vectorized_batcher"),
)


def staged_batch(trace: Any, eqn: Any, inputs: Sequence[Any], source: Any) -> list[Any] | None:
    """An equation under ``vmap``, put into the program being traced as one on all examples of the batch at once.

    As JAX's own rules do of an operation on entries of arrays of one shape and on numbers, without asking for types again;
    None where it is not as plain.
    """
    parent = trace.parent_trace
    rule = getattr(_RULES.get(eqn.primitive), "func", None)
    if type(parent) is not DynamicJaxprTrace or rule not in _ENTRYWISE or trace.axis_data.spmd_name:
        return None
    values, avals = [], []
    for x in inputs:
        if isinstance(x, BatchTracer) and x._trace.tag is trace.tag:
            if x.batch_dim != 0 or not isinstance(x.val, Tracer):
                return None
            x = x.val
            avals.append(x.aval)
        elif np.ndim(x):
            return None
        values.append(x)
    out = eqn.outvars[0].aval
    aval = _entrywise_type(avals, out.dtype, out.weak_type)
    if aval is None:
        return None
    outputs = staged(parent, eqn.primitive, eqn.params, [aval], values, source, eqn.ctx)
    return [BatchTracer(trace, x, 0, source) for x in outputs]


def constant_of(x: Any) -> Any:
    """The constant that a value of the program being traced stands for; None where it stands for none."""
    return plain(x.get_const()) if isinstance(getattr(x, "_trace", None), DynamicJaxprTrace) else None


def made_by(x: Any) -> tuple[Any, int] | None:
    """The equation of the program being traced that made a value, before any barrier, and which of its outputs that is.

    None where no such equation did.
    """
    eqn = getattr(x, "parent", None) if isinstance(getattr(x, "_trace", None), DynamicJaxprTrace) else None
    place = next(((eqn, k) for k, v in enumerate(eqn.outvars) if v is x.val), None) if eqn is not None else None
    if place is not None and place[0].primitive.name == "optimization_barrier":
        return made_by(place[0].invars[place[1]])
    return place


def sparse_implementation(name: str) -> Callable[..., Any]:
    """How JAX evaluates a primitive of its sparse matrices, by others."""
    implementation: Callable[..., Any] = internal(f"jax.experimental.sparse.{name.partition('_')[0]}:_{name}_impl")
    return implementation


def is_high(eqn: Any) -> bool:
    """Whether an equation (a searchsorted since 0.12) has to be made of others before it is compiled."""
    return bool(eqn.primitive.is_high(*(v.aval for v in eqn.invars), **eqn.params))


def transposed_call(evaluated: Callable[..., Any], cotangents: Any, *args: Any, **params: Any) -> list[Any]:
    """A transposition rule's cotangents, of a call that is linear in some operands; None of the others."""
    linear = [ad.is_undefined_primal(x) for x in args]

    def function(*moving: Any) -> Any:
        rest = iter(moving)
        return evaluated(*(next(rest) if m else x for x, m in zip(args, linear, strict=True)), **params)

    struct: Any = jax.ShapeDtypeStruct
    types = [struct(x.aval.shape, x.aval.dtype) for x, m in zip(args, linear, strict=True) if m]
    cotangents_in = iter(jax.linear_transpose(function, *types)(list(map(ad.instantiate_zeros, cotangents))))
    return [next(cotangents_in) if m else None for m in linear]


def lowered_call(context: Any, *args: Any, jaxpr: Any, name: str, marked: Callable[[Any], tuple[Any, Any]]) -> Any:
    """A lowering rule's call of a program, as it is ``marked`` for the compiler where it is compiled here, for one device.

    With them it returns its arguments too, whose copies nobody reads: XLA's CPU compiler ends the process where it finds
    that a call which it writes down as one function has no use for one of them, and that the results are one array.
    """
    module, (attributes, own) = context.module_context, marked(jaxpr)
    alone = isinstance(module.axis_context, mlir.ShardingContext) and module.axis_context.num_devices == 1
    if not attributes or not alone or module.lowering_parameters.for_export:
        return mlir.core_call_lowering(context, *args, name=name, call_jaxpr=jaxpr)
    inner, count = own.jaxpr, len(context.avals_out)
    info = inner.debug_info.with_unknown_names()
    both = closed_jaxpr(inner.replace(outvars=[*inner.outvars, *inner.invars], debug_info=info), own.consts)
    context = context.replace(avals_out=[*context.avals_out, *context.avals_in])
    out = mlir.core_call_lowering(context, *args, name=name, call_jaxpr=both)
    text = {key: mlir.ir.StringAttr.get(value) for key, value in attributes.items()}
    out[0].owner.attributes["mhlo.frontend_attributes"] = mlir.ir.DictAttr.get(text)
    return out[:count]


def is_foreign(x: Any) -> bool:
    """Whether x is an array of what JAX has no arrays of: objects, text, dates, numbers of more than double precision."""
    dtype: Any = getattr(x, "dtype", None)
    kind = getattr(dtype, "kind", "")
    return kind in ("O", "S", "U", "M", "m") or (kind in ("f", "c") and bool(dtype.itemsize > {"f": 8, "c": 16}[kind]))


def ct_aval(aval: Any) -> Any:
    """The type of the cotangents of values of this type."""
    for name in ("to_ct_aval", "to_cotangent_aval", "to_tangent_aval"):  # since 0.9.2, in 0.8.1 to 0.9.1, in 0.8.0
        if hasattr(aval, name):
            return getattr(aval, name)()
    raise ImportError(f"JAX {_dotted(SERIES)} has no type of cotangents for {aval}; {_REMEDY}.")


def pulled(eqn: Any, params: dict[str, Any], cotangents: Any, operands: Sequence[Any], moving: Sequence[bool]) -> list[Any]:
    """JAX's own transposition of a linear equation: a cotangent, None or a symbolic zero for each moving operand."""
    operands = list(zip(operands, eqn.invars, moving, strict=True))
    primitive = eqn.primitive
    if primitive in fancy_transposes:
        accumulators = [ValAccum(ct_aval(v.aval)) if m else x for x, v, m in operands]
        order: Sequence[int] = range(len(operands))
        if primitive.name == "scan" and "linear" in params:  # until 0.9
            order, params = _scan_in_order(params, moving)
        fancy_transposes[primitive](cotangents, *(accumulators[k] for k in order), **params)
        return [a.freeze() for a, m in zip(accumulators, moving, strict=True) if m]
    undefined = [ad.UndefinedPrimal(v.aval) if m else x for x, v, m in operands]
    out = ad.get_primitive_transpose(primitive)(cotangents, *undefined, **params)
    return [ct for ct, m in zip(out, moving, strict=True) if m]


def _scan_in_order(params: dict[str, Any], moving: Sequence[bool]) -> tuple[Sequence[int], dict[str, Any]]:
    """A scan as its transposition wants it: of what stays, what moves comes last; of what is sliced, it comes first."""
    consts, carried = scan_counts(params)
    first = consts + carried
    order = [
        *sorted(range(consts), key=lambda k: moving[k]),
        *range(consts, first),
        *sorted(range(first, len(moving)), key=lambda k: not moving[k]),
    ]
    linear = tuple(moving[k] for k in order)
    if order == list(range(len(moving))) and linear == tuple(params["linear"]):
        return order, params
    body = params["jaxpr"]
    jaxpr = body.jaxpr.replace(
        invars=[body.jaxpr.invars[k] for k in order], debug_info=body.jaxpr.debug_info.with_unknown_names()
    )
    return order, {**params, "linear": linear, "jaxpr": closed_jaxpr(jaxpr, body.consts)}


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many operands of a scan stay, and how many are carried; the others are sliced."""
    if "ft_in" not in params:  # until 0.10
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(consts), len(carry)


def transforms() -> Iterator[Any]:
    """The transforms at work, the innermost first."""
    current: Any = trace_context.trace
    while current is not None:
        yield current
        current = getattr(current, "parent_trace", None)


# ---- what types, values and equations say of how arrays are spread over devices; `layouts.py` brings them elsewhere -------
def layout_of(aval: Any) -> Any:
    """How arrays of this type are spread over devices, where the type says so: over a mesh with explicit axes; else None.

    None too where the sum over devices is still to be taken, which the type of a cotangent says otherwise than a tangent's.
    """
    sharding = getattr(aval, "sharding", None)
    if sharding is None or not sharding.mesh.explicit_axes:
        return None
    return None if getattr(sharding.spec, "unreduced", None) or getattr(sharding.spec, "reduced", None) else sharding


def is_spread(aval: Any) -> bool:
    """Whether arrays of this type may lie on several devices: on a mesh with more than one, outside of a ``shard_map``."""
    sharding = getattr(aval, "sharding", None)
    return sharding is not None and sharding.mesh.size > 1 and not sharding.mesh.manual_axes


def varying_axes(aval: Any) -> frozenset[str]:
    """The axes of a ``shard_map`` over which values of this type may differ from device to device."""
    own = getattr(aval, "vma", None)  # until 0.9
    return getattr(getattr(aval, "mat", None), "varying", frozenset()) if own is None else own


_VMA = "vma" in signature(jax.ShapeDtypeStruct).parameters  # until 0.9


def struct(aval: Any, shape: tuple[int, ...] | None = None) -> Any:
    """The type of arrays that vary over the axes that this type varies over, of another shape where one is given."""
    axes = varying_axes(aval)
    make: Any = jax.ShapeDtypeStruct
    spec: Any = jax.sharding.PartitionSpec
    varying: dict[str, Any] = {}
    if axes:
        varying = {"vma": axes} if _VMA else {"manual_axis_type": _ManualAxisType(varying=axes)}
        varying["sharding"] = jax.sharding.NamedSharding(aval.sharding.mesh, spec())
    return make(aval.shape if shape is None else shape, aval.dtype, **varying)


def varying_as(x: Any, *avals: Any) -> Any:
    """The same numbers, by their type varying over the axes that these types vary over, inside their ``shard_map``."""
    axes = frozenset[str]().union(*map(varying_axes, avals))
    missing = axes and (axes - varying_axes(jax.typeof(x))).intersection(jax.sharding.get_abstract_mesh().manual_axes)
    return _pvary(x, tuple(missing)) if missing else x


def explicit_mesh(xs: Iterable[Any]) -> Any:
    """The mesh of the first of these values whose type says how it is spread, over explicit axes; else None."""
    for x in xs:
        sharding = getattr(jax.typeof(x), "sharding", None)
        if sharding is not None and sharding.mesh.explicit_axes:
            return sharding.mesh
    return None


def held_by(x: Any) -> Any:
    """The sharding of a concrete array that lies on several devices; else None."""
    if isinstance(x, Tracer) or not isinstance(x, jax.Array):
        return None
    return x.sharding if len(x.sharding.device_set) > 1 else None


def in_this_mesh(eqn: Any) -> bool:
    """Whether an equation belongs to the mesh of the context, not to one whose axes ``auto_axes``, say, has changed."""
    return eqn.ctx.cur_abstract_mesh is jax.sharding.get_abstract_mesh()


NO_CONTEXT: Any = contextlib.nullcontext()


def mesh_context(x: Any) -> Any:
    """The mesh of an array as that of the context, where both have one: it may be of an ``auto_axes`` that is over."""
    own, current = x.aval.sharding.mesh, jax.sharding.get_abstract_mesh()
    if own is current or own.empty or current.empty:
        return NO_CONTEXT
    return jax.sharding.use_abstract_mesh(own)


FEW = 1 << 16  # numbers that NumPy copies in less than a tenth of a millisecond


def moved_by_numpy(move: Callable[..., Any], xs: Sequence[Any] = (), size: int = 0) -> Any:
    """``move(*xs)``, which puts entries elsewhere, by NumPy; None where these are not few numbers, or not on a CPU alone.

    What JAX does eagerly is a program for each shape, of 10 to 30 ms to compile, microseconds to run.  ``size`` is that of
    the result, where more than the operands may not be few.
    """
    if trace_context.trace is not eval_trace or size > FEW or not all(map(_is_few, xs)):
        return None
    if jax.device_count() > 1 or jax.default_backend() != "cpu" or not jax.sharding.get_abstract_mesh().empty:
        return None
    moved = move(*map(np.asarray, xs))
    parts = moved if isinstance(moved, list) else [moved]
    own = all(type(x) is ArrayImpl for x in xs)  # JAX's arrays stay what they are, NumPy's may be written to
    out = [jax.device_put(part if own else np.array(part)) for part in parts]
    if any(x.dtype != part.dtype for x, part in zip(out, parts, strict=True)):  # double precision, where JAX has none now
        return None
    return out if isinstance(moved, list) else out[0]


def array(x: Any) -> Any:
    """A value as an array of JAX's, which makes one of NumPy's by a program for each shape (since 0.10): this copies it."""
    plain = type(x) is np.ndarray and x.dtype.kind in "biufc" and x.dtype.isnative
    put = plain and trace_context.trace is eval_trace and jax.sharding.get_abstract_mesh().empty
    return jax.device_put(np.array(x)) if put else jax.numpy.asarray(x)


def zeros(aval: Any) -> Any:
    """Zeros of a value of this type."""
    kind = getattr(getattr(aval, "dtype", None), "kind", "V")
    plain = kind in "biufc" and not getattr(aval, "weak_type", False) and layout_of(aval) is None
    out = moved_by_numpy(lambda: np.zeros(aval.shape, aval.dtype), size=prod(aval.shape)) if plain else None
    if out is None:
        return jax.numpy.zeros(aval.shape, aval.dtype) if type(aval) is jax.ShapeDtypeStruct else _zeros_like_aval(aval)
    return out


def _is_few(x: Any) -> bool:
    """Whether these are few numbers of NumPy's or of an array that JAX may put where it wants."""
    if type(x) is np.ndarray:
        return bool(x.size <= FEW)
    return type(x) is ArrayImpl and x.size <= FEW and not (x.weak_type or x._committed) and isinstance(x.dtype, np.dtype)


def beside(values: Iterable[Any]) -> Any:
    """The mesh with explicit axes of the first of these concrete arrays as that of the context, where that has none.

    Of numbers that a program holds beside its arrays, their types say that mesh, and JAX evaluates them nowhere else.
    """
    if not jax.sharding.get_abstract_mesh().empty or next(transforms()) is not eval_trace:
        return NO_CONTEXT
    for x in values:
        held = None if isinstance(x, Tracer) else getattr(x, "sharding", None)
        if (
            isinstance(held, jax.sharding.NamedSharding)
            and isinstance(held.mesh, jax.sharding.Mesh)
            and held.mesh.explicit_axes
        ):
            return jax.set_mesh(held.mesh)
    return NO_CONTEXT
