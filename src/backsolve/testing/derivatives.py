"""Checks of derivatives: a function against finite differences, a rule of your own against JAX (in `backsolve.testing`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.arrays import is_number
from backsolve.algebra.elements import describe, short
from backsolve.capture import linearize
from backsolve.operators import SpaceError
from backsolve.testing.operators import require_number
from backsolve.tracing.series import Primitive
from backsolve.transforms import products

__all__ = ["check_grad", "check_rule"]


def check_grad(
    f: Callable[..., Any], args: Sequence[Any], *, rtol: float = 1e-6, step: float = 1e-5, directions: int = 3, seed: int = 0
) -> None:
    """Check the derivatives of f, forward and reverse, against central differences, and raise where they are wrong.

    f is any function of JAX arrays with floating-point inputs and outputs (other leaves are left alone).  Along random
    unit directions t and for random cotangents g, ⟨g, J t⟩ is compared, as `backsolve.jvp` and `backsolve.vjp` give it,
    with  ⟨g, f(x + h t) − f(x − h t)⟩ / 2h  at h and h/2, extrapolated (Richardson), in double precision.

    Raises `AssertionError` saying which mode is wrong and by how much; `TypeError` and `ValueError` where it is asked
    wrongly, or there is nothing to check.
    Cost: four evaluations of f and one derivative of each mode, for each direction.
    Source: Nocedal & Wright, *Numerical Optimization*, section 8.1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> check_grad(lambda x: jnp.sum(jnp.sin(x) * x), (jnp.array([1.0, 2.0]),))
        >>> @jax.custom_jvp
        ... def f(x):
        ...     return x**2
        >>> _ = f.defjvp(lambda x, t: (f(*x), 3.0 * t[0]))
        >>> check_grad(f, (1.0,))
        Traceback (most recent call last):
        ...
        AssertionError: f: forward mode is wrong in direction 0: ⟨g, J t⟩ = -0.377191, but by central differences -0.25146
    """

    given: Any = args
    if not isinstance(given, tuple | list):
        raise TypeError(f"args of check_grad are a tuple or list of arguments, got {describe(args)}.")
    require_number("rtol", rtol)
    require_number("step", step, positive=True)
    require_number("directions", directions, positive=True, whole=True)
    name = getattr(f, "__name__", type(f).__name__)
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        args = tuple(jax.tree.map(_double, a) for a in args)
        value, pull = products.vjp(f, *args)
        _require_floats(name, args, value)
        for direction in range(directions):
            g, t = _random(value, rng), _unit(_random(args, rng))
            coarse, fine = (_slope(f, args, t, g, h) for h in (step, step / 2))
            expected = (4 * fine - coarse) / 3
            gradients = {
                "forward": _inner(g, products.jvp(f, args, t)[1]),
                "reverse": _inner(pull(g), t),
            }
            if not np.isfinite(expected):
                raise AssertionError(
                    f"{name} is not finite at these arguments, or next to them: its differences are {expected}."
                )
            scale = max(abs(expected), _size(g) * _size(value) * 1e-3, 1e-9)
            for mode, got in gradients.items():
                if not abs(got - expected) <= rtol * scale:
                    raise AssertionError(
                        f"{name}: {mode} mode is wrong in direction {direction}: ⟨g, J t⟩ = {got:.6g}, "
                        f"but by central differences {expected:.6g}"
                    )


def check_rule(primitive: Any, *args: Any, rtol: float = 1e-6, seed: int = 0, **params: Any) -> None:
    """Check the rule of a primitive (or of every primitive in a function) at these arguments, and raise where it is wrong.

    Checked are: that the derivative has the output's shape and dtype, and the gradient the inputs'; the transpose,
    ⟨g, J t⟩ = ⟨Jᵀ g, t⟩;  and the value of J t, against `jax.linearize` where JAX can differentiate the primitive, and
    against central differences where it cannot.  ``params`` are the primitive's parameters.

    Raises `AssertionError` saying which of these fails, with both values; otherwise as `check_grad`.
    Cost: one evaluation and a few derivatives.

    Example:
        >>> import jax.numpy as jnp
        >>> from backsolve.extend import Primitive
        >>> from backsolve import extend
        >>> twice = Primitive("twice_of_doctest")
        >>> _ = twice.def_impl(lambda x: 2 * x), twice.def_abstract_eval(lambda x: x)
        >>> extend.elementwise(twice, lambda x, y: 3.0)
        >>> check_rule(twice, jnp.ones(2))
        Traceback (most recent call last):
        ...
        AssertionError: twice_of_doctest: the value is wrong: ⟨g, J t⟩ = 0.308168, but by central differences 0.205446
    """

    f, name = _callable(primitive, params)
    require_number("rtol", rtol)
    if not args:
        raise TypeError(f"check_rule needs the arguments at which {name} is checked: check_rule({name}, *arrays).")
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        args = tuple(jax.tree.map(_double, a) for a in args)
        _check_rule(f, name, args, rng, rtol)


def _check_rule(f: Callable[..., Any], name: str, args: tuple[Any, ...], rng: np.random.Generator, rtol: float) -> None:
    numbers = tuple(range(len(args)))
    try:
        system = linearize(f, *args, argnums=numbers)
        value = system.value
        g, t = _random(value, rng), _unit(_random(args, rng))
        change, gradient = system.jvp(t), system.vjp(g)
    except SpaceError as error:
        raise AssertionError(f"{name}: the rule's operator has the wrong shape: {error}") from error
    except ValueError as error:
        raise AssertionError(f"{name}: the rule does not serve: {error}") from error
    _require_floats(name, args, value)
    _check_like(name, "J t", change, value)
    _check_like(name, "Jᵀ g", gradient, args)
    left, right = _inner(g, change), _inner(gradient, t)
    scale = max(abs(left), abs(right), _size(g) * _size(change), 1e-12)
    if not abs(left - right) <= rtol * scale:
        raise AssertionError(f"{name}: the transpose is wrong: ⟨g, J t⟩ = {left:.6g}, but ⟨Jᵀ g, t⟩ = {right:.6g}")
    expected, source = _reference(f, args, t, g)
    if not abs(left - expected) <= rtol * max(abs(expected), _size(g) * _size(change), 1e-12):
        raise AssertionError(f"{name}: the value is wrong: ⟨g, J t⟩ = {left:.6g}, but by {source} {expected:.6g}")


def _reference(f: Callable[..., Any], args: tuple[Any, ...], t: Any, g: Any) -> tuple[float, str]:
    """⟨g, J t⟩ without our rules."""

    try:
        return _inner(g, jax.linearize(f, *args)[1](*t)), "jax.linearize"
    except NotImplementedError:  # JAX has no rule of its own for the primitive
        coarse, fine = (_slope(f, args, t, g, h) for h in (1e-5, 5e-6))
        return (4 * fine - coarse) / 3, "central differences"


def _callable(primitive: Any, params: dict[str, Any]) -> tuple[Callable[..., Any], str]:
    if isinstance(primitive, Primitive):
        bind: Any = primitive.bind  # untyped in JAX
        return (lambda *operands: bind(*operands, **params)), primitive.name
    if not callable(primitive):
        raise TypeError(f"check_rule takes a primitive or a function, got {primitive!r} of type {type(primitive).__name__}.")
    name = getattr(primitive, "__name__", type(primitive).__name__)
    return (lambda *operands: primitive(*operands, **params)) if params else primitive, name


# ---- pytrees of NumPy numbers: leaves that are not floating-point stay as they are and have tangents of dtype float0 -----
def _require_floats(name: str, args: Any, value: Any) -> None:
    """Raise `ValueError` where there is no derivative to check."""
    for what, tree in (("input", args), ("output", value)):
        if not any(jnp.issubdtype(jnp.result_type(leaf), np.inexact) for leaf in jax.tree.leaves(tree)):
            raise ValueError(f"{name} has no floating-point {what} here, so that there is nothing to check.")


def _double(leaf: Any) -> Any:
    if not (is_number(leaf) or hasattr(leaf, "dtype")):
        raise TypeError(f"the arguments of a check are arrays and numbers, got {short(leaf)}.")
    array = jnp.asarray(leaf)
    if not jnp.issubdtype(array.dtype, np.inexact):
        return array
    return array.astype(complex if jnp.issubdtype(array.dtype, np.complexfloating) else float)


def _random(tree: Any, rng: np.random.Generator) -> Any:
    def one(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), np.inexact):
            return np.zeros(jnp.shape(leaf), jax.dtypes.float0)
        x = rng.standard_normal(jnp.shape(leaf))
        if jnp.issubdtype(jnp.result_type(leaf), np.complexfloating):
            x = x + 1j * rng.standard_normal(jnp.shape(leaf))
        return jnp.asarray(x, jnp.result_type(leaf))

    return jax.tree.map(one, tree)


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if getattr(leaf, "dtype", None) != jax.dtypes.float0]


def _size(tree: Any) -> float:
    return float(np.sqrt(sum(float(np.sum(np.abs(leaf) ** 2)) for leaf in _leaves(tree) if leaf.dtype.kind in "fc")))


def _unit(tree: Any) -> Any:
    size = _size(tree)
    return jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else leaf / size, tree) if size else tree


def _inner(a: Any, b: Any) -> float:
    """Re Σ a·b, JAX's pairing of cotangents and tangents."""
    pairs = zip(_leaves(a), _leaves(b), strict=True)
    return float(sum(np.real(np.sum(x * y)) for x, y in pairs if x.dtype.kind in "fc"))


def _slope(f: Callable[..., Any], args: Any, t: Any, g: Any, h: float) -> float:
    """⟨g, f(x + h t) − f(x − h t)⟩ / 2h."""

    def moved(c: float) -> list[Any]:
        return jax.tree.leaves(f(*jax.tree.map(lambda x, s: x if s.dtype == jax.dtypes.float0 else x + c * s, args, t)))

    total = 0.0
    for weight, up, down in zip(jax.tree.leaves(g), moved(h), moved(-h), strict=True):
        if weight.dtype != jax.dtypes.float0:
            total += float(np.real(np.sum(np.asarray(weight) * (np.asarray(up) - np.asarray(down)))))
    return total / (2 * h)


def _check_like(name: str, what: str, got: Any, expected: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        if a.dtype == jax.dtypes.float0:
            continue
        if jnp.shape(a) != jnp.shape(b) or a.dtype != jnp.result_type(b):
            raise AssertionError(
                f"{name}: {what} has shape {jnp.shape(a)} and dtype {a.dtype}, "
                f"expected {jnp.shape(b)} and {jnp.result_type(b)}"
            )
