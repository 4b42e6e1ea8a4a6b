"""What an element of a matrix must do, and semirings that do it.

The solver asks an element for ``+`` and a product, sometimes for ``-``, a transpose or a division.  Elements come
from many libraries and spell these differently (``@`` or ``*``, ``.T`` or nothing at all); the functions here are
the one place that knows the spellings.  Products are never reordered: ``multiply(a, b)`` is *a b*.

Two elements are universal, whatever the others are: a *one* and a *zero*, recognised by ``universal_unit``
(`backsolve.I` and `backsolve.O` carry it).  So are the multiples of the one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import numpy as np

from backsolve.algebra import arrays
from backsolve.algebra.arrays import eye, is_number, namespace

__all__ = [
    "AlgebraError",
    "Boolean",
    "Counting",
    "LogSumExp",
    "MaxTimes",
    "MinPlus",
    "SemiringScalar",
    "SingularError",
    "add",
    "adjoint",
    "array_of_numbers",
    "describe",
    "is_element",
    "is_one",
    "is_zero",
    "left_divide",
    "multiply",
    "negate",
    "one_like",
    "refuse_non_elements",
    "short",
    "subtract",
    "transpose",
]


class AlgebraError(TypeError):
    """An element lacks an operation that the computation needs."""


class SingularError(ArithmeticError):
    """A diagonal element cannot be divided by."""


def is_one(x: Any) -> bool:
    """Whether x is the universal one (`backsolve.I`, of any size)."""
    return getattr(type(x), "universal_unit", None) == "one"


def is_zero(x: Any) -> bool:
    """Whether x is the universal zero (`backsolve.O`, of any size)."""
    return getattr(type(x), "universal_unit", None) == "zero"


def _own(x: Any, other: Any) -> Any:
    """The universal one, or a multiple of it, in the algebra of ``other``; anything else as it is."""
    unit = getattr(type(x), "universal_unit", None)
    if unit not in ("one", "multiple") or hasattr(other, "codomain"):
        return x
    return one_like(other) if unit == "one" else x.c * one_like(other)


def _acts(x: Any) -> bool:
    """Whether x is an operator, which knows what it acts on.  Asked of the type: asking a tracer is slow."""
    return hasattr(type(x), "codomain")


_PRODUCTS = ("__mul__", "__rmul__", "__matmul__", "__rmatmul__", "mv")
_REPETITIONS = (str.__mul__, bytes.__mul__, bytearray.__mul__, list.__mul__, tuple.__mul__)


def is_element(kind: type) -> bool:
    """Whether values of this type can be elements: they offer a product, which the repetition of a sequence is not."""
    return getattr(kind, "__mul__", None) not in _REPETITIONS and any(hasattr(kind, name) for name in _PRODUCTS)


def refuse_non_elements(elements: Mapping[Any, Any], name: Callable[[Any], str]) -> None:
    """Raise `AlgebraError` for an element without a product (text, None, a list); ``name(key)`` says where it stands."""
    if all(map(is_element, set(map(type, elements.values())))):
        return
    key, wrong = next((key, x) for key, x in elements.items() if not is_element(type(x)))
    raise AlgebraError(
        f"{name(key)} is {short(wrong)}, which cannot be multiplied: elements are numbers, arrays, operators, or anything "
        "else with a sum and a product. Write a block as an array, O where there is nothing."
    )


def array_of_numbers(x: Any, what: str) -> Any:
    """Return x as an array (`arrays.asarray`); ``what`` says in an error who needs it.

    Raises `TypeError` where an entry is no number, `ValueError` where rows differ in length.
    """
    try:
        array = arrays.asarray(x)
    except ValueError:
        raise ValueError(f"{what} takes an array of numbers, got {short(x)}, whose rows differ in length.") from None
    if isinstance(array, np.ndarray | np.generic) and array.dtype.kind in "SUTMm":
        raise TypeError(f"{what} takes an array of numbers, got {short(x)}, of dtype {array.dtype}.")
    for entry in array.flat if isinstance(array, np.ndarray) and array.dtype.kind == "O" else ():
        if not is_element(type(entry)) or _acts(entry) or getattr(entry, "shape", ()) != ():
            inside = f", with {short(entry)} in it" if array.ndim else ""
            raise TypeError(f"{what} takes an array of numbers, got {short(x)}{inside}.")
    return array


def short(x: Any) -> str:
    """Show x in an error message: as it prints, where that is short, else by `describe`."""
    text = repr(x)
    return text if len(text) <= 60 and "\n" not in text and " at 0x" not in text else f"<{describe(x)}>"


def describe(x: Any) -> str:
    """Name x for an error message: its type, and its shape where it has one."""
    if _acts(x) and "\n" not in (text := repr(x)):  # no picture
        return text
    shape = getattr(x, "shape", None)
    name = f"{type(x).__module__.split('.')[0]}.{type(x).__qualname__}".removeprefix("builtins.")
    return f"{name} of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else name


def _failed(verb: str, a: Any, b: Any, error: Exception, remedy: str) -> AlgebraError | ValueError:
    what = f"cannot {verb} {describe(a)} and {describe(b)}"
    if isinstance(error, ValueError):
        return ValueError(f"{what}; check their shapes and the order of the factors.")
    if getattr(a, "shape", ()) and getattr(b, "shape", ()):
        remedy = "Check their shapes and the order of the factors."
    return AlgebraError(f"{what}: {str(error).rstrip('.')}. {remedy}")


def _foreign(error: Exception) -> Exception | None:
    """The error where it comes from an element's own code, whose traceback is worth seeing; None for that of a mere sign."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    name = "" if step is None else step.tb_frame.f_globals.get("__name__", "")
    return None if name.partition(".")[0] in ("backsolve", "jax", "numpy") else error


