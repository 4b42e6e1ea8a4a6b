"""The models in PyTorch's own words: the same formulas, with the functions PyTorch offers for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  everybody's name for it

from benchmarks.machine import cores
from benchmarks.models.functions import HEADS, PER_LAYER, Model, run_scalar
from benchmarks.runner import Contestant

Parameters = Sequence[Any]


def mlp(parameters: Parameters, x: Any, labels: Any) -> Any:
    """As `functions.mlp`."""
    for W, b in zip(parameters[:-2:2], parameters[1:-2:2]):
        x = torch.tanh(torch.addmm(b, x, W))
    W, b = parameters[-2:]
    return F.cross_entropy(torch.addmm(b, x, W), labels)


def cnn(parameters: Parameters, x: Any, labels: Any) -> Any:
    """As `functions.cnn`; channels come second, as PyTorch has them."""
    x = x.permute(0, 3, 1, 2)
    for K, b in zip(parameters[:-2:2], parameters[1:-2:2]):
        x = F.max_pool2d(torch.relu(F.conv2d(x, K.permute(3, 2, 0, 1), b, padding="same")), 2)
    W, b = parameters[-2:]
    return F.cross_entropy(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1) @ W + b, labels)


def transformer(parameters: Parameters, words: Any) -> Any:
    """As `functions.transformer`."""
    table, positions, *inner, scale, shift, W_last = parameters
    width = table.shape[1]
    x = table[words[:, :-1]] + positions
    n, t, _ = x.shape
    for i in range(0, len(inner), PER_LAYER):
        s1, b1, W_in, W_out, s2, b2, W_up, b_up, W_down, b_down = inner[i : i + PER_LAYER]
        parts = (F.layer_norm(x, (width,), s1, b1) @ W_in).chunk(3, dim=-1)
        q, k, v = (part.reshape(n, t, HEADS, width // HEADS).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + mixed.reshape(n, t, width) @ W_out
        x = x + F.gelu(F.layer_norm(x, (width,), s2, b2) @ W_up + b_up, approximate="tanh") @ W_down + b_down
    logits = F.layer_norm(x, (width,), scale, shift) @ W_last
    return F.cross_entropy(logits.flatten(0, 1), words[:, 1:].flatten())


def lstm(parameters: Parameters, xs: Any, ys: Any) -> Any:
    """As `functions.lstm`, by `torch.nn.LSTM`, whose loop over the steps is compiled."""
    W, U, b, V = parameters
    module = torch.nn.LSTM(W.shape[0], U.shape[0])
    weights = {"weight_ih_l0": W.T, "weight_hh_l0": U.T, "bias_ih_l0": b, "bias_hh_l0": torch.zeros_like(b)}
    h, _ = torch.func.functional_call(module, weights, (xs,))
    return ((h @ V - ys) ** 2).mean()


def gmm(parameters: Parameters, x: Any) -> Any:
    """As `functions.gmm`."""
    alphas, means, icf = parameters
    (n, d), K = x.shape, len(alphas)
    logs, below = icf[:, :d], icf[:, d:]
    diagonal = torch.exp(logs)
    columns, rows = np.triu_indices(d, 1)
    lower = torch.zeros(K, d, d)
    lower[:, rows, columns] = below
    sums = logs.sum(dim=1)
    centred = x[:, None, :] - means
    turned = diagonal * centred + torch.einsum("kij,nkj->nki", lower, centred)
    inner = torch.logsumexp(alphas + sums - 0.5 * (turned**2).sum(dim=2), dim=1)
    constant = -(d + 1) * d * 0.5 * math.log(2) - _log_gamma(0.5 * (d + 1), d)
    prior = 0.5 * ((diagonal**2).sum() + (below**2).sum())
    mixture = inner.sum() - n * torch.logsumexp(alphas, dim=0)
    return -0.5 * n * d * math.log(2 * math.pi) + mixture + prior - K * constant


def _log_gamma(a: float, d: int) -> float:
    """The logarithm of the multivariate gamma function; SciPy's cannot be traced by `torch.compile`."""
    return d * (d - 1) / 4 * math.log(math.pi) + sum(math.lgamma(a - 0.5 * j) for j in range(d))


def ode_unrolled(parameters: Parameters, y: Any, target: Any, *, steps: int) -> Any:
    """As `functions.ode_unrolled`."""
    W, b, V, c = parameters
    h = 1.0 / steps

    def speed(y: Any) -> Any:
        return torch.addmm(c, torch.tanh(torch.addmm(b, y, W)), V)

    for _ in range(steps):
        k1 = speed(y)
        k2 = speed(y + 0.5 * h * k1)
        k3 = speed(y + 0.5 * h * k2)
        k4 = speed(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ((y - target) ** 2).mean()


def contestant(model: Model, *, compiled: bool) -> Contestant:
    """PyTorch's gradient of the model, eager or by `torch.compile`, as a call without arguments."""
    torch.set_num_threads(cores())
    function: Callable[..., Any] = _function(model)
    if compiled:
        torch._dynamo.reset()
        function = torch.compile(function)
    leaves, *data = model.arguments
    parameters = [torch.tensor(np.asarray(leaf)).requires_grad_() for leaf in leaves]
    others = [torch.tensor(np.asarray(array)) for array in data]
    others = [array if array.is_floating_point() else array.long() for array in others]

    def call() -> list[Any]:
        gradient = torch.autograd.grad(function(parameters, *others), parameters, materialize_grads=True)
        return [part.numpy() for part in gradient]

    call()  # what it compiles, or cannot, shows here
    return call


def _function(model: Model) -> Callable[..., Any]:
    if model.kind.startswith("scalar"):
        return lambda inputs: run_scalar(model.details[0], inputs, torch).sum()
    if model.kind.startswith("ode"):
        return lambda *arguments: ode_unrolled(*arguments, steps=model.details[0])
    functions: dict[str, Callable[..., Any]] = {"mlp": mlp, "cnn": cnn, "transformer": transformer, "lstm": lstm, "gmm": gmm}
    return functions[model.kind]
