"""The site: every page is reached, frames follow the pages inside them, and those follow the site's theme."""

import re
import time
from pathlib import Path

import pytest

from docs import embed
from tests.show.browser import Browser, chromium

DOCS = Path(embed.__file__).parent


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


def test_a_page_gets_its_script_once_and_what_is_no_page_none():
    once = embed.embedded("<body>text</body>")
    assert once.count(embed.TELL) == 1
    assert embed.embedded(once) == once
    assert embed.embedded("<p>text</p>") == "<p>text</p>"
    context = {"body": '<iframe srcdoc="&lt;body&gt;&lt;/body&gt;"></iframe>'}
    embed.frames(None, "", "", context, None)
    assert "how tall" not in context["body"]
    assert "postMessage" in context["body"]


@pytest.mark.skipif(chromium() is None, reason="needs a Chromium")
def test_a_frame_is_as_tall_as_its_page_and_of_its_theme(tmp_path):
    inner = embed.embedded(
        "<style>body { margin: 0 } div { height: 1234px }</style><body><div></div><script>"
        "window.addEventListener('message', () => parent.postMessage("
        "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light', '*'))</script></body>"
    )
    (tmp_path / "inner.html").write_text(inner, encoding="utf-8")
    static = DOCS / "_static"
    frame = '<iframe src="inner.html" style="width: 100%; height: 300px; border: 0"></iframe>'
    (tmp_path / "outer.html").write_text(
        f"<!doctype html><style>{(static / 'site.css').read_text()}</style><script>window.said = '';"
        "window.addEventListener('message', (e) => { if (typeof e.data === 'string') window.said = e.data; });"
        f"{(static / 'frames.js').read_text()}</script><body data-theme='light'>{frame}</body>",
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
            assert browser.ask("document.querySelector('iframe').style.height") == "1234px"
    finally:
        browser.close()
