"""Primitive → one operator per operand."""

from backsolve.capture.primitives.table import RULES as RULES
from backsolve.capture.primitives.table import Rule as Rule
from backsolve.capture.primitives.table import add_rule as add_rule
