"""The one structured kind:  y[out] = coef · Σ Π factors[labels] · x[into].

A label in both ``out`` and ``into`` is a Kronecker delta whose diagonal is never stored; one only in ``out``
broadcasts, one only in ``into`` sums.  Every operator of the paper is a one-line `Einsum` (see `paper`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np

from backsolve.algebra.arrays import (
    Labels,
    astype,
    conjugate,
    contract,
    divide,
    eye,
    is_mask,
    is_number,
    multiply,
    namespace,
    place,
    scale,
    sum_axes,
)
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, TupleSpace, unify
from backsolve.operators.base import LinearOperator
from backsolve.operators.dispatch import OPERATIONS
from backsolve.operators.printing import einsum_label

__all__ = ["Einsum", "Factor", "Reciprocal", "einsum", "quotient"]


class Factor(NamedTuple):
    """An array, the labels of its axes, the name it is printed by, and whether the program multiplies by it as it stands.

    A factor of the program itself is no derivative: where it is infinite, forward or back substitution meets it too, behind
    whatever mask.
    """

    array: Any
    labels: Labels
    name: str = ""
    given: bool = False

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.array.shape)

    @property
    def written(self) -> str:
        """Its name; without one, the sizes of its axes."""
        return self.name or "×".join(map(str, self.array.shape)) or "c"

    def conj(self) -> Factor:
        """The factor with its array conjugated."""
        array = conjugate(self.array)
        name = self.name if not self.name or array is self.array else self.name + "̄"
        return Factor(array, self.labels, name, self.given)


class Reciprocal(Factor):
    """The factor 1/d, worked out when somebody asks for its array: dividing by d costs one operation, not two.

    As a tuple it holds d; ``array`` is 1/d.
    """

    @property
    def divisor(self) -> Any:
        """The array d."""
        return self[0]

    @cached_property
    def array(self) -> Any:
        """1/d."""
        return divide(1, self.divisor)

    @property
    def written(self) -> str:
        return f"1/{'×'.join(map(str, self.divisor.shape)) or 'c'}"

    def conj(self) -> Factor:
        return Reciprocal(conjugate(self.divisor), self.labels, self.name)


class Einsum(LinearOperator):
    """A multilinear contraction, linear in x.

    Labels are small integers; build one from readable labels with `einsum`.  ``sizes`` holds the size of every label,
    None where it is not known yet.  ``coef`` is a number in front, so that signs and scalings cost no array.
    """

    __slots__ = ("coef", "dtypes", "factors", "into", "out", "sizes")

    def __init__(
        self,
        factors: tuple[Factor, ...],
        out: Labels,
        into: Labels,
        sizes: dict[int, int | None],
        coef: Any = 1,
        dtypes: tuple[Any, Any] = (None, None),
    ) -> None:
        self.factors = factors
        self.out = out
        self.into = into
        self.sizes = sizes
        self.coef = coef
        self.dtypes = dtypes  # of the domain and the codomain, where they are fixed

    @property
    def domain(self) -> Space:
        sizes = self.sizes
        return ArraySpace(tuple([sizes[label] for label in self.into]), self.dtypes[0])

    @property
    def codomain(self) -> Space:
        sizes = self.sizes
        return ArraySpace(tuple([sizes[label] for label in self.out]), self.dtypes[1])

    def accepts(self, x: Any) -> bool:
        """As every operator's, without making the space."""
        shape = getattr(x, "shape", None)
        if not isinstance(shape, tuple) or len(shape) != len(self.into):
            return False
        sizes, into = self.sizes, self.into
        for n, label in zip(shape, into):
            known = sizes[label]
            if known != n and (known is not None or into.count(label) > 1):
                return False
        own, dtype = self.dtypes[0], x.dtype
        return bool(dtype == own) if own is not None else getattr(dtype, "kind", "") != "O"

    def apply(self, x: Any) -> Any:
        factors, out, into = self.factors, self.out, self.into
        y = self.at_once(x) if len(factors) == 1 else None
        if y is not None:
            return y
        if len(factors) == 1 and out == into == factors[0].labels:  # the plain Hadamard product
            if isinstance(factors[0], Reciprocal):
                return self._scaled(divide(x, factors[0].divisor))
            y = multiply(factors[0].array, x if self.coef == 1 else scale(self.coef, x))  # a number first: one pass less
            return self._cast(y)
        if len(set(into)) < len(into) or len(set(out)) < len(out):
            y = self._apply_with_repeats(x)
        else:
            y = self._finish(*contract_all(x, into, _shown(factors, out), out, self.sizes), x)
        return self._scaled(y)

    def at_once(self, x: Any) -> Any:
        """The image of x where it is one entrywise or one matrix product of two NumPy arrays of numbers, else None.

        The blocks of a graph may be as small as it has many edges: an edge costs a look at its labels, not an analysis.
        """
        factor = self.factors[0] if len(self.factors) == 1 else None
        if type(x) is not np.ndarray or type(factor) is not Factor or type(self.coef) is not int or self.coef != 1:
            return None
        a, labels, dtype = factor[0], factor[1], x.dtype
        into, out, (own, wanted) = self.into, self.out, self.dtypes
        if type(a) is not np.ndarray or a.dtype is not dtype or dtype.kind not in "fc":
            return None
        if (own is not None and own != dtype) or (wanted is not None and wanted != dtype):
            return None
        if labels == into == out:
            return a * x if a.shape == x.shape else None
        if len(labels) != 2 or labels[0] == labels[1] or x.ndim != len(into) or len(out) != len(into):
            return None
        if len(into) == 1:  # a matrix and a vector
            kept, summed, produced = None, into[0], out[0]
        elif len(into) == 2 and into[1] == out[1]:  # a matrix from the left
            kept, summed, produced = 1, into[0], out[0]
        elif len(into) == 2 and into[0] == out[0]:  # one from the right
            kept, summed, produced = 0, into[1], out[1]
        else:
            return None
        if labels == (produced, summed):
            A = a
        elif labels == (summed, produced):
            A = a.T
        else:
            return None
        if kept is None:
            return A @ x if A.shape[1] == len(x) else None
        label, size = into[kept], x.shape[kept]
        if label in labels or self.sizes[label] not in (None, size) or A.shape[1] != x.shape[1 - kept]:
            return None
        return A @ x if kept else x @ A.T

    def _scaled(self, y: Any) -> Any:
        return self._cast(y if self.coef == 1 else scale(self.coef, y))

    def _cast(self, y: Any) -> Any:
        codomain_dtype = self.dtypes[1]
        if codomain_dtype is not None and y.dtype != codomain_dtype:
            y = astype(y, codomain_dtype)
        return y

    def first_entrywise(self) -> int | None:
        """Which factor multiplies x entry by entry before any other does, if one of several does."""
        if len(self.factors) > 1 and len(set(self.into)) == len(self.into) and len(set(self.out)) == len(self.out):
            for k, f in enumerate(self.factors):
                if f.labels == self.into:
                    return k
        return None

    def apply_rest(self, k: int, x: Any) -> Any:
        """The image of an array whose product with factor k is x."""
        others = self.factors[:k] + self.factors[k + 1 :]
        y = Einsum(others, self.out, self.into, self.sizes).at_once(x)
        if y is not None:
            return self._scaled(y)
        rest = _shown(others, self.out)
        return self._scaled(self._finish(*contract_all(x, self.into, rest, self.out, self.sizes), x))

    def _finish(self, y: Any, labels: Labels, x: Any) -> Any:
        if labels == self.out:
            return y
        sizes = self.sizes
        if any(sizes[label] is None for label in self.out):
            sizes = sizes | dict(zip(self.into, x.shape, strict=True))
        try:
            return place(y, labels, self.out, sizes)
        except ValueError as error:
            raise SpaceError(f"{self!r} {error} Refine it, or place it in a matrix whose rows fix the size.") from None

    def _apply_with_repeats(self, x: Any) -> Any:
        """A label twice in ``into`` takes a diagonal; twice in ``out``, it places one."""
        fresh = max((*self.sizes, 0)) + 1
        into, out = list(self.into), list(self.out)
        factors, sizes = list(self.factors), dict(self.sizes)
        for labels in (into, out):
            for i, label in enumerate(labels):
                if label in labels[:i]:
                    n = sizes[label] if sizes[label] is not None else x.shape[self.into.index(label)]
                    factors.append(Factor(eye(x, n, x.dtype), (label, fresh)))
                    labels[i] = fresh
                    sizes[fresh] = n
                    fresh += 1
        return Einsum(tuple(factors), tuple(out), tuple(into), sizes).apply(x)

    def transpose(self) -> LinearOperator:
        return Einsum(self.factors, self.into, self.out, self.sizes, self.coef, self.dtypes[::-1])

    def conj(self) -> LinearOperator:
        factors = tuple(f.conj() for f in self.factors)
        return Einsum(factors, self.out, self.into, self.sizes, conjugate(self.coef), self.dtypes)

    def scaled(self, c: Any) -> LinearOperator:
        if is_number(c):
            return Einsum(self.factors, self.out, self.into, self.sizes, self.coef * c, self.dtypes)
        factors = (*self.factors, Factor(c, ()))
        return Einsum(factors, self.out, self.into, self.sizes, self.coef, self.dtypes)

    def inverse(self) -> LinearOperator:
        return cast(LinearOperator, OPERATIONS["inverse_einsum"](self))

    def refine(self, domain: Space, codomain: Space) -> LinearOperator:
        sizes = dict(self.sizes)
        dtypes = []
        for word, labels, dtype, space in (
            ("domain", self.into, self.dtypes[0], domain),
            ("codomain", self.out, self.dtypes[1], codomain),
        ):
            here = ArraySpace(tuple(sizes[label] for label in labels), dtype)
            both = unify(here, space, partial(self._place, word))
            assert isinstance(both, ArraySpace)
            assert both.shape is not None
            for label, n in zip(labels, both.shape, strict=True):
                if sizes[label] is not None and n is not None and sizes[label] != n:
                    raise SpaceError(f"the {word} of {self.label} and its place do not match: {here} against {space}.")
                sizes[label] = n if n is not None else sizes[label]
            dtypes.append(both.dtype)
        return Einsum(self.factors, self.out, self.into, sizes, self.coef, (dtypes[0], dtypes[1]))

    def _place(self, word: str) -> str:
        return f"the {word} of {self.label} and its place"

    def todense(self) -> Any:
        into_labels = list(self.into)
        factors, sizes = list(self.factors), dict(self.sizes)
        fresh = max((*sizes, 0)) + 1
        missing = [label for label in {*self.out, *self.into} if sizes[label] is None]
        if missing:
            return super().todense()  # which says what to do about an unknown size
        like = next((f.array for f in factors), None)
        xp = namespace(like) if like is not None else namespace(1.0)
        dtype = like.dtype if like is not None else self.dtypes[1] if isinstance(self.dtypes[1], np.dtype) else None
        seen = set(self.out)
        out = list(self.out)
        for labels, start in ((out, 0), (into_labels, 0)):
            for i in range(start, len(labels)):
                label = labels[i]
                if label in labels[:i] or (labels is into_labels and label in seen):
                    delta = eye(
                        1.0 if like is None else like, sizes[label], xp.bool if self.factors else dtype
                    )  # selects, whatever is NaN
                    factors.append(Factor(delta, (label, fresh)))
                    sizes[fresh] = sizes[label]
                    labels[i] = fresh
                    fresh += 1
        every = tuple(out) + tuple(into_labels)
        if not factors:
            y: Any = xp.ones((), dtype=dtype)
            labels_y: Labels = ()
        else:
            y, labels_y = contract_all(factors[0].array, factors[0].labels, tuple(factors[1:]), every, sizes)
        y = place(y, labels_y, every, sizes)
        if is_mask(y):  # a selection, as numbers
            y = astype(y, self.dtypes[1] or xp.float64)
        return self._scaled(y)

    @property
    def label(self) -> str:
        return einsum_label(self)


