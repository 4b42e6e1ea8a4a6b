"""Primitive → one operator per operand."""

from .table import RULES as RULES
from .table import Rule as Rule
from .table import add_rule as add_rule
