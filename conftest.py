"""What is not collected: programs that tests run in processes of their own, and examples of what is not installed.

And one thread for linear algebra, in this process and those that it starts, before NumPy is imported: where the tests run on
every core already, further threads of OpenBLAS wait for each other in loops, which take most of the CPU time.
"""

import os
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore = [] if find_spec("petsc4py") else ["src/backsolve/interop/petsc.py"]
collect_ignore_glob = ["tests/devices/one_*.py", "tests/interop/on_ranks.py"]
