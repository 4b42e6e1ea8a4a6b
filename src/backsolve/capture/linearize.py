"""`linearize`: trace a JAX function, evaluate it once, and put one operator on each edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ..system import System
from . import adapter as adapter  # registers how JAX arrays are multiplied
from . import jaxpr as jx
from . import pytrees as pytrees  # registers operators as pytrees
from .frames import TreeFrame
from .program import Program, walk

__all__ = ["Traced", "linearize", "linearize_with_aux", "traced"]


def linearize(f: Callable[..., Any], *primals: Any, argnums: int | Sequence[int] = 0) -> System:
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
    return linearize_with_aux(f, primals, argnums)[0]


def linearize_with_aux(
    f: Callable[..., Any], primals: Sequence[Any], argnums: int | Sequence[int], *, has_aux: bool = False, fold: bool = False
) -> tuple[System, Any]:
    """As `linearize`, for an f that returns (output, auxiliary data) if ``has_aux``; returns the system and the data.

    With ``fold`` indices and masks that follow from constants alone are worked out while tracing, also under ``jit``.
    """
    return traced(f, primals, argnums, has_aux=has_aux).system(fold=fold)


@dataclass(frozen=True)
class Traced:
    """A function as its jaxpr, and the values it is to be linearized at."""

    name: str
    jaxpr: Any
    consts: list[Any]
    inputs: list[Any]  # the leaves of the arguments by which it is differentiated
    tree: Any  # of these arguments
    out_tree: Any  # of the output and the auxiliary data
    structure: Any  # of the output alone

    def system(self, *, fold: bool = False, hold: bool = False) -> tuple[System, Any]:
        """The system, and the auxiliary data.

        With ``hold`` XLA works out the sines of single numbers once (see `held`); ``fold`` as in `linearize_with_aux`.
        """
        jaxpr, count = self.jaxpr, self.structure.num_leaves
        program = Program([jx.space_of_aval(v.aval) for v in jaxpr.invars], fold=fold, hold=hold)
        values, nodes = walk(jaxpr, self.consts, self.inputs, program)
        out_avals = [v.aval for v in jaxpr.outvars[:count]]
        M, L, S = program.matrices(nodes[:count], [jx.space_of_aval(a) for a in out_avals])
        values = [jnp.asarray(x) if jx.is_literal(v) else x for v, x in zip(jaxpr.outvars, values, strict=True)]
        value, aux = jx.unflatten(self.out_tree, values)
        inputs = TreeFrame(self.tree, [v.aval for v in jaxpr.invars], f"the tangents for {self.name}")
        outputs = TreeFrame(self.structure, out_avals, f"the cotangents for {self.name}")
        return System(M, L, S, value, inputs, outputs), aux


def traced(f: Callable[..., Any], primals: Sequence[Any], argnums: int | Sequence[int], *, has_aux: bool = False) -> Traced:
    """Trace f, which returns (output, auxiliary data) if ``has_aux``, as `linearize` does before it evaluates."""
    if not callable(f):
        raise TypeError(f"expected a function of JAX arrays, got {f!r} of type {type(f).__name__}.")
    numbers = normalized_argnums(argnums, len(primals), f)
    argnums = argnums if isinstance(argnums, Sequence) else numbers[0]
    chosen = primals[numbers[0]] if isinstance(argnums, int) else tuple(primals[i] for i in numbers)
    leaves, tree = jax.tree_util.tree_flatten(chosen)
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, (jax.Array, bool, int, float, complex)) and not hasattr(leaf, "__array__"):
            raise TypeError(
                f"argument {argnums} of {_name(f)}, leaf {i}, is {leaf!r} of type {type(leaf).__name__}, not an array; "
                "differentiate by other arguments, or close over it."
            )
    leaves = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in leaves]
    shapes: list[Any] = []

    def flat(*values: Any) -> tuple[Any, Any]:
        given = jx.unflatten(tree, values)
        arguments = list(primals)
        for i, value in zip(numbers, (given,) if isinstance(argnums, int) else given, strict=True):
            arguments[i] = value
        out = f(*arguments)
        if not has_aux:
            out = (out, None)
        elif not isinstance(out, (tuple, list)) or len(out) != 2:
            raise TypeError(f"with has_aux, {_name(f)} must return a pair (output, auxiliary data), got {out!r}.")
        shapes.append(jax.tree_util.tree_structure(out[0]))
        return out[0], out[1]

    flat.__name__ = _name(f)
    flat.__wrapped__ = f  # type: ignore[attr-defined]  # so that errors point at the user's own line
    jaxpr, consts, out_tree = jx.trace(flat, leaves)
    return Traced(_name(f), jaxpr, consts, leaves, tree, out_tree, shapes[-1])


def normalized_argnums(argnums: int | Sequence[int], count: int, f: Callable[..., Any]) -> list[int]:
    """argnums as a list of positions from 0.  Raises `ValueError` where one is out of range, `TypeError` for no int."""
    out = []
    for i in argnums if isinstance(argnums, Sequence) else (argnums,):
        if not hasattr(i, "__index__"):
            raise TypeError(f"argnums must be an int or a sequence of ints, got {argnums!r}.")
        if not -count <= i < count:
            raise ValueError(
                f"argnums {i} is out of range: {_name(f)} is called with {count} positional argument"
                f"{'' if count == 1 else 's'}."
            )
        out.append(int(i) % count)
    return out


def _name(f: Any) -> str:
    return getattr(f, "__name__", None) or type(f).__name__
