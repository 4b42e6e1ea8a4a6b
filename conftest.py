"""The examples in the docstrings of `backsolve.interop.petsc` are left out where there is no PETSc."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("petsc4py") else ["src/backsolve/interop/petsc.py"]
