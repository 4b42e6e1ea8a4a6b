"""Linear operators: the contract, its kinds, and what + and @ of two kinds give."""

from .as_sparse import as_sparse as as_sparse
from .base import LinearOperator as LinearOperator
from .einsum import Einsum as Einsum
from .einsum import einsum as einsum
from .lazy import Product as Product
from .lazy import Sum as Sum
from .linear_map import LinearMap as LinearMap
from .paper import I as I
from .paper import O as O
from .paper import hadamard as hadamard
from .paper import kron as kron
from .paper import left_mul as left_mul
from .paper import linear_map as linear_map
from .paper import right_mul as right_mul
from .paper import tdot as tdot
from .spaces import ArraySpace as ArraySpace
from .spaces import Space as Space
from .spaces import SpaceError as SpaceError
from .spaces import TupleSpace as TupleSpace
from .sparse import Sparse as Sparse
from .sparse import sparse as sparse
from .trivial import Identity as Identity
from .trivial import Scaling as Scaling
from .trivial import Zero as Zero