def add(a: Any, b: Any) -> Any:
    """Return a + b; the universal zero vanishes, the universal one becomes b's own one.

    Raises `AlgebraError` where the elements offer no sum, and whatever error their own ``+`` raises for bad shapes.
    """
    if type(a) is type(b) is np.ndarray and a.shape == b.shape:
        return arrays.add(a, b)
    if is_zero(a) and not _acts(b):
        return b
    if is_zero(b) and not _acts(a):
        return a
    if _acts(a) or _acts(b):
        a, b = _own(a, b), _own(b, a)
    _refuse_broadcasting(a, b)
    try:
        return arrays.add(a, b)
    except TypeError as error:
        raise _failed("add", a, b, error, "Every element of the matrix needs '+' with the others.") from _foreign(error)


def _refuse_broadcasting(a: Any, b: Any) -> None:
    """Blocks are added entry to entry; a sum that NumPy would broadcast is a mistake (2 + B is not 2·I + B)."""
    shape_a, shape_b = getattr(a, "shape", None), getattr(b, "shape", None)
    if shape_a == shape_b or (is_number(a) and a == 0) or (is_number(b) and b == 0):
        return
    if _acts(a) or _acts(b):  # whose shape is that of a matrix
        return
    if (isinstance(shape_a, tuple) or is_number(a)) and (isinstance(shape_b, tuple) or is_number(b)):
        if tuple(shape_a or ()) == tuple(shape_b or ()):
            return
        raise ValueError(
            f"cannot add {describe(a)} and {describe(b)}: blocks in one place have one shape; "
            "write a multiple of the identity as an array."
        )


def multiply(a: Any, b: Any) -> Any:
    """Return the product a b, in this order: ``@`` where both offer it, ``*`` otherwise (numbers, symbols, semirings).

    An operator times a number is the operator applied to it.

    Raises `AlgebraError` where the elements offer no product, `ValueError` where two arrays do not fit.
    """
    if hasattr(type(b), "left_multiplied_by"):  # a bundle of right-hand sides
        return b.left_multiplied_by(a)
    if _acts(a) and not hasattr(type(a), "universal_unit"):
        return a @ b
    if is_one(a) and not _acts(b):
        return b
    if is_one(b) and not _acts(a):
        return a
    if is_zero(a) and not _acts(b):
        return b if is_zero(b) else a if not hasattr(b, "shape") else a @ b
    if is_zero(b) and not _acts(a):
        return b
    if getattr(type(a), "universal_unit", None) == "multiple" and not _acts(b):
        a = a.c
    elif getattr(type(b), "universal_unit", None) == "multiple" and not _acts(a):
        b = b.c
    try:
        if is_number(a) or (is_number(b) and not _acts(a)):
            return a * b
        if getattr(a, "ndim", None) == 0 or (getattr(b, "ndim", None) == 0 and not _acts(a)):
            return a * b
        if hasattr(type(a), "__matmul__") or hasattr(type(b), "__rmatmul__"):
            if hasattr(a, "mv") and hasattr(b, "ndim"):  # lineax operators act through mv
                return a.mv(b)
            return a @ b
        return a * b
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not (arrays.is_array(a) and arrays.is_array(b)):
            raise
        remedy = "Every element of the matrix needs a product with the others."
        raise _failed("multiply", a, b, error, remedy) from _foreign(error)


