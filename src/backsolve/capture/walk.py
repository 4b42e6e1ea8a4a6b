"""One walk over a jaxpr: every equation is evaluated once and becomes a node with an operator on each edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.dtypes import float0

from backsolve.algebra.spaces import Space
from backsolve.capture.folding import fold
from backsolve.capture.opaque import LinearEquation
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators import Identity, LinearOperator, TupleSpace
from backsolve.operators.moves import Component
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent, linearize_equation, push_tangents
from backsolve.tracing.jaxpr import FALLBACK, Primitive, record_of
from backsolve.tracing.series import NamedAxisEffect, in_this_mesh

__all__ = ["Program", "one_way", "walk"]

PLAIN = ("y", "dimension_numbers", "start_indices", "limit_indices", "strides")  # parameters that are numbers alone


Operation = tuple[str, Mapping[str, Any], tuple[Any, ...]] | None


class Told(NamedTuple):
    """A name and an operation that need no equation any more."""

    name: str
    operation: Operation


def _plain(operation: Operation) -> Operation:
    if operation is None:
        return None
    name, params, operands = operation
    return name, {key: params[key] for key in PLAIN if key in params}, operands


class Names(Sequence[str]):
    """Names of nodes, made when somebody reads them."""

    def __init__(self, origins: list[Any]) -> None:
        self.origins = origins

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, i: Any) -> Any:
        origin = self.origins[i]
        if isinstance(origin, Told):
            return origin.name
        return origin if isinstance(origin, str) else jx.where(origin[0], origin[1], jx.called(origin[0]))

    def operation(self, i: int) -> Operation:
        """The primitive that makes node i, its parameters and its operands; None where it is part of a linearization.

        An operand is a number of a node (−1, −2, … of a source), a float of a literal, or None of what is not varied.
        """
        origin = self.origins[i]
        if isinstance(origin, Told):
            return origin.operation
        if isinstance(origin, str) or len(origin) < 3:
            return None
        eqn, _, preds = origin
        return eqn.primitive.name, eqn.params, tuple(map(_operand, eqn.invars, preds))

    def outline(self) -> Names:
        """The same without the equations, which hold more than what is told of them."""
        return Names([Told(self[i], _plain(self.operation(i))) for i in range(len(self))])

    def __reduce__(self) -> tuple[Any, ...]:
        """The names alone: equations of a traced program cannot be copied."""
        return Names, (list(self),)


def _operand(atom: Any, pred: int | None) -> int | float | None:
    if pred is not None:
        return pred
    value = jx.literal_value(atom) if jx.is_literal(atom) else None
    return None if value is None or np.ndim(value) or np.iscomplexobj(value) else float(value)


class Program:
    """Nodes and edges as they are found.  Sources are numbered −1, −2, …, nodes 0, 1, …"""

    def __init__(self, sources: Sequence[Space], *, fold: bool = False) -> None:
        self.sources = list(sources)
        self.fold = fold  # whether indices and masks that follow from constants are worked out while tracing
        self.spaces: list[Space] = []
        self.origins: list[Any] = []
        self.into_nodes: dict[tuple[int, int], Any] = {}  # (node, node) → operator
        self.from_sources: dict[tuple[int, int], Any] = {}  # (node, source) → operator

    def node(self, space: Space, origin: Any, edges: Sequence[tuple[int, LinearOperator]]) -> int:
        """Add a node with these (predecessor, operator) edges; several from one predecessor are added up."""
        i = len(self.spaces)
        self.spaces.append(space)
        self.origins.append(origin)
        for j, op in edges:
            table, place = (self.into_nodes, (i, j)) if j >= 0 else (self.from_sources, (i, -1 - j))
            table[place] = table[place] + op if place in table else op
        return i

    def matrices(self, outputs: Sequence[int | None], spaces: Sequence[Space]) -> tuple[OperatorMatrix, ...]:
        """M, L and the sinks S, for outputs that are nodes or sources (None: constant)."""
        ends: dict[tuple[int, int], Any] = {}
        for row, (node, space) in enumerate(zip(outputs, spaces, strict=True)):
            if node is None:
                continue
            if node < 0:  # an output that is an input passes through a node of its own
                node = self.node(space, "output", [(node, Identity(space))])
            ends[row, node] = Identity(space)
        n = len(self.spaces)
        names = Names(self.origins)
        M = OperatorMatrix(self.from_sources, (n, len(self.sources)), self.spaces, self.sources, names=names)
        L = OperatorMatrix(self.into_nodes, (n, n), self.spaces, self.spaces, names=names)
        S = OperatorMatrix(ends, (len(outputs), n), list(spaces), self.spaces)
        return M, L, S


def _across(*matrices: OperatorMatrix) -> set[str]:
    """Names of the axes of a `vmap` or `shard_map` around the program over which its edges sum, or move numbers."""
    names: set[str] = set()
    waiting = [op for A in matrices for op in A.entries.values()]
    for op in waiting:  # it grows meanwhile
        waiting.extend(getattr(op, "terms", ()))
        names |= _named_axes(op.eqn) if isinstance(op, LinearEquation) else set()
    return names


def one_way(order: Any, *matrices: OperatorMatrix) -> str | None:
    """In which mode alone there is a Jacobian where edges mix the examples of a batch around the program; else None.

    With an edge of one example such an edge has no product that is one of one example.  What is left are JAX's two modes:
    the rows of all examples pulled back together ("reverse", "auto"), or the columns pushed ("forward").
    Raises `ValueError` for any other ``order``, which may be another thing that is wanted of the edges.
    """
    names = sorted(_across(*matrices))
    if not names:
        return None
    modes = {"auto": "reverse", "reverse": "reverse", "forward": "forward"}
    if not isinstance(order, str) or order not in modes:
        raise ValueError(
            f"the function sums, or moves numbers, over the axis {names[0]!r} of a vmap or shard_map around it, so that its "
            "edges are none of one example. Take format='array' with order='reverse' (as jax.jacrev) or 'forward' (as "
            "jax.jacfwd), which differ, or differentiate the batched function."
        )
    return modes[order]


class Frame:
    """One jaxpr in work: its equations, the values and nodes of its variables, and what to do with its results."""

    __slots__ = ("caller", "equations", "nodes", "origin", "outvars", "resume", "values")

    def __init__(
        self,
        jaxpr: Any,
        values: dict[Any, Any],
        nodes: dict[Any, int],
        resume: Any,
        origin: Any,
        wanted: Sequence[bool] | None = None,
        caller: Any = None,
    ) -> None:
        self.equations: Iterator[Any] = iter(jx.live_equations(jaxpr, wanted))
        self.outvars = jaxpr.outvars
        self.values = values
        self.nodes = nodes
        self.resume = resume  # takes (values, nodes) of the outputs
        self.origin = origin  # (equation, caller) that this frame stands for, where it is a linearization
        self.caller = caller  # the outermost call that led here

    def read(self, atom: Any) -> tuple[Any, int | None]:
        """Value and node of an operand; the value of a tangent is None."""
        if jx.is_literal(atom):
            return jx.literal_value(atom), None
        return self.values.get(atom), self.nodes.get(atom)

    def write(self, variables: Sequence[Any], values: Sequence[Any], nodes: Sequence[int | None]) -> None:
        """Set variables to values and nodes."""
        for v, value, node in zip(variables, values, nodes, strict=True):
            self.values[v] = value
            if node is not None:
                self.nodes[v] = node


def walk(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], program: Program, sources: Sequence[int | None] | None = None
) -> tuple[list[Any], list[int | None]]:
    """Evaluate a jaxpr once and record the edges between its inputs (the program's sources) and its outputs.

    Of a linear jaxpr the inputs are tangents (None), of the sources with these numbers; one without a number is a value.
    Returns the values and the nodes of the outputs.  Nested calls are entered, linearized equations spliced in, on a
    stack of their own: nothing recurses.
    """
    results: list[tuple[list[Any], list[int | None]]] = []
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    numbers = range(len(jaxpr.invars)) if sources is None else sources
    pairs = [(k, v) for k, v in zip(numbers, jaxpr.invars, strict=True) if k is not None]
    nodes = {v: -1 - k for k, v in pairs if jx.carries_derivatives(v.aval)}
    stack = [Frame(jaxpr, values, nodes, lambda vs, ns: results.append((vs, ns)), None)]
    while stack:
        frame = stack[-1]
        eqn, wanted = next(frame.equations, (None, []))
        if eqn is None:
            stack.pop()
            read = [frame.read(v) for v in frame.outvars]
            frame.resume([value for value, _ in read], [node for _, node in read])
            continue
        inner = _step(frame, eqn, wanted, program)
        if inner is not None:
            stack.append(inner)
    return results[0]


def _step(frame: Frame, eqn: Any, wanted: list[bool], program: Program) -> Frame | None:
    """Evaluate one equation and record its edges; or return the frame that does so."""
    read = [frame.read(v) for v in eqn.invars]
    inputs = [value for value, _ in read]
    preds = [node for _, node in read]
    if program.fold and "branches_platforms" in eqn.params:  # a choice that the device makes for all of them
        eqn, inputs, preds = _on_this_platform(eqn), inputs[1:], preds[1:]
    body = jx.inner_jaxpr(eqn)
    if not wanted or all(node is None for node in preds):
        if program.fold and body is not None and not eqn.effects:
            return _enter(frame, eqn, body, inputs, preds, None)
        values = fold(eqn, inputs) if program.fold else None
        values = jx.bind(eqn, inputs) if values is None else values
        frame.write(eqn.outvars, values, [None] * len(eqn.outvars))
        return None
    if jx.is_identity(eqn):
        frame.write(eqn.outvars, inputs if any(x is None for x in inputs) else jx.bind(eqn, inputs), preds)
        return None
    if body is not None:
        return _enter(frame, eqn, body, inputs, preds, wanted)
    active = [node is not None for node in preds]
    tangents = [k for k, (value, a) in enumerate(zip(inputs, active, strict=True)) if a and value is None]
    eq = jx.Equation(eqn, inputs, active)
    record = record_of(eq.name)
    origin = frame.origin or (eqn, frame.caller)
    here = in_this_mesh(eqn)  # elsewhere the equation itself is applied, as no other operator knows where it belongs
    if here and record.serves(eqn, tangents) and _by_record(frame, eq, record, preds, bool(tangents), program, origin):
        return None
    if here and record.edges is not None:
        _by_outputs(frame, eq, record.edges(eq), preds[0], bool(tangents), program, origin)
        return None
    if tangents:
        _as_it_stands(frame, eq, preds, program, origin)
        return None
    return _linearized(frame, eq, preds, wanted, origin)


def _enter(
    frame: Frame, eqn: Any, body: Any, inputs: list[Any], preds: list[int | None], wanted: list[bool] | None
) -> Frame:
    jaxpr, consts = body
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    nodes = {v: node for v, node in zip(jaxpr.invars, preds, strict=True) if node is not None}
    return Frame(
        jaxpr, values, nodes, lambda vs, ns: frame.write(eqn.outvars, vs, ns), frame.origin, wanted, frame.caller or eqn
    )


def _by_record(
    frame: Frame, eq: jx.Equation, record: Primitive, preds: list[int | None], tangent: bool, program: Program, origin: Any
) -> bool:
    """Put down the edges that a primitive's record gives; False where it declines."""
    (outvar,) = eq.eqn.outvars
    if not tangent:
        (eq.output,) = eq.bind()
    node = None
    if jx.carries_derivatives(outvar.aval):
        edges = []
        for k, pred in enumerate(preds):
            if pred is None:
                continue
            op = record.edge(eq, k)
            if op is FALLBACK:
                return False
            if op is not None:
                edges.append((pred, op))
        if edges:
            told = origin if tangent or frame.origin else (*origin, preds)
            node = program.node(jx.space_of_aval(outvar.aval), told, edges)
    value = eq.output
    if tangent and node is None:
        value = jx.zeros(outvar.aval)
    frame.write([outvar], [value], [node])
    return True


def _by_outputs(
    frame: Frame,
    eq: jx.Equation,
    edges: list[LinearOperator],
    pred: int | None,
    tangent: bool,
    program: Program,
    origin: Any,
) -> None:
    """Put down one edge for each output of an equation with one operand."""
    assert pred is not None
    outvars = eq.eqn.outvars
    values = [None] * len(outvars) if tangent else eq.bind()
    nodes = [program.node(jx.space_of_aval(v.aval), origin, [(pred, op)]) for v, op in zip(outvars, edges, strict=True)]
    frame.write(outvars, values, nodes)


def _as_it_stands(frame: Frame, eq: jx.Equation, preds: list[int | None], program: Program, origin: Any) -> None:
    """A linear equation without a rule: one edge, from the tuple of its tangents to the tuple of its outputs."""
    eqn = eq.eqn
    op = LinearEquation(eqn, [None if a else x for x, a in zip(eq.inputs, eq.active, strict=True)])
    moving = [node for node in preds if node is not None]
    source = moving[0]
    if isinstance(op.domain, TupleSpace):
        for i, j in enumerate(moving):
            if j in moving[:i]:  # the same tangent twice: the second time through a node of its own
                space = op.domain.parts[i]
                moving[i] = program.node(space, origin, [(j, Identity(space))])
        source = program.node(
            op.domain, origin, [(j, Component(i, op.domain, transposed=True)) for i, j in enumerate(moving)]
        )
    out = program.node(op.codomain, origin, [(source, op)])
    nodes: list[int | None] = [out]
    tangents = [getattr(v.aval, "dtype", None) != float0 for v in eqn.outvars]
    if isinstance(op.codomain, TupleSpace):
        parts = [(out, Component(i, op.codomain)) for i in range(len(op.codomain.parts))]
        nodes = [
            program.node(space, origin, [edge]) if t else None
            for space, edge, t in zip(op.codomain.parts, parts, tangents, strict=True)
        ]
    values: list[Any] = [None if t else jx.zeros(v.aval) for v, t in zip(eqn.outvars, tangents, strict=True)]
    moved = dependent(eqn, eq.active)
    if not all(moved):  # a loop, say, that carries numbers beside their tangents
        still = [jx.zeros(v.aval) for v, x in zip(eqn.invars, eq.inputs, strict=True) if x is None]
        at_zero = push_tangents(eqn, eq.inputs, eqn.params, still)
        values = [value if m else x for value, x, m in zip(values, at_zero, moved, strict=True)]
        nodes = [node if m else None for node, m in zip(nodes, moved, strict=True)]
    frame.write(eqn.outvars, values, nodes)


def _linearized(frame: Frame, eq: jx.Equation, preds: list[int | None], wanted: list[bool], origin: Any) -> Frame:
    """JAX's linearization of the equation, spliced in as a frame over the tangents of its active operands."""
    out, moves, jaxpr, consts = linearize_equation(eq.eqn, eq.inputs, eq.active, wanted)
    given = [v.aval for v, w in zip(eq.eqn.outvars, wanted, strict=True) if w]
    for aval, v in zip([a for a, m in zip(given, moves, strict=True) if m], jaxpr.outvars, strict=True):
        if tuple(v.aval.shape) != tuple(aval.shape):
            raise TypeError(
                f"{jx.where(*origin)}: its derivative has shape {tuple(v.aval.shape)}, its value shape {tuple(aval.shape)}. "
                "A custom rule must give tangents of the shape of its values; under vmap JAX drops the batch of constants."
            )
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    nodes: dict[Any, int] = {}
    moving = [node for node in preds if node is not None]
    for v, node in zip(jaxpr.invars, moving, strict=True):
        values[v] = None
        nodes[v] = node

    def resume(_: list[Any], tangents: list[int | None]) -> None:
        it = iter(tangents)
        outvars = [v for v, w in zip(eq.eqn.outvars, wanted, strict=True) if w]
        frame.write(outvars, out, [next(it) if m else None for m in moves])

    return Frame(jaxpr, values, nodes, resume, origin)


def _on_this_platform(eqn: Any) -> Any:
    """Of a choice by platforms, a call of the branch that the default device takes, without the operand that chooses."""
    platforms = eqn.params["branches_platforms"]
    own = jax.default_backend()
    number = next((k for k, names in enumerate(platforms) if names is not None and own in names), platforms.index(None))
    branch = eqn.params["branches"][number]
    call = jax.make_jaxpr(jax.jit(lambda *args: jx.evaluated(branch, args)))
    struct: Any = jax.ShapeDtypeStruct
    call_eqn = call(*[struct(v.aval.shape, v.aval.dtype) for v in eqn.invars[1:]]).eqns[0]
    return call_eqn.replace(invars=eqn.invars[1:], outvars=eqn.outvars, source_info=eqn.source_info)


def _named_axes(eqn: Any) -> set[str]:
    """Names of the axes of a `vmap` or `shard_map` around the program over which an equation works.

    As JAX puts them down in its effects; a permutation has none there.
    """
    axes: set[str] = set()
    waiting = [eqn]
    for at in waiting:  # it grows meanwhile
        axes |= {effect.name for effect in at.effects if isinstance(effect, NamedAxisEffect)}
        if at.primitive.name in ("pbroadcast", "ppermute"):
            names = at.params["axis_name"]
            axes |= {names} if isinstance(names, str) else set(names)
        elif at.primitive.name != "shard_map":  # which has axes of its own inside
            waiting.extend(jx.inner_equations(at.params))
    return axes
