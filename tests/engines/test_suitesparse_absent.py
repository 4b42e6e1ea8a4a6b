"""What is said of scikit-sparse's engines without it: the package that is missing, and matrices that are not for CHOLMOD."""

import re
import sys
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve.algebra import SingularError
from backsolve.engines import factored

from .test_superlu import in_blocks, random

SIZES = (3, 1, 4, 2)
DEFINITE = random() @ random().T + np.eye(10)


@pytest.mark.parametrize(
    ("engine", "needed"),
    [
        ("umfpack", "scikit-sparse 0.5 or newer"),
        ("klu", "scikit-sparse 0.5 or newer"),
        ("cholmod", "scikit-sparse"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_package_that_is_missing_is_told_at_once(engine, needed, old, monkeypatch):
    """Not installed, and installed without this module: concretely, and under ``jit`` while tracing."""
    message = (
        f"engine='{engine}' needs {needed} and SuiteSparse: pip install 'backsolve[suitesparse]'; or take engine='auto'."
    )
    monkeypatch.setitem(sys.modules, f"sksparse.{engine}", None)
    monkeypatch.setitem(sys.modules, "sksparse", ModuleType("sksparse") if old else None)
    x = jnp.ones(2)
    for solve in (bs.solve_jacobian, jax.jit(bs.solve_jacobian, static_argnums=0, static_argnames="engine")):
        with pytest.raises(ImportError, match=re.escape(message)):
            solve(jnp.sin, x, x, engine=engine)
    with pytest.raises(ImportError, match=re.escape(message)):
        bs.linearize(jnp.sin, x).factored(engine=engine)


def test_an_unsymmetric_matrix_is_refused_by_cholmod():
    """Before anything is asked of the package."""
    A = DEFINITE.copy()
    A[2, 5] += 0.5
    message = "needs a symmetric matrix, but the entry of {} and {} is .* and its mirror image .* 'umfpack' or 'klu'"
    with pytest.raises(ValueError, match=message.format("row 2, entry 1 of 4", "node 0, entry 2 of 3")):
        factored(*in_blocks(A, rows=SIZES, cols=SIZES), "cholmod")
    by = np.random.default_rng(1).permutation(10)
    layout, data = in_blocks(A[by])
    row = f"row 0, entry {np.argsort(by)[5]} of 10"
    with pytest.raises(ValueError, match=message.format(row, "node 0, entry 2 of 10")):
        factored(replace(layout, mates=by), data, "cholmod")
    with pytest.raises(SingularError, match="the pivot of node 0, entry 1 of 3 is not positive"):
        factored(*in_blocks(np.diag([1.0, 0.0, 1.0])), "cholmod")