def negate(a: Any) -> Any:
    """Return -a.  Raises `AlgebraError` for elements without a minus, such as semiring scalars."""
    try:
        return -a
    except TypeError as error:
        raise AlgebraError(
            f"cannot negate {describe(a)}: {error}. Elements without a minus (semirings) are solved with "
            "substitute(L, b), which computes x = L x + b and needs only + and a product."
        ) from _foreign(error)


def subtract(a: Any, b: Any) -> Any:
    """Return a - b, with the universal zero and one as in `add`."""
    return negate(b) if is_zero(a) and not _acts(b) else add(a, negate(b))


def transpose(a: Any) -> Any:
    """Return the transpose of a: its ``.T`` where it has one; scalars and symbols are their own."""
    transposed = getattr(a, "T", None)
    return a if transposed is None else transposed


def adjoint(a: Any) -> Any:
    """Return the conjugate transpose of a: its ``.H`` where it has one, else the conjugate of its transpose."""
    if hasattr(a, "H") and not hasattr(a, "__array__"):
        return a.H
    t = transpose(a)
    for name in ("conj", "conjugate"):
        if hasattr(t, name):
            return getattr(t, name)()
    return t


def one_like(a: Any) -> Any:
    """Return the one of a's algebra: 1 of the same kind, an identity of the same size, or the element's own ``one()``."""
    if is_one(a):
        return a
    if is_number(a):
        return 1 if isinstance(a, bool) else type(a)(1)
    if isinstance(a, SemiringScalar):
        return a.one()
    shape = getattr(a, "shape", None)
    if isinstance(shape, tuple):
        if len(shape) == 2 and shape[0] == shape[1]:
            return _identity_of(a, shape[0])
        if shape:
            raise AlgebraError(f"only square elements have an identity, got {describe(a)}; give it explicitly.")
    return 1


def _identity_of(a: Any, n: int) -> Any:
    if hasattr(type(a), "eye"):  # SymPy matrices
        return type(a).eye(n)
    if hasattr(a, "dtype") and hasattr(a, "ndim"):
        return eye(a, n, a.dtype)
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import aslinearoperator

    return aslinearoperator(eye_array(n))


def left_divide(d: Any, x: Any) -> Any:
    """Return d⁻¹ x by what d offers: exact fractions for ints, ``/`` for scalars, a linear solve for blocks,
    ``inverse()`` or ``inv()`` for anything else that has one.  The quotient of the universal one is the inverse itself.

    Raises `SingularError` where d is zero, singular, or offers no inverse.
    """
    if is_one(d) or is_zero(x):
        return x
    if is_zero(d):
        raise SingularError("the element is zero; give the matrix an invertible diagonal.")
    if hasattr(type(x), "left_divided_by"):  # a bundle of right-hand sides
        return x.left_divided_by(d)
    try:
        if is_number(d):
            return _divide_by_number(d, x)
        if hasattr(d, "inverse") and callable(d.inverse):
            return multiply(d.inverse(), x)
        if getattr(d, "ndim", None) == 0:
            return x / d
        if hasattr(d, "inv") and hasattr(d, "shape"):  # SymPy matrices
            return multiply(d.inv(), x)
        if hasattr(d, "__array__") or hasattr(d, "__array_namespace__"):
            return _divide_by_block(d, x)
        if hasattr(d, "div") and hasattr(d, "matvec"):  # PyLops solves with '/'
            return d / x
        if hasattr(type(d), "__rtruediv__"):  # not x / d: that is x d⁻¹, and x need not commute with d
            return multiply(1 / d, x)
        if hasattr(type(d), "__truediv__") and not hasattr(d, "matvec"):
            return multiply((d / d) / d, x)
    except SingularError:
        raise
    except (AlgebraError, ArithmeticError, ValueError) as error:
        raise SingularError(f"cannot divide {describe(x)} by {describe(d)}: {error}") from _foreign(error)
    raise SingularError(
        f"{describe(d)} offers no inverse; give it an inverse() method, or scale the row so that its diagonal is I."
    )


