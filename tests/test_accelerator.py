"""The script for accelerators, run small on what is here: right values, who calls the host, and a wrong value told."""

from dataclasses import replace

import jax
import pytest

from benchmarks import accelerator

from .quick import compilation


@pytest.fixture(autouse=True)
def quickly():
    with compilation(quick=True):
        yield


def test_every_program_is_right_and_tells_whether_it_calls_the_host(tmp_path, capsys):
    path = tmp_path / "table.md"
    assert accelerator.main(["--small", "--rounds", "1", "-o", str(path)]) == 0
    lines = path.read_text().splitlines()
    assert capsys.readouterr().out == path.read_text()
    assert lines[0].startswith(f"`{jax.devices()[0].platform}`")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert {row[0] for row in cells} == {"gradient", "Jacobian", "Hessian", "sparse", "loop", "solve"}
    assert all(len(row) == 7 and float(row[2]) > 0 for row in cells)
    where = {row[1]: row[6] for row in cells}
    on_host = {name for name, place in where.items() if place == "calls the host"}
    assert on_host == {"Jacobian as SciPy's", "engine='superlu'", "concrete numbers"}
    assert set(where.values()) == {"calls the host", "on the device"}


def test_a_wrong_value_and_an_error_are_told(monkeypatch, capsys):
    right = next(p for p in accelerator.PROGRAMS(small=True) if p.name == "logistic loss")
    wrong = replace(right, name="twice", ours=lambda *given: 2 * right.theirs(*given))

    def fails(*_given):
        raise NotImplementedError("not on this | device\nat all")

    monkeypatch.setattr(accelerator, "PROGRAMS", lambda **_: [right, wrong, replace(right, name="none", ours=fails)])
    assert accelerator.main(["--small", "--rounds", "1"]) == 1
    first, second, third = capsys.readouterr().out.splitlines()[-3:]
    assert "wrong" not in first
    assert "1.0e+00 **wrong**" in second
    assert "raises NotImplementedError: not on this / device" in third
