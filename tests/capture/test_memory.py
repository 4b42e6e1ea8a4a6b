"""What does not fit is refused with its bytes, and what is admitted fits: in processes of limited address space."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, resource, time, warnings
import jax, jax.numpy as jnp, numpy as np
from jax import lax
import backsolve as bs
from backsolve.algebra.spaces import PatternTooLargeError, available_memory

jax.config.update("jax_enable_x64", True)
jax.grad(lambda x: jnp.sum(x**2))(jnp.ones(3))  # what JAX maps for itself
warnings.simplefilter("ignore")
_, most = resource.getrlimit(resource.RLIMIT_AS)

def attempt(wrap):
    gc.collect()
    for _ in range(100):  # JAX's threads may still give back what they had mapped: until none does
        mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + {room}, most))
        time.sleep(0.01)
        if available_memory() <= {room}:
            break
    assert available_memory() <= {room}

    def heat(u):
        def step(u, _):
            return u + 0.1 * (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) + 0.01 * jnp.sin(u), None
        return lax.scan(step, u, None, length={n} // 2 + 1)[0]  # closes to all entries

    try:
        J = wrap(bs.jacobian(heat, format="sparse"))(jnp.ones({n}))
        assert J.nnz == {n}**2 and bool(jnp.isfinite(J.data).all())
        print("done")
    except PatternTooLargeError as error:
        print("refused", error)

for wrap in ({wraps}):
    attempt(wrap)
"""


def outcomes(n, room, *wraps):
    """What a process tells that has room for so many bytes beside what is mapped, with each wrapper one after the other."""
    code = PROGRAM.format(n=n, room=room, wraps="".join(f"{wrap}, " for wrap in wraps))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout.splitlines()
    assert len(told) == len(wraps)
    return told


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
@pytest.mark.parametrize("room", [100_000_000, 200_000_000, 400_000_000, 800_000_000])
def test_a_loop_that_fills_up(room):
    """With 1,000 numbers that a loop joins all to all: a million entries, of some 150 bytes each; eagerly and under jit."""
    for told in outcomes(1000, room, "lambda J: J", "jax.jit"):
        if room == 100_000_000:
            assert told.startswith("refused")
        if told.startswith("refused"):
            assert "the matrix (1000 × 1000) of scan (<string>" in told
            assert "bytes while planning" in told
        if room == 800_000_000:
            assert told == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_twenty_thousand_numbers_are_refused_at_once():
    (told,) = outcomes(20_000, 8_000_000_000, "jax.jit")
    assert told.startswith("refused the matrix (20000 × 20000) of scan (<string>:26")
    assert "400,000,000 entries" in told
