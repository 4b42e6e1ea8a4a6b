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
Product = Callable[[Array], Array]

FIRST = 1e-4  # damping, relative to the size of the Hessian
GROWTH = 4.0
FLAT = 1e-9  # curvature relative to the size of the Hessian that counts as none
DENSE = 256  # unknowns up to which all eigenvalues are computed


class Model:
    """q(d) = g·d + ½ dᵀ B d, with B by its products, and solved with by the entries that are free."""

    def __init__(self, g: Array, product: Product, solve: Callable[[Array, Array], Array]) -> None:
        self.g = g
        self.product = product
        self._solve = solve  # mask of the free entries, right-hand side → d, whose other entries do not count

    def slope(self, d: Array) -> Array:
        """g + B d."""
        return self.g + self.product(d)

    def face(self, free: Array, d: Array) -> Array:
        """The minimum of q by the free entries, the others being those of d."""
        held = np.where(free, 0, d)
        return np.where(free, self._solve(free, -(self.slope(held) if held.any() else self.g)), d)


class Curvature:
    """The quadratic models of a minimization by Newton's method, from the Hessian at a point.

    Where the elimination leaves the Hessian itself (a sparse or a small one), it is factored symmetrically and the signs of
    its pivots tell; else the bordered matrix is factored, and the lowest eigenvalue of products ``product(x, v)`` tells.
    Only the Hessian by the unknowns that are ``free`` counts; others are held.
    """

    def __init__(self, work: Repeated, product: Callable[[Array, Array], Any]) -> None:
        self.work = work
        self.product = product
        self._damping = 0.0

    def model(self, x: Array, g: Array, least: float, free: Array) -> tuple[Model, float]:
        """The model with B = ∇²f + σI by the free unknowns, and the σ ≥ ``least`` that makes B positive definite.

        Of a small Hessian |H| is taken instead, eigenvalue by eigenvalue, and σ is what the lowest lacks.
        Raises `SingularError` where the Hessian is not finite.
        """
        H = self._hessian(x, free)
        if H is not None and H.shape[0] <= DENSE:
            values, vectors = np.linalg.eigh(H.toarray())
            floor = FLAT * float(np.abs(values).max(initial=0.0)) + np.finfo(float).tiny
            sizes = np.maximum(np.abs(values) + least, floor)

            def solve(some: Array, b: Array) -> Array:
                if (some == free).all():
                    return _spread(vectors @ ((vectors.T @ b[free]) / sizes), free)
                at = some[free]
                B = (vectors[at] * sizes) @ vectors[at].T
                return _spread(np.linalg.solve(B, b[some]), some)

            def product(v: Array) -> Array:
                return _spread(vectors @ (sizes * (vectors.T @ v[free])), free)

            return Model(g, product, solve), max(least, -2 * float(values.min(initial=0.0)))
        if H is None:
            low, size = self._lowest(x, None, free)[0], self._size(x, None, free)
            flat = FIRST * (size or 1.0) if low < FLAT * size or not size else 0.0
            damping = max(least, flat - 1.5 * low)  # not at the edge, where the step would be endless

            def bordered(some: Array, b: Array) -> Array:
                return self.work.inverse(x, damping, None if some.all() else some).solve(np.where(some, b, 0))  # type: ignore[no-any-return]

            return Model(g, lambda v: np.asarray(self.product(x, v), float) + damping * v, bordered), damping
        first = FIRST * (float(np.abs(H.data).max(initial=0.0)) or 1.0)
        damping = least
        factors = SymmetricLU(H, damping)
        while not factors.positive_definite:
            damping = max(GROWTH * damping, self._damping / GROWTH**2, first)
            factors = SymmetricLU(H, damping)
        self._damping = damping

        def substituted(some: Array, b: Array) -> Array:
            at = np.flatnonzero(some[free])
            own = factors if (some == free).all() else SymmetricLU(H[at][:, at].tocsc(), damping)
            return _spread(own.solve(b[some]), some)

        return Model(g, lambda v: _spread(H @ v[free] + damping * v[free], free), substituted), damping

    def escape(self, x: Array, free: Array, low: Array, high: Array) -> tuple[Array | None, float]:
        """A direction of negative curvature and how negative it is; None where the Hessian has none.

        It is one by free unknowns, and leads out of no bound that x is at: ``low`` and ``high`` are the room around x.
        """
        interior = free & (low < 0) & (high > 0)
        for own in (free, interior):
            if not own.any():
                break
            H = self._hessian(x, own)
            size = self._size(x, H, own)
            if H is not None and SymmetricLU(H, FLAT * size + np.finfo(float).tiny).positive_definite:
                break
            lowest, v = self._lowest(x, H, own)
            if not lowest < -FLAT * size:
                break
            for way in (v, -v):
                d = np.clip(way, np.where(low < 0, -np.inf, 0), np.where(high > 0, np.inf, 0))
                if (d == way).all() or d @ np.asarray(self.product(x, d), float) < -FLAT * size * (d @ d):
                    return d * (1 + float(np.abs(x).max(initial=0.0))), lowest
        return None, 0.0

    def _hessian(self, x: Array, free: Array) -> Any:
        """The Hessian by the free unknowns as a sparse matrix; None where it is not formed."""
        H = self.work.symmetric(x)
        if H is not None and not free.all():
            at = np.flatnonzero(free)
            H = H[at][:, at].tocsc()
        if H is not None and not np.isfinite(H.data).all():
            raise SingularError("the Hessian has entries that are NaN or infinite here; take another x0.")
        return H

    def _size(self, x: Array, H: Any, free: Array) -> float:
        if H is not None:
            return float(np.abs(H.data).max(initial=0.0))
        return float(np.abs(self._eigen(self._operator(x, free), "LM")[0]))

    def _lowest(self, x: Array, H: Any, free: Array) -> tuple[float, Array]:
        """The lowest eigenvalue of the Hessian by the free unknowns, and its vector of length 1."""
        if H is not None and H.shape[0] <= DENSE:
            values, vectors = np.linalg.eigh(H.toarray())
            return float(values[0]), _spread(vectors[:, 0], free)
        value, vector = self._eigen(self._operator(x, free) if H is None else H, "SA")
        return value, _spread(vector, free)

    def _eigen(self, operator: Any, which: str) -> tuple[float, Array]:
        """The eigenvalue of largest size (LM) or the lowest one (SA), and its vector."""
        from scipy.sparse.linalg import eigsh

        n = operator.shape[0]
        if n == 1:  # of which ARPACK wants to know nothing
            return float((operator @ np.ones(1))[0]), np.ones(1)
        start = np.random.default_rng(0).standard_normal(n)  # ARPACK's own start is another one in every run
        values, vectors = eigsh(operator, k=1, which=which, tol=1e-2, v0=start)
        return float(values[0]), vectors[:, 0]

    def _operator(self, x: Array, free: Array) -> Any:
        from scipy.sparse.linalg import LinearOperator

        def product(v: Array) -> Array:
            return np.asarray(self.product(x, _spread(np.ravel(v), free)), float)[free]

        return LinearOperator((int(free.sum()),) * 2, product, dtype=float)


def _spread(part: Array, at: Array) -> Array:
    """A vector with these entries where ``at`` is true, and 0 elsewhere."""
    whole = np.zeros(at.shape)
    whole[at] = part
    return whole
