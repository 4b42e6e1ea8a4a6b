"""Whether a pattern fits into memory, asked before it is made."""

from __future__ import annotations

import os

__all__ = ["PatternTooLargeError", "require_memory"]


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
    """Bytes that this machine can still give, as far as it says; 8 GiB where it does not."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**33