def quotient(divisor: Any, coef: Any = 1, dtypes: tuple[Any, Any] = (None, None)) -> Einsum:
    """Return x ↦ coef · x / d, entry by entry: a Hadamard product that divides.

    Example:
        >>> print(quotient(np.array([1.0, 2.0])) @ np.array([6.0, 6.0]))
        [6. 3.]
    """
    labels = tuple(range(len(divisor.shape)))
    sizes: dict[int, int | None] = dict(zip(labels, divisor.shape, strict=True))
    return Einsum((Reciprocal(divisor, labels),), labels, labels, sizes, coef, dtypes)


def contract_all(
    x: Any, labels: Labels, factors: Sequence[Factor], keep: Labels, sizes: Mapping[int, int | None]
) -> tuple[Any, Labels]:
    """Multiply x by all factors and sum what is not kept: factors that fit x's axes first, then opt_einsum's path.

    A mask whose axes are kept comes last: it hides what the others make infinite or NaN.
    """
    late = [f for f in factors if is_mask(f.array) and set(f.labels) <= set(keep)] if len(factors) > 1 else []
    if late and len(late) < len(factors):
        waiting = set(map(id, late))
        x, labels = contract_all(x, labels, [f for f in factors if id(f) not in waiting], keep, sizes)
        for f in late:
            x, labels = contract(x, labels, f.array, f.labels, keep)
        return x, labels
    if not factors:
        drop = tuple(axis for axis, label in enumerate(labels) if label not in keep)
        if drop:
            x = sum_axes(x, drop)
            labels = tuple(label for label in labels if label in keep)
        return x, labels
    todo = list(factors)
    while todo:
        if len(todo) == 1:
            return contract(x, labels, todo[0].array, todo[0].labels, keep)
        needed = [set(keep).union(*(g.labels for g in todo if g is not f)) for f in todo]
        pick = next((i for i, f in enumerate(todo) if set(f.labels) <= set(labels)), None)
        if pick is None:
            return _by_path(x, labels, todo, keep)
        f = todo.pop(pick)
        x, labels = contract(x, labels, f.array, f.labels, _ordered(keep, needed[pick]))
    return x, labels


