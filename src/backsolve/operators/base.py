"""The contract of a linear operator: two spaces, ``apply`` and ``transpose``.  Everything else has a default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import numpy as np

from backsolve.algebra.arrays import asarray, conjugate, is_array, is_number, namespace, scale
from backsolve.algebra.elements import AlgebraError, SingularError, array_of_numbers, describe
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, TupleSpace, lies_in, space_of, unify
from backsolve.operators.dispatch import OPERATIONS
from backsolve.operators.flat import FlatProducts, Known, dtype_of

__all__ = ["Identity", "LinearOperator", "Scaling", "Zero", "is_scalar"]


def is_scalar(x: Any) -> bool:
    """Whether x can scale an operator: a number, or an array without axes."""
    return is_number(x) or (is_array(x) and getattr(x, "ndim", None) == 0)


class LinearOperator(FlatProducts, ABC):
    """A linear map between array spaces.

    A subclass defines ``domain``, ``codomain``, ``apply(x)`` and ``transpose()``; products, sums, scalar multiples,
    ``.T``, ``.H``, ``todense()`` and printing come with it, and ``shape``, ``dtype``, ``matvec``, … for SciPy's iterative
    solvers, between flat vectors.  Operators are immutable.
    """

    shape: Any = Known("flat_shape")  # of its matrix, where the sizes are known
    dtype: Any = Known("flat_dtype")

    __array_ufunc__ = None  # NumPy arrays on the left leave + - @ to us
    __array_priority__ = 1000

    real_linear: bool = False  # whether it acts on complex arrays and is linear over the reals alone

    @property
    @abstractmethod
    def domain(self) -> Space:
        """The space of inputs."""

    @property
    @abstractmethod
    def codomain(self) -> Space:
        """The space of outputs."""

    @abstractmethod
    def apply(self, x: Any) -> Any:
        """Return the image of x, which is known to lie in the domain (``op @ x`` checks that first)."""

    @abstractmethod
    def transpose(self) -> LinearOperator:
        """Return the transpose: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ without conjugation."""

    # ---- defaults -------------------------------------------------------------------------------------------------
    def aligned(self, into: int, out: int) -> frozenset[tuple[int, int]]:
        """Axes (of part ``out`` of the codomain, of part ``into`` of the domain) that lie side by side.

        An entry of that part of the image then depends, of that part of the argument, on entries at the same index alone.
        Spaces of one array have part 0.  None are known of an operator that does not say.
        """
        return frozenset()

    def conj(self) -> LinearOperator:
        """Return x ↦ conj(A conj(x)), the operator whose matrix is conjugated."""
        return cast(LinearOperator, OPERATIONS["conjugated"](self))

    def inverse(self) -> LinearOperator:
        """Return the inverse.  Raises `AlgebraError` for a kind that offers none."""
        raise AlgebraError(
            f"{self!r} offers no inverse; give its class an inverse() method, or solve with an iterative method on '@'."
        )

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        """Return the operator with its unknown sizes filled in from these spaces.  Raises `SpaceError` on a clash."""
        unify(self.domain, domain, lambda: f"the domain of {self.label} and its place")
        unify(self.codomain, codomain, lambda: f"the codomain of {self.label} and its place")
        return self

    def scaled(self, c: Any) -> LinearOperator:
        """Return c · self for a scalar c."""
        return cast(LinearOperator, OPERATIONS["scaled"](self, c))

    @property
    def work(self) -> float:
        """About how many scalar operations one application takes, for plans, of an operator that they cannot look into."""
        return float(self.domain.size + self.codomain.size)

    @property
    def work_back(self) -> float:
        """The same of its transpose."""
        return self.work

    @property
    def started(self) -> float:
        """How many operations are started for one application, or for one to many vectors together."""
        return 0.0

    @property
    def opaque(self) -> bool:
        """Whether nothing is known of it but what it does to an array, as its kind does not say its dense form."""
        return type(self).todense is LinearOperator.todense

    def lifted(self, x: Any) -> Any:
        """Return a NumPy array in the array library that the operator can be applied to."""
        return x

    def todense(self) -> Any:
        """Return the operator as one array of shape ``codomain.shape + domain.shape``.

        Raises `SpaceError` while a size is unknown.  Cost: one application for every entry of the domain.
        """
        return OPERATIONS["dense"](self)

    def diagonal(self) -> Any:
        """Return A[i, i] for every index i of a domain that is the codomain, as an array of that shape.

        It comes from the factors where there are some; nothing is formed.  Raises `SpaceError` between different spaces.
        """
        return OPERATIONS["diagonal"](self)

    def trace(self) -> Any:
        """Return Σᵢ A[i, i], as `diagonal`."""
        return OPERATIONS["trace"](self)

    def norm(self) -> Any:
        """Return the Frobenius norm (Σ |A[i, j]|²)^½, from the factors where there are some."""
        return OPERATIONS["norm_squared"](self) ** 0.5

    def row_norms(self) -> Any:
        """Return (Σⱼ |A[i, j]|²)^½ for every index i of the codomain: of a batch of losses, each one's gradient norm."""
        return OPERATIONS["row_norms_squared"](self) ** 0.5

    @property
    def flat_shape(self) -> tuple[int, int]:
        return self.codomain.size, self.domain.size

    @property
    def flat_dtype(self) -> Any:
        known = dtype_of(self.domain, self.codomain)
        return super().flat_dtype if known is None else known

    def _flat_product(self, x: np.ndarray[Any, Any], *, transposed: bool) -> Any:
        return OPERATIONS["flat_product"](self.transpose() if transposed else self, x)

    @property
    def T(self) -> LinearOperator:
        """The transpose."""
        return self.transpose()

    @property
    def H(self) -> LinearOperator:
        """The conjugate transpose."""
        return self.transpose().conj()

    @property
    def label(self) -> str:
        """The operator without its spaces, as the paper would write it."""
        return type(self).__name__

    @property
    def where(self) -> str:
        """What the operator is part of, with the user's own line where that is known."""
        return self.label

    def __repr__(self) -> str:
        return f"{self.label} : {self.domain} → {self.codomain}"

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            return OPERATIONS["compose"](self, other)
        if self.accepts(other):
            return self.apply(other)
        if hasattr(other, "block_rows") or hasattr(other, "blocks") or hasattr(other, "as_operator"):
            return NotImplemented  # a matrix or a vector of blocks, and a sparse matrix, know what to do
        if isinstance(other, tuple) or isinstance(self.domain, TupleSpace):
            x = other
        else:
            x = asarray(other)
            _refuse_object_array(x)
            x = array_of_numbers(x, repr(self))
        space = space_of(x)
        dtype_free = isinstance(self.domain, ArraySpace) and self.domain.dtype is None
        if dtype_free and isinstance(space, ArraySpace):
            space = ArraySpace(space.shape)
        unify(self.domain, space, lambda: f"the domain of {self.label} and the array", "Check the order of the factors.")
        return self.apply(x)

    def accepts(self, x: Any) -> bool:
        """Whether x plainly is an array of the domain; where this says no, unifying the spaces decides and explains."""
        return lies_in(x, self.domain)

    def __rmatmul__(self, other: Any) -> Any:
        if is_array(other):
            raise TypeError(
                f"an array of shape {tuple(other.shape)} stands left of {self!r}; an operator acts on what is at its "
                "right: write op @ x, op.T @ x, or tdot(G) @ op for the functional ⟨G, op x⟩."
            )
        return NotImplemented

    def __add__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            return OPERATIONS["add"](self, other)
        if is_number(other) and other == 0:
            return self  # so that the builtin sum works
        if is_array(other) or is_number(other):
            raise TypeError(
                f"cannot add {describe(other)} to the operator {self!r}: a number among operators has no size. "
                "Write c * I for a multiple of the identity, hadamard(M) or left_mul(B) for an array, "
                "matrix(rows) for a nested list."
            )
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            return self + (-other)
        if is_array(other) or is_number(other):
            return self.__add__(other)
        return NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self if is_number(other) and other == 0 else self.__radd__(other)

    def __neg__(self) -> LinearOperator:
        return self.scaled(-1)

    def __mul__(self, other: Any) -> Any:
        if is_scalar(other):
            return self.scaled(other)
        if isinstance(other, LinearOperator) or is_array(other):
            raise TypeError(f"'*' scales {self!r} by a number; use '@' to compose operators or to apply one to an array.")
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        if is_scalar(other):
            return self.scaled(1 / other)
        return NotImplemented


