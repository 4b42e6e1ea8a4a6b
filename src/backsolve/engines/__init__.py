"""Engines that solve with a square matrix in sparse blocks; none knows what a derivative is."""

from .choose import ENGINES as ENGINES
from .choose import FORMED as FORMED
from .choose import TRACED as TRACED
from .choose import factored as factored
from .choose import require_package as require_package
