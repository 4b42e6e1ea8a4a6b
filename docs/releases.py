"""The versions of the site, each in a folder of its own: `versions.js` lists them for the choice in the sidebar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

__all__ = ["finish", "listed", "write"]

FIRST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>backsolve</title>
<meta http-equiv="refresh" content="0; url={0}/index.html">
<p>The documentation of <a href="{0}/index.html">backsolve {0}</a>.</p>
</html>
"""


def listed(site: Path) -> dict[str, list[str]]:
    """The pages of every version that was built into the site, newest version first, those before a release last."""
    found = {}
    for index in site.glob("*/searchindex.js"):
        try:
            found[Version(index.parent.name)] = index.parent
        except InvalidVersion:
            continue  # not a version's folder
    order = sorted(found, key=lambda version: (not version.is_prerelease, version), reverse=True)
    return {found[version].name: _pages(found[version]) for version in order}


def _pages(folder: Path) -> list[str]:
    return sorted(page.relative_to(folder).with_suffix("").as_posix() for page in folder.rglob("*.html"))


def write(site: Path) -> None:
    """Write what belongs to no version: the list of them, and a first page that leads to the newest."""
    versions = listed(site)
    (site / "versions.js").write_text(f"window.backsolveVersions = {json.dumps(versions)};\n", encoding="utf-8")
    (site / "index.html").write_text(FIRST.format(next(iter(versions))), encoding="utf-8")


def finish(app: Any, error: Exception | None) -> None:
    """The same when a version is built; as a handler of Sphinx's build-finished."""
    folder = Path(app.outdir)
    if error is None and folder.name == app.config.release:
        write(folder.parent)
