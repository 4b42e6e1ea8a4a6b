"""The README: its programs print what it says they print, and its numbers are those of the last benchmark run."""

import importlib
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from backsolve.cli import main as cli
from benchmarks import headlines, report
from tests.series import NEWEST, OLDEST

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_every_program_has_its_output_beside_it():
    assert len(PROGRAMS) == README.count("```python") >= 3


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
@pytest.mark.usefixtures("as_users_compile")
def test_program_prints_what_the_readme_says(program, printed):
    assert len([line for line in program.splitlines() if line]) <= 15
    output = io.StringIO()
    with redirect_stdout(output):
        exec(program, {})
    assert output.getvalue().rstrip() == printed.rstrip()


def test_results_are_those_of_the_last_run():
    sections = report.load(ROOT / "benchmarks" / "results.json")
    assert headlines.written(README, sections) == README
    assert README.count("| `") >= 5


def test_it_is_short():
    assert len(README.split()) < 900


def test_files_and_commands_that_are_named_exist(capsys):
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make (\w+)`", README):
        assert f"\n{target}:" in makefile
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--help"])
    assert "explain" in capsys.readouterr().out


def test_the_versions_of_jax_are_those_that_are_tested():
    stated = re.search(r"JAX ([\d.]+) to ([\d.]+) on", README).groups()
    assert stated == tuple(".".join(map(str, series)) for series in (OLDEST, NEWEST))
    assert f'"jax>={stated[0]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_lines_too_long():
    assert max(map(len, README.splitlines())) <= 125


def test_the_picture_is_the_one_that_show_draws_of_the_first_program(tmp_path):
    def words(folder):
        return re.findall(r"<!-- (.*?) -->", (folder / "system.svg").read_text(encoding="utf-8"))

    stills = importlib.import_module("docs.stills")
    stills.write_all(tmp_path)
    assert len(words(tmp_path)) > 10
    assert words(tmp_path) == words(stills.FOLDER), "python docs/stills.py draws it anew"
    assert (stills.FOLDER / "system.svg").stat().st_size < 100_000