def _divide_by_number(d: Any, x: Any) -> Any:
    if d == 0:
        raise SingularError("the element is 0; give the matrix an invertible diagonal.")
    if is_one(x):
        x = 1
    if isinstance(d, int) and isinstance(x, int):
        quotient = Fraction(x, d)
        return quotient.numerator if quotient.denominator == 1 else quotient
    if _acts(x):
        return (d if d in (1, -1) else 1 / d) * x
    return x / d


def _divide_by_block(d: Any, x: Any) -> Any:
    if len(d.shape) != 2 or d.shape[0] != d.shape[1]:
        raise SingularError(f"the element has shape {tuple(d.shape)}, which is not square.")
    if is_one(x):
        return namespace(d).linalg.inv(d)
    try:
        return namespace(d).linalg.solve(d, x)
    except (np.linalg.LinAlgError, RuntimeError):  # PyTorch raises the latter
        raise SingularError(f"the block of shape {tuple(d.shape)} is singular.") from None


@dataclass(frozen=True, slots=True)
class SemiringScalar:
    """A scalar with + and × of its own, and no minus.  Subclasses say what they mean and what 0 and 1 are.

    Cost: one Python call an operation.
    """

    value: Any
    plus: ClassVar[Any]  # functions of two values
    times: ClassVar[Any]
    zero_value: ClassVar[Any]
    one_value: ClassVar[Any]

    @classmethod
    def zero(cls) -> Self:
        """The neutral element of +."""
        return cls(cls.zero_value)

    @classmethod
    def one(cls) -> Self:
        """The neutral element of ×."""
        return cls(cls.one_value)

    def __add__(self, other: Any) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        cls = type(self)
        return cls(cls.plus(self.value, other.value))

    def __mul__(self, other: Any) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        cls = type(self)
        return cls(cls.times(self.value, other.value))


def _log_add_exp(a: float, b: float) -> float:
    high, low = (a, b) if a >= b or math.isnan(a) else (b, a)
    return high if math.isinf(high) else high + math.log1p(math.exp(low - high))


class MinPlus(SemiringScalar):
    """Shortest paths: + is the minimum, × is the sum.

    Example:
        >>> MinPlus(3) + MinPlus(2) * MinPlus(4)
        MinPlus(value=3)
    """

    __slots__ = ()
    plus = staticmethod(lambda a, b: a if a <= b or a != a else b)  # min, but NaN stays NaN on either side
    times = staticmethod(lambda a, b: a + b)
    zero_value = math.inf
    one_value = 0


class MaxTimes(SemiringScalar):
    """Most likely path: + is the maximum, × is the product (of numbers that are not negative).

    Example:
        >>> MaxTimes(0.5) + MaxTimes(0.9) * MaxTimes(0.5)
        MaxTimes(value=0.5)
    """

    __slots__ = ()
    plus = staticmethod(lambda a, b: a if a >= b or a != a else b)  # max, but NaN stays NaN on either side
    times = staticmethod(lambda a, b: a * b)
    zero_value = 0
    one_value = 1


class Boolean(SemiringScalar):
    """Reachability: + is or, × is and.

    Example:
        >>> Boolean(False) + Boolean(True) * Boolean(True)
        Boolean(value=True)
    """

    __slots__ = ()
    plus = staticmethod(lambda a, b: a or b)
    times = staticmethod(lambda a, b: a and b)
    zero_value = False
    one_value = True


class Counting(SemiringScalar):
    """Number of paths (or of paths weighted by multiplicities): the natural numbers with + and ×.

    Example:
        >>> Counting(1) + Counting(2) * Counting(3)
        Counting(value=7)
    """

    __slots__ = ()
    plus = staticmethod(lambda a, b: a + b)
    times = staticmethod(lambda a, b: a * b)
    zero_value = 0
    one_value = 1


class LogSumExp(SemiringScalar):
    """Log-probabilities: + is log(exp a + exp b), × is the sum.

    Example:
        >>> round((LogSumExp(0.0) + LogSumExp(0.0)).value, 6)
        0.693147
    """

    __slots__ = ()
    plus = staticmethod(_log_add_exp)
    times = staticmethod(lambda a, b: a + b)
    zero_value = -math.inf
    one_value = 0.0
