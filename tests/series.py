"""Which JAX the tests run with, and what of it differs from series to series: the one file of the tests that asks."""

import jax
import pytest

from backsolve.tracing.series import NEWEST, OLDEST, SERIES

__all__ = ["NEWEST", "OLDEST", "SERIES", "primitive_of", "since", "until", "why_not"]


def since(*first, because):
    """Mark a test of what JAX has only since this series."""
    text = ".".join(map(str, first))
    return pytest.mark.skipif(first > SERIES, reason=f"since JAX {text}: {because} (this is {jax.__version__})")


def until(*last, because):
    """Mark a test of what JAX has only until this series."""
    text = ".".join(map(str, last))
    return pytest.mark.skipif(SERIES[: len(last)] > last, reason=f"until JAX {text}: {because} (this is {jax.__version__})")


NEW = "JAX had no such primitive before"
# Cases of the zoo of primitives, by their names, that JAX can do only since, or until, a series.
SINCE = {
    "tile-0": ((0, 9), NEW),
    "pvary-0": ((0, 8, 1), "JAX had no pcast before"),
    "slice-3": ((0, 9), "JAX gathered before"),
    "dot_general-11": ((0, 9), "JAX's own transposition cast complex numbers to real ones, with a warning"),
    "conv_general_dilated-8": ((0, 10), "JAX's own transposition mixed precisions, which it refused"),
    "stack-0": ((0, 10, 1), NEW),
    "unstack-0": ((0, 10, 1), NEW),
    "mulhi-0": ((0, 10, 2), NEW),
    "log2-0": ((0, 11, 2), NEW),
    "log2-1": ((0, 11, 2), NEW),
    "one_minus_square-0": ((0, 11, 2), NEW),
    **{f"polynomial-{number}": ((0, 12), NEW) for number in range(5)},
    **{f"unstack-{number}": ((0, 11), "JAX took an array to pieces by slices before") for number in range(1, 4)},
}
UNTIL = {
    "max-4": ((0, 10), "JAX's own derivative of the larger one of two complex numbers raises"),
}
EAGER = {"asinh-1": ((0, 11), "JAX's own derivative at a Python number raises outside of jit")}
# Cases that are made of another primitive since a series.
OTHERS = {
    "custom_jvp_call-4": ((0, 11), "call_hi_primitive"),
    "custom_jvp_call-6": ((0, 11), "jit"),
}


def why_not(case, *, eager=False):
    """Marks of a case of the zoo of primitives that this JAX cannot do, or not outside of jit."""
    last = UNTIL | EAGER if eager else UNTIL
    marks = [since(*SINCE[case][0], because=SINCE[case][1])] if case in SINCE else []
    return marks + ([until(*last[case][0], because=last[case][1])] if case in last else [])


def primitive_of(case):
    """The primitive that a case of the zoo is made of."""
    first, other = OTHERS.get(case, (SERIES, None))
    return other if other and first <= SERIES else case.rpartition("-")[0]
