"""The command line: what it prints, what it returns, and what it says when something is missing."""

import subprocess
import sys

import pytest

from backsolve import __version__
from backsolve.cli import main as cli


def test_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"backsolve {__version__}\n"


def test_no_command_is_misuse(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main([])
    assert "COMMAND" in capsys.readouterr().err


def test_python_m_backsolve_is_the_command():
    done = subprocess.run([sys.executable, "-m", "backsolve", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("backsolve ")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {name}" in text for name in ("demo", "explain", "show"))


def test_without_the_demo_extra_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "sklearn" else object())
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == "backsolve demo needs scikit-learn: pip install 'backsolve[demo]'\n"


def test_demo_gets_the_folder_and_its_status_is_returned(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("backsolve.demo.run", lambda output: given.append(output) or 1)
    assert cli.main(["demo", "-o", str(tmp_path)]) == 1
    assert given == [tmp_path]
