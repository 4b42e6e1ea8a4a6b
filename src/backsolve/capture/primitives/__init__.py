"""One record a primitive: the operator of its edge, its kind, how NumPy computes it."""

from backsolve.capture.primitives.table import add_rule as add_rule
