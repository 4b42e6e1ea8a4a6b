"""Linear operators: the contract, its kinds, and what + and @ of two kinds give."""

from backsolve.algebra.spaces import ArraySpace as ArraySpace
from backsolve.algebra.spaces import Space as Space
from backsolve.algebra.spaces import SpaceError as SpaceError
from backsolve.algebra.spaces import TupleSpace as TupleSpace
from backsolve.operators import closed_form as _closed_form  # noqa: F401
from backsolve.operators import inverse as _inverse  # noqa: F401  (fills the tables of `dispatch`, as the next two do)
from backsolve.operators import measures as _measures  # noqa: F401
from backsolve.operators.base import Identity as Identity
from backsolve.operators.base import LinearOperator as LinearOperator
from backsolve.operators.base import Scaling as Scaling
from backsolve.operators.base import Zero as Zero
from backsolve.operators.constructors import I as I
from backsolve.operators.constructors import O as O
from backsolve.operators.constructors import hadamard as hadamard
from backsolve.operators.constructors import kron as kron
from backsolve.operators.constructors import left_mul as left_mul
from backsolve.operators.constructors import linear_map as linear_map
from backsolve.operators.constructors import right_mul as right_mul
from backsolve.operators.constructors import tdot as tdot
from backsolve.operators.einsum import Einsum as Einsum
from backsolve.operators.einsum import einsum as einsum
from backsolve.operators.lazy import Product as Product
from backsolve.operators.lazy import Sum as Sum
from backsolve.operators.linear_map import LinearMap as LinearMap
