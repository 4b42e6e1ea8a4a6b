"""The pictures of the README that `show` draws: `python docs/stills.py` writes them anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

from backsolve import I, O, System, row

__all__ = ["STILLS", "write_all"]

HERE = Path(__file__).parent
FOLDER = HERE / "pictures"


def system() -> System:
    """The net of the README's first program: its matrices are that program's own."""
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    if program is None:
        raise ValueError("README.md has no program")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(program[1], names)
    return System(names["M"], I - names["ImL"], row([O, I]))


STILLS = {"system": (system, "A net of two layers", ("W₁", "W₂"))}


def write_all(folder: Path = FOLDER) -> None:
    """Write every picture into the folder."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "backsolve"}):  # the same names inside at every run
        for name, (make, title, sources) in STILLS.items():
            make().save(folder / f"{name}.svg", title=title, names=sources)


if __name__ == "__main__":
    os.environ["SOURCE_DATE_EPOCH"] = "0"  # matplotlib's: no date, so that the same picture is the same file
    write_all()
