"""What iterations print, to a file and to a person."""

import copy
import io
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from backsolve import ConvergenceError, Solution, newton
from backsolve.transforms.history import LONG, History


class Terminal(io.StringIO):
    def isatty(self):
        return True


def filled(rows, stream=None):
    history = History("newton", ("max |F|", "steps"), stream)
    for n in range(rows):
        history.add(10.0**-n, n)
    return history


def test_a_table():
    assert str(filled(2)) == "step    max |F|  steps\n   0  1.000e+00      0\n   1  1.000e-01      1"
    assert repr(filled(2)) == str(filled(2))
    assert str(filled(0)) == "step  max |F|  steps"


def test_columns():
    history = filled(3)
    assert len(history) == 3
    np.testing.assert_allclose(history["max |F|"], [1.0, 0.1, 0.01])
    with pytest.raises(ValueError, match="not in tuple"):
        history["residual"]


def test_a_long_one_is_abbreviated():
    lines = str(filled(LONG - 1)).splitlines()
    assert len(lines) == LONG
    assert not any("⋮" in line for line in lines)
    lines = str(filled(1000)).splitlines()
    assert len(lines) == LONG + 1
    assert lines[LONG // 2].split() == ["⋮"] * 3
    assert lines[-1].split()[0] == "999"
    assert len({len(line) for line in lines}) == 1


def test_rows_are_shown_as_they_come_to_a_terminal_alone():
    quiet, watched = io.StringIO(), Terminal()
    filled(3, quiet)
    filled(2, watched)
    assert quiet.getvalue() == ""
    assert watched.getvalue() == "newton   0  max |F| 1.000e+00  steps 0\nnewton   1  max |F| 1.000e-01  steps 1\n"


def test_newton_shows_its_steps_to_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    found = newton(lambda x: x**2 - 2, jnp.array(1.0), tol=1e-5)
    assert len(screen.getvalue().splitlines()) == found.steps + 1
    assert re.match(r"newton   0  max \|F\| 1\.000e\+00  step length", screen.getvalue())


def test_a_solution_is_told_in_a_line_and_printed_with_its_history():
    solution = Solution(1.0, 0.0, filled(3))
    assert solution.steps == 2
    assert solution.converged is True
    assert repr(solution) == "newton: converged in 2 steps, max |F| 1.000e-02, steps 2"
    assert str(solution) == f"{solution!r}\n{filled(3)}"
    ended = Solution(1.0, 0.0, filled(2), converged=False)
    assert repr(ended) == "newton: not converged, ended after 1 step, max |F| 1.000e-01, steps 1"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_solution_is_copied_and_pickled(way, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    found = newton(lambda p: {"b": p["a"] ** 2 - 2.0}, {"a": jnp.array([1.0, 2.0])}, tol=1e-5)
    again = way(found)
    np.testing.assert_array_equal(again.x["a"], found.x["a"])
    np.testing.assert_array_equal(again.value["b"], found.value["b"])
    assert str(again) == str(found)
    assert (again.steps, again.converged) == (found.steps, True)
    assert again.history == found.history
    assert hash(again.history) == hash(found.history)
    error = ConvergenceError("stuck.", found.history)
    assert str(way(error)) == str(error)
    change = jax.tree_util.tree_map(jnp.subtract, again, found)  # of the same tree
    np.testing.assert_array_equal(change.x["a"], 0)


def test_histories_with_other_rows_are_others():
    assert filled(2) == filled(2)
    assert filled(2) != filled(3)
    assert filled(2) != "newton"


def test_an_error_carries_the_history():
    error = ConvergenceError("stuck.", filled(2))
    assert str(error) == f"stuck.\n{filled(2)}"
    assert isinstance(error, ArithmeticError)
    assert len(error.history) == 2
