"""What ``@`` and ``+`` of two kinds give, by the tables of `dispatch`, and closed forms as an elimination needs them.

A kind that has no row gets a lazy `Product` or `Sum`.
A lazy sum is multiplied out when it is composed further, and an opaque operator is pushed through the columns (or the
rows) of its neighbour, whichever are fewer.  Where only the ends remain, sums and factors may stay as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np

from backsolve.algebra import arrays
from backsolve.algebra.arrays import asarray, map_columns, namespace, reshape
from backsolve.algebra.spaces import ArraySpace, Space, SpaceError, TupleSpace, unify
from backsolve.operators.base import Identity, LinearOperator, Scaling, Zero
from backsolve.operators.batch_axes import propagate
from backsolve.operators.dispatch import ADD, COMPOSE, Rule, operation
from backsolve.operators.einsum import Einsum, Factor, as_einsum
from backsolve.operators.einsum_rules import (
    add_einsums,
    compose_einsums,
    einsum_after_slice,
    join_reshapes,
    regroup_after,
    regroup_before,
    slice_after_einsum,
)
from backsolve.operators.known import known_array
from backsolve.operators.lazy import Product, Sum
from backsolve.operators.moves import Component, Reshape, Slice, meet_slices, split_ends
from backsolve.operators.tiled import Tile, tile_array, tiles_of, tiles_on_one_side

__all__ = [
    "add",
    "as_dense_einsum",
    "attempt",
    "batched_columns",
    "closed_form",
    "compose",
    "compose_closed",
    "first_of",
    "in_turn",
    "is_opaque",
    "opaque_among",
    "result_array",
]

FEW = 4_096  # entries of a matrix that is multiplied out sooner than SciPy's sparse matrices are made


def _look_up(table: dict[tuple[type, type], Rule], a: Any, b: Any) -> Any:
    """What the rule for the kinds of a and b gives, or the nearest kinds they derive from; None where there is no rule."""
    for kind_a in type(a).__mro__:
        for kind_b in type(b).__mro__:
            rule = table.get((kind_a, kind_b))
            if rule is not None:
                return rule(a, b)
    return None


@operation
def compose(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    """Return a ∘ b in closed form where the table has one, else a lazy product.

    Raises `SpaceError` where a's domain is not b's codomain.
    """
    a, b = _joined_spaces(a, b)
    closed: LinearOperator | None = _look_up(COMPOSE, a, b)
    if closed is not None:
        return closed
    left = a.factors if isinstance(a, Product) else (a,)
    right = b.factors if isinstance(b, Product) else (b,)
    return _joined(left, right)


def _joined(left: tuple[LinearOperator, ...], right: tuple[LinearOperator, ...]) -> LinearOperator:
    """The product of two runs of factors, merged where they meet for as long as that gives a closed form."""
    factors, pending = list(right), list(left)
    own = len(pending)  # how many of these are factors of the left run, none of which merges with the next
    while pending:
        own = min(own, len(pending))
        last = pending.pop()
        inner = _look_up(COMPOSE, last, factors[0]) if factors else last
        if inner is None and own > len(pending):
            factors = [*pending, last, *factors]
            break
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
    domain = unify(a.domain, b.domain, lambda: f"the domains of {a.label} + {b.label}", remedy)
    codomain = unify(a.codomain, b.codomain, lambda: f"the codomains of {a.label} + {b.label}", remedy)
    a, b = _refined(a, domain, codomain), _refined(b, domain, codomain)
    if isinstance(a, Zero):
        return b
    if isinstance(b, Zero):
        return a
    closed: LinearOperator | None = _look_up(ADD, a, b)
    if closed is not None:
        return closed
    terms = list(a.terms) if isinstance(a, Sum) else [a]
    alike: dict[Any, list[int]] = defaultdict(list)  # the places of terms that may have a closed form with one another
    for i, term in enumerate(terms):
        alike[_ends_of_product(term)].append(i)
    for term in b.terms if isinstance(b, Sum) else (b,):
        ends = _ends_of_product(term)
        for i in range(len(terms)) if ends is None else sorted((*alike[ends], *alike[None])):
            closed = _look_up(ADD, terms[i], term)
            if closed is not None:
                terms[i] = closed
                alike[_ends_of_product(closed)].append(i)
                break
        else:
            alike[ends].append(len(terms))
            terms.append(term)
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _ends_of_product(op: LinearOperator) -> Any:
    """What two products must share to be added (see `_same_or_moved`); None of any other operator."""
    return split_ends(op).keys if isinstance(op, Product) else None


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


_STRUCTURED = (Identity, Scaling, Zero, Einsum, Slice, Reshape, Component)


def compose_closed(a: LinearOperator, b: LinearOperator) -> LinearOperator:
    """Return a ∘ b without lazy sums inside, opaque operators pushed through columns or rows."""
    product = compose(closed_form(a), closed_form(b))
    if not _must_push(product):
        return product
    closed = _closed(product)
    return as_dense_einsum(product) if closed is None else closed


def closed_form(op: LinearOperator) -> LinearOperator:
    """op with a lazy sum multiplied out: over the Kronecker deltas that all its terms share, else densely."""
    if isinstance(op, Product) and any(isinstance(f, Sum) for f in op.factors):
        factors = [closed_form(f) for f in op.factors]
        if all(f is g for f, g in zip(factors, op.factors, strict=True)):
            return op
        op = factors[-1]
        for f in factors[-2::-1]:
            op = compose(f, op)
    if not isinstance(op, Sum):
        return op
    terms = [as_plain_einsum(closed_form(term)) for term in op.terms]
    total = terms[0]
    for term in terms[1:]:
        if total is None or term is None:
            break
        total = add_einsums(total, term, grow=True)
    else:
        if total is not None:
            return total
    return as_dense_einsum(op) if _array_ends(op) else op


def as_plain_einsum(op: LinearOperator) -> Einsum | None:
    """op as an `Einsum`, where it is one or a multiple of the identity."""
    if isinstance(op, Einsum):
        return op
    if isinstance(op, Identity):
        return as_einsum(op.space, 1)
    return as_einsum(op.space, op.c) if isinstance(op, Scaling) else None


def is_opaque(op: LinearOperator) -> bool:
    """Whether nothing is known of an operator but what it does to an array."""
    return not isinstance(op, (*_STRUCTURED, Product, Sum)) and op.opaque


def _must_push(op: LinearOperator) -> bool:
    if not isinstance(op, Product) or not _array_ends(op):
        return False
    heavy = [f for f in op.factors if not isinstance(f, (Slice, Reshape, Component, Scaling))]
    return len(heavy) > 1 and any(is_opaque(f) for f in heavy)


def _closed(op: LinearOperator) -> LinearOperator | None:
    """A product whose opaque operators all leave axes side by side, in closed form; None where that is not so or no gain."""
    most = min(op.domain.size, op.codomain.size) - 1
    product: LinearOperator | None = None
    for run in _runs(op.factors if isinstance(op, Product) else (op,)):
        opaque = [f for f in run if is_opaque(f)]
        step: LinearOperator | None = run[0]
        if opaque:
            step = batched_columns(run, opaque[0], most) if len(opaque) == 1 and _array_ends(run[0], run[-1]) else None
        if step is None or (len(run) > 1 and not opaque):
            return None
        product = step if product is None else compose(step, product)
    return product


def _runs(factors: tuple[LinearOperator, ...]) -> Iterator[list[LinearOperator]]:
    """The factors in order of application, those together between which there are tuples."""
    run: list[LinearOperator] = []
    for f in reversed(factors):
        run.append(f)
        if not isinstance(f.codomain, TupleSpace):
            yield run
            run = []
    if run:
        yield run


def _array_ends(first: LinearOperator, last: LinearOperator | None = None) -> bool:
    spaces = (first.domain, (last or first).codomain)
    return all(space.known and not isinstance(space, TupleSpace) for space in spaces)


def as_dense_einsum(op: LinearOperator) -> Einsum:
    """op as an `Einsum` with one array over codomain and domain: columns pushed through it, or rows, whichever are fewer."""
    return _from_array(dense_array(op), op.codomain, op.domain)


def dense_array(op: LinearOperator) -> Any:
    """The array of op, of shape codomain + domain; structure is used where there is some."""
    _refuse_real_products(op)
    if _array_ends(op) and op.domain.size * op.codomain.size > FEW and (known := known_array(op)) is not None:
        return known
    if isinstance(op, Sum):
        return _sum_array(op)
    factors = op.factors if isinstance(op, Product) else (op,)
    if len(factors) == 1 and not is_opaque(op):
        return factors[0].todense()
    closed = _closed(op) if any(map(is_opaque, factors)) and _array_ends(op) else None
    if closed is not None:
        return dense_array(closed)
    domain, codomain = op.domain, op.codomain

    def by_columns() -> Any:
        return _pushed(factors)

    def by_rows() -> Any:
        array = _pushed(tuple(f.transpose() for f in reversed(factors)))
        n = len(domain.shape or ())  # type: ignore[union-attr]
        order = (*range(n, len(array.shape)), *range(n))
        return namespace(array).permute_dims(array, order)

    return first_of(by_rows, by_columns) if codomain.size < domain.size else first_of(by_columns, by_rows)


def _sum_array(op: Sum) -> Any:
    """The array of a sum: what is stacked from rows or entries, of a term for each, is joined; all else is added.

    Of wider pieces beside each other XLA's CPU compiler makes a loop that branches, and of sums of padded ones it makes one
    that is vectorised: Hessians of banded functions of 20 variables, at 1,000 points, took twice as long by joining.
    """
    for left in (True, False) if _array_ends(op) else ():
        tiles = tiles_on_one_side([Tile(None, None, term) for term in op.terms], left=left)
        boxes = {box.box: box for tile in tiles for box in tile[:2] if box is not None}
        if len(boxes) > 1 and all(any(b - a == 1 < n for a, b, n in zip(*box.box, box.shape)) for box in boxes.values()):
            return tile_array(tiles, dense_array)
    return reduce(arrays.add, map(dense_array, op.terms))


@operation
def result_array(op: LinearOperator) -> Any:
    """The array of a result, as `dense_array`: boxes apart from each other are put where they belong, however wide."""
    if not isinstance(op, Product | Sum) or not _array_ends(op):
        return dense_array(op)
    _refuse_real_products(op)
    return tile_array(tiles_of(op), dense_array)


def _pushed(factors: tuple[LinearOperator, ...]) -> Any:
    """The array of a product, from the right: closed products as they are, columns through the rest."""
    domain: Any = factors[-1].domain
    shape, width = domain.shape, domain.size
    product: LinearOperator | None = None  # the product so far
    run: list[LinearOperator] = []
    for f in reversed(factors):
        run.append(f)
        if isinstance(f.codomain, TupleSpace):
            continue
        if len(run) == 1 and not is_opaque(f):
            closed = f if product is None else compose(f, product)
            if product is not None and isinstance(f, Slice) and not isinstance(closed, Einsum):
                box = _diagonals_in_box(f, product) if f is factors[0] and isinstance(product, Einsum) else None
                closed = box or _from_array(f.beside(shape).apply(dense_array(product)), f.codomain, domain)
            if product is not None and not isinstance(closed, Einsum):
                product = _from_array(dense_array(product), product.codomain, domain)
                closed = compose(f, product)
            if isinstance(closed, Einsum) or product is None:
                product, run = closed, []
                continue
        if product is None:
            columns: Any = np.eye(width, dtype=domain.dtype or float)
        else:
            columns = dense_array(product)
        middle: Any = run[0].domain
        columns = reshape(columns, (*middle.shape, width))
        if isinstance(columns, np.ndarray):
            columns = opaque_among(list(factors)).lifted(columns)
        image = map_columns(in_turn(run), columns)
        codomain: Any = f.codomain
        image = reshape(image, (*codomain.shape, *shape))
        product, run = _from_array(image, f.codomain, domain), []
    assert product is not None
    return dense_array(product)


def _diagonals_in_box(box: Slice, op: Einsum) -> Einsum | None:
    """``box`` ∘ op with masks, where axes that the box cuts or places are diagonal; None of others, or without arrays."""
    cuts = [k for k, (a, b, n) in enumerate(zip(box.starts, box.stops, box.shape, strict=True)) if (a, b) != (0, n)]
    labels = [op.out[k] for k in cuts]
    if not op.factors or not all(label in op.into and op.out.count(label) == 1 for label in labels):
        return None
    like, out, sizes, fresh = op.factors[0].array, list(op.out), dict(op.sizes), max((*op.sizes, -1)) + 1
    masks = []
    for new, (k, label) in enumerate(zip(cuts, labels, strict=True), fresh):
        n = box.shape[k]
        mask = arrays.take(arrays.eye(like, n, namespace(like).bool), (box.starts[k], 0), (box.stops[k], n))
        masks.append(Factor(mask, (label, new) if box.transposed else (new, label)))
        out[k], sizes[new] = new, box.codomain.shape[k]  # type: ignore[union-attr, index]
    return Einsum((*op.factors, *masks), tuple(out), op.into, sizes, op.coef, op.dtypes)


def opaque_among(run: Sequence[LinearOperator]) -> LinearOperator:
    """The first opaque operator of a run, also inside its products and sums; else the first operator."""
    waiting = list(run[::-1])
    while waiting:
        op = waiting.pop()
        if is_opaque(op):
            return op
        if isinstance(op, (Product, Sum)):
            waiting.extend(op.factors if isinstance(op, Product) else op.terms)
    return run[0]


def _from_array(array: Any, codomain: Any, domain: Any) -> Einsum:
    labels = tuple(range(len(array.shape)))
    n = len(codomain.shape)
    sizes: dict[int, int | None] = dict(zip(labels, array.shape, strict=True))
    return Einsum((Factor(array, labels),), labels[:n], labels[n:], sizes, 1, (domain.dtype, codomain.dtype))


def _refuse_real_products(op: LinearOperator) -> None:
    waiting = [op]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Product) and any(f.real_linear for f in part.factors):
            raise SpaceError(
                f"{part!r} is linear over the reals alone and has no complex matrix; apply it with '@', or multiply the "
                "real and imaginary parts of the arrays (format='array')."
            )
        if isinstance(part, (Product, Sum)):
            waiting.extend(part.factors if isinstance(part, Product) else part.terms)


@operation
def dense(op: LinearOperator) -> Any:
    """The array of a product or sum from its parts; of another op the columns that it makes of unit arrays, or its rows."""
    _refuse_real_products(op)
    domain, codomain = op.domain, op.codomain
    if isinstance(domain, TupleSpace) or isinstance(codomain, TupleSpace):
        raise SpaceError(f"{op!r} acts on tuples; take one part of it before todense().")
    if not domain.known or domain.shape is None:
        raise SpaceError(
            f"cannot form {op.label} densely: its domain is {domain}. Compose it or place it in a matrix where its "
            "neighbours fix the sizes, or use op.refine(domain, codomain)."
        )

    def from_parts() -> Any:
        return result_array(op.refine(domain, codomain))

    def by_columns() -> Any:
        return _images(op)

    def by_rows() -> Any:
        turned = _images(op.transpose())
        n = len(domain.shape or ())
        return namespace(turned).permute_dims(turned, (*range(n, len(turned.shape)), *range(n)))

    if not codomain.known:
        return by_columns()
    return first_of(from_parts, by_columns) if isinstance(op, Product | Sum) else first_of(by_columns, by_rows)


def _images(op: LinearOperator) -> Any:
    """The images of the unit arrays, along the domain's axes, which come last."""
    domain, codomain = op.domain, op.codomain
    assert isinstance(domain, ArraySpace)
    assert isinstance(codomain, ArraySpace)
    shape = domain.shape or ()
    dtype = domain.dtype if domain.dtype is not None else np.dtype(float)
    basis = np.eye(domain.size, dtype=dtype).reshape(domain.size, *shape)
    columns = [op.apply(e) for e in basis]
    if not columns:
        return np.zeros((*(codomain.shape or ()), *shape), dtype)
    xp = namespace(*columns)
    dense = xp.stack([asarray(c) for c in columns], axis=-1)
    return xp.reshape(dense, (*dense.shape[:-1], *shape))