def hidden_by(factors: Sequence[Factor], mask: Factor, one: Factor, outer: Set[int]) -> list[Factor]:
    """The factors beside ``one`` with what a mask hides from all products with them set to zero: it may be infinite or NaN.

    The mask is about to be multiplied with that one: with the zeros that this makes, the others would make NaN.
    Those of the program itself stay as they are: weights that a batch shares are not copied for each of its masks.
    """
    hidden = []
    for f in factors:
        if (
            f is not one
            and not f.given
            and not is_mask(f.array)
            and any(label in f.labels for label in mask.labels if label not in outer)
        ):
            axes = tuple(axis for axis, label in enumerate(mask.labels) if label not in f.labels)
            shown = namespace(mask.array).any(mask.array, axis=axes) if axes else mask.array
            labels = tuple(label for label in mask.labels if label in f.labels)
            f = Factor(*contract(f.array, f.labels, shown, labels, f.labels), f.name)
        hidden.append(f)
    return hidden


def _shown(factors: Sequence[Factor], out: Labels) -> Sequence[Factor]:
    """The factors before they are applied, with zeros where masks that are summed over hide what may be infinite or NaN."""
    outer = set(out)
    for mask in factors if len(factors) > 1 else ():
        if is_mask(mask.array) and not outer.issuperset(mask.labels):
            factors = hidden_by(factors, mask, mask, outer)
    return factors


