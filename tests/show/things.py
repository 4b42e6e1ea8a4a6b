"""What the pictures are drawn of in these tests: hand-made and captured, small and large."""

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from backsolve import Graph, I, O, System, bidiagonal, diagonal, hadamard, left_mul, linearize, matrix, right_mul, row


def signed(x):
    """A number as labels and cells have it, with a minus sign."""
    return f"{x:.4g}".replace("-", "−")


def figure_1():
    """The paper's first figure: 1 → 3 (a), 2 → 3 (b), 3 → 4 (c), 4 → 5 (d)."""
    a, b, c, d = sympy.symbols("a b c d", commutative=False)
    return Graph({(1, 3): a, (2, 3): b, (3, 4): c, (4, 5): d})


def scalar_net(n=3):
    """M = diag([δᵢxᵢ₋₁ δᵢ]), L = subdiag(δᵢwᵢ)."""
    M = diagonal([row([0.5 + i, 1.0]) for i in range(n)])
    L = matrix([[2.0 if j == i - 1 else 0 for j in range(n)] for i in range(n)])
    return System(M, L, matrix([[0] * (n - 1) + [1.0]]))


def matrix_net():
    """The README's net of two layers on five data points."""
    rng = np.random.default_rng(0)
    X0, X1, e = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), np.ones((5, 1))
    W2 = rng.standard_normal((2, 4))
    Δ1, Δ2 = hadamard(X1, "Δ₁"), hadamard(X1[:2], "Δ₂")
    layers = [(Δ1, X0, "X₀"), (Δ2, X1, "X₁")]
    M = diagonal([row([Δ @ right_mul(X, name), Δ @ right_mul(e.T, "eᵀ")]) for Δ, X, name in layers])
    return System(M, matrix([[O, O], [Δ2 @ left_mul(W2, "W₂"), O]]), matrix([[O, I]]))


def layer(W, b, x):
    h = W @ x + b
    return jnp.tanh(h)


def net(params, x):
    for W, b in params:
        x = layer(W, b, x)
    return jnp.sum(x**2)


def captured(layers):
    """A net of this many layers (three nodes each, and three more), as captured from JAX."""
    params = [(jnp.full((3, 3), 0.1), jnp.ones(3)) for _ in range(layers)]
    return linearize(net, params, jnp.ones(3), argnums=(0, 1))


def residual(x, W):
    for _ in range(3):
        x = x + jnp.tanh(W @ x)
    return x


def skips():
    """A residual net: edges that pass layers."""
    return linearize(residual, jnp.ones(3), jnp.ones((3, 3)), argnums=(0, 1))


def random_graph(n=24, seed=0, edges=3):
    """A random DAG with positive integer weights, some edges long."""
    rng = np.random.default_rng(seed)
    chosen = ((i, j) for j in range(1, n) for i in range(j) if rng.random() < edges / n)
    return Graph({(f"n{i}", f"n{j}"): int(rng.integers(1, 5)) for i, j in chosen})


def attention():
    """Softmax attention of a short sequence."""

    def f(q, k, v):
        return jax.nn.softmax(q @ k.T) @ v

    q, k, v = (jnp.ones((4, 3)) * c for c in (0.1, 0.2, 0.3))
    return linearize(f, q, k, v, argnums=(0, 1, 2))


THINGS = {
    "figure 1": figure_1,
    "scalar net": scalar_net,
    "matrix net": matrix_net,
    "captured": lambda: captured(2),
    "skips": skips,
    "random": random_graph,
    "attention": attention,
    "strictly lower": lambda: matrix([[0, 0, 0], [2, 0, 0], [1, 3, 0]]),
    "unit lower": lambda: bidiagonal([I] * 4, [-hadamard(np.ones(2), "Δ")] * 3),
    "diagonal minus": lambda: matrix([[2.0, 0], [-1.0, 4.0]]),
    "rectangular": lambda: row([left_mul(np.ones((2, 3)), "W"), I]),
    "cyclic": lambda: matrix([[0, 1], [1, 0]]),
}
