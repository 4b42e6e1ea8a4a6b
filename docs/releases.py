"""The versions of the site, each in a folder of its own: `versions.js` lists them for the choice in the sidebar.

`python -m docs.releases docs/_build/this docs/_build/html` adds what Sphinx has built to the site, as this version's folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

import backsolve

__all__ = ["add", "listed"]

FIRST = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>backsolve</title>
<meta http-equiv="refresh" content="0; url={0}/index.html">
<p>The documentation of <a href="{0}/index.html">backsolve {0}</a>.</p>
</html>
"""


def listed(site: Path) -> dict[str, list[str]]:
    """The pages of every version in the site, newest version first, those before a release last."""
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


def add(built: Path, site: Path, version: str) -> Path:
    """Put what was built in the place of this version; list them all; return a first page, which leads to the newest."""
    shutil.rmtree(site / version, ignore_errors=True)
    shutil.copytree(built, site / version)
    versions = listed(site)
    (site / "versions.js").write_text(f"window.backsolveVersions = {json.dumps(versions)};\n", encoding="utf-8")
    first = site / "index.html"
    first.write_text(FIRST.format(next(iter(versions))), encoding="utf-8")
    return first


if __name__ == "__main__":
    print(add(Path(sys.argv[1]), Path(sys.argv[2]), backsolve.__version__))
