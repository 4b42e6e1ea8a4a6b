"""The same loss and gradient without backsolve: backpropagation by hand, and JAX. What `net` is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve.demo.net import softmax_cross_entropy

Array = NDArray[Any]


def loss_and_gradient(parameters: Sequence[Array], X: Array, Y: Array) -> tuple[float, list[Array]]:
    """Backpropagation as one writes it for speed: Δ in place, each product once, nothing for the linear layer."""
    weights = parameters[::2]
    nodes = [X]
    for i, (W, b) in enumerate(zip(weights, parameters[1::2])):
        Z = W @ nodes[-1]
        Z += b
        nodes.append(np.tanh(Z, out=Z) if i < len(weights) - 1 else Z)
    loss, G = softmax_cross_entropy(nodes[-1], Y)
    gradient: list[Array] = []
    for i in reversed(range(len(weights))):
        gradient += [G.sum(axis=1, keepdims=True), G @ nodes[i].T]
        if i:
            G = weights[i].T @ G
            slope = nodes[i]  # not needed again, so Δ may take its place
            np.multiply(slope, slope, out=slope)
            np.subtract(1, slope, out=slope)
            G *= slope
    return loss, gradient[::-1]


def textbook(parameters: Sequence[Array], X: Array, Y: Array) -> tuple[float, list[Array]]:
    """The same as the formulas read: every Xᵢ and Δᵢ is kept, nothing is overwritten."""
    weights = parameters[::2]
    nodes, deltas = [X], []
    for i, (W, b) in enumerate(zip(weights, parameters[1::2])):
        Z = W @ nodes[-1] + b
        if i < len(weights) - 1:
            Z = np.tanh(Z)
            deltas.append(1 - Z * Z)
        nodes.append(Z)
    loss, G = softmax_cross_entropy(nodes[-1], Y)
    gradient: list[Array] = []
    for i in reversed(range(len(weights))):
        gradient += [G.sum(axis=1, keepdims=True), G @ nodes[i].T]
        if i:
            G = (weights[i].T @ G) * deltas[i - 1]
    return loss, gradient[::-1]


def jax_gradient(parameters: Sequence[Array], X: Array, Y: Array) -> list[Array]:
    """`jax.grad` of the same loss in float64, in the order and shapes of `parameters`."""
    import jax  # only the check needs it: training in part one is NumPy

    from backsolve.demo.plain import loss

    with jax.enable_x64(True):
        return [np.asarray(block) for block in jax.grad(loss)([jax.numpy.asarray(p) for p in parameters], X, Y)]
