"""PETSc: its matrices filled with our sparse ones, and its nonlinear solvers with our residuals and Jacobians.

What one machine cannot hold or solve goes there: each process gives the numbers that it has, and PETSc's own options choose
Krylov methods, preconditioners and direct solvers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.algebra.elements import short
from backsolve.capture.linearized import Leaves, flat
from backsolve.interop.ranks import Numbering, Unknowns, even, is_whole, owners_of_rows, require_ranks, span
from backsolve.interop.vectors import jacobian_of
from backsolve.sparse.matrix import SparseMatrix
from backsolve.sparse.pattern import Pattern
from backsolve.system.bordered import require_square
from backsolve.tracing.jaxpr import is_traced
from backsolve.transforms.history import ConvergenceError, History, Solution
from backsolve.transforms.repeated import real_leaves

__all__ = ["Solver", "matrix", "snes"]

Array = np.ndarray[Any, Any]

KEPT = "backsolve.interop.petsc"  # under this name a matrix of PETSc keeps how it is filled

MESSAGES = {  # by what PETSc calls it, without DIVERGED_
    "FUNCTION_DOMAIN": "F has no value at a point that was tried. Take another x0",
    "FUNCTION_COUNT": "it took more evaluations than allowed. Allow more: -snes_max_funcs",
    "LINEAR_SOLVE": "the linear solver failed",
    "FUNCTION_NANORINF": "F is NaN or infinite at a point that was tried. Take another x0",
    "MAX_IT": "it took more steps than allowed. Allow more: -snes_max_it",
    "LINE_SEARCH": "no step along its direction makes ‖F‖ smaller. Take another x0, or solve more exactly: -ksp_rtol",
    "INNER": "an inner solver failed",
    "LOCAL_MIN": "‖F‖ is least here, and not zero. Take another x0",
    "DTOL": "‖F‖ has grown beyond bounds. Take another x0",
    "JACOBIAN_DOMAIN": "the Jacobian has no value at a point that was tried. Take another x0",
}
LINEAR = {
    "DIVERGED_MAX_IT": "it took more iterations than allowed. Take another -pc_type, or allow more: -ksp_max_it",
    "DIVERGED_PCSETUP_FAILED": "the preconditioner met a zero pivot, as with a singular Jacobian. Take another -pc_type",
    "DIVERGED_NANORINF": "its numbers are NaN or infinite, as with a singular Jacobian",
    "DIVERGED_BREAKDOWN": "it broke down, as with a singular Jacobian",
}


def matrix(S: SparseMatrix, *, into: Any = None, comm: Any = None) -> Any:
    """Return a sparse matrix as a PETSc matrix of type AIJ, filled by its coordinates (COO).

    Where processes share the numbers of S, each gives those that it holds, and has its rows in PETSc as far as these follow
    each other; otherwise S is taken to be the same on all processes of ``comm`` (default: all there are), and each gives an
    even part of the rows.  The matrix has every entry that S has, be it zero, and a square one its diagonal, since PETSc's
    factors want it.
    With ``into``, a matrix that was made here of the same pattern, its numbers are replaced by those of S, and nothing is
    analysed again.  Options of PETSc apply to matrices (``-mat_type aijcusparse``).
    Raises `TypeError` where S holds no concrete numbers of the dtype that PETSc was built for, `ValueError` where ``into``
    has another pattern, `ImportError` without petsc4py.
    Cost: the analysis of the pattern, once; then a copy of the numbers.

    Example:
        >>> import numpy as np
        >>> from backsolve import SparseMatrix
        >>> from backsolve.interop import petsc
        >>> S = SparseMatrix.from_entries([0, 1, 1], [0, 0, 1], np.array([1.0, 2.0, 4.0]), (2, 2))
        >>> A = petsc.matrix(S)
        >>> A.getType(), A.getValue(1, 0)
        ('seqaij', 2.0)
        >>> petsc.matrix(2 * S, into=A).getValue(1, 0)
        4.0
    """
    PETSc = _petsc()
    if not isinstance(S, SparseMatrix):
        raise TypeError(
            f"petsc.matrix takes a SparseMatrix, got {short(S)}; backsolve.jacobian(f, format='sparse') gives one."
        )
    _require_numbers(S, PETSc)
    if into is not None:
        filling = into.getAttr(KEPT) if isinstance(into, PETSc.Mat) else None
        if not isinstance(filling, _Filling):
            raise TypeError(f"into must be a matrix that petsc.matrix has made, got {short(into)}.")
        filling.fill(into, S.pattern, S.data)
        return into
    comm = PETSc.COMM_WORLD if comm is None else comm
    rank, size = comm.rank, comm.size
    whole, (m, n) = is_whole(S.data), S.shape
    if not whole:
        require_ranks(comm)
    rows = Numbering(even(m, size) if whole else owners_of_rows(S.pattern, S.data, size), rank, size)
    cols = rows if m == n else Numbering(even(n, size), rank, size)
    return _made(S.pattern, S.data, rows, cols, comm)


def snes(
    F: Callable[..., Any],
    x0: Any,
    *args: Any,
    options: Mapping[str, Any] | None = None,
    prefix: str = "",
    comm: Any = None,
) -> Solver:
    """Return PETSc's solver of nonlinear equations, a SNES, for F(x, *args) = 0, with F's sparse Jacobian.

    x and F(x, *args) are pytrees of real arrays with as many entries; x0 is of PETSc's own dtype, which is double precision
    unless it was built for another one.  F and its Jacobian are traced and compiled once, whatever x and ``args``, and the
    structure of PETSc's matrix is analysed once.  Arrays that JAX has spread over processes stay so: each process
    evaluates and fills its own rows, and the solution is spread as x0 is.  Of an x0 that every process has whole, each works
    out all of F, but only its part of the linear systems.
    The options in PETSc's database choose the method (``-ksp_type``, ``-pc_type``, ``-snes_rtol``, …; with ``prefix`` those
    that begin with it).  ``options`` are entered while this solver works, and give way to those that are there already, of
    the command line say.  The leaves of x, where there are several, are fields for ``-pc_type fieldsplit``, by their names
    in the tree (``-fieldsplit_u_pc_type``); of one array whose last axis holds the components they are told by
    ``-pc_fieldsplit_block_size``.
    Raises `TypeError` where x0 is no array of real numbers of PETSc's dtype, `ValueError` where F has another number of
    entries, `ImportError` without petsc4py.
    Cost: tracing and compiling F and its Jacobian, and one evaluation of the Jacobian.
    Source: Balay et al., *PETSc/TAO Users Manual*.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from backsolve.interop import petsc
        >>> solver = petsc.snes(lambda x, a: x**3 + jnp.roll(x, 1) - a, np.ones(4), 10.0)
        >>> found = solver.solve()
        >>> found.converged, found.x.round(6)
        (True, Array([2., 2., 2., 2.], dtype=float64))
        >>> solver.solve(found.x, 2.0).x.round(6)
        Array([1., 1., 1., 1.], dtype=float64)
    """
    return Solver(F, x0, args, dict(options or {}), prefix, comm)


class Solver:
    """PETSc's solver for one F and shape of x.  Made by `snes`; its ``snes`` is petsc4py's own object."""

    def __init__(
        self, F: Callable[..., Any], x0: Any, args: tuple[Any, ...], options: Mapping[str, Any], prefix: str, comm: Any
    ) -> None:
        self._petsc = PETSc = _petsc()
        if not callable(F):
            raise TypeError(f"petsc.snes takes a function of JAX arrays, got {short(F)}.")
        comm = PETSc.COMM_WORLD if comm is None else comm
        self._options, self._prefix = dict(options), prefix
        self._known_to_petsc: set[str] = set()
        self._equations = equations = _Equations(F, x0, args, PETSc, comm)
        unknowns, numbering = equations.unknowns, equations.unknowns.numbering
        self._x = PETSc.Vec().create(comm)
        self._x.setSizes(numbering.layout)
        with self._database():
            self._x.setFromOptions()
            A = _made(*equations.first(), numbering, numbering, comm, prefix)
            self.snes = PETSc.SNES().create(comm)
            self.snes.setOptionsPrefix(prefix)
            self.snes.setFunction(equations.residual_at, self._x.duplicate())
            self.snes.setJacobian(equations.jacobian_at, A, A)
            self.snes.setMonitor(equations.noted)
            self.snes.setFromOptions()
            fields = unknowns.fields()
            if len(fields) > 1:
                sets = [(name, PETSc.IS().createGeneral(there.astype(PETSc.IntType), comm)) for name, there in fields]
                self.snes.getKSP().getPC().setFieldSplitIS(*sets)

    def __repr__(self) -> str:
        A, numbering = self.snes.getJacobian()[1], self._equations.unknowns.numbering
        shared = "" if numbering.sizes.size == 1 else f" on {numbering.sizes.size} processes"
        return f"Solver of {numbering.layout[1]:,} equations{shared}: {self.snes.getType()}, {A.getType()}"

    def solve(self, x0: Any = None, *args: Any) -> Solution:
        """Call PETSc from x0 on, with other ``args`` of the same shapes if they are given; from the first x0 without one.

        Returns a `Solution` with x spread as the first x0, F(x, *args), and the history: at every step ‖F‖ and how many
        iterations the linear solver took.  When it has converged is PETSc's to say: by default where ‖F‖ has fallen to 10⁻⁸
        of what it was (``-snes_rtol``, ``-snes_atol``, ``-snes_stol``).
        Raises `ConvergenceError`, on all processes, with PETSc's reason and the history; `TypeError` or `ValueError` where
        x0 or args have another structure, shape or dtype than at first.  What F raises is raised.
        Warns of ``options`` that PETSc has not read: a name is wrong, or another option makes it idle.
        """
        self._equations.begin(x0, args, self._x)
        try:
            with self._database():
                self.snes.solve(None, self._x)
        except self._petsc.Error as error:
            if error.__cause__ is None:
                raise
            raise error.__cause__ from None  # of F
        if unread := sorted(set(self._options) - self._known_to_petsc):
            warnings.warn(f"PETSc has not read these options: {', '.join(unread)}", stacklevel=2)
        reason, history = self.snes.getConvergedReason(), self._equations.history
        if reason <= 0:
            raise ConvergenceError(self._why(reason), history)
        return Solution(*self._equations.found(self._x), history)

    @contextmanager
    def _database(self) -> Iterator[None]:
        """PETSc's options with our own, which it may ask for at any time while it works."""
        database = self._petsc.Options(self._prefix)
        new = {name: value for name, value in self._options.items() if not database.hasName(name)}
        for name, value in new.items():
            database[name] = value
        try:
            yield
        finally:
            self._known_to_petsc.update(name for name in self._options if database.used(name))
            for name in new:
                database.delValue(name)

    def _why(self, reason: int) -> str:
        name = _name_of(self._petsc.SNES.ConvergedReason, reason)
        told = MESSAGES.get(name.removeprefix("DIVERGED_"), "PETSc gives no other reason")
        if name == "DIVERGED_LINEAR_SOLVE":
            ksp = self.snes.getKSP()
            inner = _name_of(self._petsc.KSP.ConvergedReason, ksp.getConvergedReason())
            told += f" ({ksp.getType()} with {ksp.getPC().getType()}: {inner})"
            told += f": {LINEAR[inner]}" if inner in LINEAR else ""
        return f"snes has not converged after {self.snes.getIterationNumber()} steps, {name}: {told}."


