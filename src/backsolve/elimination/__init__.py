"""Vertex elimination on a graph of linear operators, in whatever order."""
