"""Engines for concrete numbers by SuiteSparse, where scikit-sparse is installed: UMFPACK, KLU and CHOLMOD.

Each analyses a layout once and factors every set of numbers by that analysis.
"""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from threading import RLock
from typing import Any, ClassVar, NamedTuple

import numpy as np

from backsolve.engines.base import SingularError
from backsolve.engines.hosted import HostFactors
from backsolve.engines.layout import Columns, Layout

__all__ = ["CHOLMOD", "KLU", "UMFPACK", "package"]

Array = np.ndarray[Any, Any]

DOMINANT = 1e-3  # times the largest of its column: a diagonal that KLU takes its pivots from
ASYMMETRY = {8: 1e-8, 4: 1e-3}  # of numbers of so many bytes, beside the largest; below it is rounding
ROUGH = 0.1  # the same of half precision


def package(engine: str) -> Any:
    """The module of scikit-sparse behind this engine.  Raises `ImportError` where it is missing."""
    try:
        return import_module(f"sksparse.{engine}")
    except ImportError as error:
        since = "scikit-sparse" if engine == "cholmod" else "scikit-sparse 0.5 or newer"
        raise ImportError(
            f"engine={engine!r} needs {since} and SuiteSparse: pip install 'backsolve[suitesparse]'; or take engine='auto'."
        ) from error


class Paired(NamedTuple):
    """A matrix whose row i was moved to ``at[i]``, so that what belongs together meets on the diagonal."""

    columns: Columns
    at: Array


def _paired(layout: Layout) -> Paired:
    at = np.arange(layout.size) if layout.mates is None else layout.mates
    indptr, row, _ = layout.columns
    moved = at[row]
    order = np.lexsort((moved, np.repeat(np.arange(layout.size), np.diff(indptr))))
    return Paired(Columns(indptr, moved[order].astype(np.int32), order), at)


class SuiteSparse(HostFactors):
    """What is common to the three: the matrix they are given, and what their errors mean."""

    engine: ClassVar[str]

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        from scipy.sparse import csc_array

        super().__init__(layout, data)
        (indptr, row, order), self._at = layout.remember("paired", lambda: _paired(layout))
        self._moved = csc_array((self.matrix.data[order], row, indptr), shape=self.matrix.shape)

    @property
    @abstractmethod
    def nnz(self) -> int:
        """Number of entries of the factors."""

    @abstractmethod
    def _solved_moved(self, b: Array, trans: str) -> Array:
        """The solution with the moved matrix; b is an array of its own."""

    def _substituted(self, b: Array, trans: str) -> Array:
        given = np.array(b, order="F")
        if trans == "T":
            solution: Array = self._solved_moved(given, trans)[self._at]
            return solution
        given[self._at] = b
        return self._solved_moved(given, trans)

    @contextmanager
    def _watched(self, told: str) -> Iterator[None]:
        """Calls of the package, its warnings ignored or raised ("ignore", "error"), lack of memory named."""
        with warnings.catch_warnings():
            warnings.simplefilter(told)  # type: ignore[arg-type]
            try:
                yield
            except (MemoryError, OverflowError) as error:
                raise self._too_large(self.layout.size, self.matrix.nnz) from error


# ---- general matrices ---------------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Kept:
    """The package's factors of the matrices of one layout: analysed once, with the numbers of whoever factored last."""

    factor: Any = None
    owner: Any = None
    strict: bool = False  # partial pivoting in full, since less did not do
    lock: Any = field(default_factory=RLock)