def _ordered(keep: Labels, needed: set[int]) -> Labels:
    """The needed labels, those that stay to the end first and in their order: nothing is transposed at the end."""
    return (*keep, *sorted(needed.difference(keep)))


def _by_path(x: Any, labels: Labels, factors: Sequence[Factor], keep: Labels) -> tuple[Any, Labels]:
    from opt_einsum import contract_path, get_symbol

    operands = [(x, labels), *((f.array, f.labels) for f in factors)]
    inputs = ",".join("".join(get_symbol(label) for label in ls) for _, ls in operands)
    output = "".join(get_symbol(label) for label in keep if any(label in ls for _, ls in operands))
    path, _ = contract_path(f"{inputs}->{output}", *(a.shape for a, _ in operands), shapes=True)
    for pair in path:
        pair_operands = [operands[i] for i in pair]
        operands = [operand for i, operand in enumerate(operands) if i not in pair]
        needed = _ordered(keep, set(keep).union(*(ls for _, ls in operands)))
        (a, la), *rest = pair_operands
        for b, lb in rest:
            a, la = contract(a, la, b, lb, needed if len(rest) == 1 else needed + tuple(k for _, ls in rest for k in ls))
        operands.append((a, la))
    y, labels = operands[0]
    return contract_all(y, labels, (), keep, {})


