"""The models of `sparse_models` in CasADi's own words: the non-zeros by its VM, or as C that it writes."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from benchmarks.models.sparse_models import SparseModel

LARGEST = 50_000  # unknowns; beyond, its scalar graph takes more than a minute to build
LARGEST_C = 3_000  # beyond, its generated C takes gcc minutes


class Columns(NamedTuple):
    """A matrix column by column, as CasADi holds it."""

    data: Any
    rows: Any
    starts: Any
    shape: tuple[int, int]

    def to_scipy(self) -> Any:
        """The matrix."""
        return scipy.sparse.csc_array((self.data, self.rows, self.starts), shape=self.shape)


def contestants(model: SparseModel) -> tuple[dict[str, Callable[[], Any] | None], dict[str, str]]:
    """CasADi's VM and its generated C on a model, None where absent, and the reasons."""
    found: dict[str, Callable[[], Any] | None] = {"CasADi": None, "CasADi C": None}
    n = len(model.point)
    try:
        import casadi
    except ImportError:
        return found, dict.fromkeys(found, "not installed")
    if model.of_casadi is None:
        return found, dict.fromkeys(found, "no model")
    if model.name.startswith("arrow") and n > LARGEST_C:
        return found, dict.fromkeys(found, "as many colours as unknowns")
    if n > LARGEST:
        return found, dict.fromkeys(found, f"more than {LARGEST:,} unknowns")
    x = casadi.SX.sym("x", n)
    y = model.of_casadi(casadi, x)
    derivative = casadi.hessian(y, x)[0] if model.second else casadi.jacobian(y, x)
    function = casadi.Function("derivative", [x], [derivative])
    found["CasADi"] = _call(function, model.point)
    reasons = {}
    if n > LARGEST_C:
        reasons["CasADi C"] = f"more than {LARGEST_C:,} unknowns"
    else:
        try:
            found["CasADi C"] = _call(_compiled(casadi, function), model.point)
        except (OSError, subprocess.SubprocessError):
            reasons["CasADi C"] = "no C compiler"
    return found, reasons


def _call(function: Any, point: Any) -> Callable[[], Columns]:
    """The function as CasADi calls it fastest: from one array of ours into another."""
    pattern = function.sparsity_out(0)
    data = np.zeros(pattern.nnz())
    answer = Columns(data, np.array(pattern.row()), np.array(pattern.colind()), pattern.shape)
    buffer, evaluate = function.buffer()
    buffer.set_arg(0, point.data)
    buffer.set_res(0, data.data)

    def call() -> Columns:
        evaluate()
        return answer

    call.kept = buffer, point  # type: ignore[attr-defined]  # CasADi holds no reference of its own
    return call


def _compiled(casadi: Any, function: Any) -> Any:
    folder = Path(tempfile.mkdtemp())
    generator = casadi.CodeGenerator("derivative.c")
    generator.add(function)
    generator.generate(f"{folder}/")
    library = folder / "derivative.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", folder / "derivative.c", "-o", library], check=True, timeout=300)
    return casadi.external("derivative", str(library))
