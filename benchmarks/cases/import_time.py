"""Seconds of `import backsolve`, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.runner import Runner, Section, Target

TITLE = "Import time"
PROGRAM = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, "jax" in sys.modules)
"""


def measure(runner: Runner) -> Section:
    """The time of the import statement alone; the interpreter's own start is not counted."""
    row = runner.contest(
        "import, warm disk cache",
        {"backsolve": lambda: import_seconds("backsolve"), "NumPy": lambda: import_seconds("numpy")},
        tolerance=0.0,
        rounds=15,
        target=Target(0.3),
        difference=lambda ours, theirs: 0.0,  # two imports have no answers to compare
        seconds=float,
    )
    text = "`import backsolve` beside `import numpy`, which it contains. A run in which it imports JAX is an error."
    return Section("import_time", TITLE, text, [row])


def import_seconds(module: str) -> float:
    """Seconds that importing the module takes in a fresh interpreter. Raises `RuntimeError` if that imports JAX."""
    program = PROGRAM.format(module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, with_jax = done.stdout.split()
    if with_jax == "True":
        raise RuntimeError(f"import {module} imports jax")
    return float(seconds)
