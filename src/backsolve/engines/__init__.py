"""Engines that solve with a square matrix in sparse blocks; none knows what a derivative is."""

from backsolve.engines.choose import ENGINES as ENGINES
from backsolve.engines.choose import FORMED as FORMED
from backsolve.engines.choose import TRACED as TRACED
from backsolve.engines.choose import factored as factored
from backsolve.engines.choose import require_package as require_package
