"""Checks for operators of your own: is it linear, is its transpose its transpose, does it say its sizes rightly?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from numbers import Integral, Real
from typing import Any

import numpy as np

from backsolve.algebra.arrays import asarray, is_number
from backsolve.algebra.elements import describe
from backsolve.algebra.spaces import as_sizes, unify
from backsolve.operators import ArraySpace, Einsum, LinearOperator, Product, Space, SpaceError, Sum, TupleSpace
from backsolve.operators.einsum import Factor

__all__ = ["check_operator"]


def check_operator(
    op: LinearOperator,
    domain: Sequence[int] | None = None,
    *,
    rtol: float = 1e-9,
    seed: int = 0,
    complex_values: bool = False,
) -> None:
    """Check an operator against what every operator must be, on random vectors, and raise where it is not.

    Tested are: the sizes it claims; linearity  A(αx + βz) = αAx + βAz;  the transpose  ⟨Ax, y⟩ = ⟨x, Aᵀy⟩ (and the
    adjoint with ``complex_values``);  Aᵀᵀ = A;  and, up to 10,000 entries, ``todense()`` against the products and
    against the transpose's, and that no entry couples two places along axes that are said to be ``aligned``.

    ``domain`` gives the shape to test on where the operator leaves sizes open.  Unknown sizes of the codomain are taken
    from its result.
    Raises `AssertionError` saying which law failed, where, and by how much; `SpaceError` where sizes are unknown,
    `TypeError` and `ValueError` where it is asked wrongly.
    Differences are measured against the numbers that an image is summed up from, so that an operator which is zero by
    cancellation passes.
    Cost: about ten applications, and one for each entry of the domain for the dense form.

    Example:
        >>> import numpy as np
        >>> from backsolve import left_mul, linear_map
        >>> check_operator(left_mul(np.ones((2, 3))), (3, 4))
        >>> check_operator(linear_map(lambda x: 2 * x, lambda y: 3 * y, (2,), (2,)))
        Traceback (most recent call last):
        ...
        AssertionError: f : 2 → 2: the transpose is wrong: ⟨A x, y⟩ = 0.0776764 but ⟨x, Aᵀ y⟩ = 0.116515
    """
    if not isinstance(op, LinearOperator):
        raise TypeError(f"check_operator takes a LinearOperator, got {describe(op)}.")
    require_number("rtol", rtol)
    rng = np.random.default_rng(seed)
    space = op.domain
    if domain is not None:
        given = ArraySpace(as_sizes(domain, "domain of check_operator"))
        op = op.refine(given, ArraySpace())
        space = unify(op.domain, given, f"the domain of {op!r} and the one given")
    if not space.known:
        raise SpaceError(f"{op!r} leaves sizes of its domain open; pass check_operator(op, domain=shape).")
    x, z = (_random(space, rng, complex_values) for _ in range(2))
    alpha, beta = rng.standard_normal(2)
    ax, az = op @ x, op @ z
    _check_space(op, ax, op.codomain, "A x")
    size = _size(op, x) + _size(op, z)
    _compare(op, "A is not linear", op @ _combine(alpha, x, beta, z), _combine(alpha, ax, beta, az), rtol, size)

    # The sign too: |x| is linear between two points of one orthant.
    _compare(op, "A is not linear", op @ _combine(-1.0, x, 0.0, x), _combine(-1.0, ax, 0.0, ax), rtol, size)

    y = _random_like(ax, rng, complex_values)
    t = op.T
    ty = t @ y
    _check_space(op, ty, op.domain, "Aᵀ y")
    left, right = _inner(ax, y), _inner(x, ty)
    scale = max(max(_norm(ax), size) * _norm(y), _norm(x) * max(_norm(ty), _size(t, y)), 1e-300)
    if not abs(left - right) <= rtol * scale:
        raise AssertionError(f"{op!r}: the transpose is wrong: ⟨A x, y⟩ = {left:.6g} but ⟨x, Aᵀ y⟩ = {right:.6g}")
    _compare(op, "the transpose of the transpose is not A", t.T @ x, ax, rtol, size)
    if complex_values:
        hy = op.H @ y
        left, right = _inner(_conj(ax), y), _inner(_conj(x), hy)
        if not abs(left - right) <= rtol * scale:
            raise AssertionError(f"{op!r}: the adjoint is wrong: ⟨A x, y⟩ = {left:.6g} but ⟨x, Aᴴ y⟩ = {right:.6g}")
    if op.domain.known and isinstance(op.domain, ArraySpace) and isinstance(op.codomain, ArraySpace):
        _check_dense(op.refine(op.domain, ArraySpace(np.shape(ax))), x, ax, rtol, size)


def require_number(what: str, value: Any, *, positive: bool = False, whole: bool = False) -> None:
    """Raise `ValueError` where an option is no number from 0 on (or above it, or no whole one)."""
    if not isinstance(value, Integral if whole else Real) or not (float(value) > 0 or (value == 0 and not positive)):
        kind, which = "a whole number" if whole else "a number", "above zero" if positive else "from zero on"
        raise ValueError(f"{what} must be {kind} {which}, got {value!r}.")


def _check_dense(op: LinearOperator, x: Any, ax: Any, rtol: float, size: float) -> None:
    m, n = np.shape(ax), np.shape(x)
    if int(np.prod(m, dtype=int)) * int(np.prod(n, dtype=int)) > 10_000:
        return
    dense = np.asarray(op.todense())
    if dense.shape != (*m, *n):
        raise AssertionError(f"{op!r}: todense() has shape {dense.shape}, expected codomain + domain = {(*m, *n)}")
    _compare(op, "todense() is not the operator", np.tensordot(dense, x, axes=len(n)), ax, rtol, size)
    back = np.asarray(op.T.todense())
    turned = np.moveaxis(dense, range(len(m)), range(-len(m), 0)) if m else dense
    _compare(op, "the transpose's todense() is not the transpose", back, turned, rtol, size)
    for b, a in sorted(op.aligned(0, 0)):
        sizes = (m[b] if 0 <= b < len(m) else None, n[a] if 0 <= a < len(n) else None)
        if None in sizes or sizes[0] != sizes[1]:
            raise AssertionError(f"{op!r}: axis {b} of the codomain and axis {a} of the domain cannot be aligned: {m}, {n}")
        crossed = np.moveaxis(dense, (b, len(m) + a), (0, 1))[~np.eye(m[b], dtype=bool)]
        if np.any(crossed != 0):
            raise AssertionError(
                f"{op!r}: axis {b} of the codomain and axis {a} of the domain are not aligned: entries at different places "
                f"along them are coupled, by up to {np.abs(crossed).max():.3g}"
            )


def _random(space: Space, rng: np.random.Generator, complex_values: bool) -> Any:
    if isinstance(space, TupleSpace):
        return tuple(_random(part, rng, complex_values) for part in space.parts)
    assert space.shape is not None
    x = rng.standard_normal(space.shape)
    if complex_values:
        x = x + 1j * rng.standard_normal(space.shape)
    return x if space.dtype is None else x.astype(space.dtype)


def _random_like(y: Any, rng: np.random.Generator, complex_values: bool) -> Any:
    if isinstance(y, tuple):
        return tuple(_random_like(part, rng, complex_values) for part in y)
    return _random(ArraySpace(np.shape(y), getattr(y, "dtype", None)), rng, complex_values)


def _parts(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _conj(x: Any) -> Any:
    return tuple(_conj(p) for p in x) if isinstance(x, tuple) else np.conj(np.asarray(x))


def _combine(alpha: float, x: Any, beta: float, z: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(_combine(alpha, p, beta, q) for p, q in zip(x, z, strict=True))
    return asarray(alpha * np.asarray(x) + beta * np.asarray(z)).astype(np.asarray(x).dtype)


def _inner(x: Any, y: Any) -> Any:
    return sum(np.sum(np.asarray(p) * np.asarray(q)) for p, q in zip(_parts(x), _parts(y), strict=True))


def _norm(x: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.abs(np.asarray(p)) ** 2) for p in _parts(x))))


def _check_space(op: LinearOperator, value: Any, space: Space, what: str) -> None:
    spaces = space.parts if isinstance(space, TupleSpace) else (space,)
    values = _parts(value)
    fits = len(spaces) == len(values)
    for part, got in zip(spaces, values, strict=False):
        if isinstance(part, ArraySpace) and part.shape is not None and ... not in part.shape:
            shape = np.shape(got)
            same_rank = len(shape) == len(part.shape)
            fits = fits and same_rank and all(n in (None, m) for n, m in zip(part.shape, shape, strict=True))
    if not fits:
        shapes = ", ".join(str(np.shape(v)) for v in values)
        raise AssertionError(f"{op!r}: {what} has shape {shapes}, but it claims to lie in {space}")


def _size(op: LinearOperator, x: Any) -> float:
    """The largest number that op x is summed up from: where terms cancel, their rounding is all that is left of it."""
    return _largest(_terms_of(op, x, _absolute(x)))


def _terms_of(op: LinearOperator, x: Any, terms: Any) -> Any:
    """|op| ``terms``: of each entry of op x the sum of what it is made of, as ``terms`` say it of x; at least |op x|."""
    if isinstance(op, Sum):
        return reduce(lambda a, b: _combine(1.0, a, 1.0, b), (_terms_of(term, x, terms) for term in op.terms))
    if isinstance(op, Product):
        for factor in reversed(op.factors):
            x, terms = factor @ x, _terms_of(factor, x, terms)
        return terms
    if isinstance(op, Einsum):
        factors = tuple(Factor(np.abs(np.asarray(f.array)), f.labels) for f in op.factors)
        return Einsum(factors, op.out, op.into, op.sizes, abs(op.coef) if is_number(op.coef) else 1) @ terms
    image = _absolute(op @ x)
    before, own = _largest(terms), _largest(x)
    if before <= 2 * own:  # nothing has cancelled
        return image
    return _combine(1.0, image, _largest(image) / own * before if own else before, _ones(image))


def _absolute(x: Any) -> Any:
    return tuple(map(_absolute, x)) if isinstance(x, tuple) else np.abs(np.asarray(x))


def _ones(x: Any) -> Any:
    return tuple(map(_ones, x)) if isinstance(x, tuple) else np.ones_like(x)


def _largest(x: Any) -> float:
    return max((float(np.max(np.abs(np.asarray(part)), initial=0.0)) for part in _parts(x)), default=0.0)


def _compare(op: LinearOperator, law: str, got: Any, expected: Any, rtol: float, size: float = 0.0) -> None:
    for p, q in zip(_parts(got), _parts(expected), strict=True):
        a, b = np.asarray(p), np.asarray(q)
        if a.shape != b.shape:
            raise AssertionError(f"{op!r}: {law}: shapes {a.shape} and {b.shape}")
        error = float(np.max(np.abs(a - b), initial=0.0))
        scale = max(float(np.max(np.abs(b), initial=0.0)), size)
        if not error <= rtol * max(scale, 1e-300) + 1e-300:
            raise AssertionError(f"{op!r}: {law}: the largest difference is {error:.3g} on values of size {scale:.3g}")
