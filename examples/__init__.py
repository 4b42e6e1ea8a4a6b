"""Sparse derivatives in SciPy's solvers."""
