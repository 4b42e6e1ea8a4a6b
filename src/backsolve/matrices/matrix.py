"""Sparse matrices of anything: numbers, symbols, blocks, operators, other matrices.

Elements are kept as they are.  Where they are operators (or blocks), the space of every row and column is unified on
insertion, so that a matrix that exists fits together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import index
from typing import Any, cast

import numpy as np

from backsolve.algebra import elements as algebra
from backsolve.algebra.arrays import is_array, is_number
from backsolve.algebra.elements import describe, is_zero
from backsolve.algebra.spaces import ANY, ArraySpace, Space, SpaceError, lies_in, space_of, unify
from backsolve.display import Showable, plural
from backsolve.matrices.flat import FlatMatrix
from backsolve.matrices.measures import Measured
from backsolve.matrices.solve import NumericMatrix, RightHandSide, all_float, solve, topological_order
from backsolve.matrices.text import as_latex, as_text
from backsolve.matrices.vector import BlockVector, Bundle, times_row, unpack_vector
from backsolve.operators import Identity, LinearOperator, O
from backsolve.operators.base import Zero, is_scalar

__all__ = [
    "Entries",
    "OperatorMatrix",
    "element_spaces",
    "is_structural_zero",
    "refuse_numbers_among_operators",
    "unified",
    "unify_spaces",
]


Entries = dict[tuple[int, int], Any]


def unified(a: Sequence[Space], b: Sequence[Space], word: str) -> list[Space]:
    """Two lists of spaces made one; ``word`` says in an error which they are."""
    pairs = enumerate(zip(a, b, strict=True))
    return [unify(p, q, partial("the {} spaces at {}".format, word, i)) for i, (p, q) in pairs]


def is_structural_zero(element: Any) -> bool:
    """Whether the element need not be stored."""
    return is_zero(element) or (is_number(element) and not isinstance(element, bool) and bool(element == 0))


def element_spaces(element: Any) -> tuple[Space, Space]:
    """Codomain and domain of an element: an operator's own, the leading axis for a 2-D block, anything otherwise."""
    if isinstance(element, LinearOperator):
        return element.codomain, element.domain
    shape = getattr(element, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and not hasattr(element, "block_rows"):
        return ArraySpace((int(shape[0]), ...)), ArraySpace((int(shape[1]), ...))
    return ANY, ANY


def refuse_numbers_among_operators(entries: Entries) -> None:
    """Raise `TypeError` where a number stands beside operators, since nothing says how large it is."""
    operators = [
        (place, e)
        for place, e in entries.items()
        if isinstance(e, LinearOperator) and not hasattr(e, "universal_unit")  # those serve every algebra
    ]
    if not operators:
        return
    for place, element in entries.items():
        if is_number(element) and element != 0:
            other, op = operators[0]
            raise TypeError(
                f"entry {place} is the number {element} among operators (entry {other} is {op!r}): its size is unknown. "
                f"Write {element} * I for a multiple of the identity."
            )


def _entry(line: str, k: int, place: tuple[int, int], element: Any) -> str:
    return f"{line} {k} and entry {place}, {describe(element)},"


def unify_spaces(entries: Entries, rows: list[Space], cols: list[Space]) -> None:
    """Fill in the spaces of rows and columns from the elements, and of the elements from these, until nothing moves."""
    by_row: dict[int, list[tuple[int, int]]] = {}
    by_col: dict[int, list[tuple[int, int]]] = {}
    for place in entries:
        by_row.setdefault(place[0], []).append(place)
        by_col.setdefault(place[1], []).append(place)
    todo = deque(entries)
    queued = set(entries)
    while todo:
        place = todo.popleft()
        queued.discard(place)
        i, j = place
        element = entries[place]
        codomain, domain = element_spaces(element)
        try:
            row_space, col_space = unify(rows[i], codomain), unify(cols[j], domain)
        except SpaceError:
            in_row, in_col = partial(_entry, "row", i, place, element), partial(_entry, "column", j, place, element)
            unify(rows[i], codomain, in_row, "Elements of one row have one codomain.")
            unify(cols[j], domain, in_col, "Elements of one column have one domain.")
            raise
        if isinstance(element, LinearOperator) and (codomain != row_space or domain != col_space):
            refined = element.refine(col_space, row_space)
            entries[place] = refined
            # A kind that does not refine keeps its unknowns; what the row and the column know stays known.
            row_space, col_space = unify(row_space, refined.codomain), unify(col_space, refined.domain)
        for space, known, k, line in ((row_space, rows, i, by_row), (col_space, cols, j, by_col)):
            if known[k] != space:
                known[k] = space
                for other in line[k]:
                    if other not in queued and other != place:
                        queued.add(other)
                        todo.append(other)


class OperatorMatrix(Measured, FlatMatrix, Showable):
    """A sparse matrix whose elements are operators, or anything else with + and a product.

    Make one with `matrix`, `diagonal`, `bidiagonal`, `row`, `column` or `OperatorMatrix.from_entries`.  ``A @ B``,
    ``A @ v``, ``A + B``, ``c * A``, ``A.T``, ``A.H`` and ``I - A`` do what they say, block by block and in order;
    ``np.linalg.solve(A, b)`` is `backsolve.solve`.  Absent elements are zero.  Immutable.
    """

    __array_ufunc__ = None
    __array_priority__ = 2000

    def __init__(
        self,
        entries: Entries,
        shape: tuple[int, int],
        row_spaces: Sequence[Space] | None = None,
        col_spaces: Sequence[Space] | None = None,
        *,
        numeric: NumericMatrix | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        """Wrap entries that are known to fit together; `from_entries` checks and unifies."""
        given: Any = (entries, shape)
        if not (isinstance(given[0], dict) and isinstance(given[1], tuple)):
            got = f"{algebra.short(entries)} and {algebra.short(shape)}"
            raise TypeError(f"OperatorMatrix wraps a dict of entries and a shape, got {got}; use backsolve.matrix(rows).")
        self._entries: Entries | None = entries if numeric is None else None
        self.shape = shape
        self.row_spaces: Sequence[Space] = row_spaces if row_spaces is not None else (ANY,) * shape[0]
        self.col_spaces: Sequence[Space] = col_spaces if col_spaces is not None else (ANY,) * shape[1]
        self.numeric = numeric
        self._rows: list[list[tuple[int, Any]]] | None = None
        self._complement: OperatorMatrix | None = None  # N, where this matrix is known to be I − N
        self.names = names

    # ---- making ---------------------------------------------------------------------------------------------------
    @classmethod
    def from_entries(
        cls,
        entries: Mapping[tuple[int, int], Any] | Iterable[tuple[tuple[int, int], Any]],
        shape: tuple[int, int],
        names: Sequence[str] | None = None,
    ) -> OperatorMatrix:
        """Return the matrix of this shape with element ``entries[i, j]`` in block row i and block column j.

        Elements stay as they are, a nested OperatorMatrix too; zeros (`O`, the number 0) are dropped.
        Raises `IndexError` for a place outside the shape, `ValueError` for a place given twice and for a wrong shape,
        `SpaceError` where the elements of one row or column do not fit together, `TypeError` where numbers stand among
        operators and for what is no place, `AlgebraError` for what is no element.
        """
        shape = _checked_shape(shape)
        given: Any = names
        if given is not None and (not isinstance(given, Sequence) or isinstance(given, str) or len(given) != shape[0]):
            raise ValueError(f"names must hold one name for each of the {shape[0]} block rows, got {algebra.short(names)}.")
        checked: Entries = {}
        try:
            rows, cols = [cast(Space, ANY)] * shape[0], [cast(Space, ANY)] * shape[1]
        except (MemoryError, OverflowError):
            raise MemoryError(f"a matrix of {_blocks(shape)} blocks does not fit into memory.") from None
        if not isinstance(entries, Iterable):
            raise TypeError(f"entries are a mapping {{(i, j): element}} or pairs ((i, j), element), got {entries!r}.")
        for k, pair in enumerate(entries.items() if isinstance(entries, Mapping) else entries):
            try:
                (i, j), element = pair
                i, j = index(i), index(j)
            except (TypeError, ValueError):
                raise TypeError(
                    f"entry {k} is {algebra.short(pair)}, not ((i, j), element) with whole numbers i and j."
                ) from None
            if not (0 <= i < shape[0] and 0 <= j < shape[1]):
                raise IndexError(f"entry ({i}, {j}) lies outside a matrix of {shape[0]} × {shape[1]} blocks.")
            if (i, j) in checked:
                raise ValueError(
                    f"entry ({i}, {j}) is given twice: {algebra.describe(checked[i, j])} and {algebra.describe(element)}; "
                    "add the two first."
                )
            checked[i, j] = element
        algebra.refuse_non_elements(checked, "entry {}".format)
        refuse_numbers_among_operators(checked)
        unify_spaces(checked, rows, cols)
        checked = {place: element for place, element in checked.items() if not is_structural_zero(element)}
        return cls(checked, shape, rows, cols, names=names)

    @classmethod
    def from_scipy(cls, A: Any) -> OperatorMatrix:
        """Return a SciPy sparse matrix (or a dense 2-D array of numbers) as an OperatorMatrix of numbers.

        It is kept in compressed form, and solved with by compiled code.
        Raises `TypeError` for what is no array of numbers, `ValueError` where it has not two axes.
        """
        if not hasattr(A, "tocsr"):
            A = algebra.array_of_numbers(A, "from_scipy")
        if len(A.shape) != 2:
            raise ValueError(f"from_scipy takes a matrix (2 axes), got shape {tuple(A.shape)}.")
        numeric = NumericMatrix.of(A)
        return cls({}, numeric.shape, numeric=numeric)

    # ---- looking --------------------------------------------------------------------------------------------------
    @property
    def entries(self) -> Entries:
        """The elements by (row, column); absent ones are zero."""
        if self._entries is None:
            assert self.numeric is not None
            self._entries = self.numeric.entries()
        return self._entries

    @property
    def block_rows(self) -> int:
        """Number of block rows."""
        return self.shape[0]

    def __getitem__(self, place: tuple[int, int]) -> Any:
        if not _is_place(place):
            raise TypeError(f"an element is A[i, j] with two whole numbers, got A[{algebra.short(place).strip('()')}].")
        i, j = place
        m, n = self.shape
        if not (-m <= i < m and -n <= j < n):
            raise IndexError(f"entry ({i}, {j}) lies outside a matrix of {m} × {n} blocks.")
        element = self.entries.get((i % m, j % n))
        return self._zero(i % m, j % n) if element is None else element

    def _zero(self, i: int, j: int) -> Any:
        """The element where there is none: O, between its row's and its column's space where these are known."""
        into, out = self.col_spaces[j], self.row_spaces[i]
        return O if ANY in (into, out) else Zero(into, out)

    def row(self, i: int) -> Sequence[tuple[int, Any]]:
        """The entries of row i as (column, element), by column."""
        if self._rows is None:
            rows: list[list[tuple[int, Any]]] = [[] for _ in range(self.shape[0])]
            for (k, j), element in self._placed():
                rows[k].append((j, element))
            for entries in rows:
                if len(entries) > 1:
                    entries.sort(key=_column)
            self._rows = rows
        return self._rows[i]

    def _placed(self) -> Iterable[tuple[tuple[int, int], Any]]:
        return self.entries.items()

    def layout(self, i: int) -> Any:
        """How the blocks of row i are spread over devices, None where their type does not say."""
        return self.row_spaces[i].layout

    def name(self, i: int) -> str:
        """Row i as messages call it."""
        return str(self.names[i]) if self.names is not None else f"row {i}"

    # ---- arithmetic -----------------------------------------------------------------------------------------------
    def _map(self, function: Callable[[Any], Any]) -> OperatorMatrix:
        entries = {place: function(element) for place, element in self.entries.items()}
        return OperatorMatrix(entries, self.shape, self.row_spaces, self.col_spaces, names=self.names)

    def _flipped(self, function: Callable[[Any], Any]) -> OperatorMatrix:
        if self._complement is not None:
            return _Complement(self._complement._flipped(function))
        if self.numeric is not None and function is algebra.transpose:
            return OperatorMatrix({}, self.shape[::-1], numeric=self.numeric.transposed())
        return _Flipped(self, function)

    @property
    def T(self) -> OperatorMatrix:
        """The transpose, of positions and of elements."""
        return self._flipped(algebra.transpose)

    @property
    def H(self) -> OperatorMatrix:
        """The conjugate transpose, of positions and of elements."""
        return self._flipped(algebra.adjoint)

    def _combined(self, other: Any, sign: int) -> Any:
        if is_number(other) and other == 0:
            return self
        if isinstance(other, Identity):
            other = _identity_like(self)
        if is_array(other) or is_number(other):
            raise TypeError(
                f"cannot add {algebra.describe(other)} to a matrix of {_blocks(self.shape)} blocks; make a matrix of it: "
                "backsolve.matrix(rows), or backsolve.diagonal([c] * n) for a multiple of the identity."
            )
        if not isinstance(other, OperatorMatrix):
            return NotImplemented
        if self.shape != other.shape:
            raise SpaceError(f"cannot add matrices of {_blocks(self.shape)} and {_blocks(other.shape)}.")
        total = dict(self.entries)
        for place, element in other.entries.items():
            signed = element if sign > 0 else algebra.negate(element)
            total[place] = algebra.add(total[place], signed) if place in total else signed
        rows = unified(self.row_spaces, other.row_spaces, "row")
        cols = unified(self.col_spaces, other.col_spaces, "column")
        return OperatorMatrix(total, self.shape, rows, cols, names=self.names or other.names)

    def __add__(self, other: Any) -> Any:
        return self._combined(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._combined(other, -1)

    def __rsub__(self, other: Any) -> Any:
        if isinstance(other, Identity):
            return self._identity_minus()
        return (-self)._combined(other, 1)

    def _identity_minus(self) -> OperatorMatrix:
        """I − self; with an empty diagonal it remembers self, and nothing is negated until somebody looks."""
        if self.shape[0] != self.shape[1]:
            raise SpaceError(f"I − A needs a square A, got {_blocks(self.shape)}.")
        unified(self.row_spaces, self.col_spaces, "row and column")
        if self.numeric is None and any((i, i) in self.entries for i in range(self.shape[0])):
            diagonal = {(i, j): element for (i, j), element in self.entries.items() if i == j}
            ones = {place for place, a in diagonal.items() if algebra.is_one(a) or (is_number(a) and a == 1)}
            return (_identity_like(self) - self)._without(ones)  # type: ignore[no-any-return]
        if self.numeric is not None and self.numeric.has_diagonal:
            return OperatorMatrix({}, self.shape, numeric=self.numeric.identity_minus())
        return _Complement(self)

    def _without(self, places: set[tuple[int, int]]) -> OperatorMatrix:
        left = {place: element for place, element in self.entries.items() if place not in places}
        return OperatorMatrix(left, self.shape, self.row_spaces, self.col_spaces, names=self.names)

    def __neg__(self) -> OperatorMatrix:
        return self._map(algebra.negate)

    def __mul__(self, c: Any) -> OperatorMatrix:
        return self._map(lambda element: element * c) if is_scalar(c) else NotImplemented

    def __truediv__(self, c: Any) -> OperatorMatrix:
        return self._map(lambda element: element / c) if is_scalar(c) else NotImplemented

    def __rmul__(self, c: Any) -> OperatorMatrix:
        return self._map(lambda element: algebra.multiply(c, element)) if is_scalar(c) else NotImplemented

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Identity):
            return self
        if isinstance(other, OperatorMatrix):
            return self._times_matrix(other)
        if self.numeric is not None and isinstance(other, np.ndarray) and other.dtype != object:
            return self.numeric.times(other)
        blocks, repack = unpack_vector(other, self.shape[1], f"a matrix of {_blocks(self.shape)}")
        self._check_blocks(blocks, self.col_spaces, "column")
        out = self._times_blocks(blocks, self.product(other))
        empty = [i for i, block in enumerate(out) if algebra.is_zero(block)]
        if empty:
            self._fill_zeros(out, empty, blocks)
        return repack(out)

    def times(self, v: Sequence[Any]) -> BlockVector:
        """``self @ v`` with `O` for what is zero because nothing reaches it, instead of arrays of zeros."""
        blocks, _ = unpack_vector(v, self.shape[1], f"a matrix of {_blocks(self.shape)}")
        self._check_blocks(blocks, self.col_spaces, "column")
        return BlockVector(self._times_blocks(blocks, algebra.multiply))

    def _times_blocks(self, blocks: Sequence[Any], multiply: Callable[[Any, Any], Any]) -> list[Any]:
        return [times_row(self.row(i), blocks, multiply, O, self.layout(i)) for i in range(self.shape[0])]

    def _times_matrix(self, other: OperatorMatrix) -> OperatorMatrix:
        if self.shape[1] != other.shape[0]:
            raise SpaceError(
                f"cannot multiply matrices of {_blocks(self.shape)} and {_blocks(other.shape)}: "
                f"{self.shape[1]} block columns against {other.shape[0]} block rows."
            )
        unified(self.col_spaces, other.row_spaces, "inner")
        entries: Entries = {}
        for i in range(self.shape[0]):
            for k, left in self.row(i):
                for j, right in other.row(k):
                    term = algebra.multiply(left, right)
                    entries[i, j] = algebra.add(entries[i, j], term) if (i, j) in entries else term
        return OperatorMatrix.from_entries(entries, (self.shape[0], other.shape[1]))

    def __rmatmul__(self, other: Any) -> OperatorMatrix:
        return self if isinstance(other, Identity) else NotImplemented

    def _fill_zeros(self, out: list[Any], empty: Sequence[int], blocks: Sequence[Any]) -> None:
        """Zeros for the rows where nothing was added up: as large as the row's space says, `O` where nothing says it."""
        numbers = all(is_number(block) for block in blocks)
        like = next(
            (block for block in blocks if hasattr(block, "dtype") and not hasattr(type(block), "codomain")), np.float64(0.0)
        )
        shapes = {None if hasattr(type(block), "codomain") else getattr(block, "shape", None) for block in blocks}
        if len(shapes) == 1 and isinstance(np.shape(like), tuple) and all(map(is_number, self.entries.values())):
            anything: Space = ArraySpace(tuple(like.shape))  # numbers keep the shape of the blocks
        else:
            anything = ANY
        for i in empty:
            space = self.row_spaces[i]
            if numbers and space in (ANY, ArraySpace(())):
                out[i] = 0
            else:
                out[i] = O.refine(ANY, anything if space == ANY else space).apply(like)

    # ---- solving (what backsolve.solve asks for) --------------------------------------------------------------------
    def splitting(self) -> tuple[Sequence[Any] | None, OperatorMatrix]:
        """D and N with A = D − N; D is None where it is the identity."""
        if self._complement is not None:
            return None, self._complement
        diagonal = [self.entries.get((i, i), O) for i in range(min(self.shape))]
        rest = {place: algebra.negate(element) for place, element in self.entries.items() if place[0] != place[1]}
        N = OperatorMatrix(rest, self.shape, self.row_spaces, self.col_spaces, names=self.names)
        unit = all(algebra.is_one(d) or (is_number(d) and d == 1) for d in diagonal)
        return (None if unit else diagonal), N

    def unpack(self, b: Any) -> RightHandSide:
        """A right-hand side as a list of blocks, checked against the row spaces."""
        if isinstance(b, OperatorMatrix):
            if b.shape[0] != self.shape[0]:
                raise ValueError(f"a right-hand side of {_blocks(b.shape)} does not fit {_blocks(self.shape)}.")
            unified(self.row_spaces, b.row_spaces, "row")
            width = b.shape[1]
            bundles: list[Any] = [Bundle(dict(b.row(i))) for i in range(b.shape[0])]
            return bundles, lambda solved: OperatorMatrix.from_entries(
                {(i, j): element for i, bundle in enumerate(solved) for j, element in bundle.columns.items()},
                (len(solved), width),
            )
        blocks, repack = unpack_vector(b, self.shape[0], f"solving with {_blocks(self.shape)}")
        self._check_blocks(blocks, self.row_spaces, "row")
        return blocks, repack

    def product(self, b: Any) -> Callable[[Any, Any], Any]:
        """How elements are multiplied with the blocks of b."""
        return b.products.multiply if isinstance(b, BlockVector) else algebra.multiply

    def compiled(self, diagonal: Sequence[Any] | None, b: Any) -> Any:
        """The solution by SciPy where matrix and right-hand side are floating-point numbers throughout, else None."""
        if self.numeric is None:
            if not self._all_float() or (diagonal is not None and not all_float(diagonal)):
                return None
            self.numeric = NumericMatrix.from_entries(self.entries, self.shape)
        return self.numeric.substitute(diagonal, b, lambda: topological_order(self.shape[0], self.row, self.name))

    def _all_float(self) -> bool:
        return all_float(self.entries.values())

    def _check_blocks(self, blocks: Sequence[Any], spaces: Sequence[Space], word: str) -> None:
        for i, (block, space) in enumerate(zip(blocks, spaces, strict=True)):
            if hasattr(type(block), "codomain") or lies_in(block, space):
                continue
            if space == ANY or isinstance(block, OperatorMatrix | BlockVector):
                continue
            here = space_of(block)
            if isinstance(here, ArraySpace) and isinstance(space, ArraySpace):
                here = ArraySpace(here.shape, here.dtype if space.dtype is not None else None)
            remedy = "Check its shape and place; a zero block of any shape is written O."
            unify(space, here, f"block {i} of the vector and {word} {i} of the matrix", remedy)

    def inverse(self) -> OperatorMatrix:
        """Return A⁻¹ as an OperatorMatrix: the sums over all paths, one substitution for each column.

        Cost: as many products as there are pairs of an entry and a path that reaches it.
        """
        ones = {(i, i): Identity(space) for i, space in enumerate(self.row_spaces)}
        return cast(OperatorMatrix, solve(self, OperatorMatrix(ones, self.shape, self.row_spaces, self.row_spaces)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's own protocol: ``np.linalg.solve`` and ``np.linalg.inv`` of an OperatorMatrix."""
        if kwargs or not args or not isinstance(args[0], OperatorMatrix):
            return NotImplemented
        if function is np.linalg.solve:
            return solve(*args)
        if function is np.linalg.inv:
            return args[0].inverse()
        return NotImplemented

    # ---- printing -------------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        count = len(self.entries) if self.numeric is None else int(self.numeric.csr.nnz)
        return f"OperatorMatrix of {_blocks(self.shape)} blocks, {plural(count, 'entry')}\n{self}"

    def __str__(self) -> str:
        return as_text(self)

    def _repr_latex_(self) -> str:
        return as_latex(self)


class _Complement(OperatorMatrix):
    """I − N, remembering N: its entries are made only when somebody looks at them."""

    def __init__(self, N: OperatorMatrix) -> None:
        super().__init__({}, N.shape, N.row_spaces, N.col_spaces, names=N.names)
        self._entries = None
        self._complement = N

    @property
    def entries(self) -> Entries:
        if self._entries is None:
            assert self._complement is not None
            N = self._complement
            ones: Entries = {(i, i): Identity(space) for i, space in enumerate(N.row_spaces)}
            self._entries = ones | {place: algebra.negate(element) for place, element in N.entries.items()}
        return self._entries


class _Flipped(OperatorMatrix):
    """The transpose of A, or its conjugate transpose: substitution goes through its rows once, and needs no entries."""

    def __init__(self, A: OperatorMatrix, function: Callable[[Any], Any]) -> None:
        names = A.names if A.shape[0] == A.shape[1] else None
        super().__init__({}, A.shape[::-1], A.col_spaces, A.row_spaces, names=names)
        self._entries = None
        self._flipped_from, self._function = A, function

    @property
    def entries(self) -> Entries:
        if self._entries is None:
            self._entries = dict(self._placed())
        return self._entries

    def _placed(self) -> Iterable[tuple[tuple[int, int], Any]]:
        if self._entries is not None:
            return self._entries.items()
        function = self._function
        return (((j, i), function(element)) for (i, j), element in self._flipped_from.entries.items())

    def _all_float(self) -> bool:
        return self._flipped_from._all_float()


def _column(pair: tuple[int, Any]) -> int:
    return pair[0]


def _is_place(place: Any) -> bool:
    return isinstance(place, tuple) and len(place) == 2 and all(hasattr(k, "__index__") for k in place)


def _checked_shape(shape: Any) -> tuple[int, int]:
    if not _is_place(shape) or min(shape) < 0:
        raise ValueError(f"the shape of a matrix is two numbers of blocks such as (2, 3), got {algebra.short(shape)}.")
    return int(shape[0]), int(shape[1])


def _blocks(shape: tuple[int, int]) -> str:
    return f"{shape[0]} × {shape[1]}"


def _identity_like(A: OperatorMatrix) -> OperatorMatrix:
    if A.shape[0] != A.shape[1]:
        raise SpaceError(f"the identity added to a matrix of {_blocks(A.shape)} blocks needs it square.")
    spaces = unified(A.row_spaces, A.col_spaces, "row and column")
    return OperatorMatrix({(i, i): Identity(s) for i, s in enumerate(spaces)}, A.shape, spaces, spaces)
