"""Which training pictures hurt a prediction: influence functions, with one factored Hessian for all of them.

Influence of training picture i on the loss at a test picture is  g_testᵀ H⁻¹ gᵢ / n  (Koh and Liang, 2017): what leaving i
out would add to it.  H⁻¹ is never formed: the system of the gradient is factored once, each test picture is one more solve.

For training nets by SGD an exact Newton step is no win, and a negative result is published (the reproduction report of
a-rahimi/hessian, arXiv 2601.06096).  As a solver, as here, and as a preconditioner it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import pearsonr

import backsolve
from backsolve.demo.train import Digits, load

try:
    from common import command_line, timed
    from gains import gains
except ImportError:  # imported as a module, by the tests
    from .common import command_line, timed
    from .gains import gains

DECAY = 0.01  # weight of ½ ‖W‖², which makes the Hessian positive definite


def losses(W: Any, X: Any, Y: Any) -> Any:
    """The cross-entropy of softmax(W x) at each column of X; the last row of X is ones."""
    Z = W @ X
    return jax.nn.logsumexp(Z, axis=0) - jnp.sum(Y * Z, axis=0)


def objective(W: Any, X: Any, Y: Any) -> Any:
    """The mean loss and the decay."""
    return jnp.mean(losses(W, X, Y)) + DECAY / 2 * jnp.sum(W**2)


def columns(digits: Digits, count: int) -> tuple[Any, Any]:
    """The first pictures, with a row of ones below, and their one-hot labels."""
    X = digits.X[:, :count]
    return jnp.asarray(np.vstack([X, np.ones((1, X.shape[1]))])), jnp.asarray(digits.Y[:, :count])


@jax.jit
def retrained(W: Any, X: Any, Y: Any, without: Any) -> Any:
    """The weights of least objective without one picture: Newton's method with JAX's dense Hessian, from all others' W."""

    def f(w: Any) -> Any:
        W_ = w.reshape(W.shape)
        return objective(W_, X, Y) - losses(W_, X, Y)[without] / X.shape[1]

    w = W.ravel()
    for _ in range(3):
        w = w - jnp.linalg.solve(jax.hessian(f)(w), jax.grad(f)(w))
    return w.reshape(W.shape)


def influences(W: Any, train: tuple[Any, Any], test: tuple[Any, Any]) -> Any:
    """How much each test loss (rows) would rise without each training picture (columns)."""
    X, Y = train
    system = backsolve.linearize(backsolve.grad(lambda W: objective(W, X, Y)), W)
    at_train, at_test = (jax.nn.softmax(W @ x, axis=0) - y for x, y in (train, test))  # of picture k, ∇W = at[:, k] x[:, k]ᵀ
    rows = []
    for e, x in zip(at_test.T, test[0].T, strict=True):
        u = system.solve(jnp.outer(e, x))  # one factorization serves all of them
        rows.append(jnp.sum(at_train * (u @ X), axis=0) / X.shape[1])
    return jnp.stack(rows)


def run(*, small: bool = False, output: Path = Path("influence.png")) -> dict[str, Any]:
    """Find the training pictures that hurt a prediction, check by training without them, and draw them."""
    count, tests, left_out = (60, 20, 3) if small else (300, 200, 10)
    with jax.enable_x64(True):
        digits, others = load()
        train, test = columns(digits, count), columns(others, tests)
        W = backsolve.minimize_newton(lambda W: objective(W, *train), jnp.zeros((10, train[0].shape[0])), tol=1e-9).x
        scores, seconds = timed(lambda: np.asarray(influences(W, train, test)))
        dense, dense_seconds = timed(lambda: dense_solution(W, train, test))
        gains(f"{tests} test pictures × {count} training pictures, {W.size} weights", {
            "factored system": seconds, "dense Hessian": dense_seconds,
        })  # fmt: skip
        each = jax.jit(losses)
        before = np.asarray(each(W, *test))
        k = int(np.argmax(before))  # the prediction that is worst
        order = np.argsort(scores[k])
        chosen = np.concatenate([order[:left_out], order[-left_out:]])
        after = [float(each(retrained(W, *train, i), *test)[k] - before[k]) for i in chosen]
        said = int(np.argmax(np.asarray(W @ test[0])[:, k]))
    told = scores[k, chosen]
    print(f"  leaving {len(chosen)} pictures out, one by one: correlation with the influence {pearsonr(told, after)[0]:.4f}")
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    pictures(left, digits, others, order, k, said)
    ax = right.subplots()
    ends = [min(*told, *after), max(*told, *after)]
    ax.plot(ends, ends, color="0.8")
    ax.plot(told, after, "o", color="tab:red")
    ax.set(xlabel="influence: predicted change of the loss", ylabel="change when trained without it")
    figure.savefig(output, dpi=130)
    return {"scores": scores, "dense": dense, "told": told, "after": np.array(after)}


def dense_solution(W: Any, train: tuple[Any, Any], test: tuple[Any, Any]) -> Any:
    """The same scores with the Hessian formed, by JAX alone."""

    @jax.jit
    def scores(w: Any) -> Any:
        H = jax.hessian(lambda w: objective(w.reshape(W.shape), *train))(w)
        one = jax.vmap(jax.grad(lambda W, x, y: losses(W, x[:, None], y[:, None])[0]), (None, 1, 1))
        g, h = (one(W, *part).reshape(part[0].shape[1], -1) for part in (train, test))
        return h @ jnp.linalg.solve(H, g.T) / train[0].shape[1]

    return np.asarray(scores(W.ravel()))


def pictures(figure: Any, digits: Digits, others: Digits, order: Any, k: int, said: int) -> None:
    """The test picture, the training pictures that hurt its prediction most, and those that help most."""
    axes = figure.subplots(3, 6)
    for ax in axes.flat:
        ax.axis("off")
    axes[0, 0].imshow(others.X[:, k].reshape(8, 8), cmap="gray_r")
    axes[0, 0].set_title(f"a {others.labels[k]}", fontsize=9)
    label = axes[0, 1].text(0, 0.5, f"test picture, taken for a {said}", va="center", transform=axes[0, 1].transAxes)
    label.set_in_layout(False)
    for row, some in ((axes[1], order[:6]), (axes[2], order[::-1][:6])):
        for ax, i in zip(row, some, strict=True):
            ax.imshow(digits.X[:, i].reshape(8, 8), cmap="gray_r")
            ax.set_title(f"{digits.labels[i]}", fontsize=9)
    axes[1, 0].text(-0.35, 0.5, "hurt", rotation=90, va="center", transform=axes[1, 0].transAxes)
    axes[2, 0].text(-0.35, 0.5, "help", rotation=90, va="center", transform=axes[2, 0].transAxes)


if __name__ == "__main__":
    command_line(run, "influence.png")
