"""backsolve: programs as triangular matrices of operators, derivatives as back substitution.

What one does with it, `import backsolve as bs`:

- derivatives of a JAX function, as with `jax`: ``bs.grad(f)(x)``, ``bs.jacobian(f)(x)``, ``bs.hessian(f)(x)``;
- sparse ones, their pattern found while tracing: ``bs.jacobian(f, format="sparse")(x)``, ``bs.sparsity(f, x)``;
- solve with them, nothing inverted: ``bs.solve_jacobian``, ``bs.inverse_hvp``, ``bs.newton``, ``bs.root``;
- see the program: ``bs.linearize(f, x).show()`` draws graph and matrix, ``bs.explain(f, x)`` tells of them;
- choose the order of elimination, and what it costs: ``print(bs.plan(f, x))``, ``bs.jacobian(f, order=plan)``;
- write the matrices by hand, of numbers, symbols or operators: ``bs.matrix``, ``bs.solve``, ``bs.Graph``, ``bs.System``.

`dir(backsolve)` has all the names.  ``backsolve.extend`` takes rules of one's own, ``backsolve.testing`` checks them,
``backsolve.algebra`` has semirings, ``backsolve.interop`` IPOPT, lineax and PETSc; each is imported by its name.
"""

import importlib as _importlib
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from backsolve.after_jax import once_jax_is_there as _once_jax_is_there
from backsolve.algebra.elements import AlgebraError as AlgebraError
from backsolve.algebra.elements import SingularError as SingularError
from backsolve.display import IMPORTS as _IMPORTS
from backsolve.elimination.paths import Graph as Graph
from backsolve.matrices.build import bidiagonal as bidiagonal
from backsolve.matrices.build import column as column
from backsolve.matrices.build import diagonal as diagonal
from backsolve.matrices.build import matrix as matrix
from backsolve.matrices.build import row as row
from backsolve.matrices.build import vector as vector
from backsolve.matrices.matrix import OperatorMatrix as OperatorMatrix
from backsolve.matrices.solve import CycleError as CycleError
from backsolve.matrices.solve import solve as solve
from backsolve.matrices.solve import substitute as substitute
from backsolve.matrices.vector import BlockVector as BlockVector
from backsolve.operators import I as I
from backsolve.operators import LinearOperator as LinearOperator
from backsolve.operators import O as O
from backsolve.operators import SpaceError as SpaceError
from backsolve.operators import hadamard as hadamard
from backsolve.operators import kron as kron
from backsolve.operators import left_mul as left_mul
from backsolve.operators import linear_map as linear_map
from backsolve.operators import right_mul as right_mul
from backsolve.operators import tdot as tdot
from backsolve.planning.plan import Plan as Plan
from backsolve.sparse.matrix import SparseMatrix as SparseMatrix
from backsolve.system.system import System as System
from backsolve.transforms.history import ConvergenceError as ConvergenceError
from backsolve.transforms.history import Solution as Solution

if _TYPE_CHECKING:
    from backsolve.capture import linearize as linearize
    from backsolve.transforms.derivatives import grad as grad
    from backsolve.transforms.derivatives import jacobian as jacobian
    from backsolve.transforms.derivatives import plan as plan
    from backsolve.transforms.derivatives import sparsity as sparsity
    from backsolve.transforms.derivatives import value_and_grad as value_and_grad
    from backsolve.transforms.derivatives import value_and_jacobian as value_and_jacobian
    from backsolve.transforms.explain import explain as explain
    from backsolve.transforms.hessians import hessian as hessian
    from backsolve.transforms.hessians import value_grad_and_hessian as value_grad_and_hessian
    from backsolve.transforms.implicit import fixed_point as fixed_point
    from backsolve.transforms.implicit import root as root
    from backsolve.transforms.newton import gauss_newton as gauss_newton
    from backsolve.transforms.newton import minimize_newton as minimize_newton
    from backsolve.transforms.newton import newton as newton
    from backsolve.transforms.products import hvp as hvp
    from backsolve.transforms.products import jvp as jvp
    from backsolve.transforms.products import vjp as vjp
    from backsolve.transforms.solve import inverse_hvp as inverse_hvp
    from backsolve.transforms.solve import solve_jacobian as solve_jacobian

__version__ = "0.1.0"

# What needs JAX is imported when it is first asked for, so that the core does without.
_NEEDS_JAX = {
    "linearize": "capture",
    "explain": "transforms.explain",
    **dict.fromkeys(("inverse_hvp", "solve_jacobian"), "transforms.solve"),
    **dict.fromkeys(("gauss_newton", "minimize_newton", "newton"), "transforms.newton"),
    **dict.fromkeys(("fixed_point", "root"), "transforms.implicit"),
    **dict.fromkeys(("grad", "jacobian", "plan", "sparsity"), "transforms.derivatives"),
    **dict.fromkeys(("value_and_grad", "value_and_jacobian"), "transforms.derivatives"),
    **dict.fromkeys(("hessian", "value_grad_and_hessian"), "transforms.hessians"),
    **dict.fromkeys(("hvp", "jvp", "vjp"), "transforms.products"),
}


def __getattr__(name: str) -> _Any:
    if name not in _NEEDS_JAX:
        raise AttributeError(f"module 'backsolve' has no attribute {name!r}")
    value = getattr(_importlib.import_module(f".{_NEEDS_JAX[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names: what has been imported of the package besides is no part of them."""
    here = {name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)}
    return sorted({*here, *_NEEDS_JAX, "__version__"})


_IMPORTS.append(lambda: _importlib.import_module(".show", __name__))

_once_jax_is_there(f"{__name__}.capture")  # operators cross jit, vmap and grad as pytrees
