"""Linear operators with a sparsity pattern, and the sparse matrices a user gets."""
