"""Every test in this folder runs in double precision; other folders in the same process do not."""

import pytest


@pytest.fixture(autouse=True)
def _double_precision(double_precision):
    """What the fixture of that name does, here without asking."""
