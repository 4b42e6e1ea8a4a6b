"""A JAX function as a `System`."""

from backsolve.capture import adapter as _adapter  # noqa: F401  (registers how JAX does the arrays' operations)
from backsolve.capture import primitives as _primitives  # noqa: F401  (fills the table of primitives)
from backsolve.capture.linearized import Traced as Traced
from backsolve.capture.linearized import linearize as linearize
from backsolve.capture.linearized import linearize_with_aux as linearize_with_aux
from backsolve.capture.linearized import traced as traced