class _Equations:
    """F and its Jacobian, compiled once, as PETSc calls them.  Holds no solver, so that what is dropped is freed."""

    _iterations: int  # of the linear solver, so far

    def __init__(self, F: Callable[..., Any], x0: Any, args: tuple[Any, ...], PETSc: Any, comm: Any) -> None:
        if any(map(is_traced, jax.tree_util.tree_leaves((x0, args)))):
            raise TypeError("petsc.snes needs concrete numbers, but an argument is traced; under jit take backsolve.root.")
        self._F, self._petsc, self._args = F, PETSc, args
        self._patterns: list[Pattern] = []
        self._gather: Any = None
        self._start(args)
        with jax.enable_x64(True):
            leaves = real_leaves(x0)
            for k, leaf in enumerate(leaves):
                _require_dtype(f"leaf {k} of x0", leaf, PETSc)
            self.unknowns = Unknowns(jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(x0), leaves), comm)
            self._known = Leaves.of(leaves)
            shapes = jax.eval_shape(self._value, leaves, args)
            parts = jax.tree_util.tree_leaves(shapes)
            require_square(sum(part.size for part in parts), self.unknowns.size)
            spread = [None if leaf.is_fully_addressable else leaf.sharding for leaf in leaves]
            alike = [part.shape for part in parts] == self.unknowns.shapes
            ends = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(shapes), spread) if alike else None
            self._residual = jax.jit(self._as_unknowns, out_shardings=(spread, ends))
            self._numbers = jax.jit(self._jacobian)

    def first(self) -> tuple[Pattern, Any]:
        """The pattern of the Jacobian, and its numbers at x0."""
        with jax.enable_x64(True):
            data = self._numbers(self.unknowns.leaves, self._args)
        return self._patterns[0], data

    # ---- compiled once ------------------------------------------------------------------------------------------------
    def _value(self, leaves: Any, args: Any) -> Any:
        y = self._F(self.unknowns.tree(leaves), *args)
        if any(map(jnp.iscomplexobj, jax.tree_util.tree_leaves(y))):
            raise TypeError("F has complex values; return real and imaginary parts.")
        return jax.tree_util.tree_map(lambda part: jnp.asarray(part, self._petsc.ScalarType), y)

    def _as_unknowns(self, leaves: Any, args: Any) -> Any:
        """F in the shapes of the leaves of x, and as F returns it."""
        y = self._value(leaves, args)
        parts = jax.tree_util.tree_leaves(y)
        return (parts if [part.shape for part in parts] == self.unknowns.shapes else self._known.tree_of(flat(y))), y

    def _jacobian(self, leaves: Any, args: Any) -> Any:
        """The numbers of the Jacobian; one array keeps its axes, by which columns are put together."""
        if len(leaves) == 1:
            J = jacobian_of(lambda x: self._as_unknowns([x], args)[0][0], leaves[0])
        else:
            J = jacobian_of(lambda x: flat(self._value(self._known.tree_of(x), args)), flat(leaves))
        self._patterns.append(J.pattern)
        return J.data

    # ---- what PETSc calls ---------------------------------------------------------------------------------------------
    def residual_at(self, snes: Any, x: Any, f: Any) -> None:
        with jax.enable_x64(True):
            self._write(self._residual(self._read(x), self._current)[0], f)

    def jacobian_at(self, snes: Any, x: Any, J: Any, P: Any) -> None:
        with jax.enable_x64(True):
            data = self._numbers(self._read(x), self._current)
            data.block_until_ready()  # before PETSc changes x
        P.getAttr(KEPT).fill(P, self._patterns[-1], data)
        if J != P:  # a product without a matrix, by -snes_mf_operator
            J.assemble()

    def noted(self, snes: Any, step: int, norm: float) -> None:
        done = snes.getLinearSolveIterations()
        self.history.add(norm, done - self._iterations)
        self._iterations = done

    # ---- a solution's beginning and end -------------------------------------------------------------------------------
    def begin(self, x0: Any, args: tuple[Any, ...], x: Any) -> None:
        """Write x0 into a vector, and begin a history."""
        with jax.enable_x64(True):
            first, now = (jax.tree_util.tree_map(_type, a) for a in (self._args, args or self._args))
            if first != now:
                raise ValueError(
                    f"args must have the structure, shapes and dtypes that they had at first, {first}, got {now}."
                )
            self._write(self.unknowns.leaves if x0 is None else self._like_the_first(x0), x)
        self._start(args or self._args)

    def _start(self, args: tuple[Any, ...]) -> None:
        self._current = args
        self.history = History("snes", ("‖F‖", "linear iterations"))
        self._iterations = 0

    def found(self, x: Any) -> tuple[Any, Any]:
        """The solution, of its own memory, and F there."""
        with jax.enable_x64(True):
            leaves = self._read(x, copy=True)
            return self.unknowns.tree(leaves), self._residual(leaves, self._current)[1]

    def _like_the_first(self, x0: Any) -> list[Any]:
        structure: Any
        leaves, structure = jax.tree_util.tree_flatten(x0)
        if structure != self.unknowns.structure:
            raise TypeError(f"x0 has the structure {structure}, but the first one had {self.unknowns.structure}.")
        for k, (leaf, first) in enumerate(zip(leaves, self.unknowns.leaves, strict=True)):
            if is_traced(leaf):
                raise TypeError("solve needs concrete numbers, but x0 is traced; under jit take backsolve.root.")
            _require_dtype(f"leaf {k} of x0", leaf, self._petsc)
            if np.shape(leaf) != first.shape:
                raise ValueError(f"leaf {k} of x0 has shape {np.shape(leaf)}, but the first one had {first.shape}.")
        return [jax.device_put(leaf, first.sharding) for leaf, first in zip(leaves, self.unknowns.leaves, strict=True)]

    # ---- arrays and vectors -------------------------------------------------------------------------------------------
    def _write(self, leaves: Any, x: Any) -> None:
        with x as local:
            self.unknowns.write(leaves, local)

    def _read(self, x: Any, *, copy: bool = False) -> list[Any]:
        """The leaves of a vector: on a CPU without a copy, where its memory is aligned as XLA wants it."""
        if self.unknowns.gathers:
            if self._gather is None:
                self._gather = self._petsc.Scatter.toAll(x)
            scatter, every = self._gather
            scatter.scatter(x, every)
            x = every
        local = x.array_r
        return self.unknowns.read(local.copy() if copy else local)


