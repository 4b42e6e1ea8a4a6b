"""Products that sum: ``dot_general`` as an `Einsum`; convolutions as themselves."""

from __future__ import annotations

from math import prod
from typing import Any

from backsolve.capture.edges import linear
from backsolve.capture.record import Primitive
from backsolve.operators import Einsum, LinearOperator
from backsolve.operators.einsum import Factor
from backsolve.tracing.jaxpr import Equation, as_array

__all__ = ["CONTRACTION"]


def _dot_general(eq: Equation, k: int) -> LinearOperator:
    """The edge of operand k of a contraction: an `Einsum` whose one factor is the other operand.

    With a precision, a sharding or an accumulation dtype of its own, the primitive itself.
    """
    params, other = eq.params, as_array(eq.inputs[1 - k], eq.eqn.invars[1 - k].aval)
    plain = params.get("precision") is None and params.get("out_sharding") is None
    if not plain or other.dtype != eq.in_dtype(k) or eq.dtype != eq.in_dtype(k):
        return linear(eq, k)
    (contract_l, contract_r), (batch_l, batch_r) = params["dimension_numbers"]
    left, right, out = _dot_labels(len(eq.in_shape(0)), len(eq.in_shape(1)), contract_l, contract_r, batch_l, batch_r)
    into, fixed = (left, right) if k == 0 else (right, left)
    sizes: dict[int, int | None] = dict(zip(into, eq.in_shape(k), strict=True))
    sizes |= dict(zip(fixed, other.shape, strict=True))
    return Einsum((Factor(other, fixed),), out, into, sizes, 1, (eq.in_dtype(k), eq.dtype))


def _product_axes(eq: Equation, k: int) -> dict[int, int]:
    contract, batch = eq.params["dimension_numbers"]
    *operands, out = _dot_labels(len(eq.in_shape(0)), len(eq.in_shape(1)), *contract, *batch)
    return {a: out.index(label) for a, label in enumerate(operands[k]) if label in out}


def _kernel_size(eqn: Any) -> float:
    """Entries of the kernel for each entry of a convolution."""
    shape = eqn.invars[1].aval.shape
    return float(prod(shape) / max(shape[eqn.params["dimension_numbers"].rhs_spec[0]], 1))


def _dot_labels(
    rank_l: int, rank_r: int, contract_l: Any, contract_r: Any, batch_l: Any, batch_r: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Labels of the two operands and the result of a contraction: batch, free left, free right."""
    left = list(range(rank_l))
    right = list(range(rank_l, rank_l + rank_r))
    for i, j in zip((*contract_l, *batch_l), (*contract_r, *batch_r), strict=True):
        right[j] = left[i]
    free_l = [left[i] for i in range(rank_l) if i not in contract_l and i not in batch_l]
    free_r = [right[j] for j in range(rank_r) if j not in contract_r and j not in batch_r]
    return tuple(left), tuple(right), (*(left[i] for i in batch_l), *free_l, *free_r)


CONTRACTION: dict[str, Primitive] = {
    "dot_general": Primitive(_dot_general, (0, 1), axes=_product_axes),
    "conv_general_dilated": Primitive(linear, (0, 1), work=_kernel_size),
}
