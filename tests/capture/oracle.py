"""What the tests of this folder compare with: JAX's own derivatives, trees, shapes and dtypes included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import backsolve as bs

from ..quick import optimized

float0 = jax.dtypes.float0


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers in double precision, the same for the same seed."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between ½ and 2."""
    return np.random.default_rng((seed, *shape)).uniform(0.5, 2.0, shape)


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between 0.1 and 0.9."""
    return np.random.default_rng((seed, *shape)).uniform(0.1, 0.9, shape)


def complex_normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Complex normal numbers."""
    return normal(*shape, seed=seed) + 1j * normal(*shape, seed=seed + 1000)


def spd(n: int, *, seed: int = 0) -> np.ndarray:
    """A positive definite matrix."""
    A = normal(n, n, seed=seed)
    return A @ A.T + n * np.eye(n)


def tolerance(dtype: Any) -> float:
    """1e-9 in double precision, a few units of the last place below."""
    eps = float(jnp.finfo(dtype).eps)
    return 1e-9 if eps < 1e-12 else 64 * eps


def assert_same(got: Any, expected: Any, rtol: float | None = None, what: str = "") -> None:
    """Equal trees, shapes, dtypes and, to the precision of the dtype, values (NaN where NaN)."""
    assert jax.tree.structure(got) == jax.tree.structure(expected), what
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        where = what + jax.tree_util.keystr(path)
        assert jnp.shape(a) == jnp.shape(b), f"{where}: shape {jnp.shape(a)}, expected {jnp.shape(b)}"
        assert dtype_of(a) == dtype_of(b), f"{where}: dtype {dtype_of(a)}, expected {dtype_of(b)}"
        assert_close(a, b, rtol, where)


def assert_close(a: Any, b: Any, rtol: float | None = None, where: str = "") -> None:
    """Values equal relative to the largest one (and to 1e-3, so that what cancels exactly may be a rounding error)."""
    dtype = dtype_of(b)
    if dtype == float0:
        return
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    x, y = np.asarray(a), np.asarray(b)
    if not jnp.issubdtype(dtype, np.inexact):
        np.testing.assert_array_equal(x, y, err_msg=where)
        return
    rtol = tolerance(dtype) if rtol is None else rtol
    wide = np.complex128 if jnp.issubdtype(dtype, np.complexfloating) else np.float64
    x, y = x.astype(wide), y.astype(wide)
    finite = np.abs(y[np.isfinite(y)])
    np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * float(finite.max(initial=1e-3)), err_msg=where)


def dtype_of(leaf: Any) -> Any:
    dtype = getattr(leaf, "dtype", None)
    return jnp.result_type(leaf) if dtype is None else dtype


def tangent(tree: Any, seed: int = 0) -> Any:
    """Random tangents (or cotangents) for a pytree: floating-point as the leaf, float0 for everything else."""
    numbers = iter(range(10_000))

    def one(leaf: Any) -> Any:
        shape, dtype = jnp.shape(leaf), dtype_of(leaf)
        if not jnp.issubdtype(dtype, np.inexact):
            return np.zeros(shape, float0)
        make = complex_normal if jnp.issubdtype(dtype, np.complexfloating) else normal
        return jnp.asarray(make(*shape, seed=seed + next(numbers)), dtype)

    return jax.tree.map(one, tree)


