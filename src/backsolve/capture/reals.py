"""Programs with complex numbers inside, over the reals: where some equation is linear over the reals alone.

The convention is that of `jax.jacobian`.  The derivative of a real output by a complex input z = x + iy is the number
∂f/∂x − i ∂f/∂y, so that df = Re(J dz); that of a complex output by a real input is ∂u/∂x + i ∂v/∂x; of a complex output by a
complex input (``holomorphic=True``) it is ∂u/∂x − i ∂u/∂y, which for a holomorphic function is f'(z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from backsolve.algebra.arrays import is_number, namespace
from backsolve.algebra.elements import is_zero
from backsolve.algebra.spaces import ArraySpace, Space, TupleSpace, is_complex
from backsolve.capture.folding import known_value
from backsolve.capture.opaque import LinearEquation
from backsolve.matrices.matrix import OperatorMatrix
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.closed_form import add, compose, dense_array
from backsolve.operators.einsum import Einsum, Factor, as_einsum
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Component, Parts, Reshape, Slice
from backsolve.sparse.operator import Sparse, compose_sparse, sparse
from backsolve.system.system import System
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.derivative import dependent
from backsolve.tracing.series import scan_counts

__all__ = [
    "Translated",
    "as_operators",
    "as_pairs",
    "from_pairs",
    "in_pairs",
    "joined_array",
    "joined_sparse",
    "loop_over_one_field",
    "needs_reals",
    "over_reals",
    "pairs",
    "real_dtype",
]


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
    if isinstance(op, Component):
        space = pairs(op.space)
        assert isinstance(space, TupleSpace)
        return Component(op.index, space, op.transposed)
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
    """[[re, −im], [im, re]] for each entry, along two last axes; known numbers stay known."""
    known = known_value(x)
    x = x if known is None else known
    xp = namespace(x)
    re, im = xp.real(x), xp.imag(x)
    return xp.stack([xp.stack([re, -im], axis=-1), xp.stack([im, re], axis=-1)], axis=-2)


# Linear over the complex numbers in a complex operand: primitives that may stand on an edge as they are.
COMPLEX_LINEAR = frozenset(
    ("fft", "dot_general", "conv_general_dilated", "triangular_solve", "reduce_sum", "cumsum", "reduce_window_sum", "rev",
     "gather", "scatter", "scatter-add", "scatter-sub", "dynamic_slice", "dynamic_update_slice", "pad", "select_n",
     "concatenate", "transpose", "broadcast_in_dim", "reshape", "slice", "mul", "div", "reduce_precision")
)  # fmt: skip


# The same of those that are linear in all their operands together.
JOINTLY_LINEAR = frozenset(("add", "add_any", "sub", "neg", "copy", "squeeze", "expand_dims", "convert_element_type"))


def loop_over_one_field(eqn: Any, active: Sequence[bool]) -> bool:
    """Whether all that moves in a linear `lax.scan` is real, or all of it complex and linear over the complex numbers.

    The latter as far as the primitives of its body tell, which may call others, but hold no loops and branches.
    """
    fixed, carried = scan_counts(eqn.params)
    moves = dependent(eqn, active)[:carried]
    fields: set[bool] = set()
    linear = True
    waiting = [(eqn.params["jaxpr"].jaxpr, [*active[:fixed], *moves, *active[fixed + carried :]])]
    while waiting:
        jaxpr, active = waiting.pop()
        moving = {v for v, a in zip(jaxpr.invars, active, strict=True) if a}
        for inner in jaxpr.eqns:
            operands = [not jx.is_literal(v) and v in moving for v in inner.invars]
            moving.update(v for v, a in zip(inner.outvars, dependent(inner, operands), strict=True) if a)
            body = jx.inner_jaxpr(inner)
            if body is not None:
                waiting.append((body[0], operands))
            elif any(operands):
                linear = linear and inner.primitive.name in COMPLEX_LINEAR | JOINTLY_LINEAR
        fields.update(jnp.issubdtype(v.aval.dtype, np.complexfloating) for v in moving)
    return fields <= {False} or (fields == {True} and linear)


def needs_reals(system: System) -> bool:
    """Whether complex numbers occur in a system and some edge may be linear over the reals alone."""
    for A, outs, ins in (
        (system.M, system.L.row_spaces, system.M.col_spaces),
        (system.L, system.L.row_spaces, system.L.row_spaces),
        (system.sinks, system.sinks.row_spaces, system.L.row_spaces),
    ):
        if not any(map(is_complex, (*outs, *ins))):
            continue
        for (i, j), op in A.entries.items():
            if (is_complex(outs[i]) or is_complex(ins[j])) and not _complex_linear(op):
                return True
    return False


def _complex_linear(op: Any) -> bool:
    if isinstance(op, Product | Sum):
        return all(map(_complex_linear, op.factors if isinstance(op, Product) else op.terms))
    if not (_wholly_complex(op.domain) and _wholly_complex(op.codomain)):
        return False
    if not isinstance(op, LinearEquation) or op.eqn.primitive.name in COMPLEX_LINEAR:
        return True
    return op.eqn.primitive.name == "scan" and loop_over_one_field(op.eqn, [x is None for x in op.operands])


def _wholly_complex(space: Space) -> bool:
    if isinstance(space, TupleSpace):
        return all(map(_wholly_complex, space.parts))
    return space.dtype is None or is_complex(space)


def as_pairs(A: OperatorMatrix) -> OperatorMatrix:
    """A matrix of a system with a pair of real numbers in place of each complex one."""
    entries = {place: over_reals(op, _edge) for place, op in A.entries.items()}
    return OperatorMatrix(entries, A.shape, list(map(pairs, A.row_spaces)), list(map(pairs, A.col_spaces)), names=A.names)


# ---- edges -------------------------------------------------------------------------------------------------------------
_REAL, _IMAGINARY = (np.array(mask) for mask in ((True, False), (False, True)))  # masks: they hide what the other part is


def _part(shape: tuple[int, ...], mask: Any, dtypes: Any, *, into: bool, out: bool) -> Einsum:
    """Pairs to one of their parts, one part to pairs, or (a conjugate) pairs to pairs."""
    labels = tuple(range(len(shape)))
    p = len(shape)
    sizes: dict[int, int | None] = {**dict(zip(labels, shape, strict=True)), p: 2}
    return Einsum((Factor(mask, (p,)),), (*labels, p) if out else labels, (*labels, p) if into else labels, sizes, 1, dtypes)


def _edge(op: LinearOperator) -> LinearOperator:
    """An operator of which `over_reals` knows nothing: the parts of complex numbers, and anything else as it stands."""
    if isinstance(op, LinearEquation):
        name = op.eqn.primitive.name
        domain, codomain = (op.codomain, op.domain) if op.transposed else (op.domain, op.codomain)
        part: LinearOperator | None = None
        if isinstance(domain, ArraySpace) and isinstance(codomain, ArraySpace):
            dtypes = real_dtype(domain.dtype), real_dtype(codomain.dtype)
            shape, ends = domain.shape or (), {"into": is_complex(domain), "out": is_complex(codomain)}
            if name in ("real", "convert_element_type") and domain.shape == codomain.shape and len(set(ends.values())) == 2:
                part = _part(shape, _REAL, dtypes, **ends)
            elif name == "imag" and ends == {"into": True, "out": False}:
                part = _part(shape, _IMAGINARY, dtypes, **ends)
            elif name == "complex" and domain.shape == codomain.shape:
                part = _part(shape, _IMAGINARY if op.operands[0] is not None else _REAL, dtypes, **ends)
            elif name == "conj":
                part = _part(shape, np.array([1, -1], dtypes[1]) if ends["into"] else _REAL, dtypes, **ends)
        if part is not None:
            return part.transpose() if op.transposed else part
    return Translated(op, pairs(op.domain), pairs(op.codomain))


class Translated(LinearOperator):
    """``inner`` in other coordinates: one between complex numbers as one between pairs of real ones, or the other way round.

    Between complex numbers it is linear over the reals alone (``real_linear``): ``op @ dz`` is the change along dz,
    ``op.T @ g`` the cotangent as JAX's `vjp` gives it, ``todense()`` the array that `jax.jacobian` gives (see the module);
    for a real output Re(array · dz) is the change.

    In the pairing ⟨g, z⟩ = Re Σ g z of cotangents, which JAX transposes by, a pair (a, b) stands for the cotangent a − ib:
    between cotangents (``conjugated``) numbers are conjugated on their way.
    """

    __slots__ = ("codomain", "conjugated", "domain", "inner", "real_linear")
    domain: Space
    codomain: Space

    def __init__(self, inner: LinearOperator, domain: Space, codomain: Space, conjugated: bool = False) -> None:
        self.inner = inner
        self.domain = domain
        self.codomain = codomain
        self.conjugated = conjugated
        self.real_linear = is_complex(domain) or is_complex(codomain)

    def apply(self, x: Any) -> Any:
        inner, conjugated = self.inner, self.conjugated
        if self.real_linear:
            y = inner.apply(in_pairs(x, self.domain, conjugated=conjugated))
            return from_pairs(y, self.codomain, conjugated=conjugated)
        z = inner.apply(from_pairs(x, inner.domain, conjugated=conjugated))
        return in_pairs(z, inner.codomain, conjugated=conjugated)

    def transpose(self) -> LinearOperator:
        return Translated(self.inner.transpose(), self.codomain, self.domain, not self.conjugated)

    def lifted(self, x: Any) -> Any:
        return jnp.asarray(x)

    def aligned(self, into: int, out: int) -> frozenset[tuple[int, int]]:
        return super().aligned(into, out) if self.real_linear else self.inner.aligned(into, out)

    @property
    def work(self) -> float:
        return 2 * self.inner.work

    @property
    def work_back(self) -> float:
        return 2 * self.inner.work_back

    @property
    def started(self) -> float:
        return self.inner.started

    @property
    def opaque(self) -> bool:
        return not self.real_linear

    def scaled(self, c: Any) -> LinearOperator:
        if not self.real_linear or jnp.iscomplexobj(c):
            return super().scaled(c)
        return Translated(self.inner.scaled(c), self.domain, self.codomain, self.conjugated)

    def todense(self) -> Any:
        if not self.real_linear:
            return super().todense()
        if self.conjugated:
            turned = self.transpose().todense()
            n = len(self.domain.shape)  # type: ignore[union-attr, arg-type]
            return jnp.transpose(turned, (*range(n, turned.ndim), *range(n)))
        return joined_array(jnp.asarray(dense_array(self.inner)), self.codomain, self.domain)

    @property
    def label(self) -> str:
        return f"ℝ-linear({self.inner.label})" if self.real_linear else self.inner.label


def from_pairs(x: Any, space: Space, *, conjugated: bool = False) -> Any:
    """Pairs as complex numbers (their conjugates)."""
    return _where_complex(x, space, lambda x: lax.complex(x[..., 0], -x[..., 1] if conjugated else x[..., 1]))


def in_pairs(z: Any, space: Space, *, conjugated: bool = False) -> Any:
    """Complex numbers (their conjugates) as pairs."""

    def pair(z: Any) -> Any:
        re, im = lax.real(z), lax.imag(z)
        return jnp.stack([re, -im if conjugated else im], axis=-1)

    return _where_complex(z, space, lambda z: pair(jnp.asarray(z)))


def _where_complex(x: Any, space: Space, function: Callable[[Any], Any]) -> Any:
    """An element of the space with this function of its complex arrays."""
    if is_zero(x):
        return x
    if isinstance(space, TupleSpace):
        return Parts(_where_complex(part, own, function) for part, own in zip(x, space.parts, strict=True))
    return function(x) if is_complex(space) else x


# ---- Jacobians over pairs as JAX has them ------------------------------------------------------------------------------
def joined_array(x: Any, out: Any, into: Any) -> Any:
    """The array of a Jacobian between pairs, as `jax.jacobian` has it (see the module)."""
    if is_complex(into):
        if is_complex(out):  # ∂u by x and y
            x = jnp.take(x, 0, axis=len(out.shape))
        return lax.complex(x[..., 0], -x[..., 1])
    if not is_complex(out):
        return x
    re, im = (jnp.take(x, k, axis=len(out.shape)) for k in (0, 1))
    return lax.complex(re, im)


def joined_sparse(op: Sparse, out: Any, into: Any) -> Sparse:
    """The same of a sparse operator between flat vectors of pairs."""
    if is_complex(into):
        n = op.domain.size // 2
        every = np.arange(2 * n)
        factor = sparse(every, every // 2, np.where(every % 2 == 0, 1, -1j), ArraySpace((n,), into.dtype), (2 * n,))
        op = compose_sparse(op, factor)
    if is_complex(out):
        m = op.codomain.size // 2
        every = np.arange(m) if is_complex(into) else np.arange(2 * m)
        rows, cols = (every, 2 * every) if is_complex(into) else (every // 2, every)
        numbers = None if is_complex(into) else np.where(every % 2 == 0, 1, 1j)
        op = compose_sparse(sparse(rows, cols, numbers, (2 * m,), ArraySpace((m,), out.dtype)), op)
    return op


def as_operators(J: OperatorMatrix, rows: Sequence[Space], columns: Sequence[Space]) -> OperatorMatrix:
    """A Jacobian between pairs as one between the spaces they stand for."""
    entries: dict[tuple[int, int], Any] = {}
    for (i, j), op in J.entries.items():
        plain = not is_complex(rows[i]) and not is_complex(columns[j])
        entries[i, j] = op if plain else Translated(op, columns[j], rows[i])
    return OperatorMatrix(entries, J.shape, list(rows), list(columns))
