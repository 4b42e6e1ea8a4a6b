"""A sparsity pattern in text: a picture of dots, and how full it is."""

from __future__ import annotations

import numpy as np

from backsolve.sparse.pattern import Pattern

__all__ = ["braille", "percent"]

_LINES, _CHARACTERS = 18, 76  # of a picture, without its brackets


def percent(nnz: int, places: int) -> str:
    """How many of all places in words, in two digits; all and none are told exactly."""
    percent = 100 * nnz / places
    if nnz == places:
        return "100%"
    return "> 99%" if percent > 99 else f"{percent:.2g}%"


def braille(pattern: Pattern, lines: int = _LINES, characters: int = _CHARACTERS) -> list[str]:
    """Return a picture of a pattern, two by four places a character; larger patterns are scaled down to fit.

    A dot says that some place there is non-zero.
    """
    m, n = pattern.shape
    if not m or not n:
        return []
    shrink = max(m / (4 * lines), n / (2 * characters), 1.0)
    height, width = max(1, round(m / shrink)), max(1, round(n / shrink))
    dots = np.zeros((-(-height // 4) * 4, -(-width // 2) * 2), bool)
    dots[pattern.rows.astype(np.int64) * height // m, pattern.cols.astype(np.int64) * width // n] = True
    cells = dots.reshape(dots.shape[0] // 4, 4, dots.shape[1] // 2, 2)
    weights = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    codes = (cells * weights[None, :, None, :]).sum(axis=(1, 3)) + 0x2800
    text = ["".join(map(chr, row)) for row in codes.tolist()]
    if len(text) == 1:
        return [f"⎡{text[0]}⎤"]
    ends = [("⎡", "⎤"), *[("⎢", "⎥")] * (len(text) - 2), ("⎣", "⎦")]
    return [left + row + right for (left, right), row in zip(ends, text, strict=True)]
