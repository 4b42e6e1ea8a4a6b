"""Jacobians of plain JAX functions under `jax.jit`: `backsolve.jacobian` beside `jax.jacfwd` and `jax.jacrev`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np

import backsolve
from benchmarks.machine import cores
from benchmarks.models.batched_models import BATCHED
from benchmarks.models.jacobians import ScalarModel, TensorModel
from benchmarks.models.published import PUBLISHED
from benchmarks.models.scalar_models import SCALAR_MODELS
from benchmarks.runner import Contestant, Ratios, Row, Runner, Section, relative_difference

TITLE = "Jacobians of JAX functions, jitted"
TOLERANCE = 1e-3  # float32, and another order of multiplications
POINTS = (1_000, 100_000)
FEW_POINTS = (2, 3)  # quick, which tries one model of either sort
MODELS = (*PUBLISHED, *SCALAR_MODELS)
TEXT = (
    "The Jacobian of a function, in float32, everyone from the same plain JAX function. Scalar functions: under `jax.vmap` "
    "over many points, every argument and every entry of the Jacobian an array over the points; and at one point, from one "
    'array to the Jacobian as one array. Nets on a batch: dense, and `format="operator"`, where JAX\'s result is the dense '
    "one. Ratios are ours / the better of jacfwd and jacrev; bytes are the result and the temporaries by XLA's own count. "
    "Tracing and compiling start from a function that JAX has not seen before; persistent caches are off. graphax is "
    f"absent (not on PyPI). XLA uses {cores()} threads."
)
OURS = "backsolve"
JACOBIANS: dict[str, Callable[..., Any]] = {OURS: backsolve.jacobian, "jacfwd": jax.jacfwd, "jacrev": jax.jacrev}
OPERATOR: dict[str, Callable[..., Any]] = JACOBIANS | {OURS: partial(backsolve.jacobian, format="operator")}

ROUNDS, ROUNDS_OF_NETS = 31, 5  # of nets a call takes tenths of a second, and of compilers seconds

Difference = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Task:
    """A contest: `make(jacobian)` is a function new to JAX's caches, whose jitted form is called with the arguments."""

    name: str
    make: Callable[[Callable[..., Any]], Callable[..., Any]]
    arguments: tuple[Any, ...]
    jacobians: Mapping[str, Callable[..., Any]] = field(default_factory=lambda: JACOBIANS)
    difference: Difference = relative_difference

    def jitted(self, key: str) -> Any:
        """The Jacobian of one contestant, not yet traced."""
        return jax.jit(self.make(self.jacobians[key]))


def measure(runner: Runner) -> Section:
    """Run time, tracing and compiling for every model; bytes too where the result is large."""
    run, build = Ratios("run", {}, each=1 / 0.95, mean=0.5), Ratios("trace + compile", {}, mean=0.7)
    dense, operator = Ratios("dense", {}, mean=1 / 3), Ratios("operator", {}, mean=1 / 20)
    memory = Ratios("bytes", {})
    rows: list[Row] = []

    def contest(task: Task, column: Ratios, *, rounds: int = ROUNDS, built: bool = True) -> None:
        row = runner.contest(task.name, _calls(task), tolerance=TOLERANCE, rounds=rounds, difference=task.difference)
        rows.append(row)
        column.values[task.name] = rows[-1].beside_best()
        if built:
            build.values[task.name] = _preparation(task, runner)

    for scalar in MODELS[:1] if runner.quick else MODELS:
        if runner.only in scalar.name:
            few, many = FEW_POINTS if runner.quick else POINTS
            contest(at_points(scalar, few), run)
            contest(at_points(scalar, many), run, built=False)  # the same program
            contest(at_one_point(scalar), run)
    for make in BATCHED[:1] if runner.quick else BATCHED:
        for tensor in make(small=runner.quick):
            if runner.only in tensor.name:
                for task, column in ((as_arrays(tensor), dense), (as_operators(tensor), operator)):
                    contest(task, column, rounds=ROUNDS_OF_NETS)
                    memory.values[task.name] = _bytes(task)
    ratios = [column for column in (run, dense, operator, build, memory) if column.values]
    return Section("jacobians", TITLE, TEXT, rows, ratios=ratios)


