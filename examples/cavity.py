"""The steady flow in a cavity by `scipy.optimize.root`, with its sparse Jacobian, or that factored as a preconditioner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import root
from scipy.sparse.linalg import LinearOperator, splu

import backsolve

try:
    from common import command_line, compared
except ImportError:  # imported as a module, by the tests
    from .common import command_line, compared

REYNOLDS = 400.0
TOLERANCE = 1e-9


def imbalance(side: int) -> Callable[[Any], Any]:
    """What is wrong with a flow in the unit square below a sliding lid, given its stream function at side² inner points.

    It is ∇⁴ψ = Re (ψ_y ∇²ψ_x − ψ_x ∇²ψ_y) by central differences, times h⁴; at walls ψ is 0, and ψ_y is 1 along the lid.
    """
    h = 1.0 / (side + 1)

    def laplacian(u: Any) -> Any:
        return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1]

    def along_x(u: Any) -> Any:
        return u[2:, 1:-1] - u[:-2, 1:-1]

    def along_y(u: Any) -> Any:
        return u[1:-1, 2:] - u[1:-1, :-2]

    def residual(psi: Any) -> Any:
        psi = jnp.pad(psi.reshape(side, side), 1)  # x along the first axis, y along the second
        w = jnp.pad(laplacian(psi), 1)
        w = w.at[0].set(2 * psi[1]).at[-1].set(2 * psi[-2])  # a wall's neighbour outside is the one inside: no slip
        w = w.at[:, 0].set(2 * psi[:, 1]).at[:, -1].set(2 * psi[:, -2] + 2 * h)
        carried = along_y(psi) * along_x(w) - along_x(psi) * along_y(w)
        return (laplacian(w) - REYNOLDS / 4 * carried).reshape(-1)

    return residual


class Factored(LinearOperator):  # type: ignore[misc]
    """The inverse of a Jacobian, made anew by ``factor`` where SciPy asks to: at first, and after every step."""

    def __init__(self, n: int, factor: Callable[[Any], Callable[[Any], Any]]) -> None:
        super().__init__(np.dtype(float), (n, n))
        self.factor = factor

    def setup(self, x: Any, f: Any, func: Any) -> None:
        """SciPy's call before the first step."""
        self.update(x, f)

    def update(self, x: Any, f: Any) -> None:
        """SciPy's call after a step."""
        self.solve = self.factor(x)

    def _matvec(self, v: Any) -> Any:
        return self.solve(v)


def functions(side: int, jacobian: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any] | None, Any]:
    """The compiled imbalance, its "sparse" or "dense" Jacobian or "none", and a start at rest."""
    residual, start = imbalance(side), np.zeros(side**2)
    f, jac = jax.jit(residual), None
    if jacobian == "sparse":
        sparse = jax.jit(backsolve.jacobian(residual, format="sparse"))
        jac = lambda psi: sparse(psi).to_scipy()  # noqa: E731
    elif jacobian == "dense":
        dense = jax.jit(jax.jacfwd(residual))
        jac = lambda psi: np.asarray(dense(psi))  # noqa: E731
    f(start), None if jac is None else jac(start)  # compiled here
    return lambda psi: np.asarray(f(psi)), jac, start


def hybrid(side: int, jacobian: str) -> Callable[[], Any]:
    """Powell's method, which takes and factors a dense matrix: sparse is only how its numbers are found."""
    f, jac, start = functions(side, jacobian)
    given = (lambda psi: jac(psi).toarray()) if jac is not None and jacobian == "sparse" else jac
    return lambda: root(f, start, jac=given, method="hybr", options={"xtol": TOLERANCE})