def einsum(
    out: Sequence[Hashable],
    into: Sequence[Hashable],
    *factors: tuple[Any, Sequence[Hashable]],
    sizes: Mapping[Hashable, int] | None = None,
    names: Sequence[str] = (),
    coef: Any = 1,
) -> Einsum:
    """Return the operator y[out] = coef · Σ Π factors · x[into], its labels any hashable names.

    Raises `SpaceError` where one label is given two sizes, or where a factor's labels do not fit its axes.

    Example:
        >>> import numpy as np
        >>> einsum("ij", "kj", (np.ones((2, 3)), "ik"))  # left multiplication by a 2 × 3 array
        (2×3)ᴸ : 3×? → 2×?
    """
    number: dict[Hashable, int] = {}
    for word in (out, into, *(labels for _, labels in factors)):
        for label in word:
            number.setdefault(label, len(number))
    known: dict[int, int | None] = dict.fromkeys(number.values())
    for label, n in (sizes or {}).items():
        known[number[label]] = n
    labelled = []
    for k, (array, labels) in enumerate(factors):
        if len(array.shape) != len(labels):
            raise SpaceError(
                f"a factor of shape {tuple(array.shape)} has {len(array.shape)} axes but {len(labels)} labels {labels!r}."
            )
        for label, n in zip(labels, array.shape, strict=True):
            before = known[number[label]]
            if before is not None and before != n:
                raise SpaceError(
                    f"label {label!r} has size {before} in one place and {n} in the factor of shape {tuple(array.shape)}."
                )
            known[number[label]] = n
        if len(set(labels)) < len(labels):
            raise SpaceError(f"a factor repeats a label in {labels!r}; take its diagonal first.")
        labelled.append(Factor(array, tuple(number[label] for label in labels), names[k] if k < len(names) else ""))
    return Einsum(tuple(labelled), tuple(number[k] for k in out), tuple(number[k] for k in into), known, coef)


def as_einsum(space: Space, coef: Any) -> Einsum | None:
    """The multiple coef of the identity as an `Einsum`, or None while the rank is unknown."""
    if isinstance(space, TupleSpace) or space == ANY or space.shape is None:
        return None
    labels = tuple(range(len(space.shape)))
    sizes = dict(zip(labels, space.shape, strict=True))
    if is_number(coef):
        return Einsum((), labels, labels, sizes, coef)
    return Einsum((Factor(coef, ()),), labels, labels, sizes)
