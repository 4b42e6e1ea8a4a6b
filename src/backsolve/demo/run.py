"""The demo from end to end: train, check, print, draw."""

from __future__ import annotations

import inspect
import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backsolve import linearize
from backsolve.demo import net, page, pictures, plain
from backsolve.demo.checks import Check, gradient_checks, relative_error, seconds_per_step
from backsolve.demo.train import Digits, initial_parameters, load, predict, train

SIZES = (64, 256, 128, 10)
STEPS, BATCH = 600, 128
FORMULA = "gradient = M.T @ np.linalg.solve(ImL.T, g)"


def run(output: Path, *, steps: int = STEPS) -> int:
    """As `_run`, with NumPy on one thread: on matrices this small more are no faster, and slow where cores are busy.

    The folder is made, the one that holds it is not.  Raises `OSError` where it cannot be.
    """
    output.mkdir(exist_ok=True)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]  # scikit-learn brings it

    with threadpool_limits(limits=1, user_api="blas"):
        return _run(output, steps)


def _run(output: Path, steps: int) -> int:
    """Train, print every number with its bound, and write `output`/digits.html.

    Returns 0 if every bound is kept and 1 otherwise; takes some fifteen seconds. Needs the extra `demo`.
    """
    started = time.perf_counter()
    train_set, test_set = load()
    sizes, count = " → ".join(map(str, SIZES)), train_set.labels.size + test_set.labels.size
    print(f"The paper's matrix net, {sizes}, on scikit-learn's {count:,} scanned digits.")
    print(f"Every gradient is   {FORMULA}")
    start = initial_parameters(SIZES)
    parameters, losses = train(start, train_set, steps=steps, batch=BATCH)

    predictions = predict(parameters, test_set)
    batch = train_set.take(np.arange(BATCH))
    checks = [
        Check("test accuracy", float(np.mean(predictions == test_set.labels)), 0.95, at_least=True),
        *gradient_checks(start, batch.X, batch.Y, "before training"),
        *gradient_checks(parameters, batch.X, batch.Y, "after training"),
    ]
    formula, by_hand = seconds_per_step(parameters, batch.X, batch.Y)
    speed = (
        f"Loss and gradient of {BATCH} digits: {formula * 1e3:.2f} ms by the formula, {by_hand * 1e3:.2f} ms by "
        f"hand-written backpropagation (ratio {formula / by_hand:.2f})."
    )
    print(*checks, speed, sep="\n")

    print("\nThe same net as a plain JAX function, in float32, under jax.jit; the formula is now backsolve.grad(loss).")
    jitted, jitted_losses = plain.train(start, train_set, steps=steps, batch=BATCH)
    accuracy = float(np.mean(plain.predict(jitted, test_set) == test_set.labels))
    ours, theirs = plain.gradients(parameters, batch.X, batch.Y)
    jitted_checks = [
        Check("test accuracy, plain JAX function", accuracy, 0.95, at_least=True),
        Check("backsolve.grad, jitted, against jax.grad in float64", relative_error(ours, theirs), 1e-12),
    ]
    by_backsolve, by_jax = plain.seconds_per_step(start, batch)
    jitted_speed = (
        f"One step of training, jitted: {by_backsolve * 1e3:.2f} ms with backsolve.grad, {by_jax * 1e3:.2f} ms with "
        f"jax.grad (ratio {by_backsolve / by_jax:.2f})."
    )
    print(*jitted_checks, jitted_speed, sep="\n")
    system = linearize(plain.loss, [p.astype(np.float32) for p in parameters], *plain.arrays(batch))

    M, ImL, _ = net.matrices(parameters[::2], net.forward(parameters, batch.X, batch.Y))
    wrong, shown = int(np.sum(predictions != test_set.labels)), _examples(test_set, predictions)
    examples = pictures.digits(test_set.X[:, shown], test_set.labels[shown], predictions[shown])
    parts = [
        f"<p>A net of three layers, {sizes}, learns {train_set.labels.size:,} scanned digits in {steps} steps and is "
        f"tested on {test_set.labels.size} others. {INTRODUCTION}</p><pre><code>{escape(FORMULA)}</code></pre>",
        "<h2>The matrices</h2>",
        page.figure(pictures.identity_minus_l(ImL), "I − L̃: how each layer depends on the layer before it.", 420),
        page.figure(pictures.inputs(M), "M: how each layer depends on its own weights and biases.", 620),
        f'<p class="faint">{NOTATION}</p>',
        "<h2>Training</h2>",
        page.figure(pictures.loss_curve(losses), f"Adam, {steps} steps of {BATCH} digits.", 620),
        "<h2>Test digits and predictions</h2>",
        page.figure(examples, f"Wrong predictions, {wrong} of {len(predictions)}, come first, in red.", 620),
        "<h2>The numbers</h2>",
        page.checks_table(checks),
        f"<p>{escape(speed)}</p>",
        "<h2>The same net as a plain JAX function</h2>",
        f"<p>{PLAIN}</p><pre><code>{escape(inspect.getsource(plain.forward))}\n\n"
        f"{escape(inspect.getsource(plain.loss))}</code></pre>",
        page.figure(pictures.pattern(system), PATTERN, 620),
        page.figure(pictures.loss_curve(jitted_losses), f"The same {steps} minibatches, in float32 under jax.jit.", 620),
        page.checks_table(jitted_checks),
        f"<p>{escape(jitted_speed)}</p>",
    ]
    page.write(output / "digits.html", "Backpropagation through back substitution", parts)
    print(f"Wrote {output / 'digits.html'} after {time.perf_counter() - started:.0f} s.")
    return 0 if all(check.passed for check in [*checks, *jitted_checks]) else 1


INTRODUCTION = (
    "The net is a matrix whose elements are linear operators. Every gradient came from one line, run by the solver "
    "that also solves for numbers and fractions:"
)
NOTATION = (
    "(Δ)ᴴ multiplies entry by entry by Δ, (W)ᴸ multiplies by W from the left, (X)ᴿ by X from the right; "
    "∘ composes. An empty cell is a zero block. Δᵢ = hᵢ′(Wᵢ Xᵢ₋₁ + bᵢ eᵀ), and e is a column of ones."
)

PLAIN = (
    "Nobody built a matrix here: <code>backsolve.grad(loss)</code> reads it off the function, "
    "with a node for every operation that the parameters reach, and the solver is the same."
)
PATTERN = (
    "I − L of that function: each node, and how it depends on the nodes before it. Grey: identities; blue: from the left "
    "or right, entry by entry, sums and broadcasts."
)


def _examples(test_set: Digits, predictions: NDArray[Any], count: int = 40, wrong: int = 16) -> NDArray[Any]:
    is_wrong = predictions != test_set.labels
    misses = np.flatnonzero(is_wrong)[:wrong]
    return np.concatenate([misses, np.flatnonzero(~is_wrong)[: count - len(misses)]])
