"""Sparse derivatives: the pattern found while tracing, the numbers by code compiled once for these shapes, or by NumPy."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backsolve.capture.linearized import Linearized
from backsolve.capture.sparse import sparse_jacobian, sparse_pattern
from backsolve.sparse.matrix import SparseMatrix
from backsolve.tape.called import Called
from backsolve.tracing import jaxpr as jx
from backsolve.tracing.series import is_foreign
from backsolve.xla.materialize import SPARSE, materialized

__all__ = ["LAYOUTS", "Build", "pattern_of", "sparse_derivative"]


# The system, the auxiliary data, and whether the Jacobian is symmetric.
Build = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Linearized, Any, bool]]

LAYOUTS = ("csr", "csc")  # of SciPy's arrays

WORTH_A_WORD = 256  # places of a matrix; of a smaller one nobody minds that it is full


class _Static:
    """Arguments that are no arrays, and where the arrays lie among all: equal where a trace may be used again."""

    def __init__(self, tree: Any, leaves: Sequence[Any]) -> None:
        self.tree = tree
        self.leaves = tuple(leaves)

    def __hash__(self) -> int:
        return hash((self.tree, len(self.leaves)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self.tree == other.tree and _same(self.leaves, other.leaves)

    def arguments(self, arrays: Sequence[Any]) -> Any:
        """All arguments again."""
        it = iter(arrays)
        leaves = [next(it) if leaf is _ARRAY else leaf for leaf in self.leaves]
        return jax.tree_util.tree_unflatten(self.tree, leaves)


_ARRAY: Any = object()


def _same(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    def alike(a: Any, b: Any) -> bool:
        return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)

    return all(a is b or (type(a) is type(b) and alike(a, b)) for a, b in zip(ours, theirs, strict=True))


def sparse_derivative(
    build: Build, name: str, order: Any, *, has_aux: bool, layout: str | None = None, value: bool = False
) -> Callable[..., Any]:
    """Return the function that gives dy/dp, as sparse matrices, of the system that ``build(args, kwargs)`` makes.

    With a ``layout``, "csr" or "csc", they are SciPy's.  With ``value`` the system's value comes before them.
    """

    def traced(static: _Static, arrays: Sequence[Any]) -> Any:
        def matrices(*arrays: Any) -> Any:
            args, kwargs = static.arguments(arrays)
            system, aux, symmetric = build(args, kwargs)
            rows = sparse_jacobian(system, order, lower=symmetric)
            if layout == "csc":
                rows = [[A.T for A in row] for row in rows]
            return system.value if value else (), system.nested(rows), jax.tree_util.tree_map(_kept, aux)

        return materialized(matrices, arrays, SPARSE)

    run: Callable[..., Any] = jax.jit(traced, static_argnums=0)
    run = run if layout is None else Called(run)
    warned: list[str] = []

    def derivative(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten((args, kwargs))
        kinds = jax.Array | np.ndarray | np.generic | float | complex
        moving = [isinstance(x, kinds) and not is_foreign(x) for x in leaves]
        static = _Static(tree, [_ARRAY if m else x for x, m in zip(leaves, moving, strict=True)])
        arrays = [x for x, m in zip(leaves, moving, strict=True) if m]
        if layout is None:
            at, matrices, aux = run(static, arrays)
        else:
            arrays = _concrete(arrays, name)
            with jax.enable_x64(_is_double(arrays) or np.dtype(jnp.result_type(float)) == np.float64):
                at, matrices, aux = run(static, arrays)
        if not warned:
            warned.extend(_warn_if_dense(matrices, name))
        aux = _taken_out(aux)
        if layout is not None:
            at, aux = jax.tree_util.tree_map(_on_the_host, (at, aux))
            make = SparseMatrix.to_scipy if layout == "csr" else _mirrored
            matrices = jax.tree_util.tree_map(make, matrices, is_leaf=lambda x: isinstance(x, SparseMatrix))
        if value:
            return ((at, aux) if has_aux else at), matrices
        return (matrices, aux) if has_aux else matrices

    return derivative


def _concrete(arrays: Sequence[Any], name: str) -> list[Any]:
    """What a compiled function is called with: no scalar of NumPy beside a number of Python, so that it is compiled once,
    and no array with its bytes in the other order (as files of other machines have them), which JAX takes none of.

    Raises `TypeError` where one is traced.
    """
    if any(map(jx.is_traced, arrays)):
        raise TypeError(
            f"the {name} in SciPy's form needs concrete numbers, but an argument is traced; "
            "under jit, vmap and grad take format='sparse'."
        )
    numbers = [x.item() if isinstance(x, np.float64 | np.complex128) else x for x in arrays]
    return [x.astype(x.dtype.newbyteorder("="), copy=False) if isinstance(x, np.ndarray) else x for x in numbers]


def _is_double(arrays: Sequence[Any]) -> bool:
    """Whether numbers of double precision are given, or plain ones alone, which SciPy means as such."""
    given = [x for x in arrays if hasattr(x, "dtype")]
    wide = (np.float64, np.complex128)
    return not given or any(isinstance(x, np.ndarray | np.generic) and x.dtype in wide for x in given)


def _on_the_host(leaf: Any) -> Any:
    return np.array(leaf) if isinstance(leaf, jax.Array) else leaf


def _mirrored(transpose: SparseMatrix) -> Any:
    """The matrix of this transpose, by columns: as a `scipy.sparse.csc_array`."""
    return transpose.to_scipy().T


@jax.tree_util.register_static
class _Kept:
    """Auxiliary data that is no array, on its way out of compiled code."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _kept(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else _Kept(leaf)


def _taken_out(aux: Any) -> Any:
    def out(leaf: Any) -> Any:
        return leaf.value if isinstance(leaf, _Kept) else leaf

    return jax.tree_util.tree_map(out, aux, is_leaf=lambda leaf: isinstance(leaf, _Kept))


def pattern_of(build: Build, primals: Sequence[Any]) -> Any:
    """The patterns alone, as sparse matrices of booleans."""
    patterns: list[Any] = []

    def traced(*arrays: Any) -> Any:
        system, _, _ = build(arrays, {})
        patterns.append(system.nested(sparse_pattern(system)))
        return ()

    jax.eval_shape(traced, *primals)
    return patterns[0]


def _warn_if_dense(J: Any, name: str) -> list[str]:
    """Warn where more than half of all places are in the pattern; return the warnings."""
    matrices = jax.tree_util.tree_leaves(J, is_leaf=lambda x: isinstance(x, SparseMatrix))
    places = sum(A.shape[0] * A.shape[1] for A in matrices)
    nnz = sum(A.nnz for A in matrices)
    if places < WORTH_A_WORD or 2 * nnz <= places:
        return []
    text = (
        f"the {name} is dense: {nnz:,} of its {places:,} entries may be non-zero. "
        "format='array' gives the same numbers faster; format='operator' keeps other structure than zeros."
    )
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("backsolve."):
        frame, level = frame.f_back, level + 1  # to the line that asked for it
    warnings.warn(text, stacklevel=level)
    return [text]
