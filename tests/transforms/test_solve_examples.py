"""The examples that solve, small: they agree with a dense solution, and draw a picture."""

import numpy as np
import pytest

from examples import boundary_value, equilibrium, influence, quadrotor


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    yield path
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_quadrotor(picture, capsys):
    found = quadrotor.run(small=True, output=picture)
    x = found["x"]
    assert np.abs(x.state[-1, :6] - quadrotor.GOAL).max() < 1e-6
    assert quadrotor.LEAST < x.thrust.min() < x.thrust.max() < quadrotor.MOST
    assert "a Newton step at 12 knots" in capsys.readouterr().out


def test_boundary_value(picture, capsys):
    found = boundary_value.run(small=True, output=picture)
    mine, theirs = found["small"]
    np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert "400 points, 3 thicknesses" in capsys.readouterr().out


def test_equilibrium(picture, capsys):
    found = equilibrium.run(small=True, output=picture)
    assert found["difference"] < 1e-6
    assert np.mean(found["curve"][-5:]) < found["curve"][0]
    assert "bytes" in capsys.readouterr().out


def test_influence(picture, capsys):
    found = influence.run(small=True, output=picture)
    np.testing.assert_allclose(found["scores"], found["dense"], atol=1e-9 * np.abs(found["dense"]).max())
    assert np.corrcoef(found["told"], found["after"])[0, 1] > 0.9  # of 60 pictures one is no small change
    assert "correlation with the influence" in capsys.readouterr().out
