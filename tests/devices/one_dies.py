"""One of two processes, of which number 1 is killed after the first Jacobian.

`python -m tests.devices.one_dies NUMBER PORT FOLDER [SECONDS]`: number 0 writes to FOLDER what it has before and after that;
the second cannot be had.  SECONDS: how long one waits for the other one at the beginning.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import backsolve as bs

from ..quick import compilation
from .one_of_several import N, stencil


def loss(w, x):
    """Of one number an example."""
    return jnp.mean((w[0] * x + w[1] - jnp.sin(x)) ** 2)


def main(number: int, port: int, folder: Path, patience: int) -> None:
    """A Jacobian and a gradient of spread data, of which the second needs the one that has died."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = f"127.0.0.1:{port}"
    jax.distributed.initialize(address, 2, number, initialization_timeout=patience, heartbeat_timeout_seconds=10)
    with compilation(quick=True):
        derivatives(number, folder)


def derivatives(number: int, folder: Path) -> None:
    """First both, then those that need the process that has died."""
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("i",)), PartitionSpec("i"))
    full = np.arange(N, dtype=np.float32) / N
    x = jax.make_array_from_callback((N,), spread, lambda index: full[index])
    J, slope = jax.jit(bs.jacobian(stencil, format="sparse")), jax.jit(bs.grad(loss))
    w = np.array([0.3, -0.2], np.float32)
    first = J(x).to_scipy(), np.asarray(slope(w, x))
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    np.save(folder / "before.npy", first[1])
    for _ in range(1000):
        second = J(2 * x).to_scipy(), np.asarray(slope(w, x))
    np.save(folder / "after.npy", second[1])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int((sys.argv[4:] or [200])[0]))
