"""Engines that solve with a square matrix in sparse blocks; none knows what a derivative is."""

from .choose import ENGINES as ENGINES
from .choose import factored as factored
