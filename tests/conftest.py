"""Hypothesis profiles, and the fixture that most tests of JAX functions use.

The profile "ci" is Hypothesis's own and gives the same examples in every run; "fresh" others in each.
"""

import jax
import pytest
from hypothesis import settings

from .quick import compilation

settings.register_profile("fresh", settings.get_profile("ci"), derandomize=False, print_blob=True)


@pytest.fixture
def double_precision():
    """Double precision, compiled quickly."""
    with compilation(quick=True), jax.enable_x64(True):
        yield