class _Filling:
    """How the matrices of one pattern are filled: which numbers this process gives.  Kept beside PETSc's matrix."""

    def __init__(self, pattern: Pattern, data: Any, rows: Numbering) -> None:
        self.pattern = pattern
        self.entries: Array | slice
        self.shared = None if is_whole(data) else data.sharding
        if self.shared is None:
            self.entries = span(np.flatnonzero(rows.has(pattern.rows)))
        else:
            parts = [np.arange(*shard.index[0].indices(pattern.nnz)) for shard in _own_shards(data)]
            self.entries = span(np.concatenate(parts)) if parts else slice(0, 0)
        absent = np.zeros(0, np.int64)
        if pattern.shape[0] == pattern.shape[1]:
            absent = np.setdiff1d(np.arange(pattern.shape[0]), pattern.rows[pattern.rows == pattern.cols])
        self.absent = absent[rows.has(absent)]  # of the diagonal

    @property
    def places(self) -> tuple[Array, Array]:
        """Rows and columns of what is given."""
        rows, cols = (places[self.entries] for places in (self.pattern.rows, self.pattern.cols))
        return np.concatenate([rows, self.absent]), np.concatenate([cols, self.absent])

    def fill(self, A: Any, pattern: Pattern, data: Any) -> None:
        """Replace the numbers.  Raises `ValueError` for other places than at first."""
        if pattern is not self.pattern and pattern != self.pattern:
            raise ValueError(
                f"the matrix was made for {self.pattern.nnz:,} entries, shape {self.pattern.shape}, but these are "
                f"{pattern.nnz:,}, shape {pattern.shape}, or lie elsewhere. Make another one: petsc.matrix(S)."
            )
        whole = is_whole(data)
        if self.shared is None and whole:
            numbers = np.asarray(data)[self.entries]
        elif self.shared is not None and not whole and self.shared.is_equivalent_to(data.sharding, 1):
            parts = [np.asarray(shard.data) for shard in _own_shards(data)]
            numbers = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, data.dtype), *parts])
        else:
            raise ValueError("the numbers are spread over processes otherwise than at first. Make another matrix.")
        if self.absent.size:
            numbers = np.concatenate([numbers, np.zeros(self.absent.size, numbers.dtype)])
        A.setValuesCOO(numbers)


