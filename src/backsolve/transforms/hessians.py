"""Hessians of JAX functions: Jacobians of gradients, each by its own system.

Signatures, pytrees, shapes and dtypes are those of `jax.hessian`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from backsolve.capture import Traced
from backsolve.capture.linearized import Linearized, name_of
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import has_own_rules
from backsolve.transforms.derivatives import (
    Argnums,
    Form,
    check_real_output,
    checked_trace,
    grad,
    jacobian_of,
    like,
    packed_program,
    system_of,
    value_and_grad,
)
from backsolve.transforms.sparse import sparse_derivative
from backsolve.transforms.whole import compiled_whole, function_of, is_outside
from backsolve.xla.packed import in_vectors

__all__ = ["hessian", "value_grad_and_hessian"]


def hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    order: Any = "auto",
    format: str = "array",
    layout: str | None = None,
    chunk: int | None = None,
) -> Callable[..., Any]:
    """Return the function that gives the Hessian of fun, the Jacobian of its gradient; as `jax.hessian`.

    ``order``, ``format``, ``layout`` and ``chunk`` are those of `jacobian`, for the gradient's system.  A sparse Hessian
    (``format="sparse"`` or "scipy") is that of a scalar fun and exactly symmetric, in its pattern and its numbers: only its
    lower triangle is worked out.  (Not so over several devices, where it is symmetric to rounding, nor where fun calls a
    function with a custom rule that is not JAX's own: what that says need not be a derivative.)
    Raises as `jacobian`, and `TypeError` for ``format="sparse"`` and "scipy" where the output is no scalar.
    Cost: one evaluation of the gradient, and what the plan of its Jacobian says.

    Example:
        >>> import jax.numpy as jnp
        >>> hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
        Array([[4., 2.],
               [2., 0.]], dtype=float32)
    """
    form = Form(order, format, layout, chunk, mode="forward")
    if form.is_sparse:
        return _sparse_hessian(fun, argnums, has_aux, holomorphic, form, value=False)
    return _whole_hessian(_first_derivative, fun, argnums, has_aux, holomorphic, form, value=False)


def value_grad_and_hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    order: Any = "auto",
    format: str = "array",
    layout: str | None = None,
    chunk: int | None = None,
) -> Callable[..., Any]:
    """Return the function that gives (value, gradient, Hessian) of a scalar fun, from one evaluation; see `hessian`.

    With ``has_aux`` the first is (value, auxiliary data).

    Example:
        >>> import jax.numpy as jnp
        >>> value, gradient, H = value_grad_and_hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0]))
        >>> float(value), gradient.tolist(), H.tolist()
        (2.0, [4.0, 1.0], [[4.0, 2.0], [2.0, 0.0]])
    """
    form = Form(order, format, layout, chunk, mode="forward")
    if form.is_sparse:
        both = _sparse_hessian(fun, argnums, has_aux, holomorphic, form, value=True)
    else:
        both = _whole_hessian(_gradient_with_value, fun, argnums, has_aux, holomorphic, form, value=True)

    @like(fun, "value, gradient and Hessian of")
    def triple(*args: Any, **kwargs: Any) -> Any:
        (gradient, value), H = both(*args, **kwargs)
        return value, gradient, H

    return triple


def _whole_hessian(
    derivative_of: Callable[..., Any],
    fun: Any,
    argnums: Argnums,
    has_aux: bool,
    holomorphic: bool,
    form: Form,
    *,
    value: bool,
) -> Callable[..., Any]:
    """The Jacobian of a derivative, as an array or of operators; compiled where fun is one call of a jitted function."""

    def hessian_of(fun: Any, argnums: Argnums) -> Callable[..., Any]:
        inner = derivative_of(fun, argnums, has_aux, holomorphic)
        return jacobian_of(inner, argnums, has_aux or value, holomorphic, False, form, value=value)

    def of_program(program: Traced) -> Any:
        return hessian_of(function_of(program, has_aux=has_aux), 0)(jx.unflatten(program.tree, program.inputs))

    matrix_of = hessian_of(fun, argnums)

    @like(fun, "Hessian of")
    def matrix(*args: Any, **kwargs: Any) -> Any:
        otherwise = partial(matrix_of, *args, **kwargs)
        if not form.is_named or not is_outside():
            return otherwise()
        program = checked_trace(fun, args, kwargs, argnums, "hessian", has_aux, holomorphic, False)
        options = derivative_of, form.order, has_aux, holomorphic, value
        return compiled_whole(program, of_program, *options, otherwise=otherwise)

    return matrix


def _gradient_with_value(fun: Any, argnums: Argnums, has_aux: bool, holomorphic: bool) -> Callable[..., Any]:
    """The gradient, with what `value_and_grad` gives before it as auxiliary data."""
    both = value_and_grad(fun, argnums, has_aux, holomorphic)

    @like(fun, "derivative of")
    def derivative(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[::-1]

    return derivative


def _first_derivative(fun: Any, argnums: Argnums, has_aux: bool, holomorphic: bool) -> Callable[..., Any]:
    """The Jacobian as it is differentiated again: of a scalar by back substitution.

    That program selects what `fun` selects, so that infinities and NaN it hides stay hidden in every mode.
    """

    @like(fun, "derivative of")
    def derivative(*args: Any, **kwargs: Any) -> Any:
        system, aux = system_of(fun, args, kwargs, argnums, "hessian", has_aux, holomorphic, False)
        check_real_output(fun, system.value, holomorphic)
        scalar = jax.tree_util.all_leaves([system.value]) and jnp.shape(system.value) == ()
        first = system.vjp(jax.lax.full_like(system.value, 1)) if scalar else system.jacobian()
        return (first, aux) if has_aux else first

    return derivative


def _sparse_hessian(
    fun: Any, argnums: Argnums, has_aux: bool, holomorphic: bool, form: Form, *, value: bool
) -> Callable[..., Any]:
    """The Hessian alone, or with ``value`` ((gradient, value), Hessian)."""

    def derivative_of(fun: Any) -> Callable[..., Any]:
        return (_gradient_with_value if value else grad)(fun, argnums, has_aux, holomorphic)

    def build(args: Any, kwargs: Any) -> tuple[Linearized, Any, bool]:
        if not callable(fun):
            raise TypeError(f"expected a function of JAX arrays, got {fun!r} of type {type(fun).__name__}.")

        def value_alone() -> Any:  # arguments may be anything, and so may auxiliary data
            result = fun(*args, **kwargs)
            return result[0] if has_aux and isinstance(result, tuple | list) else result

        program, shape = jax.make_jaxpr(value_alone, return_shape=True)()
        if jax.tree_util.all_leaves([shape]) and shape.shape != ():
            raise TypeError(
                f"hessian with format={form.format!r} needs a scalar output, but {name_of(fun)} returns shape "
                f"{shape.shape}; reduce it (jnp.sum), or take format='array'."
            )
        inner = derivative_of(fun if has_aux or packed_program(program.jaxpr, program.consts) is None else in_vectors(fun))
        system, aux = system_of(inner, args, kwargs, argnums, "hessian", has_aux or value, holomorphic, False, fold=True)
        check_real_output(inner, system.value, holomorphic)
        return system, aux, not has_own_rules(program.jaxpr)

    name, aux = f"Hessian of {name_of(fun)}", has_aux or value
    derivative = sparse_derivative(build, name, form.order, has_aux=aux, layout=form.layout, value=value)
    return like(fun, "sparse Hessian of")(derivative)