REFUSALS = (TypeError, ValueError, NotImplementedError)  # what array libraries say where an operator has no such direction


def attempt(make: Any) -> Any:
    """What ``make`` returns; None where the operator refuses this direction (the other one then serves, or says why not)."""
    try:
        return make()
    except REFUSALS:
        return None


def first_of(one: Any, other: Any) -> Any:
    """What the first returns; where it refuses, the second, whose own error tells of both."""
    try:
        return one()
    except REFUSALS as refusal:
        try:
            return other()
        except REFUSALS as error:
            error.add_note(f"(the other direction was refused as well: {refusal})")
            raise


def batched_columns(run: Sequence[LinearOperator], opaque: LinearOperator, most: int) -> Einsum | None:
    """The product of a run, in order of application and between spaces of one array, whose one opaque operator is given.

    None where no axes lie side by side, or where more than ``most`` columns (and as many rows) would be pushed through.
    """
    into: Any = run[0].domain
    out: Any = run[-1].codomain
    parts = {0: frozenset((a, a) for a in range(len(into.shape)))}
    for op in run:
        parts = propagate(op, parts)
    beside: dict[int, int] = {}  # axis of the domain → axis of the codomain
    for b, a in sorted(parts.get(0, ())):
        if a not in beside and b not in beside.values():
            beside[a] = b
    if not beside:
        return None
    columns = prod(n for a, n in enumerate(into.shape) if a not in beside)
    rows = prod(n for b, n in enumerate(out.shape) if b not in beside.values())
    if min(columns, rows) > most:
        return None
    if columns <= rows:
        return _by_columns(run, opaque, beside)
    back = [op.transpose() for op in reversed(run)]
    at = next(i for i, op in enumerate(run) if op is opaque)
    rows_first = _by_columns(back, back[len(run) - 1 - at], {b: a for a, b in beside.items()})
    turned = rows_first.transpose()
    assert isinstance(turned, Einsum)
    return turned


