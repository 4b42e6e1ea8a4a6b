"""Hypothesis profiles, how tests compile, double precision, how often garbage is looked for, and where frames lie.

The profile "ci" is Hypothesis's own and gives the same examples in every run; "fresh" others in each.
"""

import gc
import os

import jax
import pytest
from hypothesis import settings

from .quick import compilation

# Without a folder for a cache on disk JAX works out the key of every module all the same.
jax.config.update("jax_enable_compilation_cache", False)
settings.register_profile("fresh", settings.get_profile("ci"), derandomize=False, print_blob=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Garbage is looked for after collecting, once: what is there by then stays.  Tracing leaves few circles."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)
        gc.enable()


def _with_room(function, arguments):
    """The function called from a frame of a megabyte, behind which the frames of all it calls find room.

    CPython keeps frames in chunks of 16 KB, and gives a chunk back to the system as soon as the first frame in it returns:
    where a loop happens to call from the end of one, every call is a mmap and a munmap, some 15 % of the time of JAX's
    deep stacks.
    """
    return function(**arguments)


_with_room.__code__ = _with_room.__code__.replace(co_stacksize=1 << 17)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Each test with room for its frames."""
    test = pyfuncitem.obj
    pyfuncitem.obj = lambda **arguments: _with_room(test, arguments)
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def _quick_compilation():
    """Programs compile quickly (tests/quick.py says what that leaves out), but for tests that ask for all optimisations.

    With BACKSOLVE_OPTIMIZED=1 all compile as a user's do: so does `make matrix` on the newest JAX.
    """
    with compilation(quick=not os.environ.get("BACKSOLVE_OPTIMIZED")):
        yield


@pytest.fixture
def as_users_compile():
    """All optimisations."""
    with compilation(quick=False):
        yield


@pytest.fixture
def double_precision():
    """Double precision."""
    with jax.enable_x64(True):
        yield
