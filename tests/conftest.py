"""Hypothesis profiles, the fixture that most tests of JAX functions use, and how often garbage is looked for.

The profile "ci" is Hypothesis's own and gives the same examples in every run; "fresh" others in each.
"""

import gc

import jax
import pytest
from hypothesis import settings

from .quick import compilation

settings.register_profile("fresh", settings.get_profile("ci"), derandomize=False, print_blob=True)


def pytest_collection_finish():
    """What is there by now stays, and need not be looked through again; tracing allocates much and leaves few circles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def double_precision():
    """Double precision, compiled quickly."""
    with compilation(quick=True), jax.enable_x64(True):
        yield
