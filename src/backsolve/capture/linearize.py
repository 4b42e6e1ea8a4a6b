"""`linearize`: trace a JAX function, evaluate it once, and put one operator on each edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from backsolve.capture.linearized import Leaves, Linearized
from backsolve.capture.names import Point
from backsolve.capture.walk import Program, walk
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import linearized
from backsolve.tracing.series import held_by

__all__ = ["Traced", "linearize", "linearize_with_aux", "traced"]


def linearize(f: Callable[..., Any], *primals: Any, argnums: int | Sequence[int] = 0) -> Linearized:
    """Return the system of f at the primals:  dx = M dp + L dx,  dy = S dx,  with p the arguments ``argnums``.

    f is any function JAX can trace, its inputs and output pytrees of arrays; ``.value`` is f(*primals).  ``.vjp(g)`` takes
    a pytree like the output and returns one like the argument (a tuple of them for several ``argnums``), ``.jvp(t)`` the
    other way round.  Works on concrete arrays and under ``jax.jit``, ``vmap`` and ``grad``.

    Raises `TypeError` where f is not callable, cannot be traced, or an argument is no array, `ValueError` for argnums out
    of range.
    Cost: tracing f once and evaluating it once, with the derivative of each primitive.
    Source: section 2 of the paper.

    Example:
        >>> import jax.numpy as jnp
        >>> system = linearize(lambda x: jnp.sum(jnp.sin(x) ** 2), jnp.zeros(3))
        >>> system.vjp(1.0)
        Array([0., 0., 0.], dtype=float32)
    """
    system = linearize_with_aux(f, primals, argnums)[0]
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
    for number, i, leaf in [(n, *found) for n in numbers for found in enumerate(jax.tree_util.tree_leaves(primals[n]))]:
        is_text = getattr(getattr(leaf, "dtype", None), "kind", "") in ("O", "S", "U")
        if is_text or (not isinstance(leaf, (jax.Array, bool, int, float, complex)) and not hasattr(leaf, "__array__")):
            raise TypeError(
                f"argument {number} of {name_of(f)}, leaf {i}, is {leaf!r} of type {type(leaf).__name__}, not an array; "
                "differentiate by other arguments, or close over it."
            )
    leaves = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in leaves]
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
