"""Checks for operators of your own: is it linear, is its transpose its transpose, does it say its sizes rightly?

`check_grad` and `check_rule`, for derivatives of JAX functions, are found here too; they import JAX when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backsolve.testing.operators import check_operator as check_operator

if TYPE_CHECKING:
    from backsolve.testing.derivatives import check_grad as check_grad
    from backsolve.testing.derivatives import check_rule as check_rule

__all__ = ["check_grad", "check_operator", "check_rule"]


def __getattr__(name: str) -> Any:
    if name not in ("check_grad", "check_rule"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from backsolve.testing import derivatives

    return getattr(derivatives, name)
