"""JAX's internals: the only place that knows them."""
