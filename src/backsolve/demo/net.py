"""The paper's matrix net, Xᵢ = hᵢ(Wᵢ Xᵢ₋₁ + bᵢ eᵀ), and its gradient as one formula.

Columns are data points. Every hᵢ is tanh but the last, which is the identity; the loss ℓ is the mean softmax
cross-entropy. `parameters` is W₁, b₁, W₂, b₂, … with bᵢ a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backsolve import I, O, bidiagonal, diagonal, hadamard, left_mul, right_mul, row, vector

Array = NDArray[Any]


def subscript(i: int) -> str:
    """The number i as subscript digits: 12 becomes ₁₂."""
    return str(i).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


class Forward(NamedTuple):
    """What the forward pass leaves behind: X₀ … X_N, Δ₁ … Δ_N, ℓ(X_N) and ℓ′(X_N)."""

    nodes: list[Array]
    deltas: list[Array]
    loss: float
    loss_gradient: Array


def forward(parameters: Sequence[Array], X: Array, Y: Array) -> Forward:
    """Run the net on the columns of X (features × k) against the one-hot columns of Y (classes × k)."""
    nodes, deltas = [X], []
    for W, b in zip(parameters[::2], parameters[1::2]):
        X = W @ X
        X += b
        if len(nodes) < len(parameters) // 2:
            np.tanh(X, out=X)
            D = X * X
            deltas.append(np.subtract(1, D, out=D))
        else:
            deltas.append(np.ones_like(X))
        nodes.append(X)
    return Forward(nodes, deltas, *softmax_cross_entropy(X, Y))


def softmax_cross_entropy(X: Array, Y: Array) -> tuple[float, Array]:
    """The mean over the columns of −⟨Y, log softmax X⟩, and its gradient by X (the shape of X)."""
    shift = X.max(axis=0)
    P = np.exp(X - shift)
    total = P.sum(axis=0)
    loss = float((np.log(total) + shift).mean() - np.vdot(Y, X) / X.shape[1])
    P /= total
    P -= Y
    P /= X.shape[1]
    return loss, P


def matrices(weights: Sequence[Array], run: Forward) -> tuple[Any, Any, Any]:
    """The paper's M (N × 2N), I − L̃ (N × N) and g (N blocks) at the point where `run` was made."""
    N, e = len(weights), np.ones((run.nodes[0].shape[1], 1), run.nodes[0].dtype)
    Δ = [hadamard(D, f"Δ{subscript(i)}") for i, D in enumerate(run.deltas, start=1)]
    W = [left_mul(W, f"W{subscript(i)}") for i, W in enumerate(weights, start=1)]
    X = [right_mul(X, f"X{subscript(i)}") for i, X in enumerate(run.nodes[:-1])]
    M = diagonal([row([Δi @ Xi, Δi @ right_mul(e.T, "eᵀ")]) for Δi, Xi in zip(Δ, X)])
    ImL = bidiagonal([I] * N, [-Δi @ Wi for Δi, Wi in zip(Δ[1:], W[1:])])
    g = vector([O] * (N - 1) + [run.loss_gradient])
    return M, ImL, g


def loss_and_gradient(parameters: Sequence[Array], X: Array, Y: Array) -> tuple[float, list[Array]]:
    """The loss and its gradient by every parameter, in their order and shapes: the paper's equation 1."""
    run = forward(parameters, X, Y)
    M, ImL, g = matrices(parameters[::2], run)
    gradient = M.T @ np.linalg.solve(ImL.T, g)
    return run.loss, list(gradient)
