"""Array spaces: a shape and a dtype, either may be unknown; their unification, and whether patterns fit into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from numbers import Integral
from typing import Any

resource: Any
try:
    import resource
except ImportError:  # of Unix alone
    resource = None

__all__ = [
    "ANY",
    "ArraySpace",
    "PatternTooLargeError",
    "Space",
    "SpaceError",
    "TupleSpace",
    "as_sizes",
    "is_complex",
    "lies_in",
    "require_memory",
    "space_of",
    "unify",
]


class SpaceError(ValueError):
    """Two spaces that must be one differ."""


@dataclass(frozen=True, slots=True)
class ArraySpace:
    """Arrays of one shape and dtype.

    ``shape`` is a tuple whose entries may be None (a size not known yet) and whose last may be ``...`` (any further
    axes), or None where not even that is known; ``dtype`` is None where any will do.  ``layout`` is how their library
    spreads them over devices where their type says so, and None elsewhere: no part of what makes two spaces one.
    """

    shape: tuple[Any, ...] | None = None
    dtype: Any = None
    layout: Any = field(default=None, compare=False, repr=False)

    @property
    def known(self) -> bool:
        """Whether every size is known."""
        return self.shape is not None and None not in self.shape and ... not in self.shape

    @property
    def size(self) -> int:
        """The number of entries.  Raises `SpaceError` while a size is unknown."""
        if self.shape is None or not self.known:
            raise SpaceError(f"the size of {self} is not known; place the operator where its neighbours fix it.")
        return prod(self.shape)

    def __str__(self) -> str:
        if self.shape is None:
            body = "?"
        else:
            body = "×".join("?" if n is None else "…" if n is ... else str(n) for n in self.shape) or "scalar"
        return body if self.dtype is None else f"{self.dtype}[{body}]"


@dataclass(frozen=True, slots=True)
class TupleSpace:
    """Tuples with one space a part: what an operator with several inputs or outputs acts on."""

    parts: tuple[Space, ...]

    @property
    def known(self) -> bool:
        """Whether every size of every part is known."""
        return all(part.known for part in self.parts)

    @property
    def size(self) -> int:
        """The number of entries of all parts together."""
        return sum(part.size for part in self.parts)

    @property
    def layout(self) -> None:
        """None: its parts say theirs."""
        return

    def __str__(self) -> str:
        return "(" + ", ".join(map(str, self.parts)) + ")"


Space = ArraySpace | TupleSpace
ANY = ArraySpace()


def as_sizes(given: Any, what: str, *, open_ends: bool = False) -> tuple[Any, ...]:
    """Return a shape as a tuple, an int as that of a vector; ``what`` says in an error whose shape it is.

    With ``open_ends`` sizes may be None (not known yet), the last ``...``.  Raises `TypeError` where it is no shape.
    """
    sizes = tuple(given) if isinstance(given, Iterable) else (given,)
    named = sizes[:-1] if open_ends and sizes[-1:] == (...,) else sizes
    fits = all((open_ends and n is None) or (isinstance(n, Integral) and int(n) >= 0) for n in named)
    if isinstance(given, str | Mapping) or not fits:
        more = ", with None for a size that is not known" if open_ends else ""
        raise TypeError(f"the {what} must be sizes such as (3, 4){more}, got {given!r}.")
    return sizes


def space_of(x: Any) -> Space:
    """Return the space x lies in: its shape and dtype, a tuple of spaces for a tuple, a scalar for a number."""
    if isinstance(x, tuple):
        return TupleSpace(tuple(space_of(part) for part in x))
    if hasattr(type(x), "codomain") and isinstance(x.codomain, ArraySpace | TupleSpace):  # asking a tracer is slow
        codomain: Space = x.codomain
        return codomain  # a zero of unknown size says where it lies
    shape = getattr(x, "shape", None)
    if shape is None:
        return ArraySpace(())
    return ArraySpace(tuple(shape), getattr(x, "dtype", None))


def is_complex(space: Space) -> bool:
    """Whether arrays of this space, or of a part of it, are complex."""
    if isinstance(space, TupleSpace):
        return any(map(is_complex, space.parts))
    return getattr(space.dtype, "kind", "") == "c"


def lies_in(x: Any, space: Space) -> bool:
    """Whether x plainly is an array of this space; where this says no, unifying the spaces decides and explains."""
    if not isinstance(space, ArraySpace) or space.shape is None or space.shape != getattr(x, "shape", None):
        return False
    dtype = x.dtype
    return bool(dtype == space.dtype) if space.dtype is not None else getattr(dtype, "kind", "") != "O"


def unify(a: Space, b: Space, what: str | Callable[[], str] = "the spaces", remedy: str = "") -> Space:
    """Return the space that is both a and b, each unknown of one filled in from the other.

    Raises `SpaceError`, naming ``what`` (a function is called only then) and both spaces, where they differ.
    """
    if a is b or b is ANY:
        return a
    if a is ANY:
        return b
    if isinstance(a, ArraySpace) and isinstance(b, ArraySpace):
        shape = a.shape if a.shape == b.shape else _unify_shapes(a.shape, b.shape)
        if shape is a.shape and a.dtype == b.dtype and (a.layout is not None or b.layout is None):
            return a
        if shape is not _CLASH and (a.dtype is None or b.dtype is None or a.dtype == b.dtype):
            layout = b.layout if a.layout is None else a.layout
            return ArraySpace(shape, b.dtype if a.dtype is None else a.dtype, layout)
    elif a == ANY or b == ANY:
        return b if a == ANY else a
    elif isinstance(a, TupleSpace) and isinstance(b, TupleSpace) and len(a.parts) == len(b.parts):
        return TupleSpace(tuple(unify(p, q, what, remedy) for p, q in zip(a.parts, b.parts, strict=True)))
    name = what if isinstance(what, str) else what()
    raise SpaceError(f"{name} do not match: {a} against {b}." + (f" {remedy}" if remedy else ""))


_CLASH: Any = object()


def _unify_shapes(a: tuple[Any, ...] | None, b: tuple[Any, ...] | None) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if ... in a or ... in b:
        return _unify_open(a, b)
    if len(a) != len(b):
        return _CLASH
    out = []
    for m, n in zip(a, b, strict=True):
        if m is not None and n is not None and m != n:
            return _CLASH
        out.append(n if m is None else m)
    return tuple(out)


def _unify_open(a: tuple[Any, ...], b: tuple[Any, ...]) -> Any:
    """At least one shape ends in ``...``: the axes both name must agree, the rest comes from the longer."""
    named_a, named_b = (tuple(n for n in shape if n is not ...) for shape in (a, b))
    both = min(len(named_a), len(named_b))
    if (a == named_a and len(a) < len(named_b)) or (b == named_b and len(b) < len(named_a)):
        return _CLASH
    head = _unify_shapes(named_a[:both], named_b[:both])
    if head is _CLASH:
        return _CLASH
    open_end = (...,) if a != named_a and b != named_b else ()
    return (*head, *named_a[both:], *named_b[both:], *open_end)


class PatternTooLargeError(MemoryError):
    """A pattern with more entries than memory holds."""


def require_memory(entries: int, bytes_each: int, what: str, limit: int | None = None) -> None:
    """Raise `PatternTooLargeError` where that many entries do not fit into ``limit`` bytes (None: what is available)."""
    if entries * bytes_each < 2**24:  # not worth asking the system
        return
    limit = available_memory() if limit is None else limit
    if entries * bytes_each > limit:
        raise PatternTooLargeError(
            f"{what} has {entries:,} entries and needs {entries * bytes_each:,} bytes while planning, but {limit:,} are "
            "available. Keep the factors apart (format='operator'), or take the result in parts."
        )


def available_memory() -> int:
    """Bytes that this process can still have, as far as the system says: of the machine, of the container, and of the
    process's own limit of address space.
    """
    return max(0, min((_of_the_machine(), *_of_the_container(), *_of_the_process())))


def _of_the_machine() -> int:
    """What nobody uses; half of all where that is not told, 8 GiB where nothing is."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**33


def _of_the_container() -> Iterator[int]:
    """What a control group (version 2) leaves of its limit."""
    try:
        most, used = (_read(f"/sys/fs/cgroup/memory.{what}") for what in ("max", "current"))
        yield int(most) - int(used)
    except (OSError, ValueError):  # there is none, or no limit: "max"
        return


def _of_the_process() -> Iterator[int]:
    """What RLIMIT_AS leaves beside what is mapped."""
    if resource is None:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit - _mapped()


def _mapped() -> int:
    """The address space in use; 0 where that is not told."""
    try:
        return int(_read("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
