"""What an iterative solver returns and prints: the solution, and how it got there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from backsolve.display import plural

__all__ = ["ConvergenceError", "History", "Solution"]


LONG = 40  # rows; of more than that the middle is left out in print
SHOWN = 2  # columns of the last row in the line that tells a solution


class ConvergenceError(ArithmeticError):
    """An iteration that did not converge; ``history`` says how far it came."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(f"{message}\n{history}")
        self.message = message
        self.history = history

    def __reduce__(self) -> Any:  # an exception is made again of its args, of which there is one
        return type(self), (self.message, self.history)


class History:
    """One row for each iteration: named numbers.  Prints as a table; while a person watches, each row as it comes.

    Equal to another one with the same rows.  Pickled and copied without the stream that it is shown on.
    """

    def __init__(self, what: str, columns: tuple[str, ...], stream: Any = None) -> None:
        self.what = what
        self.columns = columns
        self.rows: list[tuple[float, ...]] = []
        self._stream = sys.stderr if stream is None else stream
        self._watched = bool(getattr(self._stream, "isatty", lambda: False)())

    def add(self, *numbers: float) -> None:
        """Keep a row; show it where somebody looks."""
        self.rows.append(numbers)
        if self._watched:
            text = "  ".join(f"{name} {_written(x)}" for name, x in zip(self.columns, numbers, strict=True))
            self._stream.write(f"{self.what} {len(self.rows) - 1:3d}  {text}\n")
            self._stream.flush()

    def __getstate__(self) -> dict[str, Any]:
        return {"what": self.what, "columns": self.columns, "rows": self.rows, "_stream": None, "_watched": False}

    def __eq__(self, other: object) -> bool:
        mine = (self.what, self.columns, self.rows)
        return isinstance(other, History) and mine == (other.what, other.columns, other.rows)

    def __hash__(self) -> int:
        return hash((self.what, self.columns))  # what of it does not change as rows come

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[float]:
        """All numbers of a column."""
        k = self.columns.index(column)
        return [row[k] for row in self.rows]

    def __str__(self) -> str:
        names = ("step", *self.columns)
        cells = [names, *((str(n), *map(_written, row)) for n, row in enumerate(self.rows))]
        if len(cells) > LONG:
            cells = [*cells[: LONG // 2], tuple("⋮" for _ in names), *cells[-LONG // 2 :]]
        widths = [max(len(row[k]) for row in cells) for k in range(len(names))]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in cells)

    __repr__ = __str__


@dataclass(frozen=True)
class Solution:
    """What an iteration found: ``x``, the function's ``value`` there, and the ``history`` of the steps.

    ``converged`` says that x is what was asked for: False only where a ``callback`` ended the iteration before, since
    `ConvergenceError` is raised elsewhere.  Its repr is a line, printed it is that and the table of the history.  A JAX
    pytree, with the leaves of x and value; it can be copied and pickled.
    """

    x: Any
    value: Any
    history: History
    converged: bool = True

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.history) - 1

    def __repr__(self) -> str:
        how = "converged in" if self.converged else "not converged, ended after"
        last = zip(self.history.columns[:SHOWN], self.history.rows[-1][:SHOWN], strict=True) if len(self.history) else ()
        told = "".join(f", {name} {_written(x)}" for name, x in last)
        return f"{self.history.what}: {how} {plural(self.steps, 'step')}{told}"

    def __str__(self) -> str:
        return f"{self!r}\n{self.history}"


def _written(x: float) -> str:
    return str(x) if isinstance(x, int) else f"{x:.3e}"
