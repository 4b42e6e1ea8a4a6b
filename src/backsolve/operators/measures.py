"""Diagonal, trace and norm of operators, from their factors: nothing is formed."""

from __future__ import annotations

from itertools import combinations
from math import prod
from typing import Any

from backsolve.algebra import arrays
from backsolve.algebra.arrays import Labels, astype, is_mask, place, scale
from backsolve.algebra.elements import is_zero
from backsolve.algebra.spaces import SpaceError
from backsolve.operators.base import LinearOperator, Zero
from backsolve.operators.closed_form import as_plain_einsum, closed_form, result_array
from backsolve.operators.dispatch import operation
from backsolve.operators.einsum import Einsum, Factor, contract_all
from backsolve.operators.einsum_rules import renamed, unified
from backsolve.operators.lazy import Product, Sum

__all__ = ["diagonal", "norm_squared", "row_norms_squared", "trace"]


@operation
def diagonal(op: LinearOperator) -> Any:
    """The entries A[i, i] for every index i of the domain, which is the codomain, as an array of that shape."""
    _require_square(op, "diagonal")
    terms = [_diagonal_of(term) for term in _terms(op)]
    return _total(terms)


@operation
def trace(op: LinearOperator) -> Any:
    """Σᵢ A[i, i]."""
    entries = diagonal(op)
    return arrays.sum_axes(entries, tuple(range(len(entries.shape))))


@operation
def norm_squared(op: LinearOperator) -> Any:
    """Σ |A[i, j]|², the square of the Frobenius norm."""
    rows = row_norms_squared(op)
    return arrays.sum_axes(rows, tuple(range(len(rows.shape))))


@operation
def row_norms_squared(op: LinearOperator) -> Any:
    """Σⱼ |A[i, j]|² for every index i of the codomain, as an array of that shape: the rows of a Jacobian are gradients."""
    terms = _terms(op)
    products = []
    for a, b in [*((t, t) for t in terms), *combinations(terms, 2)]:
        product = _row_products(a, b)
        products.append(product if a is b else scale(2, product))
    return arrays.namespace(*products).real(_total(products))


def _require_square(op: LinearOperator, what: str) -> None:
    domain, codomain = getattr(op.domain, "shape", None), getattr(op.codomain, "shape", None)
    if domain is None or domain != codomain or not op.domain.known:
        raise SpaceError(
            f"only an operator from a space to itself has a {what}, got {op!r}; "
            "take a square block, or compose it with its transpose."
        )


def _total(terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = arrays.add(total, term)
    return total


def _terms(op: LinearOperator) -> list[Einsum]:
    """The operator as a sum of `Einsum`s; what has no closed form is written out, all of it as one."""
    op = closed_form(op) if isinstance(op, Product) else op
    terms = [term for term in (op.terms if isinstance(op, Sum) else (op,)) if not isinstance(term, Zero)]
    plain = [einsum for term in terms if (einsum := as_plain_einsum(term)) is not None]
    rest = tuple([term for term in terms if as_plain_einsum(term) is None])
    if rest:
        array = result_array(Sum(rest) if len(rest) > 1 else rest[0])
        labels = tuple(range(len(array.shape)))
        n = len(op.codomain.shape)  # type: ignore[union-attr, arg-type]
        sizes: dict[int, int | None] = dict(zip(labels, array.shape, strict=True))
        plain.append(Einsum((Factor(array, labels),), labels[:n], labels[n:], sizes))
    return plain or [_nothing(op)]


def _nothing(op: LinearOperator) -> Einsum:
    out = tuple(range(len(op.codomain.shape)))  # type: ignore[union-attr, arg-type]
    into = tuple(range(len(out), len(out) + len(op.domain.shape)))  # type: ignore[union-attr, arg-type]
    shape = (*op.codomain.shape, *op.domain.shape)  # type: ignore[union-attr, misc]
    return Einsum((), out, into, dict(zip(out + into, shape, strict=True)), 0)


def _diagonal_of(op: Einsum) -> Any:
    """out and into are one: their labels are unified, the other ones summed."""
    find = unified(zip(op.out, op.into, strict=True))
    factors = [renamed(f, [find(k) for k in f.labels]) for f in op.factors]
    out = tuple(find(k) for k in op.out)
    sizes = {find(k): n for k, n in op.sizes.items()}
    if len(set(out)) < len(out):  # two axes with one label: the entries off that diagonal are zero
        return Einsum(tuple(factors), out, (), sizes, op.coef, op.dtypes).todense()
    return _written(factors, out, sizes, op)


def _row_products(a: Einsum, b: Einsum) -> Any:
    """Σⱼ A[i, j] conj(B[i, j]) for every i."""
    other = b.conj()
    assert isinstance(other, Einsum)
    shift = max((*a.sizes, -1)) + 1
    find = unified(zip(a.out + a.into, (k + shift for k in other.out + other.into), strict=True))
    factors = [renamed(f, [find(k) for k in f.labels]) for f in a.factors]
    factors += [renamed(f, [find(k + shift) for k in f.labels]) for f in other.factors]
    sizes = {find(k): n for k, n in a.sizes.items()} | {find(k + shift): n for k, n in other.sizes.items()}
    out = tuple(find(k) for k in a.out)
    into = {find(k) for k in a.into}
    covered = {k for f in factors for k in f.labels} | set(out)
    many = prod(sizes[k] or 1 for k in into - covered)  # summed without a factor
    op = Einsum((), a.out, a.into, a.sizes, a.coef * other.coef * many, a.dtypes)
    if len(set(out)) < len(out):
        return Einsum(tuple(factors), out, (), sizes, op.coef, op.dtypes).todense()
    return _written(factors, out, sizes, op)


def _written(factors: list[Factor], out: Labels, sizes: dict[int, int | None], op: Einsum) -> Any:
    """Σ Π factors over the axes ``out``, times op's coefficient."""
    if not factors:
        return Einsum((), out, (), sizes, op.coef, op.dtypes).todense()
    x, labels = contract_all(factors[0].array, factors[0].labels, factors[1:], out, sizes)
    x = place(x, labels, out, sizes)
    if is_mask(x):
        x = astype(x, op.dtypes[1] or float)
    return x if not is_zero(op.coef) and op.coef == 1 else scale(op.coef, x)
