"""The site: every page is reached, frames follow their pages, those follow the theme, versions stand side by side."""

import re
import time
from pathlib import Path

import pytest

from backsolve.show.page import document, read
from docs import releases
from tests.show.browser import Browser, chromium

DOCS = Path(releases.__file__).parent


def test_every_page_stands_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    entries = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.split()]
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= set(entries)
    assert re.findall(r":caption: (.*)", index) == ["Learn", "Use", "Understand", "Reference"]


@pytest.mark.parametrize("page", [path.name for path in sorted(DOCS.glob("*.md"))])
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([\w/]+\.md)[#)]", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target


@pytest.mark.skipif(chromium() is None, reason="needs a Chromium")
def test_a_frame_is_as_tall_as_its_page_and_of_its_theme(tmp_path):
    told = """addEventListener('message', () => parent.postMessage(
      matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light', '*'));"""
    inner = document("A page", '<div style="height: 1234px"></div>', told)
    (tmp_path / "inner.html").write_text(inner, encoding="utf-8")
    frame = '<iframe src="inner.html" style="width: 100%; height: 300px; border: 0"></iframe>'
    (tmp_path / "outer.html").write_text(
        f"<!doctype html><style>{(DOCS / '_static' / 'site.css').read_text()}</style><script>window.said = '';"
        "window.addEventListener('message', (e) => { if (typeof e.data === 'string') window.said = e.data; });"
        f"{read('frames.js')}</script><body data-theme='light'>{frame}</body>",
        encoding="utf-8",
    )
    browser = Browser()
    try:
        browser.call("Emulation.setEmulatedMedia", features=[])
        browser.open(tmp_path / "outer.html")
        for theme in ("light", "dark"):
            browser.ask(f"document.body.dataset.theme = '{theme}'")
            time.sleep(0.3)
            browser.ask("document.querySelector('iframe').contentWindow.postMessage('?', '*')")
            time.sleep(0.3)
            assert browser.ask("window.said") == theme
            assert 1234 < browser.ask("document.querySelector('iframe').clientHeight") < 1300
    finally:
        browser.close()


def add(site, version, *pages):
    """A site gets this version, as Sphinx would have built it, with the choice of versions on every page."""
    template = (DOCS / "_templates" / "sidebar" / "variant-selector.html").read_text(encoding="utf-8")
    built = site.parent / f"built {version}"
    (built / "_static").mkdir(parents=True)
    (built / "searchindex.js").touch()
    (built / "_static" / "versions.js").write_text((DOCS / "_static" / "versions.js").read_text(encoding="utf-8"))
    for page in ("index", *pages):
        text = re.sub(r"\{#.*?#\}", "", template)
        values = {"release": version, "pagename": page, "content_root": "../" * page.count("/") or "./"}
        for name, value in values.items():
            text = text.replace(f"{{{{ {name} }}}}", value)
        assert "{" not in text
        (built / page).parent.mkdir(exist_ok=True)
        (built / f"{page}.html").write_text(f"<!doctype html><title>{page} of {version}</title>{text}", encoding="utf-8")
    return releases.add(built, site, version)


def test_versions_of_the_site_are_listed_newest_first(tmp_path):
    site = tmp_path / "site"
    for version in ("0.9.0", "0.10.0", "0.11.0rc1"):
        first = add(site, version, "start", "_modules/index")
    (site / "pages").mkdir()
    (site / "0.8.0").mkdir()  # nothing was built into it
    assert list(releases.listed(site)) == ["0.10.0", "0.9.0", "0.11.0rc1"]
    assert releases.listed(site)["0.9.0"] == ["_modules/index", "index", "start"]
    assert first == site / "index.html"
    assert "url=0.10.0/index.html" in first.read_text(encoding="utf-8")
    assert '{"0.10.0": ["_modules/index", "index", "start"], "0.9.0"' in (site / "versions.js").read_text(encoding="utf-8")


def test_a_version_that_is_built_again_takes_its_own_place(tmp_path):
    site = tmp_path / "site"
    add(site, "1.0.0", "old")
    (tmp_path / "built 1.0.0").rename(tmp_path / "before")
    add(site, "1.0.0", "new")
    assert releases.listed(site) == {"1.0.0": ["index", "new"]}


@pytest.mark.skipif(chromium() is None, reason="needs a Chromium")
def test_the_choice_of_a_version_leads_to_the_same_page_where_there_is_one(tmp_path):
    site = tmp_path / "site"
    add(site, "0.1.0", "start", "_modules/all")
    (site / "versions.js").unlink()
    browser = Browser()

    def choose(version):
        choice = "document.getElementById('versions')"
        browser.follow(f"{choice}.value = '{version}', {choice}.dispatchEvent(new Event('change'))")
        return browser.ask("document.title")

    try:
        browser.open(site / "0.1.0" / "start.html")  # alone, without the list
        assert browser.ask("document.getElementById('versions').value") == "0.1.0"
        add(site, "0.2.0", "start", "new")
        browser.open(site / "0.2.0" / "start.html")
        assert browser.ask("[...document.querySelectorAll('option')].map(o => o.value)") == ["0.2.0", "0.1.0"]
        assert browser.ask("document.getElementById('newest').hidden")
        assert choose("0.1.0") == "start of 0.1.0"
        assert browser.ask("document.getElementById('versions').value") == "0.1.0"
        assert browser.ask("document.getElementById('newest').textContent") == "The newest is 0.2.0."
        assert choose("0.2.0") == "start of 0.2.0"
        browser.open(site / "0.2.0" / "new.html")
        assert choose("0.1.0") == "index of 0.1.0"
        browser.open(site / "0.1.0" / "_modules" / "all.html")
        assert choose("0.2.0") == "index of 0.2.0"
    finally:
        browser.close()