def _own_shards(data: Any) -> list[Any]:
    """The parts of a spread array that this process answers for: of copies, one process has the first."""
    return sorted((s for s in data.addressable_shards if s.replica_id == 0), key=lambda s: s.index[0].start or 0)


def _made(pattern: Pattern, data: Any, rows: Numbering, cols: Numbering, comm: Any, prefix: str = "") -> Any:
    """An AIJ matrix with these numbers."""
    PETSc = _petsc()
    if max(pattern.shape) > np.iinfo(PETSc.IntType).max:
        raise ValueError(
            f"a matrix of shape {pattern.shape} is too large for the indices that PETSc was built with, "
            f"{np.dtype(PETSc.IntType)}. Build it with --with-64-bit-indices."
        )
    filling = _Filling(pattern, data, rows)
    A = PETSc.Mat().create(comm)
    A.setOptionsPrefix(prefix)
    A.setSizes((rows.layout, cols.layout))
    A.setType("aij")
    A.setFromOptions()
    at, under = filling.places
    A.setPreallocationCOO(rows.placed(at).astype(PETSc.IntType), cols.placed(under).astype(PETSc.IntType))
    A.setAttr(KEPT, filling)
    filling.fill(A, pattern, data)
    return A


def _petsc() -> Any:
    """petsc4py's module.  Raises `ImportError` where it is missing."""
    try:
        return import_module("petsc4py.PETSc")
    except ImportError as error:
        raise ImportError(
            "backsolve.interop.petsc needs petsc4py, PETSc and an MPI: pip install 'backsolve[petsc]' compiles them where "
            "an MPI and a BLAS are installed (Debian: libopenmpi-dev, libopenblas-dev, patchelf)."
        ) from error


