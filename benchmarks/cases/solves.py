"""Solving with derivatives: inverse-Hessian products of deep nets, and Newton steps of optimal control."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import LinearOperator, cg, minres, splu

import backsolve
from backsolve.transforms.repeated import Repeated
from benchmarks.machine import cores
from benchmarks.models.solve_models import Control, Net, net
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section, Target, optional

TITLE = "Solving with derivatives"
DEPTHS = (4, 16, 64, 256, 1024)
COMPARED = 64  # layers at which others solve too
KNOTS = (300, 1_000, 3_000, 10_000)
DENSE = 300  # knots up to which the dense step is tried
INDEFINITE, DEFINITE = 0.1, 50.0  # damping: the lowest eigenvalue at 64 layers is -36, the highest 47
EXACT = 1e-6  # difference of direct answers, relative, where the condition may be 1e4
ITERATED = 1e-10  # residual that Krylov's methods are asked for
TEXT = (
    "In float64; a stage is a layer or a knot. Nets: tanh, 8 wide, orthogonal weights, one data point; (∇²f + damping I) u "
    "= b, parameters in a list or in one vector. Prepare is `linearize` of the gradient and `factored`; solve is one more "
    "right-hand side, refined. At "
    f"{COMPARED} layers: dense is `jax.hessian` and `jnp.linalg.solve` (whole: with its compilation; solve: with H at "
    "hand); CG and MINRES are SciPy's with jitted Hessian-vector products, asked for a residual of 1e-10, CG with a damping "
    f"of {DEFINITE:g} that makes the matrix positive definite and well conditioned, MINRES with {INDEFINITE:g}. "
    "Control: the optimality conditions of a pole swung up, collocated by the trapezoidal rule, 9 unknowns a knot. A step "
    "is values, matrix, factors and solution at a new point; build and solve is from a function not seen before to the "
    "first solution. CasADi builds an SX graph, its VM evaluates, and its sparse QR (`Linsol` 'qr') or SciPy's SuperLU "
    "solves; its 'ldl' does not pivot and meets zeros in D, so it has no answer to compare. Dense is a jitted Jacobian of "
    f"the gradient and `jnp.linalg.solve`. XLA uses {cores()} threads."
)


def measure(runner: Runner) -> Section:
    """Nets against depth, then against others; control against the number of knots."""
    with jax.enable_x64(True):
        depths, compared = ((2, 4), 4) if runner.quick else (DEPTHS, COMPARED)
        fill, rows = Ratios("non-zeros a layer, of those at the most", {}), []
        for as_list in (True, False):
            rows += _against_depth(runner, depths, as_list, fill)
        more, residuals = _against_others(runner, compared)
        rows += more
        for knots in (8, 16) if runner.quick else KNOTS:
            rows += _control(runner, Control(knots))
    most = max(fill.values.values(), default=1.0)
    fill.values = {name: value / most for name, value in fill.values.items()}
    limit = None if runner.quick else 1.1
    return Section("solves", TITLE, f"{TEXT} {residuals}", rows, "stage", limit, ratios=[fill])


# ---- nets -------------------------------------------------------------------------------------------------------------
def _prepared(model: Net, damping: float) -> Any:
    system = backsolve.linearize(backsolve.grad(_fresh(model.loss)), model.parameters)
    system.factored(damping=damping)
    return system


def _against_depth(runner: Runner, depths: tuple[int, ...], as_list: bool, fill: Ratios) -> list[Row]:
    rows = []
    kind = "a list" if as_list else "one vector"
    for depth in depths:
        model = net(depth, as_list=as_list)
        system = _prepared(model, INDEFINITE)
        name = f"{depth:,} layers, {kind}"
        fill.values[name] = system.factored(damping=INDEFINITE).factors.nnz / depth
        calls: dict[str, Callable[[], Any]] = {
            "prepare": partial(_prepared, model, INDEFINITE),
            "solve": partial(_solved, system, model.b, INDEFINITE),
        }
        for what, call in calls.items():
            series = f"{what}, {kind}"
            rows.append(
                runner.contest(f"{name}, {what}", {"backsolve": call}, tolerance=0.0, rounds=3, series=series, size=depth)
            )
    return rows


def _solved(system: Any, b: Any, damping: float) -> Any:
    return _flat(system.solve(b, damping=damping))


def _against_others(runner: Runner, depth: int) -> tuple[list[Row], str]:
    model = net(depth, as_list=False)
    p, b, n = model.parameters, model.b, model.size
    hvp = jax.jit(_hvp(model.loss))

    def whole(damping: float) -> Any:
        return _solved(_prepared(model, damping), b, damping)

    def dense() -> Any:
        H = jax.jit(jax.hessian(_fresh(model.loss)))(p)
        return np.asarray(jnp.linalg.solve(H + INDEFINITE * jnp.eye(n), b))

    def krylov(solver: Callable[..., Any], damping: float) -> Any:
        A = LinearOperator((n, n), lambda v: np.asarray(hvp(p, v)) + damping * v, dtype=np.float64)
        return solver(A, np.asarray(b), rtol=ITERATED, maxiter=2 * n)[0]

    def left(x: Any, damping: float) -> float:
        return float(jnp.linalg.norm(hvp(p, x) + damping * x - b) / jnp.linalg.norm(b))

    systems = {damping: _prepared(model, damping) for damping in (INDEFINITE, DEFINITE)}
    matrix = jax.jit(jax.hessian(model.loss))(p) + INDEFINITE * jnp.eye(n)
    at_hand: dict[str, Contestant | None] = {
        "dense": lambda: np.asarray(jnp.linalg.solve(matrix, b)),
        "MINRES": partial(krylov, minres, INDEFINITE),
    }
    name = f"{depth} layers against others"
    target = None if runner.quick else Target(1 / 50, ("dense",))
    rows = [
        runner.contest(
            f"{name}, whole", {"backsolve": partial(whole, INDEFINITE), "dense": dense}, tolerance=EXACT, rounds=1,
        ),
        runner.contest(
            f"{name}, solve", {"backsolve": partial(_solved, systems[INDEFINITE], b, INDEFINITE), **at_hand},
            tolerance=1.0, rounds=3, target=target,
        ),
        runner.contest(
            f"{name}, solve with much damping",
            {"backsolve": partial(_solved, systems[DEFINITE], b, DEFINITE), "CG": partial(krylov, cg, DEFINITE)},
            tolerance=EXACT, target=Target(1.0, ("CG",)),
        ),
        runner.contest(
            f"{name}, prepare",
            {
                "backsolve": lambda: _prepared(model, DEFINITE),
                "CG": lambda: jax.jit(_hvp(_fresh(model.loss))).lower(p, b).compile(),
            },
            tolerance=0.0, rounds=1, difference=lambda ours, theirs: 0.0,  # the answers are compared above
        ),
    ]  # fmt: skip
    solutions = (
        ("backsolve", INDEFINITE, _solved(systems[INDEFINITE], b, INDEFINITE)),
        *((key, INDEFINITE, call()) for key, call in at_hand.items() if call is not None),
        ("backsolve with much damping", DEFINITE, _solved(systems[DEFINITE], b, DEFINITE)),
        ("CG", DEFINITE, krylov(cg, DEFINITE)),
    )
    reached = ", ".join(f"{key} {left(x, damping):.0e}" for key, damping, x in solutions)
    return rows, f"Residuals at {depth} layers, beside b: {reached}."


def _hvp(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, v: jax.jvp(jax.grad(loss), (p,), (v,))[1]


# ---- optimal control ----------------------------------------------------------------------------------------------------
def _control(runner: Runner, control: Control) -> list[Row]:
    name, x = f"control, {control.knots:,} knots", control.point
    builders: dict[str, Callable[[], Contestant] | None] = {"backsolve": partial(_ours, control)}
    ca = optional("casadi")
    builders |= {key: None if ca is None else partial(_casadi, control, ca, key) for key in ("CasADi QR", "CasADi SuperLU")}
    builders["dense"] = partial(_dense, control, x) if control.knots <= DENSE else None
    built = {key: build and build() for key, build in builders.items()}
    target = Target(1.0, ("CasADi QR", "CasADi SuperLU")) if control.knots == KNOTS[-1] else None
    steps = runner.contest(
        f"{name}, step", built, tolerance=EXACT, rounds=9, series="control, step", size=control.knots,
        target=target,
    )  # fmt: skip
    whole = {key: None if build is None else _at_once(build) for key, build in builders.items()}
    rows = [
        steps,
        runner.contest(
            f"{name}, build and solve", whole, tolerance=EXACT, rounds=1, series="control, build and solve",
            size=control.knots, target=target,
        ),
    ]  # fmt: skip
    if built["dense"] is not None and not runner.quick:
        pair = {key: built[key] for key in ("backsolve", "dense")}
        rows.append(
            runner.contest(f"{name}, step beside dense", pair, tolerance=EXACT, rounds=5, target=Target(1 / 100, ("dense",)))
        )
    return rows


def _at_once(build: Callable[[], Contestant]) -> Contestant:
    return lambda: build()()


def _ours(control: Control) -> Contestant:
    """A step of `newton`, which does this for each one."""
    work = Repeated(backsolve.grad(_fresh(control.lagrangian)), control.point)

    def step() -> Any:
        return work.inverse(work.x0).solve(work.value(work.x0))

    return step


def _casadi(control: Control, ca: Any, engine: str) -> Contestant:
    symbols = ca.SX.sym("x", control.unknowns)
    function = ca.Function("conditions", [symbols], list(ca.hessian(control.of_casadi(ca, symbols), symbols)))
    x = control.point
    if engine != "CasADi QR":

        def by_superlu() -> Any:
            A, r = function(x)
            return splu(A.sparse().tocsc()).solve(np.asarray(r).ravel())

        return by_superlu
    solver = ca.Linsol("solver", "qr", function.sparsity_out(0))
    solver.sfact(function(x)[0])

    def by_qr() -> Any:
        A, r = function(x)
        solver.nfact(A)
        return np.asarray(solver.solve(A, r)).ravel()

    return by_qr


def _dense(control: Control, x: Any) -> Contestant:
    slope = jax.grad(_fresh(control.lagrangian))
    both = jax.jit(lambda x: jnp.linalg.solve(jax.jacfwd(slope)(x), slope(x)))
    return lambda: np.asarray(both(x))


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, new to JAX's caches."""

    def fresh(x: Any) -> Any:
        return function(x)

    return fresh


def _flat(tree: Any) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(tree)])
