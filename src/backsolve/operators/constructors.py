"""The paper's operators (its section 3), one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backsolve.algebra.elements import array_of_numbers, short
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, TupleSpace, as_sizes
from backsolve.operators.base import Identity, Zero
from backsolve.operators.einsum import Einsum, Factor, einsum
from backsolve.operators.linear_map import LinearMap

__all__ = ["I", "O", "hadamard", "kron", "left_mul", "linear_map", "right_mul", "tdot"]

I = Identity()
O = Zero()


def _matrix(x: Any, what: str) -> Any:
    x = array_of_numbers(x, what)
    if len(x.shape) != 2:
        raise SpaceError(f"{what} needs a matrix (2 axes), got an array of shape {tuple(x.shape)}.")
    return x


def left_mul(B: Any, name: str = "") -> Einsum:
    """B_L : X ↦ B X.  On vec(X) (column-major) its matrix is I ⊗ B; its transpose is (Bᵀ)_L.

    B has shape (m, k); the domain is (k, ?), the codomain (m, ?), with as many columns as X has.
    Raises `SpaceError` if B is not a matrix.  Cost of an application: one matrix product.

    Example:
        >>> import numpy as np
        >>> left_mul(np.array([[1.0, 2.0], [3.0, 4.0]])) @ np.eye(2)
        array([[1., 2.],
               [3., 4.]])
    """
    B = _matrix(B, "left_mul")
    m, k = B.shape
    return Einsum((Factor(B, (0, 2), name),), (0, 1), (2, 1), {0: m, 1: None, 2: k})  # ij ← kj


def right_mul(A: Any, name: str = "") -> Einsum:
    """A_R : X ↦ X A.  On vec(X) its matrix is Aᵀ ⊗ I; its transpose is (Aᵀ)_R.

    A has shape (k, n); the domain is (?, k), the codomain (?, n).
    Raises `SpaceError` if A is not a matrix.  Cost of an application: one matrix product.

    Example:
        >>> import numpy as np
        >>> right_mul(np.array([[1.0], [1.0]])) @ np.array([[1.0, 2.0], [3.0, 4.0]])
        array([[3.],
               [7.]])
    """
    A = _matrix(A, "right_mul")
    k, n = A.shape
    return Einsum((Factor(A, (2, 1), name),), (0, 1), (0, 2), {0: None, 1: n, 2: k})  # ij ← ik


def hadamard(M: Any, name: str = "") -> Einsum:
    """M_H : X ↦ M ∘ X, entry by entry, for an M of any shape.  On vec(X) its matrix is Diag(vec M); it is symmetric.

    Cost of an application: one multiplication an entry.

    Example:
        >>> import numpy as np
        >>> hadamard(np.array([1.0, 2.0])) @ np.array([3.0, 4.0])
        array([3., 8.])
    """
    M = array_of_numbers(M, "hadamard")
    labels = tuple(range(len(M.shape)))
    return Einsum((Factor(M, labels, name),), labels, labels, dict(zip(labels, M.shape, strict=True)))


def kron(A: Any, B: Any, names: tuple[str, str] = ("", "")) -> Einsum:
    """A ⊗ B : X ↦ B X Aᵀ.  On vec(X) (column-major) its matrix is the Kronecker product; its transpose is Aᵀ ⊗ Bᵀ.

    A has shape (p, q), B (m, n); the domain is (n, q), the codomain (m, p).  The m·p·n·q entries are never formed.
    Raises `SpaceError` if A or B is not a matrix.  Cost of an application: two matrix products.

    Example:
        >>> import numpy as np
        >>> A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> X = np.array([[5.0, 6.0], [7.0, 8.0]])
        >>> bool(((kron(A, B) @ X) == B @ X @ A.T).all())
        True
    """
    given: Any = names
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"names of kron are two, such as ('A', 'B'), got {names!r}.")
    return einsum("ij", "kl", (_matrix(A, "kron"), "jl"), (_matrix(B, "kron"), "ik"), names=names)


def tdot(G: Any, name: str = "") -> Einsum:
    """G^{T•} : X ↦ ⟨G, X⟩ = tr(GᵀX), the inner product with G ("transpose dot"), for a G of any shape.

    On vec(X) its matrix is the row vec(G)ᵀ; its transpose takes a number s to s·G.  It turns operators around:
    (𝓛ᵀ G)^{T•} = G^{T•} 𝓛.  Cost of an application: one multiplication an entry.

    Example:
        >>> import numpy as np
        >>> float(tdot(np.array([1.0, 2.0])) @ np.array([3.0, 4.0]))
        11.0
    """
    G = array_of_numbers(G, "tdot")
    labels = tuple(range(len(G.shape)))
    return Einsum((Factor(G, labels, name),), (), labels, dict(zip(labels, G.shape, strict=True)))


def linear_map(
    apply: Callable[[Any], Any],
    transpose_apply: Callable[[Any], Any] | None = None,
    domain: Any = None,
    codomain: Any = None,
    name: str = "f",
) -> LinearMap:
    """Wrap a pair of functions as an operator: x ↦ apply(x), and y ↦ transpose_apply(y) for its transpose.

    ``domain`` and ``codomain`` are shapes (entries may be None), a list of shapes for tuples, or None for unknown.
    Without ``transpose_apply`` the operator can be applied but not transposed.
    `backsolve.testing.check_operator` tells whether the two functions belong together.
    Raises `TypeError` for what is no function or no shape.

    Example:
        >>> import numpy as np
        >>> shift = linear_map(lambda x: np.roll(x, 1), lambda y: np.roll(y, -1), (3,), (3,), name="roll")
        >>> shift.T @ np.array([1.0, 2.0, 3.0])
        array([2., 3., 1.])
    """
    for what, function in (("apply", apply), ("transpose_apply", transpose_apply)):
        if not callable(function) and (what == "apply" or function is not None):
            raise TypeError(f"{what} of linear_map must be a function, got {short(function)}.")
    return LinearMap(apply, transpose_apply, _as_space(domain, "domain"), _as_space(codomain, "codomain"), name)


def _as_space(given: Any, what: str) -> Space:
    if given is None:
        return ANY
    if isinstance(given, ArraySpace | TupleSpace):
        return given
    if isinstance(given, list):
        return TupleSpace(tuple(_as_space(part, what) for part in given))
    return ArraySpace(as_sizes(given, what, open_ends=True))