def _refuse_object_array(x: Any) -> None:
    if isinstance(x, np.ndarray) and x.dtype == object:
        for entry in x.flat:
            if isinstance(entry, LinearOperator) or is_array(entry):
                raise TypeError(
                    f"an array of dtype object that holds {describe(entry)} mixes numbers with blocks of unknown size; "
                    "use backsolve.vector([...]) for a vector of blocks and backsolve.matrix([[...]]) for a matrix."
                )


class Identity(LinearOperator):
    """X ↦ X, on the space given or on any.  `backsolve.I` is the one of unknown size."""

    __slots__ = ("codomain", "domain", "space")
    domain: Space
    codomain: Space
    universal_unit = "one"

    def __init__(self, space: Space = ANY) -> None:
        self.space = self.domain = self.codomain = space

    def apply(self, x: Any) -> Any:
        return x

    def transpose(self) -> LinearOperator:
        return self

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        return self

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Identity(_one_space(self, domain, codomain))

    def todense(self) -> Any:
        return _dense_multiple(self, 1)

    @property
    def label(self) -> str:
        return "I"


class Scaling(LinearOperator):
    """X ↦ c X for a number (or array without axes) c, on the space given or on any."""

    __slots__ = ("c", "codomain", "domain", "space")
    domain: Space
    codomain: Space
    universal_unit = "multiple"

    def __init__(self, c: Any, space: Space = ANY) -> None:
        self.c = c
        self.space = self.domain = self.codomain = space

    def apply(self, x: Any) -> Any:
        if isinstance(x, tuple):
            return tuple(self.apply(part) for part in x)
        return scale(self.c, x)

    def transpose(self) -> LinearOperator:
        return self

    def conj(self) -> LinearOperator:
        return Scaling(conjugate(self.c), self.space)

    def inverse(self) -> LinearOperator:
        if is_number(self.c) and self.c == 0:
            raise SingularError("the scaling by 0 has no inverse.")
        return Scaling(self.c if self.c == -1 else 1 / self.c, self.space)

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Scaling(self.c, _one_space(self, domain, codomain))

    def todense(self) -> Any:
        return _dense_multiple(self, self.c)

    @property
    def label(self) -> str:
        if isinstance(self.c, (int, float)):
            return "−I" if self.c == -1 else f"{self.c:g}·I"
        return f"{self.c}·I" if is_number(self.c) else "c·I"


