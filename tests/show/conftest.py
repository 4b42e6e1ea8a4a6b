"""A browser for the tests that need a real one; without one they are skipped, and say so."""

import pytest

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
