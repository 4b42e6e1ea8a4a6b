"""Operators between complex arrays as operators between pairs of real ones, of shape + (2,): real part, imaginary part.

A real part, a conjugate or an absolute value is linear over the reals alone: no complex matrix stands for it, and what is
multiplied with it is no complex product.  Over pairs each of them is a real matrix like any other.  Structure stays: what
moves entries moves pairs, a real factor leaves both parts side by side, and a complex one is a 2 × 2 block for each entry.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from backsolve.algebra.arrays import namespace
from backsolve.algebra.elements import is_number
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.einsum import Einsum, Factor, as_einsum
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.reshape import Reshape
from backsolve.operators.rules import add, compose
from backsolve.operators.slices import Slice
from backsolve.operators.tuples import Inject, Project

__all__ = ["is_complex", "over_reals", "pairs", "real_dtype"]


def is_complex(space: Space) -> bool:
    """Whether arrays of this space, or of a part of it, are complex."""
    if isinstance(space, TupleSpace):
        return any(map(is_complex, space.parts))
    return getattr(space.dtype, "kind", "") == "c"


def real_dtype(dtype: Any) -> Any:
    """The dtype of the real parts."""
    return np.empty(0, dtype).real.dtype


def pairs(space: Space) -> Space:
    """The space of pairs of real numbers in place of complex ones."""
    if isinstance(space, TupleSpace):
        return TupleSpace(tuple(map(pairs, space.parts)))
    return ArraySpace((*(space.shape or ()), 2), real_dtype(space.dtype)) if is_complex(space) else space


def over_reals(op: LinearOperator, other: Callable[[LinearOperator], LinearOperator]) -> LinearOperator:
    """Return the operator between pairs of real numbers in place of complex ones.

    ``other`` is asked about an operator of a kind that is not known here.
    Cost: four times the entries of complex factors; nothing else is stored.
    """
    domain, codomain = op.domain, op.codomain
    if not is_complex(domain) and not is_complex(codomain):
        return op
    if isinstance(op, Product):
        return reduce(lambda right, left: compose(left, right), [over_reals(f, other) for f in reversed(op.factors)])
    if isinstance(op, Sum):
        return reduce(add, [over_reals(term, other) for term in op.terms])
    if isinstance(op, Identity):
        return Identity(pairs(op.space))
    if isinstance(op, Zero):
        return Zero(pairs(domain), pairs(codomain))
    if isinstance(op, Inject | Project):
        space = pairs(op.space)
        assert isinstance(space, TupleSpace)
        return type(op)(op.index, space)
    if isinstance(op, Slice):
        return Slice((*op.shape, 2), (*op.starts, 0), (*op.stops, 2), real_dtype(op.dtype), op.transposed)
    if isinstance(op, Reshape):
        return Reshape((*op.out, 2), (*op.into, 2), real_dtype(op.dtype))
    if isinstance(op, Scaling):
        if is_number(op.c) and not isinstance(op.c, complex):
            return Scaling(op.c, pairs(op.space))
        plain = as_einsum(op.space, op.c)
        assert plain is not None
        assert isinstance(domain, ArraySpace)
        plain.dtypes = (domain.dtype, domain.dtype)
        return _einsum(plain)
    return _einsum(op) if isinstance(op, Einsum) else other(op)


def _einsum(op: Einsum) -> Einsum:
    """Each complex factor as 2 × 2 blocks, one after the other; real factors as they are."""
    dtypes = (pairs(op.domain).dtype, pairs(op.codomain).dtype)  # type: ignore[union-attr]
    plain = [f for f in op.factors if f.array.dtype.kind != "c"]
    blocks = [Factor(_blocks(f.array), f.labels, f.name) for f in op.factors if f.array.dtype.kind == "c"]
    coef = op.coef
    if isinstance(coef, complex):
        unit = np.array([[coef.real, -coef.imag], [coef.imag, coef.real]], dtypes[0])
        if coef.imag or not is_complex(op.domain) or not is_complex(op.codomain):
            blocks.append(Factor(unit, ()))
            coef = 1
        else:
            coef = coef.real
    ends = is_complex(op.codomain), is_complex(op.domain)
    if not blocks and all(ends):
        p = max((*op.sizes, -1)) + 1
        return Einsum(tuple(plain), (*op.out, p), (*op.into, p), op.sizes | {p: 2}, coef, dtypes)
    blocks = blocks or [Factor(np.eye(2, dtype=dtypes[0]), ())]
    fresh = max((*op.sizes, -1)) + 1
    links = [Factor(f.array, (*f.labels, fresh + k, fresh + k + 1), f.name) for k, f in enumerate(blocks)]
    sizes = op.sizes | {fresh + k: 2 for k in range(len(links) + 1)}
    out, into = (*op.out, fresh), (*op.into, fresh + len(links))
    if not ends[0]:  # the real part
        links[0] = Factor(links[0].array[..., 0, :], (*links[0].labels[:-2], links[0].labels[-1]))
        out = op.out
    if not ends[1]:
        labels = links[-1].labels
        links[-1] = Factor(links[-1].array[..., 0], labels[:-1])
        into = op.into
    used = {*out, *into}.union(*(f.labels for f in (*plain, *links)))
    return Einsum((*plain, *links), out, into, {k: n for k, n in sizes.items() if k in used}, coef, dtypes)


def _blocks(x: Any) -> Any:
    """[[re, −im], [im, re]] for each entry, along two last axes."""
    xp = namespace(x)
    re, im = xp.real(x), xp.imag(x)
    return xp.stack([xp.stack([re, -im], axis=-1), xp.stack([im, re], axis=-1)], axis=-2)
