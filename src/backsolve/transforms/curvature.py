"""Which multiple of the identity makes a Hessian positive definite, and where it curves down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backsolve.algebra.elements import SingularError
from backsolve.engines.symmetric import SymmetricLU
from backsolve.transforms.repeated import Repeated

__all__ = ["Curvature"]

Array = np.ndarray[Any, Any]

FIRST = 1e-4  # damping, relative to the size of the Hessian
GROWTH = 4.0
FLAT = 1e-9  # curvature relative to the size of the Hessian that counts as none
DENSE = 256  # unknowns up to which all eigenvalues are computed


class Curvature:
    """The directions of a minimization by Newton's method, from the Hessian at a point.

    Where the elimination leaves the Hessian itself (a sparse or a small one), it is factored symmetrically and the signs of
    its pivots tell; else the bordered matrix is factored, and the lowest eigenvalue of products ``product(x, v)`` tells.
    """

    def __init__(self, work: Repeated, product: Callable[[Array, Array], Any]) -> None:
        self.work = work
        self.product = product
        self._damping = 0.0

    def descent(self, x: Array, g: Array, least: float) -> tuple[Array, float]:
        """The d with (∇²f + σI) d = −g and the σ ≥ ``least`` that makes the matrix positive definite.

        Of a small Hessian |H| is taken instead, eigenvalue by eigenvalue, and σ is what the lowest lacks.
        Raises `SingularError` where the Hessian is not finite.
        """
        H = self._hessian(x)
        if H is not None and x.size <= DENSE:
            values, vectors = np.linalg.eigh(H.toarray())
            floor = FLAT * float(np.abs(values).max(initial=0.0)) + np.finfo(float).tiny
            d = vectors @ ((vectors.T @ -g) / np.maximum(np.abs(values) + least, floor))
            return d, max(least, -2 * float(values[0]))
        if H is None:
            low, size = self._lowest(x, None)[0], self._size(x, None)
            flat = FIRST * (size or 1.0) if low < FLAT * size or not size else 0.0
            damping = max(least, flat - 1.5 * low)  # not at the edge, where the step would be endless
            return self.work.inverse(x, damping).solve(-g), damping
        first = FIRST * (float(np.abs(H.data).max(initial=0.0)) or 1.0)
        damping = least
        factors = SymmetricLU(H, damping)
        while not factors.positive_definite:
            damping = max(GROWTH * damping, self._damping / GROWTH**2, first)
            factors = SymmetricLU(H, damping)
        self._damping = damping
        return factors.solve(-g), damping

    def escape(self, x: Array) -> tuple[Array | None, float]:
        """A direction of negative curvature and how negative it is; None where the Hessian has none."""
        H = self._hessian(x)
        if H is not None:
            size = float(np.abs(H.data).max(initial=0.0))
            if SymmetricLU(H, FLAT * size + np.finfo(float).tiny).positive_definite:
                return None, 0.0
        low, v = self._lowest(x, H)
        if not low < -FLAT * self._size(x, H):
            return None, 0.0
        return v * (1 + float(np.abs(x).max(initial=0.0))), low

    def _hessian(self, x: Array) -> Any:
        """The Hessian as a sparse matrix; None where it is not formed."""
        H = self.work.symmetric(x)
        if H is not None and not np.isfinite(H.data).all():
            raise SingularError("the Hessian has entries that are NaN or infinite here; take another x0.")
        return H

    def _size(self, x: Array, H: Any) -> float:
        if H is not None:
            return float(np.abs(H.data).max(initial=0.0))
        from scipy.sparse.linalg import eigsh

        largest = eigsh(self._operator(x), k=1, which="LM", tol=1e-2, v0=self._start(x), return_eigenvectors=False)
        return float(np.abs(largest).max())

    def _lowest(self, x: Array, H: Any) -> tuple[float, Array]:
        """The lowest eigenvalue of the Hessian, and its vector of length 1."""
        from scipy.sparse.linalg import eigsh

        if H is not None and x.size <= DENSE:
            values, vectors = np.linalg.eigh(H.toarray())
        else:
            operator = self._operator(x) if H is None else H
            values, vectors = eigsh(operator, k=1, which="SA", tol=1e-2, v0=self._start(x))
        return float(values[0]), vectors[:, 0]

    def _operator(self, x: Array) -> Any:
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator((x.size, x.size), lambda v: np.asarray(self.product(x, np.ravel(v)), float), dtype=float)

    def _start(self, x: Array) -> Array:
        return np.random.default_rng(0).standard_normal(x.size)  # ARPACK's own start is another one in every run
