"""The models that HIPS autograd can take in a few lines of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np
from autograd.scipy.special import logsumexp
from scipy.special import multigammaln

from benchmarks.models.functions import Model, run_scalar
from benchmarks.runner import Contestant

Parameters = Sequence[Any]


def mlp(parameters: Parameters, x: Any, labels: Any) -> Any:
    """As `functions.mlp`."""
    for i in range(0, len(parameters), 2):
        x = anp.dot(x, parameters[i]) + parameters[i + 1]
        x = anp.tanh(x) if i < len(parameters) - 2 else x
    return anp.mean(logsumexp(x, axis=1) - x[np.arange(len(labels)), labels])


def lstm(parameters: Parameters, xs: Any, ys: Any) -> Any:
    """As `functions.lstm`, by a loop."""
    W, U, b, V = parameters
    h = c = np.zeros((xs.shape[1], U.shape[0]), xs.dtype)
    predictions = []
    for x in xs:
        i, f, g, o = anp.split(anp.dot(x, W) + anp.dot(h, U) + b, 4, axis=-1)
        c = _sigmoid(f) * c + _sigmoid(i) * anp.tanh(g)
        h = _sigmoid(o) * anp.tanh(c)
        predictions.append(anp.dot(h, V))
    return anp.mean((anp.stack(predictions) - ys) ** 2)


def _sigmoid(x: Any) -> Any:
    return 0.5 * (anp.tanh(0.5 * x) + 1)


def gmm(parameters: Parameters, x: Any) -> Any:
    """As `functions.gmm`; the triangle is filled by a product with a matrix of zeros and ones."""
    alphas, means, icf = parameters
    (n, d), K = x.shape, len(alphas)
    logs, below = icf[:, :d], icf[:, d:]
    diagonal = anp.exp(logs)
    columns, rows = np.triu_indices(d, 1)
    places = np.zeros((len(rows), d * d), x.dtype)
    places[np.arange(len(rows)), rows * d + columns] = 1
    lower = anp.reshape(anp.dot(below, places), (K, d, d))
    sums = anp.sum(logs, axis=1)
    centred = x[:, None, :] - means
    turned = diagonal * centred + anp.einsum("kij,nkj->nki", lower, centred)
    inner = logsumexp(alphas + sums - 0.5 * anp.sum(turned**2, axis=2), axis=1)
    constant = -(d + 1) * d * 0.5 * math.log(2) - float(multigammaln(0.5 * (d + 1), d))
    prior = 0.5 * (anp.sum(diagonal**2) + anp.sum(below**2))
    mixture = anp.sum(inner) - n * logsumexp(alphas)
    return -0.5 * n * d * math.log(2 * math.pi) + mixture + prior - K * constant


def ode_unrolled(parameters: Parameters, y: Any, target: Any, *, steps: int) -> Any:
    """As `functions.ode_unrolled`."""
    W, b, V, c = parameters
    h = 1.0 / steps

    def speed(y: Any) -> Any:
        return anp.dot(anp.tanh(anp.dot(y, W) + b), V) + c

    for _ in range(steps):
        k1 = speed(y)
        k2 = speed(y + 0.5 * h * k1)
        k3 = speed(y + 0.5 * h * k2)
        k4 = speed(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return anp.mean((y - target) ** 2)


def contestant(model: Model) -> Contestant | None:
    """HIPS autograd's gradient of the model, as a call without arguments; None where it has none here."""
    function = _function(model)
    if function is None:
        return None
    gradient = autograd.grad(function)
    leaves, *data = model.arguments
    parameters, others = [np.asarray(leaf) for leaf in leaves], [np.asarray(array) for array in data]
    return lambda: gradient(parameters, *others)


def _function(model: Model) -> Callable[..., Any] | None:
    if model.kind.startswith("scalar"):
        return lambda inputs: anp.sum(run_scalar(model.details[0], inputs, anp))
    if model.kind.startswith("ode"):
        return lambda *arguments: ode_unrolled(*arguments, steps=model.details[0])
    functions: dict[str, Callable[..., Any]] = {"mlp": mlp, "lstm": lstm, "gmm": gmm}
    return functions.get(model.kind)
