"""The gradient of a 784-512-256-10 net by the paper's formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve.demo import byhand, net
from backsolve.demo.train import initial_parameters
from benchmarks.machine import cores
from benchmarks.runner import Contestant, Runner, Section, Target, optional

TITLE = "Gradient of a 784-512-256-10 net, batch 256"
Array = NDArray[Any]
Problem = tuple[list[Array], Array, Array]


def measure(runner: Runner) -> Section:
    """Loss and all gradients from scratch, in float64 and float32."""
    sizes, batch = ((20, 12, 8, 4), 16) if runner.quick else ((784, 512, 256, 10), 256)
    rows = []
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-4)):
        problem = _problem(sizes, batch, dtype)
        contestants: dict[str, Contestant | None] = {
            "backsolve": partial(_gradient, net.loss_and_gradient, problem),
            "by hand": partial(_gradient, byhand.textbook, problem),
            "by hand, in place": partial(_gradient, byhand.loss_and_gradient, problem),
            "autograd": _autograd(problem),
            "PyTorch": _torch(problem),
        }
        name = np.dtype(dtype).name
        rows.append(runner.contest(name, contestants, tolerance=tolerance, rounds=61, target=Target(1.15, ("by hand",))))
    text = (
        "tanh, tanh, then softmax cross-entropy. Everyone computes the loss and the gradient by all weights and biases "
        "from scratch, forward pass included: backsolve by `M.T @ np.linalg.solve(ImL.T, g)`, with the matrices built "
        "anew each time; by hand in NumPy as the formulas read, every Xᵢ and Δᵢ kept as in the matrices, and by hand with "
        "every buffer overwritten as soon as it is free (both in `backsolve/demo/byhand.py`); HIPS autograd; PyTorch "
        f"eager. NumPy's BLAS and PyTorch use {cores()} threads each."
    )
    return Section("paper_net", TITLE, text, rows)


def _problem(sizes: tuple[int, ...], batch: int, dtype: type[np.floating[Any]]) -> Problem:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((sizes[0], batch)).astype(dtype)
    Y = np.eye(sizes[-1], dtype=dtype)[:, rng.integers(sizes[-1], size=batch)]
    return [p.astype(dtype) for p in initial_parameters(sizes)], X, np.ascontiguousarray(Y)


def _gradient(compute: Callable[..., tuple[float, list[Array]]], problem: Problem) -> list[Array]:
    return compute(*problem)[1]


def _autograd(problem: Problem) -> Contestant | None:
    autograd, anp = optional("autograd"), optional("autograd.numpy")
    if autograd is None:
        return None
    logsumexp = optional("autograd.scipy.special").logsumexp
    parameters, X, Y = problem

    def loss(values: list[Any]) -> Any:
        Z = X
        for i in range(0, len(values), 2):
            Z = anp.dot(values[i], Z) + values[i + 1]
            Z = anp.tanh(Z) if i < len(values) - 2 else Z
        return anp.mean(logsumexp(Z, axis=0)) - anp.sum(Z * Y) / X.shape[1]

    value_and_grad = autograd.value_and_grad(loss)
    return lambda: value_and_grad(parameters)[1]


def _torch(problem: Problem) -> Contestant | None:
    torch = optional("torch")
    if torch is None:
        return None
    torch.set_num_threads(cores())
    X = torch.from_numpy(problem[1])
    labels = torch.from_numpy(problem[2].argmax(axis=0))
    parameters = [torch.from_numpy(p).requires_grad_() for p in problem[0]]

    def gradient() -> Any:
        Z = X
        for i in range(0, len(parameters), 2):
            Z = torch.addmm(parameters[i + 1], parameters[i], Z)
            Z = torch.tanh(Z) if i < len(parameters) - 2 else Z
        return torch.autograd.grad(torch.nn.functional.cross_entropy(Z.T, labels), parameters)

    return gradient
