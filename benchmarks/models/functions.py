"""Plain JAX functions in float32, each a scalar of its first argument: what `gradients` differentiates.

Each maker takes `small` (sizes for tests) and returns a `Model`. Nothing here knows who takes the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import multigammaln

Array = Any


@dataclass(frozen=True)
class Model:
    """A function and arguments to call it with; its gradient is by the first, a list of arrays.

    `kind` is the name of the maker; `details` are what the other libraries must know besides the arguments.
    """

    kind: str
    name: str
    function: Callable[..., Array]
    arguments: tuple[Any, ...]
    details: tuple[Any, ...] = ()


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    """A float32 array of normal entries."""
    return jnp.asarray((scale * rng.standard_normal(shape)).astype(np.float32))


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean of −log softmax at the labels."""
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1))


def mlp(small: bool = False) -> Model:
    """A 784-512-256-10 net with tanh and softmax cross-entropy, batch 256."""
    sizes, batch = ((20, 12, 8, 4), 16) if small else ((784, 512, 256, 10), 256)
    rng = np.random.default_rng(0)
    parameters = [part for m, n in pairwise(sizes) for part in (normal(rng, m, n, scale=m**-0.5), normal(rng, n, scale=0.1))]

    def loss(parameters: Sequence[Array], x: Array, labels: Array) -> Array:
        *hidden, last = zip(parameters[::2], parameters[1::2])
        for W, b in hidden:
            x = jnp.tanh(x @ W + b)
        W, b = last
        return cross_entropy(x @ W + b, labels)

    labels = jnp.asarray(rng.integers(sizes[-1], size=batch))
    return Model("mlp", "MLP", loss, (parameters, normal(rng, batch, sizes[0]), labels))


