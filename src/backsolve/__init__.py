"""backsolve: programs as triangular matrices of operators, derivatives as back substitution.

See `backsolve.matrix`, `backsolve.solve`, `backsolve.Graph` and `backsolve.System`; the README has the paper's example.
"""

import importlib as _importlib
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from .algebra import AlgebraError as AlgebraError
from .algebra import SingularError as SingularError
from .blocks import BlockVector as BlockVector
from .build import bidiagonal as bidiagonal
from .build import column as column
from .build import diagonal as diagonal
from .build import matrix as matrix
from .build import row as row
from .build import vector as vector
from .graph import Graph as Graph
from .history import ConvergenceError as ConvergenceError
from .history import Solution as Solution
from .matrix import OperatorMatrix as OperatorMatrix
from .operators import I as I
from .operators import LinearOperator as LinearOperator
from .operators import O as O
from .operators import SpaceError as SpaceError
from .operators import hadamard as hadamard
from .operators import kron as kron
from .operators import left_mul as left_mul
from .operators import linear_map as linear_map
from .operators import right_mul as right_mul
from .operators import tdot as tdot
from .solve import CycleError as CycleError
from .solve import solve as solve
from .solve import substitute as substitute
from .sparse_matrix import SparseMatrix as SparseMatrix
from .system import System as System

if _TYPE_CHECKING:
    from .capture import linearize as linearize
    from .implicit import fixed_point as fixed_point
    from .implicit import root as root
    from .optimize import gauss_newton as gauss_newton
    from .optimize import minimize_newton as minimize_newton
    from .optimize import newton as newton
    from .solvers import inverse_hvp as inverse_hvp
    from .solvers import solve_jacobian as solve_jacobian
    from .transforms import grad as grad
    from .transforms import hessian as hessian
    from .transforms import hvp as hvp
    from .transforms import jacobian as jacobian
    from .transforms import jvp as jvp
    from .transforms import plan as plan
    from .transforms import sparsity as sparsity
    from .transforms import value_and_grad as value_and_grad
    from .transforms import vjp as vjp

__version__ = "0.1.0"

# What needs JAX is imported when it is first asked for, so that the core does without.
_NEEDS_JAX = {
    "linearize": "capture",
    **dict.fromkeys(("inverse_hvp", "solve_jacobian"), "solvers"),
    **dict.fromkeys(("gauss_newton", "minimize_newton", "newton"), "optimize"),
    **dict.fromkeys(("fixed_point", "root"), "implicit"),
    **dict.fromkeys(("grad", "hessian", "hvp", "jacobian", "jvp", "plan"), "transforms"),
    **dict.fromkeys(("sparsity", "value_and_grad", "vjp"), "transforms"),
}


def __getattr__(name: str) -> _Any:
    if name not in _NEEDS_JAX:
        raise AttributeError(f"module 'backsolve' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f".{_NEEDS_JAX[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NEEDS_JAX})


if "jax" in _sys.modules:  # operators cross jit, vmap and grad as pytrees
    _importlib.import_module(".capture", __name__)
