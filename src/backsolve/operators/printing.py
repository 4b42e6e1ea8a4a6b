"""How an `Einsum` is written: as the paper's product of ᴸ, ᴿ, ᴴ and T• where it is one, by its labels otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_lowercase
from typing import Any, Protocol

import numpy as np

from backsolve.algebra.arrays import is_number

__all__ = ["coefficient", "einsum_label"]


class Factor(Protocol):
    """What is written of a factor."""

    @property
    def labels(self) -> tuple[int, ...]: ...

    @property
    def name(self) -> str: ...

    @property
    def array(self) -> Any: ...

    @property
    def written(self) -> str: ...


class Einsum(Protocol):
    """What is written of an `Einsum`."""

    coef: Any
    out: tuple[int, ...]
    into: tuple[int, ...]
    sizes: dict[int, int | None]

    @property
    def factors(self) -> Sequence[Factor]: ...


def coefficient(c: Any) -> str:
    """The sign or factor in front of an operator: nothing for 1, a minus for −1."""
    if is_number(c):
        if c == 1:
            return ""
        if c == -1:
            return "−"
        return f"{c:g}·" if isinstance(c, (int, float)) else f"{c}·"
    return "c·"


def einsum_label(op: Einsum) -> str:
    """The operator in the paper's notation, for example ``−(Δ)ᴴ ∘ (W)ᴸ``; between numbers the number, where it is known."""
    if not op.out and not op.into and op.factors and not any(f.name for f in op.factors):
        numbers = [x for x in (_number(x) for x in (op.coef, *(f.array for f in op.factors))) if x is not None]
        if len(numbers) == 1 + len(op.factors):
            return f"{prod(numbers):.6g}".replace("-", "−")
    body = _as_paper(op) or _by_labels(op)
    return coefficient(op.coef) + body


def _number(x: Any) -> complex | float | None:
    """A number that can be had; None while a program is traced, and of what has a shape alone."""
    if not is_number(x) and not hasattr(x, "__array__"):
        return None
    try:
        array = np.asarray(x)
    except (TypeError, RuntimeError):  # a tracer, an array that was given away
        return None
    return None if array.ndim or array.dtype.kind not in "biufc" else array.item()


def _as_paper(op: Einsum) -> str | None:
    out, into = op.out, op.into
    if not op.factors:
        return "I" if out == into else None
    if len(op.factors) == 1 and not out and into and op.factors[0].labels == into:
        return f"({op.factors[0].written})ᵀ•"
    if len(op.factors) == 1 and not into and out and op.factors[0].labels == out:
        return f"({op.factors[0].written})•"
    before: list[str] = []  # Hadamards of the output, written first
    middle: list[str] = []
    after: list[str] = []
    axes_left = {p for p in range(len(out)) if p >= len(into) or out[p] != into[p]}
    if len(out) != len(into):
        return None
    for f in op.factors:
        if not f.labels:
            before.append(f"{f.name or 'c'}·I")
        elif f.labels == out:
            before.append(f"({f.written})ᴴ")
        elif f.labels == into:
            after.append(f"({f.written})ᴴ")
        elif len(f.labels) == 2 and len(out) == 2:
            position = next((p for p in axes_left if set(f.labels) == {out[p], into[p]}), None)
            if position is None:
                return None
            axes_left.discard(position)
            straight = f.labels == ((out[0], into[0]) if position == 0 else (into[1], out[1]))
            middle.append(f"({f.written}{'' if straight else 'ᵀ'}){'ᴸ' if position == 0 else 'ᴿ'}")
        else:
            return None
    if axes_left:
        return None
    if len(middle) == 2 and not before and not after:
        left = next((m for m in middle if m.endswith("ᴸ")), "")
        right = next((m for m in middle if m.endswith("ᴿ")), "")
        return f"{left} ∘ {right}"
    return " ∘ ".join(before + middle + after)


def _by_labels(op: Einsum) -> str:
    letters = dict(zip(sorted(op.sizes), ascii_lowercase[8:] + ascii_lowercase[:8], strict=False))

    def word(labels: tuple[int, ...]) -> str:
        return "".join(letters.get(label, f"_{label}") for label in labels) or "()"

    factors = " ".join(f"{f.written}[{word(f.labels)}]" for f in op.factors)
    return f"einsum({word(op.out)} ← {word(op.into)}{': ' + factors if factors else ''})"