def at_points(model: ScalarModel, points: int) -> Task:
    """The Jacobian by all arguments, under vmap."""

    def make(jacobian: Callable[..., Any]) -> Callable[..., Any]:
        by_all = jacobian(_fresh(model.function), argnums=tuple(range(len(model.point))))
        return jax.vmap(by_all)  # type: ignore[no-any-return]

    return Task(f"{model.name}, {points:,} points", make, model.points(points), difference=_by_output)


def at_one_point(model: ScalarModel) -> Task:
    """The Jacobian as one array."""

    def make(jacobian: Callable[..., Any]) -> Callable[..., Any]:
        made: Callable[..., Any] = jacobian(_fresh(model.on_array))
        return made

    return Task(f"{model.name}, one point", make, (np.array(model.point, np.float32),), difference=_by_output)


def as_arrays(model: TensorModel) -> Task:
    """The dense Jacobian of a batch."""
    return Task(f"{model.name}, dense", partial(_by_argnum, model), model.arguments, difference=_by_leaf)


def as_operators(model: TensorModel) -> Task:
    """The structured Jacobian of a batch, beside the dense one."""
    outputs = jax.eval_shape(model.function, *model.arguments).size
    difference = partial(_as_matrices, outputs)
    return Task(f"{model.name}, operator", partial(_by_argnum, model), model.arguments, OPERATOR, difference)


def _by_argnum(model: TensorModel, jacobian: Callable[..., Any]) -> Callable[..., Any]:
    made: Callable[..., Any] = jacobian(_fresh(model.function), argnums=model.argnum)
    return made


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, new to JAX's caches."""

    def fresh(*arguments: Any) -> Any:
        return function(*arguments)

    return fresh


def _calls(task: Task) -> dict[str, Contestant | None]:
    """The contestants, compiled; by `jax.jit` itself, whose calls cost less than those of a program compiled ahead."""

    def call(jitted: Any) -> Any:
        return jax.block_until_ready(jitted(*task.arguments))  # type: ignore[no-untyped-call]

    calls: dict[str, Contestant | None] = {key: partial(call, task.jitted(key)) for key in task.jacobians}
    for compiled in calls.values():
        if compiled is not None:
            compiled()
    return calls


def _preparation(task: Task, runner: Runner) -> float:
    """Seconds from a new function to machine code, as ours / the quicker of JAX's two."""
    calls = {key: lambda key=key: task.jitted(key).lower(*task.arguments).compile() for key in task.jacobians}
    return runner.preparation(f"{task.name}, trace and compile", calls, ROUNDS_OF_NETS).beside_best()


def _bytes(task: Task) -> float:
    """Bytes of the result and the temporaries, as ours / the smaller of JAX's two."""

    def held(key: str) -> int:
        analysis = task.jitted(key).lower(*task.arguments).compile().memory_analysis()
        return int(analysis.output_size_in_bytes + analysis.temp_size_in_bytes)

    ours, *theirs = map(held, task.jacobians)
    return ours / min(theirs)


def _by_output(ours: Any, theirs: Any) -> float:
    """The largest difference of a row of the Jacobian."""
    return relative_difference(_rows(ours), _rows(theirs))


def _rows(jacobian: Any) -> list[Any]:
    """The rows of a tuple of tuples of arrays, or of a matrix."""
    return [np.stack(row) for row in jacobian] if isinstance(jacobian, tuple) else list(np.asarray(jacobian))


def _by_leaf(ours: Any, theirs: Any) -> float:
    return relative_difference(jax.tree.leaves(ours), jax.tree.leaves(theirs))


def _as_matrices(outputs: int, ours: Any, theirs: Any) -> float:
    """The difference of operators, made dense here, and arrays, as matrices of outputs × all inputs."""
    blocks = [np.asarray(leaf).reshape(outputs, -1) for leaf in jax.tree.leaves(theirs)]
    return relative_difference(np.asarray(ours.todense()).reshape(outputs, -1), np.concatenate(blocks, axis=1))
