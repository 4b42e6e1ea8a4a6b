"""Products with a Jacobian, its transpose, and a Hessian: what forward and back substitution give without a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax

from backsolve.algebra.elements import short
from backsolve.capture import Traced, traced
from backsolve.capture.linearized import Linearized
from backsolve.system.system import check_loops
from backsolve.tracing import jaxpr as jx
from backsolve.transforms.derivatives import Argnums, checked_trace, grad
from backsolve.transforms.whole import are_known, compiled_whole, function_of, is_outside

__all__ = ["hvp", "jvp", "vjp"]


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False, loops: str = "sequential") -> Any:
    """Return fun(*primals) and the function g ↦ Mᵀ ((I − Lᵀ) \\ Sᵀ g), which gives a tuple of cotangents; as `jax.vjp`.

    ``loops`` is that of `grad`.
    Cost: one evaluation of fun; each call of the function, one application of the transpose of every edge.

    Example:
        >>> value, pull = vjp(lambda x, y: x * y, 2.0, 5.0)
        >>> pull(1.0)
        (Array(5., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    check_loops(loops)

    def of_program(program: Traced) -> Any:
        system, aux = program.system()
        system = system.with_loops(loops)
        function = _Pullback() if jx.is_compiling() else Linearized.vjp
        pull = jax.tree_util.Partial(function, system)  # type: ignore[no-untyped-call]  # a pytree: it may leave jit
        return (system.value, pull, aux) if has_aux else (system.value, pull)

    program = traced(fun, primals, tuple(range(len(primals))), has_aux=has_aux)
    return compiled_whole(program, of_program, "vjp", has_aux, loops)


class _Pullback:
    """The pullback of a system that comes out of a compiled program: outside of any it is compiled too, once for each.

    What it compiles lives as long as the program.  Copied and pickled it is the plain pullback.
    """

    def __init__(self) -> None:
        self._compiled = jax.jit(lambda system, g: system.vjp(g))

    def __call__(self, system: Linearized, g: Any) -> Any:
        return self._compiled(system, g) if is_outside() and are_known((system, g)) else system.vjp(g)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pullback)

    def __hash__(self) -> int:
        return hash(_Pullback)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return getattr, (Linearized, "vjp")


def jvp(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
    *,
    loops: str = "sequential",
) -> Any:
    """Return fun(*primals) and its change along the tangents,  S ((I − L) \\ M t);  as `jax.jvp`.

    ``loops`` is that of `grad`.
    Raises `TypeError` where tangents differ from primals in tree or dtype, `ValueError` in shape.
    Cost: one evaluation of fun and one application of every edge.

    Example:
        >>> jvp(lambda x: x * x, (3.0,), (1.0,))
        (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(
            "primals and tangents of jvp must be tuples or lists, "
            f"got {type(primals).__name__} and {type(tangents).__name__}."
        )
    check_loops(loops)

    def of_program(program: Traced, *tangents: Any) -> Any:
        system, aux = program.system()
        change = system.with_loops(loops).jvp(tangents)
        return (system.value, change, aux) if has_aux else (system.value, change)

    program = traced(fun, primals, tuple(range(len(primals))), has_aux=has_aux)
    return compiled_whole(program, of_program, "jvp", has_aux, loops, more=tangents)


def hvp(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, loops: str = "sequential") -> Any:
    """Return the Hessian-vector product of a scalar fun at the primals along the tangents: the change of its gradient.

    With one primal the result is shaped like it, with several it is a tuple.  ``loops`` is that of `grad`.
    Raises `TypeError` and `ValueError` as `grad` and `jvp` do.
    Cost: a few evaluations of fun; no Hessian is formed.

    Example:
        >>> import jax.numpy as jnp
        >>> hvp(lambda x: jnp.sum(x**3), (jnp.array([1.0, 2.0]),), (jnp.array([1.0, 0.0]),))
        Array([6., 0.], dtype=float32)
    """
    if not all(isinstance(given, tuple | list) for given in (primals, tangents)) or not 0 < len(primals) == len(tangents):
        raise TypeError(
            "primals and tangents of hvp must be tuples or lists, of one argument or more and as many of the one as of the "
            f"other, got {short(primals)} and {short(tangents)}."
        )
    argnums: Argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))

    def product(fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        return jvp(grad(fun, argnums, loops=loops), primals, tangents, loops=loops)[1]

    def of_program(program: Traced, *tangents: Any) -> Any:
        run, chosen = function_of(program), jx.unflatten(program.tree, program.inputs)
        if argnums == 0:
            return product(run, (chosen,), tangents)
        return product(lambda *primals: run(primals), chosen, tangents)

    otherwise = partial(product, fun, primals, tangents)
    if not is_outside():
        return otherwise()
    program = checked_trace(fun, primals, {}, argnums, "grad", False, False, False)
    return compiled_whole(program, of_program, "hvp", loops, more=tangents, otherwise=otherwise)