def cnn(small: bool = False) -> Model:
    """Two 3 × 3 convolutions with relu and 2 × 2 max-pooling, then a dense layer, on 28 × 28 pictures, batch 64."""
    side, batch, channels = (8, 4, (1, 4, 6)) if small else (28, 64, (1, 16, 32))
    rng = np.random.default_rng(1)
    parameters = []
    for m, n in pairwise(channels):
        parameters += [normal(rng, 3, 3, m, n, scale=(9 * m) ** -0.5), normal(rng, n, scale=0.1)]
    flat = (side // 4) ** 2 * channels[-1]
    parameters += [normal(rng, flat, 10, scale=flat**-0.5), normal(rng, 10, scale=0.1)]

    def loss(parameters: Sequence[Array], x: Array, labels: Array) -> Array:
        for K, b in zip(parameters[:-2:2], parameters[1:-2:2]):
            x = jax.lax.conv_general_dilated(x, K, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + b)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        W, b = parameters[-2:]
        return cross_entropy(x.reshape(x.shape[0], -1) @ W + b, labels)

    labels = jnp.asarray(rng.integers(10, size=batch))
    return Model("cnn", "CNN", loss, (parameters, normal(rng, batch, side, side, 1), labels))


HEADS = 4
PER_LAYER = 10  # arrays of a transformer layer


def transformer(small: bool = False) -> Model:
    """A causal transformer: 4 layers, width 128, 4 heads, 64 tokens of 256 kinds, batch 8."""
    layers, width, tokens, kinds, batch = (2, 16, 8, 16, 2) if small else (4, 128, 64, 256, 8)
    rng = np.random.default_rng(2)
    ones, zeros = jnp.ones(width, jnp.float32), jnp.zeros(width, jnp.float32)
    s = width**-0.5
    parameters = [normal(rng, kinds, width), normal(rng, tokens, width, scale=0.1)]
    for _ in range(layers):
        parameters += [ones, zeros, normal(rng, width, 3 * width, scale=s), normal(rng, width, width, scale=s)]
        parameters += [ones, zeros, normal(rng, width, 4 * width, scale=s), normal(rng, 4 * width, scale=0.1)]
        parameters += [normal(rng, 4 * width, width, scale=s / 2), normal(rng, width, scale=0.1)]
    parameters += [ones, zeros, normal(rng, width, kinds, scale=s)]

    def normalised(x: Array, scale: Array, shift: Array) -> Array:
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.var(x, axis=-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift

    def attention(x: Array, W_in: Array, W_out: Array) -> Array:
        n, t, d = x.shape
        q, k, v = jnp.split(x @ W_in, 3, axis=-1)
        q, k, v = (a.reshape(n, t, HEADS, d // HEADS) for a in (q, k, v))
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(d // HEADS)
        scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), v)
        return mixed.reshape(n, t, d) @ W_out

    def loss(parameters: Sequence[Array], words: Array) -> Array:
        table, positions, *inner, scale, shift, W_last = parameters
        x = table[words[:, :-1]] + positions
        for i in range(0, len(inner), PER_LAYER):
            s1, b1, W_in, W_out, s2, b2, W_up, b_up, W_down, b_down = inner[i : i + PER_LAYER]
            x = x + attention(normalised(x, s1, b1), W_in, W_out)
            x = x + jax.nn.gelu(normalised(x, s2, b2) @ W_up + b_up) @ W_down + b_down
        return cross_entropy(normalised(x, scale, shift) @ W_last, words[:, 1:])

    words = jnp.asarray(rng.integers(kinds, size=(batch, tokens + 1)))
    return Model("transformer", f"transformer, {layers} layers", loss, (parameters, words))


def lstm(small: bool = False) -> Model:
    """An LSTM of width 128 by `lax.scan` over 64 steps, batch 32, mean squared error at every step."""
    steps, batch, inputs, width = (5, 3, 4, 8) if small else (64, 32, 32, 128)
    rng = np.random.default_rng(3)
    parameters = [
        normal(rng, inputs, 4 * width, scale=inputs**-0.5),
        normal(rng, width, 4 * width, scale=width**-0.5),
        normal(rng, 4 * width, scale=0.1),
        normal(rng, width, 1, scale=width**-0.5),
    ]

    def loss(parameters: Sequence[Array], xs: Array, ys: Array) -> Array:
        W, U, b, V = parameters

        def step(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = carry
            i, f, g, o = jnp.split(x @ W + h @ U + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h @ V

        start = jnp.zeros((xs.shape[1], U.shape[0]), xs.dtype)
        _, predictions = jax.lax.scan(step, (start, start), xs)
        return jnp.mean((predictions - ys) ** 2)

    return Model("lstm", "LSTM by scan", loss, (parameters, normal(rng, steps, batch, inputs), normal(rng, steps, batch, 1)))


def gmm(small: bool = False) -> Model:
    """ADBench's Gaussian mixture with a Wishart prior: the log-likelihood, d 10, K 25, 1,000 points.

    Formula of Šrajer, Kukelova, Fitzgibbon, *A benchmark of selected algorithmic differentiation tools* (2018).
    """
    d, K, n = (3, 4, 6) if small else (10, 25, 1000)
    gamma, m = 1.0, 0
    rng = np.random.default_rng(4)
    parameters = [
        normal(rng, K),
        normal(rng, K, d),
        normal(rng, K, d * (d + 1) // 2, scale=0.3),
    ]
    columns, rows = np.triu_indices(d, 1)  # below the diagonal, column by column

    def log_likelihood(parameters: Sequence[Array], x: Array) -> Array:
        alphas, means, icf = parameters
        logs, below = icf[:, :d], icf[:, d:]
        diagonal = jnp.exp(logs)
        lower = jnp.zeros((K, d, d), x.dtype).at[:, rows, columns].set(below)
        sums = jnp.sum(logs, axis=1)
        centred = x[:, None, :] - means
        turned = diagonal * centred + jnp.einsum("kij,nkj->nki", lower, centred)
        inner = jax.nn.logsumexp(alphas + sums - 0.5 * jnp.sum(turned**2, axis=2), axis=1)
        count = d + m + 1
        constant = count * d * (math.log(gamma) - 0.5 * math.log(2)) - multigammaln(0.5 * count, d)
        prior = 0.5 * gamma**2 * (jnp.sum(diagonal**2) + jnp.sum(below**2)) - m * jnp.sum(sums)
        mixture = jnp.sum(inner) - x.shape[0] * jax.nn.logsumexp(alphas)
        return -0.5 * x.shape[0] * d * math.log(2 * math.pi) + mixture + prior - K * constant

    return Model("gmm", "GMM", log_likelihood, (parameters, normal(rng, n, d)))


def _ode(small: bool) -> tuple[Any, Any, Array, Array, int]:
    batch, width, hidden, steps = (4, 3, 8, 3) if small else (64, 16, 64, 20)
    rng = np.random.default_rng(5)
    parameters = [
        normal(rng, width, hidden, scale=width**-0.5),
        normal(rng, hidden, scale=0.1),
        normal(rng, hidden, width, scale=hidden**-0.5),
        normal(rng, width, scale=0.1),
    ]

    def step(parameters: Sequence[Array], y: Array) -> Array:
        W, b, V, c = parameters
        h = 1.0 / steps

        def speed(y: Array) -> Array:
            return jnp.tanh(y @ W + b) @ V + c

        k1 = speed(y)
        k2 = speed(y + 0.5 * h * k1)
        k3 = speed(y + 0.5 * h * k2)
        k4 = speed(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step, parameters, normal(rng, batch, width), normal(rng, batch, width), steps


def ode_unrolled(small: bool = False) -> Model:
    """A neural ODE, y′ = V tanh(W y + b) + c, by 20 classical Runge–Kutta steps written out, batch 64."""
    step, parameters, y0, target, steps = _ode(small)

    def loss(parameters: Sequence[Array], y: Array, target: Array) -> Array:
        for _ in range(steps):
            y = step(parameters, y)
        return jnp.mean((y - target) ** 2)

    return Model("ode_unrolled", "neural ODE, unrolled", loss, (parameters, y0, target), (steps,))


def ode_scan(small: bool = False) -> Model:
    """The same neural ODE, its steps by `lax.scan`."""
    step, parameters, y0, target, steps = _ode(small)

    def loss(parameters: Sequence[Array], y: Array, target: Array) -> Array:
        y, _ = jax.lax.scan(lambda y, _: (step(parameters, y), None), y, None, length=steps)
        return jnp.mean((y - target) ** 2)

    return Model("ode_scan", "neural ODE by scan", loss, (parameters, y0, target), (steps,))


SCALAR_INPUTS = 6
Line = tuple[str, int, int]


def scalar_lines(lines: int) -> list[Line]:
    """A straight-line program: (operation, operand, operand), operands being inputs and earlier lines, by number."""
    rng = np.random.default_rng(6)
    program = []
    for i in range(SCALAR_INPUTS, SCALAR_INPUTS + lines):
        operation = str(rng.choice(["add", "sub", "mul", "sin", "cos", "tanh", "arctan2", "scale"]))
        program.append((operation, int(rng.integers(max(0, i - 12), i)), int(rng.integers(i))))
    return program


def run_scalar(program: Sequence[Line], inputs: Sequence[Any], xp: Any) -> Any:
    """Run a straight-line program on the functions of `xp`. The result is the sum of the lines that no other reads."""
    v = list(inputs)
    for operation, j, k in program:
        a, b = v[j], v[k]
        if operation == "add":
            v.append(a + b)
        elif operation == "sub":
            v.append(a - b)
        elif operation == "mul":
            v.append(a * b)
        elif operation == "scale":
            v.append(0.7 * a)
        elif operation == "arctan2":
            v.append(xp.arctan2(a, 2.0 + b * b))
        else:
            v.append(getattr(xp, operation)(a))
    read = {j for _, j, _ in program} | {k for operation, _, k in program if operation in ("add", "sub", "mul", "arctan2")}
    first, *others = [value for i, value in enumerate(v) if i not in read]
    return sum(others, first)


def scalar(small: bool = False, lines: int = 300) -> Model:
    """A straight-line program of 300 lines on six numbers: + − × sin cos tanh atan2 and scaling."""
    program = scalar_lines(30 if small else lines)

    def function(inputs: Sequence[Array]) -> Array:
        return run_scalar(program, inputs, jnp)

    inputs = [jnp.float32(x) for x in np.random.default_rng(7).standard_normal(SCALAR_INPUTS)]
    return Model("scalar", f"scalar program, {len(program)} lines", function, (inputs,), (program,))


def scalar_points(small: bool = False) -> Model:
    """The 300 lines at 10,000 points at once, summed."""
    program, points = scalar_lines(30 if small else 300), 10 if small else 10_000
    rng = np.random.default_rng(7)

    def function(inputs: Sequence[Array]) -> Array:
        return jnp.sum(jax.vmap(lambda inputs: run_scalar(program, inputs, jnp))(inputs))

    inputs = [normal(rng, points) for _ in range(SCALAR_INPUTS)]
    return Model("scalar_points", f"the same at {points:,} points", function, (inputs,), (program,))


MODELS = (mlp, cnn, transformer, lstm, gmm, ode_unrolled, ode_scan, scalar, scalar_points)
