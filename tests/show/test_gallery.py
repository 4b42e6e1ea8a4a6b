"""The gallery of the documentation: every page in it is made, drawn without fault, and listed."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FAULTS = Path(__file__).with_name("faults.js").read_text(encoding="utf-8")


def pages():
    spec = importlib.util.spec_from_file_location("gallery_pages", DOCS / "gallery_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_lists_its_pages():
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    listed = re.findall(r'href="pages/([a-z-]+)\.html"', text)
    assert listed == list(pages().GALLERY)
    assert listed[0] == "figure"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    pages().write_all(folder)
    return folder


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
@pytest.mark.parametrize("name", ["figure", "two-numbers", "scalar-net", "matrix-net", "attention", "ode-step", "arrow"])
def test_a_page_of_the_gallery(browser, written, name, size):
    browser.resize(*size)
    browser.open(written / f"{name}.html")
    assert browser.ask(FAULTS) == []
    browser.ask("backsolve.unfold(true)")
    assert browser.ask(FAULTS) == []
    for run in range(browser.ask("backsolve.data.runs.length")):
        browser.ask(f"backsolve.choose({run})")
        for step in range(browser.ask(f"backsolve.data.runs[{run}].order.length") + 1):
            browser.ask(f"backsolve.go({step})")
