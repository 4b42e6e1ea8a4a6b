"""A JAX function as a `System`."""

from .linearize import linearize as linearize
from .linearize import linearize_with_aux as linearize_with_aux