def _by_columns(run: Sequence[LinearOperator], opaque: LinearOperator, beside: dict[int, int]) -> Einsum:
    into: Any = run[0].domain
    out: Any = run[-1].codomain
    rest = [a for a in range(len(into.shape)) if a not in beside]
    sizes = [into.shape[a] for a in rest]
    width = prod(sizes)
    unit = np.eye(width, dtype=into.dtype or float)
    unit = unit.reshape([*(1 if a in beside else n for a, n in enumerate(into.shape)), width])
    columns = opaque.lifted(np.broadcast_to(unit, (*into.shape, width)))
    image = reshape(map_columns(in_turn(run), columns), (*out.shape, *sizes))
    ends = tuple(range(len(out.shape)))
    own = {a: len(ends) + i for i, a in enumerate(rest)}
    starts = tuple(own[a] if a in own else beside[a] for a in range(len(into.shape)))
    every = (*ends, *own.values())
    sizes_of: dict[int, int | None] = dict(zip(every, image.shape, strict=True))
    return Einsum((Factor(image, every),), ends, starts, sizes_of, 1, (into.dtype, out.dtype))


def in_turn(run: Sequence[LinearOperator]) -> Any:
    """The function that applies the operators of a run one after the other."""

    def image(x: Any) -> Any:
        for op in run:
            x = op.apply(x)
        return x

    return image
