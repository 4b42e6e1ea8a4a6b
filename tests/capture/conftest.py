"""Every test in this folder runs in double precision and compiles quickly; other folders in the same process do not."""

import jax
import pytest


@pytest.fixture(autouse=True)
def double_precision():
    quick = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)