def _require_numbers(S: SparseMatrix, PETSc: Any) -> None:
    if is_traced(S.data):
        raise TypeError("PETSc needs concrete numbers, but the matrix is traced; return it from the compiled function.")
    if np.shape(S.data) != (S.nnz,):
        raise TypeError(
            f"expected one sparse matrix, but the data have shape {np.shape(S.data)}, of a batch; pass each by itself."
        )
    _require_dtype("the matrix", S.data, PETSc, f"S.astype(numpy.{np.dtype(PETSc.ScalarType)})")


def _require_dtype(what: str, x: Any, PETSc: Any, remedy: str = "") -> None:
    wanted, got = np.dtype(PETSc.ScalarType), np.asarray(x).dtype if not hasattr(x, "dtype") else np.dtype(x.dtype)
    if got != wanted:
        remedy = remedy or f"numpy.asarray(x0, numpy.{wanted})"
        raise TypeError(
            f"{what} has dtype {got}, but this PETSc computes in {wanted}. Convert with {remedy}; for double precision all "
            "along, jax.config.update('jax_enable_x64', True) before the first array."
        )


def _type(x: Any) -> tuple[tuple[int, ...], str]:
    return np.shape(x), str(jnp.result_type(x))


def _name_of(reasons: Any, number: int) -> str:
    """What PETSc calls a reason."""
    names = [name for name in dir(reasons) if not name.startswith("_") and getattr(reasons, name) == number]
    return sorted(names, key=lambda name: (not name.startswith("DIVERGED"), name))[0] if names else f"reason {number}"