def krylov(side: int, jacobian: str, steps: int = 400) -> Callable[[], Any]:
    """Newton's method with an iterative solver, preconditioned by the factors of the Jacobian where there is one."""
    f, jac, start = functions(side, jacobian)
    options: dict[str, Any] = {"fatol": TOLERANCE, "maxiter": steps}
    if jac is not None:

        def factor(psi: Any) -> Callable[[Any], Any]:
            if jacobian == "dense":
                return partial(lu_solve, lu_factor(jac(psi)))
            solve: Callable[[Any], Any] = splu(jac(psi).tocsc()).solve
            return solve

        options["jac_options"] = {"inner_M": Factored(start.size, factor)}

    def solve() -> Any:
        sizes = [np.abs(f(start)).max()]
        found = root(f, start, method="krylov", options=options, callback=lambda _, f: sizes.append(np.abs(f).max()))
        found.sizes = np.array(sizes)
        return found

    return solve


def run(*, small: bool = False, output: Path = Path("cavity.png")) -> dict[str, Any]:
    """Find the flow, print the gain of the sparse Jacobian, and draw the flow and the way to it."""
    few, middle, side, steps = (8, 12, 20, 100) if small else (24, 32, 127, 400)
    kinds = "sparse", "dense", "none"
    with jax.enable_x64(True):
        found = compared(f"hybr, {few}² = {few**2:,} unknowns, Jacobian", {k: partial(hybrid, few, k) for k in kinds})
        print("  calls of the function: " + ", ".join(f"{kind} {result.nfev:,}" for kind, result in found.items()))
        inner = with_krylov(middle, kinds, steps)
        large = with_krylov(side, ("sparse", "none"), steps)
        n, pattern = side**2, backsolve.sparsity(imbalance(side), np.zeros(side**2))
    print(f"  {pattern.nnz:,} non-zeros; dense: {8 * n * n:,} bytes; least ψ {large['sparse'].x.min():.4f}")
    picture(large).savefig(output, dpi=130)
    return {"small": found, "middle": inner, "large": large}


def with_krylov(side: int, kinds: Sequence[str], steps: int) -> dict[str, Any]:
    """The flows by `krylov` with preconditioners of these kinds, and how many steps each took."""
    what = f"krylov, {side}² = {side**2:,} unknowns, preconditioner"
    found = compared(what, {kind: partial(krylov, side, kind, steps) for kind in kinds})
    ends = (f"{kind} {r.nit}{'' if r.success else f' and not there: {r.sizes[-1]:.0e}'}" for kind, r in found.items())
    print(f"  steps to {TOLERANCE:.0e}: {', '.join(ends)}")
    return found


def picture(flows: dict[str, Any]) -> Figure:
    """Stream lines over the speed, and what is out of balance after every step."""
    side = round(flows["sparse"].x.size ** 0.5)
    psi, x = np.pad(flows["sparse"].x.reshape(side, side), 1), np.linspace(0, 1, side + 2)
    along, up = np.gradient(psi, x, x)[::-1]
    along[:, -1] = 1.0  # the lid's speed
    figure = Figure(figsize=(8.6, 4), layout="constrained")
    ax, right = figure.subplots(1, 2)
    shades = ax.imshow(np.hypot(along, up).T, origin="lower", extent=(0, 1, 0, 1), cmap="Blues", vmax=0.8)
    figure.colorbar(shades, ax=ax, shrink=0.85, label="speed", extend="max")
    least, most = psi.min(), psi.max()
    levels = [
        *np.linspace(least, 0, 12)[1:-1],
        *(least * np.geomspace(1e-4, 3e-2, 3))[::-1],
        *(most * np.array([0.01, 0.05, 0.4])),
    ]
    ax.contour(x, x, psi.T, sorted(set(levels)), colors="black", linewidths=0.7, linestyles="solid")
    ax.set(title=f"below a lid that slides at speed 1, Re = {REYNOLDS:g}", xticks=[0, 1], yticks=[0, 1])
    for (kind, flow), colour in zip(flows.items(), ("tab:blue", "tab:red"), strict=True):
        right.loglog(np.arange(1, flow.sizes.size + 1), flow.sizes, color=colour, label=kind)
    right.axhline(TOLERANCE, color="0.6", linewidth=0.8, linestyle="--")
    right.set(title=f"imbalance, {side}² unknowns", xlabel="step")
    right.legend(title="preconditioner", frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    command_line(run, "cavity.png")
