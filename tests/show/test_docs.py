"""The documentation holds all that it must; `make docs` builds it, executes every cell, and takes warnings for errors."""

import re
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

import backsolve

DOCS = Path(__file__).parents[2] / "docs"
TEXT = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}


def test_every_page_can_be_reached():
    trees = re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", TEXT["index"], re.DOTALL)
    listed = [name for tree in trees for name in tree.split()]
    assert set(listed) | {"index"} == set(TEXT)
    assert {"paper", "plan", "sparse", "rules", "show", "gallery", "limitations", "api"} <= set(listed)


@pytest.mark.parametrize("name", TEXT)
def test_mathematics_is_written_in_unicode(name):
    """Nothing on the site reads TeX: it would stand there as it is typed."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", TEXT[name], flags=re.DOTALL)
    assert not re.search(r"\$[^$]+\$|\\(frac|partial|lambda|text)", prose)


@pytest.mark.parametrize("name", [n for n in dir(backsolve) if isinstance(getattr(backsolve, n), type)])
def test_no_property_begins_with_what_the_reference_would_take_for_a_type(name):
    """Sphinx reads a property's first line up to a colon as its type, and prints it below the rest."""
    for called, attribute in vars(getattr(backsolve, name)).items():
        if isinstance(attribute, property | cached_property) and not called.startswith("_"):
            assert ": " not in (attribute.__doc__ or "").partition("\n")[0]


def test_the_first_page_holds_a_live_picture():
    assert 'src="pages/figure.html"' in TEXT["index"]


def test_the_paper_takes_ten_cells():
    cells = re.findall(r"\*\*(\d+)\..*?```\{code-cell\}", TEXT["paper"], re.DOTALL)
    assert cells == [str(k) for k in range(1, 11)]
    assert TEXT["paper"].count("{code-cell}") == 10


@pytest.mark.parametrize("name", [n for n in dir(backsolve) if not n.startswith("_")])
def test_the_reference_names_everything_public(name):
    if not isinstance(getattr(backsolve, name), ModuleType):
        assert re.search(rf"backsolve\.{name}\b", TEXT["api"])
