"""The inverse of an `Einsum`, factor by factor: a Kronecker product's is the Kronecker product of inverses."""

from __future__ import annotations

from math import prod

import numpy as np

from backsolve.algebra.arrays import Labels, namespace, place
from backsolve.algebra.elements import SingularError
from backsolve.operators.dispatch import operation
from backsolve.operators.einsum import Einsum, Factor, Reciprocal, contract_all

__all__ = ["inverse_einsum"]


@operation
def inverse_einsum(op: Einsum) -> Einsum:
    """Return the inverse of op, in as many independent blocks as its factors fall into.

    Factors that share a label which is not a Kronecker delta belong to one block; each block is inverted densely,
    batched over the deltas.  Raises `SingularError` where a block is not square or not invertible.
    """
    coef = op.coef if op.coef in (1, -1) else 1 / op.coef
    if len(op.factors) == 1 and isinstance(op.factors[0], Reciprocal) and op.out == op.into == op.factors[0].labels:
        return Einsum((Factor(op.factors[0].divisor, op.out),), op.out, op.into, op.sizes, coef, op.dtypes)
    deltas = set(op.out) & set(op.into)
    peeled = _peel(op, deltas)
    if peeled is not None:
        return peeled
    groups = _components(op, deltas)
    factors: list[Factor] = []
    covered: set[int] = set(deltas)
    for group in groups:
        labels = {label for f in group for label in f.labels}
        covered |= labels
        factors.append(_inverse_block(op, group, labels, deltas))
    loose = [label for label in (*op.out, *op.into) if label not in covered]
    if loose or len(set(op.out)) < len(op.out) or len(set(op.into)) < len(op.into):
        raise SingularError(f"{op!r} sums or repeats along an axis and has no inverse.")
    return Einsum(tuple(factors), op.into, op.out, op.sizes, coef, op.dtypes[::-1])


def _peel(op: Einsum, deltas: set[int]) -> Einsum | None:
    """Invert a Hadamard factor of the whole output (or input) by itself: (D K)⁻¹ = K⁻¹ D⁻¹; None where there is none."""
    for side, other in ((op.out, op.into), (op.into, op.out)):
        ends = [f for f in op.factors if set(f.labels) == set(side) and not set(f.labels) <= deltas]
        rest = tuple(f for f in op.factors if all(f is not e for e in ends))
        if not ends or not rest or set(side) == set(other):
            continue
        inner = inverse_einsum(Einsum(rest, op.out, op.into, op.sizes, op.coef, op.dtypes))
        flipped = tuple(_inverse_block(op, [f], set(f.labels), set(f.labels) | deltas) for f in ends)
        return Einsum(inner.factors + flipped, inner.out, inner.into, op.sizes, inner.coef, inner.dtypes)
    return None


def _components(op: Einsum, deltas: set[int]) -> list[list[Factor]]:
    groups: list[tuple[set[int], list[Factor]]] = []
    for f in op.factors:
        labels = set(f.labels) - deltas
        members = [f]
        apart = []
        for other_labels, others in groups:
            if labels & other_labels:
                labels |= other_labels
                members = others + members
            else:
                apart.append((other_labels, others))
        groups = [*apart, (labels, members)]
    return [members for _, members in groups]


def _inverse_block(op: Einsum, group: list[Factor], labels: set[int], deltas: set[int]) -> Factor:
    batch = tuple(label for label in op.out if label in deltas and label in labels)
    rows = tuple(label for label in op.out if label in labels and label not in deltas)
    cols = tuple(label for label in op.into if label in labels and label not in deltas)
    every: Labels = batch + rows + cols
    x, order_now = contract_all(group[0].array, group[0].labels, group[1:], every, op.sizes)
    x = place(x, order_now, every, op.sizes)
    name = f"{group[0].name}⁻¹" if len(group) == 1 and group[0].name else ""
    xp = namespace(x)
    if not rows and not cols:
        if isinstance(x, np.ndarray) and x.dtype != object and not np.all(x != 0):
            raise SingularError(f"{op!r} is singular: its diagonal has a zero.")
        return Factor(1 / x, batch, name)
    shape = tuple(x.shape)
    m, n = prod(shape[len(batch) : len(batch) + len(rows)]), prod(shape[len(batch) + len(rows) :])
    if m != n:
        raise SingularError(f"{op!r} is not square: a block of it maps {n} numbers to {m}.")
    try:
        y = xp.linalg.inv(xp.reshape(x, (*shape[: len(batch)], m, n)))
    except (np.linalg.LinAlgError, RuntimeError):
        raise SingularError(f"{op!r} is singular.") from None
    sizes = dict(zip(every, shape, strict=True))
    y = xp.reshape(y, tuple(sizes[label] for label in batch + cols + rows))
    return Factor(y, batch + cols + rows, name)
