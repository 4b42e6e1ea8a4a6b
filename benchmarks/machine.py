"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backsolve import __version__

LIBRARIES = ("numpy", "scipy", "jax", "autograd", "torch")


def cores() -> int:
    """Number of logical processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def line() -> str:
    """Processor, cores, system, Python and library versions, in one line."""
    libraries = [f"backsolve {__version__}", *(f"{name} {_version(name)}" for name in LIBRARIES)]
    return f"{_processor()}, {cores()} cores, {platform.system()}, Python {platform.python_version()}; " + ", ".join(
        libraries
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for entry in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or platform.machine()
