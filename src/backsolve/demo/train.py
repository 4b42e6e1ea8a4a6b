"""Scikit-learn's scanned digits, and Adam with the formula's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve.demo.net import forward, loss_and_gradient

Array = NDArray[Any]


@dataclass(frozen=True)
class Digits:
    """Pictures as columns of 64 grey values in [0, 1], their labels, and the labels as one-hot columns."""

    X: Array
    labels: Array
    Y: Array

    def take(self, columns: Array) -> Digits:
        """The chosen pictures, as another set."""
        return Digits(self.X[:, columns], self.labels[columns], self.Y[:, columns])


def load(test_size: int = 450, seed: int = 0) -> tuple[Digits, Digits]:
    """Scikit-learn's 1,797 digits in float64, shuffled and split into a training and a test set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.intp)
    digits = Digits(np.ascontiguousarray(bunch.data.T) / 16.0, labels, np.eye(10)[:, labels])
    order = np.random.default_rng(seed).permutation(len(labels))
    return digits.take(order[test_size:]), digits.take(order[:test_size])


def initial_parameters(sizes: Sequence[int], seed: int = 0) -> list[Array]:
    """W₁, b₁, W₂, b₂, …: Wᵢ of shape (sizes[i], sizes[i−1]) with variance 1 / sizes[i−1], bᵢ a zero column."""
    rng = np.random.default_rng(seed)
    parameters: list[Array] = []
    for n_in, n_out in pairwise(sizes):
        parameters += [rng.standard_normal((n_out, n_in)) / np.sqrt(n_in), np.zeros((n_out, 1))]
    return parameters


def train(
    parameters: Sequence[Array], digits: Digits, *, steps: int, batch: int, rate: float = 3e-3, seed: int = 0
) -> tuple[list[Array], list[float]]:
    """Adam on minibatches drawn at random. Returns the new parameters and the loss of every step."""
    from tqdm import trange

    parameters = [p.copy() for p in parameters]
    mean, square = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    bar = trange(1, steps + 1, desc="training", unit="step", disable=None)  # None: silent where there is no terminal
    for t in bar:
        part = digits.take(rng.choice(digits.labels.size, batch, replace=False))
        loss, gradient = loss_and_gradient(parameters, part.X, part.Y)
        for p, g, m, s in zip(parameters, gradient, mean, square):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= rate * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        losses.append(loss)
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    return parameters, losses


def predict(parameters: Sequence[Array], digits: Digits) -> Array:
    """The class of the largest output, for each picture."""
    classes: Array = forward(parameters, digits.X, digits.Y).nodes[-1].argmax(axis=0)
    return classes
