"""A program as the matrices M, L and S, and what is solved with them."""
