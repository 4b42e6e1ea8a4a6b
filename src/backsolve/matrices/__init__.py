"""Matrices and vectors of elements of any kind, and the backslash."""
