"""The pages of the gallery, each made by `show` from the program that is printed below it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from backsolve import Graph, I, O, System, diagonal, hadamard, left_mul, linearize, matrix, right_mul, row

__all__ = ["GALLERY", "write_all"]


def figure() -> Graph:
    """The paper's Figure 1: four edges, four path weights."""
    a, b, c, d = sympy.symbols("a b c d", commutative=False)
    return Graph({(1, 3): a, (2, 3): b, (3, 4): c, (4, 5): d})


def two_numbers() -> System:
    """A function of two numbers, sin(xy) + x², at x = 1 and y = 2."""

    def f(x: Any, y: Any) -> Any:
        return jnp.sin(x * y) + x**2

    return linearize(f, 1.0, 2.0, argnums=(0, 1))


def scalar_net() -> System:
    """The paper's scalar net, xᵢ = hᵢ(wᵢ xᵢ₋₁ + bᵢ), of four layers, with symbols on its edges."""
    n = 4
    δ, w, x = ([sympy.Symbol(f"{letter}{i}") for i in range(n + 1)] for letter in "δwx")
    M = diagonal([row([δ[i] * x[i - 1], δ[i]]) for i in range(1, n + 1)])
    L = matrix([[δ[i] * w[i] if j == i - 1 else 0 for j in range(1, n + 1)] for i in range(1, n + 1)])
    return System(M, L, matrix([[0] * (n - 1) + [1]]))


def matrix_net() -> System:
    """The paper's matrix net, Xᵢ = hᵢ.(Wᵢ Xᵢ₋₁ + bᵢ eᵀ), of three layers on five data points."""
    rng = np.random.default_rng(0)
    sizes = [3, 4, 4, 2]
    X = [rng.standard_normal((m, 5)) for m in sizes]
    W = [rng.standard_normal((m, k)) for k, m in pairwise(sizes)]
    Δ = [hadamard(rng.standard_normal((m, 5)), f"Δ{'₁₂₃'[i]}") for i, m in enumerate(sizes[1:])]
    e = right_mul(np.ones((1, 5)), "eᵀ")
    M = diagonal([row([Δ[i] @ right_mul(X[i], f"X{'₀₁₂'[i]}"), Δ[i] @ e]) for i in range(3)])
    below = [Δ[i] @ left_mul(W[i], f"W{'₁₂₃'[i]}") for i in range(3)]
    return System(M, matrix([[O, O, O], [below[1], O, O], [O, below[2], O]]), matrix([[O, O, I]]))


def attention() -> System:
    """Softmax attention over four positions, as captured from JAX."""

    def attend(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.T / jnp.sqrt(3.0)
        weights = jax.nn.softmax(scores)
        return weights @ v

    q, k, v = jax.random.normal(jax.random.key(0), (3, 4, 3))
    return linearize(attend, q, k, v, argnums=(0, 1, 2))


def ode_step() -> System:
    """One step of the classical Runge–Kutta method on the pendulum."""

    def field(state: Any, length: Any) -> Any:
        angle, speed = state
        return jnp.stack([speed, -9.81 / length * jnp.sin(angle)])

    def step(state: Any, length: Any) -> Any:
        h = 0.1
        k1 = field(state, length)
        k2 = field(state + h / 2 * k1, length)
        k3 = field(state + h / 2 * k2, length)
        k4 = field(state + h * k3, length)
        return state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return linearize(step, jnp.array([0.3, 0.0]), jnp.array(1.0), argnums=(0, 1))


def arrow() -> System:
    """An arrow: every input meets the first, and neither forward nor reverse mode sees that cheaply."""

    def coupled(x: Any) -> Any:
        head, tail = x[0], x[1:]
        return jnp.concatenate([jnp.sum(tail**2)[None] * head, head * jnp.sin(tail)])

    return linearize(coupled, jnp.linspace(0.1, 1.0, 6))


GALLERY: dict[str, Callable[[], Any]] = {
    "figure": figure,
    "two-numbers": two_numbers,
    "scalar-net": scalar_net,
    "matrix-net": matrix_net,
    "attention": attention,
    "ode-step": ode_step,
    "arrow": arrow,
}


def write_all(folder: Path) -> None:
    """Write every page into the folder."""
    for name, make in GALLERY.items():
        title = (inspect.getdoc(make) or name).split(":")[0].split(",")[0].rstrip(".")
        make().show(folder / f"{name}.html", title=title)
