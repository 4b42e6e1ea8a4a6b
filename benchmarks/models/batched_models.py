"""Nets of one example, batched by `jax.vmap`: what they give for the whole batch, by its inputs and by their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.models.functions import normal
from benchmarks.models.jacobians import Array, TensorModel

WEIGHTS, INPUTS = 0, 1
Weights = list[Array]


def batched(
    name: str, net: Callable[[Weights, Array], Array], weights: Weights, x: Array
) -> tuple[TensorModel, TensorModel]:
    """The net on a batch, differentiated by the batch and by the weights."""

    def function(weights: Weights, x: Array) -> Array:
        return jax.vmap(net, in_axes=(None, 0))(weights, x)

    return (
        TensorModel(f"{name} by inputs", function, (weights, x), INPUTS),
        TensorModel(f"{name} by weights", function, (weights, x), WEIGHTS),
    )


def mlp(small: bool = False) -> tuple[TensorModel, TensorModel]:
    """A 32-64-64-16 net with tanh, batch 128."""
    sizes, batch = ((4, 6, 5, 3), 3) if small else ((32, 64, 64, 16), 128)
    rng = np.random.default_rng(0)
    weights = [part for m, n in pairwise(sizes) for part in (normal(rng, m, n, scale=m**-0.5), normal(rng, n, scale=0.1))]

    def net(weights: Sequence[Array], x: Array) -> Array:
        for W, b in zip(weights[:-2:2], weights[1:-2:2]):
            x = jnp.tanh(x @ W + b)
        W, b = weights[-2:]
        return x @ W + b

    return batched("MLP", net, weights, normal(rng, batch, sizes[0]))


def residual_net(small: bool = False) -> tuple[TensorModel, TensorModel]:
    """Four blocks x + V tanh(W x + b) of width 32, batch 64."""
    blocks, width, batch = (2, 3, 3) if small else (4, 32, 64)
    rng = np.random.default_rng(1)
    weights: Weights = []
    for _ in range(blocks):
        weights += [normal(rng, width, width, scale=width**-0.5), normal(rng, width, scale=0.1)]
        weights += [normal(rng, width, width, scale=0.5 * width**-0.5)]

    def net(weights: Sequence[Array], x: Array) -> Array:
        for W, b, V in zip(weights[::3], weights[1::3], weights[2::3]):
            x = x + jnp.tanh(x @ W + b) @ V
        return x

    return batched("residual net", net, weights, normal(rng, batch, width))


def attention(small: bool = False) -> tuple[TensorModel, TensorModel]:
    """One head of attention over 8 tokens of width 16 with a residual connection, batch 32."""
    tokens, width, batch = (3, 4, 2) if small else (8, 16, 32)
    rng = np.random.default_rng(2)
    weights = [normal(rng, width, width, scale=width**-0.5) for _ in range(4)]

    def block(weights: Sequence[Array], x: Array) -> Array:
        Q, K, V, W = weights
        scores = (x @ Q) @ (x @ K).T / math.sqrt(x.shape[-1])
        return x + jax.nn.softmax(scores) @ (x @ V) @ W

    return batched("attention", block, weights, normal(rng, batch, tokens, width))


BATCHED = (mlp, residual_net, attention)
