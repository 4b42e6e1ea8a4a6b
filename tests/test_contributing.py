"""CONTRIBUTING.md: its how-tos run, each as one program, and what it names exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in TEXT.split("\n## ")[1:])
HOW_TOS = [name for name, section in SECTIONS.items() if "```python" in section]


def test_there_are_three_how_tos():
    assert HOW_TOS == ["Add a primitive", "Add an operator", "Add an engine"]


@pytest.mark.parametrize("name", HOW_TOS)
def test_how_to_runs_and_prints_what_it_says(name):
    """In an interpreter of its own, since it enters things in the package's tables."""
    program, printed = (
        "".join(re.findall(rf"```{kind}\n(.*?)```", SECTIONS[name], re.DOTALL)) for kind in ("python", "text")
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed


def test_what_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for target in re.findall(r"\bmake (\w+)", TEXT))
    assert all((ROOT / target).exists() for target in re.findall(r"\]\(([^)#:]+)\)", TEXT))
    for path in re.findall(r"`([\w/]+/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists() or (ROOT / "src" / "backsolve" / path).exists(), path


def test_no_lines_too_long():
    assert max(map(len, TEXT.splitlines())) <= 125
