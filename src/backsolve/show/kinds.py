"""What kind of element stands on an edge: one colour a kind, on every picture."""

from __future__ import annotations

import re
from typing import Any

from backsolve.algebra.elements import is_one, is_zero
from backsolve.matrices.text import element_text
from backsolve.operators import LinearOperator

__all__ = ["KINDS", "kind_of", "label_of", "minus"]

# The kinds in the order of the legend; page.css has their colours.
KINDS: dict[str, str] = {
    "identity": "identity or a multiple of it",
    "entrywise": "entry by entry",
    "product": "matrix product",
    "sum": "sum, inner product, broadcast",
    "moves": "moves entries, sparse pattern",
    "number": "number, symbol or block",
    "opaque": "opaque (known by what it does)",
    "composed": "sum or product of several",
    "group": "several edges, folded",
}

_INNER = re.compile(r"\([^()]*\)")  # brackets without others inside

_BY_CLASS = {
    "Identity": "identity",
    "Scaling": "identity",
    "Reshape": "moves",
    "Component": "moves",
    "Slice": "moves",
    "Sparse": "moves",
    "LinearMap": "opaque",
    "LinearEquation": "opaque",
    "Product": "composed",
    "Sum": "composed",
}


def kind_of(element: Any) -> str:
    """The kind of an element, one of `KINDS`.

    Example:
        >>> from backsolve import I, hadamard, left_mul
        >>> import numpy as np
        >>> [kind_of(x) for x in (I, hadamard(np.ones(3)), left_mul(np.ones((2, 2))), 3.0)]
        ['identity', 'entrywise', 'product', 'number']
    """
    if is_one(element) or is_zero(element):
        return "identity"
    if not isinstance(element, LinearOperator):
        return "number"
    known = _BY_CLASS.get(type(element).__name__)
    if known is not None:
        return known
    out, into, factors = (getattr(element, name, None) for name in ("out", "into", "factors"))
    if not isinstance(out, tuple) or not isinstance(into, tuple) or not isinstance(factors, tuple):
        return "opaque"
    if out == into:
        return "entrywise" if any(f.labels for f in factors) else "identity"
    if sorted(out) == sorted(into):
        return "moves" if not factors else "entrywise"
    if set(out) < set(into) or set(into) < set(out):
        return "sum"
    return "product"


def label_of(element: Any) -> str:
    """An element in one line, as a picture has room for it."""
    text = re.sub(r"^sparse\((\S+), ([\d,]+) non-zeros?\)$", r"\2 of \1", element_text(element))
    return text if len(text) <= 60 else text[:59] + "…"


def minus(label: str) -> str:
    """The label of an element's negative."""
    if label in ("0", "O"):
        return label
    outside = label
    while outside != (outside := _INNER.sub("", outside)):
        pass
    if " + " in outside or " − " in outside or " - " in outside:
        return f"−[{label}]"
    return label[1:] if label[0] in "−-" else f"−{label}"
