"""A browser for the tests that need a real one; without one they are skipped, and say so."""

import pytest

from backsolve.show import page

from .browser import Browser, chromium


@pytest.fixture(scope="session")
def chrome():
    if chromium() is None:
        pytest.skip("no Chromium here; Debian's package chromium brings one (.ci/run installs it)")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chrome):
    """The browser, with nothing noted yet; afterwards its console must be silent."""
    chrome.messages.clear()
    chrome.requests.clear()
    chrome.resize(1280, 800)
    chrome.scheme("light")
    yield chrome
    assert chrome.messages == []


@pytest.fixture
def opened(browser, tmp_path):
    """Writes the page of a thing and opens it."""

    def open_it(thing, **options):
        file = tmp_path / "page.html"
        file.write_text(page(thing, **options), encoding="utf-8")
        browser.open(file)
        return browser

    return open_it
