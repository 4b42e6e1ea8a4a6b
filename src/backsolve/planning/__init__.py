"""Which vertex to eliminate next, and what it costs."""
