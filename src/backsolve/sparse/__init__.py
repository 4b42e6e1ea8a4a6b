"""Linear operators with a sparsity pattern, and the sparse matrices a user gets."""

from backsolve.sparse.matrix import SparseMatrix as SparseMatrix
from backsolve.sparse.operator import Sparse as Sparse
from backsolve.sparse.operator import as_sparse as as_sparse
from backsolve.sparse.operator import sparse as sparse
