"""What ``@`` and ``+`` of two kinds give: one table each, here and nowhere else.

A kind that has no row of its own gets a lazy `Product` or `Sum`.
"""

from __future__ import annotations

from typing import Any

from backsolve.algebra.spaces import Space, SpaceError, unify
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.commute import (
    einsum_after_slice,
    join_reshapes,
    regroup_after,
    regroup_before,
    slice_after_einsum,
    split_ends,
)
from backsolve.operators.dispatch import ADD, COMPOSE, look_up, operation
from backsolve.operators.einsum import Einsum, as_einsum
from backsolve.operators.einsum_rules import add_einsums, compose_einsums
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.reshape import Reshape
from backsolve.operators.slices import Slice, meet_slices

__all__ = ["add", "compose"]


@operation
def compose(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    """Return a ∘ b in closed form where the table has one, else a lazy product.

    Raises `SpaceError` where a's domain is not b's codomain.
    """
    a, b = _joined_spaces(a, b)
    closed: LinearOperator | None = look_up(COMPOSE, a, b)
    if closed is not None:
        return closed
    left = a.factors if isinstance(a, Product) else (a,)
    right = b.factors if isinstance(b, Product) else (b,)
    return _joined(left, right)


def _joined(left: tuple[LinearOperator, ...], right: tuple[LinearOperator, ...]) -> LinearOperator:
    """The product of two runs of factors, merged where they meet for as long as that gives a closed form."""
    factors, pending = list(right), list(left)
    while pending:
        last = pending.pop()
        inner = look_up(COMPOSE, last, factors[0]) if factors else last
        if inner is None:
            factors.insert(0, last)
            continue
        if isinstance(inner, Zero):
            return Zero(right[-1].domain, left[0].codomain)
        parts = inner.factors if isinstance(inner, Product) else (inner,)
        del factors[:1]
        if len(parts) > 1 or factors:
            pending.extend(parts)
        else:
            factors = [inner]
    if len(factors) > 1:
        factors = [f for f in factors if not isinstance(f, Identity)] or factors[:1]
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


@operation
def add(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    """Return a + b in closed form where the table has one, else a lazy sum.

    Raises `SpaceError` where the domains or codomains differ.
    """
    remedy = "Summands map between the same spaces."
    domain = unify(a.domain, b.domain, f"the domains of {a.label} + {b.label}", remedy)
    codomain = unify(a.codomain, b.codomain, f"the codomains of {a.label} + {b.label}", remedy)
    a, b = _refined(a, domain, codomain), _refined(b, domain, codomain)
    if isinstance(a, Zero):
        return b
    if isinstance(b, Zero):
        return a
    closed: LinearOperator | None = look_up(ADD, a, b)
    if closed is not None:
        return closed
    terms = list(a.terms) if isinstance(a, Sum) else [a]
    for term in b.terms if isinstance(b, Sum) else (b,):
        for i, other in enumerate(terms):
            closed = look_up(ADD, other, term)
            if closed is not None:
                terms[i] = closed
                break
        else:
            terms.append(term)
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _refined(op: LinearOperator, domain: Space, codomain: Space) -> LinearOperator:
    return op if op.domain == domain and op.codomain == codomain else op.refine(domain, codomain)


def _joined_spaces(a: LinearOperator, b: LinearOperator) -> tuple[LinearOperator, LinearOperator]:
    """a and b with the space between them as known as the two together make it."""
    try:
        inner = unify(a.domain, b.codomain, "")
    except SpaceError:
        raise SpaceError(
            f"cannot compose {a!r} with {b!r}: the domain {a.domain} of the first is not the codomain {b.codomain} "
            "of the second. Check the order of the factors, or transpose one with .T."
        ) from None
    if isinstance(a, Einsum) and isinstance(b, Einsum):  # their composition unifies sizes label by label
        return a, b
    return _refined(a, inner, a.codomain), _refined(b, b.domain, inner)


@operation
def scaled(op: LinearOperator, c: Any) -> LinearOperator:
    """c · op for an op that does not say its multiples."""
    return compose(Scaling(c), op)


def _scale(c: Any, op: LinearOperator) -> LinearOperator | None:
    if type(op).scaled is LinearOperator.scaled:  # a kind that cannot absorb a scalar keeps it beside it
        return None
    return op.scaled(c)


def _scalings_times(a: Scaling, b: Scaling) -> LinearOperator:
    space = unify(a.space, b.space)
    c = a.c * b.c
    return Identity(space) if isinstance(c, (int, float)) and c == 1 else Scaling(c, space)


def _identities_plus(a: Identity | Scaling, b: Identity | Scaling) -> LinearOperator:
    ca = a.c if isinstance(a, Scaling) else 1
    cb = b.c if isinstance(b, Scaling) else 1
    space = unify(a.space, b.space)
    return Scaling(ca + cb, space)


def _plus_multiple(a: LinearOperator, b: Identity | Scaling) -> LinearOperator | None:
    if not isinstance(a, Einsum):
        return None
    space = unify(unify(a.domain, a.codomain), b.space)
    multiple = as_einsum(space, b.c if isinstance(b, Scaling) else 1)
    return None if multiple is None else add_einsums(a, multiple)


def _same_or_moved(a: LinearOperator, b: LinearOperator) -> LinearOperator | None:
    """Twice one operator, or the sum of two between the same slices and reshapes."""
    if a is b:
        return a.scaled(2)
    one, other = split_ends(a), split_ends(b)
    if one.keys != other.keys or one.keys == ((), ()):
        return None
    space = one.trail[0].codomain if one.trail else one.lead[-1].domain
    total = add(one.middle or Identity(space), other.middle or Identity(space))
    return None if isinstance(total, Sum) else _joined((*one.lead, total), one.trail)


COMPOSE |= {
    (Zero, Zero): lambda a, b: Zero(b.domain, a.codomain),
    (Zero, LinearOperator): lambda a, b: Zero(b.domain, a.codomain),
    (LinearOperator, Zero): lambda a, b: Zero(b.domain, a.codomain),
    (Zero, Identity): lambda a, b: a,
    (Identity, Zero): lambda a, b: b,
    (Identity, Identity): lambda a, b: Identity(unify(a.space, b.space)),
    (Identity, LinearOperator): lambda a, b: b.refine(b.domain, a.space),
    (LinearOperator, Identity): lambda a, b: a.refine(b.space, a.codomain),
    (Scaling, Scaling): _scalings_times,
    (Scaling, Einsum): lambda a, b: _scale(a.c, b.refine(b.domain, a.space)),
    (Einsum, Scaling): lambda a, b: _scale(b.c, a.refine(b.space, a.codomain)),
    (Einsum, Einsum): compose_einsums,
    (Einsum, Slice): einsum_after_slice,
    (Slice, Einsum): slice_after_einsum,
    (Slice, Slice): meet_slices,
    (Einsum, Reshape): regroup_before,
    (Reshape, Einsum): regroup_after,
    (Reshape, Reshape): join_reshapes,
}

ADD |= {
    (Identity, Identity): _identities_plus,
    (Identity, Scaling): _identities_plus,
    (Scaling, Identity): _identities_plus,
    (Scaling, Scaling): _identities_plus,
    (LinearOperator, Identity): _plus_multiple,
    (LinearOperator, Scaling): _plus_multiple,
    (Identity, LinearOperator): lambda a, b: _plus_multiple(b, a),
    (Scaling, LinearOperator): lambda a, b: _plus_multiple(b, a),
    (Einsum, Einsum): add_einsums,
    (LinearOperator, LinearOperator): _same_or_moved,
}
