"""backsolve: programs as triangular matrices of operators, derivatives as back substitution.

See `backsolve.matrix`, `backsolve.solve`, `backsolve.Graph` and `backsolve.System`; the README has the paper's example.
"""

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
from .system import System as System

__version__ = "0.1.0"