class GeneralLU(SuiteSparse):
    """P A Q = L U by a package whose object holds one set of numbers at a time: where another's are there, it factors again.

    Where pivots that were merely large enough, or those of earlier numbers, do not solve well, the largest are taken.
    Raises `SingularError`, naming the unknown whose pivot is missing, and `PatternTooLargeError` where the factors do not
    fit into memory.
    """

    complaints: ClassVar[tuple[str, ...]]

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        super().__init__(layout, data)
        self._package = package(self.engine)
        self._complaints: Any = tuple(getattr(self._package, name) for name in self.complaints)
        self._kept: Kept = layout.remember(self.engine, Kept)
        self._me = object()
        self._factor()

    @abstractmethod
    def _analysed(self, strict: bool) -> Any:
        """The package's object with the analysis of the moved matrix."""

    def _factor(self) -> None:
        shared = self._kept
        if not self.matrix.nnz:
            raise self._singular()
        with shared.lock:
            known, shared.owner = shared.factor is not None and shared.factor.dtype == self.matrix.dtype, None
            try:
                with self._watched("error"):
                    if not known:
                        shared.factor = self._analysed(shared.strict)
                    shared.factor.factorize(self._moved)
            except self._complaints as error:
                shared.factor = None
                if not known:
                    raise self._singular() from error
                self._factor()  # the pivots of earlier numbers do not serve
            shared.owner = self._me
            self._careful = shared.strict and not known

    def _more_careful(self) -> bool:
        if self._careful:
            return False
        with self._kept.lock:
            self._kept.factor, self._kept.strict = None, True
            self._factor()
        return True

    @property
    def nnz(self) -> int:
        """Number of entries of the factors."""
        with self._kept.lock:
            self._own()
            return int(self._kept.factor.lnz + self._kept.factor.unz)

    def _own(self) -> None:
        if self._kept.owner is not self._me:
            self._factor()

    def _solved_moved(self, b: Array, trans: str) -> Array:
        with self._kept.lock:
            self._own()
            try:
                with self._watched("ignore"):  # near to singular: the residual tells how near
                    return self._by(self._kept.factor, b, trans)
            except self._complaints as error:
                raise self._singular() from error

    @abstractmethod
    def _by(self, factor: Any, b: Array, trans: str) -> Array:
        """The solution by the package's object."""


class UMFPACK(GeneralLU):
    """Multifrontal factors, dense steps by BLAS.

    Source: Davis, *Algorithm 832: UMFPACK V4.3, an unsymmetric-pattern multifrontal method*, 2004.
    """

    engine = "umfpack"
    complaints = ("UMFPACKError", "UMFPACKWarning")

    def _analysed(self, strict: bool) -> Any:
        more = {"strategy": "unsymmetric", "pivot_tol": 1.0} if strict else {}
        control = self._package.UMFControl(ir_steps=0, **more)  # refined here, as for the others
        return self._package.UMFFactor(self._moved, control)

    def _by(self, factor: Any, b: Array, trans: str) -> Array:
        x: Array = factor.solve(b, trans=trans)
        return x


class KLU(GeneralLU):
    """Factors column by column, without dense steps; of further numbers by the pivots of the first.

    Where the diagonal holds pivots it is kept (AMD), else columns alone are ordered (COLAMD).
    Source: Davis and Natarajan, *Algorithm 907: KLU, a direct sparse solver for circuit simulation problems*, 2010.
    """

    engine = "klu"
    complaints = ("KLUError", "KLUWarning")

    def _analysed(self, strict: bool) -> Any:
        A = self._moved
        largest = abs(A).max(axis=0).toarray().ravel()
        diagonal = bool((np.abs(A.diagonal()) >= DOMINANT * largest).all())
        more = {"tol": 1.0} if strict else {}
        control = self._package.KLUControl(ordering="AMD" if diagonal and not strict else "COLAMD", **more)
        return self._package.KLUFactor(A, control)

    def _by(self, factor: Any, b: Array, trans: str) -> Array:
        x: Array = factor.solve(b) if trans == "N" else factor.solve(b.T, transpose=True).T
        return x


