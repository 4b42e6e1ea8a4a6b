"""Combustion in a cube by PETSc: its Newton and Krylov methods with our sparse Jacobian, on one process or on several.

`python examples/bratu.py`, or `mpiexec -n 2 python examples/bratu.py`; what follows goes to PETSc: `-snes_monitor`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import petsc4py
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from matplotlib.figure import Figure

from backsolve.interop import petsc

try:
    from common import timed, watched
except ImportError:  # imported as a module, by the tests
    from .common import timed, watched

STRENGTH = 6.0  # close to 9.9, above which there is no solution
WAYS: dict[str, dict[str, Any]] = {
    "sparse Jacobian, multigrid": {"ksp_type": "cg", "pc_type": "gamg"},
    "sparse Jacobian, incomplete LU": {"ksp_type": "gmres", "pc_type": "bjacobi"},
    "no Jacobian": {"snes_mf": None, "ksp_type": "gmres"},
}
SHARED = {"ksp_rtol": 1e-3, "ksp_max_it": 2000}  # of the linear solvers


def bratu(u: Any, strength: Any) -> Any:
    """−∇²u − strength · exp(u) in the unit cube, by central differences times h²; u is zero around it."""
    v = jnp.pad(u, 1)
    around = v[2:, 1:-1, 1:-1] + v[:-2, 1:-1, 1:-1] + v[1:-1, 2:, 1:-1] + v[1:-1, :-2, 1:-1]
    around += v[1:-1, 1:-1, 2:] + v[1:-1, 1:-1, :-2]
    return 6 * u - around - strength * jnp.exp(u) / (u.shape[0] + 1) ** 2


def nothing(side: int) -> Any:
    """Zeros in side³ inner points, spread over all devices by their first axis.

    An automatic one: with the zeros around it, the cube is not divisible by the devices, which explicit axes ask for.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    return jax.make_array_from_callback((side,) * 3, sharding, lambda index: np.zeros((side,) * 3)[index])


def run(*, small: bool = False, output: Path | None = Path("bratu.png")) -> dict[str, Any]:
    """Find the temperature, print how PETSc gets there, and draw it."""
    side = 12 if small else 48
    first = jax.process_index() == 0
    say = print if first else lambda *_, **__: None
    with jax.enable_x64(True):
        say(f"{side}³ = {side**3:,} unknowns on {jax.process_count()} processes:")
        found = {}
        for name, options in WAYS.items():
            solver, preparing = timed(
                lambda options=options: petsc.snes(bratu, nothing(side), STRENGTH, options=SHARED | options)
            )
            found[name], seconds = timed(solver.solve)
            iterations = sum(found[name].history["linear iterations"])
            say(
                f"  {name:<31}{seconds:7.2f} s, and {preparing:.2f} s to compile; {found[name].steps} steps, "
                f"{iterations:,.0f} linear iterations",
                flush=True,
            )
        way = next(iter(WAYS))
        say(f"{way}:\n{found[way].history}")
        whole = jax.jit(lambda u: u, out_shardings=NamedSharding(found[way].x.sharding.mesh, PartitionSpec()))
        u = np.asarray(whole(found[way].x))  # gathered, to be drawn
    say(f"highest temperature {u.max():.6f}")
    if first and output is not None:
        picture(u, found).savefig(output, dpi=130)
    return found | {"u": u}


def picture(u: Any, found: dict[str, Any]) -> Figure:
    """The middle plane, and ‖F‖ by the linear iterations so far."""
    figure = Figure(figsize=(8.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shades = left.imshow(u[len(u) // 2], origin="lower", extent=(0, 1, 0, 1), cmap="inferno")
    figure.colorbar(shades, ax=left, label="temperature u in the middle plane")
    for name in WAYS:
        history = found[name].history
        right.semilogy(np.cumsum(history["linear iterations"]), history["‖F‖"], "o-", label=name)
    right.set(xlabel="linear iterations", ylabel="‖F‖", xscale="symlog")
    right.legend(frameon=False, fontsize=8)
    right.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Run it from the command line, on every process that mpiexec has started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small problem, in seconds")
    parser.add_argument("-o", "--output", type=Path, default=Path("bratu.png"), help="the picture (default: bratu.png)")
    arguments, options = parser.parse_known_args()
    petsc4py.init([sys.argv[0], *options])
    from petsc4py import PETSc

    if PETSc.COMM_WORLD.getSize() > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize()  # finds the others by what mpiexec has told each
    with watched("bratu"):
        run(small=arguments.small, output=arguments.output)
    if jax.process_index() == 0:
        print(f"The picture is {arguments.output}")


if __name__ == "__main__":
    main()
