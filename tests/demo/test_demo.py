"""The demo: its net against two independent gradients, its checks against wrong gradients, and one short run."""

import re

import numpy as np
import pytest

from backsolve import linearize
from backsolve.demo import byhand, checks, net, pictures, plain
from backsolve.demo.run import run
from backsolve.demo.train import initial_parameters, load, train


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    parameters = initial_parameters((5, 7, 4, 3), seed=1)
    for b in parameters[1::2]:
        b += rng.standard_normal(b.shape)
    return parameters, rng.standard_normal((5, 6)), np.eye(3)[:, rng.integers(3, size=6)]


def test_formula_equals_hand_written_backpropagation(problem):
    loss, gradient = net.loss_and_gradient(*problem)
    loss_by_hand, by_hand = byhand.loss_and_gradient(*problem)
    assert loss == pytest.approx(loss_by_hand, rel=1e-14)
    assert [g.shape for g in gradient] == [p.shape for p in problem[0]]
    assert checks.relative_error(gradient, by_hand) < 1e-13


def test_formula_equals_jax(problem):
    gradient = net.loss_and_gradient(*problem)[1]
    assert checks.relative_error(gradient, byhand.jax_gradient(*problem)) < 1e-13


def test_loss_is_stable_for_large_outputs():
    X = np.array([[1e4, -1e4], [0.0, 0.0]])
    loss, gradient = net.softmax_cross_entropy(X, np.array([[1.0, 1.0], [0.0, 0.0]]))
    assert loss == pytest.approx(5e3)
    np.testing.assert_allclose(gradient, [[0, -0.5], [0, 0.5]], atol=1e-15)


def test_matrices_read_like_the_paper(problem):
    parameters, X, Y = problem
    M, ImL, g = net.matrices(parameters[::2], net.forward(parameters, X, Y))
    assert (M.shape, ImL.shape, len(g)) == ((3, 6), (3, 3), 3)
    assert ImL[1, 0].label == "−(Δ₂)ᴴ ∘ (W₂)ᴸ"
    assert M[2, 4].label == "(Δ₃)ᴴ ∘ (X₂)ᴿ"


def test_a_nan_in_any_block_is_an_error():
    blocks = [np.ones(2), np.array([1.0, np.nan]), np.ones(2)]
    assert np.isnan(checks.relative_error(blocks, [np.ones(2)] * 3))


def test_subscript():
    assert net.subscript(120) == "₁₂₀"


def test_finite_differences_accept_the_gradient_and_refuse_a_wrong_one(problem):
    parameters, X, Y = problem
    gradient = net.loss_and_gradient(*problem)[1]

    def loss(values):
        return net.forward(values, X, Y).loss

    assert checks.finite_difference_error(parameters, gradient, loss) < 1e-9
    gradient[2] = gradient[2] * (1 + 1e-4)
    assert checks.finite_difference_error(parameters, gradient, loss) > 1e-6


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "passed"),
    [(0.96, 0.95, True, True), (0.94, 0.95, True, False), (1e-9, 1e-7, False, True), (np.nan, 1e-7, False, False)],
)
def test_check_says_pass_or_fail(value, bound, at_least, passed):
    check = checks.Check("what", value, bound, at_least)
    assert check.passed is passed
    assert str(check).endswith("pass" if passed else "FAIL")


def test_training_lowers_the_loss_and_leaves_its_input_alone():
    train_set, test_set = load()
    assert (train_set.X.shape, test_set.X.shape) == ((64, 1347), (64, 450))
    start = initial_parameters((64, 16, 10))
    before = [p.copy() for p in start]
    _, losses = train(start, train_set, steps=30, batch=64)
    assert losses[-1] < 0.8 * losses[0]
    assert all(np.array_equal(a, b) for a, b in zip(start, before))


def test_short_run_fails_its_accuracy_and_still_writes_a_whole_page(tmp_path, capsys):
    assert run(tmp_path, steps=5) == 1
    printed = capsys.readouterr().out
    assert len(re.findall(r"test accuracy.* ≥ 95% +FAIL", printed)) == 2
    assert printed.count(" pass\n") == 5
    assert re.search(r"One step of training, jitted: .* \(ratio \d+\.\d\d\)", printed)
    text = (tmp_path / "digits.html").read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 12
    assert "http" not in text  # self-contained
    assert "M.T @ np.linalg.solve(ImL.T, g)" in text
    assert "log_softmax" in text


def test_plain_function_has_the_same_loss_and_gradient(problem):
    parameters, X, Y = problem
    ours, theirs = plain.gradients(*problem)
    assert checks.relative_error(ours, theirs) < 1e-13
    assert checks.relative_error(ours, net.loss_and_gradient(*problem)[1]) < 1e-13
    assert float(plain.loss(parameters, X, Y)) == pytest.approx(net.loss_and_gradient(*problem)[0], rel=1e-6)


def test_plain_training_follows_the_formula_and_leaves_its_input_alone():
    train_set, _ = load()
    start = initial_parameters((64, 16, 10))
    before = [p.copy() for p in start]
    _, losses = train(start, train_set, steps=30, batch=64)
    _, jitted_losses = plain.train(start, train_set, steps=30, batch=64)
    np.testing.assert_allclose(jitted_losses, losses, rtol=1e-4)
    assert all(np.array_equal(a, b) for a, b in zip(start, before))


def test_pattern_has_a_row_for_every_node():
    system = linearize(
        plain.loss, [np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)], np.ones((3, 4)), np.ones((2, 4))
    )
    figure = pictures.pattern(system)(pictures.LIGHT)
    assert len(figure.axes[0].texts) == system.L.shape[0]