# ---- symmetric positive definite ones -----------------------------------------------------------------------------------
class CHOLMOD(SuiteSparse):
    """A = L Lᵀ (Lᴴ), of a matrix that is symmetric (Hermitian) and positive definite.

    Raises `ValueError` where it is not symmetric, `SingularError`, naming an unknown, where it is not positive definite,
    and `PatternTooLargeError` where the factor does not fit into memory.
    Source: Chen, Davis, Hager and Rajamanickam, *Algorithm 887: CHOLMOD*, 2008.
    """

    engine = "cholmod"

    def __init__(self, layout: Layout, data: Sequence[Any]) -> None:
        super().__init__(layout, data)
        self._require_symmetric()
        diagonal = self._moved.diagonal().real
        if not (diagonal > 0).all():
            raise SingularError(self._not_positive(int(np.argmin(diagonal > 0))))
        if self._moved.dtype.kind == "c":  # there rounding leaves an imaginary part, which CHOLMOD refuses
            self._moved.setdiag(diagonal)
        cholmod = package(self.engine)
        with self._watched("ignore"):
            analyse = cholmod.CholeskyFactor if hasattr(cholmod, "CholeskyFactor") else partial(EarlyCholesky, cholmod)
            symbolic = layout.remember(self.engine, lambda: analyse(self._moved))
            try:
                self._factor = symbolic.copy().factorize(self._moved)  # itself it stays an analysis
            except cholmod.CholmodNotPositiveDefiniteError as error:
                column = re.search(r"column (\d+)", str(error))
                raise SingularError(self._not_positive(column and int(symbolic.perm[int(column[1])]))) from error

    def _require_symmetric(self) -> None:
        A = self._moved
        off = abs(A - A.conj().T).tocoo()
        if not off.nnz:
            return
        worst = int(np.argmax(off.data))
        size = np.dtype(self.given_dtype).itemsize // (2 if self.given_dtype.kind == "c" else 1)
        if off.data[worst] <= ASYMMETRY.get(size, ROUGH) * np.abs(A.data).max():
            return
        i, j = int(off.row[worst]), int(off.col[worst])
        row = self.layout.row_label(int(np.argsort(self._at)[i]))
        raise ValueError(
            f"engine='cholmod' needs a symmetric matrix, but the entry of {row} and {self.layout.column_label(j)} is "
            f"{A[i, j]:.6g} and its mirror image {A[j, i]:.6g}. It serves Hessians that are sparse when formed; take "
            "engine='superlu', 'umfpack' or 'klu'."
        )

    def _not_positive(self, column: Any) -> str:
        which = "a pivot" if column is None else f"the pivot of {self.layout.column_label(column)}"
        return (
            f"the Jacobian is not positive definite, as engine='cholmod' needs it: {which} is not positive. Pass damping, "
            "or take engine='superlu'."
        )

    @property
    def nnz(self) -> int:
        """Number of entries of the factor."""
        return int(self._factor.nnz)

    def _more_careful(self) -> bool:
        return False

    def _solved_moved(self, b: Array, trans: str) -> Array:
        conjugate = trans == "T" and b.dtype.kind == "c"  # Aᵀ is the conjugate of A
        with self._watched("ignore"):
            x: Array = self._factor.solve(b.conj() if conjugate else b)
        return x.conj() if conjugate else x


class EarlyCholesky:
    """CHOLMOD's factor in scikit-sparse before 0.5, by the names that it has since."""

    def __init__(self, cholmod: Any, A: Any, factor: Any = None) -> None:
        self._cholmod = cholmod
        self._factor = factor or cholmod.analyze(A)
        self.perm = self._factor.P()
        self.solve = self._factor.solve_A

    def copy(self) -> EarlyCholesky:
        """Itself, since factoring makes another."""
        return self

    def factorize(self, A: Any) -> EarlyCholesky:
        """The factor of A: L D Lᴴ, whose D may have any sign."""
        factors = EarlyCholesky(self._cholmod, A, self._factor.cholesky(A))
        low = np.flatnonzero(~(factors._factor.D().real > 0))
        if low.size:
            raise self._cholmod.CholmodNotPositiveDefiniteError(f"at column {low[0]}")
        return factors

    @property
    def nnz(self) -> int:
        """Number of entries of L."""
        return int(self._factor.L().nnz)
