"""Programs as calls of NumPy, number by number: nothing to compile."""
