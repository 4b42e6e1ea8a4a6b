"""Complex unknowns and values as pairs of real ones, for what iterates over real numbers.

A function of complex numbers, holomorphic or not, is one of their real and imaginary parts: z = x + iy, F = u + iv, and
its derivative is ∂(u, v)/∂(x, y), twice as large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["has_complex", "joined", "of_pairs", "over_pairs", "split"]


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Pairs:
    """A complex array z of shape s as a real one of shape (*s, 2)."""

    parts: Any

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        return (self.parts,), None

    @classmethod
    def tree_unflatten(cls, _: None, parts: tuple[Any]) -> Pairs:
        return cls(*parts)


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, complex) or getattr(getattr(leaf, "dtype", None), "kind", "") == "c"


def has_complex(tree: Any) -> bool:
    """Whether any leaf is complex."""
    return any(map(_is_complex, jax.tree_util.tree_leaves(tree)))


def split(tree: Any) -> Any:
    """A pytree with pairs in place of its complex leaves, as many leaves as before."""

    def part(z: Any) -> Any:
        return Pairs(jnp.stack([jnp.real(z), jnp.imag(z)], axis=-1)) if _is_complex(z) else z

    return jax.tree_util.tree_map(part, tree)


def joined(tree: Any) -> Any:
    """The pytree of which `split` makes this one."""

    def whole(x: Any) -> Any:
        return jax.lax.complex(x.parts[..., 0], x.parts[..., 1]) if isinstance(x, Pairs) else x

    return jax.tree_util.tree_map(whole, tree, is_leaf=lambda x: isinstance(x, Pairs))


def of_pairs(F: Any, x0: Any) -> Any:
    """F as a function of pairs in place of complex arguments like x0; F itself where none is complex."""
    return (lambda x, *args: F(joined(x), *args)) if callable(F) and has_complex(x0) else F


def over_pairs(F: Any) -> Callable[..., Any]:
    """F as a function of pairs, with pairs as values, in place of complex numbers."""
    return (lambda x, *args: split(F(joined(x), *args))) if callable(F) else F