def pairing(a: Any, b: Any) -> Any:
    """Re Σ a·b over all leaves that carry derivatives, and the sum of the sizes of its terms."""
    leaves = [
        (np.asarray(x), np.asarray(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if dtype_of(x) != float0
    ]
    with np.errstate(all="ignore"):
        terms = [np.real(x.astype(complex) * y.astype(complex)) for x, y in leaves]
        return sum(float(np.sum(t)) for t in terms), sum(float(np.sum(np.abs(t))) for t in terms)


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    """jax.jit, which compiles quickly here."""
    return jax.jit(f)


def both(derivative: Callable[..., Any], *args: Any) -> Any:
    """derivative(backsolve, *args) and derivative(jax, *args), compiled as one program."""
    return compiled(lambda *xs: [derivative(library, *xs) for library in (bs, jax)])(*as_jax(args))


def assert_both_same(derivative: Callable[..., Any], *args: Any) -> None:
    """The same from backsolve and from jax."""
    assert_same(*both(derivative, *args))


def check(
    f: Callable[..., Any], args: Any, *, vjp: bool = True, jvp: bool = True, adjoint: bool = True, rtol: Any = None
) -> None:
    """Value, pullback and pushforward as JAX's, and adjoint to each other: ⟨g, J t⟩ = ⟨Jᵀ g, t⟩.

    Both are compiled in one program, which is much faster than running them operation by operation.
    """
    args = as_jax(args)
    g = tangent(jax.eval_shape(f, *args), seed=1)
    t = tangent(args, seed=2)
    got, expected = both(lambda m, args, g, t: _derivatives(m, f, args, g, t, vjp, jvp), args, g, t)
    for what, a, b in zip(("value", "vjp", "jvp"), got, expected, strict=True):
        assert_same(a, b, rtol, what)
    if vjp and jvp and adjoint:
        check_adjoint(g, got[2], got[1], t, rtol)


def _derivatives(library: Any, f: Any, args: Any, g: Any, t: Any, vjp: bool, jvp: bool) -> Any:
    value, gradient, change = None, None, None
    if vjp:
        value, pull = library.vjp(f, *args)
        gradient = pull(g)
    if jvp:
        value, change = library.jvp(f, args, t)
    return value, gradient, change


def check_adjoint(g: Any, change: Any, gradient: Any, t: Any, rtol: float | None = None) -> None:
    """⟨g, J t⟩ = ⟨Jᵀ g, t⟩, where everything is finite."""
    (left, left_size), (right, right_size) = pairing(g, change), pairing(gradient, t)
    if np.isfinite(left_size) and np.isfinite(right_size):
        inexact = [d for d in map(dtype_of, jax.tree.leaves((t, change))) if d != float0 and jnp.issubdtype(d, np.inexact)]
        bound = max(map(tolerance, inexact), default=1e-9) if rtol is None else rtol
        assert abs(left - right) <= bound * max(left_size, right_size, 1.0), f"⟨g, J t⟩ = {left}, ⟨Jᵀ g, t⟩ = {right}"


def as_jax(args: Any) -> tuple[Any, ...]:
    """NumPy arrays as JAX arrays; Python scalars and float0 stay what they are."""

    def one(x: Any) -> Any:
        return jax.device_put(x) if isinstance(x, (np.ndarray, np.generic)) and x.dtype != float0 else x

    return tuple(jax.tree.map(one, a) for a in args)


def primitives_in(jaxpr: Any) -> Iterator[str]:
    """Names of all primitives of a jaxpr, inner ones too."""
    stack = [jaxpr]
    while stack:
        inner = stack.pop()
        inner = getattr(inner, "jaxpr", inner)
        for eqn in inner.eqns:
            yield eqn.primitive.name
            params = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda p: hasattr(p, "eqns"))
            stack.extend(p for p in params if hasattr(p, "eqns") or hasattr(p, "jaxpr"))


ORDERS = ("auto", "forward", "reverse", "markowitz")
FORMATS = ("array", "operator", "sparse")
# Each with each, but not the operators of a given order: as arrays they are eliminated in it too, and then written down.
CHOICES = [(order, form) for order in ORDERS for form in FORMATS if form != "operator" or order == "auto"]


def as_arrays(found: Any, like: Any) -> Any:
    """A derivative in whatever format as the arrays of the pytree ``like``."""
    if isinstance(found, bs.OperatorMatrix):
        m, n = found.shape
        leaves = [found[i, j].todense() for i in range(m) for j in range(n)]
    else:
        leaves = jax.tree.leaves(found, is_leaf=lambda leaf: hasattr(leaf, "to_scipy"))
        leaves = [leaf.todense() if hasattr(leaf, "to_scipy") else leaf for leaf in leaves]
    shapes = jax.tree.leaves(like)
    assert len(leaves) == len(shapes)
    arrays = [np.reshape(np.asarray(leaf), np.shape(s)) for leaf, s in zip(leaves, shapes, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def assert_everywhere(
    derivative: Any,
    f: Callable[..., Any],
    args: Any,
    expected: Any,
    rtol: float = 1e-9,
    *,
    alone: bool = False,
    **options: Any,
) -> None:
    """A Jacobian or Hessian of ours is this in every order and format, eagerly and compiled.

    All are compiled as one program; ``alone``, each as one of its own with all optimisations, which takes longer and is
    for what an optimizing compiler may get wrong.  Sparse ones are compiled inside, in whatever order: eagerly in one.
    """
    runs = {(order, form): derivative(f, order=order, format=form, **options) for order, form in CHOICES}
    together = [] if alone else jax.jit(lambda *xs: [run(*xs) for run in runs.values()])(*args)
    for k, (choice, run) in enumerate(runs.items()):
        results = {"jit": optimized(run)(*args) if alone else together[k]}
        if choice[1] != "sparse" or choice[0] == "auto":
            results["eager"] = run(*args)
        for way, found in results.items():
            for a, b in zip(jax.tree.leaves(as_arrays(found, expected)), jax.tree.leaves(expected), strict=True):
                assert_close(a, b, rtol, f"{choice}, {way}")
