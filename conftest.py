"""What is not collected: programs that tests run in processes of their own, and examples of what is not installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("petsc4py") else ["src/backsolve/interop/petsc.py"]
collect_ignore_glob = ["tests/devices/one_*.py", "tests/interop/on_ranks.py"]
