"""What has to know JAX is told once it is imported, whichever of it and backsolve comes first.

Operators and sparse matrices cross `jax.jit`, `vmap` and `grad` as pytrees, which JAX knows by their types; the core does
without JAX, which may be imported behind it (sorted imports do so) or never.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["once_jax_is_there"]


class _Finder(MetaPathFinder):
    """Finds JAX as the others do, and has a module imported behind it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "jax":
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                with suppress(ImportError):  # a JAX that is too old: said where it is asked for
                    importlib.import_module(self._module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def once_jax_is_there(module: str) -> None:
    """Import a module now where JAX has been imported, else as soon as it is; never where JAX never is."""
    if "jax" in sys.modules:
        importlib.import_module(module)
    else:
        sys.meta_path.insert(0, _Finder(module))