class Zero(LinearOperator):
    """X ↦ 0, between the spaces given or any.  `backsolve.O` is the one of unknown sizes."""

    __slots__ = ("codomain", "domain")
    domain: Space
    codomain: Space
    universal_unit = "zero"

    def __init__(self, domain: Space = ANY, codomain: Space = ANY) -> None:
        self.domain = domain
        self.codomain = codomain

    def apply(self, x: Any) -> Any:
        """Zeros of the codomain; of unknown size, the universal zero again."""
        while isinstance(x, tuple) and x:
            x = x[0]
        return _zeros(self.codomain, x) if self.codomain.known else Zero(ANY, self.codomain)

    def transpose(self) -> LinearOperator:
        return Zero(self.codomain, self.domain)

    def conj(self) -> LinearOperator:
        return self

    def inverse(self) -> LinearOperator:
        raise SingularError("the zero operator has no inverse.")

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        return Zero(
            unify(self.domain, domain, "the domain of O and its place"),
            unify(self.codomain, codomain, "the codomain of O and its place"),
        )

    def scaled(self, c: Any) -> LinearOperator:
        return self

    def todense(self) -> Any:
        m, n = _shape(self, self.codomain), _shape(self, self.domain)
        return np.zeros((*m, *n), dtype=_dtype(self.domain))

    @property
    def label(self) -> str:
        return "O"


def _zeros(space: Space, like: Any) -> Any:
    if isinstance(space, TupleSpace):
        return tuple(_zeros(part, like) for part in space.parts)
    dtype = space.dtype if space.dtype is not None else getattr(like, "dtype", None)
    return namespace(like).zeros(space.shape, dtype=dtype)


def _one_space(op: LinearOperator, domain: Space, codomain: Space) -> Space:
    here = unify(op.domain, domain, lambda: f"the domain of {op.label} and its place")
    return unify(here, codomain, lambda: f"the domain of {op.label} and its codomain", "It maps a space to itself.")


def _shape(op: LinearOperator, space: Space) -> tuple[int, ...]:
    if isinstance(space, TupleSpace) or not space.known or space.shape is None:
        raise SpaceError(
            f"cannot form {op.label} densely between {op.domain} and {op.codomain}: a size is unknown. "
            "Compose it or place it in a matrix where its neighbours fix the sizes, or use op.refine(domain, codomain)."
        )
    return tuple(n for n in space.shape if n is not None)


def _dtype(space: Space) -> Any:
    return space.dtype if isinstance(space, ArraySpace) and space.dtype is not None else float


def _dense_multiple(op: LinearOperator, c: Any) -> Any:
    shape = _shape(op, op.domain)
    n = int(np.prod(shape, dtype=int))
    return c * np.eye(n, dtype=_dtype(op.domain)).reshape((*shape, *shape))
